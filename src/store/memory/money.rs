//! Orders and settlements: where customers' money moves.

use super::books::{Books, HeldMoney, Kept, Posting, Status};
use crate::domain::hold::{Hold, HoldState};
use crate::domain::money::Amount;
use crate::domain::policy::count_cash;
use crate::domain::{
    AccountNumber, EntryKind, HoldName, OpenHolds, Refusal, RequestedAmount, TerminalName,
    Timestamp,
};
use crate::store::{
    Balances, Context, Order, OrderKind, Receipt, Settlement, SettlementKind, StoreError,
};

/// A refusal is an answer; an error is none.
enum Stopped {
    Refused(Refusal),
    Failed(StoreError),
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

type Judged = Result<Result<Receipt, Refusal>, StoreError>;

fn judged(outcome: Result<Receipt, Stopped>) -> Judged {
    match outcome {
        Ok(receipt) => Ok(Ok(receipt)),
        Err(Stopped::Refused(refusal)) => Ok(Err(refusal)),
        Err(Stopped::Failed(error)) => Err(error),
    }
}

impl Books {
    /// One customer's order, once for each key. The caller has compared the claim's fence.
    pub(super) fn order(
        &mut self,
        number: AccountNumber,
        order: &Order,
        context: &Context,
    ) -> Judged {
        let status = self.customers.get(&number).map(|customer| customer.status);
        if status.is_none_or(|status| status == Status::Closed) {
            // Closed by staff while its customer stood there: the session is over.
            return Err(StoreError::Fenced);
        }
        if let Some(kept) = self.keys.get(&(number, order.key.clone())) {
            if kept.fingerprint != order.fingerprint() {
                return Ok(Err(Refusal::KeyReused));
            }
            return Ok(Ok(self.replay(number, kept, context.now, true)));
        }
        self.expire_due(number, context.now);
        judged(self.carry_out(number, order, context))
    }

    fn carry_out(
        &mut self,
        number: AccountNumber,
        order: &Order,
        context: &Context,
    ) -> Result<Receipt, Stopped> {
        let standing = self.standing(number, &context.terms, context.now);
        let standing = standing.ok_or(StoreError::Fenced)?;
        let (mut entry, mut made) = (None, None);
        match &order.kind {
            OrderKind::Deposit => {
                let amount = standing.deposit(order.amount)?;
                entry = Some(self.cash(number, EntryKind::Deposit, amount, context)?);
            }
            OrderKind::Withdraw => {
                let amount = standing.withdraw(order.amount)?;
                entry = Some(self.cash(number, EntryKind::Withdrawal, amount, context)?);
            }
            OrderKind::Transfer(to) => {
                entry = Some(self.transfer(number, *to, order.amount, context)?);
            }
            OrderKind::Authorize(name) => {
                let amount = standing.withdraw(order.amount)?;
                let open = self.open_holds(number, context);
                standing.one_more_hold(open, context.terms.open_holds)?;
                self.authorize(number, name, amount, context)?;
                made = Some(name.clone());
            }
        }
        self.use_account(number, context.now);
        let balances = self.balances_set_aside(number);
        self.keep(
            (number, order.key.clone()),
            Kept {
                number: 0,
                fingerprint: order.fingerprint(),
                at: context.now,
                entry,
                made: made.clone(),
                late: false,
                balances,
            },
        );
        Ok(Receipt {
            account: number,
            replayed: false,
            entry,
            hold: made.map(|name| (name, context.terms.hold_timeout_ms)),
            late: false,
            balances,
            is_own: true,
        })
    }

    /// Balances where due holds have been brought to `Expired` already.
    fn balances_set_aside(&self, number: AccountNumber) -> Balances {
        let balance = self.balance_of(number.as_str());
        let open = self.holds_of(number);
        let open = open.filter(|held| held.hold.state == HoldState::Open);
        let held: i64 = open.map(|held| held.hold.amount.minor()).sum();
        let available = balance - held;
        Balances { balance, available }
    }

    /// Cash in or out at the context's terminal.
    fn cash(
        &mut self,
        number: AccountNumber,
        kind: EntryKind,
        amount: Amount,
        context: &Context,
    ) -> Result<i64, Stopped> {
        let own = number.as_str();
        let cash = self.meet_terminal(&context.terminal);
        count_cash(self.balance_of(&cash), kind, amount)?;
        let (debit, credit) = match kind {
            EntryKind::Deposit => (cash.as_str(), own),
            _ => (own, cash.as_str()),
        };
        Ok(self.post(&Posting {
            kind,
            debit,
            credit,
            amount,
            terminal: Some(&context.terminal),
            at: self.stamp(number, context.now),
        })?)
    }

    fn transfer(
        &mut self,
        number: AccountNumber,
        to: AccountNumber,
        amount: RequestedAmount,
        context: &Context,
    ) -> Result<i64, Stopped> {
        let standing = |number| self.standing(number, &context.terms, context.now);
        let own = standing(number).ok_or(StoreError::Fenced)?;
        let takes_money = |status| status != Status::Closed;
        let receiver = self.customers.get(&to).map(|receiver| receiver.status);
        let receiver = receiver.filter(|status| takes_money(*status) && to != number);
        let receiver = receiver.and_then(|_| standing(to));
        let amount = own.transfer(amount, receiver.as_ref())?;
        self.meet_terminal(&context.terminal);
        self.use_account(to, context.now);
        Ok(self.post(&Posting {
            kind: EntryKind::Transfer,
            debit: number.as_str(),
            credit: to.as_str(),
            amount,
            terminal: Some(&context.terminal),
            at: context.now,
        })?)
    }

    fn open_holds(&self, number: AccountNumber, context: &Context) -> OpenHolds {
        let terminal = &context.terminal;
        let open = self.holds.values().filter(|held| {
            held.hold.state == HoldState::Open && held.hold.expires_at > context.now
        });
        let (mut of_account, mut of_terminal) = (0, 0);
        for held in open {
            of_account += u64::from(held.account == number);
            of_terminal += u64::from(match terminal.is_anonymous() {
                true => context.address.is_some() && held.address == context.address,
                false => held.hold.terminal == *terminal,
            });
        }
        OpenHolds {
            of_account,
            of_terminal,
        }
    }

    fn authorize(
        &mut self,
        number: AccountNumber,
        name: &HoldName,
        amount: Amount,
        context: &Context,
    ) -> Result<(), StoreError> {
        if self.holds.contains_key(name) {
            return Err(StoreError::Broken(format!("a second hold {name}")));
        }
        self.meet_terminal(&context.terminal);
        let hold = Hold {
            terminal: context.terminal.clone(),
            amount,
            authorized_at: self.stamp(number, context.now),
            expires_at: context.now.plus_ms(context.terms.hold_timeout_ms),
            state: HoldState::Open,
        };
        let held = HeldMoney {
            account: number,
            hold,
            address: context.address,
            captured: 0,
            entry: None,
            settled_by: None,
        };
        self.holds.insert(name.clone(), held);
        if let Some(customer) = self.customers.get_mut(&number) {
            customer.holds.push(name.clone());
        }
        Ok(())
    }

    /// Ends a hold for the terminal that made it. `claimed` is the account that the asking
    /// session has.
    pub(super) fn settle(
        &mut self,
        claimed: Option<AccountNumber>,
        settlement: &Settlement,
        context: &Context,
    ) -> Judged {
        judged(self.settle_hold(claimed, settlement, context))
    }

    fn settle_hold(
        &mut self,
        claimed: Option<AccountNumber>,
        settlement: &Settlement,
        context: &Context,
    ) -> Result<Receipt, Stopped> {
        let (now, terminal) = (context.now, &context.terminal);
        let held = self.visible_hold(&settlement.hold, claimed, terminal)?;
        let number = held.account;
        let kept = self.keys.get(&(number, settlement.key.clone()));
        if held.settled_by.is_some() {
            let kept = kept.filter(|kept| held.settled_by == Some(kept.number));
            let kept = kept.ok_or(Refusal::NoHold)?;
            if kept.fingerprint != settlement.fingerprint() {
                return Err(Refusal::KeyReused.into());
            }
            return Ok(self.replay(number, kept, now, claimed == Some(number)));
        }
        let open = held.hold.grant(terminal, now)?;
        if kept.is_some() {
            return Err(Refusal::KeyReused.into());
        }
        let captured = match settlement.kind {
            SettlementKind::Capture(amount) => Some(open.capture(amount)?),
            SettlementKind::Release => None,
        };
        let late = open.is_late();
        self.expire_due(number, now);
        if let Some(amount) = captured {
            let cash = self.meet_terminal(terminal);
            count_cash(self.balance_of(&cash), EntryKind::Withdrawal, amount)?;
        }
        self.use_account(number, now);
        let entry = captured
            .map(|amount| self.capture(number, amount, late, context))
            .transpose()?;
        let receipt = self.end_hold(number, settlement, (captured, late, entry), now);
        Ok(Receipt {
            is_own: claimed == Some(number),
            ..receipt
        })
    }

    /// The hold, if the terminal made it; one without a certificate needs its account too.
    fn visible_hold(
        &self,
        name: &HoldName,
        claimed: Option<AccountNumber>,
        terminal: &TerminalName,
    ) -> Result<&HeldMoney, Refusal> {
        let held = self.holds.get(name).ok_or(Refusal::NoHold)?;
        let logged_in = claimed == Some(held.account);
        if held.hold.terminal != *terminal || (terminal.is_anonymous() && !logged_in) {
            return Err(Refusal::NoHold);
        }
        Ok(held)
    }

    fn capture(
        &mut self,
        number: AccountNumber,
        amount: Amount,
        late: bool,
        context: &Context,
    ) -> Result<i64, Stopped> {
        let kind = if late {
            EntryKind::LateWithdrawal
        } else {
            EntryKind::Withdrawal
        };
        let entry = self.cash(number, kind, amount, context)?;
        if let Some(last) = self.entries.last_mut() {
            last.of_hold = true;
        }
        Ok(entry)
    }

    fn end_hold(
        &mut self,
        number: AccountNumber,
        settlement: &Settlement,
        (captured, late, entry): (Option<Amount>, bool, Option<i64>),
        now: Timestamp,
    ) -> Receipt {
        let kept_number = self.last_kept + 1;
        if let Some(held) = self.holds.get_mut(&settlement.hold) {
            held.hold.state = match captured {
                Some(_) => HoldState::Captured,
                None => HoldState::Released,
            };
            held.captured = captured.map_or(0, Amount::minor);
            held.entry = entry;
            held.settled_by = Some(kept_number);
        }
        let late = late && captured.is_some();
        let balances = self.balances_set_aside(number);
        let kept = Kept {
            number: kept_number,
            fingerprint: settlement.fingerprint(),
            at: now,
            entry,
            made: None,
            late,
            balances,
        };
        self.keep((number, settlement.key.clone()), kept);
        Receipt {
            account: number,
            replayed: false,
            entry,
            hold: None,
            late,
            balances,
            is_own: false,
        }
    }

    fn keep(&mut self, key: (AccountNumber, crate::domain::IdempotencyKey), mut kept: Kept) {
        self.last_kept += 1;
        kept.number = self.last_kept;
        self.keys_by_age.insert(kept.number, key.clone());
        self.keys.insert(key, kept);
    }

    /// The first answer again.
    fn replay(&self, account: AccountNumber, kept: &Kept, now: Timestamp, is_own: bool) -> Receipt {
        let hold = kept.made.as_ref().map(|name| {
            let held = self.holds.get(name);
            (
                name.clone(),
                held.map_or(0, |held| held.hold.expires_in_ms(now)),
            )
        });
        Receipt {
            account,
            replayed: true,
            entry: kept.entry,
            hold,
            late: kept.late,
            balances: kept.balances,
            is_own,
        }
    }
}
