//! One connection's talk with the bank: a request in, an answer out. No sockets here: bytes come
//! in as payloads, and what is to be done with the connection comes out as a value.

mod guesses;
mod haste;
mod members;
mod orders;

use std::sync::Arc;

use data_encoding::HEXLOWER;
use tracing::field::display;

use self::haste::haste_window_ms;
use self::members::{balance_members, history_line, moved_members, settled_members};
use super::lines::Lines;
use crate::access::spray::SprayWatch;
use crate::access::throttle::{ConnectionThrottle, KeyedThrottle, Rate, Requester, RetryAfter};
use crate::bank::{Bank, Failure, Opened, Session};
use crate::domain::{Refusal, TerminalName};
use crate::limits;
use crate::telemetry::Metrics;
use crate::wire::answer::{Answer, Members, SessionTimes};
use crate::wire::code::Code;
use crate::wire::request::{Envelope, Request, Unreadable};

/// What a connection does after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It goes on.
    Stay,
    /// It is closed once the answer is out.
    Close,
    /// The session ends: the notice goes out behind the answer, and the connection stays.
    EndSession,
}

/// An answer and what follows from it.
#[derive(Debug)]
#[must_use]
pub struct Reaction {
    /// What to send.
    pub answer: Answer,
    /// What to do then.
    pub then: Then,
    /// The customer did something, which puts off the idle time-out.
    pub served: bool,
    /// It was a `ping`, whatever it was answered.
    pub beat: bool,
    /// The payload carried a PIN and must be wiped.
    pub carried_pin: bool,
}

/// Who talks, and over which connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The terminal.
    pub terminal: TerminalName,
    /// Who is counted for log-ins.
    pub requester: Requester,
    /// The connection's number in the log.
    pub connection: u64,
}

/// What all dialogues of a server share.
#[derive(Clone)]
pub struct Shared {
    /// The bank.
    pub bank: Arc<Bank>,
    /// The rate of log-ins of each terminal.
    pub logins: Arc<KeyedThrottle<Requester>>,
    /// Who tries PINs on many accounts.
    pub sprays: Arc<SprayWatch>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What a peer may have logged for nothing.
    pub lines: Arc<Lines>,
}

/// One connection's talk, from its first request to its last.
pub struct Dialogue {
    shared: Shared,
    peer: Peer,
    session: Option<Session>,
    times: SessionTimes,
    throttle: ConnectionThrottle,
    malformed_in_row: u32,
    mismatches: u32,
    too_many: TooManyWindow,
    /// The last answer was code 40.
    hasty: bool,
    session_started_ms: u64,
}

/// Answers with code 40 since the window began.
#[derive(Default)]
struct TooManyWindow {
    started_ms: u64,
    count: u32,
}

impl Dialogue {
    /// Before the first request.
    #[must_use]
    pub fn new(shared: Shared, peer: Peer, rate: Rate, times: SessionTimes) -> Self {
        let throttle = ConnectionThrottle::new(rate, Arc::clone(shared.bank.surroundings()));
        Self {
            shared,
            peer,
            session: None,
            times,
            throttle,
            malformed_in_row: 0,
            mismatches: 0,
            too_many: TooManyWindow::default(),
            hasty: false,
            session_started_ms: 0,
        }
    }

    /// The session, while one runs.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Ends the session, if one runs, and says so; the account is free at once.
    pub fn end_session(&mut self, reason: &'static str) -> Option<Answer> {
        let session = self.session.take()?;
        self.log_session_end(&session, reason);
        Some(Answer::refused(None, Code::SessionEnded))
    }

    /// Answers one payload.
    pub async fn answer(&mut self, payload: &[u8]) -> Reaction {
        let mut reactions = self.answer_some(std::iter::once(payload)).await;
        reactions.pop().unwrap_or_else(|| Reaction {
            answer: self.internal(None, "a payload without an answer"),
            then: Then::Close,
            served: false,
            beat: false,
            carried_pin: true,
        })
    }

    async fn answer_read(&mut self, envelope: Envelope) -> Reaction {
        let Envelope { id, request } = envelope;
        let carried_pin = request.as_ref().map_or(true, Request::carries_pin);
        let op = request.as_ref().map_or("none", Request::op);
        let (asked, account) = self.asks_for_a_pin(request.as_ref().ok());
        let (answer, then) = match self.admit(request.as_ref().ok()) {
            Err(RetryAfter(ms)) => self.refuse_too_many(id, ms),
            Ok(()) => match request {
                Err(unreadable) => self.refuse_unreadable(id, unreadable),
                Ok(request) => {
                    self.malformed_in_row = 0;
                    match self.carry_out(request).await {
                        Ok(members) => (Answer::done(id, members), Then::Stay),
                        Err(failure) => self.refuse(id, failure),
                    }
                }
            },
        };
        if answer.code == Code::TooMany
            && let Some(asked) = asked
        {
            self.note_haste(asked, account).await;
        }
        self.react(op, answer, then, carried_pin)
    }

    /// Counts and logs an answer, and says what follows.
    fn react(
        &mut self,
        op: &'static str,
        answer: Answer,
        then: Then,
        carried_pin: bool,
    ) -> Reaction {
        let code = answer.code;
        if !matches!(code, Code::Malformed | Code::UnknownOp) {
            self.malformed_in_row = 0;
        }
        self.shared.metrics.count_request(op, code);
        let again = std::mem::replace(&mut self.hasty, code == Code::TooMany) && self.hasty;
        self.log(op, &answer, again);
        let served = code == Code::Done && op != "ping";
        Reaction {
            answer,
            then,
            served,
            beat: op == "ping",
            carried_pin,
        }
    }

    /// The rates, which come before everything.
    fn admit(&self, request: Option<&Request>) -> Result<(), RetryAfter> {
        self.throttle.check()?;
        match request {
            Some(Request::Login { .. } | Request::ChangePin { .. }) => {
                self.shared.logins.check(&self.peer.requester)?;
                self.shared.sprays.check(&self.peer.requester)
            }
            Some(Request::Transfer { .. }) => self.admit_transfer(),
            _ => Ok(()),
        }
    }

    /// Whoever names wrong counterparties is looking for account numbers.
    fn admit_transfer(&self) -> Result<(), RetryAfter> {
        let guesses = self
            .session
            .as_ref()
            .map_or(0, Session::refused_counterparties);
        if guesses < limits::NO_COUNTERPARTY_PER_SESSION_MAX {
            return Ok(());
        }
        let ends_ms = self
            .session_started_ms
            .saturating_add(self.times.max_timeout_ms);
        Err(RetryAfter(ends_ms.saturating_sub(self.elapsed_ms())))
    }

    fn elapsed_ms(&self) -> u64 {
        let elapsed = self.shared.bank.surroundings().elapsed();
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    async fn carry_out(&mut self, request: Request) -> Result<Members, Failed> {
        let bank = Arc::clone(&self.shared.bank);
        match request {
            Request::Ping => Ok(Members {
                time: Some(self.time()),
                ..Members::default()
            }),
            Request::Login { account, pin } => {
                if self.session.is_some() {
                    return Err(Failed::Code(Code::AlreadyLoggedIn));
                }
                let opened = self.log_in(account, pin).await?;
                Ok(self.begin(opened))
            }
            Request::Capture { hold, keyed } => {
                let session = self.hold_session()?;
                let terminal = self.peer.terminal.clone();
                let session = session.then_some(()).and(self.session.as_mut());
                let settled = bank
                    .capture(session, &terminal, hold, keyed.amount, keyed.key)
                    .await?;
                Ok(settled_members(settled))
            }
            Request::Release { hold, key } => {
                let session = self.hold_session()?;
                let terminal = self.peer.terminal.clone();
                let session = session.then_some(()).and(self.session.as_mut());
                Ok(settled_members(
                    bank.release(session, &terminal, hold, key).await?,
                ))
            }
            Request::ChangePin { pin, new_pin } => self.change_pin(pin, new_pin).await,
            Request::Logout => {
                let session = self.session.take().ok_or(Failed::Code(Code::NotLoggedIn))?;
                self.log_session_end(&session, "log-out");
                Ok(Members::default())
            }
            request => self.serve_customer(&bank, request).await,
        }
    }

    /// Ops that need a log-in and a PIN of the customer's own.
    async fn serve_customer(&mut self, bank: &Bank, request: Request) -> Result<Members, Failed> {
        let session = self
            .session
            .as_mut()
            .ok_or(Failed::Code(Code::NotLoggedIn))?;
        if session.must_change_pin() {
            return Err(Failed::Code(Code::MustChangePin));
        }
        match request {
            Request::Balance => {
                let balances = bank.balance(session).await?;
                let currency = Some(bank.currency().code().to_owned());
                Ok(Members {
                    currency,
                    ..balance_members(Some(balances))
                })
            }
            Request::Authorize(keyed) => {
                let authorized = bank.authorize(session, keyed.amount, keyed.key).await?;
                Ok(Members {
                    hold: Some(authorized.hold.to_string()),
                    expires_in_ms: Some(authorized.expires_in_ms),
                    replayed: authorized.replayed.then_some(true),
                    ..balance_members(Some(authorized.balances))
                })
            }
            Request::History { limit, before } => {
                let lines = bank.history(session, limit, before).await?;
                let entries = lines.into_iter().map(history_line).collect();
                Ok(Members {
                    entries: Some(entries),
                    ..Members::default()
                })
            }
            request => match orders::order(request) {
                Some(order) => {
                    let mut moved = bank.move_all(session, vec![order]).await;
                    let moved = moved.pop().ok_or(Failed::Code(Code::Internal))?;
                    Ok(moved_members(moved?))
                }
                // The others were served before.
                None => Err(Failed::Code(Code::Internal)),
            },
        }
    }

    /// Whether a capture or release comes with a session; without a certificate it must.
    fn hold_session(&self) -> Result<bool, Failed> {
        if self.session.is_none() && self.peer.terminal.is_anonymous() {
            return Err(Failed::Code(Code::NotLoggedIn));
        }
        Ok(self.session.is_some())
    }

    fn begin(&mut self, opened: Opened) -> Members {
        let must_change_pin = opened.session.must_change_pin().then_some(true);
        let time = Some(self.time());
        self.session_started_ms = self.elapsed_ms();
        self.shared.metrics.sessions.inc();
        self.session = Some(opened.session);
        Members {
            session: Some(self.times),
            currency: Some(self.shared.bank.currency().code().to_owned()),
            must_change_pin,
            time,
            ..balance_members(Some(opened.balances))
        }
    }

    /// The bank's clock, as answers tell it.
    fn time(&self) -> String {
        self.shared.bank.surroundings().now().to_string()
    }

    fn refuse_unreadable(&mut self, id: Option<u64>, unreadable: Unreadable) -> (Answer, Then) {
        self.malformed_in_row = self.malformed_in_row.saturating_add(1);
        let code = match unreadable {
            Unreadable::Malformed => Code::Malformed,
            Unreadable::UnknownOp => Code::UnknownOp,
        };
        let close = self.malformed_in_row >= limits::MALFORMED_IN_A_ROW_MAX;
        (
            Answer::refused(id, code),
            if close { Then::Close } else { Then::Stay },
        )
    }

    fn refuse_too_many(&mut self, id: Option<u64>, retry_after_ms: u64) -> (Answer, Then) {
        let now_ms = self.elapsed_ms();
        let window = &mut self.too_many;
        if now_ms.saturating_sub(window.started_ms) >= haste_window_ms() {
            *window = TooManyWindow {
                started_ms: now_ms,
                count: 0,
            };
        }
        window.count = window.count.saturating_add(1);
        let close = window.count >= limits::HASTE_ANSWERS_MAX;
        let answer = Answer::retry_after(id, Code::TooMany, Some(retry_after_ms));
        (answer, if close { Then::Close } else { Then::Stay })
    }

    fn refuse(&mut self, id: Option<u64>, failed: Failed) -> (Answer, Then) {
        let failure = match failed {
            Failed::Code(code) => return (Answer::refused(id, code), Then::Stay),
            Failed::Bank(failure) => failure,
        };
        match failure {
            Failure::Refused(refusal) => (refused(id, refusal), Then::Stay),
            Failure::NoMatch | Failure::NoMatchAndLocked => {
                self.mismatches = self.mismatches.saturating_add(1);
                let locked = failure == Failure::NoMatchAndLocked && self.session.is_some();
                let close = self.mismatches >= limits::WRONG_PINS_PER_CONNECTION_MAX;
                let then = match (close, locked) {
                    (true, _) => Then::Close,
                    (false, true) => Then::EndSession,
                    (false, false) => Then::Stay,
                };
                (Answer::refused(id, Code::NoMatch), then)
            }
            Failure::InUse => (Answer::refused(id, Code::InUse), Then::Stay),
            Failure::LockedOut(ms) => (Answer::retry_after(id, Code::LockedOut, ms), Then::Stay),
            Failure::PinRefused => (Answer::refused(id, Code::PinRefused), Then::Stay),
            Failure::TooMany(ms) => self.refuse_too_many(id, ms),
            Failure::Ended => {
                let _ = self.end_session("claim lost");
                (Answer::refused(id, Code::NotLoggedIn), Then::Stay)
            }
            Failure::Storage(reason) => {
                if self.shared.lines.admit(&self.peer.requester) {
                    tracing::error!(connection = self.peer.connection, %reason, "storage unavailable");
                }
                (Answer::refused(id, Code::StorageUnavailable), Then::Stay)
            }
            Failure::Internal(reason) => (self.internal(id, &reason), Then::Stay),
        }
    }

    fn internal(&self, id: Option<u64>, reason: &str) -> Answer {
        let reference = HEXLOWER.encode(&self.shared.bank.surroundings().random()[..6]);
        tracing::error!(
            connection = self.peer.connection,
            reference,
            reason,
            "internal error"
        );
        let mut answer = Answer::refused(id, Code::Internal);
        answer.members.reference = Some(reference);
        answer
    }

    /// What a terminal causes for nothing is logged at `info` only so often, and of codes 40 in a row
    /// only the first: it would fill disks, and push other lines out of the log's queue.
    fn log(&self, op: &'static str, answer: &Answer, hasty_again: bool) {
        let account = self
            .session
            .as_ref()
            .map(|session| display(session.account().masked()));
        let (connection, terminal) = (self.peer.connection, &self.peer.terminal);
        let (code, entry) = (answer.code.number(), answer.members.entry);
        let replayed = answer.members.replayed;
        let said = match (op, answer.code) {
            ("ping" | "balance" | "history", Code::Done) => false,
            (_, Code::TooMany) if hasty_again => false,
            (_, Code::Done) if replayed != Some(true) => true,
            _ => self.shared.lines.admit(&self.peer.requester),
        };
        if said {
            tracing::info!(connection, %terminal, account, op, code, entry, replayed, "answered");
        } else {
            tracing::debug!(connection, %terminal, account, op, code, entry, replayed, "answered");
        }
    }

    fn log_session_end(&self, session: &Session, reason: &'static str) {
        let (connection, terminal) = (self.peer.connection, &self.peer.terminal);
        self.shared.metrics.sessions.dec();
        self.shared.bank.note_session_end(session, reason);
        tracing::info!(connection, %terminal, account = %session.account().masked(), reason, "session ended");
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.log_session_end(&session, "connection closed");
        }
    }
}

/// A request was not carried out: by the dialogue's own state, or by the bank.
enum Failed {
    Code(Code),
    Bank(Failure),
}

impl From<RetryAfter> for Failed {
    fn from(RetryAfter(ms): RetryAfter) -> Self {
        Self::Bank(Failure::TooMany(ms))
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self::Bank(failure)
    }
}

fn refused(id: Option<u64>, refusal: Refusal) -> Answer {
    let code = match refusal {
        Refusal::InvalidAmount => Code::InvalidAmount,
        Refusal::InsufficientFunds => Code::InsufficientFunds,
        Refusal::OverLimit { .. } => Code::OverLimit,
        Refusal::KeyReused => Code::KeyReused,
        Refusal::NoCounterparty => Code::NoCounterparty,
        Refusal::NoHold => Code::NoHold,
    };
    let mut answer = Answer::refused(id, code);
    if let Refusal::OverLimit { limit, remaining } = refusal {
        answer.members.limit = Some(limit);
        answer.members.remaining = Some(remaining);
    }
    answer
}

#[cfg(test)]
mod tests;
