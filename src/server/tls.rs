//! TLS 1.3 with client certificates: what is trusted, who is let in, and how that is renewed.

mod enrolment;
mod list_signatures;
mod lists;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

pub use self::enrolment::Enrolment;
use self::lists::{Found, ListInForce, lists_of};
use super::expiry::{Expiring, Expiry};
use super::watch::{Stamp, stamps};
use crate::config::{ClientAuth, TlsConfig};
use crate::domain::{TerminalName, Timestamp};
use crate::limits;
use crate::pki::{self, PkiError};
use crate::surroundings::Surroundings;
use crate::wire::ALPN;

/// Something is wrong with the certificates or keys.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; mend: make it with gen-certs")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} holds no usable {what}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Others may read a key.
    #[error("the key {path} has mode {mode:04o}: others may read it; mend: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A certificate's time is not now.
    #[error("the certificate {path} {why}; mend: gen-certs renew")]
    NotNow {
        /// The file.
        path: PathBuf,
        /// Over, or not yet begun.
        why: &'static str,
    },
    /// A trusted authority has no list of revoked certificates.
    #[error(
        "{path} has no revocation list of the authority {authority}; mend: gen-certs makes one"
    )]
    NoRevocationList {
        /// The file of lists.
        path: PathBuf,
        /// The authority's name.
        authority: String,
    },
    /// A revocation list is older than the one in force.
    #[error(
        "the revocation list of the authority {authority} in {path} is older than the one in force; mend: bring \
         the newest one"
    )]
    OlderList {
        /// The file of lists.
        path: PathBuf,
        /// The authority's name.
        authority: String,
    },
    /// The issuing authority's files cannot be used.
    #[error(transparent)]
    Issuing(#[from] PkiError),
    /// The issuing authority is not below the bank's.
    #[error("{path} was not issued by {authority}; mend: gen-certs issuing makes one that was")]
    ForeignIssuing {
        /// The issuing authority's certificate.
        path: PathBuf,
        /// The bank's authorities.
        authority: PathBuf,
    },
    /// rustls refused them.
    #[error("{path} cannot be used: {source}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Error,
    },
    /// rustls refused the authorities or lists.
    #[error("{path} cannot be used: {source}")]
    RefusedTrust {
        /// The file.
        path: PathBuf,
        /// Why.
        source: VerifierBuilderError,
    },
}

/// Whom the server trusts and what it shows, loaded from files at one moment.
#[derive(Clone)]
pub struct Trust {
    /// For new connections.
    pub server: Arc<ServerConfig>,
    /// For terminals that enrol themselves, where they may.
    pub enrolment: Option<Arc<Enrolment>>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// The lists of revocations.
    lists: Vec<ListInForce>,
    /// What ends some day: the server's certificate, and where terminals need certificates, each
    /// authority and its revocation list.
    pub expiries: Vec<Expiry>,
    /// What the files looked like just before they were read.
    pub stamps: Vec<Stamp>,
}

impl Trust {
    /// Loads everything anew.
    ///
    /// # Errors
    /// [`TlsError`], naming the file and the mend.
    pub fn load(config: &TlsConfig, clock: &Arc<dyn Surroundings>) -> Result<Self, TlsError> {
        let stamps = stamps(config);
        let chain = certificates(&config.cert)?;
        let mut expiries = vec![Expiry {
            what: Expiring::Certificate,
            of: String::new(),
            ends: check_dates(&config.cert, &chain, &**clock)?,
        }];
        refuse_exposed(&config.key)?;
        let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|_| TlsError::Unusable {
            path: config.key.clone(),
            what: "private key (PKCS#8, PEM)",
        })?;
        let mut lists = Vec::new();
        let issuing = match &config.issuing {
            Some(files) => Some(enrolment::load(config, files, (&mut expiries, &mut lists))?),
            None => None,
        };
        let (issuing, below) =
            issuing.map_or((None, Vec::new()), |(one, below)| (Some(one), below));
        let required = config.client_auth == ClientAuth::Required;
        let verifier = match required || issuing.is_some() {
            false => None,
            true => Some(verifier(config, clock, below, (&mut expiries, &mut lists))?),
        };
        let refused = |source| TlsError::Refused {
            path: config.cert.clone(),
            source,
        };
        let enrolment = match (issuing, &verifier) {
            (Some(one), Some(verifier)) => Some(Enrolment::new(
                config,
                (&chain, &key),
                one,
                (verifier, clock),
            )?),
            _ => None,
        };
        let verifier = verifier.filter(|_| required);
        let verifier =
            verifier.map(|verifier| -> Arc<dyn ClientCertVerifier> { Arc::new(verifier) });
        let server =
            server_config((chain, key), verifier.as_ref(), (clock, ALPN)).map_err(refused)?;
        Ok(Self {
            server: Arc::new(server),
            enrolment: enrolment.map(Arc::new),
            verifier,
            lists,
            expiries,
            stamps,
        })
    }

    /// What to say at `now` of ends that are near or past.
    #[must_use]
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        let now_seconds = now.unix_ms().div_euclid(1_000);
        let near = self.expiries.iter();
        near.filter_map(|expiry| expiry.warning(now_seconds))
            .collect()
    }

    /// The first end of this kind, seconds since 1970 UTC.
    #[must_use]
    pub fn first_end(&self, what: Expiring) -> Option<i64> {
        let kind = self.expiries.iter().filter(|expiry| expiry.what == what);
        kind.map(|expiry| expiry.ends).min()
    }

    /// Whether a chain that was let in before would be let in now.
    #[must_use]
    pub fn still_admits(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> bool {
        let verifier = self.verifier.as_ref();
        verifier.is_none_or(|verifier| admits(verifier, chain, now))
    }

    /// Whether a chain may come for its next certificate.
    #[must_use]
    pub fn admits_to_renew(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> bool {
        let enrolment = self.enrolment.as_ref();
        enrolment.is_some_and(|enrolment| admits(&enrolment.verifier, chain, now))
    }
}

fn admits(
    verifier: &Arc<dyn ClientCertVerifier>,
    chain: &[CertificateDer<'static>],
    now: Timestamp,
) -> bool {
    let moment = unix_time(now);
    chain
        .split_first()
        .is_some_and(|(own, others)| verifier.verify_client_cert(own, others, moment).is_ok())
}

/// TLS 1.3 under one protocol's name. Without a verifier no client certificate is asked for.
fn server_config(
    (chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    verifier: Option<&Arc<dyn ClientCertVerifier>>,
    (clock, alpn): (&Arc<dyn Surroundings>, &[u8]),
) -> Result<ServerConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let time = Arc::new(BankTime(Arc::clone(clock)));
    let builder = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_single_cert(chain, key)?;
    server.alpn_protocols = vec![alpn.to_vec()];
    // No resumption and no early data: every connection proves itself anew.
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.max_early_data_size = 0;
    Ok(server)
}

/// The bank's time, for rustls.
#[derive(Debug)]
struct BankTime(Arc<dyn Surroundings>);

impl TimeProvider for BankTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now()))
    }
}

fn unix_time(moment: Timestamp) -> UnixTime {
    let seconds = u64::try_from(moment.unix_ms().div_euclid(1_000)).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

/// The terminal's name in a chain that the handshake has verified.
#[must_use]
pub fn terminal_of(chain: &[CertificateDer<'_>]) -> Option<TerminalName> {
    pki::terminal_name(chain.first()?).ok()
}

/// The last second, since 1970 UTC, of the first certificate of a chain to end; `None` where there
/// is none.
#[must_use]
pub fn chain_ends(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let ends = chain.iter().filter_map(|one| pki::validity(one).ok());
    ends.map(|(_, ends)| ends).min()
}

/// Whether the certificate came by enrolment: its terminal renews it by itself.
#[must_use]
pub fn renews_itself(chain: &[CertificateDer<'_>]) -> bool {
    let above = chain.get(1).map(|above| pki::CertificateFacts::read(above));
    above.is_some_and(|facts| {
        facts.is_ok_and(|facts| facts.only_for_clients && facts.authorities_below == Some(0))
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let unusable = || TlsError::Unusable {
        path: path.to_owned(),
        what: "certificate (PEM)",
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|_| unusable())?;
    if chain.is_empty() {
        Err(unusable())
    } else {
        Ok(chain)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn check_dates(
    path: &Path,
    chain: &[CertificateDer<'_>],
    clock: &dyn Surroundings,
) -> Result<i64, TlsError> {
    let seconds = |moment: Timestamp| moment.unix_ms().div_euclid(1_000);
    let unusable = || TlsError::Unusable {
        path: path.to_owned(),
        what: "certificate (PEM)",
    };
    let own = chain.first().ok_or_else(unusable)?;
    let (begins, ends) = pki::validity(own).map_err(|_| unusable())?;
    let not_now = |why| TlsError::NotNow {
        path: path.to_owned(),
        why,
    };
    if ends < seconds(clock.now()) {
        return Err(not_now("has ended"));
    }
    if begins > seconds(clock.latest()) {
        return Err(not_now("is not valid yet"));
    }
    Ok(ends)
}

/// Whether a file was handed over by a service manager, whose credentials a group may read.
#[must_use]
pub fn is_credential(path: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|folder| path.starts_with(folder))
}

fn refuse_exposed(path: &Path) -> Result<(), TlsError> {
    let unreadable = |source| TlsError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
    let forbidden = if is_credential(path) { 0o037 } else { 0o077 };
    if mode & forbidden == 0 {
        Ok(())
    } else {
        Err(TlsError::Exposed {
            path: path.to_owned(),
            mode,
        })
    }
}

fn verifier(
    config: &TlsConfig,
    clock: &Arc<dyn Surroundings>,
    below: Vec<CertificateRevocationListDer<'static>>,
    found: Found<'_>,
) -> Result<TerminalVerifier, TlsError> {
    let authorities = certificates(&config.ca)?;
    let kinds = (Expiring::Authority, Expiring::RevocationList);
    let mut lists = lists_of(&config.crl, &authorities, kinds, found)?;
    lists.extend(below);
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        roots
            .add(authority.clone())
            .map_err(|source| TlsError::Refused {
                path: config.ca.clone(),
                source,
            })?;
    }
    let provider = Arc::new(CryptoProvider {
        signature_verification_algorithms: list_signatures::algorithms(),
        ..aws_lc_rs::default_provider()
    });
    let chains = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .with_crls(lists)
        .build()
        .map_err(|source| TlsError::RefusedTrust {
            path: config.ca.clone(),
            source,
        })?;
    Ok(TerminalVerifier {
        chains,
        clock: Arc::clone(clock),
        mandatory: true,
    })
}

/// That the chain is a short one, because webpki bounds its search only loosely; the chain and its
/// revocation by webpki; then what webpki does not ask: that the certificate is for clients in so
/// many words, and names exactly one terminal.
#[derive(Debug, Clone)]
struct TerminalVerifier {
    chains: Arc<dyn ClientCertVerifier>,
    clock: Arc<dyn Surroundings>,
    mandatory: bool,
}

impl TerminalVerifier {
    /// The same, but a client that shows no certificate at all passes too.
    fn may_be_missing(self) -> Self {
        Self {
            mandatory: false,
            ..self
        }
    }

    /// The moment to judge a chain at: `now`, or where the clock is guarded and a certificate begins
    /// later, that beginning, if it may have come. Ends are then judged a little early: never late.
    fn moment(&self, chain: &[&CertificateDer<'_>], now: UnixTime) -> UnixTime {
        let latest = unix_time(self.clock.latest());
        if latest <= now {
            return now;
        }
        let begins = chain.iter().filter_map(|one| pki::validity(one).ok());
        let begins = begins.map(|(begins, _)| begins).max().unwrap_or(0);
        let begins = Timestamp::from_unix_ms(begins.saturating_mul(1_000));
        unix_time(begins).clamp(now, latest)
    }
}

impl ClientCertVerifier for TerminalVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let shown = intermediates.iter().map(|one| one.len());
        let bytes = shown.fold(end_entity.len(), usize::saturating_add);
        if intermediates.len() >= limits::TERMINAL_CHAIN_MAX
            || bytes > limits::TERMINAL_CHAIN_BYTES_MAX
        {
            return Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            ));
        }
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).collect();
        let moment = self.moment(&chain, now);
        let verified = self
            .chains
            .verify_client_cert(end_entity, intermediates, moment)?;
        match pki::terminal_name(end_entity) {
            Ok(_) => Ok(verified),
            Err(_) => Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
