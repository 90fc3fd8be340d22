//! What can be wrong with storage, in one table: the cause, what staff are told, whether it is tried
//! again, what mends it, and the code that a start ends with. `docs/OPERATIONS.md` shows the same.
//!
//! SQLite's own words are not believed: a page that the disk does not give it is "malformed" to it, and a
//! file of another user "unable to open". Here is what its codes may mean; `look` finds out what they do.

use std::io;

use rusqlite::{ErrorCode, ffi};
use rustix::io::Errno;

/// Why storage failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is in words in its row")]
pub enum Cause {
    Full,
    Limit,
    Reading,
    Writing,
    Syncing,
    ReadOnly,
    NotPermitted,
    Files,
    Memory,
    Locked,
    InUse,
    Passing,
    Damaged,
    Loss,
    Apart,
    Layout,
    NotAStore,
    Newer,
    Currency,
    NoPepper,
    Missing,
    JournalGone,
    Orphan,
    Unfinished,
    Link,
    Unexpected,
}

/// What holds of a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The cause.
    pub cause: Cause,
    /// It, in words.
    pub what: &'static str,
    /// What staff are told, in the message that it ends with.
    pub told: &'static str,
    /// What a running server does: goes on with 51 and tries with each call, or (`false`) ends with 70. `None`:
    /// is found at a start only.
    pub retried: Option<bool>,
    /// What mends it.
    pub mend: &'static str,
    /// What a start ends with: a code of sysexits.
    pub exit: u8,
}

const fn row(
    cause: Cause,
    (what, told): (&'static str, &'static str),
    retried: Option<bool>,
    mend: &'static str,
    exit: u8,
) -> Row {
    Row {
        cause,
        what,
        told,
        retried,
        mend,
        exit,
    }
}

const LOOK_AT_DISK: &str =
    "look at the disk (dmesg, smartctl); nothing shows that the store is damaged";

/// A row for each cause.
pub const CAUSES: [Row; 26] = [
    row(
        Cause::Full,
        ("ENOSPC", "the disk is full"),
        Some(true),
        "make room; it goes on by itself",
        74,
    ),
    row(
        Cause::Limit,
        (
            "EFBIG, or the limit on the size of files",
            "a limit on the size of files or on room is reached",
        ),
        Some(true),
        "raise it (LimitFSIZE, ulimit -f, quota)",
        74,
    ),
    row(
        Cause::Reading,
        ("EIO at a read", "the disk cannot be read"),
        Some(true),
        LOOK_AT_DISK,
        74,
    ),
    row(
        Cause::Writing,
        ("EIO, EDQUOT at a write", "the disk refuses what is written"),
        Some(true),
        "look at the disk (dmesg, smartctl), and at quotas; nothing shows that the store is damaged",
        74,
    ),
    row(
        Cause::Syncing,
        ("EIO at an fsync", "the disk does not keep what is written"),
        Some(true),
        LOOK_AT_DISK,
        74,
    ),
    row(
        Cause::ReadOnly,
        ("EROFS", "the disk is read-only"),
        Some(true),
        "mount it to be written; where the system took that away, look at the disk first (dmesg)",
        74,
    ),
    row(
        Cause::NotPermitted,
        (
            "EACCES: a file is another user's, such as root's",
            "this process may not use a file of the store",
        ),
        Some(true),
        "give the file to the bank's user (chown), and run commands as that user",
        74,
    ),
    row(
        Cause::Files,
        ("EMFILE, ENFILE", "too many files are open"),
        Some(true),
        "raise LimitNOFILE, or end what opens so many",
        71,
    ),
    row(
        Cause::Memory,
        ("ENOMEM, EAGAIN", "memory or threads are used up"),
        Some(true),
        "end what uses them, or raise the limit (TasksMax, memory)",
        71,
    ),
    row(
        Cause::Locked,
        (
            "another program's transaction",
            "another program has the store locked",
        ),
        Some(true),
        "end that one (fuser names it)",
        75,
    ),
    row(
        Cause::InUse,
        (
            "a server, or a command, has the store",
            "is in use by another server",
        ),
        None,
        "stop that one first",
        75,
    ),
    row(
        Cause::Passing,
        (
            "read wrong once, or looked at still",
            "something was not read right, and no look has found it damaged",
        ),
        Some(true),
        "try again; where it comes back, look at disk and memory",
        74,
    ),
    row(
        Cause::Damaged,
        (
            "pages that are read well and make no sense",
            "the store is damaged: two looks at the whole file found it so",
        ),
        Some(false),
        "keep a copy of the folder, then restore the last backup that verifies",
        65,
    ),
    row(
        Cause::Loss,
        ("the journal is damaged", "may be lost"),
        None,
        "keep a copy of the folder, then go on without: bank_server run --accept-loss NAME",
        65,
    ),
    row(
        Cause::Apart,
        (
            "store and journal are of two banks, or moments",
            "do not fit together",
        ),
        None,
        "put the file back that belongs there",
        65,
    ),
    row(
        Cause::Layout,
        (
            "tables, indexes or triggers are not ours",
            "is not laid out as this program makes it",
        ),
        None,
        "find out who changed it; have what was planted removed, and what is missing made again",
        65,
    ),
    row(
        Cause::NotAStore,
        (
            "another file, or one that was written over",
            "is not a bank's store",
        ),
        Some(false),
        "name the bank's store in [store] url; where this was it, keep a copy, and find out what wrote over it",
        78,
    ),
    row(
        Cause::Newer,
        ("a newer version's schema", "use a newer version"),
        None,
        "use a newer version",
        78,
    ),
    row(
        Cause::Currency,
        ("another currency's bank", "and the configuration says"),
        None,
        "name the right store, or the right currency",
        78,
    ),
    row(
        Cause::NoPepper,
        ("an older store, and no pepper", "takes the pepper"),
        None,
        "put the pepper file back",
        78,
    ),
    row(
        Cause::Missing,
        ("the file is gone", "there is no store"),
        Some(true),
        "put it back, or name it in [store] url",
        66,
    ),
    row(
        Cause::JournalGone,
        (
            "the journal was moved or removed while it is served",
            "the journal is gone from its place",
        ),
        Some(true),
        "put the same file back while the server runs; where it was removed, restart the server, but only once it says \
         that the store holds all: what the journal alone holds ends with the process",
        66,
    ),
    row(
        Cause::Orphan,
        (
            "the file is gone, and its journal is there",
            "it may hold money that was acknowledged",
        ),
        None,
        "put the store back beside it",
        65,
    ),
    row(
        Cause::Unfinished,
        ("a restore was cut off", "was cut off"),
        None,
        "restore again",
        65,
    ),
    row(
        Cause::Link,
        (
            "root was given another user's link",
            "root does not follow it",
        ),
        None,
        "give the store's own path",
        65,
    ),
    row(
        Cause::Unexpected,
        ("none of these", "the store cannot be used"),
        Some(true),
        "report it",
        74,
    ),
];

impl Cause {
    /// Its row.
    #[must_use]
    pub fn row(self) -> Row {
        let found = CAUSES.into_iter().find(|row| row.cause == self);
        // Each has one, as a test sees to.
        found.unwrap_or(CAUSES[CAUSES.len() - 1])
    }

    /// Whether it may be that what was written is not kept.
    pub(super) fn is_of_disk(self) -> bool {
        !matches!(self, Self::Locked | Self::Passing | Self::Unexpected)
    }

    /// Whether a file of the store that is served is not at its place.
    pub(super) fn is_gone(self) -> bool {
        matches!(self, Self::Missing | Self::JournalGone)
    }

    /// Whether the store itself is to blame, and nothing that passes.
    pub(super) fn is_damage(self) -> bool {
        matches!(self, Self::Damaged | Self::NotAStore)
    }

    /// The words for staff; `detail` is what was found.
    #[must_use]
    pub fn tell(self, detail: &str) -> String {
        let Row { told, mend, .. } = self.row();
        format!("{told} ({detail}); mend: {mend}")
    }

    /// What SQLite's code may mean. `None` where it is no word on storage.
    pub(super) fn guess(error: &rusqlite::Error) -> Option<Self> {
        let error = error.sqlite_error()?;
        Some(match (error.code, error.extended_code) {
            (_, ffi::SQLITE_READONLY_DBMOVED) => Self::Missing,
            (_, ffi::SQLITE_IOERR_NOMEM | ffi::SQLITE_IOERR_SHMMAP)
            | (ErrorCode::OutOfMemory, _) => Self::Memory,
            (
                _,
                ffi::SQLITE_IOERR_READ
                | ffi::SQLITE_IOERR_SHORT_READ
                | ffi::SQLITE_IOERR_FSTAT
                | ffi::SQLITE_IOERR_CORRUPTFS
                | ffi::SQLITE_IOERR_DATA,
            ) => Self::Reading,
            (_, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) => Self::Syncing,
            (ErrorCode::DiskFull, _) => Self::Full,
            (ErrorCode::SystemIoFailure, _) => Self::Writing,
            (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => Self::Locked,
            (ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied, _) => {
                Self::NotPermitted
            }
            (ErrorCode::DatabaseCorrupt, _) => Self::Damaged,
            (ErrorCode::NotADatabase, _) => Self::NotAStore,
            _ => return None,
        })
    }

    /// What the system's error means; `other` where it says no more than that it failed.
    pub(super) fn of_system(error: &io::Error, other: Self) -> Self {
        if error.kind() == io::ErrorKind::NotFound {
            return Self::Missing;
        }
        match Errno::from_io_error(error) {
            Some(Errno::NOSPC) => Self::Full,
            Some(Errno::FBIG | Errno::DQUOT) => Self::Limit,
            Some(Errno::ROFS) => Self::ReadOnly,
            Some(Errno::ACCESS | Errno::PERM) => Self::NotPermitted,
            Some(Errno::MFILE | Errno::NFILE) => Self::Files,
            Some(Errno::NOMEM | Errno::AGAIN) => Self::Memory,
            // The disk is well: what stands there is no file. A disk that was pulled out is ENXIO.
            Some(Errno::ISDIR | Errno::NOTDIR | Errno::LOOP) => Self::Unexpected,
            Some(_) => other,
            None => Self::Unexpected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as the manual shows it.
    fn shown() -> String {
        let row = |row: &Row| {
            let serving = match row.retried {
                None => "-",
                Some(true) => "51, tried again with each call",
                Some(false) => "ends with 70",
            };
            let Row {
                what,
                told,
                mend,
                exit,
                ..
            } = row;
            format!("| {what} | `{told}` | {serving} | {exit} | {mend} |\n")
        };
        CAUSES.iter().map(row).collect()
    }

    #[test]
    fn each_cause_has_one_row_and_the_manual_shows_the_same_table() {
        for (index, row) in CAUSES.iter().enumerate() {
            assert_eq!(row.cause as usize, index, "{row:?}");
            assert_eq!(row.cause.row(), *row);
        }
        let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OPERATIONS.md");
        let manual = std::fs::read_to_string(manual).unwrap();
        assert!(
            manual.contains(&shown()),
            "the manual does not show:\n{}",
            shown()
        );
    }

    #[test]
    fn a_disk_that_was_pulled_out_is_not_called_well() {
        let pulled = io::Error::from(Errno::NXIO);
        assert_eq!(Cause::of_system(&pulled, Cause::Reading), Cause::Reading);
    }

    #[test]
    fn only_for_damage_that_was_looked_at_is_a_backup_named() {
        for row in CAUSES {
            let names = row.mend.contains("backup");
            assert_eq!(names, row.cause == Cause::Damaged, "{row:?}");
        }
    }
}
