//! Certificates made up for the attack, all of which a good server refuses.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use time::OffsetDateTime;

use super::Error;
use crate::domain::TerminalName;
use crate::pki::{Authority, terminal_uri};

/// How long they hold; the attack is over long before.
const DAYS: u32 = 1;

/// A terminal's certificate with its key.
pub(super) type Paper = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// Signed by itself, with the right name in it.
///
/// # Errors
/// [`Error::Papers`].
pub(super) fn self_signed(name: &TerminalName, now: OffsetDateTime) -> Result<Paper, Error> {
    let made = || -> Result<Paper, rcgen::Error> {
        let key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::default();
        params.not_before = now - time::Duration::HOUR;
        params.not_after = now + time::Duration::days(i64::from(DAYS));
        params.subject_alt_names = vec![rcgen::SanType::URI(terminal_uri(name).try_into()?)];
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.self_signed(&key)?;
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((certificate.der().clone(), key.into()))
    };
    made().map_err(|error| Error::Papers(error.to_string()))
}

/// Signed by a CA of our own, with the right name in it.
///
/// # Errors
/// [`Error::Papers`].
pub(super) fn foreign(name: &TerminalName, now: OffsetDateTime) -> Result<Paper, Error> {
    let issued = Authority::create(now, DAYS)
        .and_then(|authority| authority.issue_terminal(name, now, DAYS))
        .map_err(|error| Error::Papers(error.to_string()))?;
    Ok((issued.der().clone(), issued.key_der()))
}

/// The same settings, but with these papers.
///
/// # Errors
/// [`Error::Papers`].
pub(super) fn shown(config: &ClientConfig, paper: Paper) -> Result<Arc<ClientConfig>, Error> {
    let (certificate, key) = paper;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(vec![certificate], key, &provider)
        .map_err(|error| Error::Papers(error.to_string()))?;
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    Ok(Arc::new(config))
}
