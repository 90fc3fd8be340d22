//! Why a program ends, and with which code.

use std::fmt;

use crate::access::pepper::PepperError;
use crate::pki::PkiError;
use crate::server::tls::TlsError;
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
        let code = match error {
            OpenError::InUse(_) => exit::TEMPORARY,
            OpenError::Missing(_) => exit::NO_INPUT,
            OpenError::NotAStore(_)
            | OpenError::Newer { .. }
            | OpenError::NoPepper(_)
            | OpenError::OtherCurrency { .. } => exit::CONFIG,
            OpenError::Damaged { .. }
            | OpenError::Schema { .. }
            | OpenError::Loss { .. }
            | OpenError::Apart { .. }
            | OpenError::Orphan(_)
            | OpenError::Unfinished(_)
            | OpenError::ForeignLink(_) => exit::DATA,
            OpenError::System { .. } => exit::IO,
        };
        Self::new(code, error.to_string())
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
