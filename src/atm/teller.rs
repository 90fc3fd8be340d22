//! One terminal's dealings with its bank: who is logged in, money requests that survive losses,
//! and what became of the ones that did not get an answer.

mod cash;
mod recovery;
mod verdict;
mod waiting;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

pub use cash::CashOut;
pub use recovery::Recovered;
use recovery::{Afterwards, outcome};
use verdict::Verdict;
pub use verdict::is_never_booked;

use super::clock::BankClock;
use super::connection::{Bank, Connection, closing};
use super::enrol::Renewal;
use super::error::Error;
pub use super::journal::Outcome;
use super::journal::{Journal, Order, Origin, Pending, Record, new_key};
use super::words;
use crate::domain::{AccountNumber, Currency, Pin, RequestedAmount};
use crate::wire::answer::Answer;
use crate::wire::code::Code;
use crate::wire::request::{Keyed, Request};

/// A keyed request is sent at most so often before it is left in the journal.
const TRIES_MAX: u32 = 4;
/// The wait before the first repeat; it doubles each time.
const BACK_OFF_MS: u64 = 250;
/// A bank that names a longer wait is asked again later, so that no customer is kept waiting.
const RETRY_AFTER_MS_MAX: u64 = 5_000;
/// A connection silent for longer is tried with a ping before a PIN is sent over it.
const TRUSTED_SILENCE: Duration = Duration::from_secs(3);
/// In a session a ping is sent so often; at most six seconds apart they make a heartbeat, by which
/// the bank tells sooner that this terminal is lost (docs/PROTOCOL.md).
const BEAT: Duration = Duration::from_secs(5);
/// The bank closes a connection after so many wrong PINs (docs/PROTOCOL.md).
const WRONG_PINS_MAX: u32 = 3;

/// What the attendant is told of cash that is out, until it is settled.
pub const NOT_BOOKED_YET: &str = "cash is out and not booked yet, it is tried again later";

/// The terminal's end of the counter.
#[derive(Debug)]
pub struct Teller {
    bank: Bank,
    origin: Origin,
    connection: Option<Connection>,
    last_heard: Instant,
    next_beat: Instant,
    wrong_pins: u32,
    /// Wrong PINs of one account in a row.
    no_matches: Option<(AccountNumber, u32)>,
    session: Option<Session>,
    journal: Journal,
    clock: BankClock,
    news: VecDeque<News>,
    recovered: Vec<(Recovered, Option<Afterwards>)>,
    /// What is settled, and has perhaps not been told yet.
    untold: Vec<Afterwards>,
    renewal: Option<Renewal>,
    /// Whether a hold is in the journal that needs nobody to be logged in.
    holds_left: bool,
}

/// The customer who is logged in.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// Whose account it is.
    pub account: AccountNumber,
    /// The account's currency.
    pub currency: Currency,
    /// The bank logs a customer out who is silent this long.
    pub idle_timeout_ms: u64,
    /// Whether nothing but a new PIN is served.
    pub must_change_pin: bool,
}

/// What the bank said of its own accord, or what became of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The customer was logged out by the bank.
    SessionEnded,
    /// The bank closes the connection, with this code.
    Closing(Code),
    /// The connection is gone.
    Lost(String),
}

impl Teller {
    /// A terminal that is not connected yet.
    #[must_use]
    pub fn new(bank: Bank, journal: Journal) -> Self {
        let origin = Origin::new(&bank.trust.bank, bank.trust.terminal.clone());
        Self {
            bank,
            origin,
            connection: None,
            last_heard: Instant::now(),
            next_beat: Instant::now(),
            wrong_pins: 0,
            no_matches: None,
            session: None,
            journal,
            clock: BankClock::default(),
            news: VecDeque::new(),
            recovered: Vec::new(),
            untold: Vec::new(),
            renewal: None,
            holds_left: false,
        }
    }

    /// Who is logged in.
    #[must_use]
    pub const fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// What the operator should know, each once.
    pub fn take_warnings(&mut self) -> Vec<String> {
        let mut warnings = self.journal.take_warnings();
        warnings.extend(self.renewal.iter_mut().flat_map(Renewal::take_warnings));
        warnings
    }

    /// What the bank said of its own accord since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        self.news.drain(..).collect()
    }

    /// Connects where there is no connection, and settles holds left from before, which needs
    /// nobody to be logged in.
    ///
    /// # Errors
    /// As [`Bank::connect`].
    pub async fn connect(&mut self) -> Result<(), Error> {
        if self.connection.is_some() {
            return Ok(());
        }
        self.session = None;
        self.connection = Some(self.bank.connect().await?);
        self.wrong_pins = 0;
        self.last_heard = Instant::now();
        if self.origin.terminal.is_some() {
            self.recover_holds().await?;
        }
        Ok(())
    }

    /// Makes sure that the bank still listens, and connects anew where it does not.
    ///
    /// # Errors
    /// As [`Bank::connect`].
    pub async fn refresh(&mut self) -> Result<(), Error> {
        if self.connection.is_some() && self.last_heard.elapsed() > TRUSTED_SILENCE {
            // An idle connection may be long gone; a customer's PIN is not what finds out.
            let heard = self.exchange(&Request::Ping).await;
            self.news.clear();
            drop(heard);
        }
        let is_new = self.connection.is_none();
        self.connect().await?;
        if !is_new && self.holds_left && self.origin.terminal.is_some() {
            // A new connection has just tried it.
            self.recover_holds().await?;
        }
        Ok(())
    }

    /// Logs a customer in, and settles what was left unanswered on that account.
    ///
    /// # Errors
    /// No connection, or it was lost.
    pub async fn login(&mut self, account: AccountNumber, pin: Pin) -> Result<Answer, Error> {
        self.refresh().await?;
        let answer = self.exchange(&Request::Login { account, pin }).await?;
        self.count_no_match(account, answer.code);
        if answer.code != Code::Done {
            self.count_wrong_pin(&answer);
            return Ok(answer);
        }
        let members = &answer.members;
        let currency = members.currency.as_deref().unwrap_or_default();
        let Ok(currency) = currency.parse() else {
            self.hang_up();
            return Err(Error::Lost(
                "the bank named no currency that is known here".into(),
            ));
        };
        self.session = Some(Session {
            account,
            currency,
            idle_timeout_ms: members
                .session
                .map_or(60_000, |times| times.idle_timeout_ms),
            must_change_pin: members.must_change_pin == Some(true),
        });
        self.next_beat = Instant::now() + BEAT;
        self.recover_account().await?;
        Ok(answer)
    }

    /// Asks for something that moves no money.
    ///
    /// # Errors
    /// No connection, or it was lost.
    pub async fn ask(&mut self, request: Request) -> Result<Answer, Error> {
        self.connect().await?;
        let account = self.session.map(|session| session.account);
        let answer = self.exchange(&request).await?;
        if let (Request::ChangePin { .. }, Some(account)) = (&request, account) {
            self.count_no_match(account, answer.code);
        }
        if answer.code == Code::Done {
            match request {
                Request::Logout => self.session = None,
                Request::ChangePin { .. } => {
                    if let Some(session) = &mut self.session {
                        session.must_change_pin = false;
                    }
                    // The PIN is changed, whatever becomes of the rest.
                    if let Err(error) = self.recover_account().await {
                        self.news.push_back(News::Lost(error.to_string()));
                    }
                }
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Moves money, at most once whatever happens: the request is in the journal before it is
    /// sent, and stays there until its outcome is known.
    ///
    /// # Errors
    /// [`Error::NotKept`]; no connection, or it was lost and the outcome is unknown.
    pub async fn move_money(&mut self, order: Order) -> Result<Answer, Error> {
        self.connect().await?;
        let pending = self.begin(order)?;
        self.settle(pending).await
    }

    /// Logs out where somebody is logged in, and ends the connection politely.
    pub async fn farewell(&mut self) {
        let logged_in = self.session.take().is_some();
        if let Some(connection) = self.connection.take() {
            connection.farewell(logged_in).await;
        }
    }

    /// How often in a row the PIN of the account that was tried last was wrong, at this terminal.
    #[must_use]
    pub fn no_matches(&self) -> u32 {
        self.no_matches.map_or(0, |(_, times)| times)
    }

    fn count_no_match(&mut self, account: AccountNumber, code: Code) {
        let before = self.no_matches.filter(|(of, _)| *of == account);
        let times = before.map_or(0, |(_, times)| times);
        self.no_matches = match code {
            Code::NoMatch => Some((account, times.saturating_add(1))),
            Code::Done => None,
            _ => before,
        };
    }

    /// Whether cash is out, or was set aside, and the bank has not settled that yet.
    #[must_use]
    pub const fn holds_left(&self) -> bool {
        self.holds_left
    }

    /// Ends the connection at once, whatever is asked over it: the journal has what moves money.
    pub fn hang_up(&mut self) {
        self.connection = None;
        self.session = None;
    }

    /// A connection that the bank is about to close is not used for the next customer.
    fn count_wrong_pin(&mut self, answer: &Answer) {
        self.wrong_pins = self
            .wrong_pins
            .saturating_add(u32::from(answer.code == Code::NoMatch));
        if self.wrong_pins >= WRONG_PINS_MAX {
            self.hang_up();
        }
    }

    /// Writes a request down. One that lets cash out is not made where it cannot be: after a crash
    /// nobody would know of it. Once cash is out its capture is sent all the same.
    fn begin(&mut self, order: Order) -> Result<Pending, Error> {
        let lets_cash_out = order.lets_cash_out();
        let pending = self.journal.begin(Record {
            order,
            account: self.session.map(|session| session.account),
            currency: self.session.map(|session| session.currency),
            origin: self.origin.clone(),
            at: self.clock.now(),
            outcome: None,
        });
        if lets_cash_out && !pending.is_on_disk() {
            return Err(Error::NotKept);
        }
        Ok(pending)
    }

    async fn settle(&mut self, pending: Pending) -> Result<Answer, Error> {
        let (answer, pending) = self.settle_open(pending).await?;
        if let Some(mut pending) = pending {
            let order = &pending.record().order;
            if matches!(order, Order::Authorize(_)) && answer.code == Code::Done {
                // Whoever asked for the hold settles it. Until they know of it, it is in flight.
                let now = self.clock.now();
                self.journal.note(&mut pending, "held", Some(&answer), now);
            } else {
                let outcome = outcome(order, &answer);
                self.keep_outcome(&mut pending, outcome, &answer);
            }
            self.untold.push(Afterwards::Finish(pending));
        }
        Ok(answer)
    }

    /// Sends the request until its outcome is known, or it has been tried often enough. It comes
    /// back, still in the journal, only where the outcome is known.
    async fn settle_open(&mut self, pending: Pending) -> Result<(Answer, Option<Pending>), Error> {
        let record = pending.record().clone();
        let may_reconnect = record.order.needs_no_login() && self.origin.terminal.is_some();
        let mut maybe_done = false;
        for attempt in 1..=TRIES_MAX {
            let last = attempt == TRIES_MAX;
            let mut retry_after_ms = 0;
            match self.exchange(&record.order.request()).await {
                Ok(answer) => match Verdict::of(&record, &answer, maybe_done) {
                    Verdict::Known => return Ok((answer, Some(pending))),
                    Verdict::ForStaff => {
                        self.hand_to_staff(pending, &answer);
                        return Ok((answer, None));
                    }
                    Verdict::Unknown if last || !is_repeated_soon(answer.code) => {
                        self.leave(pending, answer.code.message());
                        return Ok((answer, None));
                    }
                    Verdict::Unknown => {
                        retry_after_ms = answer.members.retry_after_ms.unwrap_or_default();
                    }
                },
                Err(error) if last || !may_reconnect => {
                    self.leave(pending, &error.to_string());
                    return Err(error);
                }
                Err(_) => {}
            }
            maybe_done = true;
            self.wait_before_repeat(attempt, retry_after_ms).await;
            // The machine may have slept for weeks.
            if let Some(why) = pending.why_never_repeated(self.clock.now()) {
                self.leave(pending, why);
                return Err(Error::Lost(format!("the request {why}")));
            }
            if self.connection.is_none()
                && let Ok(connection) = self.bank.connect().await
            {
                self.connection = Some(connection);
            }
        }
        self.leave(pending, "no answer");
        Err(Error::Lost("no answer".into()))
    }

    /// Leaves for later what is not settled; of cash that is out the operator hears.
    fn leave(&mut self, pending: Pending, reason: &str) {
        let order = &pending.record().order;
        self.holds_left |= order.needs_no_login();
        if matches!(order, Order::Capture { .. }) {
            self.journal
                .tell(format!("{NOT_BOOKED_YET}: {}", words::printable(reason)));
        }
        self.journal.put_back(pending);
    }

    fn hand_to_staff(&mut self, pending: Pending, answer: &Answer) {
        let reason = format!(
            "cash went out and the bank does not book it: {}",
            answer.code.message()
        );
        self.journal.set_aside(pending, &reason, self.clock.now());
    }

    async fn wait_before_repeat(&self, attempt: u32, retry_after_ms: u64) {
        let factor = 1_u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(1);
        let back_off_ms = BACK_OFF_MS.saturating_mul(factor);
        let wait_ms = back_off_ms.max(retry_after_ms.min(RETRY_AFTER_MS_MAX));
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }

    /// One request, one answer; keeps account of who is logged in.
    async fn exchange(&mut self, request: &Request) -> Result<Answer, Error> {
        let Some(connection) = &mut self.connection else {
            return Err(Error::Lost("there is none".into()));
        };
        let answer = match connection.ask(request).await {
            Ok(answer) => answer,
            Err(error) => {
                self.hang_up();
                return Err(error);
            }
        };
        self.last_heard = Instant::now();
        let time = connection.take_time();
        if let Some(time) = answer.members.time.as_ref().or(time.as_ref()) {
            self.clock.hear(time);
        }
        let mut notices = Vec::new();
        while let Some(notice) = connection.earlier_notice() {
            notices.push(notice);
        }
        for notice in &notices {
            self.note(notice);
        }
        if answer.code == Code::NotLoggedIn && !matches!(request, Request::Login { .. }) {
            self.session = None;
        }
        Ok(answer)
    }

    fn note(&mut self, notice: &Answer) {
        if notice.code == Code::SessionEnded {
            self.session = None;
            self.news.push_back(News::SessionEnded);
        } else if closing(notice).is_some() {
            self.hang_up();
            self.news.push_back(News::Closing(notice.code));
        }
    }
}

/// An amount under a new key.
#[must_use]
pub fn new_keyed(minor: i64) -> Keyed {
    Keyed {
        amount: RequestedAmount(minor),
        key: new_key(),
    }
}

/// Whether it is worth asking again while the customer waits.
const fn is_repeated_soon(code: Code) -> bool {
    matches!(code, Code::StorageUnavailable | Code::TooMany)
}
