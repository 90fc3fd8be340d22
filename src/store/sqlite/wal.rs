//! How large the journal (`-wal`) is, and how large it stays.
//!
//! It is copied into the store's file once it has 1,000 pages, and SQLite begins it anew as soon as all of it
//! is copied and nobody reads it. While a snapshot is held it grows by all that is committed, and the file
//! keeps that size: what is over the bound is given back with the commit that begins it anew, or by
//! [`empty`] where no commit comes.

use std::ffi::c_int;
use std::path::Path;
use std::time::Duration;

use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode};

use super::disk::{LOCK_TIMEOUT, Writable};
use super::open::beside;

/// Octets that the journal keeps where nobody reads it. It is well above what others have it copied at that
/// do so themselves, as Litestream does (1,000 pages, by force at 10,000): they are not disturbed.
pub(in crate::store) const BYTES_MAX: u32 = if cfg!(test) { 6 << 20 } else { 64 << 20 };

/// Pages in the journal from which on it is copied.
const COPIED_AT_PAGES: c_int = 1_000;

/// How large the file is, in octets; 0 where there is none.
pub(super) fn bytes(store: &Path) -> u64 {
    std::fs::metadata(beside(store, "-wal")).map_or(0, |file| file.len())
}

/// Has the journal copied into the store's file with each commit once it is long enough, as SQLite does by
/// itself; but nobody would hear of it where the disk fails.
pub(super) fn copied_with_commits(
    connection: &mut Connection,
    writable: &Writable,
) -> rusqlite::Result<()> {
    let writable = writable.clone();
    connection.wal_hook(Some(move |wal: &mut Wal, pages| {
        if pages >= COPIED_AT_PAGES {
            match wal.checkpoint_v2(CheckpointMode::PASSIVE) {
                Ok((pages, copied)) if pages > 0 && pages == copied => writable.journal_begins(),
                Err(error) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => {
                    writable.failed(error.into());
                }
                // Somebody else is copying it.
                _ => {}
            }
        }
        // The commit stands, and is answered.
        Ok(())
    }))
}

/// Copies of the journal into the store's file what nobody reads; whether that is all.
pub(super) fn copy(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        // A wait for others; pages that are there, and those that are copied.
        let [busy, pages, copied] = [row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?];
        Ok(busy == 0 && pages == copied)
    })
}

/// Copies the journal into the store's file and empties it, where nobody reads it just then: nobody is
/// waited for. Whether all of it is copied.
pub(super) fn empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(Duration::ZERO)?;
    let emptied = copy(connection).and_then(|all| match all {
        true => connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(true)),
        false => Ok(false),
    });
    connection.busy_timeout(LOCK_TIMEOUT)?;
    emptied
}
