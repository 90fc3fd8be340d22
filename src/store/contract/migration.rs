//! Stores of older versions are taken over with all that is in them.

use rusqlite::{Connection, params};

use super::rig::*;
use crate::store::sqlite::SqliteStore;
use crate::store::{OrderKind, TryCounted};

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

/// Takes a store of today back to version 4: entries by index, keys as text.
const VERSION_4: &str = "
    ALTER TABLE account DROP COLUMN last_entry;
    ALTER TABLE account DROP COLUMN postings;
    ALTER TABLE entry DROP COLUMN debit_previous;
    ALTER TABLE entry DROP COLUMN credit_previous;
    CREATE INDEX entry_debit ON entry (debit, id);
    CREATE INDEX entry_credit ON entry (credit, id);
    DROP TABLE posting_mark;
    DROP TABLE clock;
    CREATE TABLE request_4 (
        id          INTEGER PRIMARY KEY,
        key         TEXT    NOT NULL,
        account     INTEGER NOT NULL REFERENCES account (id),
        fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 16),
        at          INTEGER NOT NULL,
        entry       INTEGER,
        hold        INTEGER,
        late        INTEGER NOT NULL DEFAULT 0 CHECK (late IN (0, 1)),
        balance     INTEGER NOT NULL,
        available   INTEGER NOT NULL
    ) STRICT;
    INSERT INTO request_4 SELECT id, CASE typeof(key) WHEN 'text' THEN key ELSE
        lower(format('%s-%s-%s-%s-%s', substr(hex(key), 1, 8), substr(hex(key), 9, 4),
            substr(hex(key), 13, 4), substr(hex(key), 17, 4), substr(hex(key), 21))) END,
        account, fingerprint, at, entry, hold, late, balance, available FROM request;
    DROP TABLE request;
    ALTER TABLE request_4 RENAME TO request;
    CREATE UNIQUE INDEX request_key ON request (key, account);
    CREATE TRIGGER entry_is_never_changed BEFORE UPDATE ON entry
    BEGIN SELECT RAISE(ABORT, 'journal entries are immutable'); END;
    PRAGMA user_version = 4;";

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
    super::sqlite::tamper(&rig.path(), VERSION_4);
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
