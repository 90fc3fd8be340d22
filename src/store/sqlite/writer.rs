//! The one thread that writes: it commits everything that waits in one durable transaction (group
//! commit), and answers after the commit.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::accounts::AccountMemory;
use super::disk::Writable;
use crate::access::stand_in::StandInKey;
use crate::domain::TerminalName;
use crate::store::seats::Seats;
use crate::store::{LogHead, StoreError};

/// Calls that may wait for the writer; more wait for a place.
pub(super) const QUEUE_MAX: usize = 4_096;
/// No more calls are taken into a commit once it has so many orders, so that nobody waits long for
/// what others sent at once. A call that is no order counts as one.
const BATCH_MAX: usize = 1_024;
/// Terminals remembered at most; more are looked up again.
const TERMINALS_REMEMBERED_MAX: usize = 10_000;

/// The store inside a transaction, with what is remembered from one to the next.
pub(super) struct Books<'c> {
    pub(super) connection: &'c Connection,
    pub(super) memory: &'c mut Memory,
}

/// What the writer knows without asking; thrown away whenever a transaction is rolled back.
#[derive(Default)]
pub(super) struct Memory {
    /// Rows of terminals and of their cash accounts, by name.
    pub(super) terminals: HashMap<TerminalName, TerminalRow>,
    /// Rows of accounts.
    pub(super) accounts: AccountMemory,
    /// Peppers that stand in the store.
    pub(super) peppers: HashSet<String>,
    /// The last entry's number.
    pub(super) last_entry: Option<i64>,
    /// The audit log's end.
    pub(super) log: Option<LogHead>,
    /// Rows in the table of tries.
    pub(super) try_rows: Option<u64>,
    /// The key that stand-ins are drawn with.
    pub(super) stand_in_key: Option<StandInKey>,
}

#[derive(Clone, Copy)]
pub(super) struct TerminalRow {
    pub(super) id: i64,
    pub(super) cash: i64,
}

impl Memory {
    pub(super) fn remember_terminal(&mut self, name: TerminalName, row: TerminalRow) {
        if self.terminals.len() >= TERMINALS_REMEMBERED_MAX {
            self.terminals.clear();
        }
        self.terminals.insert(name, row);
    }
}

/// A call on its way through the writer. It may be run again after a roll-back.
pub(super) trait Job: Send {
    /// How many orders it carries out, or 1.
    fn weight(&self) -> usize;
    fn run(&mut self, books: &mut Books<'_>) -> Result<(), StoreError>;
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

pub(super) struct Call<F, T> {
    weight: usize,
    work: F,
    outcome: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Call<F, T>
where
    F: FnMut(&mut Books<'_>) -> Result<T, StoreError> + Send + 'static,
    T: Send + 'static,
{
    pub(super) fn channel(
        weight: usize,
        work: F,
    ) -> (Box<dyn Job>, oneshot::Receiver<Result<T, StoreError>>) {
        let (answer, answered) = oneshot::channel();
        (
            Box::new(Self {
                weight,
                work,
                outcome: None,
                answer,
            }),
            answered,
        )
    }
}

impl<F, T> Job for Call<F, T>
where
    F: FnMut(&mut Books<'_>) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn weight(&self) -> usize {
        self.weight
    }

    fn run(&mut self, books: &mut Books<'_>) -> Result<(), StoreError> {
        match (self.work)(books) {
            // Refused before anything was written: the batch goes on.
            Err(error @ (StoreError::Fenced | StoreError::Unsupported)) => {
                self.outcome = Some(Err(error))
            }
            outcome => self.outcome = Some(Ok(outcome?)),
        }
        Ok(())
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self {
            outcome, answer, ..
        } = *self;
        let outcome = committed.and_then(|()| outcome.unwrap_or(Err(StoreError::Closed)));
        // Where the asker has gone, nobody needs the answer: its key settles it.
        let _ = answer.send(outcome);
    }
}

/// Serves the queue until it is closed and empty.
pub(super) fn serve(
    connection: &Connection,
    mut queue: mpsc::Receiver<Box<dyn Job>>,
    writable: &Writable,
    seats: &Seats,
) {
    let mut memory = Memory::default();
    while let Some(first) = queue.blocking_recv() {
        let mut batch = gather(first, &mut queue);
        tracing::trace!(batch = batch.len(), "commit");
        match transact(connection, &mut memory, writable, &mut batch) {
            // One call spoilt the batch: each goes again, alone.
            Err(error) if batch.len() > 1 && !matches!(error, StoreError::Disk(_)) => {
                tracing::warn!(%error, calls = batch.len(), "a batch was rolled back; each call is tried alone");
                for job in batch {
                    let mut single = [job];
                    let committed = transact(connection, &mut memory, writable, &mut single);
                    seats.post(memory.accounts.take_posted());
                    finish(single, &committed);
                }
            }
            committed => {
                // Whoever hears of a commit sees it in the next balance.
                seats.post(memory.accounts.take_posted());
                finish(batch, &committed);
            }
        }
    }
}

/// The first call with as many of those that wait as go into one commit.
fn gather(first: Box<dyn Job>, queue: &mut mpsc::Receiver<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
    let mut orders = first.weight();
    let mut batch = vec![first];
    while orders < BATCH_MAX
        && let Ok(job) = queue.try_recv()
    {
        orders = orders.saturating_add(job.weight());
        batch.push(job);
    }
    batch
}

fn finish(jobs: impl IntoIterator<Item = Box<dyn Job>>, committed: &Result<(), StoreError>) {
    for job in jobs {
        job.finish(committed.clone());
    }
}

fn transact(
    connection: &Connection,
    memory: &mut Memory,
    writable: &Writable,
    jobs: &mut [Box<dyn Job>],
) -> Result<(), StoreError> {
    writable.make_sure(connection)?;
    let result = begin_run_commit(connection, memory, jobs);
    if let Err(error) = &result {
        if matches!(error, StoreError::Disk(_)) {
            writable.doubt(error);
        }
        *memory = Memory::default();
        if !connection.is_autocommit() {
            // Nothing to do where this fails too: SQLite rolls back when the connection closes.
            let _ = connection.execute_batch("ROLLBACK");
        }
    }
    result
}

fn begin_run_commit(
    connection: &Connection,
    memory: &mut Memory,
    jobs: &mut [Box<dyn Job>],
) -> Result<(), StoreError> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut books = Books { connection, memory };
    for job in jobs.iter_mut() {
        job.run(&mut books)?;
    }
    books.write_accounts()?;
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(
                ErrorCode::ConstraintViolation
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase,
            ) => Self::Broken(text),
            Some(
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly,
            ) => Self::Disk(text),
            Some(_) => Self::Unavailable(text),
            // Not SQLite but a row that does not hold what its column promises.
            None => Self::Broken(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_takes_in_no_more_calls_once_it_has_its_orders() {
        let call = |weight| Call::channel(weight, |_| Ok(())).0;
        let (ask, mut queue) = mpsc::channel(100);
        for _ in 0..100 {
            assert!(ask.try_send(call(64)).is_ok());
        }
        // 1 + 16 * 64 orders.
        assert_eq!(gather(call(1), &mut queue).len(), 17);
        assert_eq!(gather(call(BATCH_MAX), &mut queue).len(), 1);
        assert_eq!(queue.len(), 84);
    }
}
