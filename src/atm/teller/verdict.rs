//! What an answer says of a keyed request.

use crate::atm::journal::{Order, Record};
use crate::wire::answer::Answer;
use crate::wire::code::Code;

/// What becomes of a request in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The outcome is known.
    Known,
    /// It is to be repeated with the same key.
    Unknown,
    /// Cash is out, and no repeat will have it booked.
    ForStaff,
}

impl Verdict {
    /// Where an earlier try may have been done, a refusal that does not look at the key says
    /// nothing about it. Cash that is out is never forgotten because of a refusal.
    pub(super) fn of(record: &Record, answer: &Answer, maybe_done: bool) -> Self {
        match record.order {
            Order::Capture { .. } if answer.code == Code::Done => Self::Known,
            Order::Capture { .. } if is_never_booked(answer.code) || is_nobodys(record) => {
                Self::ForStaff
            }
            Order::Capture { .. } => Self::Unknown,
            Order::Release { .. } if answer.code == Code::TooMany => Self::Unknown,
            _ if is_decided(answer.code, maybe_done) => Self::Known,
            _ => Self::Unknown,
        }
    }
}

/// Whether a capture that got this answer is for the bank's staff, since no repeat will ever be
/// served.
#[must_use]
pub const fn is_never_booked(code: Code) -> bool {
    !matches!(code, Code::Done) && is_decided(code, true)
}

/// Whether no later connection or log-in would lead to a repeat.
const fn is_nobodys(record: &Record) -> bool {
    record.account.is_none() && record.origin.terminal.is_none()
}

const fn is_decided(code: Code, maybe_done: bool) -> bool {
    match code {
        Code::Done
        | Code::Malformed
        | Code::UnknownOp
        | Code::InvalidAmount
        | Code::InsufficientFunds
        | Code::OverLimit
        | Code::KeyReused
        | Code::NoCounterparty
        | Code::NoHold
        | Code::PinRefused => true,
        Code::NotLoggedIn | Code::MustChangePin | Code::TooMany | Code::AlreadyLoggedIn => {
            !maybe_done
        }
        Code::FrameSize
        | Code::NoMatch
        | Code::InUse
        | Code::LockedOut
        | Code::Full
        | Code::SessionEnded
        | Code::Internal
        | Code::StorageUnavailable
        | Code::GoingDown => false,
    }
}
