//! Reading at length without holding one snapshot for all of it: while a snapshot is held the journal
//! cannot begin anew, and grows by all that is committed.

use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::store::StoreError;

/// How long a snapshot is held where the reading need not be of one moment. In tests each window of rows
/// has its own.
const SLICE: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 200 });
/// Between two snapshots, where others commit: time enough for the journal to be copied and begun anew.
const PAUSE: Duration = Duration::from_millis(20);
/// Rows that are read between two looks at the time.
const WINDOW: usize = if cfg!(test) { 3 } else { 1_000 };

/// One snapshot after another.
pub(super) struct Slices<'c> {
    pub(super) connection: &'c Connection,
    /// What is done between two snapshots; told whether others have committed meanwhile.
    pause: Box<dyn FnMut(bool) + 'c>,
    began: Instant,
    /// Changes with each commit of another connection.
    version: i64,
}

impl<'c> Slices<'c> {
    /// Begins the first.
    pub(super) fn begin(connection: &'c Connection) -> Result<Self, StoreError> {
        let pause = |changed| {
            if changed {
                thread::sleep(PAUSE);
            }
        };
        Self::with_pause(connection, pause)
    }

    pub(super) fn with_pause(
        connection: &'c Connection,
        pause: impl FnMut(bool) + 'c,
    ) -> Result<Self, StoreError> {
        let version = version(connection)?;
        connection.execute_batch("BEGIN")?;
        Ok(Self {
            connection,
            pause: Box::new(pause),
            began: Instant::now(),
            version,
        })
    }

    /// Begins the next where this one was held long enough.
    pub(super) fn turn(&mut self) -> Result<(), StoreError> {
        match self.began.elapsed() < SLICE {
            true => Ok(()),
            false => self.renew(),
        }
    }

    /// Begins the next.
    pub(super) fn renew(&mut self) -> Result<(), StoreError> {
        self.connection.execute_batch("COMMIT")?;
        let version = version(self.connection)?;
        (self.pause)(version != self.version);
        self.version = version;
        self.connection.execute_batch("BEGIN")?;
        self.began = Instant::now();
        Ok(())
    }

    /// Has a table read that is numbered by `id`: for each window of rows, `work` gets the number that it
    /// begins behind and its last.
    pub(super) fn through(
        &mut self,
        table: &str,
        mut work: impl FnMut(&'c Connection, i64, i64) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut after = i64::MIN;
        while let Some(end) = window_end(self.connection, table, after)? {
            work(self.connection, after, end)?;
            after = end;
            self.turn()?;
        }
        Ok(())
    }
}

impl Drop for Slices<'_> {
    fn drop(&mut self) {
        // Nothing was written: where this fails, the connection ends it.
        let _ = self.connection.execute_batch("COMMIT");
    }
}

/// Has `work` read the next rows of a table that is only appended to: `sql` selects those behind a number, which is
/// their first column, in its order. `read` is the greatest number that was read; a file whose numbers are not in
/// order never leads back. Whether there may be more.
pub(super) fn read_on(
    connection: &Connection,
    sql: &str,
    read: &mut i64,
    mut work: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{sql} LIMIT {WINDOW}"))?;
    let (after, mut left) = (*read, WINDOW);
    let mut rows = statement.query([after])?;
    while let Some(row) = rows.next()? {
        work(row)?;
        *read = row.get::<_, i64>(0)?.max(*read);
        left = left.saturating_sub(1);
    }
    Ok(left == 0 && *read > after)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}

/// The last number of the next rows; a file whose numbers are not in order never leads back.
fn window_end(connection: &Connection, table: &str, after: i64) -> rusqlite::Result<Option<i64>> {
    let sql = format!(
        "SELECT max(id) FROM (SELECT id FROM {table} WHERE id > ?1 ORDER BY id LIMIT {WINDOW})"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let end = statement.query_row([after], |row| row.get::<_, Option<i64>>(0));
    Ok(end.optional()?.flatten().filter(|end| *end > after))
}
