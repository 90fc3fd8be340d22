//! What ends some day, and when that is said: at 30, 7 and 1 days, and when it is over.

use std::collections::HashMap;
use std::hash::Hash;

use crate::domain::Timestamp;
use crate::limits;

const SECONDS_PER_DAY: i64 = 86_400;
const SECONDS_PER_HOUR: i64 = 3_600;

/// What it is that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expiring {
    /// The server's certificate.
    Certificate,
    /// A trusted authority.
    Authority,
    /// A list of revoked certificates: a newer one is due.
    RevocationList,
    /// The issuing authority, which signs terminals that enrol themselves.
    Issuing,
    /// Its list of revoked certificates, which the server makes.
    IssuingList,
}

/// One of the server's own things, and its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expiry {
    /// What it is.
    pub what: Expiring,
    /// Whose: the authority's name; empty for the server's own certificate.
    pub of: String,
    /// Its last second, since 1970 UTC.
    pub ends: i64,
}

impl Expiry {
    /// What to say where the end is near or past; `None` where it is far.
    #[must_use]
    pub fn warning(&self, now_seconds: i64) -> Option<String> {
        let stage = Stage::of(self.ends, now_seconds);
        if stage == Stage::FAR {
            return None;
        }
        let (when, of) = (words(self.ends, now_seconds), &self.of);
        let over = stage == Stage::OVER;
        Some(match (self.what, over) {
            (Expiring::Certificate, false) => {
                format!("the server's certificate ends {when}; mend: gen-certs renew")
            }
            (Expiring::Certificate, true) => format!(
                "the server's certificate ended {when}: terminals refuse it; mend: gen-certs renew"
            ),
            (Expiring::Authority, false) => format!(
                "the authority {of} ends {when}; mend: change over to a new one (docs/OPERATIONS.md)"
            ),
            (Expiring::Authority, true) => format!(
                "the authority {of} ended {when}: what it issued ended too; mend: change over to a new one (docs/OPERATIONS.md)"
            ),
            (Expiring::Issuing, false) => {
                format!("the issuing authority {of} ends {when}; mend: gen-certs renew")
            }
            (Expiring::Issuing, true) => format!(
                "the issuing authority {of} ended {when}: no terminal can enrol, and those that did are not let in; \
                 mend: gen-certs renew"
            ),
            (Expiring::IssuingList, _) => format!(
                "the revocation list of {of} is due {when}; mend: restart the server, which makes a new one"
            ),
            (Expiring::RevocationList, false) => format!(
                "the next revocation list of {of} is due {when}; mend: gen-certs renew makes one"
            ),
            (Expiring::RevocationList, true) => format!(
                "the revocation list of {of} is overdue, a newer one was due {when}; it stays in force; \
                 mend: gen-certs renew makes one"
            ),
        })
    }
}

/// When something ends, in words: "in 6 days (2026-…)", "in 5 hours (…)", or "at 2026-…" where it
/// is past.
#[must_use]
pub fn words(ends: i64, now_seconds: i64) -> String {
    let at = Timestamp::from_unix_ms(ends.saturating_mul(1_000));
    let left = ends.saturating_sub(now_seconds);
    match (left / SECONDS_PER_DAY, left / SECONDS_PER_HOUR) {
        _ if left < 0 => format!("at {at}"),
        (0, hours) => format!("in {hours} hours ({at})"),
        (days, _) => format!("in {days} days ({at})"),
    }
}

/// How near an end is: how many of the thresholds are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stage(usize);

impl Stage {
    const FAR: Self = Self(0);
    const OVER: Self = Self(limits::EXPIRY_WARNING_DAYS.len().saturating_add(1));

    fn of(ends: i64, now_seconds: i64) -> Self {
        let left = ends.saturating_sub(now_seconds);
        if left < 0 {
            return Self::OVER;
        }
        let passed = limits::EXPIRY_WARNING_DAYS
            .iter()
            .filter(|days| left <= days.saturating_mul(SECONDS_PER_DAY));
        Self(passed.count())
    }
}

/// What has been said already: each thing at most once a threshold. Its table has a bound.
#[derive(Debug)]
pub struct Reminders<K> {
    said: HashMap<K, (i64, Stage)>,
    keys_max: usize,
}

impl<K: Hash + Eq> Reminders<K> {
    /// Nothing has been said; of so many things at most it is remembered.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self {
            said: HashMap::new(),
            keys_max,
        }
    }

    /// Whether it is to be said now that `key` ends at `ends`. An end earlier than one known
    /// already is no news: there is a successor. Where the table is full of ends that are still
    /// to come, nothing more is said.
    pub fn is_due(&mut self, key: K, ends: i64, now_seconds: i64) -> bool {
        let stage = Stage::of(ends, now_seconds);
        if stage == Stage::FAR {
            return false;
        }
        if let Some(said) = self.said.get_mut(&key) {
            let due = ends > said.0 || (ends == said.0 && stage > said.1);
            if due {
                *said = (ends, stage);
            }
            return due;
        }
        if self.said.len() >= self.keys_max {
            self.said.retain(|_, said| said.0 >= now_seconds);
        }
        let room = self.said.len() < self.keys_max;
        if room {
            self.said.insert(key, (ends, stage));
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = SECONDS_PER_DAY;

    /// The days left at which something is said, looked at each hour for a year.
    fn said_at(reminders: &mut Reminders<u8>, ends: i64) -> Vec<i64> {
        let looks = (0..365 * 24).map(|hour| hour * 3_600);
        looks
            .filter(|now| reminders.is_due(1, ends, *now))
            .map(|now| (ends - now).div_euclid(DAY))
            .collect()
    }

    #[test]
    fn over_a_year_it_is_said_at_30_7_and_1_days_and_when_it_is_over_and_never_twice() {
        let mut reminders = Reminders::new(10);
        assert_eq!(said_at(&mut reminders, 300 * DAY), [30, 7, 1, -1]);
    }

    #[test]
    fn near_the_end_it_is_said_at_the_first_look() {
        let mut reminders = Reminders::new(10);
        assert_eq!(said_at(&mut reminders, 5 * DAY), [5, 1, -1]);
    }

    #[test]
    fn a_later_end_begins_anew_and_an_earlier_one_beside_it_is_no_news() {
        let mut reminders = Reminders::new(10);
        assert!(reminders.is_due(1, 20 * DAY, 0));
        assert!(!reminders.is_due(1, 20 * DAY, DAY));
        assert!(reminders.is_due(1, 25 * DAY, DAY));
        assert!(!reminders.is_due(1, 20 * DAY, 15 * DAY));
        assert!(reminders.is_due(1, 25 * DAY, 19 * DAY));
        assert!(!reminders.is_due(1, 1_000 * DAY, 19 * DAY));
    }

    #[test]
    fn the_table_keeps_its_bound_and_what_is_over_makes_room() {
        let mut reminders = Reminders::new(100);
        let said = (0..10_000).filter(|key| reminders.is_due(*key, 5 * DAY, 0));
        assert_eq!(said.count(), 100);
        assert!(reminders.is_due(20_000, 30 * DAY, 6 * DAY));
        assert!(reminders.said.len() <= 100);
    }

    #[test]
    fn each_warning_names_the_thing_the_time_and_the_mend() {
        let expiry = |what| Expiry {
            what,
            of: "CN=bank".to_owned(),
            ends: 100 * DAY,
        };
        for (what, words) in [
            (Expiring::Certificate, "server's certificate"),
            (Expiring::Authority, "CN=bank"),
            (Expiring::RevocationList, "CN=bank"),
            (Expiring::Issuing, "CN=bank"),
            (Expiring::IssuingList, "CN=bank"),
        ] {
            let expiry = expiry(what);
            assert_eq!(expiry.warning(69 * DAY), None);
            for (now, time) in [
                (93 * DAY, "in 7 days (1970-04-11"),
                (99 * DAY + 7_200, "in 22 hours"),
                (101 * DAY, "at 1970-04-11"),
            ] {
                let warning = expiry.warning(now).unwrap();
                for part in [words, time, "mend: "] {
                    assert!(warning.contains(part), "{part}: {warning}");
                }
            }
        }
    }
}
