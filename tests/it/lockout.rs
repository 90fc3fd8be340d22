//! Wrong PINs: three are looked at, whoever tries, however fast, and whatever dies meanwhile.

use tokio::task::JoinSet;

use crate::support::{Server, Site, Terminal, until_async};

const WRONG: &str = "7391";

/// One try over a connection of its own.
async fn login(server: &Server, account: &str, pin: &str) -> u16 {
    let mut terminal = server.terminal("terminal-1").await;
    terminal.login(account, pin).await.code()
}

/// Codes of wrong tries, over so many connections, all at once.
async fn tries_at_once(server: &Server, account: &'static str, count: usize) -> Vec<u16> {
    let mut tries = JoinSet::new();
    for _ in 0..count {
        let (address, card) = (server.address, server.card("terminal-2"));
        tries.spawn(async move {
            let mut terminal = Terminal::connect(address, card).await;
            terminal.login(account, WRONG).await.code()
        });
    }
    let mut codes = tries.join_all().await;
    codes.sort_unstable();
    codes
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
