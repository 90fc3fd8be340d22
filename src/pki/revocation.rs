//! Which certificates are revoked: the register, and the signed lists that servers read.

use std::collections::HashSet;
use std::path::Path;

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};

use super::authority::{Authority, CLOCK_SKEW, REVOCATION_LIST_DAYS, TrustedAuthority, not_pem};
use super::error::{FactsError, PkiError};
use super::facts::{RevocationListFacts, Revoked, Serial, issued_by};
use super::files::{self, LIST_MAX, Readers};
use super::folder::{CertificateFolder, read_leaf};
use super::issuance::Issuance;
use super::issuing_files::ISSUING_NAME;
use super::register::{Register, Row};
use super::report::{RevokeReport, RevokedReport, rfc3339};
use super::request::RevocationRequest;
use crate::domain::TerminalName;

/// A list of one of the folder's authorities; its signature is verified.
#[derive(Clone, Debug)]
pub(super) struct SignedList {
    pem: String,
    pub(super) facts: RevocationListFacts,
}

/// All revocations of a folder. The register holds them too, so that the loss of the list never lets a
/// revoked certificate in again, and a run that dies between the two is made good by the next.
#[derive(Debug)]
pub(super) struct Revocations {
    register: Register,
    lists: Vec<SignedList>,
}

impl Revocations {
    /// Reads the register and the lists of these authorities. Lists of others are passed over, and go
    /// when the file is next written.
    pub(super) fn read(
        folder: &CertificateFolder,
        authorities: &[TrustedAuthority],
    ) -> Result<Self, PkiError> {
        let register = Register::revoked(&folder.revoked_file())?;
        Ok(Self {
            register,
            lists: read_lists(folder, authorities)?,
        })
    }

    /// As [`Revocations::read`], for a new authority, which has no list.
    pub(super) fn without_lists(folder: &CertificateFolder) -> Result<Self, PkiError> {
        Ok(Self {
            register: Register::revoked(&folder.revoked_file())?,
            lists: Vec::new(),
        })
    }

    pub(super) fn lists(&self) -> &[SignedList] {
        &self.lists
    }

    pub(super) fn register(&self) -> &Register {
        &self.register
    }

    /// The serial numbers of all revoked certificates.
    pub(super) fn serials(&self) -> HashSet<Serial> {
        let listed = self.lists.iter().flat_map(|list| &list.facts.revoked);
        let registered = self.register.rows().iter().map(|row| row.serial.clone());
        listed
            .map(|revoked| revoked.serial.clone())
            .chain(registered)
            .collect()
    }

    /// The list of this authority.
    pub(super) fn list_of(&self, authority: &TrustedAuthority) -> Option<&SignedList> {
        self.lists
            .iter()
            .find(|list| list.facts.issuer_der == authority.facts.subject_der)
    }

    /// Whether the authority's list is there and holds all that the register does.
    pub(super) fn is_published(&self, authority: &TrustedAuthority) -> bool {
        self.list_of(authority).is_some_and(|list| {
            let listed: HashSet<&Serial> =
                list.facts.revoked.iter().map(|one| &one.serial).collect();
            self.register
                .rows()
                .iter()
                .all(|row| listed.contains(&row.serial))
        })
    }

    /// Whether revocations may have been lost, because neither list nor register is there.
    pub(super) fn may_be_lost(&self, authority: &TrustedAuthority) -> bool {
        self.list_of(authority).is_none() && !self.register.is_stored()
    }

    /// Signs a new list of all revocations and writes the register and the list's file.
    pub(super) fn publish(
        &mut self,
        folder: &CertificateFolder,
        authority: &Authority,
        revoked: Vec<Row>,
    ) -> Result<(), PkiError> {
        let own = self
            .list_of(authority.trusted())
            .map(|list| list.facts.clone());
        let unnamed = |one: &Revoked| Row {
            serial: one.serial.clone(),
            name: String::new(),
            time: one.at,
        };
        let listed = own.iter().flat_map(|list| &list.revoked).map(unnamed);
        self.register.add(revoked.into_iter().chain(listed))?;

        let number = next_number(own.and_then(|list| list.number), folder.now())?;
        let entry = |row: &Row| Revoked {
            serial: row.serial.clone(),
            at: row.time,
        };
        let (der, pem) = authority.revocation_list(&RevocationRequest {
            number,
            this_update: folder.now() - CLOCK_SKEW,
            next_update: folder.now() + Duration::days(i64::from(REVOCATION_LIST_DAYS)),
            revoked: self.register.rows().iter().map(entry).collect(),
        })?;
        let path = folder.revocation_file();
        let facts = RevocationListFacts::read(&der).map_err(|reason| PkiError::Damaged {
            path: path.clone(),
            reason,
        })?;
        self.lists
            .retain(|list| list.facts.issuer_der != facts.issuer_der);
        self.lists.insert(0, SignedList { pem, facts });
        let text: String = self
            .lists
            .iter()
            .map(|list| format!("{}\n", list.pem.trim_end()))
            .collect();
        files::write_text(&path, &text, Readers::Everyone)
    }
}

impl CertificateFolder {
    /// Revokes all certificates of a name that have not ended, and publishes a new list. The name is a
    /// terminal's, or the server's as `issued.csv` has it (`server:` and its first name). Revoking
    /// again is no error and changes nothing.
    ///
    /// # Errors
    /// Where no certificate of that name was issued, the authority's key is not there, a file is
    /// damaged, or the folder cannot be written.
    pub fn revoke(&self, name: &str) -> Result<RevokeReport, PkiError> {
        let _lock = self.lock()?;
        let mut issuance = Issuance::open(self)?;
        let rows = issuance.issued_as(name)?;
        if rows.is_empty() {
            return Err(PkiError::UnknownName {
                name: name.to_owned(),
            });
        }
        let now = self.now().unix_timestamp();
        let known = issuance.revocations.serials();
        let (already, rest): (Vec<Row>, Vec<Row>) = rows
            .into_iter()
            .partition(|row| known.contains(&row.serial));
        let (open, ended): (Vec<Row>, Vec<Row>) = rest.into_iter().partition(|row| row.time >= now);
        let open: Vec<Row> = open
            .into_iter()
            .map(|row| Row { time: now, ..row })
            .collect();
        issuance.revoke(open.clone())?;

        let times = issuance.revocations.register().rows();
        let already = already.iter().map(|row| {
            let found = times.iter().find(|revoked| revoked.serial == row.serial);
            revoked_report(found.unwrap_or(row))
        });
        Ok(RevokeReport {
            folder: self.path().to_owned(),
            name: name.to_owned(),
            already_revoked: already.collect(),
            revoked: open.iter().map(revoked_report).collect(),
            ended: ended.len(),
        })
    }
}

impl Issuance<'_> {
    /// What was issued under this name: by the register, and by the certificate that is there, in case
    /// the register was lost or restored from an old backup. A certificate that cannot be read does not
    /// stand in the way of revoking the others; one that another authority issued does, since it would
    /// stay good.
    fn issued_as(&mut self, name: &str) -> Result<Vec<Row>, PkiError> {
        let (path, present) = match name.parse::<TerminalName>() {
            Ok(terminal) => (
                self.folder.terminal_file(&terminal),
                self.terminal_row(&terminal),
            ),
            Err(_) if name == ISSUING_NAME => (self.folder.issuing_file(), self.issuing_row()),
            Err(_) => (self.folder.server_file(), self.server_row()),
        };
        let present = present.ok().flatten().filter(|row| row.name == name);
        if present.is_some() && self.is_anothers(&path)? {
            return Err(PkiError::IssuedElsewhere {
                path,
                name: name.to_owned(),
            });
        }
        self.issued.add(present)?;
        Ok(self
            .issued
            .rows()
            .iter()
            .filter(|row| row.name == name)
            .cloned()
            .collect())
    }

    /// Whether another authority than the one that signs here issued this certificate, and has not
    /// revoked it.
    fn is_anothers(&self, path: &Path) -> Result<bool, PkiError> {
        let (Some(own), Some(leaf)) = (&self.authority, read_leaf(path)?) else {
            return Ok(false);
        };
        let is_revoked = || {
            let lists = self.revocations.lists().iter().map(|list| &list.facts);
            let mut lists = lists.filter(|list| list.issuer_der == leaf.facts.issuer_der);
            lists.any(|list| {
                let mut revoked = list.revoked.iter();
                revoked.any(|one| one.serial == leaf.facts.serial)
            })
        };
        Ok(issued_by(&leaf.der, own.certificate()) != Ok(true) && !is_revoked())
    }
}

fn revoked_report(row: &Row) -> RevokedReport {
    RevokedReport {
        serial: row.serial.to_string(),
        name: Some(row.name.clone()).filter(|name| !name.is_empty()),
        at: rfc3339(row.time),
    }
}

/// Greater than the last number, and not less than the seconds since 1970, so that it grows even where
/// the last list was lost (RFC 5280, 5.2.3).
pub(super) fn next_number(last: Option<u64>, now: OffsetDateTime) -> Result<u64, PkiError> {
    let after = last
        .unwrap_or(0)
        .checked_add(1)
        .ok_or(PkiError::OutOfTime)?;
    Ok(after.max(u64::try_from(now.unix_timestamp()).unwrap_or(0)))
}

fn read_lists(
    folder: &CertificateFolder,
    authorities: &[TrustedAuthority],
) -> Result<Vec<SignedList>, PkiError> {
    let path = folder.revocation_file();
    let Some(text) = files::read_text(&path, LIST_MAX)? else {
        return Ok(Vec::new());
    };
    let damaged = |reason| PkiError::Damaged {
        path: path.clone(),
        reason,
    };
    let mut lists = Vec::new();
    let mut blocks = 0_usize;
    for pem in files::pem_blocks(&text, "X509 CRL") {
        blocks += 1;
        let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| not_pem(&path, "revocation list (X509 CRL)"))?;
        let facts = RevocationListFacts::read(&der).map_err(damaged)?;
        let mut named = authorities
            .iter()
            .filter(|one| one.facts.subject_der == facts.issuer_der)
            .peekable();
        if named.peek().is_none() {
            continue;
        }
        if !named.any(|authority| RevocationListFacts::verify(&der, &authority.der).is_ok()) {
            return Err(damaged(FactsError::Signature));
        }
        lists.push(SignedList {
            pem: pem.to_owned(),
            facts,
        });
    }
    if blocks == 0 {
        return Err(not_pem(&path, "revocation list (X509 CRL)"));
    }
    Ok(lists)
}
