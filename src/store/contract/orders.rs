//! Orders: deposit, withdraw, transfer; limits; keys.

use super::rig::*;
use crate::domain::money::{AMOUNT_MAX, BALANCE_MAX};
use crate::domain::{EntryKind, Refusal};
use crate::store::{Act, Done, OrderKind, StoreError};

super::on_every_store! {
    a_deposit_a_withdrawal_and_a_transfer_move_what_they_say
    amounts_are_1_to_a_million_million
    refusals_are_judged_in_the_order_of_their_codes
    no_balance_passes_the_largest_one
    cash_that_a_terminal_cannot_count_is_refused_and_moves_nothing
    a_transfer_is_refused_where_nobody_can_take_it
    the_single_limit_is_looked_at_before_the_days
    an_accounts_own_limits_take_the_place_of_the_banks
    the_days_limit_begins_again_at_midnight_utc
    transfers_and_deposits_count_nothing_for_the_day
    a_clock_set_back_over_midnight_brings_no_limit_back
    the_same_key_gives_the_first_answer_and_moves_no_money
    a_key_of_another_request_is_refused
    a_refused_request_leaves_its_key_free
    keys_are_the_accounts_own
    a_key_is_looked_at_before_amount_funds_and_limits
    a_replay_goes_on_at_another_terminal_and_another_session
    a_closed_account_takes_no_more_orders
    keys_are_forgotten_after_31_days_and_not_before
    one_round_of_sweeping_touches_a_bounded_number_of_keys
}

async fn anne_and_bert(rig: &Rig) -> crate::store::Claim {
    rig.open(ANNE, 1_000).await;
    rig.open(BERT, 500).await;
    rig.log_in(ANNE).await
}

fn over(limit: i64, remaining: i64) -> Result<i64, Refusal> {
    Err(Refusal::OverLimit { limit, remaining })
}

async fn withdrawn(rig: &Rig, claim: &crate::store::Claim, amount: i64) -> Result<i64, Refusal> {
    let answer = rig.withdraw(claim, amount).await;
    answer.map(|receipt| receipt.balances.balance)
}

async fn a_deposit_a_withdrawal_and_a_transfer_move_what_they_say(rig: Rig) {
    let anne = anne_and_bert(&rig).await;
    let deposit = rig.deposit(&anne, 250).await.unwrap();
    assert_eq!(money(deposit.balances), (1_250, 1_250));
    assert_eq!((deposit.entry, deposit.replayed), (Some(3), false));
    assert_eq!((deposit.account, deposit.hold), (number(ANNE), None));
    let withdrawal = rig.withdraw(&anne, 50).await.unwrap();
    assert_eq!(
        (money(withdrawal.balances), withdrawal.entry),
        ((1_200, 1_200), Some(4))
    );
    let transfer = rig.transfer(&anne, BERT, 200).await.unwrap();
    assert_eq!(
        (money(transfer.balances), transfer.entry),
        ((1_000, 1_000), Some(5))
    );
    assert_eq!(rig.show(BERT).await.balance, 700);
    assert_eq!(money(rig.balance(&anne).await), (1_000, 1_000));
    let audit = rig.verify(None).await;
    assert_eq!((audit.entries, audit.accounts, audit.keys), (5, 2, 3));
    assert_eq!((audit.customers_total, audit.ledger_total), (1_700, 0));
    rig.assert_clean().await;
}

async fn amounts_are_1_to_a_million_million(rig: Rig) {
    let anne = anne_and_bert(&rig).await;
    for amount in [0, -1, AMOUNT_MAX + 1, i64::MIN, i64::MAX] {
        for kind in [
            OrderKind::Deposit,
            OrderKind::Withdraw,
            OrderKind::Transfer(number(BERT)),
            OrderKind::Authorize(hold_name("h-1")),
        ] {
            let refused = rig.order(&anne, rig.new_key(), amount, kind).await;
            assert_eq!(refused, Err(Refusal::InvalidAmount), "{amount}");
        }
    }
    assert!(rig.deposit(&anne, AMOUNT_MAX).await.is_ok());
    assert_eq!(
        money(rig.balance(&anne).await),
        (AMOUNT_MAX + 1_000, AMOUNT_MAX + 1_000)
    );
    rig.assert_clean().await;
}

async fn refusals_are_judged_in_the_order_of_their_codes(mut rig: Rig) {
    rig.terms.withdrawal_limit = 400;
    rig.terms.daily_withdrawal_limit = 500;
    let anne = anne_and_bert(&rig).await;
    assert_eq!(
        rig.withdraw(&anne, 1_001).await,
        Err(Refusal::InsufficientFunds)
    );
    assert_eq!(withdrawn(&rig, &anne, 1_000).await, over(400, 400));
    assert_eq!(
        rig.transfer(&anne, NOBODY, 0).await,
        Err(Refusal::InvalidAmount)
    );
    assert_eq!(
        rig.transfer(&anne, NOBODY, 1_001).await,
        Err(Refusal::InsufficientFunds)
    );
    assert_eq!(
        rig.transfer(&anne, NOBODY, 1_000).await,
        Err(Refusal::NoCounterparty)
    );
    assert_eq!(
        rig.authorize(&anne, "h-1", 1_001).await,
        Err(Refusal::InsufficientFunds)
    );
    assert!(rig.authorize(&anne, "h-1", 400).await.is_ok());
    assert_eq!(
        rig.authorize(&anne, "h-2", 601).await,
        Err(Refusal::InsufficientFunds)
    );
    assert_eq!(withdrawn(&rig, &anne, 101).await, over(500, 100));
    assert_eq!(money(rig.balance(&anne).await), (1_000, 600));
    rig.assert_clean().await;
}

async fn no_balance_passes_the_largest_one(rig: Rig) {
    rig.open(ANNE, BALANCE_MAX - 10).await;
    rig.open(BERT, 500).await;
    let (anne, bert) = (rig.log_in(ANNE).await, rig.log_in(BERT).await);
    assert_eq!(rig.deposit(&anne, 11).await, Err(Refusal::InvalidAmount));
    assert_eq!(
        rig.transfer(&bert, ANNE, 11).await,
        Err(Refusal::NoCounterparty)
    );
    assert!(rig.transfer(&bert, ANNE, 10).await.is_ok());
    assert_eq!(rig.deposit(&anne, 1).await, Err(Refusal::InvalidAmount));
    assert_eq!(rig.show(ANNE).await.balance, BALANCE_MAX);
    rig.assert_clean().await;
}

async fn cash_that_a_terminal_cannot_count_is_refused_and_moves_nothing(mut rig: Rig) {
    rig.open(ANNE, 1_000).await;
    let anne = rig.log_in(ANNE).await;
    rig.deposit(&anne, 100).await.unwrap();
    rig.log_out(anne);

    rig.set_cash(10 - i64::MAX);
    let anne = rig.log_in(ANNE).await;
    let refused = rig.deposit(&anne, 11).await;
    assert_eq!(refused, Err(Refusal::InvalidAmount));
    assert_eq!(money(rig.balance(&anne).await), (1_100, 1_100));
    let deposit = rig.deposit(&anne, 10).await.unwrap();
    assert_eq!(money(deposit.balances), (1_110, 1_110));
    rig.authorize(&anne, "h-1", 200).await.unwrap();
    rig.log_out(anne);

    rig.set_cash(i64::MAX - 10);
    let anne = rig.log_in(ANNE).await;
    assert_eq!(
        withdrawn(&rig, &anne, 11).await,
        Err(Refusal::InvalidAmount)
    );
    assert_eq!(rig.capture("h-1", 11).await, Err(Refusal::InvalidAmount));
    assert_eq!(money(rig.balance(&anne).await), (1_110, 910));
    assert_eq!(withdrawn(&rig, &anne, 10).await, Ok(1_100));
    rig.log_out(anne);

    // The refused capture left the hold open.
    rig.set_cash(0);
    let captured = rig.capture("h-1", 50).await.unwrap();
    assert_eq!(money(captured.balances), (1_050, 1_050));
}

async fn a_transfer_is_refused_where_nobody_can_take_it(rig: Rig) {
    let anne = anne_and_bert(&rig).await;
    for nobody in [NOBODY, ANNE] {
        assert_eq!(
            rig.transfer(&anne, nobody, 1).await,
            Err(Refusal::NoCounterparty)
        );
    }
    rig.open("zz-00003", 0).await;
    rig.act(Act::Close(number("zz-00003"))).await;
    assert_eq!(
        rig.transfer(&anne, "zz-00003", 1).await,
        Err(Refusal::NoCounterparty)
    );
    rig.act(Act::Lock(number(BERT), true)).await;
    assert!(rig.transfer(&anne, BERT, 1).await.is_ok());
    rig.assert_clean().await;
}

async fn the_single_limit_is_looked_at_before_the_days(mut rig: Rig) {
    rig.terms.withdrawal_limit = 300;
    rig.terms.daily_withdrawal_limit = 500;
    let anne = anne_and_bert(&rig).await;
    assert_eq!(withdrawn(&rig, &anne, 300).await, Ok(700));
    assert_eq!(withdrawn(&rig, &anne, 301).await, over(300, 300));
    assert_eq!(withdrawn(&rig, &anne, 201).await, over(500, 200));
    assert_eq!(withdrawn(&rig, &anne, 200).await, Ok(500));
    assert_eq!(withdrawn(&rig, &anne, 1).await, over(500, 0));
    // The bank's limits may be lowered below what a day has used.
    rig.terms.daily_withdrawal_limit = 400;
    assert_eq!(withdrawn(&rig, &anne, 1).await, over(400, 0));
    rig.assert_clean().await;
}

async fn an_accounts_own_limits_take_the_place_of_the_banks(rig: Rig) {
    let anne = anne_and_bert(&rig).await;
    let limit = |withdrawal, daily| Act::Limit {
        number: number(ANNE),
        withdrawal,
        daily,
    };
    rig.act(limit(Some(100), Some(150))).await;
    assert_eq!(withdrawn(&rig, &anne, 101).await, over(100, 100));
    assert_eq!(withdrawn(&rig, &anne, 100).await, Ok(900));
    assert_eq!(withdrawn(&rig, &anne, 51).await, over(150, 50));
    let report = rig.show(ANNE).await;
    assert_eq!(
        (report.withdrawal_limit, report.daily_withdrawal_limit),
        (Some(100), Some(150))
    );
    rig.act(limit(Some(0), None)).await;
    assert_eq!(withdrawn(&rig, &anne, 1).await, over(0, 0));
    rig.act(limit(None, None)).await;
    assert_eq!(withdrawn(&rig, &anne, 900).await, Ok(0));
    for (withdrawal, daily) in [(Some(-1), None), (None, Some(-1))] {
        let refused = rig.act(limit(withdrawal, daily)).await;
        assert!(matches!(refused, Done::Refused(_)), "{refused:?}");
    }
    assert_eq!(rig.show(ANNE).await.withdrawal_limit, None);
}

async fn the_days_limit_begins_again_at_midnight_utc(mut rig: Rig) {
    rig.terms.daily_withdrawal_limit = 300;
    let anne = anne_and_bert(&rig).await;
    rig.advance(12 * HOUR - 1);
    assert_eq!(withdrawn(&rig, &anne, 300).await, Ok(700));
    assert_eq!(withdrawn(&rig, &anne, 1).await, over(300, 0));
    rig.advance(1);
    assert_eq!(withdrawn(&rig, &anne, 200).await, Ok(500));
    assert_eq!(withdrawn(&rig, &anne, 101).await, over(300, 100));
    rig.advance(DAY - 1);
    assert_eq!(withdrawn(&rig, &anne, 101).await, over(300, 100));
    rig.assert_clean().await;
}

async fn transfers_and_deposits_count_nothing_for_the_day(mut rig: Rig) {
    rig.terms.daily_withdrawal_limit = 300;
    let anne = anne_and_bert(&rig).await;
    let bert = rig.log_in(BERT).await;
    rig.transfer(&anne, BERT, 900).await.unwrap();
    rig.transfer(&bert, ANNE, 900).await.unwrap();
    rig.deposit(&anne, 100).await.unwrap();
    assert_eq!(withdrawn(&rig, &anne, 300).await, Ok(800));
    assert_eq!(withdrawn(&rig, &bert, 300).await, Ok(200));
    rig.assert_clean().await;
}

async fn a_clock_set_back_over_midnight_brings_no_limit_back(mut rig: Rig) {
    rig.terms.daily_withdrawal_limit = 300;
    let anne = anne_and_bert(&rig).await;
    rig.advance(12 * HOUR);
    assert_eq!(withdrawn(&rig, &anne, 200).await, Ok(800));
    rig.advance(-SECOND);
    assert_eq!(withdrawn(&rig, &anne, 101).await, over(300, 100));
    assert_eq!(withdrawn(&rig, &anne, 50).await, Ok(750));
    rig.authorize(&anne, "h-1", 50).await.unwrap();
    assert_eq!(withdrawn(&rig, &anne, 1).await, over(300, 0));
    rig.assert_clean().await;
    rig.free("h-1").await.unwrap();
    assert_eq!(withdrawn(&rig, &anne, 50).await, Ok(700));
    rig.advance(SECOND);
    assert_eq!(withdrawn(&rig, &anne, 1).await, over(300, 0));
    rig.assert_clean().await;
}

async fn the_same_key_gives_the_first_answer_and_moves_no_money(rig: Rig) {
    let anne = anne_and_bert(&rig).await;
    let kinds = [
        OrderKind::Deposit,
        OrderKind::Withdraw,
        OrderKind::Transfer(number(BERT)),
    ];
    for (index, kind) in kinds.into_iter().enumerate() {
        let same = || key(&format!("same-{index}"));
        let first = rig.order(&anne, same(), 10, kind.clone()).await.unwrap();
        rig.deposit(&anne, 1).await.unwrap();
        let before = rig.balance(&anne).await;
        let again = rig.order(&anne, same(), 10, kind).await.unwrap();
        assert!(again.replayed && !first.replayed);
        assert_eq!((again.entry, again.balances), (first.entry, first.balances));
        assert_eq!((again.late, again.hold), (false, None));
        assert_eq!(rig.balance(&anne).await, before);
    }
    rig.assert_clean().await;
}

async fn a_key_of_another_request_is_refused(rig: Rig) {
    let anne = anne_and_bert(&rig).await;
    rig.open("zz-00003", 0).await;
    let kind = OrderKind::Transfer(number(BERT));
    rig.order(&anne, key("a"), 10, kind.clone()).await.unwrap();
    for (amount, kind) in [
        (11, kind),
        (10, OrderKind::Transfer(number("zz-00003"))),
        (10, OrderKind::Deposit),
        (10, OrderKind::Withdraw),
        (10, OrderKind::Authorize(hold_name("h-1"))),
    ] {
        let refused = rig.order(&anne, key("a"), amount, kind).await;
        assert_eq!(refused, Err(Refusal::KeyReused));
    }
    assert_eq!(money(rig.balance(&anne).await), (990, 990));
}

async fn a_refused_request_leaves_its_key_free(rig: Rig) {
    let anne = anne_and_bert(&rig).await;
    let refused = rig.order(&anne, key("a"), 1_001, OrderKind::Withdraw).await;
    assert_eq!(refused, Err(Refusal::InsufficientFunds));
    let taken = rig
        .order(&anne, key("a"), 1, OrderKind::Deposit)
        .await
        .unwrap();
    assert!(!taken.replayed);
    rig.assert_clean().await;
}

async fn keys_are_the_accounts_own(rig: Rig) {
    let anne = anne_and_bert(&rig).await;
    let bert = rig.log_in(BERT).await;
    let hers = rig
        .order(&anne, key("a"), 10, OrderKind::Deposit)
        .await
        .unwrap();
    let his = rig
        .order(&bert, key("a"), 20, OrderKind::Withdraw)
        .await
        .unwrap();
    assert!(!hers.replayed && !his.replayed);
    let again = rig
        .order(&bert, key("a"), 20, OrderKind::Withdraw)
        .await
        .unwrap();
    assert_eq!((again.entry, again.replayed), (his.entry, true));
    rig.assert_clean().await;
}

async fn a_key_is_looked_at_before_amount_funds_and_limits(rig: Rig) {
    let anne = anne_and_bert(&rig).await;
    rig.order(&anne, key("a"), 1_000, OrderKind::Withdraw)
        .await
        .unwrap();
    for amount in [0, -5, 5_000, AMOUNT_MAX + 1] {
        let refused = rig
            .order(&anne, key("a"), amount, OrderKind::Withdraw)
            .await;
        assert_eq!(refused, Err(Refusal::KeyReused), "{amount}");
    }
    // The same request again is answered although the money for it is gone.
    let again = rig.order(&anne, key("a"), 1_000, OrderKind::Withdraw).await;
    assert!(again.unwrap().replayed);
}

async fn a_replay_goes_on_at_another_terminal_and_another_session(mut rig: Rig) {
    let anne = anne_and_bert(&rig).await;
    let first = rig
        .order(&anne, key("a"), 10, OrderKind::Deposit)
        .await
        .unwrap();
    rig.log_out(anne);
    rig.terminal = "t-2";
    rig.advance(30 * DAY);
    rig.sweep().await;
    let anne = rig.log_in(ANNE).await;
    let again = rig
        .order(&anne, key("a"), 10, OrderKind::Deposit)
        .await
        .unwrap();
    assert_eq!((again.entry, again.replayed), (first.entry, true));
}

async fn a_closed_account_takes_no_more_orders(rig: Rig) {
    rig.open(ANNE, 0).await;
    let anne = rig.log_in(ANNE).await;
    assert!(matches!(rig.act(Act::Close(number(ANNE))).await, Done::Yes));
    let order = crate::store::Order {
        key: key("a"),
        amount: crate::domain::RequestedAmount(10),
        kind: OrderKind::Deposit,
    };
    let ended = rig.store().order(&anne, order, rig.context()).await;
    assert_eq!(ended.unwrap_err(), StoreError::Fenced);
    assert_eq!(rig.show(ANNE).await.balance, 0);
    rig.assert_clean().await;
}

async fn keys_are_forgotten_after_31_days_and_not_before(rig: Rig) {
    let anne = anne_and_bert(&rig).await;
    rig.order(&anne, key("a"), 10, OrderKind::Deposit)
        .await
        .unwrap();
    rig.advance(31 * DAY);
    assert_eq!(rig.sweep().await.keys, 0);
    let again = rig.order(&anne, key("a"), 10, OrderKind::Deposit).await;
    assert!(again.unwrap().replayed);
    rig.advance(1);
    assert_eq!(rig.sweep().await.keys, 1);
    assert_eq!(rig.sweep().await.keys, 0);
    let anew = rig.order(&anne, key("a"), 10, OrderKind::Deposit).await;
    assert!(!anew.unwrap().replayed);
    assert_eq!(money(rig.balance(&anne).await), (1_020, 1_020));
    rig.assert_clean().await;
}

async fn one_round_of_sweeping_touches_a_bounded_number_of_keys(rig: Rig) {
    let anne = anne_and_bert(&rig).await;
    for _ in 0..crate::store::SWEEP_ROWS_MAX + 3 {
        rig.deposit(&anne, 1).await.unwrap();
    }
    rig.advance(32 * DAY);
    assert_eq!(rig.sweep().await.keys, crate::store::SWEEP_ROWS_MAX);
    assert_eq!(rig.sweep().await.keys, 3);
    assert_eq!(rig.verify(None).await.keys, 0);
    let history = rig.history(&anne, 1, None).await;
    assert_eq!(history[0].kind, EntryKind::Deposit);
    rig.assert_clean().await;
}
