//! Rows that are covered by a MAC: what happens where somebody changed one past the bank.

use std::fs;
use std::sync::Arc;

use super::rig::*;
use super::sqlite::tamper;
use crate::access::pepper::Peppers;
use crate::access::pin::PinVerified;
use crate::access::row_mac::Keyring;
use crate::store::{Act, Claimed, Digest, Done, PinChange};
use crate::surroundings::System;

super::on_every_store! {
    each_change_of_who_may_get_in_is_a_record_and_orders_are_none
    a_full_head_covers_the_rows_and_shorter_ones_are_still_taken
    a_row_that_is_accepted_is_shown_and_on_record
}

async fn rows(rig: &Rig) -> i64 {
    rig.verify(None).await.rows.count
}

async fn terminal(rig: &Rig, disabled: bool) -> Done {
    let name = "t-9".parse().unwrap();
    rig.act(Act::Terminal { name, disabled }).await
}

async fn each_change_of_who_may_get_in_is_a_record_and_orders_are_none(mut rig: Rig) {
    let limit = |daily| Act::Limit {
        number: number(ANNE),
        withdrawal: None,
        daily,
    };
    rig.open(ANNE, 1_000).await;
    rig.open(BERT, 0).await;
    assert_eq!(rows(&rig).await, 2);
    let anne = rig.log_in(ANNE).await;
    assert_eq!(rows(&rig).await, 3);
    rig.deposit(&anne, 5).await.unwrap();
    rig.transfer(&anne, BERT, 5).await.unwrap();
    rig.transfer(&rig.log_in(BERT).await, ANNE, 5)
        .await
        .unwrap();
    rig.authorize(&anne, "h-1", 5).await.unwrap();
    rig.log_out(anne);
    let anne = rig.log_in(ANNE).await;
    // Bert's home; Anne's is as it was.
    assert_eq!(rows(&rig).await, 4);
    rig.log_out(anne);
    rig.terminal = "t-2";
    let _ = rig.log_in(ANNE).await;
    rig.act(limit(Some(5))).await;
    rig.act(Act::Lock(number(ANNE), true)).await;
    rig.act(Act::Lock(number(ANNE), false)).await;
    rig.set_pin(ANNE, "5093", None).await;
    rig.act(Act::Close(number(BERT))).await;
    terminal(&rig, true).await;
    terminal(&rig, false).await;
    assert_eq!(rows(&rig).await, 12);
    rig.assert_clean().await;
}

async fn a_full_head_covers_the_rows_and_shorter_ones_are_still_taken(rig: Rig) {
    rig.open(ANNE, 100).await;
    let past = rig.verify(None).await.full_head();
    rig.open(BERT, 100).await;
    let shown: Digest = past.to_string().parse().unwrap();
    assert_eq!(shown, past);
    let shorter = Digest { rows: None, ..past };
    for head in [past, shorter, past.of_ledger()] {
        assert_eq!(rig.verify(Some(head)).await.faults, Vec::<String>::new());
    }
    let rows = past.rows.unwrap();
    let (mut other, mut later) = (rows, rows);
    other.hash[7] ^= 1;
    later.count = 1_000;
    for rows in [other, later] {
        let rows = Some(rows);
        let head = Digest { rows, ..past };
        assert_eq!(rig.verify(Some(head)).await.faults.len(), 1, "{head}");
    }
}

async fn a_row_that_is_accepted_is_shown_and_on_record(rig: Rig) {
    rig.open(ANNE, 0).await;
    let accepted = rig.act(accept(&rig)).await;
    let Done::Account(found) = accepted else {
        panic!("{accepted:?}");
    };
    assert_eq!(
        (found.account.as_str(), found.must_change_pin),
        (ANNE, false)
    );
    let (record, _) = rig.records().await.remove(1);
    assert_eq!(record.event, "row_accepted");
    assert_eq!(
        record.detail,
        "found as written: open, withdrawal the bank's, daily the bank's, home none"
    );
    assert!(rig.show(ANNE).await.must_change_pin);
    rig.act(Act::Close(number(ANNE))).await;
    let Done::Account(found) = rig.act(accept(&rig)).await else {
        panic!("not accepted");
    };
    assert_eq!(found.status, "closed");
    assert_eq!(rows(&rig).await, 4);
}

fn accept(rig: &Rig) -> Act {
    Act::SetPin {
        number: number(ANNE),
        hash: rig.hash("5093", CHEAP),
        one_time_until: Some(rig.context().now.plus_ms(1_000_000)),
        accept_row: true,
    }
}

const FORGED: &str =
    "zz-00001: its number, status, limits, PIN or home is not as the bank wrote it last";

/// What is done to Anne's row that leaves her PIN right.
const CHANGES: &[&str] = &[
    "UPDATE account SET withdrawal_limit = 1000000 WHERE number = 'zz-00001'",
    "UPDATE account SET daily_limit = 1000000 WHERE number = 'zz-00001'",
    "UPDATE account SET status = 1 WHERE number = 'zz-00001'",
    "UPDATE account SET currency = 'EUR' WHERE number = 'zz-00001'",
    "UPDATE account SET opened_at = 1 WHERE number = 'zz-00001'",
    "UPDATE credential SET home = 't-9' WHERE account = 3",
    "UPDATE credential SET home = NULL WHERE account = 3",
    "UPDATE credential SET revision = 9 WHERE account = 3",
    "UPDATE credential SET must_change = 1 WHERE account = 3",
    "UPDATE credential SET demo = 1 WHERE account = 3",
    "UPDATE credential SET expires_at = 4102444800000 WHERE account = 3",
    // Bert's hash, whose PIN is the same, and so the row's PIN is right.
    "UPDATE credential SET (salt, digest) = (SELECT salt, digest FROM credential WHERE account = 4) WHERE account = 3",
    // What the row was before the limit was set.
    "UPDATE account SET daily_limit = NULL WHERE number = 'zz-00001'",
    // The records of it taken away, or given to another account.
    "DELETE FROM row_record WHERE account = 3",
    "UPDATE row_record SET account = 4 WHERE account = 3",
    // The record of the earlier row put at the end: its number is part of what the code is over.
    "UPDATE account SET daily_limit = NULL WHERE number = 'zz-00001'; \
     INSERT INTO row_record SELECT 6, account, terminal, revision, pepper, mac, hash FROM row_record WHERE id = 3; \
     UPDATE row_record_head SET (count, hash) = (SELECT id, hash FROM row_record WHERE id = 6)",
];

/// And what leaves nobody a right PIN, or no account.
const LOCKING_OUT: &[&str] = &[
    "UPDATE account SET number = 'zz-00009' WHERE number = 'zz-00001'",
    "UPDATE account SET status = 2 WHERE number = 'zz-00001'",
    "UPDATE account SET kind = 1 WHERE number = 'zz-00001'",
    "UPDATE credential SET expires_at = 1 WHERE account = 3",
    "UPDATE credential SET salt = zeroblob(16) WHERE account = 3",
    "UPDATE credential SET digest = zeroblob(32) WHERE account = 3",
    "UPDATE credential SET memory_kib = 16 WHERE account = 3",
    "UPDATE credential SET iterations = 2 WHERE account = 3",
    "UPDATE credential SET pepper = 'no pepper', home = '!' WHERE account = 3",
    "UPDATE credential SET home = '!' WHERE account = 3",
    "UPDATE credential SET memory_kib = -1 WHERE account = 3",
    "DELETE FROM credential WHERE account = 3",
];

/// Anne, who has a home and a limit, and Bert; the store is shut, and this is its file.
async fn prepared() -> (Rig, Vec<u8>) {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    rig.open(BERT, 0).await;
    let anne = rig.log_in(ANNE).await;
    rig.log_out(anne);
    let limit = Act::Limit {
        number: number(ANNE),
        withdrawal: None,
        daily: Some(700),
    };
    rig.act(limit).await;
    terminal(&rig, true).await;
    rig.assert_clean().await;
    rig.shut_store();
    let whole = fs::read(rig.path()).unwrap();
    (rig, whole)
}

fn reopen(rig: &mut Rig, whole: &[u8], sql: &str) {
    rig.shut_store();
    fs::write(rig.path(), whole).unwrap();
    tamper(&rig.path(), sql);
    rig.open_store();
}

async fn assert_refused(rig: &Rig, act: Act) {
    match rig.act(act).await {
        Done::Refused(why) => assert!(why.contains("not as the bank wrote it"), "{why}"),
        done => panic!("{done:?}"),
    }
}

#[tokio::test]
async fn a_row_that_was_changed_lets_nobody_in_and_is_named_refused_and_cured() {
    let (mut rig, whole) = prepared().await;
    for sql in CHANGES {
        reopen(&mut rig, &whole, sql);
        let faults = rig.verify(None).await.faults;
        assert!(
            faults.iter().any(|fault| fault == FORGED),
            "{sql}: {faults:?}"
        );
        let proof = rig.proof(ANNE).await;
        let claimed = rig.claim_by(&proof).await;
        assert!(matches!(claimed, Claimed::Forged), "{sql}: {claimed:?}");
        let records = rig.records().await;
        let last: Vec<_> = records.iter().rev().take(2).collect();
        let told = last
            .iter()
            .map(|(record, _)| (record.event.as_str(), record.outcome.as_str()));
        let expected = [("forged_row", "refused"), ("login", "failed")];
        assert_eq!(told.collect::<Vec<_>>(), expected, "{sql}");
        // The try stays counted: whoever planted a hash knows its PIN.
        assert_eq!(rig.show(ANNE).await.tries, 1, "{sql}");
        for locked in [true, false] {
            assert_refused(&rig, Act::Lock(number(ANNE), locked)).await;
        }
        assert_refused(&rig, Act::Close(number(ANNE))).await;
        let limit = Act::Limit {
            number: number(ANNE),
            withdrawal: None,
            daily: None,
        };
        assert_refused(&rig, limit).await;
        let set_pin = Act::SetPin {
            number: number(ANNE),
            hash: rig.hash("5093", CHEAP),
            one_time_until: None,
            accept_row: false,
        };
        assert_refused(&rig, set_pin).await;
        assert!(
            matches!(rig.act(accept(&rig)).await, Done::Account(_)),
            "{sql}"
        );
        let faults = rig.verify(None).await.faults;
        assert!(!faults.contains(&FORGED.to_owned()), "{sql}: {faults:?}");
    }
}

#[tokio::test]
async fn a_row_that_lets_nobody_in_any_more_is_named_and_serves_the_others_on() {
    let (mut rig, whole) = prepared().await;
    for sql in LOCKING_OUT {
        reopen(&mut rig, &whole, sql);
        let faults = rig.verify(None).await.faults;
        let named = |fault: &String| {
            fault.contains("is not as the bank wrote it") || fault.contains("Account(3)")
        };
        assert!(faults.iter().any(named), "{sql}: {faults:?}");
        // Nobody is let in; whether the PIN was looked at does not matter here.
        assert!(
            !matches!(rig.try_log_in(ANNE).await, Some(Claimed::Seated(_))),
            "{sql}"
        );
        let _ = rig.log_in(BERT).await;
    }
}

#[tokio::test]
async fn a_session_whose_row_was_changed_meanwhile_changes_no_pin() {
    let (mut rig, whole) = prepared().await;
    fs::write(rig.path(), &whole).unwrap();
    rig.open_store();
    let anne = rig.log_in(ANNE).await;
    let proof: PinVerified = rig.proof(ANNE).await;
    let connection = rusqlite::Connection::open(rig.path()).unwrap();
    let sql = "UPDATE account SET daily_limit = 9 WHERE number = 'zz-00001'";
    assert_eq!(connection.execute(sql, []), Ok(1));
    let new = Some(rig.hash("5093", CHEAP));
    let changed = rig.store().change_pin(&anne, &proof, new, rig.context());
    assert_eq!(changed.await, Ok(PinChange::Forged));
}

/// What is done to records of rows, and what is said of it.
const RECORDS_CHANGED: &[(&str, &str)] = &[
    (
        "UPDATE row_record SET mac = zeroblob(32) WHERE id = 2",
        "record 2 of a row: the hash chain is broken",
    ),
    (
        "UPDATE row_record SET pepper = 'p-x' WHERE id = 2",
        "record 2 of a row: the hash chain is broken",
    ),
    (
        "UPDATE row_record SET revision = 7 WHERE id = 2",
        "record 2 of a row: its revision does not follow",
    ),
    (
        "DELETE FROM row_record WHERE id = 2",
        "record 2 of a row: it is not there",
    ),
    (
        "DELETE FROM row_record WHERE id = 5",
        "records of rows: they do not end where their head says",
    ),
    (
        "UPDATE row_record_head SET count = 4",
        "records of rows: they do not end where their head says",
    ),
    (
        "DELETE FROM row_record_head",
        "records of rows: they do not end where their head says",
    ),
    (
        "UPDATE row_record SET account = NULL WHERE id = 2",
        "record 2 of a row: it names no account or terminal, or both",
    ),
    (
        "UPDATE row_record SET terminal = 1 WHERE id = 2",
        "record 2 of a row: it names no account or terminal, or both",
    ),
    (
        "UPDATE terminal SET disabled = 0",
        "terminal t-9: whether it is disabled is not as the bank wrote it last",
    ),
    (
        "INSERT INTO account (number, kind, currency, head, opened_at) VALUES ('cash:t-8', 1, 'USD', zeroblob(32), 0); \
          INSERT INTO terminal (name, cash, disabled) VALUES ('t-8', last_insert_rowid(), 1)",
        "terminal t-8: whether it is disabled is not as the bank wrote it last",
    ),
    (
        "DELETE FROM terminal WHERE name = 't-9'",
        "Terminal(1): it has a record, and is not there",
    ),
];

#[tokio::test]
async fn whatever_is_changed_in_the_records_of_rows_is_named() {
    let (mut rig, whole) = prepared().await;
    rig.open_store();
    let full = rig.verify(None).await.full_head();
    for (sql, words) in RECORDS_CHANGED {
        reopen(&mut rig, &whole, sql);
        let faults = rig.verify(None).await.faults;
        assert!(
            faults.iter().any(|fault| fault == words),
            "{sql}: {faults:?}"
        );
    }
    // Cut off at the end with all its traces: only a kept head tells.
    let cut = "UPDATE terminal SET disabled = 0; DELETE FROM row_record WHERE id = 5; \
               UPDATE row_record_head SET (count, hash) = (SELECT id, hash FROM row_record WHERE id = 4)";
    reopen(&mut rig, &whole, cut);
    rig.assert_clean().await;
    let faults = rig.verify(Some(full)).await.faults;
    assert_eq!(
        faults,
        ["the records of rows up to 5 are not those that digest was made of"]
    );
}

#[tokio::test]
async fn a_terminal_that_was_enabled_past_the_bank_is_enabled_only_after_it_was_put_out() {
    let (mut rig, whole) = prepared().await;
    reopen(&mut rig, &whole, "UPDATE terminal SET disabled = 0");
    match terminal(&rig, false).await {
        Done::Refused(why) => assert!(why.contains("terminal disable"), "{why}"),
        done => panic!("{done:?}"),
    }
    assert!(matches!(terminal(&rig, true).await, Done::Yes));
    assert!(matches!(terminal(&rig, false).await, Done::Yes));
    rig.assert_clean().await;
}

#[tokio::test]
async fn without_the_pepper_a_verify_counts_what_it_could_not_check_and_with_another_one_it_fails()
{
    let (mut rig, _) = prepared().await;
    rig.keyring = Keyring::empty();
    rig.open_store();
    let audit = rig.verify(None).await;
    assert_eq!((audit.faults, audit.unchecked_rows), (Vec::new(), 3));
    rig.shut_store();
    rig.keyring = Keyring::from(Arc::new(Peppers::generate(&System::default())));
    rig.open_store();
    let audit = rig.verify(None).await;
    assert_eq!((audit.faults.len(), audit.unchecked_rows), (3, 0));
}

#[tokio::test]
async fn the_schema_itself_refuses_to_change_remove_or_forge_a_record_of_a_row() {
    let (rig, _) = prepared().await;
    let connection = rusqlite::Connection::open(rig.path()).unwrap();
    for sql in [
        "UPDATE row_record SET revision = 2 WHERE id = 2",
        "DELETE FROM row_record WHERE id = 5",
        "INSERT INTO row_record SELECT 9, account, terminal, revision, pepper, mac, hash FROM row_record WHERE id = 1",
        "UPDATE row_record_head SET count = 4",
        "UPDATE row_record_head SET count = 6",
        "UPDATE row_record_head SET hash = zeroblob(32)",
        "DELETE FROM row_record_head",
    ] {
        assert!(connection.execute(sql, []).is_err(), "{sql}");
    }
}
