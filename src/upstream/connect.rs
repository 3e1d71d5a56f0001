//! From a server's address to a connection that requests can be sent over: TCP or a Unix socket, TLS where the server has it, and the protocol that both
//! sides speak. The one place where a connection to a content server is opened.
//!
//! Everything happens within the time for connecting. Nothing here keeps a connection or counts them; the pool does.

use std::any::Any;
use std::cell::RefCell;
use std::error::Error as _;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::h2::{self, OnWorker};
use super::pool::Counted;
use super::resolve::Name;
use super::{Address, Config, Protocol, UpstreamError};
use crate::body::Body;

/// Bounds an answer's head and how much of a body is read at once. An answer has 100 fields at most, which is hyper's own bound.
pub(super) const BUFFER: usize = 64 * 1024;

/// A server as connections to it are opened.
pub(super) struct Connector {
    address: Address,
    /// None: a socket of the file system.
    name: Option<Arc<Name>>,
}

/// A connection that has just been made.
pub(super) enum Made {
    /// One request at a time.
    H1(Single),
    /// Many; beside it what the server says while the connection lives, and the address behind its name.
    H2(http2::SendRequest<Body>, Rc<h2::Said>, Option<SocketAddr>),
}

/// A connection of HTTP/1.1.
pub(super) struct Single {
    pub(super) sender: http1::SendRequest<Body>,
    /// Bytes that have come from the server.
    pub(super) came: Rc<h2::Came>,
    /// The address behind the server's name.
    pub(super) peer: Option<SocketAddr>,
    handoff: Handoff,
}

/// Where whoever wants the bare stream after an upgrade waits for it.
type Handoff = Rc<RefCell<Option<oneshot::Sender<Taken>>>>;

/// A stream that HTTP has left, what came after the last answer, and what is held while it is open.
pub(super) struct Taken {
    pub(super) stream: Counted,
    pub(super) early: Bytes,
    pub(super) while_open: Box<dyn Any>,
}

impl Single {
    /// Where the bare stream arrives if the next request upgrades the connection. To be asked for before that request is sent.
    pub(super) fn taken(&self) -> oneshot::Receiver<Taken> {
        let (sender, receiver) = oneshot::channel();
        *self.handoff.borrow_mut() = Some(sender);
        receiver
    }
}

impl Connector {
    pub(super) fn new(address: &Address) -> Self {
        Self { address: address.clone(), name: address.authority().map(Name::new) }
    }

    /// Whether TLS is spoken.
    pub(super) const fn is_secure(&self) -> bool {
        self.address.is_secure()
    }

    /// Whether a connection to this address still leads to the server.
    pub(super) fn leads_to(&self, peer: Option<&SocketAddr>) -> bool {
        match (&self.name, peer) {
            (Some(name), Some(peer)) => name.includes(peer),
            _ => true,
        }
    }

    /// Connects. `while_open` is dropped when the connection has ended.
    pub(super) async fn connect(&self, config: &Config, protocol: Protocol, while_open: Box<dyn Any>) -> Result<Made, UpstreamError> {
        let time = config.timeouts.connect;
        timeout(time, self.attempt(config, protocol, while_open)).await.unwrap_or(Err(UpstreamError::ConnectTimeout(time)))
    }

    async fn attempt(&self, config: &Config, protocol: Protocol, while_open: Box<dyn Any>) -> Result<Made, UpstreamError> {
        let (stream, peer) = self.open(config.timeouts.connect).await.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => UpstreamError::ConnectTimeout(config.timeouts.connect),
            _ => UpstreamError::Connect(error),
        })?;
        let (stream, agreed) = match stream {
            Stream::Tcp(stream) if self.is_secure() => self.secured(stream, config, protocol).await?,
            stream => (stream, None),
        };
        let h2 = match protocol {
            Protocol::H1 => false,
            Protocol::H2 if self.is_secure() && agreed != Some(true) => return Err(UpstreamError::Protocol),
            Protocol::H2 => true,
            Protocol::Auto => agreed == Some(true),
        };
        let came = Rc::<h2::Came>::default();
        let io = TokioIo::new(Counted::new(stream, Rc::clone(&came), config.timeouts.response));
        if h2 {
            let (sender, connection) =
                h2::bounded(http2::Builder::new(OnWorker).timer(TokioTimer::new())).handshake(io).await.map_err(UpstreamError::Exchange)?;
            let said = h2::Said::nothing(came);
            tokio::task::spawn_local(drive_h2(connection, while_open, Rc::clone(&said)));
            said.settings().await.map_err(UpstreamError::Connect)?;
            return Ok(Made::H2(sender, said, peer));
        }
        let (sender, connection) = http1::Builder::new().max_buf_size(BUFFER).handshake(io).await.map_err(UpstreamError::Exchange)?;
        let handoff = Handoff::default();
        tokio::task::spawn_local(drive(connection, while_open, Rc::clone(&handoff)));
        Ok(Made::H1(Single { sender, came, peer, handoff }))
    }

    /// Opens the socket, to the first address of the server's that takes it.
    async fn open(&self, time: Duration) -> io::Result<(Stream, Option<SocketAddr>)> {
        let name = match (&self.address, &self.name) {
            (Address::Unix(path), _) => return unix(path).await,
            (_, Some(name)) => name,
            (_, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        let addresses = name.addresses().await?;
        // An address that swallows packets leaves time for the others.
        let share = time.checked_div(u32::try_from(addresses.len()).unwrap_or(u32::MAX)).unwrap_or(time);
        let mut last = None;
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Without it the second of two small writes waits for the server's delayed acknowledgement.
                    let _ = stream.set_nodelay(true);
                    return Ok((Stream::Tcp(stream), Some(address)));
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }

    /// Speaks TLS; beside the stream whether HTTP/2 was agreed on.
    async fn secured(&self, stream: TcpStream, config: &Config, protocol: Protocol) -> Result<(Stream, Option<bool>), UpstreamError> {
        let client = config.tls.client(protocol).map_err(UpstreamError::Trust)?;
        let name = config.tls.name(&self.address).ok_or(UpstreamError::Answer("the server's host is no name that a certificate could have"))?;
        let stream = TlsConnector::from(client).connect(name, stream).await.map_err(refused)?;
        let agreed = stream.get_ref().1.alpn_protocol().map(|protocol| protocol == b"h2");
        Ok((Stream::Tls(Box::new(stream)), agreed))
    }
}

async fn unix(path: &Path) -> io::Result<(Stream, Option<SocketAddr>)> {
    Ok((Stream::Unix(UnixStream::connect(path).await?), None))
}

/// Runs a connection of HTTP/2 as long as it takes new requests; what is under way then goes on without it. `while_open` is dropped when nothing new is
/// taken on it.
async fn drive_h2(connection: http2::Connection<TokioIo<Counted>, Body, OnWorker>, while_open: Box<dyn Any>, said: Rc<h2::Said>) {
    let mut connection = pin!(connection);
    loop {
        let driven = poll_fn(|context| {
            let ended = connection.as_mut().poll(context);
            said.most.set(connection.current_max_send_streams());
            said.takes_connect.set(connection.is_extended_connect_protocol_enabled());
            said.ended.set(ended.is_ready());
            said.looked.notify_waiters();
            ended
        });
        tokio::select! {
            biased;
            _ = driven => break,
            () = said.look.notified() => {}
        }
    }
    drop(while_open);
}

/// Runs a connection to its end. How it ends is told to whoever waits for an answer; an idle one may end as it likes.
async fn drive(mut connection: http1::Connection<TokioIo<Counted>, Body>, while_open: Box<dyn Any>, handoff: Handoff) {
    if (&mut connection).await.is_err() {
        return;
    }
    let waiting = handoff.borrow_mut().take();
    if let Some(waiting) = waiting {
        let parts = connection.into_parts();
        let _ = waiting.send(Taken { stream: parts.io.into_inner(), early: parts.read_buf, while_open });
    }
}

/// What TLS says of the server stands inside the error of the stream.
fn refused(error: io::Error) -> UpstreamError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(cause) => UpstreamError::Tls(cause.clone()),
        None => UpstreamError::Connect(error),
    }
}

/// What an operator reads: the error and its causes.
pub(super) fn chain(error: &UpstreamError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Bytes to and from a server.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Does the same with whichever stream it is.
macro_rules! with {
    ($stream:expr, $inner:ident => $then:expr) => {
        match $stream.get_mut() {
            Stream::Tcp($inner) => {
                let $inner = Pin::new($inner);
                $then
            }
            Stream::Unix($inner) => {
                let $inner = Pin::new($inner);
                $then
            }
            Stream::Tls($inner) => {
                let $inner = Pin::new($inner);
                $then
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        with!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        with!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        with!(self, stream => stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(self, stream => stream.poll_shutdown(context))
    }
}
