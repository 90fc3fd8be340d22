//! Sums of rows that no chain and no MAC covers: kept answers, holds, tries, and what staff wrote. They
//! tell a bit that flipped on the disk; whoever writes the file on purpose can make them anew.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, ToSql, params};

use super::audit::Faults;
use super::slices::Slices;
use crate::store::StoreError;
use crate::store::state::HoldRow;

/// Rows that are filled in between two looks at a table.
const FILLED_AT_ONCE: i64 = 1_000;

/// A table whose rows have a sum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    name: &'static str,
    /// A number, or a text that is not empty.
    key: &'static str,
    /// What is summed, in this order.
    columns: &'static str,
    /// What a fault calls the row, before its key.
    what: &'static str,
}

pub(super) const REQUEST: Table = Table {
    name: "request",
    key: "id",
    columns: "key, account, fingerprint, at, entry, hold, late, balance, available",
    what: "kept answer",
};
pub(super) const HOLD: Table = Table {
    name: "hold",
    key: "name",
    columns: "name, account, (SELECT terminal.name FROM terminal WHERE terminal.id = hold.terminal), amount, \
              authorized_at, expires_at, state, captured, entry, settled_by",
    what: "hold",
};
pub(super) const TRY: Table = Table {
    name: "try",
    key: "number",
    columns: "number, home_terminal, home, home_at, other, other_at, expires_at",
    what: "tries upon",
};
pub(super) const REASON: Table = Table {
    name: "reason",
    key: "entry",
    columns: "entry, text, actor",
    what: "reason of entry",
};
pub(super) const CERTIFICATE: Table = Table {
    name: "certificate",
    key: "serial",
    columns: "serial, terminal, key, issued_at, ends_at, revoked_at, der",
    what: "certificate",
};
pub(super) const INVITATION: Table = Table {
    name: "invitation",
    key: "terminal",
    columns: "terminal, code, made_at, expires_at, used_at, serial",
    what: "code of",
};
pub(super) const BANK: Table = Table {
    name: "bank",
    key: "name",
    columns: "name, value",
    what: "bank's",
};
const ALL: [Table; 7] = [REQUEST, HOLD, TRY, REASON, CERTIFICATE, INVITATION, BANK];

/// A sum on its way: FNV-1a over words of eight octets. Each step is a bijection, so that no change
/// of one word goes unseen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum(u64);

impl Sum {
    pub(super) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    const fn word(self, word: u64) -> Self {
        let mixed = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        Self(mixed.rotate_left(29))
    }

    pub(super) const fn int(self, value: i64) -> Self {
        self.word(1).word(value.cast_unsigned())
    }

    pub(super) fn maybe(self, value: Option<i64>) -> Self {
        value.map_or_else(|| self.word(0), |value| self.int(value))
    }

    pub(super) fn text(self, value: &str) -> Self {
        self.octets(3, value.as_bytes())
    }

    pub(super) fn blob(self, value: &[u8]) -> Self {
        self.octets(4, value)
    }

    fn octets(self, kind: u64, value: &[u8]) -> Self {
        let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
        let start = self.word(kind).word(length);
        value.chunks(8).fold(start, |sum, eight| {
            let mut word = [0; 8];
            word.iter_mut()
                .zip(eight)
                .for_each(|(to, from)| *to = *from);
            sum.word(u64::from_le_bytes(word))
        })
    }

    fn value(self, value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => self.word(0),
            ValueRef::Integer(value) => self.int(value),
            ValueRef::Real(value) => self.word(2).word(value.to_bits()),
            ValueRef::Text(value) => self.octets(3, value),
            ValueRef::Blob(value) => self.octets(4, value),
        }
    }

    /// As a column has it.
    pub(super) const fn done(self) -> i64 {
        self.0.cast_signed()
    }
}

/// The sum of a hold.
pub(super) fn of_hold(row: &HoldRow) -> i64 {
    let hold = &row.hold;
    let sum = Sum::new().text(row.name.as_str()).int(row.account);
    let sum = sum.text(hold.terminal.as_str()).int(hold.amount.minor());
    let sum = sum.int(hold.authorized_at.unix_ms());
    let sum = sum.int(hold.expires_at.unix_ms());
    let sum = sum.int(i64::from(hold.state.number())).int(row.captured);
    sum.maybe(row.entry).maybe(row.settled_by).done()
}

/// The sum of a row that was read: of all its columns from the third on. The first is its key, the
/// second what stands there as its sum.
fn sum_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Sum> {
    let mut sum = Sum::new();
    for column in 2..row.as_ref().column_count() {
        sum = sum.value(row.get_ref(column)?);
    }
    Ok(sum)
}

/// Sums a row anew that was written just now. For rows that are rarely written: it is read again.
pub(super) fn renew(
    connection: &Connection,
    table: Table,
    key: impl ToSql,
) -> rusqlite::Result<()> {
    let Table {
        name,
        key: by,
        columns,
        ..
    } = table;
    let sql = format!("SELECT {by}, sum, {columns} FROM {name} WHERE {by} = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let sum = statement.query_row([&key], |row| Ok(sum_of(row)?.done()))?;
    let sql = format!("UPDATE {name} SET sum = ?2 WHERE {by} = ?1");
    connection
        .prepare_cached(&sql)?
        .execute(params![key, sum])?;
    Ok(())
}

/// Sums all rows of an older version's store, a bounded number of them in memory.
pub(super) fn fill_in(connection: &Connection) -> rusqlite::Result<()> {
    for table in ALL {
        let Table {
            name, key, columns, ..
        } = table;
        let sql = format!(
            "SELECT {key}, sum, {columns} FROM {name} WHERE {key} > ?1 ORDER BY {key} LIMIT {FILLED_AT_ONCE}"
        );
        let mut next = connection.prepare(&sql)?;
        let mut last = match key {
            "id" | "entry" => Value::Integer(i64::MIN),
            _ => Value::Text(String::new()),
        };
        let mut save =
            connection.prepare(&format!("UPDATE {name} SET sum = ?2 WHERE {key} = ?1"))?;
        loop {
            let rows = next.query_map([&last], |row| {
                Ok((row.get::<_, Value>(0)?, sum_of(row)?.done()))
            })?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let Some((end, _)) = rows.last() else { break };
            last = end.clone();
            for (key, sum) in &rows {
                save.execute(params![key, sum])?;
            }
        }
    }
    Ok(())
}

/// Names every row whose sum is not that of its columns.
pub(super) fn audit(slices: &mut Slices<'_>, faults: &mut Faults) -> Result<(), StoreError> {
    for table in ALL {
        if [REQUEST.name, HOLD.name].contains(&table.name) {
            slices.through(table.name, |connection, after, end| {
                let window = format!("id > {after} AND id <= {end}");
                audit_rows(connection, table, &window, faults)
            })?;
        } else {
            // It is counted on by whoever looks at the disk, and by nothing else.
            let rows = format!("{} IS NOT 'recoveries'", table.key);
            audit_rows(slices.connection, table, &rows, faults)?;
            slices.turn()?;
        }
    }
    Ok(())
}

fn audit_rows(
    connection: &Connection,
    table: Table,
    condition: &str,
    faults: &mut Faults,
) -> Result<(), StoreError> {
    let Table {
        name,
        key,
        columns,
        what,
    } = table;
    let sql = format!("SELECT {key}, sum, {columns} FROM {name} WHERE {condition}");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? != sum_of(row)?.done() {
            let key = match row.get_ref(0)? {
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                _ => "?".to_owned(),
            };
            faults.add(format!("{what} {key}: it is not as it was written"));
        }
    }
    Ok(())
}

/// Gives a shut store another key to draw stand-ins with, for those who compare it with the model.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn set_stand_in_key(path: &std::path::Path, hex: &str) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    let sql = "UPDATE bank SET value = ?1 WHERE name = 'stand_in_key'";
    connection.execute(sql, [hex])?;
    renew(&connection, BANK, "stand_in_key")
}
