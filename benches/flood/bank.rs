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

/// The customers', the attacker's, and the one where others log in.
const TERMINALS: [&str; 3] = ["terminal-1", "terminal-2", "terminal-3"];

const PROGRAM: &str = env!("CARGO_BIN_EXE_bank_server");

/// A running bank; dropped, it is ended and its folder gone.
pub(crate) struct Bank {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The terminal's side of TLS.
    pub(crate) client: Arc<ClientConfig>,
    /// The same of the terminal that attacks, and of the one where customers log in.
    pub(crate) attacker: Arc<ClientConfig>,
    pub(crate) log_ins: Arc<ClientConfig>,
    _folder: TempDir,
}

/// The number of the `index`th customer's account.
pub(crate) fn account(index: u32) -> String {
    format!("aa-{index:05}")
}

impl Bank {
    /// Makes certificates and accounts, and starts the program of this profile, set so beside what
    /// keeps log-ins possible.
    pub(crate) fn start(customers: u32, settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let request = MakeRequest {
            terminals: TERMINALS.map(|name| name.parse().unwrap()).to_vec(),
            ..MakeRequest::default()
        };
        CertificateFolder::new(folder.path().join("certs"), OffsetDateTime::now_utc())
            .make_missing(&request)
            .unwrap();
        let settings = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"error\"\n\
             [limits]\nlogins_per_minute_per_terminal = 1000000\nspray_tries = 0\n{settings}"
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
        let [client, attacker, log_ins] =
            TERMINALS.map(|name| client_config(&folder.path().join("certs"), name));
        Self {
            address: address.parse().unwrap(),
            client,
            attacker,
            log_ins,
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
