//! Rows as values: accounts, terminals, entries, kept answers.

use rusqlite::{OptionalExtension as _, Row, params};

use super::writer::{Books, TerminalRow};
use crate::domain::entry::{ChainHash, ChainLink};
use crate::domain::policy::{Movement, Standing};
use crate::domain::{AccountNumber, EntryNumber, IdempotencyKey, TerminalName, Timestamp};
use crate::store::{Balances, Fingerprint, StoreError, Terms};

pub(super) const KIND_CUSTOMER: i64 = 0;
pub(super) const KIND_CASH: i64 = 1;
pub(super) const STATUS_LOCKED: i64 = 1;
pub(super) const STATUS_CLOSED: i64 = 2;

/// A row of `account`.
#[derive(Debug, Clone)]
pub(super) struct AccountRow {
    pub(super) id: i64,
    pub(super) number: String,
    pub(super) status: i64,
    pub(super) currency: String,
    pub(super) balance: i64,
    pub(super) held: i64,
    pub(super) day: i64,
    pub(super) day_used: i64,
    pub(super) withdrawal_limit: Option<i64>,
    pub(super) daily_limit: Option<i64>,
    pub(super) head: ChainHash,
}

pub(super) const ACCOUNT_COLUMNS: &str = "id, number, status, currency, balance, held, day, \
    day_used, withdrawal_limit, daily_limit, head";

impl AccountRow {
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            number: row.get(1)?,
            status: row.get(2)?,
            currency: row.get(3)?,
            balance: row.get(4)?,
            held: row.get(5)?,
            day: row.get(6)?,
            day_used: row.get(7)?,
            withdrawal_limit: row.get(8)?,
            daily_limit: row.get(9)?,
            head: row.get(10)?,
        })
    }

    pub(super) fn balances(&self) -> Balances {
        Balances {
            balance: self.balance,
            available: self.balance.saturating_sub(self.held),
        }
    }

    /// What the rules need to know; turns the business day where a new one has begun. A clock
    /// that was set back does not bring yesterday's limits back.
    pub(super) fn standing(&mut self, terms: &Terms, now: Timestamp) -> Standing {
        if now.business_day() > self.day {
            self.day = now.business_day();
            self.day_used = 0;
        }
        Standing {
            balance: self.balance,
            held: self.held,
            used_today: self.day_used,
            withdrawal_limit: self.withdrawal_limit.unwrap_or(terms.withdrawal_limit),
            daily_limit: self.daily_limit.unwrap_or(terms.daily_withdrawal_limit),
        }
    }

    /// The moment that money of the present business day is stamped with: where the clock was set
    /// back over midnight, the start of the day that the account has reached.
    pub(super) fn stamp(&self, now: Timestamp) -> Timestamp {
        now.max(Timestamp::start_of_day(self.day))
    }

    /// Gives back what a hold of `day` had used of that day's limit.
    pub(super) fn free_day(&mut self, day: i64, amount: i64) {
        if day == self.day {
            self.day_used = self.day_used.saturating_sub(amount).max(0);
        }
    }

    /// Uses up some of the limit of `day`, if that is the account's present one.
    pub(super) fn use_day(&mut self, day: i64, amount: i64) {
        if day == self.day {
            self.day_used = self.day_used.saturating_add(amount);
        }
    }
}

/// A row of `request`: an answer kept by key.
pub(super) struct KeptRow {
    pub(super) id: i64,
    pub(super) fingerprint: Fingerprint,
    pub(super) entry: Option<i64>,
    pub(super) hold: Option<i64>,
    pub(super) late: bool,
    pub(super) balances: Balances,
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
    pub(super) fn account(&self, id: i64) -> Result<AccountRow, StoreError> {
        let sql = const_format_account("WHERE id = ?1");
        Ok(self
            .connection
            .prepare_cached(&sql)?
            .query_row([id], AccountRow::from_row)?)
    }

    /// A customer's account by its number, closed or not.
    pub(super) fn customer(&self, number: AccountNumber) -> Result<Option<AccountRow>, StoreError> {
        let sql = const_format_account("WHERE number = ?1 AND kind = 0");
        let mut statement = self.connection.prepare_cached(&sql)?;
        Ok(statement
            .query_row([number.as_str()], AccountRow::from_row)
            .optional()?)
    }

    pub(super) fn named(&self, name: &str) -> Result<AccountRow, StoreError> {
        let sql = const_format_account("WHERE number = ?1 AND kind <> 0");
        Ok(self
            .connection
            .prepare_cached(&sql)?
            .query_row([name], AccountRow::from_row)?)
    }

    pub(super) fn save(&self, account: &AccountRow) -> Result<(), StoreError> {
        let sql = "UPDATE account SET balance = ?2, held = ?3, day = ?4, day_used = ?5, head = ?6 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![
            account.id,
            account.balance,
            account.held,
            account.day,
            account.day_used,
            account.head
        ])?;
        Ok(())
    }

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
                "INSERT INTO entry (id, at, kind, terminal, debit, credit, amount, debit_balance, \
                 credit_balance, debit_hash, credit_hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
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
                credit.head
            ])?;
        self.save(debit)?;
        self.save(credit)?;
        Ok(number)
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
        let row =
            self.connection
                .prepare_cached(sql)?
                .query_row(params![key.as_str(), account], |row| {
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
                });
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
        self.connection
            .prepare_cached(
                "INSERT INTO request (key, account, fingerprint, at, entry, hold, late, balance, available) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                keep.key.as_str(),
                account.id,
                keep.fingerprint,
                now.unix_ms(),
                keep.entry,
                keep.hold,
                keep.late,
                balances.balance,
                balances.available
            ])?;
        Ok(self.connection.last_insert_rowid())
    }
}

fn const_format_account(condition: &str) -> String {
    format!("SELECT {ACCOUNT_COLUMNS} FROM account {condition}")
}
