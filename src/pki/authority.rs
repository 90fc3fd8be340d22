//! The bank's certificate authority, in memory.

use std::path::{Path, PathBuf};

use aws_lc_rs::rand::{self, SecureRandom};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData,
    RevokedCertParams, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer,
};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::error::PkiError;
use super::facts::{CertificateFacts, Revoked, Serial};
use super::names::ServerName;
use super::reading;
use super::request::{AlternativeName, CertificateRequest, RevocationRequest, Usage};
use crate::domain::{TerminalName, pem};

/// How long the server's and the terminals' certificates hold unless told otherwise, in days. More
/// than this, some systems (Apple's) refuse in a server's certificate.
pub const LEAF_DAYS: u32 = 825;
/// How long an authority holds at least, in days.
pub const AUTHORITY_DAYS: u32 = 3650;
/// How long after a revocation list the next one is due, in days.
pub const REVOCATION_LIST_DAYS: u32 = 365;
/// How far before the present certificates and lists begin, for clocks that are slow.
pub const CLOCK_SKEW: Duration = Duration::hours(1);

/// Octets of a serial number: random, within the 20 that RFC 5280 (4.1.2.2) allows.
const SERIAL_OCTETS: usize = 16;

/// A certificate just issued, with its key.
#[derive(Debug)]
pub struct IssuedCertificate {
    certificate: Certificate,
    key: KeyPair,
    serial: Serial,
    not_after: OffsetDateTime,
}

impl IssuedCertificate {
    /// The certificate in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    /// The certificate in PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The private key, PKCS#8 in DER.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }

    /// The private key, PKCS#8 in PEM.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }

    /// The serial number.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Until when it holds.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }
}

/// The bank's authority: its certificate and the key that signs certificates and revocation lists.
#[derive(Debug)]
pub struct Authority {
    trusted: TrustedAuthority,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority with its own key (ECDSA P-256) and a subject of its own, so that two
    /// authorities of one bank can be told apart. It holds `days` from an hour before `now`.
    ///
    /// # Errors
    /// Where there are no random numbers or the end cannot be expressed.
    pub fn create(now: OffsetDateTime, days: u32) -> Result<Self, PkiError> {
        let serial = random_serial()?;
        let mark: String = serial.as_str().chars().take(8).collect();
        let not_before = now - CLOCK_SKEW;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("ATM bank authority {mark}"));
        params.serial_number = Some(SerialNumber::from(serial.octets()));
        params.not_before = not_before;
        params.not_after = end_after(not_before, days)?;
        // Below it there may be the issuing authority, and nothing below that.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let file = PathBuf::from("ca.pem");
        let facts = CertificateFacts::read(certificate.der())
            .map_err(|reason| reading::damaged(&file, 1, reason))?;
        let pem = certificate.pem();
        let trusted = TrustedAuthority {
            file,
            pem,
            der: certificate.into(),
            facts,
        };
        Self::from_parts(trusted, key)
    }

    /// Loads an authority from its two files, both PEM. Where the certificate's file holds several
    /// authorities, the one that belongs to the key is taken.
    ///
    /// # Errors
    /// Where a file is not there, cannot be read, is damaged, or the two do not belong together.
    pub fn load(certificate_file: &Path, key_file: &Path) -> Result<Self, PkiError> {
        Self::load_private(certificate_file, key_file, 0)
    }

    /// As [`Authority::load`], from a key's file whose mode has none of the bits of `forbidden`.
    pub(super) fn load_private(
        certificate_file: &Path,
        key_file: &Path,
        forbidden: u32,
    ) -> Result<Self, PkiError> {
        let key = reading::signing_key(key_file, forbidden)?.ok_or_else(|| PkiError::Missing {
            path: key_file.to_owned(),
            mend: "the authority's key is needed to sign: put it back for the time of this run",
        })?;
        let public_key = key.subject_public_key_info();
        let own = authorities(certificate_file)?
            .into_iter()
            .find(|trusted| trusted.facts.spki == public_key);
        let own = own.ok_or_else(|| PkiError::NotAPair {
            certificate: certificate_file.to_owned(),
            key: key_file.to_owned(),
        })?;
        Self::from_parts(own, key)
    }

    fn from_parts(trusted: TrustedAuthority, key: KeyPair) -> Result<Self, PkiError> {
        let issuer = Issuer::from_ca_cert_der(&trusted.der, key)?;
        Ok(Self { trusted, issuer })
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.trusted.der
    }

    /// The authority's certificate in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.trusted.pem
    }

    /// The authority's private key, PKCS#8 in PEM.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    pub(super) fn trusted(&self) -> &TrustedAuthority {
        &self.trusted
    }

    /// What the authority's certificate says.
    pub fn facts(&self) -> &CertificateFacts {
        &self.trusted.facts
    }

    /// Issues the server's certificate with a new key, for `days` from an hour before `now`, at most
    /// to the authority's own end.
    ///
    /// # Errors
    /// Where the authority has ended, or signing fails.
    pub fn issue_server(
        &self,
        names: &[ServerName],
        now: OffsetDateTime,
        days: u32,
    ) -> Result<IssuedCertificate, PkiError> {
        let (not_before, not_after) = self.term(now, days)?;
        self.issue(&CertificateRequest::server(names, not_before, not_after))
    }

    /// Issues a terminal's certificate with a new key, for `days` from an hour before `now`, at most
    /// to the authority's own end.
    ///
    /// # Errors
    /// Where the authority has ended, or signing fails.
    pub fn issue_terminal(
        &self,
        name: &TerminalName,
        now: OffsetDateTime,
        days: u32,
    ) -> Result<IssuedCertificate, PkiError> {
        let (not_before, not_after) = self.term(now, days)?;
        self.issue(&CertificateRequest::terminal(name, not_before, not_after))
    }

    /// Issues what is asked for with a new key (ECDSA P-256). Dates and names are not questioned.
    ///
    /// # Errors
    /// Where a name cannot be written into a certificate, or signing fails.
    pub fn issue(&self, request: &CertificateRequest) -> Result<IssuedCertificate, PkiError> {
        self.issue_for_key(request, KeyPair::generate()?)
    }

    /// As [`Authority::issue`], for a key that exists already.
    pub(super) fn issue_for_key(
        &self,
        request: &CertificateRequest,
        key: KeyPair,
    ) -> Result<IssuedCertificate, PkiError> {
        let (params, serial) = leaf_params(request)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(IssuedCertificate {
            certificate,
            key,
            serial,
            not_after: request.not_after,
        })
    }

    /// As [`Authority::issue`], for a key whose private half is elsewhere.
    pub(super) fn issue_for_public_key(
        &self,
        request: &CertificateRequest,
        key: &SubjectPublicKeyInfo,
    ) -> Result<(CertificateDer<'static>, Serial), PkiError> {
        let (params, serial) = leaf_params(request)?;
        let certificate = params.signed_by(key, &self.issuer)?;
        Ok((certificate.into(), serial))
    }

    /// Issues the certificate of an authority below this one.
    pub(super) fn issue_below(
        &self,
        params: CertificateParams,
        serial: Serial,
        key: KeyPair,
    ) -> Result<IssuedCertificate, PkiError> {
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(IssuedCertificate {
            certificate,
            key,
            serial,
            not_after: params.not_after,
        })
    }

    /// Signs a revocation list and gives its DER and PEM.
    ///
    /// # Errors
    /// Where the dates cannot be expressed or are in the wrong order, or signing fails.
    pub fn revocation_list(
        &self,
        request: &RevocationRequest,
    ) -> Result<(CertificateRevocationListDer<'static>, String), PkiError> {
        let revoked = request
            .revoked
            .iter()
            .map(revoked_entry)
            .collect::<Result<_, _>>()?;
        let identifier = self.trusted.facts.key_identifier.clone();
        let list = CertificateRevocationListParams {
            this_update: request.this_update,
            next_update: request.next_update,
            crl_number: SerialNumber::from(request.number.octets()),
            issuing_distribution_point: None,
            revoked_certs: revoked,
            // Left to itself rcgen would hash the key anew and miss what a foreign authority wrote.
            key_identifier_method: identifier
                .map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified),
        }
        .signed_by(&self.issuer)?;
        let pem = list.pem()?;
        Ok((list.into(), pem))
    }

    /// From when to when a certificate made `now` holds: never past the authority's own term.
    pub(super) fn term(
        &self,
        now: OffsetDateTime,
        days: u32,
    ) -> Result<(OffsetDateTime, OffsetDateTime), PkiError> {
        let start = instant(self.trusted.facts.not_before)?;
        let end = instant(self.trusted.facts.not_after)?;
        if end <= now {
            return Err(PkiError::AuthorityEnded {
                path: self.trusted.file.clone(),
                end: super::report::rfc3339(self.trusted.facts.not_after),
            });
        }
        let not_before = (now - CLOCK_SKEW).max(start);
        Ok((not_before, end_after(not_before, days)?.min(end)))
    }
}

/// An authority's certificate, known to be one.
#[derive(Clone, Debug)]
pub(super) struct TrustedAuthority {
    /// Where it was read from, for messages.
    file: PathBuf,
    pub(super) pem: String,
    pub(super) der: CertificateDer<'static>,
    pub(super) facts: CertificateFacts,
}

/// All authorities in a PEM file; at least one.
pub(super) fn authorities(path: &Path) -> Result<Vec<TrustedAuthority>, PkiError> {
    let trusted = |(der, facts): (CertificateDer<'static>, CertificateFacts)| TrustedAuthority {
        file: path.to_owned(),
        pem: pem::certificate(&der),
        der,
        facts,
    };
    let found = reading::read_authorities(path)?;
    Ok(found.into_iter().map(trusted).collect())
}

/// The instant so many seconds after 1970.
pub(super) fn instant(unix_seconds: i64) -> Result<OffsetDateTime, PkiError> {
    OffsetDateTime::from_unix_timestamp(unix_seconds).map_err(|_| PkiError::OutOfTime)
}

fn end_after(start: OffsetDateTime, days: u32) -> Result<OffsetDateTime, PkiError> {
    let end = start
        .checked_add(Duration::days(i64::from(days)))
        .ok_or(PkiError::OutOfTime)?;
    // GeneralizedTime has four digits for the year (RFC 5280, 4.1.2.5.2).
    if end.year() > 9999 {
        Err(PkiError::OutOfTime)
    } else {
        Ok(end)
    }
}

/// What a leaf's certificate says by this request, and its serial number.
fn leaf_params(request: &CertificateRequest) -> Result<(CertificateParams, Serial), PkiError> {
    let serial = match &request.serial {
        Some(serial) => serial.clone(),
        None => random_serial()?,
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, request.common_name.as_str());
    params.serial_number = Some(SerialNumber::from(serial.octets()));
    params.not_before = request.not_before;
    params.not_after = request.not_after;
    params.subject_alt_names = request
        .alternative_names
        .iter()
        .map(alternative_name)
        .collect::<Result<_, _>>()?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = request.usages.iter().copied().map(purpose).collect();
    params.use_authority_key_identifier_extension = true;
    Ok((params, serial))
}

/// Random, positive, and of the same length always: the first octet is 0x40 to 0x7f.
pub(super) fn random_serial() -> Result<Serial, PkiError> {
    let mut octets = [0; SERIAL_OCTETS];
    rand::SystemRandom::new()
        .fill(&mut octets)
        .map_err(|_| PkiError::Random)?;
    octets[0] = octets[0] & 0x7f | 0x40;
    Ok(Serial::from_octets(&octets))
}

fn alternative_name(name: &AlternativeName) -> Result<SanType, PkiError> {
    Ok(match name {
        AlternativeName::Dns(name) => SanType::DnsName(Ia5String::try_from(name.as_str())?),
        AlternativeName::Address(address) => SanType::IpAddress(*address),
        AlternativeName::Uri(uri) => SanType::URI(Ia5String::try_from(uri.as_str())?),
    })
}

fn purpose(usage: Usage) -> ExtendedKeyUsagePurpose {
    match usage {
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Usage::Any => ExtendedKeyUsagePurpose::Any,
    }
}

fn revoked_entry(revoked: &Revoked) -> Result<RevokedCertParams, PkiError> {
    Ok(RevokedCertParams {
        serial_number: SerialNumber::from(revoked.serial.octets()),
        revocation_time: instant(revoked.at)?,
        reason_code: None,
        invalidity_date: None,
    })
}
