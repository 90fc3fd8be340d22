//! Terminals that do nothing but log customers in and out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Run;
use crate::terminal::{Terminal, append};
use crate::took::Took;

/// Connects as many as were asked for, each with an account of its own.
pub(crate) async fn connect(run: &Arc<Run>) -> Vec<(usize, Terminal)> {
    let mut busy = Vec::new();
    for number in 0..run.arguments.logins {
        let number = run.arguments.terminals + number;
        busy.push((
            number,
            run.ways.connect(number).await.expect("a connection"),
        ));
    }
    busy
}

/// What log-ins took, until the run stops, and what was wrong.
pub(crate) async fn storm(run: Arc<Run>, busy: Vec<(usize, Terminal)>) -> (Took, Vec<String>) {
    let mut storming = JoinSet::new();
    for (number, terminal) in busy {
        storming.spawn(again_and_again(Arc::clone(&run), number, terminal));
    }
    let (mut all, mut faults) = (Took::default(), Vec::new());
    while let Some(done) = storming.join_next().await {
        let (took, ended) = done.unwrap();
        all.add(&took);
        faults.extend(ended.err().map(|error| format!("a log-in: {error}")));
    }
    (all, faults)
}

async fn again_and_again(
    run: Arc<Run>,
    number: usize,
    mut terminal: Terminal,
) -> (Took, io::Result<()>) {
    let (account, pin) = run.bank.customer(number);
    let mut took = Took::default();
    let ended = async {
        while !run.stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            terminal.log_in(&account, &pin).await?;
            let ended = !run.stop.load(Ordering::Relaxed);
            if ended && run.counted_from.get().is_some_and(|from| began >= *from) {
                took.record(began.elapsed());
            }
            append(&mut terminal.out, br#"{"id":1,"op":"logout"}"#);
            if terminal.ask().await?.code != 0 {
                return Err(io::Error::other("a log-out was refused"));
            }
        }
        Ok(())
    };
    let ended = ended.await;
    (took, ended)
}
