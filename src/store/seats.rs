//! Who has which account now. Kept in memory by stores that serve one server alone: a started
//! server has freed all accounts.

use foldhash::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::state::SessionFence;
use super::{Balances, Done, StoreError};
use crate::domain::{AccountNumber, TerminalName, Timestamp};

/// Proof that an account is one session's alone. Only a store grants it, only for a
/// `&PinVerified`; it cannot be copied.
#[derive(Debug)]
#[must_use]
pub struct Claim {
    pub(super) account: AccountNumber,
    pub(super) row: i64,
    pub(super) fence: u64,
    ended: CancellationToken,
}

impl Claim {
    /// Whose account it is.
    #[must_use]
    pub fn account(&self) -> AccountNumber {
        self.account
    }

    /// A number that grows with every claim: money is written only under the newest.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// What the rules compare.
    pub(super) fn session(&self) -> SessionFence {
        SessionFence {
            number: self.account,
            row: self.row,
            fence: self.fence,
        }
    }

    /// Cancelled when staff end the session or take the account.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }
}

/// A claimed account, as staff see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The account.
    pub account: AccountNumber,
    /// Where its customer stands.
    pub terminal: TerminalName,
    /// The connection's number in the log.
    pub connection: u64,
    /// Since when.
    pub since: Timestamp,
    /// The claim's fence.
    pub fence: u64,
}

/// An account's money as the last commit left it, minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Posted {
    pub(super) account: AccountNumber,
    pub(super) balance: i64,
    /// The sum of its open holds, those whose time is over and which were not swept among them.
    pub(super) held: i64,
}

impl Posted {
    pub(super) fn balances(&self) -> Balances {
        Balances {
            balance: self.balance,
            available: self.balance.saturating_sub(self.held),
        }
    }
}

/// All claimed accounts. Bounded by the number of connections, each of which holds one at most.
#[derive(Debug, Default)]
pub struct Seats(Mutex<State>);

#[derive(Debug)]
struct Taken {
    seat: Seat,
    /// Known from the claim's own commit on.
    money: Option<Posted>,
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    seats: HashMap<AccountNumber, Taken>,
    last_fence: u64,
}

impl Seats {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the account for a connection and returns the claim's fence, unless somebody has it.
    pub(super) fn take(
        &self,
        account: AccountNumber,
        terminal: TerminalName,
        connection: u64,
        since: Timestamp,
    ) -> Option<u64> {
        let mut state = self.state();
        let fence = state.last_fence.saturating_add(1);
        match state.seats.entry(account) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(place) => {
                let seat = Seat {
                    account,
                    terminal,
                    connection,
                    since,
                    fence,
                };
                place.insert(Taken {
                    seat,
                    money: None,
                    ended: CancellationToken::new(),
                });
            }
        }
        state.last_fence = fence;
        Some(fence)
    }

    /// Frees the account, if it is still this claim's.
    pub(super) fn free(&self, account: AccountNumber, fence: u64) {
        let mut state = self.state();
        if state
            .seats
            .get(&account)
            .is_some_and(|taken| taken.seat.fence == fence)
        {
            state.seats.remove(&account);
        }
    }

    /// Frees the account whoever has it: every claim on it is over, and its session is told.
    fn evict(&self, account: AccountNumber) {
        let evicted = self.state().seats.remove(&account);
        if let Some(taken) = evicted {
            taken.ended.cancel();
        }
    }

    /// Evicts from an account that an act of staff shut, or may have shut where that is not known: who
    /// was let in by what held before its commit has no claim any more.
    pub(super) fn evict_where(&self, shut: Option<AccountNumber>, done: &Result<Done, StoreError>) {
        let refused = matches!(done, Ok(Done::Refused(_) | Done::NoSuchAccount));
        if let (Some(account), false) = (shut, refused) {
            self.evict(account);
        }
    }

    /// Makes known what a commit left in accounts, for those of them that are taken.
    pub(super) fn post(&self, posted: Vec<Posted>) {
        if posted.is_empty() {
            return;
        }
        let mut state = self.state();
        for money in posted {
            if let Some(taken) = state.seats.get_mut(&money.account) {
                taken.money = Some(money);
            }
        }
    }

    /// The account's money, where it is known; `None` where the claim is not its present one.
    pub(super) fn money(&self, account: AccountNumber, fence: u64) -> Option<Option<Posted>> {
        let state = self.state();
        let taken = state.seats.get(&account);
        taken
            .filter(|taken| taken.seat.fence == fence)
            .map(|taken| taken.money)
    }

    /// The fence of the account's present claim.
    pub(super) fn fence(&self, account: AccountNumber) -> Option<u64> {
        let state = self.state();
        state.seats.get(&account).map(|taken| taken.seat.fence)
    }

    /// Whether the claim is the account's present one.
    pub(super) fn holds(&self, account: AccountNumber, fence: u64) -> bool {
        self.fence(account) == Some(fence)
    }

    /// What ends the claim, if it is the account's present one.
    fn ended(&self, account: AccountNumber, fence: u64) -> Option<CancellationToken> {
        let state = self.state();
        let taken = state.seats.get(&account);
        taken
            .filter(|taken| taken.seat.fence == fence)
            .map(|taken| taken.ended.clone())
    }

    /// Everybody who is seated, in the order of their numbers.
    pub(super) fn list(&self) -> Vec<Seat> {
        let mut seats: Vec<Seat> = {
            let state = self.state();
            state
                .seats
                .values()
                .map(|taken| taken.seat.clone())
                .collect()
        };
        seats.sort_by_key(|seat| seat.account);
        seats
    }
}

/// Frees the account unless the claim is handed on: a caller may be cancelled at any wait.
pub(super) struct Reserved<'a> {
    pub(super) seats: &'a Seats,
    pub(super) account: AccountNumber,
    pub(super) fence: Option<u64>,
}

impl Reserved<'_> {
    /// The claim; `None` where it is over already, because staff have shut the account meanwhile.
    pub(super) fn into_claim(mut self, row: i64) -> Option<Claim> {
        let fence = self.fence.take()?;
        let ended = self.seats.ended(self.account, fence)?;
        Some(Claim {
            account: self.account,
            row,
            fence,
            ended,
        })
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(fence) = self.fence {
            self.seats.free(self.account, fence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_taken_once_and_an_old_fence_frees_nothing() {
        let (seats, now) = (Seats::default(), Timestamp::from_unix_ms(0));
        let account: AccountNumber = "zz-99999".parse().unwrap();
        let take = |connection| seats.take(account, TerminalName::anonymous(), connection, now);
        let first = take(1).unwrap();
        assert_eq!(take(2), None);
        seats.free(account, first);
        let second = take(2).unwrap();
        assert!(second > first);
        seats.free(account, first);
        assert!(seats.holds(account, second) && !seats.holds(account, first));
    }

    #[test]
    fn a_claim_that_was_ended_before_it_was_handed_on_is_none() {
        let (seats, now) = (Seats::default(), Timestamp::from_unix_ms(0));
        let account: AccountNumber = "zz-99999".parse().unwrap();
        let reserved = |fence| Reserved {
            seats: &seats,
            account,
            fence,
        };
        let first = reserved(seats.take(account, TerminalName::anonymous(), 1, now));
        seats.evict(account);
        let second = reserved(seats.take(account, TerminalName::anonymous(), 2, now));
        assert!(first.into_claim(3).is_none());
        let claim = second.into_claim(3).unwrap();
        assert!(!claim.ended().is_cancelled());
        seats.evict(account);
        assert!(!seats.holds(account, claim.fence()) && claim.ended().is_cancelled());
    }

    #[test]
    fn money_is_known_to_the_present_claim_alone_and_only_of_accounts_that_are_taken() {
        let (seats, now) = (Seats::default(), Timestamp::from_unix_ms(0));
        let account: AccountNumber = "zz-99999".parse().unwrap();
        let take = || {
            seats
                .take(account, TerminalName::anonymous(), 1, now)
                .unwrap()
        };
        let money = |balance| Posted {
            account,
            balance,
            held: 2,
        };
        seats.post(vec![money(5)]);
        let first = take();
        assert_eq!(seats.money(account, first), Some(None));
        seats.post(vec![money(7)]);
        let known = seats.money(account, first).flatten().unwrap().balances();
        assert_eq!((known.balance, known.available), (7, 5));
        seats.free(account, first);
        let second = take();
        assert_eq!(seats.money(account, first), None);
        assert_eq!(seats.money(account, second), Some(None));
    }
}
