//! A bank over the embedded store in this process, its accounts, and customers who are logged in.

use std::path::Path;
use std::sync::Arc;

use atm_bank::access::lockout::LockoutPolicy;
use atm_bank::access::pepper::Peppers;
use atm_bank::access::pin::{HashCost, Kiln, PinHash, PinHasher};
use atm_bank::access::row_mac::Keyring;
use atm_bank::bank::{Bank, Session};
use atm_bank::domain::{AccountNumber, Pin};
use atm_bank::operator::{Command, Desk, NoFloor, OpenAccount};
use atm_bank::store::Terms;
use atm_bank::store::sqlite::SqliteStore;
use atm_bank::surroundings::{Guarded, Surroundings};

/// Everybody's.
const PIN: &str = "8264";

/// argon2's least: PINs are checked before anything is measured.
const CHEAPEST: HashCost = HashCost::LEAST;

const TERMS: Terms = Terms {
    withdrawal_limit: 100_000,
    daily_withdrawal_limit: 100_000_000_000,
    hold_timeout_ms: 120_000,
    lockout: LockoutPolicy {
        tries: 3,
        lock_ms: 86_400_000,
    },
    try_rows_max: 1_000,
    keys_kept_ms: atm_bank::store::KEY_KEPT_MS,
    open_holds: atm_bank::domain::OpenHolds {
        of_account: 1_000_000,
        of_terminal: 1_000_000,
    },
};

/// A bank with a new store at `path`, and the hash of everybody's PIN.
pub(crate) fn open(path: &Path, clock: Arc<dyn Surroundings>) -> (Arc<Bank>, PinHash) {
    let peppers = Arc::new(Peppers::generate(&*clock));
    let mut kiln = Kiln::new(Arc::clone(&peppers), CHEAPEST);
    let hash = kiln.hash(&Pin::parse(PIN).unwrap(), &*clock).unwrap();
    let keyring = Keyring::from(peppers);
    let hasher = PinHasher::start(keyring.clone(), CHEAPEST, 1, Arc::clone(&clock)).unwrap();
    let currency = "USD".parse().unwrap();
    let (now, kept) = (clock.now(), Arc::clone(&clock));
    let mark = move || kept.guarded().map(Guarded::mark);
    let store = SqliteStore::open_with(path, currency, now, keyring, mark, None).unwrap();
    let bank = Bank::new(Arc::new(store), hasher, clock, TERMS, currency);
    (Arc::new(bank), hash)
}

/// Opens accounts, as staff do.
pub(crate) async fn open_accounts(
    bank: &Arc<Bank>,
    hash: &PinHash,
    numbers: impl Iterator<Item = AccountNumber>,
    balance: i64,
) {
    let account = |number: AccountNumber| OpenAccount {
        account: number.to_string(),
        hash: hash.into(),
        balance,
        demo: false,
    };
    let accounts = numbers.map(account).collect();
    let desk = Desk::new(Arc::clone(bank), Arc::new(NoFloor));
    let report = desk.perform("bench", Command::Open { accounts }).await;
    assert_eq!(report.exit_code, 0, "{}", report.text);
}

/// Logs a customer in, as the terminal of that number does.
pub(crate) async fn log_in(bank: &Bank, terminal: u64, account: AccountNumber) -> Session {
    let name = format!("terminal-{terminal}").parse().unwrap();
    let pin = Pin::parse(PIN).unwrap();
    let opened = bank.login(&name, terminal, account, pin).await;
    opened.unwrap().session
}
