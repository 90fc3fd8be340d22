//! Files of keys and certificates: never half written, keys never readable by others.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::PkiError;
use crate::durable;

/// The most bytes of a certificate's or key's file.
pub(super) const TEXT_MAX: u64 = 1 << 20;
/// The most bytes of a register or revocation list: about a million certificates.
pub(super) const LIST_MAX: u64 = 1 << 27;

/// How long a run waits for another on the same folder.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

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
    let not_text = |_| PkiError::Read {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, "it is not text"),
    };
    let octets = read_octets(path, limit, 0)?;
    octets.map(String::from_utf8).transpose().map_err(not_text)
}

/// Reads a file of at most `limit` bytes, whose mode has none of the bits of `forbidden`; `None` where
/// there is no such file.
pub(super) fn read_octets(
    path: &Path,
    limit: u64,
    forbidden: u32,
) -> Result<Option<Vec<u8>>, PkiError> {
    let failed = |source| PkiError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match durable::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // Of the file that is read, whatever stands at the path by now.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(PkiError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
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
    Ok(Some(octets))
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
    durable::make_folder(path).map_err(|source| not_written(path, source))
}

/// A file written in full beside its place, not yet in it. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Draft {
    draft: durable::Draft,
    place: PathBuf,
}

impl Draft {
    /// Writes the content to disk beside `place`.
    pub(super) fn write(place: &Path, content: &str, readers: Readers) -> Result<Self, PkiError> {
        let draft = durable::Draft::write(place, content.as_bytes(), readers.mode());
        Ok(Self {
            draft: draft.map_err(|source| not_written(place, source))?,
            place: place.to_owned(),
        })
    }

    /// Puts the file in its place, over what was there, and makes that durable.
    pub(super) fn settle(self) -> Result<(), PkiError> {
        let settled = self.draft.settle();
        settled.map_err(|source| not_written(&self.place, source))
    }
}

/// Writes a file so that its place holds the old content or the new, never a part.
pub(super) fn write_text(path: &Path, content: &str, readers: Readers) -> Result<(), PkiError> {
    Draft::write(path, content, readers)?.settle()
}

fn not_written(path: &Path, source: io::Error) -> PkiError {
    PkiError::Write {
        path: path.to_owned(),
        source,
    }
}

/// The right to write in a folder, held by one run at a time.
pub(super) fn lock_folder(path: &Path) -> Result<durable::Lock, PkiError> {
    durable::Lock::take(path, true, LOCK_TIMEOUT).map_err(|source| match source.kind() {
        io::ErrorKind::TimedOut => PkiError::Busy {
            path: path.to_owned(),
        },
        _ => not_written(path, source),
    })
}
