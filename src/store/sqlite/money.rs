//! Orders and settlements: where customers' money moves.

use rusqlite::{OptionalExtension as _, params};

use super::accounts::{AccountRow, STATUS_CLOSED};
use super::rows::{Keep, KeptRow};
use super::sums;
use super::writer::Books;
use crate::domain::hold::{Hold, HoldState};
use crate::domain::money::Amount;
use crate::domain::policy::{Movement, count_cash};
use crate::domain::{
    AccountNumber, EntryKind, HoldName, Refusal, RequestedAmount, TerminalName, Timestamp,
};
use crate::store::{Context, Order, OrderKind, Receipt, Settlement, SettlementKind, StoreError};

/// A row of `hold`.
pub(super) struct HoldRow {
    pub(super) id: i64,
    pub(super) account: i64,
    pub(super) settled_by: Option<i64>,
    pub(super) hold: Hold,
}

type Judged<T> = Result<Result<T, Refusal>, StoreError>;

impl Books<'_> {
    /// One customer's order, once for each key. The caller has compared the claim's fence.
    pub(super) fn order(&mut self, row: i64, order: &Order, context: &Context) -> Judged<Receipt> {
        let mut account = self.account(row)?;
        if account.status == STATUS_CLOSED {
            // By staff, while its customer stood there: the session is over.
            return Err(StoreError::Fenced);
        }
        if let Some(kept) = self.kept(&order.key, account.id)? {
            if kept.fingerprint != order.fingerprint() {
                return Ok(Err(Refusal::KeyReused));
            }
            let hold = match (&order.kind, kept.hold) {
                (OrderKind::Authorize(asked), Some(id)) => {
                    Some(self.hold_made((id, account.id), asked, context.now)?)
                }
                _ => None,
            };
            return replay(&account, &kept, hold).map(Ok);
        }
        self.expire_due(&mut account, context.now)?;
        match self.carry_out(&mut account, order, context)? {
            Ok(receipt) => Ok(Ok(receipt)),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn carry_out(
        &mut self,
        account: &mut AccountRow,
        order: &Order,
        context: &Context,
    ) -> Judged<Receipt> {
        let standing = account.standing(&context.terms, context.now);
        let mut keep = Keep {
            key: &order.key,
            fingerprint: order.fingerprint(),
            entry: None,
            hold: None,
            late: false,
        };
        let mut hold = None;
        match &order.kind {
            OrderKind::Deposit => {
                let amount = match standing.deposit(order.amount) {
                    Ok(amount) => amount,
                    Err(refusal) => return Ok(Err(refusal)),
                };
                match self.cash(account, EntryKind::Deposit, amount, context)? {
                    Ok(entry) => keep.entry = Some(entry),
                    Err(refusal) => return Ok(Err(refusal)),
                }
            }
            OrderKind::Withdraw => {
                let amount = match standing.withdraw(order.amount) {
                    Ok(amount) => amount,
                    Err(refusal) => return Ok(Err(refusal)),
                };
                account.use_day(account.day, amount.minor());
                match self.cash(account, EntryKind::Withdrawal, amount, context)? {
                    Ok(entry) => keep.entry = Some(entry),
                    Err(refusal) => return Ok(Err(refusal)),
                }
            }
            OrderKind::Transfer(to) => match self.transfer(account, *to, order.amount, context)? {
                Ok(entry) => keep.entry = Some(entry),
                Err(refusal) => return Ok(Err(refusal)),
            },
            OrderKind::Authorize(name) => {
                let amount = match standing.withdraw(order.amount) {
                    Ok(amount) => amount,
                    Err(refusal) => return Ok(Err(refusal)),
                };
                let open = self.open_holds(account, context)?;
                if let Err(refusal) = standing.one_more_hold(open, context.terms.open_holds) {
                    return Ok(Err(refusal));
                }
                keep.hold = Some(self.authorize(account, name, amount, context)?);
                hold = Some((name.clone(), context.terms.hold_timeout_ms));
            }
        }
        self.keep(&keep, account, context.now)?;
        let balances = account.balances();
        Ok(Ok(receipt(
            account, keep.entry, hold, false, false, balances,
        )?))
    }

    /// Cash in or out at the context's terminal. Where it is refused no row has changed but
    /// the given one, which is not saved.
    fn cash(
        &mut self,
        account: &mut AccountRow,
        kind: EntryKind,
        amount: Amount,
        context: &Context,
    ) -> Judged<i64> {
        let terminal = self.terminal(&context.terminal, &account.currency, context.now)?;
        let mut cash = self.account(terminal.cash)?;
        if let Err(refusal) = count_cash(cash.balance, kind, amount) {
            return Ok(Err(refusal));
        }
        let at = Some((terminal, &context.terminal));
        let stamp = account.stamp(context.now);
        let number = if kind == EntryKind::Deposit {
            let movement = movement(kind, cash.id, account.id, amount)?;
            self.post(&movement, &mut cash, account, at, stamp)?
        } else {
            let movement = movement(kind, account.id, cash.id, amount)?;
            self.post(&movement, account, &mut cash, at, stamp)?
        };
        Ok(Ok(number.get()))
    }

    fn transfer(
        &mut self,
        account: &mut AccountRow,
        to: AccountNumber,
        amount: RequestedAmount,
        context: &Context,
    ) -> Judged<i64> {
        let mut receiver = self.customer(to)?.filter(|receiver| {
            receiver.id != account.id
                && receiver.status != STATUS_CLOSED
                && receiver.currency == account.currency
        });
        let receiving = receiver
            .as_mut()
            .map(|receiver| receiver.standing(&context.terms, context.now));
        let standing = account.standing(&context.terms, context.now);
        let amount = match standing.transfer(amount, receiving.as_ref()) {
            Ok(amount) => amount,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Some(receiver) = receiver.as_mut() else {
            return Ok(Err(Refusal::NoCounterparty));
        };
        let terminal = self.terminal(&context.terminal, &account.currency, context.now)?;
        let movement = movement(EntryKind::Transfer, account.id, receiver.id, amount)?;
        let at = Some((terminal, &context.terminal));
        Ok(Ok(self
            .post(&movement, account, receiver, at, context.now)?
            .get()))
    }

    fn authorize(
        &mut self,
        account: &mut AccountRow,
        name: &HoldName,
        amount: Amount,
        context: &Context,
    ) -> Result<i64, StoreError> {
        let terminal = self.terminal(&context.terminal, &account.currency, context.now)?;
        account.use_day(account.day, amount.minor());
        account.held = account.held.saturating_add(amount.minor());
        self.save(account)?;
        let hold = Hold {
            terminal: context.terminal.clone(),
            amount,
            authorized_at: account.stamp(context.now),
            expires_at: context.now.plus_ms(context.terms.hold_timeout_ms),
            state: HoldState::Open,
        };
        let sum = sums::of_hold(name, account.id, &hold, (hold.state, 0), (None, None));
        self.connection
            .prepare_cached(
                "INSERT INTO hold (name, account, terminal, amount, authorized_at, expires_at, sum) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                name.as_str(),
                account.id,
                terminal.id,
                amount.minor(),
                hold.authorized_at.unix_ms(),
                hold.expires_at.unix_ms(),
                sum
            ])?;
        let made = &mut self.memory.from_addresses;
        made.add(context, name, hold.expires_at);
        Ok(self.connection.last_insert_rowid())
    }

    /// Ends a hold for the terminal that made it. `claimed` is the row of the account that the
    /// asking session has.
    pub(super) fn settle(
        &mut self,
        claimed: Option<i64>,
        settlement: &Settlement,
        context: &Context,
    ) -> Judged<Receipt> {
        let Some(row) = self.hold(&settlement.hold)? else {
            return Ok(Err(Refusal::NoHold));
        };
        let foreign = row.hold.terminal != context.terminal;
        let unclaimed = context.terminal.is_anonymous() && claimed != Some(row.account);
        if foreign || unclaimed {
            return Ok(Err(Refusal::NoHold));
        }
        let mut account = self.account(row.account)?;
        let kept = self.kept(&settlement.key, row.account)?;
        if matches!(row.hold.state, HoldState::Captured | HoldState::Released) {
            return match kept {
                // Numbers of forgotten answers are given again: the hold must be the same too.
                Some(kept) if (Some(kept.id), kept.hold) != (row.settled_by, Some(row.id)) => {
                    Ok(Err(Refusal::NoHold))
                }
                None => Ok(Err(Refusal::NoHold)),
                Some(kept) if kept.fingerprint != settlement.fingerprint() => {
                    Ok(Err(Refusal::KeyReused))
                }
                Some(kept) => replay(&account, &kept, None).map(Ok),
            };
        }
        let open = match row.hold.grant(&context.terminal, context.now) {
            Ok(open) => open,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if kept.is_some() {
            return Ok(Err(Refusal::KeyReused));
        }
        let captured = match settlement.kind {
            SettlementKind::Release => None,
            SettlementKind::Capture(amount) => match open.capture(amount) {
                Ok(amount) => Some(amount),
                Err(refusal) => return Ok(Err(refusal)),
            },
        };
        let late = open.is_late();
        self.end_hold(&mut account, &row, captured, late, settlement, context)
    }

    fn end_hold(
        &mut self,
        account: &mut AccountRow,
        row: &HoldRow,
        captured: Option<Amount>,
        late: bool,
        settlement: &Settlement,
        context: &Context,
    ) -> Judged<Receipt> {
        // Brings this very hold to `Expired` where its time is over and no sweep has come by.
        self.expire_due(account, context.now)?;
        let _ = account.standing(&context.terms, context.now);
        let day = row.hold.authorized_at.business_day();
        if !late {
            account.held = account.held.saturating_sub(row.hold.amount.minor());
            account.free_day(day, row.hold.amount.minor());
        }
        let entry = match captured {
            Some(amount) => {
                account.use_day(day, amount.minor());
                let kind = if late {
                    EntryKind::LateWithdrawal
                } else {
                    EntryKind::Withdrawal
                };
                match self.cash(account, kind, amount, context)? {
                    Ok(entry) => Some(entry),
                    Err(refusal) => return Ok(Err(refusal)),
                }
            }
            None => {
                self.save(account)?;
                None
            }
        };
        let late = late && captured.is_some();
        let keep = Keep {
            key: &settlement.key,
            fingerprint: settlement.fingerprint(),
            entry,
            hold: Some(row.id),
            late,
        };
        let kept = self.keep(&keep, account, context.now)?;
        let state = if captured.is_some() {
            HoldState::Captured
        } else {
            HoldState::Released
        };
        let captured = captured.map_or(0, Amount::minor);
        let (became, by) = ((state, captured), (entry, Some(kept)));
        let sum = sums::of_hold(&settlement.hold, row.account, &row.hold, became, by);
        self.connection
            .prepare_cached(
                "UPDATE hold SET state = ?2, captured = ?3, entry = ?4, settled_by = ?5, sum = ?6 WHERE id = ?1",
            )?
            .execute(params![row.id, state.number(), captured, entry, kept, sum])?;
        let balances = account.balances();
        receipt(account, entry, None, late, false, balances).map(Ok)
    }

    pub(super) fn hold(&self, name: &HoldName) -> Result<Option<HoldRow>, StoreError> {
        let sql = "SELECT hold.id, hold.account, hold.settled_by, terminal.name, hold.amount, \
                   hold.authorized_at, hold.expires_at, hold.state \
                   FROM hold JOIN terminal ON terminal.id = hold.terminal WHERE hold.name = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row([name.as_str()], |row| {
            Ok((
                (
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, Option<i64>>(2)?,
                ),
                (
                    row.get::<_, String>(3)?,
                    row.get::<_, i64>(4)?,
                    row.get::<_, i64>(5)?,
                ),
                (row.get::<_, i64>(6)?, row.get::<_, i64>(7)?),
            ))
        });
        let Some((
            (id, account, settled_by),
            (terminal, amount, authorized_at),
            (expires_at, state),
        )) = found.optional()?
        else {
            return Ok(None);
        };
        let read = || {
            Some(Hold {
                terminal: terminal.parse::<TerminalName>().ok()?,
                amount: Amount::new(amount)?,
                authorized_at: Timestamp::from_unix_ms(authorized_at),
                expires_at: Timestamp::from_unix_ms(expires_at),
                state: HoldState::from_number(state)?,
            })
        };
        let hold =
            read().ok_or_else(|| StoreError::Broken(format!("the hold {name} is unreadable")))?;
        Ok(Some(HoldRow {
            id,
            account,
            settled_by,
            hold,
        }))
    }

    /// The account's hold of that number, which an order made, and how long it stays open. One that is
    /// gone is closed, and has the name that was asked for now, which is nobody's.
    fn hold_made(
        &self,
        (id, account): (i64, i64),
        asked: &HoldName,
        now: Timestamp,
    ) -> Result<(HoldName, u64), StoreError> {
        let sql = "SELECT name FROM hold WHERE id = ?1 AND account = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let name = statement.query_row([id, account], |row| row.get::<_, String>(0));
        let Some(name) = name.optional()? else {
            return Ok((asked.clone(), 0));
        };
        let name = name
            .parse()
            .map_err(|_| StoreError::Broken("a hold without a name".to_owned()))?;
        let left_ms = self
            .hold(&name)?
            .map_or(0, |row| row.hold.expires_in_ms(now));
        Ok((name, left_ms))
    }
}

/// The first answer again.
fn replay(
    account: &AccountRow,
    kept: &KeptRow,
    hold: Option<(HoldName, u64)>,
) -> Result<Receipt, StoreError> {
    receipt(account, kept.entry, hold, kept.late, true, kept.balances)
}

fn movement(
    kind: EntryKind,
    debit: i64,
    credit: i64,
    amount: Amount,
) -> Result<Movement, StoreError> {
    Movement::new(kind, debit, credit, amount)
        .ok_or_else(|| StoreError::Broken("an entry within one account".to_owned()))
}

fn receipt(
    account: &AccountRow,
    entry: Option<i64>,
    hold: Option<(HoldName, u64)>,
    late: bool,
    replayed: bool,
    balances: crate::store::Balances,
) -> Result<Receipt, StoreError> {
    let account = account
        .number
        .parse()
        .map_err(|_| StoreError::Broken("a customer without an account number".to_owned()))?;
    Ok(Receipt {
        account,
        replayed,
        entry,
        hold,
        late,
        balances,
    })
}
