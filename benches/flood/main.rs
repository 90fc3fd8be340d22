//! Whether customers at other addresses notice a flood of abandoned handshakes from one.
//!
//! Starts a bank of its own on loopback, measures what it serves when nobody disturbs it, then sends
//! half of that at a fixed rate: once in peace, once under the flood. The rate is kept whatever the
//! answers do, and an answer's time counts from when its request was due, so that a stall is not
//! hidden by the requests it held up. Ends with 1 where fewer than 95 % of the answers under the
//! flood came within 100 ms.
//!
//! With `--records N` it is N connections of one terminal that send records of TLS without a request
//! in them. The customers of another keep to the bank's default rates, and others log in at a third.
//! Ends with 1 where the customers' median more than doubles, fewer than half of the log-ins are left,
//! or one in a hundred of them takes 3 s.
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
mod records;
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
    about = "Customers' answers during a flood of abandoned handshakes, or of records without a request"
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
    /// Send records without a request in them, over so many connections, in place of handshakes;
    /// beyond ten seconds the attack makes what it sends beside those who are measured
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    records: Option<u32>,
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
    match options.records {
        Some(connections) => runtime.block_on(measure_records(&options, connections)),
        None => runtime.block_on(measure(&options)),
    }
}

/// What a rate or a limit is when it is out of the way.
const LIFTED: u32 = 1_000_000;

/// The rates by address are the default ones unless `unlimited`; those of requests are out of the way.
fn settings(options: &Options) -> String {
    let by_address = match options.unlimited {
        true => {
            format!(
                "connections_per_second_per_ip = {LIFTED}\nconnection_burst_per_ip = {LIFTED}\n"
            )
        }
        false => String::new(),
    };
    format!(
        "requests_per_second = {LIFTED}\nrequest_burst = {LIFTED}\n{by_address}\
         [pin]\nmemory_kib = 8\niterations = 1\n"
    )
}

/// What an attack is made of that nothing holds back: it keeps two cores busy for ten seconds.
const LIFTED_BATCHES: usize = 100_000;
/// Requests of one customer a second, within the default rate.
const CALM_RATE: f64 = 20.0;
/// Customers who log in meanwhile.
const LOG_INS: u32 = 8;
/// A log-in in a hundred takes less.
const LOG_IN_MAX: Duration = Duration::from_secs(3);

async fn measure_records(options: &Options, connections: u32) -> ExitCode {
    let (rates, batches) = match options.unlimited {
        true => (
            format!("requests_per_second = {LIFTED}\nrequest_burst = {LIFTED}\n"),
            LIFTED_BATCHES / usize::try_from(connections).unwrap(),
        ),
        false => (String::new(), records::BATCHES),
    };
    let bank = Bank::start(options.customers + LOG_INS, &rates);
    let span = Duration::from_secs(options.seconds);
    let (rate, others) = (
        CALM_RATE * f64::from(options.customers),
        options.customers..options.customers + LOG_INS,
    );
    let mut customers = Customers::log_in(&bank, options.customers).await;
    let quiet = customers.at_rate(rate, span).await;
    show("in peace", &quiet);
    let alone = records::log_ins(&bank, others.clone(), span).await;
    show("log-ins in peace", &alone);
    // Anew for each: what it sends is made before, not at the cost of those who are measured.
    let attack = records::Attack::start(&bank, connections, batches).await;
    let attacked = customers.at_rate(rate, span).await;
    show("in the attack", &attacked);
    println!("the attack:          {}", attack.stop().await);
    let attack = records::Attack::start(&bank, connections, batches).await;
    let beside = records::log_ins(&bank, others, span).await;
    show("log-ins in it", &beside);
    println!("the attack:          {}", attack.stop().await);
    let slower = attacked.at(0.5).as_secs_f64() / quiet.at(0.5).as_secs_f64();
    let left = beside.asked as f64 / alone.asked.max(1) as f64;
    let longest = beside.at(0.99);
    let passed = slower <= 2.0 && left >= 0.5 && longest < LOG_IN_MAX;
    println!(
        "{}: the customers' median is {slower:.2} of that in peace (2 at most), {left:.2} of the log-ins are left \
         (0.5 at least), 99 of 100 within {:.0} ms (3000 at most)",
        if passed { "passed" } else { "FAILED" },
        longest.as_secs_f64() * 1_000.0
    );
    ExitCode::from(u8::from(!passed))
}

async fn measure(options: &Options) -> ExitCode {
    let bank = Bank::start(options.customers, &settings(options));
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
