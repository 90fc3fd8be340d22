//! Whether customers at other addresses notice a flood of abandoned handshakes from one.
//!
//! Starts a bank of its own on loopback, measures what it serves when nobody disturbs it, then sends
//! half of that at a fixed rate: once in peace, once under the flood. The rate is kept whatever the
//! answers do, and an answer's time counts from when its request was due, so that a stall is not
//! hidden by the requests it held up. Ends with 1 where fewer than 95 % of the answers under the
//! flood came within 100 ms.
//!
//! `cargo bench --bench flood -- --help`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement that cannot go on has failed, and prints what it found"
)]

mod bank;
mod customers;
mod handshakes;
#[path = "../shared/terminal.rs"]
mod terminal;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use bank::Bank;
use customers::{Customers, Report};

/// An answer is in time within this.
const IN_TIME: Duration = Duration::from_millis(100);
/// So many of a hundred answers must be in time.
const SHARE_MIN_PERCENT: f64 = 95.0;

#[derive(Debug, Parser)]
#[command(
    name = "flood",
    about = "Customers' answers during a flood of abandoned handshakes"
)]
struct Options {
    /// How long each of the three measurements lasts
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    seconds: u64,
    /// Handshakes that one address opens and abandons each minute
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=600_000))]
    per_minute: u32,
    /// Customers, each with a connection and an account
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    customers: u32,
    /// Lift the bank's rates by address, so that it has to work for every handshake of the flood
    #[arg(long)]
    unlimited: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure(&options))
}

async fn measure(options: &Options) -> ExitCode {
    let bank = Bank::start(options.customers, options.unlimited);
    let span = Duration::from_secs(options.seconds);
    let mut customers = Customers::log_in(&bank, options.customers).await;
    let capacity = customers.capacity(span).await;
    println!(
        "capacity, in peace:  {capacity:.0} answers a second to {} customers",
        options.customers
    );
    let rate = capacity / 2.0;
    println!("asked from now on:   {rate:.0} a second, deposits and balances in turn");
    let quiet = customers.at_rate(rate, span).await;
    show("in peace", &quiet);
    let flood = handshakes::Flood::start(&bank, options.per_minute);
    let newcomers = handshakes::Newcomers::start(&bank);
    let flooded = customers.at_rate(rate, span).await;
    let (flood, newcomers) = (flood.stop().await, newcomers.stop().await);
    show("in the flood", &flooded);
    show("newcomers in it", &newcomers);
    println!(
        "the flood:           {} opened in {} s, {} answered by the bank, {} closed before TLS, {} not opened",
        flood.opened, options.seconds, flood.answered, flood.refused, flood.failed
    );
    let share = flooded.percent_within(IN_TIME);
    let enough = share >= SHARE_MIN_PERCENT;
    let verdict = if enough { "passed" } else { "FAILED" };
    println!(
        "{verdict}: {share:.2} % of the answers in the flood within 100 ms (at least {SHARE_MIN_PERCENT} % wanted)"
    );
    ExitCode::from(u8::from(!enough))
}

fn show(when: &str, report: &Report) {
    let ms = |share: f64| report.at(share).as_secs_f64() * 1_000.0;
    println!(
        "{:<20} {:.2} % of {} within 100 ms; p50 {:.2} ms, p95 {:.2}, p99 {:.2}, p99.9 {:.2}, most {:.2}; {} never answered",
        format!("{when}:"),
        report.percent_within(IN_TIME),
        report.asked,
        ms(0.5),
        ms(0.95),
        ms(0.99),
        ms(0.999),
        ms(1.0),
        report.asked - report.answered(),
    );
}
