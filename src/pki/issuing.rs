//! The issuing authority at work in a server: it signs terminals' keys, and the list of those of
//! its certificates that are revoked. It is an authority of its own below the bank's, good for
//! clients alone, with a key of its own; the bank's own key is not needed for any of this.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use super::authority::{Authority, CLOCK_SKEW, REVOCATION_LIST_DAYS, instant};
use super::error::{FactsError, PkiError};
use super::facts::{CertificateFacts, RevocationListFacts, Revoked, Serial};
use super::files::{self, Readers};
use super::reading;
use super::request::{CertificateRequest, RevocationRequest};
use super::revocation::{next_number, next_term};
use super::signing_request::SigningRequest;
use crate::domain::TerminalName;

/// A certificate begins so much of its life before it is issued, at most [`CLOCK_SKEW`].
const SKEW_SHARE: u32 = 4;

/// The issuing authority with its key.
#[derive(Debug)]
pub struct IssuingAuthority {
    authority: Authority,
}

/// A terminal's certificate, just signed.
#[derive(Clone, Debug)]
pub struct EnrolledCertificate {
    /// The certificate in DER.
    pub der: Vec<u8>,
    /// Its serial number: 16 random octets.
    pub serial: Serial,
    /// Until when it holds, seconds since 1970 UTC.
    pub not_after: i64,
}

impl IssuingAuthority {
    /// Loads it from its two files, both PEM. The key's mode has none of the bits of `forbidden`.
    ///
    /// # Errors
    /// Where a file is not there or damaged, others may read the key, the two are no pair, or the certificate could do more
    /// than sign clients' certificates: such a key must not lie with a server.
    pub fn load(certificate: &Path, key: &Path, forbidden: u32) -> Result<Self, PkiError> {
        let authority = Authority::load_private(certificate, key, forbidden)?;
        refuse_more_than_issuing(authority.facts(), certificate)?;
        Ok(Self { authority })
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.authority.certificate()
    }

    /// What its certificate says.
    #[must_use]
    pub fn facts(&self) -> &CertificateFacts {
        self.authority.facts()
    }

    /// Certifies the request's key as `name`'s, for `lifetime` from `now`, at most to the
    /// authority's own end. The certificate begins a little earlier, for clocks that are slow.
    ///
    /// # Errors
    /// Where the authority has ended, or signing fails.
    pub fn certify(
        &self,
        name: &TerminalName,
        request: &SigningRequest,
        now: OffsetDateTime,
        lifetime: Duration,
    ) -> Result<EnrolledCertificate, PkiError> {
        let (start, end) = self.authority.term(now, 1).and_then(|_| {
            let facts = self.facts();
            Ok((instant(facts.not_before)?, instant(facts.not_after)?))
        })?;
        let skew = CLOCK_SKEW.min((lifetime / SKEW_SHARE).try_into().unwrap_or(CLOCK_SKEW));
        let not_after = now.checked_add(lifetime.try_into().unwrap_or(time::Duration::MAX));
        let not_after = not_after.unwrap_or(end).min(end);
        let asked = CertificateRequest::terminal(name, (now - skew).max(start), not_after);
        let (der, serial) = self.authority.issue_for_public_key(&asked, request.key())?;
        Ok(EnrolledCertificate {
            der: der.to_vec(),
            serial,
            not_after: not_after.unix_timestamp(),
        })
    }

    /// Sees to it that the list in `file` is this authority's, holds `revoked`, and is not due
    /// soon; writes it anew where it is not so. What it held stays on it. Tells whether it was
    /// written. Waits for another that writes in the folder, so it is no call for a task.
    ///
    /// # Errors
    /// Where there is no list, it is damaged or another authority's, or it cannot be written.
    pub fn publish(
        &self,
        file: &Path,
        revoked: &[Revoked],
        now: OffsetDateTime,
    ) -> Result<bool, PkiError> {
        let _lock = files::lock_folder(&file.with_file_name("gen-certs.lock"))?;
        let present = read_list(file, self.certificate())?.ok_or_else(|| PkiError::Missing {
            path: file.to_owned(),
            mend: "gen-certs issuing makes one; what the store knows to be revoked is put on it at the start",
        })?;
        let mut all: BTreeMap<&Serial, i64> = BTreeMap::new();
        for one in present.revoked.iter().chain(revoked) {
            all.entry(&one.serial).or_insert(one.at);
        }
        let half = i64::from(REVOCATION_LIST_DAYS) * 86_400 / 2;
        let fresh = present.next_update - half > now.unix_timestamp();
        if fresh && all.len() == present.revoked.len() {
            return Ok(false);
        }
        let entry = |(serial, at): (&Serial, i64)| Revoked {
            serial: serial.clone(),
            at,
        };
        let revoked = all.into_iter().map(entry).collect();
        write_list(&self.authority, file, (Some(&present), now), revoked)?;
        Ok(true)
    }
}

/// The key of an authority that could make servers' certificates, or other authorities, must never
/// lie where terminals' are signed.
fn refuse_more_than_issuing(facts: &CertificateFacts, path: &Path) -> Result<(), PkiError> {
    let lacks = match (facts.only_for_clients, facts.authorities_below) {
        (true, Some(0)) => return Ok(()),
        (false, _) => {
            "extended key usage clientAuth, and that alone, as an issuing authority's has"
        }
        (true, _) => "a path length of 0, as an issuing authority's has",
    };
    Err(PkiError::NotAnAuthority {
        path: path.to_owned(),
        lacks,
    })
}

/// The list in a file; `None` where there is no file. It must be signed by this authority, and stand
/// alone: the server puts its own in the file's place.
pub(super) fn read_list(
    file: &Path,
    authority: &[u8],
) -> Result<Option<RevocationListFacts>, PkiError> {
    let Some(lists) = reading::lists(file)? else {
        return Ok(None);
    };
    let [list] = <[_; 1]>::try_from(lists).map_err(|lists: Vec<_>| PkiError::SeveralLists {
        path: file.to_owned(),
        line: lists.last().map_or(1, |list| list.line),
    })?;
    let damaged = |reason| reading::damaged(file, list.line, reason);
    let subject = CertificateFacts::read(authority)
        .map_err(damaged)?
        .subject_der;
    if list.facts.issuer_der != subject {
        return Err(damaged(FactsError::Signature));
    }
    RevocationListFacts::verify(&list.der, authority).map_err(damaged)?;
    Ok(Some(list.facts))
}

/// Signs a list that comes after `before` and puts it in the file's place.
pub(super) fn write_list(
    authority: &Authority,
    file: &Path,
    (before, now): (Option<&RevocationListFacts>, OffsetDateTime),
    revoked: Vec<Revoked>,
) -> Result<(), PkiError> {
    let (this_update, next_update) = next_term(before.map(|list| list.this_update), now)?;
    let (_, pem) = authority.revocation_list(&RevocationRequest {
        number: next_number(before.and_then(|list| list.number), now)?,
        this_update,
        next_update,
        revoked,
    })?;
    files::write_text(file, &pem, Readers::Everyone)
}
