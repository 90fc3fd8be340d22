//! The threads that check PINs, and the queue before them.

mod unthreaded;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::{HashCost, HashError, Kiln, PinHash, PinVerified, Ticket};
use crate::access::pepper::Peppers;
use crate::access::priority;
use crate::access::row_mac::Keyring;
use crate::domain::Pin;
use crate::limits;
use crate::surroundings::Surroundings;

/// PINs that may wait for a free thread, for each thread.
pub(super) const WAITING_PER_THREAD: usize = 512;

type Firing = Box<dyn FnOnce(&mut Kiln) + Send>;

/// PINs between the count of their try and their hash, for each thread: one is hashed, and one is
/// there when it is done.
const AT_THE_FRONT_PER_THREAD: usize = 2;

/// The pool of threads that check PINs. Each keeps the memory of one hash.
#[derive(Clone)]
pub struct PinHasher {
    queue: mpsc::Sender<Firing>,
    ring: Keyring,
    front: Arc<Semaphore>,
    /// Places at the front when nobody has one.
    front_places: usize,
    surroundings: Arc<dyn Surroundings>,
}

impl PinHasher {
    /// Starts `threads` of them. They end when the last clone of the pool is dropped.
    ///
    /// # Errors
    /// The system's, where a thread cannot be started.
    pub fn start(
        ring: impl Into<Keyring>,
        cost: HashCost,
        threads: usize,
        surroundings: Arc<dyn Surroundings>,
    ) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let (queue, waiting) = mpsc::channel::<Firing>(threads.saturating_mul(WAITING_PER_THREAD));
        let waiting = Arc::new(Mutex::new(waiting));
        let ring = ring.into();
        for index in 0..threads {
            let (waiting, ring) = (Arc::clone(&waiting), ring.clone());
            let mut kiln = Kiln::new(ring.peppers(), cost);
            thread::Builder::new()
                .name(format!("pin-{index}"))
                .spawn(move || {
                    priority::make_way();
                    while let Some(firing) = next(&waiting) {
                        kiln.peppers = ring.peppers();
                        firing(&mut kiln);
                    }
                })?;
        }
        let front_places = threads.saturating_mul(AT_THE_FRONT_PER_THREAD);
        Ok(Self {
            queue,
            ring,
            front: Arc::new(Semaphore::new(front_places)),
            front_places,
            surroundings,
        })
    }

    /// The peppers that PINs are checked and hashed with now.
    #[must_use]
    pub fn peppers(&self) -> Arc<Peppers> {
        self.ring.peppers()
    }

    /// Other peppers for every PIN that is checked or hashed from now on. They must be on disk.
    pub(in crate::access) fn set_peppers(&self, peppers: Peppers) {
        self.ring.set(peppers);
    }

    /// Whether a PIN is being checked, or about to be.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.front.available_permits() < self.front_places
    }

    /// Takes a place in the queue. It is taken before a try is counted, so that a full queue costs
    /// nobody a try.
    ///
    /// # Errors
    /// [`HashError::Busy`] where too many wait already.
    pub fn place(&self) -> Result<Place, HashError> {
        let place = self.queue.clone().try_reserve_owned();
        let (front, surroundings) = (Arc::clone(&self.front), Arc::clone(&self.surroundings));
        place
            .map(|place| Place {
                place,
                front,
                turn: None,
                surroundings,
            })
            .map_err(|_| HashError::Busy)
    }
}

/// The next to be done; `None` once the pool is gone.
fn next(waiting: &Mutex<mpsc::Receiver<Firing>>) -> Option<Firing> {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.blocking_recv()
}

/// A place in the queue of PINs that wait for a thread; dropping it lets another have it.
pub struct Place {
    place: mpsc::OwnedPermit<Firing>,
    front: Arc<Semaphore>,
    turn: Option<OwnedSemaphorePermit>,
    surroundings: Arc<dyn Surroundings>,
}

impl Place {
    /// Waits until the PIN's turn is near. Only then a try is counted: a wait in vain costs none.
    ///
    /// # Errors
    /// [`HashError::Busy`] after [`limits::PIN_TIMEOUT`].
    pub async fn come_up(self) -> Result<Self, HashError> {
        let waiting = Arc::clone(&self.front).acquire_owned();
        let turn = timeout(limits::PIN_TIMEOUT, waiting).await;
        let turn = Some(
            turn.map_err(|_| HashError::Busy)?
                .map_err(|_| HashError::Failed)?,
        );
        Ok(Self { turn, ..self })
    }

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
        let turn = self.turn;
        let firing: Firing = Box::new(move |kiln| {
            let _turn = turn;
            // Where the asker has gone, the work is saved.
            if !answer.is_closed() {
                let _ = answer.send(work(kiln));
            }
        });
        self.place.send(firing);
        // Without a deadline: the try is counted, and whoever gave up here would leave a right PIN's
        // try standing. What is before it is bounded by the places at the front.
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
    use std::time::Duration;

    use super::*;
    use crate::surroundings::System;

    const CHEAP: HashCost = HashCost::LEAST;

    #[tokio::test]
    async fn what_has_come_up_is_done_however_long_it_takes() {
        let system: Arc<dyn Surroundings> = Arc::new(System::default());
        let peppers = Arc::new(Peppers::generate(&*system));
        let hasher = PinHasher::start(peppers, CHEAP, 1, system).unwrap();
        let come_up = || async { hasher.place().unwrap().come_up().await.unwrap() };
        assert!(!hasher.is_busy());
        let (stalled, counted) = (come_up().await, come_up().await);
        assert!(hasher.is_busy());
        let (release, released) = std::sync::mpsc::sync_channel::<()>(0);
        let stall = tokio::spawn(stalled.run(move |_| {
            released.recv().unwrap();
            Ok(())
        }));
        let waiting = tokio::spawn(counted.hash(Pin::parse("8264").unwrap()));
        // Let both be in the queue before time is held.
        tokio::task::yield_now().await;
        tokio::time::pause();
        tokio::time::sleep(limits::PIN_TIMEOUT.saturating_mul(10)).await;
        tokio::time::resume();
        assert!(!waiting.is_finished());
        release.send(()).unwrap();
        stall.await.unwrap().unwrap();
        let hashed = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert!(hashed.unwrap().unwrap().is_ok());
        // The answer goes out a moment before the place is free.
        let free = async {
            while hasher.is_busy() {
                tokio::task::yield_now().await;
            }
        };
        let freed = tokio::time::timeout(Duration::from_secs(30), free).await;
        assert!(freed.is_ok());
    }
}
