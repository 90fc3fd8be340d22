//! The bank's clock, for staff: what it shows, and taking the wall's.

use serde_json::json;

use super::Report;
use super::desk::{Desk, Performed, REFUSED, unexpected};
use crate::domain::{AuditRecord, Timestamp};
use crate::limits;
use crate::store::{Act, ClockEffects, Done, Event, MendCursor, Office, RecordsAsked, unfinished};
use crate::surroundings::{ClockState, Guarded};

impl Desk {
    pub(super) async fn clock(&self, office: &Office) -> Performed {
        let state = self.guarded()?.state();
        let Done::Clock(effects) = self.act(office, Act::ClockEffects(state.wall)).await? else {
            return Err(unexpected());
        };
        let ends = self.floor.ends_between(state.trusted, state.wall);
        let waits = self.left_undone(office).await.is_some();
        Ok(Report::clock(state, &effects, ends, waits))
    }

    /// The clock first, so that nothing more is stamped wrongly, and a record of it; then the rows, some
    /// at a time, so that nobody waits for all; last the record that all of it was done.
    pub(super) async fn take_clock(&self, office: &Office, shown_ms: Option<i64>) -> Performed {
        let clock = self.guarded()?;
        let refused = |why: String| {
            Report::failed(
                REFUSED,
                format!("{why}; nothing was changed; mend: look at bank_server clock again"),
            )
        };
        let Some(shown_ms) = shown_ms else {
            let why =
                "it was not said how far ahead the wall clock was shown, as by an older program";
            return Err(refused(why.to_owned()));
        };
        let was = clock.accept(shown_ms).map_err(|now| {
            let now_ms = now.ahead_ms();
            refused(format!(
                "the wall clock was shown {shown_ms} ms ahead of the bank's time, and is {now_ms} ms ahead of it now ({})",
                now.wall
            ))
        })?;
        let was = was.trusted;
        let begun = self.act(office, Act::ClockTaken { was }).await;
        let mended = match begun {
            Ok(_) => self.mend(office, was).await,
            Err(report) => Err(report),
        };
        mended.map_err(
            |Report {
                 exit_code, text, ..
             }| {
                let what = "the wall clock was taken, and not all was mended";
                Report::failed(exit_code, format!("{what}: {text}; mend: run it again"))
            },
        )?;
        let now = clock.state().trusted;
        let data = json!({ "accepted": true, "was": was.to_string(), "now": now.to_string() });
        let text = format!("the bank's time is {now} now; it was {was}");
        Ok(Report::done(data, text))
    }

    /// Goes on with what a crash left undone after staff had taken the wall clock, once it is known
    /// what the time is.
    pub async fn resume_clock(&self) {
        let office = Office::of("start");
        let begun = self.left_undone(&office).await;
        let Some(was) = begun.as_ref().and_then(unfinished) else {
            return;
        };
        if !self.bank.knows_the_time() {
            tracing::warn!(%was, "mending is not done; it goes on once the bank knows the time");
            // However long that takes: nothing is mended by a time that nobody knows.
            while !self.bank.knows_the_time() {
                tokio::time::sleep(limits::CLOCK_LOOK_INTERVAL).await;
            }
            // Where staff took the wall clock meanwhile, theirs is mended with it.
            if self.left_undone(&office).await != begun {
                return;
            }
        }
        tracing::info!(%was, "the wall clock was taken before the start; mending goes on");
        if let Err(report) = self.mend(&office, was).await {
            tracing::error!(
                reason = report.text,
                "mending did not end; mend: bank_server clock accept"
            );
        }
    }

    /// The record of an acceptance that was begun and not ended.
    async fn left_undone(&self, office: &Office) -> Option<AuditRecord> {
        let accepted = self.accepted(office).await.inspect_err(|report| {
            tracing::error!(
                reason = report.text,
                "whether mending is done cannot be read; mend: bank_server clock accept"
            );
        });
        let mut accepted = accepted.ok()?;
        accepted.pop().filter(|record| unfinished(record).is_some())
    }

    async fn mend(&self, office: &Office, was: Timestamp) -> Result<(), Report> {
        let accepted = self.accepted(office).await?;
        let mut cursor = Some(MendCursor::begin(&accepted));
        while let Some(from) = cursor {
            cursor = match self.act(office, Act::MendClock(from)).await? {
                Done::Mended(next) => next,
                _ => return Err(unexpected()),
            };
        }
        self.act(office, Act::ClockAccepted { was }).await?;
        Ok(())
    }

    /// The records of acceptances, oldest first: begun and ended.
    async fn accepted(&self, office: &Office) -> Result<Vec<AuditRecord>, Report> {
        let asked = RecordsAsked {
            event: Some(Event::ClockAccepted.name().to_owned()),
            limit: usize::MAX,
            ..RecordsAsked::default()
        };
        match self.act(office, Act::Records(asked)).await? {
            Done::Records(records) => Ok(records.into_iter().map(|(record, _)| record).collect()),
            _ => Err(unexpected()),
        }
    }

    fn guarded(&self) -> Result<&Guarded, Report> {
        let clock = self.bank.surroundings().guarded();
        clock.ok_or_else(|| Report::failed(REFUSED, "this bank's clock is not guarded"))
    }
}

impl Report {
    fn clock(
        state: ClockState,
        effects: &ClockEffects,
        ends: Option<Vec<String>>,
        mending_waits: bool,
    ) -> Self {
        let ClockState {
            trusted,
            wall,
            guard,
        } = state;
        let data = json!({
            "trusted": trusted.to_string(),
            "wall": wall.to_string(),
            "wall_ahead_ms": state.ahead_ms(),
            "guard": guard.map(|guard| guard.name()),
            "serves_money": state.serves_money(),
            "mending_waits": mending_waits,
            "accept": effects,
            "ends": ends,
        });
        let why = match guard {
            None => "the wall clock is believed".to_owned(),
            Some(guard) if state.serves_money() => {
                format!("{guard}: the bank counts time by itself")
            }
            Some(guard) => format!("{guard}: no money is served"),
        };
        let mut text = format!("bank   {trusted}\nwall   {wall}\nstate  {why}");
        if mending_waits {
            text.push_str("\nmending is not done; it goes on in a server that knows the time");
        }
        let mut lines = effect_lines(effects);
        match ends {
            Some(ends) => lines.extend(ends),
            None if guard.is_some() && wall > trusted => lines.push(
                "certificates and revocation lists may end: look at gen-certs show".to_owned(),
            ),
            None => {}
        }
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
            effects.late_captures_over,
            "expired holds can be captured late no more, though the cash may be out",
        ),
        (
            effects.holds_forgotten,
            "holds of the past are forgotten, at most",
        ),
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
            effects.certificates_over,
            "certificates of terminals that enrolled themselves end",
        ),
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

#[cfg(test)]
mod tests;
