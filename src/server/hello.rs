//! The handshake: the name of the protocol that a client asks for decides which TLS it is shown.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::tls::Trust;
use crate::wire::{ALPN, ENROLL_ALPN};

/// A finished handshake, by what the peer came for.
pub(super) enum Came<S> {
    /// To the bank.
    ToBank(TlsStream<S>),
    /// To enrol or to renew.
    ToEnrol(TlsStream<S>),
}

const FAILED: &str = "handshake failed";

/// Shakes hands. Who asks for `enroll/1` and not for `atm/1` comes to enrol, where that is on;
/// everyone else comes to the bank, whose TLS refuses other names.
pub(super) async fn shake_hands<S>(trust: &Trust, stream: S) -> Result<Came<S>, &'static str>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let began = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let began = began.await.map_err(|_| FAILED)?;
    let asked: Vec<&[u8]> = began
        .client_hello()
        .alpn()
        .map(Iterator::collect)
        .unwrap_or_default();
    let to_enrol = asked.contains(&ENROLL_ALPN) && !asked.contains(&ALPN);
    match &trust.enrolment {
        Some(enrolment) if to_enrol => {
            let config = Arc::clone(&enrolment.server);
            Ok(Came::ToEnrol(finish(began, config).await?))
        }
        _ => {
            let config = Arc::clone(&trust.server);
            Ok(Came::ToBank(finish(began, config).await?))
        }
    }
}

/// The rest of a handshake that has begun.
async fn finish<S>(
    began: StartHandshake<S>,
    config: Arc<ServerConfig>,
) -> Result<TlsStream<S>, &'static str>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // What came with the first message is looked at now: the stream would wait for more first.
    let mut looked_at = Ok(());
    let rest = began.into_stream_with(config, |connection| {
        looked_at = connection.process_new_packets().map(drop);
    });
    looked_at.map_err(|_| FAILED)?;
    rest.await.map_err(|_| FAILED)
}
