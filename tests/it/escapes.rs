//! Text from outside steers nobody's terminal: not through logs, not through what programs print.

use atm_bank::domain::printable;
use serde_json::{Value, json};

use crate::support::{Ran, Site};

/// ESC, CR, BEL, DEL, C1, and what turns words around.
const HOSTILE: &str = "\u{1b}[2J\r\u{7}\u{7f}\u{85}\u{9b}31m\u{202a}\u{202e}\u{2066}\u{2069}forged";

/// The same without control characters, which an argument may have.
const TURNING: &str = "\u{202a}\u{202e}\u{2066}\u{2069}forged";

#[track_caller]
fn assert_plain(what: &str, text: &str) {
    for line in text.lines() {
        assert!(printable::is_plain(line), "{what}: {line:?}");
    }
    assert!(!text.contains('\r'), "{what}: {text:?}");
}

#[track_caller]
fn assert_ran_plain(ran: &Ran) {
    assert_plain("stdout", &ran.stdout);
    assert_plain("stderr", &ran.stderr);
}

/// Payloads with the hostile text wherever a request can have text.
fn hostile_requests() -> Vec<Vec<u8>> {
    let lines = format!("{HOSTILE}\n2026-01-01T00:00:00Z  INFO forged line");
    let members = |change: &dyn Fn(&mut Value)| {
        let mut request = json!({
            "id": 1, "op": "transfer", "to": "ac-12345", "amount": 1, "key": "0123456789abcdef"
        });
        change(&mut request);
        request.to_string().into_bytes()
    };
    let mut requests = vec![
        members(&|request| request["op"] = json!(lines)),
        members(&|request| request["id"] = json!(lines)),
        members(&|request| request["to"] = json!(lines)),
        members(&|request| request["key"] = json!(lines)),
        members(&|request| request["amount"] = json!(lines)),
        members(&|request| request[&lines] = json!(lines)),
        json!({ "id": 1, "op": "login", "account": lines, "pin": lines })
            .to_string()
            .into_bytes(),
        json!({ "id": 1, "op": "capture", "hold": lines, "amount": 1, "key": lines })
            .to_string()
            .into_bytes(),
        lines.clone().into_bytes(),
    ];
    // Raw, as JSON does not allow it, and as no UTF-8.
    requests.push(format!("{{\"id\":1,\"op\":\"{HOSTILE}\"}}").into_bytes());
    requests.push(b"{\"id\":1,\"op\":\"\x9b31m\xff\"}".to_vec());
    requests
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_terminal_sends_reaches_the_log_raw() {
    for format in ["text", "json"] {
        let quoted = format!("\"{format}\"");
        let site = Site::with(&[("log.format", &quoted), ("log.level", "\"trace\"")]);
        let server = site.start();
        for payload in hostile_requests() {
            let mut terminal = server.terminal("terminal-1").await;
            terminal.send(&payload).await;
            let reply = terminal.receive().await;
            assert!(printable::is_plain(
                std::str::from_utf8(&reply.payload).unwrap()
            ));
            let mut logged_in = server.customer("terminal-2", "zz-99999", "9999").await;
            logged_in.send(&payload).await;
            logged_in.receive().await;
            logged_in.close().await;
        }
        let log = server.stop().stderr;
        assert_plain(format, &log);
        assert!(!log.contains("forged line"), "{log}");
        for line in log.lines() {
            match format {
                "json" => assert!(serde_json::from_str::<Value>(line).is_ok(), "{line:?}"),
                _ => assert!(line.starts_with("20"), "{line:?}"),
            }
        }
        let records = site.run(&["audit", "--json"]).expect(0);
        assert_ran_plain(&records);
        assert!(!records.stdout.contains("forged"));
    }
}

#[test]
fn an_argument_with_a_control_character_is_refused_and_others_are_printed_escaped() {
    let site = Site::new();
    let commands: [&[&str]; 15] = [
        &["account", "show", "@"],
        &["account", "add", "@"],
        &["account", "adjust", "zz-99999", "1.00", "--reason", "@"],
        &["account", "adjust", "zz-99999", "@", "--reason", "x"],
        &["account", "limit", "zz-99999", "--daily", "@"],
        &["sessions", "--end", "@"],
        &["terminal", "disable", "@"],
        &["terminal", "list", "@"],
        &["statement", "@"],
        &["statement", "zz-99999", "--from", "@"],
        &["audit", "--event", "@"],
        &["verify", "--head", "@"],
        &["import", "@"],
        &["restore", "@"],
        &["@"],
    ];
    let server = site.start();
    for command in commands {
        for more in [&[][..], &["--json"]] {
            let with = |text: &str| -> Vec<String> {
                let words = command.iter().chain(more);
                words.map(|word| word.replace('@', text)).collect()
            };
            let refused = run(&site, &with(HOSTILE)).expect(65);
            assert_ran_plain(&refused);
            assert_plain("stderr", &refused.stderr);
            assert_ran_plain(&run(&site, &with(&format!("a\n{TURNING}"))).expect(65));
            assert_ran_plain(&run(&site, &with(TURNING)));
        }
    }
    // Only a file's name may have such letters.
    assert_ran_plain(&run(&site, &["backup".to_owned(), format!("{TURNING}.db")]).expect(0));
    assert_plain("log", &server.stop().stderr);
    let records = site
        .run(&["audit", "--event", "backup", "--json"])
        .expect(0);
    assert_ran_plain(&records);
    let detail = records.json()["records"][0]["detail"].clone();
    let detail = detail.as_str().unwrap();
    assert!(
        detail.contains("\\u{202e}") && detail.ends_with("forged.db"),
        "{detail}"
    );
}

fn run(site: &Site, arguments: &[String]) -> Ran {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    site.run(&arguments)
}

#[test]
fn a_reason_that_turns_words_around_is_refused_over_the_socket_too() {
    let site = Site::new();
    let adjust =
        |reason: &str| site.run(&["account", "adjust", "zz-99999", "1.00", "--reason", reason]);
    adjust("paid \u{202e}tuo").expect(65).saying("printable");
    adjust("paid out").expect(0);
}

#[test]
fn a_configuration_s_and_the_environment_s_texts_are_printed_escaped() {
    for (key, value) in [
        ("server.listen", HOSTILE),
        ("server.server_id", HOSTILE),
        ("log.level", HOSTILE),
        ("store.url", HOSTILE),
        ("tls.dir", HOSTILE),
        ("tls.dir", TURNING),
        ("pin.pepper_file", TURNING),
    ] {
        let quoted: String = value
            .chars()
            .map(|c| format!("\\u{:04x}", u32::from(c)))
            .collect();
        let mut site = Site::bare(&[]);
        site.set(key, &format!("\"{quoted}\""));
        for command in [&["check"][..], &["check", "--json"], &["account", "list"]] {
            let ran = site.run(command);
            if value == HOSTILE {
                assert_eq!(ran.code, Some(78), "{key}: {ran:?}");
            }
            assert_ran_plain(&ran);
        }
        let site = Site::bare(&[]);
        let variable = format!("BANK__{}", key.replace('.', "__").to_uppercase());
        let mut command = site.program();
        command.env(variable, value).arg("check");
        let ran = Ran::of(command, "");
        if value == HOSTILE {
            assert_eq!(ran.code, Some(78), "{key}: {ran:?}");
        }
        assert_ran_plain(&ran);
        let mut command = site.program();
        command
            .env(format!("BANK__SERVER__{HOSTILE}"), value)
            .arg("check");
        assert_ran_plain(&Ran::of(command, "").expect(78));
    }
}

#[test]
fn lines_of_a_file_to_import_are_named_without_what_they_hold() {
    let site = Site::new();
    for line in [
        format!("aa-00001, 8264{HOSTILE}, 1.00"),
        format!("{HOSTILE}, 8264, 1.00"),
        format!("aa-00001, 8264, {TURNING}"),
    ] {
        assert_ran_plain(&site.import(&line).expect(65));
    }
}

/// Puts text into the store that no command would have let in.
fn plant(site: &Site, sql: &str, text: &str) {
    site.tamper(|store| assert!(store.execute(sql, [text]).unwrap() > 0, "{sql}"));
}

#[test]
fn texts_of_a_store_that_was_written_to_by_others_are_listed_escaped() {
    let site = Site::new();
    let adjust = ["account", "adjust", "zz-99999", "1.00", "--reason", "x"];
    site.run(&adjust).expect(0);
    site.run(&["terminal", "disable", "terminal-3"]).expect(0);
    let text = format!("{HOSTILE}\nforged");
    plant(&site, "UPDATE reason SET text = ?1", &text);
    plant(&site, "UPDATE terminal SET name = ?1", &text);
    plant(&site, "UPDATE credential SET home = ?1", &text);
    for column in ["event", "outcome", "account", "terminal", "actor", "detail"] {
        let sql = format!("UPDATE audit SET {column} = ?1 WHERE id = 1");
        plant(&site, &sql, &text);
    }
    for (command, code, rows) in [
        (&["statement", "zz-99999"][..], 0, Some(3)),
        (&["statement", "zz-99999", "--format", "csv"], 0, Some(3)),
        (&["statement", "zz-99999", "--json"], 0, Some(1)),
        (&["terminal", "list"], 0, Some(2)),
        (&["terminal", "list", "--json"], 0, Some(1)),
        (&["account", "show", "zz-99999"], 0, None),
        (&["account", "show", "zz-99999", "--json"], 0, Some(1)),
        (&["audit"], 0, None),
        (&["audit", "--format", "csv"], 0, None),
        (&["audit", "--json"], 0, Some(1)),
        (&["verify"], 1, None),
        (&["verify", "--json"], 1, Some(1)),
    ] {
        let ran = site.run(command).expect(code);
        assert_ran_plain(&ran);
        if let Some(rows) = rows {
            assert_eq!(ran.stdout.lines().count(), rows, "{command:?}: {ran:#?}");
        }
        assert!(!ran.stdout.lines().any(|line| line == "forged"), "{ran:#?}");
    }
}

#[test]
fn no_cell_of_csv_is_a_formula() {
    let site = Site::new();
    for formula in ["=1+1", "+1", "-1", "@SUM(A1)"] {
        let adjust = [
            "account",
            "adjust",
            "zz-99999",
            "1.00",
            &format!("--reason={formula}"),
        ];
        site.run(&adjust).expect(0);
        let csv = site
            .run(&["statement", "zz-99999", "--format", "csv"])
            .expect(0);
        let last = csv.stdout.lines().last().unwrap();
        assert!(last.ends_with(&format!(",'{formula}")), "{last}");
    }
}

#[test]
fn the_other_programs_print_what_was_typed_escaped() {
    let site = Site::new();
    for text in [HOSTILE, TURNING] {
        for arguments in [
            &["terminal", text][..],
            &["revoke", text],
            &[text],
            &["show", text],
        ] {
            let ran = site.gen_certs(arguments);
            assert_ne!(ran.code, Some(0), "{ran:?}");
            assert_ran_plain(&ran);
        }
        for arguments in [&["--server", text][..], &["--ca", text], &[text]] {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_atm_client"));
            command.current_dir(site.folder()).args(arguments);
            let ran = Ran::of(command, "");
            assert_ne!(ran.code, Some(0), "{ran:?}");
            assert_ran_plain(&ran);
        }
    }
}
