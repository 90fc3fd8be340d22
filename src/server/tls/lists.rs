//! Lists of revocations: the newest of each authority, and none that is older than the one in force.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::list_signatures::{self, HeldList};
use super::{TlsError, Trust};
use crate::pki::{self, CertificateFacts, ListNumber, RevocationList, RevocationListFacts};
use crate::server::expiry::{Expiring, Expiry};

/// One authority's list of revocations.
#[derive(Debug, Clone)]
pub(super) struct ListInForce {
    path: PathBuf,
    authority: String,
    pub(super) issuer: Vec<u8>,
    /// The authority's public key: another one of the same name has its own lists. `None` where it is
    /// not known, because only terminals show its certificate.
    pub(super) key: Option<Vec<u8>>,
    pub(super) age: ListAge,
    /// The server's own making: the store knows what must be on it.
    pub(super) made_here: bool,
    /// Held, so that no handshake after the first need verify the list's signature.
    pub(super) held: Arc<HeldList>,
}

/// What tells which of two lists of one authority is the newer one: its number, which only grows
/// (RFC 5280, 5.2.3), and its date. Either can be wrong where numbers began anew or a clock was set
/// back, so that the newer list is the one that neither of them says to be older.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListAge {
    pub(super) number: Option<ListNumber>,
    pub(super) this_update: i64,
}

impl ListAge {
    fn of(list: &RevocationListFacts) -> Self {
        Self {
            number: list.number,
            this_update: list.this_update,
        }
    }

    /// `None` where number and date contradict each other. A list without number has its date alone.
    pub(super) fn compared_with(&self, other: &Self) -> Option<Ordering> {
        let by_date = self.this_update.cmp(&other.this_update);
        let by_number = match (self.number, other.number) {
            (Some(own), Some(others)) => own.cmp(&others),
            _ => Ordering::Equal,
        };
        match (by_date, by_number) {
            (Ordering::Less, Ordering::Greater) | (Ordering::Greater, Ordering::Less) => None,
            (Ordering::Equal, by_number) => Some(by_number),
            (by_date, _) => Some(by_date),
        }
    }
}

impl Trust {
    /// Refuses lists of revocations that are older than those of `present`, or may be.
    ///
    /// # Errors
    /// [`TlsError::OlderList`], [`TlsError::UndecidedList`].
    pub(in crate::server) fn refuse_to_go_back_behind(
        &self,
        present: &Self,
    ) -> Result<(), TlsError> {
        let pairs = self.lists.iter().flat_map(|list| {
            let known = present.lists.iter();
            let known = known.filter(|known| known.is_of_same_authority(list));
            known.map(move |known| (list, known))
        });
        for (list, known) in pairs {
            let same = Arc::ptr_eq(&list.held, &known.held);
            list.refuse_older(same, list.age.compared_with(&known.age))?;
        }
        Ok(())
    }
}

impl ListInForce {
    fn is_of_same_authority(&self, other: &Self) -> bool {
        let differ = matches!((&self.key, &other.key), (Some(own), Some(others)) if own != others);
        self.issuer == other.issuer && !differ
    }

    /// Refuses this list where it is, or may be, older than one in force that it was compared with.
    pub(super) fn refuse_older(
        &self,
        same: bool,
        compared: Option<Ordering>,
    ) -> Result<(), TlsError> {
        let (path, authority) = (self.path.clone(), self.authority.clone());
        match compared {
            _ if same => Ok(()),
            Some(Ordering::Greater) => Ok(()),
            Some(Ordering::Less) => Err(TlsError::OlderList { path, authority }),
            Some(Ordering::Equal) | None => Err(TlsError::UndecidedList { path, authority }),
        }
    }
}

/// A list that is to be looked certificates up in.
pub(super) struct Kept {
    pub(super) der: CertificateRevocationListDer<'static>,
    pub(super) path: PathBuf,
    pub(super) authority: String,
}

/// An authority's certificate and what it says.
pub(super) type Authority = (CertificateDer<'static>, CertificateFacts);

/// The lists of a file, known to be of these authorities or of none of their names.
pub(super) struct Lists<'a> {
    path: &'a Path,
    all: Vec<RevocationList>,
}

impl<'a> Lists<'a> {
    /// # Errors
    /// Where anything in the file would not count, or a list in one of their names is not signed by
    /// it: an older one beside it would count in its place.
    pub(super) fn read(path: &'a Path, authorities: &[Authority]) -> Result<Self, TlsError> {
        let all = pki::read_lists(path)?;
        for list in &all {
            let named = authorities
                .iter()
                .filter(|(_, facts)| facts.subject_der == list.facts.issuer_der)
                .map(|(der, _)| der);
            if named.clone().next().is_some() {
                pki::signed_by_one_of(list, named)
                    .map_err(|reason| pki::damaged(path, list.line, reason))?;
            }
        }
        Ok(Self { path, all })
    }

    /// The newest list of this issuer; `None` where there is none. Only that one is given on: webpki
    /// goes by the first list of an authority that it finds, and an older one beside it would let the
    /// lately revoked in.
    pub(super) fn newest(&self, issuer: &[u8]) -> Result<Option<&RevocationList>, TlsError> {
        let own = || {
            self.all
                .iter()
                .filter(|list| list.facts.issuer_der == issuer)
        };
        let age = |list: &RevocationList| ListAge::of(&list.facts);
        let newest = own().reduce(|newest, list| match age(list).compared_with(&age(newest)) {
            Some(Ordering::Greater) => list,
            _ => newest,
        });
        let Some(newest) = newest else {
            return Ok(None);
        };
        let is_newest = |list: &RevocationList| {
            list.der == newest.der
                || age(newest).compared_with(&age(list)) == Some(Ordering::Greater)
        };
        if own().all(is_newest) {
            return Ok(Some(newest));
        }
        Err(TlsError::UndecidedList {
            path: self.path.to_owned(),
            authority: newest.facts.issuer.clone(),
        })
    }

    /// The newest list of each of these authorities, which the file must have.
    pub(super) fn of(
        &self,
        authorities: &[Authority],
        (kind, list_kind): (Expiring, Expiring),
        (expiries, in_force): Found<'_>,
    ) -> Result<Vec<Kept>, TlsError> {
        let mut kept: Vec<Kept> = Vec::new();
        for (_, facts) in authorities {
            let newest = self.newest(&facts.subject_der)?;
            let list = newest.ok_or_else(|| TlsError::NoRevocationList {
                path: self.path.to_owned(),
                authority: facts.subject.clone(),
            })?;
            in_force.push(ListInForce {
                key: Some(facts.spki.clone()),
                made_here: list_kind == Expiring::IssuingList,
                ..self.in_force(list)?
            });
            expiries.push(Expiry {
                what: list_kind,
                of: facts.subject.clone(),
                ends: list.facts.next_update,
            });
            expiries.push(Expiry {
                what: kind,
                of: facts.subject.clone(),
                ends: facts.not_after,
            });
            // One authority may have two certificates.
            if kept.iter().all(|other| other.der != list.der) {
                kept.push(self.kept(list));
            }
        }
        Ok(kept)
    }

    /// The newest list of each other authority: one below, whose certificate only terminals show. Who
    /// signed it is seen in the handshake.
    ///
    /// # Errors
    /// Where one of them cannot be told to be the newest.
    pub(super) fn of_others(
        &self,
        authorities: &[Authority],
        list_kind: Expiring,
        (expiries, in_force): Found<'_>,
    ) -> Result<Vec<Kept>, TlsError> {
        let mut kept = Vec::new();
        let mut seen: Vec<&[u8]> = authorities
            .iter()
            .map(|(_, facts)| facts.subject_der.as_slice())
            .collect();
        for list in &self.all {
            if seen.contains(&list.facts.issuer_der.as_slice()) {
                continue;
            }
            seen.push(&list.facts.issuer_der);
            let newest = self.newest(&list.facts.issuer_der)?.unwrap_or(list);
            let known = in_force
                .iter()
                .find(|known| known.issuer == list.facts.issuer_der);
            if let Some(known) = known {
                // The issuing authority's, which has a file of its own.
                let same = list_signatures::hold(&newest.der);
                let same = same.is_ok_and(|same| Arc::ptr_eq(&same, &known.held));
                let compared = known.age.compared_with(&ListAge::of(&newest.facts));
                known.refuse_older(same, compared)?;
                continue;
            }
            in_force.push(self.in_force(newest)?);
            expiries.push(Expiry {
                what: list_kind,
                of: newest.facts.issuer.clone(),
                ends: newest.facts.next_update,
            });
            kept.push(self.kept(newest));
        }
        Ok(kept)
    }

    fn kept(&self, list: &RevocationList) -> Kept {
        Kept {
            der: list.der.clone(),
            path: self.path.to_owned(),
            authority: list.facts.issuer.clone(),
        }
    }

    fn in_force(&self, list: &RevocationList) -> Result<ListInForce, TlsError> {
        let held = list_signatures::hold(&list.der);
        Ok(ListInForce {
            path: self.path.to_owned(),
            authority: list.facts.issuer.clone(),
            issuer: list.facts.issuer_der.clone(),
            key: None,
            age: ListAge::of(&list.facts),
            made_here: false,
            held: held.map_err(|reason| pki::damaged(self.path, list.line, reason))?,
        })
    }
}

/// What is found while loading: what ends some day, and the lists.
pub(super) type Found<'a> = (&'a mut Vec<Expiry>, &'a mut Vec<ListInForce>);
