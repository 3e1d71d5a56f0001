//! A content server that knows nothing of UMA: it answers whoever shows the proxy credential, and remembers what it was asked.
//!
//! The demo shows its albums; tests use it as an upstream that records every request as it came over the wire and answers as it is told ([`Reply`]).
//! It reads and writes HTTP/1.1 itself, since a library would hide what the gateway really sent. In memory, loopback only.

mod beach;
mod content;
mod message;
mod reply;
mod serve;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::door::Door;

pub use message::Recorded;
pub use reply::{Framing, Reply};

/// Bytes of `/albums/vacation/beach.jpg`.
pub const BEACH: usize = beach::LENGTH;

/// How the server is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens: a loopback address; port 0 takes any.
    pub address: SocketAddr,
    /// Name and password of the only one whom it answers; `None`: it answers everyone.
    pub credential: Option<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), credential: Some(("gateway".into(), "proxy-secret".into())) }
    }
}

/// The content server.
#[derive(Debug)]
pub struct ContentServer;

impl ContentServer {
    /// Starts a server on the caller's runtime; it ends when the returned value is dropped.
    ///
    /// # Errors
    /// When the address is not a loopback address or is taken.
    pub async fn start(options: Options) -> io::Result<RunningContentServer> {
        if !options.address.ip().is_loopback() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the content server of the demo is for trying: it listens on loopback only"));
        }
        let listener = TcpListener::bind(options.address).await?;
        let address = listener.local_addr()?;
        let state = State { credential: options.credential, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: watch::Sender::new(()) });
        let served = Arc::clone(&shared);
        let (door, task) = Door::open(listener, move |stream| serve::connection(stream, Arc::clone(&served)))?;
        Ok(RunningContentServer { address, records: Records { shared, door }, task })
    }
}

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct RunningContentServer {
    address: SocketAddr,
    records: Records,
    task: JoinHandle<()>,
}

impl RunningContentServer {
    /// The address that it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it saw, and how it shall answer. Clones may go to other threads.
    #[must_use]
    pub const fn records(&self) -> &Records {
        &self.records
    }
}

impl Drop for RunningContentServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a content server saw, and how it shall answer.
#[derive(Clone, Debug)]
pub struct Records {
    shared: Arc<Shared>,
    door: Door,
}

impl Records {
    /// Whether no request came at all.
    #[must_use]
    pub fn saw_nothing(&self) -> bool {
        self.hits() == 0
    }

    /// How many requests came.
    #[must_use]
    pub fn hits(&self) -> usize {
        self.shared.lock().requests.len()
    }

    /// The requests, in the order in which their heads came.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.lock().requests.clone()
    }

    /// The last request.
    #[must_use]
    pub fn last(&self) -> Option<Recorded> {
        self.shared.lock().requests.last().cloned()
    }

    /// How many connections were accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.lock().open
    }

    /// Forgets what was seen.
    pub fn clear(&self) {
        self.shared.lock().requests.clear();
    }

    /// Waits until something that was recorded fits: for example that a body has ended, or that so many requests came.
    pub async fn until(&self, fits: impl Fn(&[Recorded]) -> bool) {
        self.wait(|state| fits(&state.requests)).await;
    }

    /// Waits until so many requests have come.
    pub async fn hit(&self, times: usize) {
        self.wait(|state| state.requests.len() >= times).await;
    }

    /// Waits until exactly so many connections are open.
    pub async fn until_open(&self, connections: usize) {
        self.wait(|state| state.open == connections).await;
    }

    /// The next so many requests are answered like this, once the replies that were set before are used up. Credentials are not asked for.
    pub fn reply_next(&self, times: u32, reply: Reply) {
        self.shared.lock().replies.push_back((reply, Some(times)));
    }

    /// Requests are answered like this until [`Records::reply_as_usual`].
    pub fn reply(&self, reply: Reply) {
        self.shared.lock().replies.push_back((reply, None));
    }

    /// Requests are answered from the albums again.
    pub fn reply_as_usual(&self) {
        self.shared.lock().replies.clear();
    }

    /// From now on another credential is asked for, or none.
    pub fn set_credential(&self, credential: Option<(&str, &str)>) {
        self.shared.lock().credential = credential.map(|(name, password)| (name.to_owned(), password.to_owned()));
    }

    /// Stops listening and breaks every connection: from the end of this call the address refuses.
    pub async fn stop(&self) {
        self.door.shut().await;
    }

    /// Listens again on the same address.
    pub async fn resume(&self) {
        self.door.reopen().await;
    }

    async fn wait(&self, fits: impl Fn(&State) -> bool) {
        let mut changes = self.shared.changed.subscribe();
        while !fits(&self.shared.lock()) {
            // It cannot fail: the sender lives in `self`.
            let _ = changes.changed().await;
        }
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Says that something was recorded.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    credential: Option<(String, String)>,
    requests: Vec<Recorded>,
    replies: VecDeque<(Reply, Option<u32>)>,
    connections: usize,
    open: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is recorded and tells those who wait.
    fn note<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let value = change(&mut self.lock());
        self.changed.send_replace(());
        value
    }
}

impl State {
    /// The answer to a request: as told, or from the albums.
    fn answer(&mut self, request: &Recorded) -> Reply {
        if let Some((reply, times)) = self.replies.front_mut() {
            let reply = reply.clone();
            match times {
                Some(left) if *left <= 1 => {
                    self.replies.pop_front();
                }
                Some(left) => *left -= 1,
                None => {}
            }
            return reply;
        }
        content::answer(request, self.credential.as_ref())
    }
}

impl std::fmt::Debug for State {
    // A password is in here.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({} requests)", self.requests.len())
    }
}
