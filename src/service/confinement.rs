//! What a server gives up for itself, so that whoever takes it over gets little: new privileges, core
//! dumps, being looked into, writing anywhere but in its own folders, running programs, calling out.
//!
//! All of it comes on top of what a service manager does (`config/bank_server.service`), and none of
//! it is needed to serve: where the system refuses a step, the server says so and goes on.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, path_beneath_rules,
};
use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, StoreUrl};
use crate::durable;

/// The steps that were taken, and those that the system refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    taken: Vec<&'static str>,
    refused: Vec<String>,
}

impl Confinement {
    fn note<E: Display>(&mut self, step: &'static str, result: Result<(), E>) {
        match result {
            Ok(()) => self.taken.push(step),
            Err(error) => self.refused.push(format!("{step}: {error}")),
        }
    }

    /// The steps that the system refused, with its reasons.
    #[must_use]
    pub fn refused(&self) -> &[String] {
        &self.refused
    }

    /// Says what was taken and what was refused, once there is a log.
    pub(super) fn log(&self) {
        tracing::info!(
            taken = self.taken.join(", "),
            not_granted = self.refused.join(", "),
            "confined"
        );
    }
}

/// What every program that holds PINs or keys gives up: core files, being looked into, new privileges.
/// Call it before any other thread runs.
#[must_use]
pub fn close() -> Confinement {
    let mut confinement = Confinement::default();
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    confinement.note("no core file", setrlimit(Resource::Core, none));
    // A handler of core dumps that is a pipe is not stopped by the limit, but by this.
    let hidden = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    confinement.note("memory closed to other processes", hidden);
    let no_privileges = rustix::thread::set_no_new_privs(true);
    confinement.note("no new privileges", no_privileges);
    confinement
}

/// Confines the calling thread and all that it will start: call it before any other thread runs.
/// `config` tells which folders stay writable; without one (it is wrong, and the start will say
/// so) none is restricted.
#[must_use]
pub fn confine(config: Option<&Config>) -> Confinement {
    let mut confinement = close();
    if let Some(config) = config {
        let fenced = fence(&writable_folders(config));
        confinement.note(
            "writes only in its folders, starts nothing, calls nobody",
            fenced,
        );
    }
    confinement
}

/// Keeps what is in memory now, keys and peppers among it, from being swapped out; and what will be,
/// where the system sets no bound on it (`LimitMEMLOCK=infinity`): under a bound, a process that
/// locks all of its future could be refused memory while it serves.
pub(super) fn lock_memory() -> Confinement {
    let mut flags = MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT;
    if getrlimit(Resource::Memlock).current.is_none() {
        flags |= MlockAllFlags::FUTURE;
    }
    let mut confinement = Confinement::default();
    confinement.note("memory is not swapped out", rustix::mm::mlockall(flags));
    confinement
}

/// Why a kernel did not fence the process in.
#[derive(Debug, thiserror::Error)]
enum NotFenced {
    #[error("this kernel has no Landlock")]
    NoLandlock,
    #[error(transparent)]
    Refused(#[from] RulesetError),
}

/// Landlock: from now on files can be made and changed beneath `folders` only, no program started, and
/// no TCP connection made. What is open stays so.
fn fence(folders: &[PathBuf]) -> Result<(), NotFenced> {
    let writing = AccessFs::from_write(ABI::V3);
    let status = Ruleset::default()
        .handle_access(writing | AccessFs::Execute)?
        .handle_access(AccessNet::ConnectTcp)?
        .create()?
        .add_rules(path_beneath_rules(folders, writing))?
        .restrict_self()?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err(NotFenced::NoLandlock),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

/// Where a server writes: the folders of the store, of the operator's socket, of the pepper and of
/// the issuing authority's list; that of certificates only where the quick start may have to make
/// them.
fn writable_folders(config: &Config) -> Vec<PathBuf> {
    let mut files = vec![
        config.server.operator_socket.clone(),
        config.pin.pepper_file.clone(),
    ];
    files.extend(config.tls.issuing.iter().map(|issuing| issuing.crl.clone()));
    if let StoreUrl::Sqlite(store) = &config.store.url {
        files.push(store.clone());
    }
    if durable::is_absent(&config.tls.ca) && durable::is_absent(&config.tls.cert) {
        files.push(config.tls.dir.join("ca.pem"));
    }
    // What a link leads to is changed where it really is, with its other files beside it.
    let real = files.iter().filter_map(|file| file.canonicalize().ok());
    let real: Vec<PathBuf> = real.collect();
    let mut folders: Vec<PathBuf> = files
        .iter()
        .chain(&real)
        .map(|file| standing_folder(file))
        .collect();
    folders.sort();
    folders.dedup();
    folders
}

/// The nearest folder above `file` that is there already: the others are made in it.
pub(super) fn standing_folder(file: &Path) -> PathBuf {
    let above = file.ancestors().skip(1);
    let mut standing = above.filter(|folder| folder.is_dir());
    // A relative path ends in an empty one: the working folder.
    standing
        .next()
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_is_made_in_the_nearest_that_is() {
        let site = tempfile::tempdir().unwrap();
        let deep = site.path().join("not/yet/bank.db");
        assert_eq!(standing_folder(&deep), site.path());
        assert_eq!(standing_folder(Path::new("bank.db")), Path::new("."));
        assert_eq!(
            standing_folder(Path::new("no-such/bank.db")),
            Path::new(".")
        );
    }

    fn config(text: &str) -> Config {
        let site = tempfile::tempdir().unwrap();
        let file = site.path().join("bank.toml");
        std::fs::write(&file, text).unwrap();
        let overrides = crate::config::Overrides::default();
        let loaded = Config::load(Some(&file), std::iter::empty(), &overrides);
        loaded.unwrap().config
    }

    #[test]
    fn the_folder_of_certificates_is_written_only_while_the_quick_start_may_make_them() {
        let site = tempfile::tempdir().unwrap();
        let at = |name: &str| site.path().join(name);
        for folder in ["certs", "data", "secrets"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        let place = site.path().display();
        let apart = format!(
            "[tls]\ndir = \"{place}/certs\"\n[pin]\npepper_file = \"{place}/secrets/pepper\"\n\
             [store]\nurl = \"sqlite:{place}/data/bank.db\"\n"
        );
        let beside = apart.replace("secrets", "certs");
        let enrolling = format!("{apart}[enroll]\nenabled = \"on\"\n");
        let with_certificates = vec![at("certs"), at("data"), at("secrets")];
        assert_eq!(writable_folders(&config(&apart)), with_certificates);
        std::fs::write(at("certs/ca.pem"), "").unwrap();
        assert_eq!(writable_folders(&config(&apart)), with_certificates[1..]);
        // The pepper is changed there, the list of revoked certificates is written there.
        assert_eq!(writable_folders(&config(&beside)), with_certificates[..2]);
        assert_eq!(writable_folders(&config(&enrolling)), with_certificates);
    }

    #[test]
    fn what_is_behind_a_link_is_written_where_it_really_is() {
        let site = tempfile::tempdir().unwrap();
        let at = |name: &str| site.path().canonicalize().unwrap().join(name);
        for folder in ["certs", "data", "secrets", "disk"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        std::fs::write(at("certs/ca.pem"), "").unwrap();
        for (file, link) in [
            ("secrets/pepper", "certs/pepper"),
            ("disk/bank.db", "data/bank.db"),
        ] {
            std::fs::write(at(file), "").unwrap();
            std::os::unix::fs::symlink(at(file), at(link)).unwrap();
        }
        let place = at("");
        let place = place.display();
        let linked = format!(
            "[tls]\ndir = \"{place}certs\"\n[store]\nurl = \"sqlite:{place}data/bank.db\"\n"
        );
        let folders = ["certs", "data", "disk", "secrets"].map(at);
        assert_eq!(writable_folders(&config(&linked)), folders);
    }

    #[test]
    fn a_fenced_thread_writes_in_its_folder_and_nowhere_else() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (inside, outside) = (own.path().join("file"), other.path().join("file"));
        let folders = vec![own.path().to_owned()];
        // Landlock holds for the thread that asks for it, so that the other tests stay free.
        let written = std::thread::spawn(move || {
            fence(&folders).map(|()| (std::fs::write(inside, b"x"), std::fs::write(outside, b"x")))
        });
        match written.join().unwrap() {
            Ok((inside, outside)) => {
                assert!(inside.is_ok());
                let refused = outside.unwrap_err().kind();
                assert_eq!(refused, std::io::ErrorKind::PermissionDenied);
            }
            Err(NotFenced::NoLandlock) => println!("skipped: this kernel has no Landlock"),
            Err(error) => panic!("{error}"),
        }
    }
}
