//! Terminals that come and go: a full handshake, one `ping`, and away.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Run;
use crate::terminal::append;
use crate::took::Took;

/// What handshakes took, until the run stops, and what was wrong.
pub(crate) async fn storm(run: Arc<Run>) -> (Took, Vec<String>) {
    let mut storming = JoinSet::new();
    for number in 0..run.arguments.handshakes {
        storming.spawn(again_and_again(Arc::clone(&run), number));
    }
    let (mut all, mut faults) = (Took::default(), Vec::new());
    while let Some(done) = storming.join_next().await {
        let (took, ended) = done.unwrap();
        all.add(&took);
        faults.extend(ended.err().map(|error| format!("a handshake: {error}")));
    }
    (all, faults)
}

async fn again_and_again(run: Arc<Run>, number: usize) -> (Took, io::Result<()>) {
    let mut took = Took::default();
    let ended = async {
        while !run.stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let mut terminal = run.ways.connect(number).await?;
            append(&mut terminal.out, br#"{"id":1,"op":"ping"}"#);
            if terminal.ask().await?.code != 0 {
                return Err(io::Error::other("a ping was refused"));
            }
            let counts = !run.stop.load(Ordering::Relaxed);
            if counts && run.counted_from.get().is_some_and(|from| began >= *from) {
                took.record(began.elapsed());
            }
            terminal.vanish()?;
        }
        Ok(())
    };
    let ended = ended.await;
    (took, ended)
}
