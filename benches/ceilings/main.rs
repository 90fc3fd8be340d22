//! What the parts of the server do alone on this machine: `cargo bench --bench ceilings -- --help`.
//!
//! Each part measures one thing that the bank cannot be faster than, and prints it as an object of
//! JSON: a TLS echo, bare handshakes, argon2id, the bank's own rows written by a plain loop, and
//! synced appends. benches/compare.sh runs them in turn with the bank.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a measurement that cannot go on stops, and it prints what it found"
)]

mod disk;
mod hashing;
mod network;
mod rows;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use serde_json::json;
use tempfile::TempDir;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A TLS echo: round trips.
    Echo,
    /// Full handshakes with client certificates, one small message each.
    Handshakes,
    /// argon2id as shipped (19,456 KiB, 2 passes, 1 lane).
    Argon2,
    /// The bank's rows of deposits, withdrawals and transfers, in a plain loop over SQLite.
    Sqlite,
    /// Appends of 4 KiB, each synced.
    Disk,
}

/// How keys are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Keys {
    Ordered,
    Random,
}

/// Measures a part alone.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// Seconds that count.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Connections of the echo.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Messages of one connection on their way at once.
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    /// Handshakes at once.
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// Threads that hash.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Operations committed together.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    #[arg(long, value_enum, default_value_t = Keys::Ordered)]
    keys: Keys,
    #[arg(long, default_value_t = 65)]
    accounts: usize,
    #[arg(long, default_value_t = 64)]
    terminals: usize,
    /// Serves the echo: this program starts itself so.
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// How long things took, microseconds.
struct Took(Histogram<u64>);

impl Took {
    fn new() -> Self {
        Self(Histogram::new(3).unwrap())
    }

    fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap();
        self.0.record(us.max(1)).unwrap();
    }

    fn add(&mut self, other: &Self) {
        self.0.add(&other.0).unwrap();
    }

    fn print(&self, part: &str, count: u64, span: Duration) {
        let quantile = |at| (!self.0.is_empty()).then(|| self.0.value_at_quantile(at));
        println!(
            "{}",
            json!({ "part": part, "per_second": count as f64 / span.as_secs_f64(),
                    "p50_us": quantile(0.5), "p99_us": quantile(0.99) })
        );
    }
}

/// A folder on the disk that the build is on: the system's temporary one may be in memory.
fn folder() -> TempDir {
    let program = std::env::current_exe().unwrap();
    let beside = program.parent().unwrap();
    tempfile::Builder::new()
        .prefix("ceilings-")
        .tempdir_in(beside)
        .unwrap()
}

fn main() {
    let arguments = Arguments::parse();
    if let Some(certs) = &arguments.serve {
        return network::serve(certs);
    }
    match arguments.part {
        Some(Part::Echo) => network::echo(&arguments),
        Some(Part::Handshakes) => network::handshakes(&arguments),
        Some(Part::Argon2) => hashing::measure(&arguments),
        Some(Part::Sqlite) => rows::measure(&arguments),
        Some(Part::Disk) => disk::measure(&arguments),
        None => eprintln!("ceilings: say which --part"),
    }
}
