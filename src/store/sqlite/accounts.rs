//! Accounts in the writer's memory. Each row is read once, and written once a commit.

use std::collections::hash_map::Entry;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::writer::Books;
use crate::domain::{AccountNumber, Timestamp};
use crate::store::seats::Posted;
use crate::store::state::AccountRow;
use crate::store::{Balances, StoreError};

/// Accounts remembered at most before an operation; more are read again. So few in tests that each has to
/// make room.
const REMEMBERED_MAX: usize = if cfg!(test) { 3 } else { 16_384 };

const ACCOUNT_SQL: &str = "SELECT id, number, status, currency, balance, held, day, day_used, \
    withdrawal_limit, daily_limit, head, last_entry, postings FROM account WHERE id = ?1";

fn from_row(row: &Row<'_>) -> rusqlite::Result<AccountRow> {
    Ok(AccountRow {
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

impl Books<'_> {
    /// Has the account of that row known.
    pub(super) fn know_account(&mut self, id: i64) -> Result<(), StoreError> {
        if let Entry::Vacant(place) = self.memory.rows.known.accounts.entry(id) {
            let mut statement = self.connection.prepare_cached(ACCOUNT_SQL)?;
            place.insert(statement.query_row([id], from_row)?);
        }
        Ok(())
    }

    pub(super) fn account(&mut self, id: i64) -> Result<AccountRow, StoreError> {
        self.make_room()?;
        self.know_account(id)?;
        let known = self.memory.rows.known.accounts.get(&id);
        known
            .cloned()
            .ok_or_else(|| StoreError::Broken("an account is not known".to_owned()))
    }

    /// The row of the customer's account of that number, closed or not, which is known then.
    pub(super) fn know_customer(
        &mut self,
        number: AccountNumber,
    ) -> Result<Option<i64>, StoreError> {
        if let Some(id) = self.memory.rows.known.customers.get(&number).copied() {
            self.know_account(id)?;
            return Ok(Some(id));
        }
        let sql = "SELECT id FROM account WHERE number = ?1 AND kind = 0";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row([number.as_str()], |row| row.get(0));
        let found: Option<i64> = found.optional()?;
        drop(statement);
        if let Some(id) = found {
            self.know_account(id)?;
            self.memory.rows.known.customers.insert(number, id);
        }
        Ok(found)
    }

    /// The row of one of the bank's own accounts, which is known then.
    pub(super) fn know_named(&mut self, name: &str) -> Result<i64, StoreError> {
        let sql = "SELECT id FROM account WHERE number = ?1 AND kind <> 0";
        let mut statement = self.connection.prepare_cached(sql)?;
        let id = statement.query_row([name], |row| row.get(0))?;
        drop(statement);
        self.know_account(id)?;
        Ok(id)
    }

    /// Remembers a changed row; it is in the store's file when the commit is.
    pub(super) fn save(&mut self, account: &AccountRow) {
        let rows = &mut self.memory.rows;
        rows.save(account);
        rows.settle();
    }

    /// Makes an account's money known with the next commit, though it has not changed.
    pub(super) fn make_known(&mut self, account: &AccountRow) {
        self.memory.posted.extend(posted(account));
    }

    /// Writes what was saved into the store's file. Statements that look for it there come after that.
    pub(super) fn write_accounts(&mut self) -> Result<(), StoreError> {
        let known = &mut self.memory.rows.known;
        if known.changed.is_empty() {
            return Ok(());
        }
        // In the order of rows, each once: neighbours stand on one page.
        known.changed.sort_unstable();
        known.changed.dedup();
        let sql = "UPDATE account SET balance = ?2, held = ?3, day = ?4, day_used = ?5, head = ?6, \
                   last_entry = ?7, postings = ?8 WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        for id in known.changed.drain(..) {
            let Some(account) = known.accounts.get(&id) else {
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
            self.memory.posted.extend(posted(account));
        }
        Ok(())
    }

    /// Writes what was saved and forgets the account, before its row is changed past this memory.
    pub(super) fn forget_account(&mut self, id: i64) -> Result<(), StoreError> {
        self.write_accounts()?;
        self.memory.rows.known.accounts.remove(&id);
        Ok(())
    }

    /// Forgets accounts where too many are remembered. Never within an operation, which counts on those
    /// that were loaded for it.
    pub(super) fn make_room(&mut self) -> Result<(), StoreError> {
        let known = &self.memory.rows.known;
        if known.accounts.len().max(known.customers.len()) < REMEMBERED_MAX {
            return Ok(());
        }
        self.write_accounts()?;
        let known = &mut self.memory.rows.known;
        known.accounts.clear();
        known.customers.clear();
        Ok(())
    }
}

/// The account's money as it is committed; what is on hold may be free by now, as the rows of its holds say.
pub(super) fn balances(
    connection: &Connection,
    id: i64,
    now: Timestamp,
) -> Result<Balances, StoreError> {
    let sql = "SELECT balance, balance - held + CASE held WHEN 0 THEN 0 ELSE coalesce((SELECT \
               sum(amount) FROM hold WHERE hold.account = account.id AND state = 0 \
               AND expires_at <= ?2), 0) END FROM account WHERE id = ?1";
    let read = |row: &Row<'_>| {
        Ok(Balances {
            balance: row.get(0)?,
            available: row.get(1)?,
        })
    };
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(params![id, now.unix_ms()], read)?)
}

/// Only customers are ever seated.
fn posted(account: &AccountRow) -> Option<Posted> {
    Some(Posted {
        account: account.number.parse().ok()?,
        balance: account.balance,
        held: account.held,
    })
}
