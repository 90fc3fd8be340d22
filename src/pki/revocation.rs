//! Which certificates are revoked: the register, and the signed lists that servers read.

use std::collections::HashSet;
use std::path::Path;

use time::{Duration, OffsetDateTime};

use super::authority::{Authority, CLOCK_SKEW, REVOCATION_LIST_DAYS, TrustedAuthority, instant};
use super::error::PkiError;
use super::facts::{ListNumber, RevocationListFacts, Revoked, Serial, issued_by};
use super::files::{self, Readers};
use super::folder::{CertificateFolder, read_leaf};
use super::issuance::Issuance;
use super::issuing_files::ISSUING_NAME;
use super::reading::{self, RevocationList};
use super::register::{Register, Row};
use super::report::{RevokeReport, RevokedReport, rfc3339};
use super::request::RevocationRequest;
use crate::domain::{TerminalName, pem};

/// All revocations of a folder. The register holds them too, so that the loss of the list never lets a
/// revoked certificate in again, and a run that dies between the two is made good by the next.
#[derive(Debug)]
pub(super) struct Revocations {
    register: Register,
    /// Of the folder's authorities; their signatures are verified.
    lists: Vec<RevocationList>,
    /// Of others, such as an authority below: they stay in the file as they are.
    others: Vec<RevocationList>,
}

impl Revocations {
    /// Reads the register and the lists, of these authorities and of others.
    pub(super) fn read(
        folder: &CertificateFolder,
        authorities: &[TrustedAuthority],
    ) -> Result<Self, PkiError> {
        let register = Register::revoked(&folder.revoked_file())?;
        let (lists, others) = read_lists(folder, authorities)?;
        Ok(Self {
            register,
            lists,
            others,
        })
    }

    /// As [`Revocations::read`], for a new authority, which has no list.
    pub(super) fn without_lists(folder: &CertificateFolder) -> Result<Self, PkiError> {
        Ok(Self {
            register: Register::revoked(&folder.revoked_file())?,
            lists: Vec::new(),
            others: Vec::new(),
        })
    }

    pub(super) fn lists(&self) -> &[RevocationList] {
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

    /// The newest list of this authority.
    pub(super) fn list_of(&self, authority: &TrustedAuthority) -> Option<&RevocationList> {
        self.lists_of(authority)
            .max_by_key(|list| (list.facts.this_update, list.facts.number))
    }

    fn lists_of(&self, authority: &TrustedAuthority) -> impl Iterator<Item = &RevocationList> {
        let own = &authority.facts.subject_der;
        self.lists
            .iter()
            .filter(move |list| list.facts.issuer_der == *own)
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
        let own: Vec<RevocationListFacts> = self
            .lists_of(authority.trusted())
            .map(|list| list.facts.clone())
            .collect();
        let unnamed = |one: &Revoked| Row {
            serial: one.serial.clone(),
            name: String::new(),
            time: one.at,
        };
        let listed = own.iter().flat_map(|list| &list.revoked).map(unnamed);
        self.register.add(revoked.into_iter().chain(listed))?;

        let number = next_number(
            own.iter().filter_map(|list| list.number).max(),
            folder.now(),
        )?;
        let last = own.iter().map(|list| list.this_update).max();
        let (this_update, next_update) = next_term(last, folder.now())?;
        let entry = |row: &Row| Revoked {
            serial: row.serial.clone(),
            at: row.time,
        };
        let (der, _) = authority.revocation_list(&RevocationRequest {
            number,
            this_update,
            next_update,
            revoked: self.register.rows().iter().map(entry).collect(),
        })?;
        let path = folder.revocation_file();
        let facts = RevocationListFacts::read(&der);
        let facts = facts.map_err(|reason| reading::damaged(&path, 1, reason))?;
        self.lists
            .retain(|list| list.facts.issuer_der != facts.issuer_der);
        let line = 1;
        self.lists.insert(0, RevocationList { der, facts, line });
        let text: String = self
            .lists
            .iter()
            .chain(&self.others)
            .map(|list| pem::revocation_list(&list.der))
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
pub(super) fn next_number(
    last: Option<ListNumber>,
    now: OffsetDateTime,
) -> Result<ListNumber, PkiError> {
    let after = last.unwrap_or(ListNumber::from(0)).next();
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
    Ok(after.ok_or(PkiError::OutOfTime)?.max(seconds.into()))
}

/// When the next list is made, and when the one after it is due. It never says to be older than the
/// last, whatever the clock says: a server would not take it.
pub(super) fn next_term(
    last: Option<i64>,
    now: OffsetDateTime,
) -> Result<(OffsetDateTime, OffsetDateTime), PkiError> {
    let this_update = match last {
        Some(last) => instant(last)?.max(now - CLOCK_SKEW),
        None => now - CLOCK_SKEW,
    };
    let days = Duration::days(i64::from(REVOCATION_LIST_DAYS));
    let next_update = this_update.max(now).checked_add(days);
    Ok((this_update, next_update.ok_or(PkiError::OutOfTime)?))
}

/// The lists of these authorities, and those of others.
fn read_lists(
    folder: &CertificateFolder,
    authorities: &[TrustedAuthority],
) -> Result<(Vec<RevocationList>, Vec<RevocationList>), PkiError> {
    let path = folder.revocation_file();
    let all = reading::lists(&path)?.unwrap_or_default();
    let named = |list: &RevocationList, authority: &TrustedAuthority| {
        authority.facts.subject_der == list.facts.issuer_der
    };
    let (own, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|list| authorities.iter().any(|authority| named(list, authority)));
    for list in &own {
        let named = authorities
            .iter()
            .filter(|authority| named(list, authority));
        reading::signed_by_one_of(list, named.map(|authority| &authority.der))
            .map_err(|reason| reading::damaged(&path, list.line, reason))?;
    }
    Ok((own, others))
}
