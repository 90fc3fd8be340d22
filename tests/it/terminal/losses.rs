//! Lost connections, banks that do not know, and terminals that die: money moves once.

use std::path::Path;

use atm_bank::atm::{Bank, Deadlines, Journal, Teller, TrustFiles};
use atm_bank::domain::Pin;
use atm_bank::wire::answer::{Answer, Members};
use atm_bank::wire::code::Code;

use super::fake_bank::{FakeBank, Reaction, agreeable};
use super::{ANONYMOUS, Terminal, lines, stderr, stdout};

fn files_in(folder: &Path) -> usize {
    super::files_in(folder).len()
}

/// A bank that does everything, but hangs up the first `times` it is asked for `op`.
fn forgetful(op: &'static str, times: usize) -> FakeBank {
    let mut left = times;
    FakeBank::start(move |request| {
        if request["op"] == op && left > 0 {
            left -= 1;
            return Reaction::HangUp;
        }
        agreeable(request)
    })
}

#[test]
fn a_withdrawal_without_an_answer_is_repeated_with_its_key_after_the_next_login() {
    let bank = forgetful("withdraw", 1);
    let journal = tempfile::tempdir().unwrap();
    let script = "login zz-99999 8264\nwithdraw 50.00\nlogin zz-99999 8264\nbalance\n";
    let output = Terminal::with_certificate(&bank, journal.path()).script(script);
    let lines = lines(&output);
    assert!(lines[1].starts_with("lost withdraw:"), "{}", lines[1]);
    assert!(
        lines[1].contains("the bank closed the connection without a goodbye"),
        "{}",
        lines[1]
    );
    assert!(
        lines[2].starts_with("ok login") && lines[3].starts_with("ok balance"),
        "{lines:?}"
    );
    assert!(
        stderr(&output).contains("Your last withdrawal of 50.00 USD went through."),
        "{}",
        stderr(&output)
    );
    assert_eq!(output.status.code(), Some(1));
    let sent = bank.asked("withdraw");
    assert_eq!(sent.len(), 2);
    assert_eq!(
        (&sent[0]["key"], &sent[0]["amount"]),
        (&sent[1]["key"], &sent[1]["amount"])
    );
    assert_eq!(files_in(journal.path()), 0);
}

#[test]
fn a_request_outlives_its_process_and_its_customer_hears_that_it_did_not_happen() {
    let bank = forgetful("transfer", 1);
    let journal = tempfile::tempdir().unwrap();
    let script = "login zz-99999 8264\ntransfer zz-00001 3.00\n";
    Terminal::with_certificate(&bank, journal.path()).script(script);
    assert_eq!(files_in(journal.path()), 1);
    let key = bank.asked("transfer")[0]["key"].clone();

    // Another customer's log-in repeats nothing of it.
    let output = Terminal::with_certificate(&bank, journal.path()).script("login zz-11111 8264\n");
    assert_eq!(
        (stderr(&output).as_str(), bank.asked("transfer").len()),
        ("", 1)
    );

    let mut terminal = Terminal::with_certificate(&bank, journal.path());
    let output = terminal.arg("--json").script("login zz-99999 8264\n");
    let answer: serde_json::Value = serde_json::from_str(stdout(&output).trim()).unwrap();
    assert_eq!(answer["recovered"][0]["outcome"], "went_through");
    assert_eq!(answer["recovered"][0]["amount"], 300);
    assert_eq!(bank.asked("transfer")[1]["key"], key);
    assert_eq!(files_in(journal.path()), 0);
}

#[test]
fn a_repeated_request_that_is_refused_is_told_as_not_happened() {
    let mut first = true;
    let bank = FakeBank::start(move |request| match request["op"].as_str() {
        Some("deposit") if std::mem::take(&mut first) => Reaction::HangUp,
        Some("deposit") => Reaction::Refuse(Answer::refused(None, Code::InvalidAmount)),
        _ => agreeable(request),
    });
    let script = "login zz-99999 8264\ndeposit 1.00\nlogin zz-99999 8264\n";
    let output = Terminal::at(&bank).script(script);
    assert!(
        stderr(&output).contains("deposit of 1.00 USD did not happen."),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_bank_that_cannot_say_is_asked_again_with_the_same_key() {
    let mut unknown = 2;
    let bank = FakeBank::start(move |request| match request["op"].as_str() {
        Some("withdraw") if unknown > 0 => {
            unknown -= 1;
            Reaction::Refuse(Answer::refused(None, Code::StorageUnavailable))
        }
        _ => agreeable(request),
    });
    let output = Terminal::at(&bank).script("login zz-99999 8264\nwithdraw 1.00\n");
    assert!(
        lines(&output)[1].starts_with("ok withdraw"),
        "{}",
        stdout(&output)
    );
    let sent = bank.asked("withdraw");
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|request| request["key"] == sent[0]["key"]));
}

#[test]
fn a_request_that_the_bank_never_settles_stays_in_the_journal() {
    let bank = FakeBank::start(|request| match request["op"].as_str() {
        Some("withdraw") => Reaction::Refuse(Answer::refused(None, Code::StorageUnavailable)),
        _ => agreeable(request),
    });
    let journal = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::with_certificate(&bank, journal.path());
    let output = terminal.script("login zz-99999 8264\nwithdraw 1.00\n");
    assert!(
        lines(&output)[1].starts_with("refused 51"),
        "{}",
        stdout(&output)
    );
    assert_eq!(files_in(journal.path()), 1);
}

#[test]
fn cash_that_went_out_is_captured_at_the_next_start_with_nobody_logged_in() {
    // The terminal tries four times before it leaves the capture to the next start.
    let bank = forgetful("capture", 4);
    let journal = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::with_certificate(&bank, journal.path());
    let output = terminal
        .arg("--plain")
        .type_in("zz-99999\n8264\nwithdraw\n50.00\nquit\n");
    assert!(
        stdout(&output).contains("Your cash is out."),
        "{}",
        stdout(&output)
    );
    assert_eq!(files_in(journal.path()), 1);

    let output = Terminal::with_certificate(&bank, journal.path()).script("ping\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let captures = bank.asked("capture");
    assert_eq!(captures.len(), 5);
    assert!(
        captures
            .iter()
            .all(|capture| capture["key"] == captures[0]["key"])
    );
    assert_eq!(
        (&captures[4]["hold"], &captures[4]["amount"]),
        (&"hold-1".into(), &5_000.into())
    );
    assert_eq!(
        told_at_login(&bank, journal.path()),
        "Your last withdrawal of 50.00 USD went through."
    );
    assert_eq!(
        (files_in(journal.path()), bank.asked("capture").len()),
        (0, 5)
    );
    assert_eq!(bank.asked("release").len(), 0);
}

#[test]
fn an_authorize_without_an_answer_is_settled_by_a_release_because_no_cash_went_out() {
    let bank = forgetful("authorize", 1);
    let journal = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::with_certificate(&bank, journal.path());
    let typed = "zz-99999\n8264\nwithdraw\n50.00\nzz-99999\n8264\nquit\n";
    let output = terminal.arg("--plain").type_in(typed);
    let shown = stdout(&output);
    assert!(
        shown.contains("The connection to your bank was lost."),
        "{shown}"
    );
    assert!(
        shown.contains("Your last withdrawal of 50.00 USD did not happen."),
        "{shown}"
    );
    assert!(!shown.contains("take your cash"), "{shown}");
    let sent = bank.asked("authorize");
    assert_eq!((sent.len(), &sent[0]["key"]), (2, &sent[1]["key"]));
    assert_eq!(bank.asked("release").len(), 1);
    assert_eq!(files_in(journal.path()), 0);
}

#[test]
fn a_terminal_that_dies_between_authorize_and_dispensing_frees_the_money_at_its_next_start() {
    let bank = FakeBank::start(agreeable);
    let journal = tempfile::tempdir().unwrap();
    in_session(&bank, journal.path(), async |teller| {
        let (_, cash) = teller.authorize(5_000).await.unwrap();
        assert!(cash.is_some());
        // A crash: nothing of it is settled, nothing is said.
    });
    assert_eq!(
        (bank.asked("release").len(), files_in(journal.path())),
        (0, 1)
    );
    let output = Terminal::with_certificate(&bank, journal.path()).script("ping\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(bank.asked("release")[0]["hold"], "hold-1");
    assert_eq!(
        told_at_login(&bank, journal.path()),
        "Your last withdrawal of 50.00 USD did not happen."
    );
    assert_eq!(bank.asked("release").len(), 1);
    assert_eq!(
        (bank.asked("capture").len(), files_in(journal.path())),
        (0, 0)
    );
}

/// What the customer is told at the next log-in.
fn told_at_login(bank: &FakeBank, journal: &Path) -> String {
    let output = Terminal::with_certificate(bank, journal).script("login zz-99999 8264\n");
    let told = stderr(&output);
    told.trim_end()
        .trim_start_matches("atm_client: ")
        .to_owned()
}

/// What goes on inside a terminal while a customer is logged in, and then no more: nothing is settled or
/// said behind it.
pub(super) fn in_session(bank: &FakeBank, journal: &Path, work: impl AsyncFnOnce(&mut Teller)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut teller = teller_at(bank, journal);
        let (account, pin) = ("zz-99999".parse().unwrap(), Pin::parse("8264").unwrap());
        teller.login(account, pin).await.unwrap();
        work(&mut teller).await;
    });
}

fn teller_at(bank: &FakeBank, journal: &Path) -> Teller {
    let files = TrustFiles {
        ca: bank.papers.file("ca.pem"),
        identity: Some((
            bank.papers.file("terminal.pem"),
            bank.papers.file("terminal.key"),
        )),
        pins: Vec::new(),
    };
    let address = format!("localhost:{}", bank.port).parse().unwrap();
    let bank = Bank {
        address,
        trust: files.load().unwrap(),
        deadlines: Deadlines::default(),
    };
    Teller::new(bank, Journal::open(Some(journal.into())))
}

#[test]
fn a_full_bank_is_no_bank() {
    let bank = FakeBank::start(|_| {
        let full = br#"{"id":null,"code":41,"message":"x"}"#.to_vec();
        Reaction::After(vec![full], Box::new(Reaction::Raw(Vec::new())))
    });
    let output = Terminal::at(&bank).script("login zz-99999 8264\nping\n");
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).contains("server full"));
}

#[test]
fn after_three_wrong_pins_the_next_customer_gets_a_new_connection() {
    let bank = FakeBank::start(|request| match request["op"].as_str() {
        Some("login") if request["pin"] == "0000" => {
            Reaction::Refuse(Answer::refused(None, Code::NoMatch))
        }
        _ => agreeable(request),
    });
    let script = "login zz-99999 0000\n".repeat(3) + "login zz-99999 8264\n";
    let output = Terminal::at(&bank).script(&script);
    assert!(
        lines(&output)[3].starts_with("ok login"),
        "{}",
        stdout(&output)
    );
    assert_eq!(
        (bank.seen(|seen| seen.connections), stderr(&output).as_str()),
        (2, ANONYMOUS)
    );
}

#[test]
fn a_bank_that_closes_is_called_again_once_and_the_script_goes_on() {
    let bank = FakeBank::start(|request| match request["op"].as_str() {
        Some("balance") => {
            let closing = br#"{"id":null,"code":52,"message":"x"}"#.to_vec();
            Reaction::After(vec![closing], Box::new(Reaction::HangUp))
        }
        _ => agreeable(request),
    });
    let output = Terminal::at(&bank).script("login zz-99999 8264\nbalance\nping\n");
    assert!(
        lines(&output)[1].starts_with("lost balance:"),
        "{}",
        stdout(&output)
    );
    assert!(
        stderr(&output).contains("log in again"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        (lines(&output)[2].as_str(), output.status.code()),
        ("ok ping", Some(1))
    );
}

#[test]
fn a_frame_over_the_limit_ends_the_connection_and_not_the_terminal() {
    let mut first = true;
    let bank = FakeBank::start(move |request| match request["op"].as_str() {
        Some("history") if std::mem::take(&mut first) => Reaction::Raw(vec![0, 1, 0, 1, b'{']),
        _ => agreeable(request),
    });
    let output = Terminal::at(&bank).script("login zz-99999 8264\nhistory\nping\n");
    let lines = lines(&output);
    assert!(lines[1].contains("a frame of 65537 bytes"), "{lines:?}");
    assert_eq!(lines[2], "ok ping");
}

#[test]
fn an_answer_to_another_question_is_never_taken_for_this_one() {
    let bank = FakeBank::start(|request| match request["op"].as_str() {
        Some("balance") => {
            let stray = br#"{"id":999,"code":0,"balance":1,"available":1,"currency":"USD"}"#;
            Reaction::After(
                vec![stray.to_vec()],
                Box::new(Reaction::Done(Members::default())),
            )
        }
        _ => agreeable(request),
    });
    let output = Terminal::at(&bank).script("login zz-99999 8264\nbalance\n");
    assert!(
        lines(&output)[1].starts_with("lost balance:"),
        "{}",
        stdout(&output)
    );
}
