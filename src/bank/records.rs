//! The bank's pen for the audit log: what is not part of a transaction of its own.
//!
//! A record either is on disk before its cause is answered ([`Bank::note`]), or waits a moment
//! for the next round ([`Bank::note_soon`]). What a flood can cause is written in full only so
//! often and else counted ([`Bank::note_bounded`]), so that nobody fills the disk with records.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Bank, Session};
use crate::domain::{TerminalName, Timestamp};
use crate::limits;
use crate::store::{Event, Note, StoreError};

/// Events that were counted and not written, by name.
type Counts = BTreeMap<Event, u64>;

/// What waits to be written, and what has been written lately. Bounded in every part.
#[derive(Debug, Default)]
pub(super) struct Pen(Mutex<Desk>);

#[derive(Debug, Default)]
struct Desk {
    waiting: VecDeque<Note>,
    interval_started_ms: u64,
    written: u32,
    /// By terminal; `None`: whatever came from none.
    sources: BTreeMap<Option<TerminalName>, Source>,
    /// Of sources beyond those that are remembered one by one.
    others: Counts,
}

#[derive(Debug, Default)]
struct Source {
    written: u32,
    counted: Counts,
}

fn count(counts: &mut Counts, event: Event, more: u64) {
    let counted = counts.entry(event).or_default();
    *counted = counted.saturating_add(more);
}

fn words(counts: &Counts) -> String {
    let words = counts
        .iter()
        .map(|(event, count)| format!("{} {count}", event.name()));
    words.collect::<Vec<_>>().join(", ")
}

impl Desk {
    /// Whether a flood's record may be written in full; where not, it is counted.
    fn admit(&mut self, note: &Note) -> bool {
        let room = self.written < limits::AUDIT_FLOOD_RECORDS_MAX;
        let known = self.sources.contains_key(&note.terminal);
        if !known && self.sources.len() >= limits::AUDIT_SOURCES_MAX {
            count(&mut self.others, note.event, 1);
            return false;
        }
        let source = self.sources.entry(note.terminal.clone()).or_default();
        if room && source.written < limits::AUDIT_FLOOD_RECORDS_PER_TERMINAL_MAX {
            source.written = source.written.saturating_add(1);
            self.written = self.written.saturating_add(1);
            return true;
        }
        count(&mut source.counted, note.event, 1);
        false
    }

    fn count_unwritten(&mut self, note: &Note) {
        let counts = match self.sources.get_mut(&note.terminal) {
            Some(source) => &mut source.counted,
            None => &mut self.others,
        };
        count(counts, note.event, 1);
    }

    fn wait(&mut self, note: Note) {
        if self.waiting.len() >= limits::AUDIT_WAITING_MAX {
            self.count_unwritten(&note);
        } else {
            self.waiting.push_back(note);
        }
    }

    /// Puts back what a round could not write, before what has come since. Where there is no room
    /// for all, the newest of them are counted.
    fn wait_again(&mut self, mut notes: Vec<Note>) {
        let room = limits::AUDIT_WAITING_MAX.saturating_sub(self.waiting.len());
        for note in notes.drain(room.min(notes.len())..) {
            self.count_unwritten(&note);
        }
        for note in notes.into_iter().rev() {
            self.waiting.push_front(note);
        }
    }

    /// Ends the interval: what was counted becomes a record for each of the first terminals, and
    /// one for all others.
    fn end_interval(&mut self, now: Timestamp, elapsed_ms: u64) {
        let sources = std::mem::take(&mut self.sources);
        let mut others = std::mem::take(&mut self.others);
        (self.written, self.interval_started_ms) = (0, elapsed_ms);
        let counted = sources
            .into_iter()
            .filter(|(_, source)| !source.counted.is_empty());
        for (index, (name, source)) in counted.enumerate() {
            if index < limits::AUDIT_SUMMARIES_MAX {
                let mut note = Note::new(Event::Suppressed, now);
                note.terminal = name;
                self.wait(note.outcome("counted").detail(words(&source.counted)));
            } else {
                for (event, more) in source.counted {
                    count(&mut others, event, more);
                }
            }
        }
        if !others.is_empty() {
            let note = Note::new(Event::Suppressed, now).outcome("counted");
            self.wait(note.detail(words(&others)));
        }
    }
}

impl Bank {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.pen.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a record; it is on disk when this returns.
    ///
    /// # Errors
    /// The store's.
    pub async fn note(&self, note: Note) -> Result<(), StoreError> {
        self.note_all(vec![note]).await
    }

    /// Writes records, all or none.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn note_all(&self, mut notes: Vec<Note>) -> Result<(), StoreError> {
        let now = self.surroundings().now();
        // Staff may have set time back since: no record is of a time to come.
        for note in &mut notes {
            note.at = note.at.min(now);
        }
        self.call(self.store.note(notes)).await
    }

    /// Writes a record with the next round, within a second or two; never waits and never fails.
    pub fn note_soon(&self, note: Note) {
        self.desk().wait(note);
    }

    /// Writes with the next round that a session ended, and why.
    pub fn note_session_end(&self, session: &Session, reason: &str) {
        self.note_soon(session.end_note(self, reason));
    }

    /// Writes a record of what was refused, unless there are too many of late: then, or where it
    /// cannot be written, it is counted, and the count is written when the interval ends.
    pub async fn note_bounded(&self, note: Note) {
        self.end_interval_if_due(false);
        if !self.desk().admit(&note) {
            return;
        }
        if let Err(error) = self.note(note.clone()).await {
            tracing::warn!(%error, "an audit record was not written");
            self.desk().count_unwritten(&note);
        }
    }

    fn end_interval_if_due(&self, now: bool) {
        let elapsed_ms = self.surroundings().elapsed().as_millis();
        let elapsed_ms = u64::try_from(elapsed_ms).unwrap_or(u64::MAX);
        let mut desk = self.desk();
        let lasted_ms = elapsed_ms.saturating_sub(desk.interval_started_ms);
        if now || lasted_ms >= limits::AUDIT_INTERVAL_MS {
            desk.end_interval(self.surroundings().now(), elapsed_ms);
        }
    }

    /// One round: writes what waits. With `last` also what was counted in the interval that has
    /// begun.
    ///
    /// # Errors
    /// The store's; what was not written waits on.
    pub async fn write_waiting(&self, last: bool) -> Result<(), StoreError> {
        self.end_interval_if_due(last);
        loop {
            let notes: Vec<Note> = {
                let mut desk = self.desk();
                let some = desk.waiting.len().min(limits::AUDIT_ROUND_RECORDS_MAX);
                desk.waiting.drain(..some).collect()
            };
            if notes.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.note_all(notes.clone()).await {
                self.desk().wait_again(notes);
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests;
