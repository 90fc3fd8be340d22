//! TLS 1.3 with client certificates: what is trusted, who is let in, and how that is renewed.

mod chains;
mod enrolment;
mod list_signatures;
mod lists;
mod moments;
mod own;
mod remembered;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};

pub use self::enrolment::Enrolment;
use self::lists::ListInForce;
use self::moments::{BankTime, check_dates, judged_at, unix_time};
pub use self::remembered::ListMemory;
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
    /// A file is not there, or something in it would not count.
    #[error(transparent)]
    Files(#[from] PkiError),
    /// No terminal would take the server's certificate.
    #[error("{path}: no terminal would take it: {why}")]
    NotForTerminals {
        /// The file.
        path: PathBuf,
        /// Why, and what mends it.
        why: String,
    },
    /// Two authorities have one name and different keys.
    #[error(
        "{path} has two authorities of the name {authority} with different keys, and lists go by the name; mend: \
         give the newer one a name of its own"
    )]
    OneName {
        /// The authorities' file.
        path: PathBuf,
        /// Their name.
        authority: String,
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
    /// Which of two revocation lists is the newer one cannot be told.
    #[error(
        "{path}: of two revocation lists of the authority {authority} (in it, or one in it and the one in force) \
         neither can be told to be newer: number and date contradict each other, or are the same; mend: bring one \
         list whose number and date are both greater"
    )]
    UndecidedList {
        /// The file of lists.
        path: PathBuf,
        /// The authority's name.
        authority: String,
    },
    /// A revocation list is older than the one that was in force before this start, or may be.
    #[error(
        "{source}; what was in force before this start stands in {path}: where the CA began anew, remove that file",
        path = path.display()
    )]
    OlderThanRemembered {
        /// Where it is kept what was in force.
        path: PathBuf,
        /// Which list, and why.
        source: Box<TlsError>,
    },
    /// It cannot be read which lists were in force.
    #[error(
        "{path}: cannot be read ({source}), so that nothing tells whether the revocation lists are older than those that \
         were in force; mend: {mend}",
        path = path.display(),
        mend = match source.raw_os_error() {
            Some(_) => "see to its owner and mode, and to the disk",
            None => "see that they are the newest, and remove it",
        }
    )]
    Forgotten {
        /// Where it is kept what was in force.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A revocation list is of a kind that no certificate can be looked up in.
    #[error("{path}: the revocation list of {authority} cannot be used: {source}")]
    RefusedList {
        /// The file of lists.
        path: PathBuf,
        /// The authority's name.
        authority: String,
        /// Why.
        source: VerifierBuilderError,
    },
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
    /// What else should be known, in words.
    pub(in crate::server) notices: Vec<String>,
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
        let chain = pki::read_certificates(&config.cert)?;
        let mut expiries = vec![Expiry {
            what: Expiring::Certificate,
            of: String::new(),
            ends: check_dates(&config.cert, &chain, &**clock)?,
        }];
        let key = pki::read_private_key(&config.key, forbidden_mode(&config.key))?;
        own::refuse_what_terminals_would(config, &chain, &**clock)?;
        let mut lists = Vec::new();
        let mut notices = Vec::new();
        let issuing = match &config.issuing {
            Some(files) => Some(enrolment::load(config, files, (&mut expiries, &mut lists))?),
            None => None,
        };
        let (issuing, below) =
            issuing.map_or((None, Vec::new()), |(one, below)| (Some(one), below));
        let required = config.client_auth == ClientAuth::Required;
        let verifier = match required || issuing.is_some() {
            false => None,
            true => {
                let found = (&mut expiries, &mut lists);
                let chains = chains::verifier(config, below, found, &mut notices)?;
                Some(TerminalVerifier {
                    chains,
                    clock: Arc::clone(clock),
                    mandatory: true,
                })
            }
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
            notices,
            stamps,
        })
    }

    /// What to say at `now` of ends that are near or past.
    #[must_use]
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        let now_seconds = now.unix_ms().div_euclid(1_000);
        let near = self.expiries.iter();
        let near = near.filter_map(|expiry| expiry.warning(now_seconds));
        self.notices.iter().cloned().chain(near).collect()
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

/// Whether a file was handed over by a service manager, whose credentials a group may read. Where it
/// really lies counts, not how it is called.
#[must_use]
pub fn is_credential(path: &Path) -> bool {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let folder = folder.and_then(|folder| folder.canonicalize().ok());
    folder.is_some_and(|folder| {
        path.canonicalize()
            .is_ok_and(|path| path.starts_with(folder))
    })
}

/// The bits that the mode of a key's file must not have.
#[must_use]
pub fn forbidden_mode(key: &Path) -> u32 {
    if is_credential(key) { 0o037 } else { 0o077 }
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
        let chain = std::iter::once(end_entity).chain(intermediates);
        let moment = judged_at(&*self.clock, chain, now);
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
