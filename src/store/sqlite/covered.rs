//! Rows that are covered by a MAC: whether each is as the bank wrote it last, and the log that says how
//! that was.
//!
//! A MAC is over the record's number and revision too, so that neither a hash that was moved to
//! another account nor an older row passes for the newest.

use aws_lc_rs::digest;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::writer::Books;
use crate::access::pepper::PepperId;
use crate::access::row_mac::Keyring;
use crate::domain::Timestamp;
use crate::domain::entry::ChainHash;
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

/// A row that is covered, by its number in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Covered {
    Account(i64),
    Terminal(i64),
}

impl Covered {
    fn id(self) -> i64 {
        match self {
            Self::Account(id) | Self::Terminal(id) => id,
        }
    }

    /// The columns of `row_record`.
    fn columns(self) -> (Option<i64>, Option<i64>) {
        match self {
            Self::Account(id) => (Some(id), None),
            Self::Terminal(id) => (None, Some(id)),
        }
    }

    /// What a MAC is over: each column behind its type and its length, so that no two rows share
    /// bytes. `None` where there is no such row.
    fn read(self, connection: &Connection) -> rusqlite::Result<Option<Vec<u8>>> {
        let sql = match self {
            Self::Account(_) => format!("{ACCOUNT_SQL} WHERE account.id = ?1"),
            Self::Terminal(_) => format!("{TERMINAL_SQL} WHERE id = ?1"),
        };
        let mut statement = connection.prepare_cached(&sql)?;
        let read = |row: &Row<'_>| self.bytes(row);
        statement.query_row([self.id()], read).optional()
    }

    fn bytes(self, row: &Row<'_>) -> rusqlite::Result<Vec<u8>> {
        let mut bytes = match self {
            Self::Account(_) => b"atm-bank/account-row/1\0".to_vec(),
            Self::Terminal(_) => b"atm-bank/terminal-row/1\0".to_vec(),
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
}

/// A record of a covered row.
pub(super) struct Record {
    pub(super) number: i64,
    pub(super) covered: Covered,
    pub(super) revision: i64,
    pepper: String,
    mac: Vec<u8>,
}

impl Record {
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<(Self, ChainHash)> {
        let covered = match (row.get(1)?, row.get(2)?) {
            (Some(account), None) => Covered::Account(account),
            (None, Some(terminal)) => Covered::Terminal(terminal),
            _ => return Err(rusqlite::Error::InvalidQuery),
        };
        let record = Self {
            number: row.get(0)?,
            covered,
            revision: row.get(3)?,
            pepper: row.get(4)?,
            mac: row.get(5)?,
        };
        Ok((record, row.get(6)?))
    }

    /// The newest of a row.
    pub(super) fn newest(
        connection: &Connection,
        covered: Covered,
    ) -> rusqlite::Result<Option<Self>> {
        let of = match covered {
            Covered::Account(_) => "account",
            Covered::Terminal(_) => "terminal",
        };
        let sql = format!("{RECORD_SQL} WHERE {of} = ?1 ORDER BY id DESC LIMIT 1");
        let mut statement = connection.prepare_cached(&sql)?;
        let found = statement.query_row([covered.id()], Self::from_row);
        Ok(found.optional()?.map(|(record, _)| record))
    }

    fn with_place(mut row: Vec<u8>, number: i64, revision: i64) -> Vec<u8> {
        row.extend(number.to_be_bytes());
        row.extend(revision.to_be_bytes());
        row
    }

    /// Whether `row` is what this record was made of.
    fn is_of(&self, keyring: &Keyring, row: Vec<u8>) -> bool {
        let row = Self::with_place(row, self.number, self.revision);
        let pepper = PepperId::parse(&self.pepper);
        pepper.is_some_and(|pepper| keyring.is_right(&pepper, &row, &self.mac))
    }

    /// SHA-256 over the hash of the record before and every field.
    pub(super) fn hash(&self, previous: &ChainHash) -> ChainHash {
        let (kind, id) = match self.covered {
            Covered::Account(id) => (0, id),
            Covered::Terminal(id) => (1, id),
        };
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"atm-bank/row-record/1\0");
        context.update(previous);
        context.update(&self.number.to_be_bytes());
        context.update(&[kind]);
        context.update(&id.to_be_bytes());
        context.update(&self.revision.to_be_bytes());
        for part in [self.pepper.as_bytes(), &self.mac] {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }
}

/// Whether a row is as the bank wrote it last.
pub(super) fn is_as_written(
    connection: &Connection,
    keyring: &Keyring,
    covered: Covered,
) -> Result<bool, StoreError> {
    let Some(row) = covered.read(connection)? else {
        return Ok(false);
    };
    match Record::newest(connection, covered)? {
        Some(record) => Ok(record.is_of(keyring, row)),
        // Made at its first money, in an order, which costs no MAC.
        None => match covered {
            Covered::Account(_) => Ok(false),
            Covered::Terminal(id) => Ok(!connection
                .prepare_cached("SELECT 1 FROM terminal WHERE id = ?1 AND disabled <> 0")?
                .exists([id])?),
        },
    }
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
        let broken = |what: &str| StoreError::Broken(what.to_owned());
        let no_pepper = || StoreError::Unavailable("there is no pepper to cover a row".to_owned());
        let pepper = self.keyring.current().ok_or_else(no_pepper)?;
        self.know_pepper(&pepper)?;
        let last = match self.memory.row_log {
            Some(last) => last,
            None => head(self.connection)?,
        };
        let newest = Record::newest(self.connection, covered)?;
        let revision = newest.map_or(0, |record| record.revision).saturating_add(1);
        let number = last.count.saturating_add(1);
        let row = covered.read(self.connection)?;
        let row = row.ok_or_else(|| broken("a row that is to be covered is not there"))?;
        let row = Record::with_place(row, number, revision);
        let mac = self.keyring.mac(&pepper, &row).ok_or_else(no_pepper)?;
        let record = Record {
            number,
            covered,
            revision,
            pepper: pepper.as_str().to_owned(),
            mac: mac.to_vec(),
        };
        let hash = record.hash(&last.hash);
        let (account, terminal) = covered.columns();
        self.connection
            .prepare_cached(
                "INSERT INTO row_record (id, account, terminal, revision, pepper, mac, hash) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                number,
                account,
                terminal,
                revision,
                record.pepper,
                mac,
                hash
            ])?;
        self.connection
            .prepare_cached("UPDATE row_record_head SET count = ?1, hash = ?2")?
            .execute(params![number, hash])?;
        let count = number;
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
            Ok(Record::from_row(row)?.0.covered)
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
