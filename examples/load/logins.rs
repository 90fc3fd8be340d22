//! Terminals that do nothing but log customers in and out.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

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
    let took = Arc::<Mutex<Took>>::default();
    let mut storming = JoinSet::new();
    for (number, terminal) in busy {
        let run = Arc::clone(&run);
        storming.spawn(again_and_again(run, Arc::clone(&took), number, terminal));
    }
    let mut faults = Vec::new();
    while let Some(ended) = storming.join_next().await {
        let ended = ended.unwrap();
        faults.extend(ended.err().map(|error| format!("a log-in: {error}")));
    }
    let took = Arc::into_inner(took).expect("nobody works any more");
    (took.into_inner().unwrap(), faults)
}

async fn again_and_again(
    run: Arc<Run>,
    took: Arc<Mutex<Took>>,
    number: usize,
    mut terminal: Terminal,
) -> io::Result<()> {
    let (account, pin) = run.bank.customer(number);
    while !run.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        terminal.log_in(&account, &pin).await?;
        let ended = !run.stop.load(Ordering::Relaxed);
        if ended && run.counted_from.get().is_some_and(|from| began >= *from) {
            took.lock().unwrap().record(began.elapsed());
        }
        append(&mut terminal.out, br#"{"id":1,"op":"logout"}"#);
        if terminal.ask().await?.code != 0 {
            return Err(io::Error::other("a log-out was refused"));
        }
    }
    Ok(())
}
