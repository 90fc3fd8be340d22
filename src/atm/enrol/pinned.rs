//! Knowing the bank by no more than the hash of its authority's key.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore,
    SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::atm::chain::refuse_long;
use crate::atm::trust::{KeyDigest, key_digest};

/// Takes a server whose chain ends in an authority with this key, and whose own certificate that
/// authority issued for the name asked for. The rest is webpki's work, with that authority as the
/// only root.
#[derive(Debug)]
pub(super) struct PinnedAuthority {
    key: KeyDigest,
    provider: Arc<CryptoProvider>,
    found: Mutex<Option<CertificateDer<'static>>>,
}

impl PinnedAuthority {
    pub(super) fn new(key: KeyDigest, provider: Arc<CryptoProvider>) -> Self {
        Self {
            key,
            provider,
            found: Mutex::new(None),
        }
    }

    /// The authority's certificate, once a server has proved itself by it.
    pub(super) fn found(&self) -> Option<CertificateDer<'static>> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.clone()
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        refuse_long(end_entity, intermediates)?;
        let mut shown = intermediates.iter();
        let authority = shown
            .find(|one| key_digest(one) == Some(self.key) && is_authority(one, now))
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let verified = chains.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        *found = Some(authority.clone().into_owned());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A certificate with the right key may still say anything: what is kept as the bank's must be an
/// authority's, in force, and signed with that very key.
fn is_authority(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok(([], certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let is_ca = matches!(certificate.basic_constraints(), Ok(Some(found)) if found.value.ca);
    let validity = certificate.validity();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let in_force =
        (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now);
    is_ca && in_force && certificate.verify_signature(None).is_ok()
}
