//! The rules that decide whether money may move. Pure: a store reads the state, asks here, and
//! writes what the decision says, all in one transaction.

use super::entry::EntryKind;
use super::money::{Amount, BALANCE_MAX, RequestedAmount};

/// A request was understood and refused; nothing moved. Ordered as the protocol's codes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Out of range, a capture over its hold, or the own account's balance, or the terminal's cash,
    /// would pass the most.
    #[error("invalid amount")]
    InvalidAmount,
    /// The account has less available.
    #[error("insufficient funds")]
    InsufficientFunds,
    /// Over the limit of one withdrawal or of the business day, in minor units.
    #[error("over a limit")]
    OverLimit {
        /// The limit that refused.
        limit: i64,
        /// What it still lets through.
        remaining: i64,
    },
    /// The idempotency key was used for a different request.
    #[error("the key was used for a different request")]
    KeyReused,
    /// No such account, the same one, one of another currency, or one that cannot take it.
    #[error("no such counterparty")]
    NoCounterparty,
    /// No such hold of this terminal, or it was settled already with another key.
    #[error("no such hold")]
    NoHold,
}

/// Holds that are open: how many there are, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenHolds {
    /// Of one account.
    pub of_account: u64,
    /// Of one terminal; none is counted of `anonymous`.
    pub of_terminal: u64,
}

/// What the rules need to know of an account, all in minor units.
///
/// Invariant: `held >= 0`, `used_today >= 0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The balance of all entries; below 0 only after a late capture or an adjustment.
    pub balance: i64,
    /// The sum of the account's open holds.
    pub held: i64,
    /// What withdrawals and holds of this business day have used of the day's limit.
    pub used_today: i64,
    /// The most one withdrawal or hold may be.
    pub withdrawal_limit: i64,
    /// The most all of a business day may be.
    pub daily_limit: i64,
}

impl Standing {
    /// The balance less open holds.
    #[must_use]
    pub fn available(&self) -> i64 {
        self.balance.saturating_sub(self.held)
    }

    /// The new balance after cash in.
    ///
    /// # Errors
    /// [`Refusal::InvalidAmount`]: out of range, or over the largest balance.
    pub fn deposit(&self, amount: RequestedAmount) -> Result<Amount, Refusal> {
        let amount = amount.amount().ok_or(Refusal::InvalidAmount)?;
        if self.room() < amount.minor() {
            Err(Refusal::InvalidAmount)
        } else {
            Ok(amount)
        }
    }

    /// Judges cash out, at once or as a hold.
    ///
    /// # Errors
    /// In this order: the amount, the funds, the limit of one, the limit of the day.
    pub fn withdraw(&self, amount: RequestedAmount) -> Result<Amount, Refusal> {
        let amount = amount.amount().ok_or(Refusal::InvalidAmount)?;
        if self.available() < amount.minor() {
            return Err(Refusal::InsufficientFunds);
        }
        if amount.minor() > self.withdrawal_limit {
            let limit = self.withdrawal_limit;
            return Err(Refusal::OverLimit {
                limit,
                remaining: limit,
            });
        }
        let remaining = self.daily_limit.saturating_sub(self.used_today).max(0);
        if amount.minor() > remaining {
            return Err(Refusal::OverLimit {
                limit: self.daily_limit,
                remaining,
            });
        }
        Ok(amount)
    }

    /// Judges one hold more beside those that are open.
    ///
    /// # Errors
    /// [`Refusal::OverLimit`] of nothing, where as many are open as may be.
    pub fn one_more_hold(&self, open: OpenHolds, most: OpenHolds) -> Result<(), Refusal> {
        if open.of_account < most.of_account && open.of_terminal < most.of_terminal {
            return Ok(());
        }
        Err(Refusal::OverLimit {
            limit: self.withdrawal_limit,
            remaining: 0,
        })
    }

    /// Judges money sent to `receiver`: `None` where there is no such account that takes money.
    ///
    /// # Errors
    /// In this order: the amount, the funds, the counterparty.
    pub fn transfer(
        &self,
        amount: RequestedAmount,
        receiver: Option<&Self>,
    ) -> Result<Amount, Refusal> {
        let amount = amount.amount().ok_or(Refusal::InvalidAmount)?;
        if self.available() < amount.minor() {
            return Err(Refusal::InsufficientFunds);
        }
        match receiver {
            Some(receiver) if receiver.room() >= amount.minor() => Ok(amount),
            Some(_) | None => Err(Refusal::NoCounterparty),
        }
    }

    /// Judges an adjustment by staff: signed, never over the largest balance, never below what
    /// is held or below zero.
    ///
    /// # Errors
    /// [`Refusal::InvalidAmount`] or [`Refusal::InsufficientFunds`].
    pub fn adjust(&self, signed: i64) -> Result<Amount, Refusal> {
        let amount = signed
            .checked_abs()
            .and_then(Amount::new)
            .ok_or(Refusal::InvalidAmount)?;
        if signed > 0 && self.room() < signed {
            return Err(Refusal::InvalidAmount);
        }
        if signed < 0 && self.available() < amount.minor() {
            return Err(Refusal::InsufficientFunds);
        }
        Ok(amount)
    }

    fn room(&self) -> i64 {
        BALANCE_MAX.saturating_sub(self.balance)
    }
}

/// Judges what cash in or out makes of the account that counts a terminal's cash, which goes down
/// with cash in: minor units from `-i64::MAX` to `i64::MAX`.
///
/// # Errors
/// [`Refusal::InvalidAmount`] where it cannot count that much more.
pub fn count_cash(balance: i64, kind: EntryKind, amount: Amount) -> Result<(), Refusal> {
    let counted = if kind == EntryKind::Deposit {
        balance.checked_sub(amount.minor())
    } else {
        balance.checked_add(amount.minor())
    };
    match counted {
        Some(counted) if counted > i64::MIN => Ok(()),
        _ => Err(Refusal::InvalidAmount),
    }
}

/// An entry to be written: `amount` leaves `debit` and reaches `credit`, so that its two postings
/// sum to zero by construction. Names are the store's row numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    debit: i64,
    credit: i64,
    amount: Amount,
    kind: EntryKind,
}

impl Movement {
    /// A movement between two different accounts; `None` where they are the same.
    #[must_use]
    pub fn new(kind: EntryKind, debit: i64, credit: i64, amount: Amount) -> Option<Self> {
        (debit != credit).then_some(Self {
            debit,
            credit,
            amount,
            kind,
        })
    }

    /// The account that money leaves.
    #[must_use]
    pub fn debit(&self) -> i64 {
        self.debit
    }

    /// The account that money reaches.
    #[must_use]
    pub fn credit(&self) -> i64 {
        self.credit
    }

    /// Minor units that move.
    #[must_use]
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// Why.
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        self.kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STANDING: Standing = Standing {
        balance: 1_000,
        held: 300,
        used_today: 450,
        withdrawal_limit: 500,
        daily_limit: 600,
    };

    #[test]
    fn the_lowest_code_wins_where_several_refusals_apply() {
        let ask = RequestedAmount;
        assert_eq!(STANDING.withdraw(ask(0)), Err(Refusal::InvalidAmount));
        assert_eq!(STANDING.withdraw(ask(701)), Err(Refusal::InsufficientFunds));
        assert_eq!(
            STANDING.withdraw(ask(501)),
            Err(Refusal::OverLimit {
                limit: 500,
                remaining: 500
            })
        );
        assert_eq!(
            STANDING.withdraw(ask(151)),
            Err(Refusal::OverLimit {
                limit: 600,
                remaining: 150
            })
        );
        assert_eq!(STANDING.withdraw(ask(150)).map(Amount::minor), Ok(150));
        assert_eq!(
            STANDING.transfer(ask(701), None),
            Err(Refusal::InsufficientFunds)
        );
        assert_eq!(
            STANDING.transfer(ask(700), None),
            Err(Refusal::NoCounterparty)
        );
    }

    #[test]
    fn no_balance_passes_the_largest_one() {
        let full = Standing {
            balance: BALANCE_MAX,
            ..STANDING
        };
        assert_eq!(
            full.deposit(RequestedAmount(1)),
            Err(Refusal::InvalidAmount)
        );
        assert_eq!(
            STANDING.transfer(RequestedAmount(1), Some(&full)),
            Err(Refusal::NoCounterparty)
        );
        assert_eq!(full.adjust(1), Err(Refusal::InvalidAmount));
    }

    #[test]
    fn an_entry_needs_two_different_accounts() {
        let amount = Amount::new(1).unwrap();
        assert_eq!(Movement::new(EntryKind::Transfer, 4, 4, amount), None);
        assert!(Movement::new(EntryKind::Transfer, 4, 5, amount).is_some());
    }

    proptest! {
        #[test]
        fn what_is_allowed_never_overdraws_nor_passes_a_limit(
            balance in -100_i64..10_000, held in 0_i64..5_000, used in 0_i64..5_000,
            single in 0_i64..5_000, daily in 0_i64..5_000, amount in prop_oneof![any::<i64>(), -10_i64..6_000],
        ) {
            let standing = Standing { balance, held, used_today: used, withdrawal_limit: single, daily_limit: daily };
            if let Ok(allowed) = standing.withdraw(RequestedAmount(amount)) {
                prop_assert!(allowed.minor() <= standing.available());
                prop_assert!(allowed.minor() <= single && used + allowed.minor() <= daily);
            }
            if let Ok(allowed) = standing.transfer(RequestedAmount(amount), Some(&standing)) {
                prop_assert!(allowed.minor() <= standing.available());
            }
        }
    }
}
