//! The one place where a connection to a content server is opened.
//!
//! What comes out speaks HTTP/1.1 over some stream; whoever asked for it does not see over which.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::resolve::Name;
use super::{Address, UpstreamError};

/// What a server's connections are opened with.
pub(super) struct Connector {
    way: Way,
}

enum Way {
    Tcp(Arc<Name>),
    Unix(Box<std::path::Path>),
}

/// An open connection, and where it leads.
pub(super) struct Opened {
    pub(super) stream: Stream,
    /// The address behind the server's name.
    pub(super) peer: Option<SocketAddr>,
}

impl Connector {
    pub(super) fn new(address: &Address) -> Self {
        let way = match address {
            Address::Http(authority) => Way::Tcp(Name::new(authority)),
            Address::Unix(path) => Way::Unix(path.as_path().into()),
        };
        Self { way }
    }

    /// Opens a connection, to the first address of the server's that takes it.
    ///
    /// # Errors
    /// When none stands within `time`.
    pub(super) async fn open(&self, time: Duration) -> Result<Opened, UpstreamError> {
        match timeout(time, self.attempt(time)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(UpstreamError::ConnectTimeout(time)),
            Ok(attempt) => attempt.map_err(UpstreamError::Connect),
            Err(_) => Err(UpstreamError::ConnectTimeout(time)),
        }
    }

    async fn attempt(&self, time: Duration) -> io::Result<Opened> {
        let name = match &self.way {
            Way::Unix(path) => return Ok(Opened { stream: Stream::Unix(UnixStream::connect(path).await?), peer: None }),
            Way::Tcp(name) => name,
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
                    return Ok(Opened { stream: Stream::Tcp(stream), peer: Some(address) });
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }

    /// Whether a connection to this address still leads to the server.
    pub(super) fn leads_to(&self, peer: Option<&SocketAddr>) -> bool {
        match (&self.way, peer) {
            (Way::Tcp(name), Some(peer)) => name.includes(peer),
            _ => true,
        }
    }
}

/// Bytes to and from a server.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
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
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(self, stream => stream.poll_shutdown(context))
    }
}
