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
        // What is known without asking is no sign that the store answers.
        Ok(self
            .wait(self.store.balance(session.claim(), context))
            .await?)
    }
}
