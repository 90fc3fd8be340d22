//! Claims: one session an account; what a proof is good for; PINs.

use super::rig::*;
use crate::access::pin::HashCost;
use crate::domain::{Refusal, RequestedAmount};
use crate::store::{
    Act, Claimed, Done, Office, Order, OrderKind, PinChange, SettlementKind, StoreError,
};

super::on_every_store! {
    an_account_is_one_sessions_until_it_is_released
    accounts_are_claimed_independently
    an_old_claim_neither_moves_money_nor_frees_the_account
    a_settlement_goes_on_though_its_session_is_over_and_shows_money_to_the_present_one_alone
    without_a_certificate_a_session_that_is_over_settles_nothing
    a_released_claim_reads_neither_balance_nor_history_and_changes_no_pin
    a_proof_is_void_once_the_pin_was_changed
    an_account_locked_by_staff_is_told_to_the_right_pin_only
    a_claim_is_over_once_staff_lock_the_account_or_give_it_a_pin
    a_claim_is_over_though_staff_hung_up_before_they_were_answered
    the_home_terminal_is_that_of_the_last_good_log_in
    a_dearer_hash_is_kept_at_a_right_pin
    a_one_time_pin_serves_until_it_runs_out_and_then_not
    a_changed_pin_takes_the_place_of_the_old_one
    seats_are_listed_with_their_terminal_and_connection
}

fn deposit_of(amount: i64, text: &str) -> Order {
    Order {
        key: key(text),
        amount: RequestedAmount(amount),
        kind: OrderKind::Deposit,
    }
}

async fn an_account_is_one_sessions_until_it_is_released(rig: Rig) {
    rig.open(ANNE, 0).await;
    let first = rig.log_in(ANNE).await;
    let proof = rig.proof(ANNE).await;
    assert!(matches!(rig.claim_by(&proof).await, Claimed::InUse));
    rig.log_out(first);
    assert!(matches!(rig.claim_by(&proof).await, Claimed::Seated(_)));
    assert!(matches!(rig.claim_by(&proof).await, Claimed::InUse));
}

async fn accounts_are_claimed_independently(rig: Rig) {
    rig.open(ANNE, 1).await;
    rig.open(BERT, 2).await;
    let (anne, bert) = (rig.log_in(ANNE).await, rig.log_in(BERT).await);
    assert_eq!(money(rig.balance(&anne).await), (1, 1));
    assert_eq!(money(rig.balance(&bert).await), (2, 2));
    assert_ne!(anne.fence(), bert.fence());
}

async fn an_old_claim_neither_moves_money_nor_frees_the_account(rig: Rig) {
    rig.open(ANNE, 100).await;
    let old = rig.log_in(ANNE).await;
    rig.store().release(&old);
    let new = rig.log_in(ANNE).await;
    let fenced = rig
        .store()
        .order(&old, deposit_of(5, "a"), rig.context())
        .await;
    assert_eq!(fenced.unwrap_err(), StoreError::Fenced);
    rig.store().release(&old);
    let proof = rig.proof(ANNE).await;
    assert!(matches!(rig.claim_by(&proof).await, Claimed::InUse));
    assert_eq!(money(rig.balance(&new).await), (100, 100));
    assert!(rig.deposit(&new, 5).await.is_ok());
}

async fn a_released_claim_reads_neither_balance_nor_history_and_changes_no_pin(rig: Rig) {
    rig.open(ANNE, 100).await;
    let claim = rig.log_in(ANNE).await;
    let proof = rig.proof(ANNE).await;
    rig.store().release(&claim);
    let read = rig.store().balance(&claim, rig.context()).await;
    assert_eq!(read.unwrap_err(), StoreError::Fenced);
    let lines = rig.store().history(&claim, 1, None).await;
    assert_eq!(lines.unwrap_err(), StoreError::Fenced);
    let hash = rig.hash("5093", CHEAP);
    let changed = rig
        .store()
        .change_pin(&claim, &proof, Some(hash), rig.context())
        .await;
    assert_eq!(changed.unwrap_err(), StoreError::Fenced);
    let _ = rig.log_in(ANNE).await;
}

async fn a_proof_is_void_once_the_pin_was_changed(rig: Rig) {
    rig.open(ANNE, 0).await;
    let proof = rig.proof(ANNE).await;
    rig.set_pin(ANNE, PIN, None).await;
    assert!(matches!(rig.claim_by(&proof).await, Claimed::Void));
    assert!(rig.store().seats().is_empty());
    let claim = rig.log_in(ANNE).await;
    let hash = rig.hash("5093", CHEAP);
    let changed = rig
        .store()
        .change_pin(&claim, &proof, Some(hash), rig.context())
        .await;
    assert_eq!(changed, Ok(PinChange::Void));
}

async fn an_account_locked_by_staff_is_told_to_the_right_pin_only(rig: Rig) {
    rig.open(ANNE, 0).await;
    assert!(matches!(
        rig.act(Act::Lock(number(ANNE), true)).await,
        Done::Yes
    ));
    assert!(rig.try_pin(ANNE, WRONG_PIN).await.unwrap().is_none());
    let proof = rig.proof(ANNE).await;
    assert!(matches!(rig.claim_by(&proof).await, Claimed::LockedByStaff));
    assert!(rig.store().seats().is_empty());
    let report = rig.show(ANNE).await;
    assert_eq!((report.status.as_str(), report.tries), ("locked", 0));
    assert!(matches!(
        rig.act(Act::Lock(number(ANNE), false)).await,
        Done::Yes
    ));
    let _ = rig.log_in(ANNE).await;
}

async fn a_claim_is_over_once_staff_lock_the_account_or_give_it_a_pin(rig: Rig) {
    rig.open(ANNE, 100).await;
    let claim = rig.log_in(ANNE).await;
    // A PIN that was looked at before, and is claimed by after, is the old one.
    let late = rig.proof(ANNE).await;
    rig.act(Act::Lock(number(ANNE), true)).await;
    let withdrawn = rig.try_withdraw(&claim, 40).await;
    assert!(
        matches!(withdrawn, Err(StoreError::Fenced)),
        "{withdrawn:?}"
    );
    assert!(matches!(rig.claim_by(&late).await, Claimed::LockedByStaff));
    rig.act(Act::Lock(number(ANNE), false)).await;
    let (claim, late) = (rig.log_in(ANNE).await, rig.proof(ANNE).await);
    rig.set_pin(ANNE, "5093", None).await;
    let withdrawn = rig.try_withdraw(&claim, 40).await;
    assert!(
        matches!(withdrawn, Err(StoreError::Fenced)),
        "{withdrawn:?}"
    );
    assert!(matches!(rig.claim_by(&late).await, Claimed::Void));
    assert!(rig.store().seats().is_empty());
    // What is refused ends nothing.
    let claim = rig.seat(ANNE, "5093").await.claim;
    let refused = rig.act(Act::Close(number(ANNE))).await;
    assert!(matches!(refused, Done::Refused(_)), "{refused:?}");
    assert!(rig.withdraw(&claim, 40).await.is_ok());
}

async fn a_claim_is_over_though_staff_hung_up_before_they_were_answered(rig: Rig) {
    rig.open(ANNE, 100).await;
    let claim = rig.log_in(ANNE).await;
    let (office, act) = (Office::of("the contract"), Act::Lock(number(ANNE), true));
    let mut asked = rig.store().office(&office, act, rig.context());
    let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
    let _ = asked.as_mut().poll(&mut nobody);
    drop(asked);
    // Writes are done in the order of asking: this one is behind the lock.
    rig.sweep().await;
    assert_eq!(rig.show(ANNE).await.status, "locked");
    let withdrawn = rig.try_withdraw(&claim, 40).await;
    assert!(
        matches!(withdrawn, Err(StoreError::Fenced)),
        "{withdrawn:?}"
    );
    assert!(rig.store().seats().is_empty() && claim.ended().is_cancelled());
}

async fn the_home_terminal_is_that_of_the_last_good_log_in(mut rig: Rig) {
    rig.open(ANNE, 0).await;
    assert_eq!(rig.show(ANNE).await.home_terminal, None);
    let claim = rig.log_in(ANNE).await;
    assert_eq!(rig.show(ANNE).await.home_terminal.as_deref(), Some("t-1"));
    rig.terminal = "t-2";
    let proof = rig.proof(ANNE).await;
    assert!(matches!(rig.claim_by(&proof).await, Claimed::InUse));
    assert_eq!(rig.show(ANNE).await.home_terminal.as_deref(), Some("t-1"));
    rig.log_out(claim);
    let _ = rig.log_in(ANNE).await;
    assert_eq!(rig.show(ANNE).await.home_terminal.as_deref(), Some("t-2"));
    rig.set_pin(ANNE, "5093", None).await;
    assert_eq!(rig.show(ANNE).await.home_terminal.as_deref(), Some("t-2"));
}

async fn a_dearer_hash_is_kept_at_a_right_pin(rig: Rig) {
    let cheaper = HashCost {
        memory_kib: 16,
        ..CHEAP
    };
    let new = crate::store::NewAccount {
        number: number(ANNE),
        hash: rig.hash(PIN, cheaper),
        balance: 0,
        demo: true,
    };
    rig.act(Act::Open(vec![new])).await;
    let first = rig.proof(ANNE).await;
    assert!(first.upgrade().is_some());
    let early = rig.proof(ANNE).await;
    assert!(matches!(rig.claim_by(&first).await, Claimed::Seated(_)));
    // It is the same PIN: earlier proofs stay good, and it is still the public one.
    assert!(matches!(rig.claim_by(&early).await, Claimed::InUse));
    assert!(rig.proof(ANNE).await.upgrade().is_none());
    assert!(rig.show(ANNE).await.demo);
}

async fn a_one_time_pin_serves_until_it_runs_out_and_then_not(rig: Rig) {
    rig.open(ANNE, 0).await;
    let end = rig.context().now.plus_ms(1_000);
    rig.set_pin(ANNE, "5093", Some(end)).await;
    assert!(rig.show(ANNE).await.must_change_pin);
    assert!(rig.try_pin(ANNE, PIN).await.unwrap().is_none());
    rig.advance(999);
    let late = rig.try_pin(ANNE, "5093").await.unwrap().unwrap();
    let seated = rig.seat(ANNE, "5093").await;
    assert!(seated.must_change_pin);
    rig.log_out(seated.claim);
    rig.advance(1);
    assert!(matches!(rig.claim_by(&late).await, Claimed::Void));
    assert!(rig.try_pin(ANNE, "5093").await.unwrap().is_none());
}

async fn a_changed_pin_takes_the_place_of_the_old_one(rig: Rig) {
    rig.open(ANNE, 0).await;
    let end = rig.context().now.plus_ms(1_000);
    rig.set_pin(ANNE, "5093", Some(end)).await;
    let claim = rig.seat(ANNE, "5093").await.claim;
    assert!(rig.try_pin(ANNE, WRONG_PIN).await.unwrap().is_none());
    let proof = rig.try_pin(ANNE, "5093").await.unwrap().unwrap();
    let hash = rig.hash("739105", CHEAP);
    assert_eq!(
        rig.store()
            .change_pin(&claim, &proof, Some(hash.clone()), rig.context())
            .await,
        Ok(PinChange::Done)
    );
    assert_eq!(
        rig.store()
            .change_pin(&claim, &proof, Some(hash), rig.context())
            .await,
        Ok(PinChange::Void)
    );
    let report = rig.show(ANNE).await;
    assert_eq!((report.must_change_pin, report.tries), (false, 0));
    rig.log_out(claim);
    rig.advance(1_000);
    assert!(rig.try_pin(ANNE, "5093").await.unwrap().is_none());
    assert!(!rig.seat(ANNE, "739105").await.must_change_pin);
}

async fn seats_are_listed_with_their_terminal_and_connection(mut rig: Rig) {
    rig.open(BERT, 0).await;
    rig.open(ANNE, 0).await;
    let _bert = rig.log_in(BERT).await;
    rig.terminal = "t-2";
    rig.advance(5);
    let anne = rig.log_in(ANNE).await;
    let seats = rig.store().seats();
    let shown: Vec<_> = seats
        .iter()
        .map(|seat| (seat.account, seat.terminal.as_str(), seat.connection))
        .collect();
    assert_eq!(shown, [(number(ANNE), "t-2", 1), (number(BERT), "t-1", 0)]);
    assert_eq!(seats[0].since, rig.context().now);
    assert_eq!(seats[0].fence, anne.fence());
    rig.log_out(anne);
    assert_eq!(rig.store().seats().len(), 1);
}

async fn a_settlement_goes_on_though_its_session_is_over_and_shows_money_to_the_present_one_alone(
    rig: Rig,
) {
    rig.open(ANNE, 1_000).await;
    let over = rig.log_in(ANNE).await;
    rig.authorize(&over, "h-1", 300).await.unwrap();
    rig.authorize(&over, "h-2", 300).await.unwrap();
    rig.store().release(&over);
    let present = rig.log_in(ANNE).await;
    let taken = rig.settle(Some(&over), key("c"), "h-1", capture(300)).await;
    assert!(!taken.unwrap().is_own);
    for (session, is_own) in [(None, false), (Some(&over), false), (Some(&present), true)] {
        let again = rig.settle(session, key("c"), "h-1", capture(300)).await;
        let again = again.unwrap();
        assert_eq!((again.replayed, again.is_own), (true, is_own));
    }
    let kind = SettlementKind::Release;
    let freed = rig.settle(Some(&present), key("r"), "h-2", kind).await;
    assert!(freed.unwrap().is_own);
    rig.assert_clean().await;
}

async fn without_a_certificate_a_session_that_is_over_settles_nothing(mut rig: Rig) {
    rig.terminal = "anonymous";
    rig.open(ANNE, 1_000).await;
    let over = rig.log_in(ANNE).await;
    rig.authorize(&over, "h-1", 300).await.unwrap();
    rig.store().release(&over);
    let refused = rig.settle(Some(&over), key("c"), "h-1", capture(300)).await;
    assert_eq!(refused, Err(Refusal::NoHold));
    let present = rig.log_in(ANNE).await;
    let taken = rig
        .settle(Some(&present), key("c"), "h-1", capture(300))
        .await;
    assert!(taken.unwrap().is_own);
    rig.assert_clean().await;
}
