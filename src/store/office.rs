//! What the bank's staff may ask of a store, and what it answers them.

use std::path::PathBuf;

use super::Line;
use super::enrolment::{CodeHash, Invitation, IssuedRecord};
use crate::access::pin::PinHash;
use crate::domain::{AccountNumber, TerminalName, Timestamp};

/// Proof that the caller acts for the bank's staff. Only the operator's room makes one.
#[derive(Debug)]
pub struct Office {
    actor: String,
}

impl Office {
    pub(crate) fn of(actor: impl Into<String>) -> Self {
        Self {
            actor: actor.into(),
        }
    }

    /// Who acts.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }
}

/// An account to be opened.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its number.
    pub number: AccountNumber,
    /// Its PIN's hash.
    pub hash: PinHash,
    /// What it starts with, minor units, 0 or more.
    pub balance: i64,
    /// It is a demo account, whose PIN is public.
    pub demo: bool,
}

/// What the staff may do; each is one transaction.
#[derive(Debug, Clone)]
pub enum Act {
    /// Opens accounts, all or none; those that exist are left alone and named.
    Open(Vec<NewAccount>),
    /// One account.
    Show(AccountNumber),
    /// Accounts in the order of their numbers.
    List {
        /// Only numbers behind this one.
        after: Option<AccountNumber>,
        /// How many at most.
        limit: usize,
    },
    /// Closes an empty account.
    Close(AccountNumber),
    /// Locks or unlocks an account; unlocking forgets its tries too.
    Lock(AccountNumber, bool),
    /// Gives a new PIN; with an end it serves only to choose another.
    SetPin {
        /// Whose.
        number: AccountNumber,
        /// Its hash.
        hash: PinHash,
        /// When it runs out, for a one-time PIN.
        one_time_until: Option<Timestamp>,
    },
    /// Gives an account limits of its own, or (`None`) the bank's again.
    Limit {
        /// Whose.
        number: AccountNumber,
        /// Of one withdrawal.
        withdrawal: Option<i64>,
        /// Of a business day.
        daily: Option<i64>,
    },
    /// Corrects a balance by an entry of its own kind.
    Adjust {
        /// Whose.
        number: AccountNumber,
        /// Signed minor units.
        amount: i64,
        /// Why, in words.
        reason: String,
    },
    /// An account's entries, oldest first.
    Statement {
        /// Whose.
        number: AccountNumber,
        /// Entries with larger numbers than this.
        after: i64,
        /// Not before this moment.
        from: Option<Timestamp>,
        /// Before this moment.
        to: Option<Timestamp>,
        /// How many at most.
        limit: usize,
    },
    /// Terminals known by name.
    Terminals,
    /// Lets a terminal in, or not.
    Terminal {
        /// Its name.
        name: TerminalName,
        /// Not.
        disabled: bool,
    },
    /// Lets a terminal enrol once; an earlier code of the same name is void.
    Invite {
        /// Its name.
        name: TerminalName,
        /// The code's hash.
        code: CodeHash,
        /// Until when.
        expires_at: Timestamp,
    },
    /// Codes that are open.
    Invitations,
    /// Makes a terminal's open code void.
    Uninvite(TerminalName),
    /// Revokes all certificates of a name that have not ended, of those issued to terminals that
    /// enrolled themselves.
    RevokeCertificates(TerminalName),
    /// All revoked certificates that have not ended.
    RevokedCertificates,
    /// Audits the whole ledger; with a digest of before, also what came before it.
    Verify(Option<Digest>),
    /// Copies the store to a new file.
    Backup(PathBuf),
    /// How many demo accounts still have their public PIN.
    DemoAccounts,
    /// Captures that came after their hold had expired, newest first.
    LateCaptures {
        /// How many at most.
        limit: usize,
    },
}

/// What came of an [`Act`].
#[derive(Debug, Clone)]
pub enum Done {
    /// It is done.
    Yes,
    /// Accounts were opened.
    Opened {
        /// How many.
        opened: usize,
        /// Numbers that stood already.
        existing: Vec<AccountNumber>,
    },
    /// One account.
    Account(Box<AccountReport>),
    /// Several.
    Accounts(Vec<AccountReport>),
    /// Entries.
    Lines(Vec<Line>),
    /// An entry was written.
    Posted {
        /// Its number.
        entry: i64,
        /// The balance after it.
        balance: i64,
    },
    /// Terminals.
    Terminals(Vec<TerminalReport>),
    /// Open codes.
    Invitations(Vec<Invitation>),
    /// Certificates, by serial number.
    Certificates(Vec<IssuedRecord>),
    /// The audit.
    Audit(Box<Audit>),
    /// A number.
    Count(u64),
    /// There is no such account.
    NoSuchAccount,
    /// It was refused; nothing changed. The words are for staff.
    Refused(String),
}

/// An account as staff see it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AccountReport {
    /// Its number.
    pub account: String,
    /// `open`, `locked` or `closed`.
    pub status: String,
    /// ISO 4217.
    pub currency: String,
    /// Minor units.
    pub balance: i64,
    /// Minor units.
    pub available: i64,
    /// Minor units, where it has its own.
    pub withdrawal_limit: Option<i64>,
    /// Minor units, where it has its own.
    pub daily_withdrawal_limit: Option<i64>,
    /// Wrong PINs that count now.
    pub tries: u32,
    /// No PIN is looked at now.
    pub locked_out: bool,
    /// Its PIN is a one-time PIN.
    pub must_change_pin: bool,
    /// Its PIN is public.
    pub demo: bool,
    /// The terminal of the last good log-in.
    pub home_terminal: Option<String>,
}

/// A terminal as staff see it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TerminalReport {
    /// Its name.
    pub terminal: String,
    /// It is not let in.
    pub disabled: bool,
    /// The balance of its cash account, minor units: negative is cash taken in.
    pub cash: i64,
}

/// A digest of all chains' heads as they stood after one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// The last entry it covers; 0 for an empty ledger.
    pub entry: i64,
    /// SHA-256 over the heads in the order of the accounts' names.
    pub hash: [u8; 32],
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-", self.entry)?;
        self.hash
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let (entry, hex) = text.split_once('-').ok_or(NotADigest)?;
        let mut hash = [0; 32];
        if hex.len() != 64 || !hex.is_ascii() {
            return Err(NotADigest);
        }
        for (index, byte) in hash.iter_mut().enumerate() {
            let pair = hex.get(2 * index..2 * index + 2).ok_or(NotADigest)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotADigest)?;
        }
        let entry = entry
            .parse()
            .ok()
            .filter(|entry| *entry >= 0)
            .ok_or(NotADigest)?;
        Ok(Self { entry, hash })
    }
}

/// The text is no digest as `verify` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is an entry's number, a hyphen and 64 hex digits, as verify prints it")]
pub struct NotADigest;

/// What an audit of the whole ledger found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Customers' accounts.
    pub accounts: u64,
    /// Entries.
    pub entries: u64,
    /// Holds that are open.
    pub open_holds: u64,
    /// Kept keys.
    pub keys: u64,
    /// The sum of customers' balances, minor units.
    pub customers_total: i64,
    /// The sum of all balances; anything but 0 is a fault.
    pub ledger_total: i64,
    /// The chains' heads now.
    pub head: Digest,
    /// Everything that is wrong, in words; empty where nothing is.
    pub faults: Vec<String>,
}

/// Faults that an audit names at most; the rest are counted.
pub const AUDIT_FAULTS_MAX: usize = 100;
