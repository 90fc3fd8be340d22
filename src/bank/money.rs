//! Deposits, withdrawals and transfers.

use super::{Bank, Failure, Session};
use crate::domain::{AccountNumber, IdempotencyKey, Refusal, RequestedAmount};
use crate::store::{Balances, Event, Order, OrderKind, Receipt};

/// Money moved, now or (a replay) before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The entry's number.
    pub entry: i64,
    /// The account's money after it, as first answered.
    pub balances: Balances,
    /// It moved before; this is the first answer again.
    pub replayed: bool,
}

impl Bank {
    /// Cash in.
    ///
    /// # Errors
    /// [`Failure::Refused`], or the store's.
    pub async fn deposit(
        &self,
        session: &mut Session,
        amount: RequestedAmount,
        key: IdempotencyKey,
    ) -> Result<Moved, Failure> {
        moved(
            self.order(
                session,
                Order {
                    key,
                    amount,
                    kind: OrderKind::Deposit,
                },
            )
            .await?,
        )
    }

    /// Cash out, at once.
    ///
    /// # Errors
    /// [`Failure::Refused`], or the store's.
    pub async fn withdraw(
        &self,
        session: &mut Session,
        amount: RequestedAmount,
        key: IdempotencyKey,
    ) -> Result<Moved, Failure> {
        moved(
            self.order(
                session,
                Order {
                    key,
                    amount,
                    kind: OrderKind::Withdraw,
                },
            )
            .await?,
        )
    }

    /// Money to another customer.
    ///
    /// # Errors
    /// [`Failure::Refused`], or the store's.
    pub async fn transfer(
        &self,
        session: &mut Session,
        to: AccountNumber,
        amount: RequestedAmount,
        key: IdempotencyKey,
    ) -> Result<Moved, Failure> {
        let order = Order {
            key,
            amount,
            kind: OrderKind::Transfer(to),
        };
        let receipt = self.order(session, order).await;
        if receipt == Err(Failure::Refused(Refusal::NoCounterparty)) {
            session.count_refused_counterparty();
        }
        moved(receipt?)
    }

    pub(super) async fn order(
        &self,
        session: &mut Session,
        order: Order,
    ) -> Result<Receipt, Failure> {
        let context = session.context(self);
        let ordered = self.store.order(session.claim(), order, context.clone());
        let judged = self.call(ordered).await?;
        if let Err(Refusal::OverLimit { limit, remaining }) = &judged {
            let note = context.note(Event::LimitHit, session.account());
            let detail = format!("limit {limit}, remaining {remaining}");
            self.note_bounded(note.outcome("refused").detail(detail))
                .await;
        }
        Ok(judged?)
    }
}

fn moved(receipt: Receipt) -> Result<Moved, Failure> {
    let entry = receipt
        .entry
        .ok_or_else(|| Failure::Internal("a receipt without an entry".to_owned()))?;
    Ok(Moved {
        entry,
        balances: receipt.balances,
        replayed: receipt.replayed,
    })
}
