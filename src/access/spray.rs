//! PIN spraying: few tries on many accounts, from one terminal or spread over many.
//!
//! A log-in that fails upon a number is an unresolved failure until a right PIN for that number
//! resolves it. What counts is how many are unresolved, at a source and in the whole bank; the
//! oldest is let go at a steady pace, so that honest customers who walk away are forgiven. Customers
//! mistype and try again, which leaves nothing behind; a sprayer leaves one with every try, and
//! log-ins to an account of their own in between take none away.
//!
//! For the whole bank all failures upon a number count as one once they have locked it: that is what
//! a customer leaves who has forgotten the PIN, and it is the lock-out's business.
//!
//! [`Detector`] is the rule alone: time is handed in, nothing waits. [`SprayWatch`] is the one that
//! all connections of a server share.

mod watch;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::throttle::{Requester, RetryAfter};
use crate::domain::AccountNumber;
use crate::limits;

pub use watch::{OpenLogin, SprayWatch};

/// What [`Detector`] goes by, all from `spray_tries`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    /// Unresolved failures at which a spray is noticed.
    noticed_at: usize,
    /// Those below which it is over.
    over_below: usize,
    /// Those remembered, by a source or for the whole bank.
    numbers_max: usize,
    /// A source's oldest one is let go this often.
    source_leak_ms: u64,
    /// The bank's oldest one is let go this often.
    bank_leak_ms: u64,
}

impl Bounds {
    /// `None` where detection is off.
    fn new(spray_tries: u32) -> Option<Self> {
        let tries = usize::try_from(spray_tries)
            .ok()
            .filter(|tries| *tries > 0)?;
        let tries = tries.min(limits::SPRAY_TRIES_MAX);
        // A fifth of the tries may be let go while a spray goes on, and still it is noticed in time.
        let noticed_at = (tries.saturating_mul(4) / 5).max(1);
        let per_hour = |share: u64| {
            let tries = u64::try_from(tries).unwrap_or(u64::MAX);
            HOUR_MS.saturating_mul(share).checked_div(tries)
        };
        Some(Self {
            noticed_at,
            over_below: noticed_at.saturating_sub(noticed_at / 4),
            numbers_max: noticed_at.saturating_add(limits::SPRAY_DOUBLINGS_MAX),
            source_leak_ms: per_hour(limits::SPRAY_SOURCE_LEAK_HOURS)?.max(1),
            bank_leak_ms: per_hour(limits::SPRAY_BANK_LEAK_HOURS)?.max(1),
        })
    }
}

const HOUR_MS: u64 = 3_600_000;

/// Failures that are unresolved, by the number, oldest first.
#[derive(Debug, Default)]
struct Unresolved {
    numbers: VecDeque<AccountNumber>,
    /// Since when the oldest is on its way to be let go.
    leaking_since_ms: u64,
    noticed: bool,
}

impl Unresolved {
    /// Lets go what time forgives; whether a spray is going on.
    fn at(&mut self, now_ms: u64, leak_ms: u64, bounds: &Bounds) -> bool {
        let waited_ms = now_ms.saturating_sub(self.leaking_since_ms);
        let due = waited_ms.checked_div(leak_ms).unwrap_or(0);
        let gone = usize::try_from(due).unwrap_or(usize::MAX);
        self.numbers.drain(..gone.min(self.numbers.len()));
        let leaked_ms = due.saturating_mul(leak_ms);
        self.leaking_since_ms = self.leaking_since_ms.saturating_add(leaked_ms);
        self.noticed &= self.numbers.len() >= bounds.over_below;
        self.noticed
    }

    /// Adds a failure; whether a spray is noticed by it.
    fn add(&mut self, number: AccountNumber, now_ms: u64, bounds: &Bounds) -> bool {
        if self.numbers.is_empty() {
            self.leaking_since_ms = now_ms;
        }
        // At the bound nothing older goes: a number of the sprayer's own, resolved later, would
        // wash another away.
        if self.numbers.len() < bounds.numbers_max {
            self.numbers.push_back(number);
        }
        let newly = !self.noticed && self.numbers.len() >= bounds.noticed_at;
        self.noticed |= newly;
        newly
    }

    /// Runs of tries on one number, which in a source follow each other.
    fn different(&self) -> usize {
        let numbers = self.numbers.iter();
        let before = std::iter::once(None).chain(self.numbers.iter().map(Some));
        numbers
            .zip(before)
            .filter(|(number, before)| Some(*number) != *before)
            .count()
    }

    fn resolve(&mut self, number: AccountNumber) {
        self.numbers.retain(|known| *known != number);
    }
}

/// A source of log-ins that is remembered: it failed, or is at it.
#[derive(Debug, Default)]
struct Source {
    unresolved: Unresolved,
    /// When it was last let through.
    last_ms: u64,
    /// Log-ins let through whose outcome is not known.
    open: usize,
    /// Its unresolved failures when it began to be slowed.
    slowed_from: Option<usize>,
    /// Its place in the order of being forgotten.
    place: Place,
}

/// Sources are forgotten in this order: those that spray last, else the longest idle first.
type Place = (bool, u64);

/// Where a spray was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noticed {
    /// At one source.
    Source,
    /// Over the whole bank, however spread.
    Bank,
}

impl Noticed {
    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Bank => "bank",
        }
    }
}

/// Whether a log-in may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may. Its outcome must be told by [`Detector::judge`].
    Go,
    /// As many are open as could be failures before a spray is noticed: when one is judged.
    Wait,
    /// The source is slowed: after this time.
    Slowed(RetryAfter),
}

/// What came of a log-in that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The PIN was wrong, or the number is nobody's.
    Failed,
    /// The same, and it was the number's last try.
    FailedAndLocked,
    /// The PIN was right.
    Right,
    /// No PIN was looked at.
    Unknown,
}

/// Notices sprays and slows them. Moments are milliseconds since some fixed one.
#[derive(Debug)]
pub struct Detector {
    bounds: Option<Bounds>,
    sources: HashMap<Requester, Source>,
    order: BTreeMap<Place, Requester>,
    bank: Unresolved,
    /// Failures remembered by all sources together.
    numbers: usize,
    next_place: u64,
    sources_max: usize,
    numbers_max: usize,
}

impl Detector {
    /// Knows nothing yet. `spray_tries` 0: is off; more than [`limits::SPRAY_TRIES_MAX`] is taken
    /// as that.
    #[must_use]
    pub fn new(spray_tries: u32) -> Self {
        Self {
            bounds: Bounds::new(spray_tries),
            sources: HashMap::new(),
            order: BTreeMap::new(),
            bank: Unresolved::default(),
            numbers: 0,
            next_place: 0,
            sources_max: limits::SPRAY_SOURCES_MAX,
            numbers_max: limits::SPRAY_NUMBERS_MAX,
        }
    }

    /// Takes another `spray_tries` and forgets nothing, unless it is 0.
    pub fn set_tries(&mut self, spray_tries: u32) {
        self.bounds = Bounds::new(spray_tries);
        if self.bounds.is_none() {
            *self = Self::new(0);
        }
    }

    /// How long `source` must wait now because it is slowed.
    ///
    /// # Errors
    /// [`RetryAfter`].
    pub fn check(&mut self, source: &Requester, now_ms: u64) -> Result<(), RetryAfter> {
        let Some(bounds) = self.bounds else {
            return Ok(());
        };
        let bank = self.bank.at(now_ms, bounds.bank_leak_ms, &bounds);
        self.forgive(source, &bounds, now_ms);
        let slowed = |known: &mut Source| Some((known.interval_ms(bank)?, known.last_ms));
        match self.sources.get_mut(source).and_then(slowed) {
            Some((interval_ms, last_ms)) if now_ms < last_ms.saturating_add(interval_ms) => {
                let free_ms = last_ms.saturating_add(interval_ms);
                Err(RetryAfter(free_ms.saturating_sub(now_ms)))
            }
            _ => Ok(()),
        }
    }

    /// Whether a log-in from `source` may be tried now; where it may, it is open until judged.
    pub fn admit(&mut self, source: &Requester, now_ms: u64) -> Admission {
        if let Err(wait) = self.check(source, now_ms) {
            return Admission::Slowed(wait);
        }
        let Some(bounds) = self.bounds else {
            return Admission::Go;
        };
        let bank = self.bank.noticed;
        let known = self.remember(source);
        let failures = known.unresolved.numbers.len();
        let room = match known.interval_ms(bank) {
            Some(_) => 1,
            None => bounds.noticed_at.saturating_sub(failures).max(1),
        };
        let go = known.open < room;
        if go {
            known.open = known.open.saturating_add(1);
            known.last_ms = now_ms;
        }
        self.keep_bounds(source);
        if go { Admission::Go } else { Admission::Wait }
    }

    /// Takes the outcome of a log-in upon `number` that was let through; where a spray is noticed
    /// by it.
    pub fn judge(
        &mut self,
        source: &Requester,
        number: AccountNumber,
        verdict: Verdict,
        now_ms: u64,
    ) -> Option<Noticed> {
        let bounds = self.bounds?;
        self.bank.at(now_ms, bounds.bank_leak_ms, &bounds);
        let known = self.remember(source);
        known.open = known.open.saturating_sub(1);
        let before = known.unresolved.numbers.len();
        let leak_ms = bounds.source_leak_ms;
        known.unresolved.at(now_ms, leak_ms, &bounds);
        let mut newly = None;
        match verdict {
            Verdict::Failed | Verdict::FailedAndLocked => {
                known.last_ms = now_ms;
                if known.unresolved.add(number, now_ms, &bounds) {
                    newly = Some(Noticed::Source);
                }
            }
            Verdict::Right => known.unresolved.resolve(number),
            Verdict::Unknown => {}
        }
        let after = known.unresolved.numbers.len();
        self.numbers = self.numbers.saturating_sub(before).saturating_add(after);
        if matches!(verdict, Verdict::Right | Verdict::FailedAndLocked) {
            self.bank.resolve(number);
        }
        if matches!(verdict, Verdict::Failed | Verdict::FailedAndLocked) {
            let in_bank = self.bank.add(number, now_ms, &bounds);
            newly = newly.or(in_bank.then_some(Noticed::Bank));
        }
        if let Some(known) = self.sources.get_mut(source) {
            known.interval_ms(self.bank.noticed);
        }
        self.keep_bounds(source);
        newly
    }

    /// Sources that are remembered now, and their failures in all.
    #[must_use]
    pub fn remembered(&self) -> (usize, usize) {
        (self.sources.len(), self.numbers)
    }

    /// Failures that are unresolved in the whole bank, as of the last call.
    #[must_use]
    pub fn unresolved(&self) -> usize {
        self.bank.numbers.len()
    }

    fn remember(&mut self, source: &Requester) -> &mut Source {
        while self.sources.len() >= self.sources_max && !self.sources.contains_key(source) {
            if !self.forget_idlest() {
                break;
            }
        }
        self.sources.entry(source.clone()).or_default()
    }

    /// Puts a source where it belongs now, and lets others go while there is too much.
    fn keep_bounds(&mut self, source: &Requester) {
        self.next_place = self.next_place.saturating_add(1);
        let Some(known) = self.sources.get_mut(source) else {
            return;
        };
        self.order.remove(&known.place);
        if known.open == 0 && known.unresolved.numbers.is_empty() {
            self.sources.remove(source);
            return;
        }
        known.place = (known.unresolved.noticed, self.next_place);
        self.order.insert(known.place, source.clone());
        while self.numbers > self.numbers_max && self.forget_idlest() {}
    }

    fn forget_idlest(&mut self) -> bool {
        let Some((_, source)) = self.order.pop_first() else {
            return false;
        };
        if let Some(gone) = self.sources.remove(&source) {
            let numbers = gone.unresolved.numbers.len();
            self.numbers = self.numbers.saturating_sub(numbers);
        }
        true
    }

    /// Lets time forgive a source.
    fn forgive(&mut self, source: &Requester, bounds: &Bounds, now_ms: u64) {
        if let Some(known) = self.sources.get_mut(source) {
            let before = known.unresolved.numbers.len();
            known.unresolved.at(now_ms, bounds.source_leak_ms, bounds);
            let gone = before.saturating_sub(known.unresolved.numbers.len());
            self.numbers = self.numbers.saturating_sub(gone);
        }
    }
}

impl Source {
    /// The least time between two log-ins, where the source is slowed: it doubles with every
    /// further failure that is unresolved.
    fn interval_ms(&mut self, bank: bool) -> Option<u64> {
        // For others' sake one customer's tries count once here.
        let failures = match self.unresolved.noticed {
            true => self.unresolved.numbers.len(),
            false => self.unresolved.different(),
        };
        let slowed = self.unresolved.noticed || (bank && failures > 0);
        if !slowed {
            self.slowed_from = None;
            return None;
        }
        let from = *self.slowed_from.get_or_insert(failures);
        let doublings = u32::try_from(failures.saturating_sub(from)).unwrap_or(u32::MAX);
        let first_ms = ms(limits::SPRAY_INTERVAL_FIRST);
        let interval_ms = first_ms.saturating_mul(2_u64.saturating_pow(doublings));
        Some(interval_ms.min(ms(limits::SPRAY_INTERVAL_LAST)))
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
