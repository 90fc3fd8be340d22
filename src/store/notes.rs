//! What is written into the audit log: events, who did them, and how an act of the staff reads.

use std::fmt;

use super::clock::BEGUN;
use super::{Act, Context, Done, NewCertificate, Warrant};
use crate::domain::{AccountNumber, AuditRecord, TerminalName, Timestamp, printable};

/// The longest detail of a record, in characters; more is cut off.
pub const DETAIL_CHARACTERS_MAX: usize = 240;

/// What happened. Its name is the record's `event` and never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// Somebody asked to be logged in.
    Login,
    /// A session ended; the detail says why.
    SessionEnd,
    /// A PIN was to be changed by its owner.
    PinChange,
    /// The last try upon a number was spent: it is locked unless this PIN is right.
    LastTry,
    /// An account was locked: by wrong PINs or by staff.
    Lock,
    /// Staff unlocked an account.
    Unlock,
    /// Staff gave a new PIN.
    PinReset,
    /// A withdrawal or hold over a limit was refused (code 32).
    LimitHit,
    /// A log-in or change of PIN was refused for haste (code 40).
    Throttled,
    /// Somebody tried PINs upon many numbers.
    SprayNoticed,
    /// So many events were counted and not written one by one.
    Suppressed,
    /// Staff opened an account.
    AccountOpened,
    /// Staff brought in several accounts.
    Import,
    /// Staff closed an account.
    AccountClosed,
    /// Staff gave an account limits of its own.
    AccountLimited,
    /// Staff corrected a balance.
    AccountAdjusted,
    /// Staff put a terminal out.
    TerminalDisabled,
    /// Staff let a terminal in again.
    TerminalEnabled,
    /// A terminal's certificate is no longer admitted; its connections were ended.
    TerminalRevoked,
    /// Staff ended a session.
    SessionEnded,
    /// Staff looked something up; the detail says what.
    StaffRead,
    /// Staff audited the ledger.
    Verify,
    /// Staff copied the store.
    Backup,
    /// A backup took the store's place.
    Restore,
    /// Another user was refused at the operator's socket.
    OperatorRefused,
    /// Certificates, revocations and limits were taken anew, or not.
    Reload,
    /// The server began to serve.
    Start,
    /// The server stopped serving in order.
    Stop,
    /// A new pepper was put first.
    PepperRotated,
    /// A pepper that nothing needs was taken away.
    PepperRetired,
    /// A terminal was invited to ask for a certificate.
    CertificateInvited,
    /// Staff made an invitation void.
    CertificateUninvited,
    /// A terminal got its first certificate.
    CertificateEnrolled,
    /// A terminal's certificate was renewed.
    CertificateRenewed,
    /// The wall clock is not believed; the detail says why.
    ClockGuarded,
    /// The wall clock is believed again.
    ClockBelieved,
    /// Staff took the wall clock as it is; what is stamped later up to the entry and the record in the
    /// detail is known of.
    ClockAccepted,
    /// The table of wrong PINs is nearly full: then numbers without a row are refused.
    TriesNearlyFull,
    /// The rows of an older version's store were covered for the first time; the detail says how many.
    RowsCovered,
    /// An account's row was not as the bank wrote it, and its customer was refused.
    ForgedRow,
    /// A start went on though answered commits may be gone; the detail names the journal that was kept.
    LossAccepted,
    /// Staff took an account's row as it was for the bank's own; the detail says what it said.
    RowAccepted,
}

impl Event {
    /// Its name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::SessionEnd => "session_end",
            Self::PinChange => "pin_change",
            Self::LastTry => "last_try",
            Self::Lock => "lock",
            Self::Unlock => "unlock",
            Self::PinReset => "pin_reset",
            Self::LimitHit => "limit_hit",
            Self::Throttled => "throttled",
            Self::SprayNoticed => "spray_noticed",
            Self::Suppressed => "suppressed",
            Self::AccountOpened => "account_opened",
            Self::Import => "import",
            Self::AccountClosed => "account_closed",
            Self::AccountLimited => "account_limited",
            Self::AccountAdjusted => "account_adjusted",
            Self::TerminalDisabled => "terminal_disabled",
            Self::TerminalEnabled => "terminal_enabled",
            Self::TerminalRevoked => "terminal_revoked",
            Self::SessionEnded => "session_ended",
            Self::StaffRead => "staff_read",
            Self::Verify => "verify",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::OperatorRefused => "operator_refused",
            Self::Reload => "reload",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::PepperRotated => "pepper_rotated",
            Self::PepperRetired => "pepper_retired",
            Self::CertificateInvited => "certificate_invited",
            Self::CertificateUninvited => "certificate_uninvited",
            Self::CertificateEnrolled => "certificate_enrolled",
            Self::CertificateRenewed => "certificate_renewed",
            Self::ClockGuarded => "clock_guarded",
            Self::ClockBelieved => "clock_believed",
            Self::ClockAccepted => "clock_accepted",
            Self::TriesNearlyFull => "tries_nearly_full",
            Self::RowsCovered => "rows_covered",
            Self::ForgedRow => "forged_row",
            Self::LossAccepted => "loss_accepted",
            Self::RowAccepted => "row_accepted",
        }
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The server itself.
    Server,
    /// Whoever stood at the terminal.
    Terminal(TerminalName),
    /// The bank's staff, as `uid 0`.
    Staff(String),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("server"),
            Self::Terminal(name) => write!(f, "terminal {name}"),
            Self::Staff(name) => f.write_str(&printable::line(name)),
        }
    }
}

/// A record to be written; the store gives it its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
    /// What became of it.
    pub outcome: &'static str,
    /// Whose account it is about.
    pub account: Option<AccountNumber>,
    /// At which terminal, or about which.
    pub terminal: Option<TerminalName>,
    /// Over which connection.
    pub connection: Option<u64>,
    /// Who did it.
    pub actor: Actor,
    /// What else is to be known; never a PIN, a key or a whole account number.
    pub detail: String,
}

impl Note {
    /// The server did `event`, and it is done.
    #[must_use]
    pub fn new(event: Event, at: Timestamp) -> Self {
        Self {
            at,
            event,
            outcome: "done",
            account: None,
            terminal: None,
            connection: None,
            actor: Actor::Server,
            detail: String::new(),
        }
    }

    /// With another outcome than `done`.
    #[must_use]
    pub fn outcome(mut self, outcome: &'static str) -> Self {
        self.outcome = outcome;
        self
    }

    /// About this account.
    #[must_use]
    pub fn account(mut self, account: AccountNumber) -> Self {
        self.account = Some(account);
        self
    }

    /// About this terminal, whoever did it.
    #[must_use]
    pub fn about(mut self, terminal: TerminalName) -> Self {
        self.terminal = Some(terminal);
        self
    }

    /// Done at this terminal, over a connection of this number.
    #[must_use]
    pub fn by_terminal(mut self, terminal: TerminalName, connection: Option<u64>) -> Self {
        self.actor = Actor::Terminal(terminal.clone());
        self.terminal = Some(terminal);
        self.connection = connection;
        self
    }

    /// Done by the bank's staff.
    #[must_use]
    pub fn by_staff(mut self, actor: &str) -> Self {
        self.actor = Actor::Staff(actor.to_owned());
        self
    }

    /// With these words.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The record of that number. Nothing in it steers a terminal, and nothing is long.
    #[must_use]
    pub fn record(&self, number: i64) -> AuditRecord {
        let short: String = self.detail.chars().take(DETAIL_CHARACTERS_MAX).collect();
        AuditRecord {
            number,
            at: self.at,
            event: self.event.name().to_owned(),
            outcome: self.outcome.to_owned(),
            account: self.account.as_ref().map(ToString::to_string),
            terminal: self.terminal.as_ref().map(ToString::to_string),
            connection: self
                .connection
                .and_then(|number| i64::try_from(number).ok()),
            actor: self.actor.to_string(),
            detail: printable::line(&short),
        }
    }
}

impl Context {
    /// A note of what the context's terminal does, upon an account.
    #[must_use]
    pub fn note(&self, event: Event, account: AccountNumber) -> Note {
        Note::new(event, self.now)
            .by_terminal(self.terminal.clone(), self.connection)
            .account(account)
    }
}

/// The part of the table of tries, in a hundred, at which staff are told.
const TRIES_ALARM_PERCENT: u64 = 90;
/// Below this part they may be told again: rows come and go, and one of each is no news.
const TRIES_CALM_PERCENT: u64 = 80;

impl Context {
    /// What is noted of a table with so many rows of tries: that it is nearly full, once until it was
    /// well below that. `told`: whether it was noted, kept from one call to the next.
    pub(super) fn fills_tries(&self, rows: u64, told: &mut bool) -> Option<Note> {
        let most = self.terms.try_rows_max;
        let percent = match *told {
            true => TRIES_CALM_PERCENT,
            false => TRIES_ALARM_PERCENT,
        };
        let is_near = rows.saturating_mul(100) >= most.saturating_mul(percent);
        let was_told = std::mem::replace(told, is_near);
        let note = || Note::new(Event::TriesNearlyFull, self.now).outcome("noticed");
        (is_near && !was_told).then(|| note().detail(format!("rows {rows} of {most}")))
    }
}

impl Act {
    /// How the act begins to read in the audit log, before it is known what comes of it; `None`
    /// where it only reads.
    #[must_use]
    pub(super) fn note(&self, actor: &str, at: Timestamp) -> Option<Note> {
        let note = |event| Note::new(event, at).by_staff(actor);
        let terms = |limit: &Option<i64>| {
            limit.map_or_else(|| "the bank's".to_owned(), |limit| limit.to_string())
        };
        Some(match self {
            Self::Open(accounts) => match accounts.as_slice() {
                [one] => note(Event::AccountOpened).account(one.number),
                _ => note(Event::Import),
            },
            Self::Close(number) => note(Event::AccountClosed).account(*number),
            Self::Lock(number, true) => note(Event::Lock).account(*number),
            Self::Lock(number, false) => note(Event::Unlock).account(*number),
            Self::SetPin { number, .. } => note(Event::PinReset).account(*number),
            Self::Limit {
                number,
                withdrawal,
                daily,
            } => note(Event::AccountLimited).account(*number).detail(format!(
                "withdrawal {}, daily {}",
                terms(withdrawal),
                terms(daily)
            )),
            Self::Adjust { number, amount, .. } => note(Event::AccountAdjusted)
                .account(*number)
                .detail(format!("amount {amount}")),
            Self::Terminal { name, disabled } => match disabled {
                true => note(Event::TerminalDisabled).about(name.clone()),
                false => note(Event::TerminalEnabled).about(name.clone()),
            },
            Self::Invite {
                name, expires_at, ..
            } => note(Event::CertificateInvited)
                .about(name.clone())
                .detail(format!("until {expires_at}")),
            Self::Uninvite(name) => note(Event::CertificateUninvited).about(name.clone()),
            Self::RevokeCertificates(name) => note(Event::TerminalRevoked).about(name.clone()),
            Self::ClockTaken { was } => note(Event::ClockAccepted)
                .outcome(BEGUN)
                .detail(format!("was {was}")),
            Self::ClockAccepted { was } => note(Event::ClockAccepted).detail(format!("was {was}")),
            _ => return None,
        })
    }
}

impl NewCertificate {
    /// How it reads in the audit log that it was put on record.
    #[must_use]
    pub(super) fn note(&self, warrant: &Warrant, context: &Context) -> Note {
        let event = match warrant {
            Warrant::Code(_) => Event::CertificateEnrolled,
            Warrant::Certificate(_) => Event::CertificateRenewed,
        };
        Note::new(event, context.now)
            .by_terminal(self.terminal.clone(), context.connection)
            .detail(format!("serial {}", self.serial))
    }
}

impl Note {
    /// The act's note, now that it is known what came of it.
    #[must_use]
    pub(super) fn with_done(mut self, done: &Done) -> Self {
        let more = match done {
            Done::Opened { opened, existing } => {
                if *opened == 0 {
                    self.outcome = "existing";
                }
                format!("opened {opened}, existing {}", existing.len())
            }
            Done::Posted { entry, .. } => format!("entry {entry}"),
            Done::Acknowledged { entries, records } => {
                format!("entries through {entries}, records through {records}")
            }
            Done::Certificates(revoked) => format!("certificates {}", revoked.len()),
            Done::NoSuchAccount => {
                self.outcome = "no_such_account";
                String::new()
            }
            Done::Refused(why) => {
                self.outcome = "refused";
                why.clone()
            }
            _ => String::new(),
        };
        if !more.is_empty() && !self.detail.is_empty() {
            self.detail.push_str(", ");
        }
        self.detail.push_str(&more);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_its_account_and_has_nothing_that_steers_nor_words_without_end() {
        let note = Note::new(Event::Start, Timestamp::from_unix_ms(1))
            .account("zz-12345".parse().unwrap())
            .by_staff("uid 7\u{1b}[2J")
            .detail(format!("\u{202e}\n{}", "a".repeat(10_000)));
        let record = note.record(3);
        assert_eq!(record.account.as_deref(), Some("zz-12345"));
        assert_eq!(record.actor, "uid 7\\u{1b}[2J");
        assert!(record.detail.starts_with("\\u{202e}\\u{a}a"));
        assert!(record.detail.len() < 400);
        assert!(!format!("{note:?}").contains("12345"));
    }
}
