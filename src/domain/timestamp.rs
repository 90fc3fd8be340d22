//! Moments and business days. The clock itself is an argument, never read here.

use std::fmt;

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, Time};

/// A moment: milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Milliseconds of a UTC day.
pub const DAY_MS: u64 = 86_400_000;
const MS_PER_DAY: i64 = DAY_MS.cast_signed();

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_unix_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// This moment moved by `ms`, held at the ends of the range.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
    }

    /// This moment moved back by `ms`, held at the ends of the range.
    #[must_use]
    pub fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)))
    }

    /// Milliseconds from this moment until `later`; 0 where `later` is not later.
    #[must_use]
    pub fn ms_until(self, later: Self) -> u64 {
        u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0)
    }

    /// The UTC day this moment lies in, as days since 1970-01-01.
    #[must_use]
    pub fn business_day(self) -> i64 {
        self.0.div_euclid(MS_PER_DAY)
    }

    /// The first moment of a UTC day, given as days since 1970-01-01.
    #[must_use]
    pub fn start_of_day(day: i64) -> Self {
        Self(day.saturating_mul(MS_PER_DAY))
    }

    /// Reads RFC 3339, or a bare date `YYYY-MM-DD` as the start of that UTC day.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok().or_else(|| {
            let date = Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?;
            Some(date.with_time(Time::MIDNIGHT).assume_utc())
        })?;
        i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000))
            .ok()
            .map(Self)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339, UTC, milliseconds: `2026-01-31T23:59:59.999Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i128::from(self.0).saturating_mul(1_000_000);
        let text = OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .ok()
            .and_then(|moment| {
                let form = format_description!(
                    "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
                );
                moment.format(form).ok()
            });
        f.write_str(text.as_deref().unwrap_or("9999-12-31T23:59:59.999Z"))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_rfc_3339_with_milliseconds_and_read_back() {
        let moment = Timestamp::from_unix_ms(1_767_225_599_007);
        assert_eq!(moment.to_string(), "2025-12-31T23:59:59.007Z");
        assert_eq!(Timestamp::parse("2025-12-31T23:59:59.007Z"), Some(moment));
        assert_eq!(
            Timestamp::parse("2026-01-01"),
            Some(Timestamp::from_unix_ms(1_767_225_600_000))
        );
        assert_eq!(Timestamp::parse("tomorrow"), None);
    }

    #[test]
    fn the_business_day_turns_at_midnight_utc() {
        let midnight = Timestamp::from_unix_ms(1_767_225_600_000);
        assert_eq!(
            midnight.minus_ms(1).business_day() + 1,
            midnight.business_day()
        );
    }

    #[test]
    fn waits_are_never_negative_and_never_overflow() {
        let now = Timestamp::from_unix_ms(5);
        assert_eq!(now.ms_until(Timestamp::from_unix_ms(4)), 0);
        assert_eq!(now.plus_ms(u64::MAX).unix_ms(), i64::MAX);
    }
}
