//! Whether the disk keeps what it is given.
//!
//! After a failed `fsync` the system may have dropped what it was to write, and still show it to
//! whoever reads the file: nothing says any more which of the journal's pages are on the disk
//! ("Can applications recover from fsync failures?", Rebello et al., USENIX ATC 2020). A later
//! commit that only followed upon such pages would be lost with them. So nothing is committed
//! before all that counts was copied into the store's file anew, synced, and the journal begun
//! afresh. The same is done where a store is opened: the process before may have ended that way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use super::wal;
use crate::store::StoreError;

/// How long a recovery waits for those who read the journal. It is tried again with the next call.
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
pub(super) struct Writable(Arc<AtomicU8>);

impl Writable {
    pub(super) fn new(writable: bool) -> Self {
        let state = if writable { SOUND } else { IN_DOUBT };
        Self(Arc::new(AtomicU8::new(state)))
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed) != IN_DOUBT
    }

    /// Has the journal emptied before the next commit, where the disk is not in doubt.
    pub(super) fn empty_journal(&self) {
        let (relaxed, from, to) = (Ordering::Relaxed, SOUND, LARGE);
        let _ = self.0.compare_exchange(from, to, relaxed, relaxed);
    }

    /// A commit failed because of the disk: what is there is in doubt.
    pub(super) fn doubt(&self, error: &StoreError) {
        if self.0.swap(IN_DOUBT, Ordering::Relaxed) != IN_DOUBT {
            tracing::error!(%error, "the disk fails: nothing is written until it is sound again");
        }
    }

    /// Makes sure of the disk before anything is written.
    pub(super) fn make_sure(&self, connection: &Connection) -> Result<(), StoreError> {
        match self.0.load(Ordering::Relaxed) {
            SOUND => return Ok(()),
            LARGE => {
                self.0.store(SOUND, Ordering::Relaxed);
                if let Err(error) = wal::empty(connection) {
                    // Nothing is lost by it, and a disk that fails is told of by the commit.
                    tracing::debug!(%error, "the journal was not emptied");
                }
                return Ok(());
            }
            _ => {}
        }
        recover(connection).map_err(|error| match error {
            StoreError::Disk(reason) => StoreError::Disk(reason),
            error => StoreError::Disk(error.to_string()),
        })?;
        self.0.store(SOUND, Ordering::Relaxed);
        tracing::info!("the disk is sound again: all that was committed was copied and synced");
        Ok(())
    }
}

fn recover(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(READERS_TIMEOUT)?;
    let folded = fold_journal(connection);
    connection.busy_timeout(LOCK_TIMEOUT)?;
    if !folded? {
        let reason = "the journal is being read, and cannot begin anew yet";
        return Err(StoreError::Disk(reason.to_owned()));
    }
    // Only a commit shows that commits are kept: one that would change nothing writes nothing.
    connection.execute(
        "INSERT INTO bank (name, value) VALUES ('recoveries', '1') \
         ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)",
        [],
    )?;
    Ok(())
}

/// Copies the journal's pages into the file, syncs it, and empties the journal; whether that was
/// possible for those who read it.
pub(super) fn fold_journal(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        Ok(row.get::<_, i64>(0)? == 0)
    })
}
