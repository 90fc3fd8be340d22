//! A stream whose other end is held by hand: what comes, in which pieces, and what may go.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One stream; clones are the same one. Bounded by what the holder puts in and lets out.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<Ends>>);

/// Both directions, as the holder sees them.
pub(super) struct Ends {
    inbound: VecDeque<u8>,
    ended: bool,
    broken: bool,
    /// A read gets at most so many bytes; 1 or more.
    pub(super) chunk: usize,
    /// So many bytes may still be written before writers wait.
    pub(super) room: usize,
    /// What was written and not yet taken.
    pub(super) outbound: Vec<u8>,
    /// Bytes read so far.
    pub(super) taken: usize,
    wakers: Vec<Waker>,
}

impl Wire {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Ends {
            inbound: VecDeque::new(),
            ended: false,
            broken: false,
            chunk: usize::MAX,
            room: usize::MAX,
            outbound: Vec::new(),
            taken: 0,
            wakers: Vec::new(),
        })))
    }

    /// The holder's view.
    pub(super) fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ends {
    /// More to read; nothing where the stream has ended.
    pub(super) fn bring(&mut self, bytes: &[u8]) {
        if !self.ended {
            self.inbound.extend(bytes);
        }
        self.wake();
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.wake();
    }

    /// Neither direction works from now on.
    pub(super) fn tear(&mut self) {
        self.broken = true;
        self.wake();
    }

    /// From now on so many bytes may be written.
    pub(super) fn give_room(&mut self, room: usize) {
        self.room = room;
        self.wake();
    }

    /// Whether everything that came was read and nothing ended it.
    pub(super) fn is_drained(&self) -> bool {
        self.inbound.is_empty() && !self.ended && !self.broken
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut ends = self.ends();
        if ends.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if ends.inbound.is_empty() && !ends.ended {
            ends.wakers.push(context.waker().clone());
            return Poll::Pending;
        }
        let (front, _) = ends.inbound.as_slices();
        let count = front.len().min(ends.chunk).min(buffer.remaining());
        buffer.put_slice(&front[..count]);
        ends.inbound.drain(..count);
        ends.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut ends = self.ends();
        if ends.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if ends.room == 0 && !bytes.is_empty() {
            ends.wakers.push(context.waker().clone());
            return Poll::Pending;
        }
        let count = bytes.len().min(ends.room);
        ends.outbound.extend_from_slice(&bytes[..count]);
        if ends.room != usize::MAX {
            ends.room -= count;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
