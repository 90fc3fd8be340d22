mod folder;
mod issuing;

use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::domain::TerminalName;

const NOW: i64 = 1_800_000_000;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

fn authority() -> Authority {
    Authority::create(now(), AUTHORITY_DAYS).unwrap()
}

fn name(text: &str) -> TerminalName {
    text.parse().unwrap()
}

fn request(uris: &[&str], usages: &[Usage]) -> CertificateRequest {
    CertificateRequest {
        common_name: "odd".to_owned(),
        alternative_names: uris
            .iter()
            .map(|uri| AlternativeName::Uri((*uri).to_owned()))
            .collect(),
        usages: usages.to_vec(),
        not_before: now(),
        not_after: now() + Duration::days(1),
        serial: None,
    }
}

fn name_in(uris: &[&str], usages: &[Usage]) -> Result<String, NameError> {
    let issued = authority().issue(&request(uris, usages)).unwrap();
    terminal_name(issued.der()).map(|name| name.to_string())
}

#[test]
fn a_servers_name_is_a_dns_name_or_an_address() {
    for (given, kept) in [
        ("Bank.Example", "bank.example"),
        ("10.0.0.1", "10.0.0.1"),
        ("0::1", "::1"),
    ] {
        assert_eq!(given.parse::<ServerName>().unwrap().as_str(), kept);
    }
    for bad in [
        "",
        " ",
        "a b",
        "*.a",
        "a.",
        "[::1]",
        "10.0.0.1:8443",
        "256.0.0.1",
        "a..b",
        "-a",
    ] {
        assert!(bad.parse::<ServerName>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_terminal_is_named_by_its_one_uri() {
    let names = [
        "https://bank.example/",
        "urn:atm:terminal:till-7",
        "urn:atm:branch:9",
    ];
    assert_eq!(name_in(&names, &[Usage::Client]), Ok("till-7".to_owned()));
    assert_eq!(
        name_in(&names, &[Usage::Server, Usage::Client]),
        Ok("till-7".to_owned())
    );
}

#[test]
fn a_certificate_not_for_clients_names_no_terminal() {
    for usages in [&[][..], &[Usage::Server], &[Usage::Any]] {
        assert_eq!(
            name_in(&["urn:atm:terminal:a"], usages),
            Err(NameError::NotForClients)
        );
    }
}

#[test]
fn a_certificate_with_no_name_or_two_or_a_bad_one_names_no_terminal() {
    let client = [Usage::Client];
    assert_eq!(name_in(&[], &client), Err(NameError::NoName));
    assert_eq!(
        name_in(&["urn:atm:branch:a"], &client),
        Err(NameError::NoName)
    );
    for two in [
        ["urn:atm:terminal:a", "urn:atm:terminal:b"],
        ["urn:atm:terminal:a", "urn:atm:terminal:A"],
    ] {
        assert_eq!(name_in(&two, &client), Err(NameError::SeveralNames));
    }
    for bad in [
        "urn:atm:terminal:",
        "urn:atm:terminal:A",
        "urn:atm:terminal:a?x",
    ] {
        assert!(
            matches!(name_in(&[bad], &client), Err(NameError::Malformed(_))),
            "{bad}"
        );
    }
}

#[test]
fn a_uri_that_is_no_text_counts_as_a_malformed_name() {
    let issued = authority()
        .issue(&request(&["urn:atm:terminal:zzzz"], &[Usage::Client]))
        .unwrap();
    let mut der = issued.der().to_vec();
    let at = der.windows(4).position(|window| window == b"zzzz").unwrap();
    der[at] = 0xff;
    assert!(matches!(terminal_name(&der), Err(NameError::Malformed(_))));
}

#[test]
fn damaged_certificates_are_errors_and_never_panics() {
    let issued = authority().issue_terminal(&name("a"), now(), 10).unwrap();
    let der = issued.der().to_vec();
    for length in 0..der.len() {
        assert!(terminal_name(&der[..length]).is_err());
        assert!(spki_sha256(&der[..length]).is_err());
    }
    for at in 0..der.len() {
        let mut changed = der.clone();
        changed[at] ^= 0xff;
        let _ = (
            terminal_name(&changed),
            CertificateFacts::read(&changed),
            validity(&changed),
        );
    }
    let mut longer = der;
    longer.push(0);
    assert_eq!(
        terminal_name(&longer),
        Err(NameError::Unreadable(FactsError::Malformed))
    );
}

#[test]
fn an_authority_carries_what_strict_verifiers_demand() {
    let authority = authority();
    let (_, certificate) = X509Certificate::from_der(authority.certificate()).unwrap();
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(1));
    let usage = certificate.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature());
    assert!(certificate.verify_signature(None).is_ok());
    assert!(authority.facts().key_identifier.is_some());
}

#[test]
fn a_leaf_carries_what_strict_verifiers_demand() {
    use x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier;
    let authority = authority();
    let issued = authority.issue_terminal(&name("a"), now(), 10).unwrap();
    let (_, certificate) = X509Certificate::from_der(issued.der()).unwrap();
    assert!(!certificate.basic_constraints().unwrap().unwrap().value.ca);
    let usage = certificate.key_usage().unwrap().unwrap();
    assert!(
        usage.critical && usage.value.flags == 1,
        "digitalSignature alone"
    );
    let serial = certificate.raw_serial();
    assert!(serial.len() == 16 && serial[0] & 0x80 == 0 && serial[0] != 0);
    let named = certificate
        .iter_extensions()
        .find_map(|one| match one.parsed_extension() {
            AuthorityKeyIdentifier(found) => found.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => None,
        });
    assert_eq!(named, authority.facts().key_identifier);
    assert_eq!(issued_by(issued.der(), authority.certificate()), Ok(true));
}

#[test]
fn a_leaf_starts_in_the_past_and_never_outlives_its_authority() {
    let authority = Authority::create(now(), 30).unwrap();
    let (start, end) = validity(authority.certificate()).unwrap();
    assert_eq!((start, end), (NOW - 3600, NOW - 3600 + 30 * 86_400));
    let short = authority.issue_terminal(&name("a"), now(), 10).unwrap();
    assert_eq!(
        validity(short.der()),
        Ok((NOW - 3600, NOW - 3600 + 10 * 86_400))
    );
    let long = authority
        .issue_server(&ServerName::local(), now(), 31)
        .unwrap();
    assert_eq!(validity(long.der()), Ok((start, end)));
    let later = now() + Duration::days(30);
    let refused = authority.issue_terminal(&name("a"), later, 10);
    assert!(matches!(refused, Err(PkiError::AuthorityEnded { .. })));
}

#[test]
fn a_serial_is_1_to_20_octets_in_either_case_and_not_zero() {
    let read = |text: &str| Serial::from_hexadecimal(text);
    let serial = read("00fF01").unwrap();
    assert_eq!((serial.as_str(), serial.octets()), ("ff01", vec![255, 1]));
    assert_eq!(read(&"0a".repeat(20)).unwrap().octets(), [10; 20]);
    for text in [
        "",
        "0",
        "00",
        "abc",
        "0g",
        "+a",
        " a",
        "é",
        &"00".repeat(20),
        &"0a".repeat(21),
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn a_certificate_can_be_asked_for_with_any_dates_and_serial() {
    let serial = Serial::from_hexadecimal("00ff01").unwrap();
    let asked = CertificateRequest {
        not_before: now() - Duration::days(9),
        not_after: now() - Duration::days(8),
        serial: Some(serial.clone()),
        ..request(&[], &[])
    };
    let issued = authority().issue(&asked).unwrap();
    assert_eq!(
        validity(issued.der()),
        Ok((NOW - 9 * 86_400, NOW - 8 * 86_400))
    );
    assert_eq!(CertificateFacts::read(issued.der()).unwrap().serial, serial);
    assert_eq!(serial.as_str(), "ff01");
}
