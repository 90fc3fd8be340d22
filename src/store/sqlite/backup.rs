//! A copy of the store, made while it is served.

use std::path::Path;

use rusqlite::Connection;

use super::{open, schema};
use crate::store::{Done, StoreError};

/// Copies one snapshot of the store to a new file of mode 0600.
pub(super) fn copy(connection: &Connection, to: &Path) -> Result<Done, StoreError> {
    let unavailable = |error: std::io::Error| StoreError::Unavailable(error.to_string());
    if to.exists() {
        return Ok(Done::Refused(format!(
            "{} exists; backups never overwrite",
            to.display()
        )));
    }
    let differences = schema::differences(connection, open::MIGRATIONS.len())?;
    if !differences.is_empty() {
        let words = differences.join("; ");
        return Ok(Done::Refused(format!(
            "the store is not laid out as this program makes it: {words}"
        )));
    }
    if let Err(error) = open::make_file(to) {
        return Ok(Done::Refused(error.to_string()));
    }
    let name = to
        .to_str()
        .ok_or_else(|| StoreError::Unavailable("the file's name is not UTF-8".to_owned()))?;
    if let Err(error) = connection.execute("VACUUM INTO ?1", [name]) {
        let _ = std::fs::remove_file(to);
        return Err(error.into());
    }
    std::fs::File::open(to)
        .and_then(|file| file.sync_all())
        .map_err(unavailable)?;
    Ok(Done::Yes)
}
