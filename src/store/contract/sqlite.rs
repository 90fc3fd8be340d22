//! What only the embedded store promises: its file, its lock, its group commit, its audit of a
//! file that was tampered with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use super::rig::*;
use crate::access::row_mac::Keyring;
use crate::domain::RequestedAmount;
use crate::store::sqlite::{OpenError, SqliteStore, beside};
use crate::store::{Act, Digest, Done, Order, OrderKind, StoreError};

fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(path, dollars(), NEW_YEAR, Keyring::empty())
}

/// Runs SQL upon a shut store, past its triggers and references, which are as before afterwards.
pub(super) fn tamper(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;")
        .unwrap();
    let triggers = "SELECT group_concat('DROP TRIGGER ' || name, ';'), group_concat(sql || ';', '') \
                    FROM sqlite_schema WHERE type = 'trigger'";
    let (drop_all, make_all): (String, String) = connection
        .query_row(triggers, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    for sql in [drop_all.as_str(), sql, make_all.as_str()] {
        connection.execute_batch(sql).unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn what_was_answered_survives_a_restart_and_its_key_with_it() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    let anne = rig.log_in(ANNE).await;
    let first = rig
        .order(&anne, key("a"), 100, OrderKind::Withdraw)
        .await
        .unwrap();
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    rig.try_pin(BERT, WRONG_PIN).await.unwrap();
    let head = rig.verify(None).await.head;
    rig.shut_store();
    rig.open_store();
    // A started server has freed all accounts.
    let seated = rig.seat(ANNE, PIN).await;
    assert_eq!(money(seated.balances), (900, 600));
    let again = rig
        .order(&seated.claim, key("a"), 100, OrderKind::Withdraw)
        .await
        .unwrap();
    assert_eq!(
        (again.replayed, again.entry, again.balances),
        (true, first.entry, first.balances)
    );
    assert_eq!(rig.deposit(&seated.claim, 1).await.unwrap().entry, Some(3));
    assert!(rig.capture("h-1", 300).await.is_ok());
    for _ in 0..2 {
        rig.try_pin(BERT, WRONG_PIN).await.unwrap();
    }
    assert!(rig.try_pin(BERT, WRONG_PIN).await.is_err());
    assert_eq!(rig.verify(Some(head)).await.faults, Vec::<String>::new());
}

#[tokio::test]
async fn a_store_is_opened_by_one_process_at_a_time() {
    let mut rig = Rig::sqlite();
    assert!(matches!(open(&rig.path()), Err(OpenError::InUse(_))));
    rig.shut_store();
    assert!(open(&rig.path()).is_ok());
}

#[tokio::test]
async fn a_shut_store_is_one_file() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 5).await;
    for _ in 0..50 {
        let anne = rig.log_in(ANNE).await;
        rig.balance(&anne).await;
        rig.deposit(&anne, 1).await.unwrap();
        rig.shut_store();
        for suffix in ["-wal", "-shm"] {
            assert!(!beside(&rig.path(), suffix).exists(), "{suffix} is left");
        }
        rig.open_store();
    }
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_store_of_a_newer_schema_is_refused() {
    let mut rig = Rig::sqlite();
    rig.shut_store();
    let connection = Connection::open(rig.path()).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let refused = open(&rig.path());
    assert!(
        matches!(refused, Err(OpenError::Newer { found: 99, .. })),
        "{refused:?}"
    );
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    fs::write(&text, "dear diary\n".repeat(100)).unwrap();
    let before = fs::read(&text).unwrap();
    assert!(matches!(open(&text), Err(OpenError::NotAStore(_))));
    assert_eq!(fs::read(&text).unwrap(), before);
    let other = folder.path().join("other.db");
    let connection = Connection::open(&other).unwrap();
    connection.execute_batch("CREATE TABLE t (a)").unwrap();
    drop(connection);
    let before = fs::read(&other).unwrap();
    assert!(matches!(open(&other), Err(OpenError::NotAStore(_))));
    assert_eq!(fs::read(&other).unwrap(), before);
    let missing = SqliteStore::inspect(&folder.path().join("none.db"));
    assert!(matches!(missing, Err(OpenError::Missing(_))));
}

#[tokio::test]
async fn a_store_of_another_currency_is_refused() {
    let mut rig = Rig::sqlite();
    rig.shut_store();
    let refused = SqliteStore::open(
        &rig.path(),
        "EUR".parse().unwrap(),
        NEW_YEAR,
        Keyring::empty(),
    );
    let Err(OpenError::OtherCurrency { found, asked, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((found.as_str(), asked.as_str()), ("USD", "EUR"));
}

#[tokio::test]
async fn opening_a_store_again_repeats_no_migration() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 5).await;
    let dump = |rig: &mut Rig| {
        rig.shut_store();
        let connection = Connection::open(rig.path()).unwrap();
        let all = "SELECT (SELECT group_concat(sql) FROM sqlite_schema) || \
                   (SELECT group_concat(name || value) FROM bank) || \
                   (SELECT group_concat(number || opened_at) FROM account)";
        let text: String = connection.query_row(all, [], |row| row.get(0)).unwrap();
        text
    };
    let before = dump(&mut rig);
    for later in [DAY, 2 * DAY] {
        let now = NEW_YEAR.plus_ms(u64::try_from(later).unwrap());
        drop(SqliteStore::open(&rig.path(), dollars(), now, Keyring::empty()).unwrap());
        assert_eq!(dump(&mut rig), before);
    }
}

#[tokio::test]
async fn the_stores_files_are_their_owners_alone() {
    let rig = Rig::sqlite();
    rig.open(ANNE, 5).await;
    let path = rig.path();
    for suffix in ["", "-wal", "-shm", "-lock"] {
        assert_eq!(mode(&beside(&path, suffix)), 0o600, "{suffix}");
    }
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[tokio::test]
async fn journal_entries_are_neither_changed_nor_removed() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 5).await;
    rig.shut_store();
    let connection = Connection::open(rig.path()).unwrap();
    for sql in ["UPDATE entry SET amount = 6", "DELETE FROM entry"] {
        let refused = connection.execute(sql, []).unwrap_err().to_string();
        assert!(refused.contains("immutable"), "{refused}");
    }
}

#[tokio::test]
async fn a_store_names_the_peppers_and_the_terminals_it_needs() {
    let rig = Rig::sqlite();
    rig.open(ANNE, 5).await;
    let peppers = SqliteStore::inspect(&rig.path()).unwrap();
    assert_eq!(peppers, [rig.peppers.current().unwrap().clone()]);
    assert!(
        SqliteStore::disabled_terminals(&rig.path())
            .unwrap()
            .is_empty()
    );
    let disable = Act::Terminal {
        name: "t-9".parse().unwrap(),
        disabled: true,
    };
    rig.act(disable).await;
    let disabled = SqliteStore::disabled_terminals(&rig.path()).unwrap();
    assert_eq!(disabled, ["t-9".parse().unwrap()]);
}

pub(super) fn order(amount: i64, key_text: &str, kind: OrderKind) -> Order {
    Order {
        key: key(key_text),
        amount: RequestedAmount(amount),
        kind,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_sent_many_times_at_once_moves_money_once() {
    let rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    let claim = Arc::new(rig.log_in(ANNE).await);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let (store, claim) = (Arc::clone(rig.store.as_ref().unwrap()), Arc::clone(&claim));
        let (context, order) = (rig.context(), order(7, "a", OrderKind::Withdraw));
        waiting.spawn(async move { store.order(&claim, order, context).await.unwrap().unwrap() });
    }
    let receipts = waiting.join_all().await;
    let first = receipts.iter().filter(|receipt| !receipt.replayed).count();
    assert_eq!(first, 1);
    assert!(
        receipts
            .iter()
            .all(|receipt| receipt.entry == receipts[0].entry)
    );
    assert_eq!(money(rig.balance(&claim).await), (993, 993));
    rig.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_breaks_a_rule_of_the_schema_spoils_no_other() {
    let rig = Rig::sqlite();
    rig.open(ANNE, 100_000).await;
    let claim = Arc::new(rig.log_in(ANNE).await);
    rig.authorize(&claim, "h-1", 1).await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for index in 0..90_i64 {
        let (store, claim) = (Arc::clone(rig.store.as_ref().unwrap()), Arc::clone(&claim));
        let context = rig.context();
        waiting.spawn(async move {
            // Every third asks for a hold of a name that is taken.
            let kind = match index % 3 {
                0 => OrderKind::Authorize(hold_name("h-1")),
                1 => OrderKind::Authorize(hold_name(&format!("n-{index}"))),
                _ => OrderKind::Deposit,
            };
            let order = order(1, &format!("k-{index}"), kind);
            (index % 3, store.order(&claim, order, context).await)
        });
    }
    for (kind, answer) in waiting.join_all().await {
        match kind {
            0 => assert!(matches!(answer, Err(StoreError::Broken(_))), "{answer:?}"),
            _ => assert!(!answer.unwrap().unwrap().replayed),
        }
    }
    assert_eq!(money(rig.balance(&claim).await), (100_030, 100_030 - 31));
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_backup_is_a_whole_store_of_mode_0600_and_never_overwrites() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    let anne = rig.log_in(ANNE).await;
    rig.order(&anne, key("a"), 10, OrderKind::Withdraw)
        .await
        .unwrap();
    let head = rig.verify(None).await.head;
    let copy = rig.folder.as_ref().unwrap().path().join("copy.db");
    assert!(matches!(
        rig.act(Act::Backup(copy.clone())).await,
        Done::Yes
    ));
    assert_eq!(mode(&copy), 0o600);
    let before = fs::read(&copy).unwrap();
    let refused = rig.act(Act::Backup(copy.clone())).await;
    assert!(matches!(refused, Done::Refused(_)), "{refused:?}");
    assert_eq!(fs::read(&copy).unwrap(), before);
    rig.deposit(&anne, 5).await.unwrap();
    rig.shut_store();
    let opened = SqliteStore::open(&copy, dollars(), NEW_YEAR, rig.keyring.clone());
    rig.store = Some(Arc::new(opened.unwrap()));
    assert_eq!(rig.verify(Some(head)).await.head, head);
    let anne = rig.log_in(ANNE).await;
    let again = rig.order(&anne, key("a"), 10, OrderKind::Withdraw).await;
    assert!(again.unwrap().replayed);
    rig.assert_clean().await;
}

/// A bank with entries of most kinds; entry 3 is Anne's withdrawal, entry 5 a captured hold.
async fn eventful(rig: &Rig) -> Digest {
    rig.open(ANNE, 1_000).await;
    rig.open(BERT, 500).await;
    let anne = rig.log_in(ANNE).await;
    rig.order(&anne, key("w"), 30, OrderKind::Withdraw)
        .await
        .unwrap();
    rig.order(&anne, key("t"), 40, OrderKind::Transfer(number(BERT)))
        .await
        .unwrap();
    rig.authorize(&anne, "h-1", 100).await.unwrap();
    rig.authorize(&anne, "h-2", 50).await.unwrap();
    rig.capture("h-1", 70).await.unwrap();
    let head = rig.verify(None).await.head;
    rig.deposit(&anne, 5).await.unwrap();
    head
}

async fn faults_after(rig: &mut Rig, whole: &[u8], sql: &str, before: Digest) -> [Vec<String>; 2] {
    let path = rig.path();
    rig.shut_store();
    fs::write(&path, whole).unwrap();
    tamper(&path, sql);
    rig.open_store();
    let plain = rig.verify(None).await.faults;
    [plain, rig.verify(Some(before)).await.faults]
}

const CHAIN_FAULT: &str = "entry 3: the hash chain of zz-00001 is broken";
const LINK_FAULT: &str = "entry 3: it does not follow the posting of zz-00001 before it";
const LAST_FAULT: &str =
    "zz-00001: its last entry or its count of them is not what its entries make";
const ROW_FAULT: &str = "zz-00001: its balance or chain is not what its entries make";
const HELD_FAULT: &str = "zz-00001: what is held is not the sum of its open holds";
const HOLD_FAULT: &str = "hold h-1: its state and its entry do not agree";

/// What is done to the file, and words of the fault that tells of it.
const TAMPERED: &[(&str, &str)] = &[
    ("UPDATE entry SET amount = 31 WHERE id = 3", CHAIN_FAULT),
    (
        "UPDATE entry SET amount = 31 WHERE id = 3",
        "entry 3: the balance of zz-00001",
    ),
    ("UPDATE entry SET at = at + 1 WHERE id = 3", CHAIN_FAULT),
    ("UPDATE entry SET kind = 4 WHERE id = 3", CHAIN_FAULT),
    ("UPDATE entry SET terminal = NULL WHERE id = 3", CHAIN_FAULT),
    (
        "UPDATE entry SET debit_hash = zeroblob(32) WHERE id = 3",
        CHAIN_FAULT,
    ),
    (
        "UPDATE entry SET debit_balance = 1 WHERE id = 3",
        "entry 3: the balance of zz-00001",
    ),
    ("UPDATE terminal SET name = 'other'", CHAIN_FAULT),
    (
        "UPDATE entry SET debit = 4 WHERE id = 3",
        "entry 3: the hash chain of zz-00002",
    ),
    (
        "UPDATE entry SET debit_previous = 0 WHERE id = 3",
        LINK_FAULT,
    ),
    (
        "UPDATE account SET last_entry = 5 WHERE number = 'zz-00001'",
        LAST_FAULT,
    ),
    (
        "UPDATE account SET postings = 9 WHERE number = 'zz-00001'",
        LAST_FAULT,
    ),
    (
        "INSERT INTO posting_mark SELECT id, 3 FROM account WHERE number = 'zz-00001'",
        "zz-00001: its entries are not marked right",
    ),
    (
        "INSERT INTO posting_mark VALUES (99, 3)",
        "an account that is not there has marked entries",
    ),
    (
        "DELETE FROM entry WHERE id = 3",
        "entry 4: the hash chain of zz-00001 is broken",
    ),
    ("DELETE FROM entry WHERE id = 3", "its key has no entry"),
    ("DELETE FROM entry WHERE id = 6", ROW_FAULT),
    ("DELETE FROM entry WHERE id = 5", HOLD_FAULT),
    (
        "UPDATE account SET balance = balance + 1 WHERE number = 'zz-00001'",
        ROW_FAULT,
    ),
    (
        "UPDATE account SET balance = balance + 1 WHERE number = 'zz-00001'",
        "all balances sum to 1",
    ),
    (
        "UPDATE account SET head = zeroblob(32) WHERE number = 'zz-00001'",
        ROW_FAULT,
    ),
    (
        "UPDATE account SET held = 0 WHERE number = 'zz-00001'",
        HELD_FAULT,
    ),
    ("UPDATE hold SET amount = 51 WHERE name = 'h-2'", HELD_FAULT),
    ("UPDATE hold SET state = 2 WHERE name = 'h-2'", HELD_FAULT),
    ("UPDATE hold SET state = 2 WHERE name = 'h-1'", HOLD_FAULT),
    (
        "UPDATE hold SET captured = 60 WHERE name = 'h-1'",
        HOLD_FAULT,
    ),
    (
        "UPDATE account SET day_used = 0 WHERE number = 'zz-00001'",
        "what its day has used",
    ),
    (
        "UPDATE request SET entry = 99 WHERE entry = 3",
        "its key has no entry",
    ),
    (
        "UPDATE request SET entry = 4 WHERE entry = 3",
        "two keys claim it",
    ),
];

#[tokio::test]
async fn an_audit_names_what_was_tampered_with() {
    let mut rig = Rig::sqlite();
    let head = eventful(&rig).await;
    assert_eq!(rig.verify(Some(head)).await.faults, Vec::<String>::new());
    rig.shut_store();
    let whole = fs::read(rig.path()).unwrap();
    for (sql, fault) in TAMPERED {
        let [plain, _] = faults_after(&mut rig, &whole, sql, head).await;
        let named = plain.iter().any(|found| found.contains(fault));
        assert!(named, "{sql}: {fault:?} is not among {plain:#?}");
    }
}

#[tokio::test]
async fn a_past_digest_tells_of_a_forgery_that_fits_in_itself() {
    let mut rig = Rig::sqlite();
    let head = eventful(&rig).await;
    rig.shut_store();
    let whole = fs::read(rig.path()).unwrap();
    // Takes the last two entries off with everything that speaks of them.
    let forgery = "DELETE FROM entry WHERE id > 4; DELETE FROM hold WHERE name = 'h-1'; \
         DELETE FROM request WHERE entry > 4 OR hold NOT IN (SELECT id FROM hold); \
         UPDATE account SET day_used = 80, last_entry = 4, postings = 3, (balance, head) = \
           (SELECT debit_balance, debit_hash FROM entry WHERE id = 4) WHERE number = 'zz-00001'; \
         UPDATE account SET last_entry = 3, postings = 1, (balance, head) = \
           (SELECT credit_balance, credit_hash FROM entry WHERE id = 3) WHERE number = 'cash:t-1'";
    let [plain, with_digest] = faults_after(&mut rig, &whole, forgery, head).await;
    assert_eq!(plain, Vec::<String>::new());
    assert_eq!(with_digest.len(), 1, "{with_digest:?}");
    assert!(with_digest[0].contains("up to entry 5"), "{with_digest:?}");
}
