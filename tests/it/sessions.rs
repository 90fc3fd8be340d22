//! One account, one session: refused while it is in use, served as soon as it is not.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::terminal::{framed, request};
use crate::support::{Card, Ending, Server, Site, Terminal, until_async};

const ACCOUNT: &str = "zz-99999";
const PIN: &str = "9999";

/// The account is in use; only who knows the PIN is told so.
async fn expect_in_use(terminal: &mut Terminal) {
    let seen = terminal.login(ACCOUNT, PIN).await.expect_code(21);
    assert_eq!(
        seen.answer.members.balance, None,
        "a stranger sees no money"
    );
}

/// The next log-in is served as soon as the bank has seen that the account is free.
async fn expect_served(terminal: &mut Terminal) {
    until_async("the account to be free", async || {
        let seen = terminal.login(ACCOUNT, PIN).await;
        assert!([0, 21].contains(&seen.code()), "{}", seen.text());
        (seen.code() == 0).then_some(())
    })
    .await;
}

async fn in_use(settings: &[(&str, &str)]) -> (Site, Server, Terminal, Terminal) {
    let site = Site::with(settings);
    let server = site.start();
    let first = server.customer("terminal-1", ACCOUNT, PIN).await;
    let mut second = server.terminal("terminal-2").await;
    expect_in_use(&mut second).await;
    (site, server, first, second)
}

#[tokio::test]
async fn an_account_in_use_is_told_only_after_a_right_pin() {
    let (_site, server, mut first, mut second) = in_use(&[]).await;
    second.login(ACCOUNT, "7391").await.expect_code(20);
    expect_in_use(&mut second).await;
    // Another connection of the same terminal is another customer too.
    let mut third = server.terminal("terminal-1").await;
    expect_in_use(&mut third).await;
    assert_eq!(first.balance().await.balance(), 65_535);
    first.login(ACCOUNT, PIN).await.expect_code(24);
}

#[tokio::test]
async fn after_a_log_out_the_very_next_log_in_is_served() {
    let (_site, _server, mut first, mut second) = in_use(&[]).await;
    for _ in 0..50 {
        first.logout().await.expect_code(0);
        second.login(ACCOUNT, PIN).await.expect_code(0);
        std::mem::swap(&mut first, &mut second);
    }
    second.balance().await.expect_code(23);
}

#[tokio::test]
async fn once_a_closed_connection_is_answered_the_account_is_free() {
    let (_site, server, mut first, mut second) = in_use(&[]).await;
    for _ in 0..20 {
        first.close().await;
        second.login(ACCOUNT, PIN).await.expect_code(0);
        first = second;
        second = server.terminal("terminal-2").await;
    }
}

#[tokio::test]
async fn a_connection_that_vanishes_or_is_reset_frees_the_account() {
    let (_site, server, first, mut second) = in_use(&[]).await;
    first.reset();
    expect_served(&mut second).await;
    second.vanish();
    let mut third = server.terminal("terminal-3").await;
    expect_served(&mut third).await;
}

#[tokio::test]
async fn a_client_lost_between_request_and_answer_frees_the_account_and_is_served_in_full() {
    let (_site, server, mut first, second) = in_use(&[]).await;
    let members = json!({ "amount": 100, "key": "lost-between-0001" });
    let deposit = request(7, "deposit", members.clone()).to_string();
    first.send_bytes(&framed(deposit.as_bytes())).await;
    first.reset();
    second.close().await;
    let mut again = server.terminal("terminal-2").await;
    expect_served(&mut again).await;
    again.ask("deposit", members).await.expect_code(0);
    assert_eq!(again.balance().await.balance(), 65_635);
}

#[tokio::test]
async fn a_client_whose_process_is_killed_frees_the_account() {
    let site = Site::new();
    let server = site.start();
    let mut client = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "sessions::client_process",
            "--ignored",
            "--nocapture",
        ])
        .env("CLIENT_OF", server.address.to_string())
        .env("CLIENT_CERTIFICATES", site.path("certs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(client.stdout.take().unwrap()).lines();
    // The client's own waits have deadlines: it speaks, or it ends and so does this.
    assert!(said.any(|line| line.unwrap().contains("logged in")));
    let mut second = server.terminal("terminal-2").await;
    expect_in_use(&mut second).await;
    client.kill().unwrap();
    client.wait().unwrap();
    expect_served(&mut second).await;
}

/// Not a test: a customer in a process of its own, to be killed by the one above.
#[tokio::test]
#[ignore = "started by a_client_whose_process_is_killed_frees_the_account"]
async fn client_process() {
    let Ok(address) = std::env::var("CLIENT_OF") else {
        println!("nobody asked for this client");
        return;
    };
    let certificates = std::env::var_os("CLIENT_CERTIFICATES").unwrap();
    let card = Card::of(certificates.as_ref(), "terminal-1");
    let mut terminal = Terminal::connect(address.parse().unwrap(), card).await;
    terminal.login(ACCOUNT, PIN).await.expect_code(0);
    println!("logged in");
    // Ends when the parent does, should that not kill it.
    let _ = std::io::stdin().lines().next();
}

#[tokio::test]
async fn a_silent_customer_is_told_42_once_and_the_account_is_free() {
    let (_site, _server, mut first, mut second) =
        in_use(&[("server.idle_timeout_ms", "300")]).await;
    let notice = first.receive().await.expect_code(42);
    assert_eq!(notice.answer.id, None);
    second.login(ACCOUNT, PIN).await.expect_code(0);
    first.balance().await.expect_code(23);
    first.login("ac-12345", "1324").await.expect_code(0);
}

#[tokio::test]
async fn pings_do_not_put_off_the_end_of_a_silent_customers_session() {
    let site = Site::with(&[("server.idle_timeout_ms", "400")]);
    let server = site.start();
    let mut terminal = server.customer("terminal-1", ACCOUNT, PIN).await;
    until_async("42", async || {
        let ping = request(9, "ping", json!({})).to_string();
        terminal.send(ping.as_bytes()).await;
        let seen = terminal.receive().await;
        (seen.code() == 42).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_session_ends_after_its_time_however_busy() {
    let (_site, _server, mut first, mut second) =
        in_use(&[("server.session_timeout_ms", "600")]).await;
    until_async("42", async || {
        let asked = request(9, "balance", json!({})).to_string();
        first.send(asked.as_bytes()).await;
        let seen = first.receive().await;
        assert!([0, 42].contains(&seen.code()), "{}", seen.text());
        (seen.code() == 42).then_some(())
    })
    .await;
    second.login(ACCOUNT, PIN).await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ended_by_staff_is_told_42_and_the_account_is_free() {
    let (site, _server, mut first, mut second) = in_use(&[]).await;
    let seen = site.run(&["sessions", "--json"]).expect(0).json();
    assert_eq!(seen["sessions"][0]["account"], ACCOUNT);
    assert_eq!(seen["sessions"][0]["terminal"], "terminal-1");
    site.run(&["sessions", "--end", ACCOUNT]).expect(0);
    let notice = first.receive().await.expect_code(42);
    assert_eq!(notice.answer.id, None);
    second.login(ACCOUNT, PIN).await.expect_code(0);
    first.balance().await.expect_code(23);
    first.login("ac-12345", "1324").await.expect_code(0);
    site.run(&["sessions", "--end", "tn-13731"])
        .expect(65)
        .saying("nobody");
}

#[tokio::test]
async fn of_many_who_log_in_at_once_exactly_one_is_served() {
    let site = Site::new();
    let server = site.start();
    let mut rivals = Vec::new();
    for _ in 0..30 {
        let mut terminal = server.terminal("terminal-1").await;
        rivals.push(async move {
            let code = terminal.login(ACCOUNT, PIN).await.code();
            (code, terminal)
        });
    }
    let tasks: Vec<_> = rivals.into_iter().map(tokio::spawn).collect();
    let mut codes = Vec::new();
    let mut open = Vec::new();
    for task in tasks {
        let (code, terminal) = task.await.unwrap();
        codes.push(code);
        open.push(terminal);
    }
    codes.sort_unstable();
    let mut expected = vec![21; 30];
    expected[0] = 0;
    assert_eq!(codes, expected);
}

#[tokio::test]
async fn a_restarted_server_has_freed_all_accounts() {
    let site = Site::new();
    let server = site.start();
    let mut lost = server.customer("terminal-1", ACCOUNT, PIN).await;
    server.kill();
    assert_eq!(lost.expect_end().await, Ending::Cut);
    let server = site.start();
    server.customer("terminal-2", ACCOUNT, PIN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_act_of_staff_that_changes_who_may_get_in_ends_what_got_in_before() {
    let site = Site::new();
    let server = site.start();
    for (act, code) in [("lock", 22), ("set-pin", 20)] {
        let mut thief = server.customer("terminal-1", "zz-99999", "9999").await;
        site.run(&["account", act, "zz-99999"]).expect(0);
        thief.receive().await.expect_code(42);
        thief.withdraw(100).await.expect_code(23);
        thief.login("zz-99999", "9999").await.expect_code(code);
        site.run(&["account", "unlock", "zz-99999"]).expect(0);
    }
    // A session whose claim staff ended in the very moment that it began learns of it by its first order.
    let listed = site.run(&["sessions", "--json"]).expect(0).json();
    assert_eq!(
        listed["sessions"].as_array().map(Vec::len),
        Some(0),
        "{listed}"
    );
}
