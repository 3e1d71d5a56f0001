//! The addresses behind a server's name, asked for again from time to time.
//!
//! An answer is used as long as DNS says that it holds (`ask`). While a new one is on its way the old one goes on being used, also when the new one does not
//! come: a name server that is down takes no content server with it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::uri::Authority;
use tokio::time::Instant;

use self::ask::{Files, SYSTEM, ask};

mod ask;

/// When it is asked again after a question without an answer.
const RETRY: Duration = Duration::from_secs(5);

/// A host and what it resolves to. All workers share one of each.
pub(super) struct Name {
    host: Box<str>,
    port: u16,
    files: Files,
    /// An address needs no resolver.
    fixed: Option<Arc<[SocketAddr]>>,
    known: Mutex<Option<Known>>,
    asking: AtomicBool,
    turn: AtomicUsize,
}

#[derive(Clone)]
struct Known {
    addresses: Arc<[SocketAddr]>,
    until: Instant,
}

impl Name {
    pub(super) fn new(authority: &Authority) -> Arc<Self> {
        Self::told_by(authority, SYSTEM)
    }

    fn told_by(authority: &Authority, files: Files) -> Arc<Self> {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(80);
        let fixed = host.parse::<IpAddr>().ok().map(|ip| Arc::from([SocketAddr::new(ip, port)]));
        Arc::new(Self { host: host.into(), port, files, fixed, known: Mutex::default(), asking: AtomicBool::new(false), turn: AtomicUsize::new(0) })
    }

    /// The addresses to try, each caller beginning at another one.
    ///
    /// # Errors
    /// When the name has never been resolved and cannot be now.
    pub(super) async fn addresses(self: &Arc<Self>) -> io::Result<Vec<SocketAddr>> {
        let known = match self.current() {
            Some(addresses) => addresses,
            None => self.ask().await?,
        };
        let mut addresses = known.to_vec();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let first = turn.checked_rem(addresses.len()).unwrap_or(0);
        addresses.rotate_left(first);
        Ok(addresses)
    }

    /// Whether connections to this address still lead to the server. Asks anew in the background when it is time.
    pub(super) fn includes(self: &Arc<Self>, address: &SocketAddr) -> bool {
        self.current().is_none_or(|addresses| addresses.contains(address))
    }

    /// What is known; a new question is on its way when it is old.
    fn current(self: &Arc<Self>) -> Option<Arc<[SocketAddr]>> {
        if let Some(fixed) = &self.fixed {
            return Some(Arc::clone(fixed));
        }
        let known = self.known().clone()?;
        if known.until <= Instant::now() && !self.asking.swap(true, Ordering::Relaxed) {
            let asking = Asking(Arc::clone(self));
            tokio::task::spawn(async move {
                if let Err(error) = asking.0.ask().await {
                    tracing::warn!(host = &*asking.0.host, %error, "a content server's name cannot be resolved; its last addresses are used");
                    asking.0.postpone();
                }
            });
        }
        Some(known.addresses)
    }

    async fn ask(&self) -> io::Result<Arc<[SocketAddr]>> {
        let answer = ask(self.files, &self.host).await?;
        let addresses: Arc<[SocketAddr]> = answer.addresses.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect();
        *self.known() = Some(Known { addresses: Arc::clone(&addresses), until: Instant::now() + answer.holds });
        Ok(addresses)
    }

    /// The old answer holds a little longer.
    fn postpone(&self) {
        if let Some(known) = self.known().as_mut() {
            known.until = Instant::now() + RETRY;
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question on its way; another may be asked when it has ended, in whatever way.
struct Asking(Arc<Name>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.asking.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
