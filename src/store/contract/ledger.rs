//! History, audits and digests; what a failing store does.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::rig::*;
use crate::domain::{EntryKind, RequestedAmount, Timestamp};
use crate::store::memory::MemoryStore;
use crate::store::{Act, Digest, Done, Order, OrderKind, Store, StoreError};

super::on_every_store! {
    history_is_newest_first_and_bounded
    history_and_statement_find_every_posting_from_any_number
    history_shows_each_side_of_a_transfer_its_own_way
    an_empty_ledger_has_a_digest_that_stays_good
    a_digest_stays_good_while_the_ledger_grows_and_another_is_refused
}

async fn history_is_newest_first_and_bounded(rig: Rig) {
    rig.open(ANNE, 100).await;
    let anne = rig.log_in(ANNE).await;
    for amount in 1..=5 {
        rig.advance(1);
        rig.deposit(&anne, amount).await.unwrap();
    }
    let amounts = async |limit, before| {
        let lines = rig.history(&anne, limit, before).await;
        lines.iter().map(|line| line.amount).collect::<Vec<_>>()
    };
    assert_eq!(amounts(100, None).await, [5, 4, 3, 2, 1, 100]);
    assert_eq!(amounts(2, None).await, [5, 4]);
    assert_eq!(amounts(2, Some(5)).await, [3, 2]);
    // The number need not exist.
    assert_eq!(amounts(1, Some(1_000)).await, [5]);
    assert!(amounts(100, Some(1)).await.is_empty());
    let line = &rig.history(&anne, 1, None).await[0];
    assert_eq!(
        (line.entry, line.at, line.balance),
        (6, rig.context().now, 115)
    );
    assert_eq!((line.terminal.as_str(), line.counterparty), ("t-1", None));
}

async fn history_and_statement_find_every_posting_from_any_number(rig: Rig) {
    rig.open(ANNE, 1_000).await;
    rig.open(BERT, 1_000).await;
    let (anne, bert) = (rig.log_in(ANNE).await, rig.log_in(BERT).await);
    // Postings of Anne's, some with entries of others between them.
    let mut own = vec![1];
    for turn in 0..150 {
        if turn % 3 == 0 {
            rig.deposit(&bert, 1).await.unwrap();
        }
        let receipt = match turn % 2 {
            0 => rig.deposit(&anne, 2).await,
            _ => rig.transfer(&anne, BERT, 1).await,
        };
        own.push(receipt.unwrap().entry.unwrap());
    }
    let last = *own.last().unwrap();
    for number in (1..=last + 2).step_by(3).chain([64, 65, last, last + 1]) {
        let lines = rig.history(&anne, 3, Some(number)).await;
        let found: Vec<i64> = lines.iter().map(|line| line.entry).collect();
        let below = own.iter().rev().filter(|entry| **entry < number);
        let expected: Vec<i64> = below.copied().take(3).collect();
        assert_eq!(found, expected, "before {number}");
        let found = statement(&rig, number, None, 70).await;
        let above = own.iter().filter(|entry| **entry > number);
        let expected: Vec<i64> = above.copied().take(70).collect();
        assert_eq!(found, expected, "after {number}");
    }
    assert_eq!(statement(&rig, 0, None, 1_000).await, own);
    let (now, next) = (rig.context().now, rig.context().now.plus_ms(1));
    assert_eq!(statement(&rig, 0, Some((now, next)), 1_000).await, own);
    assert!(
        statement(&rig, 0, Some((next, next)), 1_000)
            .await
            .is_empty()
    );
    rig.assert_clean().await;
}

/// Numbers of a statement's entries for Anne.
async fn statement(
    rig: &Rig,
    after: i64,
    span: Option<(Timestamp, Timestamp)>,
    limit: usize,
) -> Vec<i64> {
    let act = Act::Statement {
        number: number(ANNE),
        after,
        from: span.map(|(from, _)| from),
        to: span.map(|(_, to)| to),
        limit,
    };
    let Done::Lines(lines) = rig.act(act).await else {
        panic!("no statement");
    };
    lines.iter().map(|line| line.entry).collect()
}

async fn history_shows_each_side_of_a_transfer_its_own_way(rig: Rig) {
    rig.open(ANNE, 100).await;
    rig.open(BERT, 5).await;
    let (anne, bert) = (rig.log_in(ANNE).await, rig.log_in(BERT).await);
    let entry = rig.transfer(&anne, BERT, 30).await.unwrap().entry;
    for (claim, other, amount, balance) in [(&anne, BERT, -30, 70), (&bert, ANNE, 30, 35)] {
        let line = &rig.history(claim, 1, None).await[0];
        assert_eq!((Some(line.entry), line.kind), (entry, EntryKind::Transfer));
        assert_eq!((line.amount, line.balance), (amount, balance));
        assert_eq!(line.counterparty, Some(number(other)));
        assert_eq!(
            (line.terminal.as_str(), line.reason.as_deref()),
            ("t-1", None)
        );
    }
}

async fn an_empty_ledger_has_a_digest_that_stays_good(rig: Rig) {
    let empty = rig.verify(None).await.head;
    assert_eq!(empty.entry, 0);
    rig.open(ANNE, 0).await;
    assert_eq!(rig.verify(None).await.head, empty);
    rig.set_pin(ANNE, "5093", None).await;
    rig.open(BERT, 5).await;
    let audit = rig.verify(Some(empty)).await;
    assert_eq!((audit.faults, audit.head.entry), (vec![], 1));
    assert_ne!(audit.head.hash, empty.hash);
}

async fn a_digest_stays_good_while_the_ledger_grows_and_another_is_refused(rig: Rig) {
    rig.open(ANNE, 100).await;
    let anne = rig.log_in(ANNE).await;
    let mut past = vec![rig.verify(None).await.head];
    for amount in 1..=3 {
        rig.deposit(&anne, amount).await.unwrap();
        past.push(rig.verify(None).await.head);
    }
    for digest in &past {
        let shown: Digest = digest.to_string().parse().unwrap();
        assert_eq!(rig.verify(Some(shown)).await.faults, Vec::<String>::new());
    }
    let mut other_hash = past[1];
    other_hash.hash[7] ^= 1;
    let other_entry = Digest {
        entry: past[1].entry + 1,
        ..past[1]
    };
    let later = Digest {
        entry: 1_000,
        ..past[3]
    };
    let negative = Digest {
        entry: -1,
        ..past[0]
    };
    for digest in [other_hash, other_entry, later, negative] {
        assert_eq!(rig.verify(Some(digest)).await.faults.len(), 1, "{digest}");
    }
}

fn deposit(text: &str) -> Order {
    Order {
        key: key(text),
        amount: RequestedAmount(5),
        kind: OrderKind::Deposit,
    }
}

/// The reference model behind a rig, with its switches.
fn switched() -> (Arc<MemoryStore>, Rig) {
    let store = Arc::new(MemoryStore::new(dollars(), NEW_YEAR));
    let mut rig = Rig::memory();
    rig.store = Some(Arc::clone(&store) as Arc<dyn Store>);
    (store, rig)
}

#[tokio::test]
async fn a_call_told_to_fail_before_did_nothing_and_one_told_to_fail_after_did_it() {
    let (store, rig) = switched();
    rig.open(ANNE, 100).await;
    let anne = rig.log_in(ANNE).await;
    let unavailable = |answer| matches!(answer, Err(StoreError::Unavailable(_)));
    store.faults().fail_before.store(2, Ordering::SeqCst);
    for _ in 0..2 {
        assert!(unavailable(
            store.order(&anne, deposit("a"), rig.context()).await
        ));
    }
    assert_eq!(money(rig.balance(&anne).await), (100, 100));
    store.faults().fail_after.store(1, Ordering::SeqCst);
    assert!(unavailable(
        store.order(&anne, deposit("a"), rig.context()).await
    ));
    let again = rig.order(&anne, key("a"), 5, OrderKind::Deposit).await;
    assert!(again.unwrap().replayed);
    assert_eq!(money(rig.balance(&anne).await), (105, 105));
}

#[tokio::test]
async fn a_claim_that_failed_leaves_the_account_free() {
    let (store, rig) = switched();
    rig.open(ANNE, 100).await;
    for switch in [&store.faults().fail_before, &store.faults().fail_after] {
        let proof = rig.proof(ANNE).await;
        switch.store(1, Ordering::SeqCst);
        assert!(store.claim(&proof, 7, rig.context()).await.is_err());
        assert!(store.seats().is_empty());
    }
    let _ = rig.log_in(ANNE).await;
}

#[tokio::test]
async fn a_closed_store_answers_closed() {
    let (store, rig) = switched();
    rig.open(ANNE, 100).await;
    let anne = rig.log_in(ANNE).await;
    store.close();
    let closed = store.balance(&anne, rig.context()).await;
    assert_eq!(closed.unwrap_err(), StoreError::Closed);
    store.release(&anne);
    assert!(store.seats().is_empty());
}

#[tokio::test]
async fn a_future_that_is_never_polled_does_nothing() {
    let (store, rig) = switched();
    rig.open(ANNE, 100).await;
    let anne = rig.log_in(ANNE).await;
    drop(store.order(&anne, deposit("a"), rig.context()));
    assert_eq!(money(rig.balance(&anne).await), (100, 100));
}
