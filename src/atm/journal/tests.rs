use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use proptest::prelude::*;

use super::files::{UNBORN_FOR, own_uid};
use super::*;
use crate::domain::{RequestedAmount, Timestamp};
use crate::wire::request::Keyed;

pub(super) fn keyed(minor: i64) -> Keyed {
    Keyed {
        amount: RequestedAmount(minor),
        key: new_key(),
    }
}

pub(super) fn origin(bank: &str) -> Origin {
    Origin {
        bank: vec![bank.into()],
        terminal: Some("terminal-1".parse().unwrap()),
    }
}

pub(super) fn record(order: Order) -> Record {
    Record {
        order,
        account: Some("zz-99999".parse().unwrap()),
        currency: Some("USD".parse().unwrap()),
        origin: origin("aa"),
        at: stamp(0),
        outcome: None,
    }
}

const DAY_MS: u64 = 86_400_000;

/// So many days after the bank told 2026-01-01; this machine's clock stands at 1970.
pub(super) fn stamp(days: u64) -> Stamp {
    let told = Timestamp::parse("2026-01-01").unwrap();
    Stamp {
        own: Timestamp::from_unix_ms(1_000),
        bank: Some(told.plus_ms(days * DAY_MS)),
    }
}

pub(super) fn open(folder: &Path) -> Journal {
    let mut journal = Journal::open(Some(folder.into()));
    assert_eq!(journal.take_warnings(), Vec::<String>::new());
    journal
}

fn all(journal: &mut Journal) -> Vec<Record> {
    let found = journal.unfinished(&origin("aa"), Some(stamp(0)), |_| true);
    found.into_iter().map(|pending| pending.record).collect()
}

#[test]
fn a_request_is_on_disk_for_its_owner_only_until_it_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("state");
    let mut journal = open(&folder);
    let pending = journal.begin(record(Order::Withdraw(keyed(5_000))));
    let path = files_of(&folder).pop().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
    journal.finish(pending);
    assert!(files_of(&folder).is_empty());
}

#[test]
fn a_request_that_was_not_finished_is_found_again_with_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let sent = record(Order::Withdraw(keyed(5_000)));
    drop(open(folder.path()).begin(sent.clone()));
    assert_eq!(all(&mut open(folder.path())), [sent]);
}

#[test]
fn a_request_of_a_living_process_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut living = open(folder.path());
    let pending = living.begin(record(Order::Deposit(keyed(1))));
    assert_eq!(all(&mut open(folder.path())), []);
    living.put_back(pending);
    assert_eq!(all(&mut open(folder.path())).len(), 1);
}

#[test]
fn a_request_to_another_bank_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).begin(record(Order::Deposit(keyed(1)))));
    let found = open(folder.path()).unfinished(&origin("bb"), Some(stamp(0)), |_| true);
    assert!(found.is_empty());
    assert_eq!(all(&mut open(folder.path())).len(), 1);
}

#[test]
fn the_last_whole_line_of_a_withdrawal_counts_and_a_torn_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    let mut pending = journal.begin(record(Order::Authorize(keyed(5_000))));
    let capture = Order::Capture {
        hold: "h-1".parse().unwrap(),
        keyed: keyed(5_000),
    };
    assert!(journal.advance(&mut pending, capture.clone()));
    drop(pending);
    let path = files_of(folder.path()).pop().unwrap();
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(b"{\"account\":\"zz-99999\",\"op\":\"rel")
        .unwrap();
    assert_eq!(all(&mut open(folder.path())), [record(capture)]);
}

#[test]
fn only_what_settles_a_hold_is_repeated_at_any_age() {
    let hold = || "h-1".parse().unwrap();
    let to = "zz-00001".parse().unwrap();
    let settling = [
        Order::Capture {
            hold: hold(),
            keyed: keyed(1),
        },
        Order::Release {
            hold: hold(),
            key: new_key(),
            amount: None,
        },
    ];
    let others = [
        Order::Deposit(keyed(1)),
        Order::Withdraw(keyed(1)),
        Order::Transfer {
            to,
            keyed: keyed(1),
        },
        Order::Authorize(keyed(1)),
    ];
    for folder in [None, Some(tempfile::tempdir().unwrap())] {
        let mut journal = Journal::open(folder.as_ref().map(|folder| folder.path().into()));
        for (orders, for_ever) in [(&settling[..], true), (&others[..], false)] {
            for order in orders {
                let pending = journal.begin(record(order.clone()));
                assert_eq!(pending.why_never_repeated(stamp(29)), None, "{order:?}");
                let doubt = pending.why_never_repeated(stamp(30));
                assert_eq!(doubt.is_none(), for_ever, "{order:?}");
            }
        }
    }
}

#[test]
fn what_is_put_aside_is_never_found_again_and_the_attendant_has_what_finds_it_at_the_bank() {
    let folder = tempfile::tempdir().unwrap();
    for folder in [None, Some(folder.path().to_owned())] {
        let in_memory = folder.is_none();
        let mut journal = Journal::open(folder);
        journal.take_warnings();
        let order = keyed(4_711);
        let pending = journal.begin(record(Order::Deposit(order.clone())));
        journal.set_aside(pending, "a request is old", stamp(0));
        let told = journal.take_warnings().concat();
        assert!(told.contains("a request is old; ask the bank about it"));
        let named = format!(
            "deposit of 4711 minor units, account zz-99999, key {}",
            order.key
        );
        assert_eq!(told.contains(&named), in_memory, "{told}");
        assert_eq!(all(&mut journal), []);
    }
    let mut left = fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().path());
    let left = left.find(|path| path.extension().unwrap() == "old");
    let text = fs::read_to_string(left.unwrap()).unwrap();
    assert!(text.contains("zz-99999") && text.contains("4711"), "{text}");
}

#[test]
fn an_outcome_is_kept_until_it_is_told_and_outlives_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    let deposit = record(Order::Deposit(keyed(1)));
    let mut pending = journal.begin(deposit.clone());
    journal.settle(&mut pending, Outcome::WentThrough, None, stamp(0));
    drop((pending, journal));
    let mut journal = open(folder.path());
    let mut found = journal.unfinished(&origin("aa"), None, |_| true);
    let outcome = Some(Outcome::WentThrough);
    assert_eq!(found[0].record, Record { outcome, ..deposit });
    journal.finish(found.remove(0));
    assert_eq!(all(&mut journal), []);
}

#[test]
fn what_was_removed_by_somebody_else_cannot_go_on_to_a_capture() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path());
    let mut pending = journal.begin(record(Order::Authorize(keyed(5_000))));
    fs::remove_file(files_of(folder.path()).pop().unwrap()).unwrap();
    let capture = Order::Capture {
        hold: "h-1".parse().unwrap(),
        keyed: keyed(5_000),
    };
    assert!(!journal.advance(&mut pending, capture));
    assert!(journal.take_warnings().concat().contains("it was removed"));
}

#[test]
fn a_request_in_memory_ages_as_one_on_disk_does_however_often_it_is_put_back() {
    let mut journal = Journal::open(None);
    let mut pending = journal.begin(record(Order::Deposit(keyed(1))));
    pending.record.at.bank = None;
    pending.kept = Kept::for_days(31);
    for _ in 0..2 {
        journal.put_back(pending);
        pending = journal.unfinished(&origin("aa"), None, |_| true).remove(0);
    }
    let own = pending.record.at.own.plus_ms(31 * DAY_MS);
    let now = Stamp { own, bank: None };
    assert!(pending.why_never_repeated(now).unwrap().contains("older"));
}

#[test]
fn a_file_of_an_older_terminal_is_read_and_judged_by_its_stamp_and_its_own_age() {
    const LINE: &str = r#"{"account":"zz-99999","op":"deposit","amount":500,"to":null,"hold":null,"key":"0198f2a4-5b6c-7d8e-9fa0-b1c2d3e4f506","currency":"USD","at_unix_ms":AT,"bank":["aa"],"terminal":"terminal-1"}"#;
    let (file_days, day) = (20, std::time::Duration::from_millis(DAY_MS));
    let now = super::super::clock::own_now();
    let found = |stamp_days: u64, now: Stamp| {
        let folder = tempfile::tempdir().unwrap();
        let at = super::super::clock::own_now().minus_ms(stamp_days * DAY_MS);
        let path = folder.path().join("01.json");
        fs::write(
            &path,
            LINE.replace("AT", &at.unix_ms().to_string())
                + "
",
        )
        .unwrap();
        let written = std::time::SystemTime::now() - day * file_days;
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        file.set_modified(written).unwrap();
        let mut journal = open(folder.path());
        let mut found = journal.unfinished(&origin("aa"), None, |_| true);
        let pending = found.pop().unwrap();
        (pending.record.at.bank, pending.why_never_repeated(now))
    };
    let own = Stamp {
        own: now,
        bank: None,
    };
    assert_eq!(found(20, own), (None, None));
    assert!(found(22, own).1.unwrap().contains("clocks disagree"));
    assert!(found(18, own).1.unwrap().contains("clocks disagree"));
    // This machine's clock was set back by twenty days since.
    let bank = Some(now.plus_ms(20 * DAY_MS));
    assert!(found(20, Stamp { bank, ..own }).1.is_some());
}

#[test]
fn a_request_too_old_under_an_old_name_or_authority_is_told_of_once_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let written = record(Order::Deposit(keyed(1)));
    let renamed = Origin {
        terminal: Some("terminal-2".parse().unwrap()),
        ..origin("aa")
    };
    for (now, wanted) in [
        (origin("bb"), None),
        (renamed.clone(), renamed.terminal.clone()),
    ] {
        drop(open(folder.path()).begin(written.clone()));
        let mut journal = open(folder.path());
        let mut look = |at| {
            let of_name = |record: &Record| record.origin.terminal == wanted;
            assert!(journal.unfinished(&now, at, of_name).is_empty());
            journal.take_warnings()
        };
        assert_eq!(look(Some(stamp(29))), [""; 0]);
        // Until the bank has told its time nothing is said.
        assert_eq!(look(None), [""; 0]);
        let told = look(Some(stamp(30))).concat();
        assert!(
            told.contains("a deposit of terminal-1") && told.contains("ask the bank"),
            "{told}"
        );
        assert_eq!(look(Some(stamp(31))), [""; 0]);
        let path = files_of(folder.path()).pop().unwrap();
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn without_a_usable_folder_one_warning_is_given_and_requests_are_kept_in_memory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut journal = Journal::open(Some(file.path().join("below")));
    assert_eq!(journal.take_warnings().len(), 1);
    let pending = journal.begin(record(Order::Deposit(keyed(7))));
    journal.put_back(pending);
    assert_eq!(all(&mut journal).len(), 1);
    assert_eq!(all(&mut journal).len(), 0);
    assert_eq!(journal.take_warnings(), Vec::<String>::new());
}

#[test]
fn what_has_no_file_or_a_full_disk_cannot_go_on_to_a_capture_but_to_a_release() {
    let capture = || Order::Capture {
        hold: "h-1".parse().unwrap(),
        keyed: keyed(5_000),
    };
    let release = Order::Release {
        hold: "h-1".parse().unwrap(),
        key: new_key(),
        amount: None,
    };
    let authorize = record(Order::Authorize(keyed(5_000)));
    let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
    for file in [None, Some((full, PathBuf::from("full.json")))] {
        let mut journal = Journal::open(None);
        let mut pending = Pending {
            record: authorize.clone(),
            kept: Kept::from_now(),
            file,
            unrecorded: None,
        };
        assert!(!journal.advance(&mut pending, capture()));
        assert_eq!(pending.record, authorize);
        journal.advance_to_release(&mut pending, release.clone());
        assert_eq!(pending.record.order, release);
        assert!(!journal.advance(&mut pending, capture()));
        assert_eq!(pending.record.order, release);
    }
}

#[test]
fn warnings_that_nobody_takes_are_not_kept_without_end() {
    let mut journal = Journal::open(None);
    (0..2 * WARNINGS_MAX).for_each(|number| journal.tell(number.to_string()));
    let told = journal.take_warnings();
    assert_eq!(told.len(), WARNINGS_MAX);
    assert_eq!(told.last(), Some(&(2 * WARNINGS_MAX - 1).to_string()));
}

#[test]
fn a_folder_where_others_may_write_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    for mode in [0o770, 0o720, 0o702, 0o777, 0o1777] {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        let mut journal = Journal::open(Some(folder.path().into()));
        assert!(journal.take_warnings().concat().contains("chmod go-w"));
        assert!(
            journal
                .begin(record(Order::Deposit(keyed(1))))
                .file
                .is_none()
        );
    }
}

#[test]
fn what_was_left_half_made_goes_after_an_hour_under_its_old_name_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let id = Uuid::now_v7();
    let left = [format!(".{id}.json.draft"), format!("new-{id}")];
    for name in left.iter().map(String::as_str).chain(["new-notes"]) {
        fs::write(path(name), "zz-99999").unwrap();
    }
    open(folder.path());
    assert!(left.iter().all(|name| path(name).exists()));
    for name in left.iter().map(String::as_str).chain(["new-notes"]) {
        let file = File::options().write(true).open(path(name)).unwrap();
        let then = std::time::SystemTime::now() - 2 * UNBORN_FOR;
        file.set_modified(then).unwrap();
    }
    open(folder.path());
    assert!(left.iter().all(|name| !path(name).exists()));
    assert!(path("new-notes").exists());
}

/// Gives the file to somebody else, which only root can.
fn give_away(path: &Path) -> bool {
    let given = std::os::unix::fs::chown(path, Some(own_uid() + 1), None).is_ok();
    if !given {
        println!("skipped: only root can give a file away");
    }
    given
}

#[test]
fn a_folder_of_somebody_else_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    if give_away(folder.path()) {
        let mut journal = Journal::open(Some(folder.path().into()));
        assert!(journal.take_warnings().concat().contains("belongs to user"));
        assert!(
            journal
                .begin(record(Order::Deposit(keyed(1))))
                .file
                .is_none()
        );
    }
}

#[test]
fn a_file_of_somebody_else_is_left_alone_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).begin(record(Order::Deposit(keyed(1)))));
    let path = files_of(folder.path()).pop().unwrap();
    if give_away(&path) {
        let mut journal = open(folder.path());
        assert_eq!(all(&mut journal), []);
        assert!(journal.take_warnings().concat().contains("left alone"));
        assert!(path.exists());
    }
}

#[test]
fn a_link_to_a_request_is_left_alone_with_a_warning() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(open(elsewhere.path()).begin(record(Order::Deposit(keyed(1)))));
    let target = files_of(elsewhere.path()).pop().unwrap();
    std::os::unix::fs::symlink(&target, folder.path().join("link.json")).unwrap();
    let mut journal = open(folder.path());
    assert_eq!(all(&mut journal), []);
    assert!(journal.take_warnings().concat().contains("link.json"));
    assert!(target.exists());
}

#[test]
fn a_file_that_holds_no_request_is_reported_and_left() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("odd.json"), "not a request\n").unwrap();
    let mut journal = open(folder.path());
    assert_eq!(all(&mut journal), []);
    assert!(journal.take_warnings().concat().contains("odd.json"));
    assert!(folder.path().join("odd.json").exists());
}

fn any_order() -> impl Strategy<Value = Order> {
    let keyed = (any::<i64>(), "[A-Za-z0-9-]{16,64}").prop_map(|(minor, key)| Keyed {
        amount: RequestedAmount(minor),
        key: key.parse().unwrap(),
    });
    (
        keyed,
        0..6,
        "[A-Za-z0-9-]{1,64}",
        "[a-z]{2}-[0-9]{5}",
        any::<Option<i64>>(),
    )
        .prop_map(|(keyed, kind, hold, to, amount)| {
            let hold = hold.parse().unwrap();
            match kind {
                0 => Order::Deposit(keyed),
                1 => Order::Withdraw(keyed),
                2 => Order::Transfer {
                    to: to.parse().unwrap(),
                    keyed,
                },
                3 => Order::Authorize(keyed),
                4 => Order::Capture { hold, keyed },
                _ => Order::Release {
                    hold,
                    key: keyed.key,
                    amount,
                },
            }
        })
}

proptest! {
    #[test]
    fn every_request_reads_back_as_it_was_written(
        order in any_order(),
        told in any::<Option<i64>>(),
        outcome in prop_oneof![
            Just(None),
            Just(Some(Outcome::WentThrough)),
            Just(Some(Outcome::DidNotHappen)),
            Just(Some(Outcome::ForStaff)),
        ],
    ) {
        let mut written = record(order);
        written.outcome = outcome;
        written.at.bank = told.map(Timestamp::from_unix_ms);
        let line = String::from_utf8(written.to_line().unwrap()).unwrap();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(Record::from_line(&line), Some(written));
    }

    #[test]
    fn reading_any_text_never_panics(text in "\\PC{0,80}") {
        let _ = Record::from_line(&text);
    }
}
