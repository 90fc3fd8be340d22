//! The one thread that writes: it commits everything that waits in one durable transaction (group
//! commit), and answers after the commit.

use std::collections::HashSet;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::causes::Cause;
use super::clock::Clock;
use super::disk::Writable;
use super::holds::FromAddresses;
use super::open_error::OpenError;
use crate::access::row_mac::Keyring;
use crate::access::stand_in::StandInKey;
use crate::domain::ClockMark;
use crate::store::seats::{Posted, Seats};
use crate::store::working::WorkingSet;
use crate::store::{Committed, LogHead, StoreError};

/// Calls that may wait for the writer; more wait for a place.
pub(super) const QUEUE_MAX: usize = 4_096;
/// No more calls are taken into a commit once it has so many orders, so that nobody waits long for
/// what others sent at once. A call that is no order counts as one.
const BATCH_MAX: usize = 1_024;
/// How long an order that may wait does so for others to share its commit. A commit costs as much
/// of a core as several orders do, whatever it carries (docs/BENCHMARKS.md).
const GATHERING: Duration = Duration::from_millis(1);
/// With more calls than these, a commit is worth its price at once.
const GATHERED: usize = 16;

/// The store inside a transaction, with what is remembered from one to the next.
pub(super) struct Books<'c> {
    pub(super) connection: &'c Connection,
    pub(super) memory: &'c mut Memory,
    pub(super) keyring: &'c Keyring,
    pub(super) seats: &'c Seats,
}

/// What the writer knows without asking; thrown away whenever a transaction is rolled back.
#[derive(Default)]
pub(super) struct Memory {
    /// Rows that the rules decide by.
    pub(super) rows: WorkingSet,
    /// Money to be made known once it is committed. As long as what one batch changes: its orders, or
    /// an import.
    pub(super) posted: Vec<Posted>,
    /// Peppers that stand in the store.
    pub(super) peppers: HashSet<String>,
    /// The end of the log of covered rows.
    pub(super) row_log: Option<LogHead>,
    /// The key that stand-ins are drawn with.
    pub(super) stand_in_key: Option<StandInKey>,
    /// The clock as it was last written.
    pub(super) clock: Option<ClockMark>,
    /// Holds made from addresses since the start.
    pub(super) from_addresses: FromAddresses,
}

/// What a call is to a commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Burden {
    /// Orders that it carries out; 1 where it is something else.
    pub(super) calls: usize,
    /// Whether it may wait for others to share its commit.
    pub(super) may_wait: bool,
}

impl Default for Burden {
    fn default() -> Self {
        Self {
            calls: 1,
            may_wait: false,
        }
    }
}

/// What was committed so far. Written by the writer alone, after each commit.
#[derive(Debug, Default)]
pub(super) struct Tally {
    commits: AtomicU64,
    calls: AtomicU64,
}

impl Tally {
    fn count(&self, jobs: &[Box<dyn Job>]) {
        let calls: usize = jobs.iter().map(|job| job.burden().calls).sum();
        let calls = u64::try_from(calls).unwrap_or(u64::MAX);
        self.calls.fetch_add(calls, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Committed {
        Committed {
            commits: self.commits.load(Ordering::Relaxed),
            calls: self.calls.load(Ordering::Relaxed),
        }
    }
}

/// A call on its way through the writer. It may be run again after a roll-back.
pub(super) trait Job: Send {
    fn burden(&self) -> Burden;
    fn run(&mut self, books: &mut Books<'_>) -> Result<(), StoreError>;
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

pub(super) struct Call<F, T> {
    burden: Burden,
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
        burden: Burden,
        work: F,
    ) -> (Box<dyn Job>, oneshot::Receiver<Result<T, StoreError>>) {
        let (answer, answered) = oneshot::channel();
        (
            Box::new(Self {
                burden,
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
    fn burden(&self) -> Burden {
        self.burden
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
    (connection, keyring): (&Connection, &Keyring),
    mut queue: mpsc::Receiver<Box<dyn Job>>,
    writable: &Writable,
    (seats, clock): (&Seats, &Clock),
    tally: &Tally,
) {
    let mut memory = Memory::default();
    while let Some(first) = queue.blocking_recv() {
        let mut batch = gather(first, &mut queue);
        tracing::trace!(batch = batch.len(), "commit");
        let mut books = Books {
            connection,
            memory: &mut memory,
            keyring,
            seats,
        };
        match transact(&mut books, (writable, clock), &mut batch) {
            Err(error) if batch.len() > 1 && may_be_of_one_call(&error) => {
                tracing::warn!(%error, calls = batch.len(), "a batch was rolled back; each call is tried alone");
                for job in batch {
                    let mut single = vec![job];
                    let committed = transact(&mut books, (writable, clock), &mut single);
                    seats.post(mem::take(&mut books.memory.posted));
                    finish(single, &committed, tally);
                }
            }
            committed => {
                // Whoever hears of a commit sees it in the next balance.
                seats.post(mem::take(&mut memory.posted));
                finish(batch, &committed, tally);
            }
        }
    }
    if !writable.get() {
        // Nor is the journal copied and given up when the connection closes.
        let keep_journal = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        let _ = connection.set_db_config(keep_journal, true);
    }
}

/// Whether one call may have spoilt the commit of all, so that each goes again, alone and once. Where a row of one
/// account breaks a rule, the others' orders, which need not touch it, are carried out before the server ends, and
/// nobody is told of a fault that is not of their call. Storage itself fails each of them alike: to ask
/// it anew for every call would only keep them all waiting.
fn may_be_of_one_call(error: &StoreError) -> bool {
    match error {
        StoreError::Disk(cause, _) => *cause == Cause::Unexpected,
        StoreError::Damaged(..) => false,
        _ => true,
    }
}

/// The first call with as many of those that wait as go into one commit.
fn gather(first: Box<dyn Job>, queue: &mut mpsc::Receiver<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
    if is_worth_waiting(first.burden(), queue.len()) {
        thread::sleep(GATHERING);
    }
    let mut calls = first.burden().calls;
    let mut batch = vec![first];
    while calls < BATCH_MAX
        && let Ok(job) = queue.try_recv()
    {
        calls = calls.saturating_add(job.burden().calls);
        batch.push(job);
    }
    batch
}

/// Whether a commit is put off until more are there than the `behind` that wait already.
fn is_worth_waiting(first: Burden, behind: usize) -> bool {
    first.may_wait && first.calls.saturating_add(behind) <= GATHERED
}

fn finish(jobs: Vec<Box<dyn Job>>, committed: &Result<(), StoreError>, tally: &Tally) {
    if committed.is_ok() {
        tally.count(&jobs);
    }
    for job in jobs {
        job.finish(committed.clone());
    }
}

fn transact(
    books: &mut Books<'_>,
    (writable, clock): (&Writable, &Clock),
    jobs: &mut [Box<dyn Job>],
) -> Result<(), StoreError> {
    let connection = books.connection;
    let made_sure = writable.make_sure(connection);
    let result = made_sure.and_then(|()| begin_run_commit(books, (writable, clock), jobs));
    result.map_err(|error| {
        *books.memory = Memory {
            from_addresses: mem::take(&mut books.memory.from_addresses),
            ..Memory::default()
        };
        if !connection.is_autocommit() {
            // Nothing to do where this fails too: SQLite rolls back when the connection closes.
            let _ = connection.execute_batch("ROLLBACK");
        }
        // Nor is a page believed that was read before.
        let _ = connection.release_memory();
        writable.failed(error)
    })
}

fn begin_run_commit(
    books: &mut Books<'_>,
    (writable, clock): (&Writable, &Clock),
    jobs: &mut [Box<dyn Job>],
) -> Result<(), StoreError> {
    let connection = books.connection;
    let changes = connection.total_changes();
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for job in jobs.iter_mut() {
        job.run(books)?;
    }
    books.write_accounts()?;
    books.mark_clock(clock, connection.total_changes() != changes)?;
    match connection.total_changes() == changes {
        // Nothing is written.
        true => connection.prepare_cached("COMMIT")?.execute([]).map(drop)?,
        false => writable.commit(connection)?,
    }
    Ok(())
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Sqlite { source, .. } => source.into(),
            error => Self::Disk(error.cause(), error.to_string()),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match (Cause::guess(&error), error.sqlite_error_code()) {
            (Some(cause), _) => Self::Disk(cause, text),
            // A rule of the schema; or not SQLite but a row that does not hold what its column promises.
            (None, Some(ErrorCode::ConstraintViolation) | None) => Self::Broken(text),
            // Nobody waits for it any more.
            (None, Some(ErrorCode::OperationInterrupted)) => Self::Unavailable(text),
            (None, Some(_)) => Self::Disk(Cause::Unexpected, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(calls: usize, may_wait: bool) -> Box<dyn Job> {
        Call::channel(Burden { calls, may_wait }, |_| Ok(())).0
    }

    #[test]
    fn a_commit_takes_in_no_more_calls_once_it_has_its_orders() {
        let call = |calls| call(calls, false);
        let (ask, mut queue) = mpsc::channel(100);
        for _ in 0..100 {
            assert!(ask.try_send(call(64)).is_ok());
        }
        // 1 + 16 * 64 orders.
        assert_eq!(gather(call(1), &mut queue).len(), 17);
        assert_eq!(gather(call(BATCH_MAX), &mut queue).len(), 1);
        assert_eq!(queue.len(), 84);
    }

    #[test]
    fn an_order_that_may_wait_does_unless_enough_wait_with_it() {
        let (patient, other) = (call(1, true).burden(), Burden::default());
        assert!(is_worth_waiting(patient, 0));
        assert!(is_worth_waiting(patient, GATHERED - 1));
        assert!(!is_worth_waiting(patient, GATHERED));
        assert!(!is_worth_waiting(other, 0));
        assert!(!is_worth_waiting(call(64, true).burden(), 0));
        let (_ask, mut queue) = mpsc::channel(1);
        let began = std::time::Instant::now();
        assert_eq!(gather(call(1, true), &mut queue).len(), 1);
        assert!(began.elapsed() >= GATHERING);
    }

    #[test]
    fn what_is_committed_is_counted_and_what_is_not_is_not() {
        let tally = Tally::default();
        finish(vec![call(3, false), call(1, true)], &Ok(()), &tally);
        finish(vec![call(5, false)], &Err(StoreError::Closed), &tally);
        let (commits, calls) = (1, 4);
        assert_eq!(tally.get(), Committed { commits, calls });
    }
}
