//! Line mode, as a customer sees it.

use std::io::{BufRead, BufReader, Read, Write};

use atm_bank::wire::answer::{Answer, Members};
use atm_bank::wire::code::Code;

use super::fake_bank::{FakeBank, Reaction, agreeable, welcome};
use super::{ANONYMOUS, Terminal, stderr, stdout};

fn talk(bank: &FakeBank, typed: &str) -> std::process::Output {
    Terminal::at(bank).type_in(typed)
}

#[test]
fn a_customer_is_served_with_numbers_and_with_words() {
    let bank = FakeBank::start(agreeable);
    let typed = "ZZ-99999\n8264\n1\nwithdraw\n50.00\n3\n7.50\ntransfer\nzz-00001\n1.00\nyes\n\
                 history\n7\nquit\n";
    let output = talk(&bank, typed);
    let shown = stdout(&output);
    for said in [
        "Hello, zz-99999.",
        "Your balance is 1024.32 USD.",
        "Please take your cash: 50.00 USD.",
        "7.50 USD was added to your account.",
        "Send 1.00 USD to zz-00001? yes or no",
        "1.00 USD was sent to zz-00001.",
        "There are no more entries.",
        "You are logged out. Thank you.",
        "Goodbye.",
    ] {
        assert!(shown.contains(said), "{said} is missing in {shown}");
    }
    assert!(!shown.contains("8264"), "{shown}");
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(0), ANONYMOUS)
    );
    assert_eq!(
        (bank.asked("capture").len(), bank.asked("withdraw").len()),
        (1, 0)
    );
}

#[test]
fn the_end_of_input_logs_out() {
    let bank = FakeBank::start(agreeable);
    let output = talk(&bank, "zz-99999\n8264\n");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(bank.asked("logout").len(), 1);
}

#[test]
fn nonsense_is_asked_again_and_a_cancelled_amount_moves_nothing() {
    let bank = FakeBank::start(agreeable);
    let typed = "abc\nzz-99999\n12\n8264\ndance\nwithdraw\nmuch\n5.5\n-1\n0\ncancel\nquit\n";
    let output = talk(&bank, typed);
    let shown = stdout(&output);
    assert!(
        shown.contains("This cannot be: an account number is"),
        "{shown}"
    );
    assert!(
        shown.contains("This cannot be: a PIN is 4 to 12 digits."),
        "{shown}"
    );
    assert!(
        shown.contains("Please type a number of the menu"),
        "{shown}"
    );
    assert!(
        shown.matches("Please type an amount of USD: digits, or digits, a point and exactly 2 decimals, as in 12.34.").count() >= 4,
        "{shown}"
    );
    assert!(shown.contains("Cancelled."), "{shown}");
    assert_eq!(bank.asked("authorize").len(), 0);
}

#[test]
fn refusals_at_login_are_plain_words_and_the_next_customer_may_come() {
    let mut answers = vec![
        Answer::refused(None, Code::NoMatch),
        Answer::refused(None, Code::InUse),
        Answer::retry_after(None, Code::LockedOut, Some(86_400_000)),
    ]
    .into_iter();
    let bank = FakeBank::start(move |request| match request["op"].as_str() {
        Some("login") => answers
            .next()
            .map_or_else(|| agreeable(request), Reaction::Refuse),
        _ => agreeable(request),
    });
    let output = talk(&bank, &format!("{}quit\n", "zz-99999\n8264\n".repeat(4)));
    let shown = stdout(&output);
    for said in [
        "This account number and PIN do not belong together.",
        "in use at another machine",
        "Please try again in 24 hours.",
        "Hello, zz-99999.",
    ] {
        assert!(shown.contains(said), "{said} is missing in {shown}");
    }
    assert!(
        !shown.contains("20") && !shown.contains("86400000"),
        "{shown}"
    );
}

#[test]
fn a_one_time_pin_leads_to_a_new_one_before_anything_else() {
    let bank = FakeBank::start(|request| match request["op"].as_str() {
        Some("login") => Reaction::Done(Members {
            must_change_pin: Some(true),
            ..welcome()
        }),
        _ => agreeable(request),
    });
    let output = talk(
        &bank,
        "zz-99999\n8264\n8264\n739105\n739105\nbalance\nquit\n",
    );
    let shown = stdout(&output);
    let changed = shown.find("Your PIN was changed.").unwrap();
    assert!(shown.find("Your balance is").unwrap() > changed, "{shown}");
    assert_eq!(bank.asked("change_pin")[0]["new_pin"], "739105");
}

#[test]
fn a_session_that_the_bank_ends_is_told_while_the_customer_is_silent() {
    let bank = FakeBank::start(|request| match request["op"].as_str() {
        Some("login") => {
            let ended = br#"{"id":null,"code":42,"message":"x"}"#.to_vec();
            Reaction::After(vec![], Box::new(Reaction::Raw(with_notice(request, ended))))
        }
        _ => agreeable(request),
    });
    let mut child = Terminal::at(&bank).spawn();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"zz-99999\n8264\n").unwrap();
    let mut shown = BufReader::new(child.stdout.take().unwrap());
    // Nothing more is typed until the terminal has said so by itself.
    let mut line = String::new();
    while !line.contains("Your session has ended") {
        line.clear();
        assert!(
            shown.read_line(&mut line).unwrap() > 0,
            "the terminal ended without a word"
        );
    }
    input.write_all(b"quit\n").unwrap();
    drop(input);
    let mut rest = String::new();
    shown.read_to_string(&mut rest).unwrap();
    assert!(
        rest.contains("Welcome.") && rest.contains("Goodbye."),
        "{rest}"
    );
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The answer to a log-in, and behind it a message of the bank's own accord.
fn with_notice(request: &serde_json::Value, notice: Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Answer::done(request["id"].as_u64(), welcome())
        .append_frame(&mut bytes)
        .unwrap();
    atm_bank::wire::frame::append(&mut bytes, 65_536, |out| out.extend(notice)).unwrap();
    bytes
}

#[test]
fn sigterm_logs_the_customer_out_politely() {
    use rustix::process::{Pid, Signal, kill_process};
    let bank = FakeBank::start(agreeable);
    let mut child = Terminal::at(&bank).spawn();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"zz-99999\n8264\n").unwrap();
    let mut shown = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("log out") {
        line.clear();
        assert!(
            shown.read_line(&mut line).unwrap() > 0,
            "the terminal ended too early"
        );
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(bank.asked("logout").len(), 1);
    drop(input);
}
