//! Whether terminals would take the server's own certificate: what each of them would find out at a
//! customer's expense is found out here, by the same rules (PROTOCOL.md, 2.3).

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, Error, RootCertStore};

use super::TlsError;
use super::moments::{judged_at, unix_time};
use crate::config::TlsConfig;
use crate::durable;
use crate::pki::{self, CertificateFacts};
use crate::surroundings::Surroundings;

/// Certificates that our terminal lets a bank show, and their octets together.
const CERTIFICATES_MAX: usize = 4;
const BYTES_MAX: usize = 16_384;

/// Refuses a chain that no terminal would take. Where there is no file of authorities, because
/// terminals need no certificates, it is not asked who issued it.
pub(super) fn refuse_what_terminals_would(
    config: &TlsConfig,
    chain: &[CertificateDer<'static>],
    clock: &dyn Surroundings,
) -> Result<(), TlsError> {
    let refused = |why: String| TlsError::NotForTerminals {
        path: config.cert.clone(),
        why,
    };
    refuse_long(&config.cert, chain)?;
    let Some((own, between)) = chain.split_first() else {
        return Ok(());
    };
    let facts = CertificateFacts::read(own);
    let facts = facts.map_err(|reason| pki::damaged(&config.cert, 1, reason))?;
    let names: Vec<ServerName<'_>> = facts
        .server_names
        .iter()
        .filter_map(|name| ServerName::try_from(name.replacen("*.", "any.", 1)).ok())
        .collect();
    if names.is_empty() {
        let why = "it names no server (subject alternative names of DNS or IP); mend: gen-certs renew --server-name NAME";
        return Err(refused(why.to_owned()));
    }
    if durable::is_absent(&config.ca) {
        return Ok(());
    }
    let mut roots = RootCertStore::empty();
    for authority in pki::read_certificates(&config.ca)? {
        let refused = |source| TlsError::Refused {
            path: config.ca.clone(),
            source,
        };
        roots.add(authority).map_err(refused)?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = verifier.build().map_err(|source| TlsError::RefusedTrust {
        path: config.ca.clone(),
        source,
    })?;
    let now = judged_at(clock, chain.iter(), unix_time(clock.now()));
    let verify = |name: &ServerName<'_>| verifier.verify_server_cert(own, between, name, &[], now);
    let mut refusals = names.iter().map(verify);
    // One name that serves is enough: terminals dial it.
    match refusals.find(Result::is_ok) {
        Some(_) => Ok(()),
        None => {
            let first = names.iter().map(verify).find_map(Result::err);
            Err(refused(first.map_or_else(String::new, |error| {
                words(&error, &facts, config)
            })))
        }
    }
}

/// Refuses what a terminal would not look at.
pub(super) fn refuse_long(path: &Path, chain: &[CertificateDer<'_>]) -> Result<(), TlsError> {
    let bytes: usize = chain.iter().map(|one| one.len()).sum();
    if chain.len() <= CERTIFICATES_MAX && bytes <= BYTES_MAX {
        return Ok(());
    }
    Err(TlsError::NotForTerminals {
        path: path.to_owned(),
        why: format!(
            "with what is above it, it is {} certificates of {bytes} octets, and at most {CERTIFICATES_MAX} of \
             {BYTES_MAX} are looked at; mend: leave out what no terminal needs",
            chain.len()
        ),
    })
}

fn words(error: &Error, facts: &CertificateFacts, config: &TlsConfig) -> String {
    let Error::InvalidCertificate(why) = error else {
        return error.to_string();
    };
    match why {
        CertificateError::UnknownIssuer => format!(
            "no authority in {} issued it, nor one that stands behind it in its file; mend: bring the certificate that \
             the bank's authority issued, and behind it those of the authorities in between",
            config.ca.display()
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not for servers (extended key usage serverAuth); mend: gen-certs renew"
                .to_owned()
        }
        _ if facts.may_sign_certificates => {
            "it is an authority's own (basic constraints CA:TRUE), and that is no \
             server's; mend: have the authority issue one for the server (gen-certs)"
                .to_owned()
        }
        _ => why.to_string(),
    }
}
