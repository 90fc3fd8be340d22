//! Opening the bank that a configuration names: pepper, store, hashing threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::stop::{Stop, exit};
use crate::access::pepper::Peppers;
use crate::access::pin::PinHasher;
use crate::bank::Bank;
use crate::config::{Config, StoreUrl};
use crate::server::tls::is_credential;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::surroundings::{Surroundings, System};

/// A bank whose store is open, and nobody else's meanwhile.
pub struct OpenBank {
    bank: Arc<Bank>,
    /// The store was made just now.
    pub made_store: bool,
}

impl OpenBank {
    /// Opens the configured bank. Where there is neither store nor pepper, both are made if
    /// `make`.
    ///
    /// # Errors
    /// [`Stop`], in words that say what to do.
    pub fn open(config: &Config, make: bool) -> Result<Self, Stop> {
        let path = sqlite_path(config)?;
        let surroundings: Arc<dyn Surroundings> = Arc::new(System::default());
        let made_store = !path.exists();
        if made_store && !make {
            let reason = format!(
                "there is no store {}; mend: start the server, or import accounts",
                path.display()
            );
            return Err(Stop::new(exit::NO_INPUT, reason));
        }
        refuse_empty(&path)?;
        let peppers = Arc::new(peppers(config, made_store, &*surroundings)?);
        let currency = config.accounts.currency;
        let store = SqliteStore::open(&path, currency, surroundings.now())?;
        check_peppers(&path, config, &peppers)?;
        let store: Arc<dyn Store> = Arc::new(store);
        let threads = config.pin.max_concurrent;
        let hasher = PinHasher::start(peppers, config.pin.cost, threads, Arc::clone(&surroundings))
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

/// A file without a byte is what is left of a store that was cut off, or of a start that failed:
/// it must not be taken for a new bank without a word.
fn refuse_empty(path: &Path) -> Result<(), Stop> {
    match fs::metadata(path) {
        Ok(found) if found.len() == 0 => {
            let reason = format!(
                "the store {0} is an empty file; mend: restore a backup, or remove it to begin a new bank: rm {0}",
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

/// The peppers of the configured file; made where neither it nor a store is there.
pub(super) fn peppers(
    config: &Config,
    no_store: bool,
    surroundings: &dyn Surroundings,
) -> Result<Peppers, Stop> {
    let path = &config.pin.pepper_file;
    if path.exists() {
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

/// Puts a backup in the store's place. What stood there is kept beside it.
///
/// # Errors
/// [`Stop`] where a server runs, the backup is none, or a pepper it needs is missing. Then
/// nothing has changed.
pub fn restore(config: &Config, backup: &Path) -> Result<Option<PathBuf>, Stop> {
    let path = sqlite_path(config)?;
    if !backup.is_file() {
        return Err(Stop::new(
            exit::NO_INPUT,
            format!("there is no backup {}", backup.display()),
        ));
    }
    let pepper_file = &config.pin.pepper_file;
    if !pepper_file.exists() {
        let needed: Vec<String> = SqliteStore::inspect(backup)?
            .iter()
            .map(ToString::to_string)
            .collect();
        let reason = format!(
            "the backup needs the pepper {}, and there is no pepper file {}; mend: put it back first",
            needed.join(", "),
            pepper_file.display()
        );
        return Err(Stop::new(exit::CONFIG, reason));
    }
    check_peppers(
        backup,
        config,
        &Peppers::load(pepper_file, is_credential(pepper_file))?,
    )?;
    let system = System::default();
    let now = system.now();
    // Opening what stands there proves that no server has it; a damaged one may not open at all.
    let kept = match path.exists() {
        false => None,
        true => {
            match SqliteStore::open(&path, config.accounts.currency, now) {
                Err(error @ crate::store::sqlite::OpenError::InUse(_)) => return Err(error.into()),
                opened => drop(opened),
            }
            Some(move_aside(&path, &now.to_string().replace(':', "-"))?)
        }
    };
    copy(backup, &path)?;
    drop(SqliteStore::open(&path, config.accounts.currency, now)?);
    Ok(kept)
}

fn move_aside(path: &Path, moment: &str) -> Result<PathBuf, Stop> {
    let failed = |error| {
        Stop::new(
            exit::IO,
            format!("cannot move {} aside: {error}", path.display()),
        )
    };
    let aside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let kept = aside(&format!(".before-restore-{moment}"));
    for part in ["-wal", "-shm"] {
        let from = aside(part);
        if from.exists() {
            let mut to = kept.as_os_str().to_owned();
            to.push(part);
            fs::rename(&from, &to).map_err(failed)?;
        }
    }
    fs::rename(path, &kept).map_err(failed)?;
    Ok(kept)
}

fn copy(from: &Path, to: &Path) -> Result<(), Stop> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let failed = |error| Stop::new(exit::IO, format!("cannot write {}: {error}", to.display()));
    if let Some(folder) = to.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed)?;
    }
    let mut source = fs::File::open(from).map_err(failed)?;
    let mut target = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(failed)?;
    std::io::copy(&mut source, &mut target).map_err(failed)?;
    target.sync_all().map_err(failed)
}
