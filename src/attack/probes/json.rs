//! Messages that two readers could read differently, or that a careless one chokes on.

use super::super::arena::Arena;
use super::super::line::Line;
use super::super::probe::{Family, Pace, Probe};
use super::super::verdict::{Finding, Judged, Severity};
use crate::wire::code::Code;

/// A word that stands in what is sent, and may stand in nothing that comes back.
pub(super) const CANARY: &str = "canary7261";
const MEND_SERVER: &str = "this server does not keep to the protocol (section 4): replace it";
/// Malformed messages in a row after which the protocol closes a connection.
const IN_A_ROW: usize = 3;
/// More are not sent.
const IN_A_ROW_TRIED: usize = 8;

const fn probe(name: &'static str, tries: &'static str) -> Probe {
    Probe {
        family: Family::Json,
        name,
        pace: Pace::Quick,
        severity: Severity::Medium,
        tries,
        good: "code 10 for each, repeating nothing of it",
        means: "what one part of the bank reads, another may read differently",
        mends: MEND_SERVER,
        run: |arena| Box::pin(malformed(arena, &STRUCTURE)),
    }
}

pub(in super::super) const PROBES: [Probe; 5] = [
    probe(
        "structure",
        "no JSON, no object, two objects, a byte-order mark, too deep",
    ),
    Probe {
        run: |arena| Box::pin(malformed(arena, &MEMBERS)),
        ..probe("members", "members that are there twice, unknown, missing")
    },
    Probe {
        run: |arena| Box::pin(malformed(arena, &NUMBERS)),
        ..probe(
            "numbers",
            "fractions, exponents, ids and limits out of range, huge integers",
        )
    },
    Probe {
        run: |arena| Box::pin(malformed(arena, &TEXTS)),
        ..probe(
            "texts",
            "wrong types, broken UTF-8, lone surrogates, NUL, other digits",
        )
    },
    Probe {
        severity: Severity::Low,
        good: "closes after the third",
        means: "a peer may feed it nonsense for ever",
        run: |arena| Box::pin(in_a_row(arena)),
        ..probe("in-a-row", "malformed messages in a row")
    },
];

/// What is wrong, and the message.
type Case = (&'static str, &'static [u8]);

const STRUCTURE: [Case; 9] = [
    ("no JSON", b"canary7261"),
    ("an array", br#"["canary7261"]"#),
    ("a string", br#""canary7261""#),
    ("cut short", br#"{"id":1,"op":"ping","canary7261"#),
    (
        "two objects",
        br#"{"id":1,"op":"ping"}{"id":2,"op":"canary7261"}"#,
    ),
    ("a comma too many", br#"{"id":1,"op":"ping",}"#),
    (
        "a byte-order mark",
        b"\xef\xbb\xbf{\"id\":1,\"op\":\"ping\"}",
    ),
    ("a comment", br#"{"id":1,"op":"ping"/*canary7261*/}"#),
    (
        "too deep",
        br#"{"id":1,"op":"ping","canary7261":[[[[[[[[1]]]]]]]]}"#,
    ),
];

const MEMBERS: [Case; 6] = [
    ("an op twice", br#"{"id":1,"op":"ping","op":"canary7261"}"#),
    (
        "an op twice, once in escapes",
        br#"{"id":1,"op":"ping","\u006fp":"canary7261"}"#,
    ),
    ("an id twice", br#"{"id":1,"id":2,"op":"ping"}"#),
    (
        "an unknown member",
        br#"{"id":1,"op":"ping","canary7261":1}"#,
    ),
    ("no id", br#"{"op":"ping"}"#),
    ("no PIN", br#"{"id":1,"op":"login","account":"canary7261"}"#),
];

const NUMBERS: [Case; 10] = [
    ("an id with a fraction", br#"{"id":1.0,"op":"ping"}"#),
    ("an id with an exponent", br#"{"id":1e0,"op":"ping"}"#),
    ("a negative id", br#"{"id":-1,"op":"ping"}"#),
    (
        "an id over 2^53-1",
        br#"{"id":9007199254740992,"op":"ping"}"#,
    ),
    (
        "an id of 40 digits",
        br#"{"id":1000000000000000000000000000000000000000,"op":"ping"}"#,
    ),
    ("an id that is text", br#"{"id":"canary7261","op":"ping"}"#),
    (
        "an amount with a fraction",
        br#"{"id":1,"op":"deposit","amount":1.5,"key":"canary7261-canary7261"}"#,
    ),
    (
        "an amount over 64 bits",
        br#"{"id":1,"op":"deposit","amount":9223372036854775808,"key":"canary7261-canary7261"}"#,
    ),
    ("a limit of 0", br#"{"id":1,"op":"history","limit":0}"#),
    ("a limit of 101", br#"{"id":1,"op":"history","limit":101}"#),
];

const TEXTS: [Case; 10] = [
    ("an op that is a number", br#"{"id":1,"op":7261}"#),
    ("an op that is null", br#"{"id":1,"op":null}"#),
    ("a PIN that is a number", br#"{"id":1,"op":"login","account":"xq-72610","pin":7261}"#),
    ("broken UTF-8", b"{\"id\":1,\"op\":\"\xff\xfecanary7261\"}"),
    ("a lone surrogate", br#"{"id":1,"op":"login","account":"\ud800canary7261","pin":"7261"}"#),
    ("NUL in an account", br#"{"id":1,"op":"login","account":"xq-72\u00000","pin":"7261"}"#),
    ("a bare control character", b"{\"id\":1,\"op\":\"canary7261\x01\"}"),
    (
        "digits that are not ASCII",
        b"{\"id\":1,\"op\":\"login\",\"account\":\"xq-\xd9\xa1\xd9\xa2\xd9\xa3\xd9\xa4\xd9\xa5\",\"pin\":\"7261\"}",
    ),
    ("a PIN of 3 digits", br#"{"id":1,"op":"login","account":"xq-72610","pin":"726"}"#),
    ("an account of SQL", br#"{"id":1,"op":"login","account":"' OR 1=1 --","pin":"7261"}"#),
];

async fn malformed(arena: &Arena, cases: &[Case]) -> Judged {
    let mut line = arena.line().await?;
    for (what, payload) in cases {
        refused(&mut line, what, payload).await?;
    }
    Ok(Finding::held(format!("code 10 for all {}", cases.len())))
}

/// Code 10, not one word of the message, and the connection stays.
async fn refused(line: &mut Line, what: &str, payload: &[u8]) -> Result<(), Finding> {
    let heard = line.say(payload).await?;
    if !heard.is(Code::Malformed) {
        return Err(match heard.is_closed() {
            true => Finding::weak(format!("{what}: {heard}")),
            false => Finding::broken(format!("{what}: {heard} instead of code 10")),
        });
    }
    if let super::super::line::Heard::Answer(said) = &heard
        && said.text.contains(CANARY)
    {
        return Err(Finding::broken(format!(
            "{what}: the answer repeats what was sent"
        )));
    }
    // Three in a row would close the connection.
    let still = line.ping().await?;
    match still.is(Code::Done) {
        true => Ok(()),
        false => Err(Finding::weak(format!("after {what}: {still}"))),
    }
}

async fn in_a_row(arena: &Arena) -> Judged {
    let mut line = arena.line().await?;
    for count in 1..=IN_A_ROW_TRIED {
        let heard = line.say(b"{}").await?;
        match heard {
            heard if heard.is(Code::Malformed) => {}
            heard if heard.is_closed() && count > 1 => {
                let seen = format!("{heard} after {} in a row", count - 1);
                let soon = count - 1 <= IN_A_ROW;
                return Ok(if soon {
                    Finding::held(seen)
                } else {
                    Finding::weak(seen)
                });
            }
            other => return Ok(Finding::broken(format!("{other} instead of code 10"))),
        }
    }
    Ok(Finding::broken(format!(
        "still open after {IN_A_ROW_TRIED} in a row"
    )))
}
