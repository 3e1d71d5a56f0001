//! TLS on both sides of the gateway, with certificates that change while it runs.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::tls::{Authority, get, h1, server, shown};
use crate::support::{Setup, World, until};

const NAME: &str = "photos.example.org";

/// A listener with these pairs, and `more` keys beside them.
fn listener(authority: &Authority, pairs: &[&str], more: &str) -> String {
    let pair = |name: &&str| format!("{{ certificate: {}, key: {} }}", authority.path(&format!("{name}.crt")), authority.path(&format!("{name}.key")));
    format!("tls: {{ certificates: [ {} ]{more} }}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
}

async fn world(authority: &Authority, more: &str) -> World {
    authority.sign("photos", &[NAME]);
    Setup::default().listener(&listener(authority, &["photos"], more)).watch().start().await
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name_and_the_first_one_answers_the_others() {
    let authority = Authority::new();
    authority.sign("photos", &[NAME, "127.0.0.1", "unknown.example.net"]);
    authority.sign("docs", &["docs.example.org"]);
    authority.sign("wild", &["*.example.org"]);
    let world = Setup::default().listener(&listener(&authority, &["photos", "docs", "wild"], "")).start().await;
    let client = authority.client();
    for (name, certificate) in [
        (NAME, "photos"),
        ("docs.example.org", "docs"),
        ("DOCS.example.org", "docs"),
        ("other.example.org", "wild"),
        ("unknown.example.net", "photos"),
        ("127.0.0.1", "photos"),
    ] {
        let stream = client.connect(world.address(), name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(shown(&stream), authority.certificate(certificate), "{name}");
    }
    assert!(client.connect(world.address(), "a.b.example.org").await.is_err(), "a wildcard is one label");
}

#[tokio::test]
async fn versions_1_2_and_1_3_are_spoken_and_older_ones_are_not() {
    let authority = Authority::new();
    let first = world(&authority, "").await;
    let (tls12, tls13) = (&rustls::version::TLS12, &rustls::version::TLS13);
    for version in [tls12, tls13] {
        let stream = authority.client().version(version).connect(first.address(), NAME).await.expect("it is spoken");
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        let answer = h1(stream, get("/public/welcome.txt")).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    assert!(alert(&first, 0x0302).await.is_some(), "an alert and nothing else");
    let newer = world(&authority, ", min_version: 1.3").await;
    assert!(authority.client().version(tls12).connect(newer.address(), NAME).await.is_err());
    assert!(authority.client().version(tls13).connect(newer.address(), NAME).await.is_ok());
}

/// The alert that answers a hello of this version.
async fn alert(world: &World, version: u16) -> Option<u8> {
    let [high, low] = version.to_be_bytes();
    // Version, random, no session, two suites of that age, no compression.
    let body = [&[high, low][..], &[7; 32], &[0], &[0, 4, 0xc0, 0x13, 0x00, 0x2f], &[1, 0]].concat();
    let length = u8::try_from(body.len()).unwrap();
    let hello = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat();
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    (answer.first() == Some(&21)).then(|| answer[6])
}

#[tokio::test]
async fn the_content_server_and_the_browser_learn_that_it_was_https() {
    let authority = Authority::new();
    let world = world(&authority, ", hsts: 180d").await;
    let answer = h1(authority.client().connect(world.address(), NAME).await.unwrap(), get("/public/welcome.txt")).await.unwrap();
    assert_eq!((answer.status, answer.header("strict-transport-security")), (200, "max-age=15552000"));
    let seen = world.upstream().requests();
    let last = seen.last().unwrap();
    assert_eq!(last.header("x-forwarded-proto"), Some("https"));
    // A refusal of ours says it as well.
    let answer = h1(authority.client().connect(world.address(), NAME).await.unwrap(), get("/albums/vacation/a")).await.unwrap();
    assert_eq!((answer.status, answer.header("strict-transport-security")), (401, "max-age=15552000"));
}

#[tokio::test]
async fn a_clients_certificate_may_be_optional_or_required() {
    let authority = Authority::new();
    let stranger = Authority::new();
    authority.sign("bob", &["bob.example.org"]);
    stranger.sign("mallory", &["bob.example.org"]);
    let ca = authority.path("ca.pem");
    for (mode, without) in [("optional", true), ("required", false)] {
        let world = world(&authority, &format!(", client_auth: {mode}, client_ca: {ca}")).await;
        // With TLS 1.3 a refusal comes after the client's own end of the handshake: it shows at the first answer.
        let ask = async |client: crate::support::tls::TlsClient| match client.connect(world.address(), NAME).await {
            Ok(stream) => h1(stream, get("/public/welcome.txt")).await.map(|answer| answer.status).ok(),
            Err(_) => None,
        };
        assert_eq!(ask(authority.client()).await, without.then_some(200), "{mode}: without");
        assert_eq!(ask(authority.client().identity(&authority, "bob")).await, Some(200), "{mode}: with");
        assert_eq!(ask(authority.client().identity(&stranger, "mallory")).await, None, "{mode}: with a stranger's");
        // The client may know of it before it is counted.
        until("a handshake that failed", async || {
            let metrics = world.metrics().await;
            let failed = metrics.lines().find(|line| line.starts_with("uma_gateway_connection_faults_total{reason=\"handshake\"}")).expect("a line");
            (!failed.ends_with(" 0")).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn new_connections_get_the_new_certificate_and_old_ones_go_on() {
    let authority = Authority::new();
    let world = world(&authority, "").await;
    let client = authority.client();
    let old = authority.certificate("photos");
    let mut standing = client.h2(world.address(), NAME).await;
    assert_eq!(standing.get("https://photos.example.org/public/welcome.txt").await.unwrap().status, 200);

    let key = std::fs::read_to_string(authority.file("photos.key")).unwrap();
    authority.sign("photos", &[NAME, "photos.example.net"]);
    let new = authority.certificate("photos");
    until("the new certificate is shown", async || (shown(&client.connect(world.address(), NAME).await.unwrap()) == new).then_some(())).await;
    assert_ne!(old, new);
    assert_eq!(standing.get("https://photos.example.org/public/welcome.txt").await.unwrap().status, 200, "the connection stands");

    // A key of another pair changes nothing.
    authority.put("photos.key", &key);
    until("it is refused", async || refused(&world, 1).await).await;
    assert_eq!(shown(&client.connect(world.address(), NAME).await.unwrap()), new);
    // Neither does what is no certificate; it is another trouble, and told as well.
    authority.put("photos.crt", "nothing");
    until("it is refused", async || refused(&world, 2).await).await;
    assert_eq!(shown(&client.connect(world.address(), NAME).await.unwrap()), new);
    authority.sign("photos", &[NAME]);
    let third = authority.certificate("photos");
    until("the third certificate is shown", async || (shown(&client.connect(world.address(), NAME).await.unwrap()) == third).then_some(())).await;
    assert!(world.metrics().await.contains("tls_certificate_expiry_timestamp_seconds{"));
}

async fn refused(world: &World, times: u32) -> Option<()> {
    let metrics = world.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with("uma_gateway_tls_reloads_total") && line.contains("outcome=\"refused\""))?;
    line.ends_with(&format!(" {times}")).then_some(())
}

#[tokio::test]
async fn a_session_is_resumed_with_any_worker() {
    let authority = Authority::new();
    let world = world(&authority, "").await;
    // With TLS 1.2 the ticket is part of the handshake.
    let connector = tokio_rustls::TlsConnector::from(authority.client().version(&rustls::version::TLS12).config());
    let mut resumed = 0;
    for _ in 0..10 {
        let stream = TcpStream::connect(world.address()).await.unwrap();
        let stream = connector.connect(NAME.try_into().unwrap(), stream).await.unwrap();
        resumed += usize::from(stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed));
    }
    assert_eq!(resumed, 9);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_ended_and_their_number_is_bounded() {
    let authority = Authority::new();
    authority.sign("photos", &[NAME]);
    let setup = Setup::default().listener(&listener(&authority, &["photos"], "")).settings(|settings| {
        settings.head = Duration::from_secs(3);
        settings.handshakes = 3;
    });
    let world = setup.start().await;
    let started = Instant::now();
    let mut silent = TcpStream::connect(world.address()).await.unwrap();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert!(started.elapsed() >= Duration::from_millis(2_900));

    let ends = async |begun: &'static [u8]| {
        let mut stream = TcpStream::connect(world.address()).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let _ = stream.read(&mut [0; 1]).await;
        Instant::now()
    };
    // Of those who begin there are three places on each of two workers; who says nothing takes none.
    for (begun, expected) in [(&b"\x16"[..], 14..=20), (b"", 0..=0)] {
        let started = Instant::now();
        let ended = futures_util::future::join_all((0..20).map(|_| ends(begun))).await;
        let at_once = ended.iter().filter(|ended| ended.duration_since(started) < Duration::from_millis(2_500)).count();
        assert!(expected.contains(&at_once), "{at_once} did not wait: {begun:?}");
    }
    until("there is room again", async || authority.client().connect(world.address(), NAME).await.ok().map(drop)).await;
}

/// A content server behind TLS that answers every request of HTTP/1.1; the names that it was asked for.
async fn behind_tls(config: std::sync::Arc<rustls::ServerConfig>) -> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedReceiver<Option<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (config, tell) = (config.clone(), tell.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await else { return };
                let _ = tell.send(stream.get_ref().1.server_name().map(ToOwned::to_owned));
                let mut head = Vec::new();
                while stream.read_buf(&mut head).await.is_ok_and(|bytes| bytes > 0) {
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                    }
                }
            });
        }
    });
    (address, told)
}

async fn to_upstream(address: std::net::SocketAddr, tls: &str) -> World {
    let upstream = format!("secure: {{ servers: [ \"https://{address}\" ]{tls} }}");
    Setup::default().another_upstream(&upstream).route("{ path: /secure/**, upstream: secure, public: true }").start().await
}

#[tokio::test]
async fn an_upstream_is_believed_by_its_own_ca_and_name_and_sees_the_gateways_certificate() {
    let authority = Authority::new();
    authority.sign("content", &["content.internal"]);
    authority.sign("gateway", &["gateway.internal"]);
    let config = server(&authority.file("content.crt"), &authority.file("content.key"), &[], Some(&authority));
    let (address, mut told) = behind_tls(config).await;
    let (ca, crt, key) = (authority.path("ca.pem"), authority.path("gateway.crt"), authority.path("gateway.key"));

    let world = to_upstream(address, &format!(", tls: {{ ca: {ca}, name: content.internal, client_certificate: {crt}, client_key: {key} }}")).await;
    assert_eq!(world.get("/secure/a").connect().await.status, 200);
    assert_eq!(told.recv().await.flatten().as_deref(), Some("content.internal"));

    // Another name than the certificate has, another CA, no certificate of ours: each a bad gateway, and told with its reason.
    let stranger = Authority::new();
    for (tls, reason) in [
        (format!(", tls: {{ ca: {ca}, client_certificate: {crt}, client_key: {key} }}"), "not valid for name"),
        (format!(", tls: {{ ca: {}, name: content.internal }}", stranger.path("ca.pem")), "invalid peer certificate"),
        (String::new(), "invalid peer certificate"),
    ] {
        let world = to_upstream(address, &tls).await;
        let answer = world.get("/secure/a").connect().await;
        assert_eq!((answer.status, answer.json()["type"].as_str()), (502, Some("urn:uma-gateway:bad-upstream")), "{tls}");
        let ready = world.verbose().await;
        assert!(ready.contains(reason), "{tls}: {ready}");
    }
}
