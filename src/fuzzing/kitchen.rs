//! What every run needs and no run changes: a runtime, and PINs hashed once. One for each thread,
//! because runs on one thread follow each other.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::access::pepper::Peppers;
use crate::access::pin::{HashCost, Kiln, PinHash, PinHasher};
use crate::domain::{Pin, Timestamp};
use crate::surroundings::Virtual;

struct Kitchen {
    runtime: Runtime,
    hasher: PinHasher,
    peppers: Arc<Peppers>,
    kiln: RefCell<Kiln>,
    /// By PIN.
    hashes: RefCell<HashMap<String, PinHash>>,
    chance: Arc<Virtual>,
}

thread_local! {
    static KITCHEN: Kitchen = Kitchen::new();
}

impl Kitchen {
    fn new() -> Self {
        let chance = Arc::new(Virtual::new(Timestamp::from_unix_ms(0), 0));
        let peppers = Arc::new(Peppers::generate(&*chance));
        let runtime = Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        // On the calling thread: another one would cost more than the hash, and runs could differ.
        let (hasher, work) =
            PinHasher::without_threads(Arc::clone(&peppers), HashCost::LEAST, chance.clone());
        runtime.spawn(work);
        Self {
            runtime,
            hasher,
            kiln: RefCell::new(Kiln::new(Arc::clone(&peppers), HashCost::LEAST)),
            peppers,
            hashes: RefCell::default(),
            chance,
        }
    }

    fn hash(&self, pin: &str) -> PinHash {
        let known = self.hashes.borrow().get(pin).cloned();
        known.unwrap_or_else(|| {
            let text = Pin::parse(pin).expect("a PIN");
            let hash = self.kiln.borrow_mut().hash(&text, &*self.chance);
            let hash = hash.expect("a hash");
            self.hashes
                .borrow_mut()
                .insert(pin.to_owned(), hash.clone());
            hash
        })
    }
}

/// A PIN's hash, made once for each PIN: banks are made often.
pub(super) fn hash(pin: &str) -> PinHash {
    KITCHEN.with(|kitchen| kitchen.hash(pin))
}

/// What checks PINs on this thread, wherever [`wait`] waits.
pub(super) fn hasher() -> PinHasher {
    KITCHEN.with(|kitchen| kitchen.hasher.clone())
}

/// The peppers that [`hash`] hashes with, for a runtime that checks PINs itself.
pub(super) fn peppers() -> Arc<Peppers> {
    KITCHEN.with(|kitchen| Arc::clone(&kitchen.peppers))
}

/// Runs to the end on the calling thread.
pub(super) fn wait<T>(work: impl Future<Output = T>) -> T {
    KITCHEN.with(|kitchen| kitchen.runtime.block_on(work))
}
