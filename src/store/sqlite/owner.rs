//! Whose a store's files are. What root makes beside a store is its owner's, or else the server,
//! which is not root, could not open it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::durable;

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
            fs::metadata(durable::folder_of(store))?
        }
        found => found?,
    };
    durable::give(made, &owner)
}
