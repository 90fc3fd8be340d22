//! Who comes to enrol and says nothing, in virtual time.

use std::collections::HashSet;
use std::ffi::OsString;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;
use crate::bank::test_bank::TestBank;
use crate::config::{Config, Overrides};
use crate::domain::Timestamp;
use crate::pki::{CertificateFolder, LEAF_DAYS, MakeRequest};
use crate::surroundings::Virtual;
use crate::telemetry::Metrics;
use crate::wire::ENROLL_ALPN;

type Stream = tokio_rustls::client::TlsStream<DuplexStream>;
type Served = JoinHandle<Result<(), &'static str>>;

const UNKNOWN: &[u8] = br#"{"id":7,"op":"nonsense"}"#;

/// A server where terminals may enrol, with room for three that wait, for two of an address.
struct Door {
    folder: TempDir,
    server: Arc<Server>,
}

impl Door {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The handshake looks at the machine's clock.
        let now = OffsetDateTime::now_utc();
        let certificates = CertificateFolder::new(folder.path().to_owned(), now);
        let request = MakeRequest {
            terminals: vec!["terminal-1".parse().unwrap(), "terminal-2".parse().unwrap()],
            ..MakeRequest::default()
        };
        certificates.make_missing(&request).unwrap();
        certificates.issuing(LEAF_DAYS, false).unwrap();
        let now = Timestamp::from_unix_ms(now.unix_timestamp() * 1_000);
        let around: Arc<dyn Surroundings> = Arc::new(Virtual::new(now, 1));
        let config = config(folder.path());
        let bank = TestBank::new(&around).bank;
        bank.set_terms(config.terms());
        let trust = Trust::load(&config.tls, &around).unwrap();
        let metrics = Arc::new(Metrics::default());
        let server = Server::new(bank, metrics, config, trust, HashSet::new());
        Self {
            folder,
            server: Arc::new(server),
        }
    }

    /// Comes from the address that ends so, with the certificate of `terminal-1` or without.
    async fn enter(&self, host: u8, certified: bool) -> (Stream, Served) {
        self.enter_as(host, certified.then_some("terminal-1")).await
    }

    async fn enter_as(&self, host: u8, terminal: Option<&str>) -> (Stream, Served) {
        let file = |name: &str| self.folder.path().join(name);
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(file("ca.pem")).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut client = if let Some(name) = terminal {
            let file = |ending: &str| file(&format!("terminals/{name}.{ending}"));
            let own = CertificateDer::from_pem_file(file("pem")).unwrap();
            let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
            builder.with_client_auth_cert(vec![own], key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        client.alpn_protocols = vec![ENROLL_ALPN.to_vec()];
        let (near, far) = tokio::io::duplex(65_536);
        let server = Arc::clone(&self.server);
        let address = SocketAddr::from(([127, 0, 0, host], 40_000));
        let served = tokio::spawn(async move { server.serve_stream(far, address).await });
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(client)).connect(name, near);
        let stream = stream.await.unwrap();
        // The server finds itself in front of the first message.
        tokio::time::sleep(Duration::from_millis(1)).await;
        (stream, served)
    }
}

fn config(folder: &std::path::Path) -> Config {
    let set = |key: &str, value: &str| (OsString::from(key), OsString::from(value));
    let environment = [
        set("BANK__TLS__DIR", folder.to_str().unwrap()),
        set("BANK__SERVER__SERVER_ID", "test"),
        set("BANK__SERVER__FRAME_TIMEOUT_MS", "1000"),
        set("BANK__ENROLL__ENABLED", "on"),
        set("BANK__ENROLL__MAX_CONNECTIONS", "3"),
        set("BANK__ENROLL__MAX_CONNECTIONS_PER_IP", "2"),
    ];
    let loaded = Config::load(None, environment.into_iter(), &Overrides::default());
    loaded.unwrap().config
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::append(&mut out, 4_096, |out| out.extend_from_slice(payload)).unwrap();
    out
}

async fn hear(stream: &mut Stream) -> EnrolAnswer {
    let length = stream.read_u32().await.unwrap();
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await.unwrap();
    EnrolAnswer::parse(&payload).unwrap()
}

/// What is still said up to an end in order, and when that comes.
async fn rest(stream: &mut Stream) -> (Vec<u8>, Instant) {
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    (said, Instant::now())
}

/// The connection's end comes so long after `began`, and without a word.
async fn ends_after(stream: &mut Stream, began: Instant, after: Duration) {
    let (said, at) = rest(stream).await;
    assert_eq!(said, b"");
    let took = at - began;
    let late = Duration::from_millis(20);
    assert!((after..after + late).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_shows_no_certificate_and_says_nothing_is_soon_put_out() {
    let door = Door::open();
    let began = Instant::now();
    let (mut stream, _) = door.enter(1, false).await;
    let first = limits::ENROLMENT_FIRST_MESSAGE_TIMEOUT;
    ends_after(&mut stream, began, first).await;
    // Octets now and then do not help.
    let began = Instant::now();
    let (mut stream, _) = door.enter(1, false).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    stream.write_all(&framed(UNKNOWN)[..5]).await.unwrap();
    ends_after(&mut stream, began, first).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_ten_seconds_after_its_handshake_whatever_it_is_about() {
    let door = Door::open();
    let began = Instant::now();
    let (mut silent, _) = door.enter(1, true).await;
    let (mut busy, _) = door.enter(2, false).await;
    busy.write_all(&framed(UNKNOWN)).await.unwrap();
    assert_eq!(hear(&mut busy).await.code, Code::UnknownOp);
    let (mut slow, _) = door.enter(3, true).await;
    tokio::time::sleep_until(began + Duration::from_millis(9_500)).await;
    slow.write_all(&framed(UNKNOWN)[..5]).await.unwrap();
    for stream in [&mut silent, &mut busy, &mut slow] {
        ends_after(stream, began, limits::ENROLMENT_TIMEOUT).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_begun_must_be_whole_in_time() {
    let door = Door::open();
    let (mut stream, _) = door.enter(1, true).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    let bytes = framed(UNKNOWN);
    for byte in bytes.iter().take(6) {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    ends_after(&mut stream, began, Duration::from_secs(1)).await;
    // The second frame's first octets came with the first.
    let (mut stream, _) = door.enter(1, false).await;
    let began = Instant::now();
    let both = [&bytes, &bytes[..3]].concat();
    stream.write_all(&both).await.unwrap();
    assert_eq!(hear(&mut stream).await.code, Code::UnknownOp);
    ends_after(&mut stream, began, Duration::from_secs(1)).await;
}

/// The oldest was told that others took its place.
async fn is_displaced((mut stream, served): (Stream, Served)) {
    let answer = hear(&mut stream).await;
    assert_eq!((answer.id, answer.code), (None, Code::Full));
    assert_eq!(rest(&mut stream).await.0, b"");
    drop(stream);
    assert_eq!(served.await.unwrap(), Err("too many enrolments"));
}

async fn is_answered((mut stream, _): (Stream, Served)) {
    stream.write_all(&framed(UNKNOWN)).await.unwrap();
    assert_eq!(hear(&mut stream).await.code, Code::UnknownOp);
}

#[tokio::test(start_paused = true)]
async fn where_all_places_are_taken_whoever_waits_longest_makes_room() {
    let door = Door::open();
    let (oldest, own) = (door.enter(1, false).await, door.enter(2, false).await);
    let (own_next, own_last) = (door.enter(2, false).await, door.enter(2, false).await);
    // An address over its share loses its own, all together the oldest.
    is_displaced(own).await;
    let last = door.enter(3, false).await;
    is_displaced(oldest).await;
    for one in [own_next, own_last, last] {
        is_answered(one).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_answered_waits_anew_and_strangers_take_no_place_of_who_shows_a_certificate() {
    let door = Door::open();
    let certified = door.enter(1, true).await;
    let (mut first, served) = door.enter(1, false).await;
    let second = door.enter(2, false).await;
    first.write_all(&framed(UNKNOWN)).await.unwrap();
    assert_eq!(hear(&mut first).await.code, Code::UnknownOp);
    for host in 3..=4 {
        drop(door.enter(host, false).await);
    }
    let third = door.enter(5, false).await;
    let fourth = door.enter(6, false).await;
    let fifth = door.enter(7, false).await;
    is_displaced(second).await;
    is_displaced((first, served)).await;
    for one in [certified, third, fourth, fifth] {
        is_answered(one).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_terminal_takes_its_own_places_alone_from_however_many_addresses_it_comes() {
    let door = Door::open();
    let honest = door.enter_as(1, Some("terminal-2")).await;
    let mut rogue = Vec::new();
    for host in 2..=13 {
        rogue.push(door.enter_as(host, Some("terminal-1")).await);
    }
    let last = rogue.split_off(10);
    for one in rogue {
        is_displaced(one).await;
    }
    is_answered(honest).await;
    for one in last {
        is_answered(one).await;
    }
}
