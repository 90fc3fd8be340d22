//! Deposits, withdrawals and transfers.

use super::{Bank, Failure, Session};
use crate::domain::Refusal;
use crate::store::{Balances, Context, Event, Order, Receipt};

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
    /// Deposits, withdrawals and transfers that were asked for together: carried out in their order
    /// and committed together. As many outcomes come back; where the store fails, all are its error,
    /// and whether any took effect is unknown.
    pub async fn move_all(
        &self,
        session: &mut Session,
        orders: Vec<Order>,
    ) -> Vec<Result<Moved, Failure>> {
        let count = orders.len();
        let context = session.context(self);
        let ordered = self.store.orders(session.claim(), orders, context.clone());
        let judged = match self.call(ordered).await {
            Ok(judged) => judged,
            Err(error) => return vec![Err(error.into()); count],
        };
        let mut outcomes = Vec::with_capacity(count);
        for judged in judged {
            self.note_limit(session, &context, &judged).await;
            if judged == Err(Refusal::NoCounterparty) {
                session.count_refused_counterparty();
            }
            outcomes.push(judged.map_err(Failure::from).and_then(moved));
        }
        // No store leaves any out; were one to, nobody would wait for an answer that never comes.
        outcomes.resize_with(count, || {
            Err(Failure::Internal("an order without an outcome".to_owned()))
        });
        outcomes
    }

    pub(super) async fn order(
        &self,
        session: &mut Session,
        order: Order,
    ) -> Result<Receipt, Failure> {
        let context = session.context(self);
        let ordered = self.store.order(session.claim(), order, context.clone());
        let judged = self.call(ordered).await?;
        self.note_limit(session, &context, &judged).await;
        Ok(judged?)
    }

    async fn note_limit(
        &self,
        session: &Session,
        context: &Context,
        judged: &Result<Receipt, Refusal>,
    ) {
        if let Err(Refusal::OverLimit { limit, remaining }) = judged {
            let note = context.note(Event::LimitHit, session.account());
            let detail = format!("limit {limit}, remaining {remaining}");
            self.note_bounded(note.outcome("refused").detail(detail))
                .await;
        }
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
