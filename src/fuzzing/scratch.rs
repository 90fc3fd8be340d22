//! Folders for the time of a run.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder of its own, gone when this is dropped. In memory where the system has a folder for
/// that and nobody has named another one (`TMPDIR`).
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// An empty folder; `name` tells it from others of this process.
    pub(super) fn new(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let base = match std::env::var_os("TMPDIR") {
            None if memory.is_dir() => memory.to_owned(),
            _ => std::env::temp_dir(),
        };
        let path = base.join(format!("atm-bank-{}-{name}", std::process::id()));
        // An earlier process of that number may have been killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a folder for the run");
        Self(path)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is found by the next process of that number.
        let _ = fs::remove_dir_all(&self.0);
    }
}
