//! Records of TLS that carry nothing, or next to it: work that comes before any request.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::arena::Arena;
use super::super::line::{framed, request, span};
use super::super::probe::Probe;
use super::super::verdict::{Finding, Judged, Severity};
use super::flood::{SPARE, judge, pings, probe};
use crate::limits::default;
use crate::wire::code::Code;

/// Requests, as many as may come at once by default.
const REQUESTS: u64 = default::REQUEST_BURST.unsigned_abs();
/// Octets of each, frame and all: together they are twice as many as may come at once by default, if
/// each comes in a record of its own.
const REQUEST_OCTETS: usize = 40;
/// Who is answered sooner was read as fast as they sent.
const SOON: Duration = Duration::from_secs(2);
/// Connections that do nothing but renew their keys.
const RENEWING: usize = 16;
/// What they send between all updates of keys that TLS takes in a row: a frame that does not end.
const UNENDING: [u8; 10] = *b"\0\0\x04\0      ";

pub(in super::super) const PROBES: [Probe; 2] = [
    Probe {
        severity: Severity::Medium,
        tries: "100 pings, each octet of them in a TLS record of its own",
        good: "answers them all, but reads them no faster than so many records should come",
        means: "one connection can take the server's time with records that are counted by nothing",
        mends: "set [limits] records_per_second and record_burst, or requests_per_second and request_burst",
        run: |arena| Box::pin(small_records(arena)),
        ..probe("small-records")
    },
    Probe {
        tries: "16 connections that renew their keys again and again and ask for nothing",
        good: "others are answered meanwhile",
        means: "one peer can keep all others out without a single request",
        mends: "set [limits] records_per_second and record_burst, or requests_per_second and request_burst",
        run: |arena| Box::pin(key_updates(arena)),
        ..probe("key-updates")
    },
];

async fn small_records(arena: &Arena) -> Judged {
    let mut line = arena.line().await?;
    let began = Instant::now();
    for id in 0..REQUESTS {
        let mut payload = request(id, "ping", json!({}));
        payload.resize(REQUEST_OCTETS - 4, b' ');
        line.send_octets(&framed(&payload)).await?;
    }
    for _ in 0..REQUESTS {
        let heard = line.receive().await;
        if !heard.is(Code::Done) && !heard.is(Code::TooMany) {
            return Ok(Finding::weak(format!("one of the pings heard: {heard}")));
        }
    }
    let took = began.elapsed();
    let seen = format!("all answered in {}", span(took));
    Ok(if took < SOON {
        Finding::weak(seen)
    } else {
        Finding::held(seen)
    })
}

async fn key_updates(arena: &Arena) -> Judged {
    let mut good = arena.line().await?;
    let mut renewing = JoinSet::new();
    for _ in 0..RENEWING.min(arena.connections.saturating_sub(SPARE)) {
        let mut line = arena.line().await?;
        renewing.spawn(async move {
            for octet in UNENDING {
                // Whether it is read at all is the target's to choose.
                if !matches!(line.renew_keys(octet).await, Ok(true)) {
                    break;
                }
            }
            line
        });
    }
    let asked = renewing.len();
    let times = pings(&mut good).await;
    renewing.shutdown().await;
    Ok(judge(
        &format!("{asked} connections renewed their keys"),
        times?,
    ))
}
