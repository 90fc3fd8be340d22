//! How large the journal of the embedded store grows beside those who read, and that it shrinks again.

use std::cell::Cell;
use std::path::Path;

use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::rig::{ANNE, BERT, HOUR, Rig, SECOND, number};
use crate::store::sqlite::{JOURNAL_BYTES_MAX, audit_with};
use crate::store::{Act, Claim};

fn is_large(rig: &Rig) -> bool {
    rig.store().journal_bytes() > u64::from(JOURNAL_BYTES_MAX)
}

/// Somebody else who looks at the store and does not go on.
fn reader(path: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(path).unwrap();
    let sql = "BEGIN; SELECT count(*) FROM entry";
    connection.execute_batch(sql).unwrap();
    connection
}

/// A bank whose journal has grown while somebody read it, who has gone.
async fn read_at_length() -> (Rig, Claim) {
    let rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    let anne = rig.log_in(ANNE).await;
    let reader = reader(&rig.path());
    while !is_large(&rig) {
        rig.deposit(&anne, 1).await.unwrap();
    }
    // Nobody is sent away, and nobody waits for the reader.
    for _ in 0..3 {
        rig.sweep().await;
        rig.deposit(&anne, 1).await.unwrap();
    }
    assert!(is_large(&rig));
    drop(reader);
    (rig, anne)
}

#[tokio::test]
async fn a_journal_that_somebody_let_grow_is_emptied_once_they_have_gone() {
    let (rig, _anne) = read_at_length().await;
    rig.sweep().await;
    rig.sweep().await;
    assert_eq!(rig.store().journal_bytes(), 0);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_journal_that_somebody_let_grow_shrinks_with_the_commits_that_follow() {
    let (rig, anne) = read_at_length().await;
    for _ in 0..2 {
        rig.deposit(&anne, 1).await.unwrap();
    }
    let bytes = rig.store().journal_bytes();
    assert!(0 < bytes && !is_large(&rig), "{bytes}");
    rig.assert_clean().await;
}

/// One of each kind of what changes rows between two looks at them.
async fn go_on(rig: &Rig, anne: &Claim, round: usize) {
    let hold = format!("h-{round}");
    rig.deposit(anne, 7).await.unwrap();
    rig.withdraw(anne, 1).await.unwrap();
    rig.authorize(anne, &hold, 4).await.unwrap();
    rig.transfer(anne, BERT, 1).await.unwrap();
    match round % 3 {
        0 => drop(rig.capture(&hold, 3).await.unwrap()),
        1 => drop(rig.free(&hold).await.unwrap()),
        _ => {}
    }
    match round % 7 {
        0 => rig.open(&format!("cc-{round:05}"), 10).await,
        1 => {
            let limit = Act::Limit {
                number: number(BERT),
                withdrawal: None,
                daily: Some(i64::try_from(round).unwrap()),
            };
            rig.act(limit).await;
        }
        2 => drop(rig.count_try(BERT).await),
        3 => drop(rig.sweep().await),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_beside_a_bank_that_goes_on_lets_the_journal_begin_anew_and_names_nothing() {
    let rig = Rig::sqlite();
    rig.open(ANNE, 100_000).await;
    rig.open(BERT, 100_000).await;
    let anne = rig.log_in(ANNE).await;
    // Holds are over and the day turns while it is read.
    rig.advance(12 * HOUR - 5 * SECOND);
    for round in 0..40 {
        go_on(&rig, &anne, round).await;
    }
    let (before, now) = (rig.verify(None).await.full_head(), rig.context().now);
    let (pauses, high) = (Cell::new(0), Cell::new(0));
    let pause = |_| {
        let (pause, handle) = (pauses.get(), Handle::current());
        pauses.set(pause + 1);
        // Not so much that it never catches up, and not for ever.
        block_in_place(|| match pause {
            3_000.. => {}
            _ if pause % 16 == 0 => handle.block_on(go_on(&rig, &anne, 40 + pause)),
            _ => handle.block_on(async { drop(rig.withdraw(&anne, 1).await.unwrap()) }),
        });
        rig.advance(20);
        high.set(high.get().max(rig.store().journal_bytes()));
    };
    let audit = audit_with(&rig.path(), &rig.keyring, Some(before), now, pause).unwrap();
    assert_eq!(audit.faults, Vec::<String>::new());
    assert!(pauses.get() > 400, "{}", pauses.get());
    assert!(high.get() < u64::from(JOURNAL_BYTES_MAX), "{}", high.get());
    let after = rig.verify(Some(audit.head)).await;
    assert_eq!(after.faults, Vec::<String>::new());
    assert!(after.entries > 40 * 3 && audit.keys > 40 * 4);
}
