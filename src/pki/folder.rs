//! The folder that holds a bank's certificates: which file lies where, and how it is read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use super::authority::TrustedAuthority;
use super::error::{PkiError, TerminalFileError};
use super::facts::{CertificateFacts, issued_by, terminal_name};
use super::files::{self, Draft, Readers};
use super::reading;
use crate::domain::TerminalName;
use crate::durable::Lock;

/// A folder of certificates as `gen-certs` keeps it: `ca.pem`, `ca.key`, `server.pem`, `server.key`,
/// `crl.pem`, `issued.csv`, `revoked.csv`, `terminals/NAME.pem`, `terminals/NAME.key`, and, where
/// terminals enrol themselves, `issuing.pem`, `issuing.key`, `issuing-crl.pem`. Nothing is read
/// or made before a method asks for it; methods that write hold the folder's lock meanwhile.
#[derive(Clone, Debug)]
pub struct CertificateFolder {
    folder: PathBuf,
    now: OffsetDateTime,
}

/// A certificate's file and its key's.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// A certificate as it lies in the folder.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) der: CertificateDer<'static>,
    pub(super) facts: CertificateFacts,
}

impl CertificateFolder {
    /// The folder at this path, which need not exist, seen at the moment `now`.
    pub fn new(folder: impl Into<PathBuf>, now: OffsetDateTime) -> Self {
        Self {
            folder: folder.into(),
            now,
        }
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The authorities' certificates.
    pub fn authority_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The authority's key. No server reads it; it is best kept elsewhere between runs.
    pub fn authority_key_file(&self) -> PathBuf {
        self.folder.join("ca.key")
    }

    /// The server's certificate.
    pub fn server_file(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    /// The server's key.
    pub fn server_key_file(&self) -> PathBuf {
        self.folder.join("server.key")
    }

    /// The revocation lists.
    pub fn revocation_file(&self) -> PathBuf {
        self.folder.join("crl.pem")
    }

    /// The issuing authority's certificate: what signs terminals that enrol themselves.
    pub fn issuing_file(&self) -> PathBuf {
        self.folder.join("issuing.pem")
    }

    /// The issuing authority's key. The server that enrols terminals reads it.
    pub fn issuing_key_file(&self) -> PathBuf {
        self.folder.join("issuing.key")
    }

    /// The issuing authority's revocation list, which the server writes.
    pub fn issuing_revocation_file(&self) -> PathBuf {
        self.folder.join("issuing-crl.pem")
    }

    /// A terminal's certificate.
    pub fn terminal_file(&self, name: &TerminalName) -> PathBuf {
        self.terminals_folder().join(format!("{name}.pem"))
    }

    /// A terminal's key.
    pub fn terminal_key_file(&self, name: &TerminalName) -> PathBuf {
        self.terminals_folder().join(format!("{name}.key"))
    }

    /// The names of the terminals whose certificates lie here, in order. Files with other names are
    /// passed over.
    ///
    /// # Errors
    /// Where the folder cannot be read; one that is not there holds no terminal.
    pub fn terminals(&self) -> Result<Vec<TerminalName>, PkiError> {
        let path = self.terminals_folder();
        let failed = |source| PkiError::Read {
            path: path.clone(),
            source,
        };
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry.map_err(failed)?.file_name();
            let stem = file.to_str().and_then(|file| file.strip_suffix(".pem"));
            names.extend(stem.and_then(|stem| stem.parse().ok()));
        }
        names.sort();
        Ok(names)
    }

    pub(super) fn now(&self) -> OffsetDateTime {
        self.now
    }

    pub(super) fn issued_file(&self) -> PathBuf {
        self.folder.join("issued.csv")
    }

    pub(super) fn revoked_file(&self) -> PathBuf {
        self.folder.join("revoked.csv")
    }

    pub(super) fn terminals_folder(&self) -> PathBuf {
        self.folder.join("terminals")
    }

    pub(super) fn authority_pair(&self) -> Pair {
        Pair {
            certificate: self.authority_file(),
            key: self.authority_key_file(),
        }
    }

    pub(super) fn server_pair(&self) -> Pair {
        Pair {
            certificate: self.server_file(),
            key: self.server_key_file(),
        }
    }

    pub(super) fn issuing_pair(&self) -> Pair {
        Pair {
            certificate: self.issuing_file(),
            key: self.issuing_key_file(),
        }
    }

    pub(super) fn terminal_pair(&self, name: &TerminalName) -> Pair {
        Pair {
            certificate: self.terminal_file(name),
            key: self.terminal_key_file(name),
        }
    }

    /// The right to write in the folder, which must be there.
    pub(super) fn lock(&self) -> Result<Lock, PkiError> {
        if !files::exists(&self.folder)? {
            return Err(self.missing());
        }
        files::lock_folder(&self.folder.join("gen-certs.lock"))
    }

    /// That there is no such folder.
    pub(super) fn missing(&self) -> PkiError {
        PkiError::Missing {
            path: self.folder.clone(),
            mend: "name the folder with --out, or run gen-certs to make certificates",
        }
    }

    /// Refuses to make an authority where the old one's certificates, or its key, are still there.
    pub(super) fn refuse_to_orphan(&self) -> Result<(), PkiError> {
        let mut left = vec![
            self.authority_key_file(),
            self.server_file(),
            self.revocation_file(),
            self.issuing_file(),
        ];
        left.extend(
            self.terminals()?
                .iter()
                .map(|name| self.terminal_file(name)),
        );
        for path in left {
            if files::exists(&path)? {
                return Err(PkiError::Missing {
                    path: self.authority_file(),
                    mend: "certificates it issued are here, so restore it from a backup, or replace everything with --force",
                });
            }
        }
        Ok(())
    }

    /// A terminal's certificate, where it is there; it must name that terminal.
    pub(super) fn terminal_leaf(&self, name: &TerminalName) -> Result<Option<Leaf>, PkiError> {
        let path = self.terminal_file(name);
        let Some(leaf) = read_leaf(&path)? else {
            return Ok(None);
        };
        let reason = match terminal_name(&leaf.der) {
            Ok(found) if found == *name => return Ok(Some(leaf)),
            Ok(found) => TerminalFileError::Other(found.to_string()),
            Err(error) => TerminalFileError::Name(error),
        };
        Err(PkiError::NotThisTerminal { path, reason })
    }
}

impl Pair {
    /// Both files are on disk before either takes its place, and the key goes first: what is left to fail
    /// between are two renames.
    pub(super) fn write(&self, certificate: &str, key: Option<&str>) -> Result<(), PkiError> {
        let key = key
            .map(|pem| Draft::write(&self.key, pem, Readers::Owner))
            .transpose()?;
        let certificate = Draft::write(&self.certificate, certificate, Readers::Everyone)?;
        if let Some(key) = key {
            key.settle()?;
        }
        certificate.settle()
    }

    /// The key, where its file is there.
    pub(super) fn read_key(&self) -> Result<Option<KeyPair>, PkiError> {
        reading::signing_key(&self.key, 0)
    }

    /// Makes sure that one of the authorities issued the certificate and that the key, where it is
    /// there, belongs to it. Tells whether the key is there.
    pub(super) fn check(
        &self,
        leaf: &Leaf,
        authorities: &[TrustedAuthority],
        authority_file: &Path,
    ) -> Result<bool, PkiError> {
        let ours = |authority: &TrustedAuthority| issued_by(&leaf.der, &authority.der) == Ok(true);
        if !authorities.iter().any(ours) {
            return Err(PkiError::Stranger {
                path: self.certificate.clone(),
                authority: authority_file.to_owned(),
            });
        }
        let Some(key) = self.read_key()? else {
            return Ok(false);
        };
        if key.subject_public_key_info() == leaf.facts.spki {
            return Ok(true);
        }
        Err(PkiError::NotAPair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
        })
    }
}

/// Reads a certificate's file, where it is there.
pub(super) fn read_leaf(path: &Path) -> Result<Option<Leaf>, PkiError> {
    let found = reading::first_certificate(path)?;
    Ok(found.map(|(der, facts)| Leaf { der, facts }))
}
