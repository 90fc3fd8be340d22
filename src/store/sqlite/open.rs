//! Opening a store: header, schema and settings only, in time that does not grow with the ledger.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::disk::{LOCK_TIMEOUT, make_sound};
use super::look::Looker;
use super::open_error::OpenError;
use super::owner::give_to_owner;
use super::writer::{Books, Memory};
use super::{journal, schema, sums, wal};
use crate::access::pepper::PepperId;
use crate::access::row_mac::Keyring;
use crate::access::stand_in::StandInKey;
use crate::domain::{Currency, Timestamp};
use crate::durable;
use crate::store::seats::Seats;
use crate::store::{Event, Note};

/// "ATMb", in the file's header: this is a store of ours.
const APPLICATION_ID: i32 = 0x4154_4d62;

/// Numbered migrations; each takes the store from the version before it.
pub(in crate::store) const MIGRATIONS: [&str; 11] = [
    include_str!("../schema/1.sql"),
    include_str!("../schema/2.sql"),
    include_str!("../schema/3.sql"),
    include_str!("../schema/4.sql"),
    include_str!("../schema/5.sql"),
    include_str!("../schema/6.sql"),
    include_str!("../schema/7.sql"),
    include_str!("../schema/8.sql"),
    include_str!("../schema/9.sql"),
    include_str!("../schema/10.sql"),
    include_str!("../schema/11.sql"),
];

/// The migration that comes with the key of stand-ins, by its place in [`MIGRATIONS`].
const STAND_INS: usize = 1;
/// The migration that brings the audit log, by its place in [`MIGRATIONS`].
const AUDIT: usize = 2;
/// The migration after which rows are covered and summed, by its place in [`MIGRATIONS`].
const COVERED: usize = 7;

/// Each connection is one thread's at a time, as its type sees to: SQLite need not.
const OWN_THREAD: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX;

/// The only lock on a store: held by the process that may write it, gone with the process. It is on two
/// files, the one beside the store and the store's own, where there is one: whoever removes either by
/// hand lets nobody in. It outlives the process's connections to the store: when a file is closed,
/// SQLite's own locks on it go.
pub struct StoreLock {
    _store: Option<File>,
    _beside: File,
}

/// Takes the lock of the store at `path`.
pub(super) fn lock(path: &Path) -> Result<StoreLock, OpenError> {
    let beside = lock_beside(path)?;
    let system = OpenError::of_system(path);
    let store = match durable::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        store => Some(store.map_err(system)?),
    };
    match store.as_ref().map_or(Ok(()), File::try_lock) {
        Ok(()) => Ok(StoreLock {
            _store: store,
            _beside: beside,
        }),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(system(source)),
    }
}

fn lock_beside(path: &Path) -> Result<File, OpenError> {
    let lock_path = beside(path, "-lock");
    let system = OpenError::of_system(&lock_path);
    let open = |options: &mut OpenOptions| options.write(true).mode(0o600).open(&lock_path);
    let made = open(OpenOptions::new().create_new(true));
    let file = match made {
        Ok(made) => {
            // Where that is not allowed, the lock holds all the same.
            let _ = super::give_to_owner(&made, path);
            made
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A link that somebody put there leads nowhere, and nobody waits at a pipe.
            let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
            let flags = flags.bits().cast_signed();
            open(OpenOptions::new().custom_flags(flags)).map_err(system)?
        }
        Err(error) => return Err(system(error)),
    };
    match file.try_lock() {
        // Another may have removed it, and have locked one of its own, since it was opened.
        Ok(()) if !durable::is_same(&file, &lock_path) => Err(OpenError::InUse(path.to_owned())),
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(system(source)),
    }
}

/// The path of a file that goes with the store, such as its lock or its journal.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The store's own path, whatever links lead to it, so that one store has one lock. Root follows no
/// link of another user's: whoever may write the store's folder could have root work elsewhere.
pub(super) fn real_path(path: &Path) -> Result<PathBuf, OpenError> {
    let system = OpenError::of_system(path);
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path.to_owned()),
        Err(source) => return Err(system(source)),
    };
    let folder = fs::canonicalize(durable::folder_of(path)).map_err(system)?;
    let is_link = path.file_name().map(|name| folder.join(name)) != Some(real.clone());
    if is_link && rustix::process::geteuid().is_root() {
        let link = fs::symlink_metadata(path).map_err(system)?;
        if link.uid() != 0 {
            return Err(OpenError::ForeignLink(path.to_owned()));
        }
    }
    Ok(real)
}

/// Refuses what is left of a store that is not there: money may be in it.
pub(super) fn refuse_remains(path: &Path) -> Result<(), OpenError> {
    if !path.exists() && beside(path, "-wal").exists() {
        return Err(OpenError::Orphan(path.to_owned()));
    }
    if !path.exists() && beside(path, ".restoring").exists() {
        return Err(OpenError::Unfinished(path.to_owned()));
    }
    Ok(())
}

/// Makes the file, mode 0600, and its folder, mode 0700, where they are missing. A file that root
/// makes is the folder's owner's.
pub(super) fn make_file(path: &Path) -> Result<(), OpenError> {
    let system = OpenError::of_system(path);
    refuse_remains(path)?;
    let folder = durable::folder_of(path);
    durable::make_folder(folder).map_err(system)?;
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made
            .and_then(|made| give_to_owner(&made, folder))
            .and_then(|()| durable::sync_folder_of(path))
            .map_err(system),
    }
}

/// Opens the connection that writes, migrating the schema where it is older. All that its journal held was
/// made sound; whether all of it was copied too is returned.
pub(super) fn writer(
    looker: &Looker,
    currency: Currency,
    now: Timestamp,
    (keyring, accept_loss): (&Keyring, Option<&str>),
) -> Result<(Connection, bool), OpenError> {
    let path = looker.path();
    let failed = OpenError::of_sqlite(path);
    let mut connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OWN_THREAD)
            .map_err(failed)?;
    // A store that is refused keeps its journal: it may hold what another file needs.
    let keep_journal = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection
        .set_db_config(keep_journal, true)
        .map_err(failed)?;
    let version = check_layout(&connection, path)?;
    if version > 0 {
        check_currency(&connection, path, currency)?;
        // Before anything is changed: a part of the migrations would stand.
        if version <= COVERED && keyring.is_empty() {
            return Err(OpenError::NoPepper(path.to_owned()));
        }
    }
    let kept = journal::judge(&connection, (path, looker.store()), version, accept_loss)?;
    settings(&connection).map_err(OpenError::of_sqlite(path))?;
    if let Some(kept) = kept.filter(|_| version > AUDIT) {
        // Before anything else is written, so that no loss is taken without a record.
        let detail = kept.display().to_string();
        let note = Note::new(Event::LossAccepted, now).detail(format!("kept {detail}"));
        record(&mut connection, path, &note)?;
    }
    let copied = make_sound(&connection, looker).map_err(OpenError::of_store(path))?;
    migrate(&mut connection, path, currency, (now, keyring))?;
    connection
        .set_db_config(keep_journal, false)
        .map_err(failed)?;
    Ok((connection, copied))
}

/// Writes into the audit log.
fn record(connection: &mut Connection, path: &Path, note: &Note) -> Result<(), OpenError> {
    let transaction = connection
        .transaction()
        .map_err(OpenError::of_sqlite(path))?;
    let (mut memory, keyring) = (Memory::default(), Keyring::empty());
    let mut books = Books {
        connection: &transaction,
        memory: &mut memory,
        keyring: &keyring,
        seats: &Seats::default(),
    };
    books.append(note).map_err(OpenError::of_store(path))?;
    transaction.commit().map_err(OpenError::of_sqlite(path))
}

/// Opens a connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, OpenError> {
    let failed = OpenError::of_sqlite(path);
    if !path.exists() {
        return Err(OpenError::Missing(path.to_owned()));
    }
    // SQLite would wait at a pipe.
    durable::must_be_file(path).map_err(OpenError::of_system(path))?;
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OWN_THREAD)
            .map_err(failed)?;
    check_header(&connection, path)?;
    connection.busy_timeout(LOCK_TIMEOUT).map_err(failed)?;
    // A confined server may write in no folder that SQLite would spill to.
    connection
        .pragma_update(None, "temp_store", "MEMORY")
        .map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// The peppers that hashes in the store were made with.
pub(super) fn peppers(connection: &Connection) -> rusqlite::Result<Vec<PepperId>> {
    let mut statement =
        connection.prepare("SELECT substr(name, 8) FROM bank WHERE name LIKE 'pepper:%'")?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    Ok(names
        .collect::<Result<Vec<_>, _>>()?
        .iter()
        .filter_map(|name| PepperId::parse(name))
        .collect())
}

/// Header and schema; returns the schema's version. Changes nothing.
pub(super) fn check_layout(connection: &Connection, path: &Path) -> Result<usize, OpenError> {
    let version = check_header(connection, path)?;
    let differences =
        schema::differences(connection, version).map_err(OpenError::of_sqlite(path))?;
    if differences.is_empty() {
        return Ok(version);
    }
    Err(OpenError::Schema {
        path: path.to_owned(),
        differences: differences.join("; "),
    })
}

fn check_header(connection: &Connection, path: &Path) -> Result<usize, OpenError> {
    let failed = OpenError::of_sqlite(path);
    let number =
        |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let application = number("application_id").map_err(failed)?;
    let version = number("user_version").map_err(failed)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    let ours = application == i64::from(APPLICATION_ID);
    let empty = application == 0 && version == 0 && tables == 0;
    if !ours && !empty {
        return Err(OpenError::NotAStore(path.to_owned()));
    }
    let found = usize::try_from(version).unwrap_or(usize::MAX);
    if found > MIGRATIONS.len() {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: MIGRATIONS.len(),
        });
    }
    Ok(found)
}

fn settings(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(LOCK_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -32_768)?;
    connection.pragma_update(None, "journal_size_limit", wal::BYTES_MAX)?;
    // Before it is made sound nothing of the journal is copied; then `wal::copied_with_commits` does it.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn migrate(
    connection: &mut Connection,
    path: &Path,
    currency: Currency,
    (now, keyring): (Timestamp, &Keyring),
) -> Result<(), OpenError> {
    let stand_in_key = StandInKey::fresh().map_err(|error| OpenError::System {
        path: path.to_owned(),
        source: io::Error::other(error),
    })?;
    let failed = OpenError::of_sqlite(path);
    let version: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(failed)?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(migration).map_err(failed)?;
        if index == 0 {
            transaction
                .pragma_update(None, "application_id", APPLICATION_ID)
                .and_then(|()| begin_bank(&transaction, currency, now))
                .map_err(failed)?;
        }
        if index == STAND_INS {
            let sql = "INSERT INTO bank (name, value) VALUES ('stand_in_key', ?1)";
            transaction
                .execute(sql, [stand_in_key.as_str()])
                .map_err(failed)?;
        }
        if index == COVERED {
            cover(&transaction, path, (now, keyring))?;
            sums::fill_in(&transaction).map_err(failed)?;
        }
        let version = i64::try_from(index + 1).unwrap_or(i64::MAX);
        transaction
            .pragma_update(None, "user_version", version)
            .and_then(|()| transaction.commit())
            .map_err(failed)?;
    }
    Ok(())
}

/// Gives every row that stood before its first record.
fn cover(
    connection: &Connection,
    path: &Path,
    (now, keyring): (Timestamp, &Keyring),
) -> Result<(), OpenError> {
    let mut memory = Memory::default();
    let mut books = Books {
        connection,
        memory: &mut memory,
        keyring,
        seats: &Seats::default(),
    };
    books.cover_all(now).map_err(OpenError::of_store(path))
}

fn begin_bank(connection: &Connection, currency: Currency, now: Timestamp) -> rusqlite::Result<()> {
    let mut set = connection.prepare("INSERT INTO bank (name, value) VALUES (?1, ?2)")?;
    set.execute(params!["currency", currency.code()])?;
    set.execute(params!["made_at", now.to_string()])?;
    let mut account = connection.prepare(
        "INSERT INTO account (number, kind, currency, head, opened_at) VALUES (?1, ?2, ?3, zeroblob(32), ?4)",
    )?;
    account.execute(params!["opening", 2, currency.code(), now.unix_ms()])?;
    account.execute(params!["adjustment", 3, currency.code(), now.unix_ms()])?;
    Ok(())
}

pub(super) fn check_currency(
    connection: &Connection,
    path: &Path,
    currency: Currency,
) -> Result<(), OpenError> {
    let found: Option<String> = connection
        .query_row(
            "SELECT value FROM bank WHERE name = 'currency'",
            [],
            |row| row.get(0),
        )
        .optional()
        .map_err(OpenError::of_sqlite(path))?;
    match found {
        Some(found) if found == currency.code() => Ok(()),
        found => Err(OpenError::OtherCurrency {
            path: path.to_owned(),
            found: found.unwrap_or_else(|| "no currency".to_owned()),
            asked: currency.code().to_owned(),
        }),
    }
}
