//! Whether a store is laid out as this program makes it. What is in its rows is audited; a trigger,
//! a view or an index that somebody dropped or planted is code, and would act unseen.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rusqlite::Connection;

use super::open::MIGRATIONS;

/// Differences that are named at most.
const NAMED_MAX: usize = 20;

/// What others may leave in a store: SQLite's statistics (`ANALYZE`, `PRAGMA optimize`), and the two
/// tables that Litestream keeps.
const OTHERS: [(&str, &str); 5] = [
    ("sqlite_stat1", "CREATE TABLE sqlite_stat1(tbl,idx,stat)"),
    (
        "sqlite_stat4",
        "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)",
    ),
    ("sqlite_sequence", "CREATE TABLE sqlite_sequence(name,seq)"),
    (
        "_litestream_seq",
        "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)",
    ),
    (
        "_litestream_lock",
        "CREATE TABLE _litestream_lock (id INTEGER)",
    ),
];

/// Type, name and table to the statement that made it; none for an index that a constraint makes.
type Objects = BTreeMap<(String, String, String), Option<String>>;

/// How the store's schema differs from what the migrations up to `version` make, in words; empty
/// where it does not.
pub(super) fn differences(
    connection: &Connection,
    version: usize,
) -> rusqlite::Result<Vec<String>> {
    let (expected, found) = (made(version)?, objects(connection)?);
    let mut words = Vec::new();
    for (object @ (kind, name, table), sql) in &found {
        let of = |words: &str| format!("the {kind} {name} on {table} {words}");
        match expected.get(object) {
            Some(own) if own == sql => {}
            Some(_) => words.push(of("is defined otherwise")),
            None if is_others(object, sql.as_deref()) => {}
            None => words.push(of("is not this program's")),
        }
    }
    for (kind, name, table) in expected.keys() {
        if !found.contains_key(&(kind.clone(), name.clone(), table.clone())) {
            words.push(format!("the {kind} {name} on {table} is missing"));
        }
    }
    if words.len() > NAMED_MAX {
        let more = words.len().saturating_sub(NAMED_MAX);
        words.truncate(NAMED_MAX);
        words.push(format!("and {more} more"));
    }
    Ok(words)
}

fn is_others((kind, name, table): &(String, String, String), sql: Option<&str>) -> bool {
    let known = |(own, made): &(&str, &str)| own == name && sql == Some(made);
    kind == "table" && name == table && OTHERS.iter().any(known)
}

/// What the migrations make; of the newest version it is made once.
fn made(version: usize) -> rusqlite::Result<Objects> {
    static NEWEST: OnceLock<Objects> = OnceLock::new();
    let is_newest = version == MIGRATIONS.len();
    if let Some(newest) = NEWEST.get().filter(|_| is_newest) {
        return Ok(newest.clone());
    }
    let connection = Connection::open_in_memory()?;
    for migration in MIGRATIONS.iter().take(version) {
        connection.execute_batch(migration)?;
    }
    let made = objects(&connection)?;
    if is_newest {
        let _ = NEWEST.set(made.clone());
    }
    Ok(made)
}

fn objects(connection: &Connection) -> rusqlite::Result<Objects> {
    let mut statement =
        connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema")?;
    let mut rows = statement.query([])?;
    let mut objects = Objects::new();
    while let Some(row) = rows.next()? {
        let mut object: (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        // Two of one name are two differences, not one.
        while objects.contains_key(&object) {
            object.1.push_str(" (again)");
        }
        objects.insert(object, row.get(3)?);
    }
    Ok(objects)
}
