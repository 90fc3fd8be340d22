//! Connections under `enroll/1`: short, few, and slow to answer whoever tries many codes.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use zeroize::Zeroize as _;

use super::tls::{Trust, terminal_of};
use super::{Live, Server, connection};
use crate::access::throttle::{
    AddressBlock, AddressCounts, AddressPlace, ConnectionThrottle, KeyedThrottle, Rate, Requester,
    RetryAfter,
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
    places: Arc<Semaphore>,
    addresses: Arc<AddressCounts>,
    max_per_address: usize,
    lifetime: std::time::Duration,
}

/// A place for one connection; dropping it gives it back.
pub(super) struct GatePlace {
    _permit: OwnedSemaphorePermit,
    _address: AddressPlace,
}

impl Gate {
    pub(super) fn new(config: &EnrollConfig, surroundings: &Arc<dyn Surroundings>) -> Self {
        let per_minute = |count| Rate {
            count,
            per: std::time::Duration::from_secs(60),
            burst: count,
        };
        let each = per_minute(config.attempts_per_minute_per_ip);
        let all = per_minute(config.attempts_per_minute);
        let places = config.max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            attempts: KeyedThrottle::new(each, Arc::clone(surroundings)),
            attempts_of_all: ConnectionThrottle::new(all, Arc::clone(surroundings)),
            places: Arc::new(Semaphore::new(places)),
            addresses: Arc::default(),
            max_per_address: config.max_connections_per_ip,
            lifetime: config.certificate,
        }
    }

    pub(super) fn enter(&self, address: SocketAddr) -> Option<GatePlace> {
        let block = AddressBlock::from(address.ip());
        Some(GatePlace {
            _address: self.addresses.enter(block, self.max_per_address)?,
            _permit: Arc::clone(&self.places).try_acquire_owned().ok()?,
        })
    }

    /// Every message counts, whatever is in it. Whoever tries codes is stopped by address first, so
    /// that one address cannot use up what all have.
    fn admit(&self, caller: &Caller) -> Result<(), RetryAfter> {
        match &caller.shown {
            Some(shown) => self
                .attempts
                .check(&Requester::Terminal(shown.terminal.clone())),
            None => {
                self.attempts
                    .check(&Requester::Address(caller.address.ip().into()))?;
                self.attempts_of_all.check()
            }
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

struct Shown {
    terminal: TerminalName,
    serial: String,
}

impl Server {
    /// One connection that came to enrol, from its handshake to its end.
    pub(super) async fn serve_enrolment<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut TlsStream<S>,
        trust: &Trust,
        (address, connection): (SocketAddr, u64),
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
        let talk = self.talk(stream, trust, &caller, live);
        let ending = tokio::select! {
            biased;
            () = self.draining.cancelled() => {
                Some(EnrolAnswer::refused(None, Code::GoingDown, Code::GoingDown.message()))
            }
            talked = timeout(limits::ENROLMENT_TIMEOUT, talk) => talked.unwrap_or(None),
        };
        if let Some(answer) = ending {
            let _ = timeout(write_timeout, send(stream, &answer)).await;
        }
        connection::close(stream, write_timeout).await;
        Ok(())
    }

    /// Answers what comes, up to the last message that a connection may send. What it returns is
    /// still to be said.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut TlsStream<S>,
        trust: &Trust,
        caller: &Caller,
        live: &Live,
    ) -> Option<EnrolAnswer> {
        let mut received = BytesMut::new();
        for _ in 0..limits::ENROLMENT_MESSAGES_MAX {
            let mut payload = match receive(stream, &mut received).await {
                Received::Payload(payload) => payload,
                Received::TooLarge => {
                    let code = Code::FrameSize;
                    return Some(EnrolAnswer::refused(None, code, code.message()));
                }
                Received::Nothing => return None,
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
        tracing::info!(connection, %address, terminal, op, code, "enrolment answered");
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
        let issued = issuing
            .certificate(&self.bank, warrant, &request, caller.connection)
            .await;
        match issued {
            Ok(der) => EnrolAnswer::done(id, &[&der, enrolment.issuing.certificate()]),
            Err(NotIssued::Void) => EnrolAnswer::refused(id, Code::NoMatch, NO_SUCH_CODE),
            Err(NotIssued::TooMany(wait_ms)) => too_many(id, wait_ms),
            Err(NotIssued::Storage(error)) => {
                tracing::error!(connection = caller.connection, %error, "storage unavailable");
                refused(id, Code::StorageUnavailable)
            }
            Err(NotIssued::Signing(error)) => {
                let [a, b, c, d, e, f, ..] = self.bank.surroundings().random();
                let reference = format!("{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}");
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
    /// The peer is gone.
    Nothing,
}

async fn receive<S: AsyncRead + Unpin>(stream: &mut S, received: &mut BytesMut) -> Received {
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
        match stream.read_buf(received).await {
            Ok(0) | Err(_) => return Received::Nothing,
            Ok(_) => {}
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
