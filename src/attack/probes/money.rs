//! Amounts that must move nothing. Only orders that a good server refuses, unless the operator
//! lets the attack move one minor unit there and back.

use serde_json::{Value, json};

use super::super::arena::Arena;
use super::super::line::{Heard, Line};
use super::super::probe::{Family, Pace, Probe};
use super::super::verdict::{Finding, Judged, Severity};
use crate::wire::code::Code;

const MEND_SERVER: &str =
    "this server does not keep to the protocol (section 13): replace it, and audit its books";
/// The largest amount of the protocol.
const AMOUNT_MAX: i64 = 1_000_000_000_000;

const fn probe(name: &'static str) -> Probe {
    Probe {
        family: Family::Money,
        name,
        pace: Pace::Quick,
        severity: Severity::Critical,
        tries: "",
        good: "",
        means: "money can be made from nothing, or taken",
        mends: MEND_SERVER,
        run: |arena| Box::pin(bad_amounts(arena)),
    }
}

pub(in super::super) const PROBES: [Probe; 5] = [
    Probe {
        tries: "amounts of zero, below it, over the largest, and over 64 bits",
        good: "code 30 (10 over 64 bits), and the balance stays",
        ..probe("bad-amounts")
    },
    Probe {
        tries: "to take, hold and send one minor unit more than is there",
        good: "code 31, and the balance stays",
        run: |arena| Box::pin(overdraw(arena)),
        ..probe("overdraw")
    },
    Probe {
        tries: "a transfer to the same account",
        good: "code 34, and the balance stays",
        run: |arena| Box::pin(to_itself(arena)),
        ..probe("to-itself")
    },
    Probe {
        tries: "a transfer to a number that is made up (with --move-money: the number may be real)",
        good: "code 34, and the balance stays",
        run: |arena| Box::pin(to_nobody(arena)),
        ..probe("to-nobody")
    },
    Probe {
        tries: "one minor unit in and out, each twice under one key (with --move-money)",
        good: "each moves once, and the balance is as before",
        run: |arena| Box::pin(there_and_back(arena)),
        ..probe("there-and-back")
    },
];

/// The account before and after, which must be the same.
struct Watched {
    line: Line,
    before: (Option<i64>, Option<i64>),
}

impl Watched {
    async fn begin(arena: &Arena) -> Result<Self, Finding> {
        let (line, welcome) = arena.logged_in().await?;
        let before = welcome.balances();
        Ok(Self { line, before })
    }

    /// Asks, which must get one of these codes.
    async fn refused(&mut self, op: &str, members: Value, good: &[Code]) -> Result<(), Finding> {
        let heard = self.line.ask(op, members).await?;
        match good.iter().any(|code| heard.is(*code)) {
            true => Ok(()),
            false => {
                let good: Vec<String> = good.iter().map(|code| code.number().to_string()).collect();
                let good = good.join(" or ");
                Err(Finding::broken(format!(
                    "{op}: {heard} instead of code {good}"
                )))
            }
        }
    }

    async fn end(mut self, seen: &str) -> Judged {
        let heard = self.line.ask("balance", json!({})).await?;
        self.line.leave().await;
        Ok(match heard {
            Heard::Answer(said) if said.balances() == self.before => {
                Finding::held(format!("{seen}; the balance stays"))
            }
            Heard::Answer(said) if said.answer.code == Code::Done => {
                Finding::broken(format!("{seen}; but the balance is another"))
            }
            other => Finding::weak(format!("{seen}; but no balance: {other}")),
        })
    }
}

async fn bad_amounts(arena: &Arena) -> Judged {
    let customer = arena.customer()?;
    let own = customer.account.to_string();
    let mut watched = Watched::begin(arena).await?;
    let amounts = [0, -1, -100, i64::MIN, AMOUNT_MAX + 1, i64::MAX];
    for amount in amounts {
        for op in ["deposit", "withdraw", "authorize"] {
            let members = json!({ "amount": amount, "key": arena.key() });
            watched.refused(op, members, &[Code::InvalidAmount]).await?;
        }
        let members = json!({ "to": own, "amount": amount, "key": arena.key() });
        watched
            .refused("transfer", members, &[Code::InvalidAmount])
            .await?;
    }
    let members = json!({ "amount": 9_223_372_036_854_775_808_u64, "key": arena.key() });
    watched
        .refused("deposit", members, &[Code::Malformed])
        .await?;
    watched.end("all were refused").await
}

async fn overdraw(arena: &Arena) -> Judged {
    let customer = arena.customer()?;
    let own = customer.account.to_string();
    let mut watched = Watched::begin(arena).await?;
    let Some(amount) = watched.before.1.map(|available| available.max(0) + 1) else {
        return Err(Finding::broken("the log-in does not say what is available"));
    };
    if amount > AMOUNT_MAX {
        return Err(Finding::skipped(
            "needs an account with less than 10^12 on it",
        ));
    }
    for op in ["withdraw", "authorize"] {
        let members = json!({ "amount": amount, "key": arena.key() });
        watched
            .refused(op, members, &[Code::InsufficientFunds])
            .await?;
    }
    let members = json!({ "to": own, "amount": amount, "key": arena.key() });
    let good = [Code::InsufficientFunds, Code::NoCounterparty];
    watched.refused("transfer", members, &good).await?;
    watched.end("all were refused").await
}

async fn to_itself(arena: &Arena) -> Judged {
    let own = arena.customer()?.account.to_string();
    let mut watched = Watched::begin(arena).await?;
    let members = json!({ "to": own, "amount": 1, "key": arena.key() });
    let good = [Code::NoCounterparty, Code::InsufficientFunds];
    watched.refused("transfer", members, &good).await?;
    watched.end("it was refused").await
}

fn may_move(arena: &Arena) -> Result<(), Finding> {
    match arena.moves_money {
        true => Ok(()),
        false => Err(Finding::skipped(
            "may move one minor unit: give --move-money",
        )),
    }
}

async fn to_nobody(arena: &Arena) -> Judged {
    arena.customer()?;
    may_move(arena)?;
    let mut watched = Watched::begin(arena).await?;
    let to = arena.invent()?.to_string();
    let members = json!({ "to": to, "amount": 1, "key": arena.key() });
    let good = [Code::NoCounterparty, Code::InsufficientFunds];
    watched.refused("transfer", members, &good).await?;
    watched.end("it was refused").await
}

async fn there_and_back(arena: &Arena) -> Judged {
    arena.customer()?;
    may_move(arena)?;
    let mut watched = Watched::begin(arena).await?;
    for op in ["deposit", "withdraw"] {
        let key = arena.key();
        let mut entries = Vec::new();
        for _ in 0..2 {
            let members = json!({ "amount": 1, "key": key });
            let heard = watched.line.ask(op, members).await?;
            let said = heard.done(|heard| {
                Finding::skipped(format!("one minor unit cannot be moved: {op}: {heard}"))
            })?;
            entries.push(said.answer.members.entry);
        }
        if entries.windows(2).any(|pair| pair[0] != pair[1]) {
            return Ok(Finding::broken(format!("{op} moved twice under one key")));
        }
    }
    watched.end("each moved once").await
}
