//! `check`: everything that could keep the server from starting, without starting it.

use std::path::Path;
use std::sync::Arc;

use super::Source;
use super::open::{check_peppers, clock, list_memory, refuse_empty, sqlite_path};
use super::questions;
use super::run::public_pins;
use super::stop::{Stop, exit};
use crate::access::pepper::Peppers;
use crate::config::Config;
use crate::durable;
use crate::server::tls::{Trust, is_credential};
use crate::store::sqlite::SqliteStore;
use crate::surroundings::{Guarded, Surroundings};

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct CheckReport {
    /// What keeps the server from starting.
    pub errors: Vec<String>,
    /// What does not, but should be known.
    pub warnings: Vec<String>,
}

impl CheckReport {
    /// 0, or 78 where there is an error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.errors.is_empty() {
            0
        } else {
            exit::CONFIG
        }
    }

    fn note<T>(&mut self, result: Result<T, Stop>) -> Option<T> {
        result.map_err(|stop| self.tell(stop)).ok()
    }

    /// One fault is told once, however often it is met.
    fn tell(&mut self, stop: Stop) {
        if !self.errors.contains(&stop.reason) {
            self.errors.push(stop.reason);
        }
    }
}

/// Checks the configuration and, unless `config_only`, the files it names.
#[must_use]
pub fn check(source: &Source, config_only: bool) -> CheckReport {
    let mut report = CheckReport::default();
    let Some(loaded) = report.note(source.load()) else {
        return report;
    };
    report.warnings.extend(loaded.warnings);
    if !config_only {
        files(&loaded.config, &mut report);
    }
    report
}

/// What `Trust::load` does not look at: whether the issuing authority's list can be written.
fn issuing(config: &Config, report: &mut CheckReport) {
    let Some(files) = &config.tls.issuing else {
        return;
    };
    let folder = durable::folder_of(&files.crl);
    if rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_err() {
        report.warnings.push(format!(
            "{} cannot be written: no terminal that enrolled can be revoked; mend: name a file \
             elsewhere in [enroll] crl",
            folder.display()
        ));
    }
}

fn files(config: &Config, report: &mut CheckReport) {
    // Where the store cannot be read, that is said further down.
    let clock = clock(config).unwrap_or_else(|_| Arc::new(Guarded::begin(None, config.clock)));
    report.warnings.extend(clock.state().warning());
    let surroundings: Arc<dyn Surroundings> = clock;
    if let Some(trust) = report.note(Trust::load(&config.tls, &surroundings).map_err(Stop::from)) {
        report.warnings.extend(trust.warnings(surroundings.now()));
        if let Some(memory) = report.note(list_memory(config)) {
            report.note(memory.refuse_to_go_back(&trust).map_err(Stop::from));
        }
    }
    issuing(config, report);
    let authority_key = config.tls.key.with_file_name("ca.key");
    if authority_key.exists() {
        report.warnings.push(format!(
            "{} lies beside the server's key: who takes this machine can make certificates; mend: keep it elsewhere",
            authority_key.display()
        ));
    }
    let places = questions::places(config);
    report
        .errors
        .extend(places.into_iter().map(|stop| stop.reason));
    if !questions::is_running(config) {
        let ports = questions::ports(config);
        report
            .errors
            .extend(ports.into_iter().map(|stop| stop.reason));
    }
    // What is wrong with its URL was said above.
    if let Ok(path) = sqlite_path(config) {
        store(&path, config, report);
    }
}

fn store(path: &Path, config: &Config, report: &mut CheckReport) {
    let looked_over = refuse_empty(path).and_then(|()| {
        let demo = SqliteStore::look_over(path, config.accounts.currency)?;
        match demo > 0 && !config.server.listen.ip().is_loopback() {
            true => Err(public_pins(config, demo)),
            false => Ok(()),
        }
    });
    report.note(looked_over);
    let pepper_file = &config.pin.pepper_file;
    if durable::is_absent(pepper_file) {
        if path.exists() {
            report.errors.push(format!(
                "there is a store but no pepper file {}",
                pepper_file.display()
            ));
        }
        return;
    }
    let loaded = Peppers::load(pepper_file, is_credential(pepper_file)).map_err(Stop::from);
    if let (Some(peppers), true) = (report.note(loaded), path.exists()) {
        let needed = check_peppers(path, config, &peppers)
            .and_then(|()| SqliteStore::may_use(path).map_err(Stop::from))
            .and_then(|()| SqliteStore::try_open(path).map_err(Stop::from));
        report.note(needed);
    }
}
