//! The stream below TLS: what comes is counted before TLS sees it, by the headers of records, which
//! no peer can hide; and handed on a few records at a time, so that other peers are served between.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::server::TlsStream;

use super::budget::{Clock, Prices, Ration, Taken};
use super::wiped::WipedReads;
use crate::limits;
use crate::telemetry::Metrics;

/// What a server's TLS reads from and writes to.
pub(super) type Below<S> = WipedReads<Metered<S>>;

/// The meter below a connection's TLS.
pub(super) fn meter<S>(stream: &mut TlsStream<Below<S>>) -> &mut Meter {
    &mut stream.get_mut().0.0.meter
}

/// Has the system look after a peer that is lost by then, where one is given; else as ever.
pub(super) type Watch<S> = fn(&S, Option<Duration>);

/// Watches the peer of a connection's TLS.
pub(super) fn watch<S>(stream: &TlsStream<Below<S>>, lost_after: Option<Duration>) {
    let metered = &stream.get_ref().0.0;
    (metered.watch)(&metered.stream, lost_after);
}

/// Counts a peer's octets and records, and says when it may be read again.
#[derive(Debug)]
pub(super) struct Meter {
    metrics: Arc<Metrics>,
    stage: Stage,
    records: Records,
    /// Reads and records since the peer was last waited for, or let others go first.
    reads: usize,
    together: usize,
    /// Until then the peer is not read.
    due: Option<Instant>,
    pause: Option<Pin<Box<Sleep>>>,
    paused: Duration,
    /// Since then the peer has been over a budget, without a whole request and with more to be read.
    over_since: Option<Instant>,
    gave_up: bool,
    heard_at: Instant,
}

#[derive(Debug)]
enum Stage {
    /// So many octets and records may still come.
    Handshake(usize, usize),
    Served(Box<Budgets>),
    /// What comes is not looked at.
    Closing,
}

/// What a connection pays from.
#[derive(Debug)]
pub(super) struct Budgets {
    pub(super) clock: Clock,
    /// Of the connection and of its terminal.
    pub(super) prices: (Prices, Prices),
    pub(super) ration: Arc<Ration>,
    octets: Taken,
    records: Taken,
}

impl Budgets {
    pub(super) fn new(clock: Clock, prices: (Prices, Prices), ration: Arc<Ration>) -> Self {
        Self {
            clock,
            prices,
            ration,
            octets: Taken::default(),
            records: Taken::default(),
        }
    }

    /// Pays at `now`: when the peer may be read again, and which budget says so.
    fn pay(&self, now: Instant, octets: usize, records: usize) -> (Instant, &'static str) {
        let now = self.clock.ticks(now);
        let (connection, terminal) = self.prices;
        let take = |taken: &Taken, price, count: usize| {
            taken.take(
                now,
                price,
                u64::try_from(count).unwrap_or(u64::MAX),
                u64::MAX,
            )
        };
        let own = take(&self.octets, connection.octets, octets).max(take(
            &self.records,
            connection.records,
            records,
        ));
        let shared = take(&self.ration.octets, terminal.octets, octets).max(take(
            &self.ration.records,
            terminal.records,
            records,
        ));
        let budget = if own >= shared {
            "connection"
        } else {
            "terminal"
        };
        (self.clock.instant(own.max(shared)), budget)
    }
}

impl Meter {
    fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            stage: Stage::Handshake(limits::HANDSHAKE_OCTETS_MAX, limits::HANDSHAKE_RECORDS_MAX),
            records: Records::default(),
            reads: 0,
            together: 0,
            due: None,
            pause: None,
            paused: Duration::ZERO,
            over_since: None,
            gave_up: false,
            heard_at: Instant::now(),
        }
    }

    /// The handshake is over: from here on the peer pays.
    pub(super) fn begin(&mut self, budgets: Budgets) {
        self.stage = Stage::Served(Box::new(budgets));
    }

    /// Nothing that comes counts any more.
    pub(super) fn close(&mut self) {
        self.stage = Stage::Closing;
        (self.due, self.pause) = (None, None);
    }

    /// A whole request came.
    pub(super) fn whole_request(&mut self) {
        self.over_since = self.due.map(|_| Instant::now());
    }

    /// How long the peer was not read, all together, and will not be.
    pub(super) const fn paused(&self) -> Duration {
        self.paused
    }

    /// When the peer was heard last, or from when on it can be heard again.
    pub(super) const fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// The peer was over a budget for too long.
    pub(super) const fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Ready once the peer may be read.
    fn poll_may_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some((due, since)) = self.due.zip(self.over_since) {
            let ends = since + limits::OVER_BUDGET_MAX;
            let pause = self
                .pause
                .get_or_insert_with(|| Box::pin(sleep_until(due.min(ends))));
            ready!(pause.as_mut().poll(context));
            (self.due, self.pause) = (None, None);
            if ends <= Instant::now() {
                self.gave_up = true;
                self.metrics.count_refused("over its budget");
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        let rests = self.reads >= limits::READS_TOGETHER_MAX
            || self.together >= limits::RECORDS_TOGETHER_MAX;
        if rests {
            (self.reads, self.together) = (0, 0);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// The peer has sent nothing more: it is waited for.
    fn caught_up(&mut self) {
        (self.reads, self.together) = (0, 0);
        self.over_since = None;
    }

    /// Counts what is handed on.
    fn count(&mut self, octets: usize, records: usize) -> io::Result<()> {
        self.reads += 1;
        self.together += records;
        match &mut self.stage {
            Stage::Handshake(octets_left, records_left) => {
                let left = octets_left
                    .checked_sub(octets)
                    .zip(records_left.checked_sub(records));
                let left = left.ok_or(io::ErrorKind::InvalidData)?;
                (*octets_left, *records_left) = left;
            }
            Stage::Served(budgets) => {
                let now = Instant::now();
                let (due, budget) = budgets.pay(now, octets, records);
                self.heard_at = due.max(now);
                if due > now {
                    self.over_since.get_or_insert(now);
                    self.due = Some(due);
                    self.paused += due - now;
                    self.metrics.count_delayed(budget);
                }
            }
            Stage::Closing => {}
        }
        Ok(())
    }
}

/// Where in a record the stream is.
#[derive(Debug, Default)]
struct Records {
    /// Octets of the header that were seen.
    header: u8,
    length: u16,
    /// Octets of the payload that are to come.
    left: usize,
}

impl Records {
    /// Goes on over `octets`, until so many records have ended; how many octets that was, and how
    /// many records.
    fn follow(&mut self, octets: &[u8], records_max: usize) -> (usize, usize) {
        let (mut at, mut ended) = (0, 0);
        while ended < records_max
            && let Some(next) = octets.get(at)
        {
            if self.left > 0 {
                let step = self.left.min(octets.len() - at);
                at += step;
                self.left -= step;
                ended += usize::from(self.left == 0);
                continue;
            }
            // Type, version, length: RFC 8446, section 5.1.
            at += 1;
            self.header += 1;
            match self.header {
                4 => self.length = u16::from(*next) << 8,
                5 => {
                    self.left = usize::from(self.length | u16::from(*next));
                    self.header = 0;
                    ended += usize::from(self.left == 0);
                }
                _ => {}
            }
        }
        (at, ended)
    }
}

/// A stream whose peer is read no faster than it may be.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    watch: Watch<S>,
    /// In a box: the stream is moved from future to future, and each keeps room for it.
    meter: Box<Meter>,
    /// What was read beyond a few records, and how much of it was handed on.
    held: Vec<u8>,
    held_at: usize,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, watch: Watch<S>, metrics: Arc<Metrics>) -> Self {
        Self {
            stream,
            watch,
            meter: Box::new(Meter::new(metrics)),
            held: Vec::new(),
            held_at: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> Metered<S> {
    /// What comes next: what is held, or else what the stream has.
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let held = self.held.get(self.held_at..).unwrap_or_default();
        if held.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let some = held.len().min(buffer.remaining());
        buffer.put_slice(held.get(..some).unwrap_or_default());
        Poll::Ready(Ok(()))
    }

    /// Keeps what lies behind `end` for later.
    fn hold(&mut self, buffer: &mut ReadBuf<'_>, (begin, end): (usize, usize)) {
        if self.held_at < self.held.len() {
            self.held_at += end - begin;
            if self.held_at >= self.held.len() {
                (self.held, self.held_at) = (Vec::new(), 0);
            }
        } else if let Some(rest @ [_, ..]) = buffer.filled().get(end..) {
            self.held = rest.to_vec();
        }
        buffer.set_filled(end);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.meter.poll_may_read(context))?;
        let begin = buffer.filled().len();
        match this.poll_next(context, buffer) {
            Poll::Pending => {
                this.meter.caught_up();
                return Poll::Pending;
            }
            Poll::Ready(read) => read?,
        }
        let fresh = buffer.filled().get(begin..).unwrap_or_default();
        let meter = &mut this.meter;
        let (octets, records) = meter.records.follow(fresh, limits::RECORDS_TOGETHER_MAX);
        this.hold(buffer, (begin, begin + octets));
        Poll::Ready(this.meter.count(octets, records))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
