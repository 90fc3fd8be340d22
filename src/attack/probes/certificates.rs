//! Who is let in, and what the server shows: the handshake as a TLS library sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::super::arena::{Arena, NoLine};
use super::super::papers;
use super::super::probe::{Family, Pace, Probe};
use super::super::verdict::{Finding, Judged, Severity};
use crate::wire::code::Code;

const MEND_CLIENTS: &str =
    "set [tls] client_auth = \"required\", and end TLS nowhere but in the bank";
const MEND_END: &str = "end TLS nowhere but in the bank";
const MEND_TICKETS: &str = "end TLS nowhere but in the bank, whose TLS resumes nothing";
/// The bank's own `check` warns from here on.
const DAYS_LEFT_MIN: i64 = 30;
const SECONDS_A_DAY: i64 = 86_400;
/// The bits of a public key that NIST SP 800-57 asks for today.
const RSA_BITS_MIN: usize = 2_048;
const CURVE_BITS_MIN: usize = 256;

const fn probe(name: &'static str) -> Probe {
    Probe {
        family: Family::Tls,
        name,
        pace: Pace::Quick,
        severity: Severity::High,
        tries: "",
        good: "refuses it before any message is read",
        means: "machines that are no terminals of the bank can try PINs",
        mends: MEND_CLIENTS,
        run: |arena| Box::pin(no_certificate(arena)),
    }
}

pub(in super::super) const PROBES: [Probe; 10] = [
    Probe {
        severity: Severity::Medium,
        tries: "a handshake that names no protocol (ALPN)",
        good: "refuses it, or closes before any message is read",
        means: "another protocol's client can be tricked into talking to the bank (ALPACA)",
        mends: MEND_END,
        run: |arena| Box::pin(no_alpn(arena)),
        ..probe("no-alpn")
    },
    Probe {
        severity: Severity::Medium,
        tries: "a handshake that names another protocol (ALPN)",
        good: "refuses the handshake",
        means: "another protocol's client can be tricked into talking to the bank (ALPACA)",
        mends: MEND_END,
        run: |arena| Box::pin(wrong_alpn(arena)),
        ..probe("wrong-alpn")
    },
    Probe {
        tries: "no client certificate",
        ..probe("no-certificate")
    },
    Probe {
        tries: "a certificate with the terminal's name, signed by itself",
        run: |arena| Box::pin(self_signed(arena)),
        ..probe("self-signed")
    },
    Probe {
        tries: "a certificate with the terminal's name, of another CA",
        run: |arena| Box::pin(foreign(arena)),
        ..probe("foreign-authority")
    },
    Probe {
        tries: "the certificate of --refused-cert: revoked, or ended",
        means: "a stolen terminal still gets in",
        mends: "bring the server the newest crl.pem; see its clock",
        run: |arena| Box::pin(refused_certificate(arena)),
        ..probe("refused-certificate")
    },
    Probe {
        tries: "to be given a ticket that resumes the connection",
        good: "gives none: every connection is checked anew",
        means: "a revoked terminal can come back without being looked at",
        mends: MEND_TICKETS,
        run: |arena| Box::pin(resumption(arena)),
        ..probe("resumption")
    },
    Probe {
        tries: "to be given a ticket that takes early data (0-RTT)",
        good: "gives none",
        means: "requests can be recorded and played again",
        mends: MEND_TICKETS,
        run: |arena| Box::pin(early_data(arena)),
        ..probe("early-data")
    },
    Probe {
        severity: Severity::Medium,
        tries: "to find fault with the server's certificate",
        good: "shows one under the CA, for this name, for servers, with days left and a strong key",
        means: "terminals will refuse the bank soon, or someone can pass for it",
        mends: "gen-certs renew, and bring server.pem and server.key",
        run: |arena| Box::pin(certificate(arena)),
        ..probe("certificate")
    },
    Probe {
        severity: Severity::Low,
        tries: "the hybrid key exchange X25519MLKEM768",
        good: "prefers it",
        means: "what is recorded today may be opened by a quantum computer one day",
        mends: MEND_END,
        run: |arena| Box::pin(key_exchange(arena)),
        ..probe("key-exchange")
    },
];

/// What became of a handshake and a `ping`.
enum Outcome {
    /// Refused within the handshake.
    Refused(String),
    /// The handshake was finished; then it closed, in these words.
    Closed(String),
    /// The `ping` was answered.
    Answered,
    /// It neither answers nor closes.
    Open(String),
}

async fn knock(arena: &Arena, config: &Arc<ClientConfig>) -> Result<Outcome, Finding> {
    arena.sends.spend()?;
    let mut line = match arena.shake(config).await {
        Ok(line) => line,
        Err(NoLine::Refused(words)) => return Ok(Outcome::Refused(words)),
        // Who refuses may also just close. That it was not the rate shows in that others get in.
        Err(NoLine::Lost(words)) => {
            drop(arena.try_shake(&arena.own).await?);
            return Ok(Outcome::Refused(words));
        }
        Err(NoLine::NotTheBank(words)) => {
            return Err(Finding::skipped(format!("no connection for this: {words}")));
        }
    };
    let heard = line.ping().await?;
    Ok(match &heard {
        heard if heard.is(Code::Done) => Outcome::Answered,
        heard if heard.is_closed() => Outcome::Closed(heard.to_string()),
        heard => Outcome::Open(heard.to_string()),
    })
}

fn kept_out(outcome: Outcome) -> Finding {
    match outcome {
        Outcome::Refused(words) => Finding::held(format!("in the handshake: {words}")),
        Outcome::Closed(words) => Finding::held(format!("before any answer: {words}")),
        Outcome::Answered => Finding::broken("a ping was answered"),
        Outcome::Open(words) => Finding::broken(format!("it was let in, and then: {words}")),
    }
}

/// Which papers are shown makes no difference where none are asked for.
fn unless_open_to_all(arena: &Arena) -> Result<(), Finding> {
    match arena.admission.nameless {
        true => Err(Finding::skipped(
            "the bank asks for no certificate: see tls/no-certificate",
        )),
        false => Ok(()),
    }
}

async fn no_alpn(arena: &Arena) -> Judged {
    let mut config = (*arena.own).clone();
    config.alpn_protocols.clear();
    Ok(kept_out(knock(arena, &Arc::new(config)).await?))
}

async fn wrong_alpn(arena: &Arena) -> Judged {
    let mut config = (*arena.own).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(match knock(arena, &Arc::new(config)).await? {
        Outcome::Closed(words) => Finding::weak(format!("only after the handshake: {words}")),
        other => kept_out(other),
    })
}

async fn no_certificate(arena: &Arena) -> Judged {
    Ok(kept_out(knock(arena, &arena.bare).await?))
}

async fn self_signed(arena: &Arena) -> Judged {
    unless_open_to_all(arena)?;
    shown(arena, papers::self_signed(&arena.terminal, arena.now())).await
}

async fn foreign(arena: &Arena) -> Judged {
    unless_open_to_all(arena)?;
    shown(arena, papers::foreign(&arena.terminal, arena.now())).await
}

async fn shown(arena: &Arena, paper: Result<papers::Paper, super::super::Error>) -> Judged {
    let config = paper.and_then(|paper| papers::shown(&arena.bare, paper));
    let config = config.map_err(|error| Finding::skipped(error.to_string()))?;
    Ok(kept_out(knock(arena, &config).await?))
}

async fn refused_certificate(arena: &Arena) -> Judged {
    let Some(config) = &arena.refused else {
        return Err(Finding::skipped(
            "needs a revoked or ended certificate: give --refused-cert and --refused-key",
        ));
    };
    unless_open_to_all(arena)?;
    Ok(kept_out(knock(arena, config).await?))
}

/// Counts tickets and keeps none.
#[derive(Debug, Default)]
struct Tickets {
    given: AtomicUsize,
    early_bytes: AtomicU32,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.given.fetch_add(1, Ordering::Relaxed);
        self.early_bytes
            .fetch_max(ticket.max_early_data_size(), Ordering::Relaxed);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

/// Tickets come behind the handshake, at the latest before the first answer.
async fn tickets(arena: &Arena) -> Result<Arc<Tickets>, Finding> {
    drop(arena.line().await?);
    let tickets = Arc::new(Tickets::default());
    let mut config = (*arena.own).clone();
    config.resumption = Resumption::store(tickets.clone());
    let shaken = arena.try_shake(&Arc::new(config)).await?;
    let mut line = shaken.map_err(Finding::skipped)?;
    line.ping()
        .await?
        .done(|heard| Finding::skipped(format!("no answer to a ping: {heard}")))?;
    Ok(tickets)
}

async fn resumption(arena: &Arena) -> Judged {
    let given = tickets(arena).await?.given.load(Ordering::Relaxed);
    Ok(match given {
        0 => Finding::held("no ticket"),
        given => Finding::broken(format!("{given} tickets")),
    })
}

async fn early_data(arena: &Arena) -> Judged {
    let tickets = tickets(arena).await?;
    Ok(match tickets.early_bytes.load(Ordering::Relaxed) {
        0 => Finding::held("no ticket takes early data"),
        bytes => Finding::broken(format!("a ticket takes {bytes} bytes of early data")),
    })
}

async fn key_exchange(arena: &Arena) -> Judged {
    let line = arena
        .try_shake(&arena.bare)
        .await?
        .map_err(Finding::skipped)?;
    let group = line.tls().negotiated_key_exchange_group();
    let name = group.map(|group| group.name());
    Ok(match name {
        Some(NamedGroup::X25519MLKEM768) => Finding::held("X25519MLKEM768"),
        Some(other) => Finding::weak(format!("{other:?}")),
        None => Finding::weak("no key exchange is known"),
    })
}

/// That it is under the CA and for this name was checked by every handshake so far.
async fn certificate(arena: &Arena) -> Judged {
    let line = arena
        .try_shake(&arena.bare)
        .await?
        .map_err(Finding::skipped)?;
    let chain = line.tls().peer_certificates().unwrap_or_default();
    let parsed = chain
        .first()
        .and_then(|own| X509Certificate::from_der(own).ok());
    let Some((_, own)) = parsed else {
        return Err(Finding::broken("it cannot be read"));
    };
    let now_seconds = arena.now().unix_timestamp();
    let days = (own.validity().not_after.timestamp() - now_seconds).div_euclid(SECONDS_A_DAY);
    let faults = faults(&own, days);
    let strength = strength(&own).unwrap_or_else(|weak| weak);
    Ok(match faults.as_slice() {
        [] => Finding::held(format!("{strength}, {days} days left")),
        faults => Finding::weak(faults.join("; ")),
    })
}

fn faults(own: &X509Certificate<'_>, days: i64) -> Vec<String> {
    let mut faults = Vec::new();
    if days < DAYS_LEFT_MIN {
        faults.push(format!("{days} days left"));
    }
    if own.is_ca() {
        faults.push("it may issue certificates".to_owned());
    }
    let for_servers = own.extended_key_usage().ok().flatten();
    if !for_servers.is_some_and(|usage| usage.value.server_auth) {
        faults.push("it is not said to be for servers".to_owned());
    }
    let may_sign = own.key_usage().ok().flatten();
    if !may_sign.is_some_and(|usage| usage.value.digital_signature()) {
        faults.push("its key's usage is not said".to_owned());
    }
    faults.extend(strength(own).err());
    faults
}

/// The key in words, or that it is too weak.
fn strength(own: &X509Certificate<'_>) -> Result<String, String> {
    let (words, bits, least) = match own.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => ("RSA", key.key_size(), RSA_BITS_MIN),
        Ok(PublicKey::EC(point)) => ("ECDSA", point.key_size(), CURVE_BITS_MIN),
        // Ed25519 and what is newer.
        _ => return Ok("a key of another kind".to_owned()),
    };
    // Sizes are counted in whole bytes here and there.
    match bits >= least {
        true => Ok(format!("{words} of {bits} bits")),
        false => Err(format!("{words} of only {bits} bits")),
    }
}
