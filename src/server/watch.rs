//! Whether certificates have changed on disk. Files are looked at now and then, which is simpler
//! than to be told by the system and works on every kind of file system and link.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::TlsConfig;
use crate::limits;

/// What a file looked like at one moment, its content left aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    path: PathBuf,
    /// `None` where it could not be looked at.
    found: Option<Found>,
}

/// Written anew, replaced, touched or given another mode: one of these differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    file: (u64, u64),
    size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Self {
        let found = fs::metadata(path).ok().map(|metadata| Found {
            file: (metadata.dev(), metadata.ino()),
            size_bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        });
        Self {
            path: path.to_owned(),
            found,
        }
    }
}

/// What the files of certificates, keys and revocations look like now; links are followed.
#[must_use]
pub fn stamps(config: &TlsConfig) -> Vec<Stamp> {
    [&config.cert, &config.key, &config.ca, &config.crl]
        .map(|path| Stamp::of(path))
        .to_vec()
}

/// Remembers what is in force, and what was seen last.
///
/// A change is loaded once two looks in a row see the same: it may have been half written. Where
/// it is bad it is tried a few times more before that is said, because a certificate and its key
/// are two files and come one after the other.
#[derive(Debug)]
pub struct Watch {
    in_force: Vec<Stamp>,
    seen: Vec<Stamp>,
    tries: u32,
    said: Option<String>,
}

impl Watch {
    /// These are in force.
    #[must_use]
    pub fn new(in_force: Vec<Stamp>) -> Self {
        Self {
            seen: in_force.clone(),
            in_force,
            tries: 0,
            said: None,
        }
    }

    /// Whether what is there now is to be loaded.
    pub fn look(&mut self, now: Vec<Stamp>) -> bool {
        if now != self.seen {
            self.seen = now;
            self.tries = 0;
            self.said = None;
            return false;
        }
        if self.seen == self.in_force {
            return false;
        }
        self.tries = self.tries.saturating_add(1);
        self.tries <= limits::TLS_WATCH_TRIES
            || self.tries.is_multiple_of(limits::TLS_WATCH_RETRY_LOOKS)
    }

    /// What was there at the last look is in force.
    pub fn took(&mut self) {
        *self = Self::new(std::mem::take(&mut self.seen));
    }

    /// What was there at the last look is bad; whether that is to be said: once for each change and
    /// reason.
    pub fn refused(&mut self, reason: &str) -> bool {
        if self.tries < limits::TLS_WATCH_TRIES || self.said.as_deref() == Some(reason) {
            return false;
        }
        self.said = Some(reason.to_owned());
        true
    }

    /// These were loaded at somebody's word, who was told of the reason where they are bad.
    pub fn loaded_by_hand(&mut self, stamps: Vec<Stamp>, refused: Option<String>) {
        self.seen = stamps;
        match refused {
            None => self.took(),
            said => {
                self.tries = limits::TLS_WATCH_TRIES;
                self.said = said;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(content: u64) -> Vec<Stamp> {
        vec![Stamp {
            path: PathBuf::from("server.pem"),
            found: Some(Found {
                file: (1, content),
                size_bytes: 700,
                modified: (0, 0),
                changed: (0, 0),
            }),
        }]
    }

    #[test]
    fn what_never_changes_is_never_loaded() {
        let mut watch = Watch::new(stamp(1));
        assert!((0..1_000).all(|_| !watch.look(stamp(1))));
    }

    #[test]
    fn a_change_is_loaded_at_the_second_look_that_sees_it_and_not_while_it_goes_on() {
        let mut watch = Watch::new(stamp(0));
        assert!((1..50).all(|content| !watch.look(stamp(content))));
        assert!(watch.look(stamp(49)));
        watch.took();
        assert!((0..1_000).all(|_| !watch.look(stamp(49))));
    }

    #[test]
    fn a_file_that_is_gone_is_a_change_too() {
        let gone = || {
            vec![Stamp {
                found: None,
                ..stamp(1).remove(0)
            }]
        };
        let mut watch = Watch::new(stamp(1));
        assert!(!watch.look(gone()) && watch.look(gone()));
    }

    #[test]
    fn a_bad_change_is_said_once_and_only_when_it_stays() {
        let mut watch = Watch::new(stamp(1));
        assert!(!watch.look(stamp(2)));
        let mut said = Vec::new();
        for look in 1..=300_u32 {
            if watch.look(stamp(2)) && watch.refused("bad") {
                said.push(look);
            }
        }
        assert_eq!(said, [limits::TLS_WATCH_TRIES]);
        // Another change is said anew, and a good one taken at once.
        assert!(!watch.look(stamp(3)));
        for _ in 1..limits::TLS_WATCH_TRIES {
            assert!(watch.look(stamp(3)) && !watch.refused("bad"));
        }
        assert!(watch.look(stamp(3)) && watch.refused("bad"));
        assert!(!watch.look(stamp(4)) && watch.look(stamp(4)));
        watch.took();
        assert!(!watch.look(stamp(4)));
    }

    #[test]
    fn a_bad_change_is_tried_again_from_time_to_time() {
        let mut watch = Watch::new(stamp(1));
        let looks = 1 + 10 * limits::TLS_WATCH_RETRY_LOOKS;
        let tried = (0..looks).filter(|_| watch.look(stamp(2))).count();
        assert_eq!(u32::try_from(tried).unwrap(), limits::TLS_WATCH_TRIES + 10);
    }

    #[test]
    fn what_was_loaded_or_refused_by_hand_is_not_looked_into_again() {
        let mut watch = Watch::new(stamp(1));
        watch.loaded_by_hand(stamp(2), None);
        assert!((0..100).all(|_| !watch.look(stamp(2))));
        watch.loaded_by_hand(stamp(3), Some("bad".to_owned()));
        assert!((0..300).all(|_| !(watch.look(stamp(3)) && watch.refused("bad"))));
    }
}
