//! A bank on the bench: a store, a clock that is moved by hand, and short words for every call.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use crate::access::lockout::LockoutPolicy;
use crate::access::pepper::Peppers;
use crate::access::pin::{HashCost, Kiln, PinHash, PinHasher, PinVerified};
use crate::access::row_mac::Keyring;
use crate::access::throttle::AddressBlock;
use crate::domain::entry::ChainHash;
use crate::domain::{
    AccountNumber, AuditRecord, EntryNumber, HoldName, IdempotencyKey, Pin, Refusal,
    RequestedAmount, Timestamp,
};
use crate::store::memory::MemoryStore;
use crate::store::sqlite::{SqliteStore, set_stand_in_key};
use crate::store::{
    AccountReport, Act, Audit, Balances, Claim, Claimed, Context, Digest, Done, Line, NewAccount,
    Office, Order, OrderKind, Receipt, RecordsAsked, Seated, Settlement, SettlementKind, Store,
    StoreError, Swept, Terms, TryCounted,
};
use crate::surroundings::{Surroundings as _, System, Virtual};

pub(super) const CHEAP: HashCost = HashCost::LEAST;

/// 2026-01-01T00:00:00Z.
pub(super) const NEW_YEAR: Timestamp = Timestamp::from_unix_ms(1_767_225_600_000);
pub(super) const SECOND: i64 = 1_000;
pub(super) const HOUR: i64 = 3_600 * SECOND;
pub(super) const DAY: i64 = 24 * HOUR;

pub(super) const PIN: &str = "8264";
pub(super) const WRONG_PIN: &str = "8265";

/// The account that most tests use.
pub(super) const ANNE: &str = "zz-00001";
/// Another.
pub(super) const BERT: &str = "zz-00002";
/// One that is never opened.
pub(super) const NOBODY: &str = "zz-99999";

pub(super) fn number(text: &str) -> AccountNumber {
    text.parse().unwrap()
}

pub(super) fn dollars() -> crate::domain::Currency {
    "USD".parse().unwrap()
}

/// A key of its own for every text.
pub(super) fn key(text: &str) -> IdempotencyKey {
    format!("key-0000000000-{text}").parse().unwrap()
}

pub(super) fn hold_name(text: &str) -> HoldName {
    text.parse().unwrap()
}

pub(super) struct Rig {
    pub(super) store: Option<Arc<dyn Store>>,
    pub(super) clock: Arc<Virtual>,
    pub(super) terms: Terms,
    pub(super) terminal: &'static str,
    pub(super) address: Option<IpAddr>,
    pub(super) peppers: Arc<Peppers>,
    pub(super) keyring: Keyring,
    pub(super) folder: Option<TempDir>,
    memory: Option<Arc<MemoryStore>>,
    hasher: PinHasher,
    connections: AtomicU64,
    keys: AtomicU64,
}

impl Rig {
    fn new(store: Option<Arc<dyn Store>>, folder: Option<TempDir>) -> Self {
        let system = Arc::new(System::default());
        let peppers = Arc::new(Peppers::generate(&*system));
        let keyring = Keyring::from(Arc::clone(&peppers));
        let hasher = PinHasher::start(keyring.clone(), CHEAP, 1, system).unwrap();
        let lockout = LockoutPolicy {
            tries: 3,
            lock_ms: 86_400_000,
        };
        let terms = Terms {
            withdrawal_limit: 100_000,
            daily_withdrawal_limit: 200_000,
            hold_timeout_ms: 120_000,
            lockout,
            try_rows_max: 1_000,
            keys_kept_ms: crate::store::KEY_KEPT_MS,
            open_holds: crate::domain::OpenHolds {
                of_account: 1_000_000,
                of_terminal: 1_000_000,
            },
        };
        Self {
            store,
            clock: Arc::new(Virtual::new(NEW_YEAR.plus_ms(12 * 3_600_000), 1)),
            terms,
            terminal: "t-1",
            address: None,
            peppers,
            keyring,
            folder,
            memory: None,
            hasher,
            connections: AtomicU64::new(0),
            keys: AtomicU64::new(0),
        }
    }

    pub(super) fn memory() -> Self {
        Self::of(MemoryStore::new(dollars(), NEW_YEAR))
    }

    pub(super) fn of(store: MemoryStore) -> Self {
        let store = Arc::new(store);
        let mut rig = Self::new(Some(store.clone()), None);
        rig.memory = Some(store);
        rig
    }

    /// On a disk that forgets, where there is one: what is tested is not the disk.
    pub(super) fn sqlite() -> Self {
        let fast = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let mut rig = Self::new(None, Some(fast.unwrap()));
        rig.open_store();
        rig.share_stand_ins();
        rig
    }

    /// Gives a new file the key that the model draws with, so that both show unknown numbers alike.
    fn share_stand_ins(&self) {
        set_stand_in_key(&self.path(), &"0".repeat(64)).unwrap();
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.as_ref().unwrap().path().join("data/bank.db")
    }

    pub(super) fn open_store(&mut self) {
        let store = SqliteStore::open(&self.path(), dollars(), NEW_YEAR, self.keyring.clone());
        let store = store.unwrap();
        self.store = Some(Arc::new(store));
    }

    pub(super) fn shut_store(&mut self) {
        self.store = None;
    }

    /// Has the cash of the rig's terminal counted so. Claims made before are gone.
    pub(super) fn set_cash(&mut self, balance: i64) {
        if let Some(memory) = &self.memory {
            memory.set_cash(&self.terminal.parse().unwrap(), balance);
            return;
        }
        self.shut_store();
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        let sql = "UPDATE account SET balance = ?2 WHERE number = 'cash:' || ?1";
        let changed = connection.execute(sql, rusqlite::params![self.terminal, balance]);
        assert_eq!(changed.unwrap(), 1);
        drop(connection);
        self.open_store();
    }

    pub(super) fn store(&self) -> &dyn Store {
        &**self.store.as_ref().unwrap()
    }

    pub(super) fn advance(&self, ms: i64) {
        self.clock.advance_ms(ms);
    }

    pub(super) fn context(&self) -> Context {
        Context {
            now: self.clock.now(),
            terminal: self.terminal.parse().unwrap(),
            connection: None,
            address: self.address.map(AddressBlock::from),
            terms: self.terms,
            busy: false,
        }
    }

    pub(super) fn hash(&self, pin: &str, cost: HashCost) -> PinHash {
        let mut kiln = Kiln::new(Arc::clone(&self.peppers), cost);
        let pin = Pin::parse(pin).unwrap();
        kiln.hash(&pin, &System::default()).unwrap()
    }

    pub(super) fn new_key(&self) -> IdempotencyKey {
        key(&self.keys.fetch_add(1, Ordering::SeqCst).to_string())
    }

    // What the staff do.

    pub(super) async fn act(&self, act: Act) -> Done {
        self.try_act(act).await.unwrap()
    }

    pub(super) async fn try_act(&self, act: Act) -> Result<Done, StoreError> {
        let office = Office::of("the contract");
        self.store().office(&office, act, self.context()).await
    }

    pub(super) async fn open(&self, account: &str, balance: i64) {
        let new = NewAccount {
            number: number(account),
            hash: self.hash(PIN, CHEAP),
            balance,
            demo: false,
        };
        let done = self.act(Act::Open(vec![new])).await;
        assert!(matches!(done, Done::Opened { opened: 1, .. }), "{done:?}");
    }

    /// Covered rows of all kinds: an account of Anne's, a closed one of Bert's, a disabled terminal.
    pub(super) async fn open_all_kinds(&self, balance: i64) {
        self.open(ANNE, balance).await;
        self.open(BERT, 0).await;
        self.act(Act::Close(number(BERT))).await;
        let disable = Act::Terminal {
            name: "t-9".parse().unwrap(),
            disabled: true,
        };
        self.act(disable).await;
    }

    /// The whole audit log.
    pub(super) async fn records(&self) -> Vec<(AuditRecord, ChainHash)> {
        let all = RecordsAsked {
            limit: usize::MAX,
            ..RecordsAsked::default()
        };
        self.some_records(all).await
    }

    pub(super) async fn some_records(&self, asked: RecordsAsked) -> Vec<(AuditRecord, ChainHash)> {
        match self.act(Act::Records(asked)).await {
            Done::Records(records) => records,
            done => panic!("{done:?}"),
        }
    }

    pub(super) async fn show(&self, account: &str) -> AccountReport {
        match self.act(Act::Show(number(account))).await {
            Done::Account(report) => *report,
            done => panic!("{done:?}"),
        }
    }

    pub(super) async fn set_pin(&self, account: &str, pin: &str, until: Option<Timestamp>) {
        let act = Act::SetPin {
            number: number(account),
            hash: self.hash(pin, CHEAP),
            one_time_until: until,
            accept_row: false,
        };
        assert!(matches!(self.act(act).await, Done::Yes));
    }

    pub(super) async fn verify(&self, before: Option<Digest>) -> Audit {
        match self.act(Act::Verify(before)).await {
            Done::Audit(audit) => *audit,
            done => panic!("{done:?}"),
        }
    }

    /// Ends a test: whatever it did, the ledger must be whole.
    pub(super) async fn assert_clean(&self) {
        assert_eq!(self.verify(None).await.faults, Vec::<String>::new());
    }

    pub(super) async fn sweep(&self) -> Swept {
        self.store().sweep(self.context()).await.unwrap()
    }

    /// Sweeps until nothing is left to be swept.
    pub(super) async fn sweep_all(&self) {
        while self.sweep().await != Swept::default() {}
    }

    // What customers do.

    pub(super) async fn count_try(&self, account: &str) -> TryCounted {
        let counted = self.store().count_try(number(account), self.context());
        counted.await.unwrap()
    }

    /// One whole try with a PIN; `Err` where none was looked at.
    pub(super) async fn try_pin(
        &self,
        account: &str,
        pin: &str,
    ) -> Result<Option<PinVerified>, TryCounted> {
        match self.count_try(account).await {
            TryCounted::Check(ticket) => {
                let checked = self
                    .hasher
                    .place()
                    .unwrap()
                    .verify(ticket, Pin::parse(pin).unwrap());
                Ok(checked.await.unwrap())
            }
            refused => Err(refused),
        }
    }

    pub(super) async fn proof(&self, account: &str) -> PinVerified {
        self.try_pin(account, PIN).await.unwrap().unwrap()
    }

    pub(super) async fn claim_by(&self, proof: &PinVerified) -> Claimed {
        let connection = self.connections.fetch_add(1, Ordering::SeqCst);
        let claimed = self.store().claim(proof, connection, self.context());
        claimed.await.unwrap()
    }

    pub(super) async fn seat(&self, account: &str, pin: &str) -> Seated {
        let proof = self.try_pin(account, pin).await.unwrap().unwrap();
        match self.claim_by(&proof).await {
            Claimed::Seated(seated) => seated,
            other => panic!("{other:?}"),
        }
    }

    /// A log-in that may fail in any way; `None` where no PIN was right.
    pub(super) async fn try_log_in(&self, account: &str) -> Option<Claimed> {
        let TryCounted::Check(ticket) = self.count_try(account).await else {
            return None;
        };
        let place = self.hasher.place().unwrap();
        let checked = place.verify(ticket, Pin::parse(PIN).unwrap()).await;
        Some(self.claim_by(&checked.ok()??).await)
    }

    pub(super) async fn log_in(&self, account: &str) -> Claim {
        self.seat(account, PIN).await.claim
    }

    pub(super) fn log_out(&self, claim: Claim) {
        self.store().release(&claim);
    }

    pub(super) async fn balance(&self, claim: &Claim) -> Balances {
        self.store().balance(claim, self.context()).await.unwrap()
    }

    pub(super) async fn order(
        &self,
        claim: &Claim,
        key: IdempotencyKey,
        amount: i64,
        kind: OrderKind,
    ) -> Result<Receipt, Refusal> {
        let order = Order {
            key,
            amount: RequestedAmount(amount),
            kind,
        };
        let answer = self.store().order(claim, order, self.context());
        answer.await.unwrap()
    }

    pub(super) async fn deposit(&self, claim: &Claim, amount: i64) -> Result<Receipt, Refusal> {
        self.order(claim, self.new_key(), amount, OrderKind::Deposit)
            .await
    }

    pub(super) async fn withdraw(&self, claim: &Claim, amount: i64) -> Result<Receipt, Refusal> {
        self.order(claim, self.new_key(), amount, OrderKind::Withdraw)
            .await
    }

    /// As [`Rig::withdraw`], where the store may not do it.
    pub(super) async fn try_withdraw(
        &self,
        claim: &Claim,
        amount: i64,
    ) -> Result<Result<Receipt, Refusal>, StoreError> {
        let order = Order {
            key: self.new_key(),
            amount: RequestedAmount(amount),
            kind: OrderKind::Withdraw,
        };
        self.store().order(claim, order, self.context()).await
    }

    pub(super) async fn transfer(
        &self,
        claim: &Claim,
        to: &str,
        amount: i64,
    ) -> Result<Receipt, Refusal> {
        let kind = OrderKind::Transfer(number(to));
        self.order(claim, self.new_key(), amount, kind).await
    }

    pub(super) async fn authorize(
        &self,
        claim: &Claim,
        hold: &str,
        amount: i64,
    ) -> Result<Receipt, Refusal> {
        let kind = OrderKind::Authorize(hold_name(hold));
        self.order(claim, self.new_key(), amount, kind).await
    }

    pub(super) async fn settle(
        &self,
        claim: Option<&Claim>,
        key: IdempotencyKey,
        hold: &str,
        kind: SettlementKind,
    ) -> Result<Receipt, Refusal> {
        let settlement = Settlement {
            hold: hold_name(hold),
            key,
            kind,
        };
        let answer = self.store().settle(claim, settlement, self.context());
        answer.await.unwrap()
    }

    pub(super) async fn capture(&self, hold: &str, amount: i64) -> Result<Receipt, Refusal> {
        self.settle(None, self.new_key(), hold, capture(amount))
            .await
    }

    pub(super) async fn free(&self, hold: &str) -> Result<Receipt, Refusal> {
        let key = self.new_key();
        self.settle(None, key, hold, SettlementKind::Release).await
    }

    pub(super) async fn history(&self, claim: &Claim, limit: u8, before: Option<i64>) -> Vec<Line> {
        let before = before.and_then(EntryNumber::new);
        self.store().history(claim, limit, before).await.unwrap()
    }
}

pub(super) fn capture(amount: i64) -> SettlementKind {
    SettlementKind::Capture(RequestedAmount(amount))
}

/// Both balances, for short comparisons.
pub(super) fn money(balances: Balances) -> (i64, i64) {
    (balances.balance, balances.available)
}
