//! Files of keys and certificates: never half written, keys never readable by others.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::error::PkiError;

/// The most bytes of a certificate's or key's file.
pub(super) const TEXT_MAX: u64 = 1 << 20;
/// The most bytes of a register or revocation list: about a million certificates.
pub(super) const LIST_MAX: u64 = 1 << 27;

/// How long a run waits for another on the same folder.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Its owner only: mode 0600.
    Owner,
    /// Everyone: mode 0644.
    Everyone,
}

impl Readers {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everyone => 0o644,
        }
    }
}

/// Reads a text of at most `limit` bytes; `None` where there is no such file.
pub(super) fn read_text(path: &Path, limit: u64) -> Result<Option<String>, PkiError> {
    let failed = |source| PkiError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut octets = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut octets)
        .map_err(failed)?;
    if u64::try_from(octets.len()).is_ok_and(|length| length > limit) {
        return Err(PkiError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    let not_text = |_| failed(io::Error::new(io::ErrorKind::InvalidData, "it is not text"));
    String::from_utf8(octets).map(Some).map_err(not_text)
}

/// The PEM blocks of one kind in a text, from their `BEGIN` to the end of their `END` line. A block
/// that never ends runs to the text's end, so that reading it fails instead of passing it over.
pub(super) fn pem_blocks<'a>(text: &'a str, kind: &str) -> impl Iterator<Item = &'a str> {
    let begin = format!("-----BEGIN {kind}-----");
    let end = format!("-----END {kind}-----");
    let mut rest = text;
    std::iter::from_fn(move || {
        let from = rest.get(rest.find(&begin)?..)?;
        let length = from.find(&end).map_or(from.len(), |at| at + end.len());
        let (block, after) = from.split_at_checked(length)?;
        rest = after;
        Some(block)
    })
}

/// Whether something stands at `path`, a dangling link included.
pub(super) fn exists(path: &Path) -> Result<bool, PkiError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(PkiError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Makes a folder, and those above it, that its owner alone can enter; one that exists is left as is.
pub(super) fn make_folder(path: &Path) -> Result<(), PkiError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|source| PkiError::Write {
        path: path.to_owned(),
        source,
    })
}

/// A file written in full beside its place, not yet in it. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Draft {
    draft: PathBuf,
    place: PathBuf,
    done: bool,
}

impl Draft {
    /// Writes the content to disk beside `place`. The caller holds the folder's lock, so a draft that
    /// is there already was left by a run that died.
    pub(super) fn write(place: &Path, content: &str, readers: Readers) -> Result<Self, PkiError> {
        let draft = draft_of(place);
        let failed = |source| PkiError::Write {
            path: place.to_owned(),
            source,
        };
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(readers.mode())
            .open(&draft);
        let mut file = opened.map_err(failed)?;
        let written = Self {
            draft,
            place: place.to_owned(),
            done: false,
        };
        // Again, because the umask may have taken from a certificate's mode.
        file.set_permissions(Permissions::from_mode(readers.mode()))
            .map_err(failed)?;
        file.write_all(content.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        Ok(written)
    }

    /// Puts the file in its place, over what was there, and makes that durable.
    pub(super) fn settle(mut self) -> Result<(), PkiError> {
        let failed = |source| PkiError::Write {
            path: self.place.clone(),
            source,
        };
        fs::rename(&self.draft, &self.place).map_err(failed)?;
        self.done = true;
        let folder = self
            .place
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let opened = File::open(folder.unwrap_or(Path::new(".")));
        opened.and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.done {
            // The error that brought us here is the one to tell.
            let _ = fs::remove_file(&self.draft);
        }
    }
}

/// Writes a file so that its place holds the old content or the new, never a part.
pub(super) fn write_text(path: &Path, content: &str, readers: Readers) -> Result<(), PkiError> {
    Draft::write(path, content, readers)?.settle()
}

fn draft_of(place: &Path) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    place.with_file_name(format!(".{name}.draft"))
}

/// The right to write in a folder, held by one run at a time; the system takes it back when the
/// process ends, however it ends.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Waits at most half a minute for the lock. The lock file stays behind: removing it would let two
    /// runs hold locks on two files of the same name.
    pub(super) fn take(path: &Path) -> Result<Self, PkiError> {
        let failed = |source| PkiError::Write {
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(failed)?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(PkiError::Busy {
                        path: path.to_owned(),
                    });
                }
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_POLL),
            }
        }
    }
}
