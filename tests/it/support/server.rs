//! A server's process: started, watched, ended by its own process id.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Card, Ran, Terminal, card, until};

/// A running server. Dropped, it is killed; where the test fails, its log is printed.
pub(crate) struct Server {
    child: Child,
    ended: Option<ExitStatus>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    certificates: PathBuf,
    stdout: Heard,
    stderr: Heard,
}

/// What a stream of the server's has said so far.
struct Heard {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Heard {
    fn from(stream: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let writer = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut lines = BufReader::new(stream);
            let mut line = Vec::new();
            while lines
                .read_until(b'\n', &mut line)
                .is_ok_and(|count| count > 0)
            {
                *writer.lock().unwrap() += &String::from_utf8_lossy(&line);
                line.clear();
            }
        });
        Self {
            text,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Server {
    /// Starts the program and waits until it says where it listens.
    ///
    /// # Errors
    /// What it said and how it ended, where it ended instead.
    pub(crate) fn start(command: Command, certificates: &Path) -> Result<Self, Ran> {
        Self::start_with(command, certificates, Stdio::piped())
    }

    /// As [`Server::start`], with another stderr than one that is read.
    pub(crate) fn start_logging_to(command: Command, certificates: &Path, stderr: Stdio) -> Self {
        Self::start_with(command, certificates, stderr)
            .unwrap_or_else(|ran| panic!("the server did not start: {ran:#?}"))
    }

    fn start_with(mut command: Command, certificates: &Path, log: Stdio) -> Result<Self, Ran> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = Heard::from(child.stdout.take().unwrap());
        let stderr: Box<dyn Read + Send> = match child.stderr.take() {
            Some(log) => Box::new(log),
            None => Box::new(std::io::empty()),
        };
        let stderr = Heard::from(stderr);
        let mut server = Self {
            child,
            ended: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            certificates: certificates.to_owned(),
            stdout,
            stderr,
        };
        let listening = until("the server to listen, or to end", || {
            let said = server.stdout.text();
            let address = said.split_once('\n').and_then(|(line, _)| {
                line.strip_prefix("listening on ")
                    .and_then(|address| address.parse::<SocketAddr>().ok())
            });
            let ended = server.child.try_wait().unwrap();
            server.ended = ended;
            address.map(Some).or(ended.map(|_| None))
        });
        if let (Some(address), None) = (listening, server.ended) {
            server.address = address;
            return Ok(server);
        }
        server.stdout.finish();
        server.stderr.finish();
        Err(Ran {
            code: server.ended.and_then(|status| status.code()),
            stdout: server.stdout.text(),
            stderr: server.stderr.text(),
        })
    }

    /// A terminal with the certificate of that name, connected.
    pub(crate) async fn terminal(&self, name: &str) -> Terminal {
        Terminal::connect(self.address, self.card(name)).await
    }

    /// A terminal with the certificate of terminal-1, connected from the loopback address that ends so.
    pub(crate) async fn terminal_from(&self, host: u8) -> Terminal {
        let config = Arc::new(self.card("terminal-1").client());
        let stream = card::connect_from(host, self.address, config).await;
        Terminal::over(stream.unwrap())
    }

    /// A terminal with a customer logged in.
    pub(crate) async fn customer(&self, terminal: &str, account: &str, pin: &str) -> Terminal {
        let mut customer = self.terminal(terminal).await;
        customer.login(account, pin).await.expect_code(0);
        customer
    }

    /// Whether the terminal with the certificate of that name gets an answer.
    pub(crate) async fn lets_in(&self, name: &str) -> bool {
        !self.card(name).knock(self.address).await.is_empty()
    }

    /// Another terminal is served.
    pub(crate) async fn expect_service(&self) {
        let mut terminal = self.terminal("terminal-1").await;
        terminal.ping().await.expect_code(0);
    }

    /// The certificate of that name.
    pub(crate) fn card(&self, name: &str) -> Card {
        Card::of(&self.certificates, name)
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory in use, KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.unwrap().trim().parse().unwrap()
    }

    /// Open files and sockets.
    pub(crate) fn open_files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        files.unwrap().count()
    }

    /// Sends a signal to this process.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.text()
    }

    /// Waits for words in the log.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, words: &str) {
        until(&format!("{words:?} in the log"), || {
            self.log().contains(words).then_some(())
        });
    }

    /// Takes a setting or certificate anew, and waits until that is done.
    #[track_caller]
    pub(crate) fn reload(&self) {
        let done = || self.log().matches("reloaded certificates").count();
        let before = done();
        self.signal(Signal::HUP);
        until("the reload", || (done() > before).then_some(()));
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Ran {
        let status = until("the server to end", || self.child.try_wait().unwrap());
        self.ended = Some(status);
        self.stdout.finish();
        self.stderr.finish();
        Ran {
            code: status.code(),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }

    /// Goes down in order.
    pub(crate) fn stop(self) -> Ran {
        self.signal(Signal::TERM);
        self.wait().expect(0)
    }

    /// Dies in the middle of whatever it does.
    pub(crate) fn kill(self) -> Ran {
        self.signal(Signal::KILL);
        self.wait()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            // A moment for the last lines to be read.
            let patience = Instant::now() + Duration::from_millis(200);
            while !self
                .stderr
                .reader
                .as_ref()
                .is_none_or(JoinHandle::is_finished)
                && Instant::now() < patience
            {
                thread::yield_now();
            }
            let log = self.stderr.text();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.iter().skip(lines.len().saturating_sub(200));
            println!("--- the server's last lines on stderr ---");
            for line in last {
                println!("{line}");
            }
        }
    }
}
