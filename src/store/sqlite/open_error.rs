//! Why a store cannot be opened, in words that say what to do.

use std::io;
use std::path::PathBuf;

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the store {0} is in use by another server; stop that one first")]
    InUse(PathBuf),
    /// There is none.
    #[error("there is no store {0}")]
    Missing(PathBuf),
    /// Its journal is there without it.
    #[error(
        "there is a journal {0}-wal but no store {0}: it may hold money that was acknowledged; mend: put the store \
         back beside it, or restore a backup"
    )]
    Orphan(PathBuf),
    /// A restore was cut off before it had put the new store in its place.
    #[error(
        "a restore of the store {0} was cut off: what stood there is beside it, as {0}.before-restore-TIME; mend: \
         restore again"
    )]
    Unfinished(PathBuf),
    /// Root was to follow a link that another user made.
    #[error(
        "{0} is a link that is not root's, and root does not follow it; mend: give the store's own path"
    )]
    ForeignLink(PathBuf),
    /// It is some other file.
    #[error("{0} is not a bank's store")]
    NotAStore(PathBuf),
    /// A newer version of this program wrote it.
    #[error(
        "the store {path} has schema {found}, and this program knows {known} at most: use a newer version"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// The newest known.
        known: usize,
    },
    /// It is not laid out as this program makes it.
    #[error(
        "the store {path} is not laid out as this program makes it: {differences}; mend: restore a backup of before, \
         or have what was planted removed and what is missing made again by whoever knows how it came"
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// Each difference, named.
        differences: String,
    },
    /// Commits that were answered may be gone from its journal.
    #[error(
        "the journal of the store {path} is damaged before its end: what was answered after entry {entry} may be lost; \
         nothing was changed; mend: keep a copy of the folder, then restore a backup with what came after it, or go on \
         without: bank_server run --accept-loss {name}"
    )]
    Loss {
        /// The file.
        path: PathBuf,
        /// The last entry that is whole.
        entry: i64,
        /// The loss's name.
        name: String,
    },
    /// Store and journal are not of one piece.
    #[error(
        "the store {path} and its journal {path}-wal do not fit together ({words}): one of them was put there from \
         elsewhere, or is damaged; nothing was changed; mend: put the file back that the journal belongs to, or restore \
         a backup, which keeps both aside"
    )]
    Apart {
        /// The file.
        path: PathBuf,
        /// What was found.
        words: String,
    },
    /// An older version's rows are to be covered, and there is no pepper.
    #[error("the store {0} is of an older version, and bringing it to this one takes the pepper")]
    NoPepper(PathBuf),
    /// It was made for another currency.
    #[error("the store {path} holds {found}, and the configuration says {asked}")]
    OtherCurrency {
        /// The file.
        path: PathBuf,
        /// Its currency.
        found: String,
        /// The configured one.
        asked: String,
    },
    /// SQLite could not read or write it.
    #[error("the store {path} cannot be opened ({source}); it may be damaged: restore a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The system could not.
    #[error("the store {path}: {source}")]
    System {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
