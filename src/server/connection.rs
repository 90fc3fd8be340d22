//! One connection's bytes and deadlines: frames in, answers out, over TLS upon any stream.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize as _;

use super::dialogue::{Dialogue, Reaction, Then};
use super::metered::{Below, meter, watch};
use crate::limits;
use crate::wire::answer::Answer;
use crate::wire::code::Code;
use crate::wire::frame::{self, Next};

/// An idle connection waits with a buffer of this size; a request of every usual kind fits.
const READ_BYTES_MIN: usize = 512;
/// Answers to pipelined requests wait for each other this long at most.
const FLUSH_DELAY_MAX: Duration = Duration::from_millis(5);
/// What a peer may still send while its connection is closed.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// Deadlines and sizes of one connection, fixed when it is accepted.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The largest payload before log-in.
    pub frame_before_login: usize,
    /// The largest payload after it.
    pub frame_after_login: usize,
    /// From a frame's first byte to its last.
    pub frame_timeout: Duration,
    /// A customer silent this long is logged out.
    pub idle_timeout: Duration,
    /// Every session ends after this long.
    pub session_timeout: Duration,
    /// During a session a peer of which nothing is heard so long, though it should be, is lost.
    pub peer_timeout: Duration,
    /// An answer must be taken within this time.
    pub write_timeout: Duration,
    /// How long the connection may be without a customer.
    pub between: Between,
}

/// How long a connection may be without a customer.
#[derive(Debug, Clone, Copy)]
pub enum Between {
    /// With a certificate: silent this long at most.
    Silent(Duration),
    /// Without one: logged in by then, counted from the start and from each log-out.
    LoggedInBy(Duration),
}

/// What ends a connection from outside.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// The server is going down: finish the request, say 52, close.
    pub draining: CancellationToken,
    /// The terminal is no longer let in: close at once.
    pub expelled: CancellationToken,
}

/// Serves a connection to its end. The session, if any, ends with it.
pub(super) async fn serve<S>(
    stream: &mut TlsStream<Below<S>>,
    dialogue: Dialogue,
    terms: Terms,
    signals: Signals,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let now = Instant::now();
    let mut connection = Connection {
        stream,
        dialogue,
        terms,
        received: BytesMut::new(),
        out: Vec::new(),
        frame_began: None,
        paused_before_frame: Duration::ZERO,
        heard_at: now,
        heartbeat: Heartbeat::default(),
        alone_since: now,
        session_began: now,
        served_at: now,
    };
    let expelled = signals.expelled.clone();
    let goes_on = tokio::select! {
        biased;
        () = expelled.cancelled() => None,
        ending = connection.run(&signals.draining) => Some(ending),
    };
    let Connection {
        stream, dialogue, ..
    } = connection;
    // The account is free before the peer can see the connection's end.
    drop(dialogue);
    if goes_on != Some(Ending::Gone) {
        close(stream, terms.write_timeout).await;
    }
}

/// Sends what is left, close_notify and FIN, then waits a little for the peer to have read it: a
/// socket closed over unread bytes would be reset, and the last answer lost on its way. What still
/// comes is not looked at: behind a close_notify of ours rustls takes no more damage without a word
/// that it may not say.
pub(super) async fn close<S>(stream: &mut TlsStream<Below<S>>, deadline: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    meter(stream).close();
    let lingering = async {
        stream.shutdown().await?;
        let (below_tls, _) = stream.get_mut();
        let mut sink = vec![0; limits::READ_CHUNK_BYTES];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            match below_tls.read(&mut sink).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        std::io::Result::Ok(())
    };
    // Whether the peer was still there makes no difference now.
    let _ = timeout(deadline.min(limits::CLOSE_TIMEOUT), lingering).await;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// What was to be said has been said: close in order.
    Polite,
    /// The peer is gone, or does not read.
    Gone,
}

struct Connection<'s, S> {
    stream: &'s mut TlsStream<Below<S>>,
    dialogue: Dialogue,
    terms: Terms,
    received: BytesMut,
    out: Vec<u8>,
    frame_began: Option<Instant>,
    /// How long the peer had not been read when the frame began.
    paused_before_frame: Duration,
    heard_at: Instant,
    heartbeat: Heartbeat,
    alone_since: Instant,
    session_began: Instant,
    served_at: Instant,
}

enum Event {
    Bytes(usize),
    Lost,
    Deadline(Deadline),
    SessionEnded,
    Draining,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deadline {
    /// A frame took too long: close without an answer.
    Frame,
    /// The customer was silent, or the session too long: 42.
    Session,
    /// Nobody came: close.
    Between,
    /// The peer was over its budget for too long: close without an answer.
    Budget,
    /// The peer's heart has stopped: the session ends, close.
    Peer,
}

/// Whether a client has shown, in a session, that it pings every few seconds.
#[derive(Debug, Default)]
struct Heartbeat {
    in_row: u32,
    last: Option<Instant>,
}

impl Heartbeat {
    fn beat(&mut self, now: Instant) {
        if self.is_shown() {
            return;
        }
        let soon = |last: Instant| now.saturating_duration_since(last) <= limits::HEARTBEAT_GAP_MAX;
        self.in_row = if self.last.is_some_and(soon) {
            self.in_row.saturating_add(1)
        } else {
            1
        };
        self.last = Some(now);
    }

    const fn is_shown(&self) -> bool {
        self.in_row >= limits::HEARTBEAT_PINGS
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn run(&mut self, draining: &CancellationToken) -> Ending {
        loop {
            if let Err(ending) = self.serve_frames(draining).await {
                return ending;
            }
            match self.wait(draining).await {
                // The peer said goodbye in order, and gets the same.
                Event::Bytes(0) => return Ending::Polite,
                Event::Lost => return Ending::Gone,
                Event::Bytes(_) => {
                    self.heard_at = Instant::now();
                    if self.frame_began.is_none() {
                        self.frame_begins(self.heard_at);
                    }
                }
                Event::Draining => {
                    return self
                        .say_and_close(Answer::refused(None, Code::GoingDown))
                        .await;
                }
                // It was not read meanwhile, which is not its fault; or it was heard below TLS.
                Event::Deadline(Deadline::Frame | Deadline::Peer)
                    if self.deadline().0 > Instant::now() => {}
                Event::Deadline(Deadline::Frame | Deadline::Between | Deadline::Budget) => {
                    return Ending::Polite;
                }
                Event::Deadline(Deadline::Peer) => {
                    // Nobody is there to be told.
                    let _ = self.dialogue.end_session("peer lost");
                    return Ending::Polite;
                }
                Event::Deadline(Deadline::Session) => self.end_session("time-out"),
                Event::SessionEnded => self.end_session("ended by the bank"),
            }
        }
    }

    fn frame_begins(&mut self, now: Instant) {
        self.frame_began = Some(now);
        self.paused_before_frame = meter(self.stream).paused();
    }

    /// Answers every whole frame that is here, then flushes.
    async fn serve_frames(&mut self, draining: &CancellationToken) -> Result<(), Ending> {
        let mut unflushed_since = Instant::now();
        loop {
            if draining.is_cancelled() {
                return Err(self
                    .say_and_close(Answer::refused(None, Code::GoingDown))
                    .await);
            }
            if self.session_is_over() {
                self.end_session("time-out");
            }
            let limit = match self.dialogue.session() {
                Some(_) => self.terms.frame_after_login,
                None => self.terms.frame_before_login,
            };
            match frame::next(&self.received, limit) {
                Err(_) => {
                    return Err(self
                        .say_and_close(Answer::refused(None, Code::FrameSize))
                        .await);
                }
                Ok(Next::Needs { more }) => {
                    // An idle connection keeps a small buffer only.
                    if self.received.is_empty() {
                        self.received = BytesMut::new();
                        self.frame_began = None;
                    }
                    self.received
                        .reserve(more.clamp(READ_BYTES_MIN, limits::READ_CHUNK_BYTES));
                    return self.flush().await;
                }
                Ok(Next::Whole { .. }) => {
                    if self.serve_some(limit).await == Then::Close {
                        self.flush().await?;
                        return Err(Ending::Polite);
                    }
                }
            }
            // Answers to pipelined requests go out together, but none waits long for the next.
            let waited = unflushed_since.elapsed() >= FLUSH_DELAY_MAX;
            if waited || self.out.len() >= limits::PENDING_FLUSH_BYTES_MAX {
                self.flush().await?;
                unflushed_since = Instant::now();
            }
        }
    }

    /// Answers the first frame that is here, and with it those behind it that go together with it.
    async fn serve_some(&mut self, limit: usize) -> Then {
        let had_session = self.dialogue.session().is_some();
        meter(self.stream).whole_request();
        let payloads = frame::payloads(&self.received, limit);
        let reactions = self.dialogue.answer_some(payloads).await;
        let mut then = Then::Stay;
        for reaction in reactions {
            if then == Then::Stay {
                then = self.follow(reaction, limit, had_session);
            }
        }
        then
    }

    /// Sends an answer on its way, and does what follows from it.
    fn follow(&mut self, reaction: Reaction, limit: usize, had_session: bool) -> Then {
        let Reaction {
            answer,
            then,
            served,
            beat,
            carried_pin,
        } = reaction;
        if let Ok(Next::Whole { end }) = frame::next(&self.received, limit) {
            let mut frame = self.received.split_to(end);
            if carried_pin {
                frame.zeroize_all();
            }
        }
        let now = Instant::now();
        match self.received.is_empty() {
            true => self.frame_began = None,
            false => self.frame_begins(now),
        }
        self.heard_at = now;
        if served {
            self.served_at = now;
        }
        match (had_session, self.dialogue.session().is_some()) {
            (false, true) => {
                (self.session_began, self.heartbeat) = (now, Heartbeat::default());
                watch(self.stream, Some(self.terms.peer_timeout));
            }
            (true, false) => {
                self.alone_since = now;
                watch(self.stream, None);
            }
            (true, true) if beat => self.heartbeat.beat(now),
            _ => {}
        }
        self.push(&answer);
        if then == Then::EndSession {
            self.end_session("locked");
        }
        then
    }

    async fn wait(&mut self, draining: &CancellationToken) -> Event {
        let (deadline, kind) = self.deadline();
        let ended = self.dialogue.session().map(crate::bank::Session::ended);
        tokio::select! {
            biased;
            () = draining.cancelled() => Event::Draining,
            () = cancelled(ended) => Event::SessionEnded,
            read = self.stream.read_buf(&mut self.received) => match read {
                Ok(count) => Event::Bytes(count),
                Err(_) if meter(self.stream).gave_up() => Event::Deadline(Deadline::Budget),
                Err(_) => Event::Lost,
            },
            () = sleep_until(deadline) => Event::Deadline(kind),
        }
    }

    fn deadline(&mut self) -> (Instant, Deadline) {
        let resting = if self.dialogue.session().is_some() {
            let ends = (self.session_ends(), Deadline::Session);
            let heard_at = self.heard_at.max(meter(self.stream).heard_at());
            let lost_at = heard_at + self.terms.peer_timeout;
            if self.heartbeat.is_shown() && lost_at < ends.0 {
                (lost_at, Deadline::Peer)
            } else {
                ends
            }
        } else {
            match self.terms.between {
                Between::Silent(limit) => (self.heard_at + limit, Deadline::Between),
                Between::LoggedInBy(limit) => (self.alone_since + limit, Deadline::Between),
            }
        };
        let Some(began) = self.frame_began else {
            return resting;
        };
        let paused = meter(self.stream)
            .paused()
            .saturating_sub(self.paused_before_frame);
        let late = began + self.terms.frame_timeout + paused;
        if late < resting.0 {
            (late, Deadline::Frame)
        } else {
            resting
        }
    }

    fn session_ends(&self) -> Instant {
        let idle = self.served_at + self.terms.idle_timeout;
        idle.min(self.session_began + self.terms.session_timeout)
    }

    fn session_is_over(&self) -> bool {
        let ended = self
            .dialogue
            .session()
            .is_some_and(|session| session.ended().is_cancelled());
        ended || (self.dialogue.session().is_some() && self.session_ends() <= Instant::now())
    }

    fn end_session(&mut self, reason: &'static str) {
        if let Some(notice) = self.dialogue.end_session(reason) {
            watch(self.stream, None);
            self.alone_since = Instant::now();
            self.heard_at = self.alone_since;
            self.push(&notice);
        }
    }

    fn push(&mut self, answer: &Answer) {
        if answer.append_frame(&mut self.out).is_err() {
            // Cannot happen with the answers there are; an honest one takes its place.
            tracing::error!("an answer was too large to send");
            let _ = Answer::refused(answer.id, Code::Internal).append_frame(&mut self.out);
        }
    }

    async fn say_and_close(&mut self, answer: Answer) -> Ending {
        self.push(&answer);
        match self.flush().await {
            Ok(()) => Ending::Polite,
            Err(ending) => ending,
        }
    }

    async fn flush(&mut self) -> Result<(), Ending> {
        if self.out.is_empty() {
            return Ok(());
        }
        let writing = async {
            self.stream.write_all(&self.out).await?;
            self.stream.flush().await
        };
        let written = timeout(self.terms.write_timeout, writing).await;
        self.out.clear();
        self.out.shrink_to(limits::PENDING_FLUSH_BYTES_MAX);
        // Until now it was owed an answer.
        self.heard_at = Instant::now();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Ending::Gone),
        }
    }
}

async fn cancelled(token: Option<CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

trait ZeroizeAll {
    fn zeroize_all(&mut self);
}

impl ZeroizeAll for BytesMut {
    fn zeroize_all(&mut self) {
        self.as_mut().zeroize();
    }
}
