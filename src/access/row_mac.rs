//! Codes that tell whether a row of a store is as the bank wrote it: HMAC-SHA-256 under a key made of
//! a pepper. Who can write the store's file, or hands over a backup, has no pepper and can make none.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;

use super::pepper::{PepperId, Peppers};

/// Sets these keys apart from whatever else a pepper serves for.
const LABEL: &[u8] = b"atm-bank/row-mac/1";

/// A row's code.
pub type RowMac = [u8; 32];

/// The bank's peppers as they are now. All clones are one: where peppers are rotated, everybody who
/// has the ring makes and checks codes with the new ones.
#[derive(Clone)]
pub struct Keyring(Arc<ArcSwap<Peppers>>);

impl From<Arc<Peppers>> for Keyring {
    fn from(peppers: Arc<Peppers>) -> Self {
        Self(Arc::new(ArcSwap::new(peppers)))
    }
}

impl Keyring {
    /// A ring without a pepper, for whoever looks at a store without being able to check its rows.
    #[must_use]
    pub fn empty() -> Self {
        Self::from(Arc::new(Peppers::none()))
    }

    /// Whether there is no pepper at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current().is_none()
    }

    /// The pepper that new codes are made with.
    #[must_use]
    pub fn current(&self) -> Option<PepperId> {
        self.0.load().current().cloned()
    }

    /// The code of a row; `None` where that pepper is not here.
    #[must_use]
    pub fn mac(&self, pepper: &PepperId, row: &[u8]) -> Option<RowMac> {
        let mut mac = [0; 32];
        mac.copy_from_slice(hmac::sign(&self.key(pepper)?, row).as_ref());
        Some(mac)
    }

    /// Whether a row has this code, in time that does not depend on where they differ. Without the
    /// pepper nothing is right.
    #[must_use]
    pub fn is_right(&self, pepper: &PepperId, row: &[u8], mac: &[u8]) -> bool {
        let key = self.key(pepper);
        key.is_some_and(|key| hmac::verify(&key, row, mac).is_ok())
    }

    fn key(&self, pepper: &PepperId) -> Option<hmac::Key> {
        let ring = self.0.load();
        let secret = hmac::Key::new(hmac::HMAC_SHA256, ring.secret(pepper)?);
        let derived = hmac::sign(&secret, LABEL);
        Some(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    pub(super) fn peppers(&self) -> Arc<Peppers> {
        self.0.load_full()
    }

    pub(super) fn set(&self, peppers: Peppers) {
        self.0.store(Arc::new(peppers));
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::System;

    #[test]
    fn a_code_is_of_its_row_and_its_pepper_alone() {
        let ring = || Keyring::from(Arc::new(Peppers::generate(&System::default())));
        let (own, other) = (ring(), ring());
        let (pepper, stranger) = (own.current().unwrap(), other.current().unwrap());
        let mac = own.mac(&pepper, b"a row").unwrap();
        assert!(own.is_right(&pepper, b"a row", &mac));
        assert!(!own.is_right(&pepper, b"a rox", &mac));
        assert!(!own.is_right(&pepper, b"a row", &mac[..31]));
        assert!(!own.is_right(&stranger, b"a row", &mac));
        assert_ne!(other.mac(&stranger, b"a row"), Some(mac));
        assert_eq!(own.mac(&stranger, b"a row"), None);
        assert!(Keyring::empty().is_empty() && !own.is_empty());
    }

    /// Made by a program of its own from what the documentation says.
    #[test]
    fn the_code_is_the_one_that_is_documented() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pepper");
        std::fs::write(&path, format!("p-1 {}\n", "0b".repeat(32))).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let ring = Keyring::from(Arc::new(Peppers::load(&path, false).unwrap()));
        let mac = ring.mac(&ring.current().unwrap(), b"a row").unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(&mac),
            "fa09ba4d2f3ffb1819af1929fc72ce7d442dbb9c4206c62d335d386fef757341"
        );
    }
}
