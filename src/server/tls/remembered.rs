//! Which revocation lists were in force, kept beside the store, so that no restart brings an older one
//! back.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};

use super::lists::{ListAge, ListInForce};
use super::{TlsError, Trust};
use crate::durable::{self, Draft};
use crate::pki::ListNumber;
use crate::store::sqlite::give_to_owner;

/// The most octets that are read of it.
const BYTES_MAX: u64 = 1 << 20;

/// Where it is kept what was in force.
#[derive(Debug, Clone)]
pub struct ListMemory {
    path: PathBuf,
    store: PathBuf,
}

/// One list, known by hashes. All are lower-case hexadecimal.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    /// Of the issuer's name.
    issuer: String,
    /// Of the issuer's key, where that is known.
    key: Option<String>,
    number: Option<String>,
    this_update: i64,
    /// Of what is signed.
    list: String,
}

impl ListMemory {
    /// Beside the store.
    #[must_use]
    pub fn beside(store: PathBuf) -> Self {
        let mut path = store.clone().into_os_string();
        path.push("-lists");
        let path = path.into();
        Self { path, store }
    }

    /// Refuses what is older than what was in force last. Where nothing is remembered all is taken.
    ///
    /// # Errors
    /// [`TlsError::OlderThanRemembered`], and where what is remembered cannot be read.
    pub fn refuse_to_go_back(&self, trust: &Trust) -> Result<(), TlsError> {
        let known = self.read()?;
        for list in remembered(trust) {
            let own = Remembered::of(list);
            let same_authority = known
                .iter()
                .filter(|known| known.is_of_same_authority(&own));
            for known in same_authority {
                let number = known.number.as_deref();
                let octets = number.map(|digits| HEXLOWER_PERMISSIVE.decode(digits.as_bytes()));
                let octets = octets.transpose();
                let octets = octets.map_err(|error| self.forgotten(io::Error::other(error)))?;
                let age = ListAge {
                    number: octets.and_then(|octets| ListNumber::from_octets(&octets)),
                    this_update: known.this_update,
                };
                list.refuse_older(known.list == own.list, list.age.compared_with(&age))
                    .map_err(|source| TlsError::OlderThanRemembered {
                        path: self.path.clone(),
                        source: Box::new(source),
                    })?;
            }
        }
        Ok(())
    }

    /// Keeps what is in force now.
    ///
    /// # Errors
    /// The system's.
    pub fn keep(&self, trust: &Trust) -> io::Result<()> {
        let lists: Vec<Remembered> = remembered(trust).map(Remembered::of).collect();
        if self.read().is_ok_and(|known| known == lists) {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&lists)?;
        let draft = Draft::fill(&self.path, 0o600, |file| {
            file.write_all(&text)?;
            give_to_owner(file, &self.store)
        })?;
        draft.settle()
    }

    fn read(&self) -> Result<Vec<Remembered>, TlsError> {
        let unreadable = |source| self.forgotten(source);
        let file = match durable::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file.map_err(unreadable)?,
        };
        let mut text = Vec::new();
        file.take(BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(unreadable)?;
        serde_json::from_slice(&text).map_err(|error| unreadable(error.into()))
    }

    fn forgotten(&self, source: io::Error) -> TlsError {
        TlsError::Forgotten {
            path: self.path.clone(),
            source,
        }
    }
}

/// All but what the server makes itself.
fn remembered(trust: &Trust) -> impl Iterator<Item = &ListInForce> {
    trust.lists.iter().filter(|list| !list.made_here)
}

impl Remembered {
    fn of(list: &ListInForce) -> Self {
        let number = list.age.number.as_ref().map(ListNumber::octets);
        Self {
            issuer: hash(&list.issuer),
            key: list.key.as_deref().map(hash),
            number: number.map(|octets| HEXLOWER.encode(&octets)),
            this_update: list.age.this_update,
            list: hash(list.held.message()),
        }
    }

    fn is_of_same_authority(&self, other: &Self) -> bool {
        let differ = matches!((&self.key, &other.key), (Some(own), Some(others)) if own != others);
        self.issuer == other.issuer && !differ
    }
}

fn hash(octets: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, octets).as_ref())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, Overrides};
    use crate::pki::{CertificateFolder, MakeRequest};
    use crate::surroundings::{Surroundings, System};

    #[test]
    fn a_number_that_is_not_hexadecimal_makes_what_is_remembered_unreadable() {
        let folder = tempfile::tempdir().unwrap();
        let now = time::OffsetDateTime::now_utc();
        let certificates = CertificateFolder::new(folder.path().to_owned(), now);
        certificates.make_missing(&MakeRequest::default()).unwrap();
        let set = [
            ("BANK__TLS__DIR", folder.path().to_str().unwrap()),
            ("BANK__SERVER__SERVER_ID", "t"),
        ];
        let environment = set
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()));
        let config = Config::load(None, environment, &Overrides::default())
            .unwrap()
            .config;
        let clock: Arc<dyn Surroundings> = Arc::new(System::default());
        let trust = Trust::load(&config.tls, &clock).unwrap();
        let memory = ListMemory::beside(folder.path().join("bank.db"));
        memory.keep(&trust).unwrap();
        memory.refuse_to_go_back(&trust).unwrap();
        let text = std::fs::read_to_string(&memory.path).unwrap();
        let odd = text.replacen("\"number\": \"", "\"number\": \"+", 1);
        std::fs::write(&memory.path, &odd).unwrap();
        let refused = memory.refuse_to_go_back(&trust);
        assert!(matches!(refused, Err(TlsError::Forgotten { .. })), "{odd}");
    }

    #[test]
    fn what_may_not_be_read_and_what_makes_no_sense_each_have_their_own_cure() {
        let folder = tempfile::tempdir().unwrap();
        let memory = ListMemory::beside(folder.path().join("bank.db"));
        std::fs::write(&memory.path, "no lists").unwrap();
        let told = memory.read().unwrap_err().to_string();
        assert!(told.contains("and remove it"), "{told}");
        std::fs::remove_file(&memory.path).unwrap();
        // The system refuses to read it, as it does where it is another user's.
        std::os::unix::fs::symlink(&memory.path, &memory.path).unwrap();
        let told = memory.read().unwrap_err().to_string();
        assert!(told.contains("see to its owner and mode"), "{told}");
        assert!(!told.contains("remove it"), "{told}");
        std::fs::remove_file(&memory.path).unwrap();
        std::fs::create_dir(&memory.path).unwrap();
        let told = memory.read().unwrap_err().to_string();
        assert!(told.contains("it is a folder"), "{told}");
    }
}
