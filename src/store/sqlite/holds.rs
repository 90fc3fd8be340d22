//! Holds of an account: how many are open, and those whose time is over.

use std::collections::HashMap;

use rusqlite::{ToSql, params};

use super::accounts::AccountRow;
use super::sums;
use super::writer::Books;
use crate::access::throttle::AddressBlock;
use crate::domain::hold::HoldState;
use crate::domain::{HoldName, OpenHolds, Timestamp};
use crate::store::{Context, StoreError};

/// Addresses that holds are remembered of. One more must wait until those of another are over; meanwhile its
/// own are bounded by account alone.
const ADDRESSES_MAX: usize = 10_000;

/// Names and ends of holds by the address that they were made from.
#[derive(Default)]
pub(super) struct FromAddresses(HashMap<AddressBlock, Vec<(HoldName, Timestamp)>>);

impl FromAddresses {
    /// Remembers a hold that was made.
    pub(super) fn add(&mut self, context: &Context, name: &HoldName, expires_at: Timestamp) {
        let Some(address) = context.address else {
            return;
        };
        if self.0.len() >= ADDRESSES_MAX && !self.0.contains_key(&address) {
            let is_open = |(_, ends): &(HoldName, Timestamp)| *ends > context.now;
            self.0.retain(|_, made| made.iter().any(is_open));
            if self.0.len() >= ADDRESSES_MAX {
                return;
            }
        }
        let made = self.0.entry(address).or_default();
        made.push((name.clone(), expires_at));
    }
}

impl Books<'_> {
    /// How many holds of the account and of the context's terminal are open, counted up to what may
    /// be. The account's due ones have been expired.
    pub(super) fn open_holds(
        &mut self,
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
            true => self.open_from(context)?,
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

    /// How many of the holds that were made from the context's address since the start are open.
    fn open_from(&mut self, context: &Context) -> Result<u64, StoreError> {
        let made = context
            .address
            .map(|address| self.memory.from_addresses.0.get_mut(&address));
        let Some(made) = made.flatten() else {
            return Ok(0);
        };
        let sql = "SELECT 1 FROM hold WHERE name = ?1 AND state = 0 AND expires_at > ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut open = Vec::with_capacity(made.len());
        for (name, expires_at) in made.drain(..) {
            if statement.exists(params![name.as_str(), context.now.unix_ms()])? {
                open.push((name, expires_at));
            }
        }
        *made = open;
        Ok(u64::try_from(made.len()).unwrap_or(u64::MAX))
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
