//! TLS towards clients: which certificate answers which name, and how certificates are exchanged while connections live on.
//!
//! A [`Tls`] belongs to one listener and all workers share it. Its files are read as a whole: a set that does not fit together changes nothing, so
//! certificate and key are always of one pair. Nothing here looks at a request, and no key is ever in a message.

mod certificate;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

pub use certificate::{Certificate, CertificateFiles, TlsError};

use certificate::{Digest, Source};

/// `listeners[].tls`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsConfig {
    /// Certificates with their keys; the first one answers where no name fits.
    pub certificates: Vec<CertificateFiles>,
    /// Whom the listener believes about clients.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// `Strict-Transport-Security`, in seconds.
    pub hsts: Option<u64>,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// It is not asked for.
    #[default]
    None,
    /// A client may come without; one that it shows must be valid.
    Optional,
    /// No connection without one.
    Required,
}

/// A version of TLS. Older ones are not spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// What came of looking at the files again.
#[derive(Debug)]
pub enum Refresh {
    /// They are as they were.
    Unchanged,
    /// New connections get what is in them now.
    Swapped,
    /// They cannot be used; what was in force stays. Told once for the same content.
    Refused(TlsError),
    /// The same content was refused before.
    StillRefused,
}

/// The TLS of one listener. All workers share it.
pub struct Tls {
    config: TlsConfig,
    current: ArcSwap<Current>,
    refused: Mutex<Option<Digest>>,
}

/// What is in force.
struct Current {
    server: Arc<ServerConfig>,
    certificates: Vec<Certificate>,
    digest: Digest,
    client_ca: Option<Digest>,
    tickets: Option<Arc<dyn ProducesTickets>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them cannot be read or used, or a key does not fit its certificate.
    pub fn load(config: &TlsConfig) -> Result<Self, TlsError> {
        let source = Source::read(config)?;
        let current = build(config, &source, None)?;
        Ok(Self { config: config.clone(), current: ArcSwap::from_pointee(current), refused: Mutex::default() })
    }

    /// Looks at the files again. Connections that stand are not touched.
    pub fn refresh(&self) -> Refresh {
        // Held over the whole look: two at once would tell the same trouble twice.
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load_full();
        let (digest, built) = match Source::read(&self.config) {
            Ok(source) if source.digest == current.digest => {
                *refused = None;
                return Refresh::Unchanged;
            }
            Ok(source) => (source.digest, build(&self.config, &source, Some(&current))),
            Err(error) => (certificate::digest_of_text(&error.to_string()), Err(error)),
        };
        match built {
            Ok(next) => {
                *refused = None;
                self.current.store(Arc::new(next));
                Refresh::Swapped
            }
            Err(_) if *refused == Some(digest) => Refresh::StillRefused,
            Err(error) => {
                *refused = Some(digest);
                Refresh::Refused(error)
            }
        }
    }

    /// Every file that it is made of.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let pairs = self.config.certificates.iter().flat_map(|files| [files.certificate.as_path(), files.key.as_path()]);
        pairs.chain(self.config.client_ca.as_deref())
    }

    /// The certificates in force, in the order of the configuration.
    #[must_use]
    pub fn certificates(&self) -> Vec<Certificate> {
        self.current.load().certificates.clone()
    }

    /// `Strict-Transport-Security`, in seconds.
    #[must_use]
    pub const fn hsts(&self) -> Option<u64> {
        self.config.hsts
    }

    /// What the next connection is served with.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().server)
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("config", &self.config).finish_non_exhaustive()
    }
}

fn build(config: &TlsConfig, source: &Source, before: Option<&Current>) -> Result<Current, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut certificates = Vec::with_capacity(source.pairs.len());
    let mut choice = Choice::default();
    for pair in &source.pairs {
        let (certificate, key) = pair.open(&provider)?;
        choice.add(&certificate, key);
        certificates.push(certificate);
    }
    let versions: &[_] = match config.min_version {
        TlsVersion::Tls12 => rustls::ALL_VERSIONS,
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).map_err(TlsError::Unusable)?;
    let builder = match (&source.client_ca, config.client_auth) {
        (Some(ca), ClientAuth::Optional | ClientAuth::Required) => {
            let mut roots = RootCertStore::empty();
            for certificate in ca.certificates()? {
                roots.add(certificate).map_err(TlsError::Unusable)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if config.client_auth == ClientAuth::Optional { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| TlsError::ClientCa(error.to_string()))?)
        }
        (None, ClientAuth::Optional | ClientAuth::Required) => return Err(TlsError::ClientCa("there is none".to_owned())),
        (_, ClientAuth::None) => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(Arc::new(choice));
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let client_ca = source.client_ca.as_ref().map(|ca| ca.digest);
    let tickets = tickets(config, client_ca, before)?;
    if let Some(tickets) = &tickets {
        server.ticketer = Arc::clone(tickets);
    } else {
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
    }
    Ok(Current { server: Arc::new(server), certificates, digest: source.digest, client_ca, tickets })
}

/// Tickets with keys of this process that change by themselves. They outlive an exchange of certificates, so that clients need no whole handshake after it.
/// A resumed session is not checked against the client's certificate again, so where clients show one there are no tickets.
fn tickets(config: &TlsConfig, client_ca: Option<Digest>, before: Option<&Current>) -> Result<Option<Arc<dyn ProducesTickets>>, TlsError> {
    if config.client_auth != ClientAuth::None {
        return Ok(None);
    }
    match before.filter(|before| before.client_ca == client_ca).and_then(|before| before.tickets.clone()) {
        Some(tickets) => Ok(Some(tickets)),
        None => aws_lc_rs::Ticketer::new().map(Some).map_err(TlsError::Unusable),
    }
}

/// Which certificate answers which name: an exact name before a wildcard, the order of the configuration after that, the first one where no name fits.
#[derive(Debug, Default)]
struct Choice {
    all: Vec<Arc<CertifiedKey>>,
    by_name: HashMap<Box<str>, Vec<usize>>,
}

impl Choice {
    fn add(&mut self, certificate: &Certificate, key: CertifiedKey) {
        let place = self.all.len();
        self.all.push(Arc::new(key));
        for name in &certificate.names {
            self.by_name.entry(name.clone()).or_default().push(place);
        }
    }

    /// The candidates, best first.
    fn candidates(&self, name: Option<&str>) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let exact = name.as_deref().and_then(|name| self.by_name.get(name));
        let parent = name.as_deref().and_then(|name| name.split_once('.')).map(|(_, parent)| format!("*.{parent}"));
        let wildcard = parent.and_then(|parent| self.by_name.get(parent.as_str()));
        let named = exact.into_iter().chain(wildcard).flatten().filter_map(|place| self.all.get(*place));
        named.chain(&self.all)
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        // A client that knows none of the signatures is refused by the handshake itself.
        self.candidates(hello.server_name()).find(usable).or_else(|| self.all.first()).cloned()
    }
}
