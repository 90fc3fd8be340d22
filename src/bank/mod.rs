//! The bank: what can be done with money, each command in a file of its own.
//!
//! Money moves only here: by `&mut` [`Session`], or by a hold that the store grants to the terminal
//! that made it, by the sweeper, or by the staff's `Office`.

mod balance;
mod clock;
mod enrolment;
mod failure;
mod history;
pub mod hold;
mod locks;
mod login;
mod money;
mod pin;
mod records;
mod session;
mod sweeper;
#[cfg(test)]
pub(crate) mod test_bank;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use clock::note_of_start;
pub use failure::Failure;
pub use login::Opened;
pub use money::Moved;
pub use session::{Session, Sessions};

use self::locks::{AccountLocks, Turn};
use self::records::Pen;
use crate::access::pin::PinHasher;
use crate::domain::{AccountNumber, Currency, TerminalName};
use crate::store::{Act, Done};
use crate::store::{Context, Office, Store, StoreError, Terms};
use crate::surroundings::Surroundings;

/// No call waits longer for the store or for a PIN's turn.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Where others stood in line for an account for so long, it is worth waiting a little.
const TURN_RETRY_AFTER_MS: u64 = 1_000;

/// The bank's rules over a store. Shared by all connections.
pub struct Bank {
    store: Arc<dyn Store>,
    hasher: PinHasher,
    surroundings: Arc<dyn Surroundings>,
    terms: ArcSwap<Terms>,
    currency: Currency,
    sessions: Sessions,
    logins: AccountLocks,
    pen: Pen,
    broken: watch::Sender<Option<String>>,
    /// When the store last answered, milliseconds of the surroundings' `elapsed`.
    answered_at_ms: AtomicU64,
}

impl Bank {
    /// A bank over `store`, on `terms`.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        hasher: PinHasher,
        surroundings: Arc<dyn Surroundings>,
        terms: Terms,
        currency: Currency,
    ) -> Self {
        Self {
            store,
            hasher,
            surroundings,
            terms: ArcSwap::from_pointee(terms),
            currency,
            sessions: Sessions::default(),
            logins: AccountLocks::default(),
            pen: Pen::default(),
            broken: watch::Sender::new(None),
            answered_at_ms: AtomicU64::new(0),
        }
    }

    /// How long the store has not answered, whether well or with an error. The sweeper asks it
    /// each second.
    #[must_use]
    pub fn store_silent_for(&self) -> Duration {
        let answered = Duration::from_millis(self.answered_at_ms.load(Ordering::Relaxed));
        self.surroundings.elapsed().saturating_sub(answered)
    }

    /// Time and chance, as the bank sees them.
    #[must_use]
    pub fn surroundings(&self) -> &Arc<dyn Surroundings> {
        &self.surroundings
    }

    /// The bank's currency.
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// Who hashes PINs.
    #[must_use]
    pub fn hasher(&self) -> &PinHasher {
        &self.hasher
    }

    /// Sessions that run now, to be listed and ended by staff.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// New terms, for all that is asked from now on.
    pub fn set_terms(&self, terms: Terms) {
        self.terms.store(Arc::new(terms));
    }

    /// Tells once the ledger is found broken: serving must stop then.
    #[must_use]
    pub fn watch_broken(&self) -> watch::Receiver<Option<String>> {
        self.broken.subscribe()
    }

    /// What staff do; `office` proves that it is they. Where it shuts an account, its session ends.
    ///
    /// # Errors
    /// [`StoreError`]. The deadline is the asker's: an audit may take long.
    pub async fn office(&self, office: &Office, act: Act) -> Result<Done, StoreError> {
        let context = self.context(&TerminalName::anonymous(), None);
        let done = self.store.office(office, act, context).await;
        self.watch_error(done)
    }

    /// Whether money can be moved, as far as the store knows.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.store.is_writable()
    }

    /// What the store has made durable since it was opened.
    #[must_use]
    pub fn committed(&self) -> crate::store::Committed {
        self.store.committed()
    }

    /// How large the store's journal is, in octets.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        self.store.journal_bytes()
    }

    /// Everybody who is seated, from the store.
    #[must_use]
    pub fn seats(&self) -> Vec<crate::store::Seat> {
        self.store.seats()
    }

    fn context(&self, terminal: &TerminalName, connection: Option<u64>) -> Context {
        let terms = **self.terms.load();
        Context {
            now: self.surroundings.now(),
            terminal: terminal.clone(),
            connection,
            address: None,
            terms,
            busy: self.hasher.is_busy(),
        }
    }

    /// Waits for the account's turn to have its PIN looked at, but not for ever.
    async fn turn(&self, account: AccountNumber) -> Result<Turn<'_>, Failure> {
        let turn = tokio::time::timeout(CALL_DEADLINE, self.logins.turn(account)).await;
        turn.map_err(|_| Failure::TooMany(TURN_RETRY_AFTER_MS))
    }

    /// Waits for the store, but not for ever, and notes when it answered.
    async fn call<T>(
        &self,
        reply: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let answered = async {
            let result = reply.await;
            let now_ms = self.surroundings.elapsed().as_millis();
            let now_ms = u64::try_from(now_ms).unwrap_or(u64::MAX);
            self.answered_at_ms.store(now_ms, Ordering::Relaxed);
            result
        };
        self.wait(answered).await
    }

    /// Waits for an answer that need not come from the store itself, but not for ever.
    async fn wait<T>(
        &self,
        reply: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let in_time = tokio::time::timeout(CALL_DEADLINE, reply).await;
        let late = |_| StoreError::Unavailable("the store did not answer in time".to_owned());
        self.watch_error(in_time.map_err(late).and_then(|result| result))
    }

    fn watch_error<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        use StoreError::{Broken, Closed, Damaged};
        if let Err(error @ (Broken(_) | Damaged(..) | Closed)) = &result {
            self.broken.send_if_modified(|known| {
                let first = known.is_none();
                known.get_or_insert_with(|| error.to_string());
                first
            });
        }
        result
    }
}
