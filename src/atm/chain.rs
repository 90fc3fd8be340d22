//! A bank's chain of certificates is a short one, because the search for a way through crafted ones
//! can take minutes, and nobody else is served meanwhile.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::error::Error as Failure;

/// Certificates that a bank may show: its own, up to two authorities' in between, and under `enroll/1`
/// the CA itself.
const CERTIFICATES_MAX: usize = 4;
/// All of them together, bytes.
const BYTES_MAX: usize = 16_384;

/// Refuses a longer chain before anything in it is looked at.
pub(super) fn refuse_long(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), Error> {
    let lengths = intermediates.iter().map(|one| one.len());
    let bytes = lengths.fold(end_entity.len(), usize::saturating_add);
    if intermediates.len() >= CERTIFICATES_MAX || bytes > BYTES_MAX {
        let why = CertificateError::ApplicationVerificationFailure;
        return Err(Error::InvalidCertificate(why));
    }
    Ok(())
}

/// A bank with a short chain to one of these authorities; all but the length is webpki's work.
#[derive(Debug)]
pub(super) struct ShortChain(Arc<WebPkiServerVerifier>);

impl ShortChain {
    pub(super) fn under(
        roots: RootCertStore,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Failure> {
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Failure::Settings(error.to_string()))?;
        Ok(Self(chains))
    }
}

impl ServerCertVerifier for ShortChain {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        refuse_long(end_entity, intermediates)?;
        self.0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_certificates_of_sixteen_kib_are_looked_at_and_no_more() {
        let of = |bytes: usize| CertificateDer::from(vec![0; bytes]);
        let refused = |own: usize, others: &[usize]| {
            let others: Vec<_> = others.iter().map(|bytes| of(*bytes)).collect();
            refuse_long(&of(own), &others).is_err()
        };
        assert!(!refused(1_000, &[1_000; 3]) && !refused(16_384, &[]));
        assert!(!refused(4_096, &[4_096; 3]));
        assert!(refused(1_000, &[1_000; 4]) && refused(16_385, &[]));
        assert!(refused(4_097, &[4_096; 3]) && refused(1, &[0; 300]));
    }
}
