//! A bank in memory, with a clock and chance of its own.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::kitchen::{hash, hasher, wait};
use crate::access::lockout::LockoutPolicy;
use crate::access::spray::SprayWatch;
use crate::access::throttle::{KeyedThrottle, Rate, Requester};
use crate::bank::Bank;
use crate::domain::{Currency, TerminalName, Timestamp};
use crate::operator::{Command, Desk, NoFloor, OpenAccount, Report};
use crate::server::dialogue::{Dialogue, Peer, Shared};
use crate::server::lines::Lines;
use crate::store::Terms;
use crate::store::memory::MemoryStore;
use crate::surroundings::{Surroundings, Virtual};
use crate::telemetry::Metrics;
use crate::wire::answer::SessionTimes;

/// Tries before a [`World`]'s account number is locked.
pub const TRIES: u32 = 3;
/// How long it is locked then.
pub const LOCK_MS: u64 = 600_000;
/// How long a session of a [`World`] lasts at most.
pub const MAX_TIMEOUT_MS: u64 = 900_000;

/// The terms of a [`World`]'s bank.
const TERMS: Terms = Terms {
    withdrawal_limit: 50_000,
    daily_withdrawal_limit: 120_000,
    hold_timeout_ms: 120_000,
    lockout: LockoutPolicy {
        tries: TRIES,
        lock_ms: LOCK_MS,
    },
    try_rows_max: 1_000,
    keys_kept_ms: crate::store::KEY_KEPT_MS,
    open_holds: crate::domain::OpenHolds {
        of_account: 1_000_000,
        of_terminal: 1_000_000,
    },
};

/// No rate is met here.
const UNLIMITED: Rate = Rate {
    count: 1_000_000,
    per: Duration::from_secs(1),
    burst: 1_000_000,
};

/// 2026-01-01, an hour before midnight, so that a business day ends early in a run.
const BEGINNING_MS: i64 = 1_767_308_400_000;

/// Somebody with an account.
#[derive(Debug, Clone, Copy)]
pub struct Customer {
    /// The account's number, in lower case.
    pub number: &'static str,
    /// Its first PIN.
    pub pin: &'static str,
    /// Its opening balance, minor units.
    pub balance: i64,
}

/// A bank over a store in memory, for the thread that makes it. Nothing in it depends on the
/// machine's clock or chance.
pub struct World {
    /// The bank's clock and chance.
    pub clock: Arc<Virtual>,
    /// The bank's store, with its switches.
    pub store: Arc<MemoryStore>,
    /// The bank.
    pub bank: Arc<Bank>,
    desk: Desk,
    shared: Shared,
}

impl World {
    /// A bank with these customers; its chance comes from `seed`.
    ///
    /// # Panics
    /// Where the accounts cannot be opened.
    #[must_use]
    pub fn new(seed: u64, customers: &[Customer]) -> Self {
        let now = Timestamp::from_unix_ms(BEGINNING_MS);
        let currency: Currency = "USD".parse().expect("a currency");
        let clock = Arc::new(Virtual::new(now, seed));
        let around: Arc<dyn Surroundings> = clock.clone();
        let store = Arc::new(MemoryStore::new(currency, now));
        let bank = Bank::new(store.clone(), hasher(), around.clone(), TERMS, currency);
        let bank = Arc::new(bank);
        let world = Self {
            clock,
            store,
            desk: Desk::new(Arc::clone(&bank), Arc::new(NoFloor)),
            shared: Shared {
                bank: Arc::clone(&bank),
                logins: Arc::new(KeyedThrottle::new(UNLIMITED, Arc::clone(&around))),
                lines: Arc::new(Lines::new(Arc::clone(&around))),
                sprays: Arc::new(SprayWatch::new(0, around)),
                metrics: Arc::new(Metrics::default()),
            },
            bank,
        };
        let opened = world.open(customers);
        assert_eq!(opened.exit_code, 0, "{}", opened.text);
        world
    }

    /// The terms of every world's bank.
    #[must_use]
    pub fn terms() -> Terms {
        TERMS
    }

    /// Runs to the end on the calling thread.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        wait(work)
    }

    /// The present moment, milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.clock.now().unix_ms()
    }

    /// A new connection of `terminal`; `anonymous` is one without a certificate.
    ///
    /// # Panics
    /// Where that is no terminal's name.
    #[must_use]
    pub fn dialogue(&self, terminal: &str, connection: u64) -> Dialogue {
        let terminal: TerminalName = terminal.parse().expect("a terminal's name");
        let requester = match terminal.is_anonymous() {
            true => Requester::Address(IpAddr::V4(Ipv4Addr::LOCALHOST).into()),
            false => Requester::Terminal(terminal.clone()),
        };
        let peer = Peer {
            terminal,
            requester,
            connection,
        };
        let times = SessionTimes {
            idle_timeout_ms: 60_000,
            max_timeout_ms: MAX_TIMEOUT_MS,
        };
        Dialogue::new(self.shared.clone(), peer, UNLIMITED, times)
    }

    /// What staff ask, performed at a desk.
    pub fn staff(&self, command: Command) -> Report {
        wait(self.desk.perform("fuzzing", command))
    }

    /// Opens accounts.
    pub fn open(&self, customers: &[Customer]) -> Report {
        let account = |customer: &Customer| OpenAccount {
            account: customer.number.to_owned(),
            hash: (&hash(customer.pin)).into(),
            balance: customer.balance,
            demo: false,
        };
        let accounts = customers.iter().map(account).collect();
        self.staff(Command::Open { accounts })
    }

    /// Gives an account a one-time PIN.
    pub fn set_pin(&self, account: &str, pin: &str, valid_ms: u64) -> Report {
        self.staff(Command::SetPin {
            account: account.to_owned(),
            hash: (&hash(pin)).into(),
            valid_ms,
            accept_row: false,
        })
    }
}
