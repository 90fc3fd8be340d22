//! The audit: every entry played again from nothing, every sum made again.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{Context, SHA256};

use super::books::{Books, Entry, HeldMoney, Side};
use crate::domain::EntryNumber;
use crate::domain::entry::{CHAIN_START, ChainHash, ChainLink};
use crate::domain::hold::HoldState;
use crate::store::{AUDIT_FAULTS_MAX, Audit, Digest, LogHead};

/// Balances and heads by account, as the entries so far make them.
type Replayed<'a> = BTreeMap<&'a str, (i64, ChainHash)>;

impl Books {
    pub(super) fn audit(&self, before: Option<Digest>) -> Audit {
        let mut faults = Vec::new();
        let mut replayed = Replayed::new();
        // The digest after every entry, from the one before the first.
        let mut then = vec![digest(&replayed, 0)];
        for (index, entry) in self.entries.iter().enumerate() {
            let number = i64::try_from(index + 1).unwrap_or(i64::MAX);
            let sides = [
                (&entry.debit, &entry.credit, -entry.amount),
                (&entry.credit, &entry.debit, entry.amount),
            ];
            for (own, other, amount) in sides {
                play(
                    &mut replayed,
                    (number, entry),
                    own,
                    other,
                    amount,
                    &mut faults,
                );
            }
            // Every digest is a walk over all heads: only those that are asked for are made.
            let asked = before.is_some_and(|before| before.entry == number);
            if asked || index + 1 == self.entries.len() {
                then.push(digest(&replayed, number));
            }
        }
        if before.is_some_and(|before| !then.contains(&before.of_ledger())) {
            faults.push("the ledger is not the one that the digest was made of".to_owned());
        }
        for (name, account) in &self.ledger {
            let made = replayed.get(name.as_str());
            if made.copied().unwrap_or((0, CHAIN_START)) != (account.balance, account.head) {
                faults.push(format!("{name}: not what its entries make"));
            }
        }
        self.audit_holds_and_keys(&mut faults);
        let log = self.audit_records(before.and_then(|before| before.log), &mut faults);
        let rows = self.audit_rows(before.and_then(|before| before.rows), &mut faults);
        let ledger_total = self.ledger.values().map(|account| account.balance).sum();
        if ledger_total != 0 {
            faults.push(format!("all balances sum to {ledger_total}, not to 0"));
        }
        faults.truncate(AUDIT_FAULTS_MAX);
        let numbers = self.customers.keys();
        let is_open = |held: &&HeldMoney| held.hold.state == HoldState::Open;
        Audit {
            noted: Vec::new(),
            accounts: count(self.customers.len()),
            entries: count(self.entries.len()),
            open_holds: count(self.holds.values().filter(is_open).count()),
            keys: count(self.keys.len()),
            customers_total: numbers.map(|number| self.balance_of(number.as_str())).sum(),
            ledger_total,
            head: digest(
                &replayed,
                i64::try_from(self.entries.len()).unwrap_or(i64::MAX),
            ),
            log,
            rows,
            unchecked_rows: 0,
            faults,
        }
    }

    /// Chains every record again; the kept end must be among the ends that come by.
    fn audit_records(&self, kept: Option<LogHead>, faults: &mut Vec<String>) -> LogHead {
        let (mut count, mut hash) = (0, CHAIN_START);
        let mut seen = kept.is_none_or(|kept| kept == LogHead { count, hash });
        for (record, written) in &self.records {
            if record.number != count + 1 || record.hash(&hash) != *written {
                faults.push(format!("audit record {}: not as written", record.number));
            }
            (count, hash) = (record.number, *written);
            seen |= kept == Some(LogHead { count, hash });
        }
        if !seen {
            faults.push("the audit log is not the one that the digest was made of".to_owned());
        }
        LogHead { count, hash }
    }

    /// The kept end must be among those that came by.
    fn audit_rows(&self, kept: Option<LogHead>, faults: &mut Vec<String>) -> LogHead {
        let ends = std::iter::once(&CHAIN_START).chain(&self.row_records);
        let ends = (0_i64..).zip(ends).map(|(count, hash)| (count, *hash));
        let mut ends = ends.map(|(count, hash)| LogHead { count, hash });
        if kept.is_some_and(|kept| !ends.clone().any(|end| end == kept)) {
            faults.push("the rows are not those that the digest was made of".to_owned());
        }
        let none = LogHead {
            count: 0,
            hash: CHAIN_START,
        };
        ends.by_ref().last().unwrap_or(none)
    }

    fn audit_holds_and_keys(&self, faults: &mut Vec<String>) {
        let entry = |number: i64| {
            let index = usize::try_from(number).ok()?.checked_sub(1)?;
            self.entries.get(index)
        };
        for (name, held) in &self.holds {
            let posted = held.entry.and_then(entry);
            let right = match held.hold.state {
                HoldState::Captured => posted.is_some_and(|entry| {
                    entry.amount == held.captured && entry.debit.account == held.account.as_str()
                }),
                _ => posted.is_none() && held.captured == 0,
            };
            if !right {
                faults.push(format!("hold {name}: its state and its entry do not agree"));
            }
        }
        let mut claimed = BTreeSet::new();
        for ((number, key), kept) in &self.keys {
            let posted = kept.entry.and_then(entry);
            let sides = posted.map(|entry| [&entry.debit.account, &entry.credit.account]);
            let foreign =
                sides.is_some_and(|sides| sides.iter().all(|name| *name != number.as_str()));
            let twice = kept.entry.is_some_and(|entry| !claimed.insert(entry));
            if foreign || twice || kept.entry.is_some() != posted.is_some() {
                faults.push(format!("key {key}: its entry is not its own"));
            }
        }
    }
}

fn count(things: usize) -> u64 {
    u64::try_from(things).unwrap_or(u64::MAX)
}

/// Plays one side of an entry and compares it with what was written.
fn play<'a>(
    replayed: &mut Replayed<'a>,
    (number, entry): (i64, &'a Entry),
    own: &'a Side,
    other: &Side,
    amount: i64,
    faults: &mut Vec<String>,
) {
    let account = replayed.entry(&own.account).or_insert((0, CHAIN_START));
    let balance = account.0 + amount;
    let hash = EntryNumber::new(number).map(|entry_number| {
        let link = ChainLink {
            previous: &account.1,
            account: &own.account,
            counterparty: &other.account,
            entry: entry_number,
            at: entry.at,
            kind: entry.kind,
            amount,
            balance,
            terminal: &entry.terminal,
        };
        link.hash()
    });
    if balance != own.balance || hash != Some(own.hash) {
        faults.push(format!("entry {number}: {} is not as written", own.account));
    }
    *account = (own.balance, own.hash);
}

/// SHA-256 over names and heads in the order of names.
fn digest(heads: &Replayed<'_>, entry: i64) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(b"atm-bank/heads/1\0");
    for (name, (_, head)) in heads {
        context.update(name.as_bytes());
        context.update(b"\0");
        context.update(head);
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
