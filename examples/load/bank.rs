//! The bank under load: one that runs already, or one made in a folder and served from there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use atm_bank::pki::{CertificateFolder, MakeRequest};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::arguments::Arguments;
use crate::commits::Committed;
use crate::process::Process;

/// Every customer's PIN in a bank that is made.
const PIN: &str = "739105";
/// What every account of a bank that is made begins with: units, and minor units.
const BALANCE: (&str, i64) = ("10000000.00", 1_000_000_000);
/// Five digits behind each pair of letters.
const NUMBERS_PER_LETTERS: usize = 100_000;

/// Settings that keep rates and time-outs out of the way of load; `--set` puts others over them.
const SETTINGS: [(&str, &str); 19] = [
    ("server.listen", "\"127.0.0.1:0\""),
    ("server.max_connections", "1000000"),
    ("server.max_connections_per_ip", "1000000"),
    ("server.handshake_timeout_ms", "60000"),
    ("server.terminal_idle_timeout_ms", "86400000"),
    ("server.idle_timeout_ms", "86400000"),
    ("server.session_timeout_ms", "86400000"),
    ("limits.requests_per_second", "100000000"),
    ("limits.request_burst", "100000000"),
    ("limits.connections_per_second_per_ip", "1000000"),
    ("limits.connection_burst_per_ip", "1000000"),
    ("limits.logins_per_minute_per_terminal", "100000000"),
    ("limits.spray_tries", "0"),
    ("limits.try_rows", "10000000"),
    ("pin.memory_kib", "8"),
    ("pin.iterations", "1"),
    ("accounts.withdrawal_limit", "1000000000000"),
    ("accounts.daily_withdrawal_limit", "1000000000000"),
    ("log.level", "\"warn\""),
];

/// A bank to be put under load.
pub(crate) struct Bank {
    address: SocketAddr,
    certs: PathBuf,
    names: Vec<String>,
    /// Numbers and PINs, where the bank was made by somebody else.
    others: Vec<(String, String)>,
    accounts: usize,
    server_pid: Option<u32>,
    /// Where the server shows its metrics, where that is known.
    monitor: Option<SocketAddr>,
    own: Option<Own>,
}

/// A bank that was made here.
struct Own {
    child: Child,
    program: PathBuf,
    folder: PathBuf,
    fresh: bool,
    bytes_before: u64,
    start: Duration,
    /// Taken away with everything in it when the run is over.
    _temporary: Option<TempDir>,
}

/// The number of the account at place `index`.
fn number(index: usize) -> String {
    let letters = index / NUMBERS_PER_LETTERS;
    let letter = |place: usize| char::from(b'a' + u8::try_from(place % 26).unwrap());
    let (first, second) = (letter(letters / 26), letter(letters));
    format!("{first}{second}-{:05}", index % NUMBERS_PER_LETTERS)
}

impl Bank {
    pub(crate) fn open(arguments: &Arguments) -> Self {
        match arguments.to {
            Some(address) => Self::running(arguments, address),
            None => Self::made(arguments),
        }
    }

    fn running(arguments: &Arguments, address: SocketAddr) -> Self {
        let certs = arguments.certs.clone().unwrap();
        let file = fs::read_to_string(arguments.accounts_file.as_ref().unwrap());
        let others: Vec<_> = file
            .expect("the accounts")
            .lines()
            .filter_map(line)
            .collect();
        assert!(
            others.len() > arguments.customers(),
            "too few accounts in the file"
        );
        Self {
            address,
            names: names(&certs),
            certs,
            accounts: others.len(),
            others,
            server_pid: arguments.server_pid,
            monitor: None,
            own: None,
        }
    }

    fn made(arguments: &Arguments) -> Self {
        let temporary = arguments.folder.is_none().then(temporary);
        let folder = arguments.folder.clone();
        let folder = folder.unwrap_or_else(|| temporary.as_ref().unwrap().path().to_owned());
        let program = arguments.server.clone().unwrap_or_else(sibling);
        let fresh = !folder.join("data/bank.db").exists();
        fs::create_dir_all(&folder).unwrap();
        let accounts = arguments.accounts.max(arguments.customers() + 1);
        let monitor = free_address();
        let certs = make(&folder, monitor, arguments);
        if fresh {
            import(&program, &folder, accounts);
        }
        let bytes_before = size(&folder);
        let began = Instant::now();
        let (child, address) = start(&program, &folder);
        Self {
            address,
            names: names(&certs),
            certs,
            others: Vec::new(),
            accounts,
            server_pid: Some(child.id()),
            monitor: Some(monitor),
            own: Some(Own {
                child,
                program,
                folder,
                fresh,
                bytes_before,
                start: began.elapsed(),
                _temporary: temporary,
            }),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn certs(&self) -> &Path {
        &self.certs
    }

    /// Terminals that have certificates.
    pub(crate) fn terminal_names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn accounts(&self) -> usize {
        self.accounts
    }

    /// What the server has committed, as far as it tells.
    pub(crate) async fn committed(&self) -> Option<Committed> {
        Committed::ask(self.monitor?).await
    }

    /// The server's process, where it is known.
    pub(crate) fn process(&self) -> Option<Process> {
        self.server_pid.map(Process)
    }

    pub(crate) fn number(&self, index: usize) -> String {
        let other = self.others.get(index);
        other.map_or_else(|| number(index), |(number, _)| number.clone())
    }

    /// Number and PIN of the account at place `index`.
    pub(crate) fn customer(&self, index: usize) -> (String, String) {
        let other = self.others.get(index).cloned();
        other.unwrap_or_else(|| (number(index), PIN.to_owned()))
    }

    /// How long the server took from its start until it listened.
    pub(crate) fn start(&self) -> Option<Duration> {
        self.own.as_ref().map(|own| own.start)
    }

    /// What every account held before this run, minor units, where all held the same.
    pub(crate) fn fresh_balance(&self) -> Option<i64> {
        let own = self.own.as_ref()?;
        own.fresh.then_some(BALANCE.1)
    }

    /// Ends the server in order; by how many bytes its store grew.
    pub(crate) fn end(&mut self) -> Option<u64> {
        let own = self.own.as_mut()?;
        let pid = Pid::from_child(&own.child);
        kill_process(pid, Signal::TERM).unwrap();
        assert!(
            own.child.wait().unwrap().success(),
            "the server did not end in order"
        );
        Some(size(&own.folder).saturating_sub(own.bytes_before))
    }

    /// What the product's own audit finds wrong.
    pub(crate) fn verify(&self) -> Option<String> {
        let own = self.own.as_ref()?;
        let verified = command(&own.program, &own.folder)
            .arg("verify")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        (!verified.status.success()).then(|| format!("bank_server verify: {said}"))
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            let _ = own.child.kill();
            let _ = own.child.wait();
        }
    }
}

/// A folder on the disk that the build is on: a temporary one of the system may be in memory.
fn temporary() -> TempDir {
    let target = sibling().parent().map(Path::to_owned).unwrap();
    tempfile::Builder::new()
        .prefix("load-")
        .tempdir_in(target)
        .unwrap()
}

/// The server's program that was built beside this one.
fn sibling() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile = own.parent().and_then(Path::parent).unwrap();
    let program = profile.join("bank_server");
    assert!(
        program.exists(),
        "build the server first: cargo build --release"
    );
    program
}

fn line(line: &str) -> Option<(String, String)> {
    let mut fields = line.split(',').map(str::trim);
    Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
}

fn names(certs: &Path) -> Vec<String> {
    let folder = CertificateFolder::new(certs, OffsetDateTime::now_utc());
    let names = folder.terminals().expect("a folder of certificates");
    assert!(!names.is_empty(), "no terminal has a certificate there");
    names.iter().map(ToString::to_string).collect()
}

/// An address that nobody listens on now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Makes certificates and the configuration; the folder of the former.
fn make(folder: &Path, monitor: SocketAddr, arguments: &Arguments) -> PathBuf {
    let certs = folder.join("certs");
    let terminals = 1..=arguments.certificates();
    let request = MakeRequest {
        terminals: terminals
            .map(|n| format!("till-{n:03}").parse().unwrap())
            .collect(),
        ..MakeRequest::default()
    };
    let made = CertificateFolder::new(&certs, OffsetDateTime::now_utc()).make_missing(&request);
    made.expect("certificates");
    let monitor = format!("\"{monitor}\"");
    let mut settings: BTreeMap<&str, &str> = SETTINGS.into_iter().collect();
    settings.insert("metrics.listen", &monitor);
    for setting in &arguments.settings {
        let (key, value) = setting.split_once('=').expect("KEY=VALUE");
        settings.insert(key, value);
    }
    let mut tables: BTreeMap<&str, String> = BTreeMap::new();
    for (key, value) in settings {
        let (table, key) = key.split_once('.').expect("TABLE.KEY");
        *tables.entry(table).or_default() += &format!("{key} = {value}\n");
    }
    let tables = tables
        .iter()
        .map(|(table, lines)| format!("[{table}]\n{lines}"));
    fs::write(folder.join("bank.toml"), tables.collect::<String>()).unwrap();
    certs
}

fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).args(["--config", "bank.toml"]);
    command
}

fn import(program: &Path, folder: &Path, accounts: usize) {
    let path = folder.join("accounts.txt");
    let mut file = std::io::BufWriter::new(fs::File::create(&path).unwrap());
    for index in 0..accounts {
        writeln!(file, "{}, {PIN}, {}", number(index), BALANCE.0).unwrap();
    }
    file.into_inner().unwrap();
    let mut importing = command(program, folder);
    let imported = importing
        .args(["import", "accounts.txt"])
        .stdout(Stdio::null())
        .status();
    assert!(imported.unwrap().success(), "the accounts were not opened");
}

/// Starts the server; its process and where it listens.
fn start(program: &Path, folder: &Path) -> (Child, SocketAddr) {
    let mut child = command(program, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ");
    (child, address.expect("an address").parse().unwrap())
}

fn size(folder: &Path) -> u64 {
    fs::metadata(folder.join("data/bank.db")).map_or(0, |file| file.len())
}
