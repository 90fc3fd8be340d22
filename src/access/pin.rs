//! Checking and hashing PINs: argon2id (RFC 9106) with the bank's pepper as its secret input, on
//! threads of their own, so that hashing neither blocks the reactor nor takes unbounded memory.

mod pool;

use std::fmt;
use std::sync::Arc;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time;

pub use pool::{PinHasher, Place};

use super::pepper::{PepperId, Peppers};
pub use super::ticket::{HashTraits, StoredPin, Ticket};
use crate::domain::{AccountNumber, Pin};
use crate::surroundings::Surroundings;

/// What a hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory, KiB; at least 8 a lane.
    pub memory_kib: u32,
    /// Passes over the memory, 1 or more.
    pub iterations: u32,
    /// Lanes, 1 or more.
    pub parallelism: u32,
}

impl HashCost {
    /// argon2's least: what is hashed with it guards nothing.
    pub const LEAST: Self = Self {
        memory_kib: 8,
        iterations: 1,
        parallelism: 1,
    };
}

/// The least cost that OWASP's Password Storage Cheat Sheet advises for argon2id.
pub const OWASP_MINIMUM: HashCost = HashCost {
    memory_kib: 19_456,
    iterations: 2,
    parallelism: 1,
};

/// A PIN's hash as a store keeps it: never the PIN, useless without the pepper it names.
#[derive(Clone, PartialEq, Eq)]
pub struct PinHash {
    /// What it cost.
    pub cost: HashCost,
    /// The pepper it was made with.
    pub pepper: PepperId,
    /// Random, its own.
    pub salt: [u8; 16],
    /// argon2id's output.
    pub digest: [u8; 32],
}

impl fmt::Debug for PinHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinHash({:?}, {})", self.cost, self.pepper)
    }
}

/// Proof that an account's PIN was checked and right. Only [`Place::verify`] makes one:
/// without it a store grants no claim, and without a claim there is no session.
///
/// ```
/// use atm_bank::access::pin::PinVerified;
/// fn account(proof: &PinVerified) -> String {
///     proof.account().to_string()
/// }
/// ```
///
/// A proof made by hand does not compile:
///
/// ```compile_fail,E0451
/// use atm_bank::access::pin::PinVerified;
/// fn forge(account: atm_bank::domain::AccountNumber) -> PinVerified {
///     PinVerified { account, revision: 1, upgrade: None }
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct PinVerified {
    account: AccountNumber,
    revision: i64,
    upgrade: Option<PinHash>,
}

impl PinVerified {
    /// Whose PIN it was.
    #[must_use]
    pub fn account(&self) -> AccountNumber {
        self.account
    }

    /// Which of the account's PINs it was: void once another has taken its place.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The same PIN hashed anew, where the stored hash was cheaper or of an older pepper.
    #[must_use]
    pub fn upgrade(&self) -> Option<&PinHash> {
        self.upgrade.as_ref()
    }
}

/// A PIN could not be hashed or checked; says nothing about the PIN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Too many wait already; try again later.
    #[error("too many PINs are waiting to be checked")]
    Busy,
    /// The hash names a pepper that is not in the pepper file.
    #[error("the pepper {0} is not in the pepper file")]
    NoPepper(PepperId),
    /// argon2 refused its parameters, or the pool is gone.
    #[error("PIN hashing failed")]
    Failed,
}

/// Makes hashes on the calling thread; keeps its memory from one to the next.
pub struct Kiln {
    peppers: Arc<Peppers>,
    cost: HashCost,
    blocks: Vec<Block>,
}

impl Kiln {
    /// With the peppers and the cost that new hashes get.
    #[must_use]
    pub fn new(peppers: Arc<Peppers>, cost: HashCost) -> Self {
        Self {
            peppers,
            cost,
            blocks: Vec::new(),
        }
    }

    /// Hashes a PIN at the current cost with the current pepper.
    ///
    /// # Errors
    /// [`HashError`] where there is no pepper or the cost is out of argon2's bounds.
    pub fn hash(
        &mut self,
        pin: &Pin,
        surroundings: &dyn Surroundings,
    ) -> Result<PinHash, HashError> {
        let pepper = self.peppers.current().ok_or(HashError::Failed)?.clone();
        let (salt, cost) = (surroundings.random(), self.cost);
        let digest = self.digest(pin, cost, &pepper, &salt)?;
        Ok(PinHash {
            cost,
            pepper,
            salt,
            digest,
        })
    }

    /// Checks a PIN against a hash, in time that does not depend on where they differ.
    ///
    /// # Errors
    /// As [`Kiln::hash`].
    pub fn matches(&mut self, pin: &Pin, hash: &PinHash) -> Result<bool, HashError> {
        let digest = self.digest(pin, hash.cost, &hash.pepper, &hash.salt)?;
        Ok(constant_time::verify_slices_are_equal(&digest, &hash.digest).is_ok())
    }

    /// A hash that no PIN has, with the stand-in's traits, or else those of a new one.
    fn decoy(&self, traits: Option<HashTraits>) -> Result<PinHash, HashError> {
        let current = || {
            let pepper = self.peppers.current().ok_or(HashError::Failed)?.clone();
            let cost = self.cost;
            Ok(HashTraits { cost, pepper })
        };
        let HashTraits { cost, pepper } = traits.map_or_else(current, Ok)?;
        Ok(PinHash {
            cost,
            pepper,
            salt: [0; 16],
            digest: [0; 32],
        })
    }

    fn is_current(&self, hash: &PinHash) -> bool {
        hash.cost == self.cost && self.peppers.current() == Some(&hash.pepper)
    }

    fn digest(
        &mut self,
        pin: &Pin,
        cost: HashCost,
        pepper: &PepperId,
        salt: &[u8; 16],
    ) -> Result<[u8; 32], HashError> {
        let params = Params::new(cost.memory_kib, cost.iterations, cost.parallelism, Some(32))
            .map_err(|_| HashError::Failed)?;
        let blocks = params.block_count();
        let more = blocks.saturating_sub(self.blocks.len());
        if more > 0 {
            // More memory than there is must be an error, not the process's end.
            self.blocks
                .try_reserve_exact(more)
                .map_err(|_| HashError::Failed)?;
            self.blocks.resize(blocks, Block::default());
        }
        let secret = self
            .peppers
            .secret(pepper)
            .ok_or_else(|| HashError::NoPepper(pepper.clone()))?;
        let argon2 = Argon2::new_with_secret(secret, Algorithm::Argon2id, Version::V0x13, params)
            .map_err(|_| HashError::Failed)?;
        let mut digest = [0; 32];
        let memory = self.blocks.get_mut(..blocks).ok_or(HashError::Failed)?;
        argon2
            .hash_password_into_with_memory(pin.digits(), salt, &mut digest, memory)
            .map_err(|_| HashError::Failed)?;
        Ok(digest)
    }

    fn verify(
        &mut self,
        ticket: Ticket,
        pin: &Pin,
        surroundings: &dyn Surroundings,
    ) -> Result<Option<PinVerified>, HashError> {
        let Some(stored) = ticket.stored else {
            // The same work for an account that is not there; what comes of it does not matter.
            let decoy = self.decoy(ticket.stand_in)?;
            self.matches(pin, &decoy)?;
            return Ok(None);
        };
        if !self.matches(pin, &stored.hash)? {
            return Ok(None);
        }
        let upgrade = match self.is_current(&stored.hash) {
            true => None,
            false => Some(self.hash(pin, surroundings)?),
        };
        Ok(Some(PinVerified {
            account: ticket.account,
            revision: stored.revision,
            upgrade,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::pool::WAITING_PER_THREAD;
    use super::*;
    use crate::surroundings::System;

    const CHEAP: HashCost = HashCost::LEAST;

    fn pin(text: &str) -> Pin {
        Pin::parse(text).unwrap()
    }

    fn kiln(peppers: &Arc<Peppers>, cost: HashCost) -> Kiln {
        Kiln::new(Arc::clone(peppers), cost)
    }

    #[test]
    fn a_pin_matches_its_own_hash_only_and_only_with_its_pepper() {
        let system = System::default();
        let peppers = Arc::new(Peppers::generate(&system));
        let hash = kiln(&peppers, CHEAP).hash(&pin("8264"), &system).unwrap();
        assert!(kiln(&peppers, CHEAP).matches(&pin("8264"), &hash).unwrap());
        assert!(!kiln(&peppers, CHEAP).matches(&pin("8265"), &hash).unwrap());
        let others = Arc::new(Peppers::generate(&system));
        let refused = kiln(&others, CHEAP).matches(&pin("8264"), &hash);
        assert_eq!(refused, Err(HashError::NoPepper(hash.pepper.clone())));
    }

    #[tokio::test]
    async fn unknown_accounts_and_wrong_pins_yield_no_proof() {
        let system: Arc<dyn Surroundings> = Arc::new(System::default());
        let peppers = Arc::new(Peppers::generate(&*system));
        let hash = kiln(&peppers, CHEAP).hash(&pin("8264"), &*system).unwrap();
        let hasher = PinHasher::start(peppers, CHEAP, 2, system).unwrap();
        let account = "zz-99999".parse().unwrap();
        let ticket = |stored: Option<StoredPin>| Ticket::for_counted_try(account, stored);
        let stored = || {
            Some(StoredPin {
                hash: hash.clone(),
                revision: 4,
            })
        };
        assert!(
            hasher
                .place()
                .unwrap()
                .verify(ticket(None), pin("8264"))
                .await
                .unwrap()
                .is_none()
        );
        assert!(
            hasher
                .place()
                .unwrap()
                .verify(ticket(stored()), pin("8265"))
                .await
                .unwrap()
                .is_none()
        );
        let proof = hasher
            .place()
            .unwrap()
            .verify(ticket(stored()), pin("8264"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((proof.account(), proof.revision()), (account, 4));
        assert!(proof.upgrade().is_none());
    }

    #[tokio::test]
    async fn an_unknown_number_is_checked_like_its_stand_in_and_fails_like_it() {
        let system: Arc<dyn Surroundings> = Arc::new(System::default());
        let (peppers, lost) = (
            Arc::new(Peppers::generate(&*system)),
            Peppers::generate(&*system),
        );
        let hasher = PinHasher::start(Arc::clone(&peppers), CHEAP, 1, system).unwrap();
        let ticket = |cost: HashCost, pepper: &PepperId| {
            let pepper = pepper.clone();
            Ticket::for_counted_try("zz-99999".parse().unwrap(), None)
                .with_stand_in(Some(HashTraits { cost, pepper }))
        };
        let (held, lost) = (peppers.current().unwrap(), lost.current().unwrap());
        // That the stand-in's cost is taken shows where argon2 refuses it.
        let refused = HashCost {
            memory_kib: 1,
            ..CHEAP
        };
        for (ticket, expected) in [
            (ticket(CHEAP, held), Ok(true)),
            (ticket(CHEAP, lost), Err(HashError::NoPepper(lost.clone()))),
            (ticket(refused, held), Err(HashError::Failed)),
        ] {
            let checked = hasher.place().unwrap().verify(ticket, pin("8264")).await;
            assert_eq!(checked.map(|proof| proof.is_none()), expected);
        }
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_is_made_anew_at_a_right_pin() {
        let system: Arc<dyn Surroundings> = Arc::new(System::default());
        let peppers = Arc::new(Peppers::generate(&*system));
        let old = kiln(&peppers, CHEAP).hash(&pin("8264"), &*system).unwrap();
        let dearer = HashCost {
            iterations: 2,
            ..CHEAP
        };
        let hasher = PinHasher::start(peppers, dearer, 1, system).unwrap();
        let stored = StoredPin {
            hash: old,
            revision: 1,
        };
        let ticket = Ticket::for_counted_try("zz-99999".parse().unwrap(), Some(stored));
        let proof = hasher
            .place()
            .unwrap()
            .verify(ticket, pin("8264"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(proof.upgrade().map(|hash| hash.cost), Some(dearer));
    }

    #[tokio::test]
    async fn new_peppers_hash_from_then_on_and_move_old_hashes_at_a_right_pin() {
        let system: Arc<dyn Surroundings> = Arc::new(System::default());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pepper");
        let first = Arc::new(Peppers::create(&path, &*system).unwrap());
        let hasher = PinHasher::start(Arc::clone(&first), CHEAP, 1, Arc::clone(&system)).unwrap();
        let hash = async || hasher.place().unwrap().hash(pin("8264")).await.unwrap();
        let old = hash().await;
        assert_eq!(Some(&old.pepper), first.current());
        let file = crate::access::pepper_file::PepperFile::new(path, false);
        file.rotate(&hasher, &*system).unwrap();
        let new = hash().await;
        assert_eq!(Some(&new.pepper), hasher.peppers().current());
        assert_ne!(new.pepper, old.pepper);
        let stored = StoredPin {
            hash: old,
            revision: 1,
        };
        let ticket = Ticket::for_counted_try("zz-99999".parse().unwrap(), Some(stored));
        let checked = hasher.place().unwrap().verify(ticket, pin("8264"));
        let proof = checked.await.unwrap().unwrap();
        let moved = proof.upgrade().map(|hash| hash.pepper.clone());
        assert_eq!(moved, Some(new.pepper));
    }

    #[tokio::test]
    async fn a_full_queue_gives_no_place_until_one_is_given_back() {
        let system: Arc<dyn Surroundings> = Arc::new(System::default());
        let peppers = Arc::new(Peppers::generate(&*system));
        let hasher = PinHasher::start(peppers, CHEAP, 1, system).unwrap();
        let mut places: Vec<Place> = (0..WAITING_PER_THREAD)
            .map(|_| hasher.place().unwrap())
            .collect();
        assert!(matches!(hasher.place(), Err(HashError::Busy)));
        places.pop();
        assert!(hasher.place().is_ok());
    }
}
