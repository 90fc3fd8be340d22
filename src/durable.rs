//! Files and folders that are there whole, or not at all, and stay there.
//!
//! A file is written beside its place, flushed to disk, and only then given its name; then the folder
//! is flushed, or the name could be gone after a power cut. Whenever this is cut off, its place holds
//! what it held before. What takes a file's place belongs to whom that did. A link in its place stays a
//! link, and what it leads to is replaced; root follows none of another user's.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

/// How often a lock that another holds is tried again.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// A file written in full beside its place, not yet in it. Dropped, it is gone.
#[derive(Debug)]
pub struct Draft {
    draft: PathBuf,
    place: PathBuf,
    /// Locked, so that nobody else takes the draft for one that was left behind.
    file: File,
    done: bool,
}

impl Draft {
    /// Writes the content to disk beside `place`, with exactly this mode.
    ///
    /// # Errors
    /// As [`Draft::fill`].
    pub fn write(place: &Path, content: &[u8], mode: u32) -> io::Result<Self> {
        Self::fill(place, mode, |file| file.write_all(content))
    }

    /// Has a file beside `place` filled, with exactly this mode, and flushes it to disk. A draft that is
    /// there already was left by a process that died.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::WouldBlock`] where another process is writing the same file.
    pub fn fill(
        place: &Path,
        mode: u32,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<Self> {
        let place = real_path(place)?;
        let draft = beside(&place, "draft");
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
            place,
            file,
            done: false,
        };
        // Again, because the umask may have taken from the mode.
        written.file.set_permissions(Permissions::from_mode(mode))?;
        match fs::metadata(&written.place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            stands => keep_owner(&written.file, &stands?, mode)?,
        }
        fill(&mut written.file)?;
        written.file.sync_all()?;
        Ok(written)
    }

    /// Puts the file in its place, over what was there.
    ///
    /// # Errors
    /// The system's.
    pub fn settle(mut self) -> io::Result<()> {
        fs::rename(&self.draft, &self.place)?;
        self.done = true;
        sync_folder_of(&self.place)
    }

    /// Puts the file in its place, where nothing may stand. Returns it, locked.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::AlreadyExists`] where something stands there.
    pub fn settle_new(mut self) -> io::Result<File> {
        let file = self.file.try_clone()?;
        match renameat_with(CWD, &self.draft, CWD, &self.place, RenameFlags::NOREPLACE) {
            // Not every file system knows that; those that do not know links.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::hard_link(&self.draft, &self.place)?;
                fs::remove_file(&self.draft)?;
            }
            renamed => renamed?,
        }
        self.done = true;
        sync_folder_of(&self.place).inspect_err(|_| {
            // Whoever is told that it failed must not find it later.
            let _ = fs::remove_file(&self.place);
        })?;
        Ok(file)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.done && is_same(&self.file, &self.draft) {
            // The error that brought us here is the one to tell.
            let _ = fs::remove_file(&self.draft);
        }
    }
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

/// Where the file stands, whatever links lead to it. Root follows no link of another user's: whoever may
/// write its folder could have root work elsewhere.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    let link = match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => found,
        _ => return Ok(path.to_owned()),
    };
    if link.uid() != 0 && rustix::process::geteuid().is_root() {
        let reason = "it is a link of another user, which root does not follow";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    match fs::canonicalize(path) {
        // It leads nowhere.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path.to_owned()),
        real => real,
    }
}

/// Gives a file to the owner of what stood there. Only root can; who cannot must not take from an owner
/// what the owner alone may read.
fn keep_owner(file: &File, stands: &fs::Metadata, mode: u32) -> io::Result<()> {
    let is_own = file.metadata()?.uid() == stands.uid();
    match give(file, stands) {
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied && (is_own || mode & 0o077 != 0) =>
        {
            Ok(())
        }
        given => given,
    }
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
/// The system's.
pub fn create(place: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    Draft::write(place, content, mode)?.settle_new().map(drop)
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
        // A link that somebody put there leads nowhere.
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let file = options.open(path)?;
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
mod tests {
    use std::os::unix::fs::{chown, lchown, symlink};

    use rustix::fs::{FileType, Mode, mknodat};
    use rustix::process::Uid;
    use rustix::thread::set_thread_res_uid;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(folder: &Path) -> Vec<String> {
        let found = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = found
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_whole_and_has_its_mode_and_a_new_one_takes_no_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        create(&path, b"one", 0o644).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), mode(&path)),
            (b"one".to_vec(), 0o644)
        );
        let again = create(&path, b"two", 0o600).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), mode(&path)),
            (b"two".to_vec(), 0o600)
        );
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn what_a_killed_process_left_is_no_obstacle_and_what_a_living_one_writes_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(beside(&path, "draft"), "half").unwrap();
        let draft = Draft::write(&path, b"whole", 0o600).unwrap();
        let other = create(&path, b"other", 0o600).unwrap_err();
        assert_eq!(other.kind(), io::ErrorKind::WouldBlock);
        draft.settle_new().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(folder.path()), ["a"]);
        drop(Draft::write(&path, b"never", 0o600).unwrap());
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn what_is_put_where_the_draft_goes_is_neither_written_through_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (path, draft) = (at("a"), beside(&at("a"), "draft"));
        fs::write(at("victim"), "another's").unwrap();
        symlink(at("victim"), &draft).unwrap();
        replace(&path, b"one", 0o600).unwrap();
        symlink(at("nowhere"), &draft).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        mknodat(CWD, &draft, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        replace(&path, b"three", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read(at("victim")).unwrap(), b"another's");
        assert_eq!(names(folder.path()), ["a", "victim"]);
    }

    #[test]
    fn a_link_in_its_place_stays_one_and_one_that_leads_nowhere_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("real")).unwrap();
        fs::write(at("real/a"), "old").unwrap();
        symlink("real/a", at("a")).unwrap();
        replace(&at("a"), b"new", 0o600).unwrap();
        assert!(fs::symlink_metadata(at("a")).unwrap().is_symlink());
        assert_eq!(fs::read(at("real/a")).unwrap(), b"new");
        symlink("real/b", at("b")).unwrap();
        for link in ["a", "b"] {
            let refused = create(&at(link), b"other", 0o600).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        }
        replace(&at("b"), b"here", 0o600).unwrap();
        assert!(fs::symlink_metadata(at("b")).unwrap().is_file());
        assert_eq!(names(&at("real")), ["a"]);
    }

    #[test]
    fn root_follows_no_link_of_another_user_and_leaves_each_file_its_owner() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root gives files away");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a"), folder.path().join("link"));
        fs::write(&path, "old").unwrap();
        chown(&path, Some(4_711), Some(4_712)).unwrap();
        replace(&path, b"new", 0o600).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid()), (4_711, 4_712));
        symlink(&path, &link).unwrap();
        replace(&link, b"newer", 0o600).unwrap();
        lchown(&link, Some(4_711), Some(4_712)).unwrap();
        let refused = replace(&link, b"newest", 0o600).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(fs::read(&path).unwrap(), b"newer");
    }

    /// Another user's name for the thread, which ends with it.
    #[test]
    fn nobody_takes_from_an_owner_what_the_owner_alone_may_read() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root has files of two users");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "root's").unwrap();
        let (secret, open) = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let user = Uid::from_raw(4_711);
                set_thread_res_uid(user, user, user).unwrap();
                let secret = replace(&path, b"other", 0o600).map_err(|error| error.kind());
                (secret, replace(&path, b"other", 0o644))
            });
            other.join().unwrap()
        });
        assert_eq!(secret, Err(io::ErrorKind::PermissionDenied));
        open.unwrap();
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn folders_are_made_for_their_owner_and_those_that_stand_are_left() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        make_folder(&deep).unwrap();
        assert!([&deep, deep.parent().unwrap()].map(mode) == [0o700; 2]);
        fs::set_permissions(&deep, Permissions::from_mode(0o755)).unwrap();
        make_folder(&deep).unwrap();
        assert_eq!(mode(&deep), 0o755);
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(make_folder(&folder.path().join("file/d")).is_err());
        make_folder(Path::new("")).unwrap();
    }
}
