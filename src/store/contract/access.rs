//! Tries: counted before a PIN is looked at, the same for every number.

use super::rig::*;
use crate::store::{Act, Claimed, Done, PinChange, StoreError, TryCounted};

super::on_every_store! {
    three_wrong_pins_lock_a_number_for_the_lock_time_and_no_longer
    a_right_pin_forgets_the_tries_before_it
    tries_are_forgotten_the_lock_time_after_the_last_one
    without_a_lock_time_only_staff_unlock
    strangers_elsewhere_do_not_lock_a_customer_out_at_home
    wrong_pins_at_home_take_no_try_from_other_terminals
    each_budget_is_forgotten_after_its_own_last_try
    a_number_that_never_logged_in_has_one_budget_for_all_terminals
    staff_see_which_budget_is_used_up_and_free_both
    unknown_numbers_are_counted_and_locked_like_known_ones
    a_closed_account_is_met_like_an_unknown_one
    only_the_try_that_uses_the_budget_up_is_called_the_last
    a_full_table_of_tries_refuses_numbers_without_a_row_only
    a_ticket_counts_even_where_no_pin_follows
    a_right_pin_that_is_not_changed_after_all_forgets_the_tries
    a_pin_is_not_changed_on_an_account_that_staff_locked
}

async fn assert_locked(rig: &Rig, account: &str, retry_after_ms: Option<u64>) {
    let counted = rig.count_try(account).await;
    let TryCounted::LockedOut(after) = counted else {
        panic!("{counted:?}");
    };
    assert_eq!(after, retry_after_ms);
}

async fn wrong(rig: &Rig, account: &str, times: usize) {
    for _ in 0..times {
        assert!(rig.try_pin(account, WRONG_PIN).await.unwrap().is_none());
    }
}

async fn three_wrong_pins_lock_a_number_for_the_lock_time_and_no_longer(rig: Rig) {
    rig.open(ANNE, 0).await;
    wrong(&rig, ANNE, 3).await;
    assert_locked(&rig, ANNE, Some(86_400_000)).await;
    rig.advance(DAY - 1);
    assert_locked(&rig, ANNE, Some(1)).await;
    let report = rig.show(ANNE).await;
    assert_eq!((report.tries, report.locked_out), (3, true));
    rig.advance(1);
    assert!(!rig.show(ANNE).await.locked_out);
    let _ = rig.log_in(ANNE).await;
    assert_eq!(rig.show(ANNE).await.tries, 0);
}

async fn a_right_pin_forgets_the_tries_before_it(rig: Rig) {
    rig.open(ANNE, 0).await;
    for _ in 0..4 {
        wrong(&rig, ANNE, 2).await;
        let claim = rig.log_in(ANNE).await;
        rig.log_out(claim);
    }
    // Also where another session has the account.
    let _seated = rig.log_in(ANNE).await;
    for _ in 0..2 {
        wrong(&rig, ANNE, 2).await;
        let proof = rig.proof(ANNE).await;
        assert!(matches!(rig.claim_by(&proof).await, Claimed::InUse));
    }
}

async fn tries_are_forgotten_the_lock_time_after_the_last_one(rig: Rig) {
    rig.open(ANNE, 0).await;
    wrong(&rig, ANNE, 1).await;
    rig.advance(DAY - 1);
    wrong(&rig, ANNE, 1).await;
    rig.advance(DAY - 1);
    wrong(&rig, ANNE, 1).await;
    assert_locked(&rig, ANNE, Some(86_400_000)).await;
    rig.advance(DAY);
    wrong(&rig, ANNE, 2).await;
    rig.advance(DAY);
    wrong(&rig, ANNE, 3).await;
}

async fn without_a_lock_time_only_staff_unlock(mut rig: Rig) {
    rig.terms.lockout.lock_ms = 0;
    rig.open(ANNE, 0).await;
    wrong(&rig, ANNE, 2).await;
    rig.advance(DAY);
    wrong(&rig, ANNE, 3).await;
    assert_locked(&rig, ANNE, None).await;
    rig.advance(1_000 * DAY);
    assert_locked(&rig, ANNE, None).await;
    assert_eq!(rig.sweep().await.tries, 0);
    assert!(matches!(
        rig.act(Act::Lock(number(ANNE), false)).await,
        Done::Yes
    ));
    let _ = rig.log_in(ANNE).await;
}

async fn strangers_elsewhere_do_not_lock_a_customer_out_at_home(mut rig: Rig) {
    rig.open(ANNE, 0).await;
    let claim = rig.log_in(ANNE).await;
    rig.log_out(claim);
    for terminal in ["t-2", "t-3", "t-2"] {
        rig.terminal = terminal;
        wrong(&rig, ANNE, 1).await;
    }
    for terminal in ["t-2", "t-3", "anonymous"] {
        rig.terminal = terminal;
        assert_locked(&rig, ANNE, Some(86_400_000)).await;
    }
    rig.terminal = "t-1";
    wrong(&rig, ANNE, 2).await;
    let claim = rig.log_in(ANNE).await;
    rig.log_out(claim);
    // The right PIN has forgotten the whole count.
    rig.terminal = "t-3";
    wrong(&rig, ANNE, 3).await;
}

async fn wrong_pins_at_home_take_no_try_from_other_terminals(mut rig: Rig) {
    rig.open(ANNE, 0).await;
    let claim = rig.log_in(ANNE).await;
    rig.log_out(claim);
    wrong(&rig, ANNE, 3).await;
    assert_locked(&rig, ANNE, Some(86_400_000)).await;
    rig.terminal = "t-2";
    wrong(&rig, ANNE, 2).await;
    // Where the customer succeeds, there the home is from now on.
    let claim = rig.log_in(ANNE).await;
    rig.log_out(claim);
    rig.terminal = "t-1";
    wrong(&rig, ANNE, 3).await;
    assert_locked(&rig, ANNE, Some(86_400_000)).await;
    rig.terminal = "t-2";
    wrong(&rig, ANNE, 3).await;
    assert_locked(&rig, ANNE, Some(86_400_000)).await;
}

async fn each_budget_is_forgotten_after_its_own_last_try(mut rig: Rig) {
    rig.open(ANNE, 0).await;
    let claim = rig.log_in(ANNE).await;
    rig.log_out(claim);
    wrong(&rig, ANNE, 3).await;
    rig.advance(DAY / 2);
    rig.terminal = "t-2";
    wrong(&rig, ANNE, 3).await;
    assert_locked(&rig, ANNE, Some(86_400_000)).await;
    rig.advance(DAY / 2 - 1);
    rig.terminal = "t-1";
    assert_locked(&rig, ANNE, Some(1)).await;
    rig.advance(1);
    // What is left of the other budget does not count here, and a sweep leaves it.
    assert_eq!(rig.sweep().await.tries, 0);
    wrong(&rig, ANNE, 3).await;
    rig.terminal = "t-2";
    assert_locked(&rig, ANNE, Some(43_200_000)).await;
}

async fn a_number_that_never_logged_in_has_one_budget_for_all_terminals(mut rig: Rig) {
    rig.open(ANNE, 0).await;
    for terminal in ["t-1", "t-2", "t-1"] {
        rig.terminal = terminal;
        wrong(&rig, ANNE, 1).await;
    }
    for terminal in ["t-1", "t-2", "t-3"] {
        rig.terminal = terminal;
        assert_locked(&rig, ANNE, Some(86_400_000)).await;
    }
}

async fn staff_see_which_budget_is_used_up_and_free_both(mut rig: Rig) {
    rig.open(ANNE, 0).await;
    let claim = rig.log_in(ANNE).await;
    rig.log_out(claim);
    wrong(&rig, ANNE, 1).await;
    rig.terminal = "t-2";
    wrong(&rig, ANNE, 3).await;
    let shown = rig.show(ANNE).await;
    assert_eq!((shown.tries, shown.tries_at_home), (4, 1));
    assert!(shown.locked_out && shown.locked_out_elsewhere && !shown.locked_out_at_home);
    rig.terminal = "t-1";
    wrong(&rig, ANNE, 2).await;
    assert!(rig.show(ANNE).await.locked_out_at_home);
    assert!(matches!(
        rig.act(Act::Lock(number(ANNE), false)).await,
        Done::Yes
    ));
    let shown = rig.show(ANNE).await;
    assert_eq!((shown.tries, shown.locked_out), (0, false));
    for terminal in ["t-1", "t-2"] {
        rig.terminal = terminal;
        wrong(&rig, ANNE, 3).await;
    }
}

async fn unknown_numbers_are_counted_and_locked_like_known_ones(rig: Rig) {
    rig.open(ANNE, 0).await;
    for account in [ANNE, NOBODY] {
        wrong(&rig, account, 3).await;
        assert_locked(&rig, account, Some(86_400_000)).await;
    }
    assert!(matches!(
        rig.act(Act::Lock(number(NOBODY), false)).await,
        Done::Yes
    ));
    let again = rig.act(Act::Lock(number(NOBODY), false)).await;
    assert!(matches!(again, Done::NoSuchAccount));
    assert!(rig.try_pin(NOBODY, PIN).await.unwrap().is_none());
}

async fn a_closed_account_is_met_like_an_unknown_one(rig: Rig) {
    rig.open(ANNE, 0).await;
    let early = rig.proof(ANNE).await;
    assert!(matches!(rig.act(Act::Close(number(ANNE))).await, Done::Yes));
    assert!(matches!(rig.claim_by(&early).await, Claimed::Void));
    // One try was counted for the early proof.
    for _ in 0..2 {
        assert!(rig.try_pin(ANNE, PIN).await.unwrap().is_none());
    }
    assert_locked(&rig, ANNE, Some(86_400_000)).await;
    assert!(matches!(
        rig.act(Act::Lock(number(ANNE), false)).await,
        Done::Yes
    ));
    assert!(rig.try_pin(ANNE, PIN).await.unwrap().is_none());
    assert_eq!(rig.show(ANNE).await.status, "closed");
}

async fn only_the_try_that_uses_the_budget_up_is_called_the_last(rig: Rig) {
    rig.open(ANNE, 0).await;
    for account in [ANNE, NOBODY] {
        for last in [false, false, true] {
            let counted = rig.count_try(account).await;
            let TryCounted::Check(ticket) = counted else {
                panic!("{counted:?}");
            };
            assert_eq!(ticket.is_last(), last);
        }
    }
}

async fn a_full_table_of_tries_refuses_numbers_without_a_row_only(mut rig: Rig) {
    rig.terms.try_rows_max = 2;
    rig.open(ANNE, 0).await;
    wrong(&rig, ANNE, 1).await;
    wrong(&rig, NOBODY, 1).await;
    assert!(matches!(rig.count_try(BERT).await, TryCounted::TableFull));
    // Those with a row go on, and a right PIN makes room.
    wrong(&rig, NOBODY, 1).await;
    let _ = rig.log_in(ANNE).await;
    wrong(&rig, BERT, 1).await;
    assert!(matches!(rig.count_try(ANNE).await, TryCounted::TableFull));
    // So does a sweep, once they are forgotten.
    rig.advance(DAY);
    assert_eq!(rig.sweep().await.tries, 2);
    wrong(&rig, ANNE, 1).await;
}

async fn a_ticket_counts_even_where_no_pin_follows(rig: Rig) {
    rig.open(ANNE, 0).await;
    for _ in 0..3 {
        assert!(matches!(rig.count_try(ANNE).await, TryCounted::Check(_)));
    }
    assert_locked(&rig, ANNE, Some(86_400_000)).await;
}

async fn a_right_pin_that_is_not_changed_after_all_forgets_the_tries(rig: Rig) {
    rig.open(ANNE, 0).await;
    let claim = rig.log_in(ANNE).await;
    wrong(&rig, ANNE, 2).await;
    let proof = rig.proof(ANNE).await;
    let kept = rig
        .store()
        .change_pin(&claim, &proof, None, rig.context())
        .await;
    assert_eq!(kept, Ok(PinChange::Done));
    assert_eq!(rig.show(ANNE).await.tries, 0);
    wrong(&rig, ANNE, 3).await;
}

async fn a_pin_is_not_changed_on_an_account_that_staff_locked(rig: Rig) {
    rig.open(ANNE, 0).await;
    let claim = rig.log_in(ANNE).await;
    assert!(matches!(
        rig.act(Act::Lock(number(ANNE), true)).await,
        Done::Yes
    ));
    let (proof, new) = (rig.proof(ANNE).await, rig.hash("5093", CHEAP));
    let refused = rig
        .store()
        .change_pin(&claim, &proof, Some(new), rig.context())
        .await;
    assert_eq!(refused, Err(StoreError::Fenced));
    assert!(rig.try_pin(ANNE, PIN).await.unwrap().is_some());
}
