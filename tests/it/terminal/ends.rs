//! A terminal always ends, soon, and leaves nothing behind: its customer is logged out, its journal
//! is whole.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use atm_bank::wire::answer::Answer;
use atm_bank::wire::code::Code;
use rustix::process::Signal;
use serde_json::Value;

use super::fake_bank::{FakeBank, Reaction, agreeable};
use super::losses::in_session;
use super::window::Window;
use super::{Terminal, stderr, stdout};
use crate::support::{Site, until};

/// It promises a second; a busy machine adds to that. What it waits for takes at least ten.
const SOON: Duration = Duration::from_secs(5);

/// A bank that answers `op` never.
fn silent_at(op: &'static str) -> FakeBank {
    FakeBank::start(move |request| match request["op"] == op {
        true => Reaction::Raw(Vec::new()),
        false => agreeable(request),
    })
}

fn terminal(bank: &FakeBank, mode: &[&str]) -> (Terminal, tempfile::TempDir) {
    let journal = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::with_certificate(bank, journal.path());
    mode.iter().for_each(|argument| {
        terminal.arg(argument);
    });
    (terminal, journal)
}

const MODES: [&[&str]; 3] = [&[], &["--plain"], &["--script", "-"]];

/// Opens a window, logs in, and asks for what is answered never.
fn waiting(bank: &FakeBank, mode: &[&str], own: bool) -> (Window, tempfile::TempDir) {
    let (terminal, journal) = terminal(bank, mode);
    let window = Window::open(terminal, own);
    match mode {
        [] => {
            window.log_in("zz-99999", "8264");
            window.wait_for("What would you like to do?");
            // The balance.
            window.type_in("4");
        }
        ["--plain"] => {
            window.wait_for("Account:");
            window.type_in("zz-99999\n");
            window.wait_for("PIN:");
            window.type_in("8264\r");
            window.wait_for("What would you like to do?");
            window.type_in("balance\n");
        }
        _ => window.type_in("login zz-99999 8264\nbalance\n"),
    }
    until("the balance to be asked for", || {
        (!bank.asked("balance").is_empty()).then_some(())
    });
    (window, journal)
}

#[test]
fn a_window_that_is_closed_ends_the_terminal_whatever_it_waits_for() {
    for mode in MODES {
        for own in [true, false] {
            let bank = silent_at("balance");
            let (mut window, _journal) = waiting(&bank, mode, own);
            let (_, took) = window.close();
            assert!(took < SOON, "{mode:?} {own}: {took:?}");
            until("the connection to end", || {
                bank.seen(|seen| seen.open == 0).then_some(())
            });
        }
    }
}

#[test]
fn a_signal_ends_the_terminal_whatever_it_waits_for() {
    for mode in MODES {
        for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
            let bank = silent_at("balance");
            let (mut window, _journal) = waiting(&bank, mode, false);
            window.signal(signal);
            let (_, took) = window.wait();
            assert!(took < SOON, "{mode:?} {signal:?}: {took:?}");
        }
    }
}

/// How a terminal ends whose window is closed once it shows this, after these keys.
fn closed_at(bank: &FakeBank, mode: &[&str], own: bool, typed: &[(&str, &str)], shown: &str) {
    let (terminal, journal) = terminal(bank, mode);
    let mut window = Window::open(terminal, own);
    for (words, keys) in typed {
        window.wait_for(words);
        window.type_in(keys);
    }
    window.wait_for(shown);
    let (status, took) = window.close();
    assert!(took < SOON, "{mode:?} {own} {shown}: {took:?}");
    assert_eq!(status.code(), Some(0), "{mode:?} {own} {shown}: {status}");
    // Of a withdrawal that nobody was told about the next log-in tells.
    for name in super::files_in(journal.path()) {
        let kept = std::fs::read_to_string(journal.path().join(name)).unwrap();
        assert!(
            kept.ends_with('\n') && kept.contains(r#""outcome":"did_not_happen""#),
            "{kept}"
        );
    }
}

#[test]
fn a_window_that_is_closed_anywhere_ends_the_terminal_in_good_order_though_stderr_is_gone_too() {
    let (account, pin) = ("Please type your account number", "Account zz-99999");
    let menu = "What would you like to do?";
    // Withdraw, the first amount, and yes.
    let typed = [(account, "zz-99999\r"), (pin, "8264\r"), (menu, "1\r\r")];
    for own in [true, false] {
        let bank = FakeBank::start(agreeable);
        for mode in [&[][..], &["--kiosk"]] {
            closed_at(&bank, mode, own, &[], account);
            closed_at(&bank, mode, own, &typed[..1], pin);
            closed_at(&bank, mode, own, &typed[..2], menu);
            closed_at(&bank, mode, own, &typed, "You can still cancel");
        }
        assert_eq!(bank.asked("logout").len(), 4);
        assert_eq!(
            (bank.asked("authorize").len(), bank.asked("release").len()),
            (2, 2)
        );
        let bank = FakeBank::start(agreeable);
        let plain = &["--plain"][..];
        closed_at(&bank, plain, own, &[], "Account:");
        closed_at(&bank, plain, own, &[("Account:", "zz-99999\n")], "PIN:");
        let in_session = [("Account:", "zz-99999\n"), ("PIN:", "8264\r")];
        closed_at(&bank, plain, own, &in_session, menu);
        assert_eq!(bank.asked("logout").len(), 1);
    }
}

#[test]
fn the_account_is_free_as_soon_as_the_window_is_closed() {
    let site = Site::new();
    let server = site.start();
    let mut terminal = Terminal::bare();
    let certificates = site.path("certs");
    let at = |name: &str| certificates.join(name);
    terminal
        .arg("--server")
        .arg(format!("localhost:{}", server.address.port()))
        .arg("--ca")
        .arg(at("ca.pem"));
    terminal
        .arg("--cert")
        .arg(at("terminals/terminal-1.pem"))
        .arg("--key")
        .arg(at("terminals/terminal-1.key"));
    let mut window = Window::open(terminal, true);
    window.log_in("zz-99999", "9999");
    window.wait_for("655.35 USD");
    let seated = || site.run(&["sessions", "--json"]).expect(0).json();
    assert!(seated().to_string().contains("terminal-1"));
    window.close();
    until("the account to be free", || {
        (!seated().to_string().contains("terminal-1")).then_some(())
    });
    server.stop();
}

#[test]
fn a_terminal_whose_output_nobody_takes_ends_at_a_signal() {
    let bank = FakeBank::start(agreeable);
    let (terminal, _journal) = terminal(&bank, &[]);
    let mut window = Window::open(terminal, false);
    window.log_in("zz-99999", "8264");
    window.wait_for("What would you like to do?");
    window.stop_reading();
    // Each key draws the menu anew, until the window takes no more.
    for _ in 0..200 {
        window.type_in("\t\t\t\t\t\t\t\t\t\t");
        std::thread::yield_now();
    }
    window.signal(Signal::TERM);
    assert!(window.wait().1 < SOON);

    // The same in a script: nobody reads its answers.
    let mut terminal = Terminal::at(&bank);
    let mut child = terminal.arg("--script").arg("-").spawn();
    let script = format!("login zz-99999 8264\n{}", "history 100\n".repeat(20_000));
    let mut input = child.stdin.take().unwrap();
    let typing = std::thread::spawn(move || input.write_all(script.as_bytes()));
    let mut asked = 0;
    until("the script to be stuck", || {
        let now = bank.asked("history").len();
        let stuck = now > 1_000 && now == std::mem::replace(&mut asked, now);
        stuck.then_some(())
    });
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let begun = std::time::Instant::now();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let status = until("the script to end", || child.try_wait().unwrap());
    assert!(begun.elapsed() < SOON);
    assert_eq!(status.code(), Some(143));
    let _ = typing.join().unwrap();
}

#[test]
fn a_terminal_leaves_no_core_file_and_its_memory_is_closed() {
    let bank = FakeBank::start(agreeable);
    let (terminal, _journal) = terminal(&bank, &[]);
    let window = Window::open(terminal, false);
    window.wait_for("Please type your account number");
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", window.pid()));
    let limits = read("limits").unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = core.unwrap().split_whitespace().collect();
    assert_eq!(&words[4..6], ["0", "0"], "{limits}");
    // What of a process is not its own user's is root's: so it is where it cannot be looked into.
    let owner = std::fs::metadata(format!("/proc/{}/environ", window.pid())).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0);
    assert!(read("status").unwrap().contains("NoNewPrivs:\t1"));
}

/// A journal's folder that cannot be used, and that is asked for cash.
fn without_journal(bank: &FakeBank, script: &str) -> std::process::Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    Terminal::with_certificate(bank, &file.path().join("below")).script(script)
}

#[test]
fn a_script_without_a_journal_lets_no_cash_out() {
    let bank = FakeBank::start(agreeable);
    let script = "login zz-99999 8264\nwithdraw 5.00\nauthorize 5.00\nbalance\ndeposit 5.00\n\
                  transfer zz-00001 1.00\n";
    let output = without_journal(&bank, script);
    let said = stdout(&output);
    let lines: Vec<&str> = said.lines().collect();
    for line in &lines[1..3] {
        assert!(line.starts_with("refused no cash goes out"), "{said}");
    }
    assert!(lines[3].starts_with("ok balance"), "{said}");
    assert!(lines[4].starts_with("ok deposit") && lines[5].starts_with("ok transfer"));
    let (withdrawn, held) = (bank.asked("withdraw"), bank.asked("authorize"));
    assert_eq!((withdrawn.len(), held.len()), (0, 0));
    assert!(stderr(&output).contains("cannot be written to disk"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn cash_that_is_out_is_booked_without_a_journal_too() {
    let bank = FakeBank::start(agreeable);
    let output = without_journal(&bank, "login zz-99999 8264\ncapture hold-7 5.00\n");
    assert!(stdout(&output).contains("ok capture"), "{output:?}");
    assert_eq!(bank.asked("capture")[0]["hold"], "hold-7");
}

fn settled(journal: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(journal.join("settled.log")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn an_answer_that_nobody_could_be_told_is_told_at_the_next_log_in_and_not_asked_again() {
    let bank = FakeBank::start(agreeable);
    let journal = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::with_certificate(&bank, journal.path());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    terminal.command.stdout(Stdio::from(writer));
    let mut child = terminal.arg("--script").arg("-").spawn();
    // Without a log-in nothing is said before the answer.
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"release hold-1\n").unwrap();
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(74));

    // As where a terminal loses its power between the answer and its word to the customer.
    in_session(&bank, journal.path(), async |teller| {
        let order = atm_bank::atm::journal::Order::Deposit(atm_bank::atm::teller::new_keyed(700));
        assert_eq!(teller.move_money(order).await.unwrap().code, Code::Done);
    });
    for (times, told) in [(1, true), (1, false)] {
        let mut terminal = Terminal::with_certificate(&bank, journal.path());
        let output = terminal.script("login zz-99999 8264\n");
        let words = "Your last deposit of 7.00 USD went through.";
        assert_eq!(stderr(&output).contains(words), told, "{output:?}");
        assert_eq!(bank.asked("deposit").len(), times);
    }
}

#[test]
fn what_became_of_each_request_stays_on_record_for_the_bank_s_staff() {
    let bank = FakeBank::start(|request| match request["op"].as_str() {
        Some("transfer") => Reaction::Refuse(Answer::refused(None, Code::InsufficientFunds)),
        _ => agreeable(request),
    });
    let journal = tempfile::tempdir().unwrap();
    let script = "login zz-99999 8264\ndeposit 1.00 key=0123456789abcdef\ntransfer zz-00001 2.00\n";
    Terminal::with_certificate(&bank, journal.path()).script(script);
    let typed = "zz-99999\n8264\nwithdraw\n50.00\nquit\n";
    Terminal::with_certificate(&bank, journal.path())
        .arg("--plain")
        .type_in(typed);
    let lines = settled(journal.path());
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&line["request"]["op"]), text(&line["outcome"]))
        })
        .collect();
    let expected = [
        ("deposit", "went_through"),
        ("transfer", "did_not_happen"),
        ("capture", "went_through"),
    ];
    assert_eq!(
        told,
        expected.map(|(op, outcome)| (op.into(), outcome.into()))
    );
    assert_eq!(lines[0]["request"]["key"], "0123456789abcdef");
    assert_eq!(
        (&lines[0]["entry"], &lines[1]["code"]),
        (&7.into(), &31.into())
    );
    let pin = std::fs::read_to_string(journal.path().join("settled.log")).unwrap();
    assert!(!pin.contains("8264"));
}
