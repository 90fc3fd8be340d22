//! The terminal's real binary against a bank that answers as each test tells it to.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ages;
mod captures;
mod conversation;
mod ends;
mod fake_bank;
mod losses;
mod room;
mod screen;
mod trust;
mod window;

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use fake_bank::{FakeBank, Reaction, agreeable};
use serde_json::Value;

/// What a terminal without a certificate says before all else.
const ANONYMOUS: &str = "atm_client: no terminal certificate in certs/terminals: a bank that asks for one will not serve\n";

/// A terminal that is about to start in a folder of its own.
struct Terminal {
    command: Command,
    folder: tempfile::TempDir,
}

impl Terminal {
    /// For this bank, with the journal in a folder that ends with the test.
    fn at(bank: &FakeBank) -> Self {
        let mut terminal = Self::bare();
        terminal
            .arg("--server")
            .arg(format!("localhost:{}", bank.port));
        terminal.arg("--ca").arg(bank.papers.file("ca.pem"));
        let journal = terminal.folder.path().join("journal");
        terminal.arg("--journal").arg(journal);
        terminal
    }

    /// For this bank, with its journal in `folder` and a certificate.
    fn with_certificate(bank: &FakeBank, journal: &Path) -> Self {
        let mut terminal = Self::bare();
        terminal
            .arg("--server")
            .arg(format!("localhost:{}", bank.port));
        terminal.arg("--ca").arg(bank.papers.file("ca.pem"));
        terminal.arg("--cert").arg(bank.papers.file("terminal.pem"));
        terminal.arg("--key").arg(bank.papers.file("terminal.key"));
        terminal.arg("--journal").arg(journal);
        terminal
    }

    fn bare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_atm_client"));
        command
            .current_dir(folder.path())
            .env_remove("ATM_PIN")
            .env_remove("TERM");
        command.env("XDG_STATE_HOME", folder.path());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { command, folder }
    }

    fn arg(&mut self, argument: impl AsRef<std::ffi::OsStr>) -> &mut Self {
        self.command.arg(argument);
        self
    }

    /// Starts it, types `input` and the end of all, and waits for its end.
    fn type_in(&mut self, input: &str) -> Output {
        let mut child = self.spawn();
        // A terminal that ended before it read anything is for the test to judge.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn spawn(&mut self) -> Child {
        self.command.spawn().unwrap()
    }

    fn script(&mut self, script: &str) -> Output {
        self.arg("--script").arg("-").type_in(script)
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The journal's requests that are in flight, untold, or for staff.
fn files_in(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with("settled.")).collect()
}

fn lines(output: &Output) -> Vec<String> {
    stdout(output).lines().map(str::to_owned).collect()
}

#[test]
fn a_script_gets_one_line_of_answer_for_each_command() {
    let bank = FakeBank::start(agreeable);
    let script = "# a comment\n\nlogin ZZ-99999 8264\nbalance\nwithdraw 12.34\nauthorize 5\n\
                  capture last 5.00\nrelease last\nhistory 3\ntransfer zz-00001 0.01\nsleep 1\nping\n\
                  logout\n";
    let output = Terminal::at(&bank).script(script);
    assert_eq!(
        lines(&output),
        [
            "ok login balance 1024.32 USD available 1024.32",
            "ok balance 1024.32 USD available 1024.32",
            "ok withdraw entry 7 balance 1024.32 USD available 1024.32",
            "ok authorize hold hold-1 expires-in-ms 120000 balance 1024.32 USD available 1024.32",
            "ok capture entry 7 balance 1024.32 USD available 1024.32",
            "ok release",
            "ok history 0",
            "ok transfer entry 7 balance 1024.32 USD available 1024.32",
            "ok sleep",
            "ok ping",
            "ok logout",
        ]
    );
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(0), ANONYMOUS)
    );
    assert_eq!(bank.asked("withdraw")[0]["amount"], 1_234);
    assert_eq!(bank.asked("capture")[0]["hold"], "hold-1");
}

#[test]
fn a_refused_or_unreadable_command_ends_with_1_and_the_script_goes_on() {
    use atm_bank::wire::answer::Answer;
    use atm_bank::wire::code::Code;
    let bank = FakeBank::start(|request| match request["op"].as_str() {
        Some("withdraw") => Reaction::Refuse(Answer::refused(None, Code::InsufficientFunds)),
        _ => agreeable(request),
    });
    let script =
        "login zz-99999 8264\nwithdraw 5.00\nwithdraw 5.001\ndance 8264\ncapture last 1\nbalance\n";
    let output = Terminal::at(&bank).script(script);
    let lines = lines(&output);
    assert_eq!(lines[1], "refused 31 insufficient funds");
    assert!(
        lines[2].starts_with("refused an amount of USD is digits"),
        "{}",
        lines[2]
    );
    assert!(
        lines[3].starts_with("refused line 4: unknown command"),
        "{}",
        lines[3]
    );
    assert!(lines[4].starts_with("refused no hold"), "{}", lines[4]);
    assert!(lines[5].starts_with("ok balance"), "{}", lines[5]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(bank.asked("withdraw").len(), 1);
}

#[test]
fn with_json_every_line_is_an_object_that_names_its_command() {
    let bank = FakeBank::start(agreeable);
    let key = "key-0123456789abcdef";
    let script = format!("login zz-99999\ndeposit 1.00 key={key}\ndeposit x\nsleep 0\nhistory\n");
    let mut terminal = Terminal::at(&bank);
    terminal.command.env("ATM_PIN", "739105");
    let output = terminal.arg("--json").script(&script);
    let objects: Vec<Value> = lines(&output)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let commands: Vec<&str> = objects
        .iter()
        .map(|it| it["command"].as_str().unwrap())
        .collect();
    assert_eq!(
        commands,
        ["login", "deposit", "deposit", "sleep", "history"]
    );
    assert_eq!(objects[0]["balance"], 102_432);
    assert_eq!(
        (&objects[1]["entry"], &objects[1]["code"]),
        (&7.into(), &0.into())
    );
    assert_eq!(objects[2]["code"], Value::Null);
    assert!(objects[2]["error"].as_str().unwrap().contains("USD"));
    assert_eq!(bank.asked("deposit")[0]["key"], key);
}

#[test]
fn no_pin_is_ever_on_stdout_or_stderr_or_in_the_journal() {
    let bank = FakeBank::start(|request| match request["op"].as_str() {
        Some("deposit" | "change_pin") => Reaction::HangUp,
        _ => agreeable(request),
    });
    let pin = "739105";
    let script = format!(
        "login zz-99999 {pin}\nchange-pin {pin} {pin}\nlogin {pin}\n{pin}\nlogin zz-99999 {pin} {pin}\n\
         login zz-99999 {pin}\ndeposit 7.00\n"
    );
    for json in [false, true] {
        let mut terminal = Terminal::at(&bank);
        if json {
            terminal.arg("--json");
        }
        let output = terminal.script(&script);
        assert!(!stdout(&output).contains(pin), "{}", stdout(&output));
        assert!(!stderr(&output).contains(pin), "{}", stderr(&output));
        let journal = std::fs::read_dir(terminal.folder.path().join("journal")).unwrap();
        let kept: Vec<String> = journal
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        assert!(kept.iter().any(|text| text.contains("deposit")));
        assert!(!kept.concat().contains(pin), "{kept:?}");
    }
    assert!(bank.asked("login").iter().all(|login| login["pin"] == pin));
}

#[test]
fn what_the_bank_writes_cannot_steer_the_terminal() {
    use atm_bank::wire::answer::{Answer, Members};
    use atm_bank::wire::code::Code;
    let bank = FakeBank::start(|request| match request["op"].as_str() {
        Some("ping") => Reaction::Refuse(Answer {
            id: None,
            code: Code::Internal,
            members: Members {
                message: Some("\u{1b}[2J".into()),
                reference: Some("r\u{1b}]0;x\u{7}\u{9b}1".into()),
                ..Members::default()
            },
        }),
        _ => agreeable(request),
    });
    let output = Terminal::at(&bank).script("ping\n");
    assert_eq!(
        lines(&output),
        ["refused 50 internal error, reference r]0;x1"]
    );
    let output = Terminal::at(&bank).arg("--json").script("ping\n");
    assert!(!stdout(&output).contains(['\u{1b}', '\u{9b}', '\u{7}']));
    assert!(!stdout(&output).contains("\\u001b"));
}

/// A bank whose every text is hostile.
fn hostile_bank() -> FakeBank {
    use atm_bank::wire::answer::{HistoryLine, Members};
    const HOSTILE: &str = "\u{1b}[2J\r\nforged\u{7}\u{7f}\u{85}\u{9b}31m\u{202e}\u{2066}";
    let text = || Some(HOSTILE.to_owned());
    FakeBank::start(move |request| match agreeable(request) {
        Reaction::Done(members) if request["op"] == "history" => {
            let entry = HistoryLine {
                entry: 1,
                at: HOSTILE.into(),
                kind: HOSTILE.to_owned().into(),
                amount: 5,
                balance: 5,
                terminal: HOSTILE.into(),
                counterparty: text(),
            };
            Reaction::Done(Members {
                entries: Some(vec![entry]),
                message: text().map(Into::into),
                ..members
            })
        }
        Reaction::Done(members) => Reaction::Done(Members {
            message: text().map(Into::into),
            reference: text(),
            ..members
        }),
        other => other,
    })
}

#[test]
fn a_hostile_bank_s_history_and_messages_steer_neither_console_nor_script() {
    use atm_bank::domain::printable;
    let bank = hostile_bank();
    let script = "login zz-99999 9999\nhistory 5\ndeposit 1.00\nbalance\nlogout\n";
    let mut told = Vec::new();
    for json in [false, true] {
        let mut terminal = Terminal::at(&bank);
        if json {
            terminal.arg("--json");
        }
        let output = terminal.script(script);
        assert_eq!(lines(&output).len(), 5, "{output:?}");
        told.push(output);
    }
    // Account, PIN, the menu's history, then the end.
    let choices: String = (1..=9).map(|choice| format!("{choice}\n")).collect();
    told.push(
        Terminal::at(&bank)
            .arg("--plain")
            .type_in(&format!("zz-99999\n9999\n{choices}")),
    );
    for output in told {
        for text in [stdout(&output), stderr(&output)] {
            assert!(text.split('\n').all(printable::is_plain), "{text:?}");
            assert!(
                !text.lines().any(|line| line.starts_with("forged")),
                "{text}"
            );
        }
    }
    assert!(!bank.asked("history").is_empty());
}

#[test]
fn wrong_usage_ends_with_64_and_missing_files_with_66() {
    for arguments in [
        &["--dance"][..],
        &["--server", "nowhere"],
        &["--pin-sha256", "12"],
        &["--cert", "x"],
    ] {
        let mut terminal = Terminal::bare();
        arguments.iter().for_each(|argument| {
            terminal.arg(argument);
        });
        let output = terminal.type_in("");
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
    }
    let output = Terminal::bare()
        .arg("--script")
        .arg("nowhere.txt")
        .type_in("");
    assert_eq!(output.status.code(), Some(66));
    assert!(stderr(&output).contains("nowhere.txt"));
    let output = Terminal::bare().script("ping\n");
    assert_eq!(output.status.code(), Some(66));
    assert!(stderr(&output).contains("certs/ca.pem") && stderr(&output).contains("--ca FILE"));
}

#[test]
fn version_and_completions_are_printed_without_any_files() {
    let output = Terminal::bare().arg("--version").type_in("");
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).starts_with("atm_client "));
    let output = Terminal::bare().arg("completions").arg("bash").type_in("");
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("--pin-sha256"));
}

#[test]
fn nobody_reads_the_completions_and_that_is_an_error_and_no_panic() {
    let mut terminal = Terminal::bare();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    terminal.arg("completions").arg("bash");
    terminal.command.stdout(writer);
    let output = terminal.type_in("");
    assert_eq!(output.status.code(), Some(74), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot write the answer"));
}

#[test]
fn a_code_that_is_missing_or_cannot_be_one_is_told_before_anybody_is_called() {
    let enroll = |code: &[&str], typed: &str| {
        let mut terminal = Terminal::bare();
        terminal.command.env_remove("ATM_ENROLL_CODE");
        terminal
            .arg("enroll")
            .arg("--ca-sha256")
            .arg("00".repeat(32));
        for argument in code {
            terminal.arg(argument);
        }
        let output = terminal.type_in(typed);
        (output.status.code(), stderr(&output))
    };
    for typed in ["", "\n"] {
        let (code, said) = enroll(&[], typed);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("no code was given"), "{said}");
    }
    let (code, said) = enroll(&[], "A0B11\n");
    assert_eq!(code, Some(78), "{said}");
    let (code, said) = enroll(&["--code", "A0B11"], "");
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("is it typed right?"), "{said}");
    assert!(!said.contains("A0B11"), "{said}");
}
