//! What a terminal shows in its handshake, right or wrong.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use atm_bank::pki::IssuedCertificate;
use atm_bank::wire::ALPN;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::in_time;

/// Whom a terminal trusts and what it shows.
#[derive(Debug)]
pub(crate) struct Card {
    authorities: Vec<CertificateDer<'static>>,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    alpn: Vec<Vec<u8>>,
}

impl Card {
    /// The certificate of that name in a folder of certificates.
    pub(crate) fn of(certificates: &Path, name: &str) -> Self {
        let file = |ending: &str| certificates.join(format!("terminals/{name}.{ending}"));
        let certificate = CertificateDer::from_pem_file(file("pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
        Self {
            own: Some((vec![certificate], key)),
            ..Self::none(certificates)
        }
    }

    /// No certificate of its own.
    pub(crate) fn none(certificates: &Path) -> Self {
        Self {
            authorities: vec![CertificateDer::from_pem_file(certificates.join("ca.pem")).unwrap()],
            own: None,
            alpn: vec![ALPN.to_vec()],
        }
    }

    /// A certificate made for the test.
    pub(crate) fn issued(certificates: &Path, issued: &IssuedCertificate) -> Self {
        Self::presenting(certificates, vec![issued.der().clone()], issued.key_der())
    }

    /// A chain made for the test, the own certificate first.
    pub(crate) fn presenting(
        certificates: &Path,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        Self {
            own: Some((chain, key)),
            ..Self::none(certificates)
        }
    }

    /// Trusts the authorities of this file instead.
    pub(crate) fn trusting(self, authorities: &Path) -> Self {
        let authorities = CertificateDer::pem_file_iter(authorities).unwrap();
        Self {
            authorities: authorities.map(Result::unwrap).collect(),
            ..self
        }
    }

    /// Another protocol's name in the handshake, or none.
    pub(crate) fn with_alpn(self, names: &[&str]) -> Self {
        let alpn = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self { alpn, ..self }
    }

    /// The client's side of TLS.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            roots.add(authority.clone()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.own {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.clone();
        config
    }

    /// Connects and shakes hands.
    ///
    /// # Errors
    /// Where the server, or the client's side of TLS, refuses.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        connect(address, Arc::new(self.client())).await
    }

    /// Every byte the server says to a `ping`, up to the first answer or the connection's end.
    pub(crate) async fn knock(&self, address: SocketAddr) -> Vec<u8> {
        let Ok(mut stream) = self.connect(address).await else {
            return Vec::new();
        };
        let ping = br#"{"id":1,"op":"ping"}"#;
        let mut frame = u32::try_from(ping.len()).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(ping);
        let mut said = Vec::new();
        if stream.write_all(&frame).await.is_ok() {
            // An error is a refusal: an end without a byte.
            let _ = in_time("an answer or the end", stream.read_buf(&mut said)).await;
        }
        said
    }
}

/// Connects and shakes hands with a client's side of TLS that is there already.
///
/// # Errors
/// Where either side refuses.
pub(crate) async fn connect(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    shake_hands(
        in_time("a connection", TcpStream::connect(address)).await?,
        config,
    )
    .await
}

/// As [`connect`], from the loopback address that ends so.
///
/// # Errors
/// Where either side refuses.
pub(crate) async fn connect_from(
    host: u8,
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    shake_hands(tcp_from(host, address).await?, config).await
}

/// TCP and no more, from the loopback address that ends so.
///
/// # Errors
/// Where nobody accepts.
pub(crate) async fn tcp_from(host: u8, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)))?;
    in_time("a connection", socket.connect(address)).await
}

/// The handshake over a connection that is there already.
///
/// # Errors
/// Where either side refuses.
pub(crate) async fn shake_hands(
    tcp: TcpStream,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").unwrap();
    let shaking = TlsConnector::from(config).connect(name, tcp);
    in_time("the handshake", shaking).await
}
