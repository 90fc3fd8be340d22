//! The ledger as its entries make it: played again from the first, a window of them at a time.

use aws_lc_rs::digest;
use rusqlite::Connection;

use super::audit::Faults;
use super::slices::read_on;
use crate::domain::entry::{CHAIN_START, ChainHash, ChainLink};
use crate::domain::{EntryKind, EntryNumber, Timestamp};
use crate::store::rules::postings::POSTINGS_PER_MARK;
use crate::store::state::KIND_CUSTOMER;
use crate::store::{Digest, StoreError};

/// An account as its entries make it.
pub(super) struct Rebuilt {
    pub(super) id: i64,
    pub(super) number: Box<str>,
    pub(super) is_customer: bool,
    pub(super) balance: i64,
    pub(super) head: ChainHash,
    /// The last entry with a posting to it, or 0, and how many there are.
    pub(super) last_entry: i64,
    pub(super) postings: i64,
    /// The latest day that money was withdrawn on, the first entry of that day, and how much on it without holds.
    pub(super) withdrawn: (i64, i64, i64),
    /// That of its newest record among those of covered rows.
    pub(super) revision: i64,
}

/// All accounts, in the order of their numbers in the table.
#[derive(Default)]
pub(super) struct Accounts(Vec<Rebuilt>);

impl Accounts {
    /// Where an account stands among all.
    pub(super) fn place(&self, id: i64) -> Option<usize> {
        self.0.binary_search_by_key(&id, |account| account.id).ok()
    }

    pub(super) fn get(&self, id: i64) -> Option<&Rebuilt> {
        self.0.get(self.place(id)?)
    }

    pub(super) fn get_mut(&mut self, id: i64) -> Option<&mut Rebuilt> {
        let place = self.place(id)?;
        self.0.get_mut(place)
    }

    pub(super) fn all(&self) -> &[Rebuilt] {
        &self.0
    }

    /// Reads the next ones; whether there may be more.
    pub(super) fn read_on(&mut self, connection: &Connection) -> Result<bool, StoreError> {
        let sql = "SELECT id, number, kind FROM account WHERE id > ?1 ORDER BY id";
        let last = self.0.last();
        let mut read = last.map_or(i64::MIN, |account| account.id);
        read_on(connection, sql, &mut read, |row| {
            let id = row.get(0)?;
            if self.0.last().is_some_and(|last| id <= last.id) {
                return Ok(());
            }
            self.0.push(Rebuilt {
                id,
                number: row.get::<_, String>(1)?.into(),
                is_customer: row.get::<_, i64>(2)? == KIND_CUSTOMER,
                balance: 0,
                head: CHAIN_START,
                last_entry: 0,
                postings: 0,
                withdrawn: (i64::MIN, 0, 0),
                revision: 0,
            });
            Ok(())
        })
    }

    /// SHA-256 over names and heads in the order of names; accounts without entries have none.
    pub(super) fn digest(&self, entry: i64) -> Digest {
        let begun = self.0.iter().filter(|account| account.head != CHAIN_START);
        let mut begun: Vec<&Rebuilt> = begun.collect();
        begun.sort_unstable_by(|one, other| one.number.cmp(&other.number));
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"atm-bank/heads/1\0");
        for account in begun {
            context.update(account.number.as_bytes());
            context.update(b"\0");
            context.update(&account.head);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Digest {
            entry,
            hash,
            log: None,
            rows: None,
        }
    }
}

struct EntryRow {
    number: i64,
    at: i64,
    kind: i64,
    terminal: String,
    amount: i64,
    debit: Side,
    credit: Side,
    /// It is a hold's: what it withdrew counts upon the hold's day, not upon its own.
    is_capture: bool,
}

/// Account, balance after it, hash, and the account's posting before it.
type Side = (i64, i64, ChainHash, i64);

/// What the entries up to one of them make.
pub(super) struct LedgerReplay {
    pub(super) accounts: Accounts,
    /// How many entries there are, and the last one's number.
    pub(super) entries: u64,
    pub(super) last: i64,
    /// The latest moment of them, in milliseconds since 1970, or 0.
    pub(super) newest: i64,
    /// How far [`read_on`] has come.
    read: i64,
    /// Account and entry of each posting that must be marked.
    pub(super) marks: Vec<(i64, i64)>,
    /// What is to be compared once its entry was played.
    unchecked: Option<Digest>,
}

const ENTRY_SQL: &str = "SELECT entry.id, at, kind, coalesce(terminal.name, ''), amount, debit, debit_balance, \
    debit_hash, credit, credit_balance, credit_hash, debit_previous, credit_previous, \
    kind = 3 AND EXISTS (SELECT 1 FROM hold WHERE hold.entry = entry.id AND state = 1) FROM entry \
    LEFT JOIN terminal ON terminal.id = entry.terminal WHERE entry.id > ?1 ORDER BY entry.id";

impl LedgerReplay {
    pub(super) fn new(before: Option<Digest>) -> Self {
        Self {
            accounts: Accounts::default(),
            entries: 0,
            last: 0,
            newest: 0,
            read: i64::MIN,
            marks: Vec::new(),
            unchecked: before,
        }
    }

    /// Plays the next entries again and compares; whether there may be more. All accounts must have been
    /// read that are in the snapshot.
    pub(super) fn read_on(
        &mut self,
        connection: &Connection,
        faults: &mut Faults,
    ) -> Result<bool, StoreError> {
        let mut read = self.read;
        let more = read_on(connection, ENTRY_SQL, &mut read, |row| {
            let entry = EntryRow {
                number: row.get(0)?,
                at: row.get(1)?,
                kind: row.get(2)?,
                terminal: row.get(3)?,
                amount: row.get(4)?,
                debit: (row.get(5)?, row.get(6)?, row.get(7)?, row.get(11)?),
                credit: (row.get(8)?, row.get(9)?, row.get(10)?, row.get(12)?),
                is_capture: row.get(13)?,
            };
            let reached = |digest: &mut Digest| digest.entry < entry.number;
            if let Some(digest) = self.unchecked.take_if(reached) {
                self.compare(digest, faults);
            }
            self.side(&entry, true, faults);
            self.side(&entry, false, faults);
            self.entries = self.entries.saturating_add(1);
            self.last = entry.number;
            self.newest = self.newest.max(entry.at);
            Ok(())
        })?;
        self.read = read;
        Ok(more)
    }

    /// All entries were played.
    pub(super) fn finish(&mut self, faults: &mut Faults) {
        if let Some(digest) = self.unchecked.take() {
            self.compare(digest, faults);
        }
    }

    fn compare(&self, digest: Digest, faults: &mut Faults) {
        if self.accounts.digest(self.last) != digest.of_ledger() {
            faults.add(format!(
                "the ledger up to entry {} is not the one that digest was made of",
                digest.entry
            ));
        }
    }

    fn side(&mut self, entry: &EntryRow, debit: bool, faults: &mut Faults) {
        let number = entry.number;
        let ((own, balance, hash, previous), (other, ..), amount) = match debit {
            true => (entry.debit, entry.credit, entry.amount.wrapping_neg()),
            false => (entry.credit, entry.debit, entry.amount),
        };
        let counterparty = self.accounts.get(other).map(|other| other.number.clone());
        let (Some(own), Some(counterparty)) = (self.accounts.get_mut(own), counterparty) else {
            return faults.add(format!("entry {number}: no such account"));
        };
        let (Some(kind), Some(entry_number)) =
            (EntryKind::from_number(entry.kind), EntryNumber::new(number))
        else {
            return faults.add(format!("entry {number}: no such kind or number"));
        };
        own.balance = own.balance.wrapping_add(amount);
        if own.balance != balance {
            faults.add(format!(
                "entry {number}: the balance of {} after it is wrong",
                own.number
            ));
        }
        let link = ChainLink {
            previous: &own.head,
            account: &own.number,
            counterparty: &counterparty,
            entry: entry_number,
            at: Timestamp::from_unix_ms(entry.at),
            kind,
            amount,
            balance,
            terminal: &entry.terminal,
        };
        if link.hash() != hash {
            faults.add(format!(
                "entry {number}: the hash chain of {} is broken",
                own.number
            ));
        }
        if own.last_entry != previous {
            faults.add(format!(
                "entry {number}: it does not follow the posting of {} before it",
                own.number
            ));
        }
        own.last_entry = number;
        own.postings = own.postings.saturating_add(1);
        if own.postings % POSTINGS_PER_MARK == 0 {
            self.marks.push((own.id, number));
        }
        if debit && kind == EntryKind::Withdrawal {
            let amount = if entry.is_capture { 0 } else { entry.amount };
            own.withdraw(link.at.business_day(), number, amount);
        }
        // Goes on from the stored hash, so that one fault is not reported for all that follows.
        own.head = hash;
        own.balance = balance;
    }
}

impl Rebuilt {
    fn withdraw(&mut self, day: i64, entry: i64, amount: i64) {
        let (latest, first, sum) = self.withdrawn;
        match day.cmp(&latest) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => self.withdrawn = (day, first, sum.wrapping_add(amount)),
            std::cmp::Ordering::Greater => self.withdrawn = (day, entry, amount),
        }
    }

    /// The first entry that withdrew on a day, or where there is none the greatest number, and how much was
    /// withdrawn without holds; `None` where only the entries themselves say: it is before the latest.
    pub(super) fn withdrawn_on(&self, day: i64) -> Option<(i64, i64)> {
        let (latest, first, sum) = self.withdrawn;
        match day.cmp(&latest) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some((first, sum)),
            std::cmp::Ordering::Greater => Some((i64::MAX, 0)),
        }
    }
}
