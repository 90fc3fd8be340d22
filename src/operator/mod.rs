//! What the bank's staff do: accounts, import, sessions, terminals, audit, backup.
//!
//! A [`Command`] is performed by a [`Desk`]: inside a running server for the one that comes in over
//! the operator's socket, or in the command's own process where no server runs.

pub mod accounts_file;
mod clock;
mod desk;
mod report;
pub mod socket;
mod terminals;

use std::ffi::OsStr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::access::pepper::PepperId;
use crate::access::pin::{HashCost, PinHash};

pub use accounts_file::{TOO_MUCH, is_too_much};
pub use desk::{Desk, Floor, NoFloor};
pub use report::Report;

/// What staff ask for. PINs never travel here, only their hashes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Opens accounts, all or none.
    Open {
        /// Which.
        accounts: Vec<OpenAccount>,
    },
    /// One account.
    Show {
        /// Its number.
        account: String,
    },
    /// Accounts in the order of their numbers, a page.
    List {
        /// Only numbers behind this one.
        after: Option<String>,
        /// How many at most.
        limit: usize,
    },
    /// Closes an empty account.
    Close {
        /// Its number.
        account: String,
    },
    /// Locks an account or unlocks it.
    Lock {
        /// Its number.
        account: String,
        /// Or not.
        locked: bool,
    },
    /// Gives a one-time PIN.
    SetPin {
        /// Whose.
        account: String,
        /// Its hash.
        hash: HashText,
        /// How long it serves, milliseconds.
        valid_ms: u64,
        /// Whatever the account's row says now is taken for the bank's own.
        #[serde(default)]
        accept_row: bool,
    },
    /// Gives an account limits of its own; `None`: the bank's.
    Limit {
        /// Whose.
        account: String,
        /// Of one withdrawal, as people write money.
        withdrawal: Option<String>,
        /// Of a day, as people write money.
        daily: Option<String>,
    },
    /// Corrects a balance.
    Adjust {
        /// Whose.
        account: String,
        /// Signed, as people write money.
        amount: String,
        /// Why.
        reason: String,
    },
    /// An account's entries, oldest first, a page.
    Statement {
        /// Whose.
        account: String,
        /// Entries with larger numbers.
        after: i64,
        /// Not before this moment (RFC 3339 or a date).
        from: Option<String>,
        /// Before this moment.
        to: Option<String>,
        /// How many at most.
        limit: usize,
    },
    /// Who is being served.
    Sessions,
    /// Ends a session.
    EndSession {
        /// On which account.
        account: String,
    },
    /// Terminals known by name.
    Terminals,
    /// Lets a terminal in, or not.
    Terminal {
        /// Its name.
        terminal: String,
        /// Not.
        disabled: bool,
    },
    /// Lets a terminal enrol itself, once.
    Invite {
        /// Its name.
        terminal: String,
        /// SHA-256 of the code, which itself does not travel.
        code: [u8; 32],
        /// How long it serves, milliseconds.
        valid_ms: u64,
    },
    /// Codes that are open.
    Invitations,
    /// Makes a terminal's open code void.
    Uninvite {
        /// Its name.
        terminal: String,
    },
    /// Revokes the certificates of a terminal that enrolled itself.
    RevokeTerminal {
        /// Its name.
        terminal: String,
    },
    /// Audits the whole ledger.
    Verify {
        /// A digest of before, as `verify` printed it.
        head: Option<String>,
    },
    /// Copies the store.
    Backup {
        /// Its new file, in the store's folder.
        file: PathBuf,
        /// Where whoever asks will bring it, for the record.
        wanted: PathBuf,
    },
    /// Records of the audit log, oldest first, a page.
    Audit {
        /// Records with larger numbers.
        after: i64,
        /// Not before this moment (RFC 3339 or a date).
        from: Option<String>,
        /// Before this moment.
        to: Option<String>,
        /// Only of this event.
        event: Option<String>,
        /// Only of this terminal.
        terminal: Option<String>,
        /// How many at most.
        limit: usize,
        /// The newest of them, not the oldest.
        newest: bool,
    },
    /// Captures that came after their hold had expired, newest first.
    LateCaptures {
        /// How many at most.
        limit: usize,
    },
    /// The bank's clock, the wall's, and what taking the wall's as the time would do.
    Clock,
    /// Takes the wall clock's as the time, as staff saw it.
    AcceptClock {
        /// How far ahead of the bank's time it was shown, milliseconds. Without it, as an older program
        /// asks, nothing is taken.
        #[serde(default)]
        wall_ahead_ms: Option<i64>,
    },
    /// On which peppers the accounts stand.
    Peppers,
    /// Puts a new pepper first.
    RotatePepper,
    /// Takes a pepper away that no account stands on.
    RetirePepper {
        /// Its id.
        pepper: String,
    },
}

const STAGED_BEFORE: &str = "backup-";
const STAGED_AFTER: &str = ".part";

/// The name of a copy of the store on its way to where it is wanted. `id` is random.
#[must_use]
pub fn staged_name(id: &str) -> String {
    format!("{STAGED_BEFORE}{id}{STAGED_AFTER}")
}

/// Whether a file of this name is such a copy.
#[must_use]
pub fn is_staged(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(STAGED_BEFORE) && name.ends_with(STAGED_AFTER)
}

impl Command {
    /// The copy that is to be gone when whoever asked for it has hung up.
    fn staged(&self) -> Option<PathBuf> {
        match self {
            Self::Backup { file, .. } if file.file_name().is_some_and(is_staged) => {
                Some(file.clone())
            }
            _ => None,
        }
    }

    /// The account that a command is about, where it is about one alone.
    fn account(&self) -> Option<&str> {
        match self {
            Self::Show { account }
            | Self::Close { account }
            | Self::Lock { account, .. }
            | Self::SetPin { account, .. }
            | Self::Limit { account, .. }
            | Self::Adjust { account, .. }
            | Self::Statement { account, .. } => Some(account),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Show { .. } => "show",
            Self::List { .. } => "list",
            Self::Close { .. } => "close",
            Self::Lock { locked: true, .. } => "lock",
            Self::Lock { .. } => "unlock",
            Self::SetPin { .. } => "set-pin",
            Self::Limit { .. } => "limit",
            Self::Adjust { .. } => "adjust",
            Self::Statement { .. } => "statement",
            Self::Sessions => "sessions",
            Self::EndSession { .. } => "sessions --end",
            Self::Terminals => "terminal list",
            Self::Terminal { disabled: true, .. } => "terminal disable",
            Self::Terminal { .. } => "terminal enable",
            Self::Invite { .. } => "terminal invite",
            Self::Invitations => "terminal invites",
            Self::Uninvite { .. } => "terminal uninvite",
            Self::RevokeTerminal { .. } => "terminal revoke",
            Self::Verify { .. } => "verify",
            Self::Backup { .. } => "backup",
            Self::LateCaptures { .. } => "late-captures",
            Self::Audit { .. } => "audit",
            Self::Clock => "clock",
            Self::AcceptClock { .. } => "clock accept",
            Self::Peppers => "pepper show",
            Self::RotatePepper => "pepper rotate",
            Self::RetirePepper { .. } => "pepper retire",
        }
    }
}

/// An account to be opened, as it travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenAccount {
    /// Its number.
    pub account: String,
    /// Its PIN's hash.
    pub hash: HashText,
    /// Minor units.
    pub balance: i64,
    /// Its PIN is public.
    #[serde(default)]
    pub demo: bool,
}

/// A PIN's hash as it travels over the operator's socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HashText {
    memory_kib: u32,
    iterations: u32,
    parallelism: u32,
    pepper: String,
    salt: [u8; 16],
    digest: [u8; 32],
}

impl From<&PinHash> for HashText {
    fn from(hash: &PinHash) -> Self {
        Self {
            memory_kib: hash.cost.memory_kib,
            iterations: hash.cost.iterations,
            parallelism: hash.cost.parallelism,
            pepper: hash.pepper.as_str().to_owned(),
            salt: hash.salt,
            digest: hash.digest,
        }
    }
}

impl HashText {
    fn read(&self) -> Option<PinHash> {
        let cost = HashCost {
            memory_kib: self.memory_kib,
            iterations: self.iterations,
            parallelism: self.parallelism,
        };
        let pepper = PepperId::parse(&self.pepper)?;
        Some(PinHash {
            cost,
            pepper,
            salt: self.salt,
            digest: self.digest,
        })
    }
}
