//! Where the embedded store's files of a run lie: in memory where the system has a folder for it,
//! because every call waits for the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::kitchen::{peppers, wait};
use super::super::scratch::Scratch;
use super::bank::{BEGINNING, currency};
use super::step::Restart;
use crate::store::sqlite::{SqliteStore, set_stand_in_key};
use crate::store::{Act, Context, Done, Office, Store as _};

/// The files of one run.
pub(super) struct Shelf {
    folder: Scratch,
    /// Openings so far; each has a folder of its own.
    openings: u64,
}

impl Shelf {
    pub(super) fn new() -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        Self {
            folder: Scratch::new(&format!("ledger-{run}")),
            openings: 0,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(format!("{}.db", self.openings))
    }

    /// A new store. Its file is a copy, because making the tables takes longer than a run.
    pub(super) fn fresh(&self) -> SqliteStore {
        static EMPTY: OnceLock<Vec<u8>> = OnceLock::new();
        let empty = EMPTY.get_or_init(|| {
            let folder = Scratch::new("ledger-empty");
            let path = folder.path().join("bank.db");
            drop(open(&path));
            share_stand_ins(&path);
            fs::read(&path).expect("an empty store")
        });
        fs::write(self.path(), empty).expect("room for a store");
        open(&self.path())
    }

    /// The store after a restart.
    pub(super) fn again(
        &mut self,
        store: SqliteStore,
        restart: Restart,
        context: Context,
    ) -> SqliteStore {
        let from = self.path();
        match restart {
            Restart::InOrder => drop(store),
            Restart::Crash => {
                // What lies on the disk while the store is open is what a crash leaves.
                self.openings += 1;
                let to = self.path();
                fs::copy(&from, &to).expect("a copy of the store");
                let journal = |path: &Path| path.with_extension("db-wal");
                fs::copy(journal(&from), journal(&to)).expect("a copy of its journal");
                drop(store);
            }
            Restart::Backup => {
                self.openings += 1;
                let (office, act) = (Office::of("the fuzzer"), Act::Backup(self.path()));
                let done = wait(store.office(&office, act, context));
                assert!(matches!(done, Ok(Done::Yes)), "no backup: {done:?}");
                drop(store);
            }
        }
        open(&self.path())
    }
}

/// The key that the model draws with, so that both show unknown numbers alike.
fn share_stand_ins(path: &Path) {
    set_stand_in_key(path, &"0".repeat(64)).expect("the key");
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, currency(), BEGINNING, peppers().into()).expect("a store that opens")
}
