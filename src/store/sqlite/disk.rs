//! Whether the disk keeps what it is given.
//!
//! After a failed `fsync` the system may have dropped what it was to write, and still show it to
//! whoever reads the file: nothing says any more which pages are on the disk
//! ("Can applications recover from fsync failures?", Rebello et al., USENIX ATC 2020). A later
//! commit that only followed upon such pages would be lost with them. So nothing is committed, and nothing
//! of the journal given up, before all that counts was written anew: the journal over itself, which makes
//! the system write those pages again and changes nothing that anybody reads (each frame only if it reads as
//! its checksum says), and into the store's file what was copied there already, since SQLite syncs that file only once all of the journal is in it. What
//! stands behind the last commit is cut off, and both files are synced. Then the journal is copied and
//! begun afresh, where nobody reads it. The same is done where a store is opened: the process before may
//! have ended that way.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::causes::Cause;
use super::generation;
use super::journal::{FRAME_HEADER_BYTES, Form, HEADER_BYTES, word};
use super::look::Looker;
use super::wal;
use crate::durable;
use crate::store::StoreError;

/// How long it is waited for those who read the journal, so that it can begin afresh.
const READERS_TIMEOUT: Duration = Duration::from_millis(500);
/// How long any other statement waits for a lock of another connection.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Nothing is written before the disk was made sure of.
const IN_DOUBT: u8 = 0;
const SOUND: u8 = 1;
/// Sound, and the journal is to be emptied before the next commit.
const LARGE: u8 = 2;
/// All was written anew, and a commit is to show that commits are kept.
const PROVING: u8 = 3;

/// Whether the store's file can be written, for all who ask.
#[derive(Debug, Clone)]
pub(super) struct Writable {
    state: Arc<AtomicU8>,
    /// All of the journal was copied: the next commit may be the first of another.
    begins: Arc<AtomicBool>,
    looker: Arc<Looker>,
}

impl Writable {
    /// That the store can be written, since all that it holds was made sound.
    pub(super) fn sound(looker: Arc<Looker>) -> Self {
        Self {
            state: Arc::new(AtomicU8::new(SOUND)),
            begins: Arc::default(),
            looker,
        }
    }

    pub(super) fn get(&self) -> bool {
        matches!(self.state.load(Ordering::Relaxed), SOUND | LARGE)
    }

    /// Has the next commit name the journal, since all of it was copied.
    pub(super) fn journal_begins(&self) {
        self.begins.store(true, Ordering::Relaxed);
    }

    /// Commits; names the journal where that is due.
    pub(super) fn commit(&self, connection: &Connection) -> rusqlite::Result<()> {
        let commit = || {
            let mut commit = connection.prepare_cached("COMMIT")?;
            commit.execute([]).map(drop)
        };
        if !self.begins.swap(false, Ordering::Relaxed) {
            return commit();
        }
        let named = generation::renew(connection).and_then(|()| commit());
        if named.is_err() {
            self.journal_begins();
        }
        named
    }

    /// Has the journal emptied before the next commit, where the disk is not in doubt.
    pub(super) fn empty_journal(&self) {
        let (relaxed, from, to) = (Ordering::Relaxed, SOUND, LARGE);
        let _ = self.state.compare_exchange(from, to, relaxed, relaxed);
    }

    /// A transaction failed: finds out why. Where it was the disk, or the store is damaged, what is there is
    /// in doubt.
    pub(super) fn failed(&self, error: StoreError) -> StoreError {
        let error = self.looker.judge(error);
        let in_doubt = match &error {
            StoreError::Disk(cause, _) => cause.is_of_disk(),
            StoreError::Damaged(..) => true,
            _ => false,
        };
        if in_doubt {
            self.doubt(&error);
        }
        error
    }

    /// Only a commit shows that commits are kept: one that would change nothing writes nothing.
    fn prove(&self, connection: &Connection) -> rusqlite::Result<()> {
        let transaction = connection.unchecked_transaction()?;
        let sql = "INSERT INTO bank (name, value) VALUES ('recoveries', '1') \
                   ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)";
        transaction.execute(sql, [])?;
        self.commit(&transaction)
    }

    fn doubt(&self, error: &StoreError) {
        if self.state.swap(IN_DOUBT, Ordering::Relaxed) != IN_DOUBT {
            tracing::error!(%error, "the disk fails: nothing is written until it is sound again");
        }
    }

    /// Makes sure of the disk before anything is written.
    pub(super) fn make_sure(&self, connection: &Connection) -> Result<(), StoreError> {
        match self.state.load(Ordering::Relaxed) {
            SOUND => return Ok(()),
            LARGE => {
                self.state.store(SOUND, Ordering::Relaxed);
                match wal::empty(connection) {
                    Ok(true) => self.journal_begins(),
                    Ok(false) => {}
                    Err(error) => drop(self.failed(error.into())),
                }
                if self.get() {
                    return Ok(());
                }
            }
            _ => {}
        }
        if let Some(damage) = self.looker.damage() {
            return Err(damage);
        }
        self.looker
            .stands()
            .map_err(|gone| rescue(connection, gone))?;
        if make_sound(connection, &self.looker)? {
            self.journal_begins();
        }
        self.state.store(PROVING, Ordering::Relaxed);
        let proven = self.prove(connection);
        let (relaxed, from, to) = (Ordering::Relaxed, PROVING, SOUND);
        // The journal may be copied with that commit, and the disk have failed again.
        if proven.is_err()
            || self
                .state
                .compare_exchange(from, to, relaxed, relaxed)
                .is_err()
        {
            self.state.store(IN_DOUBT, Ordering::Relaxed);
            proven?;
            let words = "it failed again while the journal was copied".to_owned();
            return Err(StoreError::Disk(Cause::Syncing, words));
        }
        tracing::info!("the disk is sound again: all that was committed was copied and synced");
        Ok(())
    }
}

/// Where the journal is gone from its place, it ends with this process: what it alone holds is copied into the store.
fn rescue(connection: &Connection, gone: StoreError) -> StoreError {
    let StoreError::Disk(Cause::JournalGone, words) = gone else {
        return gone;
    };
    let held = match wal::copy(connection) {
        Ok(true) => "the store holds all that was committed".to_owned(),
        Ok(false) => "the store does not hold all yet, since somebody reads".to_owned(),
        Err(error) => format!("the store does not hold all: {error}"),
    };
    StoreError::Disk(Cause::JournalGone, format!("{words}; {held}"))
}

/// Has all that was committed written anew and synced, whoever reads the store meanwhile. Whether all of
/// the journal is copied, which those who read it may prevent.
pub(super) fn make_sound(connection: &Connection, looker: &Looker) -> Result<bool, StoreError> {
    // Meanwhile nobody else commits, or begins the journal afresh.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let rewritten = rewrite(looker);
    connection.execute_batch("ROLLBACK")?;
    rewritten?;
    connection.busy_timeout(READERS_TIMEOUT)?;
    let folded = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        let [pages, copied] = [row.get::<_, i64>(1)?, row.get(2)?];
        Ok(pages >= 0 && pages == copied)
    });
    connection.busy_timeout(LOCK_TIMEOUT)?;
    Ok(folded?)
}

/// Why what was committed cannot be made sure of.
#[derive(Debug, thiserror::Error)]
enum Unsound {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    System(#[from] io::Error),
    /// At a read of the journal.
    #[error("{0}")]
    Read(io::Error),
    /// A frame of the journal reads otherwise than it was written, for now or for good.
    #[error("frame {0} of the journal is not as it was written")]
    Misread(u64),
    /// Store or journal is not at its place.
    #[error("{0}")]
    Gone(StoreError),
    /// At an `fsync`.
    #[error("{0}")]
    Synced(io::Error),
}

impl From<Unsound> for StoreError {
    fn from(error: Unsound) -> Self {
        match error {
            Unsound::Sqlite(error) => error.into(),
            Unsound::System(error) => {
                Self::Disk(Cause::of_system(&error, Cause::Writing), error.to_string())
            }
            Unsound::Read(error) => {
                Self::Disk(Cause::of_system(&error, Cause::Reading), error.to_string())
            }
            Unsound::Gone(error) => error,
            Unsound::Misread(_) => Self::Disk(Cause::Reading, error.to_string()),
            Unsound::Synced(error) => {
                Self::Disk(Cause::of_system(&error, Cause::Syncing), error.to_string())
            }
        }
    }
}

/// How much of the journal counts. What a failed commit left behind that is no part of it, and must not
/// stay: behind later commits it would look like frames whose forerunners are lost.
struct Written {
    page_bytes: usize,
    /// Frames up to the last commit.
    frames: u64,
    /// Those of them, from the first on, that were copied into the store's file.
    copied: u64,
}

impl Written {
    fn read(path: &Path) -> Result<Self, Unsound> {
        let other = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // Takes no lock and copies nothing, whoever else is copying.
        let (frames, copied) = other.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| {
            Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })?;
        let page_bytes = other.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let known = |count| {
            let count = u64::try_from(count);
            count.map_err(|_| io::Error::other("how long the journal is cannot be told"))
        };
        Ok(Self {
            page_bytes,
            frames: known(frames)?,
            copied: known(copied)?,
        })
    }
}

/// Writes what counts of the journal over itself, and what of it was copied into the store there again;
/// cuts off what follows, and syncs both.
fn rewrite(looker: &Looker) -> Result<(), Unsound> {
    let journal = looker.journal()?;
    // By its path it is opened anew: another there must not be taken for this one.
    looker.stands().map_err(Unsound::Gone)?;
    let written = Written::read(looker.path())?;
    if written.frames == 0 {
        journal.set_len(0)?;
    } else {
        let (form, copied) = rewrite_journal(journal, &written)?;
        copy_again((journal, &form), looker.store(), &written, copied)?;
    }
    let synced = journal.sync_all().and_then(|()| looker.store().sync_all());
    let synced = synced.and_then(|()| durable::sync_folder_of(looker.path()));
    synced.map_err(Unsound::Synced)
}

fn frame_at(written: &Written, frame: u64) -> u64 {
    let bytes = written.page_bytes.saturating_add(FRAME_HEADER_BYTES) as u64;
    frame
        .saturating_mul(bytes)
        .saturating_add(HEADER_BYTES as u64)
}

/// A frame that is the last of its page, and was copied.
struct Copied {
    number: u64,
    /// The checksum that it follows upon.
    before: (u32, u32),
}

/// Reads a frame that must be as it was written: one that is not would be made durable for right.
fn read_frame(
    (journal, form): (&File, &Form),
    at: u64,
    (number, before): (u64, (u32, u32)),
    frame: &mut [u8],
) -> Result<(u32, u32), Unsound> {
    journal.read_exact_at(frame, at).map_err(Unsound::Read)?;
    let sum = form.checked(before, frame);
    sum.ok_or(Unsound::Misread(number.saturating_add(1)))
}

/// Writes the journal over itself; returns its form, and the frames that are to be copied again, by page.
fn rewrite_journal(
    journal: &File,
    written: &Written,
) -> Result<(Form, HashMap<u32, Copied>), Unsound> {
    let mut header = [0; HEADER_BYTES];
    journal
        .read_exact_at(&mut header, 0)
        .map_err(Unsound::Read)?;
    let form = Form::of(&header).filter(|form| form.page_bytes == written.page_bytes);
    let form = form.ok_or(Unsound::Misread(0))?;
    journal.write_all_at(&header, 0)?;
    let mut frame = vec![0; written.page_bytes.saturating_add(FRAME_HEADER_BYTES)];
    let (mut last, mut pages, mut before) = (HashMap::new(), 0, form.begins);
    for number in 0..written.frames {
        let at = frame_at(written, number);
        let sum = read_frame((journal, &form), at, (number, before), &mut frame)?;
        journal.write_all_at(&frame, at)?;
        // Page, and with a commit the store's size in pages (SQLite's file format, 4.1).
        last.insert(word(&frame, 0), Copied { number, before });
        before = sum;
        pages = match word(&frame, 4) {
            0 => pages,
            size => size,
        };
    }
    journal.set_len(frame_at(written, written.frames))?;
    last.retain(|page, frame| (1..=pages).contains(page) && frame.number < written.copied);
    Ok((form, last))
}

/// Nobody else writes these pages: whoever copies the journal goes on behind them.
fn copy_again(
    journal: (&File, &Form),
    store: &File,
    written: &Written,
    frames: HashMap<u32, Copied>,
) -> Result<(), Unsound> {
    let mut frame = vec![0; written.page_bytes.saturating_add(FRAME_HEADER_BYTES)];
    for (page, Copied { number, before }) in frames {
        read_frame(
            journal,
            frame_at(written, number),
            (number, before),
            &mut frame,
        )?;
        let at = u64::from(page).saturating_sub(1);
        let at = at.saturating_mul(written.page_bytes as u64);
        store.write_all_at(frame.get(FRAME_HEADER_BYTES..).unwrap_or_default(), at)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::beside;

    /// A store of one table, with a journal of which some is copied already beside somebody who reads.
    fn half_copied(folder: &Path) -> (Connection, Connection) {
        let path = folder.join("bank.db");
        let connection = Connection::open(&path).unwrap();
        let sql = "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (a); \
                   CREATE TABLE bank (name PRIMARY KEY, value, sum); INSERT INTO t VALUES (zeroblob(50000)); PRAGMA wal_checkpoint(TRUNCATE); \
                   UPDATE t SET a = randomblob(50000)";
        connection.execute_batch(sql).unwrap();
        let reader = Connection::open(&path).unwrap();
        let sql = "BEGIN; SELECT length(a) FROM t";
        reader.execute_batch(sql).unwrap();
        let sql = "INSERT INTO t VALUES (1); PRAGMA wal_checkpoint(PASSIVE)";
        connection.execute_batch(sql).unwrap();
        (connection, reader)
    }

    fn is_whole(connection: &Connection) -> bool {
        let sql = "SELECT count(*) = 2 AND sum(a = zeroblob(50000)) = 0 FROM t";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_disk_that_fails_again_while_the_journal_is_copied_stays_in_doubt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bank.db");
        let mut connection = Connection::open(&path).unwrap();
        let sql = "PRAGMA journal_mode = WAL; CREATE TABLE bank (name PRIMARY KEY, value, sum)";
        connection.execute_batch(sql).unwrap();
        let writable = Writable::sound(Looker::new(&path).unwrap());
        let fault = || StoreError::Disk(Cause::Syncing, "fault".to_owned());
        writable.failed(fault());
        let again = writable.clone();
        let hook = move |_: &mut rusqlite::hooks::Wal, _| {
            again.failed(fault());
            Ok(())
        };
        connection.wal_hook(Some(hook)).unwrap();
        for _ in 0..2 {
            assert!(writable.make_sure(&connection).is_err() && !writable.get());
        }
        let none: Option<fn(&mut rusqlite::hooks::Wal, i32) -> rusqlite::Result<()>> = None;
        connection.wal_hook(none).unwrap();
        writable.make_sure(&connection).unwrap();
        assert!(writable.get());
        drop(connection);
    }

    #[test]
    fn a_frame_that_reads_wrong_is_written_nowhere_and_keeps_the_disk_in_doubt_until_it_reads_right()
     {
        let folder = tempfile::tempdir().unwrap();
        let (connection, reader) = half_copied(folder.path());
        let path = folder.path().join("bank.db");
        let journal = beside(&path, "-wal");
        let read = || [&path, &journal].map(|path| std::fs::read(path).unwrap());
        let writable = Writable::sound(Looker::new(&path).unwrap());
        writable.failed(StoreError::Disk(Cause::Syncing, "fault".to_owned()));
        let frame_bytes = 4_096 + FRAME_HEADER_BYTES;
        let frames = (read()[1].len() - HEADER_BYTES) / frame_bytes;
        assert!(frames > 12);
        // The header's size of a page, a page that was copied already, the mark and checksum of a frame, the last page.
        let first_page = HEADER_BYTES + FRAME_HEADER_BYTES;
        let last_page = HEADER_BYTES + (frames - 1) * frame_bytes + FRAME_HEADER_BYTES;
        for at in [
            10,
            first_page,
            first_page - 16,
            first_page - 1,
            last_page + 4_095,
        ] {
            let mut right = read();
            right[1][at] ^= 1;
            std::fs::write(&journal, &right[1]).unwrap();
            let refused = writable.make_sure(&connection);
            assert!(
                matches!(refused, Err(StoreError::Disk(Cause::Reading, _))),
                "{at}: {refused:?}"
            );
            assert!(!writable.get() && read() == right, "{at}");
            right[1][at] ^= 1;
            std::fs::write(&journal, &right[1]).unwrap();
        }
        drop(reader);
        writable.make_sure(&connection).unwrap();
        drop(connection);
        assert!(is_whole(&Connection::open(&path).unwrap()));
    }

    #[test]
    fn what_was_copied_and_never_synced_is_copied_again_before_the_journal_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bank.db");
        let (connection, reader) = half_copied(folder.path());
        // The disk dropped what was copied.
        let size = std::fs::metadata(&path).unwrap().len();
        let looker = Looker::new(&path).unwrap();
        let zeros = vec![0; usize::try_from(size).unwrap() - 8_192];
        looker.store().write_all_at(&zeros, 8_192).unwrap();
        drop(reader);
        make_sound(&connection, &looker).unwrap();
        drop(connection);
        assert!(is_whole(&Connection::open(&path).unwrap()));
    }
}
