//! A terminal's connection: TLS with a certificate of its own, frames in and out.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use atm_bank::wire::frame::{self, HEADER_BYTES, Next, SERVER_PAYLOAD_BYTES_MAX};
use bytes::{Buf as _, BytesMut};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bank::Bank;
use crate::client::client_config;

/// Connections from one address of loopback at most, well below the ports that there are.
const PER_ADDRESS: usize = 4_000;
/// No handshake and no log-in takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const READ_BYTES: usize = 4_096;

/// How the bank is reached: its address, and what each terminal shows.
pub(crate) struct Ways {
    address: SocketAddr,
    configs: Vec<Arc<ClientConfig>>,
}

impl Ways {
    /// With the certificates of so many terminals.
    pub(crate) fn to(bank: &Bank, certificates: usize) -> Self {
        let names = bank.terminal_names();
        let configs = names.iter().take(certificates);
        let configs = configs.map(|name| client_config(bank.certs(), name));
        Self {
            address: bank.address(),
            configs: configs.collect(),
        }
    }

    /// Connection number `number`, from one of as many addresses as are needed.
    pub(crate) async fn connect(&self, number: usize) -> io::Result<Terminal> {
        let socket = TcpSocket::new_v4()?;
        if self.address.ip().is_loopback() {
            let host = u8::try_from(number / PER_ADDRESS + 1).map_err(io::Error::other)?;
            socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)))?;
        }
        let config = Arc::clone(&self.configs[number % self.configs.len()]);
        let shaking = async {
            let tcp = socket.connect(self.address).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from("localhost").unwrap();
            TlsConnector::from(config).connect(name, tcp).await
        };
        let stream = timeout(PATIENCE, shaking).await??;
        Ok(Terminal {
            stream,
            received: BytesMut::new(),
            out: Vec::new(),
        })
    }
}

/// An answer, as far as load looks at it.
#[derive(Debug, Deserialize)]
pub(crate) struct Heard {
    pub(crate) id: Option<u64>,
    pub(crate) code: u16,
    pub(crate) entry: Option<i64>,
    pub(crate) balance: Option<i64>,
    pub(crate) retry_after_ms: Option<u64>,
    pub(crate) entries: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    pub(crate) replayed: bool,
}

/// One terminal's connection.
pub(crate) struct Terminal {
    stream: TlsStream<TcpStream>,
    received: BytesMut,
    /// Frames to be sent.
    pub(crate) out: Vec<u8>,
}

impl Terminal {
    /// Closes at once and without a word, so that its port is free again.
    pub(crate) fn vanish(self) -> io::Result<()> {
        let (tcp, _) = self.stream.get_ref();
        socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO))
    }

    /// Sends all that is to be sent.
    pub(crate) async fn send(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            let sending = async {
                self.stream.write_all(&self.out).await?;
                self.stream.flush().await
            };
            timeout(PATIENCE, sending).await??;
            self.out.clear();
        }
        Ok(())
    }

    /// Waits for more; may be given up and called again.
    pub(crate) async fn receive(&mut self) -> io::Result<()> {
        self.received.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next whole answer among what was received.
    pub(crate) fn next(&mut self) -> io::Result<Option<Heard>> {
        let next =
            frame::next(&self.received, SERVER_PAYLOAD_BYTES_MAX).map_err(io::Error::other)?;
        let Next::Whole { end } = next else {
            return Ok(None);
        };
        let heard = serde_json::from_slice(&self.received[HEADER_BYTES..end])?;
        self.received.advance(end);
        Ok(Some(heard))
    }

    /// Sends what is to be sent and waits for one answer.
    pub(crate) async fn ask(&mut self) -> io::Result<Heard> {
        self.send().await?;
        loop {
            if let Some(heard) = self.next()? {
                return Ok(heard);
            }
            timeout(PATIENCE, self.receive()).await??;
        }
    }

    /// Logs in; asks again where the server says when to.
    pub(crate) async fn log_in(&mut self, account: &str, pin: &str) -> io::Result<Heard> {
        loop {
            let text = format!(r#"{{"id":0,"op":"login","account":"{account}","pin":"{pin}"}}"#);
            append(&mut self.out, text.as_bytes());
            let heard = self.ask().await?;
            match (heard.code, heard.retry_after_ms) {
                (0, _) => return Ok(heard),
                (40, Some(ms)) if Duration::from_millis(ms) <= PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                }
                (code, _) => {
                    return Err(io::Error::other(format!(
                        "{account} could not log in: code {code}"
                    )));
                }
            }
        }
    }
}

/// Appends a payload as a frame.
pub(crate) fn append(out: &mut Vec<u8>, payload: &[u8]) {
    frame::append(out, payload.len(), |out| out.extend_from_slice(payload)).unwrap();
}
