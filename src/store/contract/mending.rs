//! Mending what a wrong clock stamped: a few rows at a time, beside a bank that serves, and whole after it.

use super::clock::{
    MONTH, accept, accept_beside, begin_mending, effects, first_to_mend, mend, mend_some,
    was_a_month_ahead,
};
use super::rig::*;
use crate::domain::Timestamp;
use crate::domain::hold::LATE_CAPTURE_MS;
use crate::store::{Act, Claim, Done, TryCounted};

#[tokio::test]
async fn what_customers_do_between_the_slices_of_mending_is_brought_to_now_too() {
    let mut rig = Rig::sqlite();
    let (anne, was) = was_a_month_ahead(&mut rig).await;
    let used = 300 + 40 + 600 + 10;
    let held = std::sync::atomic::AtomicI64::new(0);
    accept_beside(&rig, was, async |call| {
        // Mending ends however fast rows come; so that this does too, they come for a while.
        if call > 8 {
            return;
        }
        // Where the account still is in a day to come, both are stamped then.
        let (open, captured) = (format!("open-{call}"), format!("captured-{call}"));
        rig.authorize(&anne, &open, 3).await.unwrap();
        rig.authorize(&anne, &captured, 4).await.unwrap();
        rig.capture(&captured, 2).await.unwrap();
        held.fetch_add(3 + 2, std::sync::atomic::Ordering::SeqCst);
    })
    .await;
    rig.assert_clean().await;
    let left = rig.terms.daily_withdrawal_limit - used - held.into_inner();
    assert!(rig.withdraw(&anne, left + 1).await.is_err());
    rig.withdraw(&anne, left).await.unwrap();
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_late_capture_between_the_slices_of_mending_counts_for_the_day_that_its_hold_came_back_to()
 {
    let mut rig = Rig::sqlite();
    rig.terms.daily_withdrawal_limit = 5_000;
    rig.open(ANNE, 100_000).await;
    let anne = rig.log_in(ANNE).await;
    rig.advance(MONTH);
    for call in 1..=8 {
        rig.authorize(&anne, &format!("late-{call}"), 3)
            .await
            .unwrap();
    }
    rig.advance(HOUR);
    rig.sweep_all().await;
    let was = rig.context().now;
    rig.advance(-MONTH);
    accept_beside(&rig, was, async |call| {
        if call <= 8 {
            rig.capture(&format!("late-{call}"), 2).await.unwrap();
        }
    })
    .await;
    rig.assert_clean().await;
    let left = rig.terms.daily_withdrawal_limit - 8 * 2;
    assert!(rig.withdraw(&anne, left + 1).await.is_err());
    rig.withdraw(&anne, left).await.unwrap();
    rig.assert_clean().await;
}

#[tokio::test]
async fn mending_that_a_crash_carried_into_a_day_that_was_taken_back_leaves_that_day_whole() {
    for calls in 0..6 {
        let mut rig = Rig::sqlite();
        rig.terms.daily_withdrawal_limit = 5_000;
        for account in [ANNE, BERT] {
            rig.open(account, 100_000).await;
        }
        let (anne, bert) = (rig.log_in(ANNE).await, rig.log_in(BERT).await);
        rig.advance(DAY);
        let was = rig.context().now;
        rig.withdraw(&anne, 100).await.unwrap();
        rig.withdraw(&bert, 90).await.unwrap();
        rig.authorize(&bert, "open", 80).await.unwrap();
        rig.authorize(&bert, "paid", 70).await.unwrap();
        rig.capture("paid", 60).await.unwrap();
        rig.advance(6 * HOUR - DAY);
        begin_mending(&rig, was).await;
        let mut cursor = Some(first_to_mend(&rig).await);
        for _ in 0..calls {
            cursor = mend_some(&rig, cursor.unwrap()).await;
        }
        // The crash; and the day comes that the withdrawals are stamped on.
        rig.advance(DAY);
        rig.withdraw(&bert, 10).await.unwrap();
        mend(&rig, was, async |_| {}).await;
        rig.assert_clean().await;
        let all = rig.terms.daily_withdrawal_limit;
        let withdrawn = rig.withdraw(&anne, all).await;
        assert!(withdrawn.is_ok(), "{calls}: {withdrawn:?}");
        assert!(rig.withdraw(&anne, 1).await.is_err(), "{calls}");
        rig.withdraw(&bert, 10).await.unwrap();
        rig.assert_clean().await;
    }
}

/// Rows of the future: of accounts, of holds, of kept answers, of tries, of codes.
async fn ahead(rig: &Rig) -> [u64; 5] {
    let found = effects(rig, rig.context().now).await;
    [
        found.days_ahead,
        found.holds_ahead,
        found.keys_ahead,
        found.tries_ahead,
        found.codes_ahead,
    ]
}

#[tokio::test]
async fn one_slice_of_mending_touches_few_rows_of_any_kind() {
    let rig = Rig::sqlite();
    let accounts: Vec<String> = (1..=7).map(|n| format!("mm-0000{n}")).collect();
    rig.open(ANNE, 1_000).await;
    for account in &accounts {
        rig.open(account, 1_000).await;
    }
    rig.advance(MONTH);
    let was = rig.context().now;
    for (index, account) in accounts.iter().enumerate() {
        let claim = rig.log_in(account).await;
        rig.withdraw(&claim, 5).await.unwrap();
        let hold = format!("hold-{index}");
        rig.authorize(&claim, &hold, 5).await.unwrap();
        rig.free(&hold).await.unwrap();
        let tried = rig.count_try(account).await;
        assert!(matches!(tried, TryCounted::Check(_)), "{tried:?}");
        let code = Act::Invite {
            name: format!("new-{index}").parse().unwrap(),
            code: crate::store::CodeHash([u8::try_from(index).unwrap(); 32]),
            expires_at: was.plus_ms(1_000),
        };
        assert!(matches!(rig.act(code).await, Done::Yes));
    }
    rig.advance(-MONTH);
    let before = tokio::sync::Mutex::new(ahead(&rig).await);
    assert_eq!(*before.lock().await, [7, 7, 21, 7, 7]);
    accept_beside(&rig, was, async |call| {
        let (mut before, now) = (before.lock().await, ahead(&rig).await);
        for (was, now) in before.iter().zip(now) {
            assert!(was - now <= 3, "call {call}: {before:?}, then {now:?}");
        }
        assert!(before[0] - now[0] <= 1, "call {call}: {before:?}, {now:?}");
        *before = now;
    })
    .await;
    assert_eq!(before.into_inner(), [0; 5]);
    rig.assert_clean().await;
}

/// Anne on a day to come with more holds of all kinds than one call mends: open, captured, expired. What
/// they are once they are of today: 7 open ones and 7 captured ones count.
async fn had_many_holds_ahead(rig: &mut Rig) -> (Claim, Timestamp) {
    rig.terms.daily_withdrawal_limit = 5_000;
    rig.open(ANNE, 100_000).await;
    let anne = rig.log_in(ANNE).await;
    rig.advance(MONTH);
    for index in 0..7 {
        rig.authorize(&anne, &format!("late-{index}"), 3)
            .await
            .unwrap();
    }
    rig.advance(HOUR);
    rig.sweep_all().await;
    for index in 0..7 {
        let (open, paid) = (format!("open-{index}"), format!("paid-{index}"));
        rig.authorize(&anne, &open, 11).await.unwrap();
        rig.authorize(&anne, &paid, 13).await.unwrap();
        rig.capture(&paid, 12).await.unwrap();
    }
    let was = rig.context().now;
    rig.advance(-MONTH);
    (anne, was)
}

#[tokio::test]
async fn an_account_with_more_holds_than_one_call_mends_is_brought_to_now_by_several() {
    let mut rig = Rig::sqlite();
    let (anne, was) = had_many_holds_ahead(&mut rig).await;
    let before = std::sync::atomic::AtomicU64::new(ahead(&rig).await[1]);
    let calls = accept_beside(&rig, was, async |call| {
        let order = std::sync::atomic::Ordering::SeqCst;
        let now = ahead(&rig).await[1];
        let was = before.load(order);
        assert!(was - now <= 3, "call {call}: {was}, then {now}");
        // Whether the hold was brought to now or not: the account is of one day, its holds of two.
        match call {
            2 => drop(rig.free("open-0").await.unwrap()),
            3 => drop(rig.capture("open-6", 4).await.unwrap()),
            4 => drop(rig.capture("late-3", 2).await.unwrap()),
            _ => {}
        }
        before.store(ahead(&rig).await[1], order);
    })
    .await;
    assert!(calls > 7, "{calls}");
    assert_eq!(ahead(&rig).await, [0; 5]);
    rig.assert_clean().await;
    let used = 5 * 11 + 4 + 2 + 7 * 12;
    let left = rig.terms.daily_withdrawal_limit - used;
    assert!(rig.withdraw(&anne, left + 1).await.is_err());
    rig.withdraw(&anne, left).await.unwrap();
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_crash_between_calls_that_mend_one_account_leaves_its_day_whole_whenever_mending_goes_on()
{
    for (calls, away) in (0..10).flat_map(|calls| [0, DAY, MONTH].map(|away| (calls, away))) {
        let mut rig = Rig::sqlite();
        let (anne, was) = had_many_holds_ahead(&mut rig).await;
        begin_mending(&rig, was).await;
        // Of the day to come, and not acknowledged with what was before.
        rig.withdraw(&anne, 20).await.unwrap();
        let mut cursor = Some(first_to_mend(&rig).await);
        for _ in 0..calls {
            cursor = mend_some(&rig, cursor.unwrap()).await;
        }
        rig.advance(away);
        if calls % 2 == 0 {
            let _ = rig.capture("open-3", 5).await;
            rig.withdraw(&anne, 10).await.unwrap();
        }
        mend(&rig, was, async |_| {}).await;
        rig.withdraw(&anne, 10).await.unwrap();
        assert_eq!(ahead(&rig).await, [0; 5], "{calls}, {away}");
        let faults = rig.verify(None).await.faults;
        assert_eq!(faults, Vec::<String>::new(), "{calls}, {away}");
    }
}

#[tokio::test]
async fn mending_an_account_reads_no_captured_hold_of_another_day() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 100_000).await;
    let anne = rig.log_in(ANNE).await;
    rig.authorize(&anne, "h-1", 50).await.unwrap();
    rig.capture("h-1", 50).await.unwrap();
    rig.advance(3 * DAY);
    rig.authorize(&anne, "h-2", 60).await.unwrap();
    rig.capture("h-2", 60).await.unwrap();
    rig.advance(MONTH);
    rig.withdraw(&anne, 70).await.unwrap();
    let was = rig.context().now;
    rig.advance(-MONTH);
    rig.shut_store();
    // Whoever reads it finds no entry's number in it.
    super::sqlite::tamper(
        &rig.path(),
        "UPDATE hold SET entry = NULL WHERE name = 'h-1'",
    );
    rig.open_store();
    accept(&rig, was).await;
    assert_eq!(ahead(&rig).await, [0; 5]);
}

#[tokio::test]
async fn mending_does_not_look_where_rows_stood_that_are_forgotten() {
    let rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    let anne = rig.log_in(ANNE).await;
    for index in 0..60 {
        let hold = format!("hold-{index}");
        rig.authorize(&anne, &hold, 5).await.unwrap();
        rig.free(&hold).await.unwrap();
    }
    rig.advance(3 * MONTH);
    rig.deposit(&anne, 1).await.unwrap();
    rig.authorize(&anne, "last", 5).await.unwrap();
    rig.sweep_all().await;
    let now = rig.context().now;
    assert!(accept(&rig, now).await < 12, "each part ends at once");
    rig.assert_clean().await;
}

#[tokio::test]
async fn what_was_done_in_days_that_staff_took_back_is_no_use_of_those_days_when_they_come() {
    let mut rig = Rig::sqlite();
    let (anne, was) = was_a_month_ahead(&mut rig).await;
    accept(&rig, was).await;
    rig.assert_clean().await;
    rig.advance(MONTH);
    // 2,000 were withdrawn on this very day, when it was not yet.
    let all = rig.terms.daily_withdrawal_limit;
    rig.withdraw(&anne, all).await.unwrap();
    assert!(rig.withdraw(&anne, 1).await.is_err());
    rig.assert_clean().await;
    // Once more, from a later day back to this one.
    rig.advance(3 * DAY);
    let was = rig.context().now;
    rig.withdraw(&anne, 70).await.unwrap();
    rig.advance(-3 * DAY);
    accept(&rig, was).await;
    rig.assert_clean().await;
    assert!(rig.withdraw(&anne, 1).await.is_err(), "today's is used up");
}

#[tokio::test]
async fn a_clock_that_staff_set_back_and_forth_leaves_days_whole() {
    let mut rig = Rig::sqlite();
    rig.terms.daily_withdrawal_limit = 5_000;
    rig.open(ANNE, 100_000).await;
    let anne = rig.log_in(ANNE).await;
    let today = rig.context().now;
    rig.withdraw(&anne, 300).await.unwrap();
    rig.authorize(&anne, "h-0", 50).await.unwrap();
    rig.authorize(&anne, "h-1", 60).await.unwrap();
    rig.capture("h-1", 60).await.unwrap();
    rig.advance(-3 * DAY);
    accept(&rig, today).await;
    rig.assert_clean().await;
    rig.withdraw(&anne, 400).await.unwrap();
    rig.assert_clean().await;
    let back = rig.context().now;
    rig.advance(3 * DAY);
    accept(&rig, back).await;
    rig.assert_clean().await;
    rig.withdraw(&anne, 500).await.unwrap();
    rig.assert_clean().await;
    let _ = rig.capture("h-0", 50).await;
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_acceptance_is_on_record_from_its_beginning_and_what_earlier_ones_acknowledged_stands() {
    let mut rig = Rig::sqlite();
    let (_, was) = was_a_month_ahead(&mut rig).await;
    accept(&rig, was).await;
    let outcomes = async || {
        let records = rig.records().await.into_iter();
        let accepted = records.filter(|(record, _)| record.event == "clock_accepted");
        let told = accepted.map(|(record, _)| (record.outcome, record.detail));
        told.collect::<Vec<_>>()
    };
    let told = outcomes().await;
    assert_eq!((&*told[0].0, &*told[1].0), ("begun", "done"));
    for (_, detail) in &told {
        let known = format!("was {was}, entries through 8, records through ");
        assert!(detail.starts_with(&known), "{detail}");
    }
    let later = rig.context().now;
    begin_mending(&rig, later).await;
    let audit = rig.verify(None).await;
    assert_eq!(audit.faults, Vec::<String>::new());
    let noted = audit.noted.join("\n");
    assert!(noted.contains("is not mended yet"), "{noted}");
    assert!(noted.contains("2 entries up to 8"), "{noted}");
    accept(&rig, later).await;
    let noted = rig.verify(None).await.noted.join("\n");
    assert!(!noted.contains("is not mended yet"), "{noted}");
    assert_eq!(outcomes().await.len(), 5);
}

#[tokio::test]
async fn staff_are_told_of_late_captures_and_settled_holds_that_a_later_clock_ends() {
    let rig = Rig::sqlite();
    rig.open(ANNE, 100_000).await;
    let anne = rig.log_in(ANNE).await;
    for (hold, amount) in [("open", 5), ("free", 6), ("paid", 7)] {
        rig.authorize(&anne, hold, amount).await.unwrap();
    }
    rig.free("free").await.unwrap();
    rig.capture("paid", 7).await.unwrap();
    let ends = rig.context().now.plus_ms(rig.terms.hold_timeout_ms);
    let over = async |wall| {
        let effects = effects(&rig, wall).await;
        (effects.late_captures_over, effects.holds_forgotten)
    };
    let late = ends.plus_ms(LATE_CAPTURE_MS);
    assert_eq!(over(late.minus_ms(1)).await, (0, 0));
    assert_eq!(over(late).await, (1, 0));
    let forgotten = late.plus_ms(rig.terms.keys_kept_ms).plus_ms(86_400_000);
    assert_eq!(over(forgotten).await, (1, 0));
    assert_eq!(over(forgotten.plus_ms(1)).await, (1, 3));
    // Of what is over already there is nothing to tell.
    rig.advance(i64::try_from(LATE_CAPTURE_MS).unwrap() + HOUR);
    assert_eq!(over(rig.context().now.plus_ms(1_000)).await, (0, 0));
}

/// One thing that a customer does, that time does, or that staff do.
async fn step(
    rig: &Rig,
    claims: &[Claim; 2],
    dice: &mut impl FnMut(usize) -> usize,
    holds: &mut Vec<String>,
) {
    let claim = &claims[dice(2)];
    let any = dice(holds.len().max(1));
    let any = holds.get(any).map_or("none", String::as_str).to_owned();
    let last = holds.last().map_or("none", String::as_str).to_owned();
    let mut some = |most| i64::try_from(dice(most)).unwrap();
    match some(10) {
        0 | 1 => drop(rig.withdraw(claim, 10 + some(9)).await),
        2 | 3 => {
            let name = format!("h-{}", holds.len());
            drop(rig.authorize(claim, &name, 100 + some(9)).await);
            holds.push(name);
        }
        4 => drop(rig.capture(&any, 7).await),
        5 => drop(rig.capture(&last, 5).await),
        6 => drop(rig.free(&any).await),
        7 => {
            // To some hour, or to seconds before or behind a midnight.
            let left = DAY - rig.context().now.unix_ms().rem_euclid(DAY);
            rig.advance([some(30) * HOUR, left + some(20) * SECOND - 10 * SECOND][dice(2)]);
        }
        8 => {
            rig.advance(-some(20) * SECOND);
            rig.sweep_all().await;
        }
        _ => {
            let was = rig.context().now;
            let ms =
                [1, 2, 3, 40, 100, 200][dice(6)] * DAY + i64::try_from(dice(30)).unwrap() * HOUR;
            rig.advance([ms, -ms][dice(2)]);
            accept(rig, was).await;
        }
    }
}

#[tokio::test]
async fn whatever_the_clock_does_and_staff_accept_an_audit_names_nothing() {
    for seed in 0..12 {
        let mut rig = Rig::sqlite();
        rig.terms.daily_withdrawal_limit = 1_000_000_000;
        rig.terms.hold_timeout_ms = 50_000;
        for account in [ANNE, BERT] {
            rig.open(account, 100_000_000).await;
        }
        let claims = [rig.log_in(ANNE).await, rig.log_in(BERT).await];
        let (mut dice, mut holds) = (super::journal::dice(seed), Vec::new());
        for number in 0..60 {
            step(&rig, &claims, &mut dice, &mut holds).await;
            let faults = rig.verify(None).await.faults;
            assert_eq!(faults, Vec::<String>::new(), "seed {seed}, step {number}");
        }
    }
}
