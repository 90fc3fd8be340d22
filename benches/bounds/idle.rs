//! Idle connections: what each costs while its terminal waits for the next customer.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::process::Process;
use crate::support::Site;
use crate::{Table, connect};

/// KiB of the server's memory, for each.
const MEMORY_KIB_MAX: f64 = 20.0;
/// Of one core, in percent.
const PROCESSOR_MAX: f64 = 1.0;
/// Handshakes under way at once.
const AT_ONCE: usize = 64;

pub(crate) async fn measure(table: &mut Table, connections: usize, times: u32) {
    let most = (connections + 1_000).to_string();
    let site = Site::with(&[
        ("server.max_connections", &most),
        ("server.max_connections_per_ip", &most),
        ("server.terminal_idle_timeout_ms", "3600000"),
        ("server.handshake_timeout_ms", "30000"),
        ("log.level", "\"error\""),
    ]);
    let server = site.start();
    let process = Process(server.pid());
    let configs: Vec<_> = ["terminal-1", "terminal-2", "terminal-3"]
        .iter()
        .map(|name| Arc::new(server.card(name).client()))
        .collect();
    // What the first handshake costs once is not counted against each.
    drop(connect(0, server.address, Arc::clone(&configs[0]), None).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = process.memory_kib();
    let (mut under_way, mut idle) = (JoinSet::new(), Vec::with_capacity(connections));
    for number in 0..connections {
        if under_way.len() >= AT_ONCE {
            idle.push(under_way.join_next().await.unwrap().unwrap());
        }
        let config = Arc::clone(&configs[number % configs.len()]);
        under_way.spawn(connect(number, server.address, config, None));
    }
    idle.extend(under_way.join_all().await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = process.memory_kib();
    let seconds = 10 * times;
    let began = process.ticks();
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    let used = process.ticks() - began;
    assert_eq!(idle.len(), connections);
    println!("\nidle: {connections} TLS connections with client certificates, no customer at any");
    table.fact("memory before, KiB", &before.to_string());
    table.fact("memory with all of them, KiB", &after.to_string());
    let each = (after - before) as f64 / connections as f64;
    table.bound("memory of the server for each", each, MEMORY_KIB_MAX, "KiB");
    let percent = used as f64 / f64::from(seconds);
    table.bound(
        "processor of the server, of one core",
        percent,
        PROCESSOR_MAX,
        "%",
    );
}
