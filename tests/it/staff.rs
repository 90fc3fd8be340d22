//! The staff's commands, at a bank that serves and at one that does not.

mod steps;
mod terminals;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::{Server, Site};

#[test]
fn wrong_usage_is_64_and_a_command_without_a_store_is_66() {
    let site = Site::bare(&[]);
    for arguments in [
        &["account"][..],
        &["rob"],
        &["account", "show"],
        &["statement", "--from"],
    ] {
        site.run(arguments).expect(64);
    }
    for arguments in [&["verify"][..], &["account", "list"], &["sessions"]] {
        site.run(arguments).expect(66).saying("there is no store");
    }
    assert!(!site.path("data/bank.db").exists());
    site.run(&["--version"]).expect(0);
    assert!(
        site.run(&["completions", "bash"])
            .expect(0)
            .stdout
            .contains("bank_server")
    );
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut completions = site.program();
    let ran = completions.args(["completions", "bash"]).stdout(writer);
    let ran = ran.output().unwrap();
    assert_eq!(ran.status.code(), Some(74), "{ran:?}");
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(said.contains("cannot write to stdout"), "{said}");
}

#[test]
fn only_what_opens_an_account_makes_a_pepper() {
    let site = Site::bare(&[]);
    site.run(&["account", "set-pin", "zz-99999"])
        .expect(66)
        .saying("there is no store");
    assert!(!site.path("certs/pepper").exists());
    site.run_with(&["account", "add", "zz-99999"], "739164\n")
        .expect(0);
    assert!(site.path("certs/pepper").exists());
    site.run(&["account", "set-pin", "zz-99999"]).expect(0);
}

fn one_time_pin(site: &Site, account: &str) -> String {
    let given = site
        .run(&["account", "set-pin", account, "--json"])
        .expect(0);
    given.json()["one_time_pin"].as_str().unwrap().to_owned()
}

async fn expect_one_time_pin_serves_only_to_choose_another(
    site: &Site,
    server: &Server,
    pin: &str,
) {
    let mut terminal = server.terminal("terminal-1").await;
    terminal.login("zz-99999", "9999").await.expect_code(20);
    let seen = terminal.login("zz-99999", pin).await.expect_code(0);
    assert_eq!(seen.answer.members.must_change_pin, Some(true));
    terminal.ping().await.expect_code(0);
    terminal.balance().await.expect_code(25);
    terminal.deposit(1).await.expect_code(25);
    terminal.withdraw(1).await.expect_code(25);
    terminal.change_pin(pin, pin).await.expect_code(36);
    terminal.change_pin(pin, "1234").await.expect_code(36);
    terminal.change_pin(pin, "830517").await.expect_code(0);
    terminal.deposit(1).await.expect_code(0);
    terminal.close().await;
    let mut terminal = server.terminal("terminal-1").await;
    terminal.login("zz-99999", pin).await.expect_code(20);
    let seen = terminal.login("zz-99999", "830517").await.expect_code(0);
    assert_eq!(seen.answer.members.must_change_pin, None);
    site.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_time_pin_serves_only_to_choose_another() {
    let site = Site::new();
    let pin = one_time_pin(&site, "zz-99999");
    let server = site.start();
    expect_one_time_pin_serves_only_to_choose_another(&site, &server, &pin).await;
    let site = Site::new();
    let server = site.start();
    let pin = one_time_pin(&site, "zz-99999");
    expect_one_time_pin_serves_only_to_choose_another(&site, &server, &pin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_limits_and_corrections_hold_at_once() {
    let site = Site::new();
    let server = site.start();
    let mut terminal = server.customer("terminal-1", "zz-99999", "9999").await;
    let limit = [
        "account",
        "limit",
        "zz-99999",
        "--withdrawal",
        "5.00",
        "--daily",
        "7.00",
    ];
    site.run(&limit).expect(0);
    let refused = terminal.withdraw(501).await.expect_code(32);
    let members = refused.answer.members;
    assert_eq!((members.limit, members.remaining), (Some(500), Some(500)));
    terminal.withdraw(500).await.expect_code(0);
    let refused = terminal.withdraw(201).await.expect_code(32);
    let members = refused.answer.members;
    assert_eq!((members.limit, members.remaining), (Some(700), Some(200)));
    site.run(&["account", "adjust", "zz-99999", "1.00", "--reason", "x"])
        .expect(0);
    assert_eq!(terminal.balance().await.balance(), 65_535 - 500 + 100);
    site.run(&["account", "lock", "zz-99999"]).expect(0);
    terminal.receive().await.expect_code(42);
    terminal.balance().await.expect_code(23);
    terminal.login("zz-99999", "7391").await.expect_code(20);
    let locked = terminal.login("zz-99999", "9999").await.expect_code(22);
    assert_eq!(locked.answer.members.retry_after_ms, None);
    site.run(&["account", "unlock", "zz-99999"]).expect(0);
    terminal.login("zz-99999", "9999").await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_added_or_closed_while_serving_is_served_or_not_at_once() {
    let site = Site::new();
    let server = site.start();
    let mut terminal = server.terminal("terminal-1").await;
    site.run_with(&["account", "add", "aa-00001"], "739164\n")
        .expect(0);
    terminal.login("aa-00001", "739164").await.expect_code(0);
    terminal.logout().await.expect_code(0);
    site.run(&["account", "close", "aa-00001"]).expect(0);
    terminal.login("aa-00001", "739164").await.expect_code(20);
    terminal.login("zz-99999", "9999").await.expect_code(0);
    terminal.transfer("aa-00001", 1).await.expect_code(34);
}

/// A bank that serves, where zz-99999 has three entries.
async fn with_three_entries() -> (Site, Server) {
    let site = Site::new();
    let server = site.start();
    let mut terminal = server.customer("terminal-1", "zz-99999", "9999").await;
    terminal.deposit(5).await.expect_code(0);
    terminal.transfer("ac-12345", 35).await.expect_code(0);
    (site, server)
}

fn statement(site: &Site, more: &[&str]) -> String {
    let arguments = [&["statement", "zz-99999"], more].concat();
    site.run(&arguments).expect(0).stdout
}

fn entries(text: &str) -> Vec<Value> {
    let printed: Value = serde_json::from_str(text).unwrap();
    printed["entries"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_is_a_table_csv_or_json_of_the_same_entries() {
    let (site, _server) = with_three_entries().await;
    let entries = entries(&statement(&site, &["--format", "json"]));
    let amounts: Vec<_> = entries
        .iter()
        .map(|entry| entry["amount"].as_i64())
        .collect();
    assert_eq!(amounts, [Some(65_535), Some(5), Some(-35)]);
    let csv = statement(&site, &["--format", "csv"]);
    let (head, lines) = csv.split_once('\n').unwrap();
    assert_eq!(
        head,
        "entry,at,kind,amount,balance,terminal,counterparty,reason"
    );
    assert_eq!(lines.lines().count(), 3);
    for (line, entry) in lines.lines().zip(&entries) {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields[2], entry["kind"].as_str().unwrap());
        assert_eq!(fields[3], entry["amount"].to_string());
        assert_eq!(fields[4], entry["balance"].to_string());
    }
    let table = statement(&site, &["--format", "table"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(
        table.contains("-0.35") && table.contains("655.05"),
        "{table}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_begins_with_the_moment_from_and_ends_before_the_moment_to() {
    let (site, _server) = with_three_entries().await;
    let all = entries(&statement(&site, &["--json"]));
    let at = |index: usize| all[index]["at"].as_str().unwrap().to_owned();
    let (from, to) = (at(1), at(2));
    let expected: Vec<&Value> = all
        .iter()
        .filter(|entry| (from.as_str()..to.as_str()).contains(&entry["at"].as_str().unwrap()))
        .collect();
    let seen = entries(&statement(&site, &["--from", &from, "--to", &to, "--json"]));
    assert_eq!(seen.iter().collect::<Vec<_>>(), expected);
    assert_eq!(
        entries(&statement(&site, &["--from", "2001-01-01", "--json"])),
        all
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_knows_whether_what_was_before_a_head_is_still_there() {
    let site = Site::new();
    let server = site.start();
    let early = site.verify()["head"].as_str().unwrap().to_owned();
    let mut terminal = server.customer("terminal-1", "zz-99999", "9999").await;
    terminal.deposit(5).await.expect_code(0);
    let late = site.verify()["head"].as_str().unwrap().to_owned();
    assert_ne!(early, late);
    for head in [&early, &late] {
        site.run(&["verify", "--head", head]).expect(0);
    }
    terminal.close().await;
    server.stop();
    site.run(&["verify", "--head", &late]).expect(0);
    // Another bank's head, and one of entries that are gone.
    let other = Site::new();
    other
        .run(&["verify", "--head", &late])
        .expect(1)
        .printing("FAULT");
    // A cent more for a customer, past every rule of the schema.
    let sql = "UPDATE account SET balance = balance + 1 WHERE number = 'zz-99999'";
    site.tamper(|store| assert_eq!(store.execute(sql, []), Ok(1)));
    site.run(&["verify"]).expect(1).printing("FAULT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_while_serving_is_private_whole_and_without_the_pepper() {
    let site = Site::new();
    let server = site.start();
    let mut terminal = server.customer("terminal-1", "zz-99999", "9999").await;
    terminal.deposit(5).await.expect_code(0);
    site.run(&["backup", "copy.db"]).expect(0);
    terminal.deposit(7).await.expect_code(0);
    terminal.close().await;
    let again = site.run(&["backup", "copy.db"]);
    assert_ne!(again.code, Some(0), "it writes over nothing");
    let copy = site.path("copy.db");
    assert_eq!(
        fs::metadata(&copy).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let pepper = fs::read_to_string(site.path("certs/pepper")).unwrap();
    let secret = pepper.split_whitespace().last().unwrap().to_owned();
    let bytes = fs::read(&copy).unwrap();
    assert!(
        !bytes
            .windows(secret.len())
            .any(|part| part == secret.as_bytes())
    );
    let raw = data_encoding::HEXLOWER.decode(secret.as_bytes()).unwrap();
    assert!(!bytes.windows(raw.len()).any(|part| part == raw));
    site.run(&["restore", "copy.db"]).expect(75);
    server.stop();
    site.run(&["restore", "copy.db"]).expect(0);
    assert_eq!(
        site.verify()["customers_total"],
        102_432 + 542_822 + 646_275 + 65_540
    );
    let server = site.start();
    let mut terminal = server.customer("terminal-1", "zz-99999", "9999").await;
    assert_eq!(terminal.balance().await.balance(), 65_540);
}

#[test]
fn a_restore_without_the_pepper_or_of_no_backup_is_refused_and_changes_nothing() {
    let site = Site::new();
    site.run(&["backup", "copy.db"]).expect(0);
    let pepper = site.path("certs/pepper");
    let own = fs::read(&pepper).unwrap();
    let store = || fs::read(site.path("data/bank.db")).unwrap();
    let before = store();
    fs::remove_file(&pepper).unwrap();
    site.run(&["restore", "copy.db"])
        .expect(78)
        .saying("pepper");
    let other = Site::new();
    fs::copy(other.path("certs/pepper"), &pepper).unwrap();
    site.run(&["restore", "copy.db"])
        .expect(78)
        .saying("pepper");
    fs::write(&pepper, own).unwrap();
    site.run(&["restore", "nowhere.db"]).expect(66);
    site.run(&["restore", "bank.toml"])
        .expect(78)
        .saying("not a bank's store");
    assert_eq!(store(), before);
    site.verify();
    // Into a bank that has the pepper and no store.
    let fresh = Site::bare(&[]);
    fs::copy(site.path("copy.db"), fresh.path("copy.db")).unwrap();
    fs::copy(&pepper, fresh.path("certs/pepper")).unwrap();
    fresh.run(&["restore", "copy.db"]).expect(0);
    assert_eq!(fresh.verify()["head"], site.verify()["head"]);
}

/// What `verify` says of the ledger. The audit log grows by every command, `verify` too.
fn ledger(mut verified: Value) -> Value {
    let members = verified.as_object_mut().unwrap();
    for grows in ["audit_records", "full_head"] {
        assert!(members.remove(grows).is_some(), "{grows}");
    }
    verified
}

#[test]
fn a_file_with_a_bad_line_is_refused_by_line_without_its_pin_and_nothing_is_imported() {
    let site = Site::new();
    let before = ledger(site.verify());
    let server = site.start();
    for bad in [
        "aa-00002, 48151623, 1.005",
        "aa-00002, 48151623",
        "aa-00002, 48151623, 1, 2",
        "aa-0002, 48151623, 1.00",
        "aa-00002, 48151623a, 1.00",
        "aa-00002, 48151623, -1.00",
        "AA-00001, 48151623, 1.00",
    ] {
        let file = format!("# new\naa-00001, 48151623, 1.00\n{bad}\n");
        let ran = site.import(&file).expect(65).saying("line 3");
        assert!(!(ran.stderr + &ran.stdout).contains("48151623"), "{bad}");
        assert_eq!(ledger(site.verify()), before, "{bad}");
    }
    site.run(&["import", "nowhere.txt"]).expect(66);
    server.stop();
}

#[test]
fn an_import_leaves_an_account_that_exists_alone_and_names_it() {
    let site = Site::new();
    for serving in [false, true] {
        let server = serving.then(|| site.start());
        let number = if serving { "aa-00002" } else { "aa-00001" };
        let file = format!("{number}, 739164, 1.00\nzz-99999, 1111, 1.00\n");
        let ran = site.import(&file).expect(0);
        assert!(ran.stdout.contains("zz-99999 exists"), "{ran:?}");
        assert!(ran.stdout.contains("1 account opened"), "{ran:?}");
        assert!(ran.stdout.contains("weak"), "{ran:?}");
        let shown = site
            .run(&["account", "show", "zz-99999", "--json"])
            .expect(0)
            .json();
        assert_eq!(shown["balance"], 65_535);
        server.map(Server::stop);
    }
    assert_eq!(site.verify()["faults"], Value::Array(Vec::new()));
}

#[test]
fn an_import_that_would_keep_customers_waiting_is_for_a_stopped_server_only() {
    let site = Site::new();
    // The largest balance takes a thousand entries.
    let lines: String = (0..41)
        .map(|index| format!("qq-{index:05}, 8264, 10000000000000.00\n"))
        .collect();
    let server = site.start();
    site.import(&lines)
        .expect(65)
        .saying("stop it and import again");
    server.stop();
    site.import(&lines).expect(0);
}
