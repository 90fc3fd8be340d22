//! Opening of accounts.

use super::postings::{Occasion, open_account, post};
use super::staff::OPENING;
use crate::domain::EntryKind;
use crate::domain::money::{BALANCE_MAX, Opening};
use crate::store::state::KIND_CUSTOMER;
use crate::store::working::{CoveredChange, Needs, Operation, Stop, WorkingSet};
use crate::store::{Context, Done, NewAccount};

/// Checks that accounts may be opened together. All are opened, or none.
pub(in crate::store) struct MayOpen<'a>(pub(in crate::store) &'a [NewAccount]);

impl Operation for MayOpen<'_> {
    /// The reason for staff, if they may not.
    type Answer = Option<Done>;

    fn needs(&self, _: &WorkingSet) -> Needs<'_> {
        let mut retired: Vec<_> = self.0.iter().map(|new| &new.hash.pepper).collect();
        retired.dedup();
        Needs {
            named: Some(OPENING),
            retired,
            ..Needs::default()
        }
    }

    fn execute(&self, rows: &mut WorkingSet) -> Result<Option<Done>, Stop> {
        let refused = |why: &str| Ok(Some(Done::Refused(why.to_owned())));
        let is_out_of_range = |new: &NewAccount| !(0..=BALANCE_MAX).contains(&new.balance);
        if self.0.iter().any(is_out_of_range) {
            return refused("an opening balance is out of range");
        }
        for new in self.0 {
            if rows.is_retired(&new.hash.pepper)? {
                return Ok(Some(Done::retired(&new.hash.pepper)));
            }
        }
        let left = |rest: i64, new: &NewAccount| rest.checked_sub(new.balance);
        match self.0.iter().try_fold(rows.named()?.balance, left) {
            None => refused("the opening balances together are out of range"),
            Some(_) => Ok(None),
        }
    }
}

/// Opens one of them.
pub(in crate::store) struct OpenAccount<'a> {
    pub(in crate::store) new: &'a NewAccount,
    pub(in crate::store) context: &'a Context,
}

impl Operation for OpenAccount<'_> {
    /// `false` if the number is taken.
    type Answer = bool;

    fn needs(&self, _: &WorkingSet) -> Needs<'_> {
        Needs {
            customer: Some(self.new.number),
            named: Some(OPENING),
            ..Needs::default()
        }
    }

    fn execute(&self, rows: &mut WorkingSet) -> Result<bool, Stop> {
        let (new, at) = (self.new, self.context.now);
        if rows.customer()?.is_some() {
            return Ok(false);
        }
        let mut opening = rows.named()?;
        let what = (KIND_CUSTOMER, new.number.as_str());
        let mut account = open_account(rows, what, &opening, at)?;
        rows.changes.covered.push(CoveredChange::Pin {
            account: account.id,
            hash: new.hash.clone(),
            one_time_until: None,
            is_demo: new.demo,
        });
        let occasion = Occasion {
            kind: EntryKind::Opening,
            terminal: None,
            at,
        };
        for part in Opening::new(new.balance)
            .into_iter()
            .flat_map(Opening::parts)
        {
            post(rows, part, (&mut opening, &mut account), &occasion)?;
        }
        Ok(true)
    }
}
