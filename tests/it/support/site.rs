//! A bank's folder: certificates, configuration, store; and the commands run in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use atm_bank::pki::{CertificateFolder, MakeRequest};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::{Ran, Server};

/// The terminals that have a certificate.
pub(crate) const TERMINALS: [&str; 3] = ["terminal-1", "terminal-2", "terminal-3"];
/// The accounts that a site begins with: number, PIN, balance.
pub(crate) const ACCOUNTS: &str = "ac-12345, 1324, 1024.32\nwf-14351, 9834, 5428.22\n\
     tn-13731, 2435, 6462.75\nzz-99999, 9999, 655.35\n";
/// The same accounts' PINs.
pub(crate) const ACCOUNT_PINS: [(&str, &str); 4] = [
    ("ac-12345", "1324"),
    ("wf-14351", "9834"),
    ("tn-13731", "2435"),
    ("zz-99999", "9999"),
];

/// What every test's bank is set to, unless the test says otherwise: cheap PINs, no rate in the
/// way.
const SETTINGS: [(&str, &str); 13] = [
    ("server.listen", "\"127.0.0.1:0\""),
    ("server.max_connections_per_ip", "5000"),
    ("server.max_connections", "5000"),
    ("limits.requests_per_second", "1000000"),
    ("limits.request_burst", "1000000"),
    ("limits.connections_per_second_per_ip", "1000000"),
    ("limits.connection_burst_per_ip", "1000000"),
    ("limits.logins_per_minute_per_terminal", "1000000"),
    ("limits.spray_tries", "0"),
    ("pin.memory_kib", "8"),
    ("pin.iterations", "1"),
    ("accounts.withdrawal_limit", "1000000000000"),
    ("accounts.daily_withdrawal_limit", "1000000000000"),
];

/// A folder of its own for one bank; gone when it is dropped.
pub(crate) struct Site {
    folder: TempDir,
    settings: BTreeMap<String, String>,
}

impl Site {
    /// Certificates, a configuration, and the accounts of [`ACCOUNTS`].
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// As [`Site::new`], with settings of the test's own: `("server.idle_timeout_ms", "300")`.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let site = Self::bare(settings);
        site.import(ACCOUNTS).expect(0);
        site
    }

    /// Certificates and a configuration, and neither store nor pepper.
    pub(crate) fn bare(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let request = MakeRequest {
            terminals: TERMINALS.map(|name| name.parse().unwrap()).to_vec(),
            ..MakeRequest::default()
        };
        let certificates = folder.path().join("certs");
        CertificateFolder::new(certificates, OffsetDateTime::now_utc())
            .make_missing(&request)
            .unwrap();
        let all = SETTINGS.iter().chain(settings);
        let settings = all
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let site = Self { folder, settings };
        site.write_configuration();
        site
    }

    /// A bank where terminals may enrol themselves, with an issuing authority.
    pub(crate) fn enrolling(settings: &[(&str, &str)]) -> Self {
        let on = [
            ("enroll.enabled", "\"on\""),
            ("enroll.attempts_per_minute_per_ip", "1000000"),
            ("enroll.attempts_per_minute", "1000000"),
            ("enroll.max_connections", "1000"),
            ("enroll.max_connections_per_ip", "1000"),
        ];
        let all: Vec<_> = on.iter().chain(settings).copied().collect();
        let site = Self::with(&all);
        site.gen_certs(&["issuing"]).expect(0);
        site
    }

    /// A new one-time code for a terminal.
    pub(crate) fn invite(&self, name: &str) -> String {
        let invited = self.run(&["terminal", "invite", name, "--json"]).expect(0);
        invited.json()["code"].as_str().unwrap().to_owned()
    }

    /// Changes a setting; a server sees it when it starts or is reloaded.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.settings.insert(key.to_owned(), value.to_owned());
        self.write_configuration();
    }

    fn write_configuration(&self) {
        let mut tables: BTreeMap<&str, String> = BTreeMap::new();
        for (name, value) in &self.settings {
            let (table, key) = name.split_once('.').unwrap();
            *tables.entry(table).or_default() += &format!("{key} = {value}\n");
        }
        let text: String = tables
            .iter()
            .map(|(table, keys)| format!("[{table}]\n{keys}"))
            .collect();
        fs::write(self.path("bank.toml"), text).unwrap();
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Opens accounts by `account, pin, balance` lines.
    pub(crate) fn import(&self, lines: &str) -> Ran {
        fs::write(self.path("accounts.txt"), lines).unwrap();
        self.run(&["import", "accounts.txt"])
    }

    /// The program with its configuration, to be given a command.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bank_server"));
        command
            .current_dir(self.folder())
            .args(["--config", "bank.toml"]);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BANK__")) {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command of staff.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, "")
    }

    /// Runs a command of staff that reads `stdin`.
    pub(crate) fn run_with(&self, arguments: &[&str], stdin: &str) -> Ran {
        let mut command = self.program();
        command.args(arguments);
        Ran::of(command, stdin)
    }

    /// Runs `gen-certs` on the site's certificates.
    pub(crate) fn gen_certs(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gen-certs"));
        command.args(arguments).arg("--out").arg(self.path("certs"));
        Ran::of(command, "")
    }

    /// Starts the server and waits until it serves.
    pub(crate) fn start(&self) -> Server {
        Server::start(self.program(), &self.path("certs"))
            .unwrap_or_else(|ran| panic!("the server did not start: {ran:#?}"))
    }

    /// Starts the server, which must refuse.
    #[track_caller]
    pub(crate) fn start_refused(&self) -> Ran {
        match Server::start(self.program(), &self.path("certs")) {
            Ok(_) => panic!("the server started"),
            Err(ran) => ran,
        }
    }

    /// Works upon the store past its triggers, which are as before afterwards.
    pub(crate) fn tamper(&self, work: impl FnOnce(&rusqlite::Connection)) {
        let store = rusqlite::Connection::open(self.path("data/bank.db")).unwrap();
        let triggers = "SELECT group_concat('DROP TRIGGER ' || name, ';'), group_concat(sql || ';', '') \
                        FROM sqlite_schema WHERE type = 'trigger'";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (drop_all, make_all): (String, String) = store.query_row(triggers, [], read).unwrap();
        store.execute_batch(&drop_all).unwrap();
        work(&store);
        store.execute_batch(&make_all).unwrap();
    }

    /// Asks `verify`, which must find the ledger whole, and gives what it printed.
    #[track_caller]
    pub(crate) fn verify(&self) -> serde_json::Value {
        self.run(&["verify", "--json"]).expect(0).json()
    }
}
