//! What every account must hold at the end, and whether it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::Run;
use crate::drive::Seated;
use crate::terminal::append;
use crate::work::Op;

/// Receivers that are not logged in and are asked at the end, at most.
const RECEIVERS_MAX: usize = 200;

/// The load tool's own books: what acknowledged answers must have made of every account.
pub(crate) struct Books {
    moved: Vec<AtomicI64>,
    began: Vec<AtomicI64>,
    moves: AtomicU64,
}

impl Books {
    pub(crate) fn new(accounts: usize) -> Self {
        let zeros = || (0..accounts).map(|_| AtomicI64::new(0)).collect();
        Self {
            moved: zeros(),
            began: zeros(),
            moves: AtomicU64::new(0),
        }
    }

    /// An account's balance before anything was asked.
    pub(crate) fn begins(&self, account: usize, balance: i64) {
        self.began[account].store(balance, Ordering::Relaxed);
    }

    /// Money was said to have moved.
    pub(crate) fn moved(&self, account: usize, op: Op, to: usize, amount: i64) {
        self.moves.fetch_add(1, Ordering::Relaxed);
        let add = |account: usize, amount| self.moved[account].fetch_add(amount, Ordering::Relaxed);
        match op {
            Op::Deposit => drop(add(account, amount)),
            Op::Withdraw => drop(add(account, -amount)),
            Op::Transfer => {
                add(account, -amount);
                add(to, amount);
            }
            Op::Balance | Op::History | Op::Ping => {}
        }
    }

    /// How often money moved.
    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }

    fn must_be(&self, account: usize) -> i64 {
        let read = |table: &[AtomicI64]| table[account].load(Ordering::Relaxed);
        read(&self.began) + read(&self.moved)
    }
}

/// Asks every customer's balance, and that of some who only received.
pub(crate) async fn audit(run: &Arc<Run>, seated: Vec<Seated>) -> Vec<String> {
    let mut faults = Vec::new();
    for (mut terminal, customer) in seated {
        if customer.waiting() > 0 {
            continue;
        }
        append(&mut terminal.out, br#"{"id":0,"op":"balance"}"#);
        let heard = terminal.ask().await;
        let balance = heard.ok().and_then(|heard| heard.balance);
        compare(run, customer.account, balance, &mut faults);
    }
    faults.extend(receivers(run).await);
    faults
}

/// Where all accounts of the bank began alike, those that only received are known too.
async fn receivers(run: &Arc<Run>) -> Vec<String> {
    let mut faults = Vec::new();
    let Some(began) = run.bank.fresh_balance() else {
        return faults;
    };
    let others = run.arguments.terminals..run.bank.accounts();
    let received = |account: &usize| run.books.moved[*account].load(Ordering::Relaxed) != 0;
    for account in others.filter(received).take(RECEIVERS_MAX) {
        run.books.begins(account, began);
        let (number, pin) = run.bank.customer(account);
        let balance = match run.ways.connect(account % 1_000).await {
            Ok(mut terminal) => terminal.log_in(&number, &pin).await.ok(),
            Err(_) => None,
        };
        compare(
            run,
            account,
            balance.and_then(|heard| heard.balance),
            &mut faults,
        );
    }
    faults
}

fn compare(run: &Run, account: usize, balance: Option<i64>, faults: &mut Vec<String>) {
    let must_be = run.books.must_be(account);
    if balance != Some(must_be) {
        let number = run.bank.number(account);
        faults.push(format!("{number} has {balance:?}, and must have {must_be}"));
    }
}
