//! Money requests in flight, on disk before they are sent, so that neither a lost connection nor
//! a crash leaves the customer without an answer.
//!
//! A file belongs to one request, or to one withdrawal from its authorize to its capture. It is
//! made whole under another name, and only ever grows by whole lines: its last whole line is what
//! is to be repeated. A lock on it says that its terminal lives. No PIN is ever in it.

mod age;
mod record;
mod settled;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use uuid::Uuid;

use age::Kept;
pub use record::{Order, Origin, Outcome, Record};

use super::clock::Stamp;
use crate::domain::IdempotencyKey;
use crate::durable;
use crate::wire::answer::Answer;

const SUFFIX: &str = "json";
/// What `durable` names a file that has not its own name yet, and what older terminals did.
const UNBORN_SUFFIX: &str = ".draft";
const UNBORN_PREFIX: &str = "new-";
const UNBORN_FOR: Duration = Duration::from_secs(3_600);
/// Larger files are none of ours.
const FILE_BYTES_MAX: u64 = 65_536;
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
    /// The files that a warning was about.
    told_of: BTreeSet<PathBuf>,
}

/// What becomes of a file.
enum Found {
    /// This process works on it from now on.
    Taken(Pending),
    /// It is for another bank, terminal or customer.
    Left(Record, Kept),
    /// Another process works on it, or has just finished it.
    Busy,
}

/// One request in flight, locked by this process. Dropping it leaves its file for later.
#[derive(Debug)]
pub struct Pending {
    record: Record,
    kept: Kept,
    file: Option<(File, PathBuf)>,
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
            told_of: BTreeSet::new(),
        };
        match folder {
            None => journal.warn("there is no folder for it; name one with --journal DIR"),
            Some(folder) => match prepare(&folder) {
                Ok(()) => journal.folder = Some(folder),
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

    /// Writes the request down, on disk when this returns, before it is sent.
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
        self.note(&pending.record, outcome.name(), answer, now);
        pending.record.outcome = Some(outcome);
        let Some((file, path)) = &mut pending.file else {
            return;
        };
        if let Err(error) = append(file, &pending.record, false) {
            let text = format!("{}: {error}", path.display());
            self.warn(&text);
        }
    }

    /// Adds a line to the lasting record.
    pub fn note(&mut self, record: &Record, outcome: &str, answer: Option<&Answer>, now: Stamp) {
        let Some(folder) = &self.folder else {
            return;
        };
        if let Err(error) = settled::note(folder, record, outcome, answer, now) {
            let text = format!("{}: {error}", folder.display());
            self.warn(&text);
        }
    }

    /// The customer knows what became of it, or nobody will ever ask.
    pub fn finish(&mut self, pending: Pending) {
        if let Some((_locked, path)) = &pending.file
            && let Err(error) = fs::remove_file(path)
        {
            self.warn(&format!("{}: {error}", path.display()));
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
    pub fn set_aside(&mut self, pending: Pending, reason: &str, now: Stamp) {
        self.note(&pending.record, Outcome::ForStaff.name(), None, now);
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

fn prepare(folder: &Path) -> io::Result<()> {
    durable::make_folder(folder)?;
    let (metadata, own) = (fs::metadata(folder)?, own_uid());
    if metadata.uid() != own {
        return Err(io::Error::other(format!(
            "it belongs to user {}, and this terminal runs as user {own}; mend it with chown, or \
             name another with --journal",
            metadata.uid()
        )));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other(
            "others may write there; mend it with chmod go-w",
        ));
    }
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let id = name.strip_prefix(UNBORN_PREFIX);
        let unborn =
            name.ends_with(UNBORN_SUFFIX) || id.is_some_and(|id| id.parse::<Uuid>().is_ok());
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        // Its request was never sent: it is sent only after the file has its name.
        if unborn && age > UNBORN_FOR {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn create(folder: &Path, record: &Record) -> io::Result<(File, PathBuf)> {
    let path = folder.join(format!("{}.{SUFFIX}", Uuid::now_v7()));
    // Where it fails there is no file, since its request is not going to be sent.
    let file = durable::create_with(&path, 0o600, |file| {
        fcntl_setfl(&*file, OFlags::APPEND)?;
        append(file, record, false)
    })?;
    Ok((file, path))
}

/// Appends a line, on disk when this returns where it is `synced`; what a crash leaves of half a
/// line is not read.
fn append(file: &mut File, record: &Record, synced: bool) -> io::Result<()> {
    let mut line = record.to_line()?;
    line.push(b'\n');
    let metadata = file.metadata()?;
    if metadata.nlink() == 0 {
        return Err(io::Error::other("it was removed"));
    }
    let size_bytes = metadata.len();
    let written = file.write_all(&line).and_then(|()| match synced {
        true => file.sync_all(),
        false => Ok(()),
    });
    if written.is_err() {
        // Half a line would spoil the next one.
        file.set_len(size_bytes)?;
    }
    written
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == SUFFIX)
        })
        .collect();
    // Names are UUIDs of version 7, so this is the order of time.
    paths.sort();
    paths
}

/// The file's request, locked where it is `wanted`.
fn adopt(path: &Path, wanted: impl Fn(&Record) -> bool) -> io::Result<Found> {
    let opened = OpenOptions::new()
        .read(true)
        .append(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Busy),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if metadata.uid() != own_uid() || !metadata.is_file() {
        return Err(io::Error::other("it is not a file of this user's own"));
    }
    let kept = Kept::since(metadata.modified()?);
    // Looked at before it is locked, so that it is not withheld from whom it concerns.
    let (record, _) = read_record(&mut file)?;
    if !wanted(&record) {
        return Ok(Found::Left(record, kept));
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(Found::Busy),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    // Between opening and locking its process may have finished it.
    if file.metadata()?.nlink() == 0 {
        return Ok(Found::Busy);
    }
    let (record, whole_bytes) = read_record(&mut file)?;
    if file.metadata()?.len() > whole_bytes {
        // Half a line would spoil the next one.
        file.set_len(whole_bytes)?;
    }
    Ok(Found::Taken(Pending {
        record,
        kept,
        file: Some((file, path.into())),
    }))
}

/// The last request in the file, and how many bytes its whole lines have.
fn read_record(file: &mut File) -> io::Result<(Record, u64)> {
    let mut text = String::new();
    file.rewind()?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    let whole_bytes = text.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let whole = text.get(..whole_bytes).unwrap_or_default();
    let record = whole.lines().rev().find_map(Record::from_line);
    let record = record.ok_or_else(|| io::Error::other("it holds no request"))?;
    Ok((record, u64::try_from(whole_bytes).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests;
