//! What was issued and what was revoked: two CSV files that only ever grow.

use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::PkiError;
use super::facts::Serial;
use super::files::{self, LIST_MAX, Readers};
use super::report::rfc3339;

/// The columns of `issued.csv`.
const ISSUED_COLUMNS: [&str; 3] = ["serial", "name", "end"];
/// The columns of `revoked.csv`.
const REVOKED_COLUMNS: [&str; 3] = ["serial", "name", "at"];

/// A line of a register: a certificate and a time (its end, or its revocation).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) serial: Serial,
    /// A terminal's name, or `server:` and the server's first name; that holds a colon, which no
    /// terminal's name does.
    pub(super) name: String,
    /// Seconds since 1970 UTC.
    pub(super) time: i64,
}

/// One register. Each change writes the whole file anew and puts it in place at once, so that no crash
/// leaves half a line.
#[derive(Debug)]
pub(super) struct Register {
    path: PathBuf,
    columns: [&'static str; 3],
    rows: Vec<Row>,
    stored: bool,
}

impl Register {
    /// The register of issued certificates; empty where there is no file.
    pub(super) fn issued(path: &Path) -> Result<Self, PkiError> {
        Self::read(path, ISSUED_COLUMNS)
    }

    /// The register of revocations; empty where there is no file.
    pub(super) fn revoked(path: &Path) -> Result<Self, PkiError> {
        Self::read(path, REVOKED_COLUMNS)
    }

    /// Whether the file exists.
    pub(super) fn is_stored(&self) -> bool {
        self.stored
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn holds(&self, serial: &Serial) -> bool {
        self.rows.iter().any(|row| row.serial == *serial)
    }

    /// Adds the rows whose serial numbers are not there yet, on disk when this returns. Makes the file
    /// where there is none, even for no rows.
    pub(super) fn add(&mut self, rows: impl IntoIterator<Item = Row>) -> Result<(), PkiError> {
        let before = self.rows.len();
        for row in rows {
            if !self.holds(&row.serial) {
                self.rows.push(row);
            }
        }
        if self.rows.len() == before && self.stored {
            return Ok(());
        }
        files::write_text(&self.path, &self.text()?, Readers::Everyone)?;
        self.stored = true;
        Ok(())
    }

    fn read(path: &Path, columns: [&'static str; 3]) -> Result<Self, PkiError> {
        let text = files::read_text(path, LIST_MAX)?;
        let rows = match &text {
            Some(text) => rows_of(text, path, columns)?,
            None => Vec::new(),
        };
        Ok(Self {
            path: path.to_owned(),
            columns,
            rows,
            stored: text.is_some(),
        })
    }

    fn text(&self) -> Result<String, PkiError> {
        let failed = |error: csv::Error| PkiError::Write {
            path: self.path.clone(),
            source: std::io::Error::other(error),
        };
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(self.columns).map_err(failed)?;
        for row in &self.rows {
            let time = rfc3339(row.time);
            writer
                .write_record([row.serial.as_str(), &row.name, &time])
                .map_err(failed)?;
        }
        let octets = writer.into_inner().map_err(|error| PkiError::Write {
            path: self.path.clone(),
            source: std::io::Error::other(error.to_string()),
        })?;
        Ok(String::from_utf8_lossy(&octets).into_owned())
    }
}

fn rows_of(text: &str, path: &Path, columns: [&str; 3]) -> Result<Vec<Row>, PkiError> {
    let wrong = |line, reason| PkiError::Register {
        path: path.to_owned(),
        line,
        reason,
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for (record, number) in reader.records().zip(1..) {
        let record = record.map_err(|_| wrong(number, "it has not three columns"))?;
        let line = record.position().map_or(number, csv::Position::line);
        if number == 1 {
            if record != columns[..] {
                return Err(wrong(line, "the first line must name the columns"));
            }
            continue;
        }
        rows.push(row_of(&record).map_err(|reason| wrong(line, reason))?);
    }
    if rows.is_empty() && text.trim().is_empty() {
        return Err(wrong(1, "the first line must name the columns"));
    }
    Ok(rows)
}

fn row_of(record: &csv::StringRecord) -> Result<Row, &'static str> {
    let column = |index| record.get(index).ok_or("it has not three columns");
    let time =
        OffsetDateTime::parse(column(2)?, &Rfc3339).map_err(|_| "its time is not RFC 3339")?;
    Ok(Row {
        serial: Serial::from_hexadecimal(column(0)?)
            .ok_or("its serial number is not hexadecimal of 1 to 20 octets")?,
        name: column(1)?.to_owned(),
        time: time.unix_timestamp(),
    })
}
