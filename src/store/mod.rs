//! Durable state behind one trait of a few coarse calls, each one transaction.
//!
//! [`sqlite`], the embedded engine, loads rows and keeps what changed of them; what an operation does is
//! decided by `rules` alone. `memory`, for tests, is the reference model, which shares no rule with it: `contract.rs`
//! runs on both. The calls are made so that a database shared by many servers can keep the contract too: a
//! money operation is one call, one round trip, one transaction, and every claim carries a fence that is
//! compared where money is written.

mod clock;
#[cfg(test)]
mod contract;
mod digest;
pub mod enrolment;
#[cfg(any(test, feature = "fuzzing"))]
pub mod memory;
mod notes;
mod office;
pub(crate) mod rules;
pub mod seats;
pub mod sqlite;
mod state;
mod working;

use std::future::Future;
use std::pin::Pin as Pinned;

use crate::access::lockout::LockoutPolicy;
use crate::access::pin::{PinHash, PinVerified, Ticket};
use crate::access::throttle::AddressBlock;
use crate::domain::hold::LATE_CAPTURE_MS;
use crate::domain::timestamp::DAY_MS;
use crate::domain::{
    AccountNumber, EntryKind, EntryNumber, HoldName, IdempotencyKey, OpenHolds, Refusal,
    RequestedAmount, TerminalName, Timestamp,
};

pub use clock::{Acknowledged, ClockEffects, MendCursor, MendPart, unfinished};
pub use digest::{Digest, LogHead, NotADigest};
pub use enrolment::{CodeHash, Invitation, IssuedRecord, NewCertificate, Recorded, Warrant};
pub use notes::{Actor, DETAIL_CHARACTERS_MAX, Event, Note};
pub use office::{
    AUDIT_FAULTS_MAX, AccountReport, Act, Audit, Done, NewAccount, Office, PepperUse, RecordsAsked,
    TerminalReport,
};
pub use seats::{Claim, Seat};
pub use sqlite::Cause;

/// What every call returns: a future, so that a call may wait for a disk or a network.
pub type Reply<'a, T> = Pinned<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What a customer was given, or why not.
pub type Judged<T> = Result<T, Refusal>;

/// The call did not work. Whose fault it is never depends on the customer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot do it now. A keyed request may or may not have taken effect.
    #[error("storage unavailable: {0}")]
    Unavailable(String),
    /// The disk is full or fails, or the store cannot be used for another cause. A keyed request may or may not
    /// have taken effect.
    #[error("storage unavailable: {1}")]
    Disk(Cause, String),
    /// The claim was taken from this session meanwhile; nothing moved.
    #[error("the session's claim on the account has ended")]
    Fenced,
    /// What is stored breaks the ledger's own rules: serving must stop.
    #[error("the ledger is broken: {0}")]
    Broken(String),
    /// Two looks at the store's file found it damaged, or no store: serving must stop.
    #[error("the ledger is broken: {1}")]
    Damaged(Cause, String),
    /// The store has been shut down.
    #[error("the store is closed")]
    Closed,
    /// This store has no such call.
    #[error("this kind of store cannot do that")]
    Unsupported,
}

/// The bank's terms, as configured; an account may have limits of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The most one withdrawal or hold may be, minor units.
    pub withdrawal_limit: i64,
    /// The most all of a business day may be, minor units.
    pub daily_withdrawal_limit: i64,
    /// How long a hold stays open.
    pub hold_timeout_ms: u64,
    /// Tries and locks.
    pub lockout: LockoutPolicy,
    /// Rows of tries beyond which account numbers without a row are refused.
    pub try_rows_max: u64,
    /// How long a key's answer is kept, [`KEY_KEPT_MS`] at least.
    pub keys_kept_ms: u64,
    /// How many holds may be open at once.
    pub open_holds: OpenHolds,
}

/// When and where a call is made.
#[derive(Debug, Clone)]
pub struct Context {
    /// The present moment.
    pub now: Timestamp,
    /// The terminal that asks.
    pub terminal: TerminalName,
    /// The connection it asks over, for the audit log.
    pub connection: Option<u64>,
    /// The address it asks from, where that is all that tells it from others.
    pub address: Option<AddressBlock>,
    /// The bank's terms.
    pub terms: Terms,
    /// Whether PINs are being checked, for which the machine's cores are wanted: a store may then
    /// let an order wait a little for others to share its commit.
    pub busy: bool,
}

/// What a store has made durable since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Committed {
    /// Transactions; one that has written something syncs the disk once.
    pub commits: u64,
    /// The calls that they were: an order, a try of a PIN, a claim, an act of staff, a sweep.
    pub calls: u64,
}

/// Whether a PIN may be looked at.
#[derive(Debug)]
pub enum TryCounted {
    /// It may: the try is counted and on disk.
    Check(Ticket),
    /// No PIN from that terminal is looked at; milliseconds until one is, `None` where only staff
    /// can unlock.
    LockedOut(Option<u64>),
    /// The table of tries is full and this number has no row.
    TableFull,
    /// The account's PIN is gone or unreadable: somebody changed the store. Nothing is counted.
    Forged,
}

/// What became of a right PIN.
#[derive(Debug)]
pub enum Claimed {
    /// The account is this session's alone.
    Seated(Seated),
    /// Another session has it.
    InUse,
    /// The bank's staff locked the account.
    LockedByStaff,
    /// The account's row is not as the bank wrote it: somebody changed the store. The try stays
    /// counted, and it is on record.
    Forged,
    /// The PIN has been changed, has run out, or the account was closed meanwhile.
    Void,
}

/// What became of a right PIN that was to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinChange {
    /// The tries are forgotten, and the new PIN, where there was one, is in force.
    Done,
    /// The bank's staff locked the account; nothing but its tries has changed.
    LockedByStaff,
    /// The account's row is not as the bank wrote it; nothing has changed, and it is on record.
    Forged,
    /// The PIN has been changed meanwhile; nothing has changed now.
    Void,
}

/// A granted claim with what the customer is told at once.
#[derive(Debug)]
pub struct Seated {
    /// The claim.
    pub claim: Claim,
    /// The account's money.
    pub balances: Balances,
    /// The PIN was a one-time PIN.
    pub must_change_pin: bool,
}

/// Money of an account, minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balances {
    /// The balance of all entries.
    pub balance: i64,
    /// The balance less open holds.
    pub available: i64,
}

/// A customer's order to move money, or to set it aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The client's key.
    pub key: IdempotencyKey,
    /// How much, still to be judged.
    pub amount: RequestedAmount,
    /// What to do.
    pub kind: OrderKind,
}

/// What an [`Order`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderKind {
    /// Cash in.
    Deposit,
    /// Cash out at once.
    Withdraw,
    /// To another customer.
    Transfer(AccountNumber),
    /// Set aside, under this new name.
    Authorize(HoldName),
}

/// A terminal's order to end a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Which hold.
    pub hold: HoldName,
    /// The client's key.
    pub key: IdempotencyKey,
    /// What to do.
    pub kind: SettlementKind,
}

/// What a [`Settlement`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettlementKind {
    /// So much cash went out.
    Capture(RequestedAmount),
    /// None did.
    Release,
}

/// A keyed order was carried out, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Whose money it was.
    pub account: AccountNumber,
    /// It was carried out before: this is the first answer again, and nothing moved now.
    pub replayed: bool,
    /// The entry, where one was written.
    pub entry: Option<i64>,
    /// The hold, where one was made: its name, and how long it stays open.
    pub hold: Option<(HoldName, u64)>,
    /// The hold had expired before it was captured.
    pub late: bool,
    /// The account's money after it, as first answered.
    pub balances: Balances,
    /// Whether whoever asked is logged in to that account now, and may see its money.
    pub is_own: bool,
}

/// One posting as its account sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The entry's number.
    pub entry: i64,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub kind: EntryKind,
    /// Signed minor units.
    pub amount: i64,
    /// The balance after it.
    pub balance: i64,
    /// The terminal's name; empty where staff made it.
    pub terminal: String,
    /// The other customer, where there is one.
    pub counterparty: Option<AccountNumber>,
    /// The staff's reason, for an adjustment.
    pub reason: Option<String>,
}

/// What one round of sweeping did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Holds whose time was over.
    pub holds: usize,
    /// Keys past their keeping.
    pub keys: usize,
    /// Holds that ended long ago and were forgotten.
    pub forgotten_holds: usize,
    /// Forgotten tries.
    pub tries: usize,
}

impl Swept {
    /// Whether it did as much of a kind as one round may: there may be more to do at once.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let kinds = [self.holds, self.keys, self.forgotten_holds, self.tries];
        kinds.into_iter().any(|rows| rows >= SWEEP_ROWS_MAX)
    }
}

/// How long a key's answer is kept at least: a day more than promised. A start may believe a wall
/// clock that is ahead by as much as is configured; by that much more are they kept.
pub const KEY_KEPT_MS: u64 = 31 * DAY_MS;

impl Terms {
    /// Holds that ended before this moment, at `now`, are forgotten: none of them can be captured any
    /// more, and the answers to whatever settled them are forgotten too, for a day at least.
    fn holds_forgotten(&self, now: Timestamp) -> Timestamp {
        let kept_ms = self.keys_kept_ms.saturating_add(DAY_MS);
        now.minus_ms(LATE_CAPTURE_MS.saturating_add(kept_ms))
    }
}

/// Rows of each kind (holds due, keys, holds to be forgotten, tries) that one round of sweeping touches at most, so that it holds nobody up.
/// So few in tests that one round is not enough.
pub const SWEEP_ROWS_MAX: usize = if cfg!(test) { 20 } else { 500 };

/// Durable state. Each call is one transaction; when it returns `Ok` it is on disk.
pub trait Store: Send + Sync + 'static {
    /// Counts a try upon `account` before its PIN is looked at, in the budget of the context's
    /// terminal. An account that is not there, or whose PIN is void, is counted and checked like a
    /// stand-in: the same answers, in the same time.
    fn count_try(&self, account: AccountNumber, context: Context) -> Reply<'_, TryCounted>;

    /// After a right PIN: forgets the tries, keeps an upgraded hash, and gives the account to
    /// this connection if nobody has it.
    fn claim<'a>(
        &'a self,
        proof: &'a PinVerified,
        connection: u64,
        context: Context,
    ) -> Reply<'a, Claimed>;

    /// Frees the account. Never fails and never waits, so that dropping a session can do it.
    fn release(&self, claim: &Claim);

    /// The account's money.
    fn balance<'a>(&'a self, claim: &'a Claim, context: Context) -> Reply<'a, Balances>;

    /// Carries out a customer's orders, one after another, each once for each key; as many receipts
    /// or refusals come back, in the same order. They stand or fall with one commit.
    fn orders<'a>(
        &'a self,
        claim: &'a Claim,
        orders: Vec<Order>,
        context: Context,
    ) -> Reply<'a, Vec<Result<Receipt, Refusal>>>;

    /// Carries out one order, as [`Store::orders`] does.
    fn order<'a>(
        &'a self,
        claim: &'a Claim,
        order: Order,
        context: Context,
    ) -> Reply<'a, Result<Receipt, Refusal>> {
        let carried_out = self.orders(claim, vec![order], context);
        Box::pin(async move { carried_out.await?.pop().ok_or(StoreError::Closed) })
    }

    /// Ends a hold for the terminal that made it, once for each key, whether its session goes on or not.
    /// Without a certificate (`anonymous`) the present claim on the hold's account is needed too.
    fn settle<'a>(
        &'a self,
        claim: Option<&'a Claim>,
        settlement: Settlement,
        context: Context,
    ) -> Reply<'a, Result<Receipt, Refusal>>;

    /// The account's entries, newest first, at most `limit`, with numbers below `before`.
    fn history<'a>(
        &'a self,
        claim: &'a Claim,
        limit: u8,
        before: Option<EntryNumber>,
    ) -> Reply<'a, Vec<Line>>;

    /// Puts a new PIN in the place of the one that `proof` was given for, and forgets the tries.
    /// Without a new one, because what was asked for is not acceptable, only the latter.
    fn change_pin<'a>(
        &'a self,
        claim: &'a Claim,
        proof: &'a PinVerified,
        new: Option<PinHash>,
        context: Context,
    ) -> Reply<'a, PinChange>;

    /// Appends records to the audit log, all or none. What a call above changes is recorded in
    /// that call's own transaction; this is for the rest.
    fn note(&self, notes: Vec<Note>) -> Reply<'_, ()>;

    /// Looks whether what is committed would be found by the next start; else nothing is written from then on.
    fn look(&self) -> Reply<'_, ()> {
        self.note(Vec::new())
    }

    /// Frees holds whose time is over, forgets keys, holds and tries past theirs. No hold is forgotten
    /// before the answers that may name it.
    fn sweep(&self, context: Context) -> Reply<'_, Swept>;

    /// Does what the bank's staff ask.
    fn office<'a>(&'a self, office: &'a Office, act: Act, context: Context) -> Reply<'a, Done>;

    /// Whether it can be written, as far as is known; where not, it is tried again with each call.
    fn is_writable(&self) -> bool {
        true
    }

    /// What it has made durable since it was opened.
    fn committed(&self) -> Committed {
        Committed::default()
    }

    /// How large the journal is that it keeps beside its file, in octets; 0 where it has none.
    fn journal_bytes(&self) -> u64 {
        0
    }

    /// For whom a certificate may be made by this warrant, for the public key with this SHA-256.
    fn warranted(
        &self,
        warrant: Warrant,
        key: [u8; 32],
        context: Context,
    ) -> Reply<'_, Option<TerminalName>>;

    /// Puts a certificate on record, which must happen before it leaves. A code does so once: of
    /// all that come with it at the same time, one certificate comes out.
    fn record_certificate(
        &self,
        warrant: Warrant,
        certificate: NewCertificate,
        context: Context,
    ) -> Reply<'_, Recorded>;

    /// Who is seated now.
    fn seats(&self) -> Vec<Seat>;
}

/// What makes two requests with one key the same: SHA-256, cut to 16 bytes, over the op and all
/// its members but the id and the key.
pub type Fingerprint = [u8; 16];

fn fingerprint(op: &str, name: &str, amount: i64) -> Fingerprint {
    let text = format!("{op}\0{name}\0{amount}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&digest.as_ref()[..16]);
    short
}

impl Order {
    /// The request's fingerprint. A new hold's name is the bank's choice and no part of it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        match &self.kind {
            OrderKind::Deposit => fingerprint("deposit", "", self.amount.0),
            OrderKind::Withdraw => fingerprint("withdraw", "", self.amount.0),
            OrderKind::Transfer(to) => fingerprint("transfer", to.as_str(), self.amount.0),
            OrderKind::Authorize(_) => fingerprint("authorize", "", self.amount.0),
        }
    }
}

impl Settlement {
    /// The request's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        match self.kind {
            SettlementKind::Capture(amount) => fingerprint("capture", self.hold.as_str(), amount.0),
            SettlementKind::Release => fingerprint("release", self.hold.as_str(), 0),
        }
    }
}
