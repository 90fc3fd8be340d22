//! A bank in a folder of its own: the real program, on a free port of loopback.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use atm_bank::pki::{CertificateFolder, MakeRequest};
use rustls::ClientConfig;
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::terminal::client_config;

/// Every customer's PIN.
pub(crate) const PIN: &str = "739105";

const PROGRAM: &str = env!("CARGO_BIN_EXE_bank_server");

/// A running bank; dropped, it is ended and its folder gone.
pub(crate) struct Bank {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The terminal's side of TLS.
    pub(crate) client: Arc<ClientConfig>,
    _folder: TempDir,
}

/// The number of the `index`th customer's account.
pub(crate) fn account(index: u32) -> String {
    format!("aa-{index:05}")
}

impl Bank {
    /// Makes certificates and accounts, and starts the program of this profile. Its rates by address
    /// are the default ones unless `unlimited`; those of requests are out of the way.
    pub(crate) fn start(customers: u32, unlimited: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let request = MakeRequest {
            terminals: vec!["terminal-1".parse().unwrap()],
            ..MakeRequest::default()
        };
        CertificateFolder::new(folder.path().join("certs"), OffsetDateTime::now_utc())
            .make_missing(&request)
            .unwrap();
        let lifted = "connections_per_second_per_ip = 1000000\nconnection_burst_per_ip = 1000000\n";
        let settings = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n\
             [limits]\nrequests_per_second = 1000000\nrequest_burst = 1000000\n\
             logins_per_minute_per_terminal = 1000000\n{}\
             [pin]\nmemory_kib = 8\niterations = 1\n[log]\nlevel = \"error\"\n",
            if unlimited { lifted } else { "" }
        );
        fs::write(folder.path().join("bank.toml"), settings).unwrap();
        let lines: String = (0..customers)
            .map(|index| format!("{}, {PIN}, 1000.00\n", account(index)))
            .collect();
        fs::write(folder.path().join("accounts.txt"), lines).unwrap();
        let program = || {
            let mut command = Command::new(PROGRAM);
            command
                .current_dir(folder.path())
                .args(["--config", "bank.toml"]);
            command
        };
        let imported = program()
            .args(["import", "accounts.txt"])
            .stdout(Stdio::null())
            .status();
        assert!(imported.unwrap().success(), "the accounts were not opened");
        let mut child = program().stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap();
        Self {
            address: address.parse().unwrap(),
            client: client_config(&folder.path().join("certs"), "terminal-1"),
            child,
            _folder: folder,
        }
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
