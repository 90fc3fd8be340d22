//! A terminal in haste: its first requests follow right behind the last message of its handshake,
//! before it can know whether it is let in.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Error};

use super::WAIT;

/// What came back, to the connection's end.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Application bytes.
    pub(crate) bytes: Vec<u8>,
    /// The client's side of the handshake came to its end, so that the requests were sent.
    pub(crate) sent: bool,
    /// The alert, or what else was wrong with the server's side of TLS.
    pub(crate) alert: Option<Error>,
}

/// Connects, sends `frames` in the same breath as the handshake's end, and listens to the end.
pub(crate) fn send_at_once(address: SocketAddr, config: ClientConfig, frames: &[u8]) -> Heard {
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    // Kept by the TLS until it may be sent.
    tls.writer().write_all(frames).unwrap();
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(WAIT)).unwrap();
    let mut heard = Heard {
        bytes: Vec::new(),
        sent: false,
        alert: None,
    };
    loop {
        // All of it at once: Finished and the requests leave in one segment.
        let mut out = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut out).unwrap();
        }
        if tcp.write_all(&out).is_err() {
            return heard;
        }
        if !tls.is_handshaking() && !heard.sent {
            heard.sent = true;
            tls.send_close_notify();
            continue;
        }
        if !matches!(tls.read_tls(&mut tcp), Ok(1..)) {
            return heard;
        }
        if let Err(error) = tls.process_new_packets() {
            heard.alert = Some(error);
            return heard;
        }
        // `WouldBlock` is what an empty buffer says.
        let _ = tls.reader().read_to_end(&mut heard.bytes);
    }
}
