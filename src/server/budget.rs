//! What a peer may cost before it has asked for anything: octets, TLS records and the processor's
//! time, by connection and by terminal. Paid after the fact: whoever took more than there was waits
//! until it is made up for, so that those who share a budget are served in turn.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::access::throttle::Requester;
use crate::config::LimitsConfig;
use crate::limits;

/// Ticks of a [`Clock`] in a nanosecond: eight times the largest rate there is still costs some.
const TICKS_PER_NANOSECOND: u64 = 16;
const TICKS_PER_SECOND: u64 = 1_000_000_000 * TICKS_PER_NANOSECOND;

/// Counts ticks since the server was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn ticks(self, at: Instant) -> u64 {
        nanoseconds(at.saturating_duration_since(self.0)).saturating_mul(TICKS_PER_NANOSECOND)
    }

    pub(super) fn instant(self, ticks: u64) -> Instant {
        self.0 + Duration::from_nanos(ticks / TICKS_PER_NANOSECOND)
    }
}

pub(super) fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// So many a second in the long run, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Price {
    per_second: u64,
    /// In ticks: what was saved up before.
    at_once: u64,
}

impl Price {
    pub(super) fn new(per_second: u64, at_once: u64) -> Self {
        let per_second = per_second.max(1);
        let ticks = u128::from(at_once) * u128::from(TICKS_PER_SECOND) / u128::from(per_second);
        Self {
            per_second,
            at_once: u64::try_from(ticks).unwrap_or(u64::MAX / 2),
        }
    }

    fn of(self, count: u64) -> u64 {
        count.saturating_mul(TICKS_PER_SECOND) / self.per_second
    }
}

/// What was taken: the tick by which all of it is made up for.
#[derive(Debug, Default)]
pub(super) struct Taken(AtomicU64);

impl Taken {
    /// Takes `count` at `now`, in debt for `debt_max` ticks at most; the tick from which more may be taken.
    pub(super) fn take(&self, now: u64, price: Price, count: u64, debt_max: u64) -> u64 {
        let most = now.saturating_add(price.at_once).saturating_add(debt_max);
        let cost = price.of(count);
        let taken = |until: u64| until.max(now).saturating_add(cost).min(most);
        let update = |until| Some(taken(until));
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        taken(before.unwrap_or_else(|until| until)).saturating_sub(price.at_once)
    }

    /// Whether more was taken than there was.
    pub(super) fn is_over(&self, now: u64, price: Price) -> bool {
        self.0.load(Ordering::Relaxed) > now.saturating_add(price.at_once)
    }

    fn is_whole(&self, now: u64) -> bool {
        self.0.load(Ordering::Relaxed) <= now
    }
}

/// What one connection, or all of a terminal, may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prices {
    pub(super) octets: Price,
    pub(super) records: Price,
}

impl Prices {
    /// Those of a connection, and those of a terminal.
    pub(super) fn of(limits: &LimitsConfig) -> (Self, Self) {
        let times = |times: u64| {
            let price = |per_second: u64, at_once: u64| {
                Price::new(
                    per_second.saturating_mul(times),
                    at_once.saturating_mul(times),
                )
            };
            Self {
                octets: price(limits.octets_per_second, limits.octet_burst),
                records: price(limits.records_per_second, limits.record_burst),
            }
        };
        (times(1), times(limits::TERMINAL_BUDGETS))
    }
}

/// What a terminal has taken over all its connections, or an address of those without a certificate.
#[derive(Debug, Default)]
pub(super) struct Ration {
    pub(super) octets: Taken,
    pub(super) records: Taken,
    /// Nanoseconds of a processor.
    pub(super) work: Taken,
    /// The round in which its next turn comes; kept by the line of turns.
    pub(super) round: AtomicU64,
}

impl Ration {
    fn is_whole(&self, now: u64) -> bool {
        [&self.octets, &self.records, &self.work]
            .iter()
            .all(|taken| taken.is_whole(now))
    }
}

/// The rations of all peers that are in, and of those that have not made up for theirs yet.
#[derive(Debug)]
pub(super) struct Rations {
    pub(super) clock: Clock,
    table: Mutex<Table>,
    /// Shared by whoever finds no room.
    overflow: Arc<Ration>,
    entries_max: usize,
}

#[derive(Debug)]
struct Table {
    by_peer: HashMap<Requester, Arc<Ration>>,
    swept_at: Option<Instant>,
}

impl Rations {
    pub(super) fn new() -> Self {
        Self::bounded(limits::RATE_TABLE_ENTRIES_MAX)
    }

    fn bounded(entries_max: usize) -> Self {
        Self {
            clock: Clock::start(),
            table: Mutex::new(Table {
                by_peer: HashMap::new(),
                swept_at: None,
            }),
            overflow: Arc::default(),
            entries_max,
        }
    }

    /// The ration of this peer.
    pub(super) fn of(&self, peer: Requester) -> Arc<Ration> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ration) = table.by_peer.get(&peer) {
            return Arc::clone(ration);
        }
        if table.by_peer.len() >= self.entries_max {
            self.sweep(&mut table);
            if table.by_peer.len() >= self.entries_max {
                return Arc::clone(&self.overflow);
            }
        }
        Arc::clone(table.by_peer.entry(peer).or_default())
    }

    /// Forgets who is gone and owes nothing; now and then only, because it looks at all.
    fn sweep(&self, table: &mut Table) {
        let now = Instant::now();
        let swept = table.swept_at.map(|at| now.saturating_duration_since(at));
        if swept.is_some_and(|ago| ago < limits::RATE_TABLE_SWEEP_INTERVAL) {
            return;
        }
        table.swept_at = Some(now);
        let ticks = self.clock.ticks(now);
        table
            .by_peer
            .retain(|_, ration| Arc::strong_count(ration) > 1 || !ration.is_whole(ticks));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const NO_END: u64 = u64::MAX;

    #[test]
    fn what_was_saved_is_taken_at_once_and_the_rest_at_the_rate() {
        let (taken, price) = (Taken::default(), Price::new(10, 20));
        let now = 5 * TICKS_PER_SECOND;
        assert!(taken.take(now, price, 20, NO_END) <= now);
        assert!(!taken.is_over(now, price));
        let due = taken.take(now, price, 10, NO_END);
        assert_eq!(due, now + TICKS_PER_SECOND);
        assert!(taken.is_over(now, price));
        assert!(!taken.is_over(due, price));
        assert!(!taken.is_whole(due + TICKS_PER_SECOND));
        assert!(taken.is_whole(due + 2 * TICKS_PER_SECOND));
    }

    #[test]
    fn who_shares_a_budget_waits_in_turn() {
        let (taken, price) = (Taken::default(), Price::new(10, 10));
        let dues: Vec<u64> = (0..4).map(|_| taken.take(0, price, 10, NO_END)).collect();
        assert_eq!(dues, [0, 1, 2, 3].map(|seconds| seconds * TICKS_PER_SECOND));
    }

    #[test]
    fn a_debt_has_the_end_that_it_was_given() {
        let (taken, price) = (Taken::default(), Price::new(1, 1));
        assert_eq!(taken.take(0, price, 1_000_000, 7), 7);
        assert!(!taken.is_over(7, price));
    }

    #[test]
    fn the_largest_rates_still_cost_something_and_no_price_overflows() {
        let price = Price::new(8_000_000_000, 8_000_000_000);
        assert!(price.of(1) > 0);
        let dear = Price::new(1, u64::MAX);
        let taken = Taken::default();
        assert_eq!(
            taken.take(u64::MAX / 4, dear, u64::MAX, NO_END),
            u64::MAX / 2 + 1
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_million_addresses_leave_no_more_rations_than_the_table_has() {
        let rations = Rations::bounded(50);
        let address = |host: u32| Requester::Address(IpAddr::from(host.to_be_bytes()).into());
        let price = Price::new(1, 1);
        for host in 0..1_000_000 {
            let ration = rations.of(address(host));
            ration.records.take(0, price, 1, NO_END);
        }
        assert!(rations.table.lock().unwrap().by_peer.len() <= 50);
        // Who owes nothing makes room; who is in or owes does not.
        let (mine, owed) = (rations.of(address(1)), rations.of(address(2)));
        owed.records.take(0, price, 1_000, NO_END);
        drop(owed);
        tokio::time::advance(Duration::from_secs(5)).await;
        let new = rations.of(address(7_777_777));
        assert!(!Arc::ptr_eq(&new, &rations.overflow));
        assert!(Arc::ptr_eq(&mine, &rations.of(address(1))));
        assert!(rations.of(address(2)).records.is_over(0, price));
        assert!(rations.table.lock().unwrap().by_peer.len() <= 4);
    }
}
