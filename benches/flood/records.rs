//! Records of TLS that carry no request, and customers who log in meanwhile.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::json;
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};

use crate::bank::{Bank, PIN, account};
use crate::customers::{Report, connect_from, frame, receive};

/// The attack's loopback address ends so.
const ATTACK_HOST: u32 = 1;
/// The addresses of those who log in end so.
const LOG_IN_HOST: u32 = 101;
/// Updates of keys that TLS takes in a row.
const UPDATES: usize = 32;
/// So often in all a connection sends them that is read no faster than the default rates allow: more
/// than the kernel and the bank take in the ten seconds until the bank closes it.
pub(crate) const BATCHES: usize = 600;
const SEND_BUFFER_BYTES: usize = 4_096;
/// Before a connection is opened again that could not be.
const PAUSE: Duration = Duration::from_millis(20);

/// Connections of one terminal that send records without end.
pub(crate) struct Attack {
    tasks: JoinSet<()>,
    octets: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Attack {
    /// So many connections, each of which is opened again when the bank has closed it. What the first
    /// ones send, so many times all updates that TLS takes, is ready when this returns: making it takes
    /// as long as taking it.
    pub(crate) async fn start(bank: &Bank, connections: u32, batches: usize) -> Self {
        let mut attack = Self {
            tasks: JoinSet::new(),
            octets: Arc::default(),
            connections: Arc::default(),
        };
        let ready = Arc::new(Barrier::new(usize::try_from(connections).unwrap() + 1));
        for _ in 0..connections {
            let (address, client) = (bank.address, Arc::clone(&bank.attacker));
            let (octets, opened) = (Arc::clone(&attack.octets), Arc::clone(&attack.connections));
            let ready = Arc::clone(&ready);
            attack.tasks.spawn(async move {
                let mut prepared = prepare(address, &client, batches).await;
                ready.wait().await;
                loop {
                    opened.fetch_add(1, Ordering::Relaxed);
                    send(prepared, &octets).await;
                    sleep(PAUSE).await;
                    prepared = prepare(address, &client, BATCHES).await;
                }
            });
        }
        ready.wait().await;
        attack
    }

    /// Ends it: what was sent.
    pub(crate) async fn stop(mut self) -> String {
        self.tasks.shutdown().await;
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let (octets, connections) = (count(&self.octets), count(&self.connections));
        format!("{octets} octets taken over {connections} connections")
    }
}

/// A connection, and what it will send: updates of keys, and now and then an octet of a frame that
/// is never whole, because TLS takes no more of them in a row.
async fn prepare(
    address: SocketAddr,
    client: &Arc<ClientConfig>,
    batches: usize,
) -> io::Result<(TcpStream, Vec<u8>)> {
    let stream = connect_from(ATTACK_HOST, address, client).await?;
    let (tcp, mut tls) = stream.into_inner();
    // What is not taken is not made the kernel's.
    SockRef::from(&tcp).set_send_buffer_size(SEND_BUFFER_BYTES)?;
    let (mut records, frame) = (Vec::new(), 4_096_u32.to_be_bytes());
    for octet in frame.into_iter().chain(std::iter::repeat_n(b' ', batches)) {
        for _ in 0..UPDATES {
            tls.refresh_traffic_keys().map_err(io::Error::other)?;
        }
        tls.writer().write_all(&[octet])?;
        while tls.wants_write() {
            tls.write_tls(&mut records)?;
        }
        yield_now().await;
    }
    Ok((tcp, records))
}

async fn send(prepared: io::Result<(TcpStream, Vec<u8>)>, octets: &AtomicUsize) {
    let Ok((mut tcp, records)) = prepared else {
        return;
    };
    for some in records.chunks(SEND_BUFFER_BYTES) {
        if tcp.write_all(some).await.is_err() {
            return;
        }
        octets.fetch_add(some.len(), Ordering::Relaxed);
    }
}

/// Customers who log in and out, each as soon as they were answered: their log-ins.
pub(crate) async fn log_ins(bank: &Bank, accounts: std::ops::Range<u32>, span: Duration) -> Report {
    let mut tasks = JoinSet::new();
    for index in accounts {
        let (address, client) = (bank.address, Arc::clone(&bank.log_ins));
        tasks.spawn(async move {
            let mut stream = connect_from(LOG_IN_HOST, address, &client).await.unwrap();
            let log_in = json!({ "id": 1, "op": "login", "account": account(index), "pin": PIN });
            let log_out = json!({ "id": 2, "op": "logout" });
            let (until, mut took) = (Instant::now() + span, Vec::new());
            while Instant::now() < until {
                let began = Instant::now();
                stream.write_all(&frame(&log_in)).await.unwrap();
                receive(&mut stream).await.unwrap();
                took.push(began.elapsed());
                stream.write_all(&frame(&log_out)).await.unwrap();
                receive(&mut stream).await.unwrap();
            }
            took
        });
    }
    let took: Vec<Duration> = tasks.join_all().await.concat();
    Report::new(took.len(), took)
}
