//! Logging in: a counted try, a right PIN, a free account, in this order.

use std::sync::Arc;

use super::{Bank, Failure, Session};
use crate::access::pin::PinVerified;
use crate::domain::{AccountNumber, Pin, TerminalName};
use crate::store::{Balances, Claimed, Context, TryCounted};

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
    /// [`Failure::LockedOut`], [`Failure::InUse`], [`Failure::TooMany`], or the store's.
    pub async fn login(
        &self,
        terminal: &TerminalName,
        connection: u64,
        account: AccountNumber,
        pin: Pin,
    ) -> Result<Opened, Failure> {
        let _turn = self.logins.turn(account).await;
        let context = self.context(terminal);
        let proof = self.verify(account, pin, context.clone()).await?;
        let context = Context {
            now: self.surroundings().now(),
            ..context
        };
        match self
            .call(self.store.claim(&proof, connection, context))
            .await?
        {
            Claimed::Void => Err(Failure::NoMatch),
            Claimed::InUse => Err(Failure::InUse),
            Claimed::LockedByStaff => Err(Failure::LockedOut(None)),
            Claimed::Seated(seated) => {
                let session = Session::open(
                    Arc::clone(&self.store),
                    seated.claim,
                    terminal.clone(),
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

    /// Counts a try, then checks the PIN.
    pub(super) async fn verify(
        &self,
        account: AccountNumber,
        pin: Pin,
        context: Context,
    ) -> Result<PinVerified, Failure> {
        match self.call(self.store.count_try(account, context)).await? {
            TryCounted::LockedOut(retry_after_ms) => Err(Failure::LockedOut(retry_after_ms)),
            TryCounted::TableFull => Err(Failure::TooMany(TABLE_FULL_RETRY_AFTER_MS)),
            TryCounted::Check(ticket) => {
                let last = ticket.is_last();
                let verdict = self.hasher.verify(ticket, pin).await?;
                verdict.ok_or(if last {
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
