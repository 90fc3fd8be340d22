//! Opening the bank that a configuration names: pepper, store, hashing threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::stop::{Stop, exit};
use crate::access::pepper::Peppers;
use crate::access::pepper_file::PepperFile;
use crate::access::pin::PinHasher;
use crate::access::row_mac::Keyring;
use crate::bank::Bank;
use crate::config::{Config, StoreUrl};
use crate::durable;
use crate::server::tls::{ListMemory, is_credential};
use crate::store::Store;
use crate::store::sqlite::{Cause, SqliteStore};
use crate::surroundings::{Guarded, Surroundings};

/// A bank whose store is open, and nobody else's meanwhile.
pub struct OpenBank {
    bank: Arc<Bank>,
    /// The store was made just now.
    pub made_store: bool,
}

/// How a bank is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct How<'a> {
    /// Store and pepper are made where there is neither.
    pub(super) make: bool,
    /// To be audited without its pepper, which is lost.
    pub(super) without_pepper: bool,
    /// The name of a loss of answered commits that is taken.
    pub(super) accept_loss: Option<&'a str>,
}

impl OpenBank {
    /// Opens the configured bank. Where there is neither store nor pepper, both are made if
    /// `make`.
    ///
    /// # Errors
    /// [`Stop`], in words that say what to do.
    pub fn open(config: &Config, make: bool) -> Result<Self, Stop> {
        let how = How {
            make,
            ..How::default()
        };
        Self::open_with(config, &how, clock(config)?)
    }

    /// Opens the configured bank to be audited; where its pepper is lost, without.
    ///
    /// # Errors
    /// [`Stop`], in words that say what to do.
    pub fn open_to_verify(config: &Config) -> Result<Self, Stop> {
        let lost = durable::is_absent(&config.pin.pepper_file);
        let how = How {
            without_pepper: lost,
            ..How::default()
        };
        Self::open_with(config, &how, clock(config)?)
    }

    /// Opens the configured bank as `how` says, with the store's clock as [`clock`] has judged it.
    ///
    /// # Errors
    /// [`Stop`], in words that say what to do.
    pub(super) fn open_with(
        config: &Config,
        how: &How<'_>,
        clock: Arc<Guarded>,
    ) -> Result<Self, Stop> {
        let path = sqlite_path(config)?;
        let surroundings: Arc<dyn Surroundings> = Arc::clone(&clock) as _;
        if path.try_exists().is_err() {
            SqliteStore::may_use(&path)?;
        }
        let made_store = !path.exists();
        if made_store && !how.make {
            return Err(no_store(&path));
        }
        refuse_empty(&path)?;
        let keyring = match how.without_pepper {
            true => Keyring::empty(),
            false => {
                let peppers = peppers(config, made_store, &*surroundings)?;
                if !made_store {
                    check_peppers(&path, config, &peppers)?;
                }
                Keyring::from(Arc::new(peppers))
            }
        };
        let currency = config.accounts.currency;
        let now = surroundings.now();
        let mark = move || Some(clock.mark());
        let loss = how.accept_loss;
        let store = SqliteStore::open_with(&path, currency, now, keyring.clone(), mark, loss)?;
        let store: Arc<dyn Store> = Arc::new(store);
        let threads = config.pin.max_concurrent;
        let hasher = PinHasher::start(keyring, config.pin.cost, threads, Arc::clone(&surroundings))
            .map_err(|error| {
                Stop::new(
                    exit::SYSTEM,
                    format!("cannot start threads to check PINs: {error}"),
                )
            })?;
        let bank = Bank::new(store, hasher, surroundings, config.terms(), currency);
        Ok(Self {
            bank: Arc::new(bank),
            made_store,
        })
    }

    /// The bank.
    #[must_use]
    pub fn bank(&self) -> Arc<Bank> {
        Arc::clone(&self.bank)
    }
}

/// The clock as the configured store judges it, before the store itself is opened: certificates are
/// judged by it. Where there is no store the wall clock is believed.
///
/// # Errors
/// [`Stop`], in words that say what to do.
pub(super) fn clock(config: &Config) -> Result<Arc<Guarded>, Stop> {
    let path = sqlite_path(config)?;
    let is_there = fs::metadata(&path).is_ok_and(|found| found.len() > 0);
    let mark = match is_there {
        true => SqliteStore::clock_mark(&path)?,
        false => None,
    };
    Ok(Arc::new(Guarded::begin(mark, config.clock)))
}

/// There is no store, and whoever asks makes none.
pub(super) fn no_store(path: &Path) -> Stop {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let reason = format!(
        "there is no store {}; mend: give the server's --config from the server's folder, or, where there is no bank \
         yet, start the server or import accounts",
        path.display()
    );
    Stop::new(Cause::Missing.row().exit, reason)
}

/// A file without a byte is what is left of a store that was cut off, or of a start that failed:
/// it must not be taken for a new bank without a word.
pub(super) fn refuse_empty(path: &Path) -> Result<(), Stop> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() == 0 => {
            let reason = format!(
                "the store {0} is an empty file; mend: look for the one that stood there; there is none? restore the last backup, or remove it \
                 to begin a new bank: rm {0}",
                path.display()
            );
            Err(Stop::new(exit::DATA, reason))
        }
        _ => Ok(()),
    }
}

/// The embedded store's file.
pub(super) fn sqlite_path(config: &Config) -> Result<PathBuf, Stop> {
    match &config.store.url {
        StoreUrl::Sqlite(path) => Ok(path.clone()),
        StoreUrl::Postgres(_) => Err(Stop::new(
            exit::CONFIG,
            "[store] url: this version serves the embedded store only; mend: url = \"sqlite:data/bank.db\"",
        )),
    }
}

/// Where it is kept which revocation lists are in force: beside the store.
pub(super) fn list_memory(config: &Config) -> Result<ListMemory, Stop> {
    Ok(ListMemory::beside(sqlite_path(config)?))
}

/// The peppers of the configured file; made where neither it nor a store is there.
pub(super) fn peppers(
    config: &Config,
    no_store: bool,
    surroundings: &dyn Surroundings,
) -> Result<Peppers, Stop> {
    let path = &config.pin.pepper_file;
    if !durable::is_absent(path) {
        return Ok(Peppers::load(path, is_credential(path))?);
    }
    if no_store {
        return Ok(Peppers::create(path, surroundings)?);
    }
    Err(Stop::new(
        exit::CONFIG,
        format!(
            "there is a store but no pepper file {}: no PIN can be checked without it; mend: put it back where it was, \
             or name it in [pin] pepper_file",
            path.display()
        ),
    ))
}

/// The file that the peppers stand in, to be changed.
pub(super) fn pepper_file(config: &Config) -> Arc<PepperFile> {
    let path = config.pin.pepper_file.clone();
    let group_may_read = is_credential(&path);
    Arc::new(PepperFile::new(path, group_may_read))
}

/// Every pepper that the store's hashes need must be there.
pub(super) fn check_peppers(store: &Path, config: &Config, peppers: &Peppers) -> Result<(), Stop> {
    let missing: Vec<String> = SqliteStore::inspect(store)?
        .iter()
        .filter(|id| !peppers.contains(id))
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Stop::new(
        exit::CONFIG,
        format!(
            "the store {} needs the pepper {}, which is not in {}; mend: put the right pepper file back",
            store.display(),
            missing.join(", "),
            config.pin.pepper_file.display()
        ),
    ))
}
