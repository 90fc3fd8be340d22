//! What can go wrong at the terminal: whose fault it is, and what to say to whom.

use std::io;
use std::path::PathBuf;

use crate::wire::code::Code;

/// Why the terminal cannot go on, or could not finish what it began.
///
/// `Display` is the sentence for the operator; [`Error::for_customer`] is the other one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that the operator named, or that is expected, cannot be opened.
    #[error("cannot read {}: {source}; {mend}", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
        /// What to do about it.
        mend: &'static str,
    },
    /// A file or flag is there and cannot be used.
    #[error("{0}")]
    Settings(String),
    /// Whoever answers there cannot prove to be the bank. Nothing was told to them.
    #[error("not the right bank: {0}")]
    NotTheBank(String),
    /// The bank's certificate does not hold at this machine's time: its clock is wrong, or the bank
    /// let its certificate end. Nothing was told to it.
    #[error(
        "the bank's certificate does not hold by this machine's clock, which says {now}: {reason}; \
         set the clock right, or ask the bank"
    )]
    NotNow {
        /// This machine's time.
        now: String,
        /// What TLS says.
        reason: String,
    },
    /// Nobody answers there.
    #[error("no bank at {address}: {reason}")]
    NoBank {
        /// Where it was looked for.
        address: String,
        /// What happened instead.
        reason: String,
    },
    /// The bank does not serve this terminal.
    #[error("the bank turned this terminal away: {0}")]
    TurnedAway(String),
    /// The bank is there and said that it ends the connection.
    #[error("the bank ended the connection: {}", .0.message())]
    Closing(Code),
    /// The bank answered, and gives no certificate.
    #[error("the bank refused: {0}")]
    Refused(String),
    /// A file is in the way.
    #[error(
        "{} is there already; --force replaces it (a code that was just used serves its own terminal for some minutes more)",
        path.display()
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}; check the folder's owner, mode and free space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The connection broke. Whether the last request took effect is unknown.
    #[error("the connection to the bank was lost: {0}")]
    Lost(String),
    /// A request that lets cash out cannot be written to disk, and was not sent.
    #[error("no cash goes out: requests in flight cannot be written to disk")]
    NotKept,
    /// The answer cannot be shown: stdout or the terminal is gone.
    #[error("cannot write the answer: {0}")]
    Output(io::Error),
}

impl Error {
    /// The exit code, by sysexits.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::NoFile { .. } => 66,
            Self::NoBank { .. } | Self::TurnedAway(_) | Self::Closing(_) | Self::Lost(_) => 69,
            Self::Exists { .. } => 73,
            Self::Output(_) | Self::Write { .. } | Self::NotKept => 74,
            Self::NotTheBank(_) | Self::NotNow { .. } => 76,
            Self::Settings(_) => 78,
        }
    }

    /// The sentence for the customer: no numbers, no names of files.
    #[must_use]
    pub const fn for_customer(&self) -> &'static str {
        match self {
            Self::NoFile { .. }
            | Self::Settings(_)
            | Self::Output(_)
            | Self::Refused(_)
            | Self::Exists { .. }
            | Self::NotNow { .. }
            | Self::Write { .. } => "This machine is out of service. We are sorry.",
            Self::NotKept => "This machine cannot give out cash just now. Nothing was taken.",
            Self::NotTheBank(_) => {
                "This machine could not make sure that it speaks with your bank, so it will not \
                 ask for your PIN. It is out of service."
            }
            Self::NoBank { .. } => "Your bank cannot be reached just now. Please try again later.",
            Self::TurnedAway(_) => "Your bank does not serve this machine just now.",
            Self::Closing(Code::Full) => "Your bank is very busy. Please try again in a moment.",
            Self::Closing(_) => "Your bank is closing for a moment. Please try again later.",
            Self::Lost(_) => {
                "The connection to your bank was lost. If money was about to move, you will be \
                 told what became of it the next time you log in here."
            }
        }
    }
}
