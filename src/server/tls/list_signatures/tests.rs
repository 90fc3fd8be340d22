use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::config::{Config, Overrides, TlsConfig};
use crate::domain::Timestamp;
use crate::pki::{
    AUTHORITY_DAYS, Authority, CertificateFacts, CertificateFolder, MakeRequest, RevocationRequest,
    Revoked,
};
use crate::server::tls::Trust;
use crate::surroundings::{Surroundings, Virtual};

const NOW: i64 = 1_800_000_000;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

/// The provider's algorithm, and how often it was asked.
#[derive(Debug)]
struct Counting {
    real: &'static dyn SignatureVerificationAlgorithm,
    asked: AtomicUsize,
}

impl SignatureVerificationAlgorithm for Counting {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.real.verify_signature(public_key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.real.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.real.signature_alg_id()
    }
}

/// ECDSA on P-256 with SHA-256, with which authorities sign.
fn real() -> &'static dyn SignatureVerificationAlgorithm {
    let provided = aws_lc_rs::default_provider().signature_verification_algorithms;
    let mut mapping = provided.mapping.iter();
    let found = mapping.find(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256);
    found.unwrap().1[0]
}

/// An algorithm of its own for each test, since counts are not shared.
fn counting(real: &'static dyn SignatureVerificationAlgorithm) -> (Remembering, &'static Counting) {
    let counting = Box::leak(Box::new(Counting {
        real,
        asked: AtomicUsize::new(0),
    }));
    (Remembering(counting), counting)
}

/// An authority and its list of so many revoked certificates.
struct Listed {
    list: CertificateRevocationListDer<'static>,
    message: Vec<u8>,
    signature: Vec<u8>,
    key: Vec<u8>,
}

fn listed(count: usize) -> Listed {
    let authority = Authority::create(now(), AUTHORITY_DAYS).unwrap();
    let serial = authority.facts().serial.clone();
    let one = Revoked { serial, at: NOW };
    let (list, _) = authority
        .revocation_list(&RevocationRequest {
            number: 1.into(),
            this_update: now(),
            next_update: now() + Duration::days(1),
            revoked: vec![one; count],
        })
        .unwrap();
    let (message, signature) = RevocationListFacts::signed_parts(&list).unwrap();
    let facts = CertificateFacts::read(authority.certificate()).unwrap();
    // An uncompressed point of P-256 is the last 65 octets of its SubjectPublicKeyInfo.
    let key = facts.spki[facts.spki.len() - 65..].to_vec();
    Listed {
        list,
        message,
        signature,
        key,
    }
}

#[test]
fn the_signature_of_a_held_list_is_verified_once_whatever_its_length() {
    for count in [0, 1, 20_000] {
        let (algorithm, counting) = counting(real());
        let one = listed(count);
        let _held = hold(&one.list).unwrap();
        for _ in 0..10 {
            algorithm
                .verify_signature(&one.key, &one.message, &one.signature)
                .unwrap();
        }
        assert_eq!(counting.asked.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn what_is_not_held_or_no_longer_is_verified_each_time() {
    let (algorithm, counting) = counting(real());
    let one = listed(3);
    let verify = || algorithm.verify_signature(&one.key, &one.message, &one.signature);
    verify().unwrap();
    verify().unwrap();
    assert_eq!(counting.asked.load(Ordering::SeqCst), 2);
    let held = hold(&one.list).unwrap();
    verify().unwrap();
    verify().unwrap();
    assert_eq!(counting.asked.load(Ordering::SeqCst), 3);
    drop(held);
    verify().unwrap();
    assert_eq!(counting.asked.load(Ordering::SeqCst), 4);
    let again = hold(&one.list).unwrap();
    verify().unwrap();
    assert_eq!(
        counting.asked.load(Ordering::SeqCst),
        5,
        "held anew, it must be found good anew"
    );
    drop(again);
}

#[test]
fn nothing_else_passes_for_a_list_that_was_found_good() {
    let (algorithm, counting) = counting(real());
    let (one, other) = (listed(3), listed(3));
    let _held = (hold(&one.list).unwrap(), hold(&other.list).unwrap());
    algorithm
        .verify_signature(&one.key, &one.message, &one.signature)
        .unwrap();
    let refused = |key: &[u8], message: &[u8], signature: &[u8]| {
        let asked = counting.asked.load(Ordering::SeqCst);
        assert!(algorithm.verify_signature(key, message, signature).is_err());
        assert_eq!(counting.asked.load(Ordering::SeqCst), asked + 1);
    };
    refused(&other.key, &one.message, &one.signature);
    refused(&one.key, &other.message, &one.signature);
    refused(&one.key, &other.message, &other.signature);
    refused(&one.key, &one.message, &other.signature);
    refused(&one.key, &one.message, &[]);
    refused(&[], &one.message, &one.signature);
    for at in 0..one.message.len() {
        let mut changed = one.message.clone();
        changed[at] ^= 1;
        refused(&one.key, &changed, &one.signature);
    }
    refused(
        &one.key,
        &one.message[..one.message.len() - 1],
        &one.signature,
    );
    algorithm
        .verify_signature(&other.key, &other.message, &other.signature)
        .unwrap();
}

#[test]
fn a_list_is_held_once_however_often_it_is_loaded_and_not_after_the_last() {
    let (one, other) = (listed(1), listed(1));
    let holders = [(); 3].map(|()| hold(&one.list).unwrap());
    assert!(
        holders
            .iter()
            .all(|holder| Arc::ptr_eq(holder, &holders[0]))
    );
    let is_there = || LISTS.read().unwrap().contains_key(&one.signature);
    let _other = hold(&other.list).unwrap();
    assert!(is_there());
    drop(holders);
    assert!(find(&one.message, &one.signature).is_none());
    let _again = hold(&other.list).unwrap();
    assert!(!is_there());
}

#[test]
fn what_was_refused_is_not_remembered_as_good() {
    let (algorithm, _) = counting(real());
    let (one, other) = (listed(1), listed(1));
    let _held = hold(&one.list).unwrap();
    for _ in 0..2 {
        let with_anothers = algorithm.verify_signature(&other.key, &one.message, &one.signature);
        assert!(with_anothers.is_err());
    }
    algorithm
        .verify_signature(&one.key, &one.message, &one.signature)
        .unwrap();
}

#[test]
fn one_algorithm_does_not_answer_for_another() {
    let (algorithm, _) = counting(real());
    let one = listed(1);
    let _held = hold(&one.list).unwrap();
    algorithm
        .verify_signature(&one.key, &one.message, &one.signature)
        .unwrap();
    let provided = aws_lc_rs::default_provider().signature_verification_algorithms;
    let [key_id, signature_id] = [algorithm.public_key_alg_id(), algorithm.signature_alg_id()];
    let mut near = 0;
    for other in provided.all.iter().copied() {
        let ids = [other.public_key_alg_id(), other.signature_alg_id()];
        if ids == [key_id, signature_id] {
            continue;
        }
        near += usize::from(ids[0] == key_id || ids[1] == signature_id);
        let (other, counting) = counting(other);
        let answer = other.verify_signature(&one.key, &one.message, &one.signature);
        assert!(answer.is_err(), "{other:?}");
        assert_eq!(counting.asked.load(Ordering::SeqCst), 1);
    }
    // P-256 with two other hashes, SHA-256 with two other curves.
    assert_eq!(near, 4);
}

#[test]
fn the_algorithms_are_the_providers_each_with_the_memory() {
    let provided = aws_lc_rs::default_provider().signature_verification_algorithms;
    let own = algorithms();
    let names = |all: &[&dyn SignatureVerificationAlgorithm]| -> Vec<_> {
        all.iter()
            .map(|one| (one.public_key_alg_id(), one.signature_alg_id()))
            .collect()
    };
    assert_eq!(names(own.all), names(provided.all));
    assert_eq!(own.supported_schemes(), provided.supported_schemes());
    assert_eq!(own.fips(), provided.fips());
    // Names are all that tells what is behind the trait.
    let is_own =
        |one: &&dyn SignatureVerificationAlgorithm| format!("{one:?}").starts_with("Remembering(");
    assert!(own.all.iter().all(is_own));
    let mut of_handshakes = own.mapping.iter().flat_map(|(_, all)| *all);
    assert!(!of_handshakes.any(is_own));
}

#[test]
fn the_handshakes_verifier_remembers_and_lets_in_whom_it_let_in_before() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = CertificateFolder::new(folder.path().to_owned(), now());
    let request = MakeRequest {
        terminals: ["a", "b"].map(|name| name.parse().unwrap()).to_vec(),
        ..MakeRequest::default()
    };
    certificates.make_missing(&request).unwrap();
    certificates.revoke("b").unwrap();
    let moment = Timestamp::from_unix_ms(NOW * 1_000);
    let clock: Arc<dyn Surroundings> = Arc::new(Virtual::new(moment, 1));
    let load = || Trust::load(&tls(folder.path()), &clock).unwrap();
    let is_remembered = || {
        let list = CertificateRevocationListDer::from_pem_file(folder.path().join("crl.pem"));
        let (message, signature) = RevocationListFacts::signed_parts(&list.unwrap()).unwrap();
        let held = find(&message, &signature).unwrap();
        held.signer.get().is_some()
    };
    let before = load();
    assert!(!is_remembered());
    for _ in 0..2 {
        assert!(before.still_admits(&[shown(folder.path(), "a")], moment));
        assert!(is_remembered());
        assert!(!before.still_admits(&[shown(folder.path(), "b")], moment));
    }
    certificates.revoke("a").unwrap();
    let after = load();
    assert!(!is_remembered());
    for _ in 0..2 {
        assert!(!after.still_admits(&[shown(folder.path(), "a")], moment));
        assert!(is_remembered());
        assert!(before.still_admits(&[shown(folder.path(), "a")], moment));
    }
}

fn shown(folder: &Path, terminal: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(folder.join(format!("terminals/{terminal}.pem"))).unwrap()
}

fn tls(folder: &Path) -> TlsConfig {
    let folder = folder.to_str().unwrap();
    let set = [("BANK__TLS__DIR", folder), ("BANK__SERVER__SERVER_ID", "t")];
    let environment = set
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()));
    let loaded = Config::load(None, environment, &Overrides::default());
    loaded.unwrap().config.tls
}
