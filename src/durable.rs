//! Files and folders that are there whole, or not at all, and stay there.
//!
//! A file is written beside its place, flushed to disk, and only then given its name; then the folder
//! is flushed, or the name could be gone after a power cut. Whenever this is cut off, its place holds
//! what it held before.
//!
//! A new file belongs to whoever makes it. What root writes over a file keeps its owner where the folder is
//! that owner's too, or is root's and nobody else may write there: whoever else may could have put the file
//! there to be given the next. A link in its place stays a link, and what it leads to is replaced; root follows one
//! only if it, and each that it leads over, is root's. That says nothing of the folders on the way: links
//! among them are followed, whosever they are. A mere `rename` keeps neither owner nor link.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

/// How often a lock that another holds is tried again.
const LOCK_POLL: Duration = Duration::from_millis(10);
/// As many as the system follows.
const LINKS_MAX: usize = 40;

/// Opens a file to be read, and refuses what is none: nobody waits at a pipe that stands in its place.
///
/// # Errors
/// The system's; [`io::ErrorKind::InvalidInput`] where something else stands there.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    let options = options.custom_flags(flags.bits().cast_signed());
    let file = match options.read(true).open(path) {
        // So a socket answers.
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
            return Err(no_file("a socket or a device"));
        }
        file => file?,
    };
    refuse_others(file.metadata()?.file_type())?;
    Ok(file)
}

/// Refuses what is no file, as [`open`] does, without opening it.
///
/// # Errors
/// As [`open`].
pub(crate) fn must_be_file(path: &Path) -> io::Result<()> {
    refuse_others(fs::metadata(path)?.file_type())
}

fn refuse_others(kind: fs::FileType) -> io::Result<()> {
    match kind.is_file() {
        true => Ok(()),
        false if kind.is_fifo() => Err(no_file("a pipe")),
        false if kind.is_dir() => Err(no_file("a folder")),
        false => Err(no_file("a socket or a device")),
    }
}

fn no_file(what: &str) -> io::Error {
    let reason = format!("it is {what}, not a file");
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

/// Reads a file whole.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(path)?.read_to_end(&mut content)?;
    Ok(content)
}

/// Whether nothing is in this place. Where that cannot be told it is not so, and whoever then opens the file is
/// told why: what cannot be seen is never taken for what is not there. A link that leads nowhere is something.
#[must_use]
pub fn is_absent(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// A file written in full beside its place, not yet in it. Dropped, it is gone.
#[derive(Debug)]
pub struct Draft {
    draft: PathBuf,
    place: PathBuf,
    /// Locked, so that nobody else takes the draft for one that was left behind.
    file: File,
}

impl Draft {
    /// Writes the content to disk beside `place`, with exactly this mode.
    ///
    /// # Errors
    /// As [`Draft::fill`].
    pub fn write(place: &Path, content: &[u8], mode: u32) -> io::Result<Self> {
        Self::fill(place, mode, |file| file.write_all(content))
    }

    /// Has a file beside `place` filled, with exactly this mode, and flushes it to disk.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::WouldBlock`] where another process is writing the same file;
    /// [`io::ErrorKind::PermissionDenied`] where a private file of another's cannot stay his.
    pub fn fill(
        place: &Path,
        mode: u32,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<Self> {
        let place = real_path(place)?;
        Self::make(&place, mode, |file| {
            keep_owner(file, &place, mode)?;
            fill(file)
        })
    }

    /// A draft that is there already was left by a process that died.
    fn make(
        place: &Path,
        mode: u32,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<Self> {
        let draft = beside(place, "draft");
        remove_left(&draft)?;
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&draft)?;
        file.try_lock().map_err(io::Error::from)?;
        if !is_same(&file, &draft) {
            // Another took it for one that was left behind, in the moment before it was locked.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut written = Self {
            draft,
            place: place.to_owned(),
            file,
        };
        // Again, because the umask may have taken from the mode.
        written.file.set_permissions(Permissions::from_mode(mode))?;
        fill(&mut written.file)?;
        written.file.sync_all()?;
        Ok(written)
    }

    /// Puts the file in its place, over what was there.
    ///
    /// # Errors
    /// The system's.
    pub fn settle(self) -> io::Result<()> {
        fs::rename(&self.draft, &self.place)?;
        sync_folder_of(&self.place)
    }

    fn settle_new(self) -> io::Result<File> {
        let file = self.file.try_clone()?;
        match renameat_with(CWD, &self.draft, CWD, &self.place, RenameFlags::NOREPLACE) {
            // Not every file system knows that; those that do not know links.
            Err(Errno::INVAL | Errno::NOSYS) => link_new(&self.draft, &self.place)?,
            renamed => renamed?,
        }
        or_undone(sync_folder_of(&self.place), &self.place)?;
        Ok(file)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Unless it has its own name by now.
        if is_same(&self.file, &self.draft) {
            // The error that brought us here is the one to tell.
            let _ = fs::remove_file(&self.draft);
        }
    }
}

fn link_new(draft: &Path, place: &Path) -> io::Result<()> {
    fs::hard_link(draft, place)?;
    or_undone(fs::remove_file(draft), place)
}

/// Whoever is told that it failed must not find it later.
fn or_undone(done: io::Result<()>, place: &Path) -> io::Result<()> {
    done.inspect_err(|_| {
        let _ = fs::remove_file(place);
    })
}

fn remove_left(draft: &Path) -> io::Result<()> {
    let left = match fs::symlink_metadata(draft) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        left => left?,
    };
    // A link that somebody put there leads nowhere, and nobody waits at a pipe.
    if left.is_file() {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut options = OpenOptions::new();
        let options = options.write(true).custom_flags(flags.bits().cast_signed());
        options.open(draft)?.try_lock().map_err(io::Error::from)?;
    }
    fs::remove_file(draft)
}

/// Where the file stands, whatever links lead from one to the next. Root follows no link of another
/// user's: whoever may write its folder could have root work elsewhere.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    let is_root = rustix::process::geteuid().is_root();
    let mut real = path.to_owned();
    for _ in 0..LINKS_MAX {
        let found = match fs::symlink_metadata(&real) {
            // It leads nowhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path.to_owned()),
            found => found?,
        };
        if !found.is_symlink() {
            return Ok(real);
        }
        if found.uid() != 0 && is_root {
            let reason = "a link of another user, which root does not follow, is in its place";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        real = folder_of(&real).join(fs::read_link(&real)?);
    }
    Err(Errno::LOOP.into())
}

/// Gives a draft to the owner of what stands in its place, where the folder is that owner's too, or is
/// root's and nobody else may put a file there. Who cannot must not take from an owner what the owner alone
/// may read.
fn keep_owner(file: &File, place: &Path, mode: u32) -> io::Result<()> {
    let stands = match fs::metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        stands => stands?,
    };
    let (own, owner) = (file.metadata()?.uid(), stands.uid());
    let folder = fs::metadata(folder_of(place))?;
    let is_only_roots = folder.uid() == 0 && folder.mode() & 0o022 == 0;
    let folder = folder.uid();
    // Whoever may write the folder may have put the file there, to be given what replaces it.
    let is_trusted = own == owner || folder == owner || is_only_roots;
    let kept = is_trusted && give(file, &stands).is_ok();
    if kept || own == owner || mode & 0o077 != 0 {
        return Ok(());
    }
    let reason = format!(
        "it belongs to user {owner}, its folder to user {folder}; mend it with chown {own}, or remove it"
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

/// Gives a file to this owner and group.
///
/// # Errors
/// The system's.
pub(crate) fn give(file: &File, owner: &fs::Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (owner.uid(), owner.gid()) == (own.uid(), own.gid()) {
        return Ok(());
    }
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}

/// Whether this file stands at that path, not another that was put there since.
#[must_use]
pub fn is_same(file: &File, path: &Path) -> bool {
    let stands = fs::symlink_metadata(path);
    file.metadata().is_ok_and(|file| {
        stands.is_ok_and(|stands| (stands.dev(), stands.ino()) == (file.dev(), file.ino()))
    })
}

/// Writes a file so that its place holds the old content or the new, never a part.
///
/// # Errors
/// The system's.
pub fn replace(place: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    Draft::write(place, content, mode)?.settle()
}

/// Makes a file where none may stand.
///
/// # Errors
/// The system's; [`io::ErrorKind::AlreadyExists`] where something stands there, be it a link.
pub fn create(place: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    create_with(place, mode, |file| file.write_all(content)).map(drop)
}

/// Has a file filled where none may stand. Returns it, locked.
///
/// # Errors
/// As [`create`].
pub fn create_with(
    place: &Path,
    mode: u32,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<File> {
    match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Draft::make(place, mode, fill)?.settle_new()
        }
        found => Err(found.err().unwrap_or(Errno::EXIST.into())),
    }
}

/// Gives a file that is on disk another name in its folder, over what was there, for good.
///
/// # Errors
/// The system's.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder_of(to)
}

/// Who holds it is the only one at what its file stands for; the system takes it back when the process
/// ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for another, but no longer than `wait`. Without `make` the file must be there already. It
    /// stays behind: removing it would let two hold locks on two files of the same name.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::TimedOut`] where another holds it still.
    pub(crate) fn take(path: &Path, make: bool, wait: Duration) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(make).truncate(false).mode(0o600);
        // A link that somebody put there leads nowhere, and nobody waits at a pipe.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = options
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("what stands there is no file"));
        }
        let deadline = Instant::now() + wait;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_POLL),
            }
        }
    }
}

/// Makes a folder that its owner alone can enter, and those above it that are missing, each of them
/// for good. One that exists is left as it is.
///
/// # Errors
/// The system's.
pub fn make_folder(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make_folder(above)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder_of(path),
    }
}

/// Makes a new name in the folder of `path` outlast a power cut.
///
/// # Errors
/// The system's.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// The folder that a file is in.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// `.NAME.ending`, beside `NAME`.
#[must_use]
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests;
