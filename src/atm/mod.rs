//! The terminal: what stands in front of the customer and speaks with the bank.
//!
//! - [`address`], [`trust`], `chain`: where the bank is, and how it and this terminal prove themselves
//! - [`enrol`], [`identity`]: how it gets its certificate and the next ones, and keeps them
//! - [`connection`]: one TLS connection, requests and answers, each wait under a deadline
//! - [`clock`]: the bank's time, by which what is old is told
//! - [`journal`]: money requests in flight, on disk until their outcome is known
//! - [`teller`]: one terminal's dealings with the bank; everything below goes through it
//! - [`script`], [`console`], [`screen`]: commands from a file, line mode, the full screen
//! - [`words`], [`lines`], [`stop`], [`error`]: what is said, what is typed, signals, failures
//!
//! Uses `wire` and `domain` only: whatever the bank's own code knows, a terminal must not need.

pub mod address;
mod chain;
pub mod clock;
pub mod connection;
pub mod console;
pub mod enrol;
pub mod error;
pub mod identity;
pub mod journal;
pub mod lines;
pub mod screen;
pub mod script;
pub mod stop;
pub mod teller;
pub mod trust;
pub mod words;

pub use address::Address;
pub use connection::{Bank, Deadlines};
pub use enrol::{Enrolled, Enrolment, Renewal};
pub use error::Error;
pub use journal::Journal;
pub use stop::Stop;
pub use teller::Teller;
pub use trust::{KeyDigest, TrustFiles};
