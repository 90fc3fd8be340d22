//! How orders share the embedded store's commits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rig::*;
use super::sqlite::order;
use crate::store::{Context, OrderKind};

#[tokio::test]
async fn while_pins_are_checked_an_order_waits_for_others_to_share_its_commit() {
    let rig = Rig::sqlite();
    rig.open("zz-99999", 0).await;
    let claim = rig.log_in("zz-99999").await;
    let (busy, store) = (true, rig.store.as_ref().unwrap());
    let context = Context {
        busy,
        ..rig.context()
    };
    let began = Instant::now();
    let order = order(5, "1", OrderKind::Deposit);
    store.order(&claim, order, context).await.unwrap().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_are_committed_together_are_all_answered_and_right() {
    let rig = Rig::sqlite();
    let accounts: Vec<String> = (0..40).map(|index| format!("aa-{index:05}")).collect();
    let mut waiting = tokio::task::JoinSet::new();
    for account in &accounts {
        rig.open(account, 1_000).await;
    }
    for account in &accounts {
        let claim = Arc::new(rig.log_in(account).await);
        for index in 0..10 {
            let (store, claim) = (Arc::clone(rig.store.as_ref().unwrap()), Arc::clone(&claim));
            let context = rig.context();
            let kinds = [OrderKind::Deposit, OrderKind::Withdraw];
            let kind = kinds[usize::from(index % 2 != 0)].clone();
            waiting.spawn(async move {
                let order = order(index + 1, &index.to_string(), kind);
                store.order(&claim, order, context).await.unwrap().unwrap()
            });
        }
    }
    let mut entries = std::collections::BTreeSet::new();
    while let Some(receipt) = waiting.join_next().await {
        assert!(
            entries.insert(receipt.unwrap().entry),
            "an entry was answered twice"
        );
    }
    assert_eq!(entries.len(), 400);
    for account in &accounts {
        // 1+3+5+7+9 in, 2+4+6+8+10 out.
        assert_eq!(rig.show(account).await.balance, 1_000 + 25 - 30);
    }
    let audit = rig.verify(None).await;
    assert_eq!((audit.faults, audit.entries), (vec![], 440));
}
