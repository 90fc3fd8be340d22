//! Whose work waits: a terminal that uses more than its part of a processor lets those go first that
//! used less. Nothing of it waits where nobody is there who used less, and no core idles for it.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::budget::{Clock, Price, Ration, nanoseconds};
use crate::limits;
use crate::telemetry::Metrics;

/// Whose work a connection's is: its address's, until its terminal is known.
#[derive(Debug)]
pub(super) struct Payer {
    address: Arc<Ration>,
    terminal: OnceLock<Arc<Ration>>,
}

impl Payer {
    pub(super) fn new(address: Arc<Ration>) -> Self {
        Self {
            address,
            terminal: OnceLock::new(),
        }
    }

    /// The terminal is known.
    pub(super) fn is(&self, terminal: Arc<Ration>) {
        // It is known once.
        let _ = self.terminal.set(terminal);
    }

    fn ration(&self) -> &Arc<Ration> {
        self.terminal.get().unwrap_or(&self.address)
    }
}

/// The line of those whose terminal has used its part.
pub(super) struct Turns {
    clock: Clock,
    part: Price,
    /// In ticks: however much was used, so long after the last of it it is forgotten.
    debt_max: u64,
    remembered: u64,
    /// When somebody was served who had used less; a tick.
    lighter_at: AtomicU64,
    line: Mutex<Line>,
    metrics: Arc<Metrics>,
}

/// Bounded by the number of connections.
struct Line {
    free: usize,
    /// The round of the last turn that was given.
    round: u64,
    number: u64,
    /// In order of rounds: a terminal has one turn in each, however many connections wait.
    waiting: BTreeMap<(u64, u64), oneshot::Sender<Turn>>,
}

/// A turn; dropping it gives it to the next.
struct Turn(Arc<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        while let Some(next) = self.0.next() {
            // Who is gone is passed over.
            if !next.is_closed() {
                let _ = next.send(Self(Arc::clone(&self.0)));
                return;
            }
        }
    }
}

impl Turns {
    /// So many have their turn at once.
    pub(super) fn new(clock: Clock, at_once: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let work = |span| nanoseconds(span);
        let ticks = |span| clock.ticks(clock.instant(0) + span);
        Arc::new(Self {
            clock,
            part: Price::new(
                1_000_000_000 / limits::PROCESSOR_PARTS,
                work(limits::PROCESSOR_AT_ONCE),
            ),
            debt_max: ticks(limits::PROCESSOR_DEBT_MAX),
            remembered: ticks(limits::LIGHTER_REMEMBERED),
            lighter_at: AtomicU64::new(0),
            line: Mutex::new(Line {
                free: at_once.max(1),
                round: 0,
                number: 0,
                waiting: BTreeMap::new(),
            }),
            metrics,
        })
    }

    /// Does `work`, which `payer` pays for; each piece of it waits for its turn where it must.
    pub(super) async fn take<F: Future>(
        self: &Arc<Self>,
        payer: &Payer,
        mut work: Pin<&mut F>,
    ) -> F::Output {
        let mut turn: Option<Pin<Box<dyn Future<Output = Option<Turn>> + Send>>> = None;
        poll_fn(|context| {
            let ration = payer.ration();
            let mut held = None;
            if turn.is_none() && self.must_wait(ration) {
                self.metrics.count_delayed("processor");
                turn = Some(Box::pin(Arc::clone(self).turn(Arc::clone(ration))));
            }
            if let Some(waiting) = &mut turn {
                match waiting.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(given) => (held, turn) = (given, None),
                }
            }
            let began = Instant::now();
            let done = work.as_mut().poll(context);
            self.used(ration, began);
            drop(held);
            done
        })
        .await
    }

    fn must_wait(&self, ration: &Ration) -> bool {
        let now = self.clock.ticks(Instant::now());
        let lighter_at = self.lighter_at.load(Ordering::Relaxed);
        if ration.work.is_over(now, self.part) {
            return lighter_at > 0 && now.saturating_sub(lighter_at) < self.remembered;
        }
        // Not at each: the cores would fight over it.
        if now.saturating_sub(lighter_at) > self.remembered / 16 {
            self.lighter_at.store(now, Ordering::Relaxed);
        }
        false
    }

    fn used(&self, ration: &Ration, began: Instant) {
        let now = Instant::now();
        let used = nanoseconds(now.saturating_duration_since(began));
        ration
            .work
            .take(self.clock.ticks(now), self.part, used, self.debt_max);
    }

    /// Waits until it is the turn of this ration, and then until whoever came meanwhile was served.
    async fn turn(self: Arc<Self>, ration: Arc<Ration>) -> Option<Turn> {
        let turn = match self.line_up(&ration) {
            Ok(turn) => Some(turn),
            Err(called) => called.await.ok(),
        };
        // The runtime goes on with this once it has nothing else to do and has looked for more.
        yield_now().await;
        turn
    }

    fn line_up(self: &Arc<Self>, ration: &Ration) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut line = self.line();
        let round = ration.round.load(Ordering::Relaxed).max(line.round);
        ration.round.store(round + 1, Ordering::Relaxed);
        if line.free > 0 {
            line.free -= 1;
            line.round = round;
            return Ok(Turn(Arc::clone(self)));
        }
        let (sender, called) = oneshot::channel();
        let number = line.number;
        line.number += 1;
        line.waiting.insert((round, number), sender);
        Err(called)
    }

    /// Whoever is next, or else one turn more is free.
    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        let mut line = self.line();
        match line.waiting.pop_first() {
            Some(((round, _), next)) => {
                line.round = round;
                Some(next)
            }
            None => {
                line.free += 1;
                None
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
