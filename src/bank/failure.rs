//! Why a command was not carried out, as the connection must tell it.

use crate::access::pin::HashError;
use crate::domain::Refusal;
use crate::store::StoreError;

/// A command of the bank was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The rules refused it; nothing moved.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Account and PIN do not match, or there is no such account.
    #[error("account and PIN do not match")]
    NoMatch,
    /// The PIN of a running session's owner was wrong, and that was the last try.
    #[error("account and PIN do not match, and the account is locked now")]
    NoMatchAndLocked,
    /// The account is another session's.
    #[error("account in use")]
    InUse,
    /// No PIN is looked at; `None`: until staff unlock it.
    #[error("too many wrong PINs")]
    LockedOut(Option<u64>),
    /// The new PIN is weak, or the old one.
    #[error("new PIN not acceptable")]
    PinRefused,
    /// Come again after so many milliseconds.
    #[error("too many requests")]
    TooMany(u64),
    /// The session's claim has ended.
    #[error("session ended")]
    Ended,
    /// The store did not answer, or not yet: whether a keyed order took effect is unknown.
    #[error("storage unavailable: {0}")]
    Storage(String),
    /// A fault of ours.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Failure {
    /// Somebody changed the account's row past the bank.
    pub(super) fn forged_row() -> Self {
        Self::Internal("the account's row is not as the bank wrote it".to_owned())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(reason) | StoreError::Disk(_, reason) => Self::Storage(reason),
            StoreError::Closed => Self::Storage(error.to_string()),
            StoreError::Fenced => Self::Ended,
            StoreError::Broken(_) | StoreError::Damaged(..) | StoreError::Unsupported => {
                Self::Internal(error.to_string())
            }
        }
    }
}

/// When the pool of hashing threads is this full, it is worth waiting a little.
const BUSY_RETRY_AFTER_MS: u64 = 1_000;

impl From<HashError> for Failure {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Busy => Self::TooMany(BUSY_RETRY_AFTER_MS),
            HashError::NoPepper(_) | HashError::Failed => Self::Internal(error.to_string()),
        }
    }
}
