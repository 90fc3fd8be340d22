//! A service manager's view (systemd's `sd_notify`): ready, alive, stopping. Says nothing where none asked.

use std::net::SocketAddr;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::bank::Bank;
use crate::limits;

/// Says that the server serves, then keeps the watchdog quiet for as long as reactor and store
/// both answer: it bites where either hangs.
pub(super) async fn report(bank: &Bank, address: SocketAddr) {
    let status = format!("serving on {address}");
    tell(move || sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status)])).await;
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval(patience.div_f64(2.0).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        // The sweeper asks the store each second, so that it is heard from without customers too.
        if bank.store_silent_for() < patience {
            tell(|| sd_notify::notify(&[NotifyState::Watchdog])).await;
        } else {
            tracing::error!(
                "the store does not answer: the service manager is not told that all is well"
            );
        }
    }
}

/// Says that the server goes down.
pub(super) async fn report_stopping() {
    tell(|| sd_notify::notify(&[NotifyState::Stopping])).await;
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
