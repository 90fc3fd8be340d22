//! Rows that are covered by a MAC, and the log that says how each was last: read, and appended to.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::writer::Books;
use crate::access::pepper::PepperId;
use crate::access::row_mac::Keyring;
use crate::domain::Timestamp;
use crate::domain::entry::ChainHash;
use crate::store::rules::covered::{Covered, CoveredRow, RowRecord};
use crate::store::{Done, Event, LogHead, Note, StoreError};

/// Rows of accounts that the migration gives their records between two looks at the table.
const MIGRATED_AT_ONCE: usize = 1_000;
/// Records that one step of moving to another pepper looks at.
const MOVED_AT_ONCE: i64 = 2_000;

/// Everything of a customer that is covered. An account whose credential is gone has other columns.
const ACCOUNT_SQL: &str = "SELECT account.id, account.number, account.kind, account.status, \
    account.currency, account.withdrawal_limit, account.daily_limit, account.opened_at, \
    credential.revision, credential.memory_kib, credential.iterations, credential.parallelism, \
    credential.pepper, credential.salt, credential.digest, credential.must_change, \
    credential.expires_at, credential.demo, credential.home \
    FROM account LEFT JOIN credential ON credential.account = account.id";
const TERMINAL_SQL: &str = "SELECT id, name, cash, disabled FROM terminal";
pub(super) const RECORD_SQL: &str =
    "SELECT id, account, terminal, revision, pepper, mac, hash FROM row_record";

impl CoveredRow {
    pub(super) fn read(connection: &Connection, covered: Covered) -> rusqlite::Result<Self> {
        let sql = match covered {
            Covered::Account(_) => format!("{ACCOUNT_SQL} WHERE account.id = ?1"),
            Covered::Terminal(_) => format!("{TERMINAL_SQL} WHERE id = ?1"),
        };
        let mut statement = connection.prepare_cached(&sql)?;
        let bytes = statement.query_row([covered.id()], |row| bytes(covered, row));
        let is_disabled = match covered {
            Covered::Account(_) => false,
            Covered::Terminal(id) => connection
                .prepare_cached("SELECT 1 FROM terminal WHERE id = ?1 AND disabled <> 0")?
                .exists([id])?,
        };
        Ok(Self {
            covered,
            bytes: bytes.optional()?,
            newest: newest(connection, covered)?,
            is_disabled,
        })
    }
}

/// What a MAC is over: each column behind its type and its length, so that no two rows share bytes.
fn bytes(covered: Covered, row: &Row<'_>) -> rusqlite::Result<Vec<u8>> {
    let mut bytes = match covered {
        Covered::Account(_) => b"atm-bank/account-row/1\0".to_vec(),
        Covered::Terminal(_) => b"atm-bank/terminal-row/1\0".to_vec(),
    };
    for column in 0..row.as_ref().column_count() {
        let mut add = |kind: u8, value: &[u8]| {
            bytes.push(kind);
            let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
            bytes.extend(length.to_be_bytes());
            bytes.extend(value);
        };
        match row.get_ref(column)? {
            ValueRef::Null => add(0, &[]),
            ValueRef::Integer(value) => add(1, &value.to_be_bytes()),
            ValueRef::Real(value) => add(2, &value.to_be_bytes()),
            ValueRef::Text(value) => add(3, value),
            ValueRef::Blob(value) => add(4, value),
        }
    }
    Ok(bytes)
}

/// A record, with its hash.
pub(super) fn read_record(row: &Row<'_>) -> rusqlite::Result<(RowRecord, ChainHash)> {
    let covered = match (row.get(1)?, row.get(2)?) {
        (Some(account), None) => Covered::Account(account),
        (None, Some(terminal)) => Covered::Terminal(terminal),
        _ => return Err(rusqlite::Error::InvalidQuery),
    };
    let record = RowRecord {
        number: row.get(0)?,
        covered,
        revision: row.get(3)?,
        pepper: row.get(4)?,
        mac: row.get(5)?,
    };
    Ok((record, row.get(6)?))
}

/// The newest record of a row.
pub(super) fn newest(
    connection: &Connection,
    covered: Covered,
) -> rusqlite::Result<Option<RowRecord>> {
    let of = match covered {
        Covered::Account(_) => "account",
        Covered::Terminal(_) => "terminal",
    };
    let sql = format!("{RECORD_SQL} WHERE {of} = ?1 ORDER BY id DESC LIMIT 1");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row([covered.id()], read_record);
    Ok(found.optional()?.map(|(record, _)| record))
}

/// Whether a row is as the bank wrote it last.
pub(super) fn is_as_written(
    connection: &Connection,
    keyring: &Keyring,
    covered: Covered,
) -> Result<bool, StoreError> {
    Ok(CoveredRow::read(connection, covered)?.is_as_written(keyring))
}

impl Books<'_> {
    /// Whether the row is as the bank wrote it last. A wrong one is told in the log: somebody
    /// changed the store's file.
    pub(super) fn is_as_written(&self, covered: Covered) -> Result<bool, StoreError> {
        let right = is_as_written(self.connection, self.keyring, covered)?;
        if !right {
            tracing::error!(row = ?covered, "ALARM: a row of the store is not as the bank wrote it");
        }
        Ok(right)
    }

    /// Appends the row, as it is now, to the log of covered rows.
    pub(super) fn record_row(&mut self, covered: Covered) -> Result<(), StoreError> {
        let no_pepper = || StoreError::Unavailable("there is no pepper to cover a row".to_owned());
        let pepper = self.keyring.current().ok_or_else(no_pepper)?;
        self.know_pepper(&pepper)?;
        let last = match self.memory.row_log {
            Some(last) => last,
            None => head(self.connection)?,
        };
        let row = CoveredRow::read(self.connection, covered)?;
        let record = RowRecord::next(row, last, (self.keyring, &pepper))?;
        let hash = record.hash(&last.hash);
        let (account, terminal) = match covered {
            Covered::Account(id) => (Some(id), None),
            Covered::Terminal(id) => (None, Some(id)),
        };
        self.connection
            .prepare_cached(
                "INSERT INTO row_record (id, account, terminal, revision, pepper, mac, hash) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                record.number,
                account,
                terminal,
                record.revision,
                record.pepper,
                record.mac,
                hash
            ])?;
        self.connection
            .prepare_cached("UPDATE row_record_head SET count = ?1, hash = ?2")?
            .execute(params![record.number, hash])?;
        let count = record.number;
        self.memory.row_log = Some(LogHead { count, hash });
        Ok(())
    }

    /// Covers what stood before rows were covered, in one pass.
    pub(super) fn cover_all(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if head(self.connection)?.count > 0 {
            return Ok(());
        }
        let mut accounts = 0_u64;
        let mut last = 0;
        loop {
            let next = ids(
                self.connection,
                "SELECT id FROM account WHERE kind = 0 AND id > ?1 ORDER BY id LIMIT ?2",
                last,
            )?;
            let Some(end) = next.last() else { break };
            last = *end;
            for id in next {
                self.record_row(Covered::Account(id))?;
                accounts = accounts.saturating_add(1);
            }
        }
        let disabled =
            "SELECT id FROM terminal WHERE disabled <> 0 AND id > ?1 ORDER BY id LIMIT ?2";
        let (mut terminals, mut last) = (0_u64, 0);
        loop {
            let next = ids(self.connection, disabled, last)?;
            let Some(end) = next.last() else { break };
            last = *end;
            for id in next {
                self.record_row(Covered::Terminal(id))?;
                terminals = terminals.saturating_add(1);
            }
        }
        if (accounts, terminals) == (0, 0) {
            return Ok(());
        }
        let detail = format!("accounts {accounts}, disabled terminals {terminals}");
        self.append(&Note::new(Event::RowsCovered, now).detail(detail))
    }

    /// Gives rows whose newest record stands on `pepper` one of the current pepper, of the records
    /// behind `after`, a bounded number at once or else all. `Done::Count` says behind which record
    /// to go on; 0 where there is none.
    pub(super) fn move_rows(
        &mut self,
        pepper: &PepperId,
        after: i64,
        all: bool,
    ) -> Result<Done, StoreError> {
        let most = if all { i64::MAX } else { MOVED_AT_ONCE };
        let end = after.saturating_add(most);
        let sql = format!(
            "{RECORD_SQL} WHERE id > ?1 AND id <= ?2 AND pepper = ?3 AND NOT EXISTS (SELECT 1 FROM row_record \
             AS later WHERE later.id > row_record.id AND later.account = row_record.account) AND NOT EXISTS \
             (SELECT 1 FROM row_record AS later WHERE later.id > row_record.id AND later.terminal = row_record.terminal)"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found = statement.query_map(params![after, end, pepper.as_str()], |row| {
            Ok(read_record(row)?.0.covered)
        })?;
        let standing = found.collect::<Result<Vec<_>, _>>()?;
        if !standing.is_empty() && self.keyring.current().as_ref() == Some(pepper) {
            let why = "rows are covered with that pepper; mend: pepper rotate first";
            return Ok(Done::Refused(why.to_owned()));
        }
        // All of them are looked at before one is changed: what is refused has changed nothing.
        for covered in &standing {
            if !self.is_as_written(*covered)? {
                return Ok(Done::forged());
            }
        }
        for covered in standing {
            self.record_row(covered)?;
        }
        let count = head(self.connection)?.count;
        Ok(Done::Count(match end < count {
            true => u64::try_from(end).unwrap_or(0),
            false => 0,
        }))
    }
}

fn ids(connection: &Connection, sql: &str, after: i64) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(sql)?;
    let most = i64::try_from(MIGRATED_AT_ONCE).unwrap_or(i64::MAX);
    let found = statement.query_map([after, most], |row| row.get(0))?;
    found.collect()
}

pub(super) fn head(connection: &Connection) -> Result<LogHead, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT count, hash FROM row_record_head WHERE one = 1")?;
    let read = |row: &Row<'_>| {
        Ok(LogHead {
            count: row.get(0)?,
            hash: row.get(1)?,
        })
    };
    Ok(statement.query_row([], read)?)
}
