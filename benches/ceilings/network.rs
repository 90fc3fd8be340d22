//! Bare tokio-rustls: an echo in a process of its own, and what clients get through it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use atm_bank::pki::{CertificateFolder, MakeRequest};
use atm_bank::wire::ALPN;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, NamedGroup, RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::terminal::client_config;
use crate::took::Took;
use crate::{Arguments, folder, print};

const MESSAGE_BYTES_MAX: usize = 16_384;
const ROUND_WARM_UP: Duration = Duration::from_secs(1);
/// How long the last answers may take when time is up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses of loopback that clients come from: each has ports of its own.
const SOURCES: usize = 8;
/// A message of the bank's protocol, behind its length.
const PING: &[u8; 24] = b"\0\0\0\x14{\"id\":1,\"op\":\"ping\"}";

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn pair(certs: &Path, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_file(certs.join(format!("{name}.pem")));
    let key = PrivateKeyDer::from_pem_file(certs.join(format!("{name}.key")));
    (vec![certificate.unwrap()], key.unwrap())
}

fn roots(certs: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(certs.join("ca.pem"));
    roots.add(authority.unwrap()).unwrap();
    roots
}

/// The echo: TLS 1.3, client certificates demanded, no resumption. Says its port and serves until
/// it is killed, or until the process that started it is gone.
pub(crate) fn serve(certs: &Path) {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(certs).into(), provider());
    let (chain, key) = pair(certs, "server");
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![ALPN.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Runtime::new().unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        tokio::spawn(accept(listener, acceptor));
        // Held open by the parent, which writes nothing: it ends however the parent ends.
        let parent = || std::io::stdin().read_to_end(&mut Vec::new());
        let _ = tokio::task::spawn_blocking(parent).await;
    });
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            tcp.set_nodelay(true)?;
            let mut stream = acceptor.accept(tcp).await?;
            let mut bytes = vec![0; MESSAGE_BYTES_MAX];
            loop {
                match stream.read(&mut bytes).await? {
                    0 => return std::io::Result::Ok(()),
                    count => stream.write_all(&bytes[..count]).await?,
                }
                stream.flush().await?;
            }
        });
    }
}

/// A bare echo that this program started; dropped, it is ended.
struct Echo {
    child: Child,
    _certs: TempDir,
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whom clients connect to, and how.
struct Peer {
    address: SocketAddr,
    client: Arc<ClientConfig>,
    _echo: Echo,
}

impl Peer {
    fn start() -> Self {
        let certs = folder();
        let request = MakeRequest {
            terminals: vec!["terminal-1".parse().unwrap()],
            ..MakeRequest::default()
        };
        CertificateFolder::new(certs.path(), OffsetDateTime::now_utc())
            .make_missing(&request)
            .unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--serve")
            .arg(certs.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            address: line.trim().parse().unwrap(),
            client: client_config(certs.path(), "terminal-1"),
            _echo: Echo {
                child,
                _certs: certs,
            },
        }
    }

    /// A connection of the `number`th client, after a full handshake.
    async fn connect(&self, number: usize) -> TlsStream<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        let host = u8::try_from(number % SOURCES + 1).unwrap();
        socket.set_reuseaddr(true).unwrap();
        let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0));
        socket.bind(from).unwrap();
        let tcp = socket.connect(self.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.client));
        let stream = connector.connect(name, tcp).await.unwrap();
        let group = stream.get_ref().1.negotiated_key_exchange_group();
        // Another group costs something else: figures would not be comparable.
        assert_eq!(group.unwrap().name(), NamedGroup::X25519MLKEM768);
        stream
    }
}

/// One thread, as the load tool has.
fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

/// Has workers, each with its number, work at once; counts what they did after a second of warming
/// up, `each` for a time taken. `what` is how the result is named.
fn work<F, W>(arguments: &Arguments, what: Value, at_once: usize, each: u64, worker: W)
where
    W: Fn(Arc<Peer>, usize, Clock) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    runtime().block_on(async {
        let peer = Arc::new(Peer::start());
        let from = Instant::now() + ROUND_WARM_UP;
        let clock = Clock {
            from,
            until: from + arguments.span(),
            took: Arc::default(),
        };
        let mut working = JoinSet::new();
        for number in 0..at_once {
            let worker = worker(Arc::clone(&peer), number, clock.clone());
            working.spawn(tokio::time::timeout_at(
                (clock.until + PATIENCE).into(),
                worker,
            ));
        }
        while let Some(ended) = working.join_next().await {
            ended.unwrap().expect("an answer in time");
        }
        let took = clock.took.lock().unwrap();
        print(what, &took, took.count() * each, arguments.span());
    });
}

/// When what begins is counted, and how long that took.
#[derive(Clone)]
struct Clock {
    from: Instant,
    until: Instant,
    took: Arc<Mutex<Took>>,
}

impl Clock {
    fn record(&self, began: Instant) {
        if began >= self.from {
            self.took.lock().unwrap().record(began.elapsed());
        }
    }
}

/// Closed loop of round trips, so many messages of each connection on their way.
pub(crate) fn echo(arguments: &Arguments) {
    let bytes = arguments.bytes * arguments.depth;
    let depth = u64::try_from(arguments.depth).unwrap();
    assert!(bytes > 0, "--depth and --bytes must be above 0");
    let what = json!({
        "part": "echo",
        "connections": arguments.connections,
        "depth": depth,
        "bytes": arguments.bytes,
    });
    let worker = move |peer, number, clock| round_trips(peer, number, clock, bytes);
    work(arguments, what, arguments.connections, depth, worker);
}

/// So many bytes there and back, again and again.
async fn round_trips(peer: Arc<Peer>, number: usize, clock: Clock, bytes: usize) {
    let mut stream = peer.connect(number).await;
    let mut message = vec![7; bytes];
    loop {
        let began = Instant::now();
        if began >= clock.until {
            return;
        }
        stream.write_all(&message).await.unwrap();
        stream.flush().await.unwrap();
        stream.read_exact(&mut message).await.unwrap();
        clock.record(began);
    }
}

/// Handshakes one after another, each with one small message and its answer.
pub(crate) fn handshakes(arguments: &Arguments) {
    let what = json!({ "part": "handshakes", "at_once": arguments.at_once });
    work(arguments, what, arguments.at_once, 1, shake_hands);
}

async fn shake_hands(peer: Arc<Peer>, number: usize, clock: Clock) {
    loop {
        let began = Instant::now();
        if began >= clock.until {
            return;
        }
        let mut stream = peer.connect(number).await;
        ask(&mut stream).await;
        clock.record(began);
        // No port waits for stragglers.
        let (tcp, _) = stream.get_ref();
        socket2::SockRef::from(tcp)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

/// A ping and its answer: a server that answers has verified the client's certificate. The echo
/// answers with the ping itself, which has the same form.
async fn ask(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(PING).await.unwrap();
    stream.flush().await.unwrap();
    let length = usize::try_from(stream.read_u32().await.unwrap()).unwrap();
    assert!(length <= MESSAGE_BYTES_MAX, "an answer of {length} bytes");
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"{"), "an answer that is not JSON");
}
