//! Renewing: a terminal that enrolled gets its next certificate by itself before the present one
//! ends, beside its customers and never in their way.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::task::JoinHandle;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::exchange::{ask, check, signing_request};
use crate::atm::connection::{Bank, open};
use crate::atm::error::Error;
use crate::atm::identity::Pair;
use crate::atm::trust::{Trust, TrustFiles};
use crate::wire::ENROLL_ALPN;
use crate::wire::enroll::EnrolRequest;

/// Due when less than this part of its life is left.
const LEFT_PART: i64 = 3;
/// After a failure a part of what is left passes before the next try, so that there is time for
/// several, however short a certificate holds.
const RETRY_PART: i64 = 10;
const RETRY_MS_MIN: i64 = 500;
const RETRY_MS_MAX: i64 = 600_000;
/// The clock is looked at at least so often: it may be set while the terminal sleeps.
const LOOK_MS_MAX: i64 = 60_000;
/// At the start nobody waits longer than this for a new certificate.
const START_WAIT: Duration = Duration::from_secs(10);

/// When a certificate begins and ends, milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    begins_ms: i64,
    ends_ms: i64,
}

impl Life {
    /// Of a chain that an issuing authority gave out; `None` for any other, which staff renew.
    fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let [own, issuing, ..] = chain else {
            return None;
        };
        let (_, issuing) = X509Certificate::from_der(issuing).ok()?;
        let usage = issuing.extended_key_usage().ok()??;
        let is_ca = issuing.basic_constraints().ok()??.value.ca;
        if !is_ca || !usage.value.client_auth || usage.value.server_auth || usage.value.any {
            return None;
        }
        let (_, own) = X509Certificate::from_der(own).ok()?;
        let ms = |seconds: i64| seconds.saturating_mul(1_000);
        Some(Self {
            begins_ms: ms(own.validity().not_before.timestamp()),
            ends_ms: ms(own.validity().not_after.timestamp()),
        })
    }

    /// From when on it is to be renewed.
    const fn due_ms(self) -> i64 {
        let whole = self.ends_ms.saturating_sub(self.begins_ms);
        self.ends_ms.saturating_sub(whole / LEFT_PART)
    }

    /// How long after a failure the next try is made.
    fn retry_ms(self, now_ms: i64) -> i64 {
        let left = self.ends_ms.saturating_sub(now_ms) / RETRY_PART;
        left.clamp(RETRY_MS_MIN, RETRY_MS_MAX)
    }
}

/// Sees to it that there is a certificate that holds.
#[derive(Debug)]
pub struct Renewal {
    bank: Bank,
    files: TrustFiles,
    pair: Pair,
    life: Life,
    next_try_ms: i64,
    running: Option<JoinHandle<Result<Trust, Error>>>,
    ended_told: bool,
    warnings: Vec<String>,
}

impl Renewal {
    /// For a terminal that enrolled; `None` for any other.
    #[must_use]
    pub fn of(bank: &Bank, files: &TrustFiles) -> Option<Self> {
        let (certificate, key) = files.identity.clone()?;
        let life = Life::of(&bank.trust.chain)?;
        Some(Self {
            bank: bank.clone(),
            files: files.clone(),
            pair: Pair { certificate, key },
            life,
            next_try_ms: life.due_ms(),
            running: None,
            ended_told: false,
            warnings: Vec::new(),
        })
    }

    /// What the operator should know, each once.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// A new certificate at the start, where it is due; waits a little for it, and no longer.
    pub async fn at_start(&mut self) -> Option<Trust> {
        if now_ms() < self.life.due_ms() {
            return None;
        }
        tokio::time::timeout(START_WAIT, self.try_once())
            .await
            .ok()?
    }

    /// Waits until there is a new certificate. Nothing is lost where the wait is given up: a try
    /// that has begun goes on beside.
    pub async fn renewed(&mut self) -> Trust {
        loop {
            let wait_ms = self.next_try_ms.saturating_sub(now_ms());
            if self.running.is_none() && wait_ms > 0 {
                let wait_ms = u64::try_from(wait_ms.min(LOOK_MS_MAX)).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                continue;
            }
            if let Some(trust) = self.try_once().await {
                return trust;
            }
        }
    }

    /// One try, begun or gone on with, to its end.
    async fn try_once(&mut self) -> Option<Trust> {
        if self.life.ends_ms <= now_ms() && self.running.is_none() {
            self.next_try_ms = now_ms().saturating_add(RETRY_MS_MAX);
            if !std::mem::replace(&mut self.ended_told, true) {
                let words = "this terminal's certificate has ended and cannot be renewed; mend: ask \
                             the bank for a code, and run atm_client enroll";
                self.warnings.push(words.to_owned());
            }
            return None;
        }
        let (bank, files, pair) = (&self.bank, &self.files, &self.pair);
        let running = self
            .running
            .get_or_insert_with(|| tokio::spawn(renew(bank.clone(), files.clone(), pair.clone())));
        let done = running.await;
        self.running = None;
        let failure = match done {
            Ok(Ok(trust)) => {
                // A successor that no issuing authority gave out is not renewed from here.
                let life = Life::of(&trust.chain);
                self.next_try_ms = life.map_or(i64::MAX, Life::due_ms);
                self.life = life.unwrap_or(self.life);
                self.bank.trust = trust.clone();
                return Some(trust);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the try ended early".to_owned(),
        };
        let now_ms = now_ms();
        self.next_try_ms = now_ms.saturating_add(self.life.retry_ms(now_ms));
        self.warnings.push(format!(
            "this terminal's certificate was not renewed: {failure}"
        ));
        None
    }
}

/// Asks for the next certificate with a new key, and puts both in their place. Where an answer was
/// lost the key is that of the try before: the bank gives the same certificate for it again.
async fn renew(bank: Bank, files: TrustFiles, pair: Pair) -> Result<Trust, Error> {
    // Before anything is asked for: a certificate that cannot be kept is one too many.
    pair.try_writing()?;
    let key = pair.next_key()?;
    let csr = signing_request(&key)?;
    let mut config = ClientConfig::clone(&bank.trust.config);
    config.alpn_protocols = vec![ENROLL_ALPN.to_vec()];
    let config = Arc::new(config);
    let mut stream = open(&bank.address, config, ENROLL_ALPN, &bank.deadlines).await?;
    let chain = ask(&mut stream, &EnrolRequest::Renew { csr }, &bank.deadlines).await?;
    let terminal = check(&chain, &key, files.roots()?).inspect_err(|_| pair.forget_next_key())?;
    if bank.trust.terminal.as_ref() != Some(&terminal) {
        pair.forget_next_key();
        let reason = format!("it gave a certificate of another name, {terminal}");
        return Err(Error::NotTheBank(reason));
    }
    pair.replace(&chain, &key)?;
    files.load()
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_due_when_a_third_of_its_life_is_left() {
        let life = Life {
            begins_ms: 1_000,
            ends_ms: 301_000,
        };
        assert_eq!(life.due_ms(), 201_000);
        assert_eq!(life.retry_ms(201_000), 10_000);
        assert_eq!(life.retry_ms(300_900), RETRY_MS_MIN);
        let week = Life {
            begins_ms: 0,
            ends_ms: 604_800_000,
        };
        assert_eq!(week.retry_ms(week.due_ms()), RETRY_MS_MAX);
    }
}
