//! Open connections of terminals with a certificate, so that one that is revoked or disabled can
//! be put out. Bounded by the number of connections.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use super::tls::{Trust, chain_ends};
use crate::domain::{TerminalName, Timestamp};

type Chain = Vec<CertificateDer<'static>>;

struct Guest {
    terminal: TerminalName,
    chain: Chain,
    /// The last second of the chain's first certificate to end; `None` without a certificate.
    ends: Option<i64>,
    expelled: CancellationToken,
}

/// Who is in.
#[derive(Default)]
pub struct Registry(Mutex<HashMap<u64, Guest>>);

/// A line in the registry; dropping it takes the line out.
pub struct Registered {
    registry: Arc<Registry>,
    connection: u64,
}

impl Registry {
    /// Enters a connection, to be expelled through `expelled`.
    #[must_use]
    pub fn enter(
        self: &Arc<Self>,
        connection: u64,
        terminal: TerminalName,
        chain: Chain,
        expelled: CancellationToken,
    ) -> Registered {
        let mut guests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guests.insert(
            connection,
            Guest {
                terminal,
                ends: chain_ends(&chain),
                chain,
                expelled,
            },
        );
        Registered {
            registry: Arc::clone(self),
            connection,
        }
    }

    /// Puts out every connection of a terminal; returns how many.
    pub fn expel(&self, terminal: &TerminalName) -> usize {
        let guests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = guests.values().filter(|guest| guest.terminal == *terminal);
        theirs.map(|guest| guest.expelled.cancel()).count()
    }

    /// Puts out every connection whose certificate has ended meanwhile; returns how many.
    pub fn expel_ended(&self, now_seconds: i64) -> usize {
        let guests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = guests.values().filter(|guest| {
            guest.ends.is_some_and(|ends| ends < now_seconds) && !guest.expelled.is_cancelled()
        });
        ended.map(|guest| guest.expelled.cancel()).count()
    }

    /// Terminals that are in with a certificate that ends by then, and when; `max` at most.
    #[must_use]
    pub fn ending_by(&self, by_seconds: i64, max: usize) -> BTreeMap<TerminalName, i64> {
        let guests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ending = guests.values().filter_map(|guest| {
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
            let guests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for guest in guests.values() {
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
        let mut guests = self
            .registry
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        guests.remove(&self.connection);
    }
}
