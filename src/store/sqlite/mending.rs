//! What staff mend of rows that a wrong clock stamped: a few at a time, so that nobody waits long.

use rusqlite::types::{FromSql, Value};
use rusqlite::{ToSql, params};

use super::access::read_tries;
use super::days::withdrawn_on;
use super::sums;
use super::writer::Books;
use crate::domain::{AccountNumber, Timestamp};
use crate::store::state::Tries;
use crate::store::{Acknowledged, Context, Done, MendCursor, MendPart, StoreError};

/// Rows that one call looks at, at most. So few in tests that one call is not enough.
const ROWS_MAX: usize = if cfg!(test) { 3 } else { 500 };
/// Accounts that one call mends, at most: the use of each one's day is counted anew.
const ACCOUNTS_MAX: usize = if cfg!(test) { 1 } else { 20 };

impl Books<'_> {
    /// Mends some of the rows that are stamped later than now; where to go on, until all were seen.
    pub(super) fn mend_clock(
        &mut self,
        cursor: &MendCursor,
        context: &Context,
    ) -> Result<Done, StoreError> {
        // What this commit has saved before is looked for in the file.
        self.write_accounts()?;
        let now_ms = context.now.unix_ms();
        let (same, next) = match &cursor.part {
            MendPart::Accounts(after) => {
                let seen = self.mend_accounts(*after, cursor, context)?;
                (
                    seen.map(MendPart::Accounts),
                    Some(MendPart::Holds(i64::MAX)),
                )
            }
            MendPart::Holds(after) => {
                // All but released ones were their accounts'. The newest first: however fast more come, it ends.
                let look = "SELECT id, authorized_at, name FROM hold WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
                let seen = self.mend_rows(sums::HOLD, (look, &hold_set(context)), after, now_ms)?;
                (seen.map(MendPart::Holds), Some(MendPart::Keys(i64::MAX)))
            }
            MendPart::Keys(after) => {
                let look = "SELECT id, at, id FROM request WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
                let set = "UPDATE request SET at = ?2 WHERE id = ?1";
                let seen = self.mend_rows(sums::REQUEST, (look, set), after, now_ms)?;
                let next = MendPart::Tries(String::new());
                (seen.map(MendPart::Keys), Some(next))
            }
            MendPart::Tries(after) => {
                let seen = self.mend_tries(after, context)?;
                let next = MendPart::Codes(String::new());
                (seen.map(MendPart::Tries), Some(next))
            }
            MendPart::Codes(after) => {
                let look = "SELECT terminal, made_at, terminal FROM invitation WHERE terminal > ?1 \
                            ORDER BY terminal LIMIT ?2";
                let set = "UPDATE invitation SET expires_at = ?2 + expires_at - made_at, made_at = ?2 \
                           WHERE terminal = ?1";
                let seen = self.mend_rows(sums::INVITATION, (look, set), after, now_ms)?;
                (seen.map(MendPart::Codes), None)
            }
        };
        Ok(Done::Mended(same.or(next).map(|part| MendCursor {
            part,
            ..cursor.clone()
        })))
    }

    /// Looks at the next rows, and sets and sums anew those that are stamped later than now. `look`
    /// gives what the rows are ordered by, the stamp, and the key that they are set and summed by. The
    /// last row that was seen; `None` where it was the last of all.
    fn mend_rows<K: FromSql + ToSql>(
        &self,
        table: sums::Table,
        (look, set): (&str, &str),
        after: &K,
        now_ms: i64,
    ) -> Result<Option<K>, StoreError> {
        let mut statement = self.connection.prepare_cached(look)?;
        let rows = statement.query_map((after, ROWS_MAX), |row| {
            Ok((
                row.get::<_, K>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, Value>(2)?,
            ))
        })?;
        let mut seen = Seen::default();
        for row in rows.collect::<Result<Vec<_>, _>>()? {
            let (behind, at, key) = row;
            if at > now_ms {
                self.set_row(table, set, &key, now_ms)?;
            }
            seen.add(behind);
        }
        Ok(seen.unless_all())
    }

    fn set_row(
        &self,
        table: sums::Table,
        set: &str,
        key: &Value,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(set)?;
        statement.execute((key, now_ms))?;
        Ok(sums::renew(self.connection, table, key)?)
    }

    /// Looks at the next accounts, and mends those whose business day is to come, or was when mending was
    /// begun, or that have holds of the future which count for a day or may yet.
    fn mend_accounts(
        &mut self,
        after: i64,
        cursor: &MendCursor,
        context: &Context,
    ) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT id, kind = 0 AND (day > ?3 \
                   OR EXISTS (SELECT 1 FROM hold WHERE hold.account = account.id AND state = 0 AND authorized_at > ?4) \
                   OR EXISTS (SELECT 1 FROM hold WHERE hold.account = account.id AND state = 1 AND authorized_at > ?4) \
                   OR EXISTS (SELECT 1 FROM hold WHERE hold.account = account.id AND state = 3 AND expires_at > ?4 \
                   AND authorized_at > ?4)) \
                   FROM account WHERE id > ?1 ORDER BY id LIMIT ?2";
        let today = context.now.business_day();
        let mut statement = self.connection.prepare_cached(sql)?;
        // Where it goes on on a later day, accounts too that it brought to the day that it was: an entry that was made
        // before that may be of this very day, and is not acknowledged.
        let begun_on = cursor.begun_on.filter(|day| *day < today);
        let first = begun_on.map_or(today, |day| day.saturating_sub(1));
        let which = (after, ROWS_MAX, first, context.now.unix_ms());
        let rows = statement.query_map(which, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows = rows.collect::<Result<Vec<(i64, bool)>, _>>()?;
        let (mut seen, mut mended, mut holds) = (Seen::default(), 0_usize, 0_usize);
        for (id, is_wrong) in rows {
            if is_wrong && mended == ACCOUNTS_MAX {
                return Ok(seen.last.or(Some(after)));
            }
            if is_wrong {
                holds = holds.saturating_add(self.mend_holds_of(
                    id,
                    ROWS_MAX.saturating_sub(holds),
                    context,
                )?);
                if holds == ROWS_MAX {
                    // There may be more of them: the next call goes on with this account.
                    return Ok(seen.last.or(Some(after)));
                }
                self.mend_account(id, &cursor.acknowledged, context)?;
                mended = mended.saturating_add(1);
            }
            seen.add(id);
        }
        Ok(seen.unless_all())
    }

    /// Brings holds of an account back to now that count, or would once they are captured late: `most` of
    /// them. How many. Its day stays where it is until all of them are of now, so that whatever ends this
    /// here the day is still found wrong, and its use is counted anew.
    fn mend_holds_of(&self, id: i64, most: usize, context: &Context) -> Result<usize, StoreError> {
        let now_ms = context.now.unix_ms();
        let sql = "SELECT name FROM hold WHERE account = ?1 AND state = 0 AND authorized_at > ?2 UNION ALL \
                   SELECT name FROM hold WHERE account = ?1 AND state = 1 AND authorized_at > ?2 UNION ALL \
                   SELECT name FROM hold WHERE account = ?1 AND state = 3 AND expires_at > ?2 AND authorized_at > ?2 \
                   LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let names = statement.query_map(params![id, now_ms, most], |row| row.get(0))?;
        let names = names.collect::<Result<Vec<Value>, _>>()?;
        for name in &names {
            self.set_row(sums::HOLD, &hold_set(context), name, now_ms)?;
        }
        Ok(names.len())
    }

    /// Brings an account back to now: whatever was done with its holds since others were looked at, its
    /// day has used what they make.
    fn mend_account(
        &mut self,
        id: i64,
        acknowledged: &[Acknowledged],
        context: &Context,
    ) -> Result<(), StoreError> {
        let today = context.now.business_day();
        let used = self.used_on(id, today, acknowledged)?;
        let mut account = self.account(id)?;
        (account.day, account.day_used) = (today, used);
        self.save(&account);
        Ok(())
    }

    /// What the account's withdrawals and holds have used of a day.
    fn used_on(&self, id: i64, day: i64, acknowledged: &[Acknowledged]) -> Result<i64, StoreError> {
        let (start, end) = (
            Timestamp::start_of_day(day),
            Timestamp::start_of_day(day.saturating_add(1)),
        );
        let paid = withdrawn_on(self.connection, id, day, acknowledged)?.sum;
        let sql = "SELECT coalesce((SELECT sum(amount) FROM hold WHERE account = ?1 AND state = 0 \
                   AND authorized_at >= ?2 AND authorized_at < ?3), 0) + coalesce((SELECT sum(captured) FROM hold \
                   WHERE account = ?1 AND state = 1 AND authorized_at >= ?2 AND authorized_at < ?3), 0)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let which = [id, start.unix_ms(), end.unix_ms()];
        let held: i64 = statement.query_row(which, |row| row.get(0))?;
        Ok(paid.saturating_add(held))
    }

    fn mend_tries(&self, after: &str, context: &Context) -> Result<Option<String>, StoreError> {
        let sql = "SELECT number, home_terminal, home, home_at, other, other_at FROM try \
                   WHERE number > ?1 ORDER BY number LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map((after, ROWS_MAX), |row| {
            Ok((row.get::<_, String>(0)?, read_tries(row, 1)?))
        })?;
        let mut seen = Seen::default();
        for (text, mut record) in rows.collect::<Result<Vec<_>, _>>()? {
            let number = text.parse::<AccountNumber>();
            seen.add(text);
            let spent = [&mut record.home, &mut record.other];
            let Ok(number) = number else { continue };
            if spent.iter().all(|spent| spent.last_at <= context.now) {
                continue;
            }
            for spent in spent {
                spent.last_at = spent.last_at.min(context.now);
            }
            let expires_at = record.expires_at(context.terms.lockout);
            self.save_tries(number, &Tries { record, expires_at })?;
        }
        Ok(seen.unless_all())
    }
}

/// Makes a hold one of now, that ends no later than one that is made now; one that has expired, now. Of those
/// that end later than now no more are found each time that were mended than may be open at once.
fn hold_set(context: &Context) -> String {
    let ends = context.now.plus_ms(context.terms.hold_timeout_ms).unix_ms();
    format!(
        "UPDATE hold SET authorized_at = ?2, expires_at = min(expires_at, iif(state = 3, ?2, {ends})) WHERE name = ?1"
    )
}

/// How far a call has come.
struct Seen<K> {
    count: usize,
    last: Option<K>,
}

impl<K> Default for Seen<K> {
    fn default() -> Self {
        Self {
            count: 0,
            last: None,
        }
    }
}

impl<K> Seen<K> {
    fn add(&mut self, key: K) {
        self.count = self.count.saturating_add(1);
        self.last = Some(key);
    }

    /// The last row; `None` where there are no more behind it.
    fn unless_all(self) -> Option<K> {
        self.last.filter(|_| self.count >= ROWS_MAX)
    }
}
