//! An account's postings, found by the links from each to the one before it.

use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::domain::{EntryKind, Timestamp};
use crate::store::{Done, Line, StoreError};

/// One posting of account `?1`, that of entry `?2`, and its account's posting before it.
const LINE_SQL: &str = "SELECT entry.id, entry.at, entry.kind, iif(debit = ?1, -amount, amount), \
    iif(debit = ?1, debit_balance, credit_balance), coalesce(terminal.name, ''), other.kind, \
    other.number, reason.text, iif(debit = ?1, debit_previous, credit_previous) FROM entry \
    JOIN account other ON other.id = iif(debit = ?1, credit, debit) \
    LEFT JOIN terminal ON terminal.id = entry.terminal \
    LEFT JOIN reason ON reason.entry = entry.id WHERE entry.id = ?2 AND ?1 IN (debit, credit)";

/// The account's postings with numbers below `before`, newest first, `limit` at most.
pub(super) fn newest_first(
    connection: &Connection,
    account: i64,
    before: i64,
    limit: usize,
) -> Result<Vec<Line>, StoreError> {
    let mut lines = Vec::new();
    let mut entry = at_or_above(connection, account, before)?;
    while entry > 0 && lines.len() < limit {
        let (line, previous) = step(connection, account, entry)?;
        if entry < before {
            lines.push(line);
        }
        entry = previous;
    }
    Ok(lines)
}

/// The account's postings back to the first that is older than `from`, newest first.
pub(super) fn since(
    connection: &Connection,
    account: i64,
    from: Timestamp,
) -> Result<Vec<Line>, StoreError> {
    let mut lines = Vec::new();
    let mut entry = at_or_above(connection, account, i64::MAX)?;
    while entry > 0 {
        let (line, previous) = step(connection, account, entry)?;
        if line.at < from {
            break;
        }
        lines.push(line);
        entry = previous;
    }
    Ok(lines)
}

/// The account's postings with numbers above `after` and of moments that are `wanted`, oldest
/// first, `limit` at most.
pub(super) fn oldest_first(
    connection: &Connection,
    account: i64,
    after: i64,
    wanted: impl Fn(Timestamp) -> bool,
    limit: usize,
) -> Result<Vec<Line>, StoreError> {
    let (mut lines, mut low) = (Vec::new(), after);
    while lines.len() < limit {
        let high = at_or_above(connection, account, low.saturating_add(1))?;
        if high <= low {
            break;
        }
        let (mut part, mut entry) = (Vec::new(), high);
        while entry > low {
            let (line, previous) = step(connection, account, entry)?;
            part.push(line);
            entry = previous;
        }
        part.reverse();
        lines.extend(part.into_iter().filter(|line| wanted(line.at)));
        low = high;
    }
    lines.truncate(limit);
    Ok(lines)
}

/// The first marked posting at or above `number`, or else the account's last; 0 where there is none.
fn at_or_above(connection: &Connection, account: i64, number: i64) -> Result<i64, StoreError> {
    let sql = "SELECT coalesce((SELECT min(entry) FROM posting_mark WHERE account = ?1 AND entry >= ?2), \
               (SELECT last_entry FROM account WHERE id = ?1), 0)";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([account, number], |row| row.get(0))?)
}

/// One posting, and the number of the one before it: smaller, so that no walk goes on for ever.
fn step(connection: &Connection, account: i64, entry: i64) -> Result<(Line, i64), StoreError> {
    let mut statement = connection.prepare_cached(LINE_SQL)?;
    let read = |row: &Row<'_>| Ok((read_line(row)?, row.get(9)?));
    let found = statement.query_row([account, entry], read).optional()?;
    let broken = || StoreError::Broken(format!("entry {entry} is not where its account says"));
    let (line, previous): (Line, i64) = found.ok_or_else(broken)?;
    if previous >= entry {
        return Err(broken());
    }
    Ok((line, previous))
}

/// A line from nine columns: number, moment, kind, signed amount, balance, terminal, the other
/// account's kind and number, reason.
fn read_line(row: &Row<'_>) -> rusqlite::Result<Line> {
    let kind = EntryKind::from_number(row.get(2)?).ok_or(rusqlite::Error::InvalidQuery)?;
    let counterparty = match row.get::<_, i64>(6)? {
        crate::store::state::KIND_CUSTOMER => row.get::<_, String>(7)?.parse().ok(),
        _ => None,
    };
    Ok(Line {
        entry: row.get(0)?,
        at: Timestamp::from_unix_ms(row.get(1)?),
        kind,
        amount: row.get(3)?,
        balance: row.get(4)?,
        terminal: row.get(5)?,
        counterparty,
        reason: row.get(8)?,
    })
}

/// Captures that came after their hold had expired, newest first.
pub(super) fn late_captures(connection: &Connection, limit: usize) -> Result<Done, StoreError> {
    // The customer whose account it was stands where the counterparty would.
    let mut statement = connection.prepare(
        "SELECT entry.id, entry.at, entry.kind, -entry.amount, entry.debit_balance, \
         coalesce(terminal.name, ''), own.kind, own.number, NULL FROM entry \
         JOIN account own ON own.id = entry.debit LEFT JOIN terminal ON terminal.id = entry.terminal \
         WHERE entry.kind = 4 ORDER BY entry.id DESC LIMIT ?1",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map([limit], read_line)?;
    Ok(Done::Lines(rows.collect::<Result<Vec<_>, _>>()?))
}
