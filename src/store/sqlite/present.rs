//! What rows of accounts and holds say at one moment, compared with what the entries make.

use std::collections::HashSet;

use rusqlite::Connection;

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
    /// When the day of its row begins.
    begins: i64,
}

/// What rows of accounts say at one moment.
pub(super) struct Present {
    /// In the order of the accounts.
    rest: Vec<Rest>,
    pub(super) customers: u64,
    pub(super) customers_total: i64,
    pub(super) total: i64,
    /// The latest moment that anything was done at, as far as was read.
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
            rest.begins = day.saturating_mul(86_400_000);
            if is_customer && (day > 0 || used > 0) && day > forgotten {
                rest.day = Some(day);
                let withdrawn = withdrawn_on(connection, account, day, &present.known)?;
                rest.used = used.wrapping_sub(withdrawn);
            }
        }
        Ok(present)
    }

    /// Reads the holds, and compares each with its entry; returns how many are open.
    pub(super) fn holds(
        &mut self,
        connection: &Connection,
        accounts: &Accounts,
        faults: &mut Faults,
    ) -> Result<u64, StoreError> {
        let sql = "SELECT name, account, state, hold.amount, captured, authorized_at, \
                   (state = 1) <> (captured > 0) OR (state = 1) <> (entry.id IS NOT NULL) OR (state = 1 AND \
                     (entry.amount <> captured OR debit <> account OR kind NOT IN (3, 4))), \
                   iif(kind = ?1, entry.id, NULL), debit, entry.amount, entry.at \
                   FROM hold LEFT JOIN entry ON entry.id = hold.entry ORDER BY hold.id";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([EntryKind::Withdrawal.number()])?;
        let (mut open, mut captures) = (0_u64, HashSet::new());
        while let Some(row) = rows.next()? {
            if row.get::<_, Option<bool>>(6)? == Some(true) {
                let name: String = row.get(0)?;
                faults.add(format!("hold {name}: its state and its entry do not agree"));
            }
            let (state, amount): (i64, i64) = (row.get(2)?, row.get(3)?);
            let of_day = if state == 0 { amount } else { row.get(4)? };
            self.done = self.done.max(row.get(5)?);
            if state == 0 {
                open = open.saturating_add(1);
            }
            if let Some(rest) = self.rest_of(accounts, row.get(1)?) {
                if state == 0 {
                    rest.held = rest.held.wrapping_sub(amount);
                }
                if state <= 1 && rest.day == Some(day_of(row.get(5)?)) {
                    rest.used = rest.used.wrapping_sub(of_day);
                }
            }
            // What a capture withdrew counts upon its hold's day, not upon its own.
            if let Some(entry) = row.get::<_, Option<i64>>(7)?
                && !is_known(&self.known, entry, day_of(row.get(10)?))
                && let Some(rest) = self.rest_of(accounts, row.get(8)?)
                && rest.day == Some(day_of(row.get(10)?))
                && captures.insert(entry)
            {
                rest.used = rest.used.wrapping_add(row.get(9)?);
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
            if rest.begins > self.done {
                later.push((rest.begins, number));
            }
        }
        if later.is_empty() {
            return Ok(());
        }
        // Only what is done on a day turns an account to it: some of that is in no log.
        let sql = "SELECT coalesce(max(at), 0) FROM request";
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

fn is_known(known: &[Acknowledged], entry: i64, day: i64) -> bool {
    known.iter().any(|known| known.has(entry, day))
}

/// What the account's entries withdrew on a day. Seldom do only they themselves say: where a clock was
/// wrong, or a capture came on the day after.
fn withdrawn_on(
    connection: &Connection,
    account: &Rebuilt,
    day: i64,
    known: &[Acknowledged],
) -> Result<i64, StoreError> {
    if let Some((first, sum)) = account.withdrawn_on(day)
        && !is_known(known, first, day)
    {
        return Ok(sum);
    }
    let lines = match postings::since(connection, account.id, Timestamp::from_unix_ms(i64::MIN)) {
        // It was named where the entries were played.
        Err(StoreError::Broken(_)) => Vec::new(),
        lines => lines?,
    };
    let paid = lines.iter().filter(|line| {
        line.kind == EntryKind::Withdrawal
            && line.amount < 0
            && line.at.business_day() == day
            && !is_known(known, line.entry, day)
    });
    Ok(paid.fold(0, |sum: i64, line| sum.wrapping_sub(line.amount)))
}
