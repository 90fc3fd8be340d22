//! What a bank knows, and how an entry is posted.

use std::collections::{BTreeMap, BTreeSet};

use super::enrolment::Enrolments;
use crate::access::lockout::TryRecord;
use crate::access::pepper::PepperId;
use crate::access::pin::StoredPin;
use crate::access::stand_in::StandInKey;
use crate::access::throttle::AddressBlock;
use crate::domain::entry::{CHAIN_START, ChainHash, ChainLink};
use crate::domain::hold::{Hold, HoldState};
use crate::domain::money::Amount;
use crate::domain::policy::Standing;
use crate::domain::{
    AccountNumber, AuditRecord, Currency, EntryKind, EntryNumber, HoldName, IdempotencyKey,
    TerminalName, Timestamp,
};
use crate::store::{Balances, Fingerprint, Line, Note, StoreError, Terms};

/// The account that opening balances come from.
pub(super) const OPENING: &str = "opening";
/// The account that staff's corrections come from and go to.
pub(super) const ADJUSTMENT: &str = "adjustment";

/// Everything.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) currency: Currency,
    pub(super) customers: BTreeMap<AccountNumber, Customer>,
    /// Every account by its name in the ledger: customers', terminals' cash, the bank's own.
    pub(super) ledger: BTreeMap<String, LedgerAccount>,
    /// The names of `ledger` in the order in which they were opened.
    pub(super) rows: Vec<String>,
    pub(super) stand_in_key: StandInKey,
    /// Entry 1 is the first.
    pub(super) entries: Vec<Entry>,
    pub(super) holds: BTreeMap<HoldName, HeldMoney>,
    pub(super) keys: BTreeMap<(AccountNumber, IdempotencyKey), Kept>,
    /// Keys in the order they were kept in; numbers are never used again.
    pub(super) keys_by_age: BTreeMap<u64, (AccountNumber, IdempotencyKey)>,
    pub(super) last_kept: u64,
    pub(super) tries: BTreeMap<AccountNumber, Tries>,
    /// It is on record that they nearly fill their table.
    pub(super) tries_told: bool,
    /// Whether a known terminal is disabled.
    pub(super) terminals: BTreeMap<TerminalName, bool>,
    /// Terminals that enrol themselves.
    pub(super) enrolments: Enrolments,
    /// The audit log, each record with its hash.
    pub(super) records: Vec<(AuditRecord, ChainHash)>,
    /// The log of covered rows: the hash of each record.
    pub(super) row_records: Vec<ChainHash>,
    /// Peppers that hashes were made with, by name.
    pub(super) peppers: BTreeMap<String, PepperId>,
    /// Those of which no hash is taken any more.
    pub(super) retired_peppers: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Open,
    Locked,
    Closed,
}

#[derive(Debug)]
pub(super) struct Customer {
    pub(super) status: Status,
    /// The last business day that the account was used on: a clock that is set back does not
    /// bring the limits of the day before back.
    pub(super) day: i64,
    pub(super) withdrawal_limit: Option<i64>,
    pub(super) daily_limit: Option<i64>,
    pub(super) pin: StoredPin,
    pub(super) must_change_pin: bool,
    pub(super) pin_ends_at: Option<Timestamp>,
    pub(super) demo: bool,
    pub(super) home: Option<TerminalName>,
    pub(super) holds: Vec<HoldName>,
}

#[derive(Debug)]
pub(super) struct LedgerAccount {
    pub(super) balance: i64,
    pub(super) head: ChainHash,
    /// Indices of its entries.
    pub(super) entries: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: Timestamp,
    pub(super) kind: EntryKind,
    /// Empty where staff made it.
    pub(super) terminal: String,
    pub(super) amount: i64,
    pub(super) debit: Side,
    pub(super) credit: Side,
    /// It captured a hold, which then counts for the day's limit instead of the entry.
    pub(super) of_hold: bool,
    pub(super) reason: Option<String>,
}

#[derive(Debug)]
pub(super) struct Side {
    pub(super) account: String,
    pub(super) balance: i64,
    pub(super) hash: ChainHash,
}

#[derive(Debug)]
pub(super) struct HeldMoney {
    pub(super) account: AccountNumber,
    pub(super) hold: Hold,
    /// The address that it was made from, where that is all that tells.
    pub(super) address: Option<AddressBlock>,
    pub(super) captured: i64,
    pub(super) entry: Option<i64>,
    /// The number of the kept answer that settled it.
    pub(super) settled_by: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) number: u64,
    pub(super) fingerprint: Fingerprint,
    pub(super) at: Timestamp,
    pub(super) entry: Option<i64>,
    /// The hold that it made.
    pub(super) made: Option<HoldName>,
    pub(super) late: bool,
    pub(super) balances: Balances,
}

#[derive(Debug)]
pub(super) struct Tries {
    pub(super) record: TryRecord,
    /// By the policy of the last try; `None` until staff unlock it.
    pub(super) expires_at: Option<Timestamp>,
}

/// An entry to be posted.
pub(super) struct Posting<'a> {
    pub(super) kind: EntryKind,
    pub(super) debit: &'a str,
    pub(super) credit: &'a str,
    pub(super) amount: Amount,
    pub(super) terminal: Option<&'a TerminalName>,
    pub(super) at: Timestamp,
}

impl Books {
    pub(super) fn new(currency: Currency, stand_in_key: StandInKey) -> Self {
        let mut books = Self {
            currency,
            rows: Vec::new(),
            stand_in_key,
            customers: BTreeMap::new(),
            ledger: BTreeMap::new(),
            entries: Vec::new(),
            holds: BTreeMap::new(),
            keys: BTreeMap::new(),
            keys_by_age: BTreeMap::new(),
            last_kept: 0,
            tries: BTreeMap::new(),
            tries_told: false,
            terminals: BTreeMap::new(),
            enrolments: Enrolments::default(),
            records: Vec::new(),
            row_records: Vec::new(),
            peppers: BTreeMap::new(),
            retired_peppers: BTreeSet::new(),
        };
        books.begin_account(OPENING);
        books.begin_account(ADJUSTMENT);
        books
    }

    pub(super) fn begin_account(&mut self, name: &str) {
        let empty = LedgerAccount {
            balance: 0,
            head: CHAIN_START,
            entries: Vec::new(),
        };
        self.ledger.entry(name.to_owned()).or_insert_with(|| {
            self.rows.push(name.to_owned());
            empty
        });
    }

    /// The name of a terminal's cash, which is opened where the terminal is new.
    pub(super) fn meet_terminal(&mut self, name: &TerminalName) -> String {
        let cash = cash_of(name);
        self.begin_account(&cash);
        self.terminals.entry(name.clone()).or_insert(false);
        cash
    }

    pub(super) fn balance_of(&self, name: &str) -> i64 {
        self.ledger.get(name).map_or(0, |account| account.balance)
    }

    pub(super) fn holds_of(&self, number: AccountNumber) -> impl Iterator<Item = &HeldMoney> {
        let names = self.customers.get(&number).map(|customer| &customer.holds);
        let names = names.into_iter().flatten();
        names.filter_map(|name| self.holds.get(name))
    }

    /// The sum of the account's holds that are open and were not due at `now`.
    fn held_at(&self, number: AccountNumber, now: Timestamp) -> i64 {
        self.holds_of(number)
            .filter(|held| held.hold.state == HoldState::Open && now < held.hold.expires_at)
            .map(|held| held.hold.amount.minor())
            .sum()
    }

    /// What withdrawals and holds of a business day have used of its limit.
    fn used_on(&self, number: AccountNumber, day: i64) -> i64 {
        let account = self.ledger.get(number.as_str());
        let entries = account.into_iter().flat_map(|account| &account.entries);
        let withdrawn: i64 = entries
            .filter_map(|index| self.entries.get(*index))
            .filter(|entry| entry.debit.account == number.as_str())
            .filter(|entry| entry.kind == EntryKind::Withdrawal && !entry.of_hold)
            .filter(|entry| entry.at.business_day() == day)
            .map(|entry| entry.amount)
            .sum();
        let set_aside: i64 = self
            .holds_of(number)
            .filter(|held| held.hold.authorized_at.business_day() == day)
            .map(|held| match held.hold.state {
                HoldState::Open => held.hold.amount.minor(),
                HoldState::Captured => held.captured,
                HoldState::Released | HoldState::Expired => 0,
            })
            .sum();
        withdrawn + set_aside
    }

    /// What the rules need to know.
    pub(super) fn standing(
        &self,
        number: AccountNumber,
        terms: &Terms,
        now: Timestamp,
    ) -> Option<Standing> {
        let customer = self.customers.get(&number)?;
        let day = customer.day.max(now.business_day());
        let limit = terms.withdrawal_limit;
        let daily_limit = terms.daily_withdrawal_limit;
        Some(Standing {
            balance: self.balance_of(number.as_str()),
            held: self.held_at(number, now),
            used_today: self.used_on(number, day),
            withdrawal_limit: customer.withdrawal_limit.unwrap_or(limit),
            daily_limit: customer.daily_limit.unwrap_or(daily_limit),
        })
    }

    pub(super) fn balances_at(&self, number: AccountNumber, now: Timestamp) -> Balances {
        let balance = self.balance_of(number.as_str());
        let available = balance - self.held_at(number, now);
        Balances { balance, available }
    }

    /// The moment that cash of the account is stamped with: where the clock was set back over
    /// midnight, the start of the day that the account has reached.
    pub(super) fn stamp(&self, number: AccountNumber, now: Timestamp) -> Timestamp {
        let day = self
            .customers
            .get(&number)
            .map_or(0, |customer| customer.day);
        now.max(Timestamp::start_of_day(day))
    }

    /// Marks the account as used on the business day of `now`.
    pub(super) fn use_account(&mut self, number: AccountNumber, now: Timestamp) {
        if let Some(customer) = self.customers.get_mut(&number) {
            customer.day = customer.day.max(now.business_day());
        }
    }

    /// Brings holds whose time is over to `Expired`; returns how many.
    pub(super) fn expire_due(&mut self, number: AccountNumber, now: Timestamp) -> usize {
        self.expire_some(number, now, usize::MAX)
    }

    /// As [`Books::expire_due`], for `most` of them.
    pub(super) fn expire_some(
        &mut self,
        number: AccountNumber,
        now: Timestamp,
        most: usize,
    ) -> usize {
        let names = self.customers.get(&number).map(|customer| &customer.holds);
        let mut expired = 0;
        for name in names.into_iter().flatten() {
            if expired < most
                && let Some(held) = self.holds.get_mut(name)
                && held.hold.expiry(now).is_some()
            {
                held.hold.state = HoldState::Expired;
                expired += 1;
            }
        }
        expired
    }

    /// Writes an entry: both balances and both chains. Nothing is changed where it fails.
    pub(super) fn post(&mut self, posting: &Posting<'_>) -> Result<i64, StoreError> {
        let broken = |what: &str| StoreError::Broken(what.to_owned());
        if posting.debit == posting.credit {
            return Err(broken("an entry within one account"));
        }
        let index = self.entries.len();
        let number = i64::try_from(index + 1).ok().and_then(EntryNumber::new);
        let number = number.ok_or_else(|| broken("entry numbers are used up"))?;
        let amount = posting.amount.minor();
        let debit = self.side(posting, number, (posting.debit, posting.credit), -amount)?;
        let credit = self.side(posting, number, (posting.credit, posting.debit), amount)?;
        for side in [&debit, &credit] {
            if let Some(account) = self.ledger.get_mut(&side.account) {
                account.balance = side.balance;
                account.head = side.hash;
                account.entries.push(index);
            }
        }
        self.entries.push(Entry {
            at: posting.at,
            kind: posting.kind,
            terminal: posting.terminal.map_or("", |name| name.as_str()).to_owned(),
            amount,
            debit,
            credit,
            of_hold: false,
            reason: None,
        });
        Ok(number.get())
    }

    fn side(
        &self,
        posting: &Posting<'_>,
        entry: EntryNumber,
        (own, other): (&str, &str),
        amount: i64,
    ) -> Result<Side, StoreError> {
        let broken = |what: &str| StoreError::Broken(format!("{what} {own}"));
        let account = self
            .ledger
            .get(own)
            .ok_or_else(|| broken("no such account:"))?;
        let balance = account.balance.checked_add(amount);
        let balance = balance.ok_or_else(|| broken("a balance is out of range:"))?;
        let link = ChainLink {
            previous: &account.head,
            account: own,
            counterparty: other,
            entry,
            at: posting.at,
            kind: posting.kind,
            amount,
            balance,
            terminal: posting.terminal.map_or("", |name| name.as_str()),
        };
        Ok(Side {
            account: own.to_owned(),
            balance,
            hash: link.hash(),
        })
    }

    /// Appends a record to the audit log.
    pub(super) fn append(&mut self, note: &Note) {
        let last = self.records.last();
        let (number, previous) = last.map_or((1, CHAIN_START), |(record, hash)| {
            (record.number.saturating_add(1), *hash)
        });
        let record = note.record(number);
        let hash = record.hash(&previous);
        self.records.push((record, hash));
    }

    /// Appends to the log of covered rows that the row of that name was written. Nobody can change
    /// one here past the bank, so that nothing of the row itself is kept.
    pub(super) fn record_row(&mut self, name: &str) {
        let last = self.row_records.last().copied().unwrap_or(CHAIN_START);
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        context.update(&last);
        context.update(name.as_bytes());
        let mut hash = CHAIN_START;
        hash.copy_from_slice(context.finish().as_ref());
        self.row_records.push(hash);
    }

    /// The account's entries as it sees them, oldest first.
    pub(super) fn lines(&self, number: AccountNumber) -> Vec<Line> {
        let account = self.ledger.get(number.as_str());
        let indices = account.into_iter().flat_map(|account| &account.entries);
        indices
            .filter_map(|index| self.line(*index, number.as_str()))
            .collect()
    }

    pub(super) fn line(&self, index: usize, own: &str) -> Option<Line> {
        let entry = self.entries.get(index)?;
        let (side, other, amount) = if entry.debit.account == own {
            (&entry.debit, &entry.credit, -entry.amount)
        } else {
            (&entry.credit, &entry.debit, entry.amount)
        };
        let customer = other.account.parse().ok();
        Some(Line {
            entry: i64::try_from(index + 1).ok()?,
            at: entry.at,
            kind: entry.kind,
            amount,
            balance: side.balance,
            terminal: entry.terminal.clone(),
            counterparty: customer.filter(|number| self.customers.contains_key(number)),
            reason: entry.reason.clone(),
        })
    }
}

/// The name of a terminal's cash in the ledger.
pub(super) fn cash_of(terminal: &TerminalName) -> String {
    format!("cash:{terminal}")
}
