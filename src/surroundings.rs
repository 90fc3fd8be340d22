//! The world outside the rules: time and chance. Handed in, so that tests and simulations can
//! hand in their own.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use rustix::time::{ClockId, clock_gettime};

use crate::domain::{
    ClockGuard, ClockMark, ClockPolicy, ClockReading, HoldName, Timestamp, TrustedClock,
};

/// Where the present moment and randomness come from.
pub trait Surroundings: fmt::Debug + Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment, never running backwards, for rates.
    fn elapsed(&self) -> Duration;

    /// Sixteen bytes that nobody can guess (or, in a simulation, that the seed gives).
    fn random(&self) -> [u8; 16];

    /// The latest that the present moment may be: what only begins to hold is judged by it. It is
    /// later than [`Surroundings::now`] where a guarded clock's wall is.
    fn latest(&self) -> Timestamp {
        match self.guarded().map(Guarded::state) {
            Some(state) if state.guard.is_some() => state.trusted.max(state.wall),
            _ => self.now(),
        }
    }

    /// The guarded clock that [`Surroundings::now`] is read from; `None` where time is taken as it
    /// comes.
    fn guarded(&self) -> Option<&Guarded> {
        None
    }
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
        wall_clock()
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

/// What a [`Guarded`] clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockState {
    /// The bank's time; where a start could not tell which clock is right, what the store says. Then
    /// [`Surroundings::now`] is the earlier of the two.
    pub trusted: Timestamp,
    /// The wall clock's.
    pub wall: Timestamp,
    /// Why the wall clock is not believed, where it is not.
    pub guard: Option<ClockGuard>,
}

impl ClockState {
    fn of(clock: &TrustedClock, now: ClockReading) -> Self {
        Self {
            trusted: clock.stamped_at(now.boot_ms),
            wall: now.wall,
            guard: clock.guard(),
        }
    }

    /// How far the wall clock is ahead of the bank's time, milliseconds; below 0 where it is behind.
    #[must_use]
    pub fn ahead_ms(&self) -> i64 {
        self.wall.unix_ms().saturating_sub(self.trusted.unix_ms())
    }

    /// Whether money is served: not where wall clock and store were too far apart at a start, because
    /// the bank cannot tell what its time is at all.
    #[must_use]
    pub fn serves_money(&self) -> bool {
        self.guard != Some(ClockGuard::Apart)
    }

    /// What staff are to know of a start with this clock, where it is guarded, and what they can do.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let guard = self.guard?;
        let (trusted, wall) = (self.trusted, self.wall);
        let (serves, mend) = match self.serves_money() {
            true => (
                "the bank would serve by its own time",
                "set the clock right, or run bank_server clock accept",
            ),
            false => (
                "the bank would serve no money",
                "set the clock right; where it is right, run bank_server clock accept",
            ),
        };
        Some(format!(
            "{guard}: the wall clock says {wall}, the bank {trusted}; {serves}; mend: {mend}"
        ))
    }
}

/// The machine, with a clock that is believed only as far as [`TrustedClock`] does.
pub struct Guarded {
    system: System,
    read: Box<dyn Fn() -> ClockReading + Send + Sync>,
    clock: Mutex<(TrustedClock, ClockPolicy)>,
}

impl Guarded {
    /// Begins from what a store kept of the clock, on this machine.
    #[must_use]
    pub fn begin(mark: Option<ClockMark>, policy: ClockPolicy) -> Self {
        // Where it cannot be read, every start is one in another boot.
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot_id = boot_id.unwrap_or_default();
        Self::over(read_clocks, boot_id.trim(), mark, policy)
    }

    /// Begins over clocks that are handed in.
    pub fn over(
        read: impl Fn() -> ClockReading + Send + Sync + 'static,
        boot_id: &str,
        mark: Option<ClockMark>,
        policy: ClockPolicy,
    ) -> Self {
        let clock = TrustedClock::begin(mark, boot_id, policy, read());
        Self {
            system: System::default(),
            read: Box::new(read),
            clock: Mutex::new((clock, policy)),
        }
    }

    /// Compares the wall clock with the trusted one, which is to be done each second.
    pub fn look(&self) {
        let now = (self.read)();
        let (clock, policy) = &mut *self.clock();
        clock.look(*policy, now);
    }

    /// Takes the wall clock as it is, at the word of staff, who saw it so many milliseconds ahead of the
    /// bank's time; what was until then.
    ///
    /// # Errors
    /// What is, where that is another difference by more than `jump_ms`; nothing has changed.
    pub fn accept(&self, shown_ms: i64) -> Result<ClockState, ClockState> {
        let now = (self.read)();
        let (clock, policy) = &mut *self.clock();
        let was = ClockState::of(clock, now);
        if was.ahead_ms().abs_diff(shown_ms) > policy.jump_ms {
            return Err(was);
        }
        clock.accept(now);
        Ok(was)
    }

    /// Another policy, from now on.
    pub fn set_policy(&self, policy: ClockPolicy) {
        self.clock().1 = policy;
    }

    /// What a store is to keep.
    pub fn mark(&self) -> ClockMark {
        let now = (self.read)();
        self.clock().0.mark(now.boot_ms)
    }

    /// The last trusted moment, where the start believed a wall clock that was well ahead of it.
    pub fn leapt_from(&self) -> Option<Timestamp> {
        self.clock().0.leapt_from()
    }

    /// Both clocks now.
    pub fn state(&self) -> ClockState {
        let now = (self.read)();
        ClockState::of(&self.clock().0, now)
    }

    fn clock(&self) -> MutexGuard<'_, (TrustedClock, ClockPolicy)> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guarded({:?})", self.state())
    }
}

impl Surroundings for Guarded {
    fn now(&self) -> Timestamp {
        let now = (self.read)();
        self.clock().0.at(now.boot_ms)
    }

    fn elapsed(&self) -> Duration {
        self.system.elapsed()
    }

    fn random(&self) -> [u8; 16] {
        self.system.random()
    }

    fn guarded(&self) -> Option<&Guarded> {
        Some(self)
    }
}

/// The wall clock, and CLOCK_BOOTTIME, which counts sleep too and which nobody sets.
fn read_clocks() -> ClockReading {
    let since_boot = clock_gettime(ClockId::Boottime);
    let seconds_ms = since_boot.tv_sec.saturating_mul(1_000);
    ClockReading {
        wall: wall_clock(),
        boot_ms: seconds_ms.saturating_add(since_boot.tv_nsec / 1_000_000),
    }
}

fn wall_clock() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix_ms(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
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
