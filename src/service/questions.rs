//! What a start needs of the machine: `check` asks it, and the start before it makes anything.

use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::path::Path;

use rustix::fs::{Access, access};

use super::confinement::standing_folder;
use super::open::sqlite_path;
use super::run::bound;
use super::stop::{Stop, exit};
use crate::config::Config;
use crate::durable;
use crate::store::sqlite::SqliteStore;

/// Folders that must be writable, and the operator's socket: each fault that is found.
pub(super) fn places(config: &Config) -> Vec<Stop> {
    let mut faults = Vec::new();
    let socket = &config.server.operator_socket;
    if let Err(error) = UnixAddress::from_pathname(socket) {
        let reason = format!(
            "the operator's socket {}: {error} (107 octets at most); mend: name a shorter path in [server] \
             operator_socket",
            socket.display()
        );
        faults.push(Stop::new(exit::CANNOT_CREATE, reason));
    }
    if socket
        .symlink_metadata()
        .is_ok_and(|found| !found.file_type().is_socket())
    {
        let reason = format!(
            "the operator's socket {}: something that is no socket is there; mend: name another path in [server] \
             operator_socket",
            socket.display()
        );
        faults.push(Stop::new(exit::CANNOT_CREATE, reason));
    }
    faults.extend(folder_of(socket, exit::CANNOT_CREATE));
    match sqlite_path(config) {
        Err(stop) => faults.push(stop),
        Ok(store) if store.exists() => {
            faults.extend(SqliteStore::may_use(&store).err().map(Stop::from));
        }
        Ok(store) => faults.extend(folder_of(&store, exit::IO)),
    }
    if durable::is_absent(&config.pin.pepper_file) {
        faults.extend(folder_of(&config.pin.pepper_file, exit::CONFIG));
    }
    faults
}

/// Whether a server of this configuration runs: what it has is not free, and need not be.
pub(super) fn is_running(config: &Config) -> bool {
    UnixStream::connect(&config.server.operator_socket).is_ok()
}

/// Where the server is to listen: each place that cannot be had. All are held at the same time, so
/// that one that is in another's way is found too.
pub(super) fn ports(config: &Config) -> Vec<Stop> {
    let wanted = [Some(config.server.listen), config.metrics.listen];
    let bound: Vec<_> = wanted.into_iter().flatten().map(bound).collect();
    bound.into_iter().filter_map(Result::err).collect()
}

/// That the folder of a file, or the nearest that stands above it, cannot be written.
fn folder_of(file: &Path, code: u8) -> Option<Stop> {
    refused(
        &standing_folder(file),
        Access::WRITE_OK | Access::EXEC_OK,
        code,
    )
}

fn refused(path: &Path, wanted: Access, code: u8) -> Option<Stop> {
    let error = access(path, wanted).err()?;
    let reason = format!(
        "{} cannot be written ({error}); mend: see to its owner and mode, and that it is on no read-only file system",
        path.display()
    );
    Some(Stop::new(code, reason))
}
