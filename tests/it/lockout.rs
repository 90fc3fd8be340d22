//! Wrong PINs: three are looked at, whoever tries, however fast, and whatever dies meanwhile.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::support::{ACCOUNT_PINS, Server, Site, Terminal, until_async};

const WRONG: &str = "7391";

/// One try over a connection of its own.
async fn login(server: &Server, account: &str, pin: &str) -> u16 {
    let mut terminal = server.terminal("terminal-1").await;
    terminal.login(account, pin).await.code()
}

/// Codes of wrong tries, over so many connections, all at once.
async fn tries_at_once(server: &Server, account: &str, count: usize) -> Vec<u16> {
    let tries = (0..count).map(|_| ("terminal-2", WRONG)).collect();
    let codes = all_at_once(server, account, tries).await;
    let mut codes: Vec<u16> = codes.into_iter().map(|(_, code)| code).collect();
    codes.sort_unstable();
    codes
}

/// Log-ins to one account, each over a connection of its own that is open before the first asks;
/// terminal and code of each, in the order of the answers.
async fn all_at_once(
    server: &Server,
    account: &str,
    tries: Vec<(&'static str, &'static str)>,
) -> Vec<(&'static str, u16)> {
    let ready = Arc::new(Barrier::new(tries.len()));
    let mut answers = JoinSet::new();
    for (name, pin) in tries {
        let (address, card) = (server.address, server.card(name));
        let (account, ready) = (account.to_owned(), Arc::clone(&ready));
        answers.spawn(async move {
            let mut terminal = Terminal::connect(address, card).await;
            ready.wait().await;
            let code = terminal.login(&account, pin).await.code();
            // Its session, where it has one, lasts until all have asked.
            (name, code, terminal)
        });
    }
    let (mut codes, mut connected) = (Vec::new(), Vec::new());
    while let Some(answer) = answers.join_next().await {
        let (name, code, terminal) = answer.unwrap();
        codes.push((name, code));
        connected.push(terminal);
    }
    codes
}

/// How many of the answers to that terminal had that code.
fn count(codes: &[(&str, u16)], name: &str, code: u16) -> usize {
    codes.iter().filter(|seen| **seen == (name, code)).count()
}

/// A hundred wrong PINs at each of two terminals, mixed.
fn a_hundred_at_each_of_two() -> Vec<(&'static str, &'static str)> {
    let names = ["terminal-1", "terminal-2"].into_iter().cycle();
    names.take(200).map(|name| (name, WRONG)).collect()
}

/// The customer is served at the terminal, which is the account's home from then on.
async fn visit(server: &Server, name: &str, account: &str, pin: &str) {
    let mut terminal = server.customer(name, account, pin).await;
    terminal
        .ask("logout", serde_json::json!({}))
        .await
        .expect_code(0);
    terminal.close().await;
}

fn three_looked_at(count: usize) -> Vec<u16> {
    let mut codes = vec![22; count];
    codes[..3].fill(20);
    codes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_wrong_pins_at_once_exactly_three_are_looked_at() {
    let site = Site::new();
    let server = site.start();
    for account in ["zz-99999", "xx-00000"] {
        let codes = tries_at_once(&server, account, 200).await;
        assert_eq!(codes, three_looked_at(200), "{account}");
    }
    assert_eq!(login(&server, "zz-99999", "9999").await, 22);
    assert_eq!(login(&server, "ac-12345", "1324").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_wrong_pins_at_once_from_two_terminals_each_budget_has_exactly_three() {
    let site = Site::new();
    let server = site.start();
    // Every account's home is terminal-1, so that every unknown number's is too.
    for (account, pin) in ACCOUNT_PINS {
        visit(&server, "terminal-1", account, pin).await;
    }
    for account in ["zz-99999", "xx-00000", "xx-00001"] {
        let codes = all_at_once(&server, account, a_hundred_at_each_of_two()).await;
        for name in ["terminal-1", "terminal-2"] {
            let looked_at = count(&codes, name, 20);
            assert_eq!(
                (looked_at, count(&codes, name, 22)),
                (3, 97),
                "{account} at {name}"
            );
        }
        // Both budgets are used up, and terminal-3 has none of its own.
        for name in ["terminal-1", "terminal-2", "terminal-3"] {
            let mut terminal = server.terminal(name).await;
            terminal.login(account, "9999").await.expect_code(22);
        }
    }
    assert_eq!(login(&server, "ac-12345", "1324").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_home_two_hundred_wrong_pins_from_two_terminals_share_three() {
    let site = Site::new();
    let server = site.start();
    for account in ["zz-99999", "xx-00000"] {
        let codes = all_at_once(&server, account, a_hundred_at_each_of_two()).await;
        let looked_at = codes.iter().filter(|(_, code)| *code == 20).count();
        let locked = codes.iter().filter(|(_, code)| *code == 22).count();
        assert_eq!((looked_at, locked), (3, 197), "{account}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_pin_among_two_hundred_tries_is_served_unless_its_budget_is_used_up_before_it() {
    let site = Site::new();
    let server = site.start();
    for round in 0..4 {
        site.run(&["account", "unlock", "zz-99999"]).expect(0);
        visit(&server, "terminal-1", "zz-99999", "9999").await;
        let mut tries = a_hundred_at_each_of_two();
        tries[round * 2] = ("terminal-1", "9999");
        let codes = all_at_once(&server, "zz-99999", tries).await;
        let served = count(&codes, "terminal-1", 0);
        let refused = count(&codes, "terminal-1", 22) + count(&codes, "terminal-2", 22);
        let mut looked_at = ["terminal-1", "terminal-2"].map(|name| count(&codes, name, 20));
        assert_eq!(served + refused + looked_at.iter().sum::<usize>(), 200);
        // What is left of either budget is used up, so that the sums are known.
        for (name, looked_at) in ["terminal-1", "terminal-2"].into_iter().zip(&mut looked_at) {
            while server
                .terminal(name)
                .await
                .login("zz-99999", WRONG)
                .await
                .code()
                == 20
            {
                *looked_at += 1;
            }
        }
        // Served, both counts began anew: at most two wrong ones of its own budget came before it,
        // and three of the other. Not served, its budget was used up.
        let allowed = if served == 1 {
            [3..=5, 3..=6]
        } else {
            [3..=3, 3..=3]
        };
        let is_allowed = allowed
            .iter()
            .zip(&looked_at)
            .all(|(range, count)| range.contains(count));
        assert!(
            served <= 1 && is_allowed,
            "{served} served, {looked_at:?} looked at"
        );
    }
}

#[tokio::test]
async fn strangers_elsewhere_lock_nobody_out_at_the_terminal_of_the_last_log_in() {
    let site = Site::new();
    let server = site.start();
    visit(&server, "terminal-1", "zz-99999", "9999").await;
    for (name, code) in [
        ("terminal-2", 20),
        ("terminal-3", 20),
        ("terminal-2", 20),
        ("terminal-3", 22),
    ] {
        let mut stranger = server.terminal(name).await;
        stranger.login("zz-99999", WRONG).await.expect_code(code);
    }
    let shown = site
        .run(&["account", "show", "zz-99999", "--json"])
        .expect(0)
        .json();
    assert_eq!(shown["locked_out_elsewhere"], true);
    assert_eq!(shown["locked_out_at_home"], false);
    let told = site.run(&["account", "show", "zz-99999"]).expect(0);
    assert!(
        told.stdout.contains("at all but its home terminal"),
        "{}",
        told.stdout
    );
    visit(&server, "terminal-1", "zz-99999", "9999").await;
    // A right PIN forgets the strangers' tries too.
    let mut stranger = server.terminal("terminal-2").await;
    stranger.login("zz-99999", WRONG).await.expect_code(20);
}

#[tokio::test]
async fn a_restart_forgets_neither_budget() {
    let site = Site::new();
    let server = site.start();
    visit(&server, "terminal-1", "zz-99999", "9999").await;
    for name in ["terminal-1", "terminal-2", "terminal-2", "terminal-2"] {
        let mut terminal = server.terminal(name).await;
        terminal.login("zz-99999", WRONG).await.expect_code(20);
    }
    server.kill();
    let server = site.start();
    for (name, code) in [
        ("terminal-2", 22),
        ("terminal-1", 20),
        ("terminal-1", 20),
        ("terminal-1", 22),
    ] {
        let mut terminal = server.terminal(name).await;
        terminal.login("zz-99999", WRONG).await.expect_code(code);
    }
}

#[tokio::test]
async fn killing_the_server_gives_no_new_tries() {
    let site = Site::new();
    let mut server = site.start();
    for _ in 0..2 {
        assert_eq!(login(&server, "zz-99999", WRONG).await, 20);
        server.kill();
        server = site.start();
    }
    assert_eq!(login(&server, "zz-99999", WRONG).await, 20);
    server.kill();
    let server = site.start();
    assert_eq!(login(&server, "zz-99999", "9999").await, 22);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_amid_tries_looks_at_three_in_all() {
    let site = Site::new();
    let mut looked_at = 0;
    for _ in 0..3 {
        let server = site.start();
        let mut tries = JoinSet::new();
        for _ in 0..20 {
            let (address, card) = (server.address, server.card("terminal-2"));
            tries.spawn(async move {
                let mut terminal = Terminal::over(card.connect(address).await.ok()?);
                let members = serde_json::json!({ "account": "zz-99999", "pin": WRONG });
                let seen = terminal.try_ask("login", members).await.ok()?;
                Some(seen.code())
            });
        }
        // Killed as soon as the first is answered, others being in all stages.
        let first = tries.join_next().await.unwrap().unwrap();
        server.kill();
        let codes = first
            .into_iter()
            .chain(tries.join_all().await.into_iter().flatten());
        looked_at += codes.filter(|code| *code == 20).count();
    }
    let server = site.start();
    while login(&server, "zz-99999", WRONG).await == 20 {
        looked_at += 1;
    }
    assert!(
        (1..=3).contains(&looked_at),
        "{looked_at} wrong PINs were looked at"
    );
    assert_eq!(login(&server, "zz-99999", "9999").await, 22);
}

#[tokio::test]
async fn unknown_and_closed_numbers_answer_byte_for_byte_as_real_ones() {
    // Without a lock time no answer says how long is left, so that all bytes must be the same.
    let site = Site::with(&[("pin.lock_ms", "0")]);
    site.import("aa-00001, 4862, 0\n").expect(0);
    site.run(&["account", "close", "aa-00001"]).expect(0);
    let server = site.start();
    let mut seen = Vec::new();
    for account in ["zz-99999", "xx-00000", "aa-00001"] {
        let mut said = Vec::new();
        for _ in 0..3 {
            let mut terminal = server.terminal("terminal-1").await;
            for _ in 0..2 {
                said.push(terminal.login(account, WRONG).await.payload);
            }
        }
        seen.push(said);
    }
    let codes: Vec<String> = seen[0]
        .iter()
        .map(|payload| String::from_utf8_lossy(payload).into_owned())
        .collect();
    assert!(
        codes[2].contains("\"code\":20") && codes[3].contains("\"code\":22"),
        "{codes:?}"
    );
    assert_eq!(seen[0], seen[1], "an unknown number differs");
    assert_eq!(seen[0], seen[2], "a closed number differs");
}

#[tokio::test]
async fn the_right_pin_of_a_closed_account_answers_as_a_wrong_one() {
    let site = Site::new();
    site.import("aa-00001, 4862, 0\n").expect(0);
    site.run(&["account", "close", "aa-00001"]).expect(0);
    let server = site.start();
    let mut terminal = server.terminal("terminal-1").await;
    let closed = terminal.login("aa-00001", "4862").await.expect_code(20);
    let mut terminal = server.terminal("terminal-1").await;
    let wrong = terminal.login("zz-99999", WRONG).await.expect_code(20);
    assert_eq!(closed.payload, wrong.payload);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staff_unlock_a_number_at_once() {
    let site = Site::new();
    let server = site.start();
    tries_at_once(&server, "zz-99999", 4).await;
    let shown = site
        .run(&["account", "show", "zz-99999", "--json"])
        .expect(0)
        .json();
    assert_eq!(shown["locked_out"], true);
    site.run(&["account", "unlock", "zz-99999"]).expect(0);
    assert_eq!(login(&server, "zz-99999", "9999").await, 0);
}

#[tokio::test]
async fn a_right_pin_forgets_the_wrong_ones_before_it() {
    let site = Site::new();
    let server = site.start();
    for _ in 0..3 {
        for pin in [WRONG, WRONG, "9999"] {
            let expected = if pin == WRONG { 20 } else { 0 };
            let mut terminal = server.terminal("terminal-1").await;
            terminal.login("zz-99999", pin).await.expect_code(expected);
            terminal.close().await;
        }
    }
}

#[tokio::test]
async fn a_connection_is_closed_after_its_third_wrong_pin() {
    let site = Site::new();
    let server = site.start();
    let mut terminal = server.terminal("terminal-1").await;
    for account in ["zz-99999", "ac-12345", "xx-00000"] {
        terminal.login(account, WRONG).await.expect_code(20);
    }
    terminal.expect_end().await;
}

#[tokio::test]
async fn a_lock_ends_by_itself_after_its_time_and_says_when() {
    let site = Site::with(&[("pin.lock_ms", "1500")]);
    let server = site.start();
    for _ in 0..3 {
        login(&server, "zz-99999", WRONG).await;
    }
    let mut terminal = server.terminal("terminal-1").await;
    let locked = terminal.login("zz-99999", "9999").await.expect_code(22);
    let left = locked.answer.members.retry_after_ms.unwrap();
    assert!((1..=1_500).contains(&left), "{left}");
    until_async("the lock to end", async || {
        let code = terminal.login("zz-99999", "9999").await.code();
        assert!([0, 22].contains(&code), "{code}");
        (code == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_full_table_of_tries_refuses_known_and_unknown_numbers_alike() {
    let site = Site::with(&[("limits.try_rows", "5")]);
    let server = site.start();
    for row in 0..5 {
        assert_eq!(login(&server, &format!("xx-0000{row}"), WRONG).await, 20);
    }
    let mut said = Vec::new();
    for (account, pin) in [
        ("zz-99999", "9999"),
        ("ac-12345", WRONG),
        ("yy-00000", WRONG),
    ] {
        let mut terminal = server.terminal("terminal-1").await;
        let refused = terminal.login(account, pin).await.expect_code(40);
        assert!(refused.answer.members.retry_after_ms.is_some());
        said.push(refused.payload);
    }
    assert!(said.windows(2).all(|pair| pair[0] == pair[1]));
    // Numbers that have a row go on as before.
    assert_eq!(login(&server, "xx-00000", WRONG).await, 20);
}
