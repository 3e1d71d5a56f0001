//! Certificates made on the spot, and a client that speaks TLS, HTTP/1.1 and HTTP/2 by the same libraries as everybody.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whoever signs, with a folder for what is signed.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "A test's authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, folder: tempfile::tempdir().unwrap() };
        std::fs::write(authority.file("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file as it stands in a configuration.
    pub fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// Writes `name.crt` and `name.key` for these names, each put in its place whole.
    pub fn sign(&self, name: &str, names: &[&str]) {
        self.sign_as(name, &CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap());
    }

    /// The same with everything that may stand in a certificate.
    pub fn sign_as(&self, name: &str, params: &CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.put(&format!("{name}.crt"), &certificate.pem());
        self.put(&format!("{name}.key"), &key.serialize_pem());
    }

    pub fn put(&self, name: &str, text: &str) {
        let next = self.file(&format!("{name}.next"));
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, self.file(name)).unwrap();
    }

    pub fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.file(&format!("{name}.crt"))).unwrap()
    }

    /// A client that trusts this authority.
    pub fn client(&self) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        TlsClient { roots, versions: rustls::ALL_VERSIONS.to_vec(), protocols: Vec::new(), identity: None }
    }
}

/// How a client comes.
#[derive(Clone)]
pub struct TlsClient {
    roots: RootCertStore,
    versions: Vec<&'static SupportedProtocolVersion>,
    protocols: Vec<Vec<u8>>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl TlsClient {
    pub fn version(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    pub fn protocols(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// With this certificate of the authority's.
    pub fn identity(mut self, authority: &Authority, name: &str) -> Self {
        self.identity = Some((authority.file(&format!("{name}.crt")), authority.file(&format!("{name}.key"))));
        self
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&self.versions).unwrap();
        let builder = builder.with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                builder.with_client_auth_cert(vec![CertificateDer::from_pem_file(certificate).unwrap()], PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.protocols);
        Arc::new(config)
    }

    /// Connects, asking for this name.
    pub async fn connect(&self, address: SocketAddr, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(self.config()).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
    }

    /// Connects and speaks HTTP/2.
    pub async fn h2(&self, address: SocketAddr, name: &str) -> H2 {
        let stream = self.clone().protocols(&["h2"]).connect(address, name).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        H2::over(stream).await
    }
}

/// A server's side with this pair, that speaks one of these protocols.
pub fn server(certificate: &Path, key: &Path, protocols: &[&str], clients: Option<&Authority>) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(authority.client().roots);
            builder.with_client_cert_verifier(rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
    let mut config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// The certificate that the other side showed.
pub fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// One exchange of HTTP/1.1 over a stream.
pub async fn h1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, request: Request<Full<Bytes>>) -> hyper::Result<Whole> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Whole::read(sender.send_request(request).await?).await
}

/// A client's side of HTTP/2.
#[derive(Clone)]
pub struct H2(pub http2::SendRequest<Full<Bytes>>);

impl H2 {
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Whole> {
        Whole::read(self.0.send_request(request).await?).await
    }

    pub async fn get(&mut self, url: &str) -> hyper::Result<Whole> {
        self.send(Request::get(url).body(Full::default()).unwrap()).await
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Whole {
    pub status: u16,
    pub headers: HeaderMap,
}

impl Whole {
    async fn read(answer: Response<hyper::body::Incoming>) -> hyper::Result<Self> {
        let (head, body) = answer.into_parts();
        body.collect().await?;
        Ok(Self { status: head.status.as_u16(), headers: head.headers })
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A GET of HTTP/1.1.
pub fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "photos.example.org").body(Full::default()).unwrap()
}
