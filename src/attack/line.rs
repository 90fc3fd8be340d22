//! One TLS connection to the target: bytes out, answers in, each wait under a deadline.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::AlertDescription;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::arena::{Permit, Sends};
use super::verdict::Finding;
use crate::domain::{AccountNumber, Pin};
use crate::limits;
use crate::wire::answer::Answer;
use crate::wire::code::Code;
use crate::wire::frame::{self, HEADER_BYTES, Next, SERVER_PAYLOAD_BYTES_MAX};
use crate::wire::request::Request;

/// Updates of keys that TLS libraries take without anything between them.
const KEY_UPDATES_IN_A_ROW: usize = 32;
/// How often code 40 is obeyed before it counts as the answer.
const RETRIES_MAX: usize = 8;

/// What the target said, or did not.
#[derive(Debug)]
pub(super) enum Heard {
    /// An answer.
    Answer(Box<Said>),
    /// It closed, in these words.
    Closed(String),
    /// Nothing came in time.
    Silence(Duration),
    /// Something came that is no answer.
    Nonsense,
}

/// An answer, as it is read and as it came.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) answer: Answer,
    pub(super) text: String,
}

impl Said {
    pub(super) fn code(&self) -> u16 {
        self.answer.code.number()
    }

    /// Balance and what is available.
    pub(super) fn balances(&self) -> (Option<i64>, Option<i64>) {
        let members = &self.answer.members;
        (members.balance, members.available)
    }
}

impl Heard {
    /// The code, where it was an answer.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Answer(said) => Some(said.code()),
            _ => None,
        }
    }

    pub(super) fn is(&self, code: Code) -> bool {
        self.code() == Some(code.number())
    }

    pub(super) const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }

    /// The answer with code 0, or why there is none as a finding of `other`.
    pub(super) fn done(self, other: impl FnOnce(String) -> Finding) -> Result<Box<Said>, Finding> {
        match self {
            Self::Answer(said) if said.answer.code == Code::Done => Ok(said),
            heard => Err(other(heard.to_string())),
        }
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(said) => write!(f, "code {}", said.code()),
            Self::Closed(how) => f.write_str(how),
            Self::Silence(waited) => write!(f, "silence for {}", span(*waited)),
            Self::Nonsense => f.write_str("something that is no answer"),
        }
    }
}

/// A connection whose handshake is done. Dropping it cuts it, without `close_notify`.
pub(super) struct Line {
    stream: Box<TlsStream<TcpStream>>,
    received: Vec<u8>,
    next_id: u64,
    sends: Arc<Sends>,
    _permit: Permit,
}

impl Line {
    pub(super) fn over(stream: TlsStream<TcpStream>, sends: Arc<Sends>, permit: Permit) -> Self {
        Self {
            stream: Box::new(stream),
            received: Vec::new(),
            next_id: 0,
            sends,
            _permit: permit,
        }
    }

    /// The TLS below.
    pub(super) fn tls(&self) -> &rustls::ClientConnection {
        self.stream.get_ref().1
    }

    /// Sends bytes as they are. `false` where the target takes no more.
    ///
    /// # Errors
    /// The finding that the budget is used up.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<bool, Finding> {
        self.sends.spend()?;
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let written = timeout(limits::ATTACK_ANSWER_TIMEOUT, writing).await;
        Ok(matches!(written, Ok(Ok(()))))
    }

    /// As [`Line::send`], each octet in a record of its own.
    ///
    /// # Errors
    /// As [`Line::send`].
    pub(super) async fn send_octets(&mut self, bytes: &[u8]) -> Result<bool, Finding> {
        self.sends.spend()?;
        let writing = async {
            for octet in bytes {
                self.stream.write_all(&[*octet]).await?;
            }
            self.stream.flush().await
        };
        let written = timeout(limits::ATTACK_ANSWER_TIMEOUT, writing).await;
        Ok(matches!(written, Ok(Ok(()))))
    }

    /// Renews the keys of TLS as often as it may be done in a row, then sends an octet. `false` where
    /// the target takes no more.
    ///
    /// # Errors
    /// As [`Line::send`].
    pub(super) async fn renew_keys(&mut self, octet: u8) -> Result<bool, Finding> {
        for _ in 0..KEY_UPDATES_IN_A_ROW {
            if self.stream.get_mut().1.refresh_traffic_keys().is_err() {
                return Ok(false);
            }
        }
        self.send(&[octet]).await
    }

    /// The next message, within the usual time.
    pub(super) async fn receive(&mut self) -> Heard {
        self.receive_within(limits::ATTACK_ANSWER_TIMEOUT).await
    }

    /// The next message within `patience`.
    pub(super) async fn receive_within(&mut self, patience: Duration) -> Heard {
        timeout(patience, self.next_message())
            .await
            .unwrap_or(Heard::Silence(patience))
    }

    async fn next_message(&mut self) -> Heard {
        loop {
            match frame::next(&self.received, SERVER_PAYLOAD_BYTES_MAX) {
                Err(_) => return Heard::Nonsense,
                Ok(Next::Whole { end }) => {
                    let frame: Vec<u8> = self.received.drain(..end).collect();
                    let payload = frame.get(HEADER_BYTES..).unwrap_or_default();
                    let text = String::from_utf8_lossy(payload).into_owned();
                    return match Answer::parse(payload) {
                        Some(answer) => Heard::Answer(Box::new(Said { answer, text })),
                        None => Heard::Nonsense,
                    };
                }
                Ok(Next::Needs { .. }) => {}
            }
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) => return Heard::Closed("closed".to_owned()),
                Ok(_) => {}
                Err(error) => return Heard::Closed(words_of(&error)),
            }
        }
    }

    /// Sends a payload as a frame and waits for what is said to it.
    ///
    /// # Errors
    /// As [`Line::send`].
    pub(super) async fn say(&mut self, payload: &[u8]) -> Result<Heard, Finding> {
        // It may hold a PIN.
        let frame = Zeroizing::new(framed(payload));
        self.send(&frame).await?;
        Ok(self.receive().await)
    }

    /// Asks for `op`. Where it is told to come again soon it does, as a terminal would.
    ///
    /// # Errors
    /// As [`Line::send`].
    pub(super) async fn ask(&mut self, op: &str, members: Value) -> Result<Heard, Finding> {
        self.next_id = self.next_id.saturating_add(1);
        let payload = request(self.next_id, op, members);
        self.insist(&payload).await
    }

    /// `ping`, which every bank answers with code 0.
    ///
    /// # Errors
    /// As [`Line::send`].
    pub(super) async fn ping(&mut self) -> Result<Heard, Finding> {
        self.ask("ping", json!({})).await
    }

    /// `login`.
    ///
    /// # Errors
    /// As [`Line::send`].
    pub(super) async fn log_in(
        &mut self,
        account: &AccountNumber,
        pin: &Pin,
    ) -> Result<Heard, Finding> {
        let (account, pin) = (*account, copy(pin)?);
        self.request(&Request::Login { account, pin }).await
    }

    /// A request as the terminal writes it: the only way in which a PIN leaves.
    ///
    /// # Errors
    /// As [`Line::send`].
    pub(super) async fn request(&mut self, request: &Request) -> Result<Heard, Finding> {
        self.next_id = self.next_id.saturating_add(1);
        let mut payload = Zeroizing::new(Vec::with_capacity(limits::READ_CHUNK_BYTES));
        request.encode(self.next_id, &mut payload);
        self.insist(&payload).await
    }

    async fn insist(&mut self, payload: &[u8]) -> Result<Heard, Finding> {
        for _ in 0..RETRIES_MAX {
            let heard = self.say(payload).await?;
            match retry_after(&heard) {
                Some(pause) => sleep(pause).await,
                None => return Ok(heard),
            }
        }
        self.say(payload).await
    }

    /// Logs out and says goodbye.
    pub(super) async fn leave(mut self) {
        // Whether the target hears it or not, the connection ends here.
        let _ = self.ask("logout", json!({})).await;
        let _ = timeout(limits::CLOSE_TIMEOUT, self.stream.shutdown()).await;
    }
}

/// A copy of a PIN, which is wiped like the first.
///
/// # Errors
/// Never: the PIN is one already.
pub(super) fn copy(pin: &Pin) -> Result<Pin, Finding> {
    std::str::from_utf8(pin.digits())
        .ok()
        .and_then(|digits| Pin::parse(digits).ok())
        .ok_or_else(|| Finding::skipped("the PIN cannot be used"))
}

/// How long code 40 asks to wait, where that is not long.
fn retry_after(heard: &Heard) -> Option<Duration> {
    let Heard::Answer(said) = heard else {
        return None;
    };
    let pause = said
        .answer
        .members
        .retry_after_ms
        .map(Duration::from_millis);
    pause.filter(|pause| said.answer.code == Code::TooMany && *pause <= limits::ATTACK_RETRY_MAX)
}

/// A request as JSON.
pub(super) fn request(id: u64, op: &str, members: Value) -> Vec<u8> {
    let mut request = json!({ "id": id, "op": op });
    if let (Some(all), Value::Object(members)) = (request.as_object_mut(), members) {
        all.extend(members);
    }
    request.to_string().into_bytes()
}

/// A payload as a frame, whatever its size.
pub(super) fn framed(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    // Room for all of it at once, so that growing leaves no copy of a PIN behind.
    let mut out = Vec::with_capacity(HEADER_BYTES.saturating_add(payload.len()));
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// How a connection ended, in few words.
pub(super) fn words_of(error: &io::Error) -> String {
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(alert)) => format!("TLS alert {}", alert_words(*alert)),
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "closed without close_notify".to_owned()
        }
        None => format!("closed ({})", error.kind()),
    }
}

/// The alert's name as TLS has it, or its number.
pub(super) fn alert_words(alert: AlertDescription) -> String {
    format!("{alert:?}")
}

/// TLS's own error within an error of its stream.
pub(super) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// A span of time as it is printed.
pub(super) fn span(time: Duration) -> String {
    match time.as_millis() {
        ms @ ..10 => format!("{ms}.{} ms", time.subsec_micros() % 1_000 / 100),
        ms @ ..10_000 => format!("{ms} ms"),
        _ => format!("{} s", time.as_secs()),
    }
}
