//! `backup`: whoever has the store open copies it inside the store's own folder, and whoever asked
//! brings the copy to where it is wanted, with their own rights. So a server needs to write nowhere
//! else, and cannot be made to.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::open::sqlite_path;
use super::perform;
use super::stop::{Stop, exit};
use crate::config::Config;
use crate::operator::{Command, Report};
use crate::surroundings::{Surroundings as _, System};

const STAGED_BEFORE: &str = "backup-";
const STAGED_AFTER: &str = ".part";

/// A copy of the store on its way; removed where it does not arrive.
struct Staged(PathBuf);

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Copies the bank's store, served or not, to the new file `to`, mode 0600. Never overwrites.
///
/// # Errors
/// [`Stop`] where neither a server nor the store answers, or `to` cannot be made.
pub async fn backup(config: &Config, to: &Path) -> Result<Report, Stop> {
    let exists = || Report {
        exit_code: exit::DATA,
        data: json!({ "error": format!("{} exists; backups never overwrite", to.display()) }),
        text: format!("{} exists; backups never overwrite", to.display()),
    };
    if fs::symlink_metadata(to).is_ok() {
        return Ok(exists());
    }
    let id: String = System::default().random()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = format!("{STAGED_BEFORE}{id}{STAGED_AFTER}");
    let file = sqlite_path(config)?.with_file_name(name);
    let (file, wanted) = (absolute(&file)?, absolute(to)?);
    let staged = Staged(file.clone());
    let report = perform(config, Command::Backup { file, wanted }).await?;
    if report.exit_code != 0 {
        return Ok(report);
    }
    match bring(&staged.0, to) {
        Ok(()) => Ok(report),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(exists()),
        Err(error) => Err(Stop::new(
            exit::CANNOT_CREATE,
            format!("cannot make the backup {}: {error}", to.display()),
        )),
    }
}

/// A server may have another working folder.
fn absolute(path: &Path) -> Result<PathBuf, Stop> {
    std::path::absolute(path)
        .map_err(|error| Stop::new(exit::IO, format!("{}: {error}", path.display())))
}

/// Removes copies whose askers went away: only the process that has the store calls it.
pub(super) fn remove_stale(store: &Path) {
    let folder = store
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let Ok(files) = fs::read_dir(folder.unwrap_or(Path::new("."))) else {
        return;
    };
    for file in files.flatten() {
        let name = file.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(STAGED_BEFORE) && name.ends_with(STAGED_AFTER) {
            let _ = fs::remove_file(file.path());
        }
    }
}

/// By a link where both are on one file system, else byte by byte; durable when it returns.
fn bring(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => copy(from, to)?,
        linked => linked?,
    }
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    let copied = io::copy(&mut source, &mut target).and_then(|_| target.sync_all());
    if copied.is_err() {
        let _ = fs::remove_file(to);
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_copy_is_private_and_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, b"books").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"books");
        assert_eq!(
            fs::metadata(&to).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::write(&to, b"others").unwrap();
        for again in [copy(&from, &to), bring(&from, &to)] {
            assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read(&to).unwrap(), b"others");
    }

    #[test]
    fn only_copies_left_on_their_way_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["bank.db", "backup-0a1b.part", "backup-monday.db"] {
            fs::write(path(name), b"x").unwrap();
        }
        remove_stale(&path("bank.db"));
        assert!(path("bank.db").exists() && path("backup-monday.db").exists());
        assert!(!path("backup-0a1b.part").exists());
    }
}
