//! Accepting: one socket of one worker, until it is told to stop.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tower::Service;

use super::connection::{self, Shared};
use super::drain::{Cut, UnderWay};
use super::{Event, Settings, Socket, Terms};
use crate::body::Body;
use crate::routing::Request;

/// How long accepting rests when the system gives no connection.
const REST: Duration = Duration::from_millis(100);

/// Serves a socket until `shutdown` is ready, then finishes what is under way, for the time that it gives and `settings.drain` at most. Runs where tasks may be spawned locally.
///
/// `make` builds the worker's service once; each request takes a clone of it. Gives what had to be cut off.
///
/// # Errors
/// When the socket cannot be used at all.
pub async fn serve<S>(socket: Socket, terms: impl Into<Terms>, make: impl FnOnce() -> S, shutdown: impl Future<Output = Duration>) -> io::Result<Cut>
where
    S: Service<Request, Response = http::Response<Body>, Error = Infallible> + Clone + 'static,
{
    let (shared, listener) = Shared::of(socket, terms.into(), make());
    let (shared, listener) = (Rc::new(shared), tokio::net::TcpListener::from_std(listener)?);
    let settings = Arc::clone(&shared.settings);
    let mut tasks = JoinSet::new();
    let admit = |tasks: &mut JoinSet<()>, stream: TcpStream, address: SocketAddr| {
        let settings = shared.terms.now();
        let seat = match shared.terms.seats().take(address.ip(), &settings) {
            Ok(seat) => seat,
            Err(full) => {
                shared.terms.refused(full, address.ip(), &settings);
                (shared.settings.on_event)(Event::Refused);
                return;
            }
        };
        (shared.settings.on_event)(Event::Opened);
        let shared = Rc::clone(&shared);
        tasks.spawn_local(async move {
            connection::serve(stream, address, seat, shared).await;
        });
    };
    let mut shutdown = pin!(shutdown);
    let patience = loop {
        tokio::select! {
            biased;
            patience = &mut shutdown => break patience,
            Some(ended) = tasks.join_next() => closed(ended, &settings),
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    shared.terms.accepted();
                    admit(&mut tasks, stream, address);
                }
                Err(error) if of_one_connection(&error) => {}
                Err(error) => {
                    shared.terms.not_accepted(&error);
                    (settings.on_event)(Event::AcceptFailed);
                    tokio::select! {
                        patience = &mut shutdown => break patience,
                        () = sleep(REST) => {}
                    }
                }
            }
        }
    };
    // The kernel would reset what still waits in the queue of this socket.
    for (stream, address) in queued(&listener.into_std()?) {
        if let Ok(stream) = TcpStream::from_std(stream) {
            admit(&mut tasks, stream, address);
        }
    }
    shared.draining.set(true);
    shared.drain.notify_waiters();
    Ok(drained(tasks, &shared.under_way, &settings, patience.min(settings.drain)).await)
}

/// Waits for the connections that are left, for as long as they may take; then they are dropped.
async fn drained(mut tasks: JoinSet<()>, under_way: &UnderWay, settings: &Settings, patience: Duration) -> Cut {
    let _ = timeout(patience, async {
        while let Some(ended) = tasks.join_next().await {
            closed(ended, settings);
        }
    })
    .await;
    let cut = under_way.cut(tasks.len());
    for _ in 0..tasks.len() {
        (settings.on_event)(Event::Closed);
    }
    cut
}

fn closed(ended: Result<(), JoinError>, settings: &Settings) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("a panic ended a connection");
        (settings.on_event)(Event::Panicked);
    }
    (settings.on_event)(Event::Closed);
}

fn queued(listener: &TcpListener) -> impl Iterator<Item = (std::net::TcpStream, SocketAddr)> + '_ {
    std::iter::from_fn(|| listener.accept().ok()).filter(|(stream, _)| stream.set_nonblocking(true).is_ok())
}

/// Errors that concern the connection that was about to be accepted, not the socket.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted)
}
