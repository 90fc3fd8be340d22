//! The issuing authority's files: made, renewed and shown by `gen-certs`.

use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, SerialNumber,
};

use super::authority::{Authority, IssuedCertificate, random_serial};
use super::error::PkiError;
use super::facts::RevocationListFacts;
use super::files;
use super::folder::{CertificateFolder, read_leaf};
use super::issuance::{Issuance, made_or_replaced, row_of};
use super::issuing::{read_list, write_list};
use super::register::Row;
use super::report::{Action, IssueReport, ItemReport, Subject, rfc3339};

/// What `issued.csv` calls the issuing authority, and `gen-certs revoke` takes for it. It holds a
/// colon, which no terminal's name does.
pub const ISSUING_NAME: &str = "authority:issuing";

/// What is to become of an issuing authority that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replace {
    Nothing,
    /// A new certificate for the key that is there: what it signed stays good.
    Certificate,
    /// A new key: what the old one signed is not let in any more.
    Key,
}

impl CertificateFolder {
    /// Makes the issuing authority: its key, its certificate under the bank's authority, its empty
    /// revocation list. What is there stays as it is, unless `replace` asks for a new key; then
    /// every terminal that enrolled must enrol again.
    ///
    /// # Errors
    /// As [`CertificateFolder::make_missing`], and where the bank's authority may have none below.
    pub fn issuing(&self, days: u32, replace: bool) -> Result<IssueReport, PkiError> {
        let _lock = self.lock()?;
        let mut issuance = Issuance::open(self)?;
        let replace = if replace {
            Replace::Key
        } else {
            Replace::Nothing
        };
        issuance.make_issuing(days, replace)?;
        Ok(issuance.report())
    }

    /// The issuing authority's list, where both are there.
    pub(super) fn issuing_list(&self) -> Result<Option<RevocationListFacts>, PkiError> {
        match read_leaf(&self.issuing_file())? {
            Some(leaf) => read_list(&self.issuing_revocation_file(), &leaf.der),
            None => Ok(None),
        }
    }
}

impl Issuance<'_> {
    /// Gives the issuing authority, where there is one, a new certificate for its key.
    pub(super) fn renew_issuing(&mut self, days: u32) -> Result<(), PkiError> {
        if files::exists(&self.folder.issuing_file())? {
            self.make_issuing(days, Replace::Certificate)
        } else {
            Ok(())
        }
    }

    pub(super) fn issuing_row(&self) -> Result<Option<Row>, PkiError> {
        let leaf = read_leaf(&self.folder.issuing_file())?;
        Ok(leaf.map(|leaf| row_of(&leaf, ISSUING_NAME.to_owned())))
    }

    fn make_issuing(&mut self, days: u32, replace: Replace) -> Result<(), PkiError> {
        let pair = self.folder.issuing_pair();
        let present = read_leaf(&pair.certificate)?;
        if let (Some(leaf), true) = (&present, replace != Replace::Key) {
            let has_key = pair.check(leaf, &self.trusted, &self.folder.authority_file())?;
            if !has_key && replace == Replace::Certificate {
                let note = "its key is not in the folder, so it is not renewed".to_owned();
                let name = leaf.facts.subject.clone();
                self.keep(Subject::IssuingAuthority, name, leaf, [Some(note), None]);
                return Ok(());
            }
            if replace == Replace::Nothing {
                let standing = self.standing_note(leaf, "gen-certs renew makes a new one");
                let away = (!has_key).then(|| "its key is not in the folder".to_owned());
                let name = leaf.facts.subject.clone();
                self.keep(Subject::IssuingAuthority, name, leaf, [standing, away]);
                return self.make_issuing_list(false);
            }
        }
        let kept = match replace {
            Replace::Key => None,
            Replace::Nothing | Replace::Certificate => pair.read_key()?,
        };
        let new_key = kept.is_none();
        let key = kept.map_or_else(KeyPair::generate, Ok)?;
        let issued = self.issue_issuing(days, key)?;
        let end = issued.not_after().unix_timestamp();
        // On record before it can be used, so that it can always be revoked.
        self.issued.add([Row {
            serial: issued.serial().clone(),
            name: ISSUING_NAME.to_owned(),
            time: end,
        }])?;
        let key_pem = new_key.then(|| issued.key_pem());
        pair.write(&issued.pem(), key_pem.as_ref().map(|pem| pem.as_str()))?;
        self.items.push(ItemReport {
            subject: Subject::IssuingAuthority,
            name: Some(ISSUING_NAME.to_owned()),
            action: made_or_replaced(present.is_some()),
            serial: Some(issued.serial().to_string()),
            end: Some(rfc3339(end)),
            notes: Vec::new(),
        });
        self.make_issuing_list(new_key)
    }

    fn issue_issuing(&self, days: u32, key: KeyPair) -> Result<IssuedCertificate, PkiError> {
        let signer = self.signer()?;
        if signer.facts().authorities_below == Some(0) {
            return Err(PkiError::NoneBelow {
                path: self.folder.authority_file(),
            });
        }
        let (not_before, not_after) = signer.term(self.folder.now(), days)?;
        let serial = random_serial()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, subject_of(&key));
        params.serial_number = Some(SerialNumber::from(serial.octets()));
        params.not_before = not_before;
        params.not_after = not_after;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Verifiers hold what it signs to this too: no server's certificate comes from it.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        signer.issue_below(params, serial, key)
    }

    /// Makes an empty list where there is none, or where the key is new and the old list of no use.
    fn make_issuing_list(&mut self, new_key: bool) -> Result<(), PkiError> {
        let (path, now) = (self.folder.issuing_revocation_file(), self.folder.now());
        let there = files::exists(&path)?;
        let pair = self.folder.issuing_pair();
        let mut notes = Vec::new();
        let action = if there && !new_key {
            Action::Kept
        } else if files::exists(&pair.key)? {
            let authority = Authority::load(&pair.certificate, &pair.key)?;
            write_list(&authority, &path, (None, now), Vec::new())?;
            if !new_key {
                notes.push("the server puts back at its start what its store knows".to_owned());
            }
            made_or_replaced(there)
        } else {
            return Err(PkiError::Missing {
                path: pair.key,
                mend: "its key is needed to sign a list: put it back for the time of this run",
            });
        };
        let due = self.folder.issuing_list()?.map(|list| list.next_update);
        self.items.push(ItemReport {
            subject: Subject::IssuingRevocationList,
            name: None,
            action,
            serial: None,
            end: due.map(rfc3339),
            notes,
        });
        Ok(())
    }
}

/// A name that follows from the key, so that a new certificate for the same key has the same and
/// what it signed stays good.
fn subject_of(key: &KeyPair) -> String {
    let spki = key.subject_public_key_info();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &spki);
    let mark = HEXLOWER.encode(&hash.as_ref()[..4]);
    format!("ATM bank issuing authority {mark}")
}
