//! Connections that are held open and say nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Run;
use crate::drive::{AT_ONCE, ramp};
use crate::terminal::Terminal;

/// How long the server is left alone before its memory and its processor time are read.
const SETTLING: Duration = Duration::from_secs(3);
const WATCHED: Duration = Duration::from_secs(5);

/// Idle connections, and what they cost the server.
pub(crate) struct Idle {
    _held: Vec<Terminal>,
    /// How many.
    pub(crate) count: usize,
    /// Memory for each, KiB.
    pub(crate) each_kib: f64,
    /// Processor, percent of one core.
    pub(crate) processor_percent: f64,
}

/// Opens as many as were asked for.
pub(crate) async fn hold(run: &Arc<Run>) -> Option<Idle> {
    let count = run.arguments.idle;
    if count == 0 {
        return None;
    }
    // What the first handshakes cost once is not counted against each.
    for number in 0..8 {
        drop(run.ways.connect(number).await.expect("a connection"));
    }
    tokio::time::sleep(SETTLING).await;
    let server = run.bank.process();
    let memory = || server.as_ref().map_or(0, |server| server.memory_kib());
    let before = memory();
    let (mut coming, mut held) = (JoinSet::new(), Vec::with_capacity(count));
    let began = Instant::now();
    for number in 0..count {
        if coming.len() >= AT_ONCE {
            held.push(coming.join_next().await.unwrap().unwrap());
        }
        ramp(run, began, number).await;
        let run = Arc::clone(run);
        coming.spawn(async move { run.ways.connect(number).await.expect("a connection") });
    }
    held.extend(coming.join_all().await);
    tokio::time::sleep(SETTLING).await;
    let each_kib = memory().saturating_sub(before) as f64 / count as f64;
    let ticks = || server.as_ref().map_or(0, |server| server.ticks());
    let used = ticks();
    tokio::time::sleep(WATCHED).await;
    let processor_percent = (ticks() - used) as f64 / WATCHED.as_secs_f64();
    Some(Idle {
        _held: held,
        count,
        each_kib,
        processor_percent,
    })
}
