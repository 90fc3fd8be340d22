//! What has been.

use super::{Bank, Failure, Session};
use crate::domain::EntryNumber;
use crate::store::Line;

impl Bank {
    /// The account's entries, newest first: at most `limit`, with numbers below `before`.
    ///
    /// # Errors
    /// The store's.
    pub async fn history(
        &self,
        session: &mut Session,
        limit: u8,
        before: Option<EntryNumber>,
    ) -> Result<Vec<Line>, Failure> {
        Ok(self
            .call(self.store.history(session.claim(), limit, before))
            .await?)
    }
}
