//! The HTTP client for everything that is not the content: authorization servers, token endpoints, probes.

use std::path::PathBuf;

/// Trust and client certificate of a TLS client, as files in PEM form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates that are trusted instead of the platform's.
    pub ca: Option<PathBuf>,
    /// The client's certificate chain.
    pub client_certificate: Option<PathBuf>,
    /// Its private key.
    pub client_key: Option<PathBuf>,
}
