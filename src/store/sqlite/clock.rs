//! The bank's clock as the store keeps it, and what staff are told of it.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::audit::Faults;
use super::slices::Slices;
use super::writer::Books;
use crate::domain::hold::LATE_CAPTURE_MS;
use crate::domain::{AuditRecord, ClockGuard, ClockMark, Timestamp};
use crate::store::clock::through;
use crate::store::{Acknowledged, ClockEffects, Context, Done, StoreError, unfinished};

/// What is to be kept of the bank's clock; `None` where time is taken as it comes.
pub(super) type Clock = dyn Fn() -> Option<ClockMark> + Send + Sync;

/// While only time goes on, commits write the clock so often: between, the stamps of their own rows tell.
const CLOCK_WRITTEN_EACH_MS: i64 = 1_000;
/// A bank that does nothing writes its clock so often, lest a start take it for one that was away.
const CLOCK_WRITTEN_IDLE_EACH_MS: i64 = 600_000;
/// Stamps that are further beyond the clock as it was written last are not what it went on to.
const STAMPS_BEYOND_MS: u64 = 5_000;
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
    let certificates = "SELECT count(*) FROM certificate WHERE revoked_at IS NULL AND ends_at > ?1 AND ends_at <= ?2";
    let kept = |moment: Timestamp| moment.minus_ms(context.terms.keys_kept_ms);
    let keys = "SELECT count(*) FROM request WHERE at >= ?1 AND at < ?2";
    let late = |moment: Timestamp| moment.minus_ms(LATE_CAPTURE_MS);
    let could =
        "SELECT count(*) FROM hold WHERE state IN (0, 3) AND expires_at > ?1 AND expires_at <= ?2";
    let forgotten = |moment: Timestamp| context.terms.holds_forgotten(moment);
    let past = "SELECT count(*) FROM hold WHERE expires_at >= ?1 AND expires_at < ?2";
    Ok(Done::Clock(Box::new(ClockEffects {
        holds_over: over("hold WHERE state = 0")?,
        late_captures_over: count(could, late(context.now), late(wall))?,
        holds_forgotten: count(past, forgotten(context.now), forgotten(wall))?,
        keys_over: count(keys, kept(context.now), kept(wall))?,
        tries_over: over("try WHERE true")?,
        one_time_pins_over: over("credential WHERE true")?,
        codes_over: over("invitation WHERE used_at IS NULL")?,
        certificates_over: count(certificates, context.now, wall)?,
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

/// Stamps later than this are to come, as the snapshot has it that is open.
type Late<'l> = dyn Fn(&Connection) -> rusqlite::Result<i64> + 'l;

/// When something began: CLOCK_BOOTTIME, and what the store said then is the time.
pub(super) struct Began {
    boot: Duration,
    trusted: Option<Timestamp>,
}

impl Began {
    pub(super) fn now(connection: &Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            boot: since_boot(),
            trusted: trusted(connection)?,
        })
    }

    /// How long ago it was, in milliseconds; where the time was set forward since, by as much more.
    fn ago_ms(&self, connection: &Connection) -> rusqlite::Result<u64> {
        let gone = since_boot().saturating_sub(self.boot).as_millis();
        let gone = u64::try_from(gone).unwrap_or(u64::MAX);
        let went_on = match (self.trusted, trusted(connection)?) {
            (Some(then), Some(now)) => now.unix_ms().saturating_sub(then.unix_ms()),
            _ => 0,
        };
        Ok(gone.max(u64::try_from(went_on).unwrap_or(0)))
    }
}

fn trusted(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    Ok(read_mark(connection)?.map(|mark| mark.trusted))
}

/// Stamps later than now: faults, unless they were acknowledged. What was is returned in words. `now` is
/// when the audit `began`: what is written meanwhile is no fault.
pub(super) fn audit_stamps(
    slices: &mut Slices<'_>,
    (now, began): (Timestamp, &Began),
    accepted: &[AuditRecord],
    faults: &mut Faults,
) -> Result<Vec<String>, StoreError> {
    let late = |connection: &Connection| {
        let ago_ms = began.ago_ms(connection)?;
        Ok(now.plus_ms(SNAPSHOT_MS.saturating_add(ago_ms)).unix_ms())
    };
    let acknowledged = accepted
        .iter()
        .rfind(|record| Acknowledged::of(record).is_some());
    let mut noted = Vec::new();
    for log in [
        ("entry", "entries", "entry"),
        ("audit", "records", "audit record"),
    ] {
        noted.extend(audit_log(slices, log, acknowledged, &late, faults)?);
    }
    if let Some(record) = accepted.last().filter(|last| unfinished(last).is_some()) {
        let number = record.number;
        noted.push(format!(
            "audit record {number}: the wall clock was taken, and what it mends is not mended yet; a server goes on \
             with it when it starts"
        ));
    }
    audit_rows(slices, &late, faults)?;
    Ok(noted)
}

/// Rows that staff can mend, stamped later than a moment: faults.
fn audit_rows(
    slices: &mut Slices<'_>,
    late: &Late<'_>,
    faults: &mut Faults,
) -> Result<(), StoreError> {
    for (table, moment, what) in [
        (
            "account",
            "iif(kind = 0, day * 86400000, 0)",
            "business days of accounts",
        ),
        ("hold", "authorized_at", "holds"),
        ("request", "at", "kept answers"),
        ("try", "max(home_at, other_at)", "counts of wrong PINs"),
        ("invitation", "made_at", "enrolment codes"),
    ] {
        let mut found = 0_u64;
        let mut count = |connection: &Connection, rows: &str, bounds: [i64; 2]| {
            let sql = format!("SELECT count(*) FROM {table} WHERE {moment} > ?3 AND {rows}");
            let mut statement = connection.prepare_cached(&sql)?;
            let [after, end] = bounds;
            let more = statement.query_row([after, end, late(connection)?], |row| row.get(0))?;
            found = found.saturating_add(more);
            Ok::<_, StoreError>(())
        };
        match table {
            "try" | "invitation" => count(slices.connection, "?1 < ?2", [0, 1])?,
            _ => slices.through(table, |connection, after, end| {
                count(connection, "id > ?1 AND id <= ?2", [after, end])
            })?,
        }
        if found > 0 {
            faults.add(format!(
                "{found} {what} are stamped in the future; mend: bank_server clock accept"
            ));
        }
    }
    Ok(())
}

/// The stamps of a log: of `table`, called `name` in an acknowledgement; one of its rows is a `what`.
fn audit_log(
    slices: &mut Slices<'_>,
    (table, name, what): (&str, &str, &str),
    acknowledged: Option<&AuditRecord>,
    late: &Late<'_>,
    faults: &mut Faults,
) -> Result<Option<String>, StoreError> {
    let through = acknowledged.and_then(|record| through(&record.detail, name));
    let through = through.unwrap_or(0);
    let sql =
        format!("SELECT id, at FROM {table} WHERE id > ?1 AND id <= ?2 AND at > ?3 ORDER BY id");
    let mut known_of = 0_u64;
    slices.through(table, |connection, after, end| {
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([after, end, late(connection)?])?;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            if number <= through {
                known_of = known_of.saturating_add(1);
                continue;
            }
            let at = Timestamp::from_unix_ms(row.get(1)?);
            faults.add(format!(
                "{what} {number}: it is stamped {at}, which is to come; mend: bank_server clock accept"
            ));
        }
        Ok(())
    })?;
    let record = acknowledged.filter(|_| known_of > 0);
    Ok(record.map(|record| {
        let number = record.number;
        format!(
            "{known_of} {name} up to {through} are stamped in the future, as audit record {number} acknowledges"
        )
    }))
}

/// CLOCK_BOOTTIME, which counts sleep too.
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}
