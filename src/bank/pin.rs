//! A new PIN, for whoever knows the present one.

use super::{Bank, Failure, Session};
use crate::domain::Pin;

impl Bank {
    /// Changes the PIN. The present one counts as a try, like a log-in.
    ///
    /// # Errors
    /// [`Failure::NoMatch`], or [`Failure::NoMatchAndLocked`] where the session must end;
    /// [`Failure::LockedOut`]; [`Failure::PinRefused`] where the new one is weak or the old one.
    pub async fn change_pin(
        &self,
        session: &mut Session,
        pin: Pin,
        new_pin: Pin,
    ) -> Result<(), Failure> {
        let account = session.account();
        let acceptable = !new_pin.is_weak(&account) && new_pin.digits() != pin.digits();
        let _turn = self.logins.turn(account).await;
        let context = self.context(session.terminal());
        let proof = self.verify(account, pin, context).await?;
        if !acceptable {
            self.call(self.store.forget_tries(&proof)).await?;
            return Err(Failure::PinRefused);
        }
        let hash = self.hasher.hash(new_pin).await?;
        if !self
            .call(self.store.change_pin(session.claim(), &proof, hash))
            .await?
        {
            return Err(Failure::NoMatch);
        }
        session.pin_was_changed();
        Ok(())
    }
}
