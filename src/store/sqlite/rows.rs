//! Rows as values: terminals, entries, kept answers.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension as _, ToSql, params};
use uuid::Uuid;

use super::accounts::{AccountRow, KIND_CASH};
use super::postings::POSTINGS_PER_MARK;
use super::sums::Sum;
use super::writer::{Books, TerminalRow};
use crate::domain::entry::ChainLink;
use crate::domain::policy::Movement;
use crate::domain::{EntryNumber, IdempotencyKey, TerminalName, Timestamp};
use crate::store::{Balances, Fingerprint, StoreError};

/// A row of `request`: an answer kept by key.
pub(super) struct KeptRow {
    pub(super) id: i64,
    pub(super) fingerprint: Fingerprint,
    pub(super) entry: Option<i64>,
    pub(super) hold: Option<i64>,
    pub(super) late: bool,
    pub(super) balances: Balances,
}

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

/// What is to be kept of an answer.
pub(super) struct Keep<'a> {
    pub(super) key: &'a IdempotencyKey,
    pub(super) fingerprint: Fingerprint,
    pub(super) entry: Option<i64>,
    pub(super) hold: Option<i64>,
    pub(super) late: bool,
}

impl Books<'_> {
    /// The rows of a terminal and of its cash, made at its first money.
    pub(super) fn terminal(
        &mut self,
        name: &TerminalName,
        currency: &str,
        now: Timestamp,
    ) -> Result<TerminalRow, StoreError> {
        if let Some(row) = self.memory.terminals.get(name) {
            return Ok(*row);
        }
        let found = self
            .connection
            .prepare_cached("SELECT id, cash FROM terminal WHERE name = ?1")?
            .query_row([name.as_str()], |row| {
                Ok(TerminalRow {
                    id: row.get(0)?,
                    cash: row.get(1)?,
                })
            })
            .optional()?;
        let row = match found {
            Some(row) => row,
            None => {
                self.connection
                    .prepare_cached(
                        "INSERT INTO account (number, kind, currency, head, opened_at) \
                         VALUES (?1, ?2, ?3, zeroblob(32), ?4)",
                    )?
                    .execute(params![
                        format!("cash:{name}"),
                        KIND_CASH,
                        currency,
                        now.unix_ms()
                    ])?;
                let cash = self.connection.last_insert_rowid();
                self.connection
                    .prepare_cached("INSERT INTO terminal (name, cash) VALUES (?1, ?2)")?
                    .execute(params![name.as_str(), cash])?;
                TerminalRow {
                    id: self.connection.last_insert_rowid(),
                    cash,
                }
            }
        };
        self.memory.remember_terminal(name.clone(), row);
        Ok(row)
    }

    /// Writes an entry: both postings, both balances, both chains. The rows given are those of
    /// the movement's debit and credit.
    pub(super) fn post(
        &mut self,
        movement: &Movement,
        debit: &mut AccountRow,
        credit: &mut AccountRow,
        terminal: Option<(TerminalRow, &TerminalName)>,
        now: Timestamp,
    ) -> Result<EntryNumber, StoreError> {
        let broken = |what: &str| StoreError::Broken(what.to_owned());
        if (movement.debit(), movement.credit()) != (debit.id, credit.id) {
            return Err(broken("a movement was given rows of other accounts"));
        }
        let number = self.next_entry()?;
        let amount = movement.amount().minor();
        let overflow = || broken("a balance is out of range");
        debit.balance = debit.balance.checked_sub(amount).ok_or_else(overflow)?;
        credit.balance = credit.balance.checked_add(amount).ok_or_else(overflow)?;
        let side = |own: &AccountRow, other: &AccountRow, amount: i64| {
            ChainLink {
                previous: &own.head,
                account: &own.number,
                counterparty: &other.number,
                entry: number,
                at: now,
                kind: movement.kind(),
                amount,
                balance: own.balance,
                terminal: terminal.map_or("", |(_, name)| name.as_str()),
            }
            .hash()
        };
        (debit.head, credit.head) = (side(debit, credit, -amount), side(credit, debit, amount));
        self.connection
            .prepare_cached(
                "INSERT INTO entry (id, at, kind, terminal, debit, credit, amount, debit_balance, credit_balance, \
                 debit_hash, credit_hash, debit_previous, credit_previous) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute(params![
                number.get(),
                now.unix_ms(),
                movement.kind().number(),
                terminal.map(|(row, _)| row.id),
                debit.id,
                credit.id,
                amount,
                debit.balance,
                credit.balance,
                debit.head,
                credit.head,
                debit.last_entry,
                credit.last_entry
            ])?;
        for account in [debit, credit] {
            self.count_posting(account, number)?;
            self.save(account)?;
        }
        Ok(number)
    }

    /// The account's last posting is that of this entry now.
    fn count_posting(
        &self,
        account: &mut AccountRow,
        entry: EntryNumber,
    ) -> Result<(), StoreError> {
        account.last_entry = entry.get();
        account.postings = account.postings.saturating_add(1);
        if account.postings % POSTINGS_PER_MARK == 0 {
            let sql = "INSERT INTO posting_mark (account, entry) VALUES (?1, ?2)";
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.execute([account.id, account.last_entry])?;
        }
        Ok(())
    }

    fn next_entry(&mut self) -> Result<EntryNumber, StoreError> {
        let last = match self.memory.last_entry {
            Some(last) => last,
            None => self
                .connection
                .prepare_cached("SELECT coalesce(max(id), 0) FROM entry")?
                .query_row([], |row| row.get(0))?,
        };
        let next = last.checked_add(1).and_then(EntryNumber::new);
        let next =
            next.ok_or_else(|| StoreError::Broken("entry numbers are used up".to_owned()))?;
        self.memory.last_entry = Some(next.get());
        Ok(next)
    }

    pub(super) fn kept(
        &self,
        key: &IdempotencyKey,
        account: i64,
    ) -> Result<Option<KeptRow>, StoreError> {
        let sql = "SELECT id, fingerprint, entry, hold, late, balance, available FROM request \
                   WHERE key = ?1 AND account = ?2";
        let row = self.connection.prepare_cached(sql)?.query_row(
            params![KeyColumn::of(key), account],
            |row| {
                Ok(KeptRow {
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
            },
        );
        Ok(row.optional()?)
    }

    /// Keeps an answer and returns its row.
    pub(super) fn keep(
        &self,
        keep: &Keep<'_>,
        account: &AccountRow,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        let balances = account.balances();
        let key = KeyColumn::of(keep.key);
        let sum = match &key {
            KeyColumn::Uuid(uuid) => Sum::new().blob(uuid.as_bytes()),
            KeyColumn::Text(text) => Sum::new().text(text),
        };
        let sum = sum
            .int(account.id)
            .blob(&keep.fingerprint)
            .int(now.unix_ms());
        let sum = sum.maybe(keep.entry).maybe(keep.hold).int(keep.late.into());
        let sum = sum.int(balances.balance).int(balances.available);
        self.connection
            .prepare_cached(
                "INSERT INTO request (key, account, fingerprint, at, entry, hold, late, balance, available, sum) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                key,
                account.id,
                keep.fingerprint,
                now.unix_ms(),
                keep.entry,
                keep.hold,
                keep.late,
                balances.balance,
                balances.available,
                sum.done()
            ])?;
        Ok(self.connection.last_insert_rowid())
    }
}
