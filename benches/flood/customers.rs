//! Customers who send at a fixed rate, whatever becomes of the answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bank::{Bank, PIN, account};

/// Customers sit at the loopback addresses that end from here on.
const FIRST_HOST: u32 = 2;
/// At so many addresses.
const HOSTS: u32 = 16;
/// Requests of one customer that may wait for their answers.
const OUTSTANDING_MAX: usize = 100_000;
/// How long answers are waited for after the last request.
const PATIENCE: Duration = Duration::from_secs(20);

type Stream = TlsStream<TcpStream>;

/// How long answers took, from when each request was due.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Requests that were due.
    pub(crate) asked: usize,
    took: Vec<Duration>,
}

impl Report {
    /// Of so many requests, answered within these times.
    pub(crate) fn new(asked: usize, mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        Self { asked, took }
    }

    /// Requests that were answered.
    pub(crate) fn answered(&self) -> usize {
        self.took.len()
    }

    /// How many of a hundred requests were answered within `limit`; what was never answered is late.
    pub(crate) fn percent_within(&self, limit: Duration) -> f64 {
        let in_time = self.took.partition_point(|took| *took <= limit);
        in_time as f64 * 100.0 / self.asked.max(1) as f64
    }

    /// The time within which this share of the answers came.
    pub(crate) fn at(&self, share: f64) -> Duration {
        let last = self.took.len().saturating_sub(1);
        let place = (self.took.len() as f64 * share).ceil() as usize;
        let at = place.saturating_sub(1).min(last);
        self.took.get(at).copied().unwrap_or_default()
    }
}

/// TCP from the loopback address that ends so.
pub(crate) async fn tcp_from(host: u32, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let host = u8::try_from(host).unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)))?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A terminal's connection from that address.
pub(crate) async fn connect_from(
    host: u32,
    address: SocketAddr,
    client: &Arc<ClientConfig>,
) -> io::Result<Stream> {
    let tcp = tcp_from(host, address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::clone(client))
        .connect(name, tcp)
        .await
}

/// A request as a frame.
pub(crate) fn frame(request: &Value) -> Vec<u8> {
    let text = request.to_string();
    let mut frame = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// Reads an answer, which must have code 0.
pub(crate) async fn receive(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<()> {
    let length = from.read_u32().await?;
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    from.read_exact(&mut payload).await?;
    let answer: Value = serde_json::from_slice(&payload)?;
    assert_eq!(answer["code"], 0, "{answer}");
    Ok(())
}

/// The `number`th request of a customer: a deposit and a balance in turn.
fn next(number: u64) -> Vec<u8> {
    frame(&if number.is_multiple_of(2) {
        let key = uuid::Uuid::now_v7().to_string();
        json!({ "id": number, "op": "deposit", "amount": 1, "key": key })
    } else {
        json!({ "id": number, "op": "balance" })
    })
}

/// Customers who are logged in.
pub(crate) struct Customers(Vec<(ReadHalf<Stream>, WriteHalf<Stream>)>);

impl Customers {
    /// Each with a connection and an account of their own.
    pub(crate) async fn log_in(bank: &Bank, count: u32) -> Self {
        let mut all = Vec::new();
        for index in 0..count {
            let host = FIRST_HOST + index % HOSTS;
            let mut stream = connect_from(host, bank.address, &bank.client)
                .await
                .unwrap();
            let login = json!({ "id": 1, "op": "login", "account": account(index), "pin": PIN });
            stream.write_all(&frame(&login)).await.unwrap();
            receive(&mut stream).await.unwrap();
            all.push(tokio::io::split(stream));
        }
        Self(all)
    }

    /// Answers a second, where each customer asks as soon as they have their answer.
    pub(crate) async fn capacity(&mut self, span: Duration) -> f64 {
        let mut tasks = JoinSet::new();
        let until = Instant::now() + span;
        for (mut reader, mut writer) in self.0.drain(..) {
            tasks.spawn(async move {
                let mut count = 0_u64;
                while Instant::now() < until {
                    writer.write_all(&next(count)).await.unwrap();
                    writer.flush().await.unwrap();
                    receive(&mut reader).await.unwrap();
                    count += 1;
                }
                (reader, writer, count)
            });
        }
        let mut answers = 0;
        while let Some(done) = tasks.join_next().await {
            let (reader, writer, count) = done.unwrap();
            self.0.push((reader, writer));
            answers += count;
        }
        answers as f64 / span.as_secs_f64()
    }

    /// All together send `rate` requests a second, evenly.
    pub(crate) async fn at_rate(&mut self, rate: f64, span: Duration) -> Report {
        let customers = self.0.len() as f64;
        let count = (rate * span.as_secs_f64() / customers) as u64;
        let begins = Instant::now() + Duration::from_millis(50);
        let mut tasks = JoinSet::new();
        for (place, (reader, writer)) in self.0.drain(..).enumerate() {
            let due = move |number: u64| {
                begins + Duration::from_secs_f64((number as f64 * customers + place as f64) / rate)
            };
            tasks.spawn(customer(reader, writer, count, due));
        }
        let mut took = Vec::new();
        let mut asked = 0;
        while let Some(done) = tasks.join_next().await {
            let (reader, writer, theirs) = done.unwrap();
            self.0.push((reader, writer));
            asked += usize::try_from(count).unwrap();
            took.extend(theirs);
        }
        Report::new(asked, took)
    }
}

/// One customer's requests, each sent when it is due, and their answers' times.
async fn customer(
    mut reader: ReadHalf<Stream>,
    mut writer: WriteHalf<Stream>,
    count: u64,
    due: impl Fn(u64) -> Instant + Send,
) -> (ReadHalf<Stream>, WriteHalf<Stream>, Vec<Duration>) {
    let (sent, mut outstanding) = mpsc::channel::<Instant>(OUTSTANDING_MAX);
    let last = due(count);
    let answers = tokio::spawn(async move {
        let mut took = Vec::new();
        while let Some(due) = outstanding.recv().await {
            let patience = last + PATIENCE - Instant::now();
            match timeout(patience, receive(&mut reader)).await {
                Ok(Ok(())) => took.push(due.elapsed()),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        (reader, took)
    });
    for number in 0..count {
        let due = due(number);
        sleep_until(due).await;
        let written = async {
            writer.write_all(&next(number)).await?;
            writer.flush().await
        };
        if written.await.is_err() || sent.send(due).await.is_err() {
            break;
        }
    }
    drop(sent);
    let (reader, took) = answers.await.unwrap();
    (reader, writer, took)
}
