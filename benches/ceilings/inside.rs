//! The bank itself without TLS, sockets and a load tool: customers who are logged in order in this
//! process, each as soon as the one before is durable. What is left to a plain loop at the same
//! orders a commit is the price of the bank's own rows, checks and threads.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use atm_bank::bank::{Bank, Session};
use atm_bank::domain::ClockPolicy;
use atm_bank::domain::{AccountNumber, RequestedAmount};
use atm_bank::store::{Order, OrderKind};
use atm_bank::surroundings::Guarded;
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::took::Took;
use crate::{Arguments, bank, folder, print};

const BALANCE: i64 = 1_000_000_000;
const WARM_UP: Duration = Duration::from_secs(1);

pub(crate) fn measure(arguments: &Arguments) {
    let folder = folder();
    let policy = ClockPolicy {
        jump_ms: 60_000,
        ahead_at_start_ms: 604_800_000,
    };
    let clock = Arc::new(Guarded::begin(None, policy));
    let (bank, hash) = bank::open(&folder.path().join("bank.db"), clock);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let numbers = (0..arguments.accounts).map(number);
        bank::open_accounts(&bank, &hash, numbers, BALANCE).await;
        serve(arguments, &bank).await;
    });
}

/// Lets customers order, the first ones of all accounts, and prints what came of it.
async fn serve(arguments: &Arguments, bank: &Arc<Bank>) {
    let mut sessions = Vec::new();
    for index in 0..arguments.connections {
        let terminal = u64::try_from(index).unwrap();
        sessions.push(bank::log_in(bank, terminal, number(index)).await);
    }
    let from = Instant::now() + WARM_UP;
    let until = from + arguments.span();
    let took = Arc::new(Mutex::new(Took::default()));
    let mut customers = JoinSet::new();
    for (index, session) in sessions.into_iter().enumerate() {
        let (bank, arguments, took) = (Arc::clone(bank), arguments.clone(), Arc::clone(&took));
        customers.spawn(async move {
            order(&bank, session, index, &arguments, (from, until), &took).await;
        });
    }
    tokio::time::sleep_until(from.into()).await;
    let before = bank.committed();
    tokio::time::sleep_until(until.into()).await;
    let after = bank.committed();
    while let Some(one) = customers.join_next().await {
        one.unwrap();
    }
    let took = took.lock().unwrap();
    let commits = after.commits - before.commits;
    let what = json!({
        "part": "inside",
        "connections": arguments.connections,
        "batch": (after.calls - before.calls) as f64 / commits as f64,
    });
    print(what, &took, took.count(), arguments.span());
}

/// One customer's deposits, withdrawals and transfers in turn, `depth` at once; records how long
/// those took that began and ended in time.
async fn order(
    bank: &Bank,
    mut session: Session,
    index: usize,
    arguments: &Arguments,
    (from, until): (Instant, Instant),
    took: &Mutex<Took>,
) {
    let mut turn = index;
    loop {
        let began = Instant::now();
        if began >= until {
            return;
        }
        let orders = (0..arguments.depth).map(|_| {
            turn += 1;
            let kind = match turn % 3 {
                0 => OrderKind::Deposit,
                1 => OrderKind::Withdraw,
                _ => OrderKind::Transfer(number((index + 1) % arguments.accounts)),
            };
            let key = Uuid::now_v7().to_string().parse().unwrap();
            let amount = RequestedAmount(5);
            Order { key, amount, kind }
        });
        let moved = bank.move_all(&mut session, orders.collect()).await;
        let ended = Instant::now();
        for one in moved {
            assert!(!one.unwrap().replayed, "an order is new");
            if began >= from && ended < until {
                took.lock().unwrap().record(ended - began);
            }
        }
    }
}

fn number(index: usize) -> AccountNumber {
    format!("aa-{index:05}").parse().unwrap()
}
