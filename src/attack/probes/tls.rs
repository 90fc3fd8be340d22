//! Greetings that are none, or the wrong ones: below TLS, seen byte by byte.

use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::super::arena::Arena;
use super::super::hello::{Hello, Version};
use super::super::line::{framed, request, span};
use super::super::probe::{Family, Pace, Probe};
use super::super::verdict::{Finding, Judged, Severity};
use crate::limits;
use crate::wire::ALPN;

const MEND_TERMINATOR: &str = "let no proxy end TLS in front of the bank; its own TLS refuses this";
const MEND_DEADLINE: &str = "set [server] handshake_timeout_ms; give --patience where it is longer";

const fn probe(name: &'static str, pace: Pace) -> Probe {
    Probe {
        family: Family::Tls,
        name,
        pace,
        severity: Severity::High,
        tries: "",
        good: "",
        means: "",
        mends: MEND_TERMINATOR,
        run: |arena| Box::pin(silence(arena)),
    }
}

/// The old versions differ in nothing but their number.
const fn old(name: &'static str, tries: &'static str) -> Probe {
    Probe {
        severity: Severity::Medium,
        tries,
        good: "refuses: TLS 1.3 or nothing",
        means: "connections can be talked down to a TLS with known holes",
        ..probe(name, Pace::Quick)
    }
}

pub(in super::super) const PROBES: [Probe; 9] = [
    Probe {
        severity: Severity::Critical,
        tries: "a request without TLS",
        good: "answers nothing but a TLS alert, and closes",
        means: "PINs may travel in clear text",
        run: |arena| Box::pin(plain_text(arena)),
        ..probe("plain-text", Pace::Quick)
    },
    Probe {
        tries: "1,024 random bytes instead of a greeting",
        good: "closes",
        means: "noise keeps a connection, and places run out",
        run: |arena| Box::pin(garbage(arena)),
        ..probe("garbage", Pace::Quick)
    },
    Probe {
        tries: "a connection that says nothing",
        good: "closes when the handshake's time is over",
        means: "silent peers take all places",
        mends: MEND_DEADLINE,
        run: |arena| Box::pin(silence(arena)),
        ..probe("silence", Pace::Waits)
    },
    Probe {
        tries: "half a greeting, then silence",
        good: "closes when the handshake's time is over",
        means: "half-open peers take all places",
        mends: MEND_DEADLINE,
        run: |arena| Box::pin(half_hello(arena)),
        ..probe("half-hello", Pace::Waits)
    },
    Probe {
        run: |arena| Box::pin(version(arena, Version::Ssl3)),
        ..old("ssl-3.0", "a greeting of SSL 3.0")
    },
    Probe {
        run: |arena| Box::pin(version(arena, Version::Tls10)),
        ..old("tls-1.0", "a greeting of TLS 1.0")
    },
    Probe {
        run: |arena| Box::pin(version(arena, Version::Tls11)),
        ..old("tls-1.1", "a greeting of TLS 1.1")
    },
    Probe {
        run: |arena| Box::pin(version(arena, Version::Tls12)),
        ..old("tls-1.2", "a greeting of TLS 1.2 and no newer")
    },
    Probe {
        severity: Severity::Medium,
        tries: "a greeting that takes nothing but compressed TLS",
        good: "refuses",
        means: "lengths of compressed records give secrets away (CRIME)",
        run: |arena| Box::pin(compression(arena)),
        ..probe("compression", Pace::Quick)
    },
];

/// What was heard below TLS.
struct Heard {
    bytes: Vec<u8>,
    closed: bool,
    after: Duration,
}

/// Sends bytes and listens until the target closes or begins a handshake, or patience is over.
async fn hear(arena: &Arena, bytes: &[u8]) -> Result<Heard, Finding> {
    let (mut tcp, _permit) = arena.dial_bare().await?;
    let began = Instant::now();
    // A target that takes no more is about to close, which is seen below.
    let _ = timeout(limits::ATTACK_ANSWER_TIMEOUT, tcp.write_all(bytes)).await;
    let (mut heard, mut closed) = (Vec::new(), false);
    while heard.len() < limits::ATTACK_HEARD_BYTES_MAX && heard.first() != Some(&HANDSHAKE) {
        match timeout_at(began + arena.patience, tcp.read_buf(&mut heard)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) => {
                closed = true;
                break;
            }
            Err(_) => break,
        }
    }
    Ok(Heard {
        bytes: heard,
        closed,
        after: began.elapsed(),
    })
}

/// The kinds of TLS records.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

fn refused(heard: &Heard) -> Finding {
    let after = span(heard.after);
    match (heard.bytes.first(), heard.closed) {
        (Some(&ALERT), true) => Finding::held(format!("{}, then closed", alert(&heard.bytes))),
        (None, true) => Finding::held(format!("closed after {after} without a word")),
        (Some(&ALERT), false) => Finding::weak(format!(
            "{}, and still open after {after}",
            alert(&heard.bytes)
        )),
        (None, false) => Finding::broken(format!("still open after {after}")),
        (Some(&HANDSHAKE), _) => Finding::broken("it went on with the handshake"),
        (Some(_), _) => Finding::broken("it answered without TLS"),
    }
}

/// An alert in clear text: its record's header has 5 bytes, then its level, then its number.
fn alert(record: &[u8]) -> String {
    match record.get(6) {
        Some(number) => format!("TLS alert {number}"),
        None => "a TLS alert".to_owned(),
    }
}

async fn plain_text(arena: &Arena) -> Judged {
    let ping = framed(&request(1, "ping", serde_json::json!({})));
    Ok(refused(&hear(arena, &ping).await?))
}

async fn garbage(arena: &Arena) -> Judged {
    let mut noise = arena.noise(1_024);
    // Not even the kind of a record is right.
    if let Some(first) = noise.first_mut() {
        *first |= 0x80;
    }
    Ok(refused(&hear(arena, &noise).await?))
}

async fn silence(arena: &Arena) -> Judged {
    Ok(refused(&hear(arena, &[]).await?))
}

async fn half_hello(arena: &Arena) -> Judged {
    let mut hello = greeting(arena, Version::Tls13, &[0]);
    hello.truncate(hello.len() / 2);
    Ok(refused(&hear(arena, &hello).await?))
}

async fn version(arena: &Arena, version: Version) -> Judged {
    let hello = greeting(arena, version, &[0]);
    Ok(refused(&hear(arena, &hello).await?))
}

async fn compression(arena: &Arena) -> Judged {
    let hello = greeting(arena, Version::Tls13, &[1]);
    Ok(refused(&hear(arena, &hello).await?))
}

fn greeting(arena: &Arena, version: Version, compression: &[u8]) -> Vec<u8> {
    let host = match &arena.name {
        ServerName::DnsName(name) => Some(name.as_ref()),
        _ => None,
    };
    Hello {
        version,
        host,
        alpn: ALPN,
        compression,
        random: arena.greeting_random(),
    }
    .record()
}
