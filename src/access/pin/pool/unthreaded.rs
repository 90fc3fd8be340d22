//! Checking PINs without a thread of their own.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::{AT_THE_FRONT_PER_THREAD, Firing, PinHasher, WAITING_PER_THREAD};
use crate::access::pepper::Peppers;
use crate::access::pin::{HashCost, Kiln};
use crate::access::row_mac::Keyring;
use crate::surroundings::Surroundings;

impl PinHasher {
    /// A pool without threads: the future checks PINs where it is polled, one after the other, and
    /// blocks that thread. For fuzzing, where runs must repeat, and for virtual time, where waiting
    /// for another thread would be taken for idleness. It ends with the last clone of the pool.
    pub fn without_threads(
        peppers: Arc<Peppers>,
        cost: HashCost,
        surroundings: Arc<dyn Surroundings>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, mut waiting) = mpsc::channel::<Firing>(WAITING_PER_THREAD);
        let ring = Keyring::from(Arc::clone(&peppers));
        let (mut kiln, current) = (Kiln::new(peppers, cost), ring.clone());
        let work = async move {
            while let Some(firing) = waiting.recv().await {
                kiln.peppers = current.peppers();
                firing(&mut kiln);
            }
        };
        let pool = Self {
            queue,
            front: Arc::new(Semaphore::new(AT_THE_FRONT_PER_THREAD)),
            front_places: AT_THE_FRONT_PER_THREAD,
            ring,
            surroundings,
        };
        (pool, work)
    }
}
