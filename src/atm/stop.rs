//! The wish to stop: SIGINT, SIGTERM or SIGHUP, or a terminal that is gone.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Ctrl-Z on Linux: tokio has no name for it.
const SIGTSTP: i32 = rustix::process::Signal::TSTP.as_raw();

/// Whether somebody wants the terminal to stop. Clones share the wish.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    token: CancellationToken,
    signal_number: Arc<AtomicU8>,
}

impl Stop {
    /// Listens for the signals from now on; must be called within a runtime. With `kiosk` those that
    /// a keyboard can send mean nothing.
    ///
    /// # Errors
    /// The system refuses to tell of signals.
    pub fn on_signals(kiosk: bool) -> io::Result<Self> {
        let stop = Self::default();
        if kiosk {
            for kind in [SignalKind::quit(), SignalKind::from_raw(SIGTSTP)] {
                // Once it was listened for it does nothing by itself any more.
                drop(signal(kind)?);
            }
        }
        for (kind, number) in [
            (SignalKind::hangup(), 1),
            (SignalKind::interrupt(), 2),
            (SignalKind::terminate(), 15),
        ] {
            let mut signals = signal(kind)?;
            if kiosk && kind == SignalKind::interrupt() {
                continue;
            }
            let heard = stop.clone();
            tokio::spawn(async move {
                if signals.recv().await.is_some() {
                    heard.wish(number);
                }
            });
        }
        Ok(stop)
    }

    /// Wishes to stop, as by SIGHUP, once the terminal on standard input or output is gone, whatever
    /// anybody waits for. A pipe that ends is read to its end.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn on_lost_terminal(&self) -> io::Result<()> {
        let stop = self.clone();
        let watch = move || {
            let (input, output) = (io::stdin(), io::stdout());
            let mut watched = Vec::new();
            if input.is_terminal() {
                watched.push(PollFd::new(&input, PollFlags::empty()));
            }
            if output.is_terminal() {
                watched.push(PollFd::new(&output, PollFlags::empty()));
            }
            // Nothing is asked for, so that only its end is told. The thread ends with the process.
            while !watched.is_empty() {
                match poll(&mut watched, None) {
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return,
                    Ok(_) => return stop.wish(1),
                }
            }
        };
        std::thread::Builder::new()
            .name("hang-up".into())
            .spawn(watch)
            .map(drop)
    }

    /// Wishes to stop, as by the signal of that number.
    pub fn wish(&self, signal_number: u8) {
        self.signal_number.store(signal_number, Ordering::Relaxed);
        self.token.cancel();
    }

    /// Waits until somebody wishes to stop.
    pub async fn wished(&self) {
        self.token.cancelled().await;
    }

    /// The exit code that shells give to a process that the signal ended.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.signal_number
            .load(Ordering::Relaxed)
            .saturating_add(128)
    }
}
