//! A connection of HTTP/1.1 that asks nothing for a while is taken from the library and given back when it asks again: nobody notices.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, yield_now};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower::Service;

use super::tests::{GET, LONG, answer, beside_that, config, connect, hello, reader};
use super::*;
use crate::body::Body;
use crate::routing::Request;

thread_local! {
    /// How often a connection of this thread was parked.
    pub(super) static PARKED: Cell<usize> = const { Cell::new(0) };
}

/// Connections are parked as soon as an answer is out.
fn quick() -> Settings {
    Settings { quiet: Duration::ZERO, ..Settings::default() }
}

async fn parked(times: usize) {
    while PARKED.get() < times {
        yield_now().await;
    }
}

async fn beside<S>(settings: Settings, service: S, test: impl AsyncFnOnce(SocketAddr))
where
    S: Service<Request, Response = http::Response<Body>, Error = Infallible> + Clone + 'static,
{
    beside_that(&config(), settings, service, test).await;
}

/// What comes until the other side closes, in whatever way.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).into_owned()
}

/// Asks in every way a connection that is parked each time, `before` of which were parked already; the service is a [`reader`].
async fn ask<T: AsyncRead + AsyncWrite + Unpin>(stream: &mut T, before: usize) {
    let post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde";
    for time in 1..=3 {
        stream.write_all(GET).await.unwrap();
        assert!(read(stream, "\r\n\r\n0").await.starts_with("HTTP/1.1 200 OK\r\n"));
        parked(before + time).await;
    }
    for byte in post {
        stream.write_all(&[*byte]).await.unwrap();
        stream.flush().await.unwrap();
        yield_now().await;
    }
    read(stream, "\r\n\r\n5").await;
    parked(before + 4).await;
    // Three at once, the last one with a body that is chunked, and an empty line before it.
    let chunked = b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    stream.write_all(&[GET, post, chunked].concat()).await.unwrap();
    let all = read(stream, "\r\n\r\n3").await;
    assert_eq!(all.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{all}");
    parked(before + 5).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert!(String::from_utf8(all).unwrap().ends_with("\r\n\r\n0"));
}

/// What comes until it ends so.
async fn read(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        assert_ne!(stream.read_buf(&mut all).await.unwrap(), 0, "closed after {:?}", String::from_utf8_lossy(&all));
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn a_parked_connection_answers_what_it_is_asked_next_in_whatever_pieces_it_comes() {
    beside(quick(), reader(), async |address| ask(&mut connect(address).await, 0).await).await;
}

#[tokio::test]
async fn over_tls_it_does_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let pair = CertificateFiles { certificate: folder.path().join("a.crt"), key: folder.path().join("a.key") };
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(&pair.certificate, certificate.pem()).unwrap();
    std::fs::write(&pair.key, key.serialize_pem()).unwrap();
    let tls = TlsConfig { certificates: vec![pair], client_ca: None, client_auth: ClientAuth::None, min_version: TlsVersion::Tls12, hsts: None };
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = TlsConnector::from(Arc::new(client.with_root_certificates(roots).with_no_client_auth()));
    beside_that(&Config { tls: Some(tls), ..config() }, quick(), reader(), async |address| {
        let stream = connect(address).await;
        ask(&mut client.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap(), 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_ends_its_side_with_its_next_request_gets_the_answer() {
    beside(quick(), hello(), async |address| {
        let mut stream = connect(address).await;
        stream.write_all(GET).await.unwrap();
        answer(&mut stream, 5).await;
        parked(1).await;
        stream.write_all(GET).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(rest(&mut stream).await.ends_with("hello"));
    })
    .await;
}

#[tokio::test]
async fn nothing_is_parked_while_a_head_or_a_body_is_on_its_way() {
    beside(quick(), reader(), async |address| {
        // The next head has come in part with the first one.
        let mut stream = connect(address).await;
        stream.write_all(&[GET, b"GET / HT"].concat()).await.unwrap();
        read(&mut stream, "\r\n\r\n0").await;
        stream.write_all(b"TP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab").await.unwrap();
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(PARKED.get(), 0);
        stream.write_all(b"cd").await.unwrap();
        read(&mut stream, "\r\n\r\n4").await;
        parked(1).await;
    })
    .await;
}

/// What has happened to connections, without their coming and going.
fn listening(settings: Settings) -> (Settings, Arc<Mutex<Vec<Event>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    (Settings { on_event: Arc::new(move |event| heard.lock().unwrap().push(event)), ..settings }, events)
}

#[tokio::test]
async fn a_parked_connection_ends_at_the_idle_deadline_and_a_head_that_begins_on_it_at_the_heads() {
    let (short, long) = (Duration::from_millis(100), Duration::from_millis(400));
    for (head, idle, says) in [(short, long, ""), (short, long, "G"), (long, short, "G")] {
        let (settings, events) = listening(Settings { head, idle, ..quick() });
        let before = PARKED.get();
        beside(settings, hello(), async |address| {
            let mut stream = connect(address).await;
            stream.write_all(GET).await.unwrap();
            let from = Instant::now();
            answer(&mut stream, 5).await;
            parked(before + 1).await;
            stream.write_all(says.as_bytes()).await.unwrap();
            assert_eq!(rest(&mut stream).await, "");
            let limit = if says.is_empty() { idle } else { head };
            assert!(from.elapsed() >= limit, "ended after {:?}", from.elapsed());
            // The listener hears of the end a little later.
            while events.lock().unwrap().len() < 3 {
                yield_now().await;
            }
        })
        .await;
        assert_eq!(*events.lock().unwrap(), [Event::Opened, Event::Expired, Event::Closed]);
    }
}

#[tokio::test]
async fn a_client_that_closes_a_parked_connection_gives_up_its_place() {
    let (settings, events) = listening(Settings { connections: 1, ..quick() });
    beside(settings, hello(), async |address| {
        for time in 1..=3 {
            let mut stream = connect(address).await;
            stream.write_all(GET).await.unwrap();
            answer(&mut stream, 5).await;
            parked(time).await;
            drop(stream);
            while events.lock().unwrap().len() < 2 * time {
                yield_now().await;
            }
        }
    })
    .await;
    assert_eq!(*events.lock().unwrap(), [Event::Opened, Event::Closed].repeat(3));
}

#[tokio::test]
async fn a_request_that_reaches_a_parked_connection_of_a_stopping_listener_is_its_last_one() {
    let bound = bind(&config()).unwrap();
    let address = bound.local_addr();
    let socket = bound.sockets(1).unwrap().remove(0);
    let (stop, stopped) = oneshot::channel::<()>();
    // As all that asks somebody, it does not answer at once.
    let service = tower::service_fn(async |_: Request| {
        yield_now().await;
        Ok(http::Response::new(Body::full(bytes::Bytes::from_static(b"hello"))))
    });
    let both = async {
        let listener =
            tokio::task::spawn_local(serve(socket, quick(), move || service, async move { stopped.await.map_or(Duration::MAX, |()| Duration::MAX) }));
        let (mut asks, mut silent) = (connect(address).await, connect(address).await);
        for stream in [&mut asks, &mut silent] {
            stream.write_all(GET).await.unwrap();
            answer(stream, 5).await;
        }
        parked(2).await;
        drop(stop);
        while TcpStream::connect(address).await.is_ok() {
            yield_now().await;
        }
        asks.write_all(GET).await.unwrap();
        let all = rest(&mut asks).await;
        assert!(all.ends_with("hello") && all.contains("connection: close\r\n"), "{all}");
        assert_eq!(rest(&mut silent).await, "", "and the other one is closed");
        // It ends, long before the idle deadline.
        assert_eq!(listener.await.unwrap().unwrap(), Cut::default());
    };
    timeout(LONG, LocalSet::new().run_until(both)).await.unwrap();
}
