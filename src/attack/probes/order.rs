//! Requests at the wrong time, and requests twice.

use serde_json::{Value, json};

use super::super::arena::{Arena, wrong};
use super::super::line::{Heard, Line, copy, framed, request};
use super::super::probe::{Family, Pace, Probe};
use super::super::verdict::{Finding, Judged, Severity};
use crate::wire::code::Code;
use crate::wire::request::Request;

const MEND_SERVER: &str = "this server does not keep to the protocol (section 9): replace it";
/// Nobody has made a hold of this name.
const NO_HOLD: &str = "attack-no-such-hold";

const fn probe(name: &'static str, severity: Severity) -> Probe {
    Probe {
        family: Family::Order,
        name,
        pace: Pace::Quick,
        severity,
        tries: "",
        good: "",
        means: "money can be moved, or seen, without the PIN",
        mends: MEND_SERVER,
        run: |arena| Box::pin(before_log_in(arena)),
    }
}

pub(in super::super) const PROBES: [Probe; 7] = [
    Probe {
        tries: "every request that needs a log-in, before one",
        good: "code 23 for each",
        ..probe("before-log-in", Severity::Critical)
    },
    Probe {
        tries: "capture and release of a hold that nobody made",
        good: "code 35 (23 without a certificate)",
        means: "holds of other terminals can be booked or given back",
        run: |arena| Box::pin(unknown_hold(arena)),
        ..probe("unknown-hold", Severity::Critical)
    },
    Probe {
        tries: "a second log-in on one connection",
        good: "code 24",
        means: "it is not clear whose money the next request moves",
        run: |arena| Box::pin(log_in_twice(arena)),
        ..probe("log-in-twice", Severity::High)
    },
    Probe {
        tries: "requests sent together with a log-out, behind it",
        good: "code 23 for each",
        run: |arena| Box::pin(behind_a_log_out(arena)),
        ..probe("behind-a-log-out", Severity::Critical)
    },
    Probe {
        tries: "change_pin with a wrong PIN, and to the old PIN again",
        good: "codes 20 and 36, and the old PIN still serves",
        means: "whoever finds a session open can take the account over",
        run: |arena| Box::pin(change_pin(arena)),
        ..probe("change-pin", Severity::High)
    },
    Probe {
        tries: "one request twice under one key (a hold of one minor unit, released after)",
        good: "the first answer again, said to be a replay",
        means: "a terminal that repeats after a lost connection moves money twice",
        run: |arena| Box::pin(replay(arena)),
        ..probe("replay", Severity::Critical)
    },
    Probe {
        tries: "another request under a used key",
        good: "code 33",
        means: "one order can pass for another",
        run: |arena| Box::pin(key_of_another(arena)),
        ..probe("key-of-another", Severity::High)
    },
];

/// Every op that needs a log-in, as JSON. The amounts are none, so that a server without any
/// order moves nothing either.
fn needing_log_in(arena: &Arena) -> Result<Vec<(&'static str, Value)>, Finding> {
    let to = arena.invent()?.to_string();
    let money = || json!({ "amount": 0, "key": arena.key() });
    Ok(vec![
        ("balance", json!({})),
        ("history", json!({})),
        ("deposit", money()),
        ("withdraw", money()),
        ("authorize", money()),
        (
            "transfer",
            json!({ "to": to, "amount": 0, "key": arena.key() }),
        ),
        ("change_pin", json!({ "pin": "7261", "new_pin": "8264" })),
        ("logout", json!({})),
    ])
}

async fn before_log_in(arena: &Arena) -> Judged {
    let mut line = arena.line().await?;
    let all = needing_log_in(arena)?;
    let count = all.len();
    for (op, members) in all {
        let heard = line.ask(op, members).await?;
        if !heard.is(Code::NotLoggedIn) {
            return Ok(Finding::broken(format!("{op} before log-in: {heard}")));
        }
    }
    Ok(Finding::held(format!("code 23 for all {count}")))
}

async fn unknown_hold(arena: &Arena) -> Judged {
    let mut line = arena.line().await?;
    let capture = json!({ "hold": NO_HOLD, "amount": 1, "key": arena.key() });
    let release = json!({ "hold": NO_HOLD, "key": arena.key() });
    let good = if arena.has_certificate && !arena.admission.nameless {
        Code::NoHold
    } else {
        Code::NotLoggedIn
    };
    for (op, members) in [("capture", capture), ("release", release)] {
        let heard = line.ask(op, members).await?;
        // Who asks for no certificate calls everybody anonymous.
        if !heard.is(good) && !heard.is(Code::NotLoggedIn) {
            return Ok(Finding::broken(format!(
                "{op} of a hold that nobody made: {heard}"
            )));
        }
    }
    Ok(Finding::held(format!("code {} for both", good.number())))
}

async fn log_in_twice(arena: &Arena) -> Judged {
    let customer = arena.customer()?;
    let (mut line, _) = arena.logged_in().await?;
    let heard = line.log_in(&customer.account, &customer.pin).await?;
    line.leave().await;
    Ok(match heard.is(Code::AlreadyLoggedIn) {
        true => Finding::held("code 24"),
        false => Finding::broken(format!("{heard} instead of code 24")),
    })
}

async fn behind_a_log_out(arena: &Arena) -> Judged {
    let (mut line, _) = arena.logged_in().await?;
    let ops = ["logout", "balance", "history", "logout"];
    let all: Vec<u8> = ops
        .iter()
        .zip(9_000_u64..)
        .flat_map(|(op, id)| framed(&request(id, op, json!({}))))
        .collect();
    line.send(&all).await?;
    for (index, op) in ops.iter().enumerate() {
        let heard = line.receive().await;
        let good = if index == 0 {
            Code::Done
        } else {
            Code::NotLoggedIn
        };
        if !heard.is(good) {
            return Ok(Finding::broken(format!("{op} behind the log-out: {heard}")));
        }
    }
    Ok(Finding::held("code 23 for all 3 behind it"))
}

async fn change_pin(arena: &Arena) -> Judged {
    let customer = arena.customer()?;
    super::guessing::may_be_wrong_once(arena).await?;
    let (mut line, _) = arena.logged_in().await?;
    let to_old = |pin| -> Result<Request, Finding> {
        let new_pin = copy(&customer.pin)?;
        Ok(Request::ChangePin { pin, new_pin })
    };
    let same = line.request(&to_old(copy(&customer.pin)?)?).await?;
    let guessed = line.request(&to_old(wrong(&customer.pin)?)?).await?;
    line.leave().await;
    // The right PIN makes the bank forget the wrong one.
    let (line, _) = arena.logged_in().await.map_err(|found| {
        Finding::broken(format!(
            "the old PIN does not serve any more: {}",
            found.seen
        ))
    })?;
    line.leave().await;
    Ok(
        match (same.is(Code::PinRefused), guessed.is(Code::NoMatch)) {
            (true, true) => Finding::held("codes 36 and 20, and the old PIN serves"),
            (_, false) => Finding::broken(format!("{guessed} to a wrong PIN instead of code 20")),
            (false, true) => Finding::weak(format!("{same} to the old PIN instead of code 36")),
        },
    )
}

/// A hold of one minor unit, under this key.
async fn hold(line: &mut Line, key: &str) -> Result<String, Finding> {
    let heard = authorize(line, key, 1).await?;
    let said = heard.done(|heard| {
        Finding::skipped(format!(
            "needs an account with one minor unit to hold: {heard}"
        ))
    })?;
    let hold = said.answer.members.hold;
    hold.ok_or_else(|| Finding::broken("a hold without a name"))
}

async fn authorize(line: &mut Line, key: &str, amount: i64) -> Result<Heard, Finding> {
    line.ask("authorize", json!({ "amount": amount, "key": key }))
        .await
}

async fn release(arena: &Arena, line: &mut Line, hold: &str) -> Result<(), Finding> {
    let members = json!({ "hold": hold, "key": arena.key() });
    let heard = line.ask("release", members).await?;
    heard
        .done(|heard| Finding::weak(format!("a hold was not released: {heard}")))
        .map(|_| ())
}

async fn replay(arena: &Arena) -> Judged {
    let (mut line, welcome) = arena.logged_in().await?;
    let key = arena.key();
    let first = hold(&mut line, &key).await?;
    let again = authorize(&mut line, &key, 1).await?;
    release(arena, &mut line, &first).await?;
    let after = line.ask("balance", json!({})).await?;
    let verdict = match &again {
        Heard::Answer(said) if said.answer.members.hold.as_ref() == Some(&first) => {
            match said.answer.members.replayed {
                Some(true) => Finding::held("the same hold, replayed"),
                _ => Finding::weak("the same hold, but not said to be a replay"),
            }
        }
        Heard::Answer(said) => match &said.answer.members.hold {
            Some(second) => {
                // Where even that fails the hold runs out by itself.
                let _ = release(arena, &mut line, second).await;
                Finding::broken("a second hold under the same key")
            }
            None => Finding::broken(format!("{again} instead of the first answer")),
        },
        other => Finding::broken(format!("{other} instead of the first answer")),
    };
    line.leave().await;
    match after {
        Heard::Answer(said) if said.balances() == welcome.balances() => Ok(verdict),
        Heard::Answer(_) if verdict.verdict == super::super::verdict::Verdict::Held => {
            Ok(Finding::broken("after it the balance was another"))
        }
        _ => Ok(verdict),
    }
}

async fn key_of_another(arena: &Arena) -> Judged {
    let (mut line, _) = arena.logged_in().await?;
    let key = arena.key();
    let first = hold(&mut line, &key).await?;
    let other = authorize(&mut line, &key, 2).await?;
    release(arena, &mut line, &first).await?;
    line.leave().await;
    Ok(match other.is(Code::KeyReused) {
        true => Finding::held("code 33"),
        false => Finding::broken(format!("{other} instead of code 33")),
    })
}
