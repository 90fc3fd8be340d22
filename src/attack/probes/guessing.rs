//! Wrong PINs, on numbers that are made up: they are counted like those of real ones.

use crate::domain::{AccountNumber, Pin};
use crate::wire::code::Code;

use super::super::arena::Arena;
use super::super::line::{Heard, Line};
use super::super::probe::{Family, Pace, Probe};
use super::super::verdict::{Finding, Judged, Severity};

const MEND_TRIES: &str = "set [pin] tries and lock_ms";
/// More tries than this are no lock-out worth the name (PCI DSS 8.3.4).
const TRIES_MAX: usize = 10;
/// Wrong PINs after which the protocol closes a connection.
const WRONG_MAX: usize = 3;
/// More are not tried on one connection.
const WRONG_TRIED: usize = 6;
const fn probe(name: &'static str) -> Probe {
    Probe {
        family: Family::Guessing,
        name,
        pace: Pace::Quick,
        severity: Severity::Critical,
        tries: "",
        good: "",
        means: "PINs can be found by trying",
        mends: MEND_TRIES,
        run: |arena| Box::pin(lock_out(arena)),
    }
}

pub(in super::super) const PROBES: [Probe; 2] = [
    Probe {
        tries: "wrong PINs on one number, each over a connection of its own",
        good: "code 20 until the tries are used up, then 22, whatever the connection",
        ..probe("lock-out")
    },
    Probe {
        severity: Severity::Medium,
        tries: "wrong PINs on many numbers over one connection",
        good: "closes after the third",
        means: "one connection can try one PIN on every account",
        mends: "this server does not keep to the protocol (section 10): replace it",
        run: |arena| Box::pin(one_connection(arena)),
        ..probe("one-connection")
    },
];

/// A guess at a PIN of 12 digits, which nobody has: were the number a customer's after all, it
/// would still be wrong.
pub(super) async fn guess(
    line: &mut Line,
    number: &AccountNumber,
    index: usize,
) -> Result<Heard, Finding> {
    let digits = format!("726104915{:03}", index % 1_000);
    let pin = Pin::parse(&digits).map_err(|error| Finding::skipped(error.to_string()))?;
    line.log_in(number, &pin).await
}

/// A made-up number that is somebody's after all.
pub(super) fn real() -> Finding {
    Finding::skipped("a guess was right: the numbers of that --block are real, choose another")
}

/// The rate of log-ins is used up, as by a run a moment ago.
pub(super) fn too_fast() -> Finding {
    Finding::skipped("the bank takes no more log-ins from here (code 40): wait a minute")
}

/// How many wrong PINs a number has, or `None` where no end was found; looked for once.
async fn tries(arena: &Arena) -> Result<Option<usize>, Finding> {
    arena
        .tries
        .get_or_try_init(|| count_tries(arena))
        .await
        .copied()
}

async fn count_tries(arena: &Arena) -> Result<Option<usize>, Finding> {
    let number = arena.invent()?;
    for tried in 0..=TRIES_MAX {
        let mut line = arena.line().await?;
        let heard = guess(&mut line, &number, tried).await?;
        match heard {
            heard if heard.is(Code::NoMatch) => {}
            // At the first, someone has used them up already, as an earlier attack may have.
            heard if heard.is(Code::LockedOut) && tried > 0 => return Ok(Some(tried)),
            heard if heard.is(Code::LockedOut) => {
                return Err(Finding::skipped(
                    "the number that was made up is locked already",
                ));
            }
            heard if heard.is(Code::TooMany) => return Err(too_fast()),
            heard if heard.is(Code::Done) => return Err(real()),
            other => return Err(Finding::broken(format!("{other} to a wrong PIN"))),
        }
    }
    Ok(None)
}

/// Our own account is never locked by the attack: not where one wrong PIN would do it.
///
/// # Errors
/// The finding that it would, or that it is not known.
pub(super) async fn may_be_wrong_once(arena: &Arena) -> Result<(), Finding> {
    let unknown = |found: Finding| Finding::skipped(format!("tries are not known: {}", found.seen));
    match tries(arena).await.map_err(unknown)? {
        Some(..=1) => Err(Finding::skipped("one wrong PIN would lock your account")),
        _ => Ok(()),
    }
}

async fn lock_out(arena: &Arena) -> Judged {
    Ok(match tries(arena).await? {
        Some(tries) => Finding::held(format!("code 22 after {tries} tries")),
        None => Finding::broken(format!("{} tries, and no end", TRIES_MAX + 1)),
    })
}

async fn one_connection(arena: &Arena) -> Judged {
    let mut line = arena.line().await?;
    for tried in 0..WRONG_TRIED {
        let number = arena.invent()?;
        let heard = guess(&mut line, &number, tried).await?;
        match heard {
            heard if heard.is(Code::NoMatch) || heard.is(Code::LockedOut) => {}
            heard if heard.is_closed() && tried > 0 => {
                let seen = format!("closed after {tried}");
                let soon = tried <= WRONG_MAX;
                return Ok(if soon {
                    Finding::held(seen)
                } else {
                    Finding::weak(seen)
                });
            }
            heard if heard.is(Code::TooMany) => return Err(too_fast()),
            heard if heard.is(Code::Done) => return Err(real()),
            other => return Ok(Finding::broken(format!("{other} to a wrong PIN"))),
        }
    }
    Ok(Finding::broken(format!("still open after {WRONG_TRIED}")))
}
