//! Executes operations: loads the rows that they need, and saves the rows that they change.

use std::mem;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension as _, ToSql, params};
use uuid::Uuid;

use super::sums::{self, Sum};
use super::writer::Books;
use super::{records, reports};
use crate::domain::{IdempotencyKey, TerminalName};
use crate::store::state::{
    EntryRow, HoldRow, KeptAnswer, NewAnswer, OpenedAccount, PostingRow, TerminalRow,
};
use crate::store::working::{Changes, LastNumbers, Needs, Operation, Stop, WorkingSet};
use crate::store::{Balances, Context, Judged, StoreError};

/// Terminals remembered at most; more are looked up again.
const TERMINALS_MAX: usize = 10_000;

/// A key as a column has it: the 16 bytes of a UUID where its text says that UUID and nothing else.
enum KeyColumn<'a> {
    Uuid(Uuid),
    Text(&'a str),
}

impl<'a> KeyColumn<'a> {
    fn of(key: &'a IdempotencyKey) -> Self {
        let text = key.as_str();
        let mut written = Uuid::encode_buffer();
        match Uuid::try_parse(text) {
            Ok(uuid) if uuid.hyphenated().encode_lower(&mut written) == text => Self::Uuid(uuid),
            _ => Self::Text(text),
        }
    }
}

impl ToSql for KeyColumn<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Uuid(uuid) => ValueRef::Blob(uuid.as_bytes()),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

impl Books<'_> {
    /// Executes one operation. Loads what it needs, twice at most.
    pub(super) fn execute<O: Operation>(
        &mut self,
        operation: &O,
        context: &Context,
    ) -> Result<Judged<O::Answer>, StoreError> {
        self.make_room()?;
        self.memory.rows.begin();
        for _ in 0..2 {
            self.load(&operation.needs(&self.memory.rows), context)?;
            match operation.execute(&mut self.memory.rows) {
                Ok(answer) => return self.keep(Ok(answer)),
                Err(Stop::Refused(refusal)) => return self.keep(Err(refusal)),
                Err(stop) => self.memory.rows.discard_for(stop)?,
            }
        }
        Err(StoreError::Broken(
            "an operation never has all it needs".to_owned(),
        ))
    }

    /// Executes an operation that refuses nobody.
    pub(super) fn perform<O: Operation>(
        &mut self,
        operation: &O,
        context: &Context,
    ) -> Result<O::Answer, StoreError> {
        let answer = self.execute(operation, context)?;
        answer.map_err(|refusal| StoreError::Broken(refusal.to_string()))
    }

    /// Applies a rule to rows that are loaded already.
    pub(super) fn apply<T>(
        &mut self,
        rule: impl FnOnce(&mut WorkingSet) -> Result<T, Stop>,
    ) -> Result<T, StoreError> {
        self.know_log()?;
        match rule(&mut self.memory.rows) {
            Ok(done) => self.keep(done),
            Err(stop) => {
                self.memory.rows.discard_for(stop)?;
                Err(StoreError::Broken("a rule had not all it needs".to_owned()))
            }
        }
    }

    fn load(&mut self, needs: &Needs<'_>, context: &Context) -> Result<(), StoreError> {
        self.know_log()?;
        self.know_numbers()?;
        if let Some(number) = needs.session {
            self.memory.rows.loaded.session = self.seats.fence(number).into();
        }
        self.load_for_admission(needs)?;
        self.load_for_staff(needs, context)?;
        if let Some(id) = needs.account {
            self.know_account(id)?;
        }
        if let Some(name) = needs.terminal {
            self.know_terminal(name)?;
        }
        if let Some(number) = needs.customer
            && !self.memory.rows.loaded.customer.is_asked()
        {
            self.memory.rows.loaded.customer = self.know_customer(number)?.into();
        }
        if let Some((account, key)) = needs.answer
            && !self.memory.rows.loaded.answer.is_asked()
        {
            self.memory.rows.loaded.answer = self.kept(key, account)?.into();
        }
        if let Some(name) = needs.hold
            && !self.memory.rows.loaded.hold.is_asked()
        {
            self.memory.rows.loaded.hold = self.hold(name)?.into();
        }
        if let Some((id, account)) = needs.hold_made {
            self.memory.rows.loaded.hold_made = self.hold_made(id, account)?.into();
        }
        if let Some((account, by, most)) = needs.due {
            self.memory.rows.loaded.due = Some(self.due(account, by, most)?).into();
        }
        if let Some(account) = needs.open_holds {
            self.memory.rows.loaded.open_holds = Some(self.open_holds(account, context)?).into();
        }
        Ok(())
    }

    fn load_for_admission(&mut self, needs: &Needs<'_>) -> Result<(), StoreError> {
        let asked = &self.memory.rows.loaded;
        let (is_credential_new, is_covered_new) =
            (!asked.credential.is_asked(), !asked.as_written.is_asked());
        if let Some(number) = needs.tries {
            self.know_try_rows()?;
            self.memory.rows.loaded.tries = self.tries(number)?.into();
        }
        let mut another = 0;
        if let Some((number, may_be_shown)) = needs.decoy {
            let (decoy, beside) = self.decoy(number, may_be_shown)?;
            another = beside;
            self.memory.rows.loaded.decoy = decoy.into();
        }
        if let Some(number) = needs.credential
            && is_credential_new
        {
            self.memory.rows.loaded.credential = self.credential(number, another)?.into();
        }
        if let Some(covered) = needs.covered
            && is_covered_new
        {
            self.memory.rows.loaded.as_written = Some(self.is_as_written(covered)?).into();
        }
        let mut retired = Vec::new();
        for pepper in &needs.retired {
            if self.is_retired(pepper)? {
                retired.push((*pepper).clone());
            }
        }
        self.memory.rows.loaded.retired = Some(retired).into();
        Ok(())
    }

    fn load_for_staff(&mut self, needs: &Needs<'_>, context: &Context) -> Result<(), StoreError> {
        if let Some(name) = needs.named {
            self.memory.rows.loaded.named = Some(self.know_named(name)?).into();
        }
        if let Some(number) = needs.report
            && !self.memory.rows.loaded.report.is_asked()
        {
            let of = "account.number = ?1";
            let found = reports::reports(self.connection, of, [number.as_str()], context)?.pop();
            self.memory.rows.loaded.report = found.into();
        }
        if let Some((account, now)) = needs.late_holds {
            let found = self.has_late_holds(account, now)?;
            self.memory.rows.loaded.late_holds = found.then_some(()).into();
        }
        Ok(())
    }

    fn know_numbers(&mut self) -> Result<(), StoreError> {
        if self.memory.rows.known.ends.numbers.is_some() {
            return Ok(());
        }
        let last = |table: &str| {
            let sql = format!("SELECT coalesce(max(id), 0) FROM {table}");
            self.connection.query_row(&sql, [], |row| row.get(0))
        };
        self.memory.rows.known.ends.numbers = Some(LastNumbers {
            account: last("account")?,
            terminal: last("terminal")?,
            entry: last("entry")?,
            hold: last("hold")?,
            answer: last("request")?,
        });
        Ok(())
    }

    fn know_log(&mut self) -> Result<(), StoreError> {
        let log = &mut self.memory.rows.known.ends.log;
        if log.is_none() {
            *log = Some(records::head(self.connection)?);
        }
        Ok(())
    }

    fn know_try_rows(&mut self) -> Result<(), StoreError> {
        let rows = &mut self.memory.rows.known.ends.try_rows;
        if rows.is_none() {
            let sql = "SELECT count(*) FROM try";
            *rows = Some(self.connection.query_row(sql, [], |row| row.get(0))?);
        }
        Ok(())
    }

    /// Loads the terminal of this name, if there is one, and the account of its cash.
    pub(super) fn know_terminal(&mut self, name: &TerminalName) -> Result<(), StoreError> {
        let mut known = self.memory.rows.known.terminals.get(name).copied();
        if known.is_none() {
            let sql = "SELECT id, cash FROM terminal WHERE name = ?1";
            let mut statement = self.connection.prepare_cached(sql)?;
            let found = statement.query_row([name.as_str()], |row| {
                let (id, cash) = (row.get(0)?, row.get(1)?);
                Ok(TerminalRow { id, cash })
            });
            known = found.optional()?;
            let terminals = &mut self.memory.rows.known.terminals;
            if terminals.len() >= TERMINALS_MAX {
                terminals.clear();
            }
            terminals.extend(known.map(|row| (name.clone(), row)));
        }
        if let Some(row) = known {
            self.know_account(row.cash)?;
        }
        self.memory.rows.loaded.terminal = known.into();
        Ok(())
    }

    fn kept(&self, key: &IdempotencyKey, account: i64) -> Result<Option<KeptAnswer>, StoreError> {
        let sql = "SELECT id, fingerprint, entry, hold, late, balance, available FROM request \
                   WHERE key = ?1 AND account = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let row = statement.query_row(params![KeyColumn::of(key), account], |row| {
            Ok(KeptAnswer {
                id: row.get(0)?,
                fingerprint: row.get(1)?,
                entry: row.get(2)?,
                hold: row.get(3)?,
                late: row.get(4)?,
                balances: Balances {
                    balance: row.get(5)?,
                    available: row.get(6)?,
                },
            })
        });
        Ok(row.optional()?)
    }

    /// Saves the changes. Accounts follow with the commit.
    fn keep<T>(&mut self, answer: T) -> Result<T, StoreError> {
        self.memory.rows.settle();
        let changes = mem::take(&mut self.memory.rows.changes);
        self.keep_money(&changes)?;
        for (number, tries) in &changes.tries {
            match tries {
                Some(tries) => self.save_tries(*number, tries)?,
                None => self.forget_tries(*number)?,
            }
        }
        for change in &changes.covered {
            self.save_covered(change)?;
        }
        for (record, hash) in &changes.records {
            self.insert_record(record, hash)?;
        }
        for account in &changes.told {
            self.make_known(account);
        }
        self.memory.rows.changes = changes;
        self.memory.rows.discard();
        Ok(answer)
    }

    fn keep_money(&mut self, changes: &Changes) -> Result<(), StoreError> {
        for account in &changes.opened {
            self.insert_account(account)?;
        }
        for (name, row) in &changes.terminals {
            let sql = "INSERT INTO terminal (id, name, cash) VALUES (?1, ?2, ?3)";
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.execute(params![row.id, name.as_str(), row.cash])?;
        }
        for entry in &changes.entries {
            self.insert_entry(entry)?;
        }
        for reason in &changes.reasons {
            let sql = "INSERT INTO reason (entry, text, actor) VALUES (?1, ?2, ?3)";
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.execute(params![reason.entry, reason.text, reason.actor])?;
            sums::renew(self.connection, sums::REASON, reason.entry)?;
        }
        for hold in &changes.new_holds {
            self.insert_hold(hold)?;
            self.memory.from_addresses.add(hold);
        }
        for answer in &changes.answers {
            self.insert_answer(answer)?;
        }
        for hold in &changes.holds {
            self.update_hold(hold)?;
        }
        Ok(())
    }

    fn insert_account(&self, account: &OpenedAccount) -> Result<(), StoreError> {
        let sql = "INSERT INTO account (id, number, kind, currency, head, opened_at) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let OpenedAccount { kind, at, row } = account;
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute(params![
            row.id,
            row.number,
            kind,
            row.currency,
            row.head,
            at.unix_ms()
        ])?;
        Ok(())
    }

    fn insert_entry(&self, entry: &EntryRow) -> Result<(), StoreError> {
        let EntryRow { debit, credit, .. } = entry;
        self.connection
            .prepare_cached(
                "INSERT INTO entry (id, at, kind, terminal, debit, credit, amount, debit_balance, credit_balance, \
                 debit_hash, credit_hash, debit_previous, credit_previous) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute(params![
                entry.number.get(),
                entry.at.unix_ms(),
                entry.kind.number(),
                entry.terminal,
                debit.account,
                credit.account,
                entry.amount,
                debit.balance,
                credit.balance,
                debit.hash,
                credit.hash,
                debit.previous,
                credit.previous
            ])?;
        let marked = [debit, credit].into_iter().filter(|side| side.is_marked);
        for PostingRow { account, .. } in marked {
            let sql = "INSERT INTO posting_mark (account, entry) VALUES (?1, ?2)";
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.execute([*account, entry.number.get()])?;
        }
        Ok(())
    }

    fn insert_hold(&self, row: &HoldRow) -> Result<(), StoreError> {
        let terminals = &self.memory.rows.known.terminals;
        let terminal = terminals
            .get(&row.hold.terminal)
            .map(|terminal| terminal.id);
        self.connection
            .prepare_cached(
                "INSERT INTO hold (id, name, account, terminal, amount, authorized_at, expires_at, sum) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                row.id,
                row.name.as_str(),
                row.account,
                terminal,
                row.hold.amount.minor(),
                row.hold.authorized_at.unix_ms(),
                row.hold.expires_at.unix_ms(),
                sums::of_hold(row)
            ])?;
        Ok(())
    }

    fn update_hold(&self, row: &HoldRow) -> Result<(), StoreError> {
        let state = row.hold.state.number();
        self.connection
            .prepare_cached(
                "UPDATE hold SET state = ?2, captured = ?3, entry = ?4, settled_by = ?5, sum = ?6 WHERE id = ?1",
            )?
            .execute(params![
                row.id,
                state,
                row.captured,
                row.entry,
                row.settled_by,
                sums::of_hold(row)
            ])?;
        Ok(())
    }

    fn insert_answer(&self, new: &NewAnswer) -> Result<(), StoreError> {
        let NewAnswer {
            account,
            at,
            answer,
            ..
        } = new;
        let key = KeyColumn::of(&new.key);
        let sum = match &key {
            KeyColumn::Uuid(uuid) => Sum::new().blob(uuid.as_bytes()),
            KeyColumn::Text(text) => Sum::new().text(text),
        };
        let sum = sum
            .int(*account)
            .blob(&answer.fingerprint)
            .int(at.unix_ms());
        let sum = sum.maybe(answer.entry).maybe(answer.hold);
        let sum = sum.int(answer.late.into()).int(answer.balances.balance);
        self.connection
            .prepare_cached(
                "INSERT INTO request (id, key, account, fingerprint, at, entry, hold, late, balance, available, sum) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                answer.id,
                key,
                account,
                answer.fingerprint,
                at.unix_ms(),
                answer.entry,
                answer.hold,
                answer.late,
                answer.balances.balance,
                answer.balances.available,
                sum.int(answer.balances.available).done()
            ])?;
        Ok(())
    }
}
