//! One account, one session.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::arena::Arena;
use super::super::line::{Heard, span};
use super::super::probe::{Family, Pace, Probe};
use super::super::verdict::{Finding, Judged, Severity};
use crate::wire::code::Code;

const MEND_SERVER: &str = "this server does not keep to the protocol (section 12): replace it";
/// Log-ins at one moment.
const AT_ONCE: usize = 4;
/// An account that is free after so long was freed at once.
const AT_ONCE_WITHIN: Duration = Duration::from_secs(3);
/// Pauses between looks at whether the account is free: few, because each look is a log-in.
const LOOKS_MS: [u64; 7] = [20, 80, 200, 500, 1_000, 2_000, 4_000];

const fn probe(name: &'static str) -> Probe {
    Probe {
        family: Family::Sessions,
        name,
        pace: Pace::Quick,
        severity: Severity::Critical,
        tries: "",
        good: "",
        means: "two terminals can spend the same money",
        mends: MEND_SERVER,
        run: |arena| Box::pin(two_places(arena)),
    }
}

pub(in super::super) const PROBES: [Probe; 3] = [
    Probe {
        tries: "a log-in with the right PIN while the account is in use elsewhere",
        good: "code 21",
        ..probe("two-places")
    },
    Probe {
        tries: "four log-ins with the right PIN at one moment",
        good: "one gets in, the others code 21",
        run: |arena| Box::pin(at_one_moment(arena)),
        ..probe("at-one-moment")
    },
    Probe {
        severity: Severity::Medium,
        tries: "a connection that is cut without log-out",
        good: "frees the account at once",
        means: "a crash keeps customers from their money",
        run: |arena| Box::pin(cut(arena)),
        ..probe("cut")
    },
];

async fn two_places(arena: &Arena) -> Judged {
    let customer = arena.customer()?;
    let (first, _) = arena.logged_in().await?;
    let mut second = arena.line().await?;
    let heard = second.log_in(&customer.account, &customer.pin).await?;
    first.leave().await;
    Ok(match heard.is(Code::InUse) {
        true => Finding::held("code 21"),
        false => Finding::broken(format!("{heard} instead of code 21")),
    })
}

async fn at_one_moment(arena: &Arena) -> Judged {
    let customer = arena.customer()?;
    // Nobody is logged in from before.
    arena.logged_in().await?.0.leave().await;
    let mut racing = JoinSet::new();
    for _ in 0..AT_ONCE {
        let mut line = arena.line().await?;
        let (account, pin) = (customer.account, super::super::line::copy(&customer.pin)?);
        racing.spawn(async move {
            let heard = line.log_in(&account, &pin).await;
            (line, heard)
        });
    }
    let (mut lines, mut admitted, mut others) = (Vec::new(), 0, Vec::new());
    while let Some(ended) = racing.join_next().await {
        let (line, heard) = ended.map_err(|error| Finding::skipped(error.to_string()))?;
        // All stay until all are judged.
        lines.push(line);
        match heard? {
            heard if heard.is(Code::Done) => admitted += 1,
            heard if heard.is(Code::InUse) => {}
            heard => others.push(heard.to_string()),
        }
    }
    for line in lines {
        line.leave().await;
    }
    Ok(match (admitted, others.as_slice()) {
        (1, []) => Finding::held(format!("1 of {AT_ONCE}")),
        (2.., _) => Finding::broken(format!("{admitted} of {AT_ONCE} got in")),
        (_, others) => Finding::weak(format!("{admitted} got in; {}", others.join(", "))),
    })
}

async fn cut(arena: &Arena) -> Judged {
    let customer = arena.customer()?;
    let (line, _) = arena.logged_in().await?;
    let mut second = arena.line().await?;
    drop(line);
    let began = Instant::now();
    let mut last = None;
    for pause_ms in LOOKS_MS {
        sleep(Duration::from_millis(pause_ms)).await;
        let heard = second.log_in(&customer.account, &customer.pin).await?;
        match heard {
            Heard::Answer(said) if said.answer.code == Code::Done => {
                second.leave().await;
                let after = began.elapsed();
                let seen = format!("free after {}", span(after));
                let soon = after <= AT_ONCE_WITHIN;
                return Ok(if soon {
                    Finding::held(seen)
                } else {
                    Finding::weak(seen)
                });
            }
            heard => last = Some(heard),
        }
    }
    let last = last.map_or_else(String::new, |heard| heard.to_string());
    Ok(Finding::broken(format!(
        "after {}: {last}",
        span(began.elapsed())
    )))
}
