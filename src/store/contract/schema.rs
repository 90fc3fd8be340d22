//! A store that is not laid out as this program makes it is refused, and what differs is named.

use std::fs;

use rusqlite::Connection;

use super::rig::*;
use crate::access::row_mac::Keyring;
use crate::store::sqlite::{OpenError, SqliteStore};
use crate::store::{Act, Done};

/// Every trigger, and the table it is on.
fn triggers(rig: &Rig) -> Vec<(String, String)> {
    let connection = Connection::open(rig.path()).unwrap();
    let sql = "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger'";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

/// What is planted, and the words that name it.
const PLANTED: &[(&str, &str)] = &[
    (
        "CREATE TRIGGER t AFTER INSERT ON try BEGIN DELETE FROM try; END",
        "the trigger t on try is not this program's",
    ),
    (
        "CREATE VIEW v AS SELECT 1",
        "the view v on v is not this program's",
    ),
    (
        "CREATE INDEX i ON account (balance)",
        "the index i on account is not this program's",
    ),
    (
        "CREATE TABLE t (a)",
        "the table t on t is not this program's",
    ),
    // By a name that SQLite keeps for itself, as only a file that was written by hand has it.
    (
        "PRAGMA writable_schema = ON; INSERT INTO sqlite_schema VALUES ('trigger', 'sqlite_stat1', 'try', 0, \
         'CREATE TRIGGER sqlite_stat1 AFTER INSERT ON try BEGIN DELETE FROM try; END')",
        "the trigger sqlite_stat1 on try is not this program's",
    ),
    (
        "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER CHECK (seq > 0))",
        "the table _litestream_seq on _litestream_seq is not this program's",
    ),
    (
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'CHECK (amount > 0)', '') \
         WHERE name = 'hold'",
        "the table hold on hold is defined otherwise",
    ),
    (
        "DROP INDEX request_key",
        "the index request_key on request is missing",
    ),
];

async fn assert_refused(rig: &mut Rig, whole: &[u8], sql: &str, words: &str) {
    rig.shut_store();
    fs::write(rig.path(), whole).unwrap();
    let connection = Connection::open(rig.path()).unwrap();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    let changed = fs::read(rig.path()).unwrap();
    let keyring = || rig.keyring.clone();
    let opened = SqliteStore::open(&rig.path(), dollars(), NEW_YEAR, keyring()).map(drop);
    for refused in [opened, SqliteStore::inspect(&rig.path()).map(drop)] {
        match refused {
            Err(error @ OpenError::Schema { .. }) => {
                assert!(error.to_string().contains(words), "{sql}: {error}");
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
    assert_eq!(fs::read(rig.path()).unwrap(), changed, "{sql}");
    // The same while the store is open.
    fs::write(rig.path(), whole).unwrap();
    rig.open_store();
    let connection = Connection::open(rig.path()).unwrap();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    let faults = rig.verify(None).await.faults;
    let fault = format!("schema: {words}");
    assert!(faults.contains(&fault), "{sql}: {faults:?}");
    let copy = rig.folder.as_ref().unwrap().path().join("copy.db");
    match rig.act(Act::Backup(copy.clone())).await {
        Done::Refused(why) => assert!(why.contains(words), "{why}"),
        done => panic!("{sql}: {done:?}"),
    }
    assert!(!copy.exists());
}

#[tokio::test]
async fn whatever_is_dropped_or_planted_beside_the_rows_is_named_and_refused() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 5).await;
    rig.shut_store();
    let whole = fs::read(rig.path()).unwrap();
    let triggers = triggers(&rig);
    assert_eq!(triggers.len(), 12);
    for (name, table) in triggers {
        let words = format!("the trigger {name} on {table} is missing");
        assert_refused(&mut rig, &whole, &format!("DROP TRIGGER {name}"), &words).await;
    }
    for (sql, words) in PLANTED {
        assert_refused(&mut rig, &whole, sql, words).await;
    }
}

#[tokio::test]
async fn statistics_and_the_tables_of_litestream_are_let_stand() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 5).await;
    rig.shut_store();
    let connection = Connection::open(rig.path()).unwrap();
    let others = "ANALYZE; CREATE TABLE IF NOT EXISTS _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER); \
                  CREATE TABLE IF NOT EXISTS _litestream_lock (id INTEGER);";
    connection.execute_batch(others).unwrap();
    drop(connection);
    rig.open_store();
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_older_store_is_compared_with_its_own_version_before_it_is_migrated() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 5).await;
    rig.shut_store();
    super::migration::take_back(&rig.path(), 5);
    let connection = Connection::open(rig.path()).unwrap();
    connection
        .execute_batch("DROP TRIGGER audit_is_never_removed")
        .unwrap();
    drop(connection);
    let before = fs::read(rig.path()).unwrap();
    let refused = SqliteStore::open(&rig.path(), dollars(), NEW_YEAR, rig.keyring.clone());
    assert!(
        matches!(refused, Err(OpenError::Schema { .. })),
        "{refused:?}"
    );
    assert_eq!(fs::read(rig.path()).unwrap(), before);
}

#[tokio::test]
async fn an_older_store_is_not_migrated_without_the_pepper() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 5).await;
    rig.shut_store();
    super::migration::take_back(&rig.path(), 5);
    let before = fs::read(rig.path()).unwrap();
    let refused = SqliteStore::open(&rig.path(), dollars(), NEW_YEAR, Keyring::empty());
    assert!(
        matches!(refused, Err(OpenError::NoPepper(_))),
        "{refused:?}"
    );
    assert!(fs::read(rig.path()).unwrap() == before, "it was changed");
    rig.open_store();
    rig.assert_clean().await;
}
