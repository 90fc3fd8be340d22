//! The audit log's table: appended to in the writer's transactions, read and replayed apart.

use rusqlite::{Connection, Row, params};

use super::audit::Faults;
use super::slices::read_on;
use super::writer::Books;
use crate::domain::entry::{CHAIN_START, ChainHash};
use crate::domain::{AuditRecord, Timestamp};
use crate::store::rules::audit::append;
use crate::store::{Done, Event, LogHead, Note, RecordsAsked, StoreError};

const COLUMNS: &str = "id, at, event, outcome, account, terminal, connection, actor, detail, hash";

impl Books<'_> {
    /// Appends a record to the log, in the transaction that is open.
    pub(super) fn append(&mut self, note: &Note) -> Result<(), StoreError> {
        self.apply(|rows| append(rows, note))
    }

    pub(super) fn insert_record(
        &self,
        record: &AuditRecord,
        hash: &ChainHash,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO audit (id, at, event, outcome, account, terminal, connection, actor, detail, hash) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                record.number,
                record.at.unix_ms(),
                record.event,
                record.outcome,
                record.account,
                record.terminal,
                record.connection,
                record.actor,
                record.detail,
                hash
            ])?;
        self.connection
            .prepare_cached("UPDATE audit_head SET count = ?1, hash = ?2")?
            .execute(params![record.number, hash])?;
        Ok(())
    }

    pub(super) fn append_all(&mut self, notes: &[Note]) -> Result<(), StoreError> {
        notes.iter().try_for_each(|note| self.append(note))
    }
}

pub(super) fn head(connection: &Connection) -> Result<LogHead, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT count, hash FROM audit_head WHERE one = 1")?;
    let read = |row: &Row<'_>| {
        Ok(LogHead {
            count: row.get(0)?,
            hash: row.get(1)?,
        })
    };
    Ok(statement.query_row([], read)?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<(AuditRecord, ChainHash)> {
    let record = AuditRecord {
        number: row.get(0)?,
        at: Timestamp::from_unix_ms(row.get(1)?),
        event: row.get(2)?,
        outcome: row.get(3)?,
        account: row.get(4)?,
        terminal: row.get(5)?,
        connection: row.get(6)?,
        actor: row.get(7)?,
        detail: row.get(8)?,
    };
    Ok((record, row.get(9)?))
}

pub(super) fn list(connection: &Connection, asked: &RecordsAsked) -> Result<Done, StoreError> {
    let order = if asked.newest { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT {COLUMNS} FROM audit WHERE id > ?1 AND at >= ?2 AND at < ?3 AND (?4 IS NULL OR event = ?4) \
         AND (?5 IS NULL OR terminal = ?5) ORDER BY id {order} LIMIT ?6"
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(
        params![
            asked.after,
            asked.from.map_or(i64::MIN, Timestamp::unix_ms),
            asked.to.map_or(i64::MAX, Timestamp::unix_ms),
            asked.event,
            asked.terminal,
            i64::try_from(asked.limit).unwrap_or(i64::MAX)
        ],
        read,
    )?;
    let mut records = rows.collect::<Result<Vec<_>, _>>()?;
    records.sort_by_key(|(record, _)| record.number);
    Ok(Done::Records(records))
}

/// The log as its records chain, up to one of them.
pub(super) struct AuditLogReplay {
    pub(super) last: LogHead,
    /// The latest moment of its records, in milliseconds since 1970, or 0.
    pub(super) newest: i64,
    /// How far [`read_on`] has come.
    read: i64,
    /// What is to be compared once its record was read.
    unchecked: Option<LogHead>,
    /// The records of acceptances of the wall clock, oldest first: begun and ended.
    pub(super) accepted: Vec<AuditRecord>,
}

impl AuditLogReplay {
    pub(super) fn new(before: Option<LogHead>) -> Self {
        Self {
            last: LogHead {
                count: 0,
                hash: CHAIN_START,
            },
            newest: 0,
            read: i64::MIN,
            unchecked: before,
            accepted: Vec::new(),
        }
    }

    /// Chains the next records again and compares; whether there may be more.
    pub(super) fn read_on(
        &mut self,
        connection: &Connection,
        faults: &mut Faults,
    ) -> Result<bool, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM audit WHERE id > ?1 ORDER BY id");
        read_on(connection, &sql, &mut self.read, |row| {
            let (record, hash) = read(row)?;
            if let Some(kept) = self.unchecked.take_if(|kept| kept.count < record.number) {
                compare(kept, self.last, faults);
            }
            let expected = self.last.count.saturating_add(1);
            if record.number != expected {
                faults.add(format!("audit record {expected}: it is not there"));
            }
            if record.hash(&self.last.hash) != hash {
                let number = record.number;
                faults.add(format!("audit record {number}: the hash chain is broken"));
            }
            // Goes on from what is stored, so that one fault is not reported for all that follows.
            self.last = LogHead {
                count: record.number,
                hash,
            };
            self.newest = self.newest.max(record.at.unix_ms());
            if record.event == Event::ClockAccepted.name() {
                self.accepted.push(record);
            }
            Ok(())
        })
    }

    /// All records were read that are in the snapshot.
    pub(super) fn finish(
        &mut self,
        connection: &Connection,
        faults: &mut Faults,
    ) -> Result<(), StoreError> {
        if let Some(kept) = self.unchecked.take() {
            compare(kept, self.last, faults);
        }
        // Where there is none, it says nothing.
        let head = match head(connection) {
            Err(StoreError::Broken(_)) => None,
            head => Some(head?),
        };
        if head != Some(self.last) {
            faults.add("audit log: it does not end where its head says".to_owned());
        }
        Ok(())
    }
}

fn compare(kept: LogHead, last: LogHead, faults: &mut Faults) {
    if kept != last {
        let count = kept.count;
        faults.add(format!(
            "the audit log up to record {count} is not the one that digest was made of"
        ));
    }
}
