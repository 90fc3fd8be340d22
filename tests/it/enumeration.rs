//! The parts of the tool that measures whether time tells which accounts there are
//! (`benches/enumeration`), so that it can be believed when it is run.

use atm_bank::domain::Timestamp;
use atm_bank::surroundings::Virtual;

#[path = "../../benches/enumeration/statistics.rs"]
mod statistics;

use statistics::{Comparison, level_of_each, median};

const SAMPLES: usize = 4_000;
/// As the tool has it: seven pairs, two tests each.
const TESTS: usize = 14;

/// Latencies around `middle_ms` with a long tail, as a server's are; a share of them cheaper.
fn latencies(seed: u64, middle_ms: f64, cheap_percent: u64) -> Vec<f64> {
    let dice = Virtual::new(Timestamp::from_unix_ms(0), seed);
    let part = || {
        let whole = u32::try_from(dice.next_u64() >> 32).unwrap();
        f64::from(whole) / f64::from(u32::MAX)
    };
    let latency = || {
        let cheap = dice.next_u64() % 100 < cheap_percent;
        let tail = -(1.0 - part()).max(1e-9).ln() * 0.05;
        let middle_ms = if cheap { middle_ms / 2.0 } else { middle_ms };
        middle_ms * (1.0 + tail) + part() * 0.02
    };
    std::iter::repeat_with(latency).take(SAMPLES).collect()
}

#[test]
fn samples_of_one_distribution_are_rarely_told_apart() {
    let level = level_of_each(0.01, TESTS);
    let told_apart = (0..10).filter(|seed| {
        let one = latencies(2 * seed + 1, 20.0, 40);
        let other = latencies(1_000 + 2 * seed, 20.0, 40);
        !Comparison::of(&one, &other).is_alike(level)
    });
    // 10 pairs of two tests each at less than a thousandth.
    assert_eq!(told_apart.count(), 0);
}

#[test]
fn a_shift_of_half_a_percent_is_caught_by_the_tests_and_a_larger_one_by_the_medians() {
    let level = level_of_each(0.01, TESTS);
    let one = latencies(1, 20.0, 0);
    let nearly = Comparison::of(&one, &latencies(2, 20.1, 0));
    assert!(!nearly.is_alike(level), "{nearly:?}");
    assert!(nearly.medians_agree(), "{nearly:?}");
    let far = Comparison::of(&one, &latencies(3, 21.5, 0));
    assert!(!far.medians_agree(), "{far:?}");
    assert!(!far.is_alike(level), "{far:?}");
}

#[test]
fn another_mixture_of_the_same_two_costs_is_caught() {
    let level = level_of_each(0.01, TESTS);
    let one = latencies(1, 20.0, 40);
    let other = latencies(2, 20.0, 45);
    let shape = Comparison::of(&one, &other);
    assert!(!shape.is_alike(level), "{shape:?}");
    // Where all unknown numbers cost what a new hash does, nobody needs a test to see it.
    let raised = Comparison::of(&one, &latencies(3, 20.0, 0));
    assert!(raised.rank_p < 1e-9 && raised.shape_p < 1e-9, "{raised:?}");
}

#[test]
fn medians_lie_in_the_middle_and_agree_by_either_bound() {
    assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
    assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-12);
    let compare = |one: f64, other: f64| Comparison::of(&[one], &[other]);
    // 2 % apart, but less than a millisecond; a millisecond and a half, but less than 1 %.
    assert!(compare(1.00, 1.02).medians_agree());
    assert!(compare(200.0, 201.5).medians_agree());
    assert!(!compare(50.0, 51.5).medians_agree());
    let (found, wide) = (compare(50.0, 51.5), compare(51.5, 50.0));
    assert!((found.difference_percent() - 3.0).abs() < 1e-9);
    assert!((found.difference_ms() - wide.difference_ms()).abs() < 1e-12);
    assert_eq!(found.counts, (1, 1));
    assert!((found.medians_ms.0 - 50.0).abs() < 1e-12);
}
