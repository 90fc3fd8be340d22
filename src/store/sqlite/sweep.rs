//! Time's work on the rows: holds whose time is over, and what is past its keeping.

use rusqlite::{OptionalExtension as _, params};

use super::sums;
use super::writer::Books;
use crate::domain::Timestamp;
use crate::store::{Context, SWEEP_ROWS_MAX, StoreError, Swept};

/// The bank's row with the last business day, in days since 1970, that a hold which is forgotten may
/// have counted for: what was used of it and of days before no longer follows from what is kept. It is
/// never one to come: what a wrong clock made for such a day does not count for it.
pub(super) const HOLDS_FORGOTTEN_DAY: &str = "holds_forgotten_day";

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
            let expired = self.expire_some(id, now, most)?;
            swept.holds = swept.holds.saturating_add(expired);
        }
        let forgotten = now.minus_ms(context.terms.keys_kept_ms).unix_ms();
        swept.keys = self
            .connection
            .prepare_cached(
                "DELETE FROM request WHERE id IN (SELECT id FROM request ORDER BY id LIMIT ?2) AND at < ?1",
            )?
            .execute(params![forgotten, rows_max])?;
        // With keys to be forgotten still, the way to the first answer with a hold may be long each time.
        if swept.keys < SWEEP_ROWS_MAX {
            swept.forgotten_holds = self.forget_holds(context, rows_max)?;
        }
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

    /// Forgets holds that ended long ago, the oldest first, as they were made; and notes the last
    /// business day that one of them counted for.
    fn forget_holds(&self, context: &Context, rows_max: i64) -> Result<usize, StoreError> {
        let today = context.now.business_day();
        // What was noted while the clock was ahead.
        let sql = "UPDATE bank SET value = ?2 WHERE name = ?1 AND CAST(value AS INTEGER) > ?2";
        self.note_forgotten_day(sql, today)?;
        let moment = context.terms.holds_forgotten(context.now).unix_ms();
        let sql = "SELECT 1 FROM (SELECT state, expires_at FROM hold ORDER BY id LIMIT ?2) \
                   WHERE state <> 0 AND expires_at < ?1 LIMIT 1";
        let mut due = self.connection.prepare_cached(sql)?;
        if !due.exists([moment, rows_max])? {
            return Ok(0);
        }
        // Whatever the stamps say, a kept answer must find its hold, whose number is never another's
        // before. Holds get their numbers in the order of the answers that made them: none is kept that
        // made one before the first that is named. An answer that settled a hold stands in its row.
        let sql = "SELECT hold FROM request WHERE hold IS NOT NULL ORDER BY id LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let first_named: Option<i64> = statement.query_row([], |row| row.get(0)).optional()?;
        let sql = "DELETE FROM hold WHERE id IN (SELECT id FROM hold ORDER BY id LIMIT ?2) \
                   AND state <> 0 AND expires_at < ?1 AND id < ?3 AND NOT EXISTS (SELECT 1 FROM request \
                   WHERE request.id = hold.settled_by AND request.hold = hold.id) RETURNING \
                   max(authorized_at, coalesce((SELECT at FROM entry WHERE entry.id = hold.entry), 0))";
        let mut statement = self.connection.prepare_cached(sql)?;
        let parameters = [moment, rows_max, first_named.unwrap_or(i64::MAX)];
        let stamps = statement.query_map(parameters, |row| row.get::<_, i64>(0))?;
        let stamps = stamps.collect::<Result<Vec<_>, _>>()?;
        if let Some(last) = stamps.iter().max() {
            let last = Timestamp::from_unix_ms(*last).business_day();
            let sql = "INSERT INTO bank (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE \
                       SET value = excluded.value WHERE CAST(value AS INTEGER) < ?2";
            self.note_forgotten_day(sql, last.min(today))?;
        }
        Ok(stamps.len())
    }

    fn note_forgotten_day(&self, sql: &str, day: i64) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        if statement.execute(params![HOLDS_FORGOTTEN_DAY, day])? > 0 {
            sums::renew(self.connection, sums::BANK, HOLDS_FORGOTTEN_DAY)?;
        }
        Ok(())
    }
}
