//! The client against servers that answer well, badly, late or never, over TCP and TLS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use http::header::{HOST, LOCATION};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn get(address: &str) -> Request<Bytes> {
    Request::get(address).body(Bytes::new()).unwrap()
}

fn client() -> HttpClient {
    HttpClient::new(&TlsFiles::default()).unwrap()
}

/// A server that gives each connection these answers in turn, one per request head, and then closes it. Returns what it was sent.
async fn canned(answers: &'static [&'static str]) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, answers, heads.clone()));
        }
    });
    (address, seen)
}

async fn converse(mut stream: TcpStream, answers: &[&str], heads: tokio::sync::mpsc::UnboundedSender<String>) {
    for answer in answers {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let _ = heads.send(String::from_utf8_lossy(&head).into_owned());
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_connection_is_used_again_and_the_host_header_of_the_caller_is_kept() {
    const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    let (address, mut seen) = canned(&[HELLO, HELLO]).await;
    let client = client();
    let mut request = get(&format!("http://{address}/realms/x?y=z"));
    request.headers_mut().insert(HOST, http::HeaderValue::from_static("id.example.org"));

    assert_eq!(client.send(request, 100, soon()).await.unwrap().body(), "hello");
    assert_eq!(client.send(get(&format!("http://{address}/")), 100, soon()).await.unwrap().body(), "hello");

    let first = seen.recv().await.unwrap();
    assert!(first.starts_with("GET /realms/x?y=z HTTP/1.1\r\nhost: id.example.org\r\n"), "{first}");
    // The server answers twice on one connection only, so the second call would have failed on a new one that expects the first.
    assert!(seen.recv().await.unwrap().contains(&format!("host: {address}")));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (address, mut seen) = canned(&["HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"]).await;
    let answer = client().send(get(&format!("http://{address}/")), 100, soon()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().get(LOCATION).unwrap().to_str().unwrap()), (302, "/elsewhere"));
    assert!(seen.recv().await.is_some() && seen.try_recv().is_err());
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_with_and_without_a_length() {
    let (sized, _a) = canned(&["HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello!"]).await;
    let (chunked, _b) = canned(&["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n3\r\nlo!\r\n0\r\n\r\n"]).await;
    for address in [sized, chunked] {
        let address = format!("http://{address}/");
        assert!(matches!(client().send(get(&address), 5, soon()).await, Err(HttpError::TooLarge)));
        assert_eq!(client().send(get(&address), 6, soon()).await.unwrap().body(), "hello!");
    }
}

#[tokio::test]
async fn every_kind_of_silence_and_nonsense_has_its_own_error() {
    let closed = SocketAddr::from(([127, 0, 0, 1], 1));
    let (nonsense, _a) = canned(&["SSH-2.0-OpenSSH_9.6\r\n\r\n"]).await;
    let (half, _b) = canned(&["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"]).await;
    // Two answers are owed, so the connection stays open after a half one.
    let (silent, _c) = canned(&["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", ""]).await;

    let (both, _d) = canned(&["HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]).await;

    let ask = async |address: SocketAddr, deadline| client().send(get(&format!("http://{address}/?secret=1")), 100, deadline).await.unwrap_err();
    assert!(matches!(ask(closed, soon()).await, HttpError::Connect(_)));
    assert!(matches!(ask(nonsense, soon()).await, HttpError::Broken(_)));
    assert!(matches!(ask(half, soon()).await, HttpError::BodyBroken(_)));
    assert!(matches!(ask(both, soon()).await, HttpError::Framing));
    assert!(matches!(ask(silent, Instant::now() + Duration::from_millis(50)).await, HttpError::Timeout));
    let mut error: &dyn std::error::Error = &ask(closed, soon()).await;
    loop {
        assert!(!error.to_string().contains("secret"), "{error}");
        let Some(next) = error.source() else { break };
        error = next;
    }
}

#[tokio::test]
async fn a_streamed_answer_comes_in_pieces() {
    let (address, _seen) = canned(&["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"]).await;
    let mut body = client().open(get(&format!("http://{address}/")), soon()).await.unwrap().into_body();
    let mut whole = Vec::new();
    while let Some(piece) = body.chunk(soon()).await.unwrap() {
        whole.extend_from_slice(&piece);
    }
    assert_eq!(whole, b"hello");
}

#[tokio::test]
async fn what_was_looked_at_is_handed_out_all_the_same() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    let (address, _seen) = canned(&[ANSWER, ANSWER, ANSWER]).await;
    let open = async || client().open(get(&format!("http://{address}/")), soon()).await.unwrap().into_body();
    let mut body = open().await;
    assert_eq!(body.look_ahead(100, soon()).await.unwrap(), b"hello");
    assert_eq!(body.look_ahead(100, soon()).await.unwrap(), b"hello");
    assert_eq!(body.chunk(soon()).await.unwrap().as_deref(), Some(b"hello".as_slice()));
    assert_eq!(body.chunk(soon()).await.unwrap(), None);
    let mut body = open().await;
    assert!(body.look_ahead(1, soon()).await.unwrap().starts_with(b"hel"));
    assert_eq!(body.bytes(5, soon()).await.unwrap(), "hello");
    let mut body = open().await;
    body.look_ahead(1, soon()).await.unwrap();
    assert!(matches!(body.bytes(4, soon()).await, Err(HttpError::TooLarge)));
}

/// A CA, a server that it vouches for under these names, and a client that it vouches for.
struct Pki {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pki = Self { folder: tempfile::tempdir().unwrap(), issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() };
        pki.file("ca.pem", &pki.issuer.pem());
        pki
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { ca: Some(self.folder.path().join("ca.pem")), ..TlsFiles::default() }
    }

    /// The same with a client certificate of this CA.
    fn files_with_identity(&self) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["gateway".to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        TlsFiles {
            client_certificate: Some(self.file("client.pem", &certificate.pem())),
            client_key: Some(self.file("client.key", &key.serialize_pem())),
            ..self.files()
        }
    }

    /// Starts a server that says hello over TLS to whoever shows a certificate, if `mutual` asks for one.
    async fn serve(&self, name: &str, mutual: bool) -> u16 {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        self.serve_by(&certificate, &key, mutual).await
    }

    async fn serve_by(&self, certificate: &rcgen::Certificate, key: &KeyPair, mutual: bool) -> u16 {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = if mutual {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        port
    }
}

#[tokio::test]
async fn a_certificate_of_our_own_ca_is_trusted_and_one_of_nobody_is_told_apart_from_a_wrong_name() {
    let pki = Pki::new();
    let localhost = format!("https://localhost:{}/", pki.serve("localhost", false).await);
    let other = format!("https://localhost:{}/", pki.serve("other.example.org", false).await);

    let trusting = HttpClient::new(&pki.files()).unwrap();
    assert_eq!(trusting.send(get(&localhost), 100, soon()).await.unwrap().body(), "hello");
    assert!(matches!(trusting.send(get(&other), 100, soon()).await, Err(HttpError::Certificate(_))));
    let foreign = HttpClient::new(&Pki::new().files()).unwrap();
    assert!(matches!(foreign.send(get(&localhost), 100, soon()).await, Err(HttpError::UnknownCertificate(_))));
}

#[tokio::test]
async fn the_certificate_of_a_ca_is_told_for_what_it_is() {
    let pki = Pki::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let port = pki.serve_by(&certificate, &key, false).await;
    let trusting = HttpClient::new(&TlsFiles { ca: Some(pki.file("server.pem", &certificate.pem())), ..TlsFiles::default() }).unwrap();
    let error = trusting.send(get(&format!("https://localhost:{port}/")), 100, soon()).await.expect_err("a CA is no server");
    assert!(matches!(error, HttpError::CertificateOfCa(_)) && error.to_string().contains("CA:FALSE"), "{error}");
}

#[tokio::test]
async fn https_to_a_server_of_plain_http_is_a_tls_error() {
    let (address, _seen) = canned(&["HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"]).await;
    let trusting = HttpClient::new(&Pki::new().files()).unwrap();
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let spoken = plain.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = stream.read(&mut [0; 4096]).await;
        }
    });
    assert!(matches!(trusting.send(get(&format!("https://{spoken}/")), 100, soon()).await, Err(HttpError::Tls(_))));
    assert_eq!(trusting.send(get(&format!("http://{address}/")), 100, soon()).await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let pki = Pki::new();
    let address = format!("https://localhost:{}/", pki.serve("localhost", true).await);
    let known = HttpClient::new(&pki.files_with_identity()).unwrap();
    assert_eq!(known.send(get(&address), 100, soon()).await.unwrap().body(), "hello");
    assert!(HttpClient::new(&pki.files()).unwrap().send(get(&address), 100, soon()).await.is_err());
}

#[test]
fn mistakes_in_the_files_show_before_the_first_call() {
    let pki = Pki::new();
    let whole = pki.files_with_identity();
    let broken = |change: &dyn Fn(&mut TlsFiles)| {
        let mut files = whole.clone();
        change(&mut files);
        HttpClient::new(&files).map(|_| ()).unwrap_err()
    };
    let missing = broken(&|files| files.ca = Some("missing.pem".into()));
    assert!(missing.to_string().contains("missing.pem"), "{missing}");
    assert!(matches!(broken(&|files| files.ca = files.client_key.clone()), HttpClientError::File { what: "the CA", .. }));
    assert!(matches!(broken(&|files| files.client_key = files.ca.clone()), HttpClientError::File { what: "the client key", .. }));
    assert!(matches!(broken(&|files| files.client_key = None), HttpClientError::HalfIdentity));
    let stranger = pki.file("stranger.key", &KeyPair::generate().unwrap().serialize_pem());
    assert!(matches!(broken(&|files| files.client_key = Some(stranger.clone())), HttpClientError::Unusable(_)));
    assert!(matches!(broken(&|files| (files.client_key, files.ca) = (Some(stranger.clone()), None)), HttpClientError::Unusable(_)));
}

#[test]
fn the_client_can_be_shared_between_threads() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<HttpClient>();
}
