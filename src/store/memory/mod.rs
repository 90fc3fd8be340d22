//! The reference model of the store: plain maps behind one mutex, for tests and simulations.
//!
//! It is slow where that makes it plainly right: what is held and what a day has used are summed
//! from the holds and the entries at every call, never kept. Futures are ready at the first poll,
//! nothing sleeps, and everything is in the order of its name, so that a run repeats.

mod access;
mod audit;
mod books;
mod enrolment;
mod money;
mod office;
mod peppers;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use self::access::Admission;
use self::books::Books;
use super::seats::{Reserved, Seats};
use super::{
    Act, Balances, Claim, Claimed, Context, Done, Line, NewCertificate, Note, Office, Order,
    PinChange, Receipt, Recorded, Reply, Seat, Seated, Settlement, Store, StoreError, Swept,
    TryCounted, Warrant,
};
use crate::access::pin::{PinHash, PinVerified};
use crate::access::stand_in::StandInKey;
use crate::domain::{AccountNumber, Currency, EntryNumber, Refusal, TerminalName, Timestamp};

/// A bank's store in memory: gone when it is dropped.
#[derive(Debug)]
pub struct MemoryStore {
    books: Mutex<Books>,
    seats: Seats,
    faults: Faults,
    closed: AtomicBool,
}

/// Switches that make calls fail, for tests of what stands above the store.
#[derive(Debug, Default)]
pub struct Faults {
    /// So many of the next calls are let through before the others count.
    pub pass_first: AtomicU64,
    /// So many of the next calls fail as [`StoreError::Unavailable`] and do nothing.
    pub fail_before: AtomicU64,
    /// So many of the next calls do what they do and then fail as [`StoreError::Unavailable`]:
    /// the outcome is unknown to the caller.
    pub fail_after: AtomicU64,
}

/// Takes one off a switch; false where it stands at 0.
fn spend(switch: &AtomicU64) -> bool {
    let less = |count: u64| count.checked_sub(1);
    switch
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        .is_ok()
}

impl MemoryStore {
    /// An empty bank. The moment is what other stores keep as the day they were made; nothing
    /// that can be asked depends on it.
    #[must_use]
    pub fn new(currency: Currency, _now: Timestamp) -> Self {
        Self::with_stand_ins(currency, StandInKey::new(&[0; 32]))
    }

    /// An empty bank that draws stand-ins with this key: runs with the same one repeat.
    #[must_use]
    pub fn with_stand_ins(currency: Currency, key: StandInKey) -> Self {
        Self {
            books: Mutex::new(Books::new(currency, key)),
            seats: Seats::default(),
            faults: Faults::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// The switches that make calls fail.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The home that an unknown number borrows now, for simulations that must know it.
    #[must_use]
    pub fn borrowed_home(&self, number: AccountNumber) -> Option<TerminalName> {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.stand_in(number)?.home.clone()
    }

    /// Forgets what an embedded store forgets at a restart, but for the claims.
    pub fn restart(&self) {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.tries_told = false;
    }

    /// Has a terminal's cash counted so, whatever its entries say, for tests of the bounds.
    #[cfg(test)]
    pub(crate) fn set_cash(&self, terminal: &TerminalName, balance: i64) {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let cash = books.meet_terminal(terminal);
        if let Some(account) = books.ledger.get_mut(&cash) {
            account.balance = balance;
        }
    }

    /// From now on every call fails as [`StoreError::Closed`].
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// One call, which is one transaction. The work returns an error only where it changed
    /// nothing.
    fn call<T>(
        &self,
        work: impl FnOnce(&mut Books) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        let passes = spend(&self.faults.pass_first);
        if !passes && spend(&self.faults.fail_before) {
            return Err(StoreError::Unavailable("told to fail before".to_owned()));
        }
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = work(&mut books);
        if !passes && spend(&self.faults.fail_after) {
            return Err(StoreError::Unavailable("told to fail after".to_owned()));
        }
        outcome
    }

    fn fenced(&self, claim: &Claim) -> Result<(), StoreError> {
        if self.seats.holds(claim.account, claim.fence) {
            Ok(())
        } else {
            Err(StoreError::Fenced)
        }
    }

    fn admit(
        &self,
        proof: &PinVerified,
        connection: u64,
        context: &Context,
    ) -> Result<Claimed, StoreError> {
        let account = proof.account();
        let context = &Context {
            connection: Some(connection),
            ..context.clone()
        };
        let terminal = context.terminal.clone();
        let fence = self.seats.take(account, terminal, connection, context.now);
        let reserved = Reserved {
            seats: &self.seats,
            account,
            fence,
        };
        let admission = self.call(|books| Ok(books.admit(proof, fence.is_some(), context)))?;
        Ok(match (admission, fence) {
            (Admission::Void, _) => Claimed::Void,
            (_, None) => Claimed::InUse,
            (Admission::Locked, Some(_)) => Claimed::LockedByStaff,
            (Admission::Admitted(balances, must_change_pin), Some(_)) => {
                match reserved.into_claim(0) {
                    Some(claim) => Claimed::Seated(Seated {
                        claim,
                        balances,
                        must_change_pin,
                    }),
                    None => Claimed::InUse,
                }
            }
        })
    }
}

impl Store for MemoryStore {
    fn count_try(&self, account: AccountNumber, context: Context) -> Reply<'_, TryCounted> {
        Box::pin(async move { self.call(|books| Ok(books.count_try(account, &context))) })
    }

    fn claim<'a>(
        &'a self,
        proof: &'a PinVerified,
        connection: u64,
        context: Context,
    ) -> Reply<'a, Claimed> {
        Box::pin(async move { self.admit(proof, connection, &context) })
    }

    fn release(&self, claim: &Claim) {
        self.seats.free(claim.account, claim.fence);
    }

    fn balance<'a>(&'a self, claim: &'a Claim, context: Context) -> Reply<'a, Balances> {
        Box::pin(async move {
            self.call(|books| {
                self.fenced(claim)?;
                Ok(books.balances_at(claim.account, context.now))
            })
        })
    }

    fn orders<'a>(
        &'a self,
        claim: &'a Claim,
        orders: Vec<Order>,
        context: Context,
    ) -> Reply<'a, Vec<Result<Receipt, Refusal>>> {
        Box::pin(async move {
            self.call(|books| {
                self.fenced(claim)?;
                let each = orders.iter();
                each.map(|order| books.order(claim.account, order, &context))
                    .collect()
            })
        })
    }

    fn settle<'a>(
        &'a self,
        claim: Option<&'a Claim>,
        settlement: Settlement,
        context: Context,
    ) -> Reply<'a, Result<Receipt, Refusal>> {
        let claimed = claim.filter(|claim| self.seats.holds(claim.account, claim.fence));
        let claimed = claimed.map(Claim::account);
        Box::pin(async move { self.call(|books| books.settle(claimed, &settlement, &context)) })
    }

    fn history<'a>(
        &'a self,
        claim: &'a Claim,
        limit: u8,
        before: Option<EntryNumber>,
    ) -> Reply<'a, Vec<Line>> {
        let before = before.map_or(i64::MAX, EntryNumber::get);
        Box::pin(async move {
            self.call(|books| {
                self.fenced(claim)?;
                let lines = books.lines(claim.account).into_iter().rev();
                let older = lines.filter(|line| line.entry < before);
                Ok(older.take(limit.into()).collect())
            })
        })
    }

    fn change_pin<'a>(
        &'a self,
        claim: &'a Claim,
        proof: &'a PinVerified,
        new: Option<PinHash>,
        context: Context,
    ) -> Reply<'a, PinChange> {
        Box::pin(async move {
            self.call(|books| {
                self.fenced(claim)?;
                if proof.account() != claim.account {
                    return Err(StoreError::Fenced);
                }
                books.change_pin(proof, new, &context)
            })
        })
    }

    fn note(&self, notes: Vec<Note>) -> Reply<'_, ()> {
        Box::pin(async move {
            self.call(|books| {
                notes.iter().for_each(|note| books.append(note));
                Ok(())
            })
        })
    }

    fn sweep(&self, context: Context) -> Reply<'_, Swept> {
        Box::pin(async move { self.call(|books| Ok(books.sweep(&context))) })
    }

    fn office<'a>(&'a self, office: &'a Office, act: Act, context: Context) -> Reply<'a, Done> {
        Box::pin(async move {
            let shut = act.shuts_out();
            let done = self.call(|books| books.office(office.actor(), act, &context));
            self.seats.evict_where(shut, &done);
            done
        })
    }

    fn warranted(
        &self,
        warrant: Warrant,
        key: [u8; 32],
        context: Context,
    ) -> Reply<'_, Option<TerminalName>> {
        Box::pin(async move { self.call(|books| Ok(books.warranted(&warrant, &key, context.now))) })
    }

    fn record_certificate(
        &self,
        warrant: Warrant,
        certificate: NewCertificate,
        context: Context,
    ) -> Reply<'_, Recorded> {
        Box::pin(async move {
            self.call(|books| Ok(books.record_certificate(&warrant, certificate, &context)))
        })
    }

    fn seats(&self) -> Vec<Seat> {
        self.seats.list()
    }
}
