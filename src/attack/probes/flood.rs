//! Too many connections, and whether the others are still served.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::super::arena::{Arena, NoLine, timed};
use super::super::line::{Line, span};
use super::super::probe::{Family, Pace, Probe};
use super::super::verdict::{Finding, Judged, Severity};
use crate::limits;
use crate::wire::code::Code;

/// Connections that are kept for the well-behaved terminal and for looking.
pub(super) const SPARE: usize = 4;
/// How often a well-behaved terminal asks meanwhile, and how many times.
const PING_EVERY: Duration = Duration::from_millis(40);
const PINGS: usize = 20;
/// A median over this keeps customers waiting.
const SLOW: Duration = Duration::from_secs(1);

pub(super) const fn probe(name: &'static str) -> Probe {
    Probe {
        family: Family::Flood,
        name,
        pace: Pace::Loud,
        severity: Severity::High,
        tries: "",
        good: "",
        means: "one peer can keep all others out",
        mends: "set [server] max_connections_per_ip and the rates of [limits]; give the machine more",
        run: |arena| Box::pin(half_open(arena)),
    }
}

pub(in super::super) const PROBES: [Probe; 2] = [
    Probe {
        tries: "as many connections as --connections allows, none of which begins TLS",
        good: "others are answered meanwhile",
        ..probe("half-open")
    },
    Probe {
        tries: "as many TLS connections as --connections allows, at once",
        good: "others are answered meanwhile",
        run: |arena| Box::pin(connections(arena)),
        ..probe("connections")
    },
];

/// Pings of a well-behaved terminal, and how long each took.
pub(super) async fn pings(line: &mut Line) -> Result<Vec<Duration>, Finding> {
    let (mut times, mut pace) = (Vec::new(), interval(PING_EVERY));
    for _ in 0..PINGS {
        pace.tick().await;
        let (heard, took) = timed(line.ping()).await;
        let heard = heard?;
        if !heard.is(Code::Done) {
            return Err(Finding::broken(format!(
                "meanwhile another terminal heard: {heard}"
            )));
        }
        times.push(took);
    }
    Ok(times)
}

pub(super) fn judge(what: &str, mut times: Vec<Duration>) -> Finding {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let worst = times.last().copied().unwrap_or_default();
    let seen = format!(
        "{what}; meanwhile {} pings: median {}, worst {}",
        times.len(),
        span(median),
        span(worst)
    );
    if median > SLOW {
        Finding::weak(seen)
    } else {
        Finding::held(seen)
    }
}

async fn half_open(arena: &Arena) -> Judged {
    let mut good = arena.line().await?;
    let mut open = Vec::new();
    for _ in 0..arena.connections.saturating_sub(SPARE) {
        arena.sends.spend()?;
        if let Ok(dialled) = arena.dial().await {
            open.push(dialled);
        }
    }
    let times = pings(&mut good).await?;
    Ok(judge(&format!("{} half-open", open.len()), times))
}

async fn connections(arena: &Arena) -> Judged {
    let mut good = arena.line().await?;
    let asked = arena.connections.saturating_sub(SPARE);
    let began = Instant::now();
    let mut shaking = JoinSet::new();
    for _ in 0..asked {
        arena.sends.spend()?;
        let (tcp, permit) = match arena.dial().await {
            Ok(dialled) => dialled,
            Err(_) => continue,
        };
        let connector = tokio_rustls::TlsConnector::from(arena.own.clone());
        let (name, sends) = (arena.name.clone(), arena.sends.clone());
        shaking.spawn(async move {
            let handshake = connector.connect(name, tcp);
            match tokio::time::timeout(limits::ATTACK_CONNECT_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => Ok(Line::over(stream, sends, permit)),
                _ => Err(NoLine::Lost("no handshake".to_owned())),
            }
        });
    }
    let times = pings(&mut good).await;
    let open = shaking
        .join_all()
        .await
        .into_iter()
        .filter(Result::is_ok)
        .count();
    let took = span(began.elapsed());
    Ok(judge(
        &format!("{open} of {asked} TLS connections in {took}"),
        times?,
    ))
}
