//! `backup`: whoever has the store open copies it inside the store's own folder, and whoever asked
//! brings the copy to where it is wanted, with their own rights. So a server needs to write nowhere
//! else, and cannot be made to.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rustix::fs::OFlags;
use serde_json::json;

use super::open::sqlite_path;
use super::stop::{Stop, exit};
use super::{ask_server, perform_here};
use crate::config::Config;
use crate::durable;
use crate::operator::{Command, Report, is_staged, staged_name};
use crate::surroundings::{Surroundings as _, System};

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
    let id = HEXLOWER.encode(&System::default().random()[..8]);
    let file = sqlite_path(config)?.with_file_name(staged_name(&id));
    let (file, wanted) = (absolute(&file)?, absolute(to)?);
    let staged = Staged(file.clone());
    let command = Command::Backup { file, wanted };
    // Held until the copy has been brought: then the server removes it, if nobody else did.
    let asked = ask_server(&config.server.operator_socket, &command).await?;
    let report = match &asked {
        Some(answered) => answered.report.clone(),
        None => perform_here(config, command).await?,
    };
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
    let Ok(files) = fs::read_dir(durable::folder_of(store)) else {
        return;
    };
    for file in files.flatten() {
        if is_staged(&file.file_name()) {
            let _ = fs::remove_file(file.path());
        }
    }
}

/// Copies what stands at `from` to the new file `to`, mode 0600, whole and durable. Never by a link: the
/// server's user would own the file, and could change it still. Nor is a link followed that was put
/// there meanwhile: it might lead to what only whoever asks may read.
fn bring(from: &Path, to: &Path) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut source = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(from)?;
    let found = source.metadata()?;
    if !found.is_file() || found.nlink() != 1 {
        let reason = "what the server put there is no file of its own";
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    durable::create_with(to, 0o600, |target| io::copy(&mut source, target).map(drop)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_copy_is_private_and_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, b"books").unwrap();
        let mut kept = OpenOptions::new().append(true).open(&from).unwrap();
        bring(&from, &to).unwrap();
        // Who made it has it open still.
        kept.write_all(b" that were cooked").unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"books");
        assert_eq!(
            fs::metadata(&to).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::write(&to, b"others").unwrap();
        let again = bring(&from, &to).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&to).unwrap(), b"others");
    }

    #[test]
    fn nothing_is_brought_that_was_put_in_the_copys_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("secret"), b"shadow").unwrap();
        std::os::unix::fs::symlink(path("secret"), path("link")).unwrap();
        fs::hard_link(path("secret"), path("second-name")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        for from in ["link", "second-name", "folder"] {
            assert!(bring(&path(from), &path("to")).is_err(), "{from}");
            assert!(!path("to").exists());
        }
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
