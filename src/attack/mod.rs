//! The attack suite: what an operator runs against their own deployment.
//!
//! - [`target`]: what is attacked; only what is the operator's own, resolved once
//! - [`probe`]: a probe as a value, and the list of all; `probes` has a file for each family
//! - [`verdict`]: what a probe finds
//! - [`arena`]: connections, accounts and budget that all probes share
//! - `line`, `hello`, `papers`: one TLS connection, hand-built TLS hellos, certificates made up
//! - [`suite`]: one run from the announcement to the report
//! - [`report`]: the table, the JSON, the exit code
//!
//! It sees no more of the bank than a stranger with a terminal's certificate does: `atm`, `wire`,
//! `domain`, and `pki` for certificates that must be refused. Never the bank's own code, so that
//! no mistake of the server is shared by its judge.

pub mod arena;
mod hello;
mod line;
mod papers;
pub mod probe;
mod probes;
pub mod report;
pub mod suite;
pub mod target;
pub mod verdict;

pub use arena::{Block, Customer};
pub use report::Report;
pub use suite::{Plan, Suite};
pub use target::Target;

/// Why an attack does not take place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not known to be the operator's own.
    #[error(
        "{target} is not only this machine ({address}), so nothing was sent; attack only what is \
         yours, and say so with --this-is-mine"
    )]
    NotYours {
        /// As it was named.
        target: String,
        /// The address that is not loopback.
        address: std::net::IpAddr,
    },
    /// The name leads nowhere.
    #[error("no bank at {target}: {reason}")]
    NoBank {
        /// As it was named.
        target: String,
        /// What happened instead.
        reason: String,
    },
    /// Whoever answers there is not the bank, so it is not attacked.
    #[error("{target} did not prove to be your bank, so it is not attacked: {reason}")]
    NotTheBank {
        /// As it was named.
        target: String,
        /// What was wrong.
        reason: String,
    },
    /// No probe has that name.
    #[error("no family or probe is called {0:?}; --list names them")]
    NoProbe(String),
    /// Certificates of our own could not be made.
    #[error("cannot make a certificate to be refused: {0}")]
    Papers(String),
    /// The terminal's files, or their use.
    #[error(transparent)]
    Terminal(#[from] crate::atm::Error),
}

impl Error {
    /// The exit code, by sysexits.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotYours { .. } | Self::NoProbe(_) => 64,
            Self::NoBank { .. } => 69,
            Self::Papers(_) => 70,
            Self::NotTheBank { .. } => 76,
            Self::Terminal(error) => error.exit_code(),
        }
    }
}
