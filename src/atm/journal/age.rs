//! How old a request is: whether its bank still knows its key.

use std::time::{Duration, SystemTime};

use super::super::clock::{Stamp, ms, of_file, own_now, since_boot};
use crate::domain::Timestamp;

const DAY_MS: i64 = 86_400_000;
/// The bank keeps keys for 30 days; a day before that a repeat might be a second withdrawal.
const REPEATED_FOR_MS: i64 = 29 * DAY_MS;

/// How long a request has been kept, whatever its stamp says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    /// Before this process came by it, by this machine's clock; negative where its file is from
    /// the future.
    before_ms: i64,
    /// When this process came by it, since the machine's start.
    since: Duration,
}

impl Kept {
    /// What is made at this moment.
    pub(super) fn from_now() -> Self {
        Self {
            before_ms: 0,
            since: since_boot(),
        }
    }

    /// What stands in a file that was written at this moment.
    pub(super) fn since(written: SystemTime) -> Self {
        Self {
            before_ms: ms_between(of_file(written), own_now()),
            since: since_boot(),
        }
    }

    /// As if this process had kept it in memory for so long.
    #[cfg(test)]
    pub(super) fn for_days(days: i64) -> Self {
        Self {
            before_ms: days.saturating_mul(DAY_MS),
            ..Self::from_now()
        }
    }

    /// What speaks against repeating a request that was made at `made`, at the moment `now`.
    ///
    /// Where the bank told its time then and now, that alone counts. Where it did not, all that
    /// else tells the age must agree to a day. A request from the future is of no known age.
    pub(super) fn doubt(&self, made: Stamp, now: Stamp) -> Option<&'static str> {
        let own_ms = ms_between(made.own, now.bank.unwrap_or(now.own));
        let ages_ms = match (made.bank, now.bank) {
            (Some(made), Some(now)) => [ms_between(made, now); 3],
            (None, _) => [self.ms(), own_ms, own_ms],
            (Some(made), None) => [self.ms(), own_ms, ms_between(made, now.own)],
        };
        let eldest_ms = ages_ms.into_iter().max().unwrap_or(i64::MAX);
        let youngest_ms = ages_ms.into_iter().min().unwrap_or(i64::MIN);
        if youngest_ms <= -DAY_MS || eldest_ms.saturating_sub(youngest_ms) >= DAY_MS {
            Some("is of no age that can be told, since clocks disagree")
        } else if eldest_ms > REPEATED_FOR_MS {
            Some("is older than the bank remembers")
        } else {
            None
        }
    }

    fn ms(&self) -> i64 {
        let here = since_boot().saturating_sub(self.since);
        let here_ms = i64::try_from(ms(here)).unwrap_or(i64::MAX);
        self.before_ms.saturating_add(here_ms)
    }
}

/// Negative where `later` is earlier.
const fn ms_between(earlier: Timestamp, later: Timestamp) -> i64 {
    later.unix_ms().saturating_sub(earlier.unix_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Option<&str> = Some("is older than the bank remembers");
    const ODD: Option<&str> = Some("is of no age that can be told, since clocks disagree");
    const YEARS: i64 = 4_000;

    /// Days since some day, by this machine's clock and by the bank's.
    fn stamp(own_day: i64, bank_day: Option<i64>) -> Stamp {
        let moment = |day: i64| Timestamp::from_unix_ms((20_000 + day) * DAY_MS);
        Stamp {
            own: moment(own_day),
            bank: bank_day.map(moment),
        }
    }

    #[test]
    fn where_the_bank_told_its_time_twice_no_other_clock_counts() {
        for (days, doubt) in [(0, None), (29, None), (30, OLD), (YEARS, OLD), (-1, ODD)] {
            for own_day in [-YEARS, -31, 0, 1, 31, YEARS] {
                for file_days in [-YEARS, 0, 31, YEARS] {
                    let (made, now) = (stamp(0, Some(0)), stamp(own_day, Some(days)));
                    assert_eq!(
                        Kept::for_days(file_days).doubt(made, now),
                        doubt,
                        "{days} {own_day} {file_days}"
                    );
                }
            }
        }
    }

    #[test]
    fn without_the_bank_s_time_file_and_stamp_must_agree_to_a_day() {
        // Age by the file, by the stamp, and what speaks against it.
        for (file_days, own_days, doubt) in [
            (0, 0, None),
            (28, 28, None),
            (30, 30, OLD),
            (0, 2, ODD),
            (2, 0, ODD),
            (3, 32, ODD),
            (32, 3, ODD),
            (-1, -1, ODD),
            (-YEARS, -YEARS, ODD),
            (YEARS, YEARS, OLD),
        ] {
            let case = format!("{file_days} {own_days}");
            let (made, now) = (stamp(0, None), stamp(own_days, None));
            assert_eq!(Kept::for_days(file_days).doubt(made, now), doubt, "{case}");
            // An older bank took over from one that told its time.
            let made = stamp(0, Some(0));
            assert_eq!(Kept::for_days(file_days).doubt(made, now), doubt, "{case}");
        }
    }

    #[test]
    fn a_stamp_of_this_machine_is_compared_with_the_bank_s_time_where_that_is_known() {
        let made = stamp(0, None);
        // The clock was right when it was made, and was set back or forward since.
        for own_day in [-YEARS, 0, 5, YEARS] {
            let now = stamp(own_day, Some(5));
            let file_days = own_day;
            let doubt = if own_day == 5 { None } else { ODD };
            assert_eq!(
                Kept::for_days(file_days).doubt(made, now),
                doubt,
                "{own_day}"
            );
        }
        assert_eq!(Kept::for_days(32).doubt(made, stamp(32, Some(32))), OLD);
    }

    #[test]
    fn an_older_bank_does_not_hide_that_this_machine_s_clock_was_set() {
        let made = stamp(-YEARS, Some(0));
        assert_eq!(Kept::for_days(1).doubt(made, stamp(-YEARS + 1, None)), ODD);
    }
}
