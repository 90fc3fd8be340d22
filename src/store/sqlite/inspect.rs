//! What can be asked of a store that is not opened to be served: by a start, by `check`, by a restore.

use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::{OpenError, SqliteStore, StoreLock, clock, journal, look, open, reports};
use crate::access::pepper::PepperId;
use crate::domain::{ClockMark, Currency, TerminalName};
use crate::durable;
use crate::store::StoreError;

impl SqliteStore {
    /// Keeps everybody from the store at `path`, whether it is there or not, until the lock is
    /// dropped; returns the path it really has.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn keep_out(path: &Path) -> Result<(StoreLock, PathBuf), OpenError> {
        let kept_out = || {
            let real = open::real_path(path)?;
            Ok((open::lock(&real)?, real))
        };
        kept_out().map_err(OpenError::judged)
    }

    /// That this process may read and write the store and what is beside it.
    ///
    /// # Errors
    /// [`OpenError`], with the first file that it may not, and whose that is.
    pub fn may_use(path: &Path) -> Result<(), OpenError> {
        // It is replaced, never written to.
        let (lists, folder) = (open::beside(path, "-lists"), durable::folder_of(path));
        let lists = || look::refused(&lists, folder, Access::READ_OK);
        let Some((cause, detail)) = look::not_permitted(path).or_else(lists) else {
            return Ok(());
        };
        Err(OpenError::Storage {
            path: path.to_owned(),
            cause,
            detail,
        })
    }

    /// What `check` asks of a store that may be in use: header, schema, and the peppers it needs.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn inspect(path: &Path) -> Result<Vec<PepperId>, OpenError> {
        let inspected = || {
            let connection = open::reader(path)?;
            open::check_layout(&connection, path)?;
            open::peppers(&connection).map_err(OpenError::of_sqlite(path))
        };
        inspected().map_err(OpenError::judged)
    }

    /// What the store that may be in use keeps of the bank's clock; `None` where it has no stamp yet.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn clock_mark(path: &Path) -> Result<Option<ClockMark>, OpenError> {
        let connection = open::reader(path);
        let mark = connection.and_then(|connection| {
            clock::read_mark(&connection).map_err(OpenError::of_sqlite(path))
        });
        mark.map_err(OpenError::judged)
    }

    /// Whether a start would take the store and what a crash left beside it. Where a process has it, it
    /// did. Changes nothing.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn try_open(path: &Path) -> Result<(), OpenError> {
        let (_lock, path) = match Self::keep_out(path) {
            Err(OpenError::InUse(_)) => return Ok(()),
            kept_out => kept_out?,
        };
        let judged = || {
            // Open for longer than SQLite has it: what closes a file loses its locks on it.
            let store = durable::open(&path).map_err(OpenError::of_system(&path))?;
            let connection = open::reader(&path)?;
            let version = open::check_layout(&connection, &path)?;
            journal::judge(&connection, (&path, &store), version, None).map(|_| ())
        };
        judged().map_err(OpenError::judged)
    }

    /// What else a start would refuse a store for that may be in use, or may not be there: what is left of
    /// another, header, schema, currency. Tells how many demo accounts have their public PIN.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn look_over(path: &Path, currency: Currency) -> Result<u64, OpenError> {
        open::refuse_remains(path)?;
        if !path.exists() {
            return Ok(0);
        }
        let counted = || {
            let connection = open::reader(path)?;
            open::check_currency(&connection, path, currency)?;
            let sql = "SELECT count(*) FROM credential WHERE demo = 1";
            let count = connection.query_row(sql, [], |row| row.get(0));
            count.map_err(OpenError::of_sqlite(path))
        };
        counted().map_err(OpenError::judged)
    }

    /// Names of terminals that staff do not let in.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn disabled_terminals(path: &Path) -> Result<Vec<TerminalName>, StoreError> {
        let connection = open::reader(path)?;
        reports::disabled_terminals(&connection)
    }
}
