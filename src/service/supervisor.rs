//! A service manager's view (systemd's `sd_notify`): ready, alive, stopping. Says nothing where none asked.

use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::bank::Bank;
use crate::limits;

/// Says that the server serves, then keeps the watchdog quiet for as long as reactor and store
/// both answer: it bites where either hangs.
pub(super) async fn report(bank: &Bank, address: SocketAddr) {
    let status = format!("serving on {address}");
    tell(move || notify(&[NotifyState::Ready, NotifyState::Status(&status)])).await;
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval(patience.div_f64(2.0).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        // The sweeper asks the store each second, so that it is heard from without customers too.
        if bank.store_silent_for() < patience {
            tell(|| notify(&[NotifyState::Watchdog])).await;
        } else {
            tracing::error!(
                "the store does not answer: the service manager is not told that all is well"
            );
        }
    }
}

/// Says that the server goes down.
pub(super) async fn report_stopping() {
    tell(|| notify(&[NotifyState::Stopping])).await;
}

/// To the manager's socket, which may be one that has a name and no file (`@NAME`).
fn notify(state: &[NotifyState<'_>]) -> io::Result<()> {
    let socket = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    let Some(name) = socket.as_bytes().strip_prefix(b"@") else {
        return sd_notify::notify(state);
    };
    let text: String = state.iter().map(|state| format!("{state}\n")).collect();
    let address = UnixAddress::from_abstract_name(name)?;
    UnixDatagram::unbound()?
        .send_to_addr(text.as_bytes(), &address)
        .map(|_| ())
}

/// A manager that does not read holds nobody up.
async fn tell(send: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
    let sent = tokio::time::timeout(
        limits::SUPERVISOR_TIMEOUT,
        tokio::task::spawn_blocking(send),
    );
    if let Ok(Ok(Err(error))) = sent.await {
        tracing::warn!(%error, "the service manager was not reached");
    }
}
