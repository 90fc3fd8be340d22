//! Whether time tells which account numbers there are.
//!
//! ```sh
//! TMPDIR=/dev/shm cargo bench --bench enumeration -- --samples 10000 --csv enumeration.csv
//! ```
//!
//! Starts a real server on loopback with a bank of its own, and logs in over TLS with wrong PINs, in
//! random order, on numbers that are nobody's, of open accounts and of closed ones; and on locked
//! numbers, real ones and others. Answers must be the same byte for byte, and their times such that
//! tests cannot tell them apart. Ends with 1 where they can.
//!
//! The server closes a connection after its third code 20. So no connection is used for more than
//! two tries; the next one's handshake, and a `ping` over it, are over before time is taken.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a tool that cannot go on fails by panicking, and prints what it finds"
)]

mod ground;
mod statistics;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
#[expect(unused_imports, reason = "the tests use the rest of it")]
mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use atm_bank::domain::Timestamp;
use atm_bank::surroundings::{Surroundings as _, System, Virtual};
use clap::Parser;

use ground::{Class, Ground, Phase};
use statistics::{Comparison, level_of_each};
use support::terminal::{framed, request};
use support::{Reply, Terminal};

/// Tries over one connection: the third wrong PIN would close it.
const TRIES_PER_CONNECTION: usize = 2;
/// Tries before those that count, in which everything grows warm.
const WARM_UP_TRIES: usize = 300;

#[derive(Parser)]
#[command(about = "Whether time tells which account numbers there are")]
struct Arguments {
    /// Samples of each class.
    #[arg(long, default_value_t = 10_000)]
    samples: usize,
    /// Account numbers of each class. Where there are fewer than samples each is tried more than once, and
    /// what chance made of an unknown number's cost counts as often.
    #[arg(long, default_value_t = 10_000)]
    numbers: usize,
    /// How many in a hundred accounts have a hash of the old cost.
    #[arg(long, default_value_t = 40)]
    old_percent: usize,
    /// argon2's memory before it was raised, KiB.
    #[arg(long, default_value_t = 512)]
    old_memory_kib: u32,
    /// argon2's passes before they were raised.
    #[arg(long, default_value_t = 1)]
    old_iterations: u32,
    /// argon2's memory now, KiB; the server's default is 19456.
    #[arg(long, default_value_t = 2_048)]
    memory_kib: u32,
    /// argon2's passes now; the server's default is 2.
    #[arg(long, default_value_t = 1)]
    iterations: u32,
    /// The probability that all tests together reject what is alike.
    #[arg(long, default_value_t = 0.01)]
    level: f64,
    /// What is compared.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "mixed,raised,locked"
    )]
    phases: Vec<Phase>,
    /// Repeats a run's order.
    #[arg(long)]
    seed: Option<u64>,
    /// Every sample, as `phase,class,latency_ms`.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Latencies of each class, milliseconds.
type Samples = BTreeMap<Class, Vec<f64>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| {
        let [bytes @ .., _, _, _, _, _, _, _, _] = System::default().random();
        u64::from_be_bytes(bytes)
    });
    println!("seed {seed}; folder {}", std::env::temp_dir().display());
    let dice = Virtual::new(Timestamp::from_unix_ms(0), seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut measured = Vec::new();
    for phase in &arguments.phases {
        let ground = runtime.block_on(Ground::prepare(*phase, &arguments, &dice));
        println!("{phase:?}: {}", ground.words);
        let samples = runtime.block_on(measure(&ground, arguments.samples, &dice));
        measured.push((*phase, samples));
    }
    if let Some(path) = &arguments.csv {
        write_csv(path, &measured);
    }
    if report(&measured, arguments.level) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A number below `end`.
fn below(dice: &Virtual, end: usize) -> usize {
    let end = u64::try_from(end).unwrap();
    usize::try_from(dice.next_u64() % end).unwrap()
}

/// Puts things into a random order (Fisher and Yates).
fn shuffle<T>(things: &mut [T], dice: &Virtual) {
    for last in (1..things.len()).rev() {
        things.swap(last, below(dice, last + 1));
    }
}

/// Tries all classes in random order.
async fn measure(ground: &Ground, samples: usize, dice: &Virtual) -> Samples {
    let classes: Vec<Class> = ground.numbers.keys().copied().collect();
    let mut tries: Vec<Class> = classes
        .iter()
        .flat_map(|class| std::iter::repeat_n(*class, samples))
        .collect();
    shuffle(&mut tries, dice);
    let warm_up = (0..WARM_UP_TRIES).map(|index| classes[index % classes.len()]);
    let tries: Vec<Class> = warm_up.chain(tries).collect();
    let mut numbers = ground.numbers.clone();
    for numbers in numbers.values_mut() {
        shuffle(numbers, dice);
    }
    let mut next: BTreeMap<Class, _> = classes
        .iter()
        .map(|class| (*class, numbers[class].iter().cycle()))
        .collect();
    let mut measured = Samples::new();
    let mut expected = None;
    for (index, pair) in tries.chunks(TRIES_PER_CONNECTION).enumerate() {
        let mut terminal = ground.server.terminal("terminal-1").await;
        for (second, class) in pair.iter().enumerate() {
            terminal.ping().await.expect_code(0);
            let number = next.get_mut(class).and_then(Iterator::next).unwrap();
            let (reply, latency_ms) = timed_log_in(&mut terminal, number).await;
            let said = without_time_left(&reply);
            let first = expected.get_or_insert_with(|| said.clone());
            assert_eq!(&said, first, "{class:?}: the answers differ");
            if index * TRIES_PER_CONNECTION + second >= WARM_UP_TRIES {
                measured.entry(*class).or_default().push(latency_ms);
            }
        }
        terminal.close().await;
    }
    measured
}

async fn timed_log_in(terminal: &mut Terminal, number: &str) -> (Reply, f64) {
    let members = serde_json::json!({ "account": number, "pin": ground::WRONG_PIN });
    let frame = framed(request(7, "login", members).to_string().as_bytes());
    let began = Instant::now();
    terminal.send_bytes(&frame).await;
    let reply = terminal.receive().await;
    (reply, began.elapsed().as_secs_f64() * 1_000.0)
}

/// An answer's bytes, but for the time that a lock still lasts.
fn without_time_left(reply: &Reply) -> String {
    let text = reply.text();
    match text.split_once("\"retry_after_ms\":") {
        None => text,
        Some((before, after)) => {
            let rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
            format!("{before}\"retry_after_ms\":N{rest}")
        }
    }
}

fn write_csv(path: &PathBuf, measured: &[(Phase, Samples)]) {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    writeln!(out, "phase,class,latency_ms").unwrap();
    for (phase, samples) in measured {
        for (class, latencies) in samples {
            for latency in latencies {
                writeln!(out, "{phase:?},{class:?},{latency:.6}").unwrap();
            }
        }
    }
    out.flush().unwrap();
}

/// Prints every pair; false where one can be told apart.
fn report(measured: &[(Phase, Samples)], level: f64) -> bool {
    let mut pairs = Vec::new();
    for (phase, samples) in measured {
        let classes: Vec<&Class> = samples.keys().collect();
        for (index, one) in classes.iter().enumerate() {
            for other in &classes[index + 1..] {
                let comparison = Comparison::of(&samples[one], &samples[other]);
                pairs.push((format!("{phase:?}: {one:?} / {other:?}"), comparison));
            }
        }
    }
    // Two tests a pair.
    let each = level_of_each(level, 2 * pairs.len());
    println!(
        "level of each test {each:.6}: {level} in all, two tests a pair, corrected by Bonferroni"
    );
    println!(
        "| pair | n | medians, ms | apart, % | apart, ms | Mann-Whitney p | Kolmogorov-Smirnov p | verdict |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut all_alike = true;
    for (name, found) in &pairs {
        let verdict = match (found.medians_agree(), found.is_alike(each)) {
            (true, true) => "alike",
            (false, _) => "MEDIANS DIFFER",
            (true, false) => "TOLD APART",
        };
        all_alike &= verdict == "alike";
        println!(
            "| {name} | {} + {} | {:.4}, {:.4} | {:.3} | {:.4} | {:.4} | {:.4} | {verdict} |",
            found.counts.0,
            found.counts.1,
            found.medians_ms.0,
            found.medians_ms.1,
            found.difference_percent(),
            found.difference_ms(),
            found.rank_p,
            found.shape_p,
        );
    }
    all_alike
}
