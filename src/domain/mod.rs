//! The bank's words: pure values and rules. No clock, no I/O, no other layer of this crate.
//!
//! Every value here is parsed once, at the border, into a type that cannot hold anything invalid.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::wildcard_enum_match_arm
    )
)]

pub mod account;
pub mod clock;
pub mod enrolment;
pub mod entry;
pub mod hold;
pub mod key;
pub mod money;
pub mod pem;
pub mod pin;
pub mod policy;
pub mod printable;
pub mod record;
pub mod terminal;
pub mod timestamp;

pub use account::AccountNumber;
pub use clock::{ClockGuard, ClockMark, ClockPolicy, ClockReading, TrustedClock};
pub use enrolment::EnrolmentCode;
pub use entry::{EntryKind, EntryNumber};
pub use key::{HoldName, IdempotencyKey};
pub use money::{Amount, Currency, RequestedAmount};
pub use pin::Pin;
pub use policy::{OpenHolds, Refusal};
pub use record::AuditRecord;
pub use terminal::TerminalName;
pub use timestamp::Timestamp;
