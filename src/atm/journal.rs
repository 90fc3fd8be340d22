//! Money requests in flight, on disk before they are sent, so that neither a lost connection nor
//! a crash leaves the customer without an answer.
//!
//! A file belongs to one request, or to one withdrawal from its authorize to its capture. It is
//! made whole under another name, and only ever grows by whole lines: its last whole line is what
//! is to be repeated. A lock on it says that its terminal lives. No PIN is ever in it.

mod age;
mod files;
mod record;
mod settled;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use age::Kept;
use files::{Found, adopt, append, append_line, create, files_of, prepare};
pub use record::{Order, Origin, Outcome, Record};

use super::clock::Stamp;
use crate::domain::IdempotencyKey;
use crate::durable;
use crate::wire::answer::Answer;

const WARNINGS_MAX: usize = 100;

/// A new idempotency key: a UUID of version 7.
#[must_use]
pub fn new_key() -> IdempotencyKey {
    // A UUID is 36 hexadecimal digits and hyphens, so the loop is never entered twice.
    loop {
        if let Ok(key) = Uuid::now_v7().to_string().parse() {
            return key;
        }
    }
}

/// The requests whose outcome is not known.
#[derive(Debug)]
pub struct Journal {
    folder: Option<PathBuf>,
    in_memory: Vec<Pending>,
    warnings: Vec<String>,
    warned: bool,
    /// Whether the lasting record lacks lines, which wait in files of their own.
    behind: bool,
    /// The files that a warning was about.
    told_of: BTreeSet<PathBuf>,
}

/// One request in flight, locked by this process. Dropping it leaves its file for later.
#[derive(Debug)]
pub struct Pending {
    record: Record,
    kept: Kept,
    file: Option<(File, PathBuf)>,
    /// The line that the lasting record lacks of it; its file has it too.
    unrecorded: Option<Vec<u8>>,
}

impl Journal {
    /// Opens the folder and makes it where it is missing. Where that fails, and with `None`, a
    /// warning waits in [`Journal::take_warnings`], requests are kept in memory only, and no cash
    /// goes out.
    #[must_use]
    pub fn open(folder: Option<PathBuf>) -> Self {
        let mut journal = Self {
            folder: None,
            in_memory: Vec::new(),
            warnings: Vec::new(),
            warned: false,
            behind: false,
            told_of: BTreeSet::new(),
        };
        match folder {
            None => journal.warn("there is no folder for it; name one with --journal DIR"),
            Some(folder) => match prepare(&folder) {
                Ok(()) => {
                    journal.catch_up(&folder);
                    journal.folder = Some(folder);
                }
                Err(error) => journal.warn(&format!("{}: {error}", folder.display())),
            },
        }
        journal
    }

    /// The folder where none is named: `atm_client` in the user's folder for state.
    #[must_use]
    pub fn default_folder() -> Option<PathBuf> {
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute("XDG_STATE_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".local/state")))
            .map(|folder| folder.join("atm_client"))
    }

    /// What the operator should know, each once.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Adds what the operator should know. Where nobody takes it, the latest are kept.
    pub fn tell(&mut self, warning: String) {
        if self.warnings.len() >= WARNINGS_MAX {
            self.warnings.remove(0);
        }
        self.warnings.push(warning);
    }

    /// Writes the request down, on disk when this returns, before it is sent. One that lets cash out is
    /// written only where there is room for all that follows: its outcome, and that on record.
    pub fn begin(&mut self, record: Record) -> Pending {
        let file = self
            .folder
            .clone()
            .and_then(|folder| match create(&folder, &record) {
                Ok(file) => {
                    // Once it works again, the next fault is news.
                    self.warned = false;
                    Some(file)
                }
                Err(error) => {
                    self.warn(&format!("{}: {error}", folder.display()));
                    None
                }
            });
        Pending {
            record,
            kept: Kept::from_now(),
            file,
            unrecorded: None,
        }
    }

    /// Writes down what comes next in the same withdrawal. Where that fails, and where it has no
    /// file, nothing has changed, and it must not be done: after a crash the opposite would be
    /// repeated, or nothing at all.
    #[must_use]
    pub fn advance(&mut self, pending: &mut Pending, order: Order) -> bool {
        let next = Record {
            order,
            ..pending.record.clone()
        };
        let Some((file, path)) = &mut pending.file else {
            return false;
        };
        if let Err(error) = append(file, &next, true) {
            let text = format!("{}: {error}", path.display());
            self.warn(&text);
            return false;
        }
        pending.record = next;
        true
    }

    /// The same for what may be done even where it cannot be written down: the release of a hold
    /// of which nothing went out. After a crash its authorize is repeated, which finds the hold.
    pub fn advance_to_release(&mut self, pending: &mut Pending, order: Order) {
        if !self.advance(pending, order.clone()) {
            pending.record.order = order;
        }
    }

    /// Writes down what became of it: it is not repeated any more, and kept until the customer was
    /// told. A crash of the machine may lose that, and it is repeated with the same outcome.
    pub fn settle(
        &mut self,
        pending: &mut Pending,
        outcome: Outcome,
        answer: Option<&Answer>,
        now: Stamp,
    ) {
        self.note(pending, outcome.name(), answer, now);
        pending.record.outcome = Some(outcome);
        let Some((file, path)) = &mut pending.file else {
            return;
        };
        if let Err(error) = append(file, &pending.record, false) {
            let path = path.display();
            self.tell(format!(
                "what became of a request cannot be written to disk; after a crash the bank is asked \
                 again: {path}: {error}"
            ));
        }
    }

    /// Adds a line to the lasting record. Where that fails the request's file keeps the line until it
    /// can be added.
    pub fn note(
        &mut self,
        pending: &mut Pending,
        outcome: &str,
        answer: Option<&Answer>,
        now: Stamp,
    ) {
        let Some(folder) = self.folder.clone() else {
            return;
        };
        let noted = settled::line(&pending.record, outcome, answer, now).and_then(|line| {
            let added = settled::append(&folder, &line);
            pending.unrecorded = added.is_err().then_some(line);
            added
        });
        let Err(error) = noted else {
            if std::mem::take(&mut self.behind) {
                self.catch_up(&folder);
            }
            return;
        };
        let kept = match (&mut pending.file, &pending.unrecorded) {
            (Some((file, _)), Some(line)) => append_line(file, line, false).is_ok(),
            _ => false,
        };
        let where_to = match kept {
            true => "is kept beside it until it can".to_owned(),
            false => format!("is lost; it was {outcome}: {}", pending.record.named()),
        };
        self.tell(format!(
            "what became of a request cannot be added to the lasting record, and {where_to}: {}: {error}",
            folder.display()
        ));
    }

    /// Adds to the lasting record what it lacks.
    fn catch_up(&mut self, folder: &Path) {
        if let Err(error) = settled::catch_up(folder) {
            self.behind = true;
            self.tell(format!(
                "the lasting record lacks what became of some requests: {}: {error}",
                folder.display()
            ));
        }
    }

    /// The customer knows what became of it, or nobody will ever ask. What the lasting record lacks
    /// stays until it can be added.
    pub fn finish(&mut self, pending: Pending) {
        let Some((_locked, path)) = &pending.file else {
            return;
        };
        let line = pending.unrecorded.as_deref();
        let added = line.map_or(Ok(()), |line| {
            settled::append(durable::folder_of(path), line)
        });
        let done = match added {
            Ok(()) => fs::remove_file(path),
            Err(_) => {
                self.behind = true;
                durable::rename(path, &path.with_extension(settled::UNRECORDED))
            }
        };
        if let Err(error) = done {
            self.tell(format!(
                "a request that is settled stays in the journal: {}: {error}",
                path.display()
            ));
        }
    }

    /// The outcome is not known yet: it stays for later.
    pub fn put_back(&mut self, pending: Pending) {
        if pending.file.is_none() {
            self.in_memory.push(pending);
        }
    }

    /// The requests of `origin` that no living process works on and that `wanted` picks, oldest
    /// first; from now on this process works on them. Which of them are too old to be repeated,
    /// [`Pending::why_never_repeated`] says. Of others that are, the attendant is told where the
    /// bank may have told its time, so that it is `now`.
    pub fn unfinished(
        &mut self,
        origin: &Origin,
        now: Option<Stamp>,
        wanted: impl Fn(&Record) -> bool,
    ) -> Vec<Pending> {
        let mut found = Vec::new();
        for path in self.folder.as_deref().map(files_of).unwrap_or_default() {
            match adopt(&path, |record| {
                record.origin.is_same_bank(origin) && wanted(record)
            }) {
                Ok(Found::Taken(pending)) => found.push(pending),
                // It is settled, and waits for its customer.
                Ok(Found::Left(record, _)) if record.outcome.is_some() => {}
                Ok(Found::Left(record, kept)) => {
                    let Some(why) = now.and_then(|now| kept.doubt(record.at, now)) else {
                        continue;
                    };
                    let of = record.origin.terminal.map_or_else(
                        || "a terminal without certificate".to_owned(),
                        |terminal| terminal.to_string(),
                    );
                    let reason = format!(
                        "a {} of {of} was settled by nobody and {why}; ask the bank about it",
                        record.order.request().op()
                    );
                    self.tell_once(path, &reason);
                }
                Ok(Found::Busy) => {}
                Err(error) => {
                    let reason = format!("a request in flight is left alone, {error}");
                    self.tell_once(path, &reason);
                }
            }
        }
        let (picked, rest): (Vec<Pending>, _) = std::mem::take(&mut self.in_memory)
            .into_iter()
            .partition(|pending| wanted(&pending.record));
        self.in_memory = rest;
        found.extend(picked);
        found
    }

    /// Puts aside what can never be settled by repeating it, for the bank's staff to look at.
    pub fn set_aside(&mut self, mut pending: Pending, reason: &str, now: Stamp) {
        self.note(&mut pending, Outcome::ForStaff.name(), None, now);
        let Some((_locked, path)) = &pending.file else {
            // No file will tell it later.
            let named = pending.record.named();
            self.tell(format!("{reason}; ask the bank about it: {named}"));
            return;
        };
        let aside = path.with_extension("old");
        self.tell(format!(
            "{reason}; ask the bank about it: {}",
            aside.display()
        ));
        if let Err(error) = durable::rename(path, &aside) {
            self.tell(format!("{}: {error}", path.display()));
        }
    }

    fn tell_once(&mut self, path: PathBuf, reason: &str) {
        if !self.told_of.contains(&path) {
            self.tell(format!("{reason}: {}", path.display()));
            self.told_of.insert(path);
        }
    }

    fn warn(&mut self, reason: &str) {
        if !self.warned {
            self.warned = true;
            self.tell(format!(
                "requests in flight cannot be written to disk and would not survive a crash, so \
                 no cash goes out: {reason}"
            ));
        }
    }
}

impl Pending {
    /// What is to be repeated.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Whether it survives a crash.
    #[must_use]
    pub const fn is_on_disk(&self) -> bool {
        self.file.is_some()
    }

    /// Why it may not be repeated at the moment `now`, where it may not: the bank may have forgotten
    /// its key, and do it once more. A hold is settled once, whatever became of its keys.
    #[must_use]
    pub fn why_never_repeated(&self, now: Stamp) -> Option<&'static str> {
        let doubt = self.kept.doubt(self.record.at, now);
        doubt.filter(|_| !self.record.order.needs_no_login())
    }
}

#[cfg(test)]
mod tests;
