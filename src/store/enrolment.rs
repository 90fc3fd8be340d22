//! Terminals that enrol themselves: invitations, and the certificates that were issued.

use aws_lc_rs::digest;

use crate::domain::timestamp::DAY_MS;
use crate::domain::{EnrolmentCode, TerminalName, Timestamp};

/// SHA-256 of a one-time code: all that is kept of it. A code has 100 random bits, so that neither
/// salt nor slowness would add anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CodeHash(pub [u8; 32]);

impl CodeHash {
    /// The hash of a code.
    #[must_use]
    pub fn of(code: &EnrolmentCode) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, code.as_str().as_bytes()).as_ref());
        Self(hash)
    }
}

impl std::fmt::Debug for CodeHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeHash(..)")
    }
}

/// By what right a certificate is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warrant {
    /// A one-time code.
    Code(CodeHash),
    /// A certificate issued before, by its serial number, shown and proven in the handshake.
    Certificate(String),
}

/// A certificate that was signed and has not left yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCertificate {
    /// Its serial number, lower-case hexadecimal.
    pub serial: String,
    /// Whose it is.
    pub terminal: TerminalName,
    /// SHA-256 of its public key.
    pub key: [u8; 32],
    /// Until when it holds.
    pub ends_at: Timestamp,
    /// The whole of it, DER.
    pub der: Vec<u8>,
}

/// What became of a certificate that was to be put on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// This one may leave, DER: the one that was given, or the one that the same code, or the same
    /// certificate, gave the same key before.
    Certificate(Vec<u8>),
    /// The warrant is void: unknown, used, over, revoked, or its terminal is disabled.
    Refused,
    /// The terminal has as many certificates as one may have; milliseconds until one ends.
    TooMany(u64),
}

/// How long a used code still gives its own key its own certificate again, for a terminal that
/// lost the answer. No other key gets anything.
pub const REFETCH_MS: u64 = 600_000;
/// Codes that are open at once.
pub const INVITATIONS_MAX: u64 = 1_000;
/// Certificates of one terminal that are good, beyond which none is renewed.
pub const CERTIFICATES_PER_TERMINAL_MAX: u64 = 16;
/// Certificates that have ended are forgotten after so long.
pub const ENDED_KEPT_MS: u64 = DAY_MS;

/// An open invitation, as staff see it. Its code is not known to the bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// For whom.
    pub terminal: TerminalName,
    /// Since when.
    pub made_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
}

/// An issued certificate that has not ended, as staff see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedRecord {
    /// Its serial number, lower-case hexadecimal.
    pub serial: String,
    /// Until when it holds.
    pub ends_at: Timestamp,
    /// When it was revoked, where it was.
    pub revoked_at: Option<Timestamp>,
}
