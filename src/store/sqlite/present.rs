//! What rows of accounts and holds say at one moment, compared with what the entries make.

use rusqlite::Connection;

use super::audit::Faults;
use super::days::{Withdrawn, withdrawn_on};
use super::replay::{Accounts, Rebuilt};
use super::sweep::HOLDS_FORGOTTEN_DAY;
use crate::domain::Timestamp;
use crate::domain::entry::ChainHash;
use crate::domain::timestamp::DAY_MS;
use crate::store::state::KIND_CUSTOMER;
use crate::store::{Acknowledged, StoreError};

/// What an account's row says beyond its entries, less what its entries and holds make of it.
#[derive(Clone, Default)]
struct Rest {
    held: i64,
    /// The business day, where it has one whose holds are kept still, and what of its use is not accounted for.
    day: Option<i64>,
    used: i64,
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
                let withdrawn = own_withdrawals(connection, account, day, &present.known)?;
                rest.is_behind = withdrawn.later;
                rest.day = Some(day).filter(|day| (*day > 0 || used > 0) && *day > forgotten);
                rest.used = used.wrapping_sub(withdrawn.sum);
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
        // Of the captured ones, which are kept for months, only those that count for their account's day or
        // for a later one.
        let sql = "SELECT hold.account, captured, authorized_at FROM account CROSS JOIN hold \
                   ON hold.account = account.id AND state = 1 AND authorized_at >= day * ?1";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([DAY_MS])?;
        while let Some(row) = rows.next()? {
            let (captured, day) = (row.get(1)?, day_of(row.get(2)?));
            if let Some(rest) = self.rest_of(accounts, row.get(0)?) {
                rest.count(day, captured);
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

/// Seldom do only the entries themselves say: where a clock was wrong, or the row is.
fn own_withdrawals(
    connection: &Connection,
    account: &Rebuilt,
    day: i64,
    known: &[Acknowledged],
) -> Result<Withdrawn, StoreError> {
    match account.withdrawn_on(day) {
        Some((first, sum)) if !Acknowledged::any(known, first, day) => {
            Ok(Withdrawn { sum, later: false })
        }
        _ => match withdrawn_on(connection, account.id, day, known) {
            // It was named where the entries were played.
            Err(StoreError::Broken(_)) => Ok(Withdrawn::default()),
            withdrawn => withdrawn,
        },
    }
}
