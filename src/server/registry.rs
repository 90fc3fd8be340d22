//! Open connections and whose they are, so that one that is revoked, disabled or no longer let in
//! can be put out, and so that one terminal has a share of the places only. Bounded by the number
//! of connections.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use super::tls::{Trust, chain_ends, renews_itself};
use crate::domain::{TerminalName, Timestamp};
use crate::limits;

/// A terminal's certificates, its own first; shared by whoever asks about them.
pub(super) type Chain = Arc<[CertificateDer<'static>]>;

struct Guest {
    terminal: TerminalName,
    chain: Chain,
    /// The last second of the chain's first certificate to end; `None` without a certificate.
    ends: Option<i64>,
    /// Nobody needs to be reminded of that end.
    renews_itself: bool,
    expelled: CancellationToken,
}

/// Who is in.
#[derive(Default)]
pub struct Registry(Mutex<Guests>);

#[derive(Default)]
struct Guests {
    by_connection: HashMap<u64, Guest>,
    /// Whoever is in, and of those who were so many as are remembered.
    terminals: HashMap<TerminalName, Known>,
}

struct Known {
    connections: usize,
    connected_at: Timestamp,
}

/// A line in the registry; dropping it takes the line out.
pub struct Registered {
    registry: Arc<Registry>,
    connection: u64,
}

impl Registry {
    /// Enters a connection, to be expelled through `expelled`; `None` where the terminal has `most`
    /// already. `now` is kept as the moment when the terminal connected. Without a certificate all have one name, and no share.
    #[must_use]
    pub fn enter(
        self: &Arc<Self>,
        connection: u64,
        terminal: TerminalName,
        chain: Chain,
        expelled: CancellationToken,
        most: usize,
        now: Timestamp,
    ) -> Option<Registered> {
        let (ends, renews_itself) = (chain_ends(&chain), renews_itself(&chain));
        let mut guests = self.guests();
        let new = Known {
            connections: 0,
            connected_at: now,
        };
        let known = guests.terminals.entry(terminal.clone()).or_insert(new);
        if known.connections >= most && !terminal.is_anonymous() {
            return None;
        }
        known.connections = known.connections.saturating_add(1);
        known.connected_at = now;
        let guest = Guest {
            terminal,
            ends,
            renews_itself,
            chain,
            expelled,
        };
        guests.by_connection.insert(connection, guest);
        Some(Registered {
            registry: Arc::clone(self),
            connection,
        })
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Terminals that connected, each with its connections now and the moment of the last one.
    #[must_use]
    pub fn connected(&self) -> BTreeMap<TerminalName, (usize, Timestamp)> {
        let guests = self.guests();
        let known = guests.terminals.iter();
        known
            .map(|(name, known)| (name.clone(), (known.connections, known.connected_at)))
            .collect()
    }

    /// Puts out every connection of a terminal; returns how many.
    pub fn expel(&self, terminal: &TerminalName) -> usize {
        let guests = self.guests();
        let theirs = guests
            .by_connection
            .values()
            .filter(|guest| guest.terminal == *terminal);
        theirs.map(|guest| guest.expelled.cancel()).count()
    }

    /// Puts out every connection whose certificate has ended meanwhile; returns how many.
    pub fn expel_ended(&self, now_seconds: i64) -> usize {
        let guests = self.guests();
        let ended = guests.by_connection.values().filter(|guest| {
            guest.ends.is_some_and(|ends| ends < now_seconds) && !guest.expelled.is_cancelled()
        });
        ended.map(|guest| guest.expelled.cancel()).count()
    }

    /// Terminals that are in with a certificate that ends by then, and when; `max` at most. Those
    /// that renew by themselves are left out.
    #[must_use]
    pub fn ending_by(&self, by_seconds: i64, max: usize) -> BTreeMap<TerminalName, i64> {
        let guests = self.guests();
        let ours = guests
            .by_connection
            .values()
            .filter(|guest| !guest.renews_itself);
        let ending = ours.filter_map(|guest| {
            let ends = guest.ends.filter(|ends| *ends <= by_seconds)?;
            Some((guest.terminal.clone(), ends))
        });
        ending.take(max).collect()
    }

    /// Puts out every connection whose certificates `trust` no longer admits; returns how many of
    /// which terminal. Each certificate is verified once, however many connections came with it.
    pub fn expel_distrusted(&self, trust: &Trust, now: Timestamp) -> BTreeMap<TerminalName, usize> {
        let mut by_chain: HashMap<Chain, Vec<(TerminalName, CancellationToken)>> = HashMap::new();
        {
            let guests = self.guests();
            for guest in guests.by_connection.values() {
                by_chain
                    .entry(guest.chain.clone())
                    .or_default()
                    .push((guest.terminal.clone(), guest.expelled.clone()));
            }
        }
        let distrusted = by_chain
            .iter()
            .filter(|(chain, _)| !trust.still_admits(chain, now));
        let mut expelled = BTreeMap::new();
        for (terminal, token) in distrusted.flat_map(|(_, guests)| guests) {
            token.cancel();
            let count: &mut usize = expelled.entry(terminal.clone()).or_default();
            *count = count.saturating_add(1);
        }
        expelled
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut guests = self.registry.guests();
        let Some(guest) = guests.by_connection.remove(&self.connection) else {
            return;
        };
        let full = guests.terminals.len() > limits::TERMINALS_REMEMBERED_MAX;
        if let Some(known) = guests.terminals.get_mut(&guest.terminal) {
            known.connections = known.connections.saturating_sub(1);
            if known.connections == 0 && full {
                guests.terminals.remove(&guest.terminal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(
        registry: &Arc<Registry>,
        connection: u64,
        terminal: &str,
        now_ms: i64,
    ) -> Option<Registered> {
        let (terminal, expelled) = (terminal.parse().unwrap(), CancellationToken::new());
        let now = Timestamp::from_unix_ms(now_ms);
        registry.enter(connection, terminal, Chain::default(), expelled, 2, now)
    }

    #[test]
    fn a_terminal_has_its_share_of_the_connections_and_no_more_and_the_anonymous_have_none() {
        let registry = Arc::new(Registry::default());
        let enter = |connection, terminal: &str| enter(&registry, connection, terminal, 0);
        let first = enter(1, "till-1");
        let second = enter(2, "till-1");
        assert!(first.is_some() && second.is_some());
        assert!(enter(3, "till-1").is_none());
        assert!(enter(4, "till-2").is_some());
        drop(first);
        let third = enter(5, "till-1");
        assert!(third.is_some() && enter(6, "till-1").is_none());
        let anonymous = TerminalName::anonymous();
        let many: Vec<_> = (10..20)
            .map(|connection| enter(connection, anonymous.as_str()))
            .collect();
        assert!(many.iter().all(Option::is_some));
        drop((second, third, many));
        assert!(registry.guests().by_connection.is_empty());
        let connected = registry.connected();
        assert!(connected.values().all(|(connections, _)| *connections == 0));
    }

    #[test]
    fn who_connected_and_when_is_remembered_of_so_many_that_are_gone_and_of_all_that_are_in() {
        let registry = Arc::new(Registry::default());
        let (first, moment) = ("till-1".parse().unwrap(), Timestamp::from_unix_ms);
        drop(enter(&registry, 1, "till-1", 5));
        let again = enter(&registry, 2, "till-1", 7);
        assert_eq!(registry.connected()[&first], (1, moment(7)));
        drop(again);
        assert_eq!(registry.connected()[&first], (0, moment(7)));
        for number in 0..limits::TERMINALS_REMEMBERED_MAX {
            drop(enter(&registry, 3, &format!("atm-{number}"), 8));
        }
        let last = enter(&registry, 4, "till-2", 9);
        let connected = registry.connected();
        assert_eq!(connected.len(), limits::TERMINALS_REMEMBERED_MAX + 1);
        assert_eq!(connected[&"till-2".parse().unwrap()], (1, moment(9)));
        drop(last);
        let connected = registry.connected();
        assert_eq!(connected.len(), limits::TERMINALS_REMEMBERED_MAX);
        assert_eq!(connected[&first], (0, moment(7)));
    }
}
