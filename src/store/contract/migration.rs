//! Stores of older versions are taken over with all that is in them.

use std::path::Path;

use rusqlite::{Connection, params};

use super::rig::*;
use crate::store::sqlite::{MIGRATIONS, SqliteStore};
use crate::store::{Claimed, OrderKind, TryCounted};

/// Makes a store as version 1 left it, with tries upon a number that is an account's and upon one
/// that is nobody's, counted under one budget.
fn make_version_1(rig: &Rig) {
    let path = rig.path();
    std::fs::remove_file(&path).unwrap();
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(include_str!("../schema/1.sql"))
        .unwrap();
    connection
        .execute_batch(
            "PRAGMA application_id = 0x41544d62; PRAGMA user_version = 1;
             INSERT INTO bank VALUES ('currency', 'USD'), ('made_at', 'then');
             INSERT INTO account (number, kind, currency, head, opened_at) VALUES
                 ('opening', 2, 'USD', zeroblob(32), 0), ('adjustment', 3, 'USD', zeroblob(32), 0),
                 ('zz-00001', 0, 'USD', zeroblob(32), 0);",
        )
        .unwrap();
    let hash = rig.hash(PIN, CHEAP);
    let pepper = hash.pepper.as_str();
    connection
        .execute(
            "INSERT INTO credential VALUES (3, 1, 8, 1, 1, ?1, ?2, ?3, 0, NULL, 0, 't-1')",
            params![pepper, hash.salt, hash.digest],
        )
        .unwrap();
    let now = rig.context().now;
    for (account, home, other) in [(ANNE, 1, 2), (NOBODY, 0, 3), (BERT, 0, 1)] {
        connection
            .execute(
                "INSERT INTO try VALUES (?1, ?2, ?3, ?4, ?5)",
                params![account, home, other, now.unix_ms(), now.unix_ms() + DAY],
            )
            .unwrap();
    }
}

#[tokio::test]
async fn tries_of_version_1_stay_in_one_budget_until_they_are_forgotten() {
    let mut rig = Rig::sqlite();
    rig.shut_store();
    make_version_1(&rig);
    rig.open_store();
    for terminal in ["t-1", "t-2"] {
        rig.terminal = terminal;
        for account in [ANNE, NOBODY] {
            let counted = rig.count_try(account).await;
            assert!(
                matches!(counted, TryCounted::LockedOut(Some(86_400_000))),
                "{account} at {terminal}: {counted:?}"
            );
        }
    }
    assert_eq!(rig.show(ANNE).await.tries, 3);
    assert!(matches!(rig.count_try(BERT).await, TryCounted::Check(_)));
    rig.advance(DAY);
    assert_eq!(rig.sweep().await.tries, 3);
    // From now on Anne has a home.
    for _ in 0..3 {
        assert!(matches!(rig.count_try(ANNE).await, TryCounted::Check(_)));
    }
    rig.terminal = "t-1";
    let _ = rig.log_in(ANNE).await;
    rig.assert_clean().await;
}

fn open(rig: &Rig) -> SqliteStore {
    SqliteStore::open(&rig.path(), dollars(), NEW_YEAR, rig.keyring.clone()).unwrap()
}

#[tokio::test]
async fn each_store_has_a_key_of_its_own_for_stand_ins() {
    let key = |rig: &Rig| -> String {
        let connection = Connection::open(rig.path()).unwrap();
        let sql = "SELECT value FROM bank WHERE name = 'stand_in_key'";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let mut rig = Rig::sqlite();
        rig.shut_store();
        std::fs::remove_file(rig.path()).unwrap();
        drop(open(&rig));
        assert_eq!(key(&rig).len(), 64);
        keys.insert(key(&rig));
        make_version_1(&rig);
        drop(open(&rig));
        keys.insert(key(&rig));
    }
    assert_eq!(keys.len(), 4);
}

/// Takes a store of today back to an older version: a new file as the migrations up to it make it,
/// with the rows of today.
pub(super) fn take_back(path: &Path, version: usize) {
    let old = path.with_extension("old");
    let connection = Connection::open(&old).unwrap();
    for migration in &MIGRATIONS[..version] {
        connection.execute_batch(migration).unwrap();
    }
    let header = format!("PRAGMA application_id = 0x41544d62; PRAGMA user_version = {version};");
    connection.execute_batch(&header).unwrap();
    drop(connection);
    // A key was text before version 5.
    let key = match version < 5 {
        true => {
            "CASE typeof(key) WHEN 'text' THEN key ELSE \
             lower(format('%s-%s-%s-%s-%s', substr(hex(key), 1, 8), substr(hex(key), 9, 4), \
             substr(hex(key), 13, 4), substr(hex(key), 17, 4), substr(hex(key), 21))) END"
        }
        false => "key",
    };
    let columns = "SELECT name, (SELECT group_concat(name) FROM pragma_table_info(all_tables.name)) FROM \
                   sqlite_schema AS all_tables WHERE type = 'table'";
    let connection = Connection::open(&old).unwrap();
    let mut statement = connection.prepare(columns).unwrap();
    let tables = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let tables: Vec<(String, String)> = tables.unwrap().map(Result::unwrap).collect();
    let copy = tables.iter().map(|(table, columns)| {
        let of_key = match table.as_str() {
            "request" => columns.replace(",key,", &format!(",{key},")),
            _ => columns.clone(),
        };
        format!(
            "DELETE FROM {table}; INSERT INTO {table} ({columns}) SELECT {of_key} FROM today.{table};"
        )
    });
    let copy: String = copy.collect();
    let today = path.display();
    super::sqlite::tamper(&old, &format!("ATTACH '{today}' AS today; {copy}"));
    drop(statement);
    drop(connection);
    std::fs::rename(&old, path).unwrap();
}

/// Keys that are a UUID, almost one, and none: 16 to 64 letters, digits and hyphens each.
const KEYS: [&str; 6] = [
    "0198c0de-0000-7000-8000-0123456789ab",
    "0198C0DE-0000-7000-8000-0123456789AB",
    "0198c0de-0000-7000-8000-0123456789ag",
    "0198c0de00007000-8000-0123-456789ab-",
    "0198c0de00007000800000123456789a",
    "an-order-of-the-first-of-january",
];

#[tokio::test]
async fn entries_and_keys_of_version_4_are_found_again() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    rig.open(BERT, 5).await;
    let anne = rig.log_in(ANNE).await;
    for text in KEYS {
        let order = rig.order(&anne, text.parse().unwrap(), 1, OrderKind::Deposit);
        assert!(!order.await.unwrap().replayed, "{text}");
    }
    for _ in 0..70 {
        rig.transfer(&anne, BERT, 1).await.unwrap();
    }
    rig.authorize(&anne, "h-1", 30).await.unwrap();
    rig.capture("h-1", 20).await.unwrap();
    let (head, before) = (
        rig.verify(None).await.head,
        rig.history(&anne, 100, None).await,
    );
    rig.shut_store();
    let links = "SELECT group_concat(debit_previous || credit_previous) || \
                 (SELECT group_concat(account || ' ' || entry) FROM posting_mark) || \
                 (SELECT group_concat(typeof(key)) FROM request) FROM entry";
    let read = |rig: &Rig| -> String {
        let connection = Connection::open(rig.path()).unwrap();
        connection.query_row(links, [], |row| row.get(0)).unwrap()
    };
    let linked = read(&rig);
    take_back(&rig.path(), 4);
    rig.open_store();
    let anne = rig.log_in(ANNE).await;
    assert_eq!(rig.history(&anne, 100, None).await, before);
    for text in KEYS {
        let order = rig.order(&anne, text.parse().unwrap(), 1, OrderKind::Deposit);
        assert!(order.await.unwrap().replayed, "{text}");
    }
    assert_eq!(rig.verify(Some(head)).await.faults, Vec::<String>::new());
    rig.shut_store();
    assert_eq!(read(&rig), linked);
}

#[tokio::test]
async fn captures_of_version_10_count_upon_the_days_of_their_holds_still() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    let anne = rig.log_in(ANNE).await;
    rig.authorize(&anne, "h-1", 30).await.unwrap();
    rig.advance(12 * HOUR - SECOND);
    rig.authorize(&anne, "h-2", 40).await.unwrap();
    rig.advance(2 * SECOND);
    rig.capture("h-2", 35).await.unwrap();
    rig.withdraw(&anne, 5).await.unwrap();
    let head = rig.verify(None).await.head;
    rig.shut_store();
    take_back(&rig.path(), 10);
    rig.open_store();
    assert_eq!(rig.verify(Some(head)).await.faults, Vec::<String>::new());
    // 5 were used of today, and none of what was captured.
    rig.shut_store();
    super::sqlite::tamper(
        &rig.path(),
        "UPDATE account SET day_used = 40 WHERE day_used = 5",
    );
    rig.open_store();
    let faults = rig.verify(None).await.faults.join("\n");
    assert!(faults.contains("its day has used"), "{faults}");
}

#[tokio::test]
async fn rows_of_version_5_are_covered_at_once_and_on_record_and_never_again() {
    let mut rig = Rig::sqlite();
    rig.open_all_kinds(1_000).await;
    let anne = rig.log_in(ANNE).await;
    rig.deposit(&anne, 5).await.unwrap();
    let (head, records) = (rig.verify(None).await.head, rig.records().await.len());
    rig.shut_store();
    take_back(&rig.path(), 5);
    rig.open_store();
    let audit = rig.verify(Some(head)).await;
    assert_eq!((audit.faults, audit.rows.count), (Vec::new(), 3));
    let (last, _) = rig.records().await.pop().unwrap();
    assert_eq!(last.number, i64::try_from(records).unwrap() + 1);
    assert_eq!(last.event, "rows_covered");
    assert_eq!(last.detail, "accounts 2, disabled terminals 1");
    let _ = rig.log_in(ANNE).await;
    rig.shut_store();
    // A row without a record is none of an older version's any more.
    super::sqlite::tamper(&rig.path(), "DELETE FROM row_record WHERE account = 3");
    rig.open_store();
    let proof = rig.proof(ANNE).await;
    assert!(matches!(rig.claim_by(&proof).await, Claimed::Forged));
}
