//! Orders that came together are carried out together: one commit for all of them.

use super::members::moved_members;
use super::{Dialogue, Failed, Reaction, Then};
use crate::bank::{Failure, Session};
use crate::limits;
use crate::store::{Order, OrderKind};
use crate::wire::answer::Answer;
use crate::wire::request::{Envelope, Request};

/// Orders that wait for their answers.
#[derive(Default)]
struct Together {
    /// Each one's number and op.
    asked: Vec<(Option<u64>, &'static str)>,
    orders: Vec<Order>,
    transfers: u32,
}

impl Dialogue {
    /// Answers the first of these payloads. Where it is an order of the session to move money, those
    /// right behind it that are such orders too are carried out with it, in their order; so many
    /// payloads are answered as reactions come back, one at least where there was one.
    pub async fn answer_some<'p>(
        &mut self,
        payloads: impl Iterator<Item = &'p [u8]> + Send,
    ) -> Vec<Reaction> {
        let mut together = Together::default();
        for payload in payloads.take(limits::ORDERS_TOGETHER_MAX) {
            let envelope = Envelope::parse(payload);
            let first = together.orders.is_empty();
            match self.join(envelope, &mut together) {
                Ok(()) => {}
                Err(envelope) if first => return vec![self.answer_read(envelope).await],
                // It is read again when its turn comes.
                Err(_) => break,
            }
        }
        self.carry_out_together(together).await
    }

    /// Takes an order in, or gives the message back. What would be refused before it reached the
    /// bank, or might be once the orders before it were judged, is not taken in.
    fn join(&self, envelope: Envelope, together: &mut Together) -> Result<(), Envelope> {
        let moves = matches!(
            envelope.request,
            Ok(Request::Deposit(_) | Request::Withdraw(_) | Request::Transfer { .. })
        );
        let served = self.session.as_ref();
        let Some(session) = served.filter(|session| moves && !session.must_change_pin()) else {
            return Err(envelope);
        };
        let transfer = matches!(envelope.request, Ok(Request::Transfer { .. }));
        if transfer && self.may_guess(session) <= together.transfers {
            return Err(envelope);
        }
        let (id, request) = match envelope {
            Envelope {
                id,
                request: Ok(request),
            } if self.throttle.check().is_ok() => (id, request),
            refused => return Err(refused),
        };
        together.asked.push((id, request.op()));
        together.transfers = together.transfers.saturating_add(u32::from(transfer));
        together.orders.extend(order(request));
        Ok(())
    }

    /// Transfers that may still name no counterparty.
    fn may_guess(&self, session: &Session) -> u32 {
        limits::NO_COUNTERPARTY_PER_SESSION_MAX.saturating_sub(session.refused_counterparties())
    }

    async fn carry_out_together(&mut self, together: Together) -> Vec<Reaction> {
        let moved = match self.session.as_mut() {
            Some(session) => self.shared.bank.move_all(session, together.orders).await,
            None => vec![Err(Failure::Ended); together.orders.len()],
        };
        let asked = together.asked.into_iter().zip(moved);
        asked
            .map(|((id, op), moved)| {
                let (answer, then) = match moved {
                    Ok(moved) => (Answer::done(id, moved_members(moved)), Then::Stay),
                    Err(failure) => self.refuse(id, Failed::Bank(failure)),
                };
                self.react(op, answer, then, false)
            })
            .collect()
    }
}

/// The order that a request to move money is.
pub(super) fn order(request: Request) -> Option<Order> {
    let (keyed, kind) = match request {
        Request::Deposit(keyed) => (keyed, OrderKind::Deposit),
        Request::Withdraw(keyed) => (keyed, OrderKind::Withdraw),
        Request::Transfer { to, keyed } => (keyed, OrderKind::Transfer(to)),
        _ => return None,
    };
    Some(Order {
        key: keyed.key,
        amount: keyed.amount,
        kind,
    })
}
