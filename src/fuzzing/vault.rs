//! Certificates and keys, made once for the process, because making them takes longer than a run.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use time::OffsetDateTime;

use super::scratch::Scratch;
use crate::config::{ClientAuth, Config, Overrides};
use crate::domain::{TerminalName, Timestamp};
use crate::pki::{Authority, CertificateFolder, MakeRequest};
use crate::server::tls::Trust;
use crate::surroundings::{Surroundings, Virtual};

/// What every certificate begins at, and banks too: 2026-01-01, an hour before midnight.
pub(super) const BEGINNING_MS: i64 = 1_767_308_400_000;

/// Terminals with certificates of the bank's authority.
pub(super) const TERMINALS: [&str; 2] = ["t-1", "t-2"];
/// A hundred years: runs are played at any time.
const DAYS: u32 = 36_500;

/// A terminal's certificate and key.
pub(super) struct Identity {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// A bank's certificates.
pub(super) struct Vault {
    /// The default configuration, where nothing but certificates is named.
    pub(super) config: Config,
    /// The bank's authority.
    pub(super) authority: CertificateDer<'static>,
    /// Its list of revoked certificates; nothing is.
    pub(super) list: CertificateRevocationListDer<'static>,
    /// Of [`TERMINALS`], and one of another authority that calls itself the first of them.
    pub(super) identities: Vec<Identity>,
    required: Trust,
    off: Trust,
}

impl Vault {
    /// The only one.
    pub(super) fn open() -> &'static Self {
        static VAULT: OnceLock<Vault> = OnceLock::new();
        VAULT.get_or_init(Self::make)
    }

    /// What a server trusts, by whether it asks for certificates.
    pub(super) fn trust(&self, client_auth: ClientAuth) -> &Trust {
        match client_auth {
            ClientAuth::Required => &self.required,
            ClientAuth::Off => &self.off,
        }
    }

    fn make() -> Self {
        let scratch = Scratch::new("vault");
        let now = OffsetDateTime::from_unix_timestamp(BEGINNING_MS / 1_000).expect("a moment");
        let folder = CertificateFolder::new(scratch.path().join("certs"), now);
        let names = TERMINALS.map(|name| name.parse::<TerminalName>().expect("a name"));
        let request = MakeRequest {
            terminals: names.to_vec(),
            days: DAYS,
            ..MakeRequest::default()
        };
        folder.make_missing(&request).expect("certificates");
        let mut identities: Vec<_> = names
            .iter()
            .map(|name| Identity {
                certificate: CertificateDer::from_pem_file(folder.terminal_file(name))
                    .expect("a certificate"),
                key: PrivateKeyDer::from_pem_file(folder.terminal_key_file(name)).expect("a key"),
            })
            .collect();
        let stranger = Authority::create(now, DAYS).expect("an authority");
        let issued = stranger.issue_terminal(&names[0], now, DAYS);
        let issued = issued.expect("a certificate");
        identities.push(Identity {
            certificate: issued.der().clone(),
            key: issued.key_der(),
        });
        let named = [("BANK__TLS__DIR".into(), folder.path().into())];
        let loaded = Config::load(None, named.into_iter(), &Overrides::default());
        let config = loaded.expect("a configuration").config;
        let trust = |client_auth| {
            let mut tls = config.tls.clone();
            tls.client_auth = client_auth;
            let moment = Timestamp::from_unix_ms(BEGINNING_MS);
            let clock: Arc<dyn Surroundings> = Arc::new(Virtual::new(moment, 1));
            Trust::load(&tls, &clock).expect("certificates")
        };
        Self {
            authority: CertificateDer::from_pem_file(folder.authority_file())
                .expect("a certificate"),
            list: CertificateRevocationListDer::from_pem_file(folder.revocation_file())
                .expect("a list"),
            identities,
            required: trust(ClientAuth::Required),
            off: trust(ClientAuth::Off),
            config,
        }
    }
}
