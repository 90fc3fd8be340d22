//! Stores of older versions are taken over with all that is in them.

use rusqlite::{Connection, params};

use super::rig::*;
use crate::store::TryCounted;
use crate::store::sqlite::SqliteStore;

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
        drop(SqliteStore::open(&rig.path(), dollars(), NEW_YEAR).unwrap());
        assert_eq!(key(&rig).len(), 64);
        keys.insert(key(&rig));
        make_version_1(&rig);
        drop(SqliteStore::open(&rig.path(), dollars(), NEW_YEAR).unwrap());
        keys.insert(key(&rig));
    }
    assert_eq!(keys.len(), 4);
}
