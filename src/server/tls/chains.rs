//! Which authorities vouch for terminals, and the lists that their certificates are looked up in.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};

use super::lists::{Authority, Found, Kept, Lists};
use super::{TlsError, list_signatures};
use crate::config::TlsConfig;
use crate::pki;
use crate::server::expiry::Expiring;

/// Verifies chains to the configured authorities, and each certificate in them against the list of who
/// issued it; `below` are further lists.
pub(super) fn verifier(
    config: &TlsConfig,
    below: Vec<Kept>,
    (expiries, in_force): Found<'_>,
    notices: &mut Vec<String>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let authorities = pki::read_authorities(&config.ca)?;
    refuse_one_name(config, &authorities)?;
    let lists = Lists::read(&config.crl, &authorities)?;
    let kinds = (Expiring::Authority, Expiring::RevocationList);
    let others = lists.of_others(&authorities, kinds.1, (expiries, in_force))?;
    let mut kept = lists.of(&authorities, kinds, (expiries, in_force))?;
    kept.extend(others);
    kept.extend(below);
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        // webpki trusts what it is given, and asks no list about it.
        if let Some(above) = revoked_by(authority, &authorities, &lists)? {
            notices.push(format!(
                "the authority {} in {} is revoked by {above} and not trusted; mend: take it out",
                authority.1.subject,
                config.ca.display()
            ));
            continue;
        }
        let refused = |source| TlsError::Refused {
            path: config.ca.clone(),
            source,
        };
        roots.add(authority.0.clone()).map_err(refused)?;
    }
    let roots = Arc::new(roots);
    build(&roots, &kept).map_err(|source| {
        let bad = kept.chunks(1).find(|one| build(&roots, one).is_err());
        match bad.and_then(<[Kept]>::first) {
            Some(list) => TlsError::RefusedList {
                path: list.path.clone(),
                authority: list.authority.clone(),
                source,
            },
            None => TlsError::RefusedTrust {
                path: config.ca.clone(),
                source,
            },
        }
    })
}

fn build(
    roots: &Arc<RootCertStore>,
    lists: &[Kept],
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let provider = Arc::new(CryptoProvider {
        signature_verification_algorithms: list_signatures::algorithms(),
        ..aws_lc_rs::default_provider()
    });
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider)
        .with_crls(lists.iter().map(|list| list.der.clone()))
        .build()
}

/// Lists are found by their issuer's name, so that of two such authorities one's terminals would be
/// looked up in the other's list.
fn refuse_one_name(config: &TlsConfig, authorities: &[Authority]) -> Result<(), TlsError> {
    let clashes = |(_, one): &&Authority| {
        let mut others = authorities.iter();
        others.any(|(_, other)| one.subject_der == other.subject_der && one.spki != other.spki)
    };
    match authorities.iter().find(clashes) {
        None => Ok(()),
        Some((_, facts)) => Err(TlsError::OneName {
            path: config.ca.clone(),
            authority: facts.subject.clone(),
        }),
    }
}

/// The name of the other authority here that issued this one and has revoked it.
fn revoked_by<'a>(
    (der, facts): &Authority,
    authorities: &'a [Authority],
    lists: &Lists<'_>,
) -> Result<Option<&'a str>, TlsError> {
    for (above, above_facts) in authorities {
        if above == der || pki::issued_by(der, above) != Ok(true) {
            continue;
        }
        let newest = lists.newest(&above_facts.subject_der)?;
        let mut revoked = newest.iter().flat_map(|list| &list.facts.revoked);
        if revoked.any(|one| one.serial == facts.serial) {
            return Ok(Some(&above_facts.subject));
        }
    }
    Ok(None)
}
