//! The TLS of `enroll/1`: the server shows its authority too, and a client certificate may be
//! missing, because a terminal that enrols has none yet.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};

use super::{TlsError, certificates, lists_of, refuse_exposed, server_config};
use crate::config::{IssuingFiles, TlsConfig};
use crate::pki::{self, IssuingAuthority};
use crate::wire::ENROLL_ALPN;

/// What a server needs to give terminals their certificates.
pub struct Enrolment {
    /// For connections that ask for `enroll/1`.
    pub server: Arc<ServerConfig>,
    /// Who signs.
    pub issuing: IssuingAuthority,
    /// Lets in whom `atm/1` would.
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
}

impl Enrolment {
    pub(super) fn new(
        config: &TlsConfig,
        (chain, key): (&[CertificateDer<'static>], &PrivateKeyDer<'static>),
        issuing: IssuingAuthority,
        verifier: &Arc<dyn ClientCertVerifier>,
    ) -> Result<Self, TlsError> {
        let chain = with_authority(config, chain)?;
        let optional: Arc<dyn ClientCertVerifier> = Arc::new(MayBeMissing(Arc::clone(verifier)));
        let refused = |source| TlsError::Refused {
            path: config.cert.clone(),
            source,
        };
        let server = server_config((chain, key.clone_key()), Some(&optional), ENROLL_ALPN);
        Ok(Self {
            server: Arc::new(server.map_err(refused)?),
            issuing,
            verifier: Arc::clone(verifier),
        })
    }
}

/// The server's chain up to the authority itself, so that a terminal that knows no more of the bank
/// than the hash of its key finds that key in it.
fn with_authority(
    config: &TlsConfig,
    chain: &[CertificateDer<'static>],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let mut whole = chain.to_vec();
    let authorities = certificates(&config.ca)?;
    let above = chain.last().and_then(|last| {
        let issued = |authority: &&CertificateDer<'_>| pki::issued_by(last, authority) == Ok(true);
        authorities.iter().find(issued)
    });
    whole.extend(above.filter(|above| !chain.contains(above)).cloned());
    Ok(whole)
}

/// The issuing authority, known to be one of the bank's, and the list of what it revoked.
pub(super) fn load(
    config: &TlsConfig,
    files: &IssuingFiles,
    now_seconds: i64,
    warnings: &mut Vec<String>,
) -> Result<(IssuingAuthority, Vec<CertificateRevocationListDer<'static>>), TlsError> {
    refuse_exposed(&files.key)?;
    let issuing = IssuingAuthority::load(&files.cert, &files.key)?;
    let ours = |authority: &CertificateDer<'_>| {
        pki::issued_by(issuing.certificate(), authority) == Ok(true)
    };
    if !certificates(&config.ca)?.iter().any(ours) {
        return Err(TlsError::ForeignIssuing {
            path: files.cert.clone(),
            authority: config.ca.clone(),
        });
    }
    let facts = issuing.facts();
    if facts.not_after < now_seconds || facts.not_before > now_seconds {
        warnings.push(format!(
            "the issuing authority {} is not in force: no terminal can enrol, and those that did \
             are not let in; mend: gen-certs renew",
            files.cert.display()
        ));
    }
    let own = [issuing.certificate().clone()];
    let lists = lists_of(&files.crl, &own, now_seconds, warnings)?;
    Ok((issuing, lists))
}

/// A verifier that also lets a client pass that shows no certificate at all; one that is shown is
/// looked at as ever.
#[derive(Debug)]
struct MayBeMissing(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for MayBeMissing {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.verify_client_cert(end_entity, intermediates, now)
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
