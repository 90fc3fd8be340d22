//! Time's work on the rows: holds whose time is over, and what is past its keeping.

use rusqlite::params;

use super::writer::Books;
use crate::store::{Context, SWEEP_ROWS_MAX, StoreError, Swept};

impl Books<'_> {
    pub(super) fn sweep(&mut self, context: &Context) -> Result<Swept, StoreError> {
        let now = context.now;
        let rows_max = i64::try_from(SWEEP_ROWS_MAX).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare_cached(
            "SELECT DISTINCT account FROM hold WHERE state = 0 AND expires_at <= ?1 LIMIT ?2",
        )?;
        let accounts =
            statement.query_map(params![now.unix_ms(), rows_max], |row| row.get::<_, i64>(0))?;
        let mut swept = Swept::default();
        for id in accounts.collect::<Result<Vec<_>, _>>()? {
            let most = SWEEP_ROWS_MAX.saturating_sub(swept.holds);
            if most == 0 {
                break;
            }
            let mut account = self.account(id)?;
            let expired = self.expire_some(&mut account, now, most)?;
            swept.holds = swept.holds.saturating_add(expired);
        }
        let forgotten = now.minus_ms(context.terms.keys_kept_ms).unix_ms();
        swept.keys = self
            .connection
            .prepare_cached(
                "DELETE FROM request WHERE id IN (SELECT id FROM request ORDER BY id LIMIT ?2) AND at < ?1",
            )?
            .execute(params![forgotten, rows_max])?;
        // The oldest first, as they were made; nothing is left that leads to one of them.
        self.connection
            .prepare_cached(
                "DELETE FROM hold WHERE id IN (SELECT id FROM hold ORDER BY id LIMIT ?2) \
                 AND state <> 0 AND expires_at < ?1",
            )?
            .execute(params![
                context.terms.holds_forgotten(now).unix_ms(),
                rows_max
            ])?;
        swept.tries = self
            .connection
            .prepare_cached(
                "DELETE FROM try WHERE number IN \
                 (SELECT number FROM try WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
            )?
            .execute(params![now.unix_ms(), rows_max])?;
        self.fewer_tries(swept.tries);
        Ok(swept)
    }
}
