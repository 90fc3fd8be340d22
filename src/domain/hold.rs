//! Holds: money set aside by `authorize` until the cash is out (`capture`) or not (`release`).

use super::money::{Amount, RequestedAmount};
use super::policy::Refusal;
use super::timestamp::DAY_MS;
use super::{TerminalName, Timestamp};

/// A terminal may still capture a hold this long after it expired, because the cash is out.
pub const LATE_CAPTURE_MS: u64 = 30 * DAY_MS;

/// What became of a hold. Numbers stand in stores and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldState {
    /// Its money is set aside, unless its time is over.
    Open,
    /// Posted, in full or in part.
    Captured,
    /// Freed by its terminal.
    Released,
    /// Freed by time; may still be captured late.
    Expired,
}

impl HoldState {
    /// The number that stands for the state in stores.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Captured => 1,
            Self::Released => 2,
            Self::Expired => 3,
        }
    }

    /// The state of that number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        [Self::Open, Self::Captured, Self::Released, Self::Expired]
            .into_iter()
            .find(|state| i64::from(state.number()) == number)
    }
}

/// A hold as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The terminal that made it, and alone may settle it.
    pub terminal: TerminalName,
    /// What was set aside.
    pub amount: Amount,
    /// When it was authorized; its UTC day is the business day it counts for.
    pub authorized_at: Timestamp,
    /// When its money comes free by itself.
    pub expires_at: Timestamp,
    /// What became of it.
    pub state: HoldState,
}

/// Proof that a hold may be captured or released now, by the terminal that made it.
///
/// Only [`Hold::grant`] makes one; money moves by it without a session.
#[derive(Debug)]
#[must_use]
pub struct OpenHold<'a> {
    hold: &'a Hold,
    late: bool,
}

/// Proof that a hold's time is over while its money is still set aside. Only [`Hold::expiry`]
/// makes one.
#[derive(Debug)]
#[must_use]
pub struct Expiry {
    amount: Amount,
}

impl Hold {
    /// Grants the hold to `terminal`, if it made it and may still settle it.
    ///
    /// # Errors
    /// [`Refusal::NoHold`] for any other terminal, a settled hold, or one too long expired.
    pub fn grant(&self, terminal: &TerminalName, now: Timestamp) -> Result<OpenHold<'_>, Refusal> {
        let late = self.expires_at <= now;
        let settled = matches!(self.state, HoldState::Captured | HoldState::Released);
        let gone = self.expires_at.plus_ms(LATE_CAPTURE_MS) <= now;
        if self.terminal != *terminal || settled || gone {
            return Err(Refusal::NoHold);
        }
        Ok(OpenHold {
            hold: self,
            late: late || self.state == HoldState::Expired,
        })
    }

    /// The hold's expiry, where its time is over and its money still set aside.
    pub fn expiry(&self, now: Timestamp) -> Option<Expiry> {
        (self.state == HoldState::Open && self.expires_at <= now).then_some(Expiry {
            amount: self.amount,
        })
    }

    /// Milliseconds the hold stays open; 0 where it is open no longer.
    #[must_use]
    pub fn expires_in_ms(&self, now: Timestamp) -> u64 {
        if self.state == HoldState::Open {
            now.ms_until(self.expires_at)
        } else {
            0
        }
    }
}

impl OpenHold<'_> {
    /// Judges a capture of `amount`: at most the hold's. Never refused for funds or limits.
    ///
    /// # Errors
    /// [`Refusal::InvalidAmount`].
    pub fn capture(&self, amount: RequestedAmount) -> Result<Amount, Refusal> {
        amount
            .amount()
            .filter(|amount| *amount <= self.hold.amount)
            .ok_or(Refusal::InvalidAmount)
    }

    /// Whether the hold had expired, so that its money was free meanwhile.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.late
    }
}

impl Expiry {
    /// What comes free.
    #[must_use]
    pub fn amount(&self) -> Amount {
        self.amount
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(state: HoldState) -> Hold {
        Hold {
            terminal: "t-1".parse().unwrap(),
            amount: Amount::new(500).unwrap(),
            authorized_at: Timestamp::from_unix_ms(0),
            expires_at: Timestamp::from_unix_ms(1_000),
            state,
        }
    }

    #[test]
    fn only_the_terminal_that_made_a_hold_may_settle_it() {
        let now = Timestamp::from_unix_ms(1);
        assert!(
            hold(HoldState::Open)
                .grant(&"t-1".parse().unwrap(), now)
                .is_ok()
        );
        assert!(
            hold(HoldState::Open)
                .grant(&"t-2".parse().unwrap(), now)
                .is_err()
        );
    }

    #[test]
    fn a_settled_hold_is_granted_to_nobody_and_an_expired_one_for_30_days() {
        let terminal = "t-1".parse().unwrap();
        let end = Timestamp::from_unix_ms(1_000);
        for state in [HoldState::Captured, HoldState::Released] {
            assert_eq!(
                hold(state).grant(&terminal, end).unwrap_err(),
                Refusal::NoHold
            );
        }
        let last = end.plus_ms(LATE_CAPTURE_MS).minus_ms(1);
        assert!(
            hold(HoldState::Expired)
                .grant(&terminal, last)
                .unwrap()
                .is_late()
        );
        assert!(
            hold(HoldState::Open)
                .grant(&terminal, last)
                .unwrap()
                .is_late()
        );
        assert!(
            hold(HoldState::Expired)
                .grant(&terminal, last.plus_ms(1))
                .is_err()
        );
        assert!(
            !hold(HoldState::Open)
                .grant(&terminal, end.minus_ms(1))
                .unwrap()
                .is_late()
        );
    }

    #[test]
    fn a_capture_is_at_most_the_hold() {
        let hold = hold(HoldState::Open);
        let open = hold
            .grant(&"t-1".parse().unwrap(), Timestamp::from_unix_ms(1))
            .unwrap();
        assert_eq!(
            open.capture(RequestedAmount(501)),
            Err(Refusal::InvalidAmount)
        );
        assert_eq!(
            open.capture(RequestedAmount(0)),
            Err(Refusal::InvalidAmount)
        );
        assert_eq!(
            open.capture(RequestedAmount(500)).map(Amount::minor),
            Ok(500)
        );
    }

    #[test]
    fn only_an_open_hold_whose_time_is_over_expires() {
        let end = Timestamp::from_unix_ms(1_000);
        assert!(hold(HoldState::Open).expiry(end).is_some());
        assert!(hold(HoldState::Open).expiry(end.minus_ms(1)).is_none());
        assert!(hold(HoldState::Expired).expiry(end).is_none());
    }
}
