//! The stream under TLS: what was read before is wiped from the buffer that is read into.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Wipes the buffer that each read is given, before the read.
///
/// TLS decrypts a record where it was read to, and leaves it there until another is read over it:
/// a PIN would stand in memory for as long as a terminal is silent. TLS reads again as soon as it
/// has handed the record on, and waits in that read, so the record is wiped then.
#[derive(Debug)]
pub(super) struct WipedReads<S>(pub(super) S);

impl<S: AsyncRead + Unpin> AsyncRead for WipedReads<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Not left out by the compiler, because the read below sees it.
        buffer.initialize_unfilled().fill(0);
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WipedReads<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_is_gone_once_the_next_read_waits() {
        let (near, _far) = tokio::io::duplex(64);
        let mut stream = WipedReads(near);
        let mut bytes = *b"a PIN of before";
        let mut buffer = ReadBuf::new(&mut bytes);
        buffer.advance(2);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let read = Pin::new(&mut stream).poll_read(&mut context, &mut buffer);
        assert!(read.is_pending());
        // What lies before the place to be read to is the reader's own.
        assert_eq!(&bytes, b"a \0\0\0\0\0\0\0\0\0\0\0\0\0");
    }
}
