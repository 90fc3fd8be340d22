//! What signals ask of a server: to end, or to read its files anew.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::Source;
use super::run::raise_open_files;
use super::stop::{Stop, exit};
use crate::access::pepper_file::{ChangeError, PepperFile};
use crate::bank::Bank;
use crate::server::Server;
use crate::store::{Event, Note};

/// The signals that a server listens for.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Stop> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Stop::new(exit::SYSTEM, format!("cannot listen for signals: {error}"))
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the end; reloads meanwhile.
    pub(super) async fn wait(&mut self, reloading: &Reloading) -> Result<(), Stop> {
        let mut broken = reloading.bank.watch_broken();
        tokio::select! {
            () = self.wait_for_end(|| tokio::spawn(reload(reloading.clone()))) => Ok(()),
            Ok(found) = broken.wait_for(Option::is_some) => {
                let reason = found.clone().unwrap_or_default();
                tracing::error!(reason, "the ledger is broken: serving stops");
                Err(Stop::new(exit::SOFTWARE, format!("serving stopped: {reason}")))
            }
        }
    }

    /// One reload at a time; those asked for meanwhile are one more. However long one takes, the end does not
    /// wait for it.
    async fn wait_for_end(&mut self, mut reload: impl FnMut() -> JoinHandle<()>) {
        let mut present = None;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv(), if present.is_none() => present = Some(reload()),
                Some(_) = ended(&mut present) => present = None,
            }
        }
    }
}

async fn ended(task: &mut Option<JoinHandle<()>>) -> Option<()> {
    // A panic was logged where it was.
    let _ = task.as_mut()?.await;
    Some(())
}

/// What a reload reads, and whom it gives it to.
#[derive(Clone)]
pub(super) struct Reloading {
    pub(super) server: Arc<Server>,
    pub(super) bank: Arc<Bank>,
    pub(super) source: Source,
    pub(super) peppers: Arc<PepperFile>,
}

impl Reloading {
    fn perform(&self) -> Result<(), String> {
        let mut config = self.source.load().map_err(|stop| stop.reason)?.config;
        raise_open_files(&mut config);
        let hasher = self.bank.hasher();
        let words = |error: ChangeError| error.to_string();
        // Looked at before anything is changed, and taken once all else was.
        self.peppers.check(hasher).map_err(words)?;
        let policy = config.clock;
        self.server
            .reload(config)
            .map_err(|error| error.to_string())?;
        if let Some(clock) = self.bank.surroundings().guarded() {
            clock.set_policy(policy);
        }
        self.peppers.reread(hasher).map_err(words)
    }
}

async fn reload(reloading: Reloading) {
    let bank = Arc::clone(&reloading.bank);
    let note = |event| Note::new(event, bank.surroundings().now());
    match tokio::task::spawn_blocking(move || reloading.perform()).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => {
            tracing::error!(reason, "reload refused; everything stays as it was");
            bank.note_soon(note(Event::Reload).outcome("refused").detail(reason));
        }
        Err(_) => {
            tracing::error!("reload failed; everything stays as it was");
            bank.note_soon(note(Event::Reload).outcome("failed"));
        }
    }
    if let Err(error) = bank.write_waiting(false).await {
        tracing::error!(%error, "audit records wait to be written");
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use rustix::process::{Signal as Raw, getpid, kill_process};

    use super::*;

    #[test]
    fn the_end_waits_for_no_reload_that_is_stuck() {
        const WITHIN: &str = "ATM_BANK_TEST_SIGNALS";
        // Handlers are the whole process's, so this test runs once more, in one of its own.
        if std::env::var_os(WITHIN).is_none() {
            let ran = Command::new(std::env::current_exe().unwrap())
                .args(["the_end_waits_for_no_reload_that_is_stuck", "--nocapture"])
                .env(WITHIN, "1")
                .output()
                .unwrap();
            assert!(ran.status.success(), "{ran:?}");
            return;
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let ended = runtime.block_on(async {
            let mut signals = Signals::new().unwrap();
            let kill = |signal| kill_process(getpid(), signal).unwrap();
            kill(Raw::HUP);
            let reload = || {
                kill(Raw::HUP);
                kill(Raw::TERM);
                tokio::spawn(std::future::pending())
            };
            let end = signals.wait_for_end(reload);
            tokio::time::timeout(Duration::from_secs(20), end).await
        });
        runtime.shutdown_background();
        assert!(ended.is_ok(), "the end still waits");
    }
}
