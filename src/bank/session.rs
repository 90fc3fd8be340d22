//! A customer's session: the capability to use one account.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::Bank;
use crate::access::throttle::{AddressBlock, Requester};
use crate::domain::{AccountNumber, TerminalName};
use crate::store::{Claim, Context, Event, Note, Store};

/// The right to use one account, of one connection, until it is dropped.
///
/// A session needs a claim, and a store grants one only for a PIN that was verified. It cannot be
/// copied, and every command that moves money takes it by `&mut`, so that one connection does one
/// thing at a time:
///
/// ```
/// use atm_bank::bank::{Bank, Session};
/// use atm_bank::store::Order;
/// async fn carry_out(bank: &Bank, session: &mut Session, order: Order) {
///     let _ = bank.move_all(session, vec![order]).await;
/// }
/// ```
///
/// Without one, a transaction does not compile:
///
/// ```compile_fail,E0308
/// use atm_bank::bank::{Bank, Session};
/// use atm_bank::store::Order;
/// async fn carry_out(bank: &Bank, session: &mut atm_bank::domain::AccountNumber, order: Order) {
///     let _ = bank.move_all(session, vec![order]).await;
/// }
/// ```
///
/// and nobody can make one by hand:
///
/// ```compile_fail,E0624
/// use atm_bank::bank::Session;
/// fn forge(account: atm_bank::domain::AccountNumber) -> Session {
///     Session::open(account)
/// }
/// ```
pub struct Session {
    store: Arc<dyn Store>,
    claim: Claim,
    terminal: TerminalName,
    connection: u64,
    address: Option<AddressBlock>,
    must_change_pin: bool,
    refused_counterparties: u32,
    _running: Running,
}

impl Session {
    /// From the proofs; only a log-in has them.
    pub(super) fn open(
        store: Arc<dyn Store>,
        claim: Claim,
        (terminal, connection): (TerminalName, u64),
        must_change_pin: bool,
        sessions: &Sessions,
    ) -> Self {
        let running = sessions.begin(&claim);
        Self {
            store,
            claim,
            terminal,
            connection,
            address: None,
            must_change_pin,
            refused_counterparties: 0,
            _running: running,
        }
    }

    /// Says where its customer asks from, where an address is all that tells that from elsewhere.
    pub fn asks_from(&mut self, requester: &Requester) {
        self.address = match requester {
            Requester::Address(address) => Some(*address),
            Requester::Terminal(_) => None,
        };
    }

    /// Whose account it is.
    #[must_use]
    pub fn account(&self) -> AccountNumber {
        self.claim.account()
    }

    /// Whether nothing but a new PIN is served.
    #[must_use]
    pub fn must_change_pin(&self) -> bool {
        self.must_change_pin
    }

    /// Transfers of this session that named no counterparty.
    #[must_use]
    pub fn refused_counterparties(&self) -> u32 {
        self.refused_counterparties
    }

    /// Cancelled when the bank ends the session.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.claim.ended()
    }

    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }

    pub(super) fn connection(&self) -> u64 {
        self.connection
    }

    /// Where and when the session's customer asks.
    pub(super) fn context(&self, bank: &Bank) -> Context {
        Context {
            address: self.address,
            ..bank.context(&self.terminal, Some(self.connection))
        }
    }

    /// How the session's end reads in the audit log.
    pub(super) fn end_note(&self, bank: &Bank, reason: &str) -> Note {
        let note = self.context(bank).note(Event::SessionEnd, self.account());
        note.detail(reason)
    }

    pub(super) fn count_refused_counterparty(&mut self) {
        self.refused_counterparties = self.refused_counterparties.saturating_add(1);
    }

    pub(super) fn pin_was_changed(&mut self) {
        self.must_change_pin = false;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.store.release(&self.claim);
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?} at {})", self.account(), self.terminal)
    }
}

type Table = Arc<Mutex<HashMap<AccountNumber, (u64, CancellationToken)>>>;

/// Sessions that run in this process, by account. Bounded by the number of connections.
#[derive(Debug, Default, Clone)]
pub struct Sessions(Table);

impl Sessions {
    /// Ends the session on `account`, if there is one.
    #[must_use]
    pub fn end(&self, account: AccountNumber) -> bool {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table
            .get(&account)
            .map(|(_, ended)| ended.cancel())
            .is_some()
    }

    /// How many run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn begin(&self, claim: &Claim) -> Running {
        let (account, fence) = (claim.account(), claim.fence());
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.insert(account, (fence, claim.ended()));
        Running {
            table: Arc::clone(&self.0),
            account,
            fence,
        }
    }
}

/// A session's line in the table; dropping it takes the line out.
struct Running {
    table: Table,
    account: AccountNumber,
    fence: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table
            .get(&self.account)
            .is_some_and(|(fence, _)| *fence == self.fence)
        {
            table.remove(&self.account);
        }
    }
}
