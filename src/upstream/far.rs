//! The server's end of an upgraded connection: the stream that HTTP has left, or one stream of HTTP/2, and what came on it before.

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pool::Busy;
use crate::body::Duplex;

/// The stream. It counts as a request under way and as a connection until it is dropped.
pub(super) struct Far {
    stream: Box<dyn Duplex>,
    early: Bytes,
    _while_open: Box<dyn Any>,
    _busy: Busy,
}

impl Far {
    /// `early` was read from the stream already; `while_open` is dropped with it.
    pub(super) fn new(stream: Box<dyn Duplex>, early: Bytes, while_open: Box<dyn Any>, busy: Busy) -> Self {
        Self { stream, early, _while_open: while_open, _busy: busy }
    }
}

impl AsyncRead for Far {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let size = self.early.len().min(buffer.remaining());
        if let Some(piece) = self.early.get(..size) {
            buffer.put_slice(piece);
        }
        self.early.advance(size);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Far {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
