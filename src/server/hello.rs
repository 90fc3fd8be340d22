//! The handshake: the name of the protocol that a client asks for decides which TLS it is shown.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::tls::Trust;
use crate::wire::{ALPN, ENROLL_ALPN};

/// A finished handshake, by what the peer came for.
pub(super) enum Came<S, P> {
    /// To the bank.
    ToBank(TlsStream<S>),
    /// To enrol or to renew; `P` is its place.
    ToEnrol(TlsStream<S>, P),
}

/// Shakes hands. Who asks for `enroll/1` and not for `atm/1` comes to enrol, where that is on, and
/// needs a place from `place`; everyone else comes to the bank, whose TLS refuses other names.
pub(super) async fn shake_hands<S, P>(
    trust: &Trust,
    stream: S,
    place: impl FnOnce() -> Option<P>,
) -> Result<Came<S, P>, &'static str>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const FAILED: &str = "handshake failed";
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
            let place = place().ok_or("too many enrolments")?;
            let config = Arc::clone(&enrolment.server);
            let stream = began.into_stream(config).await.map_err(|_| FAILED)?;
            Ok(Came::ToEnrol(stream, place))
        }
        _ => {
            let config = Arc::clone(&trust.server);
            let stream = began.into_stream(config).await.map_err(|_| FAILED)?;
            Ok(Came::ToBank(stream))
        }
    }
}
