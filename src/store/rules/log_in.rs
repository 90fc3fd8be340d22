//! Log-ins: a try is counted before its PIN is checked, and a right PIN opens the account.

use super::audit;
use super::covered::Covered;
use super::holds::expire_due;
use super::planted::Planted;
use crate::access::lockout::{Counted, TryRecord};
use crate::access::pin::{PinHash, Ticket};
use crate::domain::AccountNumber;
use crate::store::state::{CredentialRow, STATUS_LOCKED, Tries};
use crate::store::working::{CoveredChange, Needs, Operation, Stop, WorkingSet};
use crate::store::{Balances, Context, Event, TryCounted};

/// Counts a try upon a number, whether an account has that number or not.
pub(in crate::store) struct CountTry<'a> {
    pub(in crate::store) number: AccountNumber,
    pub(in crate::store) context: &'a Context,
}

impl Operation for CountTry<'_> {
    type Answer = TryCounted;

    fn needs(&self, _: &WorkingSet) -> Needs<'_> {
        Needs {
            // Every number takes the same look-ups, so their time does not tell which are accounts.
            tries: Some(self.number),
            decoy: Some((self.number, CredentialRow::is_open)),
            credential: Some(self.number),
            ..Needs::default()
        }
    }

    fn execute(&self, rows: &mut WorkingSet) -> Result<TryCounted, Stop> {
        let (number, context) = (self.number, self.context);
        let policy = context.terms.lockout;
        let record = rows.tries()?.cloned();
        let decoy = rows.decoy()?.cloned();
        let own = match rows.credential()? {
            Some(None) => {
                tracing::error!(account = %number.masked(), "ALARM: an account's credential is gone or unreadable");
                return Ok(TryCounted::Forged);
            }
            own => own.and_then(Option::clone),
        };
        let own = own.filter(|own| own.number == number && !own.is_void(context.now));
        // A full table comes first: it refuses a number without a row, whatever its PIN is.
        if record.is_none() && !self.takes_another_row(rows)? {
            return Ok(TryCounted::TableFull);
        }
        let home = own.as_ref().or(decoy.as_ref());
        let home = home.and_then(|credential| credential.home.as_ref());
        let counted = TryRecord::count(record, home, &context.terminal, policy, context.now);
        let Counted { record, last } = match counted {
            Ok(counted) => counted,
            Err(locked) => return Ok(TryCounted::LockedOut(locked.retry_after_ms)),
        };
        let expires_at = record.expires_at(policy);
        let tries = Tries { record, expires_at };
        if !Planted::TryNotCounted.is_here() {
            rows.changes.tries.push((number, Some(tries)));
        }
        if last {
            let note = context.note(Event::LastTry, number).outcome("counted");
            audit::append(rows, &note)?;
        }
        let ticket = Ticket::for_counted_try(number, own.map(|own| own.stored));
        let ticket = ticket.with_stand_in(decoy.map(CredentialRow::traits));
        Ok(TryCounted::Check(ticket.with_last(last)))
    }
}

impl CountTry<'_> {
    /// Counts one more row of the table of tries, if there is room. Tells staff when the table is nearly full.
    fn takes_another_row(&self, rows: &mut WorkingSet) -> Result<bool, Stop> {
        let context = self.context;
        let ends = rows.ends();
        let before = ends.try_rows.ok_or(Stop::Missing)?;
        let takes = before < context.terms.try_rows_max;
        let count = before.saturating_add(u64::from(takes));
        ends.try_rows = Some(count);
        if let Some(note) = context.fills_tries(count, &mut ends.is_tries_told) {
            tracing::error!("ALARM: the table of wrong PINs is nearly full");
            audit::append(rows, &note)?;
        }
        Ok(takes)
    }
}

/// The result of a right PIN.
pub(in crate::store) enum Admission {
    Admitted {
        row: i64,
        balances: Balances,
        must_change_pin: bool,
    },
    Locked,
    /// The bank did not write the account's row as it is.
    Forged,
    /// The PIN was changed, has run out, or the account was closed.
    Void,
}

/// Lets a customer in who gave the right PIN, of this revision.
pub(in crate::store) struct Admit<'a> {
    pub(in crate::store) number: AccountNumber,
    pub(in crate::store) revision: i64,
    /// The same PIN hashed anew.
    pub(in crate::store) upgrade: Option<&'a PinHash>,
    /// Whether the account was free.
    pub(in crate::store) seated: bool,
    pub(in crate::store) context: &'a Context,
}

impl Operation for Admit<'_> {
    type Answer = Admission;

    fn needs(&self, rows: &WorkingSet) -> Needs<'_> {
        let needs = Needs {
            credential: Some(self.number),
            retired: self.upgrade.iter().map(|hash| &hash.pepper).collect(),
            ..Needs::default()
        };
        let Some(account) = rows.credential_account() else {
            return needs;
        };
        Needs {
            account: Some(account),
            covered: Some(Covered::Account(account)),
            due: Some((account, self.context.now, usize::MAX)),
            ..needs
        }
    }

    fn execute(&self, rows: &mut WorkingSet) -> Result<Admission, Stop> {
        let admission = self.judge(rows)?;
        let outcome = match &admission {
            Admission::Void => "void",
            Admission::Forged => "failed",
            _ if !self.seated => "in_use",
            Admission::Locked => "locked_by_staff",
            Admission::Admitted { .. } => "done",
        };
        let note = self.context.note(Event::Login, self.number);
        audit::append(rows, &note.outcome(outcome))?;
        if matches!(admission, Admission::Forged) {
            let note = self.context.note(Event::ForgedRow, self.number);
            audit::append(rows, &note.outcome("refused"))?;
        }
        Ok(admission)
    }
}

impl Admit<'_> {
    fn judge(&self, rows: &mut WorkingSet) -> Result<Admission, Stop> {
        let now = self.context.now;
        let Some(Some(credential)) = rows.credential()?.cloned() else {
            return Ok(Admission::Void);
        };
        if credential.is_void(now) || credential.stored.revision != self.revision {
            return Ok(Admission::Void);
        }
        // The MAC comes before the tries are forgotten: whoever planted a hash knows its PIN.
        if !rows.is_as_written()? {
            return Ok(Admission::Forged);
        }
        rows.changes.tries.push((self.number, None));
        // If the new hash's pepper was retired meanwhile, the old hash stays.
        let upgrade = match self.upgrade {
            Some(hash) if !rows.is_retired(&hash.pepper)? => Some(hash),
            _ => None,
        };
        let mut account = rows.account(credential.account)?;
        let is_locked = credential.status == STATUS_LOCKED;
        let terminal = &self.context.terminal;
        let moves = self.seated && !is_locked && credential.home.as_ref() != Some(terminal);
        if moves || upgrade.is_some() {
            rows.changes.covered.push(CoveredChange::Kept {
                account: account.id,
                hash: upgrade.cloned(),
                home: moves.then(|| terminal.clone()),
            });
        }
        if is_locked {
            return Ok(Admission::Locked);
        }
        expire_due(rows, &mut account, now)?;
        rows.changes.told.push(account.clone());
        Ok(Admission::Admitted {
            row: account.id,
            balances: account.balances(),
            must_change_pin: credential.must_change,
        })
    }
}
