//! Cash that is out: whatever the bank answers, it is booked once or staff are told.

use std::path::Path;

use atm_bank::atm::Error;
use atm_bank::wire::answer::Answer;
use atm_bank::wire::code::Code;

use super::fake_bank::{FakeBank, Reaction, agreeable};
use super::losses::in_session;
use super::{Terminal, files_in, stderr, stdout};

const WITHDRAWAL: &str = "zz-99999\n8264\nwithdraw\n50.00\nquit\n";

/// A bank that answers so to the first `times` requests of `op`.
fn refusing(op: &'static str, code: Code, mut times: usize) -> FakeBank {
    FakeBank::start(move |request| {
        if request["op"] == op && times > 0 {
            times -= 1;
            let retry_after_ms = (code == Code::TooMany).then_some(20);
            return Reaction::Refuse(Answer::retry_after(None, code, retry_after_ms));
        }
        agreeable(request)
    })
}

fn withdraw(bank: &FakeBank, journal: &Path) -> (String, String) {
    let output = Terminal::with_certificate(bank, journal)
        .arg("--plain")
        .type_in(WITHDRAWAL);
    let (shown, told) = (stdout(&output), stderr(&output));
    assert!(
        shown.contains("Please take your cash: 50.00 USD."),
        "{shown}"
    );
    (shown, told)
}

/// All captures that the bank was asked for, which are one.
fn one_capture(bank: &FakeBank) -> usize {
    let asked = bank.asked("capture");
    let same = |name: &str| asked.iter().all(|it| it[name] == asked[0][name]);
    assert!(same("key") && same("hold") && same("amount"), "{asked:?}");
    asked.len()
}

#[test]
fn a_capture_that_comes_too_soon_is_repeated_with_its_key() {
    let bank = refusing("capture", Code::TooMany, 1);
    let journal = tempfile::tempdir().unwrap();
    let (shown, told) = withdraw(&bank, journal.path());
    assert!(shown.contains("Your balance is 1024.32 USD."), "{shown}");
    assert_eq!((one_capture(&bank), told.as_str()), (2, ""));
    assert_eq!(files_in(journal.path()), [""; 0]);
}

#[test]
fn a_capture_that_is_not_served_now_is_made_at_the_next_start_with_its_key() {
    for (code, tries) in [
        (Code::TooMany, 4),
        (Code::NotLoggedIn, 1),
        (Code::AlreadyLoggedIn, 1),
        (Code::MustChangePin, 1),
        (Code::Internal, 1),
    ] {
        let bank = refusing("capture", code, tries);
        let journal = tempfile::tempdir().unwrap();
        let (shown, told) = withdraw(&bank, journal.path());
        assert!(shown.contains("It will be booked"), "{code:?}: {shown}");
        assert!(
            told.contains("cash is out and not booked yet"),
            "{code:?}: {told}"
        );
        assert_eq!(files_in(journal.path()).len(), 1, "{code:?}");
        Terminal::with_certificate(&bank, journal.path()).script("ping\n");
        assert_eq!(one_capture(&bank), tries + 1, "{code:?}");
        // Until the customer was told it is kept, and not asked again.
        let mut terminal = Terminal::with_certificate(&bank, journal.path());
        let output = terminal.script("login zz-99999 8264\n");
        let told = stderr(&output);
        assert!(
            told.contains("withdrawal of 50.00 USD went through"),
            "{told}"
        );
        assert_eq!(one_capture(&bank), tries + 1, "{code:?}");
        assert_eq!(files_in(journal.path()), [""; 0], "{code:?}");
    }
}

#[test]
fn a_capture_that_is_left_is_made_before_the_next_customer_of_the_same_connection() {
    let bank = refusing("capture", Code::TooMany, 4);
    let journal = tempfile::tempdir().unwrap();
    let typed = WITHDRAWAL.replace("quit", "logout\nzz-00001\n8264\nlogout\nquit");
    Terminal::with_certificate(&bank, journal.path())
        .arg("--plain")
        .type_in(&typed);
    assert_eq!(one_capture(&bank), 5);
    assert_eq!(bank.seen(|seen| seen.connections), 1);
    // Another customer came: the one whose cash it is has not been told yet.
    let left = files_in(journal.path());
    let left = std::fs::read_to_string(journal.path().join(&left[0])).unwrap();
    assert!(left.contains(r#""outcome":"went_through""#), "{left}");
}

#[test]
fn a_capture_that_the_bank_will_never_book_is_put_aside_for_its_staff() {
    for code in [
        Code::NoHold,
        Code::InvalidAmount,
        Code::Malformed,
        Code::UnknownOp,
        Code::KeyReused,
    ] {
        let bank = refusing("capture", code, usize::MAX);
        let journal = tempfile::tempdir().unwrap();
        let (shown, told) = withdraw(&bank, journal.path());
        assert!(shown.contains("your bank's staff"), "{code:?}: {shown}");
        assert!(
            told.contains("cash went out and the bank does not book it") && told.contains(".old"),
            "{code:?}: {told}"
        );
        let files = files_in(journal.path());
        assert!(
            matches!(&files[..], [file] if file.ends_with(".old")),
            "{code:?}: {files:?}"
        );
        let record = std::fs::read_to_string(journal.path().join(&files[0])).unwrap();
        assert!(
            record
                .trim_end()
                .lines()
                .last()
                .unwrap()
                .contains("capture")
        );
        Terminal::with_certificate(&bank, journal.path()).script("ping\n");
        assert_eq!(one_capture(&bank), 1, "{code:?}");
    }
}

#[test]
fn a_release_that_comes_too_soon_is_repeated_with_its_key() {
    let bank = refusing("release", Code::TooMany, 2);
    let journal = tempfile::tempdir().unwrap();
    let script = "login zz-99999 8264\nauthorize 5.00\nrelease last\n";
    let output = Terminal::with_certificate(&bank, journal.path()).script(script);
    assert!(stdout(&output).contains("ok release"), "{output:?}");
    let asked = bank.asked("release");
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|it| it["key"] == asked[0]["key"]));
}

#[test]
fn no_cash_goes_out_that_cannot_be_written_down() {
    let bank = FakeBank::start(agreeable);
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = Terminal::with_certificate(&bank, &file.path().join("below"))
        .arg("--plain")
        .type_in(WITHDRAWAL);
    let (shown, told) = (stdout(&output), stderr(&output));
    assert!(
        shown.contains("This machine cannot give out cash just now. Nothing was taken."),
        "{shown}"
    );
    assert!(!shown.contains("Please take your cash"), "{shown}");
    assert!(told.contains("so no cash goes out"), "{told}");
    let (held, captured) = (bank.asked("authorize"), bank.asked("capture"));
    assert_eq!((held.len(), captured.len()), (0, 0));
}

#[test]
fn a_folder_that_is_lost_while_serving_gives_no_cash_either() {
    let bank = FakeBank::start(agreeable);
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    in_session(&bank, &journal, async |teller| {
        for times in 1..=2 {
            let (_, cash) = teller.authorize(5_000).await.unwrap();
            std::fs::remove_dir_all(&journal).unwrap();
            let mut cash = cash.unwrap();
            assert!(!teller.dispense(&mut cash));
            assert_eq!(teller.settle_cash(cash).await.unwrap().code, Code::Done);
            assert_eq!(bank.asked("release").len(), times);
            let held = bank.asked("authorize").len();
            let refused = teller.authorize(5_000).await;
            assert!(matches!(refused, Err(Error::NotKept)));
            assert_eq!(bank.asked("authorize").len(), held);
            let told = teller.take_warnings().concat();
            assert!(told.contains("no cash goes out"), "{told}");
            teller.told();
            std::fs::create_dir(&journal).unwrap();
        }
        let (_, cash) = teller.authorize(5_000).await.unwrap();
        assert!(teller.dispense(&mut cash.unwrap()));
    });
    assert_eq!(bank.asked("capture").len(), 0);
}
