//! Wrong PINs: counted durably before a PIN is looked at, forgotten at a right one.
//!
//! Counts are kept by where the try came from, so that budgets of their own can be given to both
//! later. Today one budget covers their sum.

use crate::domain::Timestamp;

/// How many tries an account number has, and how long it is locked after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockoutPolicy {
    /// Tries before the lock; 1 or more.
    pub tries: u32,
    /// Milliseconds of the lock after the last wrong try; 0: until staff unlock it.
    pub lock_ms: u64,
}

/// Where a try came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The terminal of the account's last good log-in.
    Home,
    /// Any other.
    Other,
}

/// The tries of one account number that were not followed by a right PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TryRecord {
    /// From the account's home terminal.
    pub home: u32,
    /// From all others together.
    pub other: u32,
    /// When the last one was made.
    pub last_at: Timestamp,
}

/// No PIN is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockedOut {
    /// Milliseconds until tries are forgotten; `None` where only staff can unlock.
    pub retry_after_ms: Option<u64>,
}

const ONE_DAY_MS: u64 = 86_400_000;

impl TryRecord {
    /// Counts one more try upon `record`, or refuses because the budget is used up.
    ///
    /// # Errors
    /// [`LockedOut`].
    pub fn count(
        record: Option<Self>,
        origin: Origin,
        policy: LockoutPolicy,
        now: Timestamp,
    ) -> Result<Self, LockedOut> {
        let alive = record.filter(|record| record.expires_at(policy).is_none_or(|end| now < end));
        let mut next = alive.unwrap_or(Self {
            home: 0,
            other: 0,
            last_at: now,
        });
        if next.spent() >= policy.tries {
            let retry_after_ms = next.expires_at(policy).map(|end| now.ms_until(end));
            return Err(LockedOut { retry_after_ms });
        }
        match origin {
            Origin::Home => next.home = next.home.saturating_add(1),
            Origin::Other => next.other = next.other.saturating_add(1),
        }
        next.last_at = now;
        Ok(next)
    }

    /// When the record is forgotten; `None` where it locks until staff unlock it.
    #[must_use]
    pub fn expires_at(&self, policy: LockoutPolicy) -> Option<Timestamp> {
        match policy.lock_ms {
            0 if self.is_locked(policy) => None,
            0 => Some(self.last_at.plus_ms(ONE_DAY_MS)),
            lock_ms => Some(self.last_at.plus_ms(lock_ms)),
        }
    }

    /// Whether the budget is used up.
    #[must_use]
    pub fn is_locked(&self, policy: LockoutPolicy) -> bool {
        self.spent() >= policy.tries
    }

    fn spent(&self) -> u32 {
        self.home.saturating_add(self.other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: LockoutPolicy = LockoutPolicy {
        tries: 3,
        lock_ms: 1_000,
    };

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    #[test]
    fn three_tries_are_let_through_and_the_fourth_is_locked_out_until_the_lock_ends() {
        let mut record = None;
        for ms in 0..3 {
            record = Some(TryRecord::count(record, Origin::Other, POLICY, at(ms)).unwrap());
        }
        let locked = TryRecord::count(record, Origin::Home, POLICY, at(500)).unwrap_err();
        assert_eq!(locked.retry_after_ms, Some(502));
        let again = TryRecord::count(record, Origin::Home, POLICY, at(1_002)).unwrap();
        assert_eq!((again.home, again.other), (1, 0));
    }

    #[test]
    fn with_no_lock_time_a_lock_lasts_until_unlocked_and_lesser_counts_a_day() {
        let policy = LockoutPolicy {
            lock_ms: 0,
            ..POLICY
        };
        let two = TryRecord {
            home: 1,
            other: 1,
            last_at: at(0),
        };
        assert_eq!(two.expires_at(policy), Some(at(86_400_000)));
        let three = TryRecord {
            home: 1,
            other: 2,
            last_at: at(0),
        };
        let locked = TryRecord::count(Some(three), Origin::Home, policy, at(i64::MAX)).unwrap_err();
        assert_eq!(locked.retry_after_ms, None);
    }

    proptest! {
        #[test]
        fn within_one_lock_time_never_more_than_the_budget_is_let_through(
            tries in 1_u32..6, steps in prop::collection::vec((0_i64..300, any::<bool>()), 1..40),
        ) {
            let policy = LockoutPolicy { tries, lock_ms: 1_000 };
            let (mut now, mut record, mut let_through) = (0, None, Vec::new());
            for (wait, home) in steps {
                now += wait;
                let origin = if home { Origin::Home } else { Origin::Other };
                if let Ok(next) = TryRecord::count(record, origin, policy, at(now)) {
                    record = Some(next);
                    let_through.push(now);
                }
            }
            for (index, start) in let_through.iter().enumerate() {
                let within = let_through[index..].iter().take_while(|t| **t < start + 1_000).count();
                prop_assert!(within < 2 * tries as usize, "{let_through:?}");
            }
        }
    }
}
