//! A bank for a test: what each needs and hardly any changes.

use std::sync::Arc;

use super::Bank;
use crate::access::lockout::LockoutPolicy;
use crate::access::pepper::Peppers;
use crate::access::pin::{HashCost, PinHash, PinHasher};
use crate::access::row_mac::Keyring;
use crate::domain::{OpenHolds, Pin};
use crate::store::memory::MemoryStore;
use crate::store::{Act, Done, NewAccount, Office, Store, Terms};
use crate::surroundings::Surroundings;

/// Bounds that are soon reached.
pub(crate) const TERMS: Terms = Terms {
    withdrawal_limit: 100,
    daily_withdrawal_limit: 100,
    hold_timeout_ms: 1_000,
    lockout: LockoutPolicy {
        tries: 3,
        lock_ms: 1_000_000_000,
    },
    try_rows_max: 1_000,
    keys_kept_ms: crate::store::KEY_KEPT_MS,
    open_holds: OpenHolds {
        of_account: 20,
        of_terminal: 20,
    },
};

/// A bank in dollars with one thread that hashes, at the least cost.
pub(crate) struct TestBank<S = MemoryStore> {
    pub(crate) bank: Arc<Bank>,
    pub(crate) store: Arc<S>,
}

impl TestBank {
    /// Over a store in memory, with a pepper of its own.
    pub(crate) fn new(around: &Arc<dyn Surroundings>) -> Self {
        let store = MemoryStore::new("USD".parse().unwrap(), around.now());
        let peppers = Arc::new(Peppers::generate(&**around));
        Self::over(store, Keyring::from(peppers), around)
    }
}

impl<S: Store + 'static> TestBank<S> {
    /// Over this store, whose rows are covered by these peppers.
    pub(crate) fn over(store: S, keyring: Keyring, around: &Arc<dyn Surroundings>) -> Self {
        let store = Arc::new(store);
        let hasher = PinHasher::start(keyring, HashCost::LEAST, 1, Arc::clone(around)).unwrap();
        let (around, currency) = (Arc::clone(around), "USD".parse().unwrap());
        let bank = Bank::new(store.clone(), hasher, around, TERMS, currency);
        Self {
            bank: Arc::new(bank),
            store,
        }
    }

    /// Hashes a PIN with the bank's own pepper.
    pub(crate) async fn hash(&self, pin: &str) -> PinHash {
        let place = self.bank.hasher().place().unwrap();
        place.hash(Pin::parse(pin).unwrap()).await.unwrap()
    }

    /// Opens an account.
    pub(crate) async fn open(&self, number: &str, hash: PinHash, balance: i64) {
        let account = NewAccount {
            number: number.parse().unwrap(),
            hash,
            balance,
            demo: false,
        };
        let act = Act::Open(vec![account]);
        let opened = self.bank.office(&Office::of("test"), act).await;
        assert!(matches!(opened, Ok(Done::Opened { opened: 1, .. })));
    }
}
