//! Change of PIN by the customer.

use super::audit;
use super::covered::Covered;
use crate::access::pin::PinHash;
use crate::domain::AccountNumber;
use crate::store::state::{STATUS_CLOSED, STATUS_LOCKED, SessionFence};
use crate::store::working::{CoveredChange, Needs, Operation, Stop, WorkingSet};
use crate::store::{Context, Event, PinChange, StoreError};

/// Replaces the PIN of this revision, which the customer has just proven, by `new`. `None` if the PIN that
/// the customer chose is not acceptable.
pub(in crate::store) struct ChangePin<'a> {
    pub(in crate::store) session: SessionFence,
    pub(in crate::store) number: AccountNumber,
    pub(in crate::store) revision: i64,
    pub(in crate::store) new: Option<&'a PinHash>,
    pub(in crate::store) context: &'a Context,
}

impl Operation for ChangePin<'_> {
    type Answer = PinChange;

    fn needs(&self, rows: &WorkingSet) -> Needs<'_> {
        Needs {
            session: Some(self.session.number),
            credential: Some(self.number),
            // A wrong row is an alarm, so it is looked at only for a PIN that would be replaced.
            covered: rows.credential_account().map(Covered::Account),
            ..Needs::default()
        }
    }

    fn execute(&self, rows: &mut WorkingSet) -> Result<PinChange, Stop> {
        if !rows.is_present(self.session)? || self.number != self.session.number {
            return Err(StoreError::Fenced.into());
        }
        let change = self.replace_pin(rows)?;
        let outcome = match change {
            PinChange::Void => "void",
            PinChange::Forged => "failed",
            PinChange::LockedByStaff => "locked_by_staff",
            PinChange::Done if self.new.is_none() => "refused",
            PinChange::Done => "done",
        };
        let note = self.context.note(Event::PinChange, self.number);
        audit::append(rows, &note.outcome(outcome))?;
        if change == PinChange::Forged {
            let note = self.context.note(Event::ForgedRow, self.number);
            audit::append(rows, &note.outcome("refused"))?;
        }
        Ok(change)
    }
}

impl ChangePin<'_> {
    fn replace_pin(&self, rows: &mut WorkingSet) -> Result<PinChange, Stop> {
        let credential = rows.credential()?.and_then(Option::clone);
        let credential = credential.filter(|known| {
            known.stored.revision == self.revision && known.status != STATUS_CLOSED
        });
        let Some(credential) = credential else {
            return Ok(PinChange::Void);
        };
        // The MAC comes before the tries are forgotten: whoever planted a hash knows its PIN.
        if !rows.is_as_written()? {
            return Ok(PinChange::Forged);
        }
        rows.changes.tries.push((self.number, None));
        if credential.status == STATUS_LOCKED {
            return Ok(PinChange::LockedByStaff);
        }
        if let Some(new) = self.new {
            rows.changes.covered.push(CoveredChange::Pin {
                account: credential.account,
                hash: new.clone(),
                one_time_until: None,
                is_demo: false,
            });
        }
        Ok(PinChange::Done)
    }
}
