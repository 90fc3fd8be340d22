//! What the server costs at its worst, measured from outside: `cargo bench --bench bounds`.
//!
//! Each part starts a real server in a folder of its own and prints what was measured beside what
//! is allowed; the exit code is 1 where a bound does not hold. All parts take under three minutes;
//! `-- --long` measures each at greater length.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a measurement that cannot go on stops, and it prints what it found"
)]

mod idle;
mod logins;
#[path = "../shared/process.rs"]
mod process;
mod silent;
#[allow(
    dead_code,
    unused_imports,
    reason = "what the tests need and the measurements do not"
)]
#[path = "../../tests/it/support/mod.rs"]
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::in_time;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Parallel log-ins: memory, and what other customers feel of it.
    Logins,
    /// Idle connections: memory and processor.
    Idle,
    /// Clients that never read: when they are dropped, and memory until then.
    Silent,
}

/// Measures what is bounded.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this part; may be given again.
    #[arg(long, value_enum)]
    part: Vec<Part>,
    /// Log-ins at once.
    #[arg(long, default_value_t = 500)]
    logins: usize,
    /// `[pin] max_concurrent`; the cores, as by default.
    #[arg(long)]
    workers: Option<usize>,
    /// Idle connections.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Clients that never read.
    #[arg(long, default_value_t = 200)]
    silent: usize,
    /// Measures three times as long.
    #[arg(long)]
    long: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What was measured, beside what is allowed.
struct Table {
    failed: bool,
}

impl Table {
    fn fact(&self, what: &str, measured: &str) {
        println!("{what:<62} {measured:>14}");
    }

    fn bound(&mut self, what: &str, measured: f64, allowed: f64, unit: &str) {
        let holds = measured <= allowed;
        self.failed |= !holds;
        let measured = format!("{measured:.2} {unit}");
        let verdict = if holds { "holds" } else { "FAILS" };
        println!("{what:<62} {measured:>14}  at most {allowed:.2} {unit}: {verdict}");
    }
}

/// A connection from one of several addresses, with a receive buffer of so many bytes.
async fn connect(
    number: usize,
    to: SocketAddr,
    config: Arc<ClientConfig>,
    receive_bytes: Option<u32>,
) -> TlsStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    let host = u8::try_from(number % 8 + 1).unwrap();
    socket.set_reuseaddr(true).unwrap();
    if let Some(bytes) = receive_bytes {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0));
    socket.bind(from).unwrap();
    let tcp = in_time("TCP", socket.connect(to)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let shaking = TlsConnector::from(config).connect(name, tcp);
    in_time("the handshake", shaking).await.unwrap()
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen = |part| arguments.part.is_empty() || arguments.part.contains(&part);
    let times = if arguments.long { 3 } else { 1 };
    let mut table = Table { failed: false };
    if chosen(Part::Logins) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = arguments.workers.unwrap_or(cores);
        logins::measure(&mut table, arguments.logins, workers, times).await;
    }
    if chosen(Part::Idle) {
        idle::measure(&mut table, arguments.connections, times).await;
    }
    if chosen(Part::Silent) {
        silent::measure(&mut table, arguments.silent).await;
    }
    ExitCode::from(u8::from(table.failed))
}
