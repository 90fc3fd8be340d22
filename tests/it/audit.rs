//! The audit log from outside: what a bank's life leaves in it, and what becomes of tampering.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use serde_json::Value;

use crate::support::{Ran, Server, Site};

fn records(site: &Site, more: &[&str]) -> Vec<Value> {
    let arguments = [&["audit", "--json"], more].concat();
    let printed = site.run(&arguments).expect(0).json();
    printed["records"].as_array().unwrap().clone()
}

/// `event outcome account terminal actor` of a record, with `-` for what it has not.
fn words(record: &Value) -> String {
    let word = |member: &str| record[member].as_str().unwrap_or("-").to_owned();
    let members = ["event", "outcome", "account", "terminal", "actor"];
    members.map(word).join(" ")
}

fn told(site: &Site, more: &[&str]) -> Vec<String> {
    records(site, more).iter().map(words).collect()
}

fn own_uid() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}

/// A customer's and an attacker's day, and the staff's.
async fn live_a_day(site: &Site, server: &Server) {
    let mut anne = server.customer("terminal-1", "zz-99999", "9999").await;
    anne.withdraw(1_000).await.expect_code(0);
    anne.withdraw(5_001).await.expect_code(32);
    let mut thief = server.terminal("terminal-2").await;
    thief.login("zz-99999", "9999").await.expect_code(21);
    for code in [20, 20, 20] {
        let mut thief = server.terminal("terminal-2").await;
        thief.login("ac-12345", "7391").await.expect_code(code);
    }
    thief.login("ac-12345", "1324").await.expect_code(22);
    site.run(&["account", "unlock", "ac-12345"]).expect(0);
    anne.change_pin("9999", "830517").await.expect_code(0);
    anne.logout().await.expect_code(0);
    anne.close().await;
    site.run(&["account", "set-pin", "wf-14351"]).expect(0);
    site.run(&["account", "lock", "wf-14351"]).expect(0);
    let adjust = ["account", "adjust", "ac-12345", "1.00", "--reason", "x"];
    site.run(&adjust).expect(0);
    site.run(&["sessions", "--end", "zz-99999"]).expect(65);
    site.run(&["terminal", "disable", "terminal-2"]).expect(0);
    site.run(&["account", "show", "ac-12345"]).expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bank_s_day_is_on_record_each_thing_once_with_who_did_it_and_what_became_of_it() {
    let site = Site::with(&[("accounts.withdrawal_limit", "5000")]);
    let server = site.start();
    live_a_day(&site, &server).await;
    server.stop();
    let staff = own_uid();
    let told = told(&site, &[]);
    // The end of a session is written with the next round, wherever that falls.
    let (ends, rest): (Vec<String>, Vec<String>) = told
        .into_iter()
        .partition(|words| words.starts_with("session_end "));
    assert_eq!(
        ends,
        ["session_end done zz-99999 terminal-1 terminal terminal-1"]
    );
    let (one, two) = (
        "terminal-1 terminal terminal-1",
        "terminal-2 terminal terminal-2",
    );
    let expected = [
        format!("import done - - {staff}"),
        "start done - - server".to_owned(),
        format!("login done zz-99999 {one}"),
        format!("limit_hit refused zz-99999 {one}"),
        format!("login in_use zz-99999 {two}"),
        format!("login wrong_pin ac-12345 {two}"),
        format!("login wrong_pin ac-12345 {two}"),
        format!("last_try counted ac-12345 {two}"),
        format!("login wrong_pin ac-12345 {two}"),
        format!("lock done ac-12345 {two}"),
        format!("login locked_out ac-12345 {two}"),
        format!("unlock done ac-12345 - {staff}"),
        format!("pin_change done zz-99999 {one}"),
        format!("pin_reset done wf-14351 - {staff}"),
        format!("lock done wf-14351 - {staff}"),
        format!("account_adjusted done ac-12345 - {staff}"),
        format!("session_ended refused zz-99999 - {staff}"),
        format!("terminal_disabled done - terminal-2 {staff}"),
        format!("staff_read done ac-12345 - {staff}"),
        "stop done - - server".to_owned(),
    ];
    assert_eq!(rest, expected);
    let listed = records(&site, &[]);
    for (index, record) in listed.iter().enumerate() {
        assert_eq!(record["number"].as_u64(), u64::try_from(index + 1).ok());
        assert!(record["at"].as_str().unwrap().ends_with('Z'), "{record}");
        let at_terminal = record["actor"].as_str().unwrap().starts_with("terminal");
        assert_eq!(record["connection"].is_number(), at_terminal, "{record}");
    }
    // No PIN stands in it. Any digits may stand in a hash, by chance.
    let mut shown = listed;
    for record in &mut shown {
        record.as_object_mut().unwrap().remove("hash");
    }
    let all = serde_json::to_string(&shown).unwrap();
    for secret in ["7391", "830517"] {
        assert!(!all.contains(secret), "{secret}");
    }
    assert!(site.verify()["audit_records"].as_u64().unwrap() >= 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_a_table_csv_or_json_of_the_same_records_and_filters_hold() {
    let site = Site::new();
    for serving in [false, true] {
        let server = serving.then(|| site.start());
        let table = site.run(&["audit"]).expect(0).stdout;
        let csv = site.run(&["audit", "--format", "csv"]).expect(0).stdout;
        let json = records(&site, &[]);
        // Each whole reading is an act of the staff and on record, with the next one.
        assert_eq!(table.lines().count() + 1, csv.lines().count());
        assert_eq!(csv.lines().count(), json.len());
        assert_eq!(
            csv.lines().next().unwrap(),
            "number,at,event,outcome,account,terminal,connection,actor,detail,hash"
        );
        for (line, record) in table.lines().skip(1).zip(&json) {
            assert_eq!(
                line.split_whitespace().next().unwrap(),
                record["number"].to_string()
            );
            assert!(line.contains(record["at"].as_str().unwrap()), "{line}");
            assert!(line.contains(record["event"].as_str().unwrap()), "{line}");
        }
        for (line, record) in csv.lines().skip(1).zip(&json) {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(fields[0], record["number"].to_string());
            assert_eq!(fields[2], record["event"].as_str().unwrap());
            assert_eq!(*fields.last().unwrap(), record["hash"].as_str().unwrap());
        }
        server.map(Server::stop);
    }
    let starts = told(&site, &["--event", "start"]);
    assert_eq!(starts, ["start done - - server"]);
    site.run(&["terminal", "disable", "terminal-3"]).expect(0);
    let at_three = told(&site, &["--terminal", "terminal-3"]);
    assert_eq!(at_three.len(), 1, "{at_three:?}");
    let newest = records(&site, &["--limit", "2"]);
    let after = newest[0]["number"].to_string();
    let last = records(&site, &["--after", &after]);
    assert_eq!(last[0], newest[1]);
    // Whoever copies the log on does not make it longer by that.
    let again = records(&site, &["--after", &after]);
    assert_eq!(again, last);
    let from = last[0]["at"].as_str().unwrap();
    assert!(records(&site, &["--to", from]).len() > 2);
    assert!(records(&site, &["--to", "2001-01-01"]).is_empty());
    site.run(&["audit", "--from", "yesterday"]).expect(65);
    site.run(&["audit", "--limit", "0"]).expect(64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_or_done_is_on_record_though_the_server_is_killed_at_once() {
    let site = Site::new();
    let server = site.start();
    let mut terminal = server.terminal("terminal-1").await;
    terminal.login("zz-99999", "7391").await.expect_code(20);
    site.run(&["account", "lock", "zz-99999"]).expect(0);
    server.kill();
    let told = told(&site, &[]);
    let last: Vec<&str> = told
        .iter()
        .rev()
        .take(2)
        .map(|words| words.split(" zz").next().unwrap())
        .collect();
    assert_eq!(last, ["lock done", "login wrong_pin"]);
    site.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_and_the_terminal_it_puts_out_are_on_record() {
    let mut site = Site::new();
    let server = site.start();
    let mut lost = server.terminal("terminal-2").await;
    site.gen_certs(&["revoke", "terminal-2"]).expect(0);
    server.reload();
    assert!(lost.try_receive().await.is_err());
    site.set("server.idle_timeout_ms", "\"soon\"");
    server.signal(rustix::process::Signal::HUP);
    server.wait_for_log("reload refused");
    server.stop();
    site.set("server.idle_timeout_ms", "60000");
    let told: Vec<String> = told(&site, &[])
        .into_iter()
        .filter(|words| words.contains("reload") || words.contains("revoked"))
        .collect();
    assert_eq!(
        told,
        [
            "terminal_revoked done - terminal-2 server",
            "reload done - - server",
            "reload refused - - server"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_log_ins_leaves_few_records_and_its_whole_count() {
    let site = Site::with(&[("limits.logins_per_minute_per_terminal", "1")]);
    let server = site.start();
    let mut terminal = server.terminal("terminal-1").await;
    for _ in 0..200 {
        terminal.login("zz-99999", "7391").await;
    }
    terminal.close().await;
    server.stop();
    let found = records(&site, &[]);
    let of = |event: &str| -> Vec<&Value> {
        let is_event = |record: &&Value| record["event"] == event;
        found.iter().filter(is_event).collect()
    };
    let (checked, throttled, summed) = (of("login").len(), of("throttled"), of("suppressed"));
    // A busy machine may take minutes: each interval has its own.
    assert!(throttled.len() <= 30 * (summed.len() + 1), "{found:#?}");
    assert!(throttled.len() < 170 && !summed.is_empty(), "{found:#?}");
    let counts = summed.iter().map(|record| {
        let detail = record["detail"].as_str().unwrap();
        let count = detail.strip_prefix("throttled ").unwrap();
        count.parse::<usize>().unwrap()
    });
    assert_eq!(checked + throttled.len() + counts.sum::<usize>(), 200);
}

#[test]
fn a_full_head_tells_of_a_log_whose_end_was_cut_off() {
    let site = Site::new();
    let early = site.verify()["head"].as_str().unwrap().to_owned();
    site.run(&["account", "lock", "zz-99999"]).expect(0);
    let verified = site.verify();
    let full = verified["full_head"].as_str().unwrap();
    assert!(full.starts_with(&format!("{}+", verified["head"].as_str().unwrap())));
    site.run(&["verify", "--head", full]).expect(0);
    site.run(&["verify", "--head", &early]).expect(0);
    let printed = site.run(&["verify"]).expect(0).stdout;
    assert!(printed.contains("audit log") && printed.contains("full head"));
    let cut = "DELETE FROM audit WHERE id > 1; \
               UPDATE audit_head SET (count, hash) = (SELECT id, hash FROM audit WHERE id = 1)";
    site.tamper(|store| store.execute_batch(cut).unwrap());
    site.run(&["verify"]).expect(0);
    site.run(&["verify", "--head", &early]).expect(0);
    site.run(&["verify", "--head", full])
        .expect(1)
        .printing("FAULT: the audit log up to record");
}

#[test]
fn a_backup_and_a_restore_are_on_record_in_the_store_that_goes_on() {
    let site = Site::new();
    let full = site.verify()["full_head"].as_str().unwrap().to_owned();
    site.run(&["backup", "copy.db"]).expect(0);
    site.run(&["account", "lock", "zz-99999"]).expect(0);
    site.run(&["restore", "copy.db"]).expect(0);
    let told = told(&site, &[]);
    let staff = own_uid();
    assert_eq!(
        told,
        [
            format!("import done - - {staff}"),
            format!("verify done - - {staff}"),
            format!("restore done - - {staff}")
        ]
    );
    site.run(&["verify", "--head", &full]).expect(0);
}

/// Runs `sessions` as the user that owns nothing, with a copy of the program where anyone may.
fn ask_as_nobody(site: &Site) -> Ran {
    const NOBODY: u32 = 65_534;
    let program = site.path("program");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_bank_server"), &program).unwrap();
    }
    let mut command = std::process::Command::new(&program);
    command
        .current_dir(site.folder())
        .args(["--config", "bank.toml", "sessions"])
        .uid(NOBODY)
        .gid(NOBODY);
    Ran::of(command, "")
}

fn open_to_all(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn another_user_is_refused_at_the_operator_s_socket_by_its_mode_and_by_the_server_too() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can act as another user");
        return;
    }
    let site = Site::new();
    for (name, mode) in [("", 0o755), ("data", 0o755), ("bank.toml", 0o644)] {
        open_to_all(&site.path(name), mode);
    }
    let server = site.start();
    let socket = site.path("data/operator.sock");
    let mode = fs::metadata(&socket).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    ask_as_nobody(&site).expect(69).saying("Permission denied");
    assert!(told(&site, &["--event", "operator_refused"]).is_empty());
    // The first line of defence is taken away: the server still asks who it is.
    open_to_all(&socket, 0o666);
    let refused = ask_as_nobody(&site).expect(69);
    assert!(!refused.stderr.contains("Permission denied"), "{refused:?}");
    assert_eq!(refused.stdout, "");
    server.wait_for_log("another user was refused at the operator's socket");
    let found = records(&site, &["--event", "operator_refused"]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(words(&found[0]), "operator_refused refused - - server");
    assert_eq!(found[0]["detail"], "uid 65534");
    // Its own user is still heard.
    site.run(&["sessions"]).expect(0);
    server.stop();
}
