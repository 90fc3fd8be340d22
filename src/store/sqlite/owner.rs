//! Whose a store's files are. What root makes beside a store is its owner's, or else the server,
//! which is not root, could not open it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;

/// Gives a file that was made just now to the owner of the store at `store` or, where none is
/// there, of its folder. Only root gives files away; for others nothing happens.
///
/// # Errors
/// The system's.
pub(crate) fn give_to_owner(made: &File, store: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = match fs::metadata(store) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = store
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            fs::metadata(folder.unwrap_or(Path::new(".")))?
        }
        found => found?,
    };
    let own = made.metadata()?;
    if (owner.uid(), owner.gid()) != (own.uid(), own.gid()) {
        fchown(made, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}
