//! Time's work: holds whose time is over, keys and tries past theirs, records that wait.

use super::Bank;
use crate::domain::TerminalName;
use crate::limits;
use crate::store::{SWEEP_ROWS_MAX, StoreError, Swept};

impl Bank {
    /// One round.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        self.write_waiting(false).await?;
        let context = self.context(&TerminalName::anonymous(), None);
        self.call(self.store.sweep(context)).await
    }

    /// Sweeps for ever; a round that found much is followed by the next at once.
    pub async fn keep_sweeping(&self) {
        loop {
            match self.sweep().await {
                Ok(swept) if swept.holds.max(swept.keys).max(swept.tries) >= SWEEP_ROWS_MAX => {
                    tokio::task::yield_now().await;
                }
                Ok(_) => tokio::time::sleep(limits::STORE_SWEEP_INTERVAL).await,
                Err(error) => {
                    tracing::error!(%error, "sweeping failed");
                    tokio::time::sleep(limits::STORE_SWEEP_INTERVAL).await;
                }
            }
        }
    }
}
