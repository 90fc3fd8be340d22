//! Durable state behind one trait of a few coarse calls, each one transaction.
//!
//! Two stores keep the same contract (`contract.rs` runs on both): [`memory`], the
//! reference model, and [`sqlite`], the embedded one. The calls are made so that a database shared
//! by many servers can keep it too: a money operation is one call, one round trip, one
//! transaction, and every claim carries a fence that is compared where money is written.

#[cfg(test)]
mod contract;
pub mod memory;
pub mod seats;
pub mod sqlite;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin as Pinned;

use crate::access::lockout::{LockoutPolicy, TryRecord};
use crate::access::pin::{PinHash, PinVerified, Ticket};
use crate::domain::{
    AccountNumber, EntryKind, EntryNumber, HoldName, IdempotencyKey, Refusal, RequestedAmount,
    TerminalName, Timestamp,
};

pub use seats::{Claim, Seat};

/// What every call returns: a future, so that a call may wait for a disk or a network.
pub type Reply<'a, T> = Pinned<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The call did not work. Whose fault it is never depends on the customer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot do it now. A keyed request may or may not have taken effect.
    #[error("storage unavailable: {0}")]
    Unavailable(String),
    /// The claim was taken from this session meanwhile; nothing moved.
    #[error("the session's claim on the account has ended")]
    Fenced,
    /// What is stored breaks the ledger's own rules: serving must stop.
    #[error("the ledger is broken: {0}")]
    Broken(String),
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
}

/// When and where a call is made.
#[derive(Debug, Clone)]
pub struct Context {
    /// The present moment.
    pub now: Timestamp,
    /// The terminal that asks.
    pub terminal: TerminalName,
    /// The bank's terms.
    pub terms: Terms,
}

/// Whether a PIN may be looked at.
#[derive(Debug)]
pub enum TryCounted {
    /// It may: the try is counted and on disk.
    Check(Ticket),
    /// No PIN is looked at; milliseconds until one is, `None` where only staff can unlock.
    LockedOut(Option<u64>),
    /// The table of tries is full and this number has no row.
    TableFull,
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
    /// Forgotten tries.
    pub tries: usize,
}

/// How long a key's answer is kept: a day more than promised.
pub const KEY_KEPT_MS: u64 = 31 * 86_400_000;

/// Rows of each kind that one round of sweeping touches at most, so that it holds nobody up.
pub const SWEEP_ROWS_MAX: usize = 500;

/// Durable state. Each call is one transaction; when it returns `Ok` it is on disk.
pub trait Store: Send + Sync + 'static {
    /// Counts a try upon `account` before its PIN is looked at.
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

    /// Carries out a customer's order, once for each key.
    fn order<'a>(
        &'a self,
        claim: &'a Claim,
        order: Order,
        context: Context,
    ) -> Reply<'a, Result<Receipt, Refusal>>;

    /// Ends a hold for the terminal that made it, once for each key. Without a certificate
    /// (`anonymous`) the claim on the hold's account is needed too.
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
    ) -> Reply<'a, PinChange>;

    /// Frees holds whose time is over, forgets keys and tries past theirs.
    fn sweep(&self, context: Context) -> Reply<'_, Swept>;

    /// Does what the bank's staff ask.
    fn office<'a>(&'a self, office: &'a Office, act: Act, context: Context) -> Reply<'a, Done>;

    /// Who is seated now.
    fn seats(&self) -> Vec<Seat>;
}

/// Proof that the caller acts for the bank's staff. Only the operator's room makes one.
#[derive(Debug)]
pub struct Office {
    actor: String,
}

impl Office {
    pub(crate) fn of(actor: impl Into<String>) -> Self {
        Self {
            actor: actor.into(),
        }
    }

    /// Who acts.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }
}

/// An account to be opened.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its number.
    pub number: AccountNumber,
    /// Its PIN's hash.
    pub hash: PinHash,
    /// What it starts with, minor units, 0 or more.
    pub balance: i64,
    /// It is a demo account, whose PIN is public.
    pub demo: bool,
}

/// What the staff may do; each is one transaction.
#[derive(Debug, Clone)]
pub enum Act {
    /// Opens accounts, all or none; those that exist are left alone and named.
    Open(Vec<NewAccount>),
    /// One account.
    Show(AccountNumber),
    /// Accounts in the order of their numbers.
    List {
        /// Only numbers behind this one.
        after: Option<AccountNumber>,
        /// How many at most.
        limit: usize,
    },
    /// Closes an empty account.
    Close(AccountNumber),
    /// Locks or unlocks an account; unlocking forgets its tries too.
    Lock(AccountNumber, bool),
    /// Gives a new PIN; with an end it serves only to choose another.
    SetPin {
        /// Whose.
        number: AccountNumber,
        /// Its hash.
        hash: PinHash,
        /// When it runs out, for a one-time PIN.
        one_time_until: Option<Timestamp>,
    },
    /// Gives an account limits of its own, or (`None`) the bank's again.
    Limit {
        /// Whose.
        number: AccountNumber,
        /// Of one withdrawal.
        withdrawal: Option<i64>,
        /// Of a business day.
        daily: Option<i64>,
    },
    /// Corrects a balance by an entry of its own kind.
    Adjust {
        /// Whose.
        number: AccountNumber,
        /// Signed minor units.
        amount: i64,
        /// Why, in words.
        reason: String,
    },
    /// An account's entries, oldest first.
    Statement {
        /// Whose.
        number: AccountNumber,
        /// Entries with larger numbers than this.
        after: i64,
        /// Not before this moment.
        from: Option<Timestamp>,
        /// Before this moment.
        to: Option<Timestamp>,
        /// How many at most.
        limit: usize,
    },
    /// Terminals known by name.
    Terminals,
    /// Lets a terminal in, or not.
    Terminal {
        /// Its name.
        name: TerminalName,
        /// Not.
        disabled: bool,
    },
    /// Audits the whole ledger; with a digest of before, also what came before it.
    Verify(Option<Digest>),
    /// Copies the store to a new file.
    Backup(PathBuf),
    /// How many demo accounts still have their public PIN.
    DemoAccounts,
    /// Captures that came after their hold had expired, newest first.
    LateCaptures {
        /// How many at most.
        limit: usize,
    },
}

/// What came of an [`Act`].
#[derive(Debug, Clone)]
pub enum Done {
    /// It is done.
    Yes,
    /// Accounts were opened.
    Opened {
        /// How many.
        opened: usize,
        /// Numbers that stood already.
        existing: Vec<AccountNumber>,
    },
    /// One account.
    Account(Box<AccountReport>),
    /// Several.
    Accounts(Vec<AccountReport>),
    /// Entries.
    Lines(Vec<Line>),
    /// An entry was written.
    Posted {
        /// Its number.
        entry: i64,
        /// The balance after it.
        balance: i64,
    },
    /// Terminals.
    Terminals(Vec<TerminalReport>),
    /// The audit.
    Audit(Box<Audit>),
    /// A number.
    Count(u64),
    /// There is no such account.
    NoSuchAccount,
    /// It was refused; nothing changed. The words are for staff.
    Refused(String),
}

/// An account as staff see it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AccountReport {
    /// Its number.
    pub account: String,
    /// `open`, `locked` or `closed`.
    pub status: String,
    /// ISO 4217.
    pub currency: String,
    /// Minor units.
    pub balance: i64,
    /// Minor units.
    pub available: i64,
    /// Minor units, where it has its own.
    pub withdrawal_limit: Option<i64>,
    /// Minor units, where it has its own.
    pub daily_withdrawal_limit: Option<i64>,
    /// Wrong PINs that count now.
    pub tries: u32,
    /// No PIN is looked at now.
    pub locked_out: bool,
    /// Its PIN is a one-time PIN.
    pub must_change_pin: bool,
    /// Its PIN is public.
    pub demo: bool,
    /// The terminal of the last good log-in.
    pub home_terminal: Option<String>,
}

/// A terminal as staff see it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TerminalReport {
    /// Its name.
    pub terminal: String,
    /// It is not let in.
    pub disabled: bool,
    /// The balance of its cash account, minor units: negative is cash taken in.
    pub cash: i64,
}

/// A digest of all chains' heads as they stood after one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// The last entry it covers; 0 for an empty ledger.
    pub entry: i64,
    /// SHA-256 over the heads in the order of the accounts' names.
    pub hash: [u8; 32],
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-", self.entry)?;
        self.hash
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let (entry, hex) = text.split_once('-').ok_or(NotADigest)?;
        let mut hash = [0; 32];
        if hex.len() != 64 || !hex.is_ascii() {
            return Err(NotADigest);
        }
        for (index, byte) in hash.iter_mut().enumerate() {
            let pair = hex.get(2 * index..2 * index + 2).ok_or(NotADigest)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotADigest)?;
        }
        let entry = entry
            .parse()
            .ok()
            .filter(|entry| *entry >= 0)
            .ok_or(NotADigest)?;
        Ok(Self { entry, hash })
    }
}

/// The text is no digest as `verify` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is an entry's number, a hyphen and 64 hex digits, as verify prints it")]
pub struct NotADigest;

/// What an audit of the whole ledger found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Customers' accounts.
    pub accounts: u64,
    /// Entries.
    pub entries: u64,
    /// Holds that are open.
    pub open_holds: u64,
    /// Kept keys.
    pub keys: u64,
    /// The sum of customers' balances, minor units.
    pub customers_total: i64,
    /// The sum of all balances; anything but 0 is a fault.
    pub ledger_total: i64,
    /// The chains' heads now.
    pub head: Digest,
    /// Everything that is wrong, in words; empty where nothing is.
    pub faults: Vec<String>,
}

/// Faults that an audit names at most; the rest are counted.
pub const AUDIT_FAULTS_MAX: usize = 100;

/// Whether a record of tries locks an account now.
#[must_use]
pub fn is_locked_out(record: &TryRecord, policy: LockoutPolicy, now: Timestamp) -> bool {
    record.is_locked(policy) && record.expires_at(policy).is_none_or(|end| now < end)
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
