//! The bank's clock, for staff: what it shows, and taking the wall's.

use serde_json::json;

use super::Report;
use super::desk::{Desk, Performed, REFUSED, unexpected};
use crate::store::{Act, ClockEffects, Done, MendCursor, Office};
use crate::surroundings::{ClockState, Guarded};

impl Desk {
    pub(super) async fn clock(&self, office: &Office) -> Performed {
        let state = self.guarded()?.state();
        let Done::Clock(effects) = self.act(office, Act::ClockEffects(state.wall)).await? else {
            return Err(unexpected());
        };
        Ok(Report::clock(state, &effects))
    }

    /// The clock first, so that nothing more is stamped wrongly; then the rows, some at a time, so
    /// that nobody waits for all; last the record, which says that all of it was done.
    pub(super) async fn accept_clock(&self, office: &Office) -> Performed {
        let clock = self.guarded()?;
        let was = clock.state().trusted;
        clock.accept();
        let mut cursor = Some(MendCursor::default());
        while let Some(from) = cursor {
            cursor = match self.act(office, Act::MendClock(from)).await? {
                Done::Mended(next) => next,
                _ => return Err(unexpected()),
            };
        }
        self.act(office, Act::ClockAccepted { was }).await?;
        let now = clock.state().trusted;
        let data = json!({ "accepted": true, "was": was.to_string(), "now": now.to_string() });
        let text = format!("the bank's time is {now} now; it was {was}");
        Ok(Report::done(data, text))
    }

    fn guarded(&self) -> Result<&Guarded, Report> {
        let clock = self.bank.surroundings().guarded();
        clock.ok_or_else(|| Report::failed(REFUSED, "this bank's clock is not guarded"))
    }
}

impl Report {
    fn clock(state: ClockState, effects: &ClockEffects) -> Self {
        let ClockState {
            trusted,
            wall,
            guard,
        } = state;
        let ahead_ms = wall.unix_ms().saturating_sub(trusted.unix_ms());
        let data = json!({
            "trusted": trusted.to_string(),
            "wall": wall.to_string(),
            "wall_ahead_ms": ahead_ms,
            "guard": guard.map(|guard| guard.name()),
            "serves_money": state.serves_money(),
            "accept": effects,
        });
        let why = match guard {
            None => "the wall clock is believed".to_owned(),
            Some(guard) if state.serves_money() => {
                format!("{guard}: the bank counts time by itself")
            }
            Some(guard) => format!("{guard}: no money is served"),
        };
        let mut text = format!("bank   {trusted}\nwall   {wall}\nstate  {why}");
        let lines = effect_lines(effects);
        if guard.is_some() || !lines.is_empty() {
            text.push_str("\n\nbank_server clock accept takes the wall clock's as the time.");
            text.push_str(if lines.is_empty() {
                " Nothing would expire."
            } else {
                " Then:"
            });
        }
        for line in lines {
            text.push_str("\n  ");
            text.push_str(&line);
        }
        Self::done(data, text)
    }
}

fn effect_lines(effects: &ClockEffects) -> Vec<String> {
    [
        (effects.holds_over, "open holds expire"),
        (
            effects.keys_over,
            "kept answers are forgotten; their repeats would move money again",
        ),
        (
            effects.tries_over,
            "counts of wrong PINs are forgotten, locks among them",
        ),
        (effects.one_time_pins_over, "one-time PINs run out"),
        (effects.codes_over, "enrolment codes run out"),
        (
            effects.days_ahead,
            "accounts come back from a business day that is to come",
        ),
        (
            effects.holds_ahead,
            "holds that are stamped in the future become of now",
        ),
        (
            effects.keys_ahead,
            "kept answers that are stamped in the future become of now",
        ),
        (
            effects.tries_ahead,
            "counts of wrong PINs that are stamped in the future become of now",
        ),
        (
            effects.codes_ahead,
            "enrolment codes that are stamped in the future become of now",
        ),
        (
            effects.entries_ahead,
            "entries stay stamped in the future, and are acknowledged",
        ),
        (
            effects.records_ahead,
            "audit records stay stamped in the future, and are acknowledged",
        ),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect()
}
