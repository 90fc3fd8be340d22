//! One TLS connection to the bank: requests out, answers in, each wait under a deadline.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, ClientConfig, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::address::Address;
use super::clock::own_now;
use super::error::Error;
use super::trust::Trust;
use crate::wire::answer::Answer;
use crate::wire::code::Code;
use crate::wire::frame::{self, HEADER_BYTES, Next, SERVER_PAYLOAD_BYTES_MAX};
use crate::wire::request::Request;
use crate::wire::{ALPN, ID_MAX};

/// No request of this terminal is larger; servers take at least this much before log-in.
const REQUEST_BYTES_MAX: usize = 1_024;
/// How long a bank that takes no request any more is listened to.
const LAST_WORDS_MS: u64 = 200;
/// Room made for every read; a frame's rest is at most 65,540 bytes.
const READ_BYTES: usize = 1_024;
/// So many pings in a row without an answer: the bank is lost.
const BEATS_MAX: usize = 3;
/// Messages of the bank's own accord that may wait unread; older ones are dropped.
const NOTICES_MAX: usize = 16;

/// How long each wait may take, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Until the TCP connection stands.
    pub connect_ms: u64,
    /// Until the bank has proved itself.
    pub handshake_ms: u64,
    /// Until a request is handed to the system.
    pub write_ms: u64,
    /// Until a request's answer is there.
    pub answer_ms: u64,
    /// The same for requests with a PIN, which a busy bank checks in turn.
    pub pin_answer_ms: u64,
    /// Until goodbye is said.
    pub farewell_ms: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect_ms: 10_000,
            handshake_ms: 10_000,
            write_ms: 10_000,
            answer_ms: 30_000,
            pin_answer_ms: 60_000,
            farewell_ms: 300,
        }
    }
}

/// Where the bank is and how it is known: all that a connection needs.
#[derive(Debug, Clone)]
pub struct Bank {
    /// Where it is.
    pub address: Address,
    /// How it is known.
    pub trust: Trust,
    /// How long it may take.
    pub deadlines: Deadlines,
}

/// A connection to a bank that has proved itself. Answers come in the order of the requests, and
/// there is one request at a time.
#[derive(Debug)]
pub struct Connection<S = TlsStream<TcpStream>> {
    stream: S,
    received: Vec<u8>,
    notices: VecDeque<Answer>,
    next_id: u64,
    /// Pings whose answers nobody waits for, oldest first.
    beats: VecDeque<u64>,
    /// The bank's time, as the last of those answers told it.
    time: Option<String>,
    deadlines: Deadlines,
}

impl Bank {
    /// Connects and makes sure that it is the bank, by its certificate, TLS 1.3 and ALPN.
    ///
    /// # Errors
    /// [`Error::NoBank`], [`Error::NotTheBank`] or [`Error::TurnedAway`].
    pub async fn connect(&self) -> Result<Connection, Error> {
        let config = Arc::clone(&self.trust.config);
        let stream = open(&self.address, config, ALPN, &self.deadlines).await?;
        Ok(Connection::over(stream, self.deadlines))
    }
}

/// Connects and makes sure that who answers is whom `config` trusts, and speaks the protocol `alpn`
/// over TLS 1.3.
pub(super) async fn open(
    address: &Address,
    config: Arc<ClientConfig>,
    alpn: &[u8],
    deadlines: &Deadlines,
) -> Result<TlsStream<TcpStream>, Error> {
    let no_bank = |reason: String| Error::NoBank {
        address: address.to_string(),
        reason,
    };
    let place = (address.host(), address.port());
    let tcp = match timeout(ms(deadlines.connect_ms), TcpStream::connect(place)).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => return Err(no_bank(error.to_string())),
        Err(_) => return Err(no_bank("nobody answered in time".into())),
    };
    tcp.set_nodelay(true)
        .map_err(|error| no_bank(error.to_string()))?;
    let handshake = TlsConnector::from(config).connect(address.name(), tcp);
    let stream = match timeout(ms(deadlines.handshake_ms), handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(handshake_error(&error, alpn, no_bank)),
        Err(_) => return Err(no_bank("the TLS handshake was not finished in time".into())),
    };
    let session = stream.get_ref().1;
    if session.alpn_protocol() != Some(alpn) {
        return Err(Error::NotTheBank(does_not_speak(alpn)));
    }
    if session.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Err(Error::NotTheBank(
            "the server does not speak TLS 1.3".into(),
        ));
    }
    Ok(stream)
}

fn does_not_speak(alpn: &[u8]) -> String {
    let name = String::from_utf8_lossy(alpn);
    format!("the server does not speak {name} (ALPN)")
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Over a stream at whose other end the bank has proved itself.
    #[must_use]
    pub fn over(stream: S, deadlines: Deadlines) -> Self {
        Self {
            stream,
            received: Vec::new(),
            notices: VecDeque::new(),
            next_id: 1,
            beats: VecDeque::new(),
            time: None,
            deadlines,
        }
    }

    /// Sends a request and waits for its answer. After an error the connection is of no use.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Closing`] or [`Error::TurnedAway`]; whether the request took
    /// effect is then unknown.
    pub async fn ask(&mut self, request: &Request) -> Result<Answer, Error> {
        let id = self.send(request).await?;
        let wait_ms = if request.carries_pin() {
            self.deadlines.pin_answer_ms
        } else {
            self.deadlines.answer_ms
        };
        match timeout(ms(wait_ms), self.answer_to(id)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Lost("no answer in time".into())),
        }
    }

    /// Sends a ping and does not wait for its answer, which is taken when it comes.
    ///
    /// # Errors
    /// As [`Connection::ask`], also where several before had no answer.
    pub async fn beat(&mut self) -> Result<(), Error> {
        if self.beats.len() >= BEATS_MAX {
            return Err(Error::Lost("the bank answers no ping".into()));
        }
        // Before it is sent: where the wait is given up it may have been.
        self.beats.push_back(self.next_id);
        self.send(&Request::Ping).await.map(drop)
    }

    /// The bank's time, where a ping's answer told it since the last call.
    pub const fn take_time(&mut self) -> Option<String> {
        self.time.take()
    }

    /// Whether it is the answer to a ping that nobody waits for. Those before it have none to come.
    fn is_of_beat(&mut self, answer: &Answer) -> bool {
        let Some(id) = answer.id.filter(|id| self.beats.contains(id)) else {
            return false;
        };
        while self.beats.pop_front().is_some_and(|beat| beat != id) {}
        self.time = answer.members.time.clone().or(self.time.take());
        true
    }

    /// Waits for a message of the bank's own accord. Nothing is lost where the wait is given up.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub async fn notice(&mut self) -> Result<Answer, Error> {
        if let Some(notice) = self.notices.pop_front() {
            return Ok(notice);
        }
        loop {
            let answer = self.receive().await?;
            match answer.id {
                None => return Ok(answer),
                Some(_) if self.is_of_beat(&answer) => {}
                Some(_) => {
                    return Err(Error::Lost("an answer came that nobody asked for".into()));
                }
            }
        }
    }

    /// A message of the bank's own accord that came while an answer was awaited.
    pub fn earlier_notice(&mut self) -> Option<Answer> {
        self.notices.pop_front()
    }

    /// Ends the connection politely: logs out where a customer is logged in, then close_notify.
    pub async fn farewell(mut self, log_out: bool) {
        let deadline = ms(self.deadlines.farewell_ms);
        // Whether the bank heard it or not, the connection ends here.
        let _ = timeout(deadline, self.say_goodbye(log_out)).await;
    }

    async fn say_goodbye(&mut self, log_out: bool) -> io::Result<()> {
        if log_out && let Ok(id) = self.send(&Request::Logout).await {
            // An answer to an earlier request may come first; any error ends the wait.
            while self
                .receive()
                .await
                .is_ok_and(|answer| answer.id != Some(id))
            {}
        }
        self.stream.shutdown().await
    }

    async fn send(&mut self, request: &Request) -> Result<u64, Error> {
        let id = self.next_id;
        self.next_id = if id == ID_MAX {
            1
        } else {
            id.saturating_add(1)
        };
        // Room for all of it at once, so that growing leaves no copy of a PIN behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER_BYTES + REQUEST_BYTES_MAX));
        frame::append(&mut bytes, REQUEST_BYTES_MAX, |out| request.encode(id, out))
            .map_err(|error| Error::Lost(error.to_string()))?;
        let write = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        match timeout(ms(self.deadlines.write_ms), write).await {
            Ok(Ok(())) => Ok(id),
            Ok(Err(error)) => Err(self.why_unsent(&error).await),
            Err(_) => Err(Error::Lost("the bank does not take the request".into())),
        }
    }

    /// A bank that closes says why before it does, and the reason may already be here.
    async fn why_unsent(&mut self, error: &io::Error) -> Error {
        match timeout(ms(LAST_WORDS_MS), self.last_words()).await {
            Ok(Error::Lost(_)) | Err(_) => stream_error(error),
            Ok(said) => said,
        }
    }

    async fn last_words(&mut self) -> Error {
        loop {
            match self.receive().await.map(|answer| closing(&answer)) {
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => return error,
            }
        }
    }

    async fn answer_to(&mut self, id: u64) -> Result<Answer, Error> {
        loop {
            let answer = self.receive().await?;
            match answer.id {
                Some(own) if own == id => {
                    // Answers come in order: whatever was sent before has none to come.
                    self.beats.clear();
                    return Ok(answer);
                }
                Some(_) if self.is_of_beat(&answer) => {}
                Some(_) => {
                    return Err(Error::Lost("an answer came that nobody asked for".into()));
                }
                None => {
                    if let Some(closing) = closing(&answer) {
                        return Err(closing);
                    }
                    if self.notices.len() >= NOTICES_MAX {
                        self.notices.pop_front();
                    }
                    self.notices.push_back(answer);
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<Answer, Error> {
        loop {
            match frame::next(&self.received, SERVER_PAYLOAD_BYTES_MAX) {
                Ok(Next::Whole { end }) => {
                    let answer = self.received.get(HEADER_BYTES..end).and_then(Answer::parse);
                    self.received.drain(..end);
                    return answer
                        .ok_or_else(|| Error::Lost("the bank's answer cannot be read".into()));
                }
                Ok(Next::Needs { more }) => self.received.reserve(more.max(READ_BYTES)),
                Err(error) => return Err(Error::Lost(error.to_string())),
            }
            // Cancelling this read loses nothing: what has come stays in `received`.
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) => return Err(Error::Lost("the bank closed it".into())),
                Ok(_) => {}
                Err(error) => return Err(stream_error(&error)),
            }
        }
    }
}

/// The error that a message of the bank's own accord announces, where it announces one.
#[must_use]
pub fn closing(notice: &Answer) -> Option<Error> {
    match notice.code {
        Code::Full | Code::GoingDown | Code::FrameSize => Some(Error::Closing(notice.code)),
        _ => None,
    }
}

pub(super) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

fn handshake_error(error: &io::Error, alpn: &[u8], no_bank: impl Fn(String) -> Error) -> Error {
    use AlertDescription as Alert;
    use CertificateError as Cert;
    match tls_error(error) {
        None => no_bank(error.to_string()),
        Some(rustls::Error::InvalidCertificate(
            Cert::Expired
            | Cert::ExpiredContext { .. }
            | Cert::NotValidYet
            | Cert::NotValidYetContext { .. },
        )) => Error::NotNow {
            now: own_now().to_string(),
            reason: error.to_string(),
        },
        Some(rustls::Error::AlertReceived(Alert::NoApplicationProtocol)) => {
            Error::NotTheBank(does_not_speak(alpn))
        }
        Some(rustls::Error::AlertReceived(
            Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::UnrecognisedName,
        )) => Error::NotTheBank(error.to_string()),
        Some(rustls::Error::AlertReceived(alert)) => Error::TurnedAway(turned_away(*alert)),
        Some(_) => Error::NotTheBank(error.to_string()),
    }
}

/// With TLS 1.3 the bank's verdict on the terminal's certificate comes after the handshake.
pub(super) fn stream_error(error: &io::Error) -> Error {
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(alert)) => Error::TurnedAway(turned_away(*alert)),
        // TLS has words of its own for it, with a link to its manual.
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Error::Lost("the bank closed the connection without a goodbye".into())
        }
        _ => Error::Lost(error.to_string()),
    }
}

fn turned_away(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "it wants a terminal certificate; give one with --cert FILE --key FILE".into()
        }
        AlertDescription::CertificateRevoked => "this terminal's certificate is revoked".into(),
        AlertDescription::CertificateExpired => "this terminal's certificate has ended".into(),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied
        | AlertDescription::UnknownCA => {
            format!("it does not accept this terminal's certificate ({alert:?})")
        }
        other => format!("TLS alert {other:?}"),
    }
}
