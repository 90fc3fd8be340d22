//! Changing the pepper file: a new current pepper, or one less. The file is on disk, whole, before
//! any hash may need what is in it.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use super::pepper::{PepperError, PepperId, Peppers, holds_a_pepper};
use super::pin::PinHasher;
use crate::durable;
use crate::limits;
use crate::surroundings::Surroundings;

/// The file that a bank's peppers stand in. What it does to a hasher's peppers it does one at a
/// time, so that no older state of the file takes the place of a newer one.
#[derive(Debug)]
pub struct PepperFile {
    path: PathBuf,
    group_may_read: bool,
    turn: Mutex<()>,
}

/// The pepper file cannot be changed. A hasher goes on with what it had.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It cannot be read, or is wrong.
    #[error(transparent)]
    Wrong(#[from] PepperError),
    /// It lacks a pepper that is in use.
    #[error(
        "the pepper file {path} has not the pepper {id} that is in use; mend: put that line back first"
    )]
    Lacks {
        /// The file.
        path: PathBuf,
        /// The pepper.
        id: PepperId,
    },
    /// It has as many peppers as it may have.
    #[error(
        "the pepper file {path} has {most} peppers already; mend: retire those that no account stands on"
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// How many.
        most: usize,
    },
    /// It, or its folder, may not be written.
    #[error(
        "the pepper file {path} cannot be replaced ({source}); mend: where it comes from, put a new first line above \
         the others (an id of a-z 0-9 -, a space, 64 random hex digits), hand it over anew, and restart"
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing failed.
    #[error("the pepper file {path} cannot be replaced: {source}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl PepperFile {
    /// The file at `path`; its group may read it where a service manager hands it over.
    #[must_use]
    pub fn new(path: PathBuf, group_may_read: bool) -> Self {
        Self {
            path,
            group_may_read,
            turn: Mutex::default(),
        }
    }

    /// Reads the file, which must have all that `hasher` uses.
    ///
    /// # Errors
    /// [`ChangeError::Wrong`], [`ChangeError::Lacks`].
    pub fn check(&self, hasher: &PinHasher) -> Result<Peppers, ChangeError> {
        self.read(&hasher.peppers())
    }

    /// Gives `hasher` what stands in the file now.
    ///
    /// # Errors
    /// As [`PepperFile::check`]; the hasher goes on as before.
    pub fn reread(&self, hasher: &PinHasher) -> Result<(), ChangeError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        hasher.set_peppers(self.check(hasher)?);
        Ok(())
    }

    /// Puts a new pepper above the others, on disk, and only then gives it to `hasher`, which makes
    /// every new hash with it.
    ///
    /// # Errors
    /// [`ChangeError`]; the hasher goes on as before.
    pub fn rotate(
        &self,
        hasher: &PinHasher,
        surroundings: &dyn Surroundings,
    ) -> Result<(), ChangeError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        hasher.set_peppers(self.put_first(&hasher.peppers(), surroundings)?);
        Ok(())
    }

    /// Takes a pepper that nothing needs from the file, and from `hasher`.
    ///
    /// # Errors
    /// [`ChangeError`]; the hasher goes on as before.
    pub fn retire(&self, hasher: &PinHasher, retired: &PepperId) -> Result<(), ChangeError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(hasher)?;
        hasher.set_peppers(self.remove(retired)?);
        Ok(())
    }

    fn read(&self, in_use: &Peppers) -> Result<Peppers, ChangeError> {
        let peppers = Peppers::load(&self.path, self.group_may_read)?;
        match peppers.lacks(in_use) {
            None => Ok(peppers),
            Some(id) => Err(ChangeError::Lacks {
                path: self.path.clone(),
                id: id.clone(),
            }),
        }
    }

    /// When this returns the file is on disk.
    fn put_first(
        &self,
        in_use: &Peppers,
        surroundings: &dyn Surroundings,
    ) -> Result<Peppers, ChangeError> {
        if self.read(in_use)?.ids().count() >= limits::PEPPERS_MAX {
            return Err(ChangeError::Full {
                path: self.path.clone(),
                most: limits::PEPPERS_MAX,
            });
        }
        let new = Peppers::generate(surroundings);
        let old = self.text()?;
        self.replace(&[new.lines().as_str(), &old])?;
        self.read(in_use)
    }

    /// Takes a pepper's line out; the others, and comments, stay.
    fn remove(&self, retired: &PepperId) -> Result<Peppers, ChangeError> {
        let old = self.text()?;
        let is_retired = |line: &&str| {
            holds_a_pepper(line) && line.split_whitespace().next() == Some(retired.as_str())
        };
        if old.lines().any(|line| is_retired(&line)) {
            let rest = old.split_inclusive('\n').filter(|line| !is_retired(line));
            self.replace(&rest.collect::<Vec<_>>())?;
        }
        Ok(Peppers::load(&self.path, self.group_may_read)?)
    }

    fn text(&self) -> Result<Zeroizing<String>, PepperError> {
        let unreadable = |source| PepperError::Unreadable {
            path: self.path.clone(),
            source,
        };
        let mut text = Zeroizing::new(String::new());
        let mut file = durable::open(&self.path).map_err(unreadable)?;
        file.read_to_string(&mut text).map_err(unreadable)?;
        Ok(text)
    }

    fn replace(&self, parts: &[&str]) -> Result<(), ChangeError> {
        let failed = |source: io::Error| match source.kind() {
            // The last is a file that is a mount of its own, as containers get their secrets.
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::ResourceBusy => ChangeError::ReadOnly {
                path: self.path.clone(),
                source,
            },
            _ => ChangeError::Failed {
                path: self.path.clone(),
                source,
            },
        };
        let text = Zeroizing::new(parts.concat());
        durable::replace(&self.path, text.as_bytes(), 0o600).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::System;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    struct Desk {
        folder: tempfile::TempDir,
        file: PepperFile,
        first: Peppers,
    }

    fn desk() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pepper");
        let first = Peppers::create(&path, &System::default()).unwrap();
        let file = PepperFile::new(path, false);
        Desk {
            folder,
            file,
            first,
        }
    }

    fn ids(peppers: &Peppers) -> Vec<String> {
        peppers.ids().map(ToString::to_string).collect()
    }

    #[test]
    fn a_rotated_file_begins_with_a_new_pepper_and_keeps_every_old_line() {
        let Desk {
            folder,
            file,
            first,
        } = desk();
        let path = folder.path().join("pepper");
        let before = format!("# since spring\n{}", fs::read_to_string(&path).unwrap());
        fs::write(&path, &before).unwrap();
        fs::write(folder.path().join(".pepper.draft"), "left by a crash").unwrap();
        let second = file.put_first(&first, &System::default()).unwrap();
        let after = fs::read_to_string(&path).unwrap();
        assert!(
            after.ends_with(&before) && after.lines().count() == 3,
            "{after}"
        );
        assert_eq!(second.lacks(&first), None);
        assert_eq!(ids(&second)[1..], ids(&first));
        assert_ne!(second.current(), first.current());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert!(!folder.path().join(".pepper.draft").exists());
        let third = file.put_first(&second, &System::default()).unwrap();
        assert_eq!(ids(&third)[1..], ids(&second));
    }

    #[test]
    fn a_removed_pepper_takes_nothing_else_with_it() {
        let Desk {
            folder,
            file,
            first,
        } = desk();
        let second = file.put_first(&first, &System::default()).unwrap();
        let path = folder.path().join("pepper");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(
            &path,
            format!("# old: {}\n{text}", first.current().unwrap()),
        )
        .unwrap();
        let left = file.remove(first.current().unwrap()).unwrap();
        assert_eq!(ids(&left), ids(&second)[..1]);
        assert!(fs::read_to_string(&path).unwrap().starts_with("# old: "));
        let again = file.remove(first.current().unwrap()).unwrap();
        assert_eq!(ids(&again), ids(&left));
    }

    #[test]
    fn a_file_that_lacks_a_pepper_in_use_or_has_another_secret_is_not_rotated() {
        let Desk {
            folder,
            file,
            first,
        } = desk();
        let path = folder.path().join("pepper");
        let other = format!("{} {}\n", first.current().unwrap(), "0a".repeat(32));
        for text in [other, format!("p-1 {}\n", "0a".repeat(32))] {
            fs::write(&path, &text).unwrap();
            let refused = file.put_first(&first, &System::default());
            assert!(matches!(refused, Err(ChangeError::Lacks { .. })));
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_full_file_is_not_rotated() {
        let Desk {
            folder,
            file,
            first,
        } = desk();
        let line = |index| format!("p-{index} {}\n", "0a".repeat(32));
        let many: String = (1..limits::PEPPERS_MAX).map(line).collect();
        let text = format!("{}{many}", first.lines().as_str());
        fs::write(folder.path().join("pepper"), text).unwrap();
        let refused = file.put_first(&first, &System::default());
        assert!(matches!(refused, Err(ChangeError::Full { .. })));
    }

    #[test]
    fn a_file_behind_a_link_is_replaced_where_it_really_is() {
        let Desk { folder, first, .. } = desk();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("pepper"), &link).unwrap();
        let file = PepperFile::new(link.clone(), false);
        let second = file.put_first(&first, &System::default()).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let real = Peppers::load(&folder.path().join("pepper"), false).unwrap();
        assert_eq!(ids(&real), ids(&second));
    }

    #[test]
    fn what_cannot_be_written_says_how_to_do_it_by_hand() {
        let Desk { file, .. } = desk();
        let path = file.path.clone();
        let source = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        let words = ChangeError::ReadOnly { path, source }.to_string();
        assert!(words.contains("put a new first line"), "{words}");
    }
}
