use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::domain::{AccountNumber, Timestamp};
use crate::surroundings::Virtual;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

fn number(index: u32) -> AccountNumber {
    let letters = [
        b'a' + (index / 2_600_000 % 26) as u8,
        b'a' + (index / 100_000 % 26) as u8,
    ];
    let letters = std::str::from_utf8(&letters).unwrap();
    format!("{letters}-{:05}", index % 100_000).parse().unwrap()
}

fn source(name: &str) -> Requester {
    Requester::Terminal(name.parse().unwrap())
}

/// One log-in, if it is let through.
fn log_in(
    detector: &mut Detector,
    name: &str,
    index: u32,
    verdict: Verdict,
    now: u64,
) -> Result<Option<Noticed>, u64> {
    let source = source(name);
    match detector.admit(&source, now) {
        Admission::Go => Ok(detector.judge(&source, number(index), verdict, now)),
        Admission::Slowed(RetryAfter(wait)) => Err(wait),
        Admission::Wait => panic!("nothing is open"),
    }
}

fn fail(detector: &mut Detector, name: &str, index: u32, now: u64) -> Result<Option<Noticed>, u64> {
    log_in(detector, name, index, Verdict::Failed, now)
}

/// Tries that a spray makes at a steady pace until it is noticed, at most `most`.
fn tries_until_noticed(spray_tries: u32, terminals: u32, pause_ms: u64, most: u32) -> Option<u32> {
    let mut detector = Detector::new(spray_tries);
    (1..=most).find(|index| {
        let name = format!("t-{}", index % terminals);
        let now = u64::from(*index) * pause_ms;
        fail(&mut detector, &name, *index, now).unwrap().is_some()
    })
}

#[test]
fn a_spray_is_noticed_before_its_tries_from_one_terminal_or_spread_over_many() {
    for spray_tries in [2, 3, 5, 10, 50, 200, 1_000] {
        for terminals in [1, 2, 10, 100, 1_000] {
            // The slowest that is promised: all tries within 50 minutes.
            let slowest = 50 * MINUTE / u64::from(spray_tries) - 1;
            for pause_ms in [0, 1, slowest / 10, slowest] {
                let tries = tries_until_noticed(spray_tries, terminals, pause_ms, spray_tries);
                let tries = tries.unwrap_or(spray_tries);
                assert!(
                    tries < spray_tries,
                    "{tries} of {spray_tries} over {terminals}, one in {pause_ms} ms"
                );
            }
        }
    }
    assert_eq!(tries_until_noticed(1, 1, 0, 5), Some(1));
}

#[test]
fn one_terminal_is_noticed_before_50_tries_at_one_try_in_six_minutes_too() {
    assert_eq!(tries_until_noticed(50, 1, 6 * MINUTE - 1, 60), Some(49));
    // Slower than what is let go, nothing is.
    assert_eq!(tries_until_noticed(50, 1, 31 * MINUTE, 1_000), None);
}

#[test]
fn nothing_is_noticed_or_slowed_where_it_is_off() {
    let mut detector = Detector::new(0);
    for index in 0..1_000 {
        assert_eq!(fail(&mut detector, "t-1", index, 0), Ok(None));
    }
    assert_eq!(detector.remembered(), (0, 0));
}

#[test]
fn log_ins_to_an_own_account_in_between_gain_a_sprayer_nothing() {
    let plain = tries_until_noticed(50, 1, 10_000, 60);
    let mut detector = Detector::new(50);
    let (mut tries, mut noticed) = (0, None);
    while noticed.is_none() {
        let now = u64::from(tries) * 10_000;
        // An own account, right, then mistyped and right.
        for verdict in [Verdict::Right, Verdict::Failed, Verdict::Right] {
            let own = log_in(&mut detector, "t-1", 99_999, verdict, now);
            noticed = noticed.or(own.unwrap_or_default());
        }
        if noticed.is_none() {
            tries += 1;
            noticed = fail(&mut detector, "t-1", tries, now).unwrap();
        }
    }
    assert!(Some(tries) <= plain, "{tries} tries instead of {plain:?}");
}

#[test]
fn credit_cannot_be_saved_up_by_failing_first_and_succeeding_later() {
    let mut detector = Detector::new(50);
    for own in 0..30 {
        fail(&mut detector, "t-1", 90_000 + own, 0).unwrap();
    }
    // Time has forgiven them all; resolving them now takes nothing from what comes.
    let later = 20 * HOUR;
    for index in 0..39 {
        assert_eq!(fail(&mut detector, "t-1", index, later), Ok(None));
    }
    for own in 0..30 {
        let right = log_in(&mut detector, "t-1", 90_000 + own, Verdict::Right, later);
        assert_eq!(right, Ok(None));
    }
    assert!(fail(&mut detector, "t-1", 39, later).unwrap().is_some());
}

#[test]
fn a_noticed_sprayer_washes_nothing_away_by_failing_and_succeeding_on_an_own_account() {
    let mut detector = Detector::new(50);
    for index in 0..60 {
        let name = format!("t-{index}");
        fail(&mut detector, &name, index, 0).unwrap();
    }
    let before = detector.unresolved();
    assert_eq!(before, 46);
    // A fresh terminal for each failure and each success: none of them is slowed.
    for index in 100..140 {
        let (one, another) = (format!("t-{index}"), format!("u-{index}"));
        assert_eq!(fail(&mut detector, &one, 90_000, 0), Ok(None));
        let own = log_in(&mut detector, &another, 90_000, Verdict::Right, 0);
        assert_eq!(own, Ok(None));
    }
    assert_eq!(detector.unresolved(), before);
}

#[test]
fn tries_on_one_number_count_each_at_the_source_and_once_in_the_bank_when_they_lock_it() {
    let mut detector = Detector::new(50);
    // Customers who have forgotten their PIN, each at a terminal of their own.
    for index in 0..13 {
        let name = format!("t-{index}");
        for verdict in [Verdict::Failed, Verdict::Failed, Verdict::FailedAndLocked] {
            assert_eq!(log_in(&mut detector, &name, index, verdict, 0), Ok(None));
        }
    }
    assert_eq!(detector.unresolved(), 13);
    assert_eq!(detector.remembered(), (13, 39));
    // A sprayer who stays below the lock, at as many terminals.
    let mut detector = Detector::new(50);
    let mut tries = 0;
    let noticed = (0..).find_map(|index| {
        tries += 1;
        let name = format!("t-{}", index % 13);
        fail(&mut detector, &name, index / 2, u64::from(index)).unwrap()
    });
    assert_eq!((noticed, tries), (Some(Noticed::Bank), 40));
    // And one who does not, at one terminal.
    let mut detector = Detector::new(50);
    let noticed = (0..40).find_map(|index| {
        let verdicts = [Verdict::Failed, Verdict::Failed, Verdict::FailedAndLocked];
        let verdict = verdicts[index as usize % 3];
        let noticed = log_in(&mut detector, "t-1", index / 3, verdict, 0).unwrap();
        noticed.map(|noticed| (noticed, index + 1))
    });
    assert_eq!(noticed, Some((Noticed::Source, 40)));
}

#[test]
fn a_right_pin_resolves_all_failures_of_its_number_at_its_source_and_in_the_bank() {
    let mut detector = Detector::new(50);
    for index in 0..30 {
        assert_eq!(fail(&mut detector, "t-1", index, 100), Ok(None));
    }
    for index in 0..200 {
        for verdict in [Verdict::Failed, Verdict::Failed, Verdict::Right] {
            let told = log_in(&mut detector, "t-2", 1_000 + index, verdict, 100);
            assert_eq!(told, Ok(None));
        }
    }
    assert_eq!(detector.unresolved(), 30);
    // A right PIN elsewhere resolves it for the bank, not for the terminal that failed.
    for index in 0..30 {
        log_in(&mut detector, "t-2", index, Verdict::Right, 100).unwrap();
    }
    assert_eq!(detector.unresolved(), 0);
    assert_eq!(detector.remembered(), (1, 30));
}

#[test]
fn a_noticed_source_is_slowed_from_15_seconds_to_15_minutes_and_freed_by_time() {
    let mut detector = Detector::new(50);
    let mut now = 0;
    for index in 0..40 {
        now += 1_000;
        fail(&mut detector, "t-1", index, now).unwrap();
    }
    let mut waits = Vec::new();
    for index in 40..48 {
        let wait = fail(&mut detector, "t-1", index, now).unwrap_err();
        waits.push(wait / 1_000);
        now += wait;
        fail(&mut detector, "t-1", index, now).unwrap();
    }
    assert_eq!(waits, [15, 30, 60, 120, 240, 480, 900, 900]);
    // Who has no unresolved failure is not touched.
    assert_eq!(
        log_in(&mut detector, "t-2", 90_000, Verdict::Right, now),
        Ok(None)
    );
    assert!(detector.check(&source("t-1"), now).is_err());
    now += 9 * HOUR;
    assert_eq!(fail(&mut detector, "t-1", 50, now), Ok(None));
    assert_eq!(fail(&mut detector, "t-1", 51, now), Ok(None));
}

#[test]
fn while_a_spread_spray_goes_on_sources_with_a_failure_are_slowed_and_others_are_not() {
    let mut detector = Detector::new(50);
    for index in 0..39 {
        let name = format!("t-{index}");
        assert_eq!(fail(&mut detector, &name, index, 0), Ok(None));
    }
    assert_eq!(fail(&mut detector, "t-39", 39, 0), Ok(Some(Noticed::Bank)));
    for index in 0..40 {
        let name = format!("t-{index}");
        assert_eq!(fail(&mut detector, &name, 50 + index, 0), Err(15_000));
    }
    assert_eq!(
        log_in(&mut detector, "t-40", 90_000, Verdict::Right, 0),
        Ok(None)
    );
    assert_eq!(fail(&mut detector, "t-40", 90_000, 0), Ok(None));
    assert_eq!(
        log_in(&mut detector, "t-40", 90_000, Verdict::Right, 0),
        Err(15_000)
    );
    assert_eq!(
        log_in(&mut detector, "t-40", 90_000, Verdict::Right, 15_000),
        Ok(None)
    );
    assert_eq!(
        log_in(&mut detector, "t-40", 90_001, Verdict::Right, 15_000),
        Ok(None)
    );
}

#[test]
fn of_many_log_ins_at_once_no_more_are_open_than_may_fail_unnoticed() {
    let mut detector = Detector::new(50);
    let one = source("t-1");
    for open in 0..200 {
        let admission = detector.admit(&one, 0);
        let expected = if open < 40 {
            Admission::Go
        } else {
            Admission::Wait
        };
        assert_eq!(admission, expected, "{open}");
    }
    for index in 0..39 {
        assert_eq!(
            detector.judge(&one, number(index), Verdict::Failed, 0),
            None
        );
        assert_eq!(detector.admit(&one, 0), Admission::Wait);
    }
    let noticed = detector.judge(&one, number(39), Verdict::Failed, 0);
    assert_eq!(noticed, Some(Noticed::Source));
    assert!(matches!(detector.admit(&one, 0), Admission::Slowed(_)));
}

#[test]
fn a_million_invented_sources_fill_no_more_than_the_table_and_hide_no_spray() {
    let mut detector = Detector::new(50);
    for index in 0..40 {
        fail(&mut detector, "t-1", index, 0).unwrap();
    }
    // Time enough between them that the bank's own alarm is over, were it not for the invented.
    for index in 0..1_000_000_u32 {
        let invented = Requester::Address(std::net::IpAddr::from(index.to_be_bytes()).into());
        if detector.admit(&invented, 1_000) == Admission::Go {
            detector.judge(&invented, number(index), Verdict::Failed, 1_000);
        }
        let (sources, numbers) = detector.remembered();
        assert!(sources <= limits::SPRAY_SOURCES_MAX && numbers <= limits::SPRAY_NUMBERS_MAX);
        assert_eq!(detector.order.len(), sources);
    }
    assert!(detector.check(&source("t-1"), 1_000).is_err());
    assert_eq!(detector.unresolved(), 46);
    // Another spray is noticed as ever.
    for index in 0..39 {
        let now = 2_000 + u64::from(index) * MINUTE;
        let invented = source("t-2");
        detector.judge(&invented, number(index), Verdict::Failed, now);
    }
    assert!(detector.check(&source("t-2"), 39 * MINUTE).is_err());
}

#[test]
fn numbers_of_all_sources_together_have_a_bound() {
    let mut detector = Detector::new(50);
    detector.numbers_max = 100;
    for index in 0..2_000 {
        let name = format!("t-{}", index / 20);
        detector.judge(&source(&name), number(index), Verdict::Failed, 0);
        assert!(detector.remembered().1 <= 100);
    }
}

#[test]
fn a_new_setting_forgets_nothing_and_off_ends_everything() {
    let mut detector = Detector::new(100);
    for index in 0..39 {
        fail(&mut detector, "t-1", index, 0).unwrap();
    }
    detector.set_tries(50);
    assert_eq!(fail(&mut detector, "t-1", 39, 0), Ok(Some(Noticed::Source)));
    assert!(fail(&mut detector, "t-1", 40, 0).is_err());
    detector.set_tries(0);
    assert_eq!(fail(&mut detector, "t-1", 40, 0), Ok(None));
    detector.set_tries(50);
    assert_eq!(fail(&mut detector, "t-1", 40, 0), Ok(None));
}

#[tokio::test]
async fn waiting_log_ins_go_on_as_others_are_judged_and_are_refused_once_a_spray_is_noticed() {
    let clock = Arc::new(Virtual::new(Timestamp::from_unix_ms(0), 1));
    let watch = Arc::new(SprayWatch::new(5, clock));
    let one = source("t-1");
    let mut open = Vec::new();
    for index in 0..4 {
        open.push(watch.admit(&one, number(index)).await.unwrap());
    }
    let waiting = tokio::spawn({
        let (watch, one) = (Arc::clone(&watch), one.clone());
        async move { watch.admit(&one, number(9)).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    assert_eq!(open.pop().unwrap().judge(Verdict::Right), None);
    assert_eq!(waiting.await.unwrap(), Ok(()));
    open.push(watch.admit(&one, number(3)).await.unwrap());
    let refused = tokio::spawn({
        let (watch, one) = (Arc::clone(&watch), one.clone());
        async move { watch.admit(&one, number(9)).await.map(drop) }
    });
    tokio::task::yield_now().await;
    let noticed: Vec<_> = open
        .into_iter()
        .filter_map(|login| login.judge(Verdict::Failed))
        .collect();
    assert_eq!(noticed, [Noticed::Source]);
    assert_eq!(refused.await.unwrap(), Err(RetryAfter(15_000)));
}

proptest! {
    #[test]
    fn whatever_happens_the_count_is_that_of_its_sources_and_time_empties_it(
        steps in prop::collection::vec((0_u32..4, 0_u32..30, 0_u32..4, 0_u64..400_000), 1..200),
    ) {
        let mut detector = Detector::new(10);
        let mut now = 0;
        for (name, index, verdict, wait) in steps {
            now += wait;
            let one = source(&format!("t-{name}"));
            let verdict = [
                Verdict::Failed,
                Verdict::FailedAndLocked,
                Verdict::Right,
                Verdict::Unknown,
            ][verdict as usize];
            if detector.admit(&one, now) == Admission::Go {
                detector.judge(&one, number(index), verdict, now);
            }
            let sum: usize = detector.sources.values().map(|known| known.unresolved.numbers.len()).sum();
            prop_assert_eq!(detector.numbers, sum);
            prop_assert_eq!(detector.order.len(), detector.sources.len());
            prop_assert!(detector.sources.values().all(|known| known.open == 0));
        }
        now += 100 * HOUR;
        for name in 0..4 {
            let one = source(&format!("t-{name}"));
            prop_assert_eq!(detector.check(&one, now), Ok(()));
            detector.judge(&one, number(99), Verdict::Unknown, now);
        }
        prop_assert_eq!(detector.remembered(), (0, 0));
        prop_assert_eq!(detector.unresolved(), 0);
    }
}
