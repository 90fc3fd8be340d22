//! What is found where the audit log of the embedded store was tampered with.

use std::fs;

use super::records::note;
use super::rig::*;
use super::sqlite::tamper;
use crate::store::{Digest, Event};

/// A log of six records; the head as it was after the fourth, and after the last.
async fn logged(rig: &Rig) -> [Digest; 2] {
    rig.open(ANNE, 0).await;
    let _ = rig.log_in(ANNE).await;
    note(rig, Event::Start, "c").await;
    note(rig, Event::Stop, "d").await;
    let fourth = rig.verify(None).await.full_head();
    note(rig, Event::Start, "e").await;
    note(rig, Event::Stop, "f").await;
    [fourth, rig.verify(None).await.full_head()]
}

const NO_END: &str = "audit log: it does not end where its head says";

/// What is done to the table, and what is said of it; nothing else is.
const TAMPERED: &[(&str, &[&str])] = &[
    ("UPDATE audit SET at = at + 1 WHERE id = 2", &["2 broken"]),
    ("UPDATE audit SET event = 'x' WHERE id = 2", &["2 broken"]),
    // It said so before: nothing is changed, and nothing found.
    ("UPDATE audit SET outcome = 'done' WHERE id = 2", &[]),
    (
        "UPDATE audit SET outcome = 'wrong_pin' WHERE id = 2",
        &["2 broken"],
    ),
    (
        "UPDATE audit SET account = 'zz-***02' WHERE id = 2",
        &["2 broken"],
    ),
    (
        "UPDATE audit SET account = NULL WHERE id = 2",
        &["2 broken"],
    ),
    (
        "UPDATE audit SET terminal = 't-2' WHERE id = 2",
        &["2 broken"],
    ),
    (
        "UPDATE audit SET connection = 9 WHERE id = 2",
        &["2 broken"],
    ),
    (
        "UPDATE audit SET actor = 'server' WHERE id = 2",
        &["2 broken"],
    ),
    ("UPDATE audit SET detail = 'x' WHERE id = 2", &["2 broken"]),
    (
        "UPDATE audit SET hash = zeroblob(32) WHERE id = 2",
        &["2 broken", "3 broken"],
    ),
    // Removed, from within, the beginning and the end.
    ("DELETE FROM audit WHERE id = 3", &["3 gone", "4 broken"]),
    ("DELETE FROM audit WHERE id = 1", &["1 gone", "2 broken"]),
    ("DELETE FROM audit WHERE id > 4", &[NO_END]),
    ("DELETE FROM audit", &[NO_END]),
    // Renumbered so that no gap is left.
    (
        "DELETE FROM audit WHERE id = 3; UPDATE audit SET id = id - 1 WHERE id > 3",
        &["3 broken", "4 broken", "5 broken", NO_END],
    ),
    // Two changed places.
    (
        "UPDATE audit SET id = 100 WHERE id = 3; UPDATE audit SET id = 3 WHERE id = 4; \
         UPDATE audit SET id = 4 WHERE id = 100",
        &["3 broken", "4 broken", "5 broken"],
    ),
    // One more at the end, and one between.
    (
        "INSERT INTO audit SELECT 7, at, event, outcome, account, terminal, connection, actor, detail, hash \
         FROM audit WHERE id = 6",
        &["7 broken", NO_END],
    ),
    (
        "UPDATE audit SET id = id + 100 WHERE id > 2; UPDATE audit SET id = id - 99 WHERE id > 100; \
         INSERT INTO audit SELECT 3, at, event, outcome, account, terminal, connection, actor, detail, hash \
         FROM audit WHERE id = 2",
        &[
            "3 broken", "4 broken", "5 broken", "6 broken", "7 broken", NO_END,
        ],
    ),
    ("UPDATE audit_head SET count = 5", &[NO_END]),
    ("DELETE FROM audit_head", &[NO_END]),
    ("UPDATE audit_head SET hash = zeroblob(32)", &[NO_END]),
];

fn in_words(short: &str) -> String {
    match short.split_once(' ') {
        Some((number, "broken")) => format!("audit record {number}: the hash chain is broken"),
        Some((number, "gone")) => format!("audit record {number}: it is not there"),
        _ => short.to_owned(),
    }
}

async fn reopened_with(rig: &mut Rig, whole: &[u8], sql: &str) {
    rig.shut_store();
    fs::write(rig.path(), whole).unwrap();
    tamper(&rig.path(), sql);
    rig.open_store();
}

#[tokio::test]
async fn whatever_is_changed_removed_inserted_or_moved_in_the_log_is_named() {
    let mut rig = Rig::sqlite();
    let _ = logged(&rig).await;
    rig.shut_store();
    let whole = fs::read(rig.path()).unwrap();
    for (sql, faults) in TAMPERED {
        reopened_with(&mut rig, &whole, sql).await;
        let expected: Vec<String> = faults.iter().map(|short| in_words(short)).collect();
        assert_eq!(rig.verify(None).await.faults, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_kept_head_tells_of_an_end_that_was_cut_off_with_its_traces() {
    let mut rig = Rig::sqlite();
    let [fourth, last] = logged(&rig).await;
    rig.shut_store();
    let whole = fs::read(rig.path()).unwrap();
    let cut = "DELETE FROM audit WHERE id > 4; \
         UPDATE audit_head SET (count, hash) = (SELECT id, hash FROM audit WHERE id = 4)";
    reopened_with(&mut rig, &whole, cut).await;
    assert_eq!(rig.verify(None).await.faults, Vec::<String>::new());
    assert_eq!(rig.verify(Some(fourth)).await.faults, Vec::<String>::new());
    let faults = rig.verify(Some(last)).await.faults;
    assert_eq!(
        faults,
        ["the audit log up to record 6 is not the one that digest was made of"]
    );
    // Written on, it has as many records again, and is still not the same.
    note(&rig, Event::Start, "e").await;
    note(&rig, Event::Stop, "f, forged").await;
    assert_eq!(rig.verify(Some(last)).await.faults, faults);
}

#[tokio::test]
async fn the_schema_itself_refuses_to_change_remove_or_forge_a_record() {
    let mut rig = Rig::sqlite();
    let _ = logged(&rig).await;
    rig.shut_store();
    let connection = rusqlite::Connection::open(rig.path()).unwrap();
    for sql in [
        "UPDATE audit SET detail = 'x' WHERE id = 2",
        "DELETE FROM audit WHERE id = 6",
        "DELETE FROM audit",
        "INSERT INTO audit SELECT 9, at, event, outcome, account, terminal, connection, actor, detail, hash \
         FROM audit WHERE id = 6",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE id = 6",
        "UPDATE audit_head SET count = 5",
        "UPDATE audit_head SET count = 7",
        "UPDATE audit_head SET hash = zeroblob(32)",
        "DELETE FROM audit_head",
    ] {
        assert!(connection.execute(sql, []).is_err(), "{sql}");
    }
    drop(connection);
    rig.open_store();
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_log_goes_on_where_it_ended_after_a_restart() {
    let mut rig = Rig::sqlite();
    let [_, last] = logged(&rig).await;
    rig.shut_store();
    rig.open_store();
    note(&rig, Event::Start, "again").await;
    let audit = rig.verify(Some(last)).await;
    assert_eq!((audit.faults, audit.log.count), (Vec::new(), 7));
}

/// A store as the first version made it.
fn make_first_version(path: &std::path::Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute_batch(include_str!("../schema/1.sql"))
        .unwrap();
    connection
        .execute_batch(
            "PRAGMA application_id = 0x41544d62; PRAGMA user_version = 1; \
             INSERT INTO bank VALUES ('currency', 'USD'), ('made_at', '2026-01-01T00:00:00.000Z'); \
             INSERT INTO account (number, kind, currency, head, opened_at) \
             VALUES ('opening', 2, 'USD', zeroblob(32), 0), ('adjustment', 3, 'USD', zeroblob(32), 0)",
        )
        .unwrap();
}

#[tokio::test]
async fn a_store_of_the_first_version_gets_an_empty_log_that_is_written_on() {
    let mut rig = Rig::sqlite();
    rig.shut_store();
    fs::remove_file(rig.path()).unwrap();
    make_first_version(&rig.path());
    rig.open_store();
    let audit = rig.verify(None).await;
    assert_eq!((audit.faults, audit.log.count), (Vec::new(), 0));
    rig.open(ANNE, 100).await;
    let _ = rig.log_in(ANNE).await;
    assert_eq!(rig.verify(None).await.log.count, 2);
    rig.assert_clean().await;
}
