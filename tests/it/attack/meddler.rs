//! A man in the middle with the bank's own papers: the real server behind it, and one fault in
//! front. Whatever a probe sees is the fault's doing, because without one all holds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::support::terminal::framed;
use crate::support::{Card, Server, Site};

/// What is wrong with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// Says this code where that one is due.
    Says { instead_of: u16, code: u16 },
    /// Changes a PIN for whoever gives a wrong one.
    ChangesPinUnasked,
    /// Says in its refusals what was sent.
    Echoes,
    /// Says in its refusals where in the source they come from.
    Chatters,
    /// Says that an account does not exist.
    TellsUnknownApart,
    /// Takes its time with wrong PINs only where the account exists.
    IsSlowForKnown,
    /// Makes a new hold where a key is used again.
    ForgetsKeys,
    /// Closes nothing, and has no deadlines.
    NeverCloses,
    /// Goes on where the bank has closed, as if nothing had been.
    Forgives,
    /// Does not notice that a client is gone.
    KeepsTheDead,
    /// Gives answers the wrong numbers.
    MixesUpAnswers,
    /// Cuts all off when there are many.
    Buckles,
    /// Is gone after the first few connections.
    Dies,
    /// Answers what does not begin with TLS.
    SpeaksPlain,
    /// Answers any greeting of TLS with one of its own.
    TakesAnyGreeting,
    /// Serves whoever names no protocol, or a wrong one.
    IgnoresAlpn,
    /// Asks for no certificate.
    AsksForNoCertificate,
    /// Asks for a certificate and looks at none.
    TakesAnyCertificate,
    /// Gives tickets that take early data.
    GivesTickets,
    /// Knows no hybrid key exchange.
    IsNotHybrid,
    /// Shows a certificate that ends in some days.
    EndsSoon,
}

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(1);
/// How much longer a wrong PIN takes on an account that exists.
const SLOWER: Duration = Duration::from_millis(200);

/// How many connections it takes before it dies: those that come before the first probe.
const DIES_AFTER: usize = 3;
/// How many connections at once make it buckle.
const BUCKLES_AT: usize = 12;
/// How long it takes a dead client for a living one, at most.
const UNNOTICED: Duration = Duration::from_secs(30);

/// A listening meddler; it ends with the test's runtime.
pub(super) struct Meddler {
    /// Where it listens.
    pub(super) address: SocketAddr,
}

impl Meddler {
    /// Stands in front of `server`.
    pub(super) async fn start(site: &Site, server: &Server, fault: Fault) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(settings(site, fault)));
        let (bank, certificates) = (server.address, site.path("certs"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (open, mut accepted) = (Arc::new(()), 0);
            while let Ok((tcp, _)) = listener.accept().await {
                let meddling = Meddling {
                    fault,
                    bank,
                    card: Card::of(&certificates, "terminal-1"),
                    open: open.clone(),
                };
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // How a connection ends is the attack's to judge.
                    let _ = meddling.serve(tcp, acceptor).await;
                });
                accepted += 1;
                if fault == Fault::Dies && accepted == DIES_AFTER {
                    return;
                }
            }
        });
        Self { address }
    }
}

fn settings(site: &Site, fault: Fault) -> ServerConfig {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if fault == Fault::IsNotHybrid {
        provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    }
    let provider = Arc::new(provider);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(site.path("certs/ca.pem")).unwrap();
    roots.add(authority).unwrap();
    let builder = match fault {
        Fault::AsksForNoCertificate => builder.with_no_client_auth(),
        Fault::TakesAnyCertificate => {
            builder.with_client_cert_verifier(Arc::new(Blind(provider.clone())))
        }
        _ => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .unwrap(),
        ),
    };
    let (chain, key) = shown(site, fault);
    let mut config = builder.with_single_cert(vec![chain], key).unwrap();
    if fault != Fault::IgnoresAlpn {
        config.alpn_protocols = vec![b"atm/1".to_vec()];
    }
    if fault == Fault::GivesTickets {
        config.max_early_data_size = 16_384;
    } else {
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    config
}

fn shown(site: &Site, fault: Fault) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    if fault == Fault::EndsSoon {
        let files = (site.path("certs/ca.pem"), site.path("certs/ca.key"));
        let authority = atm_bank::pki::Authority::load(&files.0, &files.1).unwrap();
        let now = time::OffsetDateTime::now_utc();
        let issued = authority
            .issue_server(&["localhost".parse().unwrap()], now, 5)
            .unwrap();
        return (issued.der().clone(), issued.key_der());
    }
    (
        CertificateDer::from_pem_file(site.path("certs/server.pem")).unwrap(),
        PrivateKeyDer::from_pem_file(site.path("certs/server.key")).unwrap(),
    )
}

/// Looks at no certificate.
#[derive(Debug)]
struct Blind(Arc<rustls::crypto::CryptoProvider>);

impl ClientCertVerifier for Blind {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("no TLS 1.2 here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// One connection's meddling.
struct Meddling {
    fault: Fault,
    bank: SocketAddr,
    card: Card,
    /// As many of it as there are connections, and one more.
    open: Arc<()>,
}

impl Meddling {
    async fn serve(self, mut tcp: TcpStream, acceptor: TlsAcceptor) -> std::io::Result<()> {
        match self.fault {
            Fault::SpeaksPlain => {
                let mut first = [0];
                if tcp.peek(&mut first).await? == 1 && first != [22] {
                    return tcp.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await;
                }
            }
            Fault::TakesAnyGreeting => {
                // A key exchange that is hybrid takes more than a kilobyte.
                let mut hello = [0; 4_096];
                let count = tcp.peek(&mut hello).await?;
                if !is_proper(&hello[..count]) {
                    return tcp.write_all(&[22, 3, 3, 0, 4, 2, 0, 0, 0]).await;
                }
            }
            _ => {}
        }
        let shaking = acceptor.accept(tcp);
        let client = match self.fault {
            Fault::NeverCloses => shaking.await?,
            _ => timeout(HANDSHAKE, shaking).await??,
        };
        if self.fault != Fault::IgnoresAlpn && client.get_ref().1.alpn_protocol().is_none() {
            return Ok(());
        }
        self.pass_between(client).await
    }

    async fn pass_between<S: AsyncRead + AsyncWrite>(&self, client: S) -> std::io::Result<()> {
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let mut bank = self.card.connect(self.bank).await?;
        let (mut asked, mut chunk, mut answers) = (Vec::new(), [0; 4_096], Vec::new());
        loop {
            tokio::select! {
                read = from_client.read(&mut chunk) => match read {
                    Ok(count @ 1..) => {
                        asked = chunk[..count].to_vec();
                        bank.write_all(&asked).await?;
                        bank.flush().await?;
                    }
                    _ if self.fault == Fault::KeepsTheDead => sleep(UNNOTICED).await,
                    _ => return bank.shutdown().await,
                },
                read = bank.read_buf(&mut answers) => match read {
                    Ok(1..) => self.pass_on(&asked, &mut answers, &mut to_client).await?,
                    _ if self.fault == Fault::NeverCloses => {
                        while from_client.read(&mut chunk).await? > 0 {}
                        return Ok(());
                    }
                    _ if self.fault == Fault::Forgives => {
                        bank = self.card.connect(self.bank).await?;
                    }
                    _ => return to_client.shutdown().await,
                },
            }
        }
    }

    /// Sends the whole answers that are here on, each with the fault in it.
    async fn pass_on<S: AsyncWrite>(
        &self,
        asked: &[u8],
        answers: &mut Vec<u8>,
        to_client: &mut WriteHalf<S>,
    ) -> std::io::Result<()> {
        if self.fault == Fault::Buckles && Arc::strong_count(&self.open) > BUCKLES_AT {
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        while let Some(header) = answers.first_chunk::<4>() {
            let end = 4 + usize::try_from(u32::from_be_bytes(*header)).unwrap();
            if answers.len() < end {
                break;
            }
            let frame: Vec<u8> = answers.drain(..end).collect();
            if self.fault == Fault::None {
                to_client.write_all(&frame).await?;
                continue;
            }
            let answer: Value = serde_json::from_slice(&frame[4..]).unwrap();
            let asked = String::from_utf8_lossy(asked);
            let known = answer["code"] == 20 && !asked.contains("\"xq-");
            if self.fault == Fault::IsSlowForKnown && known {
                sleep(SLOWER).await;
            }
            let answer = meddled(self.fault, &asked, answer);
            to_client
                .write_all(&framed(answer.to_string().as_bytes()))
                .await?;
        }
        to_client.flush().await
    }
}

/// Whether a greeting is of TLS 1.3 and takes records that are not compressed.
fn is_proper(hello: &[u8]) -> bool {
    let session_bytes = usize::from(hello.get(43).copied().unwrap_or(0));
    let suites = 44 + session_bytes;
    let suites_bytes = hello.get(suites..suites + 2).map_or(0, |length| {
        usize::from(length[0]) * 256 + usize::from(length[1])
    });
    let compression = suites + 2 + suites_bytes;
    let is_plain = hello.get(compression..compression + 2) == Some(&[1, 0]);
    let is_new = hello.windows(4).any(|octets| octets[..3] == [0, 43, 0]);
    is_plain && is_new
}

fn meddled(fault: Fault, asked: &str, mut answer: Value) -> Value {
    let refused = answer["code"] != 0;
    match fault {
        Fault::Says { instead_of, code } if answer["code"] == instead_of => {
            json!({ "id": answer["id"], "code": code, "balance": 1, "available": 1,
                "hold": "made-up", "currency": "USD" })
        }
        Fault::ChangesPinUnasked if refused && asked.contains("change_pin") => {
            json!({ "id": answer["id"], "code": 0 })
        }
        Fault::Echoes if refused => {
            answer["message"] = json!(format!("bad message: {asked}"));
            answer
        }
        Fault::Chatters if refused => {
            answer["message"] = json!("unexpected token, src/wire/json.rs:72");
            answer
        }
        Fault::TellsUnknownApart if answer["code"] == 20 && asked.contains("\"xq-") => {
            answer["message"] = json!("no such account");
            answer
        }
        Fault::ForgetsKeys if answer["replayed"] == true => {
            if let Some(entry) = answer["entry"].as_i64() {
                answer["entry"] = json!(entry + 1);
            } else {
                answer["hold"] = json!("another");
            }
            answer["replayed"] = json!(null);
            answer
        }
        Fault::MixesUpAnswers if answer["id"].is_u64() => {
            answer["id"] = json!(answer["id"].as_u64().map(|id| id / 2));
            answer
        }
        _ => answer,
    }
}
