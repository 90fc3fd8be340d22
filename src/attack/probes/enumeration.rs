//! Whether an account exists: by what is answered, and by how long that takes.

use std::time::Duration;

use super::super::arena::{Arena, timed, wrong};
use super::super::line::{Heard, span};
use super::super::probe::{Family, Pace, Probe};
use super::super::verdict::{Finding, Judged, Severity};
use super::guessing::{guess, may_be_wrong_once, real, too_fast};
use crate::domain::AccountNumber;
use crate::wire::code::Code;

/// Rounds of the timing: one for each so many seconds of the budget.
const SECONDS_A_ROUND: u64 = 10;
const ROUNDS_MIN: usize = 5;
const ROUNDS_MAX: usize = 20;
/// A smaller difference of medians tells nobody anything over a network.
const GAP_MIN: Duration = Duration::from_millis(3);
/// So many parts of the larger median are a difference, and so many are a plain one.
const GAP_PARTS: u32 = 4;
const PLAIN_PARTS: u32 = 2;

const fn probe(name: &'static str) -> Probe {
    Probe {
        family: Family::Enumeration,
        name,
        pace: Pace::Quick,
        severity: Severity::Medium,
        tries: "",
        good: "",
        means: "account numbers can be found out, and then guessed upon",
        mends: "this server does not keep to the protocol (section 10): replace it",
        run: |arena| Box::pin(same_answer(arena)),
    }
}

pub(in super::super) const PROBES: [Probe; 2] = [
    Probe {
        tries: "a wrong PIN on the account that exists, and on one that is made up",
        good: "the same answer, byte for byte",
        ..probe("same-answer")
    },
    Probe {
        tries: "the same, many times in turn, with a clock",
        good: "takes as long for both",
        run: |arena| Box::pin(same_time(arena)),
        ..probe("same-time")
    },
];

/// A wrong PIN on our own account, then the right one, so that the bank forgets it.
async fn own(arena: &Arena) -> Result<(Heard, Duration), Finding> {
    let customer = arena.customer()?;
    let wrong = wrong(&customer.pin)?;
    let mut line = arena.line().await?;
    let (heard, took) = timed(line.log_in(&customer.account, &wrong)).await;
    let heard = counted(heard?)?;
    drop(line);
    arena.logged_in().await?.0.leave().await;
    Ok((heard, took))
}

/// A wrong PIN on a number that is made up; each gets one.
async fn unknown(arena: &Arena, number: &AccountNumber) -> Result<(Heard, Duration), Finding> {
    let mut line = arena.line().await?;
    let (heard, took) = timed(guess(&mut line, number, 0)).await;
    Ok((counted(heard?)?, took))
}

fn counted(heard: Heard) -> Result<Heard, Finding> {
    match heard {
        heard if heard.is(Code::TooMany) => Err(too_fast()),
        heard if heard.is(Code::Done) => Err(real()),
        heard => Ok(heard),
    }
}

async fn same_answer(arena: &Arena) -> Judged {
    arena.customer()?;
    may_be_wrong_once(arena).await?;
    let (known, _) = own(arena).await?;
    let (unknown, _) = unknown(arena, &arena.invent()?).await?;
    Ok(match (known, unknown) {
        (Heard::Answer(known), Heard::Answer(unknown)) if known.text == unknown.text => {
            Finding::held(format!("code {} for both, in the same bytes", known.code()))
        }
        (Heard::Answer(known), Heard::Answer(unknown)) if known.code() == unknown.code() => {
            Finding::broken("the same code, but not the same bytes")
        }
        (known, unknown) => Finding::broken(format!(
            "{known} where it exists, {unknown} where it does not"
        )),
    })
}

async fn same_time(arena: &Arena) -> Judged {
    arena.customer()?;
    may_be_wrong_once(arena).await?;
    let rounds = usize::try_from(arena.budget.as_secs() / SECONDS_A_ROUND).unwrap_or(ROUNDS_MAX);
    let rounds = rounds.clamp(ROUNDS_MIN, ROUNDS_MAX);
    let (mut known, mut made_up) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        known.push(own(arena).await?.1);
        made_up.push(unknown(arena, &arena.invent()?).await?.1);
    }
    Ok(judge(known, made_up))
}

/// Two rows of times differ where nearly all of one are above nearly all of the other (Mann and
/// Whitney's U), and their medians differ by more than a network hides.
fn judge(mut known: Vec<Duration>, mut made_up: Vec<Duration>) -> Finding {
    let above = known
        .iter()
        .flat_map(|one| made_up.iter().filter(move |other| one > *other))
        .count();
    let pairs = known.len() * made_up.len();
    // Of all pairs at most one in twenty stands against it.
    let apart = above * 20 <= pairs || above * 20 >= pairs * 19;
    let (known_median, made_up_median) = (median(&mut known), median(&mut made_up));
    let gap = known_median.abs_diff(made_up_median);
    let larger = known_median.max(made_up_median);
    let seen = format!(
        "medians {} where it exists, {} where it does not, of {} each",
        span(known_median),
        span(made_up_median),
        known.len()
    );
    if !apart || gap < GAP_MIN || gap < larger / GAP_PARTS {
        Finding::held(seen)
    } else if gap < larger / PLAIN_PARTS {
        Finding::weak(seen)
    } else {
        Finding::broken(seen)
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::verdict::Verdict;

    fn verdict(known: &[u64], made_up: &[u64]) -> Verdict {
        let times = |all: &[u64]| all.iter().map(|ms| Duration::from_millis(*ms)).collect();
        judge(times(known), times(made_up)).verdict
    }

    #[test]
    fn times_that_overlap_or_hardly_differ_give_nothing_away() {
        assert_eq!(
            verdict(&[30, 31, 35, 29, 80], &[30, 33, 28, 31, 90]),
            Verdict::Held
        );
        // Apart, but by less than a network hides.
        assert_eq!(
            verdict(&[12, 12, 12, 12, 12], &[10, 10, 10, 10, 10]),
            Verdict::Held
        );
        // The medians differ, but the rows overlap: noise.
        assert_eq!(
            verdict(&[10, 10, 90, 90, 90], &[10, 10, 10, 90, 90]),
            Verdict::Held
        );
    }

    #[test]
    fn times_that_stand_apart_give_it_away_whichever_is_longer() {
        assert_eq!(
            verdict(&[30, 31, 35, 29, 33], &[20, 21, 22, 20, 23]),
            Verdict::Weak
        );
        assert_eq!(
            verdict(&[30, 31, 35, 29, 33], &[2, 1, 2, 2, 3]),
            Verdict::Broken
        );
        assert_eq!(
            verdict(&[2, 1, 2, 2, 3], &[30, 31, 35, 29, 33]),
            Verdict::Broken
        );
    }
}
