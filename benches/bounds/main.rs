//! What the server costs at its worst, measured from outside: `cargo bench --bench bounds`.
//!
//! Each part starts a real server in a folder of its own and prints what was measured beside what
//! is allowed; the exit code is 1 where a bound does not hold. All parts take under three minutes;
//! `-- --long` measures each at greater length.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a measurement that cannot go on stops, and it prints what it found"
)]

mod idle;
mod logins;
mod process;
mod silent;
#[allow(
    dead_code,
    unused_imports,
    reason = "what the tests need and the measurements do not"
)]
#[path = "../../tests/it/support/mod.rs"]
mod support;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Parallel log-ins: memory, and what other customers feel of it.
    Logins,
    /// Idle connections: memory and processor.
    Idle,
    /// Clients that never read: when they are dropped, and memory until then.
    Silent,
}

/// Measures what is bounded.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this part; may be given again.
    #[arg(long, value_enum)]
    part: Vec<Part>,
    /// Log-ins at once.
    #[arg(long, default_value_t = 500)]
    logins: usize,
    /// Idle connections.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Clients that never read.
    #[arg(long, default_value_t = 200)]
    silent: usize,
    /// Measures three times as long.
    #[arg(long)]
    long: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What was measured, beside what is allowed.
struct Table {
    failed: bool,
}

impl Table {
    fn fact(&self, what: &str, measured: &str) {
        println!("{what:<62} {measured:>14}");
    }

    fn bound(&mut self, what: &str, measured: f64, allowed: f64, unit: &str) {
        let holds = measured <= allowed;
        self.failed |= !holds;
        let measured = format!("{measured:.2} {unit}");
        let verdict = if holds { "holds" } else { "FAILS" };
        println!("{what:<62} {measured:>14}  at most {allowed:.2} {unit}: {verdict}");
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen = |part| arguments.part.is_empty() || arguments.part.contains(&part);
    let times = if arguments.long { 3 } else { 1 };
    let mut table = Table { failed: false };
    if chosen(Part::Logins) {
        logins::measure(&mut table, arguments.logins, times).await;
    }
    if chosen(Part::Idle) {
        idle::measure(&mut table, arguments.connections, times).await;
    }
    if chosen(Part::Silent) {
        silent::measure(&mut table, arguments.silent).await;
    }
    ExitCode::from(u8::from(table.failed))
}
