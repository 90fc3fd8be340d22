//! What all probes share: the target, our papers, the account, and the budget.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::line::{Heard, Line, Said, tls_error, words_of};
use super::verdict::Finding;
use crate::domain::{AccountNumber, Pin, TerminalName};
use crate::limits;
use crate::surroundings::Surroundings;
use crate::wire::code::Code;

/// Connections that fail for another reason than the attack are tried so often.
const CONNECT_TRIES: usize = 6;
/// Between two of them.
const CONNECT_PAUSE: Duration = Duration::from_millis(300);

/// The account that the operator lends to the attack.
#[derive(Debug)]
pub struct Customer {
    /// Its number.
    pub account: AccountNumber,
    /// Its PIN.
    pub pin: Pin,
}

/// The two letters of the account numbers that are made up. Wrong PINs are tried on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block([u8; 2]);

/// The text is not two letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("two letters are needed, as in xq")]
pub struct NotABlock;

impl FromStr for Block {
    type Err = NotABlock;

    fn from_str(text: &str) -> Result<Self, NotABlock> {
        let letters: [u8; 2] = text.as_bytes().try_into().map_err(|_| NotABlock)?;
        if !letters.iter().all(u8::is_ascii_alphabetic) {
            return Err(NotABlock);
        }
        Ok(Self(letters.map(|letter| letter.to_ascii_lowercase())))
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.0.map(char::from);
        write!(f, "{first}{second}")
    }
}

/// What may still be sent.
#[derive(Debug)]
pub(super) struct Sends(AtomicUsize);

impl Sends {
    pub(super) fn of(count: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(count)))
    }

    /// One less.
    ///
    /// # Errors
    /// The finding that nothing is left.
    pub(super) fn spend(&self) -> Result<(), Finding> {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .map(|_| ())
            .map_err(|_| Finding::skipped("as much was sent as an attack may send"))
    }
}

/// One of the connections that may be open at once.
pub(super) type Permit = OwnedSemaphorePermit;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoLine {
    /// Nobody took it, or it ended during the handshake.
    Lost(String),
    /// The target refused the handshake.
    Refused(String),
    /// The target did not prove to be the bank.
    NotTheBank(String),
}

impl NoLine {
    pub(super) fn words(&self) -> &str {
        match self {
            Self::Lost(words) | Self::Refused(words) | Self::NotTheBank(words) => words,
        }
    }
}

/// What was found out before the first probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Admission {
    /// A connection with our own papers, if any, is served.
    pub(super) own: bool,
    /// A connection without a certificate is served too.
    pub(super) nameless: bool,
}

/// What all probes share.
pub struct Arena {
    pub(super) address: SocketAddr,
    pub(super) name: ServerName<'static>,
    /// TLS with our own certificate, where we have one.
    pub(super) own: Arc<ClientConfig>,
    /// TLS without any.
    pub(super) bare: Arc<ClientConfig>,
    /// The name in our certificate; another where we have none.
    pub(super) terminal: TerminalName,
    pub(super) has_certificate: bool,
    /// A certificate that must be refused, where the operator has one.
    pub(super) refused: Option<Arc<ClientConfig>>,
    pub(super) admission: Admission,
    pub(super) customer: Option<Customer>,
    pub(super) block: Block,
    pub(super) moves_money: bool,
    pub(super) patience: Duration,
    pub(super) budget: Duration,
    pub(super) connections: usize,
    pub(super) places: Arc<Semaphore>,
    pub(super) sends: Arc<Sends>,
    pub(super) chance: Arc<dyn Surroundings>,
    /// Wrong PINs that a number has, once that is known; `None` where there seems to be no end.
    pub(super) tries: OnceCell<Option<usize>>,
}

impl Arena {
    /// A TCP connection, and its place among those that may be open.
    ///
    /// # Errors
    /// [`NoLine::Lost`].
    pub(super) async fn dial(&self) -> Result<(TcpStream, Permit), NoLine> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let permit = place.map_err(|_| NoLine::Lost("the attack is over".to_owned()))?;
        let dialling = TcpStream::connect(self.address);
        let tcp = match timeout(limits::ATTACK_CONNECT_TIMEOUT, dialling).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => {
                return Err(NoLine::Lost(format!("no connection ({})", error.kind())));
            }
            Err(_) => return Err(NoLine::Lost("nobody answered in time".to_owned())),
        };
        tcp.set_nodelay(true)
            .map_err(|error| NoLine::Lost(words_of(&error)))?;
        Ok((tcp, permit))
    }

    /// A TCP connection for what is no TLS.
    ///
    /// # Errors
    /// The finding that there is none.
    pub(super) async fn dial_bare(&self) -> Result<(TcpStream, Permit), Finding> {
        self.sends.spend()?;
        for _ in 1..CONNECT_TRIES {
            match self.dial().await {
                Ok(dialled) => return Ok(dialled),
                Err(_) => sleep(CONNECT_PAUSE).await,
            }
        }
        self.dial().await.map_err(|error| no_connection(&error))
    }

    /// A handshake with these settings.
    ///
    /// # Errors
    /// [`NoLine`].
    pub(super) async fn shake(&self, config: &Arc<ClientConfig>) -> Result<Line, NoLine> {
        let (tcp, permit) = self.dial().await?;
        let handshake = TlsConnector::from(Arc::clone(config)).connect(self.name.clone(), tcp);
        match timeout(limits::ATTACK_CONNECT_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(Line::over(stream, Arc::clone(&self.sends), permit)),
            Ok(Err(error)) => Err(no_line(&error)),
            Err(_) => Err(NoLine::Lost("no handshake in time".to_owned())),
        }
    }

    /// A handshake with these settings; where it is not the target that refuses, tried again.
    ///
    /// # Errors
    /// The target's refusal in its words, or else the finding that there is no connection.
    pub(super) async fn try_shake(
        &self,
        config: &Arc<ClientConfig>,
    ) -> Result<Result<Line, String>, Finding> {
        self.sends.spend()?;
        let mut last = None;
        for _ in 0..CONNECT_TRIES {
            match self.shake(config).await {
                Ok(line) => return Ok(Ok(line)),
                Err(NoLine::Refused(words)) => return Ok(Err(words)),
                Err(other) => last = Some(other),
            }
            sleep(CONNECT_PAUSE).await;
        }
        let words = last.as_ref().map_or("no connection", NoLine::words);
        Err(Finding::skipped(format!("no connection for this: {words}")))
    }

    /// A connection with our own papers, over which the bank answers.
    ///
    /// # Errors
    /// The finding that there is none.
    pub(super) async fn line(&self) -> Result<Line, Finding> {
        if !self.admission.own {
            return Err(Finding::skipped(
                "the bank wants a terminal's certificate: give --cert FILE --key FILE",
            ));
        }
        match self.try_shake(&self.own).await? {
            Ok(line) => Ok(line),
            Err(words) => Err(Finding::skipped(format!("no connection for this: {words}"))),
        }
    }

    /// The account that was lent.
    ///
    /// # Errors
    /// The finding that none was.
    pub(super) fn customer(&self) -> Result<&Customer, Finding> {
        self.customer
            .as_ref()
            .ok_or_else(|| Finding::skipped("needs an account of yours: give --account"))
    }

    /// A connection logged in to the account that was lent, and what was said to the log-in.
    ///
    /// # Errors
    /// The finding that there is none.
    pub(super) async fn logged_in(&self) -> Result<(Line, Box<Said>), Finding> {
        let customer = self.customer()?;
        let mut line = self.line().await?;
        let mut heard = line.log_in(&customer.account, &customer.pin).await?;
        for _ in 1..CONNECT_TRIES {
            // The bank may not have seen yet that the last connection is gone.
            if !heard.is(Code::InUse) {
                break;
            }
            sleep(CONNECT_PAUSE).await;
            heard = line.log_in(&customer.account, &customer.pin).await?;
        }
        match heard {
            Heard::Answer(said) if said.answer.code == Code::Done => {
                if said.answer.members.must_change_pin == Some(true) {
                    return Err(Finding::skipped("the account's PIN must be changed first"));
                }
                Ok((line, said))
            }
            other => {
                let reason = format!("no log-in on the account that was given: {other}");
                Err(Finding::skipped(reason))
            }
        }
    }

    /// An account number that is made up, of the block for it.
    ///
    /// # Errors
    /// Never, where the block is two letters.
    pub(super) fn invent(&self) -> Result<AccountNumber, Finding> {
        loop {
            let digits = u128::from_be_bytes(self.chance.random()) % 100_000;
            let number: AccountNumber = format!("{}-{digits:05}", self.block)
                .parse()
                .map_err(|_| Finding::skipped("no account number can be made up"))?;
            if self
                .customer
                .as_ref()
                .is_none_or(|own| own.account != number)
            {
                return Ok(number);
            }
        }
    }

    /// An idempotency key that was never used.
    pub(super) fn key(&self) -> String {
        format!("attack-{:032x}", u128::from_be_bytes(self.chance.random()))
    }

    /// Bytes that mean nothing.
    pub(super) fn noise(&self, count: usize) -> Vec<u8> {
        let mut noise = Vec::with_capacity(count + 16);
        while noise.len() < count {
            noise.extend(self.chance.random());
        }
        noise.truncate(count);
        noise
    }

    /// The random value of a greeting.
    pub(super) fn greeting_random(&self) -> [u8; 32] {
        let mut random = [0; 32];
        let noise = self.noise(random.len());
        random.copy_from_slice(&noise);
        random
    }

    /// The present moment, for certificates.
    pub(super) fn now(&self) -> time::OffsetDateTime {
        let seconds = self.chance.now().unix_ms().div_euclid(1_000);
        time::OffsetDateTime::from_unix_timestamp(seconds)
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
    }
}

fn no_connection(error: &NoLine) -> Finding {
    Finding::skipped(format!("no connection for this: {}", error.words()))
}

fn no_line(error: &io::Error) -> NoLine {
    let words = words_of(error);
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(_)) => NoLine::Refused(words),
        Some(_) => NoLine::NotTheBank(words),
        // The target just ended it, as it may where it refuses.
        None => NoLine::Lost(words),
    }
}

/// A wrong PIN that looks like the right one.
///
/// # Errors
/// Never: the PIN is one already.
pub(super) fn wrong(pin: &Pin) -> Result<Pin, Finding> {
    let mut digits = zeroize::Zeroizing::new(pin.digits().to_vec());
    if let Some(last) = digits.last_mut() {
        *last = if *last == b'9' {
            b'0'
        } else {
            last.saturating_add(1)
        };
    }
    std::str::from_utf8(&digits)
        .ok()
        .and_then(|digits| Pin::parse(digits).ok())
        .ok_or_else(|| Finding::skipped("the PIN cannot be used"))
}

/// How long something took.
pub(super) async fn timed<F: Future>(work: F) -> (F::Output, Duration) {
    let began = Instant::now();
    let done = work.await;
    (done, began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_two_letters_in_any_case() {
        assert_eq!("Xq".parse::<Block>().unwrap().to_string(), "xq");
        for text in ["", "x", "xqx", "x1", "é", "-q"] {
            assert_eq!(text.parse::<Block>(), Err(NotABlock), "{text:?}");
        }
    }

    #[test]
    fn a_wrong_pin_differs_from_the_right_one_and_is_as_long() {
        for digits in ["0000", "1239", "123456789012"] {
            let pin = Pin::parse(digits).unwrap();
            let other = wrong(&pin).unwrap();
            assert_ne!(other.digits(), pin.digits());
            assert_eq!(other.digits().len(), digits.len());
        }
    }

    #[test]
    fn no_more_is_sent_than_the_budget_has() {
        let sends = Sends::of(2);
        assert!(sends.spend().is_ok() && sends.spend().is_ok());
        assert!(sends.spend().is_err() && sends.spend().is_err());
    }
}
