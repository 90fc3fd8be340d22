//! Tries, claims, PINs, sweeping.

use rusqlite::{OptionalExtension as _, Row, params};

use super::covered::Covered;
use super::sums;
use super::writer::Books;
use crate::access::lockout::{Counted, LockoutPolicy, Spent, TryRecord};
use crate::access::pepper::PepperId;
use crate::access::pin::{HashCost, HashTraits, PinHash, PinVerified, StoredPin, Ticket};
use crate::access::stand_in::{DRAWS_MAX, StandInKey};
use crate::domain::hold::LATE_CAPTURE_MS;
use crate::domain::{AccountNumber, TerminalName, Timestamp};
use crate::store::state::{KIND_CUSTOMER, STATUS_CLOSED, STATUS_LOCKED};
use crate::store::{Balances, Context, Event, PinChange, StoreError, TryCounted};

/// A row of `credential` with what its account says.
pub(super) struct CredentialRow {
    pub(super) account: i64,
    pub(super) number: AccountNumber,
    pub(super) status: i64,
    pub(super) stored: StoredPin,
    pub(super) must_change: bool,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) home: Option<TerminalName>,
}

impl CredentialRow {
    fn traits(self) -> HashTraits {
        let PinHash { cost, pepper, .. } = self.stored.hash;
        HashTraits { cost, pepper }
    }

    fn is_void(&self, now: Timestamp) -> bool {
        self.status == STATUS_CLOSED || self.expires_at.is_some_and(|end| end <= now)
    }
}

/// What a right PIN led to, inside the transaction; the seat is the caller's matter.
pub(super) enum Admission {
    Admitted {
        row: i64,
        balances: Balances,
        must_change_pin: bool,
    },
    Locked,
    /// The account's row is not as the bank wrote it.
    Forged,
    Void,
}

impl Books<'_> {
    pub(super) fn count_try(
        &mut self,
        number: AccountNumber,
        context: &Context,
    ) -> Result<TryCounted, StoreError> {
        let policy = context.terms.lockout;
        let record = self.tries(number)?;
        // The same questions for every number, whether it is an account's or not.
        let (stand_in, another) = self.stand_in(number)?;
        // A row that was not read just now, as an account's own is not: it would be read faster.
        let known = self.customer_row(number)?;
        let own = self.credential_of(known.unwrap_or(another))?;
        if known.is_some() && own.is_none() {
            tracing::error!(row = ?known, "ALARM: an account's credential is gone or unreadable");
            return Ok(TryCounted::Forged);
        }
        let own = own.filter(|own| own.number == number && !own.is_void(context.now));
        let is_new = record.is_none();
        if is_new && !self.takes_another_try_row(context)? {
            return Ok(TryCounted::TableFull);
        }
        let home = own.as_ref().or(stand_in.as_ref());
        let home = home.and_then(|credential| credential.home.as_ref());
        let counted = TryRecord::count(record, home, &context.terminal, policy, context.now);
        let Counted { record, last } = match counted {
            Ok(counted) => counted,
            Err(locked) => return Ok(TryCounted::LockedOut(locked.retry_after_ms)),
        };
        self.save_tries(number, &record, policy)?;
        if last {
            self.append(&context.note(Event::LastTry, number).outcome("counted"))?;
        }
        let ticket = Ticket::for_counted_try(number, own.map(|own| own.stored));
        let ticket = ticket.with_stand_in(stand_in.map(|other| other.traits()));
        Ok(TryCounted::Check(ticket.with_last(last)))
    }

    /// The account whose home and hash's cost an account that is not there shows: an open one,
    /// every one as likely as any other. And a row beside it, drawn alike, of any account.
    fn stand_in(
        &mut self,
        number: AccountNumber,
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
            if let Some(found) = drawn.filter(|found| found.status != STATUS_CLOSED) {
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

    pub(super) fn admit(
        &mut self,
        number: AccountNumber,
        revision: i64,
        upgrade: Option<&PinHash>,
        seated: bool,
        context: &Context,
    ) -> Result<Admission, StoreError> {
        let admission = self.judge(number, revision, upgrade, seated, context)?;
        let outcome = match &admission {
            Admission::Void => "void",
            Admission::Forged => "failed",
            _ if !seated => "in_use",
            Admission::Locked => "locked_by_staff",
            Admission::Admitted { .. } => "done",
        };
        let note = context.note(Event::Login, number);
        self.append(&note.outcome(outcome))?;
        if matches!(admission, Admission::Forged) {
            self.append(&context.note(Event::ForgedRow, number).outcome("refused"))?;
        }
        Ok(admission)
    }

    fn judge(
        &mut self,
        number: AccountNumber,
        revision: i64,
        upgrade: Option<&PinHash>,
        seated: bool,
        context: &Context,
    ) -> Result<Admission, StoreError> {
        let Some(credential) = self.credential(number)? else {
            return Ok(Admission::Void);
        };
        if credential.is_void(context.now) || credential.stored.revision != revision {
            return Ok(Admission::Void);
        }
        // Before the tries are forgotten: whoever planted a hash knows its PIN.
        let covered = Covered::Account(credential.account);
        if !self.is_as_written(covered)? {
            return Ok(Admission::Forged);
        }
        self.forget_tries(number)?;
        // Where its pepper was retired meanwhile, the old hash serves on.
        let upgrade = match upgrade {
            Some(hash) if !self.is_retired(&hash.pepper)? => Some(hash),
            _ => None,
        };
        if let Some(hash) = upgrade {
            self.save_hash(credential.account, hash)?;
        }
        let is_locked = credential.status == STATUS_LOCKED;
        let moves = seated && !is_locked && credential.home.as_ref() != Some(&context.terminal);
        if moves {
            self.connection
                .prepare_cached("UPDATE credential SET home = ?2 WHERE account = ?1")?
                .execute(params![credential.account, context.terminal.as_str()])?;
        }
        if moves || upgrade.is_some() {
            self.record_row(covered)?;
        }
        if is_locked {
            return Ok(Admission::Locked);
        }
        let mut account = self.account(credential.account)?;
        self.expire_due(&mut account, context.now)?;
        self.make_known(&account);
        Ok(Admission::Admitted {
            row: account.id,
            balances: account.balances(),
            must_change_pin: credential.must_change,
        })
    }

    pub(super) fn change_pin(
        &mut self,
        (number, revision): (AccountNumber, i64),
        new: Option<&PinHash>,
        context: &Context,
    ) -> Result<PinChange, StoreError> {
        let change = self.replace_pin((number, revision), new)?;
        let outcome = match change {
            PinChange::Void => "void",
            PinChange::Forged => "failed",
            PinChange::LockedByStaff => "locked_by_staff",
            PinChange::Done if new.is_none() => "refused",
            PinChange::Done => "done",
        };
        self.append(&context.note(Event::PinChange, number).outcome(outcome))?;
        if change == PinChange::Forged {
            self.append(&context.note(Event::ForgedRow, number).outcome("refused"))?;
        }
        Ok(change)
    }

    fn replace_pin(
        &mut self,
        (number, revision): (AccountNumber, i64),
        new: Option<&PinHash>,
    ) -> Result<PinChange, StoreError> {
        let credential = self.credential(number)?;
        let Some(credential) = credential.filter(|known| known.stored.revision == revision) else {
            return Ok(PinChange::Void);
        };
        if !self.is_as_written(Covered::Account(credential.account))? {
            return Ok(PinChange::Forged);
        }
        self.forget_tries(number)?;
        if credential.status == STATUS_LOCKED {
            return Ok(PinChange::LockedByStaff);
        }
        if let Some(new) = new {
            self.set_pin(credential.account, new, None, false)?;
        }
        Ok(PinChange::Done)
    }

    /// Replaces an account's PIN by another, of the next revision, and records the row.
    pub(super) fn set_pin(
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
        self.record_row(Covered::Account(account))
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

    pub(super) fn credential(
        &self,
        number: AccountNumber,
    ) -> Result<Option<CredentialRow>, StoreError> {
        let row = self.customer_row(number)?;
        self.credential_of(row.unwrap_or_default())
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
        record: &TryRecord,
        policy: LockoutPolicy,
    ) -> Result<(), StoreError> {
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
                record.expires_at(policy).map(Timestamp::unix_ms)
            ])?;
        Ok(sums::renew(self.connection, sums::TRY, number.as_str())?)
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
        self.memory.try_rows = self
            .memory
            .try_rows
            .map(|rows| rows.saturating_sub(removed));
    }

    /// Whether the table of tries takes one more row, which is counted then; staff are told where that,
    /// or its being full, is news.
    fn takes_another_try_row(&mut self, context: &Context) -> Result<bool, StoreError> {
        let rows = self.try_rows()?;
        let takes = rows < context.terms.try_rows_max;
        let rows = rows.saturating_add(u64::from(takes));
        self.memory.try_rows = Some(rows);
        if let Some(note) = context.fills_tries(rows, &mut self.memory.tries_told) {
            tracing::error!("ALARM: the table of wrong PINs is nearly full");
            self.append(&note)?;
        }
        Ok(takes)
    }

    fn try_rows(&mut self) -> Result<u64, StoreError> {
        if let Some(rows) = self.memory.try_rows {
            return Ok(rows);
        }
        let rows = self
            .connection
            .prepare_cached("SELECT count(*) FROM try")?
            .query_row([], |row| row.get::<_, u64>(0))?;
        self.memory.try_rows = Some(rows);
        Ok(rows)
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
