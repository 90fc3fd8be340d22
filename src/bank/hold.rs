//! Two-message withdrawals: authorize, then capture or release.

use super::{Bank, Failure, Session};
use crate::domain::{HoldName, IdempotencyKey, RequestedAmount, TerminalName};
use crate::store::{Balances, Order, OrderKind, Settlement, SettlementKind};
use crate::surroundings::new_hold_name;

/// Money is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorized {
    /// The hold.
    pub hold: HoldName,
    /// How long it stays open; 0 where it is open no longer.
    pub expires_in_ms: u64,
    /// The account's money after it, as first answered.
    pub balances: Balances,
    /// It was set aside before; this is the first answer again.
    pub replayed: bool,
}

/// A hold has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The entry, where it was captured.
    pub entry: Option<i64>,
    /// It had expired before it was captured.
    pub late: bool,
    /// The account's money after it, only for whoever is logged in to that account.
    pub balances: Option<Balances>,
    /// It ended before; this is the first answer again.
    pub replayed: bool,
}

impl Bank {
    /// Sets money aside before cash goes out.
    ///
    /// # Errors
    /// [`Failure::Refused`], or the store's.
    pub async fn authorize(
        &self,
        session: &mut Session,
        amount: RequestedAmount,
        key: IdempotencyKey,
    ) -> Result<Authorized, Failure> {
        let unnamed = || Failure::Internal("a hold without a name".to_owned());
        let name = new_hold_name(&**self.surroundings()).ok_or_else(unnamed)?;
        let order = Order {
            key,
            amount,
            kind: OrderKind::Authorize(name),
        };
        let receipt = self.order(session, order).await?;
        let (hold, expires_in_ms) = receipt.hold.ok_or_else(unnamed)?;
        Ok(Authorized {
            hold,
            expires_in_ms,
            balances: receipt.balances,
            replayed: receipt.replayed,
        })
    }

    /// The cash of a hold went out: posts it. Only the terminal that made the hold may, whoever
    /// is logged in there; without a certificate the hold's owner must be.
    ///
    /// # Errors
    /// [`Failure::Refused`], or the store's.
    pub async fn capture(
        &self,
        session: Option<&mut Session>,
        terminal: &TerminalName,
        hold: HoldName,
        amount: RequestedAmount,
        key: IdempotencyKey,
    ) -> Result<Settled, Failure> {
        let kind = SettlementKind::Capture(amount);
        self.settle(session, terminal, Settlement { hold, key, kind })
            .await
    }

    /// The cash of a hold did not go out: frees it. For the same terminals as a capture.
    ///
    /// # Errors
    /// [`Failure::Refused`], or the store's.
    pub async fn release(
        &self,
        session: Option<&mut Session>,
        terminal: &TerminalName,
        hold: HoldName,
        key: IdempotencyKey,
    ) -> Result<Settled, Failure> {
        self.settle(
            session,
            terminal,
            Settlement {
                hold,
                key,
                kind: SettlementKind::Release,
            },
        )
        .await
    }

    async fn settle(
        &self,
        session: Option<&mut Session>,
        terminal: &TerminalName,
        settlement: Settlement,
    ) -> Result<Settled, Failure> {
        self.must_know_the_time()?;
        let claim = session.as_deref().map(Session::claim);
        let connection = session.as_deref().map(Session::connection);
        let context = self.context(terminal, connection);
        let receipt = self
            .call(self.store.settle(claim, settlement, context))
            .await??;
        Ok(Settled {
            entry: receipt.entry,
            late: receipt.late,
            balances: receipt.is_own.then_some(receipt.balances),
            replayed: receipt.replayed,
        })
    }
}
