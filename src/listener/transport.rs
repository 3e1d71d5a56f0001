//! From an accepted socket to a stream of plain bytes and the protocol that is spoken over it.
//!
//! TLS is spoken where the listener has it; HTTP/2 is chosen by ALPN, or, where the listener says `h2c`, by its preface. All of it happens within the time
//! for the first head, and no worker has more than so many handshakes under way.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::Shared;
use super::first_head::first_head;
use super::watchdog::Watchdog;
use super::{Event, Tls};
use crate::routing::ClientCertificate;

/// RFC 9113, 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of an answer that TLS holds until the socket takes them: two records. Its own bound is 64 KiB.
const TLS_BUFFER: usize = 32 * 1024;

/// The bytes of one connection.
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What is spoken over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    H1,
    H2,
}

/// A connection that can be served.
pub(super) struct Opened {
    pub(super) transport: Transport,
    pub(super) protocol: Protocol,
    /// What was read to find the protocol out, or of the head that is awaited.
    pub(super) begun: Bytes,
}

/// Opens the connection, and waits for what is asked first over HTTP/1; nothing when that does not come in its time.
pub(super) async fn open<S>(stream: TcpStream, watchdog: &Watchdog, shared: &Shared<S>) -> Option<Opened> {
    let opened = agree(stream, watchdog.until_open(), shared).await?;
    if opened.protocol == Protocol::H1 { asked(opened, watchdog, shared).await } else { Some(opened) }
}

/// Waits for what is asked next over HTTP/1; nothing when that does not come in its time.
pub(super) async fn asked<S>(mut opened: Opened, watchdog: &Watchdog, shared: &Shared<S>) -> Option<Opened> {
    let begun = mem::take(&mut opened.begun);
    let Some(begun) = first_head(&mut opened.transport, begun, watchdog, shared).await else {
        (shared.settings.on_event)(Event::Expired);
        return None;
    };
    opened.begun = begun;
    Some(opened)
}

/// Finds out what is spoken; nothing when that is not known by `until`.
async fn agree<S>(stream: TcpStream, until: Instant, shared: &Shared<S>) -> Option<Opened> {
    let event = &shared.settings.on_event;
    if let Some(tls) = &shared.tls {
        // Nothing is prepared for one that says nothing, and it takes nobody's place.
        let Ok(Ok(1..)) = timeout_at(until, stream.peek(&mut [0])).await else {
            event(Event::HandshakeFailed);
            return None;
        };
        let Some(_place) = Place::take(&shared.handshakes, shared.settings.handshakes) else {
            event(Event::Refused);
            return None;
        };
        // A box: no connection holds the room for a handshake that is over.
        let Ok(Ok(opened)) = timeout_at(until, Box::pin(handshake(stream, tls))).await else {
            event(Event::HandshakeFailed);
            return None;
        };
        return Some(opened);
    }
    if !shared.h2c {
        return Some(Opened { transport: Transport::Plain(stream), protocol: Protocol::H1, begun: Bytes::new() });
    }
    if let Ok(Ok(opened)) = timeout_at(until, preface(stream)).await {
        return Some(opened);
    }
    event(Event::Expired);
    None
}

async fn handshake(stream: TcpStream, tls: &Tls) -> io::Result<Opened> {
    let mut stream = TlsAcceptor::from(tls.server()).accept(stream).await?;
    stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
    let protocol = if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Protocol::H2 } else { Protocol::H1 };
    Ok(Opened { transport: Transport::Tls(Box::new(stream)), protocol, begun: Bytes::new() })
}

/// Reads until it is certain whether HTTP/2 begins.
async fn preface(mut stream: TcpStream) -> io::Result<Opened> {
    let mut begun = Vec::with_capacity(PREFACE.len());
    while begun.len() < PREFACE.len() && PREFACE.starts_with(&begun) {
        let left = PREFACE.len().saturating_sub(begun.len()) as u64;
        if (&mut stream).take(left).read_buf(&mut begun).await? == 0 {
            break;
        }
    }
    let protocol = if begun == PREFACE { Protocol::H2 } else { Protocol::H1 };
    Ok(Opened { transport: Transport::Plain(stream), protocol, begun: begun.into() })
}

/// One of the handshakes that may be under way.
struct Place<'a>(&'a Cell<usize>);

impl<'a> Place<'a> {
    fn take(count: &'a Cell<usize>, most: usize) -> Option<Self> {
        (count.get() < most).then(|| {
            count.set(count.get().saturating_add(1));
            Self(count)
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Transport {
    /// The socket below.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// The certificate that the client has shown. One that cannot be read is as if there were none: no guard accepts it.
    pub(super) fn certificate(&self) -> Option<Arc<ClientCertificate>> {
        let Self::Tls(stream) = self else { return None };
        let shown = stream.get_ref().1.peer_certificates()?.first()?;
        ClientCertificate::read(shown).map(Arc::new)
    }

    /// The scheme that the client used.
    pub(super) const fn scheme(&self) -> &'static str {
        match self {
            Self::Plain(_) => "http",
            Self::Tls(_) => "https",
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
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
