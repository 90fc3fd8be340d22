//! Why a program ends, and with which code.

use std::fmt;

use crate::access::pepper::PepperError;
use crate::pki::PkiError;
use crate::server::tls::TlsError;
use crate::store::StoreError;
use crate::store::sqlite::OpenError;

/// Exit codes of sysexits.
pub mod exit {
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// What was given is wrong.
    pub const DATA: u8 = 65;
    /// A file that was named is not there.
    pub const NO_INPUT: u8 = 66;
    /// Something that is needed is not to be had.
    pub const UNAVAILABLE: u8 = 69;
    /// A fault of ours.
    pub const SOFTWARE: u8 = 70;
    /// The system refused something.
    pub const SYSTEM: u8 = 71;
    /// A file cannot be made.
    pub const CANNOT_CREATE: u8 = 73;
    /// Reading or writing failed.
    pub const IO: u8 = 74;
    /// Not now: somebody else has it.
    pub const TEMPORARY: u8 = 75;
    /// The configuration, or what it names, is wrong.
    pub const CONFIG: u8 = 78;
}

/// The end of a program: words for whoever started it, and a code of sysexits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The code.
    pub code: u8,
    /// The words, a line for each fault.
    pub reason: String,
}

impl Stop {
    /// The end of a start, or a command, that the store failed; `what` could not be done.
    pub fn by_store(what: &str, error: &StoreError) -> Self {
        let code = match error {
            StoreError::Disk(cause, _) | StoreError::Damaged(cause, _) => cause.row().exit,
            StoreError::Broken(_) => exit::SOFTWARE,
            _ => exit::IO,
        };
        Self::new(code, format!("{what}: {error}"))
    }

    /// An end with these words.
    pub fn new(code: u8, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Stop {}

impl From<OpenError> for Stop {
    fn from(error: OpenError) -> Self {
        Self::new(error.cause().row().exit, error.to_string())
    }
}

impl From<PepperError> for Stop {
    fn from(error: PepperError) -> Self {
        Self::new(exit::CONFIG, error.to_string())
    }
}

impl From<TlsError> for Stop {
    fn from(error: TlsError) -> Self {
        Self::new(exit::CONFIG, error.to_string())
    }
}

impl From<PkiError> for Stop {
    fn from(error: PkiError) -> Self {
        Self::new(error.exit_code(), error.to_string())
    }
}
