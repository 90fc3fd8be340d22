//! How long things took: HdrHistogram's quantiles.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Significant digits of every quantile.
const DIGITS: u8 = 3;

/// How long things took, microseconds. Grows to hundreds of KiB, which are to fit in a cache: one for
/// all connections, not one for each.
pub(crate) struct Took(Histogram<u64>);

impl Default for Took {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).unwrap())
    }
}

impl Took {
    pub(crate) fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Fails only where no memory is left for a longer row.
        self.0.record(us.max(1)).unwrap();
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).unwrap();
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time within which this share came; `None` where nothing did.
    pub(crate) fn at(&self, quantile: f64) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile))
    }
}
