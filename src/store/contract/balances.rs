//! Balances that the embedded store knows without reading.

use std::task::Poll;

use super::rig::*;
use crate::domain::Refusal;
use crate::store::{Act, Claim, Done};

/// A balance that is there without waiting for anybody.
fn known(rig: &Rig, claim: &Claim) -> Option<(i64, i64)> {
    let mut asked = rig.store().balance(claim, rig.context());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match asked.as_mut().poll(&mut context) {
        Poll::Ready(balances) => Some(money(balances.unwrap())),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_seated_customers_balance_is_known_without_a_read_as_the_last_commit_left_it() {
    let rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    rig.open(BERT, 500).await;
    let (anne, bert) = (rig.log_in(ANNE).await, rig.log_in(BERT).await);
    assert_eq!(known(&rig, &anne), Some((1_000, 1_000)));
    rig.transfer(&anne, BERT, 30).await.unwrap();
    assert_eq!(known(&rig, &anne), Some((970, 970)));
    assert_eq!(known(&rig, &bert), Some((530, 530)));
    // What is on hold may be free by the time that it is asked for: then it is read.
    rig.authorize(&anne, "h-1", 70).await.unwrap();
    assert_eq!(money(rig.balance(&anne).await), (970, 900));
    rig.capture("h-1", 70).await.unwrap();
    assert_eq!(known(&rig, &anne), Some((900, 900)));
}

#[tokio::test]
async fn an_order_and_an_act_of_staff_upon_its_account_in_one_commit_both_hold() {
    let rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    let anne = rig.log_in(ANNE).await;
    for round in 1..=20 {
        let limit = Act::Limit {
            number: number(ANNE),
            withdrawal: Some(round),
            daily: None,
        };
        // While the first is committed the others wait, and go together.
        let (first, second, act) =
            tokio::join!(rig.deposit(&anne, 1), rig.deposit(&anne, 2), rig.act(limit));
        assert!(first.is_ok() && second.is_ok() && matches!(act, Done::Yes));
        assert_eq!(
            known(&rig, &anne),
            Some((1_000 + 3 * round, 1_000 + 3 * round))
        );
        assert_eq!(rig.show(ANNE).await.balance, 1_000 + 3 * round);
        let over = rig.withdraw(&anne, round + 1).await;
        assert!(matches!(over, Err(Refusal::OverLimit { limit, .. }) if limit == round));
    }
    rig.assert_clean().await;
}
