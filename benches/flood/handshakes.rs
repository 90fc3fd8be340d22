//! The flood, and honest terminals that come anew in the midst of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::bank::Bank;
use crate::customers::{Report, connect_from, frame, receive, tcp_from};

/// The flood's loopback address ends so.
const FLOOD_HOST: u32 = 1;
/// Newcomers' addresses end so.
const NEWCOMER_HOST: u32 = 100;
/// Handshakes of the flood that may be open at once.
const OPEN_MAX: usize = 4_000;
/// Between two newcomers.
const NEWCOMER_INTERVAL: Duration = Duration::from_millis(100);
/// No handshake is held for longer: the bank ends it before.
const HELD_MAX: Duration = Duration::from_secs(30);

/// What became of the flood's handshakes.
#[derive(Debug, Default)]
struct Counts {
    opened: AtomicUsize,
    answered: AtomicUsize,
    refused: AtomicUsize,
    failed: AtomicUsize,
}

/// The same, when all is over.
#[derive(Debug)]
pub(crate) struct Flooded {
    /// TCP connections that were opened.
    pub(crate) opened: usize,
    /// Of these the bank answered the first message: a signature and a key exchange each.
    pub(crate) answered: usize,
    /// These the bank closed before TLS, or they were left before an answer.
    pub(crate) refused: usize,
    /// These could not even be opened.
    pub(crate) failed: usize,
}

/// A running flood.
pub(crate) struct Flood {
    over: CancellationToken,
    task: JoinHandle<()>,
    counts: Arc<Counts>,
}

impl Flood {
    /// Opens and abandons so many handshakes a minute, evenly, from one address: in turn leaving
    /// once the bank has answered, and staying without a word until it closes.
    pub(crate) fn start(bank: &Bank, per_minute: u32) -> Self {
        let (over, counts) = (CancellationToken::new(), Arc::new(Counts::default()));
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(Arc::clone(&bank.client), name).unwrap();
        let mut hello = Vec::new();
        tls.write_tls(&mut hello).unwrap();
        let task = tokio::spawn(flood(
            bank.address,
            Arc::new(hello),
            Duration::from_secs(60) / per_minute,
            over.clone(),
            Arc::clone(&counts),
        ));
        Self { over, task, counts }
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> Flooded {
        self.over.cancel();
        self.task.await.unwrap();
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        Flooded {
            opened: count(&self.counts.opened),
            answered: count(&self.counts.answered),
            refused: count(&self.counts.refused),
            failed: count(&self.counts.failed),
        }
    }
}

async fn flood(
    address: SocketAddr,
    hello: Arc<Vec<u8>>,
    between: Duration,
    over: CancellationToken,
    counts: Arc<Counts>,
) {
    let places = Arc::new(Semaphore::new(OPEN_MAX));
    let mut ticks = interval(between);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut tasks = JoinSet::new();
    for number in 0_usize.. {
        tokio::select! {
            biased;
            () = over.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            counts.failed.fetch_add(1, Ordering::SeqCst);
            continue;
        };
        let (hello, counts) = (Arc::clone(&hello), Arc::clone(&counts));
        tasks.spawn(async move {
            abandon(address, &hello, number.is_multiple_of(2), &counts).await;
            drop(place);
        });
        while tasks.try_join_next().is_some() {}
    }
    tasks.shutdown().await;
}

async fn abandon(address: SocketAddr, hello: &[u8], leaves: bool, counts: &Counts) {
    let Ok(mut stream) = tcp_from(FLOOD_HOST, address).await else {
        counts.failed.fetch_add(1, Ordering::SeqCst);
        return;
    };
    counts.opened.fetch_add(1, Ordering::SeqCst);
    let mut answer = [0; 1_024];
    let heard = async {
        stream.write_all(hello).await?;
        stream.read(&mut answer).await
    };
    let was_answered = matches!(timeout(HELD_MAX, heard).await, Ok(Ok(1..)));
    let counter = if was_answered {
        &counts.answered
    } else {
        &counts.refused
    };
    counter.fetch_add(1, Ordering::SeqCst);
    if was_answered && !leaves {
        let mut rest = Vec::new();
        let _ = timeout(HELD_MAX, stream.read_to_end(&mut rest)).await;
    }
}

/// Terminals that connect, shake hands and ask once, one after the other is due.
pub(crate) struct Newcomers {
    over: CancellationToken,
    task: JoinHandle<Report>,
}

impl Newcomers {
    /// Each a tenth of a second after the one before.
    pub(crate) fn start(bank: &Bank) -> Self {
        let over = CancellationToken::new();
        let (address, client, ended) = (bank.address, Arc::clone(&bank.client), over.clone());
        let task = tokio::spawn(async move {
            let mut ticks = interval(NEWCOMER_INTERVAL);
            let mut tasks = JoinSet::new();
            loop {
                let due: Instant = tokio::select! {
                    biased;
                    () = ended.cancelled() => break,
                    due = ticks.tick() => due,
                };
                let client = Arc::clone(&client);
                tasks.spawn(async move {
                    let answered = timeout(HELD_MAX, newcomer(address, client)).await;
                    matches!(answered, Ok(Ok(()))).then(|| due.elapsed())
                });
            }
            let came = tasks.join_all().await;
            Report::new(came.len(), came.into_iter().flatten().collect())
        });
        Self { over, task }
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> Report {
        self.over.cancel();
        self.task.await.unwrap()
    }
}

async fn newcomer(address: SocketAddr, client: Arc<ClientConfig>) -> io::Result<()> {
    let mut stream = connect_from(NEWCOMER_HOST, address, &client).await?;
    let ping = frame(&json!({ "id": 1, "op": "ping" }));
    stream.write_all(&ping).await?;
    receive(&mut stream).await
}
