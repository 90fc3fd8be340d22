//! The bank's time as this terminal knows it, and what it makes of its own.
//!
//! A terminal's clock may be years off, and is set back and forward. So what must not be done too
//! late is judged by the bank's clock: what the bank said last, carried on by a clock of this
//! machine that nobody sets and that goes on while it sleeps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::domain::Timestamp;

/// A moment, by this machine's clock and by the bank's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// By this machine's clock, which may say anything.
    pub own: Timestamp,
    /// By the bank's; `None` where the bank has not told its time.
    pub bank: Option<Timestamp>,
}

/// The bank's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct BankClock {
    /// What it said last, and when that was heard.
    heard: Option<(Timestamp, Duration)>,
}

impl BankClock {
    /// Takes what the bank says; what is not of the form that the protocol has changes nothing.
    pub fn hear(&mut self, time: &str) {
        self.hear_at(time, since_boot());
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Stamp {
        Stamp {
            own: own_now(),
            bank: self.bank_at(since_boot()),
        }
    }

    fn hear_at(&mut self, time: &str, at: Duration) {
        let said = Timestamp::parse(time).filter(|said| said.to_string() == time);
        self.heard = said.map(|said| (said, at)).or(self.heard);
    }

    fn bank_at(&self, at: Duration) -> Option<Timestamp> {
        let (said, heard_at) = self.heard?;
        Some(said.plus_ms(ms(at.saturating_sub(heard_at))))
    }
}

/// Time since the machine was started, sleep included; nobody can set it.
pub(super) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// This machine's clock; a moment before 1970 is taken for 1970.
pub(super) fn own_now() -> Timestamp {
    of_file(SystemTime::now())
}

/// A moment as files have it.
pub(super) fn of_file(moment: SystemTime) -> Timestamp {
    let since_epoch = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "2026-01-31T09:30:00.000Z";

    fn at_second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_bank_s_time_goes_on_between_its_answers_and_is_set_by_each() {
        let mut clock = BankClock::default();
        assert_eq!(clock.bank_at(at_second(5)), None);
        clock.hear_at(TOLD, at_second(5));
        let told = Timestamp::parse(TOLD).unwrap();
        let slept_ms = 32 * 86_400_000;
        let later = at_second(5) + Duration::from_millis(slept_ms);
        assert_eq!(clock.bank_at(later), Some(told.plus_ms(slept_ms)));
        clock.hear_at("2026-01-31T09:29:59.999Z", at_second(6));
        assert_eq!(clock.bank_at(at_second(6)), Some(told.minus_ms(1)));
    }

    #[test]
    fn what_is_no_time_of_the_protocol_s_form_changes_nothing() {
        let mut clock = BankClock::default();
        for nonsense in [
            "",
            "tomorrow",
            "2026-01-31",
            "2026-01-31T09:30:00Z",
            "2026-01-31T09:30:00.000+00:00",
            "2026-01-31t09:30:00.000z",
            "2026-01-31T09:30:00.0000Z",
            "2026-02-31T09:30:00.000Z",
            "-026-01-31T09:30:00.000Z",
        ] {
            clock.hear_at(nonsense, at_second(1));
            assert_eq!(clock.bank_at(at_second(1)), None, "{nonsense}");
        }
        clock.hear_at(TOLD, at_second(1));
        clock.hear_at("soon", at_second(2));
        let told = Timestamp::parse(TOLD).unwrap();
        assert_eq!(clock.bank_at(at_second(2)), Some(told.plus_ms(1_000)));
    }

    #[test]
    fn the_clock_that_carries_it_on_counts_since_the_machine_started() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let whole: u64 = uptime.split('.').next().unwrap().parse().unwrap();
        assert!(since_boot().as_secs().abs_diff(whole) <= 60);
    }
}
