//! The terminal's own files, certificate and key: two files that must change as one.
//!
//! A new pair is written beside the old one under names of its own (`.NAME.next`), the certificate
//! first; then the key takes its place, then the certificate. Whatever is cut off in between is
//! finished or undone by the next that reads: a new certificate that fits the key in place belongs
//! there, anything else left over is of no use. The key of a renewal waits in `.NAME.renew` for its
//! certificate.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::rand;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::error::Error;
use crate::domain::pem::{self, Wanted};
use crate::durable::{self, Lock, beside};

/// A reader waits so long for a writer in the middle of its two renames.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// A certificate chain takes no more, nor does a key, in PEM.
const FILE_BYTES: usize = 16_384;

/// A terminal's certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PKCS#8, PEM.
    pub key: PathBuf,
}

impl Pair {
    /// Puts a new pair in the old one's place.
    ///
    /// # Errors
    /// [`Error::Write`]; the old pair is as it was then, or where the certificate alone cannot take its
    /// place, it waits beside for the next that reads or writes. Where all that failed was to make the last
    /// name outlast a power cut, the new pair is in place.
    pub(super) fn replace(&self, chain: &[CertificateDer<'_>], key: &KeyPair) -> Result<(), Error> {
        let _lock = self.lock(true)?;
        self.settle()?;
        let (next_certificate, next_key) = (next(&self.certificate), next(&self.key));
        let key_pem = Zeroizing::new(key.serialize_pem());
        write(&next_certificate, pem(chain).as_bytes(), 0o644)?;
        write(&next_key, key_pem.as_bytes(), 0o600)?;
        rename(&next_key, &self.key)?;
        rename(&next_certificate, &self.certificate)?;
        // What it was asked for with is in place now, and another's key has nothing to do here.
        let _ = fs::remove_file(self.pending());
        Ok(())
    }

    /// The key of the next certificate. It stays on disk until that certificate is in place, so that
    /// where answers are lost each try asks with the same.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn next_key(&self) -> Result<KeyPair, Error> {
        let _lock = self.lock(true)?;
        let pending = self.pending();
        let key = key_in(&pending)?;
        if !is_for(&self.certificate, &key) {
            return Ok(key);
        }
        // It served, and was cut off before it could be removed.
        let key = new_key()?;
        write_key(&pending, &key)?;
        Ok(key)
    }

    /// The next certificate is asked for with another key: what came for this one is of no use.
    pub(super) fn forget_next_key(&self) {
        let _ = fs::remove_file(self.pending());
    }

    /// Without `make` there must be a lock file already.
    fn lock(&self, make: bool) -> Result<Lock, Error> {
        let lock = Lock::take(&beside(&self.certificate, "lock"), make, LOCK_WAIT);
        lock.map_err(|error| failed(&self.certificate, error))
    }

    fn pending(&self) -> PathBuf {
        beside(&self.key, "renew")
    }

    /// Whether a new pair could be put here, told by writing as much as it can take.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn try_writing(&self) -> Result<(), Error> {
        let _lock = self.lock(true)?;
        self.settle()?;
        // Random, so that no file system makes less of it.
        let mut content = vec![0; FILE_BYTES];
        rand::fill(&mut content)
            .map_err(|_| Error::Settings("no random bytes can be had".into()))?;
        let paths = [next(&self.certificate), next(&self.key)];
        let tried = paths
            .iter()
            .try_for_each(|path| write(path, &content, 0o600));
        let mut there = paths.iter().filter(|path| path.exists());
        let removed =
            there.try_for_each(|path| fs::remove_file(path).map_err(|error| failed(path, error)));
        tried.and(removed)
    }

    /// Finishes or undoes what was cut off, and waits for one who is at it. Does nothing where nobody
    /// ever replaced the pair.
    pub(super) fn recover(&self) {
        if let Ok(_lock) = self.lock(false) {
            // Where a certificate cannot take its place now, it waits.
            let _ = self.settle();
        }
    }

    /// The same, for who holds the lock. Nothing may be begun before it is done: the certificate
    /// beside may be the only one that fits the key.
    fn settle(&self) -> Result<(), Error> {
        let (next_certificate, next_key) = (next(&self.certificate), next(&self.key));
        if next_certificate.exists() && !next_key.exists() && self.fits(&next_certificate) {
            rename(&next_certificate, &self.certificate)?;
        }
        for left in [next_certificate, next_key] {
            let _ = fs::remove_file(left);
        }
        Ok(())
    }

    /// Whether the certificate belongs to the key that is in place.
    fn fits(&self, certificate: &Path) -> bool {
        read_key(&self.key).is_some_and(|key| is_for(certificate, &key))
    }
}

/// Whether the first certificate of a file is for this key.
fn is_for(certificate: &Path, key: &KeyPair) -> bool {
    let found = durable::read(certificate).ok();
    let found = found.and_then(|text| pem::read(&text, Wanted::Certificates).ok());
    let own = found.and_then(|found| found.into_iter().next());
    own.is_some_and(|own| {
        X509Certificate::from_der(&own.der)
            .is_ok_and(|(_, own)| own.public_key().raw == key.subject_public_key_info())
    })
}

/// The key in a file; `None` where there is none that can be used.
fn read_key(path: &Path) -> Option<KeyPair> {
    let text = durable::read(path).map(Zeroizing::new).ok()?;
    let key = pem::read(&text, Wanted::PrivateKey)
        .ok()?
        .into_iter()
        .next()?;
    KeyPair::try_from(&PrivateKeyDer::try_from(key.der).ok()?).ok()
}

/// The key in a file, made there, mode 0600, where there is none.
pub(super) fn key_in(path: &Path) -> Result<KeyPair, Error> {
    if let Some(key) = read_key(path) {
        return Ok(key);
    }
    let key = new_key()?;
    write_key(path, &key)?;
    Ok(key)
}

fn write_key(path: &Path, key: &KeyPair) -> Result<(), Error> {
    write(path, Zeroizing::new(key.serialize_pem()).as_bytes(), 0o600)
}

/// A new key: ECDSA P-256.
fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(|error| Error::Settings(format!("no key can be made: {error}")))
}

/// Makes a folder that its owner alone can enter, and those above it.
pub(super) fn make_folder(path: &Path) -> Result<(), Error> {
    durable::make_folder(path).map_err(|error| failed(path, error))
}

/// Writes a file so that its place holds the old content or the new, never a part.
pub(super) fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    durable::replace(path, content, mode).map_err(|error| failed(path, error))
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    durable::rename(from, to).map_err(|error| failed(to, error))
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Write {
        path: path.to_owned(),
        source,
    }
}

fn next(path: &Path) -> PathBuf {
    beside(path, "next")
}

/// The chain as PEM.
pub(super) fn pem(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|one| pem::certificate(one)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn chain(key: &KeyPair) -> Vec<CertificateDer<'static>> {
        let params = rcgen::CertificateParams::default();
        vec![params.self_signed(key).unwrap().into()]
    }

    fn made(folder: &Path) -> (Pair, KeyPair) {
        let pair = Pair {
            certificate: folder.join("a.pem"),
            key: folder.join("a.key"),
        };
        let key = new_key().unwrap();
        pair.replace(&chain(&key), &key).unwrap();
        (pair, key)
    }

    fn is_pair_of(pair: &Pair, key: &KeyPair) -> bool {
        pair.fits(&pair.certificate)
            && fs::read_to_string(&pair.key).unwrap() == key.serialize_pem()
            && !next(&pair.certificate).exists()
            && !next(&pair.key).exists()
    }

    #[test]
    fn a_replacement_cut_off_anywhere_leaves_a_pair_that_works() {
        let folder = tempfile::tempdir().unwrap();
        let (pair, old) = made(folder.path());
        let new = new_key().unwrap();
        let certificate = pem(&chain(&new));
        let (next_certificate, next_key) = (next(&pair.certificate), next(&pair.key));
        // In the middle of the first file, behind it, in the middle of the second, behind it.
        let half = &certificate[..certificate.len() / 2];
        for (written, key_written) in [
            (half, None),
            (&certificate, None),
            (&certificate, Some("-----BEGIN")),
            (&certificate, Some(new.serialize_pem().as_str())),
        ] {
            fs::write(&next_certificate, written).unwrap();
            if let Some(text) = key_written {
                fs::write(&next_key, text).unwrap();
            }
            assert!(pair.fits(&pair.certificate));
            pair.recover();
            assert!(is_pair_of(&pair, &old));
        }
        // Between the two renames.
        fs::write(&next_certificate, &certificate).unwrap();
        fs::write(&pair.key, new.serialize_pem()).unwrap();
        assert!(!pair.fits(&pair.certificate));
        pair.recover();
        assert!(is_pair_of(&pair, &new));
    }

    #[test]
    fn a_certificate_that_could_not_take_its_place_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let (pair, _) = made(folder.path());
        let new = new_key().unwrap();
        let next = pair.next_key().unwrap();
        // What stands there cannot be written over.
        fs::remove_file(&pair.certificate).unwrap();
        fs::create_dir(&pair.certificate).unwrap();
        assert!(pair.replace(&chain(&new), &new).is_err());
        let waits = || pair.fits(&super::next(&pair.certificate));
        assert!(waits());
        pair.recover();
        assert!(waits());
        assert!(pair.try_writing().is_err() && waits());
        assert!(pair.replace(&chain(&next), &next).is_err() && waits());
        fs::remove_dir(&pair.certificate).unwrap();
        pair.try_writing().unwrap();
        assert!(is_pair_of(&pair, &new));
        // So it does where the next pair comes at once.
        let (older, newer) = (pem(&chain(&new)), new_key().unwrap());
        fs::write(super::next(&pair.certificate), older).unwrap();
        fs::remove_file(&pair.certificate).unwrap();
        pair.replace(&chain(&newer), &newer).unwrap();
        assert!(is_pair_of(&pair, &newer));
    }

    #[test]
    fn a_key_is_for_its_owner_alone_and_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/key");
        make_folder(path.parent().unwrap()).unwrap();
        let key = key_in(&path).unwrap();
        assert_eq!(key_in(&path).unwrap().serialize_pem(), key.serialize_pem());
        let (pair, _) = made(folder.path());
        for file in [&path, &pair.key] {
            let mode = fs::metadata(file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn the_next_key_is_the_same_until_its_certificate_is_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let (pair, old) = made(folder.path());
        let next = pair.next_key().unwrap();
        assert_ne!(next.serialize_pem(), old.serialize_pem());
        for _ in 0..3 {
            pair.try_writing().unwrap();
            pair.recover();
            let again = pair.next_key().unwrap();
            assert_eq!(again.serialize_pem(), next.serialize_pem());
        }
        let mode = fs::metadata(pair.pending()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        pair.replace(&chain(&next), &next).unwrap();
        assert!(!pair.pending().exists());
        // One that was left beside its own certificate is not used for another.
        write_key(&pair.pending(), &next).unwrap();
        let other = pair.next_key().unwrap();
        assert_ne!(other.serialize_pem(), next.serialize_pem());
        let again = pair.next_key().unwrap();
        assert_eq!(again.serialize_pem(), other.serialize_pem());
        pair.forget_next_key();
        assert_ne!(
            pair.next_key().unwrap().serialize_pem(),
            other.serialize_pem()
        );
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_and_the_pair_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (pair, key) = made(folder.path());
        pair.try_writing().unwrap();
        assert!(is_pair_of(&pair, &key));
        let away = Pair {
            certificate: folder.path().join("no/a.pem"),
            key: folder.path().join("no/a.key"),
        };
        assert!(matches!(away.try_writing(), Err(Error::Write { .. })));
        away.recover();
    }
}
