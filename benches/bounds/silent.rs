//! Clients that ask and never read what they are told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::process::Process;
use crate::support::terminal::{framed, request};
use crate::support::{Server, Site, Terminal, key};
use crate::{Table, connect};

const WRITE_TIMEOUT_MS: u64 = 2_000;
/// Over the deadline, for all of them together: the machine is busy with the others.
const PATIENCE_MS: u64 = 3_000;
/// KiB of the server's memory, for each while it does not read.
const MEMORY_KIB_MAX: f64 = 256.0;
const RECEIVE_BYTES: u32 = 16_384;
const ENTRIES: usize = 100;

fn account(number: usize) -> String {
    format!("si-{number:05}")
}

/// A customer whose system takes little that the program has not read.
async fn customer(server: &Server, number: usize) -> Terminal {
    let card = server.card(&format!("terminal-{}", number % 3 + 1));
    let config = Arc::new(card.client());
    let stream = connect(number, server.address, config, Some(RECEIVE_BYTES)).await;
    let mut terminal = Terminal::over(stream);
    terminal
        .login(&account(number), "7391")
        .await
        .expect_code(0);
    terminal
}

/// Entries for the history, asked for all at once.
async fn make_history(server: &Server, number: usize) {
    let mut terminal = customer(server, number).await;
    let mut asked = Vec::new();
    for id in 0..ENTRIES {
        let to = account(number ^ 1);
        let members = json!({ "to": to, "amount": 1, "key": key() });
        let transfer = request(u64::try_from(id).unwrap(), "transfer", members);
        asked.extend(framed(transfer.to_string().as_bytes()));
    }
    terminal.send_bytes(&asked).await;
    for _ in 0..ENTRIES {
        terminal.receive().await.expect_code(0);
    }
    terminal.close().await;
}

/// Asks for its history again and again until it is dropped; when that was.
async fn never_read(mut terminal: Terminal) -> Instant {
    let asked = request(9, "history", json!({ "limit": 100 })).to_string();
    let many = framed(asked.as_bytes()).repeat(100);
    while terminal.try_send_bytes(&many).await.is_ok() {}
    Instant::now()
}

pub(crate) async fn measure(table: &mut Table, clients: usize) {
    let clients = clients.max(2) / 2 * 2;
    let site = Site::with(&[
        ("server.write_timeout_ms", &WRITE_TIMEOUT_MS.to_string()),
        ("log.level", "\"error\""),
    ]);
    let lines: String = (0..clients)
        .map(|n| format!("{}, 7391, 100.00\n", account(n)))
        .collect();
    site.import(&lines).expect(0);
    let server = site.start();
    for number in 0..clients {
        make_history(&server, number).await;
    }
    let mut customers = Vec::new();
    for number in 0..clients {
        customers.push(customer(&server, number).await);
    }
    let process = Process(server.pid());
    let before = process.memory_kib();
    process.forget_peak();
    let began = Instant::now();
    let mut silent = JoinSet::new();
    for customer in customers {
        silent.spawn(never_read(customer));
    }
    let dropped = silent.join_all().await;
    let last = dropped.into_iter().max().unwrap() - began;
    let peak = process.peak_kib();
    println!(
        "\nsilent: {clients} customers who ask for {ENTRIES} entries again and again, and never read"
    );
    let each = peak.saturating_sub(before) as f64 / clients as f64;
    table.bound(
        "memory of the server for each, at the peak",
        each,
        MEMORY_KIB_MAX,
        "KiB",
    );
    let allowed = WRITE_TIMEOUT_MS + PATIENCE_MS;
    table.bound(
        "until the last was dropped",
        last.as_millis() as f64,
        allowed as f64,
        "ms",
    );
    let began = Instant::now();
    for number in 0..clients {
        customer(&server, number).await.close().await;
    }
    let free = began.elapsed() < Duration::from_secs(30);
    table.bound(
        "accounts that were not free afterwards",
        f64::from(u8::from(!free)),
        0.0,
        "",
    );
}
