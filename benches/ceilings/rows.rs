//! The embedded ceiling: the rows that the bank writes for deposits, withdrawals and transfers in
//! equal parts, in its own schema and settings, by a plain loop in one thread. As in the bank a row
//! of an account is read once, and written once a commit, however often it changed in it.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use rusqlite::{Connection, params};
use serde_json::json;
use uuid::Uuid;

use crate::took::Took;
use crate::{Arguments, Keys, folder, print};

const SCHEMA: [&str; 5] = [
    include_str!("../../src/store/schema/1.sql"),
    include_str!("../../src/store/schema/2.sql"),
    include_str!("../../src/store/schema/3.sql"),
    include_str!("../../src/store/schema/4.sql"),
    include_str!("../../src/store/schema/5.sql"),
];

/// The settings of src/store/sqlite/open.rs.
const SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
    PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; \
    PRAGMA cache_size = -32768;";

const WARM_UP: Duration = Duration::from_secs(1);

/// `POSTINGS_PER_MARK` of src/store/sqlite/postings.rs: every so many postings have a row more.
const POSTINGS_PER_MARK: i64 = 64;

/// What an operation reads of an account.
#[derive(Clone)]
struct Account {
    id: i64,
    balance: i64,
    head: [u8; 32],
    last_entry: i64,
    postings: i64,
}

pub(crate) fn measure(arguments: &Arguments) {
    let folder = folder();
    let path = folder.path().join("rows.db");
    let connection = open(&path, arguments);
    let (empty_bytes, mut rows) = (
        file_bytes(&connection, &path),
        Rows::new(&connection, arguments),
    );
    let warming = Instant::now();
    while warming.elapsed() < WARM_UP {
        rows.commit(arguments.batch);
    }
    let (mut took, mut counted) = (Took::default(), 0);
    let (from, mut began) = (Instant::now(), Instant::now());
    while from.elapsed() < arguments.span() {
        rows.commit(arguments.batch);
        let ended = Instant::now();
        took.record(ended - began);
        counted += u64::try_from(arguments.batch).unwrap();
        began = ended;
    }
    let grown_bytes = file_bytes(&connection, &path) - empty_bytes;
    let what = json!({
        "part": "sqlite",
        "batch": arguments.batch,
        "keys": format!("{:?}", arguments.keys).to_lowercase(),
        "accounts": arguments.accounts,
        "terminals": arguments.terminals,
        "bytes_per_operation": grown_bytes as f64 / rows.entries as f64,
    });
    print(what, &took, counted, began - from);
}

/// Bytes of the database once its journal is folded into it.
fn file_bytes(connection: &Connection, path: &Path) -> u64 {
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .unwrap();
    assert_eq!(busy, 0, "nobody else has the file");
    std::fs::metadata(path).unwrap().len()
}

fn open(path: &Path, arguments: &Arguments) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(SETTINGS).unwrap();
    connection.set_prepared_statement_cache_capacity(128);
    for version in SCHEMA {
        connection.execute_batch(version).unwrap();
    }
    let accounts = "INSERT INTO account (number, kind, currency, balance, head, opened_at) \
                    VALUES (?1, ?2, 'USD', 1000000000, zeroblob(32), 0)";
    connection.execute_batch("BEGIN").unwrap();
    for index in 0..arguments.accounts + arguments.terminals {
        let (name, kind) = match index.checked_sub(arguments.accounts) {
            None => (format!("aa-{index:05}"), 0),
            Some(terminal) => (format!("cash:till-{terminal:03}"), 1),
        };
        connection
            .prepare_cached(accounts)
            .unwrap()
            .execute(params![name, kind])
            .unwrap();
        if kind == 1 {
            let terminal = "INSERT INTO terminal (name, cash) VALUES (?1, ?2)";
            let cash = connection.last_insert_rowid();
            connection.execute(terminal, params![name, cash]).unwrap();
        }
    }
    connection.execute_batch("COMMIT").unwrap();
    connection
}

struct Rows<'c> {
    connection: &'c Connection,
    keys: Keys,
    accounts: i64,
    terminals: i64,
    entries: i64,
    chance: u64,
    /// Accounts that were read.
    known: HashMap<i64, Account>,
    /// Those of them that changed since the last commit, in the order of rows.
    changed: BTreeSet<i64>,
}

impl<'c> Rows<'c> {
    fn new(connection: &'c Connection, arguments: &Arguments) -> Self {
        Self {
            connection,
            keys: arguments.keys,
            accounts: i64::try_from(arguments.accounts).unwrap(),
            terminals: i64::try_from(arguments.terminals).unwrap(),
            entries: 0,
            chance: 1,
            known: HashMap::new(),
            changed: BTreeSet::new(),
        }
    }

    fn next(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance
    }

    /// So many operations in one durable transaction.
    fn commit(&mut self, operations: usize) {
        self.run("BEGIN IMMEDIATE");
        for _ in 0..operations {
            self.operation();
        }
        for id in std::mem::take(&mut self.changed) {
            self.save(&self.known[&id]);
        }
        self.run("COMMIT");
    }

    fn run(&self, sql: &str) {
        let mut statement = self.connection.prepare_cached(sql).unwrap();
        statement.execute([]).unwrap();
    }

    /// One deposit, withdrawal or transfer in turn, of the customers in turn.
    fn operation(&mut self) {
        self.entries += 1;
        let (own, terminal) = (
            self.entries % self.accounts + 1,
            self.entries % self.terminals + 1,
        );
        let cash = self.accounts + terminal;
        let (debit, credit, kind) = match self.entries % 3 {
            0 => (cash, own, 2),
            1 => (own, cash, 3),
            _ => (own, (own + 6) % self.accounts + 1, 5),
        };
        let key = match self.keys {
            Keys::Ordered => Uuid::now_v7(),
            Keys::Random => Uuid::from_u64_pair(self.next(), self.next()),
        };
        let kept = "SELECT id, fingerprint, entry, hold, late, balance, available FROM request \
                    WHERE key = ?1 AND account = ?2";
        let mut statement = self.connection.prepare_cached(kept).unwrap();
        assert!(!statement.exists(params![key.as_bytes(), own]).unwrap());
        let (mut debit, mut credit) = (self.account(debit), self.account(credit));
        self.post(&mut debit, &mut credit, kind, terminal);
        let balance = if debit.id == own {
            debit.balance
        } else {
            credit.balance
        };
        let request = "INSERT INTO request (key, account, fingerprint, at, entry, hold, late, balance, available) \
                       VALUES (?1, ?2, ?3, ?4, ?5, NULL, 0, ?6, ?6)";
        let fingerprint = &digest(&SHA256, b"what was asked").as_ref()[..16].to_vec();
        let values = params![
            key.as_bytes(),
            own,
            fingerprint,
            1_767_225_600_000_i64,
            self.entries,
            balance
        ];
        self.connection
            .prepare_cached(request)
            .unwrap()
            .execute(values)
            .unwrap();
    }

    fn account(&mut self, id: i64) -> Account {
        if let Some(known) = self.known.get(&id) {
            return known.clone();
        }
        let sql = "SELECT id, balance, head, last_entry, number, status, currency, held, day, day_used, \
                   withdrawal_limit, daily_limit, postings FROM account WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql).unwrap();
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Account {
                id: row.get(0)?,
                balance: row.get(1)?,
                head: row.get(2)?,
                last_entry: row.get(3)?,
                postings: row.get(12)?,
            })
        };
        statement.query_row([id], read).unwrap()
    }

    fn post(&mut self, debit: &mut Account, credit: &mut Account, kind: i64, terminal: i64) {
        for (account, amount) in [(&mut *debit, -5), (&mut *credit, 5)] {
            account.balance += amount;
            let mut link = [0; 160];
            link[..32].copy_from_slice(&account.head);
            account
                .head
                .copy_from_slice(digest(&SHA256, &link).as_ref());
        }
        let entry = "INSERT INTO entry (id, at, kind, terminal, debit, credit, amount, debit_balance, credit_balance, \
                     debit_hash, credit_hash, debit_previous, credit_previous) \
                     VALUES (?1, 1767225600000, ?2, ?3, ?4, ?5, 5, ?6, ?7, ?8, ?9, ?10, ?11)";
        let values = params![
            self.entries,
            kind,
            terminal,
            debit.id,
            credit.id,
            debit.balance,
            credit.balance,
            debit.head,
            credit.head,
            debit.last_entry,
            credit.last_entry
        ];
        self.connection
            .prepare_cached(entry)
            .unwrap()
            .execute(values)
            .unwrap();
        for account in [debit, credit] {
            account.last_entry = self.entries;
            account.postings += 1;
            self.mark(account);
            self.changed.insert(account.id);
            self.known.insert(account.id, account.clone());
        }
    }

    fn save(&self, account: &Account) {
        let sql = "UPDATE account SET balance = ?2, held = 0, day = 0, day_used = 0, head = ?3, \
                   last_entry = ?4, postings = ?5 WHERE id = ?1";
        let values = params![
            account.id,
            account.balance,
            account.head,
            account.last_entry,
            account.postings
        ];
        let mut statement = self.connection.prepare_cached(sql).unwrap();
        statement.execute(values).unwrap();
    }

    fn mark(&self, account: &Account) {
        if account.postings % POSTINGS_PER_MARK == 0 {
            let sql = "INSERT INTO posting_mark (account, entry) VALUES (?1, ?2)";
            let mut statement = self.connection.prepare_cached(sql).unwrap();
            statement.execute([account.id, account.last_entry]).unwrap();
        }
    }
}
