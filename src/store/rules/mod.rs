//! The rules of the bank: pure, synchronous, and the same for every engine.
//!
//! A rule reads the rows that the engine has loaded ([`super::working`]) and changes them. It knows no SQL,
//! no clock and no disk. One file holds one kind of operation.

pub(super) mod audit;
pub(super) mod change_pin;
pub(super) mod covered;
pub(super) mod holds;
pub(super) mod log_in;
pub(super) mod opening;
pub(super) mod orders;
pub(crate) mod planted;
pub(super) mod postings;
pub(super) mod settlements;
pub(super) mod staff;

use self::planted::Planted;
use super::state::{AccountRow, KeptAnswer, NewAnswer};
use super::working::{Numbered, Stop, WorkingSet};
use super::{Context, Fingerprint, Receipt};
use crate::domain::{HoldName, IdempotencyKey};

/// What a keyed request did: its answer now, and the answer to its repeats.
struct Done<'a> {
    key: &'a IdempotencyKey,
    fingerprint: Fingerprint,
    entry: Option<i64>,
    hold: Option<i64>,
    late: bool,
}

impl Done<'_> {
    /// Keeps the answer and returns its number.
    fn keep(
        &self,
        rows: &mut WorkingSet,
        account: &AccountRow,
        context: &Context,
    ) -> Result<i64, Stop> {
        let id = rows.next(Numbered::Answer)?;
        if Planted::KeyForgotten.is_here() {
            return Ok(id);
        }
        rows.changes.answers.push(NewAnswer {
            key: self.key.clone(),
            account: account.id,
            at: context.now,
            answer: KeptAnswer {
                id,
                fingerprint: self.fingerprint,
                entry: self.entry,
                hold: self.hold,
                late: self.late,
                balances: account.balances(),
            },
        });
        Ok(id)
    }

    /// The answer.
    fn receipt(
        &self,
        account: &AccountRow,
        hold: Option<(HoldName, u64)>,
        is_own: bool,
    ) -> Result<Receipt, Stop> {
        Ok(Receipt {
            account: customer(account)?,
            is_own,
            replayed: false,
            entry: self.entry,
            hold,
            late: self.late,
            balances: account.balances(),
        })
    }
}

/// Repeats the first answer.
fn repeat(
    account: &AccountRow,
    kept: &KeptAnswer,
    hold: Option<(HoldName, u64)>,
    is_own: bool,
) -> Result<Receipt, Stop> {
    Ok(Receipt {
        account: customer(account)?,
        is_own,
        replayed: true,
        entry: kept.entry,
        hold,
        late: kept.late,
        balances: match Planted::ReplayWithPresentBalances.is_here() {
            true => account.balances(),
            false => kept.balances,
        },
    })
}

fn customer(account: &AccountRow) -> Result<crate::domain::AccountNumber, Stop> {
    let number = account.number.parse();
    number.map_err(|_| Stop::broken("a customer without an account number"))
}
