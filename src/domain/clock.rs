//! The bank's time: the wall clock's, as far as it is believed.
//!
//! A wall clock may be set by anybody, by mistake too, and what time does cannot be undone: an
//! answer forgotten, a lock over, a hold expired, a day turned. So the bank counts time itself, by
//! the machine's count since it booted (CLOCK_BOOTTIME), which nobody sets. It follows the wall
//! clock only by corrections that are ordinary; after any other it is *guarded*: it counts on by
//! itself until the wall clock is right again or staff say that it is.

use std::collections::VecDeque;
use std::fmt;

use super::Timestamp;

/// Corrections that are believed within one of these count together.
const HOUR_MS: i64 = 3_600_000;
/// How finely the hour's corrections are kept.
const MINUTE_MS: i64 = 60_000;
/// Two clocks are not read at the very same moment; a difference up to this is none.
const UNSEEN_MS: u64 = 100;
/// A guard ends by itself once the wall clock was right for so long.
const SETTLED_MS: i64 = 60_000;

/// What is believed of a wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockPolicy {
    /// The most that all corrections within an hour may be together, in either direction.
    pub jump_ms: u64,
    /// How far the wall clock may be ahead of the last trusted moment where the machine has booted
    /// since.
    pub ahead_at_start_ms: u64,
}

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The wall clock.
    pub wall: Timestamp,
    /// Milliseconds since the machine booted, sleep counted.
    pub boot_ms: i64,
}

impl ClockReading {
    fn offset_ms(self) -> i64 {
        self.wall.unix_ms().saturating_sub(self.boot_ms)
    }
}

/// Why the wall clock is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockGuard {
    /// It jumped while the bank ran, or between two runs in one boot.
    Jumped,
    /// At a start it was behind the last trusted moment.
    Behind,
    /// At a start it was so far from the last moment that the bank serves no money: too far ahead of
    /// a trusted one, or too far to either side of one that only stamps tell.
    Apart,
}

impl ClockGuard {
    /// The number it is stored under.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Jumped => 1,
            Self::Behind => 2,
            Self::Apart => 3,
        }
    }

    /// From the number it is stored under.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        [Self::Jumped, Self::Behind, Self::Apart]
            .into_iter()
            .find(|guard| guard.number() == number)
    }

    /// Its name, for machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jumped => "jumped",
            Self::Behind => "behind_at_start",
            Self::Apart => "apart_at_start",
        }
    }
}

impl fmt::Display for ClockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jumped => "the wall clock jumped",
            Self::Behind => "at the start, the wall clock was behind the last trusted moment",
            Self::Apart => {
                "at the start, the wall clock and the last moment of the store were too far apart to tell which is right"
            }
        })
    }
}

/// A correction that was believed: when, in milliseconds since the boot, and by how much.
type Correction = (i64, u64);

/// What a store keeps of a clock, so that the next start can judge the wall clock by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockMark {
    /// The trusted moment; with [`ClockGuard::Apart`] what the store says, which may be wrong.
    pub trusted: Timestamp,
    /// Which boot of the machine it was; empty where that is not known.
    pub boot_id: String,
    /// Milliseconds since that boot.
    pub boot_ms: i64,
    /// The wall clock less the milliseconds since that boot, as believed.
    pub offset_ms: i64,
    /// Whether the clock was guarded.
    pub guard: Option<ClockGuard>,
    /// The corrections of the last hour, as [`ClockMark::corrections_text`] writes them.
    pub corrections: Vec<Correction>,
}

impl ClockMark {
    /// The mark of a store that kept no clock: the newest of its stamps, which may be wrong.
    #[must_use]
    pub fn of_stamps(newest: Timestamp) -> Self {
        Self {
            trusted: newest,
            boot_id: String::new(),
            boot_ms: 0,
            offset_ms: 0,
            guard: None,
            corrections: Vec::new(),
        }
    }

    /// Whether no clock that was believed, and no staff, has ever said that its moment is right.
    fn is_unproven(&self) -> bool {
        let of_stamps = self.boot_id.is_empty() && self.offset_ms == 0;
        of_stamps || self.guard == Some(ClockGuard::Apart)
    }

    /// Whether it differs from another by its two moments at most.
    #[must_use]
    pub fn only_went_on_from(&self, other: &Self) -> bool {
        (self.offset_ms, self.guard) == (other.offset_ms, other.guard)
            && self.boot_id == other.boot_id
            && self.corrections == other.corrections
    }

    /// The mark as it had gone on to a moment, where that is later.
    #[must_use]
    pub fn gone_on_to(self, later: Timestamp) -> Self {
        let went_on_ms = self.trusted.ms_until(later);
        Self {
            trusted: self.trusted.plus_ms(went_on_ms),
            boot_ms: self.boot_ms.saturating_add_unsigned(went_on_ms),
            ..self
        }
    }

    /// The corrections, as `boot_ms:ms` with commas between.
    #[must_use]
    pub fn corrections_text(&self) -> String {
        let each = self.corrections.iter();
        let each = each.map(|(boot_ms, ms)| format!("{boot_ms}:{ms}"));
        each.collect::<Vec<_>>().join(",")
    }

    /// Reads what [`ClockMark::corrections_text`] wrote; what is unreadable is left out.
    #[must_use]
    pub fn parse_corrections(text: &str) -> Vec<Correction> {
        let each = text.split(',').filter_map(|one| one.split_once(':'));
        each.filter_map(|(boot_ms, ms)| Some((boot_ms.parse().ok()?, ms.parse().ok()?)))
            .collect()
    }
}

/// The trusted clock. It is asked with the milliseconds since the machine booted, and never runs
/// backwards but by [`TrustedClock::accept`].
#[derive(Debug, Clone)]
pub struct TrustedClock {
    boot_id: String,
    /// A trusted moment, and the milliseconds since the boot that it was at.
    base: (Timestamp, i64),
    /// The wall clock less the milliseconds since the boot, as believed.
    offset_ms: i64,
    guard: Option<ClockGuard>,
    /// How far the store's last moment is ahead of the clock, where it is not known which is right.
    stamps_ahead_ms: u64,
    /// The last trusted moment, where a start believed a wall clock well ahead of it.
    leapt_from: Option<Timestamp>,
    /// Since when a guarded clock's wall has been right again.
    right_since: Option<i64>,
    /// Believed within the last hour, by the minute: 61 at most.
    corrections: VecDeque<Correction>,
}

impl TrustedClock {
    /// The clock at a start. In the boot of the mark it is judged as if the bank had run on; in
    /// another one the wall clock is believed where it is near enough; without a mark it is. Where it
    /// cannot be told which is right, the earlier is taken: it forgets and expires nothing early.
    #[must_use]
    pub fn begin(
        mark: Option<ClockMark>,
        boot_id: &str,
        policy: ClockPolicy,
        now: ClockReading,
    ) -> Self {
        let mut clock = Self {
            boot_id: boot_id.to_owned(),
            base: (now.wall, now.boot_ms),
            offset_ms: now.offset_ms(),
            guard: None,
            stamps_ahead_ms: 0,
            leapt_from: None,
            right_since: None,
            corrections: VecDeque::new(),
        };
        let Some(mark) = mark else { return clock };
        if mark.boot_id == boot_id && !boot_id.is_empty() && mark.boot_ms <= now.boot_ms {
            clock.offset_ms = mark.offset_ms;
            clock.guard = mark.guard;
            clock.go_on_from(mark.trusted, mark.boot_ms);
            clock.corrections = mark.corrections.into();
            clock.look(policy, now);
            return clock;
        }
        clock.guard = match judge_at_start(policy, mark.trusted, now.wall) {
            Some(_) if mark.is_unproven() => Some(ClockGuard::Apart),
            judged => judged,
        };
        clock.go_on_from(mark.trusted, now.boot_ms);
        if clock.guard.is_some() {
            clock.offset_ms = clock.base.0.unix_ms().saturating_sub(now.boot_ms);
        } else if mark.trusted.ms_until(now.wall) > policy.jump_ms {
            clock.leapt_from = Some(mark.trusted);
        }
        clock
    }

    /// Begins at the store's last moment, or where it is not known to be right, at the wall clock's if
    /// that is earlier.
    fn go_on_from(&mut self, last: Timestamp, boot_ms: i64) {
        let wall = Timestamp::from_unix_ms(boot_ms.saturating_add(self.offset_ms));
        let taken = match self.guard {
            Some(ClockGuard::Apart) => last.min(wall),
            _ => last,
        };
        self.base = (taken, boot_ms);
        self.stamps_ahead_ms = taken.ms_until(last);
    }

    /// The trusted moment. After a believed step back it runs at half speed until the wall clock
    /// has caught up.
    #[must_use]
    pub fn at(&self, boot_ms: i64) -> Timestamp {
        let (base, base_boot_ms) = self.base;
        let since = u64::try_from(boot_ms.saturating_sub(base_boot_ms)).unwrap_or(0);
        let believed = Timestamp::from_unix_ms(boot_ms.saturating_add(self.offset_ms));
        believed.max(base.plus_ms(since.div_euclid(2)))
    }

    /// Why the wall clock is not believed, where it is not.
    #[must_use]
    pub fn guard(&self) -> Option<ClockGuard> {
        self.guard
    }

    /// What the store says that the moment is. It is later than [`TrustedClock::at`] where its last
    /// moment was ahead of the wall clock at the start, and it is not known which is right.
    #[must_use]
    pub fn stamped_at(&self, boot_ms: i64) -> Timestamp {
        self.at(boot_ms).plus_ms(self.stamps_ahead_ms)
    }

    /// The last trusted moment, where the start believed a wall clock that was ahead of it by more than
    /// corrections may be.
    #[must_use]
    pub fn leapt_from(&self) -> Option<Timestamp> {
        self.leapt_from
    }

    /// Compares the wall clock with the trusted one.
    pub fn look(&mut self, policy: ClockPolicy, now: ClockReading) {
        let off_ms = now.offset_ms().abs_diff(self.offset_ms);
        let may_follow = off_ms <= UNSEEN_MS || self.has_room(policy, now.boot_ms, off_ms);
        let right = match self.guard {
            None if may_follow => return self.follow(now, Some(off_ms)),
            None => {
                self.guard = Some(ClockGuard::Jumped);
                false
            }
            Some(ClockGuard::Jumped) => may_follow,
            Some(ClockGuard::Behind | ClockGuard::Apart) => {
                judge_at_start(policy, self.stamped_at(now.boot_ms), now.wall).is_none()
            }
        };
        if !right {
            self.right_since = None;
            return;
        }
        let since = *self.right_since.get_or_insert(now.boot_ms);
        if now.boot_ms.saturating_sub(since) >= SETTLED_MS {
            // What ends a start's guard is no correction of the hour's: a start had taken it as well.
            let correction = (self.guard == Some(ClockGuard::Jumped)).then_some(off_ms);
            self.settle();
            self.follow(now, correction);
        }
    }

    /// Takes the wall clock as it is: staff say so. Only this sets trusted time back.
    pub fn accept(&mut self, now: ClockReading) {
        self.base = (now.wall, now.boot_ms);
        self.offset_ms = now.offset_ms();
        self.settle();
        self.corrections.clear();
    }

    fn settle(&mut self) {
        (self.guard, self.right_since, self.stamps_ahead_ms) = (None, None, 0);
    }

    /// What a store keeps.
    #[must_use]
    pub fn mark(&self, boot_ms: i64) -> ClockMark {
        ClockMark {
            trusted: self.stamped_at(boot_ms),
            boot_id: self.boot_id.clone(),
            boot_ms,
            offset_ms: self.offset_ms,
            guard: self.guard,
            corrections: self.corrections.iter().copied().collect(),
        }
    }

    /// Takes the wall clock's time; a `correction` of so many milliseconds counts with the hour's.
    fn follow(&mut self, now: ClockReading, correction: Option<u64>) {
        if correction.is_some_and(|off_ms| off_ms <= UNSEEN_MS) {
            return;
        }
        self.base = (self.at(now.boot_ms), now.boot_ms);
        self.offset_ms = now.offset_ms();
        let Some(off_ms) = correction else { return };
        let minute = now.boot_ms.div_euclid(MINUTE_MS);
        match self.corrections.back_mut() {
            Some((at, ms)) if at.div_euclid(MINUTE_MS) == minute => {
                (*at, *ms) = (now.boot_ms, ms.saturating_add(off_ms));
            }
            _ => self.corrections.push_back((now.boot_ms, off_ms)),
        }
    }

    /// Whether the hour's corrections leave room for one more.
    fn has_room(&mut self, policy: ClockPolicy, boot_ms: i64, off_ms: u64) -> bool {
        let hour_ago = boot_ms.saturating_sub(HOUR_MS);
        self.corrections.retain(|(at, _)| *at > hour_ago);
        let spent = self.corrections.iter();
        let spent = spent.fold(off_ms, |sum, (_, ms)| sum.saturating_add(*ms));
        spent <= policy.jump_ms
    }
}

/// Whether a start in another boot believes the wall clock.
fn judge_at_start(policy: ClockPolicy, trusted: Timestamp, wall: Timestamp) -> Option<ClockGuard> {
    if wall.ms_until(trusted) > policy.jump_ms {
        Some(ClockGuard::Behind)
    } else if trusted.ms_until(wall) > policy.ahead_at_start_ms {
        Some(ClockGuard::Apart)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
