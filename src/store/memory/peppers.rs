//! Which peppers the bank's hashes need.

use super::books::{Books, Status};
use crate::access::pepper::PepperId;
use crate::store::{Done, PepperUse, StoreError};

impl Books {
    /// Notes that a hash made with `pepper` is kept.
    pub(super) fn know_pepper(&mut self, pepper: &PepperId) {
        self.peppers
            .insert(pepper.as_str().to_owned(), pepper.clone());
    }

    pub(super) fn is_retired(&self, pepper: &PepperId) -> bool {
        self.retired_peppers.contains(pepper.as_str())
    }

    /// For calls that have no words for it.
    pub(super) fn refuse_retired(&self, pepper: &PepperId) -> Result<(), StoreError> {
        if self.is_retired(pepper) {
            let reason = format!("the pepper {pepper} was retired meanwhile");
            return Err(StoreError::Unavailable(reason));
        }
        Ok(())
    }

    fn standing_on(&self, pepper: &PepperId) -> u64 {
        let customers = self.customers.values();
        let standing = customers.filter(|customer| {
            customer.status != Status::Closed && customer.pin.hash.pepper == *pepper
        });
        u64::try_from(standing.count()).unwrap_or(u64::MAX)
    }

    pub(super) fn pepper_uses(&self) -> Done {
        let use_of = |pepper: &PepperId| PepperUse {
            pepper: pepper.clone(),
            accounts: self.standing_on(pepper),
        };
        Done::Peppers(self.peppers.values().map(use_of).collect())
    }

    pub(super) fn retire_pepper(&mut self, pepper: &PepperId) -> Done {
        match self.standing_on(pepper) {
            0 => {
                self.peppers.remove(pepper.as_str());
                self.retired_peppers.insert(pepper.as_str().to_owned());
                Done::Yes
            }
            standing => Done::still_needed(pepper, standing),
        }
    }
}
