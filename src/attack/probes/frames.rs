//! Lengths that lie, frames that never end, and what stands behind a last one.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, interval};

use super::super::arena::{Arena, timed};
use super::super::line::{Heard, Line, framed, request, span};
use super::super::probe::{Family, Pace, Probe};
use super::super::verdict::{Finding, Judged, Severity};
use crate::limits::default;
use crate::wire::code::Code;

const MEND_LIMIT: &str = "set [limits] frame_before_login";
const MEND_DEADLINE: &str = "set [server] frame_timeout_ms; give --patience where it is longer";
const MEND_SERVER: &str = "this server does not keep to the protocol (section 3): replace it";
/// Requests in one write.
const AT_ONCE: u64 = 20;
/// Between two bytes of a slow frame.
const DRIP: Duration = Duration::from_millis(100);
/// A slow frame's length: at one byte a drip it takes longer than anyone's patience.
const SLOW_BYTES: u32 = 4_000;

const fn probe(name: &'static str, pace: Pace) -> Probe {
    Probe {
        family: Family::Frames,
        name,
        pace,
        severity: Severity::High,
        tries: "",
        good: "code 11 at once, and closes",
        means: "a peer's word decides how much memory is taken",
        mends: MEND_SERVER,
        run: |arena| Box::pin(length(arena, 0)),
    }
}

const fn slow(name: &'static str, tries: &'static str) -> Probe {
    Probe {
        tries,
        good: "closes when the frame's time is over",
        means: "slow peers take all places (slowloris)",
        mends: MEND_DEADLINE,
        ..probe(name, Pace::Waits)
    }
}

pub(in super::super) const PROBES: [Probe; 8] = [
    Probe {
        tries: "a frame of length 0",
        ..probe("empty", Pace::Quick)
    },
    Probe {
        tries: "a frame said to be 4,294,967,295 bytes long",
        run: |arena| Box::pin(length(arena, u32::MAX)),
        ..probe("huge", Pace::Quick)
    },
    Probe {
        severity: Severity::Medium,
        tries: "before log-in, a frame said to be a byte longer than the default after it",
        means: "whoever is not logged in may make the server take more than it needs",
        mends: MEND_LIMIT,
        run: |arena| Box::pin(over_limit(arena)),
        ..probe("over-limit", Pace::Quick)
    },
    Probe {
        run: |arena| Box::pin(cut(arena, &[0, 0])),
        ..slow("cut-header", "half of a frame's length, then silence")
    },
    Probe {
        run: |arena| Box::pin(cut_frame(arena)),
        ..slow("cut-frame", "half of a frame, then silence")
    },
    Probe {
        run: |arena| Box::pin(one_byte_at_a_time(arena)),
        ..slow("slow", "a frame that comes one byte at a time")
    },
    Probe {
        severity: Severity::Medium,
        tries: "twenty requests in one write",
        good: "answers all, in order",
        means: "answers can be taken for those to other requests",
        run: |arena| Box::pin(many_at_once(arena)),
        ..probe("many-at-once", Pace::Quick)
    },
    Probe {
        severity: Severity::Medium,
        tries: "a request behind a frame that closes the connection",
        good: "code 11, then nothing more",
        means: "what a broken peer sends is still carried out",
        run: |arena| Box::pin(behind_the_last(arena)),
        ..probe("behind-the-last", Pace::Quick)
    },
];

/// Code 11, then the end.
async fn refused(arena: &Arena, line: &mut Line) -> Judged {
    let (heard, after) = timed(line.receive()).await;
    if !heard.is(Code::FrameSize) {
        let seen = format!("instead of code 11: {heard}");
        return Ok(if heard.is_closed() {
            Finding::weak(seen)
        } else {
            Finding::broken(seen)
        });
    }
    let ended = line.receive_within(arena.patience).await;
    Ok(match ended.is_closed() {
        true => Finding::held(format!("code 11 after {}, then {ended}", span(after))),
        false => Finding::broken(format!("code 11, then {ended}")),
    })
}

async fn length(arena: &Arena, length: u32) -> Judged {
    let mut line = arena.line().await?;
    line.send(&length.to_be_bytes()).await?;
    refused(arena, &mut line).await
}

async fn over_limit(arena: &Arena) -> Judged {
    let over = u32::try_from(default::FRAME_AFTER_LOGIN_BYTES + 1).unwrap_or(u32::MAX);
    let mut line = arena.line().await?;
    line.send(&over.to_be_bytes()).await?;
    let heard = refused(arena, &mut line).await?;
    // A larger limit may have been configured: the server then waits for the rest.
    Ok(match heard.seen.contains("silence") {
        true => Finding::weak(format!("before log-in it takes frames of {over} bytes")),
        false => heard,
    })
}

/// Waits for the end of a connection that owes the rest of a frame.
async fn ends(arena: &Arena, line: &mut Line, began: Instant) -> Judged {
    let left = arena.patience.saturating_sub(began.elapsed());
    let heard = line.receive_within(left).await;
    let after = span(began.elapsed());
    Ok(match heard {
        Heard::Closed(_) => Finding::held(format!("closed after {after}")),
        Heard::Silence(_) => Finding::broken(format!("still open after {after}")),
        other => Finding::weak(format!("{other} after {after}")),
    })
}

async fn cut(arena: &Arena, bytes: &[u8]) -> Judged {
    let mut line = arena.line().await?;
    let began = Instant::now();
    line.send(bytes).await?;
    ends(arena, &mut line, began).await
}

async fn cut_frame(arena: &Arena) -> Judged {
    let mut frame = framed(&request(1, "ping", json!({})));
    frame.truncate(frame.len() / 2);
    cut(arena, &frame).await
}

async fn one_byte_at_a_time(arena: &Arena) -> Judged {
    let mut line = arena.line().await?;
    let began = Instant::now();
    line.send(&SLOW_BYTES.to_be_bytes()).await?;
    let mut drips = interval(DRIP);
    while began.elapsed() < arena.patience {
        drips.tick().await;
        if !line.send(b" ").await? {
            let after = span(began.elapsed());
            return Ok(Finding::held(format!("closed after {after}")));
        }
        // What it says is looked for at once, so that its end is seen as early as it comes.
        let heard = line.receive_within(Duration::from_millis(1)).await;
        match heard {
            Heard::Silence(_) => {}
            Heard::Closed(_) => {
                let after = span(began.elapsed());
                return Ok(Finding::held(format!("closed after {after}")));
            }
            other => return Ok(Finding::weak(format!("{other} in the middle of a frame"))),
        }
    }
    Ok(Finding::broken(format!(
        "still open after {}",
        span(began.elapsed())
    )))
}

async fn many_at_once(arena: &Arena) -> Judged {
    let mut line = arena.line().await?;
    let all: Vec<u8> = (1..=AT_ONCE)
        .flat_map(|id| framed(&request(id, "ping", json!({}))))
        .collect();
    line.send(&all).await?;
    for id in 1..=AT_ONCE {
        match line.receive().await {
            Heard::Answer(said) if said.answer.id == Some(id) => {}
            other => {
                return Ok(Finding::broken(format!("instead of answer {id}: {other}")));
            }
        }
    }
    Ok(Finding::held(format!("{AT_ONCE} answers in order")))
}

async fn behind_the_last(arena: &Arena) -> Judged {
    let mut line = arena.line().await?;
    let mut bytes = vec![0; 4];
    bytes.extend(framed(&request(1, "ping", json!({}))));
    line.send(&bytes).await?;
    refused(arena, &mut line).await
}
