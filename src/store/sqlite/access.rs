//! Rows of tries and credentials: read, and written.

use rusqlite::{OptionalExtension as _, Row, params};

use super::sums;
use super::writer::Books;
use crate::access::lockout::{Spent, TryRecord};
use crate::access::pepper::PepperId;
use crate::access::pin::{HashCost, PinHash, PinVerified, StoredPin};
use crate::access::stand_in::{DRAWS_MAX, StandInKey};
use crate::domain::hold::LATE_CAPTURE_MS;
use crate::domain::{AccountNumber, TerminalName, Timestamp};
use crate::store::StoreError;
use crate::store::rules::covered::Covered;
use crate::store::state::{CredentialRow, KIND_CUSTOMER, Tries};
use crate::store::working::{CoveredChange, MayBeShown};

impl Books<'_> {
    /// The account whose home and hash's cost an account that is not there shows: one that may be shown,
    /// every one as likely as any other. And a row beside it, drawn alike, of any account.
    pub(super) fn decoy(
        &mut self,
        number: AccountNumber,
        may_be_shown: MayBeShown,
    ) -> Result<(Option<CredentialRow>, i64), StoreError> {
        let key = self.stand_in_key()?;
        let rows = self
            .connection
            .prepare_cached("SELECT coalesce(max(id), 0) FROM account")?
            .query_row([], |row| row.get::<_, u64>(0))?;
        let draw = |index| i64::try_from(key.draw(number, index, rows)).unwrap_or(i64::MAX);
        let another = draw(DRAWS_MAX);
        for index in 0..DRAWS_MAX {
            let drawn = self.credential_of(draw(index))?;
            if let Some(found) = drawn.filter(may_be_shown) {
                return Ok((Some(found), another));
            }
        }
        Ok((None, another))
    }

    fn stand_in_key(&mut self) -> Result<StandInKey, StoreError> {
        if let Some(key) = &self.memory.stand_in_key {
            return Ok(key.clone());
        }
        let text: String = self
            .connection
            .prepare_cached("SELECT value FROM bank WHERE name = 'stand_in_key'")?
            .query_row([], |row| row.get(0))?;
        let broken = || StoreError::Broken("the key of stand-ins is damaged".to_owned());
        let key = StandInKey::parse(&text).ok_or_else(broken)?;
        self.memory.stand_in_key = Some(key.clone());
        Ok(key)
    }

    /// Replaces an account's PIN by another, of the next revision; the caller records the row.
    fn set_pin(
        &mut self,
        account: i64,
        hash: &PinHash,
        one_time_until: Option<Timestamp>,
        demo: bool,
    ) -> Result<(), StoreError> {
        self.know_pepper(&hash.pepper)?;
        self.connection
            .prepare_cached(
                "INSERT INTO credential (account, revision, memory_kib, iterations, parallelism, pepper, \
                 salt, digest, must_change, expires_at, demo) VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
                 ON CONFLICT (account) DO UPDATE SET revision = revision + 1, memory_kib = ?2, iterations = ?3, \
                 parallelism = ?4, pepper = ?5, salt = ?6, digest = ?7, must_change = ?8, expires_at = ?9, demo = ?10",
            )?
            .execute(params![
                account,
                hash.cost.memory_kib,
                hash.cost.iterations,
                hash.cost.parallelism,
                hash.pepper.as_str(),
                hash.salt,
                hash.digest,
                one_time_until.is_some(),
                one_time_until.map(Timestamp::unix_ms),
                demo
            ])?;
        Ok(())
    }

    /// The same PIN, hashed anew; the caller records the row.
    fn save_hash(&mut self, account: i64, hash: &PinHash) -> Result<(), StoreError> {
        self.know_pepper(&hash.pepper)?;
        self.connection
            .prepare_cached(
                "UPDATE credential SET memory_kib = ?2, iterations = ?3, parallelism = ?4, pepper = ?5, \
                 salt = ?6, digest = ?7 WHERE account = ?1",
            )?
            .execute(params![
                account,
                hash.cost.memory_kib,
                hash.cost.iterations,
                hash.cost.parallelism,
                hash.pepper.as_str(),
                hash.salt,
                hash.digest
            ])?;
        Ok(())
    }

    /// What a number is let in by, read like that of the row `another` where it is no customer's: a row that
    /// was not read just now, as an account's own is not, which would be read faster.
    pub(super) fn credential(
        &self,
        number: AccountNumber,
        another: i64,
    ) -> Result<Option<Option<CredentialRow>>, StoreError> {
        let row = self.customer_row(number)?;
        let credential = self.credential_of(row.unwrap_or(another))?;
        Ok(row.map(|_| credential))
    }

    /// The row of the account of that number; no other kind of account has such a number.
    fn customer_row(&self, number: AccountNumber) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT id FROM account WHERE number = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let row = statement.query_row([number.as_str()], |row| row.get(0));
        Ok(row.optional()?)
    }

    /// The credential of the account in that row, if it is a customer's; no row is 0.
    fn credential_of(&self, row: i64) -> Result<Option<CredentialRow>, StoreError> {
        let sql = "SELECT account.id, account.status, revision, memory_kib, iterations, parallelism, pepper, \
                   salt, digest, must_change, expires_at, home, account.number \
                   FROM account JOIN credential ON credential.account = account.id \
                   WHERE account.id = ?1 AND account.kind = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        match statement.query_row(params![row, KIND_CUSTOMER], read_credential) {
            // There is none, or it does not hold what its columns promise: nobody is let in by it, and
            // all others are served on.
            Err(error) if error.sqlite_error_code().is_none() => Ok(None),
            found => Ok(Some(found?)),
        }
    }

    pub(super) fn tries(&self, number: AccountNumber) -> Result<Option<TryRecord>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT home_terminal, home, home_at, other, other_at FROM try WHERE number = ?1",
        )?;
        let row = statement.query_row([number.as_str()], |row| read_tries(row, 0));
        Ok(row.optional()?)
    }

    pub(super) fn save_tries(
        &self,
        number: AccountNumber,
        tries: &Tries,
    ) -> Result<(), StoreError> {
        let Tries { record, expires_at } = tries;
        self.connection
            .prepare_cached(
                "INSERT INTO try (number, home_terminal, home, home_at, other, other_at, expires_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                 ON CONFLICT (number) DO UPDATE SET home_terminal = ?2, home = ?3, home_at = ?4, \
                 other = ?5, other_at = ?6, expires_at = ?7",
            )?
            .execute(params![
                number.as_str(),
                record.home_terminal.as_ref().map(TerminalName::as_str),
                record.home.count,
                record.home.last_at.unix_ms(),
                record.other.count,
                record.other.last_at.unix_ms(),
                expires_at.map(Timestamp::unix_ms)
            ])?;
        Ok(sums::renew(self.connection, sums::TRY, number.as_str())?)
    }

    /// Keeps a change of a covered row, and records the row.
    pub(super) fn save_covered(&mut self, change: &CoveredChange) -> Result<(), StoreError> {
        let covered = match change {
            CoveredChange::Pin {
                account,
                hash,
                one_time_until,
                is_demo,
            } => {
                self.set_pin(*account, hash, *one_time_until, *is_demo)?;
                Covered::Account(*account)
            }
            CoveredChange::Kept {
                account,
                hash,
                home,
            } => {
                if let Some(hash) = hash {
                    self.save_hash(*account, hash)?;
                }
                if let Some(home) = home {
                    let sql = "UPDATE credential SET home = ?2 WHERE account = ?1";
                    self.set(sql, params![account, home.as_str()])?;
                }
                Covered::Account(*account)
            }
            CoveredChange::Status { account, status } => {
                self.forget_account(*account)?;
                let sql = "UPDATE account SET status = ?2 WHERE id = ?1";
                self.set(sql, params![account, status])?;
                Covered::Account(*account)
            }
            CoveredChange::Limits {
                account,
                withdrawal,
                daily,
            } => {
                self.forget_account(*account)?;
                let sql =
                    "UPDATE account SET withdrawal_limit = ?2, daily_limit = ?3 WHERE id = ?1";
                self.set(sql, params![account, withdrawal, daily])?;
                Covered::Account(*account)
            }
            CoveredChange::Disabled { terminal, disabled } => {
                let sql = "UPDATE terminal SET disabled = ?2 WHERE id = ?1";
                self.set(sql, params![terminal, disabled])?;
                Covered::Terminal(*terminal)
            }
            CoveredChange::Accepted(covered) => *covered,
        };
        self.record_row(covered)
    }

    fn set(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), StoreError> {
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    pub(super) fn forget_tries(&mut self, number: AccountNumber) -> Result<(), StoreError> {
        let removed = self
            .connection
            .prepare_cached("DELETE FROM try WHERE number = ?1")?
            .execute([number.as_str()])?;
        self.fewer_tries(removed);
        Ok(())
    }

    pub(super) fn fewer_tries(&mut self, removed: usize) {
        let removed = u64::try_from(removed).unwrap_or(u64::MAX);
        let rows = &mut self.memory.rows.known.ends.try_rows;
        *rows = rows.map(|rows| rows.saturating_sub(removed));
    }

    /// Whether a hold of the account can still be captured late.
    pub(super) fn has_late_holds(&self, account: i64, now: Timestamp) -> Result<bool, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT 1 FROM hold WHERE account = ?1 AND state = 3 AND expires_at > ?2",
        )?;
        Ok(statement.exists(params![account, now.minus_ms(LATE_CAPTURE_MS).unix_ms()])?)
    }
}

/// What a proof says, in a form that a job can keep.
pub(super) fn proven(proof: &PinVerified) -> (AccountNumber, i64) {
    (proof.account(), proof.revision())
}

/// Tries from five columns: `home_terminal, home, home_at, other, other_at`.
pub(super) fn read_tries(row: &Row<'_>, first: usize) -> rusqlite::Result<TryRecord> {
    let spent = |at: usize| -> rusqlite::Result<Spent> {
        Ok(Spent {
            count: row.get(at)?,
            last_at: Timestamp::from_unix_ms(row.get(at.saturating_add(1))?),
        })
    };
    Ok(TryRecord {
        home_terminal: read_terminal(row, first)?,
        home: spent(first.saturating_add(1))?,
        other: spent(first.saturating_add(3))?,
    })
}

fn read_terminal(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<TerminalName>> {
    let name: Option<String> = row.get(column)?;
    let read = |name: String| name.parse().map_err(|_| rusqlite::Error::InvalidQuery);
    name.map(read).transpose()
}

fn read_credential(row: &Row<'_>) -> rusqlite::Result<CredentialRow> {
    let number: String = row.get(12)?;
    let number = number.parse().map_err(|_| rusqlite::Error::InvalidQuery)?;
    let pepper: String = row.get(6)?;
    let pepper = PepperId::parse(&pepper).ok_or(rusqlite::Error::InvalidQuery)?;
    let cost = HashCost {
        memory_kib: row.get(3)?,
        iterations: row.get(4)?,
        parallelism: row.get(5)?,
    };
    let hash = PinHash {
        cost,
        pepper,
        salt: row.get(7)?,
        digest: row.get(8)?,
    };
    Ok(CredentialRow {
        account: row.get(0)?,
        status: row.get(1)?,
        stored: StoredPin {
            hash,
            revision: row.get(2)?,
        },
        must_change: row.get(9)?,
        expires_at: row.get::<_, Option<i64>>(10)?.map(Timestamp::from_unix_ms),
        home: read_terminal(row, 11)?,
        number,
    })
}
