//! What a process needs of the system before it does anything, and what must not end it.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::stop::{Stop, exit};

/// Threads that are started besides one a core: the store's two, the log's, some for files.
const THREADS_BESIDE: usize = 6;

/// The runtime panics where it cannot start a thread. So as many as it starts, and the store's, are tried
/// first, all at the same time.
///
/// # Errors
/// [`Stop`] where there are not enough.
pub fn threads_can_be_had() -> Result<(), Stop> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let wanted = cores.saturating_add(THREADS_BESIDE);
    // Each waits at the gate until there are all of them.
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
    let mut started = Vec::with_capacity(wanted);
    let mut failed = None;
    for _ in 0..wanted {
        let gate = Arc::clone(&gate);
        match thread::Builder::new().spawn(move || drop(gate.lock())) {
            Ok(thread) => started.push(thread),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    drop(closed);
    for thread in started {
        let _ = thread.join();
    }
    let Some(error) = failed else { return Ok(()) };
    let reason = format!(
        "{wanted} threads are needed and cannot be had: {error}; mend: raise the limit on tasks (ulimit -u, TasksMax)"
    );
    Err(Stop::new(exit::SYSTEM, reason))
}

/// Signals that would end the process by default and mean nothing here: a file that grew beyond a limit
/// (writing fails then too, and is told as a full disk is), a soft limit on its time, alarms, and what people
/// send to see whether it does anything.
pub(super) fn overheard() -> Result<Vec<Signal>, Stop> {
    use rustix::process::Signal as Raw;
    let kinds = [
        Raw::XFSZ,
        Raw::XCPU,
        Raw::ALARM,
        Raw::VTALARM,
        Raw::PROF,
        Raw::IO,
        Raw::POWER,
        Raw::STKFLT,
        Raw::USR1,
        Raw::USR2,
    ];
    let kinds = kinds.map(|kind| SignalKind::from_raw(kind.as_raw()));
    let kept = kinds.into_iter().map(signal).collect::<Result<_, _>>();
    kept.map_err(|error| Stop::new(exit::SYSTEM, format!("cannot listen for signals: {error}")))
}

/// A panic's place is logged, never its message, which might hold a customer's data.
pub(super) fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::start_log;

    #[test]
    fn a_panics_place_is_logged_and_its_message_never() {
        const CANARY: &str = "739105826417";
        const WITHIN: &str = "ATM_BANK_TEST_PANICS";
        // A hook is the whole process's, so this test runs once more, in one of its own.
        if std::env::var_os(WITHIN).is_some() {
            let _log = start_log(LogFormat::Json, tracing::Level::TRACE);
            log_panics();
            let caught = std::panic::catch_unwind(|| panic!("the PIN was {CANARY}"));
            assert!(caught.is_err());
            return;
        }
        let ran = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["a_panics_place_is_logged_and_its_message_never"])
            .arg("--nocapture")
            .env(WITHIN, "1")
            .output()
            .unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(ran.status.success(), "{said}");
        let place = said
            .lines()
            .filter(|line| line.contains("\"message\":\"panic\""));
        assert_eq!(place.filter(|line| line.contains("process.rs:")).count(), 1);
        assert!(!said.contains(CANARY), "{said}");
    }
}
