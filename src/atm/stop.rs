//! The wish to stop: SIGINT, SIGTERM or SIGHUP.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Whether somebody wants the terminal to stop. Clones share the wish.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    token: CancellationToken,
    signal_number: Arc<AtomicU8>,
}

impl Stop {
    /// Listens for the signals from now on; must be called within a runtime.
    ///
    /// # Errors
    /// The system refuses to tell of signals.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        for (kind, number) in [
            (SignalKind::hangup(), 1),
            (SignalKind::interrupt(), 2),
            (SignalKind::terminate(), 15),
        ] {
            let mut signals = signal(kind)?;
            let heard = stop.clone();
            tokio::spawn(async move {
                if signals.recv().await.is_some() {
                    heard.wish(number);
                }
            });
        }
        Ok(stop)
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

    /// Whether somebody wishes to stop.
    #[must_use]
    pub fn is_wished(&self) -> bool {
        self.token.is_cancelled()
    }

    /// The exit code that shells give to a process that the signal ended.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.signal_number
            .load(Ordering::Relaxed)
            .saturating_add(128)
    }
}
