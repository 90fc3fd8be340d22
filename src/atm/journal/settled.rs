//! A lasting record of what became of each request, for the bank's staff to compare with the bank's.
//!
//! Lines of JSON in two files, the present and the one before it, so that it has a bound. It tells
//! of the past only: no money depends on it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use serde_json::json;

use super::record::Record;
use crate::atm::clock::Stamp;
use crate::durable;
use crate::wire::answer::Answer;

const PRESENT: &str = "settled.log";
const BEFORE: &str = "settled.1.log";
/// Some four thousand lines.
const FILE_BYTES_MAX: u64 = 1_048_576;

/// Adds a line, on disk when this returns. `answer` is the one that settled it, where one did.
pub(super) fn note(
    folder: &Path,
    record: &Record,
    outcome: &str,
    answer: Option<&Answer>,
    now: Stamp,
) -> io::Result<()> {
    let members = answer.map(|answer| &answer.members);
    let told = json!({
        "bank_time": now.bank.map(|time| time.to_string()),
        "own_time": now.own.to_string(),
        "request": serde_json::from_slice::<serde_json::Value>(&record.to_line()?)?,
        "outcome": outcome,
        "code": answer.map(|answer| answer.code.number()),
        "entry": members.and_then(|members| members.entry),
        "late": members.and_then(|members| members.late),
        "replayed": members.and_then(|members| members.replayed),
    });
    // One write, so that lines of several terminals do not mix.
    let line = format!("{told}\n");
    let mut file = open(folder)?;
    file.write_all(line.as_bytes())?;
    file.sync_data()
}

/// The present file; where it is full it becomes the one before, whose lines go.
fn open(folder: &Path) -> io::Result<File> {
    let path = folder.join(PRESENT);
    let open = || {
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(&path)
    };
    let file = open()?;
    // Of terminals that find it full at once, one turns the page.
    if file.metadata()?.len() < FILE_BYTES_MAX || file.try_lock().is_err() {
        return Ok(file);
    }
    if fs::metadata(&path)?.len() >= FILE_BYTES_MAX {
        durable::rename(&path, &folder.join(BEFORE))?;
    }
    open()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{keyed, record, stamp};
    use super::super::{Order, files_of};
    use super::*;
    use crate::wire::answer::Members;

    #[test]
    fn a_line_has_what_finds_the_request_at_the_bank_and_what_became_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let order = keyed(4_711);
        let answer = Answer::done(
            Some(1),
            Members {
                entry: Some(7),
                ..Members::default()
            },
        );
        let deposit = record(Order::Deposit(order.clone()));
        note(
            folder.path(),
            &deposit,
            "went_through",
            Some(&answer),
            stamp(1),
        )
        .unwrap();
        let text = fs::read_to_string(folder.path().join(PRESENT)).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["bank_time"], "2026-01-02T00:00:00.000Z");
        assert_eq!(line["request"]["key"], order.key.as_str());
        assert_eq!(line["request"]["account"], "zz-99999");
        assert_eq!((&line["code"], &line["entry"]), (&0.into(), &7.into()));
        assert_eq!(line["outcome"], "went_through");
        // It is not taken for a request in flight.
        assert!(files_of(folder.path()).is_empty());
    }

    #[test]
    fn it_never_grows_beyond_two_files_and_keeps_the_latest_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        let size = |name| fs::metadata(path(name)).map_or(0, |file| file.len());
        let deposit = record(Order::Deposit(keyed(1)));
        for turn in 0..3 {
            let full = vec![b'x'; usize::try_from(FILE_BYTES_MAX).unwrap()];
            let mut file = open(folder.path()).unwrap();
            file.write_all(&full).unwrap();
            note(
                folder.path(),
                &deposit,
                &format!("turn {turn}"),
                None,
                stamp(0),
            )
            .unwrap();
            assert!(size(PRESENT) < 1_000 && size(BEFORE) < FILE_BYTES_MAX + 1_000);
            let text = fs::read_to_string(path(PRESENT)).unwrap();
            assert!(text.contains(&format!("turn {turn}")), "{text}");
        }
    }
}
