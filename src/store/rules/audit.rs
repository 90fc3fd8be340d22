//! The audit log. Each record is chained to the one before it.

use crate::store::working::{Stop, WorkingSet};
use crate::store::{LogHead, Note};

/// Appends a record to the log.
pub(in crate::store) fn append(rows: &mut WorkingSet, note: &Note) -> Result<(), Stop> {
    let log = rows.ends().log.as_mut().ok_or(Stop::Missing)?;
    let record = note.record(log.count.saturating_add(1));
    let hash = record.hash(&log.hash);
    *log = LogHead {
        count: record.number,
        hash,
    };
    rows.changes.records.push((record, hash));
    Ok(())
}
