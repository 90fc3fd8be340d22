//! Terminals that come and go: a full handshake, one `ping`, and away.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Run;
use crate::terminal::append;
use crate::took::Took;

/// What handshakes took, until the run stops, and what was wrong.
pub(crate) async fn storm(run: Arc<Run>) -> (Took, Vec<String>) {
    let took = Arc::<Mutex<Took>>::default();
    let mut storming = JoinSet::new();
    for number in 0..run.arguments.handshakes {
        let run = Arc::clone(&run);
        storming.spawn(again_and_again(run, Arc::clone(&took), number));
    }
    let mut faults = Vec::new();
    while let Some(ended) = storming.join_next().await {
        let ended = ended.unwrap();
        faults.extend(ended.err().map(|error| format!("a handshake: {error}")));
    }
    let took = Arc::into_inner(took).expect("nobody works any more");
    (took.into_inner().unwrap(), faults)
}

async fn again_and_again(run: Arc<Run>, took: Arc<Mutex<Took>>, number: usize) -> io::Result<()> {
    while !run.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let mut terminal = run.ways.connect(number).await?;
        append(&mut terminal.out, br#"{"id":1,"op":"ping"}"#);
        if terminal.ask().await?.code != 0 {
            return Err(io::Error::other("a ping was refused"));
        }
        let counts = !run.stop.load(Ordering::Relaxed);
        if counts && run.counted_from.get().is_some_and(|from| began >= *from) {
            took.lock().unwrap().record(began.elapsed());
        }
        terminal.vanish()?;
    }
    Ok(())
}
