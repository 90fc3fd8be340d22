//! The bank's clock: watched each second, and what follows where it is guarded.

use super::{Bank, Failure};
use crate::domain::Timestamp;
use crate::limits;
use crate::store::{Event, Note};
use crate::surroundings::{ClockState, Guarded};

impl Bank {
    /// What the bank's clock shows; `None` where time is taken as it comes.
    #[must_use]
    pub fn clock(&self) -> Option<ClockState> {
        self.surroundings().guarded().map(Guarded::state)
    }

    /// Compares the clocks for ever, each second, and says once when a guard begins or ends.
    pub async fn keep_clock(&self) {
        let Some(clock) = self.surroundings().guarded() else {
            return;
        };
        let mut known = None;
        loop {
            clock.look();
            let ClockState {
                trusted,
                wall,
                guard,
            } = clock.state();
            if guard != known {
                self.tell_of_guard(trusted, wall, guard.map(|guard| guard.to_string()));
                known = guard;
            }
            tokio::time::sleep(limits::CLOCK_LOOK_INTERVAL).await;
        }
    }

    fn tell_of_guard(&self, trusted: Timestamp, wall: Timestamp, why: Option<String>) {
        let Some(why) = why else {
            tracing::info!(%trusted, %wall, "the wall clock is believed again");
            return self.note_soon(Note::new(Event::ClockBelieved, trusted));
        };
        tracing::warn!(
            %trusted,
            %wall,
            "{why}: the bank counts time by itself; mend: set the clock right, or run bank_server clock"
        );
        let note = Note::new(Event::ClockGuarded, trusted);
        self.note_soon(note.detail(format!("{why}; the wall clock says {wall}")));
    }

    /// Refuses what moves money, or leads to it, where the bank cannot tell its own time.
    pub(super) fn must_know_the_time(&self) -> Result<(), Failure> {
        match self.clock() {
            Some(state) if !state.serves_money() => {
                let reason = "the wall clock must be set right or accepted first";
                Err(Failure::Storage(reason.to_owned()))
            }
            _ => Ok(()),
        }
    }
}
