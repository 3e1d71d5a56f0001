//! Certificates that change while the gateway runs: their files are watched, and new ones are used for new connections.
//!
//! Each listener and each upstream takes a set of files as a whole or keeps what it has; the configuration is not read anew for it. What is refused is
//! told once for the same content.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::watching::{Content, Watched, content, watch};
use crate::listener::{Refresh, Tls};
use crate::telemetry::Metrics;
use crate::upstream::{Config, UpstreamTls};

/// All TLS of a gateway that is made of files. Clones share it.
#[derive(Clone, Default)]
pub struct Certificates(Arc<Inner>);

#[derive(Default)]
struct Inner {
    held: Mutex<Held>,
    others: Notify,
}

#[derive(Default)]
struct Held {
    /// By their address.
    listeners: Vec<(Arc<str>, Arc<Tls>)>,
    /// By their name.
    upstreams: Vec<Upstream>,
}

struct Upstream {
    name: Arc<str>,
    tls: Arc<UpstreamTls>,
    seen: Content,
}

impl Certificates {
    /// These from now on, and no others.
    pub fn look_after<'c>(&self, listeners: Vec<(Arc<str>, Arc<Tls>)>, upstreams: impl IntoIterator<Item = &'c Arc<Config>>) {
        let with_files = upstreams.into_iter().filter(|upstream| upstream.tls.paths().next().is_some());
        let upstreams = with_files.map(|upstream| Upstream { name: Arc::clone(&upstream.name), tls: Arc::clone(&upstream.tls), seen: seen(&upstream.tls) });
        *self.lock() = Held { listeners, upstreams: upstreams.collect() };
        self.0.others.notify_one();
    }

    /// Keeps them up to date for ever.
    pub async fn keep(self, metrics: Arc<Metrics>) {
        loop {
            let files = self.files();
            let watched = Rc::new(Watched::new(files.clone()));
            watched.was_read(&files, content(&files));
            // What changed since it was loaded is seen here, what changes from here on by the watch.
            self.look(&metrics);
            self.tell_expiry(&metrics);
            let looking = watch(watched, || self.look(&metrics));
            tokio::select! {
                () = self.0.others.notified() => {}
                () = looking => {}
            }
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let held = self.lock();
        let listeners = held.listeners.iter().flat_map(|(_, tls)| tls.files());
        let mut files: Vec<PathBuf> = listeners.chain(held.upstreams.iter().flat_map(|upstream| upstream.tls.paths())).map(Path::to_owned).collect();
        files.sort();
        files.dedup();
        files
    }

    fn look(&self, metrics: &Metrics) {
        let mut held = self.lock();
        let mut swapped = false;
        for (name, tls) in &held.listeners {
            swapped |= listener(name, tls, metrics);
        }
        held.upstreams.iter_mut().for_each(|upstream| upstream.look(metrics));
        drop(held);
        if swapped {
            self.tell_expiry(metrics);
        }
    }

    fn tell_expiry(&self, metrics: &Metrics) {
        let held = self.lock();
        let all: Vec<_> = held.listeners.iter().flat_map(|(name, tls)| tls.certificates().into_iter().map(move |certificate| (name, certificate))).collect();
        metrics.certificates_expire(all.iter().map(|(name, certificate)| (&***name, certificate.file.display().to_string(), certificate.not_after)));
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether new certificates are in use.
fn listener(name: &str, tls: &Tls, metrics: &Metrics) -> bool {
    match tls.refresh() {
        Refresh::Unchanged | Refresh::StillRefused => false,
        Refresh::Swapped => {
            tracing::info!(listener = name, "new certificates are in use");
            metrics.certificates_read("listener", name, true);
            for certificate in tls.certificates() {
                if let Some(trouble) = certificate.trouble() {
                    tracing::warn!(listener = name, certificate = %certificate.file.display(), "a certificate {trouble}");
                }
            }
            true
        }
        Refresh::Refused(error) => {
            tracing::warn!(listener = name, error = &error as &dyn Error, "changed certificates are refused; those in use stay");
            metrics.certificates_read("listener", name, false);
            false
        }
    }
}

impl Upstream {
    fn look(&mut self, metrics: &Metrics) {
        let now = seen(&self.tls);
        if now == std::mem::replace(&mut self.seen, now) {
            return;
        }
        let (name, loaded) = (&*self.name, self.tls.load());
        metrics.certificates_read("upstream", name, loaded.is_ok());
        match loaded {
            Ok(()) => tracing::info!(upstream = name, "new TLS files are in use"),
            Err(error) => tracing::warn!(upstream = name, error = &error as &dyn Error, "changed TLS files are refused; those in use stay"),
        }
    }
}

fn seen(tls: &UpstreamTls) -> Content {
    content(&tls.paths().map(Path::to_owned).collect::<Vec<_>>())
}
