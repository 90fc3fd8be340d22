//! Wrong PINs: counted durably before a PIN is looked at, forgotten at a right one.
//!
//! An account number has two budgets: one for its home, the terminal of its last good log-in, and
//! one for all others together. Strangers elsewhere use up theirs and lock nobody out at home.

use crate::domain::{TerminalName, Timestamp};

/// How many tries an account number has, and how long it is locked after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockoutPolicy {
    /// Tries of each budget before its lock; 1 or more.
    pub tries: u32,
    /// Milliseconds of the lock after the budget's last wrong try; 0: until staff unlock it.
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

/// What was used of one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// Tries that were not followed by a right PIN.
    pub count: u32,
    /// When the last one was made; says nothing where there was none.
    pub last_at: Timestamp,
}

/// The tries of one account number that were not followed by a right PIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TryRecord {
    /// The home when the first of them was made. It stands as long as the record does: for a real
    /// number because a right PIN forgets the record, for an unknown one so that it looks the same.
    pub home_terminal: Option<TerminalName>,
    /// From there.
    pub home: Spent,
    /// From all others together.
    pub other: Spent,
}

/// A try that may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The record, this try with it.
    pub record: TryRecord,
    /// It was the last one of its budget.
    pub last: bool,
}

/// No PIN is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockedOut {
    /// Milliseconds until the budget's tries are forgotten; `None` where only staff can unlock.
    pub retry_after_ms: Option<u64>,
}

const ONE_DAY_MS: u64 = 86_400_000;

impl Spent {
    const fn none(now: Timestamp) -> Self {
        Self {
            count: 0,
            last_at: now,
        }
    }

    /// Whether the budget is used up.
    #[must_use]
    pub fn is_locked(&self, policy: LockoutPolicy) -> bool {
        self.count >= policy.tries
    }

    /// When its tries are forgotten; `None` where they lock until staff unlock them.
    #[must_use]
    pub fn expires_at(&self, policy: LockoutPolicy) -> Option<Timestamp> {
        match policy.lock_ms {
            0 if self.is_locked(policy) => None,
            0 => Some(self.last_at.plus_ms(ONE_DAY_MS)),
            lock_ms => Some(self.last_at.plus_ms(lock_ms)),
        }
    }

    fn at(self, policy: LockoutPolicy, now: Timestamp) -> Self {
        let counts = self.expires_at(policy).is_none_or(|end| now < end);
        if counts { self } else { Self::none(now) }
    }
}

impl TryRecord {
    /// Counts one more try at `terminal` upon `record`, or refuses because that terminal's budget
    /// is used up. `home` is the number's home now; it counts where a new record begins.
    ///
    /// # Errors
    /// [`LockedOut`].
    pub fn count(
        record: Option<Self>,
        home: Option<&TerminalName>,
        terminal: &TerminalName,
        policy: LockoutPolicy,
        now: Timestamp,
    ) -> Result<Counted, LockedOut> {
        let alive = record.and_then(|record| record.at(policy, now));
        let mut record = alive.unwrap_or_else(|| Self {
            home_terminal: home.cloned(),
            home: Spent::none(now),
            other: Spent::none(now),
        });
        let budget = match record.origin(terminal) {
            Origin::Home => &mut record.home,
            Origin::Other => &mut record.other,
        };
        if budget.is_locked(policy) {
            let retry_after_ms = budget.expires_at(policy).map(|end| now.ms_until(end));
            return Err(LockedOut { retry_after_ms });
        }
        budget.count = budget.count.saturating_add(1);
        budget.last_at = now;
        let last = budget.is_locked(policy);
        Ok(Counted { record, last })
    }

    /// Which budget a try at `terminal` is of.
    #[must_use]
    pub fn origin(&self, terminal: &TerminalName) -> Origin {
        if self.home_terminal.as_ref() == Some(terminal) {
            Origin::Home
        } else {
            Origin::Other
        }
    }

    /// What of it still counts at `now`; `None` where nothing does.
    #[must_use]
    pub fn at(self, policy: LockoutPolicy, now: Timestamp) -> Option<Self> {
        let (home, other) = (self.home.at(policy, now), self.other.at(policy, now));
        (home.count > 0 || other.count > 0).then_some(Self {
            home,
            other,
            ..self
        })
    }

    /// When the whole record is forgotten; `None` where it locks until staff unlock it.
    #[must_use]
    pub fn expires_at(&self, policy: LockoutPolicy) -> Option<Timestamp> {
        let used = [self.home, self.other].into_iter();
        used.filter(|budget| budget.count > 0)
            .map(|budget| budget.expires_at(policy))
            .reduce(|one, another| Some(one?.max(another?)))
            .unwrap_or(Some(self.other.last_at))
    }

    /// All tries of both budgets.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.home.count.saturating_add(self.other.count)
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

    fn terminal(name: &str) -> TerminalName {
        name.parse().unwrap()
    }

    /// A number with a home, as tries upon it go on.
    struct Number(Option<TryRecord>, LockoutPolicy);

    impl Number {
        fn new(policy: LockoutPolicy) -> Self {
            Self(None, policy)
        }

        fn try_at(&mut self, name: &str, ms: i64) -> Result<bool, Option<u64>> {
            let home = terminal("home");
            let (record, policy) = (self.0.clone(), self.1);
            match TryRecord::count(record, Some(&home), &terminal(name), policy, at(ms)) {
                Ok(Counted { record, last }) => {
                    self.0 = Some(record);
                    Ok(last)
                }
                Err(locked) => Err(locked.retry_after_ms),
            }
        }
    }

    #[test]
    fn three_tries_are_let_through_and_the_fourth_is_locked_out_until_the_lock_ends() {
        let mut number = Number::new(POLICY);
        let tried: Vec<_> = (0..3).map(|ms| number.try_at("far", ms)).collect();
        assert_eq!(tried, [Ok(false), Ok(false), Ok(true)]);
        assert_eq!(number.try_at("farther", 500), Err(Some(502)));
        assert_eq!(number.try_at("far", 1_002), Ok(false));
        assert_eq!(number.0.unwrap().total(), 1);
    }

    #[test]
    fn strangers_elsewhere_take_no_try_from_home_and_prolong_no_lock_there() {
        let mut number = Number::new(POLICY);
        for ms in 0..3 {
            number.try_at("far", ms).unwrap();
        }
        for ms in 10..13 {
            number.try_at("home", ms).unwrap();
        }
        assert_eq!(number.try_at("home", 500), Err(Some(512)));
        assert_eq!(number.try_at("far", 500), Err(Some(502)));
        // The strangers' budget is free first, and what they do then is theirs alone.
        number.try_at("far", 1_005).unwrap();
        assert_eq!(number.try_at("home", 1_006), Err(Some(6)));
        assert_eq!(number.try_at("home", 1_012), Ok(false));
    }

    #[test]
    fn a_home_that_moves_moves_no_budget_while_its_tries_count() {
        let moved = terminal("moved");
        let mut number = Number::new(POLICY);
        number.try_at("home", 0).unwrap();
        let counted = TryRecord::count(number.0, Some(&moved), &moved, POLICY, at(1)).unwrap();
        assert_eq!(counted.record.origin(&moved), Origin::Other);
        let record = Some(counted.record);
        let anew = TryRecord::count(record, Some(&moved), &moved, POLICY, at(1_001)).unwrap();
        assert_eq!(anew.record.origin(&moved), Origin::Home);
    }

    #[test]
    fn with_no_lock_time_a_lock_lasts_until_unlocked_and_lesser_counts_a_day() {
        let mut number = Number::new(LockoutPolicy {
            lock_ms: 0,
            ..POLICY
        });
        for _ in 0..3 {
            number.try_at("far", 0).unwrap();
        }
        number.try_at("home", 0).unwrap();
        assert_eq!(number.0.as_ref().unwrap().expires_at(number.1), None);
        number.try_at("home", 86_399_999).unwrap();
        // Its two tries are a day old at last, the strangers' lock is for ever.
        for ms in [2 * 86_400_000, 2 * 86_400_000 + 1] {
            assert_eq!(number.try_at("home", ms), Ok(false));
        }
        assert_eq!(number.try_at("far", i64::MAX), Err(None));
    }

    proptest! {
        #[test]
        fn each_budget_lets_through_what_it_has_within_one_lock_time_whatever_the_other_does(
            tries in 1_u32..6, steps in prop::collection::vec((0_i64..300, any::<bool>()), 1..60),
        ) {
            let policy = LockoutPolicy { tries, lock_ms: 1_000 };
            let mut now = 0;
            let mut both = Number::new(policy);
            let mut alone = [Number::new(policy), Number::new(policy)];
            let mut let_through = [Vec::new(), Vec::new()];
            for (wait, home) in steps {
                now += wait;
                let (name, index) = if home { ("home", 0) } else { ("far", 1) };
                let outcome = both.try_at(name, now);
                prop_assert_eq!(outcome, alone[index].try_at(name, now), "{} at {}", name, now);
                if outcome.is_ok() {
                    let_through[index].push(now);
                }
            }
            for budget in let_through {
                for (index, start) in budget.iter().enumerate() {
                    let within = budget[index..].iter().take_while(|t| **t < start + 1_000).count();
                    prop_assert!(within < 2 * tries as usize, "{budget:?}");
                }
            }
        }
    }
}
