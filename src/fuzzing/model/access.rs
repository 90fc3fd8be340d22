//! Who may come in.

use super::{Budget, Expected, Fault, Model, Session, Status, Tries, done, refused, refused_then};
use crate::fuzzing::world::{LOCK_MS, MAX_TIMEOUT_MS, TRIES};
use crate::server::dialogue::Then;
use crate::wire::answer::{Members, SessionTimes};
use crate::wire::code::Code;

/// Digits that nobody may choose, of those that the fuzzer knows.
const WEAK: [&str; 2] = ["1111", "1234"];

impl Model {
    pub(super) fn login(
        &mut self,
        connection: usize,
        number: &str,
        pin: &str,
        fault: Fault,
    ) -> Expected {
        if self.connections[connection].session.is_some() {
            return refused(Code::AlreadyLoggedIn);
        }
        if let Err(expected) = self.look_at_pin(connection, number, pin, fault) {
            return expected;
        }
        self.tries.remove(number);
        if self.is_seated(number) {
            return refused(Code::InUse);
        }
        let (now_ms, terminal) = (self.now_ms, self.terminals[connection]);
        let account = self.account_mut(number);
        if account.status == Status::Locked {
            return refused(Code::LockedOut);
        }
        account.home = Some(terminal.to_owned());
        let must_change_pin = account.must_change_pin;
        self.connections[connection].session = Some(Session {
            account: number.to_owned(),
            began_ms: now_ms,
            must_change_pin,
            no_counterparty: 0,
        });
        done(Members {
            session: Some(SessionTimes {
                idle_timeout_ms: 60_000,
                max_timeout_ms: MAX_TIMEOUT_MS,
            }),
            currency: Some("USD".to_owned()),
            must_change_pin: must_change_pin.then_some(true),
            time: Some(self.time()),
            ..self.balances(number)
        })
    }

    pub(super) fn change_pin(
        &mut self,
        connection: usize,
        pin: &str,
        new_pin: &str,
        fault: Fault,
    ) -> Expected {
        let Some(number) = self.logged_in(connection).map(str::to_owned) else {
            return refused(Code::NotLoggedIn);
        };
        if let Err(expected) = self.look_at_pin(connection, &number, pin, fault) {
            return expected;
        }
        self.tries.remove(&number);
        if self.account(&number).status == Status::Locked {
            return refused(Code::LockedOut);
        }
        if WEAK.contains(&new_pin) || pin == new_pin {
            return refused(Code::PinRefused);
        }
        let account = self.account_mut(&number);
        account.pin = new_pin.to_owned();
        account.pin_ends_ms = None;
        account.must_change_pin = false;
        if let Some(session) = &mut self.connections[connection].session {
            session.must_change_pin = false;
        }
        done(Members::default())
    }

    /// A try is counted, then the PIN is looked at.
    fn look_at_pin(
        &mut self,
        connection: usize,
        number: &str,
        pin: &str,
        fault: Fault,
    ) -> Result<(), Expected> {
        if fault == Fault::Before {
            return Err(refused(Code::StorageUnavailable));
        }
        let counted = self.count_try(connection, number);
        if fault == Fault::After {
            return Err(refused(Code::StorageUnavailable));
        }
        let last = counted? >= TRIES;
        if self
            .served(number)
            .is_some_and(|account| account.pin == pin)
        {
            return Ok(());
        }
        let own = &mut self.connections[connection];
        own.mismatches += 1;
        let then = match (own.mismatches >= 3, last && own.session.is_some()) {
            (true, _) => Then::Close,
            (false, true) => Then::EndSession,
            (false, false) => Then::Stay,
        };
        Err(refused_then(Code::NoMatch, then))
    }

    /// An account that is open, or locked by staff, with a PIN that is in force.
    fn served(&self, number: &str) -> Option<&super::Account> {
        let account = self.accounts.get(number)?;
        let in_time = account.pin_ends_ms.is_none_or(|end| self.now_ms < end);
        (in_time && account.status != Status::Closed).then_some(account)
    }

    /// How many of the terminal's budget there have been, this one with them.
    fn count_try(&mut self, connection: usize, number: &str) -> Result<u32, Expected> {
        let (now_ms, terminal) = (self.now_ms, self.terminals[connection]);
        let alive = |tries: &&Tries| tries.at_home.at(now_ms) + tries.elsewhere.at(now_ms) > 0;
        let before = self.tries.get(number).filter(alive).cloned();
        let mut tries = before.unwrap_or_else(|| Tries {
            home: match self.served(number) {
                Some(account) => account.home.clone(),
                None => self.borrowed_home.clone(),
            },
            at_home: Budget::default(),
            elsewhere: Budget::default(),
        });
        let budget = match tries.home.as_deref() == Some(terminal) {
            true => &mut tries.at_home,
            false => &mut tries.elsewhere,
        };
        let count = budget.at(now_ms);
        if count >= TRIES {
            let left_ms = u64::try_from(budget.ends_ms - now_ms).ok();
            return Err(super::retry_after(Code::LockedOut, left_ms));
        }
        *budget = Budget {
            count: count + 1,
            ends_ms: now_ms + i64::try_from(LOCK_MS).expect("milliseconds"),
        };
        self.tries.insert(number.to_owned(), tries);
        Ok(count + 1)
    }

    pub(super) fn is_seated(&self, number: &str) -> bool {
        let mut sessions = self
            .connections
            .iter()
            .filter_map(|own| own.session.as_ref());
        sessions.any(|session| session.account == number)
    }
}

impl Budget {
    /// How many count now.
    pub(in crate::fuzzing) fn at(&self, now_ms: i64) -> u32 {
        if now_ms < self.ends_ms { self.count } else { 0 }
    }
}
