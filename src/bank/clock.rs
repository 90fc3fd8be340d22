//! The bank's clock: watched each second, and what follows where it is guarded.

use super::{Bank, Failure};
use crate::limits;
use crate::store::{Event, Note, StoreError};
use crate::surroundings::{ClockState, Guarded, Surroundings as _};

/// The record of a start that believed a wall clock well ahead of the last trusted moment: the bank was
/// off, or the clock is wrong, and nobody but staff can tell these apart.
#[must_use]
pub fn note_of_start(clock: &Guarded) -> Option<Note> {
    let (from, now) = (clock.leapt_from()?, clock.now());
    let note = Note::new(Event::ClockBelieved, now);
    Some(note.detail(format!(
        "at the start, ahead of the last trusted moment {from}"
    )))
}

impl Bank {
    /// What the bank's clock shows; `None` where time is taken as it comes.
    #[must_use]
    pub fn clock(&self) -> Option<ClockState> {
        self.surroundings().guarded().map(Guarded::state)
    }

    /// Puts on record what a start has believed of the wall clock.
    ///
    /// # Errors
    /// The store's.
    pub async fn tell_of_start(&self) -> Result<(), StoreError> {
        let Some(note) = self.surroundings().guarded().and_then(note_of_start) else {
            return Ok(());
        };
        tracing::info!(wall = %note.at, "the wall clock is believed {}", note.detail);
        self.note(note).await
    }

    /// Whether it is known what the time is.
    #[must_use]
    pub fn knows_the_time(&self) -> bool {
        self.clock().is_none_or(|clock| clock.serves_money())
    }

    /// Compares the clocks for ever, each second, and says once when a guard begins or ends.
    pub async fn keep_clock(&self) {
        let Some(clock) = self.surroundings().guarded() else {
            return;
        };
        let mut known = None;
        loop {
            clock.look();
            let state = clock.state();
            if state.guard != known {
                self.tell_of_guard(state);
                known = state.guard;
            }
            tokio::time::sleep(limits::CLOCK_LOOK_INTERVAL).await;
        }
    }

    fn tell_of_guard(&self, state: ClockState) {
        let ClockState {
            trusted,
            wall,
            guard,
        } = state;
        let note = |event| Note::new(event, self.surroundings().now());
        let Some(why) = guard else {
            tracing::info!(%trusted, %wall, "the wall clock is believed again");
            return self.note_soon(note(Event::ClockBelieved));
        };
        match state.serves_money() {
            true => tracing::warn!(
                %trusted,
                %wall,
                "{why}: the bank counts time by itself; mend: set the clock right, or run bank_server clock"
            ),
            false => tracing::error!(
                %trusted,
                %wall,
                "{why}: no money is served, and nothing is forgotten or expires; mend: set the clock right; where it \
                 is right, run bank_server clock accept"
            ),
        }
        let detail = format!("{why}; the wall clock says {wall}, the bank {trusted}");
        self.note_soon(note(Event::ClockGuarded).detail(detail));
    }

    /// Refuses what moves money, or leads to it, where the bank cannot tell its own time.
    pub(super) fn must_know_the_time(&self) -> Result<(), Failure> {
        if self.knows_the_time() {
            return Ok(());
        }
        let reason = "the wall clock must be set right or accepted first";
        Err(Failure::Storage(reason.to_owned()))
    }
}
