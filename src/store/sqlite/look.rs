//! The second look: what is really wrong where SQLite says that something is.
//!
//! Before a store is taken for damaged, its files are read whole past SQLite, and SQLite checks them whole
//! over a new connection, twice. What the disk does not give is the disk's fault; what is whole now was read
//! wrong once, and is tried again. Only what is read well and found wrong both times is damage.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Access, access, statvfs};
use rustix::process::{Resource, geteuid, getrlimit};

use super::causes::Cause;
use super::disk::LOCK_TIMEOUT;
use super::generation;
use super::journal;
use super::open::beside;
use crate::durable;
use crate::store::StoreError;

/// How long calls wait for the second look since it was begun. Of a large store it takes longer: until it is done,
/// calls that would need it fail as [`Cause::Passing`], at once.
const WAIT: Duration = Duration::from_secs(2);
/// Files that SQLite has open at once, over two connections.
const OPENED_AT_ONCE: usize = 8;
/// Read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// What is written at once beyond the end of a file, at most; a limit that is nearer is in the way.
const WRITTEN_BYTES_MAX: u64 = 1 << 16;

/// Looks at the store of a running server.
#[derive(Debug)]
pub(super) struct Looker {
    path: PathBuf,
    /// The store, to be read past SQLite. Open for as long as SQLite has it: when a process closes a file, all of
    /// its locks on it go, SQLite's too.
    store: File,
    /// The journal, as SQLite has it for as long as it has the store.
    journal: OnceLock<File>,
    state: Mutex<State>,
    changed: Condvar,
}

/// How far the second look is.
#[derive(Debug)]
enum State {
    NotNeeded,
    /// Since then.
    Looking(Instant),
    /// What was found, and when. Damage stays.
    Found(Cause, String, Instant),
}

impl Looker {
    pub(super) fn new(path: &Path) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            path: path.to_owned(),
            store: OpenOptions::new().read(true).write(true).open(path)?,
            journal: OnceLock::new(),
            state: Mutex::new(State::NotNeeded),
            changed: Condvar::new(),
        }))
    }

    /// The store's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The store, to be read and written past SQLite.
    pub(super) fn store(&self) -> &File {
        &self.store
    }

    /// The journal, to be read and written past SQLite, which has it open.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn journal(&self) -> io::Result<&File> {
        if let Some(known) = self.journal.get() {
            return Ok(known);
        }
        let opened = journal::open(OpenOptions::new().read(true).write(true), &self.path)?;
        Ok(self.journal.get_or_init(|| opened))
    }

    /// That store and journal stand at their paths still: a start would find no others. SQLite would go on in files
    /// that end with the process.
    ///
    /// # Errors
    /// [`StoreError::Disk`]; [`Cause::Missing`] or [`Cause::JournalGone`] where one is gone, or another.
    pub(super) fn stands(&self) -> Result<(), StoreError> {
        let journal = beside(&self.path, "-wal");
        let files = [
            (Some(&self.store), &self.path, Cause::Missing),
            (self.journal.get(), &journal, Cause::JournalGone),
        ];
        for (file, path, gone) in files {
            let (cause, why) = match fs::symlink_metadata(path) {
                _ if file.is_none_or(|file| durable::is_same(file, path)) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => (gone, error.to_string()),
                Err(error) => (Cause::of_system(&error, Cause::Reading), error.to_string()),
                Ok(_) => (gone, "it is another file".to_owned()),
            };
            let words = format!("{}: {why}", path.display());
            return Err(StoreError::Disk(cause, words));
        }
        Ok(())
    }

    /// Finds the cause of an error of the disk, and says it in words.
    pub(super) fn judge(self: &Arc<Self>, error: StoreError) -> StoreError {
        let StoreError::Disk(guess, words) = error else {
            return error;
        };
        let (cause, detail) = match self.stands() {
            // Whatever SQLite read then: it was not all of the store.
            Err(StoreError::Disk(gone, place)) if guess != gone && gone.is_gone() => (gone, place),
            _ if guess.is_damage() => self.second_look(guess, words),
            _ => find(&self.path, Some(&self.store), guess, words),
        };
        let told = cause.tell(&detail);
        match cause.is_damage() {
            true => StoreError::Damaged(cause, told),
            false => StoreError::Disk(cause, told),
        }
    }

    /// The damage that was found, if any was.
    pub(super) fn damage(&self) -> Option<StoreError> {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Found(cause, detail, _) if cause.is_damage() => {
                Some(StoreError::Damaged(*cause, cause.tell(detail)))
            }
            _ => None,
        }
    }

    /// One look at a time, whoever asks, on a thread of its own: the store is served on meanwhile.
    fn second_look(self: &Arc<Self>, guess: Cause, words: String) -> (Cause, String) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = match &*state {
            State::Looking(begun) => *begun,
            State::Found(cause, detail, at) if cause.is_damage() || at.elapsed() < WAIT => {
                return (*cause, detail.clone());
            }
            State::Found(..) | State::NotNeeded => match self.begin_look(guess, &words) {
                Ok(()) => Instant::now(),
                Err(error) => return (Cause::of_system(&error, Cause::Memory), error.to_string()),
            },
        };
        *state = State::Looking(begun);
        let looking = |state: &mut State| matches!(state, State::Looking(_));
        let rest = WAIT.saturating_sub(begun.elapsed());
        let (state, _) = self
            .changed
            .wait_timeout_while(state, rest, looking)
            .unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Found(cause, detail, _) => (*cause, detail.clone()),
            State::Looking(_) | State::NotNeeded => {
                (Cause::Passing, format!("{words}; it is looked at still"))
            }
        }
    }

    /// Looks on a thread, which cannot say what it found before the state is let go here.
    fn begin_look(self: &Arc<Self>, guess: Cause, words: &str) -> io::Result<()> {
        tracing::error!(
            reason = words,
            "a page is not as it should be: all are looked at"
        );
        let (looker, asked) = (Arc::clone(self), words.to_owned());
        let thread = thread::Builder::new().name("second-look".to_owned());
        let look = move || {
            let (cause, detail) = find(&looker.path, Some(&looker.store), guess, asked);
            tracing::error!(?cause, detail, "all pages were looked at");
            let state = looker.state.lock();
            *state.unwrap_or_else(PoisonError::into_inner) =
                State::Found(cause, detail, Instant::now());
            looker.changed.notify_all();
        };
        thread.spawn(look).map(|_| ())
    }
}

/// Finds out what made SQLite, or the system, fail upon the store at `path`: the cause, and the details. `store` is
/// given where SQLite may have the file open in this process.
pub(super) fn find(
    path: &Path,
    store: Option<&File>,
    guess: Cause,
    words: String,
) -> (Cause, String) {
    match guess {
        Cause::Damaged | Cause::NotAStore => look_twice(path, store, words),
        Cause::NotPermitted | Cause::Reading | Cause::Writing | Cause::Syncing => {
            let found = not_permitted(path).or_else(|| no_file(path));
            let found = found.or_else(|| not_opened(path, store));
            let found = found.or_else(|| crowded(path).filter(|_| guess == Cause::NotPermitted));
            let found = found.or_else(|| limited(path).filter(|_| guess == Cause::Writing));
            let found = found.or_else(|| filled(path).filter(|_| guess == Cause::Writing));
            match found {
                Some(found) => found,
                // What kept SQLite out is gone already.
                None if guess == Cause::NotPermitted => (Cause::Passing, words),
                None => (guess, words),
            }
        }
        guess => (guess, words),
    }
}

fn look_twice(path: &Path, store: Option<&File>, words: String) -> (Cause, String) {
    let mut found = (Cause::Passing, words);
    for _ in 0..2 {
        if let Err(error) = read_all(path, store) {
            return (Cause::of_system(&error, Cause::Reading), error.to_string());
        }
        found = match check_all(path) {
            Ok(None) => return (Cause::Passing, found.1),
            Ok(Some(fault)) => (Cause::Damaged, fault),
            Err(error) => match Cause::guess(&error).unwrap_or(Cause::Unexpected) {
                cause if cause.is_damage() => (cause, error.to_string()),
                other => return (other, error.to_string()),
            },
        };
    }
    // SQLite tells of a page that it cannot read as of one that is damaged.
    match read_all(path, store) {
        Ok(()) => found,
        Err(error) => (Cause::of_system(&error, Cause::Reading), error.to_string()),
    }
}

/// Reads store and journal whole. On the journal are none of SQLite's locks: it may be opened and closed.
///
/// # Errors
/// The system's, with the file's name.
pub(super) fn read_all(path: &Path, store: Option<&File>) -> io::Result<()> {
    match store {
        Some(store) => read_file(store),
        None => durable::open(path).and_then(|store| read_file(&store)),
    }?;
    match journal::open(OpenOptions::new().read(true), path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        journal => read_file(&journal?),
    }
}

fn read_file(file: &File) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0_u64;
    loop {
        match file.read_at(&mut chunk, at) {
            Ok(0) => return Ok(()),
            Ok(count) => at = at.saturating_add(count as u64),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether the store's file makes sense without its journal, which then is another's.
pub(super) fn is_whole_alone(path: &Path) -> bool {
    let checked = generation::open_alone(path).and_then(|alone| check(&alone));
    matches!(checked, Ok(None))
}

/// What SQLite finds wrong, over a new connection.
fn check_all(path: &Path) -> rusqlite::Result<Option<String>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_URI)?;
    connection.busy_timeout(LOCK_TIMEOUT)?;
    check(&connection)
}

fn check(connection: &Connection) -> rusqlite::Result<Option<String>> {
    // A quick check does not find what an index lacks.
    let sql = "PRAGMA integrity_check(1)";
    let words: String = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(Some(words).filter(|words| words != "ok"))
}

/// The first of the store's files that this process may not use, whose it is, and what to do.
pub(super) fn not_permitted(path: &Path) -> Option<(Cause, String)> {
    let folder = durable::folder_of(path);
    let to_use = Access::READ_OK | Access::WRITE_OK;
    let files = ["", "-wal", "-shm", "-lock"].map(|part| (beside(path, part), to_use));
    let mut all = std::iter::once((folder.to_owned(), to_use | Access::EXEC_OK)).chain(files);
    all.find_map(|(file, needed)| refused(&file, folder, needed))
}

/// That this process may not use the file, which is in `folder` or is it; whose it is, and what to do.
pub(super) fn refused(file: &Path, folder: &Path, needed: Access) -> Option<(Cause, String)> {
    let error = access(file, needed).err()?;
    let cause = Cause::of_system(&error.into(), Cause::Passing);
    if !matches!(cause, Cause::NotPermitted | Cause::ReadOnly) {
        return None;
    }
    let (name, me) = (file.display(), geteuid().as_raw());
    let detail = match (fs::metadata(file), fs::metadata(folder)) {
        (Ok(own), Ok(folder)) if own.uid() != folder.uid() => format!(
            "{name} belongs to uid {}, and this process is uid {me}: chown {}:{} {name}",
            own.uid(),
            folder.uid(),
            folder.gid()
        ),
        (Ok(own), _) => format!(
            "{name} belongs to uid {}, its mode is {:o}, and this process is uid {me}",
            own.uid(),
            own.mode() & 0o7777
        ),
        (Err(_), _) => format!("{name}, by uid {me}"),
    };
    Some((cause, detail))
}

/// The first of the store's files that is there and is none, such as a folder.
fn no_file(path: &Path) -> Option<(Cause, String)> {
    [
        ("", Cause::NotAStore),
        ("-wal", Cause::Unexpected),
        ("-shm", Cause::Unexpected),
    ]
    .into_iter()
    .find_map(|(part, cause)| {
        let file = beside(path, part);
        let is_other = fs::metadata(&file).is_ok_and(|found| !found.is_file());
        is_other.then(|| (cause, format!("{} is no file", file.display())))
    })
}

/// Whether a file can be opened at all. One that SQLite may have open is not opened here; its journal may be.
fn not_opened(path: &Path, store: Option<&File>) -> Option<(Cause, String)> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true);
    let opened = match store {
        Some(_) if !path.exists() => Err(io::ErrorKind::NotFound.into()),
        Some(_) => match journal::open(options, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                File::open(durable::folder_of(path))
            }
            opened => opened,
        },
        None => options.open(path),
    };
    let error = opened.err()?;
    let cause = Cause::of_system(&error, Cause::Reading);
    Some((cause, format!("{}: {error}", path.display())))
}

/// Whether as many files cannot be opened as SQLite needs at once. What it had is closed by now.
fn crowded(path: &Path) -> Option<(Cause, String)> {
    let folder = durable::folder_of(path);
    let opened: io::Result<Vec<File>> = (0..OPENED_AT_ONCE).map(|_| File::open(folder)).collect();
    let error = opened.err()?;
    let cause = Cause::of_system(&error, Cause::Reading);
    (cause == Cause::Files).then(|| (cause, error.to_string()))
}

/// Whether there is no room. Where SQLite does not get it for what it shares with others, it does not say so.
fn filled(path: &Path) -> Option<(Cause, String)> {
    let folder = durable::folder_of(path);
    let disk = statvfs(folder).ok()?;
    let room = disk.f_bavail.saturating_mul(disk.f_frsize);
    let detail = || format!("{} has room for {room} bytes", folder.display());
    (room < WRITTEN_BYTES_MAX).then(|| (Cause::Full, detail()))
}

/// Whether a file is at this process's limit on their size.
fn limited(path: &Path) -> Option<(Cause, String)> {
    let limit = getrlimit(Resource::Fsize).current?;
    ["", "-wal", "-shm"].iter().find_map(|part| {
        let file = beside(path, part);
        let length = fs::metadata(&file).map_or(0, |found| found.len());
        let reached = length.saturating_add(WRITTEN_BYTES_MAX) > limit;
        let detail = || format!("{} is {length} bytes, the limit {limit}", file.display());
        reached.then(|| (Cause::Limit, detail()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store with an index, and a row that is not in it.
    fn lacking(path: &Path) {
        let run = |sql: &str| {
            let connection = Connection::open(path).unwrap();
            connection.execute_batch(sql).unwrap();
        };
        run("CREATE TABLE t (a); CREATE INDEX i ON t (a)");
        run(
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET type = 'table', name = 'u', tbl_name = 'u', \
             sql = 'CREATE TABLE u (a PRIMARY KEY) WITHOUT ROWID' WHERE name = 'i'",
        );
        run("INSERT INTO t VALUES (1)");
        run(
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET type = 'index', name = 'i', tbl_name = 't', \
             sql = 'CREATE INDEX i ON t (a)' WHERE name = 'u'",
        );
    }

    #[test]
    fn a_row_that_its_index_lacks_is_damage_and_stays_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bank.db");
        lacking(&path);
        let looker = Looker::new(&path).unwrap();
        for _ in 0..2 {
            let judged = looker.judge(StoreError::Disk(Cause::Damaged, "words".to_owned()));
            assert!(
                matches!(judged, StoreError::Damaged(Cause::Damaged, _)),
                "{judged:?}"
            );
        }
    }

    #[test]
    fn what_is_whole_at_the_second_look_was_read_wrong_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bank.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (a)").unwrap();
        let looker = Looker::new(&path).unwrap();
        let judged = looker.judge(StoreError::Disk(Cause::Damaged, "words".to_owned()));
        assert!(
            matches!(judged, StoreError::Disk(Cause::Passing, _)),
            "{judged:?}"
        );
        drop(connection);
    }
}
