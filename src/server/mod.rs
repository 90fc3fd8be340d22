//! The server: accept, TLS, one task a connection, going down in order.

pub mod acceptor;
pub mod connection;
pub mod dialogue;
mod enrolment;
mod hello;
pub mod metrics;
pub mod registry;
pub mod tls;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::{Between, Terms};
use self::enrolment::Gate;
use self::registry::Registry;
use self::tls::{TlsError, Trust};
use crate::access::throttle::{AddressBlock, AddressCounts, KeyedThrottle, Rate, Requester};
use crate::bank::Bank;
use crate::config::Config;
use crate::domain::TerminalName;
use crate::enroll;
use crate::limits;
use crate::pki::PkiError;
use crate::store::IssuedRecord;
use crate::surroundings::Surroundings;
use crate::telemetry::Metrics;
use crate::wire::answer::SessionTimes;

/// Why a terminal's certificates are not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// Enrolment is off, and no certificate of a terminal that enrolled is let in.
    #[error("[enroll] enabled is \"off\": no terminal that enrolled itself is let in")]
    Off,
    /// The list.
    #[error(transparent)]
    List(#[from] PkiError),
    /// Certificates, keys or lists cannot be taken anew.
    #[error(transparent)]
    Trust(#[from] TlsError),
}

/// A server of one bank.
pub struct Server {
    bank: Arc<Bank>,
    metrics: Arc<Metrics>,
    trust: ArcSwap<Trust>,
    live: ArcSwap<Live>,
    registry: Arc<Registry>,
    disabled: ArcSwap<HashSet<TerminalName>>,
    addresses: Arc<AddressCounts>,
    places: Arc<Semaphore>,
    places_to_say_full: Arc<Semaphore>,
    tasks: TaskTracker,
    draining: CancellationToken,
    next_connection: AtomicU64,
}

/// What a reload replaces, for connections accepted from then on.
struct Live {
    config: Config,
    request_rate: Rate,
    connections: KeyedThrottle<AddressBlock>,
    logins: Arc<KeyedThrottle<Requester>>,
    gate: Gate,
}

impl Live {
    fn new(config: Config, surroundings: &Arc<dyn Surroundings>) -> Self {
        let limits = &config.limits;
        let second = Duration::from_secs(1);
        let connections = Rate {
            count: limits.connections_per_second_per_ip,
            per: second,
            burst: limits.connection_burst_per_ip,
        };
        let per_minute = limits.logins_per_minute_per_terminal;
        let logins = Rate {
            count: per_minute,
            per: Duration::from_secs(60),
            burst: per_minute,
        };
        Self {
            request_rate: Rate {
                count: limits.requests_per_second,
                per: second,
                burst: limits.request_burst,
            },
            connections: KeyedThrottle::new(connections, Arc::clone(surroundings)),
            logins: Arc::new(KeyedThrottle::new(logins, Arc::clone(surroundings))),
            gate: Gate::new(&config.enroll, surroundings),
            config,
        }
    }

    fn terms(&self, between: Between) -> Terms {
        let (server, limits) = (&self.config.server, &self.config.limits);
        Terms {
            frame_before_login: limits.frame_before_login,
            frame_after_login: limits.frame_after_login,
            frame_timeout: server.frame_timeout,
            idle_timeout: server.idle_timeout,
            session_timeout: server.session_timeout,
            write_timeout: server.write_timeout,
            between,
        }
    }

    fn times(&self) -> SessionTimes {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        SessionTimes {
            idle_timeout_ms: ms(self.config.server.idle_timeout),
            max_timeout_ms: ms(self.config.server.session_timeout),
        }
    }
}

impl Server {
    /// A server of `bank`, not listening yet. `disabled` are terminals that are not let in.
    #[must_use]
    pub fn new(
        bank: Arc<Bank>,
        metrics: Arc<Metrics>,
        config: Config,
        trust: Trust,
        disabled: HashSet<TerminalName>,
    ) -> Self {
        metrics.certificate_seconds.set(seconds_left(&trust, &bank));
        let places = config.server.max_connections.min(Semaphore::MAX_PERMITS);
        let live = Live::new(config, bank.surroundings());
        Self {
            bank,
            metrics,
            trust: ArcSwap::from_pointee(trust),
            live: ArcSwap::from_pointee(live),
            registry: Arc::new(Registry::default()),
            disabled: ArcSwap::from_pointee(disabled),
            addresses: Arc::new(AddressCounts::default()),
            places: Arc::new(Semaphore::new(places)),
            places_to_say_full: Arc::new(Semaphore::new(limits::FULL_HANDSHAKES_MAX)),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            next_connection: AtomicU64::new(1),
        }
    }

    /// Takes certificates, revocations and limits anew; open connections whose certificate is no
    /// longer admitted end at once. Where a file is bad, everything stays as it was.
    ///
    /// # Errors
    /// [`TlsError`], naming the file and the mend.
    pub fn reload(&self, config: Config) -> Result<(), TlsError> {
        let now = self.bank.surroundings().now();
        let trust = Trust::load(&config.tls, now)?;
        for warning in &trust.warnings {
            tracing::warn!("{warning}");
        }
        self.metrics
            .certificate_seconds
            .set(seconds_left(&trust, &self.bank));
        self.bank.set_terms(config.terms());
        self.trust.store(Arc::new(trust));
        self.live
            .store(Arc::new(Live::new(config, self.bank.surroundings())));
        let expelled = self.registry.expel_distrusted(&self.trust.load(), now);
        tracing::info!(expelled, "reloaded certificates, revocations and limits");
        Ok(())
    }

    /// Lets a terminal in, or puts it out at once.
    pub fn set_disabled(&self, terminal: &TerminalName, disabled: bool) {
        self.disabled.rcu(|known| {
            let mut names = HashSet::clone(known);
            if disabled {
                names.insert(terminal.clone())
            } else {
                names.remove(terminal)
            };
            names
        });
        if disabled {
            let expelled = self.registry.expel(terminal);
            tracing::info!(%terminal, expelled, "terminal disabled");
        }
    }

    /// Puts certificates of a terminal that enrolled itself on the issuing authority's list, takes
    /// that list for new connections, and ends the terminal's. Waits for the disk.
    ///
    /// # Errors
    /// Where the list cannot be written or read again: nothing has changed for the terminal then.
    pub fn revoke(
        &self,
        terminal: &TerminalName,
        revoked: &[IssuedRecord],
    ) -> Result<(), RevokeError> {
        let now = self.bank.surroundings().now();
        let tls = self.live.load().config.tls.clone();
        let trust = self.trust.load_full();
        let (Some(enrolment), Some(files)) = (&trust.enrolment, &tls.issuing) else {
            return Err(RevokeError::Off);
        };
        enroll::publish(&enrolment.issuing, &files.crl, revoked, now)?;
        self.trust.store(Arc::new(Trust::load(&tls, now)?));
        let distrusted = self.registry.expel_distrusted(&self.trust.load(), now);
        let expelled = self.registry.expel(terminal).max(distrusted);
        tracing::info!(%terminal, certificates = revoked.len(), expelled, "terminal revoked");
        Ok(())
    }

    /// Goes down in order: every connection finishes its request, is told, and is closed.
    /// Returns whether all were closed in time.
    pub async fn drain(&self) -> bool {
        self.draining.cancel();
        self.tasks.close();
        let deadline = self.live.load().config.server.drain_timeout;
        tokio::time::timeout(deadline, self.tasks.wait())
            .await
            .is_ok()
    }

    /// Connections that are open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.tasks.len()
    }
}

fn seconds_left(trust: &Trust, bank: &Bank) -> i64 {
    let now = bank.surroundings().now().unix_ms().div_euclid(1_000);
    trust.certificate_ends.saturating_sub(now)
}
