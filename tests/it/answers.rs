//! What answers give away: nothing about which accounts there are, nothing about the machine.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Reply, Server, Site, Terminal, key};

const WRONG: &str = "7391";

/// The payload with the number behind `retry_after_ms` taken out, and that number.
fn split_retry(reply: &Reply) -> (String, Option<u64>) {
    let text = reply.text();
    let name = "\"retry_after_ms\":";
    let Some((before, after)) = text.split_once(name) else {
        return (text, None);
    };
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = after.split_at(digits);
    (
        format!("{before}{name}N{rest}"),
        Some(number.parse().unwrap()),
    )
}

/// Answers to so many log-ins with a wrong PIN, each over a connection of its own.
async fn wrong_log_ins(server: &Server, account: &str, count: usize) -> Vec<Reply> {
    let mut replies = Vec::new();
    for _ in 0..count {
        let mut terminal = server.terminal("terminal-1").await;
        replies.push(terminal.login(account, WRONG).await);
        terminal.close().await;
    }
    replies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wrong_log_in_tells_what_account_it_was_for_but_by_the_time_it_was_locked_at() {
    const LOCK_MS: u64 = 86_400_000;
    let site = Site::new();
    site.import("aa-00001, 4862, 0\naa-00002, 4862, 0\naa-00003, 4862, 0\n")
        .expect(0);
    site.run(&["account", "close", "aa-00001"]).expect(0);
    site.run(&["account", "lock", "aa-00002"]).expect(0);
    site.run(&["account", "set-pin", "aa-00003"]).expect(0);
    let server = site.start();
    // zz-99999 has a home terminal; tn-13731 is logged in at another all the while.
    server
        .customer("terminal-1", "zz-99999", "9999")
        .await
        .close()
        .await;
    let seated = server.customer("terminal-2", "tn-13731", "2435").await;
    let known = ["ac-12345", "zz-99999", "tn-13731"];
    let odd = ["xx-00000", "aa-00001", "aa-00002", "aa-00003"];
    let mut expected: Option<Vec<String>> = None;
    for account in known.into_iter().chain(odd) {
        let replies = wrong_log_ins(&server, account, 5).await;
        let codes: Vec<u16> = replies.iter().map(Reply::code).collect();
        assert_eq!(codes, [20, 20, 20, 22, 22], "{account}");
        let mut said = Vec::new();
        for (index, reply) in replies.iter().enumerate() {
            let (text, left) = split_retry(reply);
            assert_eq!(left.is_some(), index >= 3, "{account}: {text}");
            assert!(
                left.is_none_or(|left| (1..=LOCK_MS).contains(&left)),
                "{account}: {left:?}"
            );
            said.push(text);
        }
        match &expected {
            None => expected = Some(said),
            Some(expected) => assert_eq!(&said, expected, "{account}"),
        }
    }
    seated.close().await;
}

/// What no answer may hold, in lower case.
const TELLING: [&str; 22] = [
    "/",
    "\\",
    "sql",
    "select",
    "insert",
    "update",
    "begin",
    " table",
    "constraint",
    "database",
    "disk",
    ".rs",
    ".db",
    "src",
    "rust",
    "tokio",
    "argon",
    "pepper",
    "panic",
    "thread",
    "unwrap",
    "error(",
];

fn is_version(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes
        .windows(3)
        .any(|three| three[0].is_ascii_digit() && three[1] == b'.' && three[2].is_ascii_digit())
}

/// Names and texts of an answer, however deep, with the member that each belongs to.
fn texts(member: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => found.push((member.to_owned(), text.clone())),
        Value::Array(items) => items.iter().for_each(|item| texts(member, item, found)),
        Value::Object(members) => {
            for (name, value) in members {
                texts(name, value, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What is wrong with an answer; nothing where it tells nothing.
fn telling(payload: &[u8]) -> Vec<String> {
    let answer: Value = serde_json::from_slice(payload).unwrap();
    let mut found = Vec::new();
    texts("", &answer, &mut found);
    // Moments have a point between digits, by their form.
    found.retain(|(member, _)| member != "at" && member != "time");
    let is_telling = |text: &str| {
        let lower = text.to_lowercase();
        is_version(text) || TELLING.iter().any(|word| lower.contains(word))
    };
    found
        .into_iter()
        .filter(|(_, text)| is_telling(text))
        .map(|(member, text)| format!("{member}: {text}"))
        .collect()
}

#[test]
fn the_search_for_telling_answers_finds_them() {
    for message in [
        "cannot open /var/lib/bank",
        "UNIQUE constraint failed",
        "at login.rs:7",
        "bank_server 0.1.0",
    ] {
        let answer = json!({ "id": 1, "code": 50, "message": message }).to_string();
        assert_eq!(telling(answer.as_bytes()).len(), 1, "{message}");
    }
    let plain = json!({ "id": 1, "code": 0, "at": "2026-01-01T00:00:00.000Z", "message": "done" });
    assert!(telling(plain.to_string().as_bytes()).is_empty());
}

/// Every op in every order of refusals that is easily had; the codes seen are returned.
async fn broad_run(server: &Server) -> Vec<Reply> {
    let mut said = Vec::new();
    let mut one = server.terminal("terminal-1").await;
    let mut other = server.terminal("terminal-2").await;
    let same = key();
    said.push(one.ping().await);
    said.push(one.balance().await);
    said.push(one.login("zz-99999", WRONG).await);
    said.push(one.login("zz-99999", "9999").await);
    said.push(one.login("zz-99999", "9999").await);
    said.push(other.login("zz-99999", "9999").await);
    said.push(one.keyed("deposit", 100, &same).await);
    said.push(one.keyed("deposit", 100, &same).await);
    said.push(one.keyed("deposit", 101, &same).await);
    for amount in [0, -1, i64::MAX, 1_000_000_000_000] {
        said.push(one.deposit(amount).await);
        said.push(one.withdraw(amount).await);
    }
    said.push(one.withdraw(600).await);
    for _ in 0..2 {
        said.push(one.transfer("ac-12345", 1_000_000_000_000).await);
    }
    for to in ["xx-00000", "zz-99999", "ac-12345"] {
        said.push(one.transfer(to, 1).await);
    }
    said.push(one.keyed("authorize", 1, &key()).await);
    let hold = said.last().unwrap().hold();
    let capture = |hold: &str, amount: i64| json!({ "hold": hold, "amount": amount, "key": key() });
    said.push(one.ask("capture", capture(&hold, 2)).await);
    said.push(one.ask("capture", capture("no-hold", 1)).await);
    said.push(one.ask("capture", capture(&hold, 1)).await);
    said.push(
        one.ask("release", json!({ "hold": hold, "key": key() }))
            .await,
    );
    said.push(one.history(100).await);
    said.push(one.change_pin("9999", "1111").await);
    said.push(one.change_pin(WRONG, "830517").await);
    said.extend(malformed(&mut one).await);
    said.push(other.change_pin("9999", "830517").await);
    said.extend(wrong_log_ins(server, "wf-14351", 3).await);
    said.push(other.login("wf-14351", "9834").await);
    said
}

/// Answers to what is no request.
async fn malformed(one: &mut Terminal) -> Vec<Reply> {
    let mut said = Vec::new();
    let malformed: [&[u8]; 4] = [
        b"{",
        br#"{"id":7,"op":"../../etc/passwd"}"#,
        br#"{"id":7,"op":"ping","select":"sqlite"}"#,
        b"\xff\xfe",
    ];
    for message in malformed {
        one.send(message).await;
        said.push(one.receive().await);
        said.push(one.ping().await);
    }
    one.send_bytes(&[0, 0, 0, 0]).await;
    said.push(one.receive().await);
    said
}

fn assert_telling_nothing(said: &[Reply]) {
    for reply in said {
        assert_eq!(
            telling(&reply.payload),
            Vec::<String>::new(),
            "{}",
            reply.text()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_holds_a_path_sql_a_version_or_a_source_file() {
    let site = Site::with(&[("accounts.withdrawal_limit", "500")]);
    site.run(&["account", "set-pin", "tn-13731"]).expect(0);
    let server = site.start();
    let mut said = broad_run(&server).await;

    // Somebody else holds the store for longer than anybody waits for it.
    let mut customer = server.customer("terminal-1", "ac-12345", "1324").await;
    let thief = Connection::open(site.path("data/bank.db")).unwrap();
    thief.busy_timeout(Duration::from_secs(10)).unwrap();
    thief.execute_batch("BEGIN IMMEDIATE").unwrap();
    said.push(customer.deposit(1).await.expect_code(51));
    thief.execute_batch("ROLLBACK").unwrap();
    said.push(customer.deposit(1).await.expect_code(0));

    // Somebody else writes nonsense into it.
    thief
        .execute_batch("UPDATE credential SET pepper = '../' || pepper")
        .unwrap();
    let mut terminal = server.terminal("terminal-2").await;
    said.push(terminal.login("zz-99999", "9999").await.expect_code(50));
    assert!(said.last().unwrap().answer.members.reference.is_some());
    // And an entry into the ledger, which must not go on then.
    let columns = "at, kind, terminal, debit, credit, amount, debit_balance, credit_balance, debit_hash, credit_hash";
    thief
        .execute_batch(&format!(
            "INSERT INTO entry (id, {columns}) SELECT id + 1, {columns} FROM entry ORDER BY id DESC LIMIT 1"
        ))
        .unwrap();
    said.push(customer.deposit(1).await.expect_code(50));
    let ran = server.wait().expect(70);
    assert!(ran.stderr.contains("internal error"), "{ran:#?}");

    assert_telling_nothing(&said);
    let mut codes: Vec<u16> = said.iter().map(Reply::code).collect();
    codes.sort_unstable();
    codes.dedup();
    let all = [
        0, 10, 11, 12, 20, 21, 22, 23, 24, 30, 31, 32, 33, 34, 35, 36, 50, 51,
    ];
    assert_eq!(codes, all);
}
