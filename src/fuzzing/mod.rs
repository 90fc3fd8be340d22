//! What fuzzing and simulations need. No road of the product leads here.
//!
//! A fuzz target (`fuzz/fuzz_targets/`) is one line that calls a function of this module with
//! bytes that nobody chose; a finding is a panic. The same functions run in `cargo test` over the
//! committed corpus and over seeded random bytes.
//!
//! | target | what it says |
//! |---|---|
//! | [`decoder()`] | frames come out the same however the stream is split; nothing is claimed beyond the limit |
//! | [`request()`] | a request that is read, written and read again is the same |
//! | [`accounts_file()`] | a file is read or refused; a refusal tells nothing of a PIN |
//! | [`certificate()`] | readers of one certificate agree; nothing that the authority did not sign is let in |
//! | [`answers()`] | a terminal takes nobody's answer for its own, and shows nothing that commands its screen |
//! | [`ledger()`] | the embedded store answers as the reference model does, also after a crash |
//! | [`connection()`] | whole byte streams, TLS and below, end by their deadlines and free what they held |
//! | [`dialogue()`] | terminals at the bank get what a model of the protocol predicts, to the last member |
//!
//! All of it is compiled for tests, and with the feature `fuzzing`, which no release build takes.
//!
//! [`World`] is a bank in memory with a clock and chance of its own, for `dialogue` and for `simulation`.
#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a finding is a panic, with what was found"
)]

mod accounts_file;
mod answers;
mod certificate;
mod connection;
mod decoder;
mod dialogue;
mod input;
mod kitchen;
mod ledger;
mod model;
mod request;
mod scratch;
#[cfg(test)]
mod simulation;
mod vault;
mod wire;
mod world;
mod writing;

pub use accounts_file::accounts_file;
pub use answers::answers;
pub use certificate::certificate;
pub use connection::connection;
pub use decoder::decoder;
pub use dialogue::dialogue;
pub use input::Input;
pub use ledger::ledger;
pub use request::request;
pub use world::{Customer, LOCK_MS, MAX_TIMEOUT_MS, TRIES, World};

#[cfg(test)]
mod tests;
