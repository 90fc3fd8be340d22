//! What a crash left in the journal (`-wal`), before SQLite takes it: whether commits are gone that were
//! answered, and whether it belongs to the store that it lies beside.
//!
//! SQLite plays the journal's whole transactions up to the first frame that is damaged and drops the
//! rest without a word. A commit is synced before the next begins: where frames of a further
//! transaction stand behind a damaged one, the damaged one was on the disk, and answered. Where only
//! the last transaction is damaged, the power went while it was written, and nobody was answered.
//! The form of the file: <https://www.sqlite.org/fileformat2.html#walformat>.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rusqlite::Connection;
use rustix::fs::OFlags;

use super::causes::Cause;
use super::generation;
use super::look;
use super::open::beside;
use super::open_error::OpenError;
use super::owner::give_to_owner;
use crate::durable::Draft;

pub(super) const HEADER_BYTES: usize = 32;
pub(super) const FRAME_HEADER_BYTES: usize = 24;
/// Its lowest bit says in which order checksums take the octets.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

/// Stores up to this size are looked through whole before a journal is taken into them; of larger
/// ones, whose start must not take long, only their ends.
const CHECKED_WHOLE_BYTES: u64 = 64 << 20;

/// Commits that may have been answered are gone from the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    /// The last entry that is whole.
    entry: i64,
    /// The last frame that is whole.
    frame: u64,
    /// What the journal's frames are marked with.
    salts: [u8; 8],
}

/// Its name: there is no other loss of the same.
impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let salts = HEXLOWER.encode(&self.salts);
        write!(f, "{}-{}-{salts}", self.entry, self.frame)
    }
}

/// Looks at the journal of the store at `path`, which `connection` has open and has written nothing to;
/// `version` is that of its schema.
/// A loss is let pass where `accepted` is its name; it is returned, and the journal kept aside.
///
/// # Errors
/// [`OpenError::Loss`], [`OpenError::Apart`]. Nothing was changed.
pub(super) fn judge(
    connection: &Connection,
    (path, store): (&Path, &File),
    version: usize,
    accepted: Option<&str>,
) -> Result<Option<PathBuf>, OpenError> {
    let system = OpenError::of_system(path);
    let journal = match open(OpenOptions::new().read(true), path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(system)?,
    };
    let length = journal.metadata().map_err(system)?.len();
    if length == 0 {
        return Ok(None);
    }
    let other = || match version {
        0 => Ok(None),
        _ => generation::misfit(connection, path).map_err(OpenError::of_sqlite(path)),
    };
    if other()?.is_some() {
        look::read_all(path, Some(store)).map_err(system)?;
        if let Some(words) = other()? {
            let path = path.to_owned();
            return Err(OpenError::Apart { path, words });
        }
    }
    let size = fs::metadata(path).map_err(system)?.len();
    let whole = size.saturating_add(length) <= CHECKED_WHOLE_BYTES;
    if let Some(words) = misfit(connection, path, whole)? {
        // The disk may have failed for a moment: all is read, and then looked at again.
        look::read_all(path, Some(store)).map_err(system)?;
        let (cause, detail) = match misfit(connection, path, whole)? {
            Some(_) if look::is_whole_alone(path) => return Err(OpenError::apart(path)),
            Some(words) => (Cause::Damaged, words),
            None => (Cause::Passing, words),
        };
        return Err(OpenError::Storage {
            path: path.to_owned(),
            cause,
            detail,
        });
    }
    let Some((frame, salts)) = lost(&journal, length).map_err(system)? else {
        return Ok(None);
    };
    let entry = match version {
        // Not even that the store was made is whole.
        0 => 0,
        _ => connection
            .query_row("SELECT coalesce(max(id), 0) FROM entry", [], |row| {
                row.get(0)
            })
            .map_err(OpenError::of_sqlite(path))?,
    };
    let loss = Loss {
        entry,
        frame,
        salts,
    };
    let name = loss.to_string();
    if accepted != Some(name.as_str()) {
        return Err(OpenError::Loss {
            path: path.to_owned(),
            entry,
            name,
        });
    }
    keep(path, &journal, &name).map(Some).map_err(system)
}

/// Opens the journal of the store at `path`: a file that is nothing else too. Whoever may write its folder could have
/// root read another's file, or empty it.
///
/// # Errors
/// The system's.
pub(super) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let place = beside(path, "-wal");
    // Nobody waits at a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options
        .custom_flags(flags.bits().cast_signed())
        .open(&place)?;
    let (own, store) = (file.metadata()?, fs::symlink_metadata(path)?);
    let is_owners = own.uid() == store.uid() || !rustix::process::geteuid().is_root();
    match own.is_file() && own.nlink() == 1 && is_owners {
        true => Ok(file),
        false => Err(io::Error::other(format!(
            "{} is no file of the store's owner alone",
            place.display()
        ))),
    }
}

/// Whether there is something in the journal of the store at `path`.
pub(super) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(beside(path, "-wal")).is_ok_and(|found| found.len() > 0)
}

/// Copies the journal beside itself, durably, before SQLite empties it.
fn keep(path: &Path, journal: &File, name: &str) -> io::Result<PathBuf> {
    let kept = beside(path, &format!("-wal.lost-{name}"));
    let draft = Draft::fill(&kept, 0o600, |copy| {
        give_to_owner(copy, path)?;
        let mut journal = journal;
        journal.rewind()?;
        io::copy(&mut journal, copy).map(drop)
    });
    draft?.settle()?;
    Ok(kept)
}

/// What shows that store and journal are not of one piece.
fn misfit(connection: &Connection, path: &Path, whole: bool) -> Result<Option<String>, OpenError> {
    match fits(connection, whole) {
        Ok(words) => Ok(Some(words).filter(|words| words != "ok")),
        Err(error) if Cause::guess(&error).is_none_or(Cause::is_damage) => {
            Ok(Some(error.to_string()))
        }
        Err(error) => Err(OpenError::of_sqlite(path)(error)),
    }
}

/// Whether store and journal are of one piece: "ok", or what is wrong. A backup that was copied over a
/// store beside its journal has other pages at the same numbers.
fn fits(connection: &Connection, whole: bool) -> rusqlite::Result<String> {
    let text = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0));
    if whole {
        return text("PRAGMA quick_check(1)");
    }
    let mut tables = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let names = tables.query_map([], |row| row.get::<_, String>(0))?;
    for name in names.collect::<Result<Vec<_>, _>>()? {
        // Its two ends, which are where a journal's pages mostly are.
        for order in ["ASC", "DESC"] {
            let sql = format!("SELECT 1 FROM \"{name}\" ORDER BY 1 {order} LIMIT 1");
            let mut statement = connection.prepare(&sql)?;
            statement.exists([])?;
        }
    }
    for log in ["audit", "row_record"] {
        let sql = format!(
            "SELECT iif((SELECT count FROM {log}_head) IS (SELECT coalesce(max(id), 0) FROM {log}), 'ok', \
             'the last record is not where its head says')"
        );
        let found = text(&format!(
            "SELECT count(*) || '' FROM sqlite_schema WHERE name = '{log}_head'"
        ))?;
        if found == "1" {
            let words = text(&sql)?;
            if words != "ok" {
                return Ok(words);
            }
        }
    }
    Ok("ok".to_owned())
}

/// The last whole transaction's last frame, and the frames' mark, where commits may be gone behind it.
fn lost(journal: &File, length: u64) -> io::Result<Option<(u64, [u8; 8])>> {
    let mut reader = BufReader::with_capacity(1 << 16, journal);
    let mut header = [0; HEADER_BYTES];
    if !fill(&mut reader, &mut header)? {
        return Ok(None);
    }
    let salts = salts_of(&header);
    let Some(form) = Form::of(&header) else {
        // It is synced before the first frame is written, and all frames are nothing without it.
        let frames = length > (HEADER_BYTES as u64).saturating_add(FRAME_HEADER_BYTES as u64);
        return Ok(frames.then_some((0, salts)));
    };
    let mut scan = Scan::default();
    let mut previous = form.begins;
    let mut frame = vec![0; FRAME_HEADER_BYTES.saturating_add(form.page_bytes)];
    for number in 1.. {
        if !fill(&mut reader, &mut frame)? {
            break;
        }
        let says = (word(&frame, 0), word(&frame, 4));
        let follows = form.sum(previous, &frame) == pair(&frame, 16);
        if scan.take(number, says, form.is_marked(&frame), follows) {
            return Ok(Some((scan.whole, salts)));
        }
        previous = pair(&frame, 16);
    }
    Ok(None)
}

/// What was seen of the journal so far.
#[derive(Default)]
struct Scan {
    /// The last frame of the last whole transaction.
    whole: u64,
    /// A frame was damaged: SQLite takes none from there on.
    damaged: bool,
    /// Behind the damage, the end of its transaction was seen.
    ended: bool,
    /// Sound pages of the transaction that is looked at. None is twice in one.
    pages: HashSet<u32>,
    /// How many pages the store had after the last whole transaction; 0: not known.
    size: u32,
}

impl Scan {
    /// Takes a frame: its page, and the store's size where it ends a transaction; whether it has the
    /// journal's mark, and whether it follows the frame before by its checksum. True where it is of
    /// a further transaction behind a damaged one.
    fn take(&mut self, number: u64, (page, end): (u32, u32), ours: bool, follows: bool) -> bool {
        let sound = ours && follows;
        self.damaged |= !sound;
        if self.damaged && sound && (self.ended || self.pages.contains(&page)) {
            return true;
        }
        if sound {
            self.pages.insert(page);
        }
        match end {
            0 => {}
            _ if !self.damaged => {
                (self.whole, self.size) = (number, end);
                self.pages.clear();
            }
            // A damaged frame with the right mark may still say where its transaction ends.
            _ if sound || (ours && self.may_end(end)) => self.ended = true,
            _ => {}
        }
        false
    }

    /// Whether a transaction can leave the store with so many pages: it adds no more than it writes.
    fn may_end(&self, end: u32) -> bool {
        let most = u32::try_from(self.pages.len()).unwrap_or(u32::MAX);
        let most = self.size.saturating_add(most).saturating_add(1);
        self.size == 0 || (self.size..=most).contains(&end)
    }
}

/// How a journal is to be read, as its header says.
pub(super) struct Form {
    pub(super) page_bytes: usize,
    big_endian: bool,
    /// What its frames are marked with.
    salts: [u8; 8],
    /// The checksum that the first frame follows upon.
    pub(super) begins: (u32, u32),
}

impl Form {
    /// `None` where the header is damaged.
    pub(super) fn of(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (magic, page_bytes) = (word(header, 0), word(header, 8));
        let form = Self {
            page_bytes: usize::try_from(page_bytes).ok()?,
            big_endian: magic & 1 == 1,
            salts: salts_of(header),
            begins: pair(header, 24),
        };
        let fits = page_bytes.is_power_of_two() && (512..=65_536).contains(&page_bytes);
        let sound = magic & !1 == MAGIC && word(header, 4) == VERSION && fits;
        (sound && form.checksum((0, 0), &header[..24]) == form.begins).then_some(form)
    }

    /// The frame's checksum, where it is the right one of a frame of this journal that follows upon `before`.
    pub(super) fn checked(&self, before: (u32, u32), frame: &[u8]) -> Option<(u32, u32)> {
        let sum = self.sum(before, frame);
        (self.is_marked(frame) && sum == pair(frame, 16)).then_some(sum)
    }

    fn is_marked(&self, frame: &[u8]) -> bool {
        frame.get(8..16) == Some(&self.salts[..]) && word(frame, 0) != 0
    }

    fn sum(&self, before: (u32, u32), frame: &[u8]) -> (u32, u32) {
        let part = |range| frame.get(range).unwrap_or_default();
        let head = self.checksum(before, part(0..8));
        self.checksum(head, part(FRAME_HEADER_BYTES..frame.len()))
    }

    fn checksum(&self, (mut one, mut two): (u32, u32), octets: &[u8]) -> (u32, u32) {
        let read = match self.big_endian {
            true => u32::from_be_bytes,
            false => u32::from_le_bytes,
        };
        for eight in octets.chunks_exact(8) {
            let (first, second) = eight.split_at(4);
            let number = |four: &[u8]| read(four.try_into().unwrap_or_default());
            one = one.wrapping_add(number(first)).wrapping_add(two);
            two = two.wrapping_add(number(second)).wrapping_add(one);
        }
        (one, two)
    }
}

fn salts_of(header: &[u8; HEADER_BYTES]) -> [u8; 8] {
    let mut salts = [0; 8];
    salts.copy_from_slice(&header[16..24]);
    salts
}

pub(super) fn word(octets: &[u8], at: usize) -> u32 {
    let four = octets.get(at..at.saturating_add(4));
    four.and_then(|four| four.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}

fn pair(octets: &[u8], at: usize) -> (u32, u32) {
    (word(octets, at), word(octets, at.saturating_add(4)))
}

/// Whether there was as much as the buffer takes.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn what_is_no_file_of_the_owner_alone_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bank.db");
        let (place, other) = (beside(&path, "-wal"), folder.path().join("other"));
        fs::write(&path, "").unwrap();
        fs::write(&other, "").unwrap();
        let opened = || open(OpenOptions::new().read(true).write(true), &path).is_ok();
        let made: [&dyn Fn(); 3] = [
            &|| symlink(&other, &place).unwrap(),
            &|| fs::hard_link(&other, &place).unwrap(),
            &|| {
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &place,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RUSR,
                    0,
                )
                .unwrap();
            },
        ];
        for make in made {
            make();
            assert!(!opened());
            fs::remove_file(&place).unwrap();
        }
        fs::write(&place, "").unwrap();
        assert!(opened());
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(65_534), None).unwrap();
            assert!(!opened());
        }
    }
}
