//! What rows of accounts and holds say at one moment, compared with what the entries make.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::accounts::KIND_CUSTOMER;
use super::audit::Faults;
use super::postings;
use super::replay::{Accounts, Rebuilt};
use super::sweep::HOLDS_FORGOTTEN_DAY;
use crate::domain::entry::ChainHash;
use crate::domain::{EntryKind, Timestamp};
use crate::store::{Acknowledged, StoreError};

/// What an account's row says beyond its entries, less what its entries and holds make of it.
#[derive(Clone, Default)]
struct Rest {
    held: i64,
    /// The business day, where it has one whose holds are kept still, and what of its use is not accounted for.
    day: Option<i64>,
    used: i64,
    /// No entry before this one withdrew on that day.
    first: i64,
    /// When the day of its row begins, and whether something was used of a later one.
    begins: i64,
    is_behind: bool,
}

impl Rest {
    /// A hold of a day used so much.
    fn count(&mut self, day: i64, amount: i64) {
        if self.day == Some(day) {
            self.used = self.used.wrapping_sub(amount);
        }
        self.is_behind |= Timestamp::start_of_day(day).unix_ms() > self.begins;
    }
}

/// What rows of accounts say at one moment.
pub(super) struct Present {
    /// In the order of the accounts.
    rest: Vec<Rest>,
    pub(super) customers: u64,
    pub(super) customers_total: i64,
    pub(super) total: i64,
    /// The latest moment of an entry or a record.
    done: i64,
    /// What staff acknowledged to be stamped on a day to come: it was not made on it.
    known: Vec<Acknowledged>,
}

impl Present {
    /// Reads the rows, and compares them with what entries make.
    pub(super) fn read(
        connection: &Connection,
        accounts: &Accounts,
        (done, known): (i64, Vec<Acknowledged>),
        faults: &mut Faults,
    ) -> Result<Self, StoreError> {
        let mut present = Self {
            rest: vec![Rest::default(); accounts.all().len()],
            customers: 0,
            customers_total: 0,
            total: 0,
            done,
            known,
        };
        let sql = "SELECT coalesce(max(CAST(value AS INTEGER)), -1) FROM bank WHERE name = ?1";
        let forgotten: i64 = connection.query_row(sql, [HOLDS_FORGOTTEN_DAY], |row| row.get(0))?;
        let sql = "SELECT id, balance, head, last_entry, postings, held, day, day_used, kind FROM account";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (balance, head): (i64, ChainHash) = (row.get(1)?, row.get(2)?);
            let is_customer = row.get::<_, i64>(8)? == KIND_CUSTOMER;
            present.total = present.total.wrapping_add(balance);
            if is_customer {
                present.customers = present.customers.saturating_add(1);
                present.customers_total = present.customers_total.wrapping_add(balance);
            }
            let Some(place) = accounts.place(row.get(0)?) else {
                continue;
            };
            let (Some(account), Some(rest)) =
                (accounts.all().get(place), present.rest.get_mut(place))
            else {
                continue;
            };
            let number = &account.number;
            if (account.balance, account.head) != (balance, head) {
                faults.add(format!(
                    "{number}: its balance or chain is not what its entries make"
                ));
            }
            if (account.last_entry, account.postings) != (row.get(3)?, row.get(4)?) {
                faults.add(format!(
                    "{number}: its last entry or its count of them is not what its entries make"
                ));
            }
            let (day, used): (i64, i64) = (row.get(6)?, row.get(7)?);
            rest.held = row.get(5)?;
            rest.begins = Timestamp::start_of_day(day).unix_ms();
            if is_customer {
                let withdrawn = withdrawn_on(connection, account, day, &present.known)?;
                rest.is_behind = withdrawn.later;
                rest.day = Some(day).filter(|day| (*day > 0 || used > 0) && *day > forgotten);
                rest.used = used.wrapping_sub(withdrawn.sum);
                rest.first = withdrawn.first;
            }
        }
        Ok(present)
    }

    /// Reads the holds that count for what accounts hold or for their days; returns how many are open.
    pub(super) fn holds(
        &mut self,
        connection: &Connection,
        accounts: &Accounts,
    ) -> Result<u64, StoreError> {
        let mut open = 0_u64;
        let sql = "SELECT account, amount, authorized_at FROM hold WHERE state = 0";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            open = open.saturating_add(1);
            let (amount, day) = (row.get(1)?, day_of(row.get(2)?));
            if let Some(rest) = self.rest_of(accounts, row.get(0)?) {
                rest.held = rest.held.wrapping_sub(amount);
                rest.count(day, amount);
            }
        }
        let sql = "SELECT account, captured, authorized_at, entry FROM hold WHERE state = 1 \
                   ORDER BY id";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        let sql = "SELECT debit, amount, at FROM entry WHERE id = ?1 AND kind = ?2";
        let mut entry = connection.prepare(sql)?;
        let mut captures = HashSet::new();
        while let Some(row) = rows.next()? {
            let (captured, day) = (row.get(1)?, day_of(row.get(2)?));
            let Some(rest) = self.rest_of(accounts, row.get(0)?) else {
                continue;
            };
            rest.count(day, captured);
            let number: Option<i64> = row.get(3)?;
            let Some(number) = number.filter(|number| rest.day.is_some() && *number >= rest.first)
            else {
                continue;
            };
            // What a capture withdrew counts upon its hold's day, not upon its own.
            let kind = EntryKind::Withdrawal.number();
            let found = entry.query_row(params![number, kind], |row| {
                Ok((row.get(0)?, row.get(1)?, day_of(row.get(2)?)))
            });
            if let Some((debit, amount, day)) = found.optional()?
                && !Acknowledged::any(&self.known, number, day)
                && let Some(rest) = self.rest_of(accounts, debit)
                && rest.day == Some(day)
                && captures.insert(number)
            {
                rest.used = rest.used.wrapping_add(amount);
            }
        }
        Ok(open)
    }

    fn rest_of(&mut self, accounts: &Accounts, id: i64) -> Option<&mut Rest> {
        self.rest.get_mut(accounts.place(id)?)
    }

    /// Names the accounts of which something is left, and those whose day is later than all that was done.
    pub(super) fn judge(
        &self,
        connection: &Connection,
        accounts: &Accounts,
        faults: &mut Faults,
    ) -> Result<(), StoreError> {
        let mut later = Vec::new();
        for (rest, account) in self.rest.iter().zip(accounts.all()) {
            let number = &account.number;
            if rest.held != 0 {
                faults.add(format!(
                    "{number}: what is held is not the sum of its open holds"
                ));
            }
            if rest.day.is_some() && rest.used != 0 {
                faults.add(format!(
                    "{number}: what its day has used is not what its withdrawals and holds make"
                ));
            }
            if rest.is_behind {
                faults.add(format!(
                    "{number}: its business day is earlier than a withdrawal or a hold of it"
                ));
            }
            if rest.begins > self.done {
                later.push((rest.begins, number));
            }
        }
        if later.is_empty() {
            return Ok(());
        }
        // Only what is done on a day turns an account to it: some of that is in no log.
        let sql = "SELECT max(coalesce((SELECT max(at) FROM request), 0), \
                   coalesce((SELECT max(authorized_at) FROM hold), 0))";
        let asked = connection.query_row(sql, [], |row| row.get::<_, i64>(0))?;
        for (_, number) in later.iter().filter(|(begins, _)| *begins > asked) {
            faults.add(format!(
                "{number}: its business day is later than anything that was done"
            ));
        }
        Ok(())
    }
}

fn day_of(at_ms: i64) -> i64 {
    Timestamp::from_unix_ms(at_ms).business_day()
}

/// What an account's entries withdrew on a day: how much, that none before `first` did, and whether one
/// did on a later day.
struct Withdrawn {
    sum: i64,
    first: i64,
    later: bool,
}

/// Seldom do only the entries themselves say: where a clock was wrong, or the row is.
fn withdrawn_on(
    connection: &Connection,
    account: &Rebuilt,
    day: i64,
    known: &[Acknowledged],
) -> Result<Withdrawn, StoreError> {
    if let Some((first, sum)) = account.withdrawn_on(day)
        && !Acknowledged::any(known, first, day)
    {
        return Ok(Withdrawn {
            sum,
            first,
            later: false,
        });
    }
    // A day more than is asked for: only an acceptance sets the clock back by more, and what is behind
    // one and is of a later day is known.
    let from = Timestamp::start_of_day(day.saturating_sub(1));
    let lines = match postings::since(connection, account.id, from) {
        // It was named where the entries were played.
        Err(StoreError::Broken(_)) => Vec::new(),
        lines => lines?,
    };
    let mut withdrawn = Withdrawn {
        sum: 0,
        first: i64::MAX,
        later: false,
    };
    for line in lines {
        let of_day = line.at.business_day();
        let is_paid = line.kind == EntryKind::Withdrawal && line.amount < 0;
        if !is_paid || of_day < day || Acknowledged::any(known, line.entry, of_day) {
            continue;
        }
        if of_day > day {
            withdrawn.later = true;
        } else {
            withdrawn.sum = withdrawn.sum.wrapping_sub(line.amount);
            withdrawn.first = withdrawn.first.min(line.entry);
        }
    }
    Ok(withdrawn)
}
