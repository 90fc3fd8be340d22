//! Handshakes in progress. They have a share of the places only, so that peers who never finish one
//! cannot take the places of those who do; and where the share is used up the oldest makes room,
//! because an honest handshake is over in an instant and a stalled one only grows older. In tables of
//! their own, the same holds for connections for enrolment that have not sent their message yet; there
//! those of one terminal are counted together, from whatever address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::access::throttle::AddressBlock;
use crate::limits;

/// How many handshakes may be in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// In all.
    pub all: usize,
    /// Of one address, or of one terminal.
    pub each: usize,
}

impl Bounds {
    /// The share of so many places in all, and of so many for each.
    #[must_use]
    pub fn of_places(all: usize, each: usize) -> Self {
        let share = |places: usize| (places / limits::HANDSHAKES_SHARE).max(limits::HANDSHAKES_MIN);
        Self {
            all: share(all),
            each: share(each),
        }
    }
}

/// Who is shaking hands. Bounded by [`Bounds`].
#[derive(Debug)]
pub struct Handshakes<K = AddressBlock>(Mutex<Table<K>>);

#[derive(Debug)]
struct Table<K> {
    /// By the connection's number: the first is the oldest.
    all: BTreeMap<u64, Shaking<K>>,
    by_whom: HashMap<K, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Shaking<K> {
    whose: K,
    displaced: CancellationToken,
}

impl<K> Default for Handshakes<K> {
    fn default() -> Self {
        Self(Mutex::new(Table {
            all: BTreeMap::new(),
            by_whom: HashMap::new(),
        }))
    }
}

impl<K: Clone + Eq + Hash> Handshakes<K> {
    /// Enters a handshake. Where its peer, or all together, have as many as they may, the oldest
    /// of them is displaced. Numbers of connections grow.
    #[must_use]
    pub fn enter(self: &Arc<Self>, connection: u64, whose: K, bounds: Bounds) -> InHandshake<K> {
        let displaced = CancellationToken::new();
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while table.count_of(&whose) >= bounds.each && table.displace_oldest_of(&whose) {}
        while table.all.len() >= bounds.all && table.displace_oldest() {}
        let shaking = Shaking {
            whose: whose.clone(),
            displaced: displaced.clone(),
        };
        table.all.insert(connection, shaking);
        table.by_whom.entry(whose).or_default().insert(connection);
        InHandshake {
            handshakes: Arc::clone(self),
            connection,
            displaced,
        }
    }
}

impl<K: Eq + Hash> Table<K> {
    fn count_of(&self, whose: &K) -> usize {
        self.by_whom.get(whose).map_or(0, BTreeSet::len)
    }

    fn displace_oldest_of(&mut self, whose: &K) -> bool {
        let oldest = self.by_whom.get(whose).and_then(BTreeSet::first).copied();
        oldest.is_some_and(|connection| self.displace(connection))
    }

    fn displace_oldest(&mut self) -> bool {
        let oldest = self.all.keys().next().copied();
        oldest.is_some_and(|connection| self.displace(connection))
    }

    fn displace(&mut self, connection: u64) -> bool {
        let removed = self.remove(connection);
        removed.map(|shaking| shaking.displaced.cancel()).is_some()
    }

    fn remove(&mut self, connection: u64) -> Option<Shaking<K>> {
        let shaking = self.all.remove(&connection)?;
        if let Some(theirs) = self.by_whom.get_mut(&shaking.whose) {
            theirs.remove(&connection);
            if theirs.is_empty() {
                self.by_whom.remove(&shaking.whose);
            }
        }
        Some(shaking)
    }
}

/// A handshake in progress; dropping it counts it out.
#[derive(Debug)]
pub struct InHandshake<K: Eq + Hash = AddressBlock> {
    handshakes: Arc<Handshakes<K>>,
    connection: u64,
    displaced: CancellationToken,
}

impl<K: Eq + Hash> InHandshake<K> {
    /// Returns once newer handshakes have taken this one's room.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl<K: Eq + Hash> Drop for InHandshake<K> {
    fn drop(&mut self) {
        let mut table = self
            .handshakes
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        table.remove(self.connection);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const BOUNDS: Bounds = Bounds { all: 5, each: 3 };

    fn address(last: u8) -> AddressBlock {
        AddressBlock::from(IpAddr::from([127, 0, 0, last]))
    }

    fn is_displaced(handshake: &InHandshake) -> bool {
        handshake.displaced.is_cancelled()
    }

    #[test]
    fn an_address_over_its_share_loses_its_own_oldest_and_nobody_elses() {
        let handshakes = Arc::new(Handshakes::<AddressBlock>::default());
        let other = handshakes.enter(1, address(9), BOUNDS);
        let mine: Vec<_> = (2..=5)
            .map(|connection| handshakes.enter(connection, address(1), BOUNDS))
            .collect();
        let displaced: Vec<bool> = mine.iter().map(is_displaced).collect();
        assert_eq!(displaced, [true, false, false, false]);
        assert!(!is_displaced(&other));
    }

    #[test]
    fn many_addresses_over_the_whole_share_displace_the_oldest_of_all() {
        let handshakes = Arc::new(Handshakes::<AddressBlock>::default());
        let all: Vec<_> = (1..=7_u8)
            .map(|host| handshakes.enter(u64::from(host), address(host), BOUNDS))
            .collect();
        let displaced = all.iter().filter(|one| is_displaced(one)).count();
        assert_eq!(displaced, 2);
        assert!(is_displaced(&all[0]) && is_displaced(&all[1]));
    }

    #[test]
    fn a_finished_handshake_makes_room_and_the_table_is_empty_in_the_end() {
        let handshakes = Arc::new(Handshakes::<AddressBlock>::default());
        let first = handshakes.enter(1, address(1), BOUNDS);
        for connection in 2..100 {
            let next = handshakes.enter(connection, address(1), BOUNDS);
            assert!(!is_displaced(&next));
        }
        assert!(!is_displaced(&first));
        drop(first);
        let table = handshakes.0.lock().unwrap();
        assert!(table.all.is_empty() && table.by_whom.is_empty());
    }

    #[test]
    fn the_share_is_a_quarter_of_the_places_and_never_less_than_the_least() {
        let bounds = Bounds::of_places(50_000, 1_000);
        assert_eq!((bounds.all, bounds.each), (12_500, 250));
        let least = Bounds::of_places(3, 1);
        assert_eq!(least.all, limits::HANDSHAKES_MIN);
        assert_eq!(least.each, limits::HANDSHAKES_MIN);
    }
}
