//! Orders of a customer. A key is carried out once; its repeats get the first answer.

use super::holds::expire_due;
use super::planted::Planted;
use super::{Done, postings, repeat};
use crate::domain::hold::{Hold, HoldState};
use crate::domain::money::Amount;
use crate::domain::{EntryKind, HoldName, Refusal, RequestedAmount};
use crate::store::state::{AccountRow, HoldRow, KeptAnswer, STATUS_CLOSED, SessionFence};
use crate::store::working::{Needs, Numbered, Operation, Stop, WorkingSet};
use crate::store::{Context, Order, OrderKind, Receipt, StoreError};

/// One order of a session.
pub(in crate::store) struct CarryOut<'a> {
    pub(in crate::store) session: SessionFence,
    /// The first order of a call compares the fence for all of them: they stand or fall together.
    pub(in crate::store) is_first: bool,
    pub(in crate::store) order: &'a Order,
    pub(in crate::store) context: &'a Context,
}

impl Operation for CarryOut<'_> {
    type Answer = Receipt;

    fn needs(&self, rows: &WorkingSet) -> Needs<'_> {
        let row = self.session.row;
        let due = (row, self.context.now, usize::MAX);
        let mut needs = Needs {
            session: self.is_first.then_some(self.session.number),
            account: Some(row),
            answer: Some((row, &self.order.key)),
            terminal: Some(&self.context.terminal),
            due: rows.holds_money(row).then_some(due),
            ..Needs::default()
        };
        match &self.order.kind {
            OrderKind::Deposit | OrderKind::Withdraw => {}
            OrderKind::Transfer(to) => needs.customer = Some(*to),
            OrderKind::Authorize(_) => {
                // A new hold needs the counts, and a repeat the hold that it made.
                match rows.answer() {
                    Err(_) => {}
                    Ok(None) => needs.open_holds = Some(row),
                    Ok(Some(kept)) => needs.hold_made = kept.hold.map(|hold| (hold, row)),
                }
            }
        }
        needs
    }

    fn execute(&self, rows: &mut WorkingSet) -> Result<Receipt, Stop> {
        // The fence comes first, inside the transaction: another session may hold the account by now, and
        // nothing of it may be shown or moved.
        if self.is_first && !rows.is_present(self.session)? {
            return Err(StoreError::Fenced.into());
        }
        let mut account = rows.account(self.session.row)?;
        if account.status == STATUS_CLOSED {
            // Staff closed the account during the session, which ends with this.
            return Err(StoreError::Fenced.into());
        }
        // The key comes before the rules: what was done once is answered so again, even if the account's
        // money or limits would refuse it today.
        if let Some(kept) = rows.answer()? {
            return self.repeated(rows, &account, kept);
        }
        expire_due(rows, &mut account, self.context.now)?;
        self.carry_out(rows, &mut account)
    }
}

impl CarryOut<'_> {
    fn repeated(
        &self,
        rows: &WorkingSet,
        account: &AccountRow,
        kept: &KeptAnswer,
    ) -> Result<Receipt, Stop> {
        if kept.fingerprint != self.order.fingerprint() {
            return Err(Refusal::KeyReused.into());
        }
        let hold = match (&self.order.kind, kept.hold) {
            (OrderKind::Authorize(asked), Some(_)) => Some(match rows.hold_made()? {
                Some(made) => (made.name.clone(), made.hold.expires_in_ms(self.context.now)),
                // The hold is forgotten, so it is not open. The name of this request belongs to nobody.
                None => (asked.clone(), 0),
            }),
            _ => None,
        };
        repeat(account, kept, hold, true)
    }

    fn carry_out(&self, rows: &mut WorkingSet, account: &mut AccountRow) -> Result<Receipt, Stop> {
        let (order, context) = (self.order, self.context);
        let standing = account.standing(&context.terms, context.now);
        let mut done = Done {
            key: &order.key,
            fingerprint: order.fingerprint(),
            entry: None,
            hold: None,
            late: false,
        };
        let mut hold = None;
        match &order.kind {
            OrderKind::Deposit => {
                let amount = standing.deposit(order.amount)?;
                let kind = EntryKind::Deposit;
                done.entry = Some(postings::cash(rows, account, (kind, amount), context)?);
            }
            OrderKind::Withdraw => {
                let amount = standing.withdraw(order.amount)?;
                account.use_day(account.day, amount.minor());
                let kind = EntryKind::Withdrawal;
                done.entry = Some(postings::cash(rows, account, (kind, amount), context)?);
            }
            OrderKind::Transfer(_) => {
                done.entry = Some(transfer(rows, account, order.amount, context)?);
            }
            OrderKind::Authorize(name) => {
                let amount = standing.withdraw(order.amount)?;
                standing.one_more_hold(rows.open_holds()?, context.terms.open_holds)?;
                done.hold = Some(authorize(rows, account, (name, amount), context)?);
                hold = Some((name.clone(), context.terms.hold_timeout_ms));
            }
        }
        done.keep(rows, account, context)?;
        done.receipt(account, hold, true)
    }
}

fn transfer(
    rows: &mut WorkingSet,
    account: &mut AccountRow,
    amount: RequestedAmount,
    context: &Context,
) -> Result<i64, Stop> {
    let mut receiver = rows.customer()?.filter(|receiver| {
        receiver.id != account.id
            && (receiver.status != STATUS_CLOSED || Planted::ClosedAccountPaid.is_here())
            && receiver.currency == account.currency
    });
    let receiving = receiver.as_mut();
    let receiving = receiving.map(|receiver| receiver.standing(&context.terms, context.now));
    let standing = account.standing(&context.terms, context.now);
    let amount = standing.transfer(amount, receiving.as_ref())?;
    let mut receiver = receiver.ok_or(Refusal::NoCounterparty)?;
    let name = &context.terminal;
    let terminal = postings::terminal(rows, name, account, context.now)?;
    let occasion = postings::Occasion {
        kind: EntryKind::Transfer,
        terminal: Some((terminal, name)),
        at: context.now,
    };
    Ok(postings::post(rows, amount, (account, &mut receiver), &occasion)?.get())
}

fn authorize(
    rows: &mut WorkingSet,
    account: &mut AccountRow,
    (name, amount): (&HoldName, Amount),
    context: &Context,
) -> Result<i64, Stop> {
    postings::terminal(rows, &context.terminal, account, context.now)?;
    account.use_day(account.day, amount.minor());
    account.held = account.held.saturating_add(amount.minor());
    rows.save(account);
    let id = rows.next(Numbered::Hold)?;
    rows.changes.new_holds.push(HoldRow {
        id,
        name: name.clone(),
        account: account.id,
        hold: Hold {
            terminal: context.terminal.clone(),
            amount,
            authorized_at: account.stamp(context.now),
            expires_at: context.now.plus_ms(context.terms.hold_timeout_ms),
            state: HoldState::Open,
        },
        captured: 0,
        entry: None,
        settled_by: None,
        made_from: context.address.map(|address| (address, context.now)),
    });
    Ok(id)
}
