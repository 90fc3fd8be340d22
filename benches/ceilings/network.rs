//! Bare tokio-rustls: an echo in a process of its own, and what clients get through it.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use atm_bank::pki::{CertificateFolder, MakeRequest};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{Arguments, Took, folder};

const MESSAGE_BYTES_MAX: usize = 16_384;
const ROUND_WARM_UP: Duration = Duration::from_secs(1);

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
/// it is killed.
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
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Runtime::new().unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
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
    });
}

/// A running echo; dropped, it is ended.
struct Echo {
    child: Child,
    address: SocketAddr,
    client: Arc<ClientConfig>,
    _certs: tempfile::TempDir,
}

impl Echo {
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
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let (chain, key) = pair(certs.path(), "terminals/terminal-1");
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots(certs.path()))
            .with_client_auth_cert(chain, key)
            .unwrap();
        Self {
            child,
            address: line.trim().parse().unwrap(),
            client: Arc::new(client),
            _certs: certs,
        }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(from).unwrap();
        let tcp = socket.connect(self.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.client));
        connector.connect(name, tcp).await.unwrap()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One thread, as the load tool has.
fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

/// Has workers work at once; counts what they did after a second of warming up.
fn work<F, W>(arguments: &Arguments, part: &str, at_once: usize, worker: W)
where
    W: Fn(Arc<Echo>, Instant, Instant) -> F,
    F: Future<Output = (Took, u64)> + Send + 'static,
{
    runtime().block_on(async {
        let echo = Arc::new(Echo::start());
        let from = Instant::now() + ROUND_WARM_UP;
        let until = from + arguments.span();
        let mut working = JoinSet::new();
        for _ in 0..at_once {
            working.spawn(worker(Arc::clone(&echo), from, until));
        }
        let (mut all, mut done) = (Took::new(), 0);
        while let Some(ended) = working.join_next().await {
            let (took, count) = ended.unwrap();
            all.add(&took);
            done += count;
        }
        all.print(part, done, arguments.span());
    });
}

/// Closed loop of round trips, so many messages of each connection on their way.
pub(crate) fn echo(arguments: &Arguments) {
    let bytes = arguments.bytes * arguments.depth;
    let depth = u64::try_from(arguments.depth).unwrap();
    assert!(bytes > 0, "--depth and --bytes must be above 0");
    work(
        arguments,
        "echo",
        arguments.connections,
        move |echo, from, until| async move {
            let mut stream = echo.connect().await;
            let mut message = vec![7; bytes];
            let (mut took, mut count) = (Took::new(), 0);
            loop {
                let began = Instant::now();
                if began >= until {
                    return (took, count);
                }
                stream.write_all(&message).await.unwrap();
                stream.flush().await.unwrap();
                stream.read_exact(&mut message).await.unwrap();
                if began >= from {
                    took.record(began.elapsed());
                    count += depth;
                }
            }
        },
    );
}

/// Handshakes one after another, each with one small message and its echo.
pub(crate) fn handshakes(arguments: &Arguments) {
    work(
        arguments,
        "handshakes",
        arguments.at_once,
        move |echo, from, until| async move {
            let (mut took, mut count) = (Took::new(), 0);
            loop {
                let began = Instant::now();
                if began >= until {
                    return (took, count);
                }
                let mut stream = echo.connect().await;
                let mut message = *br#"....{"id":1,"op":"ping"}"#;
                stream.write_all(&message).await.unwrap();
                stream.flush().await.unwrap();
                stream.read_exact(&mut message).await.unwrap();
                if began >= from {
                    took.record(began.elapsed());
                    count += 1;
                }
                // No port waits for stragglers.
                let (tcp, _) = stream.get_ref();
                socket2::SockRef::from(tcp)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
            }
        },
    );
}
