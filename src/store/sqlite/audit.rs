//! The full audit: every entry read and every sum, balance, hold, chain and key checked again.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::digest;
use rusqlite::Connection;

use super::accounts::KIND_CUSTOMER;
use super::open::MIGRATIONS;
use super::postings::POSTINGS_PER_MARK;
use super::sweep::HOLDS_FORGOTTEN_DAY;
use super::{covered, schema, sums};
use crate::access::row_mac::Keyring;
use crate::domain::entry::{CHAIN_START, ChainHash, ChainLink};
use crate::domain::{EntryKind, EntryNumber, Timestamp};
use crate::store::{AUDIT_FAULTS_MAX, Audit, Digest, StoreError};

/// An account as its entries make it.
pub(super) struct Rebuilt {
    pub(super) number: String,
    pub(super) is_customer: bool,
    balance: i64,
    head: ChainHash,
    /// The last entry with a posting to it, or 0, and how many there are.
    last_entry: i64,
    postings: i64,
    /// Entries that must be marked.
    marks: Vec<i64>,
    /// What the account's row says.
    stored: Stored,
}

struct Stored {
    money: (i64, ChainHash),
    links: (i64, i64),
}

#[derive(Default)]
pub(super) struct Faults {
    named: Vec<String>,
    more: usize,
}

impl Faults {
    pub(super) fn add(&mut self, fault: String) {
        if self.named.len() < AUDIT_FAULTS_MAX {
            self.named.push(fault);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    fn into_words(mut self) -> Vec<String> {
        if self.more > 0 {
            self.named.push(format!("and {} more", self.more));
        }
        self.named
    }
}

/// Audits the ledger as it stands in one snapshot.
pub(super) fn audit(
    connection: &Connection,
    keyring: &Keyring,
    before: Option<Digest>,
    now: Timestamp,
) -> Result<Audit, StoreError> {
    connection.execute_batch("BEGIN")?;
    let audit = audit_snapshot(connection, keyring, before, now);
    connection.execute_batch("COMMIT")?;
    audit
}

fn audit_snapshot(
    connection: &Connection,
    keyring: &Keyring,
    before: Option<Digest>,
    now: Timestamp,
) -> Result<Audit, StoreError> {
    let mut faults = Faults::default();
    for difference in schema::differences(connection, MIGRATIONS.len())? {
        faults.add(format!("schema: {difference}"));
    }
    integrity(connection, &mut faults)?;
    let mut accounts = accounts(connection)?;
    let (entries, last) = replay(connection, &mut accounts, before, &mut faults)?;
    let kept = before.and_then(|digest| digest.log);
    let log = super::records::replay(connection, kept, &mut faults)?;
    let kept = before.and_then(|digest| digest.rows);
    let rows = covered::replay(connection, keyring, kept, &accounts, &mut faults)?;
    for account in accounts.values() {
        if (account.balance, account.head) != account.stored.money {
            faults.add(format!(
                "{}: its balance or chain is not what its entries make",
                account.number
            ));
        }
        if (account.last_entry, account.postings) != account.stored.links {
            faults.add(format!(
                "{}: its last entry or its count of them is not what its entries make",
                account.number
            ));
        }
    }
    marks(connection, &accounts, &mut faults)?;
    holds(connection, &mut faults)?;
    days(connection, &mut faults)?;
    keys(connection, &mut faults)?;
    let noted = super::clock::audit_stamps(connection, now, &mut faults)?;
    sums::audit(connection, &mut faults)?;
    others(connection, &mut faults)?;
    let ledger_total = accounts.values().fold(0_i64, |sum, account| {
        sum.wrapping_add(account.stored.money.0)
    });
    if ledger_total != 0 {
        faults.add(format!("all balances sum to {ledger_total}, not to 0"));
    }
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0));
    Ok(Audit {
        accounts: count("SELECT count(*) FROM account WHERE kind = 0")?,
        entries,
        open_holds: count("SELECT count(*) FROM hold WHERE state = 0")?,
        keys: count("SELECT count(*) FROM request")?,
        customers_total: connection.query_row(
            "SELECT coalesce(sum(balance), 0) FROM account WHERE kind = 0",
            [],
            |row| row.get(0),
        )?,
        ledger_total,
        head: digest_of(&accounts, last),
        log,
        noted,
        rows: rows.head,
        unchecked_rows: rows.unchecked,
        faults: faults.into_words(),
    })
}

/// SQLite's own check of the file, and that every reference leads somewhere.
fn integrity(connection: &Connection, faults: &mut Faults) -> Result<(), StoreError> {
    let mut statement = connection.prepare("PRAGMA integrity_check(20)")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    for row in rows {
        match row?.as_str() {
            "ok" => {}
            fault => faults.add(format!("file: {fault}")),
        }
    }
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    for table in rows {
        faults.add(format!(
            "a row of {} refers to one that is not there",
            table?
        ));
    }
    Ok(())
}

fn accounts(connection: &Connection) -> Result<HashMap<i64, Rebuilt>, StoreError> {
    let mut statement = connection
        .prepare("SELECT id, number, balance, head, last_entry, postings, kind FROM account")?;
    let rows = statement.query_map([], |row| {
        let stored = Stored {
            money: (row.get(2)?, row.get(3)?),
            links: (row.get(4)?, row.get(5)?),
        };
        Ok((
            row.get(0)?,
            Rebuilt {
                number: row.get(1)?,
                is_customer: row.get::<_, i64>(6)? == KIND_CUSTOMER,
                balance: 0,
                head: CHAIN_START,
                last_entry: 0,
                postings: 0,
                marks: Vec::new(),
                stored,
            },
        ))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

struct EntryRow {
    number: i64,
    at: i64,
    kind: i64,
    terminal: String,
    amount: i64,
    debit: Side,
    credit: Side,
}

/// Account, balance after it, hash, and the account's posting before it.
type Side = (i64, i64, ChainHash, i64);

/// Plays every entry again and compares; returns how many there are and the last one's number.
fn replay(
    connection: &Connection,
    accounts: &mut HashMap<i64, Rebuilt>,
    before: Option<Digest>,
    faults: &mut Faults,
) -> Result<(u64, i64), StoreError> {
    let mut statement = connection.prepare(
        "SELECT entry.id, at, kind, coalesce(terminal.name, ''), amount, debit, debit_balance, debit_hash, \
         credit, credit_balance, credit_hash, debit_previous, credit_previous FROM entry LEFT JOIN terminal ON terminal.id = entry.terminal \
         ORDER BY entry.id",
    )?;
    let mut rows = statement.query([])?;
    let (mut entries, mut last) = (0_u64, 0_i64);
    let mut unchecked = before;
    while let Some(row) = rows.next()? {
        let entry = EntryRow {
            number: row.get(0)?,
            at: row.get(1)?,
            kind: row.get(2)?,
            terminal: row.get(3)?,
            amount: row.get(4)?,
            debit: (row.get(5)?, row.get(6)?, row.get(7)?, row.get(11)?),
            credit: (row.get(8)?, row.get(9)?, row.get(10)?, row.get(12)?),
        };
        if let Some(digest) = unchecked.filter(|digest| digest.entry < entry.number) {
            compare(accounts, digest, last, faults);
            unchecked = None;
        }
        side(accounts, &entry, true, faults);
        side(accounts, &entry, false, faults);
        entries = entries.saturating_add(1);
        last = entry.number;
    }
    if let Some(digest) = unchecked {
        compare(accounts, digest, last, faults);
    }
    Ok((entries, last))
}

fn compare(accounts: &HashMap<i64, Rebuilt>, digest: Digest, last: i64, faults: &mut Faults) {
    if digest_of(accounts, last) != digest.of_ledger() {
        faults.add(format!(
            "the ledger up to entry {} is not the one that digest was made of",
            digest.entry
        ));
    }
}

fn side(accounts: &mut HashMap<i64, Rebuilt>, entry: &EntryRow, debit: bool, faults: &mut Faults) {
    let number = entry.number;
    let ((own, balance, hash, previous), (other, ..), amount) = match debit {
        true => (entry.debit, entry.credit, entry.amount.wrapping_neg()),
        false => (entry.credit, entry.debit, entry.amount),
    };
    let counterparty = accounts.get(&other).map(|other| other.number.clone());
    let (Some(own), Some(counterparty)) = (accounts.get_mut(&own), counterparty) else {
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
        own.marks.push(number);
    }
    // Goes on from the stored hash, so that one fault is not reported for all that follows.
    own.head = hash;
    own.balance = balance;
}

/// SHA-256 over names and heads in the order of names; accounts without entries have none.
fn digest_of(accounts: &HashMap<i64, Rebuilt>, entry: i64) -> Digest {
    let heads: BTreeMap<&str, &ChainHash> = accounts
        .values()
        .filter(|account| account.head != CHAIN_START)
        .map(|account| (account.number.as_str(), &account.head))
        .collect();
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"atm-bank/heads/1\0");
    for (number, head) in heads {
        context.update(number.as_bytes());
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

/// Every 64th posting of an account must be marked, and nothing else.
fn marks(
    connection: &Connection,
    accounts: &HashMap<i64, Rebuilt>,
    faults: &mut Faults,
) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare("SELECT entry FROM posting_mark WHERE account = ?1 ORDER BY entry")?;
    let mut all = 0_usize;
    for (id, account) in accounts {
        let found = statement.query_map([id], |row| row.get(0))?;
        let found: Vec<i64> = found.collect::<Result<_, _>>()?;
        all = all.saturating_add(found.len());
        if found != account.marks {
            faults.add(format!(
                "{}: its entries are not marked right",
                account.number
            ));
        }
    }
    let stored = connection.query_row("SELECT count(*) FROM posting_mark", [], |row| {
        row.get::<_, usize>(0)
    })?;
    if stored != all {
        faults.add("an account that is not there has marked entries".to_owned());
    }
    Ok(())
}

fn fault_rows(
    connection: &Connection,
    sql: &str,
    what: &str,
    faults: &mut Faults,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    for name in rows {
        faults.add(format!("{}: {what}", name?));
    }
    Ok(())
}

fn holds(connection: &Connection, faults: &mut Faults) -> Result<(), StoreError> {
    fault_rows(
        connection,
        "SELECT number FROM account WHERE held <> coalesce((SELECT sum(amount) FROM hold \
         WHERE hold.account = account.id AND state = 0), 0)",
        "what is held is not the sum of its open holds",
        faults,
    )?;
    fault_rows(
        connection,
        "SELECT 'hold ' || hold.name FROM hold LEFT JOIN entry ON entry.id = hold.entry WHERE \
         (hold.state = 1) <> (hold.captured > 0) OR (hold.state = 1) <> (entry.id IS NOT NULL) OR \
         (hold.state = 1 AND (entry.amount <> hold.captured OR entry.debit <> hold.account \
          OR entry.kind NOT IN (3, 4)))",
        "its state and its entry do not agree",
        faults,
    )
}

/// What was used of each account's present day must be what its withdrawals and holds make, where all
/// of its holds are kept still.
fn days(connection: &Connection, faults: &mut Faults) -> Result<(), StoreError> {
    let sql = format!(
        "WITH paid (account, amount) AS (SELECT entry.debit, sum(entry.amount) FROM entry \
           JOIN account own ON own.id = entry.debit WHERE entry.kind = 3 \
           AND entry.at >= own.day * 86400000 AND entry.at < (own.day + 1) * 86400000 \
           AND entry.id NOT IN (SELECT taken.entry FROM hold taken WHERE taken.entry IS NOT NULL) \
           GROUP BY entry.debit) \
         SELECT number FROM account LEFT JOIN paid ON paid.account = account.id \
         WHERE kind = 0 AND (day > 0 OR day_used > 0) AND day > coalesce((SELECT \
           CAST(value AS INTEGER) FROM bank WHERE name = '{HOLDS_FORGOTTEN_DAY}'), -1) AND day_used <> coalesce(paid.amount, 0) + \
         coalesce((SELECT sum(CASE state WHEN 0 THEN amount ELSE captured END) FROM hold \
           WHERE hold.account = account.id AND hold.state IN (0, 1) \
           AND hold.authorized_at >= account.day * 86400000 \
           AND hold.authorized_at < (account.day + 1) * 86400000), 0)"
    );
    let what = "what its day has used is not what its withdrawals and holds make";
    fault_rows(connection, &sql, what, faults)
}

fn keys(connection: &Connection, faults: &mut Faults) -> Result<(), StoreError> {
    fault_rows(
        connection,
        "SELECT 'request ' || request.id FROM request LEFT JOIN entry ON entry.id = request.entry \
         LEFT JOIN hold ON hold.id = request.hold \
         WHERE (request.hold IS NOT NULL AND hold.account IS NOT request.account) OR (request.entry IS NOT NULL AND entry.id IS NULL) OR (entry.id IS NOT NULL AND \
         request.account NOT IN (entry.debit, entry.credit)) OR (request.entry IS NULL AND request.hold IS NULL)",
        "its key has no entry or hold of its account",
        faults,
    )?;
    // Keys and entries are written together, and both numbers grow: nothing has to be sorted.
    let sql = "SELECT id, entry FROM request WHERE entry IS NOT NULL ORDER BY id";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut last = 0;
    while let Some(row) = rows.next()? {
        let (id, entry): (i64, i64) = (row.get(0)?, row.get(1)?);
        match entry.cmp(&last) {
            Ordering::Greater => {}
            Ordering::Equal => faults.add(format!("entry {entry}: two keys claim it")),
            Ordering::Less => faults.add(format!("request {id}: its entry is not in its order")),
        }
        last = entry;
    }
    Ok(())
}

/// What is in no chain, and has no MAC and no sum of its own.
fn others(connection: &Connection, faults: &mut Faults) -> Result<(), StoreError> {
    fault_rows(
        connection,
        "SELECT number FROM account WHERE currency IS NOT (SELECT value FROM bank WHERE name = 'currency') \
         OR kind <> CASE WHEN number LIKE 'cash:%' THEN 1 WHEN number = 'opening' THEN 2 \
           WHEN number = 'adjustment' THEN 3 ELSE 0 END \
         OR (kind <> 0 AND (status <> 0 OR withdrawal_limit IS NOT NULL OR daily_limit IS NOT NULL))",
        "its currency, kind or status is not that of such an account",
        faults,
    )?;
    fault_rows(
        connection,
        "SELECT 'terminal ' || name FROM terminal LEFT JOIN account ON account.id = cash \
         WHERE number IS NOT 'cash:' || name",
        "its cash account is another's",
        faults,
    )?;
    // Only what is done on a day turns an account to it.
    fault_rows(
        connection,
        "SELECT number FROM account WHERE day * 86400000 > max( \
         coalesce((SELECT max(at) FROM entry), 0), coalesce((SELECT max(at) FROM audit), 0), \
         coalesce((SELECT max(at) FROM request), 0), coalesce((SELECT max(authorized_at) FROM hold), 0))",
        "its business day is later than anything that was done",
        faults,
    )?;
    fault_rows(
        connection,
        "SELECT DISTINCT pepper FROM credential JOIN account ON account.id = account WHERE status <> 2 \
         AND 'pepper:' || pepper NOT IN (SELECT name FROM bank)",
        "accounts stand on that pepper, and it is not among those that are needed",
        faults,
    )
}
