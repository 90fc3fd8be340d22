//! What a customer or a terminal can make grow: it has a bound, or is forgotten.

use super::journal::dice;
use super::rig::*;
use crate::domain::{OpenHolds, Refusal};
use crate::store::{Act, Claim, OrderKind, SWEEP_ROWS_MAX, SettlementKind, Swept, TryCounted};

super::on_every_store! {
    an_account_and_a_terminal_have_so_many_open_holds_and_no_more
    without_a_certificate_an_address_has_so_many_open_holds_and_no_more
    a_hold_that_ended_long_ago_is_forgotten_and_one_that_may_still_be_captured_is_not
    a_backlog_of_holds_to_be_forgotten_is_told_and_worked_off
    a_day_whose_holds_are_forgotten_is_not_judged_by_what_is_left
    whatever_order_and_clock_no_kept_answer_outlives_its_hold_or_names_another
    a_kept_answer_that_settled_a_hold_behind_many_of_the_future_keeps_it_too
    staff_are_told_when_the_table_of_tries_is_nearly_full
    staff_are_told_again_of_a_nearly_full_table_only_after_it_was_well_below
}

fn refused(rig: &Rig) -> Refusal {
    Refusal::OverLimit {
        limit: rig.terms.withdrawal_limit,
        remaining: 0,
    }
}

async fn an_account_and_a_terminal_have_so_many_open_holds_and_no_more(mut rig: Rig) {
    rig.terms.open_holds = OpenHolds {
        of_account: 2,
        of_terminal: 3,
    };
    for account in [ANNE, BERT] {
        rig.open(account, 100_000).await;
    }
    let (anne, bert) = (rig.log_in(ANNE).await, rig.log_in(BERT).await);
    rig.authorize(&anne, "h-1", 5).await.unwrap();
    rig.authorize(&anne, "h-2", 5).await.unwrap();
    assert_eq!(rig.authorize(&anne, "h-3", 5).await, Err(refused(&rig)));
    // The limits of money come first.
    let broke = rig.authorize(&anne, "h-3", 200_000).await;
    assert_eq!(broke, Err(Refusal::InsufficientFunds));
    rig.authorize(&bert, "h-4", 5).await.unwrap();
    assert_eq!(rig.authorize(&bert, "h-5", 5).await, Err(refused(&rig)));
    // Money still moves, and another terminal has holds of its own.
    rig.withdraw(&bert, 5).await.unwrap();
    rig.terminal = "t-2";
    rig.authorize(&bert, "h-5", 5).await.unwrap();
    rig.terminal = "t-1";
    rig.free("h-1").await.unwrap();
    rig.authorize(&anne, "h-6", 5).await.unwrap();
    // What has expired is not open, swept or not.
    rig.advance(i64::try_from(rig.terms.hold_timeout_ms).unwrap());
    rig.authorize(&anne, "h-7", 5).await.unwrap();
    rig.authorize(&anne, "h-8", 5).await.unwrap();
    assert_eq!(rig.authorize(&anne, "h-9", 5).await, Err(refused(&rig)));
    // Without a certificate all are `anonymous`: they share no bound.
    rig.terms.open_holds.of_terminal = 1;
    rig.terminal = "anonymous";
    rig.authorize(&bert, "h-10", 5).await.unwrap();
    rig.authorize(&bert, "h-11", 5).await.unwrap();
    assert_eq!(rig.authorize(&bert, "h-12", 5).await, Err(refused(&rig)));
    rig.assert_clean().await;
}

async fn without_a_certificate_an_address_has_so_many_open_holds_and_no_more(mut rig: Rig) {
    rig.terms.open_holds = OpenHolds {
        of_account: 10,
        of_terminal: 2,
    };
    rig.terminal = "anonymous";
    for account in [ANNE, BERT] {
        rig.open(account, 1_000).await;
    }
    let (anne, bert) = (rig.log_in(ANNE).await, rig.log_in(BERT).await);
    let from = |host: u8| Some([192, 0, 2, host].into());
    rig.address = from(1);
    rig.authorize(&anne, "h-1", 5).await.unwrap();
    rig.authorize(&bert, "h-2", 5).await.unwrap();
    for customer in [&anne, &bert] {
        assert_eq!(rig.authorize(customer, "h-3", 5).await, Err(refused(&rig)));
    }
    // Others are bounded by themselves.
    rig.address = from(2);
    rig.authorize(&anne, "h-4", 5).await.unwrap();
    rig.address = from(1);
    assert_eq!(rig.authorize(&anne, "h-5", 5).await, Err(refused(&rig)));
    // What was settled or has expired is not open.
    let freed = rig.settle(Some(&anne), key("f"), "h-1", SettlementKind::Release);
    freed.await.unwrap();
    rig.authorize(&anne, "h-6", 5).await.unwrap();
    assert_eq!(rig.authorize(&anne, "h-7", 5).await, Err(refused(&rig)));
    rig.advance(i64::try_from(rig.terms.hold_timeout_ms).unwrap());
    rig.authorize(&anne, "h-8", 5).await.unwrap();
    rig.authorize(&bert, "h-9", 5).await.unwrap();
    assert_eq!(rig.authorize(&bert, "h-10", 5).await, Err(refused(&rig)));
    rig.assert_clean().await;
}

async fn a_hold_that_ended_long_ago_is_forgotten_and_one_that_may_still_be_captured_is_not(
    rig: Rig,
) {
    rig.open(ANNE, 1_000).await;
    let anne = rig.log_in(ANNE).await;
    for hold in ["h-1", "h-2", "h-3"] {
        rig.authorize(&anne, hold, 5).await.unwrap();
    }
    rig.capture("h-1", 5).await.unwrap();
    rig.free("h-2").await.unwrap();
    rig.advance(29 * DAY);
    rig.sweep().await;
    assert!(rig.capture("h-3", 5).await.unwrap().late);
    // What settled the last of them is forgotten by then, and each name may be a new hold's.
    rig.advance(34 * DAY);
    for _ in 0..2 {
        rig.sweep().await;
    }
    for hold in ["h-1", "h-2", "h-3"] {
        assert_eq!(rig.free(hold).await, Err(Refusal::NoHold), "{hold}");
        rig.authorize(&anne, hold, 5).await.unwrap();
    }
    rig.assert_clean().await;
}

/// How full the table was each time that staff were told.
async fn told(rig: &Rig) -> Vec<String> {
    let mut records = rig.records().await;
    records.retain(|(record, _)| record.event == "tries_nearly_full");
    let details = records.into_iter().map(|(record, _)| record.detail);
    details.collect()
}

async fn a_backlog_of_holds_to_be_forgotten_is_told_and_worked_off(rig: Rig) {
    rig.open(ANNE, 1_000).await;
    let anne = rig.log_in(ANNE).await;
    let names = (0..=SWEEP_ROWS_MAX).map(|number| format!("h-{number}"));
    for hold in names.clone() {
        rig.authorize(&anne, &hold, 1).await.unwrap();
        rig.free(&hold).await.unwrap();
    }
    rig.advance(70 * DAY);
    // Keys are forgotten first.
    let mut swept = Vec::new();
    while swept.is_empty() || swept.last().is_some_and(Swept::is_full) {
        swept.push(rig.sweep().await);
    }
    let forgotten = swept.iter().map(|swept| swept.forgotten_holds);
    assert_eq!(forgotten.collect::<Vec<_>>(), [0, 0, SWEEP_ROWS_MAX, 1]);
    for hold in names {
        rig.authorize(&anne, &hold, 1).await.unwrap();
    }
    rig.assert_clean().await;
}

async fn a_day_whose_holds_are_forgotten_is_not_judged_by_what_is_left(mut rig: Rig) {
    for account in [ANNE, BERT, "cc-00003", "dd-00004"] {
        rig.open(account, 1_000).await;
    }
    let (anne, bert) = (rig.log_in(ANNE).await, rig.log_in(BERT).await);
    // One over midnight: its entry is of the day after the one that it counts for.
    rig.advance(12 * HOUR - SECOND);
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    rig.advance(2 * SECOND);
    assert!(!rig.capture("h-1", 300).await.unwrap().late);
    // One that was late, and counts for its day without an entry of that kind.
    rig.authorize(&bert, "h-2", 200).await.unwrap();
    rig.advance(HOUR);
    assert!(rig.capture("h-2", 200).await.unwrap().late);
    rig.assert_clean().await;
    rig.advance(70 * DAY);
    let carl = rig.log_in("cc-00003").await;
    rig.withdraw(&carl, 5).await.unwrap();
    rig.sweep_all().await;
    rig.assert_clean().await;
    for hold in ["h-1", "h-2"] {
        rig.authorize(&carl, hold, 5).await.unwrap();
    }
    rig.assert_clean().await;
    let dora = rig.log_in("dd-00004").await;
    rig.authorize(&dora, "h-3", 5).await.unwrap();
    rig.assert_clean().await;
    if rig.folder.is_none() {
        return;
    }
    // Days of which all is kept are judged as ever, and none that was turned back is forgotten.
    rig.shut_store();
    let whole = std::fs::read(rig.path()).unwrap();
    let earlier = "its business day is earlier than a withdrawal or a hold of it";
    for (sql, fault) in [
        (
            "day_used = day_used + 1 WHERE number = 'cc-00003'",
            "its day has used",
        ),
        ("day = 0 WHERE number = 'cc-00003'", earlier),
        ("day = day - 1 WHERE number = 'dd-00004'", earlier),
    ] {
        std::fs::write(rig.path(), &whole).unwrap();
        super::sqlite::tamper(&rig.path(), &format!("UPDATE account SET {sql}"));
        rig.open_store();
        let faults = rig.verify(None).await.faults;
        assert!(
            faults.iter().any(|found| found.contains(fault)),
            "{sql}: {faults:?}"
        );
        rig.shut_store();
    }
}

/// Asks again with the key of every hold: the first answer with that hold, or a new hold.
async fn repeat(rig: &Rig, claims: &[Claim; 2], holds: &mut [String]) {
    for (index, hold) in holds.iter_mut().enumerate() {
        let kind = OrderKind::Authorize(hold_name(&format!("{hold}a")));
        let key = key(&format!("a-{index}"));
        let again = rig.order(&claims[index % 2], key, 1, kind).await.unwrap();
        let (name, _) = again.hold.unwrap();
        match again.replayed {
            true => assert_eq!(name, hold_name(hold)),
            false => *hold = name.as_str().to_owned(),
        }
    }
    // Answers that settled one have theirs too.
    let faults = rig.verify(None).await.faults.join("\n");
    assert!(!faults.contains("its key has no"), "{faults}");
}

async fn whatever_order_and_clock_no_kept_answer_outlives_its_hold_or_names_another(mut rig: Rig) {
    rig.terms.daily_withdrawal_limit = 1_000_000;
    rig.open(ANNE, 1_000_000).await;
    rig.open(BERT, 1_000_000).await;
    let claims = [rig.log_in(ANNE).await, rig.log_in(BERT).await];
    let (mut dice, mut holds, mut latest) = (dice(7), Vec::new(), rig.context().now);
    for _ in 0..400 {
        let any = dice(holds.len().max(1));
        let any = holds.get(any).map_or("none", String::as_str).to_owned();
        match dice(7) {
            0 => {
                // A name that nobody has, so that no hold but the right one can bear it.
                holds.push(format!("h-{}-", holds.len()));
                repeat(&rig, &claims, &mut holds).await;
            }
            1 => drop(rig.capture(&any, 1).await),
            2 => drop(rig.free(&any).await),
            3 => {
                for _ in 0..SWEEP_ROWS_MAX + dice(9) {
                    rig.deposit(&claims[0], 1).await.unwrap();
                }
            }
            // Forward more than back: by up to what a wrong clock may do, and nobody mends it.
            4 => rig.advance(i64::try_from(dice(90)).unwrap() * DAY),
            5 => rig.advance(-i64::try_from(dice(75)).unwrap() * DAY),
            _ => {
                for _ in 0..=dice(4) {
                    rig.sweep().await;
                }
                if dice(2) == 0 {
                    repeat(&rig, &claims, &mut holds).await;
                }
            }
        }
        latest = latest.max(rig.context().now);
    }
    // In the end all are forgotten.
    let ahead = latest.unix_ms() - rig.context().now.unix_ms();
    rig.advance(ahead + 200 * DAY);
    rig.sweep_all().await;
    for hold in &holds {
        rig.authorize(&claims[0], hold, 1).await.unwrap();
    }
}

async fn a_kept_answer_that_settled_a_hold_behind_many_of_the_future_keeps_it_too(rig: Rig) {
    rig.open(ANNE, 1_000).await;
    let anne = rig.log_in(ANNE).await;
    rig.authorize(&anne, "h-1", 5).await.unwrap();
    rig.advance(80 * DAY);
    rig.authorize(&anne, "h-2", 5).await.unwrap();
    for _ in 0..SWEEP_ROWS_MAX {
        rig.deposit(&anne, 1).await.unwrap();
    }
    rig.advance(-80 * DAY);
    let capture = || rig.settle(None, key("c"), "h-1", capture(5));
    assert!(!capture().await.unwrap().replayed);
    rig.advance(70 * DAY);
    rig.sweep_all().await;
    assert!(capture().await.unwrap().replayed);
    rig.advance(80 * DAY);
    rig.sweep_all().await;
    assert_eq!(capture().await, Err(Refusal::NoHold));
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_kept_answer_whose_hold_is_gone_is_answered_as_one_of_a_hold_that_is_closed() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    rig.open(BERT, 1_000).await;
    let order = |name: &str| OrderKind::Authorize(hold_name(name));
    let anne = rig.log_in(ANNE).await;
    rig.order(&anne, key("a"), 5, order("h-1")).await.unwrap();
    rig.free("h-1").await.unwrap();
    rig.shut_store();
    super::sqlite::tamper(&rig.path(), "DELETE FROM hold");
    rig.open_store();
    let (anne, bert) = (rig.log_in(ANNE).await, rig.log_in(BERT).await);
    let again = rig.order(&anne, key("a"), 5, order("h-2")).await.unwrap();
    assert_eq!(
        (again.replayed, again.hold),
        (true, Some((hold_name("h-2"), 0)))
    );
    // The number of the hold that is gone is another's now, whose name is not told.
    rig.authorize(&bert, "h-3", 5).await.unwrap();
    let again = rig.order(&anne, key("a"), 5, order("h-4")).await.unwrap();
    assert_eq!(
        (again.replayed, again.hold),
        (true, Some((hold_name("h-4"), 0)))
    );
    assert_eq!(rig.free("h-4").await, Err(Refusal::NoHold));
    let faults = rig.verify(None).await.faults;
    assert!(
        faults[0].contains("its key has no entry or hold of its account"),
        "{faults:?}"
    );
}

async fn staff_are_told_when_the_table_of_tries_is_nearly_full(mut rig: Rig) {
    rig.terms.try_rows_max = 10;
    for number in 0..11 {
        assert_eq!(told(&rig).await.len(), usize::from(number >= 9));
        let counted = rig.count_try(&format!("xx-{number:05}")).await;
        assert_eq!(matches!(counted, TryCounted::TableFull), number == 10);
    }
    assert_eq!(told(&rig).await, ["rows 9 of 10"]);
}

async fn staff_are_told_again_of_a_nearly_full_table_only_after_it_was_well_below(mut rig: Rig) {
    rig.terms.try_rows_max = 10;
    let try_upon = async |rig: &Rig, from: u32, below: u32| {
        for number in from..below {
            let _ = rig.count_try(&format!("xx-{number:05}")).await;
        }
    };
    let forget = async |rig: &Rig, from: u32, below: u32| {
        for row in from..below {
            rig.act(Act::Lock(number(&format!("xx-{row:05}")), false))
                .await;
        }
    };
    try_upon(&rig, 0, 9).await;
    // A row is forgotten and another comes, again and again.
    for row in 9..15 {
        forget(&rig, row - 9, row - 8).await;
        try_upon(&rig, row, row + 1).await;
    }
    assert_eq!(told(&rig).await.len(), 1);
    // Eight rows are still near; seven are not.
    forget(&rig, 6, 8).await;
    try_upon(&rig, 15, 17).await;
    assert_eq!(told(&rig).await.len(), 1);
    forget(&rig, 8, 11).await;
    try_upon(&rig, 17, 20).await;
    assert_eq!(told(&rig).await, ["rows 9 of 10"; 2]);
}

#[tokio::test]
async fn a_table_of_tries_that_is_nearly_full_at_a_start_is_told_of_once() {
    let mut rig = Rig::sqlite();
    rig.terms.try_rows_max = 10;
    for number in 0..10 {
        let _ = rig.count_try(&format!("xx-{number:05}")).await;
    }
    rig.shut_store();
    rig.open_store();
    for number in 10..13 {
        let counted = rig.count_try(&format!("xx-{number:05}")).await;
        assert!(matches!(counted, TryCounted::TableFull), "{counted:?}");
    }
    assert_eq!(told(&rig).await, ["rows 9 of 10", "rows 10 of 10"]);
}
