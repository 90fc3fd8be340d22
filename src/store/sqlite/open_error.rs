//! Why a store cannot be opened, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::causes::Cause;
use super::{journal, look};
use crate::store::StoreError;

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
        "there is a journal {0}-wal but no store {0}: it may hold money that was acknowledged; mend: {mend}",
        mend = Cause::Orphan.row().mend
    )]
    Orphan(PathBuf),
    /// A restore was cut off before it had put the new store in its place.
    #[error(
        "a restore of the store {0} was cut off: what stood there is beside it, as {0}.before-restore-TIME; mend: {mend}",
        mend = Cause::Unfinished.row().mend
    )]
    Unfinished(PathBuf),
    /// Root was to follow a link that another user made.
    #[error(
        "{0} is a link that is not root's, and root does not follow it; mend: {mend}",
        mend = Cause::Link.row().mend
    )]
    ForeignLink(PathBuf),
    /// It is some other file.
    #[error("{0} is not a bank's store; mend: {mend}", mend = Cause::NotAStore.row().mend)]
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
        "the store {path} is not laid out as this program makes it: {differences}; mend: {mend}",
        mend = Cause::Layout.row().mend
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
         nothing was changed; mend: keep a copy of the folder, then go on without: bank_server run --accept-loss {name}"
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
         elsewhere, or is damaged; nothing was changed; mend: {mend}",
        mend = Cause::Apart.row().mend
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
    /// SQLite failed; why was not looked at yet.
    #[error("the store {path} cannot be used ({source})")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Its words.
        source: rusqlite::Error,
    },
    /// The system failed; why was not looked at yet.
    #[error("the store {path}: {source}")]
    System {
        /// The file.
        path: PathBuf,
        /// Its words.
        source: io::Error,
    },
    /// It cannot be used, for this cause.
    #[error("the store {path}: {}", cause.tell(detail))]
    Storage {
        /// The file.
        path: PathBuf,
        /// The cause, as it was found.
        cause: Cause,
        /// What was found.
        detail: String,
    },
}

impl OpenError {
    /// That store and journal make no sense together, where the store does alone.
    pub(super) fn apart(path: &Path) -> Self {
        Self::Apart {
            path: path.to_owned(),
            words: "pages of the one do not make sense beside those of the other".to_owned(),
        }
    }

    /// That SQLite failed upon the store at `path`.
    pub(super) fn of_sqlite(path: &Path) -> impl Fn(rusqlite::Error) -> Self + Copy {
        move |source| Self::Sqlite {
            path: path.to_owned(),
            source,
        }
    }

    /// That the system failed upon the store at `path`.
    pub(super) fn of_system(path: &Path) -> impl Fn(io::Error) -> Self + Copy {
        move |source| Self::System {
            path: path.to_owned(),
            source,
        }
    }

    /// That the store's own work upon the store at `path` failed.
    pub(super) fn of_store(path: &Path) -> impl Fn(StoreError) -> Self {
        move |error| match error {
            StoreError::Disk(cause, detail) | StoreError::Damaged(cause, detail) => Self::Storage {
                path: path.to_owned(),
                cause,
                detail,
            },
            error => Self::Storage {
                path: path.to_owned(),
                cause: Cause::Unexpected,
                detail: error.to_string(),
            },
        }
    }

    /// With the cause as a look at the store finds it. No connection to the store may be open in this process: its
    /// locks would go.
    pub(super) fn judged(self) -> Self {
        let guess = self.cause();
        let (path, words) = match self {
            Self::Sqlite { path, source } => (path, source.to_string()),
            Self::System { path, source } => (path, source.to_string()),
            Self::Storage { path, detail, .. } => (path, detail),
            judged => return judged,
        };
        if guess.is_damage() {
            tracing::error!(
                reason = words,
                "a page is not as it should be: all are looked at"
            );
        }
        let (cause, detail) = look::find(&path, None, guess, words);
        match cause {
            Cause::Missing => Self::Missing(path),
            Cause::NotAStore => Self::NotAStore(path),
            // The store is whole by itself, and no backup is needed.
            Cause::Damaged if journal::is_there(&path) && look::is_whole_alone(&path) => {
                Self::apart(&path)
            }
            cause => Self::Storage {
                path,
                cause,
                detail,
            },
        }
    }

    /// The cause, as far as it was looked at.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::InUse(_) => Cause::InUse,
            Self::Missing(_) => Cause::Missing,
            Self::Orphan(_) => Cause::Orphan,
            Self::Unfinished(_) => Cause::Unfinished,
            Self::ForeignLink(_) => Cause::Link,
            Self::NotAStore(_) => Cause::NotAStore,
            Self::Newer { .. } => Cause::Newer,
            Self::Schema { .. } => Cause::Layout,
            Self::Loss { .. } => Cause::Loss,
            Self::Apart { .. } => Cause::Apart,
            Self::NoPepper(_) => Cause::NoPepper,
            Self::OtherCurrency { .. } => Cause::Currency,
            Self::Sqlite { source, .. } => {
                let other = match source.sqlite_error_code() {
                    // There is no such table, or column.
                    Some(ErrorCode::Unknown) => Cause::Layout,
                    _ => Cause::Unexpected,
                };
                Cause::guess(source).unwrap_or(other)
            }
            Self::System { source, .. } => Cause::of_system(source, Cause::Reading),
            Self::Storage { cause, .. } => *cause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_a_store_is_told_in_the_words_of_its_causes_row() {
        let (path, text) = (PathBuf::from, String::from);
        let known = [
            OpenError::InUse(path("a")),
            OpenError::Missing(path("a")),
            OpenError::Orphan(path("a")),
            OpenError::Unfinished(path("a")),
            OpenError::ForeignLink(path("a")),
            OpenError::NotAStore(path("a")),
            OpenError::Newer {
                path: path("a"),
                found: 2,
                known: 1,
            },
            OpenError::Schema {
                path: path("a"),
                differences: text("b"),
            },
            OpenError::Loss {
                path: path("a"),
                entry: 1,
                name: text("NAME"),
            },
            OpenError::Apart {
                path: path("a"),
                words: text("b"),
            },
            OpenError::NoPepper(path("a")),
            OpenError::OtherCurrency {
                path: path("a"),
                found: text("b"),
                asked: text("c"),
            },
        ];
        let of_a_look = super::super::causes::CAUSES.map(|row| OpenError::Storage {
            path: path("a"),
            cause: row.cause,
            detail: text("b"),
        });
        for error in known.iter().chain(&of_a_look) {
            let (row, said) = (error.cause().row(), error.to_string());
            assert!(said.contains(row.told), "{said:?} has not {:?}", row.told);
            let mends = said.contains("; mend: ").then(|| said.contains(row.mend));
            assert_ne!(mends, Some(false), "{said:?} has not {:?}", row.mend);
        }
    }
}
