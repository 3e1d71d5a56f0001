//! TLS towards content servers: whom the gateway believes, under which name, and as whom it comes.
//!
//! One value per upstream, shared by all workers. Its files may be exchanged while it is in use; connections that stand are not touched.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ClientConfig;
pub use rustls::pki_types::ServerName;

use super::{Address, Protocol};
use crate::http_client::{HttpClientError, TlsFiles, Trust};

const H1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

/// `upstreams.*.tls`.
#[derive(Default)]
pub struct UpstreamTls {
    files: TlsFiles,
    name: Option<ServerName<'static>>,
    /// By what is offered in the handshake; absent: not read yet.
    current: ArcSwapOption<Offers>,
}

/// The same trust with each choice of protocols.
struct Offers {
    h1: Trust,
    h2: Trust,
    both: Trust,
}

impl UpstreamTls {
    /// With these files, and a name other than the server's own. Nothing is read yet.
    #[must_use]
    pub fn new(files: TlsFiles, name: Option<ServerName<'static>>) -> Self {
        Self { files, name, current: ArcSwapOption::empty() }
    }

    /// Reads the files, for new connections from now on. What was in force stays when they cannot be used.
    ///
    /// # Errors
    /// When a file cannot be read, holds no certificate or key, or certificate and key do not fit together.
    pub fn load(&self) -> Result<(), HttpClientError> {
        self.current.store(Some(Arc::new(self.read()?)));
        Ok(())
    }

    /// The files.
    #[must_use]
    pub const fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Whether the server's certificate must have another name than the server.
    #[must_use]
    pub const fn is_named(&self) -> bool {
        self.name.is_some()
    }

    /// The paths of the files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.files.ca, &self.files.client_certificate, &self.files.client_key].into_iter().flatten().map(std::path::PathBuf::as_path)
    }

    /// What makes connections different from those of another value.
    pub(super) fn identity(&self) -> (TlsFiles, Option<ServerName<'static>>) {
        (self.files.clone(), self.name.clone())
    }

    /// The name that this server's certificate must have.
    pub(super) fn name(&self, server: &Address) -> Option<ServerName<'static>> {
        let own = || {
            let host = server.authority()?.host().trim_start_matches('[').trim_end_matches(']');
            ServerName::try_from(host.to_owned()).ok()
        };
        self.name.clone().or_else(own)
    }

    /// What a handshake needs.
    pub(super) fn client(&self, protocol: Protocol) -> Result<Arc<ClientConfig>, HttpClientError> {
        let offers = match self.current.load_full() {
            Some(offers) => offers,
            None => {
                let offers = Arc::new(self.read()?);
                self.current.store(Some(Arc::clone(&offers)));
                offers
            }
        };
        let trust = match protocol {
            Protocol::H1 => &offers.h1,
            Protocol::H2 => &offers.h2,
            Protocol::Auto => &offers.both,
        };
        trust.config().map_err(HttpClientError::Unusable)
    }

    fn read(&self) -> Result<Offers, HttpClientError> {
        Ok(Offers { h1: Trust::new(&self.files, &[H1])?, h2: Trust::new(&self.files, &[H2])?, both: Trust::new(&self.files, &[H2, H1])? })
    }
}

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.name == other.name
    }
}

impl Eq for UpstreamTls {}

impl std::fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamTls").field("files", &self.files).field("name", &self.name).finish_non_exhaustive()
    }
}
