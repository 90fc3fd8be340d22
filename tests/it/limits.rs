//! Bounds and deadlines: whoever asks for too much, or gives too little, is sent away cheaply.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::terminal::{framed, request};
use crate::support::{Ending, Monitor, Site, Terminal, in_time, until_async};

#[tokio::test]
async fn an_address_over_its_connections_is_closed_before_tls_until_one_is_free() {
    let site = Site::with(&[
        ("server.max_connections_per_ip", "3"),
        // No deadline closes what is left open.
        ("server.handshake_timeout_ms", "600000"),
    ]);
    let server = site.start();
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut terminal = server.terminal("terminal-1").await;
        terminal.ping().await.expect_code(0);
        open.push(terminal);
    }
    let mut over = TcpStream::connect(server.address).await.unwrap();
    assert!(in_time("the close", over.read_u8()).await.is_err());
    assert!(
        server
            .card("terminal-2")
            .connect(server.address)
            .await
            .is_err()
    );
    open.pop().unwrap().close().await;
    until_async("a free place", async || {
        server.card("terminal-2").connect(server.address).await.ok()
    })
    .await;
    for terminal in &mut open {
        terminal.ping().await.expect_code(0);
    }
}

#[tokio::test]
async fn an_address_that_connects_too_fast_is_closed_before_tls() {
    let site = Site::with(&[
        ("limits.connections_per_second_per_ip", "1"),
        ("limits.connection_burst_per_ip", "5"),
    ]);
    let server = site.start();
    let mut refused = 0;
    for _ in 0..20 {
        refused += usize::from(
            server
                .card("terminal-1")
                .connect(server.address)
                .await
                .is_err(),
        );
    }
    assert!((10..=15).contains(&refused), "{refused} of 20");
    // Other addresses have a rate of their own.
    server.terminal_from(2).await.ping().await.expect_code(0);
}

#[tokio::test]
async fn a_full_server_says_41_and_closes() {
    let site = Site::with(&[("server.max_connections", "3")]);
    let server = site.start();
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut terminal = server.terminal("terminal-1").await;
        terminal.ping().await.expect_code(0);
        open.push(terminal);
    }
    let mut late = server.terminal_from(2).await;
    let told = late.receive().await.expect_code(41);
    assert_eq!(told.answer.id, None);
    assert_eq!(late.expect_end().await, Ending::Clean);
    open.pop().unwrap().close().await;
    until_async("a free place", async || {
        let mut terminal = server.terminal_from(3).await;
        terminal
            .try_ask("ping", json!({}))
            .await
            .ok()
            .filter(|seen| seen.code() == 0)
    })
    .await;
}

#[tokio::test]
async fn requests_over_the_rate_get_40_and_when_to_come_again() {
    let site = Site::with(&[
        ("limits.requests_per_second", "20"),
        ("limits.request_burst", "20"),
    ]);
    let server = site.start();
    let mut terminal = server.terminal("terminal-1").await;
    let refused = until_async("a refusal", async || {
        let seen = terminal.ping().await;
        assert!([0, 40].contains(&seen.code()));
        (seen.code() == 40).then_some(seen)
    })
    .await;
    let wait_ms = refused.answer.members.retry_after_ms.unwrap();
    assert!((1..=100).contains(&wait_ms), "{wait_ms}");
    until_async("service again", async || {
        (terminal.ping().await.code() == 0).then_some(())
    })
    .await;
    server.expect_service().await;
}

#[tokio::test]
async fn a_connection_that_will_not_slow_down_is_closed_after_a_thousand_refusals() {
    let site = Site::with(&[
        ("limits.requests_per_second", "1"),
        ("limits.request_burst", "1"),
    ]);
    let server = site.start();
    let mut terminal = server.terminal("terminal-1").await;
    let ping = framed(request(1, "ping", json!({})).to_string().as_bytes());
    terminal.send_bytes(&ping.repeat(1_200)).await;
    let mut refused = 0;
    while let Ok(seen) = terminal.try_receive().await {
        refused += usize::from(seen.code() == 40);
    }
    assert_eq!(refused, 1_000);
}

#[tokio::test]
async fn of_refusals_for_haste_in_a_row_only_the_first_is_logged() {
    let site = Site::with(&[
        ("limits.requests_per_second", "1"),
        ("limits.request_burst", "1"),
    ]);
    let server = site.start();
    let ping = framed(request(1, "ping", json!({})).to_string().as_bytes());
    let (mut refused, mut rows) = (0, 0);
    for _ in 0..2 {
        let mut terminal = server.terminal("terminal-1").await;
        terminal.send_bytes(&ping.repeat(100)).await;
        let mut before = 0;
        for _ in 0..100 {
            let code = terminal.receive().await.code();
            refused += usize::from(code == 40);
            rows += usize::from(code == 40 && before != 40);
            before = code;
        }
        terminal.close().await;
    }
    assert!(rows >= 2 && refused > 10 * rows, "{rows} {refused}");
    let log = server.stop().stderr;
    let answered = log.lines().filter(|line| line.contains("answered"));
    let logged = answered.filter(|line| line.contains("code=40")).count();
    assert_eq!(logged, rows, "{log}");
}

#[tokio::test]
async fn what_a_terminal_causes_for_nothing_fills_no_log() {
    let site = Site::new();
    let server = site.start();
    for _ in 0..20 {
        let mut flood = server.terminal("terminal-1").await;
        for _ in 0..20 {
            flood.balance().await.expect_code(23);
        }
        flood.close().await;
    }
    // Others have their own lines.
    let mut other = server.terminal("terminal-2").await;
    other.balance().await.expect_code(23);
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    customer.ask("logout", json!({})).await.expect_code(0);
    let log = server.stop().stderr;
    let of = |terminal: &str| {
        let lines = log.lines().filter(|line| line.contains(terminal));
        lines.collect::<Vec<_>>()
    };
    // 20 connections, their ends, and 400 refusals: 30 of these, each connection's end as its
    // beginning, a log-in and the session's end, and a log-out.
    let lines = of("terminal=terminal-1");
    assert!((30..=70).contains(&lines.len()), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.contains("op=\"login\"")),
        "{lines:#?}"
    );
    assert_eq!(of("terminal=terminal-2").len(), 3, "{log}");
    let counted = of("peer=terminal-1");
    assert_eq!(counted.len(), 1, "{log}");
    let left_out = counted[0].split("left_out=").nth(1).unwrap();
    let left_out: u32 = left_out.trim().parse().unwrap();
    assert!((380..=400).contains(&left_out), "{left_out}");
}

#[tokio::test]
async fn log_ins_over_a_terminals_rate_get_40_and_other_terminals_are_served() {
    let site = Site::with(&[("limits.logins_per_minute_per_terminal", "2")]);
    let server = site.start();
    for account in ["zz-99999", "ac-12345"] {
        let mut terminal = server.terminal("terminal-1").await;
        terminal.login(account, "7391").await.expect_code(20);
    }
    let mut terminal = server.terminal("terminal-1").await;
    let refused = terminal.login("zz-99999", "9999").await.expect_code(40);
    assert!(refused.answer.members.retry_after_ms.is_some());
    server.customer("terminal-2", "zz-99999", "9999").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_dropped_in_time_and_costs_little_memory() {
    let site = Site::with(&[("server.write_timeout_ms", "500")]);
    let server = site.start();
    let before_kib = server.memory_kib();
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    for _ in 0..100 {
        customer.deposit(1).await.expect_code(0);
    }
    let asked = request(9, "history", json!({ "limit": 100 })).to_string();
    let many = framed(asked.as_bytes()).repeat(200);
    in_time("the bank to drop the client", async {
        while customer.try_send_bytes(&many).await.is_ok() {}
    })
    .await;
    let grown_kib = server.memory_kib().saturating_sub(before_kib);
    assert!(grown_kib < 32 * 1_024, "{grown_kib} KiB");
    let mut next = server.terminal("terminal-2").await;
    until_async("the account to be free", async || {
        (next.login("zz-99999", "9999").await.code() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_frame_over_the_limit_or_empty_gets_11_and_the_connection_is_closed() {
    let site = Site::new();
    let server = site.start();
    for length in [0_u32, 4_097, 16_385, 65_537, u32::MAX] {
        let mut terminal = server.terminal("terminal-1").await;
        terminal.send_bytes(&length.to_be_bytes()).await;
        let told = terminal.receive().await.expect_code(11);
        assert_eq!(told.answer.id, None, "{length}");
        assert_eq!(terminal.expect_end().await, Ending::Clean);
    }
    let padded = |size: usize| format!("{:<size$}", r#"{"id":1,"op":"ping"}"#).into_bytes();
    let mut terminal = server.terminal("terminal-1").await;
    terminal.send(&padded(4_096)).await;
    terminal.receive().await.expect_code(0);
    terminal.login("zz-99999", "9999").await.expect_code(0);
    terminal.send(&padded(16_384)).await;
    terminal.receive().await.expect_code(0);
    terminal.send_bytes(&16_385_u32.to_be_bytes()).await;
    terminal.receive().await.expect_code(11);
    assert_eq!(terminal.expect_end().await, Ending::Clean);
}

#[tokio::test]
async fn a_frame_that_only_drips_in_is_closed_without_an_answer() {
    let site = Site::with(&[("server.frame_timeout_ms", "400")]);
    let server = site.start();
    let mut terminal = server.customer("terminal-1", "zz-99999", "9999").await;
    let frame = framed(
        request(1, "history", json!({ "limit": 100 }))
            .to_string()
            .as_bytes(),
    );
    let began = Instant::now();
    let mut bytes = frame.chunks(1).cycle();
    // A byte now and then, so that the connection is never silent.
    until_async("the end", async || {
        let sent = terminal.try_send_bytes(bytes.next().unwrap()).await;
        tokio::time::sleep(Duration::from_millis(15)).await;
        sent.err()
    })
    .await;
    terminal.expect_end().await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(350), "{took:?}");
    server.customer("terminal-2", "zz-99999", "9999").await;
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_closed() {
    let site = Site::with(&[("server.handshake_timeout_ms", "300")]);
    let server = site.start();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    for stream in [&mut silent, &mut half] {
        let mut said = Vec::new();
        let _ = in_time("the end", stream.read_to_end(&mut said)).await;
        assert!(said.is_empty(), "{said:?}");
    }
}

#[tokio::test]
async fn a_connection_without_a_customer_is_closed_in_time() {
    let mut site = Site::with(&[("server.terminal_idle_timeout_ms", "300")]);
    let server = site.start();
    let mut silent = server.terminal("terminal-1").await;
    assert_eq!(silent.expect_end().await, Ending::Clean);
    server.stop();
    site.set("tls.client_auth", "\"off\"");
    site.set("server.login_timeout_ms", "400");
    let server = site.start();
    let card = crate::support::Card::none(&site.path("certs"));
    let mut anonymous = Terminal::connect(server.address, card).await;
    // Pings keep a stranger's connection no longer.
    until_async("the end", async || {
        anonymous.try_ask("ping", json!({})).await.err()
    })
    .await;
}

#[tokio::test]
async fn three_malformed_messages_in_a_row_close_the_connection_and_a_good_one_between_does_not() {
    let site = Site::new();
    let server = site.start();
    let mut terminal = server.terminal("terminal-1").await;
    for _ in 0..4 {
        for payload in [&b"{"[..], br#"{"id":1,"op":"rob"}"#] {
            terminal.send(payload).await;
            assert!([10, 12].contains(&terminal.receive().await.code()));
        }
        terminal.ping().await.expect_code(0);
    }
    for _ in 0..3 {
        terminal.send(b"\xff").await;
        terminal.receive().await.expect_code(10);
    }
    assert_eq!(terminal.expect_end().await, Ending::Clean);
}

#[tokio::test]
async fn monitoring_shows_counters_and_health_and_no_customers() {
    let monitor = Monitor::free();
    let site = Site::with(&[("metrics.listen", &monitor.setting())]);
    let server = site.start();
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    customer.deposit(1).await.expect_code(0);
    for path in ["/health/live", "/health/ready"] {
        assert!(monitor.get(path).await.0.contains("200"), "{path}");
    }
    assert!(monitor.get("/").await.0.contains("404"));
    let (status, metrics) = monitor.get("/metrics").await;
    assert!(status.contains("200"), "{status}");
    for line in [
        "bank_requests_total{op=\"deposit\",code=\"0\"} 1",
        "bank_connections 1",
        "bank_sessions 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let calls = monitor.value("bank_committed_calls_total ").await;
    let commits = monitor.value("bank_commits_total ").await;
    for _ in 0..20 {
        customer.deposit(1).await.expect_code(0);
    }
    assert!(monitor.value("bank_committed_calls_total ").await >= calls + 20);
    assert!(monitor.value("bank_commits_total ").await >= commits + 20);
    let journal = std::fs::metadata(site.path("data/bank.db-wal")).unwrap();
    let shown = monitor.value("bank_store_wal_bytes ").await;
    assert_eq!(u64::try_from(shown).unwrap(), journal.len());
    assert!(shown > 0);
    assert!(!metrics.contains("zz-99999") && !metrics.contains("terminal-1"));
}
