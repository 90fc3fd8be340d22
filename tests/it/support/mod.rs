//! A bank to test: its folder, its server's process, its terminals.

pub(crate) mod card;
pub(crate) mod customer;
pub(crate) mod eager;
pub(crate) mod memory;
pub(crate) mod monitor;
pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod site;
pub(crate) mod terminal;

use std::time::{Duration, Instant};

pub(crate) use card::Card;
pub(crate) use monitor::Monitor;
pub(crate) use process::Ran;
pub(crate) use server::Server;
pub(crate) use site::{ACCOUNT_PINS, Site};
pub(crate) use terminal::{Ending, Reply, Terminal};

/// No single wait of a test is longer: far more than anything takes, even on a busy machine.
pub(crate) const WAIT: Duration = Duration::from_secs(30);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(5);

/// What `look` finds, as soon as it finds something.
///
/// # Panics
/// After [`WAIT`], naming `what` was waited for.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

/// A wait within a task: as [`until`], without holding the other tasks up.
pub(crate) async fn until_async<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Runs `work` to its end, or panics after [`WAIT`].
pub(crate) async fn in_time<F: Future>(what: &str, work: F) -> F::Output {
    match tokio::time::timeout(WAIT, work).await {
        Ok(done) => done,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Lets this process open as many files as it may.
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// A new idempotency key.
pub(crate) fn key() -> String {
    uuid::Uuid::now_v7().to_string()
}
