//! What became of requests that were sent and not answered, by this process or an earlier one.

use std::fmt;

use super::{Teller, Verdict};
use crate::atm::error::Error;
use crate::atm::journal::{Order, Outcome, Pending, Record, new_key};
use crate::atm::words;
use crate::domain::{AccountNumber, Currency, HoldName};
use crate::wire::answer::Answer;
use crate::wire::code::Code;

/// What is told to customers who are not there is kept of so many requests.
const RECOVERED_MAX: usize = 100;

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

/// What is done with a request once its customer knows what became of it.
#[derive(Debug)]
pub(super) enum Afterwards {
    /// Nothing is left to do.
    Finish(Pending),
    /// It is for staff, for this reason.
    SetAside(Pending, &'static str),
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
        let wanted = |record: &Record| {
            let settles = record.order.needs_no_login() && record.outcome.is_none();
            settles && record.origin.terminal == terminal
        };
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
        if let Some(outcome) = pending.record().outcome {
            let record = pending.record().clone();
            self.remember(record, outcome, Some(Afterwards::Finish(pending)));
            return Ok(());
        }
        loop {
            if let Some(why) = pending.why_never_repeated(self.clock.now()) {
                let record = pending.record().clone();
                let afterwards = Some(Afterwards::SetAside(pending, why));
                self.remember(record, Outcome::ForStaff, afterwards);
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

    fn conclude(&mut self, mut pending: Pending, answer: &Answer) {
        let verdict = Verdict::of(pending.record(), answer, true);
        let record = pending.record().clone();
        let (outcome, afterwards) = match verdict {
            Verdict::Unknown => {
                self.leave(pending, answer.code.message());
                (Outcome::StillUnknown, None)
            }
            Verdict::ForStaff => {
                self.hand_to_staff(pending, answer);
                (Outcome::ForStaff, None)
            }
            Verdict::Known => {
                let outcome = outcome(&record.order, answer);
                self.keep_outcome(&mut pending, outcome, answer);
                (outcome, Some(Afterwards::Finish(pending)))
            }
        };
        self.remember(record, outcome, afterwards);
    }

    pub(super) fn keep_outcome(
        &mut self,
        pending: &mut Pending,
        outcome: Outcome,
        answer: &Answer,
    ) {
        let now = self.clock.now();
        self.journal.settle(pending, outcome, Some(answer), now);
    }

    /// What the customer is to be told, at once or at the next log-in.
    fn remember(&mut self, record: Record, outcome: Outcome, afterwards: Option<Afterwards>) {
        let Record {
            order,
            account,
            currency,
            ..
        } = record;
        let is_here = account.is_some() && account == self.session.map(|session| session.account);
        match afterwards {
            // Nobody will ever ask for it.
            Some(Afterwards::Finish(pending)) if account.is_none() => {
                return self.journal.finish(pending);
            }
            // The journal has it until they log in.
            Some(Afterwards::Finish(pending)) if !is_here => return self.journal.put_back(pending),
            _ => {}
        }
        // What is repeated until it is settled is told as it stands last.
        self.recovered
            .retain(|(earlier, _)| earlier.order != order || earlier.account != account);
        if self.recovered.len() >= RECOVERED_MAX {
            self.recovered.remove(0);
        }
        let recovered = Recovered {
            account,
            order,
            outcome,
            currency,
        };
        self.recovered.push((recovered, afterwards));
    }

    /// What became of earlier requests, for the customer who is logged in. Once they were told,
    /// call [`Teller::told`].
    pub fn take_recovered(&mut self) -> Vec<Recovered> {
        let Some(account) = self.session.map(|session| session.account) else {
            return Vec::new();
        };
        let all = std::mem::take(&mut self.recovered);
        let (own, others) = all
            .into_iter()
            .partition(|(told, _)| told.account == Some(account));
        self.recovered = others;
        let own: Vec<(Recovered, Option<Afterwards>)> = own;
        own.into_iter()
            .map(|(told, afterwards)| {
                self.untold.extend(afterwards);
                told
            })
            .collect()
    }

    /// The customer knows what became of all that was asked so far: the journal may forget it.
    pub fn told(&mut self) {
        let now = self.clock.now();
        for afterwards in std::mem::take(&mut self.untold) {
            match afterwards {
                Afterwards::Finish(pending) => self.journal.finish(pending),
                Afterwards::SetAside(pending, why) => {
                    let reason = format!("a request {why}");
                    self.journal.set_aside(pending, &reason, now);
                }
            }
        }
    }
}

/// What a final answer says of a request: an authorized hold alone hands nothing out.
pub(super) fn outcome(order: &Order, answer: &Answer) -> Outcome {
    let nothing_dispensed = matches!(order, Order::Authorize(_) | Order::Release { .. });
    if answer.code == Code::Done && !nothing_dispensed {
        Outcome::WentThrough
    } else {
        Outcome::DidNotHappen
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
