//! Logging in: a counted try, a right PIN, a free account, in this order.

use std::sync::Arc;

use super::{Bank, Failure, Session};
use crate::access::pin::PinVerified;
use crate::domain::{AccountNumber, Pin, TerminalName};
use crate::store::{Balances, Claimed, Context, Event, TryCounted};

/// A session has begun.
#[derive(Debug)]
pub struct Opened {
    /// The customer's capability.
    pub session: Session,
    /// Their money.
    pub balances: Balances,
}

impl Bank {
    /// Logs a customer in at `terminal`, over the connection of that number.
    ///
    /// # Errors
    /// [`Failure::NoMatch`] for an unknown account, a wrong PIN, a closed account, all alike;
    /// [`Failure::LockedOut`], [`Failure::InUse`], [`Failure::TooMany`], or the store's;
    /// [`Failure::Storage`] also where the bank cannot tell its time.
    pub async fn login(
        &self,
        terminal: &TerminalName,
        connection: u64,
        account: AccountNumber,
        pin: Pin,
    ) -> Result<Opened, Failure> {
        self.must_know_the_time()?;
        let _turn = self.turn(account).await?;
        let context = self.context(terminal, Some(connection));
        let asked = Event::Login;
        let proof = self.verify(account, pin, asked, context.clone()).await?;
        let context = self.at_once(context);
        match self
            .call(self.store.claim(&proof, connection, context))
            .await?
        {
            Claimed::Void => Err(Failure::NoMatch),
            Claimed::InUse => Err(Failure::InUse),
            Claimed::Forged => Err(Failure::forged_row()),
            Claimed::LockedByStaff => Err(Failure::LockedOut(None)),
            Claimed::Seated(seated) => {
                let session = Session::open(
                    Arc::clone(&self.store),
                    seated.claim,
                    (terminal.clone(), connection),
                    seated.must_change_pin,
                    self.sessions(),
                );
                Ok(Opened {
                    session,
                    balances: seated.balances,
                })
            }
        }
    }

    /// The context of a later call of the same command: time has passed.
    pub(super) fn at_once(&self, context: Context) -> Context {
        Context {
            now: self.surroundings().now(),
            ..context
        }
    }

    /// Counts a try, then checks the PIN. Where there is no place to check it, none is counted.
    /// A wrong PIN is on record as what was `asked` for before it is answered, for every number
    /// alike.
    pub(super) async fn verify(
        &self,
        account: AccountNumber,
        pin: Pin,
        asked: Event,
        context: Context,
    ) -> Result<PinVerified, Failure> {
        let place = self.hasher.place()?.come_up().await?;
        let context = self.at_once(context);
        let counted = self.store.count_try(account, context.clone());
        match self.call(counted).await? {
            TryCounted::LockedOut(retry_after_ms) => {
                let note = context.note(asked, account);
                self.note_bounded(note.outcome("locked_out")).await;
                Err(Failure::LockedOut(retry_after_ms))
            }
            TryCounted::Forged => {
                let note = context.note(Event::ForgedRow, account);
                self.note_bounded(note.outcome("refused")).await;
                Err(Failure::forged_row())
            }
            TryCounted::TableFull => Err(Failure::TooMany(TABLE_FULL_RETRY_AFTER_MS)),
            TryCounted::Check(ticket) => {
                let last = ticket.is_last();
                match place.verify(ticket, pin).await {
                    Ok(Some(proof)) => return Ok(proof),
                    Ok(None) => {}
                    Err(error) => {
                        let note = self.at_once(context).note(asked, account);
                        self.note_bounded(note.outcome("failed")).await;
                        return Err(error.into());
                    }
                }
                let context = self.at_once(context);
                let mut notes = vec![context.note(asked, account).outcome("wrong_pin")];
                notes.extend(last.then(|| context.note(Event::Lock, account)));
                self.note_all(notes).await?;
                Err(if last {
                    Failure::NoMatchAndLocked
                } else {
                    Failure::NoMatch
                })
            }
        }
    }
}

/// A full table of tries empties as their locks run out.
const TABLE_FULL_RETRY_AFTER_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bank::test_bank::TestBank;
    use crate::store::{Act, Done, Office};
    use crate::surroundings::{Surroundings, System};

    #[tokio::test]
    async fn a_right_pin_that_finds_no_place_or_no_turn_to_be_checked_costs_no_try() {
        let system: Arc<dyn Surroundings> = Arc::new(System::default());
        let tried = TestBank::new(&system);
        tried.open("zz-99999", tried.hash("8264").await, 0).await;
        let bank = tried.bank;
        let pin = || Pin::parse("8264").unwrap();
        let number: AccountNumber = "zz-99999".parse().unwrap();
        let office = Office::of("test");
        let places: Vec<_> = std::iter::from_fn(|| bank.hasher().place().ok()).collect();
        let terminal: TerminalName = "t-1".parse().unwrap();
        for _ in 0..5 {
            let busy = bank.login(&terminal, 1, number, pin()).await;
            assert!(matches!(busy, Err(Failure::TooMany(_))));
        }
        drop(places);
        assert!(!bank.context(&terminal, None).busy);
        let mut near = Vec::new();
        for _ in 0..2 {
            near.push(bank.hasher().place().unwrap().come_up().await.unwrap());
        }
        assert!(bank.context(&terminal, None).busy);
        tokio::time::pause();
        let late = bank.login(&terminal, 1, number, pin()).await;
        assert!(matches!(late, Err(Failure::TooMany(_))));
        tokio::time::resume();
        drop(near);
        let Ok(Done::Account(report)) = bank.office(&office, Act::Show(number)).await else {
            panic!("no report");
        };
        assert_eq!(report.tries, 0);
        assert!(bank.login(&terminal, 1, number, pin()).await.is_ok());
    }
}
