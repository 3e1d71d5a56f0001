//! A listening socket that can be shut and opened again on the same address, with every connection that came through it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Connections that wait to be accepted, as the library has it where nobody says anything.
const BACKLOG: u32 = 1024;

/// Shuts and opens a socket. Clones are the same door and may go to other threads.
#[derive(Clone, Debug)]
pub(super) struct Door {
    wanted: watch::Sender<bool>,
    listening: watch::Receiver<bool>,
}

impl Door {
    /// Accepts from now on, on the caller's runtime; each connection is a task of its own. Aborting the returned task breaks them all.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn open<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> io::Result<(Self, JoinHandle<()>)>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr()?;
        let (wanted, wish) = watch::channel(true);
        let (status, listening) = watch::channel(true);
        let task = tokio::spawn(run(listener, address, wish, status, serve));
        Ok((Self { wanted, listening }, task))
    }

    /// Stops listening and breaks every connection; when this returns the address refuses.
    pub async fn shut(&self) {
        self.wanted.send_replace(false);
        // An error means that the server is gone altogether.
        let _ = self.listening.clone().wait_for(|up| !*up).await;
    }

    /// Listens again on the same address.
    pub async fn reopen(&self) {
        self.wanted.send_replace(true);
        let _ = self.listening.clone().wait_for(|up| *up).await;
    }
}

/// The address without listening on it: whoever connects is refused, and nobody gets its port by chance.
fn hold(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn run<F>(
    listener: TcpListener,
    address: SocketAddr,
    mut wish: watch::Receiver<bool>,
    status: watch::Sender<bool>,
    serve: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        if !*wish.borrow_and_update() {
            drop(listener.take());
            let held = hold(address).ok();
            connections.shutdown().await;
            status.send_replace(false);
            if wish.wait_for(|up| *up).await.is_err() {
                return;
            }
            listener = held.and_then(|held| held.listen(BACKLOG).ok());
        }
        let again = || hold(address).and_then(|held| held.listen(BACKLOG));
        let Some(open) = listener.take().or_else(|| again().ok()) else {
            // Somebody else listens there; the address may come free.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        status.send_replace(true);
        tokio::select! {
            accepted = open.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(serve(stream));
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            changed = wish.changed() => if changed.is_err() {
                return;
            },
        }
        listener = Some(open);
    }
}
