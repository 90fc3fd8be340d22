//! Settlements: the terminal that made a hold captures or releases it.

use super::holds::expire_due;
use super::planted::Planted;
use super::{Done, postings, repeat};
use crate::domain::hold::HoldState;
use crate::domain::money::Amount;
use crate::domain::{EntryKind, Refusal};
use crate::store::state::{AccountRow, HoldRow, SessionFence};
use crate::store::working::{Needs, Operation, Stop, WorkingSet};
use crate::store::{Context, Receipt, Settlement, SettlementKind};

/// One capture or release. A key is carried out once; its repeats get the first answer.
pub(in crate::store) struct Settle<'a> {
    /// The session at the terminal. It may be over.
    pub(in crate::store) session: Option<SessionFence>,
    pub(in crate::store) settlement: &'a Settlement,
    pub(in crate::store) context: &'a Context,
}

impl Operation for Settle<'_> {
    type Answer = Receipt;

    fn needs(&self, rows: &WorkingSet) -> Needs<'_> {
        let hold = Needs {
            session: self.session.map(|session| session.number),
            hold: Some(&self.settlement.hold),
            ..Needs::default()
        };
        // The hold names the account, and the account says what else is needed.
        let Ok(Some(row)) = rows.hold() else {
            return hold;
        };
        Needs {
            account: Some(row.account),
            answer: Some((row.account, &self.settlement.key)),
            terminal: Some(&self.context.terminal),
            due: Some((row.account, self.context.now, usize::MAX)),
            ..hold
        }
    }

    fn execute(&self, rows: &mut WorkingSet) -> Result<Receipt, Stop> {
        let (settlement, context) = (self.settlement, self.context);
        let row = rows.hold()?.ok_or(Refusal::NoHold)?;
        // The cash is out or it is not, whoever is logged in. So the terminal's certificate decides, and a
        // session that is over refuses nothing. A terminal without a certificate has only the session.
        let is_own = self.has_account(rows, row.account)?;
        let is_any_terminals = Planted::HoldOfAnyTerminal.is_here();
        let is_foreign = row.hold.terminal != context.terminal && !is_any_terminals;
        if is_foreign || (context.terminal.is_anonymous() && !is_own) {
            return Err(Refusal::NoHold.into());
        }
        let account = rows.account(row.account)?;
        let kept = rows.answer()?;
        if matches!(row.hold.state, HoldState::Captured | HoldState::Released) {
            // The number of a forgotten answer is used again, so the hold must match as well.
            let settled = (row.settled_by, Some(row.id));
            let kept = kept.filter(|kept| (Some(kept.id), kept.hold) == settled);
            let kept = kept.ok_or(Refusal::NoHold)?;
            if kept.fingerprint != settlement.fingerprint() {
                return Err(Refusal::KeyReused.into());
            }
            return repeat(&account, kept, None, is_own);
        }
        if kept.is_some() && Planted::RefusalsSwapped.is_here() {
            return Err(Refusal::KeyReused.into());
        }
        let terminal = match is_any_terminals {
            true => &row.hold.terminal,
            false => &context.terminal,
        };
        let open = row.hold.grant(terminal, context.now)?;
        if kept.is_some() {
            return Err(Refusal::KeyReused.into());
        }
        let captured = match settlement.kind {
            SettlementKind::Release => None,
            SettlementKind::Capture(amount) => Some(open.capture(amount)?),
        };
        let (late, row) = (open.is_late(), row.clone());
        self.end_hold(rows, (account, row), (captured, late), is_own)
    }
}

impl Settle<'_> {
    /// Whether the session still holds this account.
    fn has_account(&self, rows: &WorkingSet, account: i64) -> Result<bool, Stop> {
        match self.session.filter(|session| session.row == account) {
            Some(session) => rows.is_present(session),
            None => Ok(false),
        }
    }

    fn end_hold(
        &self,
        rows: &mut WorkingSet,
        (mut account, mut row): (AccountRow, HoldRow),
        (captured, late): (Option<Amount>, bool),
        is_own: bool,
    ) -> Result<Receipt, Stop> {
        let (settlement, context) = (self.settlement, self.context);
        // This may expire the very hold that is being settled, if no sweep has done it yet.
        expire_due(rows, &mut account, context.now)?;
        let _ = account.standing(&context.terms, context.now);
        let day = row.hold.authorized_at.business_day();
        if !late {
            account.held = account.held.saturating_sub(row.hold.amount.minor());
            account.free_day(day, row.hold.amount.minor());
            if Planted::HoldFreedTwice.is_here() {
                account.held = account.held.saturating_sub(row.hold.amount.minor());
            }
        }
        if let Some(amount) = captured {
            account.use_day(day, amount.minor());
            let kind = match late {
                true => EntryKind::LateWithdrawal,
                false => EntryKind::Withdrawal,
            };
            row.entry = Some(postings::cash(rows, &mut account, (kind, amount), context)?);
            row.captured = amount.minor();
            row.hold.state = HoldState::Captured;
        } else {
            rows.save(&account);
            row.hold.state = HoldState::Released;
        }
        let done = Done {
            key: &settlement.key,
            fingerprint: settlement.fingerprint(),
            entry: row.entry,
            hold: Some(row.id),
            late: late && captured.is_some(),
        };
        row.settled_by = Some(done.keep(rows, &account, context)?);
        rows.changes.holds.push(row);
        done.receipt(&account, None, is_own)
    }
}
