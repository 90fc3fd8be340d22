//! The terminal's real binary in a real pty, with somebody who types and reads the screen.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::Terminal;
use crate::support::until;

/// A window with the terminal in it. Dropped, it is closed, and the terminal killed.
pub(super) struct Window {
    child: Child,
    master: Arc<File>,
    screen: Arc<Mutex<Screen>>,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

/// What the window shows, as far as the terminal uses one.
struct Screen {
    rows: Vec<Vec<char>>,
    at: (usize, usize),
    /// Of a sequence that is not whole yet.
    rest: Vec<u8>,
}

impl Window {
    /// Opens one of 80 columns and 24 rows. Where it is the terminal's `own` it is its controlling
    /// one: its end is told by a signal too.
    pub(super) fn open(terminal: Terminal, own: bool) -> Self {
        Self::of_size(terminal, own, (80, 24))
    }

    /// The same with so many columns and rows.
    pub(super) fn of_size(terminal: Terminal, own: bool, (columns, rows): (u16, u16)) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let name = std::path::Path::new(std::ffi::OsStr::from_bytes(name.to_bytes())).to_owned();
        let slave = || {
            use std::os::unix::fs::OpenOptionsExt as _;
            let flags = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
            let opened = File::options()
                .read(true)
                .write(true)
                .custom_flags(flags)
                .open(&name);
            Stdio::from(opened.unwrap())
        };
        let program = terminal.command.get_program();
        let mut command = match own {
            true => Command::new("setsid"),
            false => Command::new(program),
        };
        if own {
            command.arg("--ctty").arg(program);
        }
        command
            .args(terminal.command.get_args())
            .env_remove("ATM_PIN")
            .env("TERM", "xterm")
            .current_dir(terminal.folder.path());
        command.stdin(slave()).stdout(slave()).stderr(slave());
        let child = command.spawn().unwrap();
        drop(command);
        let master = Arc::new(File::from(master));
        let screen = Screen::new(usize::from(columns), usize::from(rows));
        let screen = Arc::new(Mutex::new(screen));
        let over = Arc::new(AtomicBool::new(false));
        let reader = {
            let (master, screen, over) = (master.clone(), screen.clone(), over.clone());
            thread::spawn(move || read(&master, &screen, &over))
        };
        let window = Self {
            child,
            master,
            screen,
            over,
            reader: Some(reader),
        };
        // The folder of its journal, where it has no other, lives as long as the test's process.
        std::mem::forget(terminal.folder);
        window
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn type_in(&self, keys: &str) {
        (&*self.master).write_all(keys.as_bytes()).unwrap();
    }

    /// What is on the screen, row by row.
    pub(super) fn text(&self) -> String {
        let screen = self.screen.lock().unwrap();
        let rows = screen.rows.iter().map(|row| row.iter().collect::<String>());
        let rows: Vec<String> = rows.map(|row| row.trim_end().to_owned()).collect();
        rows.join("\n")
    }

    /// Waits until these words are on the screen, broken into rows or not.
    #[track_caller]
    pub(super) fn wait_for(&self, words: &str) {
        let mut last = String::new();
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(words, || {
                last = self.text();
                let unbroken: Vec<&str> = last.split_whitespace().collect();
                let shown = last.contains(words) || unbroken.join(" ").contains(words);
                shown.then_some(())
            });
        }));
        assert!(shown.is_ok(), "no {words:?} on the screen:\n{last}");
    }

    /// Types an account and its PIN.
    pub(super) fn log_in(&self, account: &str, pin: &str) {
        self.wait_for("Please type your account number");
        self.type_in(&format!("{account}\r"));
        self.wait_for(&format!("Account {account}"));
        self.type_in(&format!("{pin}\r"));
    }

    /// Nobody reads what the terminal writes any more.
    pub(super) fn stop_reading(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Closes the window; how long the terminal took to end then.
    pub(super) fn close(&mut self) -> (ExitStatus, Duration) {
        self.stop_reading();
        self.master = Arc::new(File::open("/dev/null").unwrap());
        self.wait()
    }

    /// Waits for the terminal's end.
    pub(super) fn wait(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        let status = until("the terminal to end", || self.child.try_wait().unwrap());
        (status, begun.elapsed())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.stop_reading();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads until it is over, so that no descriptor is held by a read that never ends.
fn read(mut master: &File, screen: &Mutex<Screen>, over: &AtomicBool) {
    let wait = Timespec {
        tv_sec: 0,
        tv_nsec: 10_000_000,
    };
    let mut chunk = [0; 4_096];
    while !over.load(Ordering::Relaxed) {
        let mut watched = [PollFd::new(master, PollFlags::IN)];
        if poll(&mut watched, Some(&wait)).unwrap() == 0 {
            continue;
        }
        match master.read(&mut chunk) {
            Ok(count) if count > 0 => screen.lock().unwrap().take(&chunk[..count]),
            // Nobody has it open on the other side.
            _ => return,
        }
    }
}

impl Screen {
    fn new(columns: usize, rows: usize) -> Self {
        Self {
            rows: vec![vec![' '; columns]; rows],
            at: (0, 0),
            rest: Vec::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let rest = std::mem::take(&mut self.rest);
        let whole = match std::str::from_utf8(&rest) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = std::str::from_utf8(&rest[..whole]).unwrap();
        let mut left = text;
        while let Some(c) = left.chars().next() {
            let taken = match c {
                '\u{1b}' => match self.escape(left) {
                    Some(taken) => taken,
                    None => break,
                },
                c => {
                    self.put(c);
                    c.len_utf8()
                }
            };
            left = &left[taken..];
        }
        self.rest = [left.as_bytes(), &rest[whole..]].concat();
    }

    /// Obeys a sequence; its length, where it is whole.
    fn escape(&mut self, text: &str) -> Option<usize> {
        let mut bytes = text.bytes().enumerate().skip(1);
        if bytes.next()?.1 != b'[' {
            return Some(2);
        }
        let (end, last) = bytes.find(|(_, byte)| (0x40..=0x7e).contains(byte))?;
        let numbers = text[2..end].split(';');
        let numbers: Vec<usize> = numbers.map(|n| n.parse().unwrap_or(1)).collect();
        match last {
            b'H' => {
                self.at = (
                    numbers[0] - 1,
                    numbers.get(1).map_or(0, |column| column - 1),
                )
            }
            b'J' => self.rows.iter_mut().for_each(|row| row.fill(' ')),
            _ => {}
        }
        Some(end + 1)
    }

    fn put(&mut self, c: char) {
        let (row, column) = self.at;
        match c {
            '\r' => self.at.1 = 0,
            '\n' if row + 1 == self.rows.len() => {
                let columns = self.rows[0].len();
                self.rows.remove(0);
                self.rows.push(vec![' '; columns]);
            }
            '\n' => self.at.0 += 1,
            c if !c.is_control() => {
                if let Some(cell) = self.rows.get_mut(row).and_then(|row| row.get_mut(column)) {
                    *cell = c;
                }
                self.at.1 += 1;
                if self.at.1 == self.rows[0].len() {
                    self.at.1 = 0;
                    self.put('\n');
                }
            }
            _ => {}
        }
    }
}
