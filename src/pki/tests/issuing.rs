use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, crypto::aws_lc_rs::default_provider};
use tempfile::TempDir;

use super::*;

const LIFE: std::time::Duration = std::time::Duration::from_secs(600);

/// A folder with both authorities.
fn made() -> (TempDir, CertificateFolder) {
    let parent = tempfile::tempdir().unwrap();
    let folder = CertificateFolder::new(parent.path().join("certs"), now());
    folder.make_missing(&MakeRequest::default()).unwrap();
    folder.issuing(LEAF_DAYS, false).unwrap();
    (parent, folder)
}

fn issuing(folder: &CertificateFolder) -> IssuingAuthority {
    IssuingAuthority::load(&folder.issuing_file(), &folder.issuing_key_file(), 0o077).unwrap()
}

fn signing_request(key: &KeyPair) -> SigningRequest {
    let params = CertificateParams::default();
    SigningRequest::read(params.serialize_request(key).unwrap().der()).unwrap()
}

fn lists(folder: &CertificateFolder) -> Vec<CertificateRevocationListDer<'static>> {
    [folder.revocation_file(), folder.issuing_revocation_file()]
        .iter()
        .map(|path| CertificateRevocationListDer::from_pem_file(path).unwrap())
        .collect()
}

fn roots(folder: &CertificateFolder) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(folder.authority_file()).unwrap())
        .unwrap();
    Arc::new(roots)
}

fn moment() -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.unsigned_abs()))
}

/// Whether the verifier that a server uses lets this chain in: whole chain, revocation known.
fn admits(
    folder: &CertificateFolder,
    lists: Vec<CertificateRevocationListDer<'static>>,
    chain: &[CertificateDer<'_>],
) -> bool {
    refusal(folder, lists, chain).is_none()
}

/// Why it does not.
fn refusal(
    folder: &CertificateFolder,
    lists: Vec<CertificateRevocationListDer<'static>>,
    chain: &[CertificateDer<'_>],
) -> Option<String> {
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(folder), provider)
        .with_crls(lists)
        .build()
        .unwrap();
    let (own, others) = chain.split_first().unwrap();
    let refused = verifier.verify_client_cert(own, others, moment()).err();
    refused.map(|error| format!("{error:?}"))
}

/// Why a terminal does not take this chain for its bank's.
fn stranger(folder: &CertificateFolder, chain: &[CertificateDer<'_>]) -> Option<String> {
    let provider = Arc::new(default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(folder), provider)
        .build()
        .unwrap();
    let (own, others) = chain.split_first().unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let refused = verifier.verify_server_cert(own, others, &name, &[], moment());
    refused.err().map(|error| format!("{error:?}"))
}

#[test]
fn an_enrolled_certificate_is_let_in_where_both_lists_are_there_and_not_without() {
    let (_parent, folder) = made();
    let issuing = issuing(&folder);
    let key = KeyPair::generate().unwrap();
    let signed = issuing
        .certify(&name("till-7"), &signing_request(&key), now(), LIFE)
        .unwrap();
    let own = CertificateDer::from(signed.der.clone());
    let chain = [own.clone(), issuing.certificate().clone()];
    assert!(admits(&folder, lists(&folder), &chain));
    assert!(
        !admits(&folder, lists(&folder), &chain[..1]),
        "the chain is whole"
    );
    for left in 0..2 {
        let one = vec![lists(&folder).remove(left)];
        assert!(!admits(&folder, one, &chain), "an unknown status is none");
    }
    assert_eq!(terminal_name(&own).unwrap(), name("till-7"));
    let facts = CertificateFacts::read(&own).unwrap();
    assert!(facts.only_for_clients && !facts.may_sign_certificates);
    assert_eq!(
        (facts.serial.octets().len(), &facts.serial),
        (16, &signed.serial)
    );
    assert_eq!(facts.not_after, NOW + 600);
    assert_eq!(facts.not_before, NOW - 150, "a quarter of its life back");
    assert!(stranger(&folder, &chain).is_some());
}

#[test]
fn what_is_on_the_issuing_list_is_not_let_in_and_stays_on_it() {
    let (_parent, folder) = made();
    let issuing = issuing(&folder);
    let key = KeyPair::generate().unwrap();
    let certify = || {
        issuing
            .certify(&name("till-7"), &signing_request(&key), now(), LIFE)
            .unwrap()
    };
    let (lost, kept) = (certify(), certify());
    let revoked = |serial: &Serial| Revoked {
        serial: serial.clone(),
        at: NOW,
    };
    let file = folder.issuing_revocation_file();
    assert!(!issuing.publish(&file, &[], now()).unwrap());
    let before = folder.issuing_list().unwrap().unwrap().number;
    assert!(
        issuing
            .publish(&file, &[revoked(&lost.serial)], now())
            .unwrap()
    );
    assert!(
        !issuing
            .publish(&file, &[revoked(&lost.serial)], now())
            .unwrap()
    );
    assert!(!issuing.publish(&file, &[], now()).unwrap());
    let list = folder.issuing_list().unwrap().unwrap();
    assert!(list.number > before);
    assert_eq!(list.revoked, [revoked(&lost.serial)]);
    let is_let_in = |one: &EnrolledCertificate| {
        let chain = [one.der.clone().into(), issuing.certificate().clone()];
        admits(&folder, lists(&folder), &chain)
    };
    assert!(is_let_in(&kept) && !is_let_in(&lost));
    // A list that is due in less than half its time is made anew.
    let later = now() + Duration::days(200);
    assert!(issuing.publish(&file, &[], later).unwrap());
    assert_eq!(
        folder.issuing_list().unwrap().unwrap().revoked,
        list.revoked
    );
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(
        issuing.publish(&file, &[], now()),
        Err(PkiError::Missing { .. })
    ));
}

#[test]
fn nothing_signed_with_the_issuing_key_is_a_server_or_another_authority() {
    let (_parent, folder) = made();
    let pem = std::fs::read_to_string(folder.issuing_key_file()).unwrap();
    let certificate = CertificateDer::from_pem_file(folder.issuing_file()).unwrap();
    let signer = || {
        let key = KeyPair::from_pem(&pem).unwrap();
        Issuer::from_ca_cert_der(&certificate, key).unwrap()
    };
    let (from, to) = (now(), now() + Duration::days(1));
    let server_key = KeyPair::generate().unwrap();
    let mut server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (server.not_before, server.not_after) = (from, to);
    server.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let server = server.signed_by(&server_key, &signer()).unwrap();
    let why = stranger(&folder, &[server.der().clone(), certificate.clone()]).unwrap();
    assert!(why.contains("InvalidPurpose"), "{why}");

    let below_key = KeyPair::generate().unwrap();
    let mut below = CertificateParams::default();
    below.distinguished_name.push(DnType::CommonName, "below");
    (below.not_before, below.not_after) = (from, to);
    below.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    below.key_usages = vec![
        rcgen::KeyUsagePurpose::KeyCertSign,
        rcgen::KeyUsagePurpose::CrlSign,
    ];
    let below_der = below.signed_by(&below_key, &signer()).unwrap();
    let below = Issuer::new(below, below_key);
    let leaf_key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::default();
    (leaf.not_before, leaf.not_after) = (from, to);
    leaf.subject_alt_names = vec![rcgen::SanType::URI(
        "urn:atm:terminal:till-7".try_into().unwrap(),
    )];
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = leaf.signed_by(&leaf_key, &below).unwrap();
    let list = rcgen::CertificateRevocationListParams {
        this_update: from,
        next_update: to,
        crl_number: rcgen::SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let mut all = lists(&folder);
    all.push(list.signed_by(&below).unwrap().into());
    let chain = [leaf.der().clone(), below_der.der().clone(), certificate];
    let why = refusal(&folder, all, &chain).unwrap();
    assert!(why.contains("PathLenConstraintViolated"), "{why}");
}

#[test]
fn the_issuing_key_is_no_other_and_no_other_is_taken_for_it() {
    let (_parent, folder) = made();
    let key_of = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert_ne!(
        key_of(&folder.issuing_key_file()),
        key_of(&folder.authority_key_file())
    );
    for (certificate, key) in [
        (folder.authority_file(), folder.authority_key_file()),
        (folder.server_file(), folder.server_key_file()),
        (folder.issuing_file(), folder.authority_key_file()),
    ] {
        assert!(IssuingAuthority::load(&certificate, &key, 0).is_err());
    }
    let facts = issuing(&folder).facts().clone();
    assert_eq!(
        (facts.authorities_below, facts.only_for_clients),
        (Some(0), true)
    );
    assert!(facts.may_sign_certificates && facts.may_sign_lists);
}

#[test]
fn renewing_keeps_the_issuing_key_and_what_it_signed_and_force_replaces_it() {
    let (_parent, folder) = made();
    let before = issuing(&folder);
    let key = KeyPair::generate().unwrap();
    let signed = before
        .certify(&name("till-7"), &signing_request(&key), now(), LIFE)
        .unwrap();
    let own = CertificateDer::from(signed.der);
    folder.renew(&[], LEAF_DAYS).unwrap();
    let renewed = issuing(&folder);
    assert_ne!(renewed.facts().serial, before.facts().serial);
    assert_eq!(renewed.facts().spki, before.facts().spki);
    for above in [before.certificate(), renewed.certificate()] {
        assert!(admits(
            &folder,
            lists(&folder),
            &[own.clone(), above.clone()]
        ));
    }
    folder.issuing(LEAF_DAYS, false).unwrap();
    assert_eq!(issuing(&folder).facts().serial, renewed.facts().serial);
    folder.issuing(LEAF_DAYS, true).unwrap();
    assert_ne!(issuing(&folder).facts().spki, before.facts().spki);
    let old = [own, renewed.certificate().clone()];
    assert!(!admits(&folder, lists(&folder), &old));
    // The bank's own list may name the issuing authority itself.
    let report = folder.revoke(ISSUING_NAME).unwrap();
    assert_eq!(report.revoked.len(), 3);
    let new = issuing(&folder);
    let signed = new
        .certify(&name("till-7"), &signing_request(&key), now(), LIFE)
        .unwrap();
    let chain = [signed.der.into(), new.certificate().clone()];
    assert!(!admits(&folder, lists(&folder), &chain));
}

#[test]
fn no_certificate_outlives_the_issuing_authority() {
    let (_parent, folder) = made();
    folder.issuing(1, true).unwrap();
    let issuing = issuing(&folder);
    let request = signing_request(&KeyPair::generate().unwrap());
    let week = std::time::Duration::from_secs(7 * 86_400);
    let signed = issuing.certify(&name("a"), &request, now(), week).unwrap();
    assert_eq!(signed.not_after, issuing.facts().not_after);
    let late = now() + Duration::days(2);
    assert!(issuing.certify(&name("a"), &request, late, week).is_err());
}

#[test]
fn names_and_extensions_of_a_signing_request_are_ignored() {
    let (_parent, folder) = made();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "ca");
    params.subject_alt_names.push(rcgen::SanType::URI(
        "urn:atm:terminal:other".try_into().unwrap(),
    ));
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let der = params.serialize_request(&key).unwrap();
    let request = SigningRequest::read(der.der()).unwrap();
    let signed = issuing(&folder)
        .certify(&name("till-7"), &request, now(), LIFE)
        .unwrap();
    let facts = CertificateFacts::read(&signed.der).unwrap();
    assert_eq!(terminal_name(&signed.der).unwrap(), name("till-7"));
    assert!(facts.only_for_clients && facts.server_names.is_empty());
    assert_eq!(facts.subject, "CN=till-7");
    assert_eq!(facts.spki, spki_of(&key));
    assert_eq!(spki_sha256(&signed.der).unwrap(), request.key_sha256());
}

#[test]
fn a_signing_request_with_another_key_a_bad_signature_or_too_many_bytes_is_refused() {
    use SigningRequestError as Wrong;
    let request = |key: &KeyPair| {
        let params = CertificateParams::default();
        params.serialize_request(key).unwrap().der().to_vec()
    };
    let refused = |der: &[u8]| SigningRequest::read(der).err();
    for other in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(other).unwrap();
        assert_eq!(refused(&request(&key)), Some(Wrong::KeyType));
    }
    let good = request(&KeyPair::generate().unwrap());
    assert_eq!(refused(&good), None);
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(refused(&longer), Some(Wrong::Malformed));
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&forged), Some(Wrong::Signature));
    // Another's key under the own signature.
    let other = spki_of(&KeyPair::generate().unwrap());
    let own = SigningRequest::read(&good).unwrap().spki().to_vec();
    let at = good
        .windows(own.len())
        .position(|part| part == own)
        .unwrap();
    let mut stolen = good.clone();
    stolen[at..at + own.len()].copy_from_slice(&other);
    assert_eq!(refused(&stolen), Some(Wrong::Signature));
    assert_eq!(
        refused(&[0x30; SIGNING_REQUEST_BYTES_MAX + 1]),
        Some(Wrong::TooLarge)
    );
    assert_eq!(refused(b""), Some(Wrong::Malformed));
}

/// An element of DER; `more` zeros before its length are what DER does not allow.
fn element(tag: u8, content: &[u8], more: usize) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut octets = vec![0; more];
    octets.extend(length.iter().skip_while(|octet| **octet == 0));
    let mut der = vec![tag];
    if content.len() >= 0x80 || more > 0 {
        der.push(0x80 | u8::try_from(octets.len()).unwrap());
    }
    [der, octets, content.to_vec()].concat()
}

/// The parts of a signing request, each as it should be.
struct Parts {
    version: Vec<u8>,
    algorithm: Vec<u8>,
    unused_bits: u8,
    behind: Vec<u8>,
    info_length: usize,
    length: usize,
}

impl Parts {
    fn good() -> Self {
        Self {
            version: vec![2, 1, 0],
            algorithm: vec![
                0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
            ],
            unused_bits: 0,
            behind: Vec::new(),
            info_length: 0,
            length: 0,
        }
    }

    /// Whole, and signed with this key.
    fn signed(&self, key: &KeyPair) -> Vec<u8> {
        let no_name = [0x30, 0];
        let no_attributes = [0xa0, 0];
        let spki = spki_of(key);
        let info = [&self.version[..], &no_name, &spki, &no_attributes].concat();
        let info = element(0x30, &info, self.info_length);
        let signature = rcgen::SigningKey::sign(key, &info).unwrap();
        let signature = element(3, &[&[self.unused_bits][..], &signature].concat(), 0);
        let all = [&info[..], &self.algorithm, &signature, &self.behind].concat();
        element(0x30, &all, self.length)
    }
}

type Change = Box<dyn Fn(&mut Parts)>;

#[test]
fn a_signing_request_has_one_der_form_and_its_own_signature_opens_no_other() {
    use SigningRequestError as Wrong;
    let key = KeyPair::generate().unwrap();
    let read = |parts: Parts| SigningRequest::read(&parts.signed(&key)).err();
    assert_eq!(read(Parts::good()), None);
    let with_null = vec![
        0x30, 0x0c, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02, 5, 0,
    ];
    let long_algorithm = [&[0x30, 0x81][..], &Parts::good().algorithm[1..]].concat();
    let changes: [(&str, Change); 9] = [
        ("a length too long", Box::new(|parts| parts.length = 1)),
        ("and longer", Box::new(|parts| parts.length = 2)),
        ("one within", Box::new(|parts| parts.info_length = 1)),
        (
            "a fourth element",
            Box::new(|parts| parts.behind = vec![5, 0]),
        ),
        (
            "NULL for parameters",
            Box::new(move |parts| parts.algorithm.clone_from(&with_null)),
        ),
        (
            "a long length in the algorithm",
            Box::new(move |parts| parts.algorithm.clone_from(&long_algorithm)),
        ),
        ("version 1", Box::new(|parts| parts.version = vec![2, 1, 1])),
        (
            "version 0 in two octets",
            Box::new(|parts| parts.version = vec![2, 2, 0, 0]),
        ),
        ("unused bits", Box::new(|parts| parts.unused_bits = 1)),
    ];
    for (what, change) in changes {
        let mut parts = Parts::good();
        change(&mut parts);
        assert_eq!(read(parts), Some(Wrong::Malformed), "{what}");
    }
}

proptest! {
    #[test]
    fn a_changed_signing_request_is_refused_or_has_the_same_key(
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
        cut in any::<bool>(),
    ) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::default();
        let mut der = params.serialize_request(&key).unwrap().der().to_vec();
        let at = at.index(der.len());
        if cut {
            der.truncate(at);
        } else {
            der[at] ^= flip;
        }
        if let Ok(read) = SigningRequest::read(&der) {
            prop_assert_eq!(read.spki(), spki_of(&key));
        }
    }
}

fn spki_of(key: &KeyPair) -> Vec<u8> {
    rcgen::PublicKeyData::subject_public_key_info(key)
}
