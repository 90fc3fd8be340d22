//! Tries, claims, PINs, sweeping.

use super::books::{Books, Customer, Status, Tries};
use crate::access::lockout::{Origin, TryRecord};
use crate::access::pin::{PinHash, PinVerified, StoredPin, Ticket};
use crate::domain::{AccountNumber, Timestamp};
use crate::store::{Balances, Context, KEY_KEPT_MS, PinChange, SWEEP_ROWS_MAX, Swept, TryCounted};

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
        let record = self.tries.get(&number).map(|tries| tries.record);
        if record.is_none() && rows >= context.terms.try_rows_max {
            return TryCounted::TableFull;
        }
        let customer = self.customers.get(&number);
        let home = customer.and_then(|customer| customer.home.as_ref());
        let origin = match home == Some(&context.terminal) {
            true => Origin::Home,
            false => Origin::Other,
        };
        match TryRecord::count(record, origin, policy, context.now) {
            Err(locked) => TryCounted::LockedOut(locked.retry_after_ms),
            Ok(record) => {
                let stored = customer.and_then(|customer| customer.pin_at(context.now));
                let ticket = Ticket::for_counted_try(number, stored.cloned());
                let expires_at = record.expires_at(policy);
                self.tries.insert(number, Tries { record, expires_at });
                TryCounted::Check(ticket.with_last(record.is_locked(policy)))
            }
        }
    }

    pub(super) fn admit(
        &mut self,
        proof: &PinVerified,
        seated: bool,
        context: &Context,
    ) -> Admission {
        let number = proof.account();
        let Some(customer) = self.customers.get_mut(&number) else {
            return Admission::Void;
        };
        let current = customer.pin_at(context.now).map(|pin| pin.revision);
        if current != Some(proof.revision()) {
            return Admission::Void;
        }
        self.tries.remove(&number);
        if let Some(hash) = proof.upgrade() {
            customer.pin.hash = hash.clone();
        }
        if customer.status == Status::Locked {
            return Admission::Locked;
        }
        if seated {
            customer.home = Some(context.terminal.clone());
        }
        let must_change_pin = customer.must_change_pin;
        self.expire_due(number, context.now);
        Admission::Admitted(self.balances_at(number, context.now), must_change_pin)
    }

    pub(super) fn change_pin(&mut self, proof: &PinVerified, new: Option<PinHash>) -> PinChange {
        let number = proof.account();
        match self.customers.get_mut(&number) {
            Some(customer) if customer.pin.revision == proof.revision() => {
                self.tries.remove(&number);
                match (customer.status, new) {
                    (Status::Locked, _) => return PinChange::LockedByStaff,
                    (_, Some(new)) => customer.set_pin(new, None),
                    (_, None) => {}
                }
                PinChange::Done
            }
            Some(_) | None => PinChange::Void,
        }
    }

    pub(super) fn sweep(&mut self, now: Timestamp) -> Swept {
        let due = self.holds.values();
        let due = due.filter(|held| held.hold.expiry(now).is_some());
        let accounts: std::collections::BTreeSet<_> = due.map(|held| held.account).collect();
        let mut swept = Swept::default();
        for number in accounts {
            swept.holds += self.expire_some(number, now, SWEEP_ROWS_MAX - swept.holds);
        }
        swept.keys = self.forget_keys(now.minus_ms(KEY_KEPT_MS));
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
