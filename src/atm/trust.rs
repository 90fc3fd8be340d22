//! Whom the terminal trusts (the given CA and nobody else), and what it proves itself with.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use super::chain::ShortChain;
use super::error::Error;
use super::identity::Pair;
use crate::domain::TerminalName;
use crate::domain::pem::{self, Block, Wanted};
use crate::durable;
use crate::wire::ALPN;

/// Larger certificate and key files are none.
const FILE_BYTES_MAX: u64 = 1_048_576;
const URN: &str = "urn:atm:terminal:";
const MEND_CA: &str = "run it in the folder with certs/, or name the bank's ca.pem with --ca FILE";
const MEND_IDENTITY: &str = "give this terminal's files with --cert FILE --key FILE";

/// The SHA-256 of a public key (its SubjectPublicKeyInfo).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest([u8; 32]);

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("64 hexadecimal digits are needed")]
pub struct NotADigest;

impl std::str::FromStr for KeyDigest {
    type Err = NotADigest;

    /// Hexadecimal digits in any case, colons allowed between bytes, as tools print them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.replace(':', "").as_bytes());
        let bytes = bytes.map_err(|_| NotADigest)?;
        bytes.try_into().map(Self).map_err(|_| NotADigest)
    }
}

impl std::fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl std::fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Where the certificates are.
#[derive(Debug, Clone)]
pub struct TrustFiles {
    /// The bank's CA; nothing else is trusted.
    pub ca: PathBuf,
    /// The terminal's certificate chain and private key, where it has them.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Where there are any, only CA certificates with one of these public keys are trusted: one,
    /// or while the bank changes its CA, the old and the new.
    pub pins: Vec<KeyDigest>,
}

/// The settings of every connection, read and checked.
#[derive(Debug, Clone)]
pub struct Trust {
    /// TLS 1.3, ALPN `atm/1`, no resumption, no early data.
    pub config: Arc<ClientConfig>,
    /// The public keys of the trusted CAs: which bank this is.
    pub bank: Vec<KeyDigest>,
    /// The certificates that the terminal shows, its own first; empty without one.
    pub chain: Vec<CertificateDer<'static>>,
    /// The name in the terminal's certificate; `None` without one.
    pub terminal: Option<TerminalName>,
}

impl TrustFiles {
    /// The first certificate by name with its key in `folder`; `None` where there is none.
    #[must_use]
    pub fn first_identity(folder: &Path) -> Option<(PathBuf, PathBuf)> {
        let mut certificates: Vec<PathBuf> = std::fs::read_dir(folder)
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "pem"))
            .collect();
        certificates.sort();
        certificates.into_iter().find_map(|certificate| {
            let key = certificate.with_extension("key");
            key.exists().then_some((certificate, key))
        })
    }

    /// Reads and checks the files.
    ///
    /// # Errors
    /// [`Error::NoFile`], [`Error::Settings`], and [`Error::NotTheBank`] where no CA has the
    /// pinned public key.
    pub fn load(&self) -> Result<Trust, Error> {
        let (roots, bank) = self.authorities()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chains = ShortChain::under(roots, Arc::clone(&provider))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::Settings(format!("TLS 1.3 is not to be had: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(chains));
        let (mut config, chain) = match &self.identity {
            None => (builder.with_no_client_auth(), Vec::new()),
            Some((certificate, key)) => {
                Pair {
                    certificate: certificate.clone(),
                    key: key.clone(),
                }
                .recover();
                let chain = read_certificates(certificate, MEND_IDENTITY)?;
                let config = builder
                    .with_client_auth_cert(chain.clone(), read_key(key)?)
                    .map_err(|error| {
                        Error::Settings(format!(
                            "{} and {} do not make a pair: {error}",
                            certificate.display(),
                            key.display()
                        ))
                    })?;
                (config, chain)
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(Trust {
            config: Arc::new(config),
            bank,
            terminal: chain.first().and_then(|leaf| terminal_name(leaf)),
            chain,
        })
    }

    /// The trusted CAs alone.
    pub(super) fn roots(&self) -> Result<Arc<RootCertStore>, Error> {
        self.authorities().map(|(roots, _)| Arc::new(roots))
    }

    fn authorities(&self) -> Result<(RootCertStore, Vec<KeyDigest>), Error> {
        let (mut roots, mut bank) = (RootCertStore::empty(), Vec::new());
        for certificate in read_certificates(&self.ca, MEND_CA)? {
            let unusable =
                |error: String| Error::Settings(format!("{}: {error}", self.ca.display()));
            let digest = key_digest(&certificate)
                .ok_or_else(|| unusable("a certificate in it cannot be read".into()))?;
            if !self.pins.is_empty() && !self.pins.contains(&digest) {
                continue;
            }
            roots
                .add(certificate)
                .map_err(|error| unusable(error.to_string()))?;
            bank.push(digest);
        }
        if bank.is_empty() {
            let pins: Vec<String> = self.pins.iter().map(ToString::to_string).collect();
            return Err(Error::NotTheBank(format!(
                "no certificate in {} has the pinned public key {}",
                self.ca.display(),
                pins.join(" or ")
            )));
        }
        Ok((roots, bank))
    }
}

fn open(path: &Path, mend: &'static str) -> Result<File, Error> {
    durable::open(path).map_err(|source| Error::NoFile {
        path: path.into(),
        source,
        mend,
    })
}

fn read(file: &File, path: &Path, mend: &'static str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(Vec::new());
    let size_bytes = file.metadata().map_or(0, |metadata| metadata.len());
    if size_bytes > FILE_BYTES_MAX {
        return Err(Error::Settings(format!(
            "{} is too large to be a PEM file",
            path.display()
        )));
    }
    // Room for all of it at once, so that growing leaves no copy of a key behind.
    bytes.reserve_exact(usize::try_from(size_bytes).unwrap_or(0).saturating_add(32));
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::NoFile {
            path: path.into(),
            source,
            mend,
        })?;
    Ok(bytes)
}

pub(super) fn read_certificates(
    path: &Path,
    mend: &'static str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = read(&open(path, mend)?, path, mend)?;
    let found = blocks(&bytes, path, Wanted::Certificates)?;
    Ok(found.into_iter().map(|block| block.der.into()).collect())
}

fn blocks(bytes: &[u8], path: &Path, wanted: Wanted) -> Result<Vec<Block>, Error> {
    let unusable = |fault| Error::Settings(format!("{}: {fault}", path.display()));
    pem::read(bytes, wanted).map_err(unusable)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let file = open(path, MEND_IDENTITY)?;
    let metadata = file.metadata().map_err(|source| Error::NoFile {
        path: path.into(),
        source,
        mend: MEND_IDENTITY,
    })?;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    if !is_private(metadata.mode(), path, credentials.as_deref()) {
        let name = path.display();
        return Err(Error::Settings(format!(
            "{name} is a private key that others may read; mend it with: chmod 600 {name}"
        )));
    }
    let bytes = read(&file, path, MEND_IDENTITY)?;
    let found = blocks(&bytes, path, Wanted::PrivateKey)?.into_iter().next();
    let key = found.and_then(|key| PrivateKeyDer::try_from(key.der).ok());
    key.ok_or_else(|| {
        Error::Settings(format!(
            "{} has no private key that can be used: ECDSA, Ed25519 or RSA",
            path.display()
        ))
    })
}

/// Whether nobody else may use the file; the group may read what the system's own credentials
/// folder holds.
fn is_private(mode: u32, path: &Path, credentials: Option<&Path>) -> bool {
    let among_credentials = credentials
        .and_then(|folder| folder.canonicalize().ok())
        .is_some_and(|folder| {
            path.canonicalize()
                .is_ok_and(|path| path.starts_with(folder))
        });
    let forbidden = if among_credentials { 0o037 } else { 0o077 };
    mode & forbidden == 0
}

pub(super) fn key_digest(certificate: &CertificateDer<'_>) -> Option<KeyDigest> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let digest = digest::digest(&digest::SHA256, certificate.public_key().raw);
    Some(KeyDigest(digest.as_ref().try_into().ok()?))
}

pub(super) fn terminal_name(certificate: &CertificateDer<'_>) -> Option<TerminalName> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let name = names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(URN),
            _ => None,
        })?;
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_others_may_read_is_refused_unless_it_is_a_credential() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("terminal.key");
        std::fs::write(&path, "").unwrap();
        assert!(is_private(0o100_600, &path, None) && is_private(0o100_400, &path, None));
        assert!(!is_private(0o100_640, &path, None) && !is_private(0o100_604, &path, None));
        assert!(is_private(0o100_440, &path, Some(folder.path())));
        assert!(!is_private(0o100_444, &path, Some(folder.path())));
        assert!(!is_private(0o100_460, &path, Some(folder.path())));
        assert!(!is_private(0o100_440, &path, Some(Path::new("/nowhere"))));
    }

    #[test]
    fn digests_are_read_with_and_without_colons_in_any_case() {
        let text = "0aFF".repeat(16);
        let digest: KeyDigest = text.parse().unwrap();
        assert_eq!(digest.to_string(), text.to_lowercase());
        assert_eq!("0a:ff".repeat(16).parse::<KeyDigest>(), Ok(digest));
        for text in ["", "0a", &"0g".repeat(32), &"é".repeat(32)] {
            assert_eq!(text.parse::<KeyDigest>(), Err(NotADigest));
        }
    }

    #[test]
    fn the_first_terminal_by_name_that_has_a_key_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(TrustFiles::first_identity(folder.path()), None);
        for name in ["b.pem", "b.key", "a.pem", "c.pem", "c.key"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let (certificate, key) = TrustFiles::first_identity(folder.path()).unwrap();
        assert_eq!(certificate, folder.path().join("b.pem"));
        assert_eq!(key, folder.path().join("b.key"));
    }
}
