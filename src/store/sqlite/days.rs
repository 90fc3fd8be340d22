//! What an account's own withdrawals used of a business day: all but captures, which count upon the day of
//! their hold and not upon their own.

use rusqlite::Connection;

use super::postings;
use crate::domain::{EntryKind, Timestamp};
use crate::store::{Acknowledged, StoreError};

/// What was withdrawn on a day.
#[derive(Default)]
pub(super) struct Withdrawn {
    /// How much, without captures.
    pub(super) sum: i64,
    /// Whether something was on a later day.
    pub(super) later: bool,
}

/// Reads it from the entries themselves. What staff acknowledged to be stamped on a day to come was not
/// made on it.
pub(super) fn withdrawn_on(
    connection: &Connection,
    account: i64,
    day: i64,
    known: &[Acknowledged],
) -> Result<Withdrawn, StoreError> {
    // A day more than is asked for: only an acceptance sets the clock back by more, and what is behind
    // one and is of a later day is known.
    let from = Timestamp::start_of_day(day.saturating_sub(1));
    // Of a hold that was forgotten while the clock was months ahead the entry counts instead; a day that
    // such a hold counted for is not audited.
    let sql = "SELECT 1 FROM hold WHERE entry = ?1 AND state = 1";
    let mut capture = connection.prepare_cached(sql)?;
    let mut withdrawn = Withdrawn::default();
    for line in postings::since(connection, account, from)? {
        let of_day = line.at.business_day();
        let is_paid = line.kind == EntryKind::Withdrawal && line.amount < 0;
        if !is_paid || of_day < day || Acknowledged::any(known, line.entry, of_day) {
            continue;
        }
        if of_day > day {
            withdrawn.later = true;
        } else if !capture.exists([line.entry])? {
            withdrawn.sum = withdrawn.sum.wrapping_sub(line.amount);
        }
    }
    Ok(withdrawn)
}
