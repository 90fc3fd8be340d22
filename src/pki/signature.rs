//! Signatures of certificates and revocation lists, by the same algorithms as in a handshake: what is
//! found good here is good there, P-521 and SHA-512 too.

use rustls::crypto::aws_lc_rs;
use x509_parser::asn1_rs::{Any, BitString, FromDer};

use super::error::FactsError;

/// Makes sure that `signed` (a certificate or a list, DER) carries the signature of the key `spki`
/// (SubjectPublicKeyInfo, DER).
///
/// # Errors
/// Where either is malformed, the signature does not fit, or is of a kind that no handshake takes.
pub(super) fn verify(signed: &[u8], spki: &[u8]) -> Result<(), FactsError> {
    let (outer, _) = element(signed)?;
    let (key_info, _) = element(spki)?;
    let (message, rest) = split(outer)?;
    let (algorithm, signature) = element(rest)?;
    let (key_algorithm, key) = element(key_info)?;
    let (signature, key) = (bits(signature)?, bits(key)?);
    let all = aws_lc_rs::default_provider()
        .signature_verification_algorithms
        .all;
    let mut fitting = all
        .iter()
        .filter(|one| {
            *one.signature_alg_id() == *algorithm && *one.public_key_alg_id() == *key_algorithm
        })
        .peekable();
    if fitting.peek().is_none() {
        return Err(FactsError::Algorithm);
    }
    let fits = fitting.any(|one| one.verify_signature(&key, message, &signature).is_ok());
    if fits {
        Ok(())
    } else {
        Err(FactsError::Signature)
    }
}

/// The content of the first element, and what follows it.
fn element(der: &[u8]) -> Result<(&[u8], &[u8]), FactsError> {
    let (rest, first) = Any::from_der(der).map_err(|_| FactsError::Malformed)?;
    Ok((first.data, rest))
}

/// The first element as it stands, and what follows it.
fn split(der: &[u8]) -> Result<(&[u8], &[u8]), FactsError> {
    let (_, rest) = element(der)?;
    let length = der.len().saturating_sub(rest.len());
    der.split_at_checked(length).ok_or(FactsError::Malformed)
}

fn bits(der: &[u8]) -> Result<Vec<u8>, FactsError> {
    match BitString::from_der(der) {
        Ok(([], bits)) if bits.unused_bits == 0 => Ok(bits.data.into_owned()),
        Ok(_) | Err(_) => Err(FactsError::Malformed),
    }
}
