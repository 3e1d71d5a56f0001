//! Certificates and keys, from files to what a handshake needs.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::TlsConfig;

/// Largest file that is read.
const MOST_BYTES: u64 = 1024 * 1024;

/// SHA-256 of what was read.
pub(super) type Digest = [u8; 32];

/// One certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What is said of a certificate in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its file.
    pub file: PathBuf,
    /// The names that it answers, in lower case, `*.` in front of wildcards.
    pub names: Vec<Box<str>>,
    /// When it begins, in seconds since 1970.
    pub not_before: i64,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
}

/// Why TLS cannot be served with these files. Texts name files, never their contents.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what} in PEM form", file.display())]
    NoPem {
        /// What it should hold.
        what: &'static str,
        /// Which.
        file: PathBuf,
        /// What the reader says.
        #[source]
        cause: pem::Error,
    },
    /// The certificate is none.
    #[error("{} holds no certificate that can be read", .0.display())]
    NoCertificate(PathBuf),
    /// Certificate and key are not of one pair.
    #[error("the key {} does not fit the certificate {}", key.display(), certificate.display())]
    Mismatch {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The kind of key is not known.
    #[error("the key {} cannot be used", file.display())]
    Key {
        /// Which.
        file: PathBuf,
        /// What the library says.
        #[source]
        cause: rustls::Error,
    },
    /// The certificates that clients are checked against.
    #[error("the client CA cannot be used: {0}")]
    ClientCa(String),
    /// Another reason of the library.
    #[error("TLS cannot be served")]
    Unusable(#[source] rustls::Error),
}

impl CertificateFiles {
    /// Reads the pair, to see whether it could be served.
    ///
    /// # Errors
    /// When it could not.
    pub fn check(&self) -> Result<Certificate, TlsError> {
        let (certificate, _) = Pair::read(self)?.open(&rustls::crypto::aws_lc_rs::default_provider())?;
        Ok(certificate)
    }
}

impl Certificate {
    /// Whether it can be relied on now; otherwise in which way not.
    #[must_use]
    pub fn trouble(&self) -> Option<&'static str> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        match () {
            () if now > self.not_after => Some("has expired"),
            () if now < self.not_before => Some("is not valid yet"),
            () => None,
        }
    }
}

/// The contents of all files of a listener, read together.
pub(super) struct Source {
    pub(super) pairs: Vec<Pair>,
    pub(super) client_ca: Option<ClientCa>,
    pub(super) digest: Digest,
}

impl Source {
    pub(super) fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        let pairs = config.certificates.iter().map(Pair::read).collect::<Result<Vec<_>, _>>()?;
        let client_ca = config.client_ca.as_deref().map(ClientCa::read).transpose()?;
        let mut context = digest::Context::new(&digest::SHA256);
        let parts = pairs.iter().flat_map(|pair| [pair.certificate.as_slice(), pair.key.as_slice()]).chain(client_ca.iter().map(|ca| ca.bytes.as_slice()));
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Ok(Self { pairs, client_ca, digest: fixed(&context.finish()) })
    }
}

/// One pair as it was read.
pub(super) struct Pair {
    files: CertificateFiles,
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Pair {
    fn read(files: &CertificateFiles) -> Result<Self, TlsError> {
        Ok(Self { files: files.clone(), certificate: read(&files.certificate)?, key: Zeroizing::new(read(&files.key)?) })
    }

    /// What a handshake needs, and what is said of it.
    pub(super) fn open(&self, provider: &CryptoProvider) -> Result<(Certificate, CertifiedKey), TlsError> {
        let CertificateFiles { certificate: file, key: key_file } = &self.files;
        let chain = certificates(file, &self.certificate)?;
        let about = chain.first().and_then(|first| describe(file, first)).ok_or_else(|| TlsError::NoCertificate(file.clone()))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|cause| TlsError::NoPem { what: "private key", file: key_file.clone(), cause })?;
        let certified = CertifiedKey::from_der(chain, key, provider).map_err(|cause| match cause {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { certificate: file.clone(), key: key_file.clone() },
            cause => TlsError::Key { file: key_file.clone(), cause },
        })?;
        Ok((about, certified))
    }
}

/// The certificates that clients are checked against.
pub(super) struct ClientCa {
    file: PathBuf,
    bytes: Vec<u8>,
    pub(super) digest: Digest,
}

impl ClientCa {
    fn read(file: &Path) -> Result<Self, TlsError> {
        let bytes = read(file)?;
        let digest = fixed(&digest::digest(&digest::SHA256, &bytes));
        Ok(Self { file: file.to_owned(), bytes, digest })
    }

    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates(&self.file, &self.bytes)
    }
}

/// Tells one trouble from another.
pub(super) fn digest_of_text(text: &str) -> Digest {
    fixed(&digest::digest(&digest::SHA256, text.as_bytes()))
}

fn fixed(digest: &digest::Digest) -> Digest {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    bytes
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read as _;
    let unreadable = |cause| TlsError::Unreadable { file: file.to_owned(), cause };
    let mut bytes = Vec::new();
    std::fs::File::open(file).and_then(|open| open.take(MOST_BYTES).read_to_end(&mut bytes)).map_err(unreadable)?;
    Ok(bytes)
}

fn certificates(file: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |cause| TlsError::NoPem { what: "certificate", file: file.to_owned(), cause };
    let found = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if found.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(found) }
}

fn describe(file: &Path, der: &CertificateDer<'_>) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    let alternatives = certificate.subject_alternative_name().ok()?;
    let names = alternatives.iter().flat_map(|extension| &extension.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
        _ => None,
    });
    Some(Certificate { file: file.to_owned(), names: names.collect(), not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() })
}
