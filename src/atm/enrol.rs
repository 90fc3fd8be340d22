//! How a terminal gets its certificate: the first by a one-time code, each next by the one it has.
//! The private key is made here, and never leaves.

mod exchange;
mod pinned;
mod renewal;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use self::exchange::{ask, check, signing_request};
use self::pinned::PinnedAuthority;
pub use self::renewal::Renewal;
use super::address::Address;
use super::connection::{Deadlines, open};
use super::error::Error;
use super::identity::{self, Pair};
use super::trust::{KeyDigest, read_certificates};
use crate::domain::{EnrolmentCode, TerminalName};
use crate::wire::ENROLL_ALPN;
use crate::wire::enroll::EnrolRequest;

/// What a new terminal was told by the bank's staff, and where it keeps what it gets.
#[derive(Debug)]
pub struct Enrolment {
    /// Where the bank is; the host is also the name that its certificate must have.
    pub address: Address,
    /// SHA-256 of the public key of the bank's authority: all that is known of the bank yet.
    pub ca: KeyDigest,
    /// The one-time code.
    pub code: EnrolmentCode,
    /// Gets `ca.pem` and, in its folder `terminals`, `NAME.pem` and `NAME.key`.
    pub folder: PathBuf,
    /// Files that are there may be replaced.
    pub replace: bool,
    /// How long each step may take.
    pub deadlines: Deadlines,
}

/// A terminal that has its certificate.
#[derive(Debug)]
pub struct Enrolled {
    /// The name that the code was made for.
    pub terminal: TerminalName,
    /// The bank's authority.
    pub ca: PathBuf,
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Enrolment {
    /// Connects, makes sure that it is the bank, and only then says the code.
    ///
    /// The key is on disk before the code is said: where the answer is lost, the same code with the
    /// same key gets the same certificate again for some minutes.
    ///
    /// # Errors
    /// [`Error::NotTheBank`] where the hash does not match: nothing was said then.
    /// [`Error::Refused`] where the bank gives no certificate, [`Error::Exists`] where files are in
    /// the way, and those of connecting and writing.
    pub async fn run(self) -> Result<Enrolled, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let pinned = Arc::new(PinnedAuthority::new(self.ca, Arc::clone(&provider)));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::Settings(format!("TLS 1.3 is not to be had: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&pinned) as _)
            .with_no_client_auth();
        config.alpn_protocols = vec![ENROLL_ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        let opened = open(
            &self.address,
            Arc::new(config),
            ENROLL_ALPN,
            &self.deadlines,
        )
        .await;
        let mut stream = opened.map_err(|error| self.explain(error))?;
        let ca = pinned.found().ok_or_else(|| {
            Error::NotTheBank("it did not show an authority with that key".into())
        })?;
        self.refuse_other_bank(&ca)?;
        let terminals = self.folder.join("terminals");
        identity::make_folder(&terminals)?;
        let pending = terminals.join(".enroll.key");
        let key = identity::key_in(&pending)?;
        let request = EnrolRequest::Enroll {
            csr: signing_request(&key)?,
            code: self.code,
        };
        let chain = ask(&mut stream, &request, &self.deadlines).await?;
        let mut roots = RootCertStore::empty();
        roots
            .add(ca.clone())
            .map_err(|error| Error::NotTheBank(error.to_string()))?;
        let terminal = check(&chain, &key, Arc::new(roots))?;
        keep(&self.folder, &ca, terminal, &chain, &key, self.replace)
    }

    fn explain(&self, error: Error) -> Error {
        match error {
            Error::NotTheBank(reason) => Error::NotTheBank(format!(
                "{reason}; an authority whose key has the SHA-256 {} was expected, and a \
                 certificate for {}; nothing was sent",
                self.ca,
                self.address.host()
            )),
            other => other,
        }
    }

    /// Another bank's authority is not written over: other terminals here may need it.
    fn refuse_other_bank(&self, ca: &CertificateDer<'_>) -> Result<(), Error> {
        let path = self.folder.join("ca.pem");
        if self.replace || !path.exists() {
            return Ok(());
        }
        match read_certificates(&path, "") {
            Ok(known) if known.contains(ca) => Ok(()),
            Ok(_) | Err(_) => Err(Error::Exists { path }),
        }
    }
}

/// Puts the files in their places; the pending key goes once they are there.
fn keep(
    folder: &Path,
    ca: &CertificateDer<'_>,
    terminal: TerminalName,
    chain: &[CertificateDer<'_>],
    key: &KeyPair,
    replace: bool,
) -> Result<Enrolled, Error> {
    let terminals = folder.join("terminals");
    let pair = Pair {
        certificate: terminals.join(format!("{terminal}.pem")),
        key: terminals.join(format!("{terminal}.key")),
    };
    let there = [&pair.certificate, &pair.key]
        .into_iter()
        .find(|path| path.exists());
    if let (false, Some(path)) = (replace, there) {
        return Err(Error::Exists { path: path.clone() });
    }
    let ca_file = folder.join("ca.pem");
    let known = read_certificates(&ca_file, "").is_ok_and(|known| known.contains(ca));
    if !known {
        identity::write(
            &ca_file,
            identity::pem(std::slice::from_ref(ca)).as_bytes(),
            0o644,
        )?;
    }
    pair.replace(chain, key)?;
    // A pending key that stays is of no use to anyone without a code.
    let _ = std::fs::remove_file(terminals.join(".enroll.key"));
    Ok(Enrolled {
        terminal,
        ca: ca_file,
        certificate: pair.certificate,
        key: pair.key,
    })
}
