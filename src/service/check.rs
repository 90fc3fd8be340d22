//! `check`: everything that could keep the server from starting, without starting it.

use time::OffsetDateTime;

use super::Source;
use super::open::{check_peppers, sqlite_path};
use super::stop::{Stop, exit};
use crate::access::pepper::Peppers;
use crate::config::Config;
use crate::domain::Timestamp;
use crate::server::tls::{Trust, is_credential};

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
        result.map_err(|stop| self.errors.push(stop.reason)).ok()
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

fn files(config: &Config, report: &mut CheckReport) {
    let now = OffsetDateTime::now_utc();
    let moment = Timestamp::from_unix_ms(now.unix_timestamp().saturating_mul(1_000));
    if let Some(trust) = report.note(Trust::load(&config.tls, moment).map_err(Stop::from)) {
        report.warnings.extend(trust.warnings(moment));
    }
    let authority_key = config.tls.key.with_file_name("ca.key");
    if authority_key.exists() {
        report.warnings.push(format!(
            "{} lies beside the server's key: who takes this machine can make certificates; mend: keep it elsewhere",
            authority_key.display()
        ));
    }
    let pepper_file = &config.pin.pepper_file;
    let store = report.note(sqlite_path(config));
    let store_exists = store.as_ref().is_some_and(|path| path.exists());
    if !pepper_file.exists() {
        if store_exists {
            report.errors.push(format!(
                "there is a store but no pepper file {}",
                pepper_file.display()
            ));
        }
        return;
    }
    let loaded = Peppers::load(pepper_file, is_credential(pepper_file)).map_err(Stop::from);
    if let (Some(peppers), Some(path), true) = (report.note(loaded), store, store_exists) {
        report.note(check_peppers(&path, config, &peppers));
    }
}
