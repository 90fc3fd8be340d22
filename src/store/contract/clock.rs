//! The bank's clock in a file: written with what is committed, judged by a start; and what a wrong
//! clock stamped, mended by staff.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::rig::*;
use crate::domain::{ClockMark, Refusal, Timestamp};
use crate::store::sqlite::{SqliteStore, audit_with};
use crate::store::{Act, Claim, ClockEffects, Done, Event, MendCursor, TryCounted};
use crate::surroundings::Surroundings as _;

/// A mark of a boot that is not this machine's.
fn mark(boot_ms: i64) -> ClockMark {
    ClockMark {
        trusted: NEW_YEAR.plus_ms(u64::try_from(boot_ms).unwrap()),
        boot_id: "one".to_owned(),
        boot_ms,
        offset_ms: 7,
        guard: None,
        corrections: vec![(1, 250)],
    }
}

#[tokio::test]
async fn a_commit_writes_the_clock_and_a_bank_that_does_nothing_every_ten_minutes() {
    let mut rig = Rig::sqlite();
    rig.shut_store();
    let boot_ms = Arc::new(AtomicI64::new(1_000));
    let clock = Arc::clone(&boot_ms);
    let clock = move || Some(mark(clock.load(Ordering::SeqCst)));
    let keyring = rig.keyring.clone();
    let store =
        SqliteStore::open_with(&rig.path(), dollars(), NEW_YEAR, keyring, clock, None).unwrap();
    rig.store = Some(Arc::new(store));
    let stored = || SqliteStore::clock_mark(&rig.path()).unwrap();
    rig.open(ANNE, 1_000).await;
    assert_eq!(stored(), Some(mark(1_000)));
    boot_ms.store(2_000, Ordering::SeqCst);
    rig.sweep().await;
    assert_eq!(stored(), Some(mark(1_000)));
    let anne = rig.log_in(ANNE).await;
    assert_eq!(stored(), Some(mark(2_000)));
    boot_ms.store(3_000, Ordering::SeqCst);
    assert!(rig.withdraw(&anne, 5_000).await.is_err());
    assert_eq!(stored(), Some(mark(2_000)));
    boot_ms.store(602_000, Ordering::SeqCst);
    rig.sweep().await;
    assert_eq!(stored(), Some(mark(602_000)));
    // Within a second the rows of a commit tell how far its clock was.
    boot_ms.store(602_900, Ordering::SeqCst);
    let now = mark(602_900).trusted;
    rig.advance(now.unix_ms() - rig.context().now.unix_ms());
    rig.deposit(&anne, 5).await.unwrap();
    assert_eq!(stored(), Some(mark(602_900)));
}

#[tokio::test]
async fn an_older_store_begins_with_its_newest_stamps_and_one_of_before_does_not_rule() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    rig.advance(MONTH);
    rig.open(BERT, 1_000).await;
    rig.advance(5_000 - MONTH);
    rig.open("cc-00003", 1_000).await;
    let newest = rig.context().now;
    rig.shut_store();
    super::migration::take_back(&rig.path(), 5);
    let trusted = |rig: &Rig| {
        SqliteStore::clock_mark(&rig.path())
            .unwrap()
            .unwrap()
            .trusted
    };
    assert_eq!(trusted(&rig), newest);
    rig.open_store();
    assert_eq!(trusted(&rig), newest);
    // By it no start may believe the stamps more than the wall clock, before the store was brought up
    // to date or after.
    let mark = SqliteStore::clock_mark(&rig.path()).unwrap().unwrap();
    assert_eq!(mark, ClockMark::of_stamps(newest));
}

#[tokio::test]
async fn no_stamp_beyond_what_the_clock_may_have_gone_on_raises_it() {
    let mut rig = Rig::sqlite();
    rig.shut_store();
    let keyring = rig.keyring.clone();
    let clock = || Some(mark(1_000));
    let store =
        SqliteStore::open_with(&rig.path(), dollars(), NEW_YEAR, keyring, clock, None).unwrap();
    rig.store = Some(Arc::new(store));
    rig.open(ANNE, 1_000).await;
    let stored = || SqliteStore::clock_mark(&rig.path()).unwrap().unwrap();
    for (ahead_ms, raised_to) in [(6_000, 6_000), (6_001, 1_000), (MONTH, 1_000)] {
        let at = NEW_YEAR.plus_ms(u64::try_from(ahead_ms).unwrap());
        rig.advance(at.unix_ms() - rig.context().now.unix_ms());
        let anne = rig.log_in(ANNE).await;
        rig.log_out(anne);
        assert_eq!(stored(), mark(raised_to), "{ahead_ms}");
    }
}

pub(super) async fn effects(rig: &Rig, wall: Timestamp) -> ClockEffects {
    match rig.act(Act::ClockEffects(wall)).await {
        Done::Clock(effects) => *effects,
        done => panic!("{done:?}"),
    }
}

/// What staff do once the clock was set back; the number of calls that it took.
pub(super) async fn accept(rig: &Rig, was: Timestamp) -> usize {
    accept_beside(rig, was, async |_| {}).await
}

/// As [`accept`], with what goes on after each call: it is told which one.
pub(super) async fn accept_beside(rig: &Rig, was: Timestamp, beside: impl AsyncFn(usize)) -> usize {
    begin_mending(rig, was).await;
    mend(rig, was, beside).await
}

/// Staff took the wall clock; nothing is mended yet.
pub(super) async fn begin_mending(rig: &Rig, was: Timestamp) {
    let begun = rig.act(Act::ClockTaken { was }).await;
    assert!(matches!(begun, Done::Acknowledged { .. }), "{begun:?}");
}

/// Where mending begins, or is begun anew after a crash.
pub(super) async fn first_to_mend(rig: &Rig) -> MendCursor {
    let records = rig.records().await.into_iter().map(|(record, _)| record);
    let accepted = records.filter(|record| record.event == Event::ClockAccepted.name());
    MendCursor::begin(&accepted.collect::<Vec<_>>())
}

/// Mends some; where to go on.
pub(super) async fn mend_some(rig: &Rig, from: MendCursor) -> Option<MendCursor> {
    match rig.act(Act::MendClock(from)).await {
        Done::Mended(next) => next,
        done => panic!("{done:?}"),
    }
}

/// Mends all, with what goes on after each call; how many there were.
pub(super) async fn mend(rig: &Rig, was: Timestamp, beside: impl AsyncFn(usize)) -> usize {
    let (mut calls, mut cursor) = (0, Some(first_to_mend(rig).await));
    while let Some(from) = cursor {
        calls += 1;
        cursor = mend_some(rig, from).await;
        beside(calls).await;
    }
    let done = rig.act(Act::ClockAccepted { was }).await;
    assert!(matches!(done, Done::Acknowledged { .. }), "{done:?}");
    calls
}

pub(super) const MONTH: i64 = 32 * DAY;

/// A bank whose clock was a month ahead for some orders and tries, and is right again: the customer's
/// claim, and what the time had been.
pub(super) async fn was_a_month_ahead(rig: &mut Rig) -> (Claim, Timestamp) {
    rig.terms.daily_withdrawal_limit = 5_000;
    for account in [ANNE, BERT, "cc-00003", "cc-00004"] {
        rig.open(account, 100_000).await;
    }
    let anne = rig.log_in(ANNE).await;
    rig.withdraw(&anne, 300).await.unwrap();
    rig.authorize(&anne, "h-0", 50).await.unwrap();
    rig.capture("h-0", 40).await.unwrap();
    rig.advance(MONTH);
    let was = rig.context().now;
    rig.withdraw(&anne, 2_000).await.unwrap();
    rig.authorize(&anne, "h-1", 700).await.unwrap();
    rig.capture("h-1", 600).await.unwrap();
    rig.authorize(&anne, "h-2", 10).await.unwrap();
    for _ in 0..3 {
        assert!(matches!(rig.count_try(BERT).await, TryCounted::Check(_)));
    }
    rig.assert_clean().await;
    rig.advance(-MONTH);
    (anne, was)
}

#[tokio::test]
async fn what_a_wrong_clock_stamped_is_a_fault_until_staff_accept_the_right_one() {
    let mut rig = Rig::sqlite();
    let (anne, was) = was_a_month_ahead(&mut rig).await;
    let faults = rig.verify(None).await.faults.join("\n");
    for fault in [
        "entry 7: it is stamped",
        "audit record ",
        "1 business days of accounts",
        "2 holds",
        "4 kept answers",
        "1 counts of wrong PINs",
    ] {
        assert!(faults.contains(fault), "{fault} not in {faults}");
    }
    assert!(accept(&rig, was).await > 4, "in slices");
    let audit = rig.verify(None).await;
    assert_eq!(audit.faults, Vec::<String>::new());
    let noted = audit.noted.join("\n");
    assert!(noted.contains("2 entries up to 8"), "{noted}");
    assert!(noted.contains("records up to"), "{noted}");
    // What is stamped in the future later on is a fault again.
    rig.advance(MONTH);
    rig.deposit(&anne, 1).await.unwrap();
    rig.advance(-MONTH);
    let faults = rig.verify(None).await.faults.join("\n");
    assert!(faults.contains("entry 9: it is stamped"), "{faults}");
    let stamped: i64 = Connection::open(rig.path())
        .unwrap()
        .query_row("SELECT min(at) FROM entry WHERE id > 6", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(stamped, was.unix_ms(), "entries never change");
}

#[tokio::test]
async fn staff_bring_days_holds_keys_and_tries_of_the_future_back_to_now() {
    let mut rig = Rig::sqlite();
    let (anne, was) = was_a_month_ahead(&mut rig).await;
    let ahead = |effects: ClockEffects| {
        let rows = (effects.days_ahead, effects.holds_ahead, effects.keys_ahead);
        (effects.entries_ahead, rows, effects.tries_ahead)
    };
    let now = rig.context().now;
    assert_eq!(ahead(effects(&rig, now).await), (2, (1, 2, 4), 1));
    accept(&rig, was).await;
    assert_eq!(ahead(effects(&rig, now).await), (2, (0, 0, 0), 0));
    // 300 were withdrawn today, 40 captured; the holds of the future are of today now: 600 and 10.
    let left = rig.terms.daily_withdrawal_limit - (300 + 40 + 600 + 10);
    assert!(rig.withdraw(&anne, left + 1).await.is_err());
    rig.withdraw(&anne, left).await.unwrap();
    let tried = rig.count_try(BERT).await;
    assert!(matches!(tried, TryCounted::LockedOut(Some(_))), "{tried:?}");
    rig.assert_clean().await;
}

#[tokio::test]
async fn what_was_forgotten_while_the_clock_was_ahead_makes_no_fault() {
    let mut rig = Rig::sqlite();
    rig.terms.daily_withdrawal_limit = 5_000;
    for account in [ANNE, BERT] {
        rig.open(account, 100_000).await;
    }
    let (anne, bert) = (rig.log_in(ANNE).await, rig.log_in(BERT).await);
    rig.advance(12 * HOUR - SECOND);
    for (claim, hold) in [(&anne, "h-1"), (&bert, "h-2")] {
        rig.authorize(claim, hold, 300).await.unwrap();
    }
    rig.advance(2 * SECOND);
    for hold in ["h-1", "h-2"] {
        rig.capture(hold, 300).await.unwrap();
    }
    rig.advance(100 * DAY);
    let was = rig.context().now;
    rig.withdraw(&bert, 7).await.unwrap();
    rig.sweep_all().await;
    assert_eq!(rig.free("h-1").await, Err(Refusal::NoHold));
    rig.advance(-100 * DAY);
    accept(&rig, was).await;
    rig.assert_clean().await;
    // What is left of a day whose holds are gone is counted on the safe side.
    assert!(rig.withdraw(&bert, 4_701).await.is_err());
    rig.withdraw(&bert, 4_700).await.unwrap();
    rig.assert_clean().await;
}

/// Whether what one unit more makes wrong of the use of Anne's day is named.
async fn names_what_a_day_used(rig: &mut Rig) -> bool {
    rig.assert_clean().await;
    rig.shut_store();
    let sql = "UPDATE account SET day_used = day_used + 1 WHERE number = 'zz-00001'";
    super::sqlite::tamper(&rig.path(), sql);
    rig.open_store();
    let faults = rig.verify(None).await.faults.join("\n");
    faults.contains("its day has used")
}

#[tokio::test]
async fn a_hold_that_was_captured_years_ahead_leaves_the_days_before_judged() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 100_000).await;
    let anne = rig.log_in(ANNE).await;
    rig.advance(730 * DAY);
    let was = rig.context().now;
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    rig.capture("h-1", 300).await.unwrap();
    rig.advance(-730 * DAY);
    accept(&rig, was).await;
    rig.advance(70 * DAY);
    rig.sweep_all().await;
    assert_eq!(rig.free("h-1").await, Err(Refusal::NoHold));
    rig.advance(DAY);
    rig.withdraw(&anne, 5).await.unwrap();
    assert!(names_what_a_day_used(&mut rig).await);
}

#[tokio::test]
async fn what_was_forgotten_in_days_that_staff_took_back_leaves_days_to_come_judged() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 100_000).await;
    let anne = rig.log_in(ANNE).await;
    rig.advance(100 * DAY);
    rig.authorize(&anne, "h-1", 300).await.unwrap();
    rig.capture("h-1", 300).await.unwrap();
    rig.advance(100 * DAY);
    let was = rig.context().now;
    rig.sweep_all().await;
    assert_eq!(rig.free("h-1").await, Err(Refusal::NoHold));
    rig.advance(-200 * DAY);
    accept(&rig, was).await;
    rig.sweep_all().await;
    rig.advance(DAY);
    rig.withdraw(&anne, 5).await.unwrap();
    assert!(names_what_a_day_used(&mut rig).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_clock_that_is_taken_while_an_audit_reads_makes_no_fault() {
    let mut rig = Rig::sqlite();
    rig.shut_store();
    let clock = Arc::clone(&rig.clock);
    let marked = move || {
        let trusted = clock.now();
        Some(ClockMark {
            trusted,
            ..mark(trusted.unix_ms() - NEW_YEAR.unix_ms())
        })
    };
    let keyring = rig.keyring.clone();
    let store = SqliteStore::open_with(&rig.path(), dollars(), NEW_YEAR, keyring, marked, None);
    rig.store = Some(Arc::new(store.unwrap()));
    rig.open(ANNE, 100_000).await;
    let anne = rig.log_in(ANNE).await;
    rig.withdraw(&anne, 5).await.unwrap();
    let now = rig.context().now;
    let mut pauses = 0;
    let pause = |_| {
        pauses += 1;
        if pauses == 2 {
            let handle = Handle::current();
            rig.advance(3 * DAY);
            let more = async || {
                rig.withdraw(&anne, 5).await.unwrap();
                rig.authorize(&anne, "h-1", 5).await.unwrap();
            };
            block_in_place(|| handle.block_on(more()));
        }
    };
    let audit = audit_with(&rig.path(), &rig.keyring, None, now, pause).unwrap();
    assert_eq!(audit.faults, Vec::<String>::new());
    assert_eq!(audit.entries, 3);
    // What it was before the audit began hides nothing.
    let audit = audit_with(&rig.path(), &rig.keyring, None, now, |_| {}).unwrap();
    let faults = audit.faults.join("\n");
    assert!(faults.contains("entry 3: it is stamped"), "{faults}");
    assert!(faults.contains("1 business days"), "{faults}");
}

#[tokio::test]
async fn taking_a_later_clock_tells_first_what_would_be_over() {
    let rig = Rig::sqlite();
    rig.open(ANNE, 100_000).await;
    let anne = rig.log_in(ANNE).await;
    rig.deposit(&anne, 1).await.unwrap();
    rig.authorize(&anne, "h-1", 700).await.unwrap();
    assert!(matches!(rig.count_try(BERT).await, TryCounted::Check(_)));
    let now = rig.context().now;
    let seen = |effects: ClockEffects| {
        (
            effects.holds_over,
            effects.keys_over,
            effects.tries_over,
            effects.entries_ahead,
        )
    };
    assert_eq!(seen(effects(&rig, now).await), (0, 0, 0, 0));
    let soon = now.plus_ms(rig.terms.hold_timeout_ms);
    assert_eq!(seen(effects(&rig, soon).await), (1, 0, 0, 0));
    let later = now.plus_ms(rig.terms.keys_kept_ms + 1);
    assert_eq!(seen(effects(&rig, later).await), (1, 2, 1, 0));
}
