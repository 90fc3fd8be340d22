//! A terminal that has no certificate yet, or comes for its next one: `enroll/1` by hand.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::terminal::framed;
use super::{Card, card, in_time};

/// A key of its own.
pub(crate) struct Recruit {
    key: KeyPair,
}

/// An answer under `enroll/1`: its bytes, and as JSON.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) payload: Vec<u8>,
    pub(crate) value: Value,
}

impl Recruit {
    pub(crate) fn new() -> Self {
        Self {
            key: KeyPair::generate().unwrap(),
        }
    }

    /// The private key's bytes.
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }

    /// A signing request that asks for nothing but the key.
    pub(crate) fn csr(&self) -> Vec<u8> {
        self.csr_with(CertificateParams::default())
    }

    pub(crate) fn csr_with(&self, params: CertificateParams) -> Vec<u8> {
        params.serialize_request(&self.key).unwrap().der().to_vec()
    }

    /// The request for a first certificate.
    pub(crate) fn enroll(&self, code: &str) -> Value {
        json!({ "id": 1, "op": "enroll", "code": code, "csr": STANDARD.encode(self.csr()) })
    }

    /// The request for the next certificate.
    pub(crate) fn renew(&self) -> Value {
        json!({ "id": 1, "op": "renew", "csr": STANDARD.encode(self.csr()) })
    }

    /// What this terminal shows from now on, by what it was told.
    pub(crate) fn card(&self, certificates: &Path, told: &Told) -> Card {
        Card::presenting(certificates, told.chain(), self.private_key())
    }
}

impl Told {
    #[track_caller]
    pub(crate) fn expect_code(self, code: u16) -> Self {
        assert_eq!(self.value["code"], code, "{}", self.value);
        self
    }

    /// The certificates, which must be there.
    #[track_caller]
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        let texts = self.value["certificate"].as_array().unwrap();
        texts
            .iter()
            .map(|text| STANDARD.decode(text.as_str().unwrap()).unwrap().into())
            .collect()
    }
}

/// Connects under `enroll/1`.
pub(crate) async fn connect(
    address: SocketAddr,
    card: Card,
) -> std::io::Result<TlsStream<TcpStream>> {
    card.with_alpn(&["enroll/1"]).connect(address).await
}

/// As [`connect`], from the loopback address that ends so.
pub(crate) async fn connect_from(
    host: u8,
    address: SocketAddr,
    card: Card,
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = Arc::new(card.with_alpn(&["enroll/1"]).client());
    card::connect_from(host, address, config).await
}

/// Asks over a connection; an error is its end.
pub(crate) async fn ask_over(
    stream: &mut TlsStream<TcpStream>,
    payload: &[u8],
) -> std::io::Result<Told> {
    stream.write_all(&framed(payload)).await?;
    stream.flush().await?;
    hear(stream).await
}

/// What is said next; an error is the connection's end.
pub(crate) async fn hear(stream: &mut TlsStream<TcpStream>) -> std::io::Result<Told> {
    let length = in_time("an answer", stream.read_u32()).await?;
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    in_time("an answer's rest", stream.read_exact(&mut payload)).await?;
    let value = serde_json::from_slice(&payload).unwrap();
    Ok(Told { payload, value })
}

/// One connection, one request, one answer.
pub(crate) async fn ask(address: SocketAddr, card: Card, request: &Value) -> Told {
    let mut stream = connect(address, card).await.unwrap();
    ask_over(&mut stream, request.to_string().as_bytes())
        .await
        .unwrap()
}
