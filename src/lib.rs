//! A bank for terminals: server, terminal, certificates. The map of the crate.
//!
//! # The road of a request
//!
//! ```text
//! server::acceptor     accept, permit, TLS under a deadline
//! server::connection   bytes into frames, deadlines
//! wire::request        a payload into a Request
//! server::dialogue     Dialogue::answer: rates, session, codes
//! bank::*              one file a command, by &mut Session
//! store::Store         one call, one transaction
//! wire::answer         an Answer into a frame
//! ```
//!
//! There is no second road: the staff's commands (`operator`) go through the same bank and store.
//!
//! # The rooms, from the inside out
//!
//! | room | what is in it |
//! |---|---|
//! | [`domain`] | the bank's words: money, entries, holds, rules; pure |
//! | [`durable`] | files and folders that are there whole, or not at all |
//! | [`limits`] | most bounds and deadlines, and their defaults; others stand where they are used |
//! | [`surroundings`] | time and chance, handed in |
//! | [`wire`] | what travels: frames, requests, answers, codes |
//! | [`access`] | PINs, peppers, tries, throttles, sprays |
//! | [`pki`] | certificates and revocation |
//! | [`store`] | durable state behind one trait |
//! | [`bank`] | sessions and commands |
//! | [`enroll`] | certificates for terminals that enrol themselves |
//! | [`config`], [`telemetry`] | what is configured, what can be watched |
//! | [`server`] | TCP, TLS, connections |
//! | [`operator`] | what the bank's staff do |
//! | `atm` | the terminal; knows only `wire`, `domain` and `durable` |
//! | [`attack`] | what an operator's own deployment is attacked with |
//! | [`service`] | everything put together, for the binaries |
//! | `fuzzing` | what fuzz targets and simulations drive; compiled for them alone |
//!
//! # Where to add a command
//!
//! An op in `wire::request`, a file in `bank`, a line in `server::dialogue`, and, if it keeps
//! anything, a call in `store`. `docs/ARCHITECTURE.md` says why it is so.

// What fuzzing drives is in no binary that ships: cargo-fuzz alone builds it optimized.
#[cfg(all(feature = "fuzzing", not(fuzzing), not(debug_assertions)))]
compile_error!("the feature `fuzzing` is for cargo-fuzz and tests, never for a release");

pub mod access;
pub mod atm;
pub mod attack;
pub mod bank;
pub mod config;
pub mod domain;
pub mod durable;
pub mod enroll;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod limits;
pub mod operator;
pub mod pki;
pub mod server;
pub mod service;
pub mod store;
pub mod surroundings;
pub mod telemetry;
pub mod wire;
