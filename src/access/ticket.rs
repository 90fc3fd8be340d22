//! Leave to check a PIN, as a store grants it once a try is counted.

use super::pepper::PepperId;
use super::pin::{HashCost, PinHash};
use crate::domain::AccountNumber;

/// Leave to check one PIN: granted by a store that has counted the try.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    pub(super) account: AccountNumber,
    pub(super) stored: Option<StoredPin>,
    pub(super) stand_in: Option<HashTraits>,
    last: bool,
}

/// What a hash takes to be checked: its cost, and the pepper that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashTraits {
    /// What it cost.
    pub cost: HashCost,
    /// The pepper it was made with.
    pub pepper: PepperId,
}

/// A hash together with the number of the PIN it is of; a new PIN has a new number.
#[derive(Debug, Clone)]
pub struct StoredPin {
    /// The hash.
    pub hash: PinHash,
    /// Which of the account's PINs it is.
    pub revision: i64,
}

impl Ticket {
    /// For the store: the try upon `account` is on disk. `stored` is `None` for an account that
    /// does not exist or is closed; checking it never succeeds and takes the work of a new hash, or
    /// that of the stand-in's.
    pub fn for_counted_try(account: AccountNumber, stored: Option<StoredPin>) -> Self {
        Self {
            account,
            stored,
            stand_in: None,
            last: false,
        }
    }

    /// For the store: the traits of the hash that an account which is not there is checked like.
    pub fn with_stand_in(self, stand_in: Option<HashTraits>) -> Self {
        Self { stand_in, ..self }
    }

    /// For the store: whether this try was the budget's last, so that a wrong PIN locks.
    pub fn with_last(self, last: bool) -> Self {
        Self { last, ..self }
    }

    /// Whether a wrong PIN now locks the account.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.last
    }
}
