//! Certificates that change while the gateway runs: their files are watched, and new ones are used for new connections.
//!
//! Each listener and each upstream takes a set of files as a whole or keeps what it has. What is refused is told once for the same content.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::folders::Watcher;
use crate::listener::{Refresh, Tls};
use crate::telemetry::Metrics;
use crate::upstream::UpstreamTls;

/// All TLS of a gateway that is made of files.
#[derive(Default)]
pub struct Certificates {
    /// Listeners, by their address.
    pub listeners: Vec<(Arc<str>, Arc<Tls>)>,
    /// Upstreams, by their name.
    pub upstreams: Vec<(Arc<str>, Arc<UpstreamTls>)>,
}

impl Certificates {
    /// Keeps them up to date for ever.
    pub async fn keep(self, metrics: Arc<Metrics>) {
        for (name, tls) in &self.listeners {
            tell_expiry(name, tls, &metrics);
        }
        let files: Vec<&Path> = self.listeners.iter().flat_map(|(_, tls)| tls.files()).chain(self.upstreams.iter().flat_map(|(_, tls)| tls.paths())).collect();
        if files.is_empty() {
            return;
        }
        let mut watcher = Watcher::new();
        watcher.set(files);
        let mut upstreams: Vec<Seen> = self.upstreams.iter().map(|(_, tls)| Seen::of(tls)).collect();
        loop {
            watcher.changed().await;
            for (name, tls) in &self.listeners {
                listener(name, tls, &metrics);
            }
            for ((name, tls), seen) in self.upstreams.iter().zip(&mut upstreams) {
                upstream(name, tls, seen, &metrics);
            }
        }
    }
}

fn listener(name: &str, tls: &Tls, metrics: &Metrics) {
    match tls.refresh() {
        Refresh::Unchanged | Refresh::StillRefused => {}
        Refresh::Swapped => {
            tracing::info!(listener = name, "new certificates are in use");
            metrics.certificates_read("listener", name, true);
            tell_expiry(name, tls, metrics);
        }
        Refresh::Refused(error) => {
            tracing::warn!(listener = name, error = &error as &dyn Error, "changed certificates are refused; those in use stay");
            metrics.certificates_read("listener", name, false);
        }
    }
}

fn upstream(name: &str, tls: &UpstreamTls, seen: &mut Seen, metrics: &Metrics) {
    let now = Seen::of(tls);
    if now == *seen {
        return;
    }
    *seen = now;
    let loaded = tls.load();
    metrics.certificates_read("upstream", name, loaded.is_ok());
    match loaded {
        Ok(()) => tracing::info!(upstream = name, "new TLS files are in use"),
        Err(error) => tracing::warn!(upstream = name, error = &error as &dyn Error, "changed TLS files are refused; those in use stay"),
    }
}

fn tell_expiry(name: &str, tls: &Tls, metrics: &Metrics) {
    for certificate in tls.certificates() {
        metrics.certificate_expires(name, &certificate.file.display().to_string(), certificate.not_after);
        if let Some(trouble) = certificate.trouble() {
            tracing::warn!(listener = name, certificate = %certificate.file.display(), "a certificate {trouble}");
        }
    }
}

/// When each file was written, and how long it is: enough to see that one was exchanged.
#[derive(PartialEq, Eq)]
struct Seen(Vec<(PathBuf, Option<(SystemTime, u64)>)>);

impl Seen {
    fn of(tls: &UpstreamTls) -> Self {
        let about = |path: &Path| std::fs::metadata(path).ok().and_then(|about| Some((about.modified().ok()?, about.len())));
        Self(tls.paths().map(|path| (path.to_owned(), about(path))).collect())
    }
}
