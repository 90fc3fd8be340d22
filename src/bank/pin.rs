//! A new PIN, for whoever knows the present one.

use super::{Bank, Failure, Session};
use crate::domain::Pin;
use crate::store::{Event, PinChange};

impl Bank {
    /// Changes the PIN. The present one counts as a try, like a log-in.
    ///
    /// # Errors
    /// [`Failure::NoMatch`], or [`Failure::NoMatchAndLocked`] where the session must end;
    /// [`Failure::LockedOut`]; [`Failure::PinRefused`] where the new one is weak, a demo
    /// account's public one, or the old one.
    pub async fn change_pin(
        &self,
        session: &mut Session,
        pin: Pin,
        new_pin: Pin,
    ) -> Result<(), Failure> {
        let account = session.account();
        let guessed = new_pin.is_weak(&account) || new_pin.is_public(&account);
        let acceptable = !guessed && new_pin.digits() != pin.digits();
        let _turn = self.turn(account).await?;
        let context = session.context(self);
        let place_of_new = self.hasher.place()?;
        let asked = Event::PinChange;
        let proof = self.verify(account, pin, asked, context.clone()).await?;
        let new = if acceptable {
            Some(place_of_new.hash(new_pin).await?)
        } else {
            None
        };
        match self
            .call(
                self.store
                    .change_pin(session.claim(), &proof, new, self.at_once(context)),
            )
            .await?
        {
            PinChange::Void => return Err(Failure::NoMatch),
            PinChange::Forged => return Err(Failure::forged_row()),
            PinChange::LockedByStaff => return Err(Failure::LockedOut(None)),
            PinChange::Done if !acceptable => return Err(Failure::PinRefused),
            PinChange::Done => {}
        }
        session.pin_was_changed();
        Ok(())
    }
}
