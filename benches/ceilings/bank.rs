//! The bank itself without TLS, sockets and a load tool: customers who are logged in order in this
//! process, each as soon as the one before is durable. What is left to a plain loop at the same
//! orders a commit is the price of the bank's own rows, checks and threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use atm_bank::access::lockout::LockoutPolicy;
use atm_bank::access::pepper::Peppers;
use atm_bank::access::pin::{HashCost, Kiln, PinHasher};
use atm_bank::bank::{Bank, Session};
use atm_bank::domain::{AccountNumber, Pin, RequestedAmount};
use atm_bank::operator::{Command, Desk, NoFloor, OpenAccount};
use atm_bank::store::sqlite::SqliteStore;
use atm_bank::store::{Order, OrderKind, Terms};
use atm_bank::surroundings::{Surroundings, System};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::took::Took;
use crate::{Arguments, Keys, folder, print};

const PIN: &str = "8264";
const WARM_UP: Duration = Duration::from_secs(1);

/// argon2's least: PINs are checked before anything is measured.
const CHEAPEST: HashCost = HashCost {
    memory_kib: 8,
    iterations: 1,
    parallelism: 1,
};

const TERMS: Terms = Terms {
    withdrawal_limit: 100_000,
    daily_withdrawal_limit: 100_000_000_000,
    hold_timeout_ms: 120_000,
    lockout: LockoutPolicy {
        tries: 3,
        lock_ms: 86_400_000,
    },
    try_rows_max: 1_000,
};

pub(crate) fn measure(arguments: &Arguments) {
    let folder = folder();
    let path = folder.path().join("bank.db");
    let clock: Arc<dyn Surroundings> = Arc::new(System::default());
    let peppers = Arc::new(Peppers::generate(&*clock));
    let mut kiln = Kiln::new(Arc::clone(&peppers), CHEAPEST);
    let hash = kiln.hash(&Pin::parse(PIN).unwrap(), &*clock).unwrap();
    let hasher = PinHasher::start(peppers, CHEAPEST, 1, Arc::clone(&clock)).unwrap();
    let currency = "USD".parse().unwrap();
    let store = SqliteStore::open(&path, currency, clock.now()).unwrap();
    let bank = Arc::new(Bank::new(Arc::new(store), hasher, clock, TERMS, currency));
    let account = |index| OpenAccount {
        account: number(index).to_string(),
        hash: (&hash).into(),
        balance: 1_000_000_000,
        demo: false,
    };
    let accounts = (0..arguments.accounts).map(account).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let desk = Desk::new(Arc::clone(&bank), Arc::new(NoFloor));
        let opened = desk.perform("bench", Command::Open { accounts }).await;
        assert_eq!(opened.exit_code, 0, "{}", opened.text);
        serve(arguments, &bank).await;
    });
}

/// Lets customers order, the first ones of all accounts, and prints what came of it.
async fn serve(arguments: &Arguments, bank: &Arc<Bank>) {
    let mut sessions = Vec::new();
    for index in 0..arguments.connections {
        let terminal = format!("till-{index:03}").parse().unwrap();
        let pin = Pin::parse(PIN).unwrap();
        let id = u64::try_from(index).unwrap();
        let opened = bank.login(&terminal, id, number(index), pin).await;
        sessions.push(opened.unwrap().session);
    }
    let from = Instant::now() + WARM_UP;
    let until = from + arguments.span();
    let mut customers = JoinSet::new();
    for (index, session) in sessions.into_iter().enumerate() {
        let (bank, arguments) = (Arc::clone(bank), arguments.clone());
        customers.spawn(async move { order(&bank, session, index, &arguments, from, until).await });
    }
    tokio::time::sleep_until(from.into()).await;
    let before = bank.committed();
    tokio::time::sleep_until(until.into()).await;
    let after = bank.committed();
    let mut took = Took::default();
    while let Some(one) = customers.join_next().await {
        took.add(&one.unwrap());
    }
    let commits = after.commits - before.commits;
    let what = json!({
        "part": "bank",
        "connections": arguments.connections,
        "keys": format!("{:?}", arguments.keys).to_lowercase(),
        "batch": (after.calls - before.calls) as f64 / commits as f64,
    });
    print(what, &took, took.count(), arguments.span());
}

/// One customer's deposits, withdrawals and transfers in turn, `depth` at once; how long those
/// took that began and ended in time.
async fn order(
    bank: &Bank,
    mut session: Session,
    index: usize,
    arguments: &Arguments,
    from: Instant,
    until: Instant,
) -> Took {
    let mut took = Took::default();
    let mut turn = index;
    loop {
        let began = Instant::now();
        if began >= until {
            return took;
        }
        let orders = (0..arguments.depth).map(|_| {
            turn += 1;
            let kind = match turn % 3 {
                0 => OrderKind::Deposit,
                1 => OrderKind::Withdraw,
                _ => OrderKind::Transfer(number((index + 1) % arguments.accounts)),
            };
            let key = match arguments.keys {
                Keys::Ordered => Uuid::now_v7(),
                Keys::Random => Uuid::from_u64_pair(random(), random()),
            };
            let key = key.to_string().parse().unwrap();
            let amount = RequestedAmount(5);
            Order { key, amount, kind }
        });
        let moved = bank.move_all(&mut session, orders.collect()).await;
        let ended = Instant::now();
        for one in moved {
            assert!(!one.unwrap().replayed, "an order is new");
            if began >= from && ended < until {
                took.record(ended - began);
            }
        }
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

fn number(index: usize) -> AccountNumber {
    format!("aa-{index:05}").parse().unwrap()
}
