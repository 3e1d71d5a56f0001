//! Connections: TCP for `http`, TLS for `https`, with the trust that the files give or, without them, the platform's.
//!
//! The platform's certificates are read when the first https address is asked: a gateway that talks plain http on loopback
//! holds none of them in memory and starts in an image that has none.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tower::Service;

use super::{HttpClientError, TlsFiles};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long one address of a host may take; the caller's deadline comes on top.
const CONNECT: Duration = Duration::from_secs(5);

/// Opens connections for the client's pool.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: Arc<Trust>,
}

impl Connector {
    pub(super) fn new(files: &TlsFiles) -> Result<Self, HttpClientError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        Ok(Self { tcp, tls: Arc::new(Trust::new(files, &[H1])?) })
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        if address.scheme() != Some(&Scheme::HTTPS) {
            let tcp = self.tcp.call(address);
            return Box::pin(async move { Ok(MaybeHttpsStream::Http(tcp.await?)) });
        }
        match self.tls.config() {
            Ok(config) => HttpsConnector::from((self.tcp.clone(), config)).call(address),
            Err(error) => Box::pin(std::future::ready(Err(error.into()))),
        }
    }
}

/// HTTP/1.1 in a handshake (RFC 7301).
const H1: &[u8] = b"http/1.1";

/// The client's side of TLS: whom to believe, as whom to come, and what to speak.
pub struct Trust {
    identity: Option<Identity>,
    protocols: Vec<Vec<u8>>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Trust {
    /// With the trust of these files, and these protocols to choose from (RFC 7301), the best one first.
    ///
    /// # Errors
    /// When a file cannot be read, holds no certificate or key, or certificate and key do not fit together.
    pub fn new(files: &TlsFiles, protocols: &[&[u8]]) -> Result<Self, HttpClientError> {
        let identity = match (&files.client_certificate, &files.client_key) {
            (Some(chain), Some(key)) => Some(Identity { chain: certificates("the client certificate", chain)?, key: private_key(key)? }),
            (None, None) => None,
            _ => return Err(HttpClientError::HalfIdentity),
        };
        let tls = Self { identity, protocols: protocols.iter().map(|name| name.to_vec()).collect(), config: OnceLock::new() };
        if let Some(file) = &files.ca {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("the CA", file)? {
                roots.add(certificate).map_err(HttpClientError::Unusable)?;
            }
            let config =
                builder().map(|builder| builder.with_root_certificates(roots)).and_then(|builder| tls.finish(builder)).map_err(HttpClientError::Unusable)?;
            tls.config.get_or_init(|| config);
        } else if tls.identity.is_some() {
            // A key that does not fit is a mistake in the files: it shows now, not at the first call.
            let probe = builder().map(|builder| builder.with_root_certificates(RootCertStore::empty())).and_then(|builder| tls.finish(builder));
            probe.map_err(HttpClientError::Unusable)?;
        }
        Ok(tls)
    }

    /// What a handshake needs. The platform's certificates are read at the first call.
    ///
    /// # Errors
    /// When the platform's certificates cannot be had.
    pub fn config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        // A failure is not kept: certificates may be mounted a moment later.
        let config = builder()?.with_platform_verifier().and_then(|builder| self.finish(builder))?;
        Ok(self.config.get_or_init(|| config).clone())
    }

    fn finish(&self, builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut config = match &self.identity {
            Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.protocols);
        Ok(Arc::new(config))
    }
}

/// TLS 1.2 and 1.3 by aws-lc-rs, named here so that no process-wide default is needed.
fn builder() -> Result<ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider())).with_safe_default_protocol_versions()
}

fn certificates(what: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, HttpClientError> {
    let unreadable = |source| HttpClientError::File { what, file: file.to_owned(), source };
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(unreadable)?;
    if found.is_empty() { Err(unreadable(pem::Error::NoItemsFound)) } else { Ok(found) }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, HttpClientError> {
    PrivateKeyDer::from_pem_file(file).map_err(|source| HttpClientError::File { what: "the client key", file: file.to_owned(), source })
}
