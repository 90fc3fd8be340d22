//! What a customer or a terminal can make grow: it has a bound, or is forgotten.

use super::rig::*;
use crate::domain::{OpenHolds, Refusal};
use crate::store::{Act, TryCounted};

super::on_every_store! {
    an_account_and_a_terminal_have_so_many_open_holds_and_no_more
    a_hold_that_ended_long_ago_is_forgotten_and_one_that_may_still_be_captured_is_not
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
