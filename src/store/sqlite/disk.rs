//! Whether the disk keeps what it is given.
//!
//! After a failed `fsync` the system may have dropped what it was to write, and still show it to
//! whoever reads the file: nothing says any more which of the journal's pages are on the disk
//! ("Can applications recover from fsync failures?", Rebello et al., USENIX ATC 2020). A later
//! commit that only followed upon such pages would be lost with them. So nothing is committed
//! before all that counts was copied into the store's file anew, synced, and the journal begun
//! afresh. Where others read the journal, it cannot begin afresh while they do: then all of it that
//! counts is written over itself, which makes the system write those pages anew and changes nothing
//! that anybody reads; what stands behind is cut off, and the file synced. The same is done where a
//! store is opened: the process before may have ended that way.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::causes::Cause;
use super::journal::{FRAME_HEADER_BYTES, HEADER_BYTES};
use super::look::Looker;
use super::open::beside;
use super::wal;
use crate::durable;
use crate::store::StoreError;

/// How long it is waited for those who read the journal, before it is made sound beside them.
const READERS_TIMEOUT: Duration = Duration::from_millis(500);
/// How long any other statement waits for a lock of another connection.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Nothing is written before the disk was made sure of.
const IN_DOUBT: u8 = 0;
const SOUND: u8 = 1;
/// Sound, and the journal is to be emptied before the next commit.
const LARGE: u8 = 2;

/// Whether the store's file can be written, for all who ask.
#[derive(Debug, Clone)]
pub(super) struct Writable {
    state: Arc<AtomicU8>,
    looker: Arc<Looker>,
}

impl Writable {
    /// That the store can be written, since all that it holds was made sound.
    pub(super) fn sound(looker: Arc<Looker>) -> Self {
        Self {
            state: Arc::new(AtomicU8::new(SOUND)),
            looker,
        }
    }

    pub(super) fn get(&self) -> bool {
        self.state.load(Ordering::Relaxed) != IN_DOUBT
    }

    /// Has the journal emptied before the next commit, where the disk is not in doubt.
    pub(super) fn empty_journal(&self) {
        let (relaxed, from, to) = (Ordering::Relaxed, SOUND, LARGE);
        let _ = self.state.compare_exchange(from, to, relaxed, relaxed);
    }

    /// A transaction failed: finds out why. Where it was the disk, what is there is in doubt.
    pub(super) fn failed(&self, error: StoreError) -> StoreError {
        let error = self.looker.judge(error);
        if matches!(error, StoreError::Disk(cause, _) if cause.is_of_disk()) {
            self.doubt(&error);
        }
        error
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
                if let Err(error) = wal::empty(connection) {
                    // Nothing is lost by it, and a disk that fails is told of by the commit.
                    tracing::debug!(%error, "the journal was not emptied");
                }
                return Ok(());
            }
            _ => {}
        }
        recover(connection, self.looker.path())?;
        self.state.store(SOUND, Ordering::Relaxed);
        tracing::info!("the disk is sound again: all that was committed was copied and synced");
        Ok(())
    }
}

fn recover(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    make_sound(connection, path)?;
    // Only a commit shows that commits are kept: one that would change nothing writes nothing.
    connection.execute(
        "INSERT INTO bank (name, value) VALUES ('recoveries', '1') \
         ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)",
        [],
    )?;
    Ok(())
}

/// Has all that was committed written anew and synced, whoever reads the store meanwhile.
pub(super) fn make_sound(connection: &Connection, path: &Path) -> Result<(), Unsound> {
    connection.busy_timeout(READERS_TIMEOUT)?;
    let made = match fold_journal(connection) {
        Ok(false) => rewrite_journal(connection, path),
        folded => folded.map(|_| ()).map_err(Unsound::from),
    };
    connection.busy_timeout(LOCK_TIMEOUT)?;
    made
}

/// Why what was committed cannot be made sure of.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsound {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    System(#[from] io::Error),
}

impl From<Unsound> for StoreError {
    fn from(error: Unsound) -> Self {
        match error {
            Unsound::Sqlite(error) => error.into(),
            Unsound::System(error) => {
                Self::Disk(Cause::of_system(&error, Cause::Writing), error.to_string())
            }
        }
    }
}

/// Copies the journal's pages into the file, syncs it, and empties the journal; whether that was
/// possible for those who read it.
fn fold_journal(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        Ok(row.get::<_, i64>(0)? == 0)
    })
}

/// Writes what counts of the journal over itself, cuts off what follows, and syncs it.
fn rewrite_journal(connection: &Connection, path: &Path) -> Result<(), Unsound> {
    // Meanwhile nobody else commits, or begins the journal afresh.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let rewritten = committed_bytes(path).and_then(|length| {
        let journal = beside(path, "-wal");
        rewrite(&journal, length)?;
        Ok(durable::sync_folder_of(&journal)?)
    });
    connection.execute_batch("ROLLBACK")?;
    rewritten
}

/// How much of the journal is committed, in bytes. What a failed commit left behind that is no part of
/// it, and must not stay: behind later commits it would look like frames whose forerunners are lost.
fn committed_bytes(path: &Path) -> Result<u64, Unsound> {
    let other = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let frames: u64 = other.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
    if frames == 0 {
        return Ok(0);
    }
    let page: u64 = other.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let (header, frame_header) = (HEADER_BYTES as u64, FRAME_HEADER_BYTES as u64);
    Ok(frames
        .saturating_mul(page.saturating_add(frame_header))
        .saturating_add(header))
}

/// Nothing of SQLite's locks is on the journal: it may be opened and closed.
fn rewrite(journal: &Path, length: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(journal)?;
    let mut chunk = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let left = usize::try_from(length.saturating_sub(at)).unwrap_or(usize::MAX);
        let count = left.min(chunk.len());
        let part = &mut chunk[..count];
        file.read_exact_at(part, at)?;
        file.write_all_at(part, at)?;
        at = at.saturating_add(count as u64);
    }
    file.set_len(length)?;
    file.sync_all()
}
