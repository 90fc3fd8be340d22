//! Which journal belongs to which state of the store's file.
//!
//! The first commit into a journal that begins anew draws a name for it, and keeps it in the store with the name
//! that stood there before. Until all of the journal is copied, the store's file alone has one of the two: the one
//! from before, or, where that page was copied already, the new one. A file of another bank, of a copy that went
//! another way, or of another moment has neither.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::sums;

/// Where in the bank's rows the names are: the journal's, the one before it, and the schema's number in SQLite,
/// which `VACUUM INTO`, and so a backup, raises.
const KEY: &str = "journal";

/// Names the journal, in the transaction that is open: the first after all of it was copied.
pub(super) fn renew(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "INSERT INTO bank (name, value) SELECT ?1, hex(randomblob(16)) || ' none ' || schema_version \
               FROM pragma_schema_version WHERE true ON CONFLICT (name) DO UPDATE SET value = \
               replace(excluded.value, 'none', substr(bank.value, 1, instr(bank.value, ' ') - 1))";
    connection.prepare_cached(sql)?.execute([KEY])?;
    sums::renew(connection, sums::BANK, KEY)
}

/// What shows that the journal of the store at `path`, which `connection` has open, is of another file or moment.
pub(super) fn misfit(connection: &Connection, path: &Path) -> rusqlite::Result<Option<String>> {
    let alone = open_alone(path)?;
    let both = names(connection)?;
    // Half copied it may make no sense. Before the first copy it has no tables.
    let (own, before, schema) = split(both.as_deref());
    if let Ok(found) = names(&alone) {
        let (found, ..) = split(found.as_deref());
        if ![own, before].contains(&found) {
            return Ok(Some("the store does not go before its journal".to_owned()));
        }
    }
    let number = |connection: &Connection, pragma: &str| {
        connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
    };
    let is_same_version =
        number(&alone, "user_version").ok() == Some(number(connection, "user_version")?);
    let made_anew = number(&alone, "schema_version").ok() != schema.parse().ok();
    if is_same_version && made_anew && both.is_some() {
        return Ok(Some(
            "the store is a copy that was made beside its journal".to_owned(),
        ));
    }
    for table in ["entry", "audit"] {
        let sql = format!("SELECT coalesce(max(id), 0) FROM {table}");
        let last = |connection: &Connection| connection.query_row(&sql, [], |row| row.get(0));
        let found: rusqlite::Result<i64> = last(&alone);
        if found.is_ok_and(|found| last(connection).is_ok_and(|both| found > both)) {
            return Ok(Some("the store is later than its journal".to_owned()));
        }
    }
    Ok(None)
}

fn names(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT value FROM bank WHERE name = ?1";
    let found = connection.query_row(sql, [KEY], |row| row.get(0));
    found.optional()
}

/// The journal's name, the one before it, and the schema's number.
fn split(names: Option<&str>) -> (&str, &str, &str) {
    let mut parts = names.unwrap_or("none none").splitn(3, ' ');
    let mut next = || parts.next().unwrap_or_default();
    (next(), next(), next())
}

/// Opens the store's file as it is without its journal.
pub(super) fn open_alone(path: &Path) -> rusqlite::Result<Connection> {
    let octets = path.as_os_str().as_encoded_bytes().iter();
    let octets = octets.map(|octet| format!("%{octet:02x}"));
    let alone = format!("file:{}?immutable=1", octets.collect::<String>());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(alone, flags | OpenFlags::SQLITE_OPEN_URI)
}
