//! A terminal's signing request (PKCS#10, RFC 2986). Nothing of it counts but its key: what names
//! and extensions it asks for is never read.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::OID_SIG_ECDSA_WITH_SHA256;
use x509_parser::prelude::FromDer;

use super::error::SigningRequestError;

/// The most bytes of a signing request. One with a P-256 key and a name has about 250.
pub const SIGNING_REQUEST_BYTES_MAX: usize = 2_048;

/// The DER of every public key of ECDSA P-256 begins so (RFC 5480); the point follows, 65 bytes,
/// uncompressed.
const P256_SPKI: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
/// What of that is not the point.
const P256_HEADER_BYTES: usize = 26;
/// Header and point.
const P256_SPKI_BYTES: usize = P256_HEADER_BYTES + 65;

/// The DER of ecdsa-with-SHA256 as an AlgorithmIdentifier (RFC 5758): without parameters.
const ECDSA_WITH_SHA256: [u8; 12] = [
    0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
];
/// Every CertificationRequestInfo begins so: version 0, the only one there is.
const VERSION: [u8; 3] = [0x02, 0x01, 0x00];
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// A request whose sender has shown to hold the private key.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    spki: Vec<u8>,
    key: SubjectPublicKeyInfo,
}

impl SigningRequest {
    /// Reads a request from DER, which its frame must be in every octet: its key is ECDSA P-256 and
    /// its signature, by ecdsa-with-SHA256, was made with it.
    ///
    /// # Errors
    /// [`SigningRequestError`] tells which of these fails.
    pub fn read(der: &[u8]) -> Result<Self, SigningRequestError> {
        use SigningRequestError as Wrong;
        if der.len() > SIGNING_REQUEST_BYTES_MAX {
            return Err(Wrong::TooLarge);
        }
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
            return Err(Wrong::Malformed);
        };
        let spki = request.certification_request_info.subject_pki.raw;
        // The one form that such a key has in DER: no other curve, no compressed point, nothing
        // that two readers could take for two keys.
        if spki.len() != P256_SPKI_BYTES || !spki.starts_with(&P256_SPKI) {
            return Err(Wrong::KeyType);
        }
        if request.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 {
            return Err(Wrong::Signature);
        }
        let info = request.certification_request_info.raw;
        let signature = &request.signature_value.data;
        if !is_info(info) || whole(info, signature) != der {
            return Err(Wrong::Malformed);
        }
        let point = spki.get(P256_HEADER_BYTES..).ok_or(Wrong::KeyType)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
            .verify(info, signature)
            .map_err(|_| Wrong::Signature)?;
        Ok(Self {
            spki: spki.to_vec(),
            key: SubjectPublicKeyInfo::from_der(spki).map_err(|_| Wrong::KeyType)?,
        })
    }

    /// SHA-256 of the public key (SubjectPublicKeyInfo): which key it is.
    #[must_use]
    pub fn key_sha256(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, &self.spki).as_ref());
        hash
    }

    /// The public key (SubjectPublicKeyInfo in DER).
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub(super) fn key(&self) -> &SubjectPublicKeyInfo {
        &self.key
    }
}

/// The one DER form of a request of these parts.
fn whole(info: &[u8], signature: &[u8]) -> Vec<u8> {
    // No bit of the last octet is unused.
    let signature = element(BIT_STRING, &[&[0][..], signature].concat());
    element(
        SEQUENCE,
        &[info, &ECDSA_WITH_SHA256[..], &signature].concat(),
    )
}

/// Whether a CertificationRequestInfo's length is written in the one way of DER, and its version
/// is known.
fn is_info(der: &[u8]) -> bool {
    let header_bytes = match der.get(1) {
        Some(length @ 0x80..) => usize::from(length & 0x7f).saturating_add(2),
        _ => 2,
    };
    let content = der.get(header_bytes..).unwrap_or_default();
    content.starts_with(&VERSION) && element(SEQUENCE, content) == der
}

/// An element with its length in the fewest octets.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|octet| **octet == 0).count();
    let length = length.get(zeros..).unwrap_or_default();
    let mut der = vec![tag];
    if content.len() >= 0x80 {
        der.extend(u8::try_from(length.len()).map(|octets| 0x80 | octets));
    } else if content.is_empty() {
        der.push(0);
    }
    der.extend_from_slice(length);
    der.extend_from_slice(content);
    der
}
