//! Time's work: holds whose time is over, keys and tries past theirs, records that wait.

use super::Bank;
use crate::domain::TerminalName;
use crate::limits;
use crate::store::{StoreError, Swept};

impl Bank {
    /// One round. Where it is not known what the time is, nothing is over.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        // First, whatever else goes wrong; and the service manager hears from the store by it.
        self.call(self.store.look()).await?;
        self.write_waiting(false).await?;
        if !self.knows_the_time() {
            return Ok(Swept::default());
        }
        let context = self.context(&TerminalName::anonymous(), None);
        self.call(self.store.sweep(context)).await
    }

    /// Sweeps for ever; a round that found much is followed by the next at once.
    pub async fn keep_sweeping(&self) {
        let mut known = None;
        loop {
            let swept = self.sweep().await;
            match swept {
                Ok(swept) if swept.is_full() => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Ok(_) => known = None,
                // Said once, however long it goes on.
                Err(error) if known.as_ref() != Some(&error) => {
                    tracing::error!(%error, "sweeping failed");
                    known = Some(error);
                }
                Err(_) => {}
            }
            tokio::time::sleep(limits::STORE_SWEEP_INTERVAL).await;
        }
    }
}
