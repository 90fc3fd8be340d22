//! Parallel log-ins, while customers who are logged in are served at a fixed rate.
//!
//! The rate is a fifth of what the server was found to carry in the same run. Latencies count from
//! the moment a request was due, so that a server that stalls is not spared those that it kept
//! from being sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use atm_bank::wire::answer::Answer;
use atm_bank::wire::code::Code;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Table;
use crate::process::{Process, machine_ticks};
use crate::support::terminal::{framed, request};
use crate::support::{Server, Site, Terminal, key};

/// So many that none asks faster than `[limits] requests_per_second` lets it by default.
const CUSTOMERS: usize = 400;
const PIN: &str = "7391";
const WRONG_PIN: &str = "7392";
const SHARE_OF_CAPACITY: f64 = 0.2;
const RATIO_MAX: f64 = 2.0;
const ARGON2_KIB: u64 = 19_456;
const ROOM_KIB: u64 = 64 * 1_024;
/// Requests that may be due on one connection and not yet answered.
const DUE_MAX: usize = 65_536;

fn account(number: usize) -> String {
    format!("lo-{number:05}")
}

/// What a customer asks in turn: three moves of money and a look at the balance.
fn ask(number: usize, turn: usize) -> (&'static str, Value) {
    let keyed = json!({ "amount": 1, "key": key() });
    match turn % 4 {
        0 => ("deposit", keyed),
        1 => ("withdraw", keyed),
        2 => {
            let to = account((number + 1) % CUSTOMERS);
            ("transfer", json!({ "to": to, "amount": 1, "key": key() }))
        }
        _ => ("balance", json!({})),
    }
}

async fn log_in(server: &Server, number: usize) -> Terminal {
    let name = format!("terminal-{}", number % 3 + 1);
    server.customer(&name, &account(number), PIN).await
}

/// Requests a second that the customers get through, each asking again once it was answered.
async fn capacity(customers: Vec<Terminal>, span: Duration) -> (f64, Vec<Terminal>) {
    let ends = Instant::now() + span;
    let mut working = JoinSet::new();
    for (number, mut terminal) in customers.into_iter().enumerate() {
        working.spawn(async move {
            let mut count = 0_usize;
            while Instant::now() < ends {
                let (op, members) = ask(number, count);
                terminal.ask(op, members).await.expect_code(0);
                count += 1;
            }
            (number, count, terminal)
        });
    }
    let mut done = working.join_all().await;
    done.sort_by_key(|(number, _, _)| *number);
    let all: usize = done.iter().map(|(_, count, _)| count).sum();
    let rate = all as f64 / span.as_secs_f64();
    (
        rate,
        done.into_iter().map(|(_, _, terminal)| terminal).collect(),
    )
}

/// When a request was due, and how long its answer took from then.
type Served = (Instant, Duration);

/// One customer who is told when to ask; gives how long each answer took from then.
async fn serve_due(
    number: usize,
    terminal: Terminal,
    mut due: mpsc::Receiver<Instant>,
) -> (usize, Vec<Served>, Terminal) {
    let (mut answers, mut requests) = tokio::io::split(terminal.into_stream());
    // As many as may be due: nobody waits for those who count.
    let (asked, mut waiting) = mpsc::channel::<Instant>(DUE_MAX);
    let asking = async {
        let mut turn = 0;
        while let Some(moment) = due.recv().await {
            let (op, members) = ask(number, turn);
            turn += 1;
            let asks = request(u64::try_from(turn).unwrap(), op, members).to_string();
            requests.write_all(&framed(asks.as_bytes())).await.unwrap();
            requests.flush().await.unwrap();
            asked.try_send(moment).unwrap();
        }
        drop(asked);
    };
    let mut took = Vec::new();
    let hearing = async {
        while let Some(moment) = waiting.recv().await {
            let length = answers.read_u32().await.unwrap();
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            answers.read_exact(&mut payload).await.unwrap();
            took.push((moment, moment.elapsed()));
            assert_eq!(Answer::parse(&payload).unwrap().code, Code::Done);
        }
    };
    tokio::join!(asking, hearing);
    (number, took, Terminal::over(answers.unsplit(requests)))
}

/// Has requests sent at this rate until `stop`; how each was served, in the order they were due.
async fn at_rate(
    customers: Vec<Terminal>,
    rate: f64,
    stop: &Arc<AtomicBool>,
) -> (Vec<Served>, Vec<Terminal>) {
    let mut working = JoinSet::new();
    let mut clocks = Vec::new();
    for (number, terminal) in customers.into_iter().enumerate() {
        let (tell, due) = mpsc::channel(DUE_MAX);
        clocks.push(tell);
        working.spawn(serve_due(number, terminal, due));
    }
    let stop = Arc::clone(stop);
    let pacing = thread::spawn(move || {
        let (began, mut sent) = (Instant::now(), 0_u32);
        while !stop.load(Ordering::Relaxed) {
            let moment = began + Duration::from_secs_f64(f64::from(sent) / rate);
            thread::sleep(moment.saturating_duration_since(Instant::now()));
            let clock = &clocks[usize::try_from(sent).unwrap() % clocks.len()];
            clock.try_send(moment).unwrap();
            sent += 1;
        }
    });
    let mut done = working.join_all().await;
    pacing.join().unwrap();
    done.sort_by_key(|(number, _, _)| *number);
    let mut all: Vec<Served> = done
        .iter()
        .flat_map(|(_, took, _)| took.iter().copied())
        .collect();
    all.sort();
    (
        all,
        done.into_iter().map(|(_, _, terminal)| terminal).collect(),
    )
}

async fn at_rate_for(
    customers: Vec<Terminal>,
    rate: f64,
    span: Duration,
) -> (Vec<Served>, Vec<Terminal>) {
    let stop = Arc::new(AtomicBool::new(false));
    let ending = Arc::clone(&stop);
    let timer = tokio::spawn(async move {
        tokio::time::sleep(span).await;
        ending.store(true, Ordering::Relaxed);
    });
    let done = at_rate(customers, rate, &stop).await;
    timer.await.unwrap();
    done
}

fn quantile_ms(served: &[Served], part: f64) -> f64 {
    let mut sorted: Vec<Duration> = served.iter().map(|(_, took)| *took).collect();
    sorted.sort();
    let last = sorted.len() - 1;
    let index = (last as f64 * part).round() as usize;
    sorted[index].as_secs_f64() * 1_000.0
}

/// Processor time of whatever is neither the server nor this program.
fn others_ticks(server: &Process) -> u64 {
    let own = Process(std::process::id()).ticks();
    machine_ticks().saturating_sub(server.ticks() + own)
}

/// Everybody connects, then everybody logs in at once, half of them with a wrong PIN.
async fn storm(mut waiting: Vec<Terminal>, stop: Arc<AtomicBool>) -> (Vec<u16>, Duration) {
    let mut asking = JoinSet::new();
    let began = Instant::now();
    for (number, mut terminal) in waiting.drain(..).enumerate() {
        asking.spawn(async move {
            let pin = if number % 2 == 0 { PIN } else { WRONG_PIN };
            let reply = terminal.login(&account(CUSTOMERS + number), pin).await;
            (reply.code(), terminal)
        });
    }
    let answered = asking.join_all().await;
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    (answered.into_iter().map(|(code, _)| code).collect(), took)
}

pub(crate) async fn measure(table: &mut Table, logins: usize, workers: usize, times: u32) {
    let site = Site::with(&[
        ("pin.memory_kib", &ARGON2_KIB.to_string()),
        ("pin.iterations", "2"),
        ("pin.max_concurrent", &workers.to_string()),
        ("log.level", "\"error\""),
    ]);
    let all = CUSTOMERS + logins;
    let lines: String = (0..all)
        .map(|n| format!("{}, {PIN}, 1000000.00\n", account(n)))
        .collect();
    site.import(&lines).expect(0);
    let server = site.start();
    let process = Process(server.pid());
    let base = process.memory_kib();
    let mut customers = Vec::new();
    for number in 0..CUSTOMERS {
        customers.push(log_in(&server, number).await);
    }
    let (most, customers) = capacity(customers, Duration::from_secs(u64::from(5 * times))).await;
    let rate = most * SHARE_OF_CAPACITY;
    let span = Duration::from_secs(u64::from(10 * times));
    let (quiet, customers) = at_rate_for(customers, rate, span).await;
    let mut waiting = Vec::new();
    for number in 0..logins {
        waiting.push(
            server
                .terminal(&format!("terminal-{}", number % 3 + 1))
                .await,
        );
    }
    process.forget_peak();
    let others = others_ticks(&process);
    let stop = Arc::new(AtomicBool::new(false));
    let storming = tokio::spawn(storm(waiting, Arc::clone(&stop)));
    let (stormy, _customers) = at_rate(customers, rate, &stop).await;
    let (codes, took) = storming.await.unwrap();
    let peak = process.peak_kib();
    let others = others_ticks(&process).saturating_sub(others) as f64 / took.as_secs_f64();
    report(
        table,
        workers,
        (most, rate),
        (&quiet, &stormy),
        (&codes, took),
        (base, peak),
    );
    table.fact(
        "others on the machine meanwhile, of one core",
        &format!("{others:.0} %"),
    );
}

fn report(
    table: &mut Table,
    workers: usize,
    (most, rate): (f64, f64),
    (quiet, stormy): (&[Served], &[Served]),
    (codes, took): (&[u16], Duration),
    (base, peak): (u64, u64),
) {
    let count = |code| codes.iter().filter(|seen| **seen == code).count();
    println!(
        "\nlogins: {} at once, every other PIN wrong, argon2id m={ARGON2_KIB} t=2",
        codes.len()
    );
    table.fact(
        "right, wrong, put off (40)",
        &format!("{} {} {}", count(0), count(20), count(40)),
    );
    table.fact(
        "until all were answered",
        &format!("{:.1} s", took.as_secs_f64()),
    );
    table.fact("capacity, requests a second", &format!("{most:.0}"));
    table.fact("served meanwhile, requests a second", &format!("{rate:.0}"));
    for (name, sorted) in [("without log-ins", quiet), ("with them", stormy)] {
        let shown = |part| format!("{:.2} ms", quantile_ms(sorted, part));
        table.fact(&format!("p50 {name}"), &shown(0.5));
        table.fact(
            &format!("p99 {name} ({} requests)", sorted.len()),
            &shown(0.99),
        );
        let seconds = sorted.chunk_by(|one, next| {
            let second = |served: &Served| (served.0 - sorted[0].0).as_secs();
            second(one) == second(next)
        });
        let seconds: Vec<String> = seconds
            .map(|second| format!("{:.1}", quantile_ms(second, 0.99)))
            .collect();
        println!("p99 of each second, ms: {}", seconds.join(" "));
        table.fact(&format!("longest {name}"), &shown(1.0));
    }
    let ratio = quantile_ms(stormy, 0.99) / quantile_ms(quiet, 0.99);
    table.bound("p99 with log-ins over p99 without", ratio, RATIO_MAX, "");
    let workers = u64::try_from(workers).unwrap();
    let allowed = (workers * ARGON2_KIB + ROOM_KIB) as f64 / 1_024.0;
    let grown = peak.saturating_sub(base) as f64 / 1_024.0;
    table.bound("peak memory over the base", grown, allowed, "MiB");
    let answered = count(0) + count(20) + count(40);
    table.bound(
        "log-ins without an answer",
        (codes.len() - answered) as f64,
        0.0,
        "",
    );
}
