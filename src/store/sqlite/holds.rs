//! Holds of an account: how many are open, and those whose time is over.

use rusqlite::{ToSql, params};

use super::accounts::AccountRow;
use super::sums;
use super::writer::Books;
use crate::domain::hold::HoldState;
use crate::domain::{OpenHolds, Timestamp};
use crate::store::{Context, StoreError};

impl Books<'_> {
    /// How many holds of the account and of the context's terminal are open, counted up to what may
    /// be. The account's due ones have been expired.
    pub(super) fn open_holds(
        &self,
        account: &AccountRow,
        context: &Context,
    ) -> Result<OpenHolds, StoreError> {
        let most = context.terms.open_holds;
        let count = |sql: &str, key: &dyn ToSql, most: u64| {
            let mut statement = self.connection.prepare_cached(sql)?;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let parameters = params![key, context.now.unix_ms(), most];
            statement.query_row(parameters, |row| row.get::<_, u64>(0))
        };
        let of_account = match account.held {
            0 => 0,
            _ => count(
                "SELECT count(*) FROM (SELECT 1 FROM hold WHERE account = ?1 AND state = 0 \
                 AND expires_at > ?2 LIMIT ?3)",
                &account.id,
                most.of_account,
            )?,
        };
        let of_terminal = match context.terminal.is_anonymous() {
            true => 0,
            false => count(
                "SELECT count(*) FROM (SELECT 1 FROM hold WHERE terminal = (SELECT id FROM terminal \
                 WHERE name = ?1) AND state = 0 AND expires_at > ?2 LIMIT ?3)",
                &context.terminal.as_str(),
                most.of_terminal,
            )?,
        };
        Ok(OpenHolds {
            of_account,
            of_terminal,
        })
    }

    /// Frees the account's holds whose time is over. The row is saved where any was.
    pub(super) fn expire_due(
        &mut self,
        account: &mut AccountRow,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        self.expire_some(account, now, usize::MAX)
    }

    /// As [`Books::expire_due`], for `most` of them, the oldest first.
    pub(super) fn expire_some(
        &mut self,
        account: &mut AccountRow,
        now: Timestamp,
        most: usize,
    ) -> Result<usize, StoreError> {
        if account.held == 0 {
            return Ok(0);
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT name FROM hold WHERE account = ?1 AND state = 0 AND expires_at <= ?2 \
             ORDER BY id LIMIT ?3",
        )?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let names = statement.query_map(params![account.id, now.unix_ms(), most], |row| {
            row.get::<_, String>(0)
        })?;
        let names = names.collect::<Result<Vec<_>, _>>()?;
        for name in &names {
            let name = name
                .parse()
                .map_err(|_| StoreError::Broken("a hold without a name".to_owned()))?;
            let Some(row) = self.hold(&name)? else {
                continue;
            };
            let Some(expiry) = row.hold.expiry(now) else {
                continue;
            };
            account.held = account.held.saturating_sub(expiry.amount().minor());
            account.free_day(
                row.hold.authorized_at.business_day(),
                expiry.amount().minor(),
            );
            let expired = HoldState::Expired;
            let sum = sums::of_hold(&name, row.account, &row.hold, (expired, 0), (None, None));
            self.connection
                .prepare_cached("UPDATE hold SET state = ?2, sum = ?3 WHERE id = ?1")?
                .execute(params![row.id, expired.number(), sum])?;
        }
        if !names.is_empty() {
            self.save(account)?;
        }
        Ok(names.len())
    }
}
