//! A lasting record of what became of each request, for the bank's staff to compare with the bank's.
//!
//! Lines of JSON in two files, the present and the one before it, so that it has a bound. It tells
//! of the past only: no money depends on it. Room for the lines of requests in flight is kept before
//! they are sent; a line that cannot be added all the same waits in its request's file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use serde_json::{Value, json};

use super::files::{keep_room, of_ending};
use super::record::Record;
use crate::atm::clock::Stamp;
use crate::durable;
use crate::wire::answer::Answer;

const PRESENT: &str = "settled.log";
const BEFORE: &str = "settled.1.log";
/// Some four thousand lines.
const FILE_BYTES_MAX: u64 = 1_048_576;
/// Lines of some forty requests in flight, of all terminals with this folder.
const ROOM_BYTES: u64 = 65_536;
/// How the name of a file ends that waits for its line to be added.
pub(super) const UNRECORDED: &str = "unrecorded";

/// A line with its end. `answer` is the one that settled the request, where one did.
pub(super) fn line(
    record: &Record,
    outcome: &str,
    answer: Option<&Answer>,
    now: Stamp,
) -> io::Result<Vec<u8>> {
    let members = answer.map(|answer| &answer.members);
    let told = json!({
        "bank_time": now.bank.map(|time| time.to_string()),
        "own_time": now.own.to_string(),
        "request": serde_json::from_slice::<Value>(&record.to_line()?)?,
        "outcome": outcome,
        "code": answer.map(|answer| answer.code.number()),
        "entry": members.and_then(|members| members.entry),
        "late": members.and_then(|members| members.late),
        "replayed": members.and_then(|members| members.replayed),
    });
    Ok(format!("{told}\n").into_bytes())
}

/// The last line of this text that could not be added, where there is one.
pub(super) fn line_in(text: &str) -> Option<Vec<u8>> {
    let is_told = |line: &&str| {
        serde_json::from_str::<Value>(line).is_ok_and(|line| line["request"].is_object())
    };
    let line = text.lines().rfind(is_told)?;
    Some(format!("{line}\n").into_bytes())
}

/// Adds a line, on disk when this returns.
pub(super) fn append(folder: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = open(folder)?;
    let end = file.metadata()?.len();
    let mut last = [b'\n'];
    if let Some(at) = end.checked_sub(1) {
        file.read_exact_at(&mut last, at)?;
    }
    // What a full disk left of half a line stays by itself.
    let torn: &[u8] = if last == *b"\n" { b"" } else { b"\n" };
    // One write, so that lines of several terminals do not mix.
    file.write_all(&[torn, line].concat())?;
    file.sync_data()
}

/// Adds the lines that wait.
pub(super) fn catch_up(folder: &Path) -> io::Result<()> {
    for path in of_ending(folder, UNRECORDED) {
        let file = durable::open(&path)?;
        // Of terminals that find it at once, one adds it.
        if file.try_lock().is_err() || file.metadata()?.nlink() == 0 {
            continue;
        }
        if let Some(line) = line_in(&fs::read_to_string(&path)?) {
            append(folder, &line)?;
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Keeps room for the lines of requests in flight. Where the present file is full it becomes the one
/// before, whose lines go.
pub(super) fn reserve(folder: &Path) -> io::Result<()> {
    let (mut file, path) = (open(folder)?, folder.join(PRESENT));
    // Of terminals that find it full at once, one turns the page.
    if file.metadata()?.len() >= FILE_BYTES_MAX && file.try_lock().is_ok() {
        if fs::metadata(&path)?.len() >= FILE_BYTES_MAX {
            durable::rename(&path, &folder.join(BEFORE))?;
        }
        file = open(folder)?;
    }
    keep_room(&file, ROOM_BYTES)
}

fn open(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(folder.join(PRESENT))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{self, keyed, origin, record, stamp};
    use super::super::{Journal, Order, Outcome, Pending, files_of};
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
        let told = line(&deposit, "went_through", Some(&answer), stamp(1)).unwrap();
        append(folder.path(), &told).unwrap();
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
            drop(file);
            reserve(folder.path()).unwrap();
            let told = line(&deposit, &format!("turn {turn}"), None, stamp(0)).unwrap();
            append(folder.path(), &told).unwrap();
            assert!(size(PRESENT) < 1_000 && size(BEFORE) < FILE_BYTES_MAX + 1_000);
            let text = fs::read_to_string(path(PRESENT)).unwrap();
            assert!(text.contains(&format!("turn {turn}")), "{text}");
        }
    }

    /// A withdrawal that went through while nothing could be added to the record.
    fn unrecorded(folder: &Path) -> (Journal, Pending) {
        let mut journal = tests::open(folder);
        let mut pending = journal.begin(record(Order::Withdraw(keyed(4_711))));
        fs::remove_file(folder.join(PRESENT)).unwrap();
        fs::create_dir(folder.join(PRESENT)).unwrap();
        let entry = Some(7);
        let members = Members {
            entry,
            ..Members::default()
        };
        let answer = Answer::done(Some(1), members);
        journal.settle(&mut pending, Outcome::WentThrough, Some(&answer), stamp(1));
        let told = journal.take_warnings().concat();
        assert!(told.contains("is kept beside it until it can"), "{told}");
        assert!(!told.contains("no cash goes out"), "{told}");
        (journal, pending)
    }

    /// The record has that withdrawal once, and nothing else is left.
    fn assert_recorded(folder: &Path) {
        let text = fs::read_to_string(folder.join(PRESENT)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert!(lines[0].contains(r#""entry":7"#) && lines[0].contains("4711"));
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_added_to_the_record_waits_until_it_can_and_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, pending) = unrecorded(folder.path());
        journal.finish(pending);
        let at_start = Journal::open(Some(folder.path().into())).take_warnings();
        assert!(at_start.concat().contains("the lasting record lacks"));
        let found = journal.unfinished(&origin("aa"), None, |_| true);
        assert_eq!(found.len(), 0);
        fs::remove_dir(folder.path().join(PRESENT)).unwrap();
        tests::open(folder.path());
        assert_recorded(folder.path());
    }

    #[test]
    fn what_could_not_be_added_before_a_crash_is_added_once_it_was_told() {
        let folder = tempfile::tempdir().unwrap();
        drop(unrecorded(folder.path()));
        fs::remove_dir(folder.path().join(PRESENT)).unwrap();
        let mut journal = tests::open(folder.path());
        let mut found = journal.unfinished(&origin("aa"), None, |_| true);
        let outcome = found[0].record().outcome;
        assert_eq!(outcome, Some(Outcome::WentThrough));
        journal.finish(found.remove(0));
        assert_recorded(folder.path());
    }

    #[test]
    fn cash_is_not_asked_for_where_no_line_could_be_added_and_a_deposit_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(PRESENT)).unwrap();
        for order in [Order::Withdraw(keyed(1)), Order::Authorize(keyed(1))] {
            let mut journal = tests::open(folder.path());
            assert!(!journal.begin(record(order)).is_on_disk());
            assert!(
                journal
                    .take_warnings()
                    .concat()
                    .contains("no cash goes out")
            );
            assert!(files_of(folder.path()).is_empty());
        }
        let deposit = record(Order::Deposit(keyed(1)));
        assert!(tests::open(folder.path()).begin(deposit).is_on_disk());
    }

    #[test]
    fn half_a_line_of_a_full_disk_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(PRESENT), "{\"bank_time\":\"20").unwrap();
        append(folder.path(), b"{}\n").unwrap();
        append(folder.path(), b"{}\n").unwrap();
        let text = fs::read_to_string(folder.path().join(PRESENT)).unwrap();
        assert_eq!(text, "{\"bank_time\":\"20\n{}\n{}\n");
    }
}
