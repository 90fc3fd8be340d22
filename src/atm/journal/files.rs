//! The journal's files: one for each request, which grows by whole lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_setfl};
use uuid::Uuid;

use super::{Kept, Pending, Record, settled};
use crate::durable;

const SUFFIX: &str = "json";
/// What `durable` names a file that has not its own name yet, and what older terminals did.
const UNBORN_SUFFIX: &str = ".draft";
const UNBORN_PREFIX: &str = "new-";
pub(super) const UNBORN_FOR: Duration = Duration::from_secs(3_600);
/// Larger files are none of ours.
const FILE_BYTES_MAX: u64 = 65_536;
/// Behind a request's first line come at most a release, a capture, what the lasting record lacks and
/// the outcome. Each is as long, but for the names of a hold and a key and what the bank answered.
const LINES_ROOM: u64 = 4;
const ANSWER_BYTES: u64 = 2_048;

/// What becomes of a file.
pub(super) enum Found {
    /// This process works on it from now on.
    Taken(Pending),
    /// It is for another bank, terminal or customer.
    Left(Record, Kept),
    /// Another process works on it, or has just finished it.
    Busy,
}

pub(super) fn prepare(folder: &Path) -> io::Result<()> {
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

pub(super) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Makes the file of a request. Where it lets cash out there is room then for all that follows, in the
/// file and in the lasting record; for others as far as the disk has it.
pub(super) fn create(folder: &Path, record: &Record) -> io::Result<(File, PathBuf)> {
    let or_left = |secured: io::Result<()>| match record.order.lets_cash_out() {
        true => secured,
        false => Ok(()),
    };
    or_left(settled::reserve(folder))?;
    let path = folder.join(format!("{}.{SUFFIX}", Uuid::now_v7()));
    // Where it fails there is no file, since its request is not going to be sent.
    let file = durable::create_with(&path, 0o600, |file| {
        fcntl_setfl(&*file, OFlags::APPEND)?;
        append(file, record, false)?;
        let room = file.metadata()?.len().saturating_mul(LINES_ROOM);
        or_left(keep_room(file, room.saturating_add(ANSWER_BYTES)))
    })?;
    Ok((file, path))
}

/// Has the disk keep room for so much behind the file's end, which stays where it is.
pub(super) fn keep_room(file: &File, bytes: u64) -> io::Result<()> {
    let end = file.metadata()?.len();
    let keep = || fallocate(file, FallocateFlags::KEEP_SIZE, end, bytes);
    Ok(rustix::io::retry_on_intr(keep)?)
}

/// Appends a line, on disk when this returns where it is `synced`; what a crash leaves of half a
/// line is not read.
pub(super) fn append(file: &mut File, record: &Record, synced: bool) -> io::Result<()> {
    let mut line = record.to_line()?;
    line.push(b'\n');
    append_line(file, &line, synced)
}

/// The same with any line.
pub(super) fn append_line(file: &mut File, line: &[u8], synced: bool) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.nlink() == 0 {
        return Err(io::Error::other("it was removed"));
    }
    let size_bytes = metadata.len();
    let written = file.write_all(line).and_then(|()| match synced {
        true => file.sync_all(),
        false => Ok(()),
    });
    if written.is_err() {
        // Half a line would spoil the next one.
        file.set_len(size_bytes)?;
    }
    written
}

/// The files of requests, in the order of time.
pub(super) fn files_of(folder: &Path) -> Vec<PathBuf> {
    of_ending(folder, SUFFIX)
}

/// The files of requests whose name ends so.
pub(super) fn of_ending(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    // Names are UUIDs of version 7, so this is the order of time.
    paths.sort();
    paths
}

/// The file's request, locked where it is `wanted`.
pub(super) fn adopt(path: &Path, wanted: impl Fn(&Record) -> bool) -> io::Result<Found> {
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
    let (record, ..) = read_record(&mut file)?;
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
    let (record, unrecorded, whole_bytes) = read_record(&mut file)?;
    if file.metadata()?.len() > whole_bytes {
        // Half a line would spoil the next one.
        file.set_len(whole_bytes)?;
    }
    Ok(Found::Taken(Pending {
        record,
        kept,
        file: Some((file, path.into())),
        unrecorded,
    }))
}

/// The last request in the file, what the lasting record lacks of it, and how many bytes its whole
/// lines have.
fn read_record(file: &mut File) -> io::Result<(Record, Option<Vec<u8>>, u64)> {
    let mut text = String::new();
    file.rewind()?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    let whole_bytes = text.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let whole = text.get(..whole_bytes).unwrap_or_default();
    let record = whole.lines().rev().find_map(Record::from_line);
    let record = record.ok_or_else(|| io::Error::other("it holds no request"))?;
    let unrecorded = settled::line_in(whole);
    Ok((
        record,
        unrecorded,
        u64::try_from(whole_bytes).unwrap_or(u64::MAX),
    ))
}
