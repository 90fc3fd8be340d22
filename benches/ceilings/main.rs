//! What the parts of the server do alone on this machine: `cargo bench --bench ceilings -- --help`.
//!
//! Each part measures one thing that the bank cannot be faster than, and prints it as an object of
//! JSON, in a line: a TLS echo, bare handshakes, argon2id, the bank's own rows written by a plain
//! loop, the bank without a network, and synced appends. benches/compare.sh runs them in turn with
//! the bank.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a measurement that cannot go on stops, and it prints what it found"
)]

#[path = "../shared/bank.rs"]
mod bank;
mod disk;
mod hashing;
mod inside;
mod network;
mod rows;
#[path = "../shared/terminal.rs"]
mod terminal;
#[allow(dead_code, reason = "what the load tool needs of it")]
#[path = "../shared/took.rs"]
mod took;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::took::Took;

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
    /// The bank itself, without TLS and sockets.
    Inside,
    /// Appends of 4 KiB, each synced.
    Disk,
}

/// How keys are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Keys {
    /// UUIDs of version 7: ordered by time.
    Ordered,
    /// UUIDs of chance alone.
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
    /// Connections of the echo; customers of the bank.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Messages of one connection, or orders of one customer, on their way at once.
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
    /// How the keys of the plain loop's operations are made; the bank's are ordered.
    #[arg(long, value_enum, default_value_t = Keys::Ordered)]
    keys: Keys,
    /// Customers' accounts: two or more, for transfers.
    #[arg(long, default_value_t = 65, value_parser = at_least_two)]
    accounts: usize,
    /// Terminals, each with cash of its own.
    #[arg(long, default_value_t = 64)]
    terminals: usize,
    /// Serves the echo: this program starts itself so.
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn at_least_two(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number >= 2);
    number.ok_or_else(|| "not a number from 2 on".to_owned())
}

impl Arguments {
    fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// Prints a result in a line: the members of `what` (an object: the part, and how it was measured),
/// how many were done a second, and how long each took.
fn print(mut what: Value, took: &Took, count: u64, span: Duration) {
    what["per_second"] = json!(count as f64 / span.as_secs_f64());
    what["p50_us"] = json!(took.at(0.5));
    what["p99_us"] = json!(took.at(0.99));
    println!("{what}");
}

/// A folder on the disk that the build is on: the system's temporary one may be in memory.
fn folder() -> TempDir {
    let program = std::env::current_exe().unwrap();
    let beside = program.parent().unwrap();
    tempfile::Builder::new()
        .prefix("measured-")
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
        Some(Part::Inside) => inside::measure(&arguments),
        Some(Part::Disk) => disk::measure(&arguments),
        None => eprintln!("ceilings: say which --part"),
    }
}
