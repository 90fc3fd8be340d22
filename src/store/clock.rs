//! What staff see of the bank's clock in a store, and how they mend what a wrong one stamped.

use std::sync::Arc;

use super::notes::Event;
use crate::domain::{AuditRecord, Timestamp};

/// The outcome of the record that an acceptance of the wall clock begins with.
pub(super) const BEGUN: &str = "begun";

/// Entries that staff acknowledged when they took the wall clock: those up to a number that are stamped
/// on a day later than it was then were not made on that day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// The last entry's number.
    pub through: i64,
    /// The business day that it was.
    pub day: i64,
}

impl Acknowledged {
    /// As the record of an acceptance tells it. That of its beginning does too: it may end on a later day,
    /// and what is stamped on that one was not made on it either.
    #[must_use]
    pub fn of(record: &AuditRecord) -> Option<Self> {
        (record.event == Event::ClockAccepted.name()).then_some(())?;
        Some(Self {
            through: through(&record.detail, "entries")?,
            day: record.at.business_day(),
        })
    }

    /// Whether an entry that is stamped on `day` is one of those that were acknowledged.
    #[must_use]
    pub fn any(known: &[Self], entry: i64, day: i64) -> bool {
        let has = |known: &Self| entry <= known.through && day > known.day;
        known.iter().any(has)
    }
}

/// The number behind `name through` in a record's detail.
pub(super) fn through(detail: &str, name: &str) -> Option<i64> {
    let parts = detail.split(", ");
    let mut found = parts.filter_map(|part| part.strip_prefix(name)?.strip_prefix(" through "));
    found.next()?.parse().ok()
}

/// What the time had been, where this is the record of an acceptance that was begun and not ended.
#[must_use]
pub fn unfinished(record: &AuditRecord) -> Option<Timestamp> {
    let is_begun = record.event == Event::ClockAccepted.name() && record.outcome == BEGUN;
    is_begun.then_some(())?;
    let was = record.detail.strip_prefix("was ")?.split(", ").next();
    Timestamp::parse(was?)
}

/// How far [`Act::MendClock`](super::Act::MendClock) has come; begins with its default, or with
/// [`MendCursor::begin`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MendCursor {
    /// Where to go on.
    pub part: MendPart,
    /// What this acceptance and earlier ones acknowledged.
    pub acknowledged: Arc<[Acknowledged]>,
    /// The business day that mending was begun on, which a crash may have cut off.
    pub begun_on: Option<i64>,
}

impl MendCursor {
    /// Where mending begins, after these records of acceptances, oldest first.
    #[must_use]
    pub fn begin(accepted: &[AuditRecord]) -> Self {
        let undone = accepted.iter().rev();
        let undone = undone.take_while(|record| unfinished(record).is_some());
        Self {
            acknowledged: accepted.iter().filter_map(Acknowledged::of).collect(),
            begun_on: undone.map(|record| record.at.business_day()).min(),
            ..Self::default()
        }
    }
}

/// Which rows are mended next: those behind this key; of holds and answers those below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MendPart {
    /// Accounts with a business day that is to come, and with them their holds.
    Accounts(i64),
    /// Holds that count no more.
    Holds(i64),
    /// Kept answers.
    Keys(i64),
    /// Counts of wrong PINs, by account number.
    Tries(String),
    /// Enrolment codes, by terminal.
    Codes(String),
}

impl Default for MendPart {
    fn default() -> Self {
        Self::Accounts(0)
    }
}

/// What taking a wall clock's moment as the time would do: what would be over at once, and what
/// would be stamped in the future.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ClockEffects {
    /// Open holds that would expire.
    pub holds_over: u64,
    /// Expired holds, open ones among them, that could be captured late no more.
    pub late_captures_over: u64,
    /// Holds of the past that would be forgotten, at most.
    pub holds_forgotten: u64,
    /// Kept answers that would be forgotten.
    pub keys_over: u64,
    /// Counts of wrong PINs that would be forgotten, locks among them.
    pub tries_over: u64,
    /// One-time PINs that would run out.
    pub one_time_pins_over: u64,
    /// Enrolment codes that would run out.
    pub codes_over: u64,
    /// Certificates of terminals that enrolled themselves that would end.
    pub certificates_over: u64,
    /// Entries of the future; they stay.
    pub entries_ahead: u64,
    /// Audit records of the future; they stay.
    pub records_ahead: u64,
    /// Accounts whose business day is to come; it becomes today's.
    pub days_ahead: u64,
    /// Holds of the future; they become of now.
    pub holds_ahead: u64,
    /// Kept answers of the future; they become of now.
    pub keys_ahead: u64,
    /// Counts of wrong PINs of the future; they become of now.
    pub tries_ahead: u64,
    /// Enrolment codes of the future; they become of now.
    pub codes_ahead: u64,
}
