//! What can run out: file descriptors, tables of those who guess, readers of the log.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::terminal::{framed, request};
use crate::support::{Monitor, Server, Site, in_time, until_async};

/// Lets the running server open so many more files than it has open now.
fn leave(server: &Server, more: u64) {
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let allowed = u64::try_from(open.count()).unwrap() + more;
    let limit = Rlimit {
        current: Some(allowed),
        maximum: Some(allowed),
    };
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

#[tokio::test]
async fn a_server_without_a_free_descriptor_serves_on_never_spins_and_heals() {
    let monitor = Monitor::free();
    let site = Site::with(&[
        ("metrics.listen", &monitor.setting()),
        ("server.handshake_timeout_ms", "600000"),
    ]);
    let server = site.start();
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    let before = customer.deposit(1).await.balance();
    leave(&server, 10);
    let began = Instant::now();
    let mut idle = Vec::new();
    for _ in 0..40 {
        // Those beyond the room wait in the kernel.
        idle.push(
            in_time("TCP", TcpStream::connect(server.address))
                .await
                .unwrap(),
        );
    }
    server.wait_for_log("cannot accept");
    for more in 1..=200 {
        assert_eq!(
            customer.deposit(1).await.expect_code(0).balance(),
            before + more
        );
    }
    // Long enough for a loop that spins to be told from one that does not.
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(idle);
    // Places come back as the peers are seen to have gone.
    until_async("a free place", async || {
        server.card("terminal-2").connect(server.address).await.ok()
    })
    .await;
    server.customer("terminal-3", "ac-12345", "1324").await;
    let (_, metrics) = monitor.get("/metrics").await;
    let refused = "bank_refused_connections_total{reason=\"no file for it\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(refused));
    let refusals: u128 = line.unwrap().parse().unwrap();
    let took_ms = began.elapsed().as_millis();
    assert!(refusals <= took_ms / 50 + 2, "{refusals} in {took_ms} ms");
    let said = u128::try_from(server.log().matches("cannot accept").count()).unwrap();
    assert!(said <= took_ms / 10_000 + 1, "{said} lines in {took_ms} ms");
}

/// A number that nobody has.
fn invented(number: usize) -> String {
    format!("in-{number:05}")
}

#[tokio::test]
async fn invented_numbers_beyond_the_table_of_tries_get_40_and_cost_no_memory() {
    let site = Site::with(&[("limits.try_rows", "60")]);
    let server = site.start();
    for first in (0..60).step_by(3) {
        let mut terminal = server.terminal("terminal-1").await;
        for number in first..first + 3 {
            let refused = terminal.login(&invented(number), "7391").await;
            refused.expect_code(20);
        }
        terminal.expect_end().await;
    }
    let before_kib = server.memory_kib();
    for round in 0..20 {
        let mut terminal = server.terminal("terminal-1").await;
        let mut asked = Vec::new();
        for id in 0..900 {
            let account = invented(1_000 + round * 900 + id);
            let members = json!({ "account": account, "pin": "7391" });
            let login = request(u64::try_from(id).unwrap(), "login", members);
            asked.extend(framed(login.to_string().as_bytes()));
        }
        terminal.send_bytes(&asked).await;
        for _ in 0..900 {
            let refused = terminal.receive().await.expect_code(40);
            assert!(refused.answer.members.retry_after_ms.is_some());
        }
        terminal.close().await;
    }
    let grown_kib = server.memory_kib().saturating_sub(before_kib);
    assert!(grown_kib < 16 * 1_024, "{grown_kib} KiB");
    // A number that has its row is counted on, and locked in its time.
    let mut terminal = server.terminal("terminal-2").await;
    for code in [20, 20, 22] {
        let refused = terminal.login(&invented(7), "7391").await;
        refused.expect_code(code);
    }
}

/// A pipe that nobody reads, as the server's stderr; the reading end.
fn blocked() -> (std::process::Stdio, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    (writer.into(), reader)
}

#[tokio::test]
async fn nobody_waits_for_a_log_that_is_not_read_or_cannot_be_written() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let (pipe, _unread) = blocked();
    for stderr in [pipe, full.into()] {
        let site = Site::new();
        let server = Server::start_logging_to(site.program(), &site.path("certs"), stderr);
        let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
        // Each is a line: far more than a pipe holds.
        for _ in 0..1_000 {
            customer.deposit(1).await.expect_code(0);
        }
        customer.close().await;
        server.stop();
        site.verify();
    }
}
