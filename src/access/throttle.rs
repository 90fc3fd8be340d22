//! Limits by connection, terminal and address (governor's GCRA). Every table has a bound.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::domain::TerminalName;
use crate::limits;
use crate::surroundings::Surroundings;

/// governor's view of the surroundings' clock.
#[derive(Clone)]
struct Ticks(Arc<dyn Surroundings>);

impl Clock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// So many a second, with so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many in `per`, 1 or more.
    pub count: u32,
    /// The span.
    pub per: Duration,
    /// How many at once, 1 or more.
    pub burst: u32,
}

impl Rate {
    fn quota(self) -> Quota {
        let one = self
            .per
            .checked_div(self.count.max(1))
            .unwrap_or(Duration::from_secs(1));
        let burst = NonZeroU32::new(self.burst).unwrap_or(NonZeroU32::MIN);
        Quota::with_period(one.max(Duration::from_nanos(1)))
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst)
    }
}

/// Come again after so many milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter(pub u64);

fn retry_after(wait: Duration) -> RetryAfter {
    RetryAfter(
        u64::try_from(wait.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1),
    )
}

/// The rate of one connection.
pub struct ConnectionThrottle {
    limiter: RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Duration>>,
    ticks: Ticks,
}

impl ConnectionThrottle {
    /// A full budget.
    #[must_use]
    pub fn new(rate: Rate, surroundings: Arc<dyn Surroundings>) -> Self {
        let ticks = Ticks(surroundings);
        Self {
            limiter: RateLimiter::direct_with_clock(rate.quota(), ticks.clone()),
            ticks,
        }
    }

    /// Takes one from the budget.
    ///
    /// # Errors
    /// [`RetryAfter`] where it is used up.
    pub fn check(&self) -> Result<(), RetryAfter> {
        let now = || self.ticks.now();
        self.limiter
            .check()
            .map_err(|not_until| retry_after(not_until.wait_time_from(now())))
    }
}

type Keyed<K> = RateLimiter<K, DashMapStateStore<K>, Ticks, NoOpMiddleware<Duration>>;

/// A rate for each key, over a table that does not grow beyond its bound.
pub struct KeyedThrottle<K: Hash + Eq + Clone> {
    keyed: Keyed<K>,
    overflow: ConnectionThrottle,
    ticks: Ticks,
    shrunk_at_ms: AtomicU64,
    keys_max: usize,
}

impl<K: Hash + Eq + Clone> KeyedThrottle<K> {
    /// An empty table.
    #[must_use]
    pub fn new(rate: Rate, surroundings: Arc<dyn Surroundings>) -> Self {
        Self::bounded(rate, surroundings, limits::RATE_TABLE_ENTRIES_MAX)
    }

    fn bounded(rate: Rate, surroundings: Arc<dyn Surroundings>, keys_max: usize) -> Self {
        let ticks = Ticks(Arc::clone(&surroundings));
        Self {
            keyed: RateLimiter::dashmap_with_clock(rate.quota(), ticks.clone()),
            overflow: ConnectionThrottle::new(rate, surroundings),
            ticks,
            shrunk_at_ms: AtomicU64::new(0),
            keys_max,
        }
    }

    /// Takes one from the key's budget.
    ///
    /// # Errors
    /// [`RetryAfter`] where it is used up.
    pub fn check(&self, key: &K) -> Result<(), RetryAfter> {
        if self.keyed.len() >= self.keys_max && !self.shrink() {
            return self.overflow.check();
        }
        let now = || self.ticks.now();
        self.keyed
            .check_key(key)
            .map_err(|not_until| retry_after(not_until.wait_time_from(now())))
    }

    /// Forgets keys whose budget is full again; whether there is room afterwards.
    fn shrink(&self) -> bool {
        let now_ms = u64::try_from(self.ticks.now().as_millis()).unwrap_or(u64::MAX);
        let interval_ms =
            u64::try_from(limits::RATE_TABLE_SWEEP_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        let due = self
            .shrunk_at_ms
            .load(Ordering::Relaxed)
            .saturating_add(interval_ms)
            <= now_ms;
        if due {
            self.shrunk_at_ms.store(now_ms, Ordering::Relaxed);
            self.keyed.retain_recent();
        }
        self.keyed.len() < self.keys_max
    }

    /// Keys remembered now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keyed.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keyed.is_empty()
    }
}

/// Who is counted for log-ins: a terminal by its certificate, others by address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Requester {
    /// By name.
    Terminal(TerminalName),
    /// By address.
    Address(AddressBlock),
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Terminal(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressBlock(u64, bool);

impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (u32::try_from(self.0), self.1) {
            (Ok(bits), false) => Ipv4Addr::from_bits(bits).fmt(f),
            _ => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(self.0) << 64)),
        }
    }
}

impl From<IpAddr> for AddressBlock {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits()), false),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self(
                    [a, b, c, d]
                        .iter()
                        .fold(0, |block, part| block << 16 | u64::from(*part)),
                    true,
                )
            }
        }
    }
}

/// How many connections each address has open. Bounded by the number of connections.
#[derive(Debug, Default)]
pub struct AddressCounts(Mutex<HashMap<AddressBlock, usize>>);

impl AddressCounts {
    /// Counts one more connection, unless the address has `max` already.
    #[must_use]
    pub fn enter(self: &Arc<Self>, address: AddressBlock, max: usize) -> Option<AddressPlace> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_insert(0);
        if *count >= max {
            return None;
        }
        *count = count.saturating_add(1);
        Some(AddressPlace {
            counts: Arc::clone(self),
            address,
        })
    }
}

/// A counted connection; dropping it counts it out.
#[derive(Debug)]
pub struct AddressPlace {
    counts: Arc<AddressCounts>,
    address: AddressBlock,
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(self.address) {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::surroundings::Virtual;

    fn clock() -> Arc<Virtual> {
        Arc::new(Virtual::new(Timestamp::from_unix_ms(1_000_000), 1))
    }

    const RATE: Rate = Rate {
        count: 10,
        per: Duration::from_secs(1),
        burst: 3,
    };

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let clock = clock();
        let throttle = ConnectionThrottle::new(RATE, clock.clone());
        assert!((0..3).all(|_| throttle.check().is_ok()));
        let RetryAfter(wait_ms) = throttle.check().unwrap_err();
        assert!((90..=101).contains(&wait_ms), "{wait_ms}");
        clock.advance_ms(i64::try_from(wait_ms).unwrap());
        assert!(throttle.check().is_ok());
        assert!(throttle.check().is_err());
    }

    #[test]
    fn keys_do_not_share_a_budget_until_the_table_is_full_and_it_never_grows_beyond() {
        let clock = clock();
        let throttle = KeyedThrottle::bounded(RATE, clock.clone(), 50);
        for key in 0..1_000_000_u32 {
            let _ = throttle.check(&key);
        }
        assert!(throttle.len() <= 50, "{}", throttle.len());
        clock.advance_ms(5_000);
        assert!(throttle.check(&7_777_777).is_ok());
        assert!(throttle.len() <= 50);
    }

    #[test]
    fn an_ipv6_address_counts_by_its_64_and_a_mapped_one_as_ipv4() {
        let block = |text: &str| AddressBlock::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(block("2001:db8::1"), block("2001:db8::ffff:0:0:2"));
        assert_ne!(block("2001:db8::1"), block("2001:db8:0:1::1"));
        assert_eq!(block("::ffff:10.0.0.1"), block("10.0.0.1"));
        assert_ne!(block("0.0.0.1"), block("::1"));
        assert_eq!(block("10.0.0.1").to_string(), "10.0.0.1");
        assert_eq!(block("2001:db8::1").to_string(), "2001:db8::/64");
    }

    #[test]
    fn an_address_gets_its_places_and_no_more_until_one_is_free() {
        let counts = Arc::new(AddressCounts::default());
        let address = AddressBlock::from(IpAddr::from([127, 0, 0, 1]));
        let first = counts.enter(address, 2).unwrap();
        let _second = counts.enter(address, 2).unwrap();
        assert!(counts.enter(address, 2).is_none());
        drop(first);
        assert!(counts.enter(address, 2).is_some());
        drop(_second);
        assert!(counts.0.lock().unwrap().is_empty());
    }
}
