//! Whether two samples of latencies can be told apart.

use statrs::stats_tests::ks_test::{KSTwoSampleAlternativeMethod, ks_twosample};
use statrs::stats_tests::mannwhitneyu::{MannWhitneyUMethod, mannwhitneyu};
use statrs::stats_tests::{Alternative, NaNPolicy};

/// Medians may differ by so much of the smaller one, in percent, however long it is.
pub(crate) const MEDIANS_PERCENT_MAX: f64 = 1.0;
/// Or by so much, milliseconds.
pub(crate) const MEDIANS_MS_MAX: f64 = 1.0;

/// Two samples, milliseconds, held against each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparison {
    /// How many of each.
    pub(crate) counts: (usize, usize),
    /// Their medians, milliseconds.
    pub(crate) medians_ms: (f64, f64),
    /// The probability of ranks at least as uneven, were there no difference (Mann and Whitney,
    /// 1947; two-sided).
    pub(crate) rank_p: f64,
    /// The probability of distributions at least as far apart, were there no difference
    /// (Kolmogorov and Smirnov; two-sided, asymptotic).
    pub(crate) shape_p: f64,
}

impl Comparison {
    /// Compares two samples of one value or more, of finite numbers.
    pub(crate) fn of(one: &[f64], other: &[f64]) -> Self {
        let (_, rank_p) = mannwhitneyu(
            one,
            other,
            MannWhitneyUMethod::AsymptoticInclContinuityCorrection,
            Alternative::TwoSided,
        )
        .unwrap();
        let (_, shape_p) = ks_twosample(
            one.to_vec(),
            other.to_vec(),
            KSTwoSampleAlternativeMethod::TwoSidedAsymptotic,
            NaNPolicy::Error,
        )
        .unwrap();
        Self {
            counts: (one.len(), other.len()),
            medians_ms: (median(one), median(other)),
            rank_p,
            shape_p,
        }
    }

    /// How far the medians lie apart, milliseconds.
    pub(crate) fn difference_ms(&self) -> f64 {
        (self.medians_ms.0 - self.medians_ms.1).abs()
    }

    /// The same, in percent of the smaller.
    pub(crate) fn difference_percent(&self) -> f64 {
        100.0 * self.difference_ms() / self.medians_ms.0.min(self.medians_ms.1)
    }

    /// Whether the medians lie close enough together.
    pub(crate) fn medians_agree(&self) -> bool {
        self.difference_percent() <= MEDIANS_PERCENT_MAX || self.difference_ms() <= MEDIANS_MS_MAX
    }

    /// Whether neither test tells them apart at this level.
    pub(crate) fn is_alike(&self, level: f64) -> bool {
        self.rank_p >= level && self.shape_p >= level
    }
}

/// The level of each of so many tests, so that all together reject what is alike with a
/// probability of `level` at most (Bonferroni's correction).
#[expect(clippy::cast_precision_loss, reason = "there are a few tests")]
pub(crate) fn level_of_each(level: f64, tests: usize) -> f64 {
    level / tests.max(1) as f64
}

/// The value in the middle; of an even number, half-way between the two.
pub(crate) fn median(sample: &[f64]) -> f64 {
    let mut sorted = sample.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}
