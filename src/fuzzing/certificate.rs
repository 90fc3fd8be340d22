//! Certificates, revocation lists and signing requests that strangers made.

use rustls::pki_types::CertificateDer;

use super::Input;
use super::vault::{BEGINNING_MS, Vault};
use crate::config::ClientAuth;
use crate::domain::Timestamp;
use crate::domain::pem::{self, Wanted};
use crate::pki::{
    CertificateFacts, RevocationListFacts, Serial, SigningRequest, TERMINAL_URI, issued_by,
    spki_sha256, terminal_name, validity,
};

/// Octets of an issued one that a run changes at most.
const CHANGES_MAX: usize = 8;

/// Reads a certificate, also as a signing request, or a list. The bytes: what it is, and then DER, or the changes to an issued
/// one: a place (two bytes, counted around), and the octet that comes there. After 0xff comes a file in PEM.
///
/// # Panics
/// Where readers of the same DER disagree, a name is read that is not there, or anything but what
/// the authority signed is let in.
pub fn certificate(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let vault = Vault::open();
    let kind = input.byte();
    match kind % 4 {
        _ if kind == 0xff => reads_pem(input.rest()),
        0 => {
            let der = input.rest();
            reads_signing_request(der);
            reads_certificate(der);
        }
        1 => {
            let issued = &vault.identities[usize::from(input.byte() % 3)];
            let der = changed(&issued.certificate, &mut input);
            reads_signing_request(&der);
            reads_certificate(&der);
        }
        2 => reads_list(input.rest()),
        _ => reads_list(&changed(&vault.list, &mut input)),
    }
}

/// What is taken counts whole: each frame that anybody could see in it is one of a block that was
/// read, and each block is written in it as it was read.
fn reads_pem(text: &[u8]) {
    for wanted in [
        Wanted::Certificates,
        Wanted::RevocationLists,
        Wanted::PrivateKey,
    ] {
        let Ok(blocks) = pem::read(text, wanted) else {
            continue;
        };
        let text = String::from_utf8_lossy(text).to_ascii_uppercase();
        let parameters = text.matches("-----BEGIN EC PARAMETERS-----").count();
        let frames = text.matches("-----BEGIN").count() + text.matches("----- BEGIN").count();
        assert_eq!(frames, blocks.len() + parameters, "a block is passed over");
        assert_eq!(
            frames,
            text.matches("-----END ").count(),
            "an end is passed over"
        );
        let lists: String = blocks
            .iter()
            .map(|block| pem::revocation_list(&block.der))
            .collect();
        let again = pem::read(lists.as_bytes(), Wanted::RevocationLists).expect("what was written");
        let same = again
            .iter()
            .zip(&blocks)
            .all(|(again, block)| again.der == block.der);
        assert!(same && again.len() == blocks.len(), "not what was written");
    }
}

fn changed(der: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let mut der = der.to_vec();
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        let place = usize::from(input.byte()) * 256 + usize::from(input.byte());
        let place = place % der.len();
        der[place] = input.byte();
    }
    der
}

fn reads_certificate(der: &[u8]) {
    let vault = Vault::open();
    let facts = CertificateFacts::read(der);
    let dates = validity(der);
    if let Ok(facts) = &facts {
        assert_eq!(dates, Ok((facts.not_before, facts.not_after)), "two terms");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &facts.spki);
        let own = spki_sha256(der).expect("the key's digest");
        assert_eq!(own.as_slice(), digest.as_ref(), "two keys");
        serial_reads_back(&facts.serial);
        let mut longer = der.to_vec();
        longer.push(0);
        assert!(CertificateFacts::read(&longer).is_err(), "something behind");
    }
    let name = terminal_name(der);
    if let Ok(name) = &name {
        assert!(dates.is_ok(), "a name without dates");
        let uri = format!("{TERMINAL_URI}{name}");
        let mut places = der.windows(uri.len());
        assert!(places.any(|place| place == uri.as_bytes()), "no such name");
    }
    let chain = [der.to_vec().into()];
    let now = Timestamp::from_unix_ms(BEGINNING_MS);
    let trust = vault.trust(ClientAuth::Required);
    let admitted = trust.still_admits(&chain, now);
    let signed = issued_by(der, &vault.authority) == Ok(true);
    // A signature does not cover how its own frame is written, but all that is said within.
    let own = vault.identities.iter().take(2);
    let mut own = own.map(|identity| &identity.certificate);
    let is_own = |own: &CertificateDer<'_>| CertificateFacts::read(own) == facts;
    if signed {
        let own = own.clone().chain([&vault.authority]);
        assert!(own.into_iter().any(is_own), "a forged certificate");
    }
    if admitted {
        assert!(signed && name.is_ok(), "a stranger is let in");
        assert!(own.clone().any(is_own), "a forged terminal");
    }
    let issued = own.any(|own| own.as_ref() == der);
    assert!(admitted || !issued, "a terminal is not let in");
}

/// What is read has its key in it, and nothing behind it.
fn reads_signing_request(der: &[u8]) {
    let Ok(request) = SigningRequest::read(der) else {
        return;
    };
    let spki = request.spki();
    assert!(der.windows(spki.len()).any(|part| part == spki));
    let mut longer = der.to_vec();
    longer.push(0);
    assert!(SigningRequest::read(&longer).is_err(), "something behind");
}

fn serial_reads_back(serial: &Serial) {
    let octets = serial.octets();
    assert_eq!(&Serial::from_octets(&octets), serial);
    if (1..=20).contains(&octets.len()) {
        let again = Serial::from_hexadecimal(serial.as_str());
        assert_eq!(again.as_ref(), Some(serial));
    }
}

fn reads_list(der: &[u8]) {
    let vault = Vault::open();
    let facts = RevocationListFacts::read(der);
    if let Ok(facts) = &facts {
        facts
            .revoked
            .iter()
            .for_each(|revoked| serial_reads_back(&revoked.serial));
    }
    let signed = RevocationListFacts::verify(der, &vault.authority).is_ok();
    let issued = RevocationListFacts::read(&vault.list);
    assert!(!signed || facts == issued, "a forged list");
    assert!(signed || vault.list.as_ref() != der, "a list is not taken");
}
