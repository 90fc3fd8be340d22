//! Lines of the log that a peer can cause for nothing: so many of each peer in an interval, and so many
//! in all, as in the audit log. The others are counted, and the count is said when the interval ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::access::throttle::Requester;
use crate::limits;
use crate::surroundings::Surroundings;

/// What was said of whom since the interval began. Bounded in every part.
pub struct Lines {
    clock: Arc<dyn Surroundings>,
    interval: Mutex<Interval>,
}

#[derive(Default)]
struct Interval {
    began: Duration,
    said: u32,
    by_peer: HashMap<Requester, Peer>,
    /// Lines left out of peers beyond those that are remembered one by one.
    others: u64,
}

#[derive(Default)]
struct Peer {
    said: u32,
    left_out: u64,
}

impl Lines {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Surroundings>) -> Self {
        let began = clock.elapsed();
        Self {
            clock,
            interval: Mutex::new(Interval {
                began,
                ..Interval::default()
            }),
        }
    }

    /// Whether a line that this peer has caused may be said; where not, it is counted.
    pub fn admit(&self, peer: &Requester) -> bool {
        self.sum_up(false);
        let mut interval = self.interval();
        let room = interval.said < limits::LOG_FLOOD_LINES_MAX;
        let known = interval.by_peer.contains_key(peer);
        if !known && interval.by_peer.len() >= limits::AUDIT_SOURCES_MAX {
            interval.others = interval.others.saturating_add(1);
            return false;
        }
        let of_peer = interval.by_peer.entry(peer.clone()).or_default();
        if room && of_peer.said < limits::LOG_FLOOD_LINES_PER_PEER_MAX {
            of_peer.said = of_peer.said.saturating_add(1);
            interval.said = interval.said.saturating_add(1);
            return true;
        }
        of_peer.left_out = of_peer.left_out.saturating_add(1);
        false
    }

    /// Ends the interval where it is over, or `now`, and says what was left out: a line for each of the
    /// first peers, and one for all others.
    pub fn sum_up(&self, now: bool) {
        let elapsed = self.clock.elapsed();
        let (by_peer, mut others) = {
            let mut interval = self.interval();
            let lasted = elapsed.saturating_sub(interval.began);
            if !now && lasted < Duration::from_millis(limits::AUDIT_INTERVAL_MS) {
                return;
            }
            let ended = std::mem::take(&mut *interval);
            interval.began = elapsed;
            (ended.by_peer, ended.others)
        };
        let left_out = by_peer
            .into_iter()
            .filter(|(_, of_peer)| of_peer.left_out > 0);
        for (index, (peer, Peer { left_out, .. })) in left_out.enumerate() {
            if index < limits::AUDIT_SUMMARIES_MAX {
                tracing::info!(%peer, left_out, "log lines left out");
            } else {
                others = others.saturating_add(left_out);
            }
        }
        if others > 0 {
            tracing::info!(left_out = others, "log lines left out of other peers");
        }
    }

    fn interval(&self) -> MutexGuard<'_, Interval> {
        self.interval.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::domain::Timestamp;
    use crate::surroundings::Virtual;

    fn address(host: u32) -> Requester {
        Requester::Address(IpAddr::from(host.to_be_bytes()).into())
    }

    fn lines() -> (Arc<Virtual>, Lines) {
        let clock = Arc::new(Virtual::new(Timestamp::from_unix_ms(0), 1));
        let lines = Lines::new(Arc::<Virtual>::clone(&clock));
        (clock, lines)
    }

    #[test]
    fn a_peer_has_its_lines_of_an_interval_and_another_has_its_own() {
        let (clock, lines) = lines();
        let terminal = Requester::Terminal("till-1".parse().unwrap());
        let each = limits::LOG_FLOOD_LINES_PER_PEER_MAX;
        for _ in 0..2 {
            let said = (0..10_000).filter(|_| lines.admit(&terminal)).count();
            assert_eq!(said, usize::try_from(each).unwrap());
            assert!(lines.admit(&address(1)));
            clock.advance_ms(limits::AUDIT_INTERVAL_MS.try_into().unwrap());
        }
    }

    #[test]
    fn all_peers_together_have_so_many_and_no_crowd_of_them_fills_memory() {
        let (_, lines) = lines();
        let said = (0..100_000).filter(|host| lines.admit(&address(*host)));
        assert_eq!(
            said.count(),
            usize::try_from(limits::LOG_FLOOD_LINES_MAX).unwrap()
        );
        let interval = lines.interval();
        assert_eq!(interval.by_peer.len(), limits::AUDIT_SOURCES_MAX);
        let counted: u64 = interval.by_peer.values().map(|peer| peer.left_out).sum();
        assert_eq!(
            counted + interval.others + u64::from(interval.said),
            100_000
        );
    }
}
