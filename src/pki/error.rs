//! What can go wrong with certificates: which file, why, and what mends it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::domain::pem;
use crate::domain::terminal::NotATerminalName;

/// Why a certificate or a revocation list could not be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FactsError {
    /// The bytes are not the DER of what was expected, or something follows it.
    #[error("it is not well-formed DER")]
    Malformed,
    /// An extension that must be read is damaged or stands there twice.
    #[error("one of its extensions is damaged or stands there twice")]
    Extension,
    /// A number is larger than this program counts.
    #[error("a number in it is out of range")]
    OutOfRange,
    /// It is not signed with the key of the authority it names.
    #[error("its signature does not fit the authority it names")]
    Signature,
    /// It is signed in a way that no handshake takes.
    #[error(
        "it is signed with an algorithm or a key that is not taken (SHA-1, another curve); mend: sign it with SHA-256, \
         SHA-384 or SHA-512 and ECDSA P-256, P-384 or P-521, Ed25519 or RSA"
    )]
    Algorithm,
    /// The list is of version 1, or has no extension.
    #[error(
        "the list is of version 1 or has no extensions, so it has no number; mend: have it made as version 2 \
         (openssl ca: crl_extensions with crlNumber and authorityKeyIdentifier)"
    )]
    OldList,
    /// The list does not say when the next one is due.
    #[error("the list does not say when the next is due (nextUpdate); mend: have it say so")]
    NoNextUpdate,
    /// The list holds only what has changed since another.
    #[error("the list is a delta of another one; mend: bring the whole list")]
    Delta,
}

/// Why a client's certificate does not name a terminal. Always the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// The certificate could not be read.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(#[from] FactsError),
    /// Extended key usage is absent, or does not name client authentication.
    #[error("the certificate is not for client authentication (extended key usage clientAuth)")]
    NotForClients,
    /// There is no URI of the form `urn:atm:terminal:NAME`.
    #[error("the certificate names no terminal (subject alternative name urn:atm:terminal:NAME)")]
    NoName,
    /// There is more than one URI of the form `urn:atm:terminal:NAME`.
    #[error("the certificate names more than one terminal")]
    SeveralNames,
    /// The URI has the right beginning but no terminal's name after it.
    #[error("the certificate's terminal name is malformed: {0}")]
    Malformed(#[from] NotATerminalName),
}

/// Why certificates could not be made, read or revoked.
#[derive(Debug, Error)]
pub enum PkiError {
    /// A file or folder exists but could not be read.
    #[error("{path}: cannot be read ({source}); check its owner and mode", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder could not be made or written.
    #[error(
        "{path}: cannot be written ({source}); check the folder's owner, mode and free space",
        path = path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is larger than any that this program writes.
    #[error("{path}: larger than {limit} bytes, so not a file of gen-certs; move it away", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes such a file has.
        limit: u64,
    },
    /// A file that is needed is not there.
    #[error("{path}: not there; {mend}", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        mend: &'static str,
    },
    /// A file is not PEM, or holds something that would not count.
    #[error("{path}: {fault}", path = path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// The line, and what is wrong with it.
        fault: pem::Fault,
    },
    /// A PEM block is there but its content cannot be used.
    #[error("{path}: line {line}: {reason}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line at which the block begins, from 1.
        line: usize,
        /// What is wrong with it.
        reason: FactsError,
    },
    /// Others may read a key.
    #[error(
        "the key {path} has mode {mode:04o}: others may read it; mend: chmod 600 {path}",
        path = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file that holds one list holds more.
    #[error(
        "{path}: line {line}: a second list; mend: keep the newest one of the issuing authority",
        path = path.display()
    )]
    SeveralLists {
        /// The file.
        path: PathBuf,
        /// The line at which the last of them begins.
        line: usize,
    },
    /// A private key is there but cannot be used.
    #[error(
        "{path}: no private key that can be used; it must be ECDSA P-256, P-384 or P-521, Ed25519 or RSA",
        path = path.display()
    )]
    BadKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate and the key beside it are not a pair.
    #[error(
        "{certificate}: does not belong to {key}; restore the one that changed, or remove both and run gen-certs again",
        certificate = certificate.display(), key = key.display()
    )]
    NotAPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A certificate in the authority's place may not sign what it has to.
    #[error(
        "{path}: not a certificate authority's (it lacks {lacks}); put the bank's ca.pem here",
        path = path.display()
    )]
    NotAnAuthority {
        /// The file.
        path: PathBuf,
        /// What an authority's certificate has and this one has not.
        lacks: &'static str,
    },
    /// The authority lets no other stand below it.
    #[error(
        "{path}: this authority may have none below it (its path length is 0); an authority that may is made by gen-certs --force, and then every terminal needs its new files",
        path = path.display()
    )]
    NoneBelow {
        /// The authority's certificate.
        path: PathBuf,
    },
    /// The authority's certificate has ended, so nothing can be issued under it.
    #[error("{path}: ended at {end}; a new authority and new certificates are made by gen-certs --force", path = path.display())]
    AuthorityEnded {
        /// The file.
        path: PathBuf,
        /// When it ended, RFC 3339.
        end: String,
    },
    /// A certificate was issued by another authority than the one here.
    #[error(
        "{path}: was not issued by {authority}; remove it and its key and run gen-certs again",
        path = path.display(), authority = authority.display()
    )]
    Stranger {
        /// The certificate's file.
        path: PathBuf,
        /// The authority's file.
        authority: PathBuf,
    },
    /// A certificate that is to be revoked was issued by another authority than the one that signs
    /// the list here, on which it would count for nothing.
    #[error(
        "{path}: was not issued by the authority whose key is here, so nothing was revoked; \
         `gen-certs revoke {name}` in the folder of the authority that issued it; where others of \
         that name were issued here, move this file away and revoke them too",
        path = path.display()
    )]
    IssuedElsewhere {
        /// The certificate's file.
        path: PathBuf,
        /// The name that was to be revoked.
        name: String,
    },
    /// A terminal's certificate file does not hold a certificate of that terminal.
    #[error("{path}: {reason}; remove it and its key and run gen-certs terminal again", path = path.display())]
    NotThisTerminal {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with the name in it.
        reason: TerminalFileError,
    },
    /// A line of a register could not be read.
    #[error("{path}: line {line}: {reason}; correct the line or restore the file from a backup", path = path.display())]
    Register {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Neither a revocation list nor the register of revocations is there, although certificates
    /// were issued: an empty list in their place would let revoked terminals in again.
    #[error(
        "{path}: not there, nor is revoked.csv, although certificates were issued; restore either from a backup, or replace all certificates with --force",
        path = path.display()
    )]
    RevocationsLost {
        /// The revocation list's file.
        path: PathBuf,
    },
    /// No certificate was ever issued under this name.
    #[error(
        "{name}: no certificate of that name was issued here; `gen-certs show` lists the names"
    )]
    UnknownName {
        /// The name.
        name: String,
    },
    /// A new certificate was asked for a terminal whose present one is revoked.
    #[error(
        "{path}: revoked, and not replaced unless asked; `gen-certs terminal {name} --force` makes a new key and certificate",
        path = path.display()
    )]
    TerminalRevoked {
        /// The terminal.
        name: String,
        /// The certificate's file.
        path: PathBuf,
    },
    /// Another run has been at work on the folder for too long.
    #[error("{path}: another gen-certs is at work in this folder; run again when it is done", path = path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// Making a key or a signature failed.
    #[error(
        "making a key or signature failed ({0}); where ca.key was made elsewhere, it must be ECDSA, Ed25519 or RSA in PKCS#8"
    )]
    Signing(#[from] rcgen::Error),
    /// The system gave no random numbers.
    #[error("the system's random number generator failed; run again")]
    Random,
    /// A date lies outside of what certificates can express.
    #[error("the dates asked for cannot be expressed in a certificate; ask for fewer days")]
    OutOfTime,
}

/// Why a signing request is not taken. Always the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SigningRequestError {
    /// It is larger than any that a terminal makes.
    #[error("the signing request is too large")]
    TooLarge,
    /// It is not the DER of a PKCS#10 request, or something follows it.
    #[error("the signing request is not well-formed DER of PKCS#10")]
    Malformed,
    /// Its key is not ECDSA P-256, uncompressed.
    #[error("the signing request's key is not ECDSA P-256")]
    KeyType,
    /// It is not signed with its own key by ecdsa-with-SHA256.
    #[error("the signing request's signature does not fit its key")]
    Signature,
}

/// What is wrong with the name in a terminal's certificate file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TerminalFileError {
    /// It names no terminal, or several.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It names another terminal than the file's name does.
    #[error("it is the certificate of {0}")]
    Other(String),
}

impl PkiError {
    /// The exit code of a program that ends with this error, by `sysexits.h`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotPem { .. }
            | Self::TooLarge { .. }
            | Self::Damaged { .. }
            | Self::BadKey { .. }
            | Self::SeveralLists { .. }
            | Self::NotAPair { .. }
            | Self::Stranger { .. }
            | Self::IssuedElsewhere { .. }
            | Self::NotThisTerminal { .. }
            | Self::Register { .. }
            | Self::UnknownName { .. } => 65,
            Self::Missing { .. } | Self::RevocationsLost { .. } => 66,
            Self::Signing(_) | Self::Random => 70,
            Self::TerminalRevoked { .. } => 73,
            Self::Write { source, .. } if cannot_create(source) => 73,
            Self::Read { .. } | Self::Write { .. } => 74,
            Self::Busy { .. } => 75,
            Self::Exposed { .. }
            | Self::NotAnAuthority { .. }
            | Self::NoneBelow { .. }
            | Self::AuthorityEnded { .. }
            | Self::OutOfTime => 78,
        }
    }
}

/// Whether the fault lies with the place rather than with the device.
fn cannot_create(source: &io::Error) -> bool {
    matches!(
        source.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::ReadOnlyFilesystem
    )
}
