//! What a run found: live, as a table, as JSON, as a line of comma-separated values.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Run;
use crate::arguments::Arguments;
use crate::idle::Idle;
use crate::took::Took;
use crate::work::Op;

/// Faults that are told in words; more are counted.
const FAULTS_MAX: usize = 10;
/// What customers were served.
#[derive(Default)]
pub(crate) struct Served {
    by_op: BTreeMap<&'static str, Took>,
    refused: BTreeMap<u16, u64>,
    faults: Vec<String>,
    faults_more: u64,
}

impl Served {
    pub(crate) fn took(&mut self, op: Op, took: Duration) {
        self.by_op.entry(op.name()).or_default().record(took);
    }

    pub(crate) fn refused(&mut self, code: u16) {
        *self.refused.entry(code).or_default() += 1;
    }

    pub(crate) fn fault(&mut self, fault: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.faults_more += 1;
        }
    }

    fn all(&self) -> Took {
        let mut all = Took::default();
        self.by_op.values().for_each(|took| all.add(took));
        all
    }
}

/// Answers so far, for whoever watches.
#[derive(Default)]
pub(crate) struct Progress(AtomicU64);

impl Progress {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the counted seconds cost: processor time in hundredths of a second, memory at their end.
pub(crate) struct Cost {
    pub(crate) server_ticks: u64,
    pub(crate) load_ticks: u64,
    pub(crate) memory_kib: u64,
    /// Answers to customers meanwhile.
    pub(crate) counted: u64,
    /// The mean, as far as the server tells.
    pub(crate) orders_a_commit: Option<f64>,
}

/// Says each second how many answers came.
pub(crate) async fn watch(run: Arc<Run>) {
    let (mut before, mut second) = (0, 0_u32);
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    clock.tick().await;
    while !run.stop.load(Ordering::Relaxed) {
        clock.tick().await;
        second += 1;
        let answered = run.progress.answered();
        let now = answered - before;
        before = answered;
        let counts = run.counted_from.get().is_some();
        if !run.arguments.quiet {
            let phase = if counts { "" } else { " (warming up)" };
            eprintln!("{second:>5} s {now:>9} answers/s{phase}");
        }
        if let Some(file) = &run.arguments.series {
            let label = &run.arguments.label;
            append(
                file,
                "label,second,answers,counts",
                &format!("{label},{second},{now},{counts}"),
            );
        }
    }
}

/// What a run found.
pub(crate) struct Outcome {
    served: Served,
    all: Took,
    logins: Took,
    handshakes: Took,
    other_faults: Vec<String>,
    idle: Option<Idle>,
    cost: Cost,
    span: Duration,
    /// Terminals, those that log in, and those that shake hands.
    asked: (usize, usize, usize),
    accounts: usize,
    start: Option<Duration>,
    /// Bytes that the store grew by, for each move of money.
    pub(crate) growth: Option<f64>,
}

impl Outcome {
    pub(crate) fn new(
        run: &Run,
        [(logins, mut faults), (handshakes, more)]: [(Took, Vec<String>); 2],
        idle: Option<Idle>,
        (cost, span): (Cost, Duration),
    ) -> Self {
        faults.extend(more);
        let served = std::mem::take(&mut *run.served());
        Self {
            all: served.all(),
            served,
            logins,
            handshakes,
            other_faults: faults,
            idle,
            cost,
            span,
            asked: (
                run.arguments.terminals,
                run.arguments.logins,
                run.arguments.handshakes,
            ),
            accounts: run.bank.accounts(),
            start: run.bank.start(),
            growth: None,
        }
    }

    /// What was wrong; nobody was to be refused anything either.
    pub(crate) fn faults(&self) -> Vec<String> {
        let refused = self.served.refused.iter();
        let mut faults: Vec<String> = refused
            .map(|(code, count)| format!("{count} requests were refused with code {code}"))
            .collect();
        faults.extend(self.served.faults.iter().cloned());
        if self.served.faults_more > 0 {
            faults.push(format!("and {} more", self.served.faults_more));
        }
        faults.extend(self.other_faults.iter().cloned());
        let asked = [
            (
                self.asked.0,
                self.cost.counted,
                "terminals were answered nothing",
            ),
            (self.asked.1, self.logins.count(), "log-ins came to nothing"),
            (
                self.asked.2,
                self.handshakes.count(),
                "handshakes came to nothing",
            ),
        ];
        // A run that served nobody is no fast one.
        let unserved = asked
            .iter()
            .filter(|(asked, served, _)| *asked > 0 && *served == 0);
        faults.extend(unserved.map(|(asked, _, what)| format!("{asked} {what}")));
        faults
    }

    fn per_second(&self) -> f64 {
        self.cost.counted as f64 / self.span.as_secs_f64()
    }

    /// Microseconds of the process for each answer, log-in and handshake.
    fn each_us(&self, ticks: u64) -> f64 {
        let answers = self.cost.counted + self.logins.count() + self.handshakes.count();
        ticks as f64 * 10_000.0 / answers.max(1) as f64
    }

    /// Names and values, in the order of the columns.
    fn row(&self, arguments: &Arguments) -> Vec<(&'static str, Value)> {
        let idle = self.idle.as_ref();
        let seconds = self.span.as_secs_f64();
        vec![
            ("label", json!(arguments.label)),
            ("terminals", json!(arguments.terminals)),
            ("depth", json!(arguments.depth)),
            ("rate", json!(arguments.rate)),
            ("mix", json!(arguments.mix.text())),
            (
                "keys",
                json!(format!("{:?}", arguments.keys).to_lowercase()),
            ),
            ("accounts", json!(self.accounts)),
            ("seconds", json!(rounded(seconds))),
            ("per_second", json!(rounded(self.per_second()))),
            ("p50_us", json!(self.all.at(0.5))),
            ("p90_us", json!(self.all.at(0.9))),
            ("p99_us", json!(self.all.at(0.99))),
            ("p999_us", json!(self.all.at(0.999))),
            ("max_us", json!(self.all.at(1.0))),
            (
                "server_us",
                json!(rounded(self.each_us(self.cost.server_ticks))),
            ),
            (
                "load_us",
                json!(rounded(self.each_us(self.cost.load_ticks))),
            ),
            (
                "orders_a_commit",
                json!(self.cost.orders_a_commit.map(rounded)),
            ),
            ("start_ms", json!(self.start.map(|start| start.as_millis()))),
            ("memory_kib", json!(self.cost.memory_kib)),
            ("bytes_per_operation", json!(self.growth.map(rounded))),
            ("logins", json!(arguments.logins)),
            (
                "logins_per_second",
                json!(rounded(self.logins.count() as f64 / seconds)),
            ),
            ("login_p50_us", json!(self.logins.at(0.5))),
            ("login_p99_us", json!(self.logins.at(0.99))),
            ("handshakes", json!(arguments.handshakes)),
            (
                "handshakes_per_second",
                json!(rounded(self.handshakes.count() as f64 / seconds)),
            ),
            ("handshake_p50_us", json!(self.handshakes.at(0.5))),
            ("handshake_p99_us", json!(self.handshakes.at(0.99))),
            ("idle", json!(idle.map_or(0, |idle| idle.count))),
            ("idle_kib", json!(idle.map(|idle| rounded(idle.each_kib)))),
            (
                "idle_percent",
                json!(idle.map(|idle| rounded(idle.processor_percent))),
            ),
        ]
    }

    /// Prints the results, and appends them where that was asked for.
    pub(crate) fn print(&self, arguments: &Arguments) {
        let row = self.row(arguments);
        if let Some(file) = &arguments.csv {
            let shown = |value: &Value| match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            let names: Vec<_> = row.iter().map(|(name, _)| *name).collect();
            let values: Vec<_> = row.iter().map(|(_, value)| shown(value)).collect();
            append(file, &names.join(","), &values.join(","));
        }
        if arguments.json {
            let mut all: serde_json::Map<String, Value> = row
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            let seconds = self.span.as_secs_f64();
            let ops = self.served.by_op.iter();
            let ops: serde_json::Map<_, _> = ops
                .map(|(op, took)| ((*op).to_owned(), to_json(took, seconds)))
                .collect();
            all.insert("ops".to_owned(), Value::Object(ops));
            println!("{}", Value::Object(all));
            return;
        }
        for (name, value) in row {
            if !value.is_null() {
                println!("{name:<20} {value}");
            }
        }
        for (op, took) in &self.served.by_op {
            let (p50, p99) = (took.at(0.5).unwrap_or(0), took.at(0.99).unwrap_or(0));
            println!(
                "  {op:<18} {:>9} answers, p50 {p50} us, p99 {p99} us",
                took.count()
            );
        }
    }
}

fn to_json(took: &Took, seconds: f64) -> Value {
    json!({
        "count": took.count(), "per_second": took.count() as f64 / seconds,
        "p50_us": took.at(0.5), "p90_us": took.at(0.9), "p99_us": took.at(0.99),
        "p999_us": took.at(0.999), "max_us": took.at(1.0),
    })
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn append(file: &Path, header: &str, line: &str) {
    let is_new = !file.exists();
    let opened = OpenOptions::new().create(true).append(true).open(file);
    let mut opened = opened.expect("the file of results");
    if is_new {
        writeln!(opened, "{header}").unwrap();
    }
    writeln!(opened, "{line}").unwrap();
}
