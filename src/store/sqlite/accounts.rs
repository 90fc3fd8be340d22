//! Rows of `account`, and the writer's memory of them: read once, written once a commit.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{OptionalExtension as _, Row, params};

use super::writer::Books;
use crate::domain::entry::ChainHash;
use crate::domain::policy::Standing;
use crate::domain::{AccountNumber, Timestamp};
use crate::store::seats::Posted;
use crate::store::{Balances, StoreError, Terms};

pub(super) const KIND_CUSTOMER: i64 = 0;
pub(super) const KIND_CASH: i64 = 1;
pub(super) const STATUS_LOCKED: i64 = 1;
pub(super) const STATUS_CLOSED: i64 = 2;

/// Accounts remembered at most; more are read again. So few in tests that each has to make room.
const REMEMBERED_MAX: usize = if cfg!(test) { 3 } else { 16_384 };

/// A row of `account`.
#[derive(Debug, Clone)]
pub(super) struct AccountRow {
    pub(super) id: i64,
    pub(super) number: Arc<str>,
    pub(super) status: i64,
    pub(super) currency: Arc<str>,
    pub(super) balance: i64,
    pub(super) held: i64,
    pub(super) day: i64,
    pub(super) day_used: i64,
    pub(super) withdrawal_limit: Option<i64>,
    pub(super) daily_limit: Option<i64>,
    pub(super) head: ChainHash,
    /// The last entry with a posting to it, or 0.
    pub(super) last_entry: i64,
    /// How many postings it has.
    pub(super) postings: i64,
}

const ACCOUNT_SQL: &str = "SELECT id, number, status, currency, balance, held, day, day_used, \
    withdrawal_limit, daily_limit, head, last_entry, postings FROM account WHERE id = ?1";

impl AccountRow {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
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
            last_entry: row.get(11)?,
            postings: row.get(12)?,
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

/// What the writer knows of accounts. What was saved since the last commit is not in the store's
/// file before [`Books::write_accounts`]; statements that look for it there come after that.
#[derive(Default)]
pub(super) struct AccountMemory {
    rows: HashMap<i64, AccountRow>,
    ids: HashMap<AccountNumber, i64>,
    /// Rows to be written, in the order of their first change.
    changed: Vec<i64>,
    /// Money to be made known once it is committed. As long as what one batch changes: its orders, or
    /// an import.
    posted: Vec<Posted>,
}

impl AccountMemory {
    /// What a commit has made true.
    pub(super) fn take_posted(&mut self) -> Vec<Posted> {
        std::mem::take(&mut self.posted)
    }
}

impl Books<'_> {
    pub(super) fn account(&mut self, id: i64) -> Result<AccountRow, StoreError> {
        if let Some(row) = self.memory.accounts.rows.get(&id) {
            return Ok(row.clone());
        }
        let mut statement = self.connection.prepare_cached(ACCOUNT_SQL)?;
        let row = statement.query_row([id], AccountRow::from_row)?;
        drop(statement);
        self.make_room()?;
        self.memory.accounts.rows.insert(id, row.clone());
        Ok(row)
    }

    /// A customer's account by its number, closed or not.
    pub(super) fn customer(
        &mut self,
        number: AccountNumber,
    ) -> Result<Option<AccountRow>, StoreError> {
        if let Some(id) = self.memory.accounts.ids.get(&number) {
            return self.account(*id).map(Some);
        }
        let sql = "SELECT id FROM account WHERE number = ?1 AND kind = 0";
        let found: Option<i64> = self
            .connection
            .prepare_cached(sql)?
            .query_row([number.as_str()], |row| row.get(0))
            .optional()?;
        let Some(id) = found else {
            return Ok(None);
        };
        let row = self.account(id)?;
        self.memory.accounts.ids.insert(number, id);
        Ok(Some(row))
    }

    pub(super) fn named(&mut self, name: &str) -> Result<AccountRow, StoreError> {
        let sql = "SELECT id FROM account WHERE number = ?1 AND kind <> 0";
        let id = self
            .connection
            .prepare_cached(sql)?
            .query_row([name], |row| row.get(0))?;
        self.account(id)
    }

    /// Remembers a changed row; it is in the store's file when the commit is.
    pub(super) fn save(&mut self, account: &AccountRow) -> Result<(), StoreError> {
        if !self.memory.accounts.rows.contains_key(&account.id) {
            self.make_room()?;
        }
        let accounts = &mut self.memory.accounts;
        // A row stands in the list once at least; a second time costs a write more, no truth.
        if accounts.changed.last() != Some(&account.id) {
            accounts.changed.push(account.id);
        }
        accounts.rows.insert(account.id, account.clone());
        Ok(())
    }

    /// Makes an account's money known with the next commit, though it has not changed.
    pub(super) fn make_known(&mut self, account: &AccountRow) {
        self.memory.accounts.posted.extend(posted(account));
    }

    /// Writes what was saved into the store's file.
    pub(super) fn write_accounts(&mut self) -> Result<(), StoreError> {
        let accounts = &mut self.memory.accounts;
        if accounts.changed.is_empty() {
            return Ok(());
        }
        let mut changed = std::mem::take(&mut accounts.changed);
        // In the order of rows, each once: neighbours stand on one page.
        changed.sort_unstable();
        changed.dedup();
        let sql = "UPDATE account SET balance = ?2, held = ?3, day = ?4, day_used = ?5, head = ?6, \
                   last_entry = ?7, postings = ?8 WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        for id in changed {
            let Some(account) = accounts.rows.get(&id) else {
                continue;
            };
            statement.execute(params![
                account.id,
                account.balance,
                account.held,
                account.day,
                account.day_used,
                account.head,
                account.last_entry,
                account.postings
            ])?;
            accounts.posted.extend(posted(account));
        }
        Ok(())
    }

    /// Writes what was saved and forgets the account, before its row is changed past this memory.
    pub(super) fn forget_account(&mut self, id: i64) -> Result<(), StoreError> {
        self.write_accounts()?;
        self.memory.accounts.rows.remove(&id);
        Ok(())
    }

    fn make_room(&mut self) -> Result<(), StoreError> {
        if self.memory.accounts.rows.len() < REMEMBERED_MAX {
            return Ok(());
        }
        self.write_accounts()?;
        self.memory.accounts.rows.clear();
        self.memory.accounts.ids.clear();
        Ok(())
    }
}

/// Only customers are ever seated.
fn posted(account: &AccountRow) -> Option<Posted> {
    Some(Posted {
        account: account.number.parse().ok()?,
        balance: account.balance,
        held: account.held,
    })
}
