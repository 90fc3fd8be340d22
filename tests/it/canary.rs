//! PINs of twelve digits that are looked for wherever they must not be: logs, metrics, commands'
//! answers, files, and all memory of the server.

use std::fs;
use std::path::Path;
use std::process::Command;

use memchr::memmem;
use serde_json::json;

use crate::support::memory::MemorySearch;
use crate::support::terminal::framed;
use crate::support::{Monitor, Ran, Server, Site, until};

/// The PIN of an account that staff add.
const ADDED: &str = "739105826417";
/// The PIN of an account that is imported.
const IMPORTED: &str = "520849173660";
/// A PIN that is nobody's.
const WRONG: &str = "861739205541";
/// The PIN that a customer chooses next.
const CHOSEN: &str = "294817063358";
/// The PIN that another chooses, in the place of a one-time PIN.
const CHOSEN_AFTER: &str = "607294158832";
/// A PIN in messages that are no requests.
const MALFORMED: &str = "418260937715";

const ALL: [&str; 6] = [ADDED, IMPORTED, WRONG, CHOSEN, CHOSEN_AFTER, MALFORMED];

/// Eight digits in a row of any canary would be leak enough.
fn needles() -> Vec<Vec<u8>> {
    let parts = ALL
        .iter()
        .flat_map(|canary| canary.as_bytes().windows(8).map(<[u8]>::to_vec));
    parts.collect()
}

#[track_caller]
fn assert_clean(what: &str, bytes: &[u8]) {
    for needle in needles() {
        if let Some(place) = memmem::find(bytes, &needle) {
            let around = place.saturating_sub(100)..(place + 100).min(bytes.len());
            panic!("a PIN in {what}: {}", bytes[around].escape_ascii());
        }
    }
}

#[track_caller]
fn assert_clean_run(ran: &Ran) {
    assert_clean("stdout", ran.stdout.as_bytes());
    assert_clean("stderr", ran.stderr.as_bytes());
}

/// Every file below the folder: store, journals, backups, whatever else was made.
fn assert_clean_files(folder: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files += assert_clean_files(&path);
        } else if path.is_file() {
            assert_clean(&path.display().to_string(), &fs::read(&path).unwrap());
            files += 1;
        }
    }
    files
}

/// Where in the server's memory a canary stands; `None` where the system does not let us look.
fn in_memory(server: &Server) -> Option<Vec<String>> {
    match MemorySearch::of(server.pid()) {
        Ok(search) => {
            let (found, seen) = search.find(&needles());
            assert!(seen > 1 << 20, "only {seen} bytes of memory were seen");
            Some(found.iter().map(|find| format!("{find:?}")).collect())
        }
        Err(error) => {
            println!("skipped: the server's memory may not be read here: {error}");
            None
        }
    }
}

/// All of the server's memory, as soon as it has nothing of a PIN; it must come to that.
#[track_caller]
fn assert_clean_memory(server: &Server, when: &str) {
    until(&format!("memory without a PIN, {when}"), || {
        let found = in_memory(server).unwrap_or_default();
        if !found.is_empty() {
            println!("{when}: {found:#?}");
        }
        found.is_empty().then_some(())
    });
}

/// Messages that are no requests, with a PIN where none belongs.
fn malformed() -> Vec<Vec<u8>> {
    let deep = json!({ "id": 1, "op": "ping", "x": [[[[MALFORMED]]]] });
    let texts = [
        MALFORMED.to_owned(),
        json!({ "id": 1, "op": MALFORMED }).to_string(),
        json!({ "id": 1, "op": "ping", MALFORMED: 1 }).to_string(),
        json!({ "id": 1, "op": "ping", "x": MALFORMED }).to_string(),
        json!({ "id": MALFORMED, "op": "ping" }).to_string(),
        deep.to_string(),
        json!({ "id": 1, "op": "login", "account": MALFORMED, "pin": MALFORMED }).to_string(),
        json!({ "id": 1, "op": "login", "account": "ca-10001", "pin": [MALFORMED] }).to_string(),
        json!({ "id": 1, "op": "deposit", "amount": 1, "key": MALFORMED }).to_string(),
        format!(r#"{{"id":1,"op":"login","account":"ca-10001","pin":{MALFORMED}}}"#),
        format!(r#"{{"id":1,"op":"login","pin":"{MALFORMED}","pin":"{MALFORMED}"}}"#),
        format!(r#"{{"id":1,"op":"login","account":"ca-10001","pin":"{MALFORMED}""#),
        format!(r#"{{"id":1,"op":"login","account":"ca-10001","pin":"\u0034{MALFORMED}"}}"#),
    ];
    let mut all: Vec<Vec<u8>> = texts.map(String::into_bytes).into();
    all.push([MALFORMED.as_bytes(), &[0xff]].concat());
    all
}

/// Log-ins, wrong and right, and new PINs, at a bank that has two accounts with canaries.
async fn customers(site: &Site, server: &Server) {
    let mut terminal = server.terminal("terminal-1").await;
    terminal.login("ca-10001", WRONG).await.expect_code(20);
    terminal.login("ca-10001", ADDED).await.expect_code(0);
    terminal.change_pin(ADDED, CHOSEN).await.expect_code(0);
    terminal.change_pin(CHOSEN, CHOSEN).await.expect_code(36);
    terminal.deposit(700).await.expect_code(0);
    terminal.logout().await.expect_code(0);
    // The terminal stays connected, as terminals do.
    assert_clean_memory(server, "after log-out");
    terminal.login("ca-10002", IMPORTED).await.expect_code(0);
    assert_clean_memory(server, "while a customer is logged in");
    terminal.close().await;

    let given = site
        .run(&["account", "set-pin", "ca-10002", "--json"])
        .expect(0);
    let one_time = given.json()["one_time_pin"].as_str().unwrap().to_owned();
    let mut terminal = server.terminal("terminal-1").await;
    terminal.login("ca-10002", &one_time).await.expect_code(0);
    let change = terminal.change_pin(&one_time, CHOSEN_AFTER);
    change.await.expect_code(0);
    // Escapes make a copy of their own in the server.
    terminal.logout().await.expect_code(0);
    let escaped: String = CHOSEN_AFTER
        .bytes()
        .map(|byte| format!("\\u{byte:04x}"))
        .collect();
    let login = format!(r#"{{"id":90,"op":"login","account":"ca-10002","pin":"{escaped}"}}"#);
    terminal.send(login.as_bytes()).await;
    terminal.receive().await.expect_code(0);
    terminal.close().await;
    let store = fs::read(site.path("data/bank.db")).unwrap();
    assert_eq!(memmem::find(&store, one_time.as_bytes()), None);
}

/// PINs where none belongs, and half a frame.
async fn strangers(server: &Server) {
    let mut terminal = server.terminal("terminal-2").await;
    for message in malformed() {
        terminal.send(&message).await;
        let code = terminal.receive().await.code();
        assert!(
            [10, 12].contains(&code),
            "{code}: {}",
            message.escape_ascii()
        );
        terminal.ping().await.expect_code(0);
    }
    assert_clean_memory(server, "after malformed messages");
    let half = framed(format!(r#"{{"id":1,"op":"login","pin":"{MALFORMED}","acc"#).as_bytes());
    let whole = u32::try_from(half.len()).unwrap();
    terminal
        .send_bytes(&[&whole.to_be_bytes(), &half[4..]].concat())
        .await;
    // The control: as long as the rest is waited for, the search must find it.
    until("half a frame to be found in memory", || {
        in_memory(server)
            .is_none_or(|found| !found.is_empty())
            .then_some(())
    });
    terminal.close().await;
    assert_clean_memory(server, "after half a frame");
    let mut terminal = server.terminal("terminal-2").await;
    let large = [&u32::MAX.to_be_bytes(), MALFORMED.as_bytes()].concat();
    terminal.send_bytes(&large).await;
    terminal.receive().await.expect_code(11);
    terminal.expect_end().await;
}

/// The bank's own terminal, from a script, with a PIN in the script and one in the environment.
fn client(site: &Site, server: &Server) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atm_client"));
    command
        .current_dir(site.folder())
        .env("ATM_PIN", CHOSEN_AFTER)
        .arg("--server")
        .arg(format!("localhost:{}", server.address.port()))
        .args(["--cert", "certs/terminals/terminal-3.pem"])
        .args(["--key", "certs/terminals/terminal-3.key"])
        .args(["--journal", "journal", "--script", "-"]);
    let script = format!(
        "login ca-10001 {CHOSEN}\nwithdraw 1.00\nauthorize 2.00\ncapture last 2.00\n\
         change-pin {CHOSEN} {ADDED}\nlogout\nlogin ca-10001 {WRONG}\nlogin ca-10002\nlogout\n\
         login {MALFORMED}\n"
    );
    let ran = Ran::of(command, &script);
    assert!(ran.stdout.lines().count() >= 8, "{ran:#?}");
    assert_clean_run(&ran);
}

async fn canaries_are_found_nowhere(format: &str) {
    let monitor = Monitor::free();
    let site = Site::with(&[
        ("log.level", "\"trace\""),
        ("log.format", format),
        ("metrics.listen", &monitor.setting()),
    ]);
    let stopped = site.run_with(&["account", "add", "ca-10003"], &format!("{WRONG}\n"));
    assert_clean_run(&stopped.expect(0));
    let server = site.start();
    let added = site.run_with(&["account", "add", "ca-10001"], &format!("{ADDED}\n"));
    assert_clean_run(&added.expect(0));
    assert_clean_run(
        &site
            .import(&format!("ca-10002, {IMPORTED}, 5.00\n"))
            .expect(0),
    );
    let bad = site.import(&format!("ca-10004, {IMPORTED}, 5.0x\n{IMPORTED}, 1, 2\n"));
    assert_clean_run(&bad.expect(65));
    fs::remove_file(site.path("accounts.txt")).unwrap();

    customers(&site, &server).await;
    strangers(&server).await;
    client(&site, &server);
    for arguments in [
        &["account", "list"][..],
        &["account", "show", "ca-10001", "--json"],
        &["statement", "ca-10001", "--json"],
        &["pepper", "rotate"],
        &["verify", "--json"],
        &["backup", "backup.db"],
    ] {
        let ran = site.run(arguments);
        assert_clean_run(&ran.expect(0));
    }
    let (_, seen) = monitor.get("/metrics").await;
    assert!(seen.contains("op=\"login\""));
    assert_clean("metrics", seen.as_bytes());
    for file in ["cmdline", "environ"] {
        match fs::read(format!("/proc/{}/{file}", server.pid())) {
            Ok(bytes) => assert_clean(file, &bytes),
            Err(error) => println!("skipped: {file} may not be read here: {error}"),
        }
    }
    assert_clean_memory(&server, "at the end");
    assert!(site.path("data/bank.db-wal").exists());
    assert!(assert_clean_files(site.folder()) > 10);
    let ran = server.stop();
    assert!(ran.stderr.contains("TRACE"), "{ran:#?}");
    assert_clean_run(&ran);
    assert_clean_files(site.folder());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pin_is_found_in_logs_of_text_files_answers_or_memory() {
    canaries_are_found_nowhere("\"text\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pin_is_found_in_logs_of_json_files_answers_or_memory() {
    canaries_are_found_nowhere("\"json\"").await;
}
