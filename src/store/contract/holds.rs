//! Holds: set aside, captured, released, expired, captured late.

use super::rig::*;
use crate::domain::hold::LATE_CAPTURE_MS;
use crate::domain::{EntryKind, Refusal};
use crate::store::{Act, Claim, Done, OrderKind, SWEEP_ROWS_MAX, SettlementKind, StoreError};

super::on_every_store! {
    a_hold_sets_money_aside_and_is_no_entry
    a_capture_posts_the_whole_or_a_part_and_frees_the_rest
    a_capture_over_its_hold_or_of_nothing_is_refused_and_leaves_it_open
    a_release_frees_the_money_and_what_the_day_had_used
    a_settled_hold_answers_its_own_key_again_and_no_other
    a_settlement_key_of_another_request_is_refused
    only_the_terminal_that_made_a_hold_settles_it
    without_a_certificate_the_holds_account_must_be_claimed
    a_key_given_to_a_hold_is_the_accounts_of_the_hold
    an_unknown_hold_comes_before_a_used_key
    an_authorize_replayed_says_what_is_left_of_its_hold
    an_expired_hold_frees_its_money_and_its_days_limit
    a_late_capture_posts_whatever_the_balance_and_says_so
    a_late_capture_counts_for_the_day_of_its_authorize
    a_late_capture_is_never_refused_for_limits_or_a_lock
    thirty_days_after_it_expired_a_hold_is_gone
    an_expired_hold_may_be_released_once_and_then_not_captured
    a_captured_hold_counts_for_the_day_of_its_authorize
    one_sweep_frees_all_holds_that_are_due
    one_round_of_sweeping_frees_a_bounded_number_of_holds_even_of_one_account
    logging_out_does_not_end_a_hold
    two_holds_of_one_name_are_a_broken_ledger_and_move_nothing
    keys_of_settlements_are_forgotten_and_the_hold_stays_settled
}

async fn anne(rig: &Rig) -> Claim {
    rig.open(ANNE, 1_000).await;
    rig.log_in(ANNE).await
}

async fn balances(rig: &Rig, claim: &Claim) -> (i64, i64) {
    money(rig.balance(claim).await)
}

fn remaining(answer: Result<crate::store::Receipt, Refusal>) -> i64 {
    match answer {
        Err(Refusal::OverLimit { remaining, .. }) => remaining,
        other => panic!("{other:?}"),
    }
}

async fn a_hold_sets_money_aside_and_is_no_entry(rig: Rig) {
    let anne = anne(&rig).await;
    let made = rig.authorize(&anne, "h-1", 300).await.unwrap();
    assert_eq!(made.hold, Some((hold_name("h-1"), 120_000)));
    assert_eq!((made.entry, made.late, made.replayed), (None, false, false));
    assert_eq!(money(made.balances), (1_000, 700));
    assert_eq!(balances(&rig, &anne).await, (1_000, 700));
    assert_eq!(rig.history(&anne, 10, None).await.len(), 1);
    assert_eq!(
        rig.withdraw(&anne, 701).await,
        Err(Refusal::InsufficientFunds)
    );
    let report = rig.show(ANNE).await;
    assert_eq!((report.balance, report.available), (1_000, 700));
    assert_eq!(rig.verify(None).await.open_holds, 1);
    rig.assert_clean().await;
}

async fn a_capture_posts_the_whole_or_a_part_and_frees_the_rest(mut rig: Rig) {
    rig.terms.daily_withdrawal_limit = 900;
    let anne = anne(&rig).await;
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    rig.authorize(&anne, "h-2", 300).await.unwrap();
    let whole = rig.capture("h-1", 300).await.unwrap();
    assert_eq!(money(whole.balances), (700, 400));
    assert_eq!(
        (whole.entry, whole.late, whole.hold),
        (Some(2), false, None)
    );
    assert_eq!(whole.account, number(ANNE));
    let part = rig.capture("h-2", 100).await.unwrap();
    assert_eq!(money(part.balances), (600, 600));
    // 300 and 100 were used: what was not dispensed counts nothing.
    assert_eq!(remaining(rig.withdraw(&anne, 501).await), 500);
    let lines = rig.history(&anne, 2, None).await;
    assert_eq!(
        (lines[0].kind, lines[0].amount),
        (EntryKind::Withdrawal, -100)
    );
    rig.assert_clean().await;
}

async fn a_capture_over_its_hold_or_of_nothing_is_refused_and_leaves_it_open(rig: Rig) {
    let anne = anne(&rig).await;
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    for amount in [301, 0, -1, i64::MAX] {
        let refused = rig.settle(None, key("c"), "h-1", capture(amount)).await;
        assert_eq!(refused, Err(Refusal::InvalidAmount), "{amount}");
    }
    assert_eq!(balances(&rig, &anne).await, (1_000, 700));
    // The refused request left its key free.
    assert!(
        rig.settle(None, key("c"), "h-1", capture(300))
            .await
            .is_ok()
    );
    rig.assert_clean().await;
}

async fn a_release_frees_the_money_and_what_the_day_had_used(mut rig: Rig) {
    rig.terms.daily_withdrawal_limit = 500;
    let anne = anne(&rig).await;
    rig.authorize(&anne, "h-1", 500).await.unwrap();
    assert_eq!(remaining(rig.withdraw(&anne, 1).await), 0);
    let freed = rig.free("h-1").await.unwrap();
    assert_eq!((freed.entry, freed.late, freed.hold), (None, false, None));
    assert_eq!(money(freed.balances), (1_000, 1_000));
    assert!(rig.withdraw(&anne, 500).await.is_ok());
    rig.assert_clean().await;
}

async fn a_settled_hold_answers_its_own_key_again_and_no_other(rig: Rig) {
    let anne = anne(&rig).await;
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    rig.authorize(&anne, "h-2", 200).await.unwrap();
    let captured = rig
        .settle(None, key("c"), "h-1", capture(250))
        .await
        .unwrap();
    let released = rig
        .settle(None, key("r"), "h-2", SettlementKind::Release)
        .await
        .unwrap();
    rig.deposit(&anne, 5).await.unwrap();
    let again = rig
        .settle(None, key("c"), "h-1", capture(250))
        .await
        .unwrap();
    assert!(again.replayed && !captured.replayed);
    assert_eq!(
        (again.entry, again.balances, again.hold),
        (captured.entry, captured.balances, None)
    );
    let again = rig
        .settle(None, key("r"), "h-2", SettlementKind::Release)
        .await
        .unwrap();
    assert!(again.replayed);
    assert_eq!(
        (again.entry, again.balances, again.hold),
        (None, released.balances, None)
    );
    for hold in ["h-1", "h-2"] {
        assert_eq!(rig.capture(hold, 1).await, Err(Refusal::NoHold));
        assert_eq!(rig.free(hold).await, Err(Refusal::NoHold));
    }
    assert_eq!(balances(&rig, &anne).await, (755, 755));
    rig.assert_clean().await;
}

async fn a_settlement_key_of_another_request_is_refused(rig: Rig) {
    let anne = anne(&rig).await;
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    rig.authorize(&anne, "h-2", 200).await.unwrap();
    rig.order(&anne, key("d"), 5, OrderKind::Deposit)
        .await
        .unwrap();
    let refused = rig.settle(None, key("d"), "h-1", capture(300)).await;
    assert_eq!(refused, Err(Refusal::KeyReused));
    // A used key is told before a wrong amount.
    let refused = rig.settle(None, key("d"), "h-1", capture(301)).await;
    assert_eq!(refused, Err(Refusal::KeyReused));
    rig.settle(None, key("c"), "h-1", capture(300))
        .await
        .unwrap();
    for (hold, kind) in [
        ("h-1", capture(299)),
        ("h-1", SettlementKind::Release),
        ("h-2", capture(300)),
        ("h-2", SettlementKind::Release),
    ] {
        let refused = rig.settle(None, key("c"), hold, kind).await;
        assert_eq!(refused, Err(Refusal::KeyReused), "{hold} {kind:?}");
    }
    let refused = rig.order(&anne, key("c"), 300, OrderKind::Withdraw).await;
    assert_eq!(refused, Err(Refusal::KeyReused));
    assert_eq!(balances(&rig, &anne).await, (705, 505));
    rig.assert_clean().await;
}

async fn only_the_terminal_that_made_a_hold_settles_it(mut rig: Rig) {
    let anne = anne(&rig).await;
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    rig.terminal = "t-2";
    for claim in [None, Some(&anne)] {
        let refused = rig.settle(claim, key("c"), "h-1", capture(300)).await;
        assert_eq!(refused, Err(Refusal::NoHold));
    }
    rig.terminal = "t-1";
    let bert = {
        rig.open(BERT, 0).await;
        rig.log_in(BERT).await
    };
    // Whoever is logged in.
    assert!(
        rig.settle(Some(&bert), key("c"), "h-1", capture(300))
            .await
            .is_ok()
    );
    rig.terminal = "t-2";
    let refused = rig.settle(None, key("c"), "h-1", capture(300)).await;
    assert_eq!(refused, Err(Refusal::NoHold));
    rig.assert_clean().await;
}

async fn without_a_certificate_the_holds_account_must_be_claimed(mut rig: Rig) {
    rig.terminal = "anonymous";
    let anne = anne(&rig).await;
    rig.open(BERT, 0).await;
    let bert = rig.log_in(BERT).await;
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    for claim in [None, Some(&bert)] {
        let refused = rig.settle(claim, key("c"), "h-1", capture(300)).await;
        assert_eq!(refused, Err(Refusal::NoHold));
    }
    assert!(
        rig.settle(Some(&anne), key("c"), "h-1", capture(300))
            .await
            .is_ok()
    );
    let refused = rig.settle(None, key("c"), "h-1", capture(300)).await;
    assert_eq!(refused, Err(Refusal::NoHold));
    let again = rig.settle(Some(&anne), key("c"), "h-1", capture(300)).await;
    assert!(again.unwrap().replayed);
    rig.assert_clean().await;
}

async fn a_key_given_to_a_hold_is_the_accounts_of_the_hold(rig: Rig) {
    let anne = anne(&rig).await;
    rig.open(BERT, 100).await;
    let bert = rig.log_in(BERT).await;
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    rig.order(&bert, key("a"), 5, OrderKind::Deposit)
        .await
        .unwrap();
    // Bert's key does not stand in the way of Anne's hold, even while Bert is logged in.
    let captured = rig.settle(Some(&bert), key("a"), "h-1", capture(300)).await;
    assert_eq!(captured.unwrap().account, number(ANNE));
    let his = rig.order(&bert, key("a"), 5, OrderKind::Deposit).await;
    assert!(his.unwrap().replayed);
    rig.assert_clean().await;
}

async fn an_unknown_hold_comes_before_a_used_key(rig: Rig) {
    let anne = anne(&rig).await;
    rig.order(&anne, key("a"), 5, OrderKind::Deposit)
        .await
        .unwrap();
    let refused = rig.settle(Some(&anne), key("a"), "nope", capture(0)).await;
    assert_eq!(refused, Err(Refusal::NoHold));
}

async fn an_authorize_replayed_says_what_is_left_of_its_hold(rig: Rig) {
    let anne = anne(&rig).await;
    for (index, left_ms) in [(0, 119_999), (1, 0), (2, 0), (3, 0)] {
        let name = format!("h-{index}");
        let other = hold_name(&format!("other-{index}"));
        let first = OrderKind::Authorize(hold_name(&name));
        let first = rig.order(&anne, key(&name), 100, first).await.unwrap();
        rig.advance(1);
        match index {
            0 => {}
            1 => drop(rig.capture(&name, 60).await.unwrap()),
            2 => drop(rig.free(&name).await.unwrap()),
            _ => rig.advance(120_000),
        }
        // The name is the bank's choice: the same request again asks under a new one.
        let kind = OrderKind::Authorize(other);
        let again = rig.order(&anne, key(&name), 100, kind).await.unwrap();
        assert_eq!(again.hold, Some((hold_name(&name), left_ms)), "{index}");
        assert_eq!((again.replayed, again.balances), (true, first.balances));
    }
    rig.assert_clean().await;
}

async fn an_expired_hold_frees_its_money_and_its_days_limit(mut rig: Rig) {
    rig.terms.daily_withdrawal_limit = 500;
    let anne = anne(&rig).await;
    rig.authorize(&anne, "h-1", 500).await.unwrap();
    rig.advance(119_999);
    assert_eq!(balances(&rig, &anne).await, (1_000, 500));
    assert_eq!(remaining(rig.withdraw(&anne, 1).await), 0);
    rig.advance(1);
    // Before any sweep has come by.
    assert_eq!(balances(&rig, &anne).await, (1_000, 1_000));
    assert_eq!(rig.show(ANNE).await.available, 1_000);
    let taken = rig.withdraw(&anne, 500).await.unwrap();
    assert_eq!(money(taken.balances), (500, 500));
    rig.assert_clean().await;
}

async fn a_late_capture_posts_whatever_the_balance_and_says_so(rig: Rig) {
    let anne = anne(&rig).await;
    rig.authorize(&anne, "h-1", 800).await.unwrap();
    rig.advance(120_000);
    rig.transfer(&anne, NOBODY, 1).await.unwrap_err();
    rig.withdraw(&anne, 700).await.unwrap();
    let late = rig
        .settle(None, key("c"), "h-1", capture(800))
        .await
        .unwrap();
    assert_eq!((late.late, money(late.balances)), (true, (-500, -500)));
    let line = &rig.history(&anne, 1, None).await[0];
    assert_eq!(
        (line.kind, line.amount, line.balance),
        (EntryKind::LateWithdrawal, -800, -500)
    );
    assert_eq!(
        (Some(line.entry), line.terminal.as_str()),
        (late.entry, "t-1")
    );
    let again = rig
        .settle(None, key("c"), "h-1", capture(800))
        .await
        .unwrap();
    assert_eq!(
        (again.late, again.replayed, again.entry),
        (true, true, late.entry)
    );
    assert_eq!(
        rig.withdraw(&anne, 1).await,
        Err(Refusal::InsufficientFunds)
    );
    assert!(rig.deposit(&anne, 600).await.is_ok());
    let Done::Lines(lines) = rig.act(Act::LateCaptures { limit: 10 }).await else {
        panic!("no lines");
    };
    assert_eq!(lines.len(), 1);
    assert_eq!(Some(lines[0].entry), late.entry);
    rig.assert_clean().await;
}

async fn a_late_capture_counts_for_the_day_of_its_authorize(mut rig: Rig) {
    rig.terms.daily_withdrawal_limit = 500;
    let anne = anne(&rig).await;
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    rig.authorize(&anne, "h-2", 100).await.unwrap();
    rig.advance(120_000);
    rig.sweep().await;
    assert!(rig.capture("h-1", 200).await.unwrap().late);
    assert_eq!(remaining(rig.withdraw(&anne, 301).await), 300);
    // On the next day it takes nothing of that day's limit.
    rig.advance(DAY);
    rig.withdraw(&anne, 450).await.unwrap();
    assert!(rig.capture("h-2", 100).await.unwrap().late);
    assert_eq!(remaining(rig.withdraw(&anne, 51).await), 50);
    rig.assert_clean().await;
}

async fn a_late_capture_is_never_refused_for_limits_or_a_lock(mut rig: Rig) {
    let anne = anne(&rig).await;
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    rig.authorize(&anne, "h-2", 300).await.unwrap();
    rig.log_out(anne);
    rig.act(Act::Lock(number(ANNE), true)).await;
    rig.terms.withdrawal_limit = 0;
    rig.terms.daily_withdrawal_limit = 0;
    assert!(!rig.capture("h-1", 300).await.unwrap().late);
    rig.advance(120_000);
    assert!(rig.capture("h-2", 300).await.unwrap().late);
    rig.assert_clean().await;
}

async fn thirty_days_after_it_expired_a_hold_is_gone(rig: Rig) {
    let anne = anne(&rig).await;
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    rig.authorize(&anne, "h-2", 300).await.unwrap();
    rig.authorize(&anne, "h-3", 300).await.unwrap();
    rig.advance(120_000 + i64::try_from(LATE_CAPTURE_MS).unwrap() - 1);
    let late = rig
        .settle(None, key("c"), "h-1", capture(300))
        .await
        .unwrap();
    assert!(late.late);
    rig.advance(1);
    assert_eq!(rig.capture("h-2", 300).await, Err(Refusal::NoHold));
    assert_eq!(rig.free("h-3").await, Err(Refusal::NoHold));
    // What was captured in time still answers its key.
    let again = rig.settle(None, key("c"), "h-1", capture(300)).await;
    assert!(again.unwrap().replayed);
    rig.assert_clean().await;
}

async fn an_expired_hold_may_be_released_once_and_then_not_captured(rig: Rig) {
    let anne = anne(&rig).await;
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    rig.advance(120_000);
    let freed = rig.free("h-1").await.unwrap();
    assert_eq!((freed.late, money(freed.balances)), (false, (1_000, 1_000)));
    assert_eq!(rig.capture("h-1", 300).await, Err(Refusal::NoHold));
    assert_eq!(balances(&rig, &anne).await, (1_000, 1_000));
    rig.assert_clean().await;
}

async fn a_captured_hold_counts_for_the_day_of_its_authorize(mut rig: Rig) {
    rig.terms.daily_withdrawal_limit = 500;
    let anne = anne(&rig).await;
    rig.advance(12 * HOUR - 1);
    rig.authorize(&anne, "h-1", 500).await.unwrap();
    rig.advance(1);
    assert!(!rig.capture("h-1", 500).await.unwrap().late);
    assert!(rig.withdraw(&anne, 500).await.is_ok());
    assert_eq!(balances(&rig, &anne).await, (0, 0));
    rig.assert_clean().await;
}

async fn one_sweep_frees_all_holds_that_are_due(rig: Rig) {
    let anne = anne(&rig).await;
    rig.open(BERT, 1_000).await;
    let bert = rig.log_in(BERT).await;
    rig.authorize(&anne, "h-1", 100).await.unwrap();
    rig.authorize(&anne, "h-2", 100).await.unwrap();
    rig.authorize(&bert, "h-3", 100).await.unwrap();
    rig.advance(1);
    rig.authorize(&bert, "h-4", 100).await.unwrap();
    rig.advance(119_999);
    assert_eq!(rig.sweep().await.holds, 3);
    assert_eq!(rig.verify(None).await.open_holds, 1);
    assert_eq!(rig.sweep().await.holds, 0);
    rig.advance(1);
    assert_eq!(rig.sweep().await.holds, 1);
    assert_eq!(rig.verify(None).await.open_holds, 0);
    rig.assert_clean().await;
}

async fn one_round_of_sweeping_frees_a_bounded_number_of_holds_even_of_one_account(rig: Rig) {
    let anne = anne(&rig).await;
    for number in 0..SWEEP_ROWS_MAX + 3 {
        let name = format!("h-{number}");
        rig.authorize(&anne, &name, 1).await.unwrap();
    }
    rig.advance(120_000);
    assert_eq!(rig.sweep().await.holds, SWEEP_ROWS_MAX);
    // What no round has come to yet is free all the same.
    assert_eq!(balances(&rig, &anne).await, (1_000, 1_000));
    assert_eq!(rig.verify(None).await.faults, Vec::<String>::new());
    assert_eq!(rig.sweep().await.holds, 3);
    assert_eq!(rig.verify(None).await.open_holds, 0);
    rig.assert_clean().await;
}

async fn logging_out_does_not_end_a_hold(rig: Rig) {
    let first = anne(&rig).await;
    rig.authorize(&first, "h-1", 300).await.unwrap();
    rig.log_out(first);
    let seated = rig.seat(ANNE, PIN).await;
    assert_eq!(money(seated.balances), (1_000, 700));
    assert!(rig.capture("h-1", 300).await.is_ok());
    rig.assert_clean().await;
}

async fn two_holds_of_one_name_are_a_broken_ledger_and_move_nothing(rig: Rig) {
    let anne = anne(&rig).await;
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    let order = crate::store::Order {
        key: key("a"),
        amount: crate::domain::RequestedAmount(1),
        kind: OrderKind::Authorize(hold_name("h-1")),
    };
    let broken = rig.store().order(&anne, order, rig.context()).await;
    assert!(matches!(broken, Err(StoreError::Broken(_))), "{broken:?}");
    assert_eq!(balances(&rig, &anne).await, (1_000, 700));
    let free = rig.order(&anne, key("a"), 1, OrderKind::Deposit).await;
    assert!(!free.unwrap().replayed);
    rig.assert_clean().await;
}

async fn keys_of_settlements_are_forgotten_and_the_hold_stays_settled(rig: Rig) {
    let anne = anne(&rig).await;
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    rig.settle(None, key("c"), "h-1", capture(300))
        .await
        .unwrap();
    rig.advance(32 * DAY);
    assert_eq!(rig.sweep().await.keys, 2);
    let refused = rig.settle(None, key("c"), "h-1", capture(300)).await;
    assert_eq!(refused, Err(Refusal::NoHold));
    // Numbers of kept answers may be given again; no other answer passes for the hold's.
    rig.order(&anne, key("d"), 1, OrderKind::Deposit)
        .await
        .unwrap();
    rig.order(&anne, key("c"), 1, OrderKind::Deposit)
        .await
        .unwrap();
    for text in ["c", "d"] {
        let refused = rig.settle(None, key(text), "h-1", capture(300)).await;
        assert_eq!(refused, Err(Refusal::NoHold));
    }
    rig.assert_clean().await;
}
