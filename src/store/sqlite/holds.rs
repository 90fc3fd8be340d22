//! Holds of an account: how many are open, and those whose time is over.

use std::collections::HashMap;

use rusqlite::{Row, ToSql, params};

use super::writer::Books;
use crate::access::throttle::AddressBlock;
use crate::domain::hold::{Hold, HoldState};
use crate::domain::money::Amount;
use crate::domain::{HoldName, OpenHolds, Timestamp};
use crate::store::rules::holds::expire_due;
use crate::store::state::HoldRow;
use crate::store::{Context, StoreError};

/// Addresses that holds are remembered of. One more must wait until those of another are over; meanwhile its
/// own are bounded by account alone.
const ADDRESSES_MAX: usize = 10_000;

/// Names and ends of holds by the address that they were made from.
#[derive(Default)]
pub(super) struct FromAddresses(HashMap<AddressBlock, Vec<(HoldName, Timestamp)>>);

impl FromAddresses {
    /// Remembers a hold that was made.
    pub(super) fn add(&mut self, row: &HoldRow) {
        let Some((address, now)) = row.made_from else {
            return;
        };
        if self.0.len() >= ADDRESSES_MAX && !self.0.contains_key(&address) {
            let is_open = |(_, ends): &(HoldName, Timestamp)| *ends > now;
            self.0.retain(|_, made| made.iter().any(is_open));
            if self.0.len() >= ADDRESSES_MAX {
                return;
            }
        }
        let made = self.0.entry(address).or_default();
        made.push((row.name.clone(), row.hold.expires_at));
    }
}

impl Books<'_> {
    /// How many holds of the account and of the context's terminal are open, counted up to what may be.
    pub(super) fn open_holds(
        &mut self,
        account: i64,
        context: &Context,
    ) -> Result<OpenHolds, StoreError> {
        let most = context.terms.open_holds;
        let count = |sql: &str, key: &dyn ToSql, most: u64| {
            let mut statement = self.connection.prepare_cached(sql)?;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let parameters = params![key, context.now.unix_ms(), most];
            statement.query_row(parameters, |row| row.get::<_, u64>(0))
        };
        let of_account = count(
            "SELECT count(*) FROM (SELECT 1 FROM hold WHERE account = ?1 AND state = 0 \
             AND expires_at > ?2 LIMIT ?3)",
            &account,
            most.of_account,
        )?;
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

    /// Open holds of the account whose time is over by that moment, the oldest first.
    pub(super) fn due(
        &self,
        account: i64,
        by: Timestamp,
        most: usize,
    ) -> Result<Vec<HoldRow>, StoreError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let sql = format!(
            "{HOLD_SQL} WHERE account = ?1 AND state = 0 AND expires_at <= ?2 ORDER BY hold.id LIMIT ?3"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![account, by.unix_ms(), most])?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            due.push(read_hold(row)?);
        }
        Ok(due)
    }

    pub(super) fn hold(&self, name: &HoldName) -> Result<Option<HoldRow>, StoreError> {
        self.one_hold("hold.name = ?1", [name.as_str()])
    }

    /// The hold of that number, if it is that account's.
    pub(super) fn hold_made(&self, id: i64, account: i64) -> Result<Option<HoldRow>, StoreError> {
        self.one_hold("hold.id = ?1 AND account = ?2", [id, account])
    }

    fn one_hold(
        &self,
        condition: &str,
        which: impl rusqlite::Params,
    ) -> Result<Option<HoldRow>, StoreError> {
        let sql = format!("{HOLD_SQL} WHERE {condition}");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(which)?;
        rows.next()?.map(read_hold).transpose()
    }

    /// Frees holds of the account whose time is over, `most` of them, the oldest first; returns how many.
    pub(super) fn expire_some(
        &mut self,
        account: i64,
        now: Timestamp,
        most: usize,
    ) -> Result<usize, StoreError> {
        let mut account = self.account(account)?;
        let due = self.due(account.id, now, most)?;
        self.memory.rows.loaded.due = Some(due).into();
        self.apply(|rows| expire_due(rows, &mut account, now))
    }
}

const HOLD_SQL: &str = "SELECT hold.id, hold.name, hold.account, terminal.name, hold.amount, \
    hold.authorized_at, hold.expires_at, hold.state, hold.captured, hold.entry, hold.settled_by \
    FROM hold JOIN terminal ON terminal.id = hold.terminal";

fn read_hold(row: &Row<'_>) -> Result<HoldRow, StoreError> {
    let (name, terminal): (String, String) = (row.get(1)?, row.get(3)?);
    let (amount, state) = (row.get(4)?, row.get(7)?);
    let read = || {
        Some((
            name.parse().ok()?,
            terminal.parse().ok()?,
            Amount::new(amount)?,
            HoldState::from_number(state)?,
        ))
    };
    let unreadable = || StoreError::Broken(format!("the hold {name} is unreadable"));
    let (name, terminal, amount, state) = read().ok_or_else(unreadable)?;
    Ok(HoldRow {
        id: row.get(0)?,
        name,
        account: row.get(2)?,
        hold: Hold {
            terminal,
            amount,
            authorized_at: Timestamp::from_unix_ms(row.get(5)?),
            expires_at: Timestamp::from_unix_ms(row.get(6)?),
            state,
        },
        captured: row.get(8)?,
        entry: row.get(9)?,
        settled_by: row.get(10)?,
        made_from: None,
    })
}
