//! The log of covered rows chained again, and each row compared with its newest record.

use std::collections::HashMap;

use rusqlite::{Connection, Error};

use super::audit::Faults;
use super::covered::{RECORD_SQL, head, is_as_written, newest, read_record};
use super::replay::Accounts;
use super::slices::{Slices, read_on};
use crate::access::row_mac::Keyring;
use crate::domain::entry::CHAIN_START;
use crate::store::rules::covered::Covered;
use crate::store::{LogHead, StoreError};

/// The log of covered rows as its records chain, up to one of them.
pub(super) struct RowRecordsReplay {
    pub(super) last: LogHead,
    /// How far [`read_on`] has come.
    read: i64,
    /// What is to be compared once its record was read.
    unchecked: Option<LogHead>,
    /// Revisions of rows that are no customer's.
    others: HashMap<Covered, i64>,
}

impl RowRecordsReplay {
    pub(super) fn new(before: Option<LogHead>) -> Self {
        Self {
            last: LogHead {
                count: 0,
                hash: CHAIN_START,
            },
            read: i64::MIN,
            unchecked: before,
            others: HashMap::new(),
        }
    }

    /// Chains the next records again and compares; whether there may be more. All accounts must have been read
    /// that are in the snapshot.
    pub(super) fn read_on(
        &mut self,
        connection: &Connection,
        accounts: &mut Accounts,
        faults: &mut Faults,
    ) -> Result<bool, StoreError> {
        let sql = format!("{RECORD_SQL} WHERE id > ?1 ORDER BY id");
        read_on(connection, &sql, &mut self.read, |row| {
            let (record, hash) = match read_record(row) {
                Err(Error::InvalidQuery) => {
                    let number: i64 = row.get(0)?;
                    let words = "it names no account or terminal, or both";
                    faults.add(format!("record {number} of a row: {words}"));
                    return Ok(());
                }
                read => read?,
            };
            let number = record.number;
            if let Some(kept) = self.unchecked.take_if(|kept| kept.count < number) {
                compare(kept, self.last, faults);
            }
            let expected = self.last.count.saturating_add(1);
            if number != expected {
                faults.add(format!("record {expected} of a row: it is not there"));
            }
            if record.hash(&self.last.hash) != hash {
                faults.add(format!(
                    "record {number} of a row: the hash chain is broken"
                ));
            }
            let customer = match record.covered {
                Covered::Account(id) => accounts.get_mut(id).filter(|account| account.is_customer),
                Covered::Terminal(_) => None,
            };
            let revision = match customer {
                Some(account) => &mut account.revision,
                None => self.others.entry(record.covered).or_insert(0),
            };
            if record.revision != revision.saturating_add(1) {
                faults.add(format!(
                    "record {number} of a row: its revision does not follow"
                ));
            }
            *revision = record.revision;
            // Goes on from what is stored, so that one fault is not reported for all that follows.
            self.last = LogHead {
                count: number,
                hash,
            };
            Ok(())
        })
    }

    /// All records were read that are in the snapshot: those of terminals are compared with their rows.
    /// Returns how many could not be.
    pub(super) fn finish(
        &mut self,
        connection: &Connection,
        keyring: &Keyring,
        faults: &mut Faults,
    ) -> Result<u64, StoreError> {
        if let Some(kept) = self.unchecked.take() {
            compare(kept, self.last, faults);
        }
        // Where there is none, it says nothing.
        let head = match head(connection) {
            Err(StoreError::Broken(_)) => None,
            head => Some(head?),
        };
        if head != Some(self.last) {
            faults.add("records of rows: they do not end where their head says".to_owned());
        }
        let mut statement = connection.prepare("SELECT id, name FROM terminal ORDER BY id")?;
        let mut rows = statement.query([])?;
        let mut unchecked = 0_u64;
        while let Some(row) = rows.next()? {
            let (id, name): (i64, String) = (row.get(0)?, row.get(1)?);
            let covered = Covered::Terminal(id);
            self.others.remove(&covered);
            match look_at(connection, keyring, covered)? {
                Looked::Right => {}
                Looked::Unchecked => unchecked = unchecked.saturating_add(1),
                Looked::Wrong => faults.add(format!(
                    "terminal {name}: whether it is disabled is not as the bank wrote it last"
                )),
            }
        }
        let gone = self.others.drain().map(|(row, _)| format!("{row:?}"));
        let mut gone: Vec<String> = gone.collect();
        gone.sort();
        for row in gone {
            faults.add(format!("{row}: it has a record, and is not there"));
        }
        Ok(unchecked)
    }
}

fn compare(kept: LogHead, last: LogHead, faults: &mut Faults) {
    if kept != last {
        let count = kept.count;
        faults.add(format!(
            "the records of rows up to {count} are not those that digest was made of"
        ));
    }
}

/// Compares each customer's row with its newest record, a snapshot after another; returns how many could
/// not be.
pub(super) fn audit(
    slices: &mut Slices<'_>,
    keyring: &Keyring,
    accounts: &Accounts,
    faults: &mut Faults,
) -> Result<u64, StoreError> {
    let mut unchecked = 0_u64;
    for account in accounts.all().iter().filter(|account| account.is_customer) {
        match look_at(slices.connection, keyring, Covered::Account(account.id))? {
            Looked::Right => {}
            Looked::Unchecked => unchecked = unchecked.saturating_add(1),
            Looked::Wrong => faults.add(format!(
                "{}: its number, status, limits, PIN or home is not as the bank wrote it last",
                account.number
            )),
        }
        slices.turn()?;
    }
    Ok(unchecked)
}

enum Looked {
    Right,
    Wrong,
    /// There is no pepper to check it with.
    Unchecked,
}

fn look_at(
    connection: &Connection,
    keyring: &Keyring,
    covered: Covered,
) -> Result<Looked, StoreError> {
    if keyring.is_empty() && newest(connection, covered).is_ok_and(|newest| newest.is_some()) {
        return Ok(Looked::Unchecked);
    }
    match is_as_written(connection, keyring, covered) {
        Ok(true) => Ok(Looked::Right),
        // Its record makes no sense.
        Ok(false) | Err(StoreError::Broken(_)) => Ok(Looked::Wrong),
        Err(error) => Err(error),
    }
}
