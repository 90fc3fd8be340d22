//! Every command in a table, followed at a serving bank and at a stopped one.

use serde_json::Value;

use crate::support::Site;

/// One command: its arguments, what it reads, how it ends, and what its JSON must hold.
struct Step {
    arguments: &'static [&'static str],
    stdin: &'static str,
    code: i32,
    expected: &'static [(&'static str, &'static str)],
}

const fn step(
    arguments: &'static [&'static str],
    code: i32,
    expected: &'static [(&'static str, &'static str)],
) -> Step {
    Step {
        arguments,
        stdin: "",
        code,
        expected,
    }
}

const fn reading(stdin: &'static str, step: Step) -> Step {
    Step { stdin, ..step }
}

/// Every command, in an order in which each finds what it needs. JSON pointers and their values.
const STEPS: [Step; 41] = [
    reading(
        "739164\n",
        step(
            &["account", "add", "aa-00001", "--balance", "12.34"],
            0,
            &[("/opened", "1")],
        ),
    ),
    reading(
        "739164\n",
        step(
            &["account", "add", "AA-00001"],
            65,
            &[("/opened", "0"), ("/existing/0", "\"aa-00001\"")],
        ),
    ),
    reading("73\n", step(&["account", "add", "aa-00002"], 65, &[])),
    reading("739164\n", step(&["account", "add", "aa-2"], 65, &[])),
    reading(
        "739164\n",
        step(
            &["account", "add", "aa-00002", "--balance", "1.005"],
            65,
            &[],
        ),
    ),
    step(
        &["account", "show", "aa-00001"],
        0,
        &[
            ("/account", "\"aa-00001\""),
            ("/balance", "1234"),
            ("/available", "1234"),
            ("/locked_out", "false"),
            ("/must_change_pin", "false"),
            ("/withdrawal_limit", "null"),
        ],
    ),
    step(&["account", "show", "xx-00000"], 65, &[]),
    step(
        &["account", "list"],
        0,
        &[
            ("/accounts/0/account", "\"aa-00001\""),
            ("/currency", "\"USD\""),
        ],
    ),
    step(&["account", "lock", "aa-00001"], 0, &[("/done", "true")]),
    step(
        &["account", "show", "aa-00001"],
        0,
        &[("/status", "\"locked\"")],
    ),
    step(&["account", "unlock", "aa-00001"], 0, &[("/done", "true")]),
    step(&["account", "lock", "xx-00000"], 65, &[]),
    step(
        &["account", "limit", "aa-00001", "--withdrawal", "5.00"],
        0,
        &[("/done", "true")],
    ),
    step(
        &["account", "limit", "aa-00001", "--daily", "7.50"],
        0,
        &[("/done", "true")],
    ),
    step(
        &["account", "show", "aa-00001"],
        0,
        &[
            ("/withdrawal_limit", "500"),
            ("/daily_withdrawal_limit", "750"),
        ],
    ),
    step(
        &[
            "account",
            "limit",
            "aa-00001",
            "--withdrawal",
            "default",
            "--daily",
            "default",
        ],
        0,
        &[("/done", "true")],
    ),
    step(
        &["account", "limit", "aa-00001", "--daily", "much"],
        65,
        &[],
    ),
    step(
        &[
            "account",
            "adjust",
            "aa-00001",
            "-2.34",
            "--reason",
            "a torn note",
        ],
        0,
        &[("/balance", "1000")],
    ),
    step(
        &["account", "adjust", "aa-00001", "1.00", "--reason", " "],
        65,
        &[],
    ),
    step(
        &["account", "set-pin", "aa-00001"],
        0,
        &[("/account", "\"aa-00001\""), ("/valid_ms", "86400000")],
    ),
    step(&["account", "set-pin", "xx-00000"], 65, &[]),
    step(
        &["statement", "aa-00001"],
        0,
        &[
            ("/entries/0/kind", "\"opening\""),
            ("/entries/0/amount", "1234"),
            ("/entries/1/kind", "\"adjustment\""),
            ("/entries/1/amount", "-234"),
            ("/entries/1/balance", "1000"),
            ("/entries/1/reason", "\"a torn note\""),
        ],
    ),
    step(
        &["statement", "aa-00001", "--from", "2999-01-01"],
        0,
        &[("/entries", "[]")],
    ),
    step(
        &["statement", "aa-00001", "--to", "2001-01-01T00:00:00Z"],
        0,
        &[("/entries", "[]")],
    ),
    step(&["statement", "aa-00001", "--from", "today"], 65, &[]),
    step(&["sessions"], 0, &[("/sessions", "[]")]),
    step(&["sessions", "--end", "aa-00001"], 65, &[]),
    step(
        &["terminal", "disable", "terminal-3"],
        0,
        &[("/disabled", "true")],
    ),
    step(
        &["terminal", "list", "terminal-3"],
        0,
        &[
            ("/terminals/0/terminal", "\"terminal-3\""),
            ("/terminals/0/disabled", "true"),
        ],
    ),
    step(
        &["terminal", "enable", "terminal-3"],
        0,
        &[("/disabled", "false")],
    ),
    step(&["terminal", "disable", "No Terminal"], 65, &[]),
    step(&["late-captures"], 0, &[("/entries", "[]")]),
    step(
        &["verify"],
        0,
        &[
            ("/faults", "[]"),
            ("/ledger_total", "0"),
            ("/open_holds", "0"),
        ],
    ),
    step(&["verify", "--head", "1-nonsense"], 65, &[]),
    step(&["account", "close", "aa-00001"], 65, &[]),
    step(
        &[
            "account", "adjust", "aa-00001", "-10.00", "--reason", "paid out",
        ],
        0,
        &[("/balance", "0")],
    ),
    step(&["account", "close", "aa-00001"], 0, &[("/done", "true")]),
    step(
        &["pepper", "show"],
        0,
        &[
            ("/accounts", "4"),
            ("/accounts_on_current", "4"),
            ("/peppers/0/current", "true"),
            ("/peppers/0/in_file", "true"),
        ],
    ),
    step(
        &["pepper", "rotate"],
        0,
        &[
            ("/accounts", "4"),
            ("/accounts_on_current", "0"),
            ("/peppers/0/accounts", "0"),
            ("/peppers/1/accounts", "4"),
        ],
    ),
    step(
        &["pepper", "status"],
        0,
        &[
            ("/accounts_on_current", "0"),
            ("/peppers/1/current", "false"),
        ],
    ),
    step(&["pepper", "retire", "p-none"], 65, &[]),
];

fn follow_steps(site: &Site) {
    for step in &STEPS {
        let arguments = [step.arguments, &["--json"]].concat();
        let ran = site.run_with(&arguments, step.stdin).expect(step.code);
        let printed = ran.json();
        if step.code != 0 {
            assert_eq!(printed["exit_code"], step.code, "{arguments:?}: {printed}");
            assert!(printed["error"].is_string(), "{arguments:?}: {printed}");
        }
        for (pointer, value) in step.expected {
            let value: Value = serde_json::from_str(value).unwrap();
            assert_eq!(
                printed.pointer(pointer),
                Some(&value),
                "{arguments:?}: {printed}"
            );
        }
        // In words, a command that changes nothing ends alike.
        if matches!(
            step.arguments[0],
            "verify" | "statement" | "sessions" | "late-captures"
        ) {
            let plain = site.run(step.arguments).expect(step.code);
            let words = if step.code == 0 {
                plain.stdout
            } else {
                plain.stderr
            };
            assert!(!words.trim().is_empty(), "{arguments:?}");
        }
    }
}

#[test]
fn every_command_does_at_a_serving_bank_what_it_does_at_a_stopped_one() {
    let site = Site::new();
    follow_steps(&site);
    site.verify();
    let site = Site::new();
    let server = site.start();
    follow_steps(&site);
    server.stop();
    site.verify();
}
