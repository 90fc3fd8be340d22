//! Reading certificates and revocation lists that others made.

use std::fmt;

use aws_lc_rs::digest;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName};
use x509_parser::oid_registry::{OID_X509_EXT_CRL_NUMBER, OID_X509_EXT_DELTA_CRL_INDICATOR};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Version;

use super::error::{FactsError, NameError};
use super::names::TERMINAL_URI;
use super::signature;
use crate::domain::TerminalName;
use crate::domain::terminal::NotATerminalName;

/// A certificate's serial number: lower-case hexadecimal, two digits an octet, no leading zero octet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Serial(String);

/// The most octets of a serial number (RFC 5280, 4.1.2.2).
const SERIAL_OCTETS_MAX: usize = 20;

impl Serial {
    /// From big-endian octets; leading zero octets carry no meaning and are left out.
    pub fn from_octets(octets: &[u8]) -> Self {
        let start = octets
            .iter()
            .position(|octet| *octet != 0)
            .unwrap_or(octets.len());
        Self(HEXLOWER.encode(&octets[start..]))
    }

    /// From hexadecimal of 1 to 20 octets that is not zero; `None` where it is not that.
    pub fn from_hexadecimal(text: &str) -> Option<Self> {
        let octets = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
        let fits = octets.len() <= SERIAL_OCTETS_MAX;
        Some(Self::from_octets(&octets)).filter(|serial| fits && !serial.0.is_empty())
    }

    /// The big-endian octets.
    pub fn octets(&self) -> Vec<u8> {
        HEXLOWER.decode(self.0.as_bytes()).unwrap_or_default()
    }

    /// The hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a certificate says of itself. Nothing here has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The serial number.
    pub serial: Serial,
    /// The subject, as text for people.
    pub subject: String,
    /// DER of the subject's name, equal to the `issuer` of what it issued.
    pub subject_der: Vec<u8>,
    /// DER of the issuer's name.
    pub issuer_der: Vec<u8>,
    /// The subject's key identifier, where there is one.
    pub key_identifier: Option<Vec<u8>>,
    /// From when it holds, seconds since 1970 UTC.
    pub not_before: i64,
    /// Until when it holds, that second included, seconds since 1970 UTC.
    pub not_after: i64,
    /// DNS names and IP addresses of the subject alternative name, in order; others are left out.
    pub server_names: Vec<String>,
    /// DER of the public key (SubjectPublicKeyInfo).
    pub spki: Vec<u8>,
    /// Whether it may issue certificates: basic constraints say so and key usage does not deny it.
    pub may_sign_certificates: bool,
    /// Whether it may sign revocation lists.
    pub may_sign_lists: bool,
    /// How many authorities may stand below it on a way to a leaf; `None`: any number.
    pub authorities_below: Option<u32>,
    /// Whether it is good for clients' certificates alone: extended key usage is there, and names
    /// clientAuth and nothing else.
    pub only_for_clients: bool,
}

impl CertificateFacts {
    /// Reads one certificate from DER.
    ///
    /// # Errors
    /// Where the DER is malformed, or an extension looked at is damaged or there twice.
    pub fn read(der: &[u8]) -> Result<Self, FactsError> {
        let certificate = parse(der)?;
        let usage = certificate.key_usage().map_err(|_| FactsError::Extension)?;
        let constraints = certificate
            .basic_constraints()
            .map_err(|_| FactsError::Extension)?;
        let authority = constraints
            .as_ref()
            .is_some_and(|constraints| constraints.value.ca);
        let validity = certificate.validity();
        Ok(Self {
            serial: Serial::from_octets(certificate.raw_serial()),
            subject: certificate.subject().to_string(),
            subject_der: certificate.subject().as_raw().to_vec(),
            issuer_der: certificate.issuer().as_raw().to_vec(),
            key_identifier: key_identifier(&certificate),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            server_names: server_names(&certificate)?,
            spki: certificate.public_key().raw.to_vec(),
            may_sign_certificates: authority
                && usage
                    .as_ref()
                    .is_none_or(|usage| usage.value.key_cert_sign()),
            may_sign_lists: usage.as_ref().is_none_or(|usage| usage.value.crl_sign()),
            authorities_below: constraints
                .and_then(|constraints| constraints.value.path_len_constraint),
            only_for_clients: only_for_clients(&certificate)?,
        })
    }
}

/// One entry of a revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The revoked certificate's serial number.
    pub serial: Serial,
    /// When it was revoked, seconds since 1970 UTC.
    pub at: i64,
}

/// A revocation list's number: 20 octets at most (RFC 5280, 5.2.3), big endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListNumber([u8; SERIAL_OCTETS_MAX]);

impl ListNumber {
    /// From big-endian octets; `None` where it is larger than 20 octets.
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        let digits = octets.iter().skip_while(|octet| **octet == 0);
        let length = digits.clone().count();
        let mut number = [0; SERIAL_OCTETS_MAX];
        let place = number
            .iter_mut()
            .skip(SERIAL_OCTETS_MAX.checked_sub(length)?);
        place.zip(digits).for_each(|(place, octet)| *place = *octet);
        Some(Self(number))
    }

    /// The big-endian octets, without zeros before them.
    pub fn octets(&self) -> Vec<u8> {
        self.0
            .iter()
            .copied()
            .skip_while(|octet| *octet == 0)
            .collect()
    }

    /// The next number; `None` after the last.
    pub fn next(mut self) -> Option<Self> {
        for octet in self.0.iter_mut().rev() {
            *octet = octet.wrapping_add(1);
            if *octet != 0 {
                return Some(self);
            }
        }
        None
    }
}

impl From<u64> for ListNumber {
    fn from(number: u64) -> Self {
        let mut octets = [0; SERIAL_OCTETS_MAX];
        let place = octets
            .iter_mut()
            .rev()
            .zip(number.to_be_bytes().into_iter().rev());
        place.for_each(|(place, octet)| *place = octet);
        Self(octets)
    }
}

/// A number where it fits 64 bits, else its hexadecimal digits after `0x`.
impl Serialize for ListNumber {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let octets = self.octets();
        if octets.len() > 8 {
            return serializer.collect_str(self);
        }
        let value = octets
            .iter()
            .fold(0_u64, |sum, octet| sum << 8 | u64::from(*octet));
        serializer.serialize_u64(value)
    }
}

impl fmt::Display for ListNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "0x{}", HEXLOWER.encode(&self.octets()))
    }
}

/// What a revocation list says of itself. Nothing here has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationListFacts {
    /// The issuer, as text for people.
    pub issuer: String,
    /// DER of the issuer's name, equal to the `subject_der` of the authority that signed it.
    pub issuer_der: Vec<u8>,
    /// The list's number, where it has one (RFC 5280, 5.2.3).
    pub number: Option<ListNumber>,
    /// When the list was made, seconds since 1970 UTC.
    pub this_update: i64,
    /// When a newer list is due, seconds since 1970 UTC. After it the list is overdue.
    pub next_update: i64,
    /// The revoked certificates, in the list's order.
    pub revoked: Vec<Revoked>,
}

impl RevocationListFacts {
    /// Reads one revocation list from DER. What a handshake could not look a certificate up in is
    /// refused here, where its reason can be told.
    ///
    /// # Errors
    /// Where the DER is malformed, the list's number is larger than 20 octets, an extension stands there
    /// twice, or the list is one of version 1, of no next update, or a delta.
    pub fn read(der: &[u8]) -> Result<Self, FactsError> {
        let list = parse_list(der)?;
        let extensions = list.tbs_cert_list.extensions_map();
        let extensions = extensions.map_err(|_| FactsError::Extension)?;
        if list.version() != Some(X509Version::V2) || extensions.is_empty() {
            return Err(FactsError::OldList);
        }
        if extensions.contains_key(&OID_X509_EXT_DELTA_CRL_INDICATOR) {
            return Err(FactsError::Delta);
        }
        let next_update = list.next_update().ok_or(FactsError::NoNextUpdate)?;
        let number = match (list.crl_number(), extensions.get(&OID_X509_EXT_CRL_NUMBER)) {
            (Some(number), _) => {
                Some(ListNumber::from_octets(&number.to_bytes_be()).ok_or(FactsError::OutOfRange)?)
            }
            (None, Some(_)) => return Err(FactsError::Extension),
            (None, None) => None,
        };
        let revoked = list.iter_revoked_certificates().map(|entry| Revoked {
            serial: Serial::from_octets(entry.raw_serial()),
            at: entry.revocation_date.timestamp(),
        });
        Ok(Self {
            issuer: list.issuer().to_string(),
            issuer_der: list.issuer().as_raw().to_vec(),
            number,
            this_update: list.last_update().timestamp(),
            next_update: next_update.timestamp(),
            revoked: revoked.collect(),
        })
    }

    /// Whether the list in `list_der` was signed with the key of the certificate `authority_der`.
    ///
    /// # Errors
    /// Where either is malformed, the signature does not fit, or is of a kind that is not taken.
    pub fn verify(list_der: &[u8], authority_der: &[u8]) -> Result<(), FactsError> {
        parse_list(list_der)?;
        signature::verify(list_der, parse(authority_der)?.public_key().raw)
    }

    /// What is signed of a list (`tbsCertList`, with its tag and length), and the signature.
    ///
    /// # Errors
    /// Where the DER is malformed.
    pub fn signed_parts(der: &[u8]) -> Result<(Vec<u8>, Vec<u8>), FactsError> {
        let list = parse_list(der)?;
        let message = list.tbs_cert_list.as_ref().to_vec();
        Ok((message, list.signature_value.data.to_vec()))
    }
}

/// Whether the certificate `der` names `authority_der` as its issuer and carries its signature.
/// Dates and usages are not looked at.
///
/// # Errors
/// Where either is malformed.
pub fn issued_by(der: &[u8], authority_der: &[u8]) -> Result<bool, FactsError> {
    let certificate = parse(der)?;
    let authority = parse(authority_der)?;
    let named = certificate.issuer().as_raw() == authority.subject().as_raw();
    Ok(named && signature::verify(der, authority.public_key().raw).is_ok())
}

/// The terminal that a client's certificate names. The caller has verified the certificate's chain.
///
/// Demanded: extended key usage is there and names clientAuth itself (anyExtendedKeyUsage does not
/// do), and exactly one URI `urn:atm:terminal:NAME` among the subject alternative names. All other
/// names are ignored.
///
/// # Errors
/// [`NameError`] tells which of these fails.
pub fn terminal_name(der: &[u8]) -> Result<TerminalName, NameError> {
    let certificate = parse(der)?;
    let usage = certificate
        .extended_key_usage()
        .map_err(|_| FactsError::Extension)?;
    if !usage.is_some_and(|usage| usage.value.client_auth) {
        return Err(NameError::NotForClients);
    }
    let names = alternative_names(&certificate)?;
    let mut terminals = names.iter().filter_map(terminal_part);
    let part = terminals.next().ok_or(NameError::NoName)?;
    if terminals.next().is_some() {
        return Err(NameError::SeveralNames);
    }
    let text = std::str::from_utf8(part).map_err(|_| NotATerminalName)?;
    Ok(text.parse()?)
}

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo in DER), as `--pin-sha256` wants it.
///
/// # Errors
/// Where the certificate is malformed.
pub fn spki_sha256(der: &[u8]) -> Result<[u8; 32], FactsError> {
    let certificate = parse(der)?;
    let hash = digest::digest(&digest::SHA256, certificate.public_key().raw);
    hash.as_ref().try_into().map_err(|_| FactsError::OutOfRange)
}

/// A certificate's first and last second, both included, in seconds since 1970 UTC.
///
/// # Errors
/// Where the certificate is malformed.
pub fn validity(der: &[u8]) -> Result<(i64, i64), FactsError> {
    let certificate = parse(der)?;
    let validity = certificate.validity();
    Ok((
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    ))
}

fn only_for_clients(certificate: &X509Certificate<'_>) -> Result<bool, FactsError> {
    let usage = certificate
        .extended_key_usage()
        .map_err(|_| FactsError::Extension)?;
    Ok(usage.is_some_and(|usage| {
        let one = ExtendedKeyUsage {
            client_auth: true,
            ..no_usage()
        };
        *usage.value == one
    }))
}

fn no_usage<'a>() -> ExtendedKeyUsage<'a> {
    ExtendedKeyUsage {
        any: false,
        server_auth: false,
        client_auth: false,
        code_signing: false,
        email_protection: false,
        time_stamping: false,
        ocsp_signing: false,
        other: Vec::new(),
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, FactsError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(FactsError::Malformed),
    }
}

fn parse_list(der: &[u8]) -> Result<CertificateRevocationList<'_>, FactsError> {
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list),
        Ok(_) | Err(_) => Err(FactsError::Malformed),
    }
}

fn alternative_names<'a>(
    certificate: &'a X509Certificate<'a>,
) -> Result<&'a [GeneralName<'a>], FactsError> {
    let extension = certificate
        .subject_alternative_name()
        .map_err(|_| FactsError::Extension)?;
    Ok(extension.map_or(&[], |extension| extension.value.general_names.as_slice()))
}

/// What follows `urn:atm:terminal:` in a name that begins so. A URI that is no text is looked at too,
/// so that damage cannot hide a second name.
fn terminal_part<'a>(name: &'a GeneralName<'_>) -> Option<&'a [u8]> {
    let octets = match name {
        GeneralName::URI(uri) => uri.as_bytes(),
        GeneralName::Invalid(_, octets) => octets,
        _ => return None,
    };
    octets.strip_prefix(TERMINAL_URI.as_bytes())
}

fn server_names(certificate: &X509Certificate<'_>) -> Result<Vec<String>, FactsError> {
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => address(octets),
        _ => None,
    };
    Ok(alternative_names(certificate)?
        .iter()
        .filter_map(text)
        .collect())
}

fn address(octets: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(octets)
        .ok()
        .map(|sixteen| std::net::Ipv6Addr::from(sixteen).to_string())
}

fn key_identifier(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    use x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier;
    certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
            _ => None,
        })
}
