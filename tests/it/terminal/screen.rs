//! The full screen in a real pty, as customers, attendants and vandals use it.

use std::time::Duration;

use atm_bank::wire::answer::{Answer, Members, SessionTimes};
use atm_bank::wire::code::Code;
use rcgen::date_time_ymd;
use rustix::process::Signal;

use super::fake_bank::{FakeBank, Papers, Reaction, agreeable, welcome};
use super::window::Window;
use super::{Terminal, stderr, stdout};
use crate::support::until;

fn open(bank: &FakeBank, arguments: &[&str], size: (u16, u16)) -> Window {
    let journal = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::with_certificate(bank, &journal.path().join("journal"));
    arguments.iter().for_each(|argument| {
        terminal.arg(argument);
    });
    // It lives as long as the window's process may.
    std::mem::forget(journal);
    Window::of_size(terminal, true, size)
}

/// Ctrl-C, Ctrl-\, Ctrl-Z, Ctrl-D and Esc.
const VANDAL: &str = "\u{3}\u{1c}\u{1a}\u{4}\u{1b}";

#[test]
fn at_a_kiosk_nobody_ends_the_terminal_by_keys_and_sigterm_does() {
    let bank = FakeBank::start(agreeable);
    let mut window = open(&bank, &["--kiosk"], (80, 24));
    window.wait_for("Please type your account number");
    assert!(!window.text().contains("Esc ends"), "{}", window.text());
    window.type_in(VANDAL);
    window.signal(Signal::INT);
    window.signal(Signal::QUIT);
    window.log_in("zz-99999", "8264");
    window.wait_for("What would you like to do?");
    window.type_in("\u{3}\u{3}7");
    window.wait_for("Please type your account number");
    window.signal(Signal::TERM);
    window.wait();
    assert_eq!(bank.asked("logout").len(), 1);

    // Elsewhere both end it, as ever.
    for key in ["\u{3}", "\u{1b}"] {
        let mut window = open(&bank, &[], (80, 24));
        window.wait_for("Esc ends");
        window.type_in(key);
        window.wait();
    }
}

#[test]
fn a_kiosk_is_a_window() {
    let bank = FakeBank::start(agreeable);
    let output = Terminal::at(&bank).arg("--kiosk").type_in("");
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("--kiosk"), "{}", stderr(&output));
    let output = Terminal::at(&bank)
        .arg("--kiosk")
        .arg("--plain")
        .type_in("");
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn pasted_text_asks_the_bank_for_nothing() {
    let bank = FakeBank::start(agreeable);
    let window = open(&bank, &[], (80, 24));
    window.log_in("zz-99999", "8264");
    window.wait_for("What would you like to do?");
    // Withdraw, the first amount, and yes.
    window.type_in("\u{1b}[200~1\r\r\r\u{1b}[201~");
    window.wait_for("Pasted text is not taken");
    window.type_in("4");
    window.wait_for("Your balance is 1024.32 USD");
    assert_eq!(bank.asked("authorize").len(), 0);
}

#[test]
fn a_narrow_window_shows_balance_and_keys() {
    let bank = FakeBank::start(agreeable);
    for size in [(46, 20), (34, 20)] {
        let window = open(&bank, &[], size);
        window.log_in("zz-99999", "8264");
        window.wait_for("1024.32 USD");
        window.wait_for("Esc logs out");
    }
}

#[test]
fn a_customer_leaves_a_bank_that_does_not_answer() {
    let bank = FakeBank::start(|request| match request["op"].as_str() {
        Some("deposit") => Reaction::Raw(Vec::new()),
        _ => agreeable(request),
    });
    let window = open(&bank, &[], (80, 24));
    window.log_in("zz-99999", "8264");
    window.wait_for("What would you like to do?");
    window.type_in("25.00\r\r");
    window.wait_for("Esc ends your visit");
    window.type_in("\u{1b}");
    window.wait_for("Your visit has ended");
    window.type_in("\r");
    window.wait_for("Please type your account number");
    assert_eq!(bank.asked("deposit").len(), 1);
}

#[test]
fn what_is_asked_while_the_bank_is_slow_to_hear_that_the_customer_stays_is_asked_in_its_turn() {
    let bank = FakeBank::start(|request| match request["op"].as_str() {
        Some("login") => Reaction::Done(Members {
            session: Some(SessionTimes {
                idle_timeout_ms: 8_000,
                max_timeout_ms: 900_000,
            }),
            ..welcome()
        }),
        // What is asked to stay logged in.
        Some("balance") => Reaction::Raw(Vec::new()),
        _ => agreeable(request),
    });
    let window = open(&bank, &[], (80, 24));
    window.log_in("zz-99999", "8264");
    window.wait_for("What would you like to do?");
    window.type_in("2");
    window.wait_for("logs out in 3 seconds");
    window.type_in("5.00\r\r");
    window.wait_for("Esc ends your visit");
    assert_eq!(bank.asked("balance").len(), 1);
    window.type_in("\u{1b}");
    until("the deposit", || {
        (bank.asked("deposit").len() == 1).then_some(())
    });
}

#[test]
fn in_a_session_the_bank_hears_that_the_terminal_lives_and_else_nothing() {
    let bank = FakeBank::start(agreeable);
    let mut child = Terminal::at(&bank).arg("--plain").spawn();
    let mut input = child.stdin.take().unwrap();
    use std::io::Write as _;
    let begun = std::time::Instant::now();
    input.write_all(b"zz-99999\n8264\n").unwrap();
    until("two pings", || {
        (bank.asked("ping").len() >= 2).then_some(())
    });
    assert!(begun.elapsed() >= Duration::from_secs(10));
    // An answer to a ping is never taken for another's.
    input.write_all(b"balance\nlogout\nquit\n").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(
        stdout(&output).contains("Your balance is 1024.32 USD."),
        "{output:?}"
    );
    let ops: Vec<String> = bank.seen(|seen| {
        let op = |request: &serde_json::Value| request["op"].as_str().unwrap().to_owned();
        seen.requests.iter().map(op).collect()
    });
    assert_eq!(ops, ["login", "ping", "ping", "balance", "logout"]);
}

#[test]
fn a_bank_whose_certificate_does_not_hold_now_is_not_told_as_another_bank() {
    for (from, to) in [((2020, 1, 1), (2021, 1, 1)), ((2100, 1, 1), (2101, 1, 1))] {
        let date = |(year, month, day)| date_time_ymd(year, month, day);
        let papers = Papers::valid(&["localhost", "127.0.0.1"], Some((date(from), date(to))));
        let bank = FakeBank::start_with(papers, &[b"atm/1"], agreeable);
        let output = Terminal::at(&bank).arg("--plain").type_in("");
        let (shown, told) = (stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(76), "{told}");
        assert!(told.contains("this machine's clock") && !told.contains("not the right bank"));
        assert!(!shown.contains("could not make sure"), "{shown}");
        assert_eq!(bank.seen(|seen| seen.application_bytes), 0);
    }
}

#[test]
fn line_mode_says_what_wrong_pins_and_locks_mean_and_that_no_cash_comes() {
    let mut logins = 0;
    let bank = FakeBank::start(move |request| match request["op"].as_str() {
        Some("login") => {
            logins += 1;
            match logins {
                1..=3 => Reaction::Refuse(Answer::refused(None, Code::NoMatch)),
                4 => Reaction::Refuse(Answer::refused(None, Code::LockedOut)),
                _ => Reaction::Done(Members { ..welcome() }),
            }
        }
        Some("authorize") => Reaction::HangUp,
        _ => agreeable(request),
    });
    let typed = format!("{}withdraw\n50.00\nquit\n", "zz-99999\n8264\n".repeat(5));
    let output = Terminal::at(&bank).arg("--plain").type_in(&typed);
    let shown = stdout(&output);
    let order = [
        "do not belong together.",
        "The next wrong PIN may lock the account.",
        "The account may be locked now",
        "This account is locked. Please ask your bank to unlock it.",
        "Hello, zz-99999.",
        "No cash is given out, and nothing was taken from your account.",
    ];
    let places: Vec<_> = order.iter().map(|said| shown.find(said)).collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{shown}"
    );
}

#[test]
fn in_line_mode_lines_that_are_pasted_answer_no_question_that_was_not_asked_yet() {
    let bank = FakeBank::start(agreeable);
    let window = open(&bank, &["--plain"], (80, 24));
    window.wait_for("Account:");
    window.type_in("zz-99999\n");
    window.wait_for("PIN:");
    window.type_in("8264\r");
    window.wait_for("What would you like to do?");
    window.type_in("withdraw\n50.00\ntransfer\nzz-00001\n1.00\nyes\n");
    window.wait_for("How much would you like to take out");
    window.type_in("cancel\n");
    window.wait_for("Cancelled. What would you like to do?");
    window.type_in("balance\n");
    window.wait_for("Your balance is 1024.32 USD");
    for op in ["authorize", "transfer"] {
        assert_eq!(bank.asked(op).len(), 0, "{op}");
    }
}
