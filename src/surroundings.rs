//! The world outside the rules: time and chance. Handed in, so that tests and simulations can
//! hand in their own.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::domain::{HoldName, Timestamp};

/// Where the present moment and randomness come from.
pub trait Surroundings: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment, never running backwards, for rates.
    fn elapsed(&self) -> Duration;

    /// Sixteen bytes that nobody can guess (or, in a simulation, that the seed gives).
    fn random(&self) -> [u8; 16];
}

/// A new name for a hold: a UUID of version 7 (RFC 9562) of the present moment.
#[must_use]
pub fn new_hold_name(surroundings: &dyn Surroundings) -> Option<HoldName> {
    let ms = u64::try_from(surroundings.now().unix_ms()).unwrap_or(0);
    let [random @ .., _, _, _, _, _, _] = surroundings.random();
    uuid::Builder::from_unix_timestamp_millis(ms, &random)
        .into_uuid()
        .to_string()
        .parse()
        .ok()
}

/// The machine's clock and its generator of random numbers.
#[derive(Debug)]
pub struct System {
    random: SystemRandom,
    started: Instant,
}

impl Default for System {
    fn default() -> Self {
        Self {
            random: SystemRandom::new(),
            started: Instant::now(),
        }
    }
}

impl Surroundings for System {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_unix_ms(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        if self.random.fill(&mut bytes).is_err() {
            // Linux never reports this once it has booted. Salts and peppers that could be guessed
            // would be worse than no bank at all.
            std::process::abort();
        }
        bytes
    }
}

/// A clock that stands until it is moved, and chance that repeats from a seed.
#[derive(Debug)]
pub struct Virtual {
    now_ms: AtomicI64,
    state: AtomicU64,
}

impl Virtual {
    /// Starts at `now` with `seed`.
    #[must_use]
    pub fn new(now: Timestamp, seed: u64) -> Self {
        Self {
            now_ms: AtomicI64::new(now.unix_ms()),
            state: AtomicU64::new(seed),
        }
    }

    /// Moves the clock on.
    pub fn advance_ms(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// The next number of the seed's row (SplitMix64 of Steele, Lea and Flood, 2014).
    pub fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self
            .state
            .fetch_add(STEP, Ordering::SeqCst)
            .wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Surroundings for Virtual {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.now_ms.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.now_ms.load(Ordering::SeqCst)).unwrap_or(0))
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next_u64().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next_u64().to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_row_and_holds_get_names_that_parse() {
        let moment = Timestamp::from_unix_ms(1_767_225_600_000);
        let (one, same) = (Virtual::new(moment, 7), Virtual::new(moment, 7));
        assert_eq!(new_hold_name(&one), new_hold_name(&same));
        assert_ne!(new_hold_name(&one), new_hold_name(&System::default()));
        one.advance_ms(5);
        assert_eq!(one.now(), moment.plus_ms(5));
    }
}
