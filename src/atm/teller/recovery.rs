//! What became of requests that were sent and not answered, by this process or an earlier one.

use std::fmt;

use super::{Teller, Verdict};
use crate::atm::error::Error;
use crate::atm::journal::{Order, Pending, Record, new_key};
use crate::atm::words;
use crate::domain::{AccountNumber, Currency, HoldName};
use crate::wire::answer::Answer;
use crate::wire::code::Code;

/// An earlier request and what became of it. `Display` is the sentence for the customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Whose it was, where that is known.
    pub account: Option<AccountNumber>,
    /// What was asked for.
    pub order: Order,
    /// What became of it.
    pub outcome: Outcome,
    currency: Option<Currency>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, once.
    WentThrough,
    /// It was not done, and will not be.
    DidNotHappen,
    /// The bank cannot say yet.
    StillUnknown,
    /// This terminal will not ask any more; the bank's staff will have to look.
    ForStaff,
}

impl Outcome {
    /// The word for machines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WentThrough => "went_through",
            Self::DidNotHappen => "did_not_happen",
            Self::StillUnknown => "still_unknown",
            Self::ForStaff => "for_staff",
        }
    }
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.order {
            Order::Deposit(_) => "Your last deposit",
            Order::Transfer { .. } => "Your last transfer",
            Order::Withdraw(_) | Order::Authorize(_) => "Your last withdrawal",
            Order::Capture { .. } | Order::Release { .. } => "Your last withdrawal",
        })?;
        if let (Some(minor), Some(currency)) = (self.order.amount(), &self.currency) {
            write!(f, " of {}", words::money(minor, currency))?;
        }
        if let Order::Transfer { to, .. } = &self.order {
            write!(f, " to {to}")?;
        }
        f.write_str(match self.outcome {
            Outcome::WentThrough => " went through.",
            Outcome::DidNotHappen => " did not happen.",
            Outcome::StillUnknown => " is not settled yet; the bank will be asked again.",
            Outcome::ForStaff => " is not settled. Please ask your bank's staff about it.",
        })
    }
}

impl Teller {
    /// Settles the holds of this terminal that can be settled with nobody logged in.
    pub(super) async fn recover_holds(&mut self) -> Result<(), Error> {
        self.holds_left = false;
        let terminal = self.origin.terminal.clone();
        let wanted =
            |record: &Record| record.order.needs_no_login() && record.origin.terminal == terminal;
        // The bank has not told its time yet, by which alone what is old is told of.
        let pending = self.journal.unfinished(&self.origin, None, wanted);
        self.recover(pending).await
    }

    /// Settles what was left unanswered on the account of the customer who is logged in.
    pub(super) async fn recover_account(&mut self) -> Result<(), Error> {
        let Some(session) = self.session.filter(|session| !session.must_change_pin) else {
            return Ok(());
        };
        let terminal = self.origin.terminal.clone();
        let wanted = |record: &Record| {
            record.account == Some(session.account)
                && (!record.order.is_of_hold() || record.origin.terminal == terminal)
        };
        let now = Some(self.clock.now());
        let pending = self.journal.unfinished(&self.origin, now, wanted);
        self.recover(pending).await
    }

    async fn recover(&mut self, pending: Vec<Pending>) -> Result<(), Error> {
        let mut pending = pending.into_iter();
        while let Some(next) = pending.next() {
            if let Err(error) = self.repeat(next).await {
                self.holds_left = true;
                pending.for_each(|rest| self.journal.put_back(rest));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Repeats one request with its own key, unless it is too old; an authorized hold is then
    /// released, because nothing of it was dispensed.
    async fn repeat(&mut self, mut pending: Pending) -> Result<(), Error> {
        loop {
            if let Some(why) = pending.why_never_repeated(self.clock.now()) {
                let record = pending.record().clone();
                self.journal.set_aside(pending, &format!("a request {why}"));
                self.remember(record, Outcome::ForStaff);
                return Ok(());
            }
            let record = pending.record().clone();
            let answer = match self.exchange(&record.order.request()).await {
                Ok(answer) => answer,
                Err(error) => {
                    self.journal.put_back(pending);
                    return Err(error);
                }
            };
            match open_hold(&record.order, &answer) {
                Some(hold) => {
                    let amount = record.order.amount();
                    let release = Order::Release {
                        hold,
                        key: new_key(),
                        amount,
                    };
                    self.journal.advance_to_release(&mut pending, release);
                }
                None => {
                    self.conclude(pending, &answer);
                    return Ok(());
                }
            }
        }
    }

    fn conclude(&mut self, pending: Pending, answer: &Answer) {
        let verdict = Verdict::of(pending.record(), answer, true);
        let record = pending.record().clone();
        let nothing_dispensed = matches!(record.order, Order::Authorize(_) | Order::Release { .. });
        let outcome = match verdict {
            Verdict::Unknown => {
                self.leave(pending, answer.code.message());
                Outcome::StillUnknown
            }
            Verdict::ForStaff => {
                self.hand_to_staff(pending, answer);
                Outcome::ForStaff
            }
            Verdict::Known => {
                self.journal.finish(pending);
                if answer.code == Code::Done && !nothing_dispensed {
                    Outcome::WentThrough
                } else {
                    Outcome::DidNotHappen
                }
            }
        };
        self.remember(record, outcome);
    }

    fn remember(&mut self, record: Record, outcome: Outcome) {
        let Record {
            order,
            account,
            currency,
            ..
        } = record;
        // What is repeated until it is settled is told as it stands last.
        self.recovered
            .retain(|earlier| earlier.order != order || earlier.account != account);
        self.recovered.push(Recovered {
            account,
            order,
            outcome,
            currency,
        });
    }
}

/// The hold that an authorize has made, where it is still open.
fn open_hold(order: &Order, answer: &Answer) -> Option<HoldName> {
    let is_open = matches!(order, Order::Authorize(_))
        && answer.code == Code::Done
        && answer.members.expires_in_ms != Some(0);
    answer
        .members
        .hold
        .as_deref()
        .filter(|_| is_open)?
        .parse()
        .ok()
}
