//! Lists of revocations: the newest of each authority, and none that is older than the one in force.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::list_signatures::{self, HeldList};
use super::{TlsError, Trust, read};
use crate::pki::{self, RevocationListFacts};
use crate::server::expiry::{Expiring, Expiry};

/// One authority's list of revocations.
#[derive(Debug, Clone)]
pub(super) struct ListInForce {
    path: PathBuf,
    authority: String,
    /// The authority's public key: another one of the same name has its own lists.
    key: Vec<u8>,
    age: ListAge,
    /// Held, so that no handshake after the first need verify the list's signature.
    _held: Arc<HeldList>,
}

/// A list's number, which only grows (RFC 5280, 5.2.3), then its date.
type ListAge = (Option<u64>, i64);

impl Trust {
    /// Refuses lists of revocations that are older than those of `present`.
    ///
    /// # Errors
    /// [`TlsError::OlderList`].
    pub(in crate::server) fn refuse_to_go_back_behind(
        &self,
        present: &Self,
    ) -> Result<(), TlsError> {
        let is_older = |list: &&ListInForce| {
            let known = present.lists.iter().find(|known| known.key == list.key);
            known.is_some_and(|known| list.age < known.age)
        };
        match self.lists.iter().find(is_older) {
            None => Ok(()),
            Some(list) => Err(TlsError::OlderList {
                path: list.path.clone(),
                authority: list.authority.clone(),
            }),
        }
    }
}

/// The newest list of each of these authorities, which the file must have. Only that one is given on:
/// webpki goes by the first list of an authority that it finds, and an older one beside it would let
/// the lately revoked in.
pub(super) fn lists_of(
    path: &Path,
    authorities: &[CertificateDer<'_>],
    (kind, list_kind): (Expiring, Expiring),
    (expiries, in_force): Found<'_>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let text = read(path)?;
    let unusable = || TlsError::Unusable {
        path: path.to_owned(),
        what: "revocation list (PEM)",
    };
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|_| unusable())?;
    let mut newest_lists = Vec::new();
    for authority in authorities {
        let facts = pki::CertificateFacts::read(authority).map_err(|_| unusable())?;
        let mut newest: Option<(RevocationListFacts, &CertificateRevocationListDer<'_>)> = None;
        for list in &lists {
            let found = RevocationListFacts::read(list).map_err(|_| unusable())?;
            let is_own = found.issuer_der == facts.subject_der
                && RevocationListFacts::verify(list, authority).is_ok();
            if is_own
                && newest
                    .as_ref()
                    .is_none_or(|(known, _)| age_of(&found) > age_of(known))
            {
                newest = Some((found, list));
            }
        }
        let Some((found, list)) = newest else {
            return Err(TlsError::NoRevocationList {
                path: path.to_owned(),
                authority: facts.subject,
            });
        };
        newest_lists.push(list.clone());
        in_force.push(ListInForce {
            path: path.to_owned(),
            authority: facts.subject.clone(),
            key: facts.spki,
            age: age_of(&found),
            _held: list_signatures::hold(list).map_err(|_| unusable())?,
        });
        expiries.extend(found.next_update.map(|ends| Expiry {
            what: list_kind,
            of: facts.subject.clone(),
            ends,
        }));
        expiries.push(Expiry {
            what: kind,
            of: facts.subject,
            ends: facts.not_after,
        });
    }
    Ok(newest_lists)
}

fn age_of(list: &RevocationListFacts) -> ListAge {
    (list.number, list.this_update)
}

/// What is found while loading: what ends some day, and the lists.
pub(super) type Found<'a> = (&'a mut Vec<Expiry>, &'a mut Vec<ListInForce>);
