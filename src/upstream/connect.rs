//! From a server's address to a connection that requests can be sent over: TCP, TLS where the server has it, and the protocol that both sides speak.
//!
//! Everything happens within the caller's time. Nothing here keeps a connection or counts them; the pool does.

use std::cell::Cell;
use std::error::Error as _;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::h2::{self, OnWorker};
use super::pool::Counted;
use super::{Config, Protocol, Server, UpstreamError};
use crate::body::Body;

/// Bounds an answer's head and how much of a body is read at once. An answer has 100 fields at most, which is hyper's own bound.
const BUFFER: usize = 64 * 1024;

/// A connection that has just been made.
pub(super) enum Made {
    /// One request at a time. Beside it the bytes that have come from the server.
    H1(http1::SendRequest<Body>, Rc<Cell<u64>>),
    /// Many; beside it how many the server allows at a time, as it says while the connection lives.
    H2(http2::SendRequest<Body>, Rc<Cell<usize>>),
}

/// Connects. `while_open` is dropped when the connection has ended.
pub(super) async fn connect(server: &Server, config: &Config, while_open: impl Sized + 'static) -> Result<Made, UpstreamError> {
    let host = server.authority.host();
    let address = (host.trim_start_matches('[').trim_end_matches(']'), server.authority.port_u16().unwrap_or(if server.secure { 443 } else { 80 }));
    let stream = TcpStream::connect(address).await.map_err(UpstreamError::Connect)?;
    // Without it the second of two small writes waits for the server's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let (stream, agreed) = if server.secure { secured(stream, server, config).await? } else { (Stream::Plain(stream), None) };
    let h2 = match config.protocol {
        Protocol::H1 => false,
        Protocol::H2 if server.secure && agreed != Some(true) => return Err(UpstreamError::Protocol),
        Protocol::H2 => true,
        Protocol::Auto => agreed == Some(true),
    };
    let received = Rc::new(Cell::new(0));
    let io = TokioIo::new(Counted::new(stream, Rc::clone(&received)));
    if h2 {
        let (sender, connection) = h2::bounded(http2::Builder::new(OnWorker).timer(TokioTimer::new())).handshake(io).await.map_err(UpstreamError::Exchange)?;
        let most = Rc::new(Cell::new(h2::STREAMS));
        let said = Rc::clone(&most);
        let mut connection = Box::pin(connection);
        let driven = poll_fn(move |context| {
            let ended = connection.as_mut().poll(context);
            said.set(connection.current_max_send_streams());
            ended
        });
        run(driven, while_open);
        return Ok(Made::H2(sender, most));
    }
    let (sender, connection) = http1::Builder::new().max_buf_size(BUFFER).handshake(io).await.map_err(UpstreamError::Exchange)?;
    run(connection, while_open);
    Ok(Made::H1(sender, received))
}

/// How a connection ends is told to whoever waits for an answer; an idle one may end as it likes.
fn run(connection: impl Future + 'static, while_open: impl Sized + 'static) {
    tokio::task::spawn_local(async move {
        let _while_open = while_open;
        let _ = connection.await;
    });
}

/// Speaks TLS; beside the stream whether HTTP/2 was agreed on.
async fn secured(stream: TcpStream, server: &Server, config: &Config) -> Result<(Stream, Option<bool>), UpstreamError> {
    let client = config.tls.client(config.protocol).map_err(UpstreamError::Trust)?;
    let name = config.tls.name(server).ok_or(UpstreamError::Answer("the server's host is no name that a certificate could have"))?;
    let stream = TlsConnector::from(client).connect(name, stream).await.map_err(refused)?;
    let agreed = stream.get_ref().1.alpn_protocol().map(|protocol| protocol == b"h2");
    Ok((Stream::Tls(Box::new(stream)), agreed))
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

/// The bytes of one connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
