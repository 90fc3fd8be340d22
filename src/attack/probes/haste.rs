//! Requests and log-ins faster than anyone needs them, and whether the bank stands at the end.

use serde_json::json;

use super::super::arena::Arena;
use super::super::line::{Heard, framed, request};
use super::super::probe::Probe;
use super::super::verdict::{Finding, Judged, Severity};
use super::flood::{judge, pings, probe};
use super::guessing::{guess, real};
use crate::limits::{self, default};
use crate::wire::code::Code;

/// Requests in one write of the hasty peer.
const BATCH: u64 = 100;
/// More than the default burst, what it refills meanwhile, and all refusals until it is closed.
const REQUESTS: u64 = 2_400;
/// More log-ins than a terminal has in a minute by default.
const LOG_INS: usize = 90;

pub(in super::super) const PROBES: [Probe; 3] = [
    Probe {
        severity: Severity::Medium,
        tries: "2,400 requests as fast as they are read, over one connection",
        good: "code 40 over the rate, then closes; others are answered meanwhile",
        means: "one connection can take the whole server's time",
        mends: "set [limits] requests_per_second and request_burst",
        run: |arena| Box::pin(requests(arena)),
        ..probe("requests")
    },
    Probe {
        tries: "90 log-ins as fast as they are answered, on one number that is made up",
        good: "code 40 over the rate of this terminal",
        means: "one terminal can keep all PIN checks busy, or try PINs fast",
        mends: "set [limits] logins_per_minute_per_terminal",
        run: |arena| Box::pin(log_ins(arena)),
        ..probe("log-ins")
    },
    Probe {
        severity: Severity::Critical,
        tries: "a ping, after all this",
        good: "answers",
        means: "something of this attack stopped the bank",
        mends: "see its log, restart it, and report what it says",
        run: |arena| Box::pin(still_there(arena)),
        ..probe("still-there")
    },
];

/// What became of a hasty peer.
#[derive(Default)]
struct Hasty {
    served: u64,
    refused: u64,
    closed: bool,
}

async fn hurry(arena: &Arena) -> Result<Hasty, Finding> {
    let mut line = arena.line().await?;
    let mut hasty = Hasty::default();
    for batch in 0..REQUESTS / BATCH {
        let ids = batch * BATCH..(batch + 1) * BATCH;
        let bytes: Vec<u8> = ids
            .clone()
            .flat_map(|id| framed(&request(id, "ping", json!({}))))
            .collect();
        line.send(&bytes).await?;
        for _ in ids {
            match line.receive().await {
                heard if heard.is(Code::Done) => hasty.served += 1,
                heard if heard.is(Code::TooMany) => hasty.refused += 1,
                Heard::Closed(_) => {
                    hasty.closed = true;
                    return Ok(hasty);
                }
                other => return Err(Finding::broken(format!("a hasty peer heard: {other}"))),
            }
        }
    }
    Ok(hasty)
}

async fn requests(arena: &Arena) -> Judged {
    let mut good = arena.line().await?;
    let (hasty, times) = tokio::join!(hurry(arena), pings(&mut good));
    let Hasty {
        served,
        refused,
        closed,
    } = hasty?;
    let seen = format!("{served} served, {refused} with code 40");
    let allowed = u64::from(limits::HASTE_ANSWERS_MAX);
    Ok(match (refused, closed) {
        (0, false) => Finding::weak(format!("{seen}, and no end")),
        (1.., true) => judge(&format!("{seen}, then closed"), times?),
        // Slow enough for the window to begin anew, or too generous a rate to get there.
        (1.., false) if refused < allowed => judge(&format!("{seen}, still open"), times?),
        (1.., false) => Finding::weak(format!("{seen}, still open")),
        (0, true) => Finding::weak(format!("{seen}, then closed without a code 40")),
    })
}

async fn log_ins(arena: &Arena) -> Judged {
    let number = arena.invent()?;
    let mut line = arena.line().await?;
    let mut judged = 0;
    for index in 0..LOG_INS {
        // Told to come again, a well-behaved peer would: this one does not.
        let heard = storm(&mut line, &number, index).await?;
        match heard {
            heard if heard.is(Code::NoMatch) || heard.is(Code::LockedOut) => judged += 1,
            heard if heard.is(Code::TooMany) => {
                let rate = default::LOGINS_PER_MINUTE_PER_TERMINAL;
                let seen = format!("code 40 after {judged} more (the default is {rate} a minute)");
                return Ok(Finding::held(seen));
            }
            heard if heard.is(Code::Done) => return Err(real()),
            // After three wrong PINs it is closed; the next connection goes on.
            Heard::Closed(_) => line = arena.line().await?,
            other => return Ok(Finding::broken(format!("a log-in heard: {other}"))),
        }
    }
    Ok(Finding::weak(format!("{judged} log-ins, and no code 40")))
}

async fn storm(
    line: &mut super::super::line::Line,
    number: &crate::domain::AccountNumber,
    index: usize,
) -> Result<Heard, Finding> {
    // The first three are looked at, all others meet the lock.
    if index < 3 {
        return guess(line, number, index).await;
    }
    let members = json!({ "account": number.to_string(), "pin": "7261" });
    let id = u64::try_from(index).unwrap_or(0);
    line.say(&request(id, "login", members)).await
}

async fn still_there(arena: &Arena) -> Judged {
    let config = if arena.admission.own {
        &arena.own
    } else {
        &arena.bare
    };
    let gone = |words: String| Finding::broken(format!("no connection any more: {words}"));
    let shaken = arena
        .try_shake(config)
        .await
        .map_err(|found| gone(found.seen))?;
    let mut line = match shaken {
        Ok(line) => line,
        // It was so before, too.
        Err(words) if !arena.admission.own => return Ok(Finding::held(words)),
        Err(words) => return Err(gone(words)),
    };
    let heard = line.ping().await?;
    Ok(match heard {
        heard if heard.is(Code::Done) => Finding::held("a ping was answered"),
        heard if !arena.admission.own && heard.is_closed() => Finding::held(heard.to_string()),
        other => Finding::broken(format!("a ping heard: {other}")),
    })
}
