//! Cash: its money is set aside, then it goes out, then it is booked.

use super::recovery::Afterwards;
use super::{Outcome, Teller, new_keyed};
use crate::atm::error::Error;
use crate::atm::journal::{Order, Pending, new_key};
use crate::domain::HoldName;
use crate::wire::answer::Answer;
use crate::wire::code::Code;

/// Cash that may go out: its money is set aside at the bank.
#[derive(Debug)]
pub struct CashOut {
    pending: Pending,
    hold: HoldName,
    /// Minor units.
    pub amount: i64,
}

impl Teller {
    /// Sets money aside before cash goes out. There is something to dispense only where a
    /// [`CashOut`] comes back.
    ///
    /// # Errors
    /// As [`Teller::move_money`]; nothing is dispensed then.
    pub async fn authorize(&mut self, minor: i64) -> Result<(Answer, Option<CashOut>), Error> {
        self.connect().await?;
        let pending = self.begin(Order::Authorize(new_keyed(minor)))?;
        let (answer, pending) = self.settle_open(pending).await?;
        let Some(mut pending) = pending else {
            return Ok((answer, None));
        };
        let hold = answer
            .members
            .hold
            .as_deref()
            .and_then(|hold| hold.parse::<HoldName>().ok());
        let open = answer.members.expires_in_ms != Some(0);
        let Some(hold) = hold.filter(|_| open && answer.code == Code::Done) else {
            self.keep_outcome(&mut pending, Outcome::DidNotHappen, &answer);
            self.untold.push(Afterwards::Finish(pending));
            return Ok((answer, None));
        };
        let key = new_key();
        let release = Order::Release {
            hold: hold.clone(),
            key,
            amount: Some(minor),
        };
        self.journal.advance_to_release(&mut pending, release);
        Ok((
            answer,
            Some(CashOut {
                pending,
                hold,
                amount: minor,
            }),
        ))
    }

    /// Writes down that the cash goes out now. From here on it is captured, even after a crash.
    /// Where that cannot be written down no cash may go out.
    #[must_use]
    pub fn dispense(&mut self, cash: &mut CashOut) -> bool {
        let order = Order::Capture {
            hold: cash.hold.clone(),
            keyed: new_keyed(cash.amount),
        };
        let written = self.journal.advance(&mut cash.pending, order);
        if !written {
            self.journal.tell(
                "no cash was given out, because it cannot be written to disk that it goes out"
                    .into(),
            );
        }
        written
    }

    /// Settles the hold: captures it where its cash went out, releases it where it did not.
    ///
    /// # Errors
    /// No connection, or it was lost: it is settled at the next one.
    pub async fn settle_cash(&mut self, cash: CashOut) -> Result<Answer, Error> {
        if let Err(error) = self.connect().await {
            self.leave(cash.pending, &error.to_string());
            return Err(error);
        }
        self.settle(cash.pending).await
    }
}
