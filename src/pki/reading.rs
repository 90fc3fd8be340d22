//! Certificates, keys and lists as they lie in files: each file is read whole or refused.

use std::path::Path;

use rcgen::KeyPair;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::error::{FactsError, PkiError};
use super::facts::{CertificateFacts, RevocationListFacts};
use super::files::{self, LIST_MAX, TEXT_MAX};
use crate::domain::pem::{self, Block, Wanted};

const MEND_MISSING: &str = "make it with gen-certs, or restore it from a backup";

/// A revocation list as it stands in a file. Nothing of it has been verified.
#[derive(Clone, Debug)]
pub struct RevocationList {
    /// The list.
    pub der: CertificateRevocationListDer<'static>,
    /// What it says.
    pub facts: RevocationListFacts,
    /// The line at which it begins.
    pub line: usize,
}

/// All certificates of a file, in order.
///
/// # Errors
/// Where the file is not there, or anything in it would not count.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let found = there(blocks(path, Wanted::Certificates)?, path)?;
    Ok(found.into_iter().map(|block| block.der.into()).collect())
}

/// All certificates of a file, which must be authorities', with what they say.
///
/// # Errors
/// As [`read_certificates`], and where one may not sign certificates and lists.
pub fn read_authorities(
    path: &Path,
) -> Result<Vec<(CertificateDer<'static>, CertificateFacts)>, PkiError> {
    let found = there(blocks(path, Wanted::Certificates)?, path)?;
    let authority = |block: Block| {
        let facts = facts_of(&block, path)?;
        let lacks = match (facts.may_sign_certificates, facts.may_sign_lists) {
            (false, _) => "basic constraints CA:TRUE or key usage keyCertSign",
            (true, false) => "key usage cRLSign",
            (true, true) => return Ok((block.der.into(), facts)),
        };
        Err(PkiError::NotAnAuthority {
            path: path.to_owned(),
            lacks,
        })
    };
    found.into_iter().map(authority).collect()
}

/// The private key of a file, whose mode has none of the bits of `forbidden`.
///
/// # Errors
/// Where the file is not there, others may read it, or it holds anything but one key that is not
/// encrypted.
pub fn read_private_key(path: &Path, forbidden: u32) -> Result<PrivateKeyDer<'static>, PkiError> {
    let found = blocks_of(path, Wanted::PrivateKey, forbidden)?;
    key(there(found, path)?, path)
}

/// All revocation lists of a file, in order.
///
/// # Errors
/// Where the file is not there, anything in it would not count, or a list is of a kind that no
/// certificate can be looked up in.
pub fn read_lists(path: &Path) -> Result<Vec<RevocationList>, PkiError> {
    there(lists(path)?, path)
}

/// Makes sure that one of these authorities signed the list.
///
/// # Errors
/// Why not, by the last of them.
pub fn signed_by_one_of<'a>(
    list: &RevocationList,
    authorities: impl Iterator<Item = &'a CertificateDer<'static>>,
) -> Result<(), FactsError> {
    let mut reason = FactsError::Signature;
    for authority in authorities {
        match RevocationListFacts::verify(&list.der, authority) {
            Ok(()) => return Ok(()),
            Err(why) => reason = why,
        }
    }
    Err(reason)
}

/// As [`read_lists`]; `None` where there is no file.
pub(super) fn lists(path: &Path) -> Result<Option<Vec<RevocationList>>, PkiError> {
    let list = |block: Block| {
        let facts = RevocationListFacts::read(&block.der);
        Ok(RevocationList {
            facts: facts.map_err(|reason| damaged(path, block.line, reason))?,
            line: block.line,
            der: block.der.into(),
        })
    };
    let found = blocks(path, Wanted::RevocationLists)?;
    let found = found.map(|found| found.into_iter().map(list).collect());
    found.transpose()
}

/// The first certificate of a file and what it says, where there is a file.
pub(super) fn first_certificate(
    path: &Path,
) -> Result<Option<(CertificateDer<'static>, CertificateFacts)>, PkiError> {
    let Some(found) = blocks(path, Wanted::Certificates)? else {
        return Ok(None);
    };
    let with_facts = |block: Block| -> Result<_, PkiError> {
        let facts = facts_of(&block, path)?;
        Ok((CertificateDer::from(block.der), facts))
    };
    // All are read, so that nothing damaged stands behind the first.
    let all: Vec<_> = found
        .into_iter()
        .map(with_facts)
        .collect::<Result<_, _>>()?;
    Ok(all.into_iter().next())
}

/// The key of a file, to sign with, where there is a file.
pub(super) fn signing_key(path: &Path, forbidden: u32) -> Result<Option<KeyPair>, PkiError> {
    let Some(found) = blocks_of(path, Wanted::PrivateKey, forbidden)? else {
        return Ok(None);
    };
    let pair = KeyPair::try_from(&key(found, path)?);
    pair.map(Some).map_err(|_| PkiError::BadKey {
        path: path.to_owned(),
    })
}

fn key(found: Vec<Block>, path: &Path) -> Result<PrivateKeyDer<'static>, PkiError> {
    let der = found.into_iter().next().map(|block| block.der);
    let key = der.and_then(|der| PrivateKeyDer::try_from(der).ok());
    key.ok_or_else(|| PkiError::BadKey {
        path: path.to_owned(),
    })
}

fn facts_of(block: &Block, path: &Path) -> Result<CertificateFacts, PkiError> {
    CertificateFacts::read(&block.der).map_err(|reason| damaged(path, block.line, reason))
}

/// That what begins in this line cannot be used.
pub fn damaged(path: &Path, line: usize, reason: FactsError) -> PkiError {
    PkiError::Damaged {
        path: path.to_owned(),
        line,
        reason,
    }
}

fn there<T>(found: Option<T>, path: &Path) -> Result<T, PkiError> {
    found.ok_or_else(|| PkiError::Missing {
        path: path.to_owned(),
        mend: MEND_MISSING,
    })
}

fn blocks(path: &Path, wanted: Wanted) -> Result<Option<Vec<Block>>, PkiError> {
    blocks_of(path, wanted, 0)
}

fn blocks_of(path: &Path, wanted: Wanted, forbidden: u32) -> Result<Option<Vec<Block>>, PkiError> {
    let limit = match wanted {
        Wanted::RevocationLists => LIST_MAX,
        Wanted::Certificates | Wanted::PrivateKey => TEXT_MAX,
    };
    let Some(octets) = files::read_octets(path, limit, forbidden)?.map(Zeroizing::new) else {
        return Ok(None);
    };
    pem::read(&octets, wanted)
        .map(Some)
        .map_err(|fault| PkiError::NotPem {
            path: path.to_owned(),
            fault,
        })
}
