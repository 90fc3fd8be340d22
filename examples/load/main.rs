//! Load for a bank server: `cargo run --release --example load -- --help`.
//!
//! Terminals over TLS with client certificates ask a running server for deposits, withdrawals,
//! transfers, balances; each as soon as it was answered (closed loop), or at a fixed rate whatever
//! the answers take (open loop: latencies count from when a request was due, so that a server that
//! stalls is not spared what it kept from being sent). Every answer is checked, and at the end every
//! balance: a wrong fast answer fails. Without `--to` the tool makes a bank in a folder of its own
//! and starts the server there. What the figures mean: docs/BENCHMARKS.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a measurement that cannot go on stops, and it prints what it found"
)]

mod alarm;
mod arguments;
mod audit;
mod bank;
#[path = "../../benches/shared/terminal.rs"]
mod client;
mod commits;
mod customer;
mod drive;
mod handshakes;
mod idle;
mod logins;
#[allow(dead_code, reason = "what other measurements need of it")]
#[path = "../../benches/shared/process.rs"]
mod process;
mod report;
mod terminal;
#[path = "../../benches/shared/took.rs"]
mod took;
mod work;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use clap::Parser as _;
use tokio::time::Instant;

use self::arguments::Arguments;
use self::audit::Books;
use self::bank::Bank;
use self::process::Process;
use self::report::{Cost, Outcome, Progress, Served};
use self::terminal::Ways;

/// Whatever a run shares among its terminals.
pub(crate) struct Run {
    pub(crate) arguments: Arguments,
    pub(crate) bank: Bank,
    pub(crate) ways: Ways,
    pub(crate) books: Books,
    pub(crate) progress: Progress,
    served: Mutex<Served>,
    /// What is heard before this moment is checked and not counted.
    pub(crate) counted_from: OnceLock<Instant>,
    pub(crate) stop: AtomicBool,
}

impl Run {
    /// What customers were served, and how fast: all of them together.
    pub(crate) fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(why) = arguments.check() {
        eprintln!("load: {why}");
        return ExitCode::from(64);
    }
    use tokio::runtime::Builder;
    let mut runtime = match arguments.threads {
        // Nothing but itself wakes it.
        0 | 1 => Builder::new_current_thread(),
        threads => {
            let mut several = Builder::new_multi_thread();
            several.worker_threads(threads);
            several
        }
    };
    let faults = runtime
        .enable_all()
        .build()
        .unwrap()
        .block_on(run(arguments));
    for fault in &faults {
        eprintln!("load: WRONG: {fault}");
    }
    ExitCode::from(u8::from(!faults.is_empty()))
}

/// One run; what was wrong about it.
async fn run(arguments: Arguments) -> Vec<String> {
    let bank = Bank::open(&arguments);
    let run = Arc::new(Run {
        ways: Ways::to(&bank, arguments.certificates()),
        books: Books::new(bank.accounts()),
        arguments,
        bank,
        progress: Progress::default(),
        served: Mutex::default(),
        counted_from: OnceLock::new(),
        stop: AtomicBool::new(false),
    });
    let idle = idle::hold(&run).await;
    let terminals = drive::log_in(&run).await;
    let busy = logins::connect(&run).await;
    let watching = tokio::spawn(report::watch(Arc::clone(&run)));
    let storming = tokio::spawn(logins::storm(Arc::clone(&run), busy));
    let shaking = tokio::spawn(handshakes::storm(Arc::clone(&run)));
    let timing = tokio::spawn(time(Arc::clone(&run)));
    let seated = drive::serve(&run, terminals).await;
    let timed = timing.await.unwrap();
    let besides = [storming.await.unwrap(), shaking.await.unwrap()];
    watching.await.unwrap();
    let mut outcome = Outcome::new(&run, besides, idle, timed);
    let mut faults = outcome.faults();
    faults.extend(audit::audit(&run, seated).await);
    let moves = run.books.moves();
    let mut run = Arc::into_inner(run).expect("nobody works any more");
    outcome.growth = run
        .bank
        .end()
        .filter(|_| moves > 0)
        .map(|bytes| bytes as f64 / moves as f64);
    outcome.print(&run.arguments);
    if !run.arguments.skip_verify {
        faults.extend(run.bank.verify());
    }
    faults
}

/// Lets the run warm up, counts for as long as was asked, and ends it.
async fn time(run: Arc<Run>) -> (Cost, Duration) {
    tokio::time::sleep(run.arguments.warm_up()).await;
    let server = run.bank.process();
    let ticks = || (server.as_ref().map_or(0, Process::ticks), own().ticks());
    let committed_before = run.bank.committed().await;
    let (before, began) = (ticks(), Instant::now());
    run.counted_from.set(began).unwrap();
    let answered = run.progress.answered();
    let ends = began + run.arguments.span();
    while Instant::now() < ends && !run.stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.stop.store(true, Ordering::Relaxed);
    let (after, span) = (ticks(), began.elapsed());
    let committed = run.bank.committed().await;
    let cost = Cost {
        server_ticks: after.0 - before.0,
        load_ticks: after.1 - before.1,
        memory_kib: server.map_or(0, |server| server.memory_kib()),
        counted: run.progress.answered() - answered,
        orders_a_commit: committed
            .zip(committed_before)
            .and_then(|(now, before)| now.mean_since(before)),
    };
    (cost, span)
}

fn own() -> Process {
    Process(std::process::id())
}
