//! Peppers: secrets of the bank that go into every PIN's hash and never into a store, so that a
//! stolen store alone is useless.
//!
//! The file has a line for each pepper, `ID HEX` (64 hex digits); the first is the current one,
//! the others serve hashes made before. Blank lines and lines that start with `#` are skipped.

use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use zeroize::{Zeroize as _, Zeroizing};

use crate::durable;
use crate::surroundings::Surroundings;

/// Room for a file, so that no copy of it is left behind while it is read.
const FILE_BYTES: usize = 16_384;

/// A pepper's public name, kept beside every hash made with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PepperId(String);

impl PepperId {
    const BYTES_MAX: usize = 32;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name as a store or a file holds it: 1 to 32 of `a-z 0-9 -`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = (1..=Self::BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed);
        fits.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for PepperId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a pepper file.
#[derive(Debug, thiserror::Error)]
pub enum PepperError {
    /// It cannot be read.
    #[error("cannot read the pepper file {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be made.
    #[error("cannot make the pepper file {path}: {source}")]
    NotMade {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may read it.
    #[error(
        "the pepper file {path} has mode {mode:04o}: others may read it; mend: chmod 600 {path}"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A line is not `ID HEX`.
    #[error("line {line} of the pepper file {path} is not an id of its own and 64 hex digits")]
    BadLine {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// It has no pepper.
    #[error("the pepper file {path} holds no pepper")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// The current pepper and those before it.
pub struct Peppers(Vec<(PepperId, Zeroizing<[u8; 32]>)>);

impl Peppers {
    /// Reads the file, which nobody but its owner may be able to read; its group too where
    /// `group_may_read` (files that a service manager hands over as credentials).
    ///
    /// # Errors
    /// [`PepperError`], naming the file and the mend.
    pub fn load(path: &Path, group_may_read: bool) -> Result<Self, PepperError> {
        let unreadable = |source| PepperError::Unreadable {
            path: path.to_owned(),
            source,
        };
        // The mode of the file that is read, whatever stands at the path by then.
        let mut file = durable::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
        let forbidden = if group_may_read { 0o037 } else { 0o077 };
        if mode & forbidden != 0 {
            return Err(PepperError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES));
        file.read_to_string(&mut text).map_err(unreadable)?;
        let mut peppers: Vec<(PepperId, Zeroizing<[u8; 32]>)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if !holds_a_pepper(line) {
                continue;
            }
            let read = read_line(line.trim());
            // Of two lines with one name only the first would ever be used.
            let new = read.filter(|(id, _)| peppers.iter().all(|(known, _)| known != id));
            peppers.push(new.ok_or_else(|| PepperError::BadLine {
                path: path.to_owned(),
                line: index + 1,
            })?);
        }
        if peppers.is_empty() {
            return Err(PepperError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(Self(peppers))
    }

    /// Makes a file with one new pepper, mode 0600. Never overwrites.
    ///
    /// # Errors
    /// [`PepperError::NotMade`].
    pub fn create(path: &Path, surroundings: &dyn Surroundings) -> Result<Self, PepperError> {
        let not_made = |source| PepperError::NotMade {
            path: path.to_owned(),
            source,
        };
        let peppers = Self::generate(surroundings);
        durable::make_folder(durable::folder_of(path))
            .and_then(|()| durable::create(path, peppers.lines().as_bytes(), 0o600))
            .map_err(not_made)?;
        Ok(peppers)
    }

    /// A ring with one new pepper, kept nowhere yet.
    #[must_use]
    pub fn generate(surroundings: &dyn Surroundings) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        let (mut low, mut high) = (surroundings.random(), surroundings.random());
        secret[..16].copy_from_slice(&low);
        secret[16..].copy_from_slice(&high);
        low.zeroize();
        high.zeroize();
        let name = format!("p-{}", HEXLOWER.encode(&surroundings.random()[..4]));
        Self(vec![(PepperId(name), secret)])
    }

    /// A ring without a pepper: nothing can be hashed or checked with it.
    #[must_use]
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// The ring as its file's lines.
    pub(crate) fn lines(&self) -> Zeroizing<String> {
        let length = PepperId::BYTES_MAX.saturating_add(66);
        // Never grown, so that no copy of it is left behind.
        let mut text = Zeroizing::new(String::with_capacity(self.0.len().saturating_mul(length)));
        for (id, secret) in &self.0 {
            text.push_str(id.as_str());
            text.push(' ');
            HEXLOWER.encode_append(&**secret, &mut text);
            text.push('\n');
        }
        text
    }

    /// The peppers' names, the current one first.
    pub fn ids(&self) -> impl Iterator<Item = &PepperId> {
        self.0.iter().map(|(id, _)| id)
    }

    /// The first pepper of `other` that is not here, or is another secret here.
    #[must_use]
    pub fn lacks<'o>(&self, other: &'o Self) -> Option<&'o PepperId> {
        let mut others = other.0.iter();
        others
            .find(|(id, secret)| self.secret(id) != Some(&**secret))
            .map(|(id, _)| id)
    }

    /// The pepper that new hashes are made with.
    #[must_use]
    pub fn current(&self) -> Option<&PepperId> {
        self.0.first().map(|(id, _)| id)
    }

    /// Whether `id` is here, so that hashes made with it can be checked.
    #[must_use]
    pub fn contains(&self, id: &PepperId) -> bool {
        self.secret(id).is_some()
    }

    pub(super) fn secret(&self, id: &PepperId) -> Option<&[u8; 32]> {
        self.0
            .iter()
            .find(|(known, _)| known == id)
            .map(|(_, secret)| &**secret)
    }
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(id, _)| id))
            .finish()
    }
}

/// Whether a line is neither blank nor a comment.
pub(super) fn holds_a_pepper(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

fn read_line(line: &str) -> Option<(PepperId, Zeroizing<[u8; 32]>)> {
    let (id, hex) = line.split_once(char::is_whitespace)?;
    let secret = Zeroizing::new(HEXLOWER_PERMISSIVE.decode(hex.trim().as_bytes()).ok()?);
    let secret = Zeroizing::new(secret.as_slice().try_into().ok()?);
    Some((PepperId::parse(id)?, secret))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::surroundings::System;

    #[test]
    fn a_pepper_file_is_made_once_with_mode_0600_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/pepper");
        let made = Peppers::create(&path, &System::default()).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let read = Peppers::load(&path, false).unwrap();
        assert_eq!(read.0, made.0);
        assert!(matches!(
            Peppers::create(&path, &System::default()),
            Err(PepperError::NotMade { .. })
        ));
    }

    #[test]
    fn an_exposed_empty_or_damaged_pepper_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pepper");
        Peppers::create(&path, &System::default()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Peppers::load(&path, false),
            Err(PepperError::Exposed { mode: 0o640, .. })
        ));
        assert!(Peppers::load(&path, true).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "# nothing\n\n").unwrap();
        assert!(matches!(
            Peppers::load(&path, false),
            Err(PepperError::Empty { .. })
        ));
        let twice = format!("p-1 {0}\np-1 {0}\n", "0a".repeat(32));
        fs::write(&path, twice).unwrap();
        assert!(matches!(
            Peppers::load(&path, false),
            Err(PepperError::BadLine { line: 2, .. })
        ));
        fs::write(&path, "p-1 abc\n").unwrap();
        assert!(matches!(
            Peppers::load(&path, false),
            Err(PepperError::BadLine { line: 1, .. })
        ));
        assert!(matches!(
            Peppers::load(&folder.path().join("none"), false),
            Err(PepperError::Unreadable { .. })
        ));
    }

    #[test]
    fn a_pepper_is_64_digits_in_either_case_and_nothing_else() {
        let lower = read_line(&format!("p-1 {}", "0a".repeat(32))).unwrap();
        let upper = read_line(&format!("p-1 \t{}", "0A".repeat(32))).unwrap();
        assert!(lower == upper && lower.1[..] == [10; 32]);
        for (digits, times) in [
            ("0a", 31),
            ("0a", 33),
            ("a", 63),
            ("0g", 32),
            ("+a", 32),
            ("é", 32),
        ] {
            let line = format!("p-1 {}", digits.repeat(times));
            assert!(read_line(&line).is_none(), "{line}");
        }
    }

    #[test]
    fn debug_shows_ids_only() {
        let peppers = Peppers::generate(&System::default());
        let shown = format!("{peppers:?}");
        assert!(shown.len() < 30 && shown.contains("p-"), "{shown}");
    }
}
