//! A bank in this process that answers as a test tells it to, and remembers what it was asked.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use atm_bank::wire::answer::{Answer, Members, SessionTimes};
use atm_bank::wire::frame::{self, HEADER_BYTES, Next};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// What the bank does with a request.
pub(super) enum Reaction {
    /// Answers with code 0.
    Done(Members),
    /// Answers with another code.
    Refuse(Answer),
    /// Closes the connection without an answer, as in a crash.
    HangUp,
    /// Sends these payloads first, then reacts.
    After(Vec<Vec<u8>>, Box<Reaction>),
    /// Sends these bytes, which need not be a frame.
    Raw(Vec<u8>),
}

/// Its certificates, in files.
pub(super) struct Papers {
    folder: tempfile::TempDir,
    chain: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// What the bank saw.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) connections: usize,
    /// Those that are open now.
    pub(super) open: usize,
    pub(super) application_bytes: usize,
    pub(super) requests: Vec<Value>,
}

/// A running bank. Its threads end with the test's process.
pub(super) struct FakeBank {
    pub(super) port: u16,
    pub(super) papers: Arc<Papers>,
    seen: Arc<Mutex<Seen>>,
}

impl Papers {
    /// A CA, and a server's certificate for these names.
    pub(super) fn new(names: &[&str]) -> Self {
        Self::valid(names, None)
    }

    /// The same, where the server's certificate holds in this time only.
    pub(super) fn valid(
        names: &[&str],
        time: Option<(time::OffsetDateTime, time::OffsetDateTime)>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
        std::fs::write(folder.path().join("ca.pem"), authority_pem).unwrap();
        let issuer = Issuer::new(authority, authority_key);

        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut server = CertificateParams::new(names).unwrap();
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if let Some((from, to)) = time {
            (server.not_before, server.not_after) = (from, to);
        }
        let server_key = KeyPair::generate().unwrap();
        let chain = server
            .signed_by(&server_key, &issuer)
            .unwrap()
            .der()
            .clone();
        let key = PrivateKeyDer::from_pem_slice(server_key.serialize_pem().as_bytes()).unwrap();

        let mut terminal = CertificateParams::default();
        let uri = "urn:atm:terminal:terminal-1".try_into().unwrap();
        terminal.subject_alt_names = vec![SanType::URI(uri)];
        terminal.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let terminal_key = KeyPair::generate().unwrap();
        let certificate = terminal.signed_by(&terminal_key, &issuer).unwrap();
        std::fs::write(folder.path().join("terminal.pem"), certificate.pem()).unwrap();
        write_private(
            &folder.path().join("terminal.key"),
            &terminal_key.serialize_pem(),
        );
        Self { folder, chain, key }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

impl FakeBank {
    /// Starts a bank for `localhost` and `127.0.0.1` that speaks `atm/1`.
    pub(super) fn start(react: impl FnMut(&Value) -> Reaction + Send + 'static) -> Self {
        Self::start_with(Papers::new(&["localhost", "127.0.0.1"]), &[b"atm/1"], react)
    }

    /// Starts the same bank once more, with other answers.
    pub(super) fn again(&self, react: impl FnMut(&Value) -> Reaction + Send + 'static) -> Self {
        Self::start_with(Arc::clone(&self.papers), &[b"atm/1"], react)
    }

    pub(super) fn start_with(
        papers: impl Into<Arc<Papers>>,
        protocols: &[&[u8]],
        react: impl FnMut(&Value) -> Reaction + Send + 'static,
    ) -> Self {
        let papers = papers.into();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![papers.chain.clone()], papers.key.clone_key())
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let config = Arc::new(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (told, react) = (seen.clone(), Arc::new(Mutex::new(react)));
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                {
                    let mut seen = told.lock().unwrap();
                    (seen.connections, seen.open) = (seen.connections + 1, seen.open + 1);
                }
                let (config, told, react) = (config.clone(), told.clone(), react.clone());
                std::thread::spawn(move || {
                    // How a connection ends is the terminal's to judge.
                    let _ = serve(tcp, config, &told, &react);
                    told.lock().unwrap().open -= 1;
                });
            }
        });
        Self { port, papers, seen }
    }

    /// What it saw so far.
    pub(super) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }

    /// The requests of one op, in order.
    pub(super) fn asked(&self, op: &str) -> Vec<Value> {
        let is_op = |request: &&Value| request["op"] == op;
        self.seen(|seen| seen.requests.iter().filter(is_op).cloned().collect())
    }
}

fn serve<F: FnMut(&Value) -> Reaction>(
    tcp: TcpStream,
    config: Arc<ServerConfig>,
    seen: &Mutex<Seen>,
    react: &Mutex<F>,
) -> std::io::Result<()> {
    let session = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(session, tcp);
    let (mut received, mut chunk) = (Vec::new(), [0; 4_096]);
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        seen.lock().unwrap().application_bytes += count;
        received.extend_from_slice(&chunk[..count]);
        while let Ok(Next::Whole { end }) = frame::next(&received, 4_096) {
            let request: Value = serde_json::from_slice(&received[HEADER_BYTES..end]).unwrap();
            received.drain(..end);
            seen.lock().unwrap().requests.push(request.clone());
            let reaction = (react.lock().unwrap())(&request);
            let bytes = bytes_of(reaction, request["id"].as_u64());
            let Some(bytes) = bytes else {
                return Ok(());
            };
            stream.write_all(&bytes)?;
            stream.flush()?;
        }
    }
}

fn bytes_of(reaction: Reaction, id: Option<u64>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match reaction {
        Reaction::Done(members) => Answer::done(id, members).append_frame(&mut bytes).unwrap(),
        Reaction::Refuse(answer) => Answer { id, ..answer }.append_frame(&mut bytes).unwrap(),
        Reaction::HangUp => return None,
        Reaction::Raw(raw) => bytes = raw,
        Reaction::After(payloads, then) => {
            for payload in payloads {
                frame::append(&mut bytes, 65_536, |out| out.extend(payload)).unwrap();
            }
            bytes.extend(bytes_of(*then, id)?);
        }
    }
    Some(bytes)
}

/// The members of a log-in with 1024.32 USD.
pub(super) fn welcome() -> Members {
    let session = SessionTimes {
        idle_timeout_ms: 60_000,
        max_timeout_ms: 900_000,
    };
    Members {
        session: Some(session),
        balance: Some(102_432),
        available: Some(102_432),
        currency: Some("USD".into()),
        ..Members::default()
    }
}

/// What a bank says that does everything it is asked: money is never counted.
pub(super) fn agreeable(request: &Value) -> Reaction {
    let balances = Members {
        balance: Some(102_432),
        available: Some(102_432),
        ..Members::default()
    };
    Reaction::Done(match request["op"].as_str().unwrap() {
        "login" => welcome(),
        "balance" => Members {
            currency: Some("USD".into()),
            ..balances
        },
        "deposit" | "withdraw" | "transfer" | "capture" => Members {
            entry: Some(7),
            ..balances
        },
        "authorize" => Members {
            hold: Some("hold-1".into()),
            expires_in_ms: Some(120_000),
            ..balances
        },
        "history" => Members {
            entries: Some(Vec::new()),
            ..Members::default()
        },
        _ => Members::default(),
    })
}
