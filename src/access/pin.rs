//! Checking and hashing PINs: argon2id (RFC 9106) with the bank's pepper as its secret input, on
//! threads of their own, so that hashing neither blocks the reactor nor takes unbounded memory.

mod unthreaded;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time;
use tokio::sync::{mpsc, oneshot};

use super::pepper::{PepperId, Peppers};
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

/// Leave to check one PIN: granted by a store that has counted the try.
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    account: AccountNumber,
    stored: Option<StoredPin>,
    last: bool,
}

/// A hash together with the number of the PIN it is of; a new PIN has a new number.
#[derive(Debug, Clone)]
pub struct StoredPin {
    /// The hash.
    pub hash: PinHash,
    /// Which of the account's PINs it is.
    pub revision: i64,
}

impl Ticket {
    /// For the store: the try upon `account` is on disk. `stored` is `None` for an account that
    /// does not exist or is closed; checking it takes the same work and never succeeds.
    pub fn for_counted_try(account: AccountNumber, stored: Option<StoredPin>) -> Self {
        Self {
            account,
            stored,
            last: false,
        }
    }

    /// For the store: whether this try was the budget's last, so that a wrong PIN locks.
    pub fn with_last(self, last: bool) -> Self {
        Self { last, ..self }
    }

    /// Whether a wrong PIN now locks the account.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.last
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
            // The same work for an account that is not there.
            self.hash(pin, surroundings)?;
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

/// PINs that may wait for a free thread, for each thread.
const WAITING_PER_THREAD: usize = 512;

type Firing = Box<dyn FnOnce(&mut Kiln) + Send>;

/// The pool of threads that check PINs. Each keeps the memory of one hash.
#[derive(Clone)]
pub struct PinHasher {
    queue: mpsc::Sender<Firing>,
    surroundings: Arc<dyn Surroundings>,
}

impl PinHasher {
    /// Starts `threads` of them. They end when the last clone of the pool is dropped.
    ///
    /// # Errors
    /// The system's, where a thread cannot be started.
    pub fn start(
        peppers: Arc<Peppers>,
        cost: HashCost,
        threads: usize,
        surroundings: Arc<dyn Surroundings>,
    ) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let (queue, waiting) = mpsc::channel::<Firing>(threads.saturating_mul(WAITING_PER_THREAD));
        let waiting = Arc::new(Mutex::new(waiting));
        for index in 0..threads {
            let (waiting, mut kiln) = (Arc::clone(&waiting), Kiln::new(Arc::clone(&peppers), cost));
            thread::Builder::new()
                .name(format!("pin-{index}"))
                .spawn(move || {
                    loop {
                        let next = waiting
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .blocking_recv();
                        match next {
                            Some(firing) => firing(&mut kiln),
                            None => break,
                        }
                    }
                })?;
        }
        Ok(Self {
            queue,
            surroundings,
        })
    }

    /// Takes a place in the queue. It is taken before a try is counted, so that a full queue costs
    /// nobody a try.
    ///
    /// # Errors
    /// [`HashError::Busy`] where too many wait already.
    pub fn place(&self) -> Result<Place, HashError> {
        let place = self.queue.clone().try_reserve_owned();
        let surroundings = Arc::clone(&self.surroundings);
        place
            .map(|place| Place {
                place,
                surroundings,
            })
            .map_err(|_| HashError::Busy)
    }
}

/// A place in the queue of PINs that wait for a thread; dropping it lets another have it.
pub struct Place {
    place: mpsc::OwnedPermit<Firing>,
    surroundings: Arc<dyn Surroundings>,
}

impl Place {
    /// Checks the PIN that `ticket` was granted for. `None` where it is wrong, or where there is
    /// no such account: both take the same work.
    ///
    /// # Errors
    /// [`HashError`]; says nothing about the PIN.
    pub async fn verify(self, ticket: Ticket, pin: Pin) -> Result<Option<PinVerified>, HashError> {
        let surroundings = Arc::clone(&self.surroundings);
        self.run(move |kiln| kiln.verify(ticket, &pin, &*surroundings))
            .await
    }

    /// Hashes a new PIN.
    ///
    /// # Errors
    /// As [`Place::verify`].
    pub async fn hash(self, pin: Pin) -> Result<PinHash, HashError> {
        let surroundings = Arc::clone(&self.surroundings);
        self.run(move |kiln| kiln.hash(&pin, &*surroundings)).await
    }

    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut Kiln) -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let (answer, answered) = oneshot::channel();
        let firing: Firing = Box::new(move |kiln| {
            // Where the asker has gone, the work is saved.
            if !answer.is_closed() {
                let _ = answer.send(work(kiln));
            }
        });
        self.place.send(firing);
        answered.await.map_err(|_| HashError::Failed)?
    }
}

impl fmt::Debug for PinHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinHasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::System;

    const CHEAP: HashCost = HashCost {
        memory_kib: 8,
        iterations: 1,
        parallelism: 1,
    };

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
