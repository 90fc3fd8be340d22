//! The numeric codes of answers.

use serde::{Deserialize, Serialize};

/// How a request ended. The numbers are the contract; the words are for developers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u16", try_from = "u16")]
#[repr(u16)]
pub enum Code {
    /// Done; a keyed operation is on disk.
    Done = 0,
    /// Malformed message.
    Malformed = 10,
    /// Frame too large, or empty.
    FrameSize = 11,
    /// Unknown op.
    UnknownOp = 12,
    /// Account and PIN do not match.
    NoMatch = 20,
    /// Account in use at another terminal.
    InUse = 21,
    /// Too many wrong PINs.
    LockedOut = 22,
    /// Not logged in.
    NotLoggedIn = 23,
    /// Already logged in.
    AlreadyLoggedIn = 24,
    /// The PIN must be changed first.
    MustChangePin = 25,
    /// Invalid amount.
    InvalidAmount = 30,
    /// Insufficient funds.
    InsufficientFunds = 31,
    /// Over a limit.
    OverLimit = 32,
    /// Key was used for a different request.
    KeyReused = 33,
    /// No such counterparty.
    NoCounterparty = 34,
    /// No such hold.
    NoHold = 35,
    /// New PIN not acceptable.
    PinRefused = 36,
    /// Too many requests.
    TooMany = 40,
    /// Server full.
    Full = 41,
    /// Session ended.
    SessionEnded = 42,
    /// Internal error.
    Internal = 50,
    /// Storage unavailable; the outcome of a keyed request is unknown.
    StorageUnavailable = 51,
    /// Server is going down.
    GoingDown = 52,
}

impl Code {
    /// Every code of the protocol.
    pub const ALL: [Self; 23] = [
        Self::Done,
        Self::Malformed,
        Self::FrameSize,
        Self::UnknownOp,
        Self::NoMatch,
        Self::InUse,
        Self::LockedOut,
        Self::NotLoggedIn,
        Self::AlreadyLoggedIn,
        Self::MustChangePin,
        Self::InvalidAmount,
        Self::InsufficientFunds,
        Self::OverLimit,
        Self::KeyReused,
        Self::NoCounterparty,
        Self::NoHold,
        Self::PinRefused,
        Self::TooMany,
        Self::Full,
        Self::SessionEnded,
        Self::Internal,
        Self::StorageUnavailable,
        Self::GoingDown,
    ];

    /// The number that travels.
    #[must_use]
    #[expect(
        clippy::as_conversions,
        reason = "the enum is repr(u16): this is its discriminant"
    )]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// English for developers; empty for [`Code::Done`].
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Done => "",
            Self::Malformed => "malformed message",
            Self::FrameSize => "frame too large, or empty",
            Self::UnknownOp => "unknown op",
            Self::NoMatch => "account and PIN do not match",
            Self::InUse => "account in use at another terminal",
            Self::LockedOut => "too many wrong PINs",
            Self::NotLoggedIn => "not logged in",
            Self::AlreadyLoggedIn => "already logged in",
            Self::MustChangePin => "the PIN must be changed first",
            Self::InvalidAmount => "invalid amount",
            Self::InsufficientFunds => "insufficient funds",
            Self::OverLimit => "over a limit",
            Self::KeyReused => "key was used for a different request",
            Self::NoCounterparty => "no such counterparty",
            Self::NoHold => "no such hold of this terminal",
            Self::PinRefused => "new PIN not acceptable",
            Self::TooMany => "too many requests",
            Self::Full => "server full",
            Self::SessionEnded => "session ended",
            Self::Internal => "internal error",
            Self::StorageUnavailable => "storage unavailable: repeat with the same key",
            Self::GoingDown => "server is going down",
        }
    }
}

impl From<Code> for u16 {
    fn from(code: Code) -> Self {
        code.number()
    }
}

/// A number that is no code of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no code of this protocol")]
pub struct UnknownCode(pub u16);

impl TryFrom<u16> for Code {
    type Error = UnknownCode;

    fn try_from(number: u16) -> Result<Self, UnknownCode> {
        Self::ALL
            .into_iter()
            .find(|code| code.number() == number)
            .ok_or(UnknownCode(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_from_its_number_and_others_do_not() {
        for number in 0..=u16::MAX {
            match Code::try_from(number) {
                Ok(code) => assert_eq!(code.number(), number),
                Err(unknown) => assert_eq!(unknown, UnknownCode(number)),
            }
        }
        assert_eq!(Code::ALL.len(), 23);
    }
}
