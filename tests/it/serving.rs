//! Many customers at once, and nobody waits for another's network.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::terminal::{framed, request};
use crate::support::{Server, Site, Terminal, key};

/// How soon a customer is answered, whatever others do.
const PROMPTLY: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_and_fifty_terminals_at_once_are_each_answered_with_their_own_money() {
    const CUSTOMERS: i64 = 150;
    let site = Site::bare(&[]);
    let lines: String = (0..CUSTOMERS)
        .map(|n| format!("aa-{n:05}, 7391, {n}.00\n"))
        .collect();
    site.import(&lines).expect(0);
    let server = site.start();
    let mut customers = JoinSet::new();
    for n in 0..CUSTOMERS {
        let (address, card) = (server.address, server.card("terminal-1"));
        customers.spawn(async move {
            let mut terminal = Terminal::connect(address, card).await;
            let seen = terminal.login(&format!("AA-{n:05}"), "7391").await;
            assert_eq!(seen.expect_code(0).balance(), n * 100);
            for step in 1..=3 {
                let seen = terminal.deposit(n + 1).await.expect_code(0);
                assert_eq!(seen.balance(), n * 100 + step * (n + 1));
            }
            terminal
        });
    }
    // All are kept open until the last is done: they are served at once, not one by one.
    let open = customers.join_all().await;
    assert_eq!(open.len(), usize::try_from(CUSTOMERS).unwrap());
    drop(open);
    server.stop();
    let audit = site.verify();
    let opened = (0..CUSTOMERS).map(|n| n * 100 + 3 * (n + 1)).sum::<i64>();
    assert_eq!(audit["customers_total"], opened);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_sent_all_at_once_are_answered_in_their_order_and_each_once() {
    const ORDERS: u64 = 300;
    let site = Site::new();
    let server = site.start();
    let mut terminal = server.customer("terminal-1", "zz-99999", "9999").await;
    let mut bytes = Vec::new();
    for id in 1..=ORDERS {
        let asked = match id % 10 {
            0 => request(id, "balance", json!({})),
            1 => request(id, "withdraw", json!({ "amount": 1_000_000, "key": key() })),
            2 => request(
                id,
                "transfer",
                json!({ "to": "ac-12345", "amount": 2, "key": key() }),
            ),
            _ => request(id, "deposit", json!({ "amount": 3, "key": key() })),
        };
        bytes.extend(framed(asked.to_string().as_bytes()));
    }
    for (id, op) in [(ORDERS + 1, "logout"), (ORDERS + 2, "balance")] {
        bytes.extend(framed(request(id, op, json!({})).to_string().as_bytes()));
    }
    terminal.send_bytes(&bytes).await;
    let (mut balance, mut last_entry) = (65_535, 0);
    for id in 1..=ORDERS {
        let reply = terminal.receive().await;
        assert_eq!(reply.answer.id, Some(id));
        let moved = match id % 10 {
            0 => 0,
            1 => {
                reply.expect_code(31);
                continue;
            }
            2 => -2,
            _ => 3,
        };
        balance += moved;
        let reply = reply.expect_code(0);
        assert_eq!(reply.balance(), balance);
        if moved != 0 {
            let entry = reply.answer.members.entry.unwrap();
            assert!(entry > last_entry);
            last_entry = entry;
        }
    }
    terminal.receive().await.expect_code(0);
    terminal.receive().await.expect_code(23);
    server.stop();
    site.verify();
}

/// A customer is served promptly, over and over, and so is one that comes anew.
async fn expect_prompt_service(server: &Server) {
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let began = Instant::now();
        customer.deposit(1).await.expect_code(0);
        slowest = slowest.max(began.elapsed());
    }
    for _ in 0..10 {
        let began = Instant::now();
        server
            .customer("terminal-2", "ac-12345", "1324")
            .await
            .close()
            .await;
        slowest = slowest.max(began.elapsed());
    }
    customer.close().await;
    assert!(slowest < PROMPTLY, "a customer waited {slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_stuck_in_half_a_handshake_holds_nobody_up() {
    let site = Site::new();
    let server = site.start();
    let mut stuck = Vec::new();
    for silent in 0..100 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if silent % 2 == 0 {
            // The first bytes of a ClientHello whose rest never comes.
            stream
                .write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3])
                .await
                .unwrap();
        }
        stuck.push(stream);
    }
    expect_prompt_service(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_stuck_in_half_a_frame_holds_nobody_up() {
    let site = Site::new();
    let server = site.start();
    let mut stuck = Vec::new();
    for length in 1..40 {
        let mut terminal = server.terminal("terminal-3").await;
        let frame = framed(br#"{"id":1,"op":"balance","nothing":"of use"}"#);
        terminal.send_bytes(&frame[..length]).await;
        stuck.push(terminal);
    }
    expect_prompt_service(&server).await;
}

/// Asks for long answers and reads none, until the bank takes no more or throws the client out.
async fn flood(mut terminal: Terminal) {
    let asked = request(2, "history", json!({ "limit": 100 })).to_string();
    let many = framed(asked.as_bytes()).repeat(100);
    while terminal.try_send_bytes(&many).await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_ask_for_much_and_never_read_hold_nobody_up() {
    let site = Site::new();
    let server = site.start();
    let mut floods = JoinSet::new();
    for (account, pin) in [("wf-14351", "9834"), ("tn-13731", "2435")] {
        let terminal = server.customer("terminal-3", account, pin).await;
        floods.spawn(flood(terminal));
    }
    expect_prompt_service(&server).await;
    floods.shutdown().await;
}

#[tokio::test]
async fn two_accounts_are_served_at_once_and_each_sees_only_its_own_money() {
    let site = Site::new();
    let server = site.start();
    let mut first = server.customer("terminal-1", "zz-99999", "9999").await;
    let mut second = server.customer("terminal-2", "ac-12345", "1324").await;
    for step in 1..=20 {
        let (one, two) = tokio::join!(first.deposit(1), second.withdraw(2));
        assert_eq!(one.expect_code(0).balance(), 65_535 + step);
        assert_eq!(two.expect_code(0).balance(), 102_432 - 2 * step);
    }
    let (one, two) = tokio::join!(
        first.transfer("ac-12345", 1_000),
        second.transfer("zz-99999", 1)
    );
    one.expect_code(0);
    two.expect_code(0);
    assert_eq!(first.balance().await.balance(), 65_555 - 999);
    assert_eq!(second.balance().await.balance(), 102_392 + 999);
}

#[tokio::test]
async fn a_session_takes_any_number_of_transactions() {
    let site = Site::new();
    let server = site.start();
    let mut terminal = server.customer("terminal-1", "zz-99999", "9999").await;
    let mut balance = 65_535;
    for step in 1..=400_i64 {
        let (op, change) = if step % 3 == 0 {
            ("withdraw", -step)
        } else {
            ("deposit", step)
        };
        let seen = terminal.keyed(op, step, &key()).await.expect_code(0);
        balance += change;
        assert_eq!(seen.balances(), (balance, balance));
    }
    let newest = terminal.history(100).await.expect_code(0);
    let lines = newest.answer.members.entries.unwrap();
    assert_eq!(lines.len(), 100);
    assert_eq!(lines[0].balance, balance);
    for pair in lines.windows(2) {
        assert_eq!(pair[0].balance - pair[0].amount, pair[1].balance);
        assert!(pair[0].entry > pair[1].entry);
    }
    terminal.logout().await.expect_code(0);
    terminal.close().await;
    server.stop();
    site.verify();
}

#[tokio::test]
async fn an_overdraft_is_refused_and_moves_nothing() {
    let site = Site::new();
    let server = site.start();
    let mut terminal = server.customer("terminal-1", "zz-99999", "9999").await;
    terminal.withdraw(65_536).await.expect_code(31);
    terminal.transfer("ac-12345", 65_536).await.expect_code(31);
    terminal
        .keyed("authorize", 65_536, &key())
        .await
        .expect_code(31);
    assert_eq!(terminal.balance().await.balances(), (65_535, 65_535));
    let held = terminal.keyed("authorize", 65_000, &key()).await;
    assert_eq!(held.expect_code(0).balances(), (65_535, 535));
    terminal.withdraw(536).await.expect_code(31);
    let last = terminal.withdraw(535).await.expect_code(0);
    assert_eq!(last.balances(), (65_000, 0));
    terminal.withdraw(1).await.expect_code(31);
}

#[tokio::test]
async fn amounts_are_exact_to_the_cent_up_to_the_largest() {
    const BALANCE_MAX: i64 = 1_000_000_000_000_000;
    const AMOUNT_MAX: i64 = 1_000_000_000_000;
    let site = Site::bare(&[]);
    site.import("aa-00001, 7391, 0\nzz-99999, 9999, 9999000000000.00\n")
        .expect(0);
    let server = site.start();
    let mut small = server.customer("terminal-1", "aa-00001", "7391").await;
    let mut balance = 0;
    for amount in [1, 10, 29, 57, 1_005, 115, 999_999_999_999, 0x20_0001] {
        balance += amount;
        let seen = small.deposit(amount).await.expect_code(0);
        assert_eq!(seen.balance(), balance, "after {amount}");
    }
    for amount in [0, -1, AMOUNT_MAX + 1] {
        small.deposit(amount).await.expect_code(30);
    }
    assert_eq!(small.balance().await.balance(), balance);
    let mut large = server.customer("terminal-2", "zz-99999", "9999").await;
    let full = large.deposit(BALANCE_MAX - 999_900_000_000_000).await;
    assert!([0, 30].contains(&full.code()), "{}", full.text());
    large.deposit(AMOUNT_MAX).await.expect_code(30);
}
