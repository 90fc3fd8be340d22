//! The embedded store: one SQLite file, WAL, `synchronous=FULL`.
//!
//! One thread writes and commits whatever waits in one transaction (`writer`); one thread reads
//! for customers, from what is committed; what staff read goes over connections of its own.

mod access;
mod accounts;
mod apart;
mod audit;
mod backup;
mod causes;
mod clock;
mod covered;
mod covered_replay;
mod days;
mod disk;
mod enrolment;
mod generation;
mod holds;
mod inspect;
mod journal;
mod look;
mod mending;
mod office;
mod open;
mod open_error;
mod owner;
mod peppers;
mod postings;
mod present;
mod records;
mod replay;
mod reports;
mod rows;
mod schema;
mod slices;
mod sums;
mod sweep;
mod wal;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

#[cfg(test)]
pub(super) use audit::audit_with;
pub use causes::{CAUSES, Cause, Row};
#[cfg(test)]
pub(super) use open::MIGRATIONS;
pub use open::StoreLock;
pub(crate) use open::beside;
pub use open_error::OpenError;
pub(crate) use owner::give_to_owner;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use sums::set_stand_in_key;
#[cfg(test)]
pub(super) use wal::BYTES_MAX as JOURNAL_BYTES_MAX;

use self::access::proven;
use self::disk::Writable;
use self::look::Looker;
use self::writer::{Books, Burden, Call, Job, QUEUE_MAX, Tally};
use super::rules::change_pin::ChangePin;
use super::rules::log_in::{Admission, Admit, CountTry};
use super::rules::orders::CarryOut;
use super::rules::settlements::Settle;
use super::seats::{Reserved, Seats};
use super::{
    Act, Balances, Claim, Claimed, Committed, Context, Done, Judged, Line, NewCertificate, Note,
    Office, Order, PinChange, Receipt, Recorded, Reply, Seat, Seated, Settlement, Store,
    StoreError, Swept, TryCounted, Warrant,
};
use crate::access::pin::{PinHash, PinVerified};
use crate::access::row_mac::Keyring;
use crate::domain::{AccountNumber, ClockMark, Currency, EntryNumber, TerminalName, Timestamp};

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// A bank's store in one file.
pub struct SqliteStore {
    keyring: Keyring,
    seats: Arc<Seats>,
    writable: Writable,
    looker: Arc<Looker>,
    committed: Arc<Tally>,
    writer: Option<mpsc::Sender<Box<dyn Job>>>,
    reader: Option<mpsc::Sender<ReadJob>>,
    /// The writer's, then the reader's.
    threads: Vec<JoinHandle<()>>,
    /// Let go last, after both threads have ended.
    _lock: open::StoreLock,
}

impl SqliteStore {
    /// Opens the store, or makes it where there is none. No other process may have it. `keyring` has
    /// the bank's peppers, now and after each rotation: with them the store covers rows by MACs. It keeps
    /// nothing of a clock.
    ///
    /// # Errors
    /// [`OpenError`], in words that say what to do.
    pub fn open(
        path: &Path,
        currency: Currency,
        now: Timestamp,
        keyring: Keyring,
    ) -> Result<Self, OpenError> {
        Self::open_with(path, currency, now, keyring, || None, None)
    }

    /// As [`SqliteStore::open`]; what `clock` says is kept with each commit. Also where answered commits
    /// may be gone, if `accept_loss` is the name of that loss: the damaged journal is kept beside the
    /// store, and the loss goes on record.
    ///
    /// # Errors
    /// [`OpenError`], in words that say what to do.
    pub fn open_with(
        path: &Path,
        currency: Currency,
        now: Timestamp,
        keyring: Keyring,
        clock: impl Fn() -> Option<ClockMark> + Send + Sync + 'static,
        accept_loss: Option<&str>,
    ) -> Result<Self, OpenError> {
        let opened = Self::open_files(path, currency, now, keyring, clock, accept_loss);
        opened.map_err(OpenError::judged)
    }

    fn open_files(
        path: &Path,
        currency: Currency,
        now: Timestamp,
        keyring: Keyring,
        clock: impl Fn() -> Option<ClockMark> + Send + Sync + 'static,
        accept_loss: Option<&str>,
    ) -> Result<Self, OpenError> {
        open::make_file(path)?;
        let path = &open::real_path(path)?;
        let lock = open::lock(path)?;
        let system = OpenError::of_system(path);
        let looker = Looker::new(path).map_err(system)?;
        let (mut writing, copied) = open::writer(&looker, currency, now, (&keyring, accept_loss))?;
        let writable = Writable::sound(Arc::clone(&looker));
        if copied {
            writable.journal_begins();
        }
        wal::copied_with_commits(&mut writing, &writable).map_err(OpenError::of_sqlite(path))?;
        let reading = open::reader(path)?;
        let (writer, jobs) = mpsc::channel::<Box<dyn Job>>(QUEUE_MAX);
        let (reader, mut reads) = mpsc::channel::<ReadJob>(QUEUE_MAX);
        let (seats, committed) = (Arc::new(Seats::default()), Arc::new(Tally::default()));
        let threads = vec![
            thread::Builder::new()
                .name("ledger-writer".to_owned())
                .spawn({
                    let (writable, seats) = (writable.clone(), Arc::clone(&seats));
                    let (committed, keyring) = (Arc::clone(&committed), keyring.clone());
                    move || {
                        let known = (&*seats, &clock as &clock::Clock);
                        writer::serve((&writing, &keyring), jobs, &writable, known, &committed);
                    }
                })
                .map_err(system)?,
            thread::Builder::new()
                .name("ledger-reader".to_owned())
                .spawn(move || {
                    while let Some(read) = reads.blocking_recv() {
                        read(&reading);
                    }
                })
                .map_err(system)?,
        ];
        Ok(Self {
            keyring,
            seats,
            writable,
            looker,
            committed,
            writer: Some(writer),
            reader: Some(reader),
            threads,
            _lock: lock,
        })
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Books<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.write_burden(Burden::default(), work).await
    }

    async fn write_burden<T: Send + 'static>(
        &self,
        burden: Burden,
        work: impl FnMut(&mut Books<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, answered) = Call::channel(burden, work);
        let queue = self.writer.as_ref().ok_or(StoreError::Closed)?;
        queue.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let read: ReadJob = Box::new(move |connection| {
            let _ = answer.send(work(connection));
        });
        let queue = self.reader.as_ref().ok_or(StoreError::Closed)?;
        queue.send(read).await.map_err(|_| StoreError::Closed)?;
        let read = answered.await.map_err(|_| StoreError::Closed)?;
        self.judged(read).await
    }

    /// What came of reading; where it failed, with the cause.
    async fn judged<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        match read {
            Err(error @ StoreError::Disk(..)) => {
                let looker = Arc::clone(&self.looker);
                let judging = tokio::task::spawn_blocking(move || looker.judge(error));
                Err(judging.await.map_err(|_| StoreError::Closed)?)
            }
            read => read,
        }
    }

    /// Reads at length, on a thread and a connection of its own.
    async fn read_apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.judged(apart::read(self.looker.path(), work).await)
            .await
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        let join = |thread: JoinHandle<()>| {
            if thread.join().is_err() {
                tracing::error!("a thread of the store had panicked");
            }
        };
        // The connection that closes last folds the journal into the file, and only the writer's
        // can: the reader ends before it, so that a stopped store is one file.
        self.reader = None;
        self.threads.pop().into_iter().for_each(join);
        self.writer = None;
        self.threads.drain(..).for_each(join);
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SqliteStore({})", self.looker.path().display())
    }
}

impl Store for SqliteStore {
    fn count_try(&self, account: AccountNumber, context: Context) -> Reply<'_, TryCounted> {
        Box::pin(self.write(move |books| {
            let (number, context) = (account, &context);
            books.perform(&CountTry { number, context }, context)
        }))
    }

    fn claim<'a>(
        &'a self,
        proof: &'a PinVerified,
        connection: u64,
        context: Context,
    ) -> Reply<'a, Claimed> {
        Box::pin(async move {
            let (account, revision) = proven(proof);
            let context = Context {
                connection: Some(connection),
                ..context
            };
            let terminal = context.terminal.clone();
            let fence = self.seats.take(account, terminal, connection, context.now);
            let reserved = Reserved {
                seats: &self.seats,
                account,
                fence,
            };
            let (seated, upgrade) = (fence.is_some(), proof.upgrade().cloned());
            let admission = self
                .write(move |books| {
                    let admit = Admit {
                        number: account,
                        revision,
                        upgrade: upgrade.as_ref(),
                        seated,
                        context: &context,
                    };
                    books.perform(&admit, &context)
                })
                .await?;
            Ok(match admission {
                Admission::Void => Claimed::Void,
                Admission::Forged => Claimed::Forged,
                _ if !seated => Claimed::InUse,
                Admission::Locked => Claimed::LockedByStaff,
                Admission::Admitted {
                    row,
                    balances,
                    must_change_pin,
                } => match reserved.into_claim(row) {
                    Some(claim) => Claimed::Seated(Seated {
                        claim,
                        balances,
                        must_change_pin,
                    }),
                    None => Claimed::InUse,
                },
            })
        })
    }

    fn release(&self, claim: &Claim) {
        self.seats.free(claim.account, claim.fence);
    }

    fn balance<'a>(&'a self, claim: &'a Claim, context: Context) -> Reply<'a, Balances> {
        let (row, account, fence) = (claim.row, claim.account, claim.fence);
        match self.seats.money(account, fence) {
            None => return Box::pin(std::future::ready(Err(StoreError::Fenced))),
            // What is on hold may be free by now: the rows of its holds say.
            Some(Some(posted)) if posted.held == 0 => {
                let balances = posted.balances();
                return Box::pin(std::future::ready(Ok(balances)));
            }
            Some(_) => {}
        }
        let seats = Arc::clone(&self.seats);
        Box::pin(self.read(move |connection| {
            if !seats.holds(account, fence) {
                return Err(StoreError::Fenced);
            }
            accounts::balances(connection, row, context.now)
        }))
    }

    fn orders<'a>(
        &'a self,
        claim: &'a Claim,
        orders: Vec<Order>,
        context: Context,
    ) -> Reply<'a, Vec<Judged<Receipt>>> {
        let session = claim.session();
        let burden = Burden {
            calls: orders.len(),
            may_wait: context.busy,
        };
        Box::pin(self.write_burden(burden, move |books| {
            let context = &context;
            let carry_out = |(index, order)| CarryOut {
                session,
                is_first: index == 0,
                order,
                context,
            };
            let each = orders.iter().enumerate().map(carry_out);
            each.map(|one| books.execute(&one, context)).collect()
        }))
    }

    fn settle<'a>(
        &'a self,
        claim: Option<&'a Claim>,
        settlement: Settlement,
        context: Context,
    ) -> Reply<'a, Judged<Receipt>> {
        let session = claim.map(Claim::session);
        Box::pin(self.write(move |books| {
            let settle = Settle {
                session,
                settlement: &settlement,
                context: &context,
            };
            books.execute(&settle, &context)
        }))
    }

    fn history<'a>(
        &'a self,
        claim: &'a Claim,
        limit: u8,
        before: Option<EntryNumber>,
    ) -> Reply<'a, Vec<Line>> {
        let (row, limit) = (claim.row, usize::from(limit));
        let before = before.map_or(i64::MAX, EntryNumber::get);
        let (seats, account, fence) = (Arc::clone(&self.seats), claim.account, claim.fence);
        Box::pin(self.read(move |read| {
            if !seats.holds(account, fence) {
                return Err(StoreError::Fenced);
            }
            postings::newest_first(read, row, before, limit)
        }))
    }

    fn change_pin<'a>(
        &'a self,
        claim: &'a Claim,
        proof: &'a PinVerified,
        new: Option<PinHash>,
        context: Context,
    ) -> Reply<'a, PinChange> {
        let (session, (number, revision)) = (claim.session(), proven(proof));
        Box::pin(self.write(move |books| {
            let change = ChangePin {
                session,
                number,
                revision,
                new: new.as_ref(),
                context: &context,
            };
            books.perform(&change, &context)
        }))
    }

    fn note(&self, notes: Vec<Note>) -> Reply<'_, ()> {
        Box::pin(self.write(move |books| books.append_all(&notes)))
    }

    fn look(&self) -> Reply<'_, ()> {
        let looker = Arc::clone(&self.looker);
        Box::pin(self.write(move |_| looker.stands()))
    }

    fn sweep(&self, context: Context) -> Reply<'_, Swept> {
        Box::pin(async move {
            let swept = self.write(move |books| books.sweep(&context)).await;
            if self.journal_bytes() > u64::from(wal::BYTES_MAX) {
                self.writable.empty_journal();
            }
            swept
        })
    }

    fn office<'a>(&'a self, office: &'a Office, act: Act, context: Context) -> Reply<'a, Done> {
        Box::pin(self.act(office.actor().to_owned(), act, context))
    }

    fn is_writable(&self) -> bool {
        self.writable.get()
    }

    fn committed(&self) -> Committed {
        self.committed.get()
    }

    fn journal_bytes(&self) -> u64 {
        wal::bytes(self.looker.path())
    }

    fn warranted(
        &self,
        warrant: Warrant,
        key: [u8; 32],
        context: Context,
    ) -> Reply<'_, Option<TerminalName>> {
        let now = context.now;
        Box::pin(self.read(move |read| enrolment::warranted(read, &warrant, &key, now)))
    }

    fn record_certificate(
        &self,
        warrant: Warrant,
        certificate: NewCertificate,
        context: Context,
    ) -> Reply<'_, Recorded> {
        Box::pin(
            self.write(move |books| books.record_certificate(&warrant, &certificate, &context)),
        )
    }

    fn seats(&self) -> Vec<Seat> {
        self.seats.list()
    }
}
