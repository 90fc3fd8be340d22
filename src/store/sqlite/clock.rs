//! The bank's clock as the store keeps it, and what staff mend of rows that a wrong clock stamped.

use std::collections::HashSet;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::access::read_tries;
use super::audit::Faults;
use super::postings;
use super::sums;
use super::writer::Books;
use crate::domain::{AccountNumber, ClockGuard, ClockMark, EntryKind, Timestamp};
use crate::store::{ClockEffects, Context, Done, Event, MendCursor, StoreError};

/// What is to be kept of the bank's clock; `None` where time is taken as it comes.
pub(super) type Clock = dyn Fn() -> Option<ClockMark> + Send + Sync;

/// While only time goes on, commits write the clock so often: between, the stamps of their own rows tell.
const CLOCK_WRITTEN_EACH_MS: i64 = 1_000;
/// A bank that does nothing writes its clock so often, lest a start take it for one that was away.
const CLOCK_WRITTEN_IDLE_EACH_MS: i64 = 600_000;
/// Stamps that are further beyond the clock as it was written last are not what it went on to.
const STAMPS_BEYOND_MS: u64 = 5_000;
/// Rows that one call mends at most, so that it holds nobody up. So few in tests that one is not enough.
const MENDED_ROWS_MAX: i64 = if cfg!(test) { 3 } else { 10_000 };
/// A snapshot is younger than the moment it is judged at by no more than this.
const SNAPSHOT_MS: u64 = 60_000;
/// The schema that came with the clock's table.
const CLOCK_SCHEMA: i64 = 6;

/// What the store says of the clock; one from before the clock's table its newest stamps.
pub(super) fn read_mark(connection: &Connection) -> rusqlite::Result<Option<ClockMark>> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version >= CLOCK_SCHEMA {
        let sql = "SELECT trusted, boot, boottime, ahead, guard, corrections FROM clock";
        let mark = connection.query_row(sql, [], mark_of).optional()?;
        // What went on since it was written stands in the rows of those commits.
        let stamps = last_stamps(connection, &["request", "audit"]);
        return Ok(mark.map(|mark| {
            let known = stamps.filter(|at| *at <= mark.trusted.plus_ms(STAMPS_BEYOND_MS));
            let newest = known.max().unwrap_or(mark.trusted);
            mark.gone_on_to(newest)
        }));
    }
    let newest = last_stamps(connection, &["entry", "request", "audit"]).max();
    Ok(newest.map(ClockMark::of_stamps))
}

/// The stamps of the last rows of these tables. Those that the store is too old to have, have none.
fn last_stamps<'c>(
    connection: &'c Connection,
    tables: &'c [&str],
) -> impl Iterator<Item = Timestamp> + 'c {
    tables.iter().filter_map(|table| {
        let sql = format!("SELECT at FROM {table} ORDER BY id DESC LIMIT 1");
        let stamp = connection.query_row(&sql, [], |row| row.get(0));
        stamp.map(Timestamp::from_unix_ms).ok()
    })
}

fn mark_of(row: &Row<'_>) -> rusqlite::Result<ClockMark> {
    Ok(ClockMark {
        trusted: Timestamp::from_unix_ms(row.get(0)?),
        boot_id: row.get(1)?,
        boot_ms: row.get(2)?,
        offset_ms: row.get(3)?,
        guard: ClockGuard::from_number(row.get(4)?),
        corrections: ClockMark::parse_corrections(&row.get::<_, String>(5)?),
    })
}

fn write_mark(connection: &Connection, mark: &ClockMark) -> rusqlite::Result<()> {
    let sql = "REPLACE INTO clock (one, trusted, boot, boottime, ahead, guard, corrections) \
               VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)";
    connection.prepare_cached(sql)?.execute(params![
        mark.trusted.unix_ms(),
        mark.boot_id,
        mark.boot_ms,
        mark.offset_ms,
        mark.guard.map_or(0, ClockGuard::number),
        mark.corrections_text()
    ])?;
    Ok(())
}

/// What taking `wall` as the time would do.
pub(super) fn effects(
    connection: &Connection,
    wall: Timestamp,
    context: &Context,
) -> Result<Done, StoreError> {
    let count = |sql: &str, from: Timestamp, to: Timestamp| {
        let moments = params![from.unix_ms(), to.unix_ms()];
        connection.query_row(sql, moments, |row| row.get::<_, u64>(0))
    };
    let over = |what: &str| {
        let sql = format!("SELECT count(*) FROM {what} AND expires_at > ?1 AND expires_at <= ?2");
        count(&sql, context.now, wall)
    };
    let ahead = |what: &str| {
        let sql = format!("SELECT count(*) FROM {what} > ?2 AND ?1 IS NOT NULL");
        count(&sql, context.now, wall)
    };
    let kept = |moment: Timestamp| moment.minus_ms(context.terms.keys_kept_ms);
    let keys = "SELECT count(*) FROM request WHERE at >= ?1 AND at < ?2";
    Ok(Done::Clock(Box::new(ClockEffects {
        holds_over: over("hold WHERE state = 0")?,
        keys_over: count(keys, kept(context.now), kept(wall))?,
        tries_over: over("try WHERE true")?,
        one_time_pins_over: over("credential WHERE true")?,
        codes_over: over("invitation WHERE used_at IS NULL")?,
        entries_ahead: ahead("entry WHERE at")?,
        records_ahead: ahead("audit WHERE at")?,
        days_ahead: ahead("account WHERE kind = 0 AND day * 86400000")?,
        holds_ahead: ahead("hold WHERE authorized_at")?,
        keys_ahead: ahead("request WHERE at")?,
        tries_ahead: ahead("try WHERE max(home_at, other_at)")?,
        codes_ahead: ahead("invitation WHERE made_at")?,
    })))
}

impl Books<'_> {
    /// Writes the clock into the transaction that is open, where it is due. One that `changed` nothing
    /// need not be synced.
    pub(super) fn mark_clock(&mut self, clock: &Clock, changed: bool) -> Result<(), StoreError> {
        let Some(mark) = clock() else { return Ok(()) };
        let written = self.memory.clock.as_ref();
        let each_ms = match changed {
            true => CLOCK_WRITTEN_EACH_MS,
            false => CLOCK_WRITTEN_IDLE_EACH_MS,
        };
        let is_new = |written: &ClockMark| {
            let since_ms = mark.boot_ms.saturating_sub(written.boot_ms);
            since_ms >= each_ms || (changed && !mark.only_went_on_from(written))
        };
        if written.is_none_or(is_new) {
            write_mark(self.connection, &mark)?;
            self.memory.clock = Some(mark);
        }
        Ok(())
    }

    /// Mends some of the rows that are stamped later than now; where to go on, until all were seen.
    pub(super) fn mend_clock(
        &mut self,
        cursor: MendCursor,
        context: &Context,
    ) -> Result<Done, StoreError> {
        let now_ms = context.now.unix_ms();
        let last = cursor.after.saturating_add(MENDED_ROWS_MAX);
        let table = match cursor.part {
            0 => {
                // Before the days, which are computed from them.
                let ends = context.now.plus_ms(context.terms.hold_timeout_ms).unix_ms();
                let set = format!(
                    "UPDATE hold SET authorized_at = ?2, expires_at = min(expires_at, {ends}) WHERE name = ?1"
                );
                let sql = "SELECT name FROM hold WHERE id > ?1 AND id <= ?2 AND authorized_at > ?3";
                self.mend_rows(sums::HOLD, (sql, &set), (cursor.after, last), now_ms)?;
                "hold"
            }
            1 => {
                let sql = "SELECT id FROM request WHERE id > ?1 AND id <= ?2 AND at > ?3";
                let set = "UPDATE request SET at = ?2 WHERE id = ?1";
                self.mend_rows(sums::REQUEST, (sql, set), (cursor.after, last), now_ms)?;
                "request"
            }
            2 => {
                self.mend_days((cursor.after, last), context)?;
                "account"
            }
            _ => {
                self.mend_tries(context)?;
                let sql = "SELECT terminal FROM invitation WHERE ?1 < ?2 AND made_at > ?3";
                let set = "UPDATE invitation SET expires_at = ?2 + expires_at - made_at, made_at = ?2 \
                           WHERE terminal = ?1";
                self.mend_rows(sums::INVITATION, (sql, set), (0, 1), now_ms)?;
                return Ok(Done::Mended(None));
            }
        };
        let sql = format!("SELECT coalesce(max(id), 0) > ?1 FROM {table}");
        let more = self.connection.query_row(&sql, [last], |row| row.get(0))?;
        Ok(Done::Mended(Some(match more {
            true => MendCursor {
                after: last,
                ..cursor
            },
            false => MendCursor {
                part: cursor.part.saturating_add(1),
                after: 0,
            },
        })))
    }

    /// Sets the moments of the rows whose keys `sql` selects between two numbers, and sums them anew.
    fn mend_rows(
        &self,
        table: sums::Table,
        (sql, set): (&str, &str),
        (after, last): (i64, i64),
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let keys = statement.query_map([after, last, now_ms], |row| row.get::<_, Value>(0))?;
        for key in keys.collect::<Result<Vec<_>, _>>()? {
            self.connection
                .prepare_cached(set)?
                .execute(params![key, now_ms])?;
            sums::renew(self.connection, table, key)?;
        }
        Ok(())
    }

    /// Brings accounts whose business day is to come back to today's, with what today has used.
    fn mend_days(
        &mut self,
        (after, last): (i64, i64),
        context: &Context,
    ) -> Result<(), StoreError> {
        let today = context.now.business_day();
        let sql = "SELECT id FROM account WHERE id > ?1 AND id <= ?2 AND kind = 0 AND day > ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let ids = statement.query_map([after, last, today], |row| row.get::<_, i64>(0))?;
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        if ids.is_empty() {
            return Ok(());
        }
        let mut statement = self
            .connection
            .prepare_cached("SELECT entry FROM hold WHERE entry IS NOT NULL")?;
        let by_hold = statement.query_map([], |row| row.get(0))?;
        let by_hold: HashSet<i64> = by_hold.collect::<Result<_, _>>()?;
        for id in ids {
            let used = self.used_on(id, today, &by_hold)?;
            let mut account = self.account(id)?;
            (account.day, account.day_used) = (today, used);
            self.save(&account)?;
        }
        Ok(())
    }

    /// What the account's withdrawals and holds have used of a day.
    fn used_on(&self, id: i64, day: i64, by_hold: &HashSet<i64>) -> Result<i64, StoreError> {
        let (start, end) = (
            Timestamp::start_of_day(day),
            Timestamp::start_of_day(day.saturating_add(1)),
        );
        // A day more than is asked for: stamps need not be in order where a clock was wrong.
        let lines = postings::since(self.connection, id, start.minus_ms(86_400_000))?;
        let paid = lines.iter().filter(|line| {
            line.kind == EntryKind::Withdrawal
                && (start..end).contains(&line.at)
                && !by_hold.contains(&line.entry)
        });
        let paid = paid.fold(0_i64, |sum, line| sum.saturating_sub(line.amount));
        let sql = "SELECT coalesce(sum(CASE state WHEN 0 THEN amount ELSE captured END), 0) FROM hold \
                   WHERE account = ?1 AND state IN (0, 1) AND authorized_at >= ?2 AND authorized_at < ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let held: i64 = statement
            .query_row(params![id, start.unix_ms(), end.unix_ms()], |row| {
                row.get(0)
            })?;
        Ok(paid.saturating_add(held))
    }

    fn mend_tries(&mut self, context: &Context) -> Result<(), StoreError> {
        let sql = "SELECT number, home_terminal, home, home_at, other, other_at FROM try \
                   WHERE max(home_at, other_at) > ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([context.now.unix_ms()], |row| {
            Ok((row.get::<_, String>(0)?, read_tries(row, 1)?))
        })?;
        for (number, mut record) in rows.collect::<Result<Vec<_>, _>>()? {
            let Ok(number) = number.parse::<AccountNumber>() else {
                continue;
            };
            for spent in [&mut record.home, &mut record.other] {
                spent.last_at = spent.last_at.min(context.now);
            }
            self.save_tries(number, &record, context.terms.lockout)?;
        }
        Ok(())
    }

    /// The last entry and the last record: what of them is stamped in the future is known of.
    pub(super) fn acknowledge_stamps(&self) -> Result<Done, StoreError> {
        let sql = "SELECT (SELECT coalesce(max(id), 0) FROM entry), (SELECT count FROM audit_head)";
        let read = |row: &Row<'_>| {
            Ok(Done::Acknowledged {
                entries: row.get(0)?,
                records: row.get(1)?,
            })
        };
        Ok(self.connection.prepare_cached(sql)?.query_row([], read)?)
    }
}

/// Stamps later than now: faults, unless they were acknowledged. What was is returned in words.
pub(super) fn audit_stamps(
    connection: &Connection,
    now: Timestamp,
    faults: &mut Faults,
) -> Result<Vec<String>, StoreError> {
    let late_ms = now.plus_ms(SNAPSHOT_MS).unix_ms();
    let acknowledged: Option<(i64, String)> = connection
        .prepare("SELECT id, detail FROM audit WHERE event = ?1 ORDER BY id DESC LIMIT 1")?
        .query_row([Event::ClockAccepted.name()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let mut noted = Vec::new();
    for (table, name) in [("entry", "entries"), ("audit", "records")] {
        let sql = format!("SELECT id, at FROM {table} WHERE at > ?1 ORDER BY id");
        let mut statement = connection.prepare(&sql)?;
        let rows =
            statement.query_map([late_ms], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
        let known = acknowledged.as_ref();
        let through = known
            .and_then(|(_, detail)| through(detail, name))
            .unwrap_or(0);
        let mut known_of = 0_u64;
        for row in rows {
            let (number, at) = row?;
            if number <= through {
                known_of = known_of.saturating_add(1);
                continue;
            }
            let at = Timestamp::from_unix_ms(at);
            let what = if table == "entry" {
                "entry"
            } else {
                "audit record"
            };
            faults.add(format!(
                "{what} {number}: it is stamped {at}, which is to come; mend: bank_server clock accept"
            ));
        }
        if let (Some((record, _)), true) = (known, known_of > 0) {
            noted.push(format!(
                "{known_of} {name} up to {through} are stamped in the future, as audit record {record} acknowledges"
            ));
        }
    }
    for (what, sql) in [
        (
            "business days of accounts",
            "account WHERE kind = 0 AND day * 86400000",
        ),
        ("holds", "hold WHERE authorized_at"),
        ("kept answers", "request WHERE at"),
        ("counts of wrong PINs", "try WHERE max(home_at, other_at)"),
        ("enrolment codes", "invitation WHERE made_at"),
    ] {
        let sql = format!("SELECT count(*) FROM {sql} > ?1");
        let count: u64 = connection.query_row(&sql, [late_ms], |row| row.get(0))?;
        if count > 0 {
            faults.add(format!(
                "{count} {what} are stamped in the future; mend: bank_server clock accept"
            ));
        }
    }
    Ok(noted)
}

/// The number behind `name through` in a record's detail.
fn through(detail: &str, name: &str) -> Option<i64> {
    let parts = detail.split(", ");
    let mut found = parts.filter_map(|part| part.strip_prefix(name)?.strip_prefix(" through "));
    found.next()?.parse().ok()
}
