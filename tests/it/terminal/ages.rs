//! How old a request is: by the bank's clock, whatever the terminal's says.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use atm_bank::wire::answer::Members;
use serde_json::Value;

use super::fake_bank::{FakeBank, Reaction, agreeable};
use super::{Terminal, files_in, stderr, stdout};

const MADE_ON: &str = "2026-01-31T09:30:00.000Z";
const A_DAY_LATER: &str = "2026-02-01T09:30:00.000Z";
const MONTHS_LATER: &str = "2026-03-10T09:30:00.000Z";
const DAY: Duration = Duration::from_secs(86_400);

/// A bank that tells this time and leaves the first `times` requests of `op` without an answer.
fn forgetful(time: Option<&'static str>, op: &'static str, mut times: usize) -> FakeBank {
    FakeBank::start(telling(time, move |request| {
        if request["op"] == op && times > 0 {
            times -= 1;
            return Reaction::HangUp;
        }
        agreeable(request)
    }))
}

fn telling(
    time: Option<&'static str>,
    mut react: impl FnMut(&Value) -> Reaction + Send + 'static,
) -> impl FnMut(&Value) -> Reaction + Send + 'static {
    move |request| match react(request) {
        Reaction::Done(members) if request["op"] == "login" || request["op"] == "ping" => {
            let time = time.map(str::to_owned);
            Reaction::Done(Members { time, ..members })
        }
        other => other,
    }
}

/// The same bank on another day.
fn later(bank: &FakeBank, time: Option<&'static str>) -> FakeBank {
    bank.again(telling(time, agreeable))
}

/// Makes a deposit that gets no answer, and gives its key.
fn deposit(bank: &FakeBank, journal: &Path) -> Value {
    let script = "login zz-99999 8264\ndeposit 50.00\n";
    let output = Terminal::with_certificate(bank, journal).script(script);
    assert!(stdout(&output).contains("lost deposit"), "{output:?}");
    bank.asked("deposit")[0]["key"].clone()
}

/// What became of it, as the next log-in tells.
fn recovered(bank: &FakeBank, journal: &Path) -> (String, String) {
    let mut terminal = Terminal::with_certificate(bank, journal);
    let output = terminal.arg("--json").script("login zz-99999 8264\n");
    let answer: Value = serde_json::from_str(stdout(&output).trim()).unwrap();
    let outcome = answer["recovered"][0]["outcome"].as_str().unwrap_or("");
    (outcome.to_owned(), stderr(&output))
}

fn only_file(journal: &Path) -> PathBuf {
    let files = files_in(journal);
    assert_eq!(files.len(), 1, "{files:?}");
    journal.join(&files[0])
}

/// The file as if this machine's clock had been so many days behind when it was written.
fn wrote_days_ago(file: &Path, stamp_days: i64, file_days: u32) {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let at = line["at_unix_ms"].as_i64().unwrap() - stamp_days * 86_400_000;
        line["at_unix_ms"] = at.into();
        format!("{line}\n")
    });
    fs::write(file, lines.collect::<String>()).unwrap();
    let file = File::options().append(true).open(file).unwrap();
    file.set_modified(SystemTime::now() - DAY * file_days)
        .unwrap();
}

#[test]
fn a_deposit_that_the_bank_may_have_forgotten_is_for_its_staff_though_this_clock_stood_still() {
    let bank = forgetful(Some(MADE_ON), "deposit", 1);
    let journal = tempfile::tempdir().unwrap();
    deposit(&bank, journal.path());
    let bank = later(&bank, Some(MONTHS_LATER));
    let (outcome, told) = recovered(&bank, journal.path());
    assert_eq!(outcome, "for_staff");
    assert!(
        told.contains("a request is older than the bank remembers; ask the bank about it"),
        "{told}"
    );
    assert!(
        told.contains(
            "Your last deposit of 50.00 USD is not settled. Please ask your bank's staff"
        ),
        "{told}"
    );
    let file = only_file(journal.path());
    assert_eq!(file.extension().unwrap(), "old");
    assert!(fs::read_to_string(file).unwrap().contains("deposit"));
    recovered(&bank, journal.path());
    assert_eq!(bank.asked("deposit").len(), 0);
}

#[test]
fn a_clock_that_was_set_back_or_forward_by_years_neither_loses_money_nor_moves_it_twice() {
    for (stamp_days, file_days) in [(3_000, 0), (-3_000, 0), (0, 3_000), (3_000, 3_000)] {
        let bank = forgetful(Some(MADE_ON), "deposit", 1);
        let journal = tempfile::tempdir().unwrap();
        let key = deposit(&bank, journal.path());
        wrote_days_ago(&only_file(journal.path()), stamp_days, file_days);
        let next_day = later(&bank, Some(A_DAY_LATER));
        let (outcome, told) = recovered(&next_day, journal.path());
        assert_eq!(outcome, "went_through", "{stamp_days} {file_days}: {told}");
        let asked = next_day.asked("deposit");
        assert_eq!((asked.len(), &asked[0]["key"]), (1, &key));
        assert_eq!(files_in(journal.path()).len(), 0);
    }
}

#[test]
fn with_a_bank_that_tells_no_time_file_and_stamp_must_agree() {
    for time in [None, Some("yesterday"), Some("2026-01-31T09:30:00Z")] {
        for (stamp_days, file_days, outcome, why) in [
            (0, 0, "went_through", ""),
            (20, 20, "went_through", ""),
            (31, 31, "for_staff", "is older than the bank remembers"),
            (20, 0, "for_staff", "clocks disagree"),
            (0, 20, "for_staff", "clocks disagree"),
            (-3_000, 0, "for_staff", "clocks disagree"),
        ] {
            let bank = forgetful(time, "deposit", 1);
            let journal = tempfile::tempdir().unwrap();
            deposit(&bank, journal.path());
            wrote_days_ago(&only_file(journal.path()), stamp_days, file_days);
            let (became, told) = recovered(&bank, journal.path());
            assert_eq!(became, outcome, "{time:?} {stamp_days} {file_days}: {told}");
            assert!(told.contains(why), "{told}");
            let times = if outcome == "for_staff" { 1 } else { 2 };
            assert_eq!(bank.asked("deposit").len(), times);
        }
    }
}

#[test]
fn cash_that_is_out_is_booked_however_old_it_is() {
    let bank = forgetful(Some(MADE_ON), "capture", 4);
    let journal = tempfile::tempdir().unwrap();
    let typed = "zz-99999\n8264\nwithdraw\n50.00\nquit\n";
    Terminal::with_certificate(&bank, journal.path())
        .arg("--plain")
        .type_in(typed);
    let key = bank.asked("capture")[0]["key"].clone();
    wrote_days_ago(&only_file(journal.path()), 40, 40);
    let bank = later(&bank, Some(MONTHS_LATER));
    let output = Terminal::with_certificate(&bank, journal.path()).script("ping\n");
    assert_eq!(stderr(&output), "");
    let asked = bank.asked("capture");
    assert_eq!((asked.len(), &asked[0]["key"]), (1, &key));
    let (outcome, _) = recovered(&bank, journal.path());
    assert_eq!(
        (outcome.as_str(), bank.asked("capture").len()),
        ("went_through", 1)
    );
    assert_eq!(files_in(journal.path()).len(), 0);
}
