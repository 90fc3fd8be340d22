//! The TLS of `enroll/1`: the server shows its authority too, and a client certificate may be
//! missing, because a terminal that enrols has none yet.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;

use super::lists::{Found, Kept, Lists};
use super::{TerminalVerifier, TlsError, forbidden_mode, own, server_config};
use crate::config::{IssuingFiles, TlsConfig};
use crate::pki::{self, IssuingAuthority};
use crate::server::expiry::Expiring;
use crate::surroundings::Surroundings;
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
        (verifier, clock): (&TerminalVerifier, &Arc<dyn Surroundings>),
    ) -> Result<Self, TlsError> {
        let chain = with_authority(config, chain)?;
        own::refuse_long(&config.cert, &chain)?;
        let optional: Arc<dyn ClientCertVerifier> = Arc::new(verifier.clone().may_be_missing());
        let refused = |source| TlsError::Refused {
            path: config.cert.clone(),
            source,
        };
        let protocol = (clock, ENROLL_ALPN);
        let server = server_config((chain, key.clone_key()), Some(&optional), protocol);
        Ok(Self {
            server: Arc::new(server.map_err(refused)?),
            issuing,
            verifier: Arc::new(verifier.clone()),
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
    let authorities = pki::read_certificates(&config.ca)?;
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
    found: Found<'_>,
) -> Result<(IssuingAuthority, Vec<Kept>), TlsError> {
    let issuing = IssuingAuthority::load(&files.cert, &files.key, forbidden_mode(&files.key))?;
    let ours = |authority: &CertificateDer<'_>| {
        pki::issued_by(issuing.certificate(), authority) == Ok(true)
    };
    if !pki::read_certificates(&config.ca)?.iter().any(ours) {
        return Err(TlsError::ForeignIssuing {
            path: files.cert.clone(),
            authority: config.ca.clone(),
        });
    }
    let own = [(issuing.certificate().clone(), issuing.facts().clone())];
    let kinds = (Expiring::Issuing, Expiring::IssuingList);
    let lists = Lists::read(&files.crl, &own)?.of(&own, kinds, found)?;
    Ok((issuing, lists))
}
