//! The signature on a list of revocations is verified once, not in every handshake.
//!
//! webpki verifies it anew each time that it looks a certificate up, over the whole list
//! (<https://github.com/rustls/webpki/issues/81>). Here the provider's algorithms remember what they
//! found good of the lists that a [`super::Trust`] holds: the same algorithm, key, message and
//! signature, octet by octet, are good again. Whatever else they are asked goes to the provider, so
//! that nothing is let in that it refuses. What is left to do is to compare the list's octets
//! (docs/BENCHMARKS.md, how cost grows). Whoever loads a list verifies it besides.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock, Weak};

use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{
    AlgorithmIdentifier, CertificateRevocationListDer, FipsStatus, InvalidSignature,
    SignatureVerificationAlgorithm,
};

use crate::pki::{FactsError, RevocationListFacts};

/// A list whose signature is worth remembering, and whose it was found to be.
#[derive(Debug)]
pub(super) struct HeldList {
    message: Vec<u8>,
    signer: OnceLock<Signer>,
}

/// The signer's key (`subjectPublicKey`), and the algorithms of key and signature.
#[derive(Debug)]
struct Signer {
    key: Vec<u8>,
    algorithms: [AlgorithmIdentifier; 2],
}

impl HeldList {
    /// What is signed.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }
}

/// By their signatures, the lists that are held. rustls wants algorithms that live for ever, so what
/// they remember is not the verifier's own.
static LISTS: LazyLock<RwLock<HashMap<Vec<u8>, Weak<HeldList>>>> = LazyLock::new(RwLock::default);

/// What is found good of this list is remembered until the last that holds it drops it.
///
/// # Errors
/// Where the DER is malformed.
pub(super) fn hold(list: &CertificateRevocationListDer<'_>) -> Result<Arc<HeldList>, FactsError> {
    let (message, signature) = RevocationListFacts::signed_parts(list)?;
    let same = find(&message, &signature);
    let list = same.unwrap_or_else(|| {
        Arc::new(HeldList {
            message,
            signer: OnceLock::new(),
        })
    });
    let mut lists = LISTS.write().unwrap_or_else(PoisonError::into_inner);
    lists.retain(|_, other| other.strong_count() > 0);
    lists.insert(signature, Arc::downgrade(&list));
    Ok(list)
}

/// The held list that is this message with this signature.
fn find(message: &[u8], signature: &[u8]) -> Option<Arc<HeldList>> {
    let lists = LISTS.read().unwrap_or_else(PoisonError::into_inner);
    let list = lists.get(signature).and_then(Weak::upgrade);
    // A list can be long: nobody waits for the comparison.
    drop(lists);
    list.filter(|list| list.message == message)
}

/// The provider's algorithms, for chains and lists, with that memory. Those for the signatures of
/// handshakes are the provider's own.
pub(super) fn algorithms() -> WebPkiSupportedAlgorithms {
    static OWN: LazyLock<Vec<Remembering>> = LazyLock::new(|| {
        let provided = aws_lc_rs::default_provider().signature_verification_algorithms;
        provided.all.iter().copied().map(Remembering).collect()
    });
    static ALL: LazyLock<Vec<&dyn SignatureVerificationAlgorithm>> = LazyLock::new(|| {
        let own = OWN.iter();
        own.map(|one| -> &dyn SignatureVerificationAlgorithm { one })
            .collect()
    });
    WebPkiSupportedAlgorithms {
        all: &ALL,
        ..aws_lc_rs::default_provider().signature_verification_algorithms
    }
}

/// An algorithm that need not verify the signature of a held list twice.
#[derive(Debug)]
struct Remembering(&'static dyn SignatureVerificationAlgorithm);

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let Some(list) = find(message, signature) else {
            return self.0.verify_signature(public_key, message, signature);
        };
        let algorithms = [self.0.public_key_alg_id(), self.0.signature_alg_id()];
        let is_known = list
            .signer
            .get()
            .is_some_and(|signer| signer.key == public_key && signer.algorithms == algorithms);
        if is_known {
            return Ok(());
        }
        self.0.verify_signature(public_key, message, signature)?;
        // The first stays. Another key that fits the same signature is right too, only not remembered.
        list.signer.get_or_init(|| Signer {
            key: public_key.to_vec(),
            algorithms,
        });
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.0.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.0.signature_alg_id()
    }

    fn fips_status(&self) -> FipsStatus {
        self.0.fips_status()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

#[cfg(test)]
mod tests;
