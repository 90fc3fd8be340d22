//! What errors give away: the bank's inside, or what was said to it.

use super::super::arena::Arena;
use super::super::line::{Heard, request};
use super::super::probe::{Family, Pace, Probe};
use super::super::verdict::{Finding, Judged, Severity};
use super::json::CANARY;
use serde_json::json;

/// What stands in paths, queries, sources and stack traces, in lower case.
const INNARDS: [&str; 22] = [
    "/src/",
    "/home/",
    "/usr/",
    "/var/",
    "/root/",
    ".rs",
    ".py",
    ".java",
    ".go:",
    "select ",
    "insert ",
    "sqlite",
    "postgres",
    "constraint",
    "panicked",
    "backtrace",
    "traceback",
    "exception",
    "rustls",
    "serde",
    " line ",
    " column ",
];

const fn probe(name: &'static str) -> Probe {
    Probe {
        family: Family::Leaks,
        name,
        pace: Pace::Quick,
        severity: Severity::Medium,
        tries: "",
        good: "",
        means: "",
        mends: "this server does not keep to the protocol (section 6): replace it",
        run: |arena| Box::pin(echo(arena)),
    }
}

pub(in super::super) const PROBES: [Probe; 2] = [
    Probe {
        tries: "to find what was sent in the refusals",
        good: "repeats nothing but the id",
        means: "what one customer typed may stand in another's log",
        ..probe("echo")
    },
    Probe {
        tries: "to find paths, queries, versions and sources in the refusals",
        good: "says nothing of its inside",
        means: "an attacker learns what the bank is made of",
        run: |arena| Box::pin(innards(arena)),
        ..probe("innards")
    },
];

/// The refusals to messages of many kinds.
async fn refusals(arena: &Arena) -> Result<Vec<String>, Finding> {
    let long = CANARY.repeat(40);
    let number = format!("{}'; DROP TABLE account; --", arena.block);
    let provocations = [
        request(1, CANARY, json!({})),
        request(2, "ping", json!({ CANARY: CANARY })),
        request(3, "login", json!({ "account": number, "pin": CANARY })),
        request(4, "login", json!({ "account": long, "pin": "7261" })),
        request(
            5,
            "capture",
            json!({ "hold": CANARY, "amount": 1, "key": arena.key() }),
        ),
        request(
            6,
            "transfer",
            json!({ "to": CANARY, "amount": 1, "key": arena.key() }),
        ),
        request(7, &format!("../../{CANARY}"), json!({})),
        request(8, "history", json!({ "limit": 1, "before": CANARY })),
        format!("{{\"id\":9,\"op\":\"{CANARY}\"").into_bytes(),
        format!("{CANARY}%s%n${{jndi:ldap://{CANARY}}}").into_bytes(),
    ];
    let mut line = arena.line().await?;
    let mut refusals = Vec::new();
    for payload in provocations {
        match line.say(&payload).await? {
            Heard::Answer(said) if said.code() != 0 => refusals.push(said.text),
            Heard::Answer(_) => return Err(Finding::broken("nonsense was answered with code 0")),
            other => return Err(Finding::weak(format!("nonsense was met with: {other}"))),
        }
        line.ping().await?;
    }
    Ok(refusals)
}

async fn echo(arena: &Arena) -> Judged {
    let refusals = refusals(arena).await?;
    let repeating = |text: &&String| text.contains(CANARY) || text.contains("DROP TABLE");
    Ok(match refusals.iter().filter(repeating).count() {
        0 => Finding::held(format!("nothing in {} refusals", refusals.len())),
        count => Finding::broken(format!("{count} of {} refusals repeat it", refusals.len())),
    })
}

async fn innards(arena: &Arena) -> Judged {
    let refusals = refusals(arena).await?;
    Ok(match refusals.iter().find_map(|text| inside(text)) {
        None => Finding::held(format!("nothing in {} refusals", refusals.len())),
        Some(found) => Finding::broken(format!("a refusal has {found:?} in it")),
    })
}

/// What of the inside stands in a text; a version's number is three numbers with points.
fn inside(text: &str) -> Option<&'static str> {
    let text = text.to_lowercase();
    let version = text
        .split(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .any(|word| word.split('.').filter(|part| !part.is_empty()).count() >= 3);
    let word = INNARDS.iter().copied().find(|word| text.contains(word));
    word.or_else(|| version.then_some("a version"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_refusal_gives_nothing_away_and_a_talkative_one_does() {
        for code in crate::wire::code::Code::ALL {
            assert_eq!(inside(code.message()), None);
        }
        for text in [
            "thread 'x' panicked at src/wire/mod.rs:7",
            "UNIQUE constraint failed: account.number",
            "expected value at line 1 column 2",
            "bank 0.1.0 says no",
            "cannot open /var/lib/bank",
        ] {
            assert!(inside(text).is_some(), "{text}");
        }
    }
}
