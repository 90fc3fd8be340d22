//! Acts of the bank's staff upon accounts and terminals.

use super::covered::Covered;
use super::holds::expire_due;
use super::{audit, postings};
use crate::access::pin::PinHash;
use crate::domain::{AccountNumber, EntryKind, Refusal, TerminalName, Timestamp};
use crate::store::state::{AccountRow, ReasonRow, STATUS_CLOSED, STATUS_LOCKED};
use crate::store::working::{CoveredChange, Needs, Operation, Stop, WorkingSet};
use crate::store::{Act, Context, Done, StoreError};

/// The account on the other side of corrections by staff.
const ADJUSTMENT: &str = "adjustment";
/// The account on the other side of opening balances.
pub(super) const OPENING: &str = "opening";

/// One act upon one account or terminal.
pub(in crate::store) struct StaffAct<'a> {
    pub(in crate::store) act: &'a Act,
    pub(in crate::store) actor: &'a str,
    pub(in crate::store) context: &'a Context,
}

/// A new PIN by staff.
struct NewPin<'a> {
    hash: &'a PinHash,
    one_time_until: Option<Timestamp>,
    /// Staff accept the row as it is.
    accept_row: bool,
}

impl Operation for StaffAct<'_> {
    type Answer = Done;

    fn needs(&self, rows: &WorkingSet) -> Needs<'_> {
        let mut needs = Needs::default();
        match self.act {
            Act::Terminal { name, .. } => {
                (needs.terminal, needs.named) = (Some(name), Some(OPENING));
                let known = rows.terminal(name).ok().flatten();
                needs.covered = known.map(|row| Covered::Terminal(row.id));
                return needs;
            }
            Act::SetPin {
                number,
                hash,
                accept_row,
                ..
            } => {
                needs.customer = Some(*number);
                needs.retired = vec![&hash.pepper];
                needs.report = accept_row.then_some(*number);
            }
            Act::Lock(number, _) => {
                (needs.customer, needs.tries) = (Some(*number), Some(*number));
            }
            Act::Adjust { number, .. } => {
                (needs.customer, needs.named) = (Some(*number), Some(ADJUSTMENT));
            }
            Act::Close(number) | Act::Limit { number, .. } => needs.customer = Some(*number),
            _ => {}
        }
        if let Ok(Some(account)) = rows.customer() {
            let now = self.context.now;
            let closes = matches!(self.act, Act::Close(_));
            let adjusts = matches!(self.act, Act::Adjust { .. });
            needs.covered = (!adjusts).then_some(Covered::Account(account.id));
            needs.due = (closes || adjusts).then_some((account.id, now, usize::MAX));
            needs.late_holds = closes.then_some((account.id, now));
        }
        needs
    }

    fn execute(&self, rows: &mut WorkingSet) -> Result<Done, Stop> {
        match self.act {
            Act::Close(_) => self.close(rows),
            Act::Lock(number, locked) => self.lock(rows, *number, *locked),
            Act::SetPin {
                number,
                hash,
                one_time_until,
                accept_row,
            } => {
                let pin = NewPin {
                    hash,
                    one_time_until: *one_time_until,
                    accept_row: *accept_row,
                };
                self.set_pin(rows, *number, &pin)
            }
            Act::Limit {
                withdrawal, daily, ..
            } => limit(rows, *withdrawal, *daily),
            Act::Adjust { amount, reason, .. } => self.adjust(rows, *amount, reason),
            Act::Terminal { name, disabled } => self.set_disabled(rows, name, *disabled),
            _ => Err(StoreError::Unsupported.into()),
        }
    }
}

fn refused(why: &str) -> Done {
    Done::Refused(why.to_owned())
}

impl StaffAct<'_> {
    fn set_pin(
        &self,
        rows: &mut WorkingSet,
        number: AccountNumber,
        pin: &NewPin<'_>,
    ) -> Result<Done, Stop> {
        let Some(account) = rows.customer()? else {
            return Ok(Done::NoSuchAccount);
        };
        if rows.is_retired(&pin.hash.pepper)? {
            return Ok(Done::retired(&pin.hash.pepper));
        }
        let is_closed = account.status == STATUS_CLOSED;
        let done = match pin.accept_row {
            true => self.accept_row(rows, number)?,
            false if is_closed => return Ok(refused("the account is closed")),
            false if !rows.is_as_written()? => return Ok(Done::forged()),
            false => Done::Yes,
        };
        rows.changes.covered.push(if is_closed {
            CoveredChange::Accepted(Covered::Account(account.id))
        } else {
            rows.changes.tries.push((number, None));
            CoveredChange::Pin {
                account: account.id,
                hash: pin.hash.clone(),
                one_time_until: pin.one_time_until,
                is_demo: false,
            }
        });
        Ok(done)
    }

    /// Records that staff accepted the row, and what it says.
    fn accept_row(&self, rows: &mut WorkingSet, number: AccountNumber) -> Result<Done, Stop> {
        let as_written = rows.is_as_written()?;
        let found = rows.report()?.cloned().unwrap_or_default();
        let note = found.accepted(self.actor, number, as_written, self.context.now);
        audit::append(rows, &note)?;
        Ok(Done::Account(Box::new(found)))
    }

    fn close(&self, rows: &mut WorkingSet) -> Result<Done, Stop> {
        let Some(mut account) = rows.customer()? else {
            return Ok(Done::NoSuchAccount);
        };
        if account.status == STATUS_CLOSED {
            return Ok(refused("the account is closed already"));
        }
        if !rows.is_as_written()? {
            return Ok(Done::forged());
        }
        let just_expired = expire_due(rows, &mut account, self.context.now)?;
        if account.balance != 0 {
            return Ok(refused("the account's balance is not 0"));
        }
        if account.held != 0 {
            return Ok(refused("the account has open holds"));
        }
        // The engine looked for late holds before these expired.
        if just_expired > 0 || rows.has_late_holds()? {
            let why = "the account has holds that can still be captured late";
            return Ok(refused(why));
        }
        set_status(rows, &account, STATUS_CLOSED);
        Ok(Done::Yes)
    }

    fn lock(
        &self,
        rows: &mut WorkingSet,
        number: AccountNumber,
        locked: bool,
    ) -> Result<Done, Stop> {
        let account = rows.customer()?;
        let is_open = |account: &AccountRow| account.status != STATUS_CLOSED;
        let is_open = account.as_ref().is_some_and(is_open);
        if is_open && !rows.is_as_written()? {
            return Ok(Done::forged());
        }
        if !locked {
            // Tries may have locked a number that has no account, or a closed one.
            let had_tries = rows.tries()?.is_some();
            rows.changes.tries.push((number, None));
            if had_tries && !is_open {
                return Ok(Done::Yes);
            }
        }
        let Some(account) = account else {
            return Ok(Done::NoSuchAccount);
        };
        if !is_open {
            return Ok(refused("the account is closed"));
        }
        set_status(rows, &account, if locked { STATUS_LOCKED } else { 0 });
        Ok(Done::Yes)
    }

    fn adjust(&self, rows: &mut WorkingSet, signed: i64, reason: &str) -> Result<Done, Stop> {
        let (now, terms) = (self.context.now, &self.context.terms);
        let Some(mut account) = rows.customer()? else {
            return Ok(Done::NoSuchAccount);
        };
        if account.status == STATUS_CLOSED {
            return Ok(refused("the account is closed"));
        }
        expire_due(rows, &mut account, now)?;
        let amount = match account.standing(terms, now).adjust(signed) {
            Ok(amount) => amount,
            Err(Refusal::InsufficientFunds) => {
                return Ok(refused("the account has less available"));
            }
            Err(_) => return Ok(refused("the amount is out of range")),
        };
        let mut other = rows.named()?;
        let sides = match signed > 0 {
            true => (&mut other, &mut account),
            false => (&mut account, &mut other),
        };
        let occasion = postings::Occasion {
            kind: EntryKind::Adjustment,
            terminal: None,
            at: now,
        };
        let entry = postings::post(rows, amount, sides, &occasion)?.get();
        rows.changes.reasons.push(ReasonRow {
            entry,
            text: reason.to_owned(),
            actor: self.actor.to_owned(),
        });
        let balance = account.balance;
        Ok(Done::Posted { entry, balance })
    }

    fn set_disabled(
        &self,
        rows: &mut WorkingSet,
        name: &TerminalName,
        disabled: bool,
    ) -> Result<Done, Stop> {
        // The row is always looked at, since a wrong one is an alarm. Disabling is never refused, and makes
        // the row whole again.
        let is_right = rows.terminal(name)?.is_none() || rows.is_as_written()?;
        if !is_right && !disabled {
            return Ok(Done::forged_terminal());
        }
        let opening = rows.named()?;
        let terminal = postings::terminal(rows, name, &opening, self.context.now)?.id;
        let change = CoveredChange::Disabled { terminal, disabled };
        rows.changes.covered.push(change);
        Ok(Done::Yes)
    }
}

fn limit(rows: &mut WorkingSet, withdrawal: Option<i64>, daily: Option<i64>) -> Result<Done, Stop> {
    let Some(account) = rows.customer()? else {
        return Ok(Done::NoSuchAccount);
    };
    let is_negative = |limit: Option<i64>| limit.is_some_and(|limit| limit < 0);
    if is_negative(withdrawal) || is_negative(daily) {
        return Ok(refused("a limit is 0 or more"));
    }
    if !rows.is_as_written()? {
        return Ok(Done::forged());
    }
    rows.changes.covered.push(CoveredChange::Limits {
        account: account.id,
        withdrawal,
        daily,
    });
    Ok(Done::Yes)
}

fn set_status(rows: &mut WorkingSet, account: &AccountRow, status: i64) {
    let account = account.id;
    let change = CoveredChange::Status { account, status };
    rows.changes.covered.push(change);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::state::TerminalRow;
    use crate::store::working::Loaded;

    #[test]
    fn a_terminals_row_is_looked_at_before_it_is_disabled_too() {
        let (name, terms) = ("t-1".parse().unwrap(), crate::bank::test_bank::TERMS);
        let context = Context {
            now: Timestamp::from_unix_ms(0),
            terminal: TerminalName::anonymous(),
            connection: None,
            address: None,
            terms,
            busy: false,
        };
        let disabled = true;
        let act = StaffAct {
            act: &Act::Terminal { name, disabled },
            actor: "uid 0",
            context: &context,
        };
        let mut rows = WorkingSet::default();
        let row = TerminalRow { id: 7, cash: 8 };
        rows.loaded.terminal = Loaded::Row(row);
        assert_eq!(act.needs(&rows).covered, Some(Covered::Terminal(7)));
        assert!(matches!(act.execute(&mut rows), Err(Stop::Missing)));
    }
}
