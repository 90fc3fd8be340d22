//! What is there.

use super::{Bank, Failure, Session};
use crate::store::Balances;

impl Bank {
    /// The account's money.
    ///
    /// # Errors
    /// The store's.
    pub async fn balance(&self, session: &mut Session) -> Result<Balances, Failure> {
        let context = session.context(self);
        Ok(self
            .call(self.store.balance(session.claim(), context))
            .await?)
    }
}
