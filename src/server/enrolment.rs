//! Connections under `enroll/1`: short, few, and slow to answer whoever tries many codes.

use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use data_encoding::HEXLOWER;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::server::TlsStream;
use zeroize::Zeroize as _;

use super::handshakes::{Bounds, Handshakes, InHandshake};
use super::metered::{Below, meter};
use super::tls::{Trust, terminal_of};
use super::turns::Payer;
use super::{Live, Server, connection};
use crate::access::throttle::{
    AddressBlock, ConnectionThrottle, KeyedThrottle, Rate, Requester, RetryAfter,
};
use crate::config::EnrollConfig;
use crate::domain::TerminalName;
use crate::enroll::{Issuing, NotIssued};
use crate::limits;
use crate::pki::{CertificateFacts, SigningRequest};
use crate::store::{CodeHash, Warrant};
use crate::surroundings::Surroundings;
use crate::wire::code::Code;
use crate::wire::enroll::{EnrolAnswer, EnrolEnvelope, EnrolRequest};
use crate::wire::frame::{self, HEADER_BYTES, Next};
use crate::wire::request::Unreadable;

/// One answer for every code that does not do, so that nobody learns why.
const NO_SUCH_CODE: &str = "no certificate for this code";

/// What enrolment may take of the server; replaced at a reload.
pub(super) struct Gate {
    /// By address with a code, by name with a certificate.
    attempts: KeyedThrottle<Requester>,
    attempts_of_all: ConnectionThrottle,
    /// Connections that showed no certificate, while they wait for a message.
    strangers: Room<AddressBlock>,
    /// Those that showed one. They have a room of their own, so that no crowd of strangers keeps a
    /// terminal from its next certificate, nor does another terminal, from however many addresses.
    certified: Room<TerminalName>,
    lifetime: Duration,
}

/// Where connections wait for a message: so many and no more, and where it is full the one that has
/// waited longest makes room. Who has something to say says it at once.
struct Room<K> {
    waiting: Arc<Handshakes<K>>,
    bounds: Bounds,
    entered: AtomicU64,
}

impl<K: Clone + Eq + Hash> Room<K> {
    fn new(bounds: Bounds) -> Self {
        Self {
            waiting: Arc::default(),
            bounds,
            entered: AtomicU64::new(0),
        }
    }

    /// A place for as long as it takes to hear a message; dropping it gives it back.
    fn enter(&self, whose: K) -> InHandshake<K> {
        let number = self.entered.fetch_add(1, Ordering::Relaxed);
        self.waiting.enter(number, whose, self.bounds)
    }
}

/// A place in one of the rooms.
enum Place {
    Stranger(InHandshake<AddressBlock>),
    Certified(InHandshake<TerminalName>),
}

impl Place {
    async fn displaced(&self) {
        match self {
            Self::Stranger(place) => place.displaced().await,
            Self::Certified(place) => place.displaced().await,
        }
    }
}

impl Gate {
    pub(super) fn new(config: &EnrollConfig, surroundings: &Arc<dyn Surroundings>) -> Self {
        let per_minute = |count| Rate {
            count,
            per: Duration::from_secs(60),
            burst: count,
        };
        let each = per_minute(config.attempts_per_minute_per_ip);
        let all = per_minute(config.attempts_per_minute);
        let room_for = |each| Bounds {
            all: config.max_connections,
            each,
        };
        Self {
            attempts: KeyedThrottle::new(each, Arc::clone(surroundings)),
            attempts_of_all: ConnectionThrottle::new(all, Arc::clone(surroundings)),
            strangers: Room::new(room_for(config.max_connections_per_ip)),
            certified: Room::new(room_for(limits::ENROLMENT_CONNECTIONS_PER_TERMINAL_MAX)),
            lifetime: config.certificate,
        }
    }

    fn place_for(&self, caller: &Caller) -> Place {
        match &caller.shown {
            Some(shown) => Place::Certified(self.certified.enter(shown.terminal.clone())),
            None => Place::Stranger(self.strangers.enter(caller.address.ip().into())),
        }
    }

    /// Every message counts, whatever is in it. Whoever tries codes is stopped by address first, so
    /// that one address cannot use up what all have.
    fn admit(&self, caller: &Caller) -> Result<(), RetryAfter> {
        self.attempts.check(&caller.requester())?;
        match &caller.shown {
            Some(_) => Ok(()),
            None => self.attempts_of_all.check(),
        }
    }
}

/// Who is at the other end.
struct Caller {
    address: SocketAddr,
    connection: u64,
    /// The certificate of the handshake, verified there.
    shown: Option<Shown>,
}

impl Caller {
    /// Who is counted: a terminal by its certificate, others by address.
    fn requester(&self) -> Requester {
        match &self.shown {
            Some(shown) => Requester::Terminal(shown.terminal.clone()),
            None => Requester::Address(self.address.ip().into()),
        }
    }
}

struct Shown {
    terminal: TerminalName,
    serial: String,
}

impl Server {
    /// One connection that came to enrol, from its handshake to its end.
    pub(super) async fn serve_enrolment<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut TlsStream<Below<S>>,
        trust: &Trust,
        (address, connection, payer): (SocketAddr, u64, &Payer),
        live: &Live,
    ) -> Result<(), &'static str> {
        let write_timeout = live.config.server.write_timeout;
        let shown = match stream.get_ref().1.peer_certificates() {
            None => None,
            Some(chain) => {
                let now = self.bank.surroundings().now();
                // The trust may be newer than the handshake.
                let admitted = self.trust.load().admits_to_renew(chain, now);
                let facts = chain.first().map(|own| CertificateFacts::read(own));
                match (terminal_of(chain), facts) {
                    (Some(terminal), Some(Ok(facts)))
                        if admitted && !self.disabled.load().contains(&terminal) =>
                    {
                        let serial = facts.serial.to_string();
                        Some(Shown { terminal, serial })
                    }
                    _ => {
                        connection::close(stream, write_timeout).await;
                        return Err("terminal not let in");
                    }
                }
            }
        };
        let caller = Caller {
            address,
            connection,
            shown,
        };
        self.charge(stream, payer, caller.requester(), live);
        let talk = self.talk(stream, trust, &caller, live);
        let ending = tokio::select! {
            biased;
            () = self.draining.cancelled() => {
                Some(refused(None, Code::GoingDown))
            }
            talked = timeout(limits::ENROLMENT_TIMEOUT, talk) => talked.unwrap_or(None),
        };
        if let Some(answer) = &ending {
            let _ = timeout(write_timeout, send(stream, answer)).await;
        }
        connection::close(stream, write_timeout).await;
        match ending {
            Some(answer) if answer.code == Code::Full => Err("too many enrolments"),
            _ => Ok(()),
        }
    }

    /// Answers what comes, up to the last message that a connection may send. What it returns is
    /// still to be said.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut TlsStream<Below<S>>,
        trust: &Trust,
        caller: &Caller,
        live: &Live,
    ) -> Option<EnrolAnswer> {
        let mut received = BytesMut::new();
        let frame_timeout = live.config.server.frame_timeout;
        for number in 0..limits::ENROLMENT_MESSAGES_MAX {
            let patience = match (number, &caller.shown) {
                (0, None) => limits::ENROLMENT_FIRST_MESSAGE_TIMEOUT,
                _ => limits::ENROLMENT_TIMEOUT,
            };
            let waiting = live.gate.place_for(caller);
            let heard = tokio::select! {
                biased;
                heard = timeout(patience, receive(stream, &mut received, frame_timeout)) => heard,
                () = waiting.displaced() => return Some(refused(None, Code::Full)),
            };
            drop(waiting);
            let mut payload = match heard {
                Ok(Received::Payload(payload)) => payload,
                Ok(Received::TooLarge) => return Some(refused(None, Code::FrameSize)),
                Ok(Received::Nothing) | Err(_) => return None,
            };
            let answer = self.answer_enrolment(&payload, trust, caller, live).await;
            // A code that was not used yet is worth as much as a PIN.
            payload.as_mut().zeroize();
            send(stream, &answer).await.ok()?;
        }
        None
    }

    async fn answer_enrolment(
        &self,
        payload: &[u8],
        trust: &Trust,
        caller: &Caller,
        live: &Live,
    ) -> EnrolAnswer {
        let EnrolEnvelope { id, request } = EnrolEnvelope::parse(payload);
        let op = request.as_ref().map_or("none", EnrolRequest::op);
        let answer = match live.gate.admit(caller) {
            Err(RetryAfter(wait_ms)) => too_many(id, wait_ms),
            Ok(()) => match request {
                Err(Unreadable::UnknownOp) => refused(id, Code::UnknownOp),
                Err(Unreadable::Malformed) => refused(id, Code::Malformed),
                Ok(request) => self.issue(id, request, trust, caller, live).await,
            },
        };
        self.metrics.count_request(op, answer.code);
        let terminal = caller.shown.as_ref().map(|shown| shown.terminal.as_str());
        let (connection, address) = (caller.connection, caller.address);
        let code = answer.code.number();
        if answer.code == Code::Done || self.lines.admit(&caller.requester()) {
            tracing::info!(connection, %address, terminal, op, code, "enrolment answered");
        }
        answer
    }

    async fn issue(
        &self,
        id: Option<u64>,
        request: EnrolRequest,
        trust: &Trust,
        caller: &Caller,
        live: &Live,
    ) -> EnrolAnswer {
        let Some(enrolment) = &trust.enrolment else {
            return refused(id, Code::Internal);
        };
        let (warrant, csr) = match (request, &caller.shown) {
            (EnrolRequest::Enroll { code, csr }, _) => (Warrant::Code(CodeHash::of(&code)), csr),
            (EnrolRequest::Renew { csr }, Some(shown)) => {
                (Warrant::Certificate(shown.serial.clone()), csr)
            }
            (EnrolRequest::Renew { .. }, None) => {
                return EnrolAnswer::refused(id, Code::NotLoggedIn, "renewing needs a certificate");
            }
        };
        let request = match SigningRequest::read(&csr) {
            Ok(request) => request,
            Err(wrong) => {
                tracing::debug!(connection = caller.connection, %wrong, "signing request refused");
                let message = "the signing request is not one of PKCS#10 for ECDSA P-256, signed with its key";
                return EnrolAnswer::refused(id, Code::Malformed, message);
            }
        };
        let issuing = Issuing {
            authority: &enrolment.issuing,
            lifetime: live.gate.lifetime,
        };
        let terminal = caller.shown.as_ref().map(|shown| &shown.terminal);
        let from = (caller.connection, terminal);
        let issued = issuing
            .certificate(&self.bank, warrant, &request, from)
            .await;
        match issued {
            Ok(der) => EnrolAnswer::done(id, &[&der, enrolment.issuing.certificate()]),
            Err(NotIssued::Void) => EnrolAnswer::refused(id, Code::NoMatch, NO_SUCH_CODE),
            Err(NotIssued::TooMany(wait_ms)) => too_many(id, wait_ms),
            Err(NotIssued::Storage(error)) => {
                if self.lines.admit(&caller.requester()) {
                    tracing::error!(connection = caller.connection, %error, "storage unavailable");
                }
                refused(id, Code::StorageUnavailable)
            }
            Err(NotIssued::Signing(error)) => {
                let reference = HEXLOWER.encode(&self.bank.surroundings().random()[..6]);
                tracing::error!(connection = caller.connection, reference, %error, "cannot sign");
                EnrolAnswer {
                    reference: Some(reference),
                    ..refused(id, Code::Internal)
                }
            }
        }
    }
}

fn refused(id: Option<u64>, code: Code) -> EnrolAnswer {
    EnrolAnswer::refused(id, code, code.message())
}

fn too_many(id: Option<u64>, wait_ms: u64) -> EnrolAnswer {
    EnrolAnswer {
        retry_after_ms: Some(wait_ms),
        ..refused(id, Code::TooMany)
    }
}

enum Received {
    Payload(BytesMut),
    TooLarge,
    /// The peer is gone, or began a frame and did not end it in time.
    Nothing,
}

async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut TlsStream<Below<S>>,
    received: &mut BytesMut,
    frame_timeout: Duration,
) -> Received {
    let mut began = (!received.is_empty()).then(Instant::now);
    let paused_before = meter(stream).paused();
    loop {
        match frame::next(received, limits::ENROLMENT_FRAME_BYTES_MAX) {
            Err(_) => return Received::TooLarge,
            Ok(Next::Whole { end }) => {
                let mut payload = received.split_to(end);
                payload.advance(HEADER_BYTES);
                return Received::Payload(payload);
            }
            Ok(Next::Needs { more }) => received.reserve(more),
        }
        let Some(since) = began else {
            match stream.read_buf(received).await {
                Ok(0) | Err(_) => return Received::Nothing,
                Ok(_) => began = Some(Instant::now()),
            }
            continue;
        };
        // Time in which the peer was not read is not its own.
        let paused = meter(stream).paused().saturating_sub(paused_before);
        let ends = since + frame_timeout + paused;
        if ends <= Instant::now() {
            return Received::Nothing;
        }
        if let Ok(Ok(0) | Err(_)) = timeout_at(ends, stream.read_buf(received)).await {
            return Received::Nothing;
        }
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, answer: &EnrolAnswer) -> std::io::Result<()> {
    let mut out = Vec::new();
    answer
        .append_frame(&mut out)
        .map_err(std::io::Error::other)?;
    stream.write_all(&out).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests;
