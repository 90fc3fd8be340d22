//! Putting a backup in the store's place: looked at first, swapped in at the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::open::{check_peppers, sqlite_path};
use super::stop::{Stop, exit};
use crate::access::pepper::Peppers;
use crate::access::row_mac::Keyring;
use crate::bank::note_of_start;
use crate::config::Config;
use crate::domain::TerminalName;
use crate::durable;
use crate::server::tls::is_credential;
use crate::store::sqlite::{SqliteStore, beside, give_to_owner};
use crate::store::{Act, Context, Event, Note, Office, Store as _};
use crate::surroundings::{Guarded, Surroundings as _, System};

/// SQLite's files beside a store that was not closed in order.
const PARTS: [&str; 2] = ["-wal", "-shm"];

/// What came of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Where that is kept which stood in the backup's place.
    pub kept: Option<PathBuf>,
    /// What the next start would say of its clock, where it would be guarded.
    pub warning: Option<String>,
}

/// Puts a backup in the store's place. What stood there is kept beside it.
///
/// # Errors
/// [`Stop`] where a server runs, the backup is none or of another currency, or a pepper it needs is
/// missing. Then the store is as it was.
pub async fn restore(config: &Config, backup: &Path) -> Result<Restored, Stop> {
    let path = sqlite_path(config)?;
    if !backup.is_file() {
        let reason = format!("there is no backup {}", backup.display());
        return Err(Stop::new(exit::NO_INPUT, reason));
    }
    check_backup_peppers(config, backup)?;
    make_folder(&path)?;
    let (_nobody_else, path) = SqliteStore::keep_out(&path)?;
    let moment = System::default().now();
    let copied = beside(&path, ".restoring");
    copy(backup, &copied, &path)?;
    // Opened once as a store, so that what cannot be served never takes the place of what can. The
    // backup may be another's, and another file by now than the one that was looked at.
    let opened = match check_backup_peppers(config, &copied) {
        Ok(keyring) => try_out(config, &copied, backup, keyring).await,
        Err(stop) => Err(stop),
    };
    let _ = fs::remove_file(beside(&copied, "-lock"));
    let warning = opened.inspect_err(|_| {
        let _ = fs::remove_file(&copied);
    })?;
    let kept = move_aside(&path, &moment.to_string().replace(':', "-"))?;
    let failed = |error| cannot_write(&path, &error);
    durable::rename(&copied, &path).map_err(failed)?;
    Ok(Restored { kept, warning })
}

/// Opens the copy as a store and writes into its audit log that it was restored. Returns what a start
/// would say of its clock.
async fn try_out(
    config: &Config,
    copied: &Path,
    backup: &Path,
    keyring: Keyring,
) -> Result<Option<String>, Stop> {
    // As a start will: what is written here is stamped by the backup's own clock.
    let clock = Guarded::begin(SqliteStore::clock_mark(copied)?, config.clock);
    let (currency, moment) = (config.accounts.currency, clock.now());
    let (warning, believed) = (clock.state().warning(), note_of_start(&clock));
    let mark = move || Some(clock.mark());
    let store = SqliteStore::open_with(copied, currency, moment, keyring, mark, None)?;
    let actor = format!("uid {}", rustix::process::getuid().as_raw());
    let note = Note::new(Event::Restore, moment).by_staff(&actor);
    let note = note.detail(backup.display().to_string());
    store
        .note(believed.into_iter().chain([note]).collect())
        .await
        .map_err(|error| Stop::by_store("cannot write the audit log", &error))?;
    let context = Context {
        now: moment,
        terminal: TerminalName::anonymous(),
        connection: None,
        address: None,
        terms: config.terms(),
        busy: false,
    };
    let office = Office::of(actor);
    let voided = store.office(&office, Act::UninviteAll, context).await;
    voided.map_err(|error| Stop::by_store("cannot make codes void", &error))?;
    Ok(warning)
}

fn check_backup_peppers(config: &Config, backup: &Path) -> Result<Keyring, Stop> {
    let file = &config.pin.pepper_file;
    if file.exists() {
        let peppers = Peppers::load(file, is_credential(file))?;
        check_peppers(backup, config, &peppers)?;
        return Ok(Keyring::from(Arc::new(peppers)));
    }
    let needed = SqliteStore::inspect(backup)?;
    let needed: Vec<String> = needed.iter().map(ToString::to_string).collect();
    let reason = format!(
        "the backup needs the pepper {}, and there is no pepper file {}; mend: put it back first",
        needed.join(", "),
        file.display()
    );
    Err(Stop::new(exit::CONFIG, reason))
}

fn cannot_write(path: &Path, error: &io::Error) -> Stop {
    Stop::new(
        exit::IO,
        format!("cannot write {}: {error}", path.display()),
    )
}

/// Moves the store and its journal, whichever of them is there; a journal alone may hold money too.
/// The store goes first: where this is cut off, a journal alone keeps the next start from serving,
/// and a store alone would be served without what was answered last.
fn move_aside(path: &Path, moment: &str) -> Result<Option<PathBuf>, Stop> {
    let kept = beside(path, &format!(".before-restore-{moment}"));
    let mut moved = false;
    for part in std::iter::once("").chain(PARTS) {
        let from = beside(path, part);
        if from.exists() {
            let renamed = durable::rename(&from, &beside(&kept, part));
            renamed.map_err(|error| cannot_write(&from, &error))?;
            moved = true;
        }
    }
    Ok(moved.then_some(kept))
}

fn make_folder(path: &Path) -> Result<(), Stop> {
    let folder = durable::folder_of(path);
    durable::make_folder(folder).map_err(|error| cannot_write(folder, &error))
}

/// Copies to a new file, which belongs to whom the store at `store` does, or its folder.
fn copy(from: &Path, to: &Path, store: &Path) -> Result<(), Stop> {
    let copying = || -> io::Result<()> {
        let mut source = durable::open(from)?;
        // What an interrupted restore left. Never written through: it may be a link by now.
        match fs::remove_file(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let made = durable::create_with(to, 0o600, |target| {
            give_to_owner(target, store)?;
            io::copy(&mut source, target).map(drop)
        });
        made.map(drop)
    };
    copying().map_err(|error| cannot_write(to, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use crate::service::OpenBank;
    use crate::store::sqlite::OpenError;
    use crate::store::{Act, Done, Office};

    fn config(folder: &Path, currency: &str) -> Config {
        let file = folder.join("bank.toml");
        let text = format!(
            "[tls]\ndir = \"{0}/certs\"\n[store]\nurl = \"sqlite:{0}/data/bank.db\"\n\
             [pin]\nmemory_kib = 8\niterations = 1\n[accounts]\ncurrency = \"{currency}\"\n",
            folder.display()
        );
        fs::write(&file, text).unwrap();
        Config::load(Some(&file), std::iter::empty(), &Overrides::default())
            .unwrap()
            .config
    }

    async fn backed_up(config: &Config, folder: &Path) -> PathBuf {
        let backup = folder.join("backup.db");
        let open = OpenBank::open(config, true).unwrap();
        let done = open
            .bank()
            .office(&Office::of("test"), Act::Backup(backup.clone()))
            .await;
        assert!(matches!(done, Ok(Done::Yes)));
        backup
    }

    #[tokio::test]
    async fn a_journal_left_alone_is_kept_and_never_played_over_the_backup() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), "USD");
        let backup = backed_up(&config, folder.path()).await;
        let store = folder.path().join("data/bank.db");
        fs::rename(&store, folder.path().join("elsewhere.db")).unwrap();
        fs::write(beside(&store, "-wal"), b"the only copy of somebody's money").unwrap();
        let orphan = OpenBank::open(&config, true).err().unwrap();
        assert_eq!(orphan.code, exit::DATA);
        let kept = restore(&config, &backup).await.unwrap().kept.unwrap();
        let journal = fs::read(beside(&kept, "-wal")).unwrap();
        assert_eq!(journal, b"the only copy of somebody's money");
        assert!(OpenBank::open(&config, false).is_ok());
    }

    /// User and group.
    fn owner(path: &Path) -> (u32, u32) {
        use std::os::unix::fs::MetadataExt as _;
        let found = fs::metadata(path).unwrap();
        (found.uid(), found.gid())
    }

    #[tokio::test]
    async fn what_root_restores_and_locks_belongs_to_the_stores_owner_or_its_folders() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root gives files away");
            return;
        }
        let (of_folder, of_store) = ((4_711, 4_712), (4_713, 4_714));
        for store_is_there in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let config = config(folder.path(), "USD");
            let backup = backed_up(&config, folder.path()).await;
            let data = folder.path().join("data");
            let (store, lock) = (data.join("bank.db"), data.join("bank.db-lock"));
            let give = |path: &Path, (user, group)| {
                std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
            };
            give(&data, of_folder);
            give(&store, of_store);
            fs::remove_file(&lock).unwrap();
            if !store_is_there {
                fs::remove_file(&store).unwrap();
            }
            restore(&config, &backup).await.unwrap();
            let owned = if store_is_there { of_store } else { of_folder };
            assert_eq!([owner(&store), owner(&lock)], [owned, owned]);
        }
    }

    #[tokio::test]
    async fn a_restore_that_is_cut_off_anywhere_leaves_nothing_to_be_served() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), "USD");
        let backup = backed_up(&config, folder.path()).await;
        let store = folder.path().join("data/bank.db");
        let wal = beside(&store, "-wal");
        fs::write(&wal, b"the only copy of somebody's money").unwrap();
        // Something in the way of the journal: the store is moved already.
        let kept = beside(&store, ".before-restore-now");
        fs::create_dir(beside(&kept, "-wal")).unwrap();
        assert!(move_aside(&store, "now").is_err());
        let stop = OpenBank::open(&config, true).err().unwrap();
        assert_eq!(stop.code, exit::DATA, "{stop}");
        fs::remove_dir(beside(&kept, "-wal")).unwrap();
        fs::rename(&wal, beside(&kept, "-wal")).unwrap();
        // All is moved, and the copy not yet in its place.
        let copied = beside(&store, ".restoring");
        fs::copy(&backup, &copied).unwrap();
        let stop = OpenBank::open(&config, true).err().unwrap();
        assert_eq!(stop.code, exit::DATA, "{stop}");
        assert!(stop.to_string().contains("cut off"), "{stop}");
        restore(&config, &backup).await.unwrap();
        assert!(!copied.exists() && OpenBank::open(&config, false).is_ok());
    }

    #[tokio::test]
    async fn root_follows_no_link_that_another_user_made() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: for root alone");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), "USD");
        let backup = backed_up(&config, folder.path()).await;
        let (victim, store) = (
            folder.path().join("victim"),
            folder.path().join("data/bank.db"),
        );
        let lock = beside(&store, "-lock");
        fs::write(&victim, "root's").unwrap();
        let link = |to: &Path, at: &Path| {
            let _ = fs::remove_file(at);
            std::os::unix::fs::symlink(to, at).unwrap();
            std::os::unix::fs::lchown(at, Some(4_711), Some(4_712)).unwrap();
        };
        link(&victim, &store);
        let stop = restore(&config, &backup).await.unwrap_err();
        assert!(stop.to_string().contains("not root's"), "{stop}");
        assert_eq!(fs::read(&victim).unwrap(), b"root's");
        // A lock that is a link is not made where it leads.
        fs::remove_file(&store).unwrap();
        let nowhere = folder.path().join("nowhere");
        link(&nowhere, &lock);
        assert!(restore(&config, &backup).await.is_err());
        assert!(!nowhere.exists());
    }

    #[test]
    fn a_store_that_root_makes_belongs_to_its_folders_owner() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root gives files away");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), "USD");
        let data = folder.path().join("data");
        fs::create_dir_all(&data).unwrap();
        std::os::unix::fs::chown(&data, Some(4_711), Some(4_712)).unwrap();
        let _open = OpenBank::open(&config, true).unwrap_or_else(|stop| panic!("{stop}"));
        for name in ["bank.db", "bank.db-wal", "bank.db-shm", "bank.db-lock"] {
            assert_eq!(owner(&data.join(name)), (4_711, 4_712), "{name}");
        }
    }

    #[tokio::test]
    async fn a_link_where_the_copy_is_made_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), "USD");
        let backup = backed_up(&config, folder.path()).await;
        let other = folder.path().join("other");
        fs::write(&other, "another's").unwrap();
        let store = folder.path().join("data/bank.db");
        std::os::unix::fs::symlink(&other, beside(&store, ".restoring")).unwrap();
        restore(&config, &backup).await.unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"another's");
        assert!(fs::symlink_metadata(&store).unwrap().is_file());
    }

    #[tokio::test]
    async fn a_backup_of_another_currency_leaves_the_store_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let dollars = config(folder.path(), "USD");
        let backup = backed_up(&dollars, folder.path()).await;
        let store = folder.path().join("data/bank.db");
        fs::remove_file(&store).unwrap();
        let euros = config(folder.path(), "EUR");
        drop(OpenBank::open(&euros, true).unwrap_or_else(|stop| panic!("{stop}")));
        let before = fs::read(&store).unwrap();
        assert_eq!(
            restore(&euros, &backup).await.unwrap_err().code,
            exit::CONFIG
        );
        assert_eq!(fs::read(&store).unwrap(), before);
        let left: Vec<_> = fs::read_dir(store.parent().unwrap())
            .unwrap()
            .flatten()
            .collect();
        assert!(
            left.iter()
                .all(|file| !file.path().display().to_string().contains("restoring"))
        );
    }

    #[tokio::test]
    async fn a_store_that_is_open_is_not_restored_over_nor_opened_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), "USD");
        let backup = backed_up(&config, folder.path()).await;
        let _open = OpenBank::open(&config, false).unwrap_or_else(|stop| panic!("{stop}"));
        assert_eq!(
            restore(&config, &backup).await.unwrap_err().code,
            exit::TEMPORARY
        );
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink(folder.path().join("data/bank.db"), &link).unwrap();
        let currency = config.accounts.currency;
        let second = SqliteStore::open(&link, currency, System::default().now(), Keyring::empty());
        assert!(matches!(second.err(), Some(OpenError::InUse(_))));
    }
}
