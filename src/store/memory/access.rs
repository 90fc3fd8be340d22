//! Tries, claims, PINs, sweeping.

use std::collections::BTreeSet;

use super::books::{Books, Customer, HeldMoney, Status, Tries};
use crate::access::lockout::{Counted, TryRecord};
use crate::access::pin::{HashTraits, PinHash, PinVerified, StoredPin, Ticket};
use crate::access::stand_in::DRAWS_MAX;
use crate::domain::hold::HoldState;
use crate::domain::{AccountNumber, HoldName, Timestamp};
use crate::store::{
    Balances, Context, Event, PinChange, SWEEP_ROWS_MAX, StoreError, Swept, TryCounted,
};

/// What a right PIN led to; the seat is the caller's matter.
pub(super) enum Admission {
    /// With the account's money, and whether the PIN must be changed.
    Admitted(Balances, bool),
    Locked,
    Void,
}

impl Customer {
    /// The PIN that opens the account now.
    fn pin_at(&self, now: Timestamp) -> Option<&StoredPin> {
        let in_time = self.pin_ends_at.is_none_or(|end| now < end);
        (self.status != Status::Closed && in_time).then_some(&self.pin)
    }

    /// Gives the account its next PIN.
    pub(super) fn set_pin(&mut self, hash: PinHash, one_time_until: Option<Timestamp>) {
        self.pin = StoredPin {
            hash,
            revision: self.pin.revision + 1,
        };
        self.must_change_pin = one_time_until.is_some();
        self.pin_ends_at = one_time_until;
        self.demo = false;
    }
}

impl Books {
    pub(super) fn count_try(&mut self, number: AccountNumber, context: &Context) -> TryCounted {
        let policy = context.terms.lockout;
        let rows = u64::try_from(self.tries.len()).unwrap_or(u64::MAX);
        let record = self.tries.get(&number).map(|tries| tries.record.clone());
        let takes = rows < context.terms.try_rows_max;
        if record.is_none() {
            let rows = rows.saturating_add(u64::from(takes));
            if let Some(note) = context.fills_tries(rows, &mut self.tries_told) {
                self.append(&note);
            }
            if !takes {
                return TryCounted::TableFull;
            }
        }
        let known = self.customers.get(&number);
        let stored = known.and_then(|customer| customer.pin_at(context.now));
        let stand_in = self.stand_in(number);
        let shown = known.filter(|_| stored.is_some()).or(stand_in);
        let home = shown.and_then(|customer| customer.home.as_ref());
        match TryRecord::count(record, home, &context.terminal, policy, context.now) {
            Err(locked) => TryCounted::LockedOut(locked.retry_after_ms),
            Ok(Counted { record, last }) => {
                let traits = stand_in.map(|customer| HashTraits {
                    cost: customer.pin.hash.cost,
                    pepper: customer.pin.hash.pepper.clone(),
                });
                let ticket = Ticket::for_counted_try(number, stored.cloned());
                let ticket = ticket.with_stand_in(traits).with_last(last);
                let expires_at = record.expires_at(policy);
                self.tries.insert(number, Tries { record, expires_at });
                if last {
                    self.append(&context.note(Event::LastTry, number).outcome("counted"));
                }
                TryCounted::Check(ticket)
            }
        }
    }

    /// The account that `number` looks like where it is none itself: of all accounts ever made,
    /// drawn again and again, the first that is a customer's and not closed.
    pub(super) fn stand_in(&self, number: AccountNumber) -> Option<&Customer> {
        let rows = u64::try_from(self.rows.len()).unwrap_or(u64::MAX);
        let mut draws = (0..DRAWS_MAX).map(|index| self.stand_in_key.draw(number, index, rows));
        draws.find_map(|row| {
            let row = usize::try_from(row.checked_sub(1)?).ok()?;
            let number: AccountNumber = self.rows.get(row)?.parse().ok()?;
            let customer = self.customers.get(&number)?;
            (customer.status != Status::Closed).then_some(customer)
        })
    }

    pub(super) fn admit(
        &mut self,
        proof: &PinVerified,
        seated: bool,
        context: &Context,
    ) -> Admission {
        let admission = self.judge(proof, seated, context);
        let outcome = match (&admission, seated) {
            (Admission::Void, _) => "void",
            (_, false) => "in_use",
            (Admission::Locked, true) => "locked_by_staff",
            (Admission::Admitted(..), true) => "done",
        };
        let note = context.note(Event::Login, proof.account());
        self.append(&note.outcome(outcome));
        admission
    }

    fn judge(&mut self, proof: &PinVerified, seated: bool, context: &Context) -> Admission {
        let number = proof.account();
        let Some(customer) = self.customers.get_mut(&number) else {
            return Admission::Void;
        };
        let current = customer.pin_at(context.now).map(|pin| pin.revision);
        if current != Some(proof.revision()) {
            return Admission::Void;
        }
        self.tries.remove(&number);
        // Where its pepper was retired meanwhile, the old hash serves on.
        let mut changed = false;
        if let Some(hash) = proof.upgrade()
            && !self.retired_peppers.contains(hash.pepper.as_str())
        {
            changed = true;
            customer.pin.hash = hash.clone();
            self.peppers
                .insert(hash.pepper.as_str().to_owned(), hash.pepper.clone());
        }
        let locked = customer.status == Status::Locked;
        if seated && !locked && customer.home.as_ref() != Some(&context.terminal) {
            changed = true;
            customer.home = Some(context.terminal.clone());
        }
        let must_change_pin = customer.must_change_pin;
        if changed {
            self.record_row(number.as_str());
        }
        if locked {
            return Admission::Locked;
        }
        self.expire_due(number, context.now);
        Admission::Admitted(self.balances_at(number, context.now), must_change_pin)
    }

    pub(super) fn change_pin(
        &mut self,
        proof: &PinVerified,
        new: Option<PinHash>,
        context: &Context,
    ) -> Result<PinChange, StoreError> {
        let acceptable = new.is_some();
        let change = self.replace_pin(proof, new)?;
        let outcome = match change {
            PinChange::Done if acceptable => "done",
            PinChange::Done => "refused",
            PinChange::LockedByStaff => "locked_by_staff",
            PinChange::Forged => "failed",
            PinChange::Void => "void",
        };
        let note = context.note(Event::PinChange, proof.account());
        self.append(&note.outcome(outcome));
        Ok(change)
    }

    fn replace_pin(
        &mut self,
        proof: &PinVerified,
        new: Option<PinHash>,
    ) -> Result<PinChange, StoreError> {
        let number = proof.account();
        let known = self.customers.get(&number);
        let open = known.filter(|known| known.status != Status::Closed);
        let current = open.map(|known| known.pin.revision);
        if current != Some(proof.revision()) {
            return Ok(PinChange::Void);
        }
        let locked = |known: &Customer| known.status == Status::Locked;
        if self.customers.get(&number).is_some_and(locked) {
            self.tries.remove(&number);
            return Ok(PinChange::LockedByStaff);
        }
        if let Some(new) = new {
            self.refuse_retired(&new.pepper)?;
            self.know_pepper(&new.pepper);
            if let Some(customer) = self.customers.get_mut(&number) {
                customer.set_pin(new, None);
            }
            self.record_row(number.as_str());
        }
        self.tries.remove(&number);
        Ok(PinChange::Done)
    }

    pub(super) fn sweep(&mut self, context: &Context) -> Swept {
        let now = context.now;
        let due = self.holds.values();
        let due = due.filter(|held| held.hold.expiry(now).is_some());
        let accounts: BTreeSet<_> = due.map(|held| held.account).collect();
        let mut swept = Swept::default();
        for number in accounts {
            swept.holds += self.expire_some(number, now, SWEEP_ROWS_MAX - swept.holds);
        }
        swept.keys = self.forget_keys(now.minus_ms(context.terms.keys_kept_ms));
        if swept.keys < SWEEP_ROWS_MAX {
            swept.forgotten_holds = self.forget_holds(context.terms.holds_forgotten(now));
        }
        let over = |tries: &Tries| tries.expires_at.is_some_and(|end| end <= now);
        let over = self.tries.iter().filter(|(_, tries)| over(tries));
        let mut over: Vec<_> = over
            .map(|(number, tries)| (tries.expires_at, *number))
            .collect();
        over.sort();
        over.truncate(SWEEP_ROWS_MAX);
        for (_, number) in &over {
            self.tries.remove(number);
        }
        swept.tries = over.len();
        swept
    }

    /// Forgets holds that ended before `moment` and that no kept answer names.
    fn forget_holds(&mut self, moment: Timestamp) -> usize {
        let made = self.keys.values().filter_map(|kept| kept.made.as_ref());
        let made: BTreeSet<_> = made.collect();
        let is_named = |name: &HoldName, held: &HeldMoney| {
            let settled_by = held.settled_by;
            made.contains(name)
                || settled_by.is_some_and(|number| self.keys_by_age.contains_key(&number))
        };
        let over = self.holds.iter().filter(|(name, held)| {
            let is_old = held.hold.state != HoldState::Open && held.hold.expires_at < moment;
            is_old && !is_named(name, held)
        });
        let over: Vec<_> = over
            .map(|(name, _)| name.clone())
            .take(SWEEP_ROWS_MAX)
            .collect();
        for name in &over {
            if let Some(held) = self.holds.remove(name)
                && let Some(customer) = self.customers.get_mut(&held.account)
            {
                customer.holds.retain(|known| known != name);
            }
        }
        over.len()
    }

    /// Of the keys kept longest, forgets those that were kept before `moment`.
    fn forget_keys(&mut self, moment: Timestamp) -> usize {
        let oldest = self.keys_by_age.iter().take(SWEEP_ROWS_MAX);
        let is_old = |key| self.keys.get(key).is_some_and(|kept| kept.at < moment);
        let old: Vec<u64> = oldest
            .filter(|(_, key)| is_old(key))
            .map(|(age, _)| *age)
            .collect();
        for age in &old {
            if let Some(key) = self.keys_by_age.remove(age) {
                self.keys.remove(&key);
            }
        }
        old.len()
    }
}
