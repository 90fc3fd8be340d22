//! The server: accept, TLS, one task a connection, going down in order.

pub mod acceptor;
mod budget;
pub mod connection;
pub mod dialogue;
mod enrolment;
pub mod expiry;
pub mod handshakes;
mod hello;
pub mod lines;
mod metered;
pub mod metrics;
pub mod registry;
mod rotation;
pub mod tls;
mod turns;
pub mod watch;
mod wiped;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::budget::{Prices, Rations};
use self::connection::{Between, Terms};
use self::enrolment::Gate;
use self::expiry::Reminders;
use self::handshakes::{Bounds, Handshakes};
use self::lines::Lines;
use self::registry::Registry;
use self::rotation::Rotation;
use self::tls::{ListMemory, TlsError, Trust};
use self::turns::Turns;
use crate::access::spray::SprayWatch;
use crate::access::throttle::{AddressBlock, AddressCounts, KeyedThrottle, Rate, Requester};
use crate::bank::Bank;
use crate::config::Config;
use crate::domain::{TerminalName, Timestamp};
use crate::limits;
use crate::pki::PkiError;
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
    rotation: Mutex<Rotation>,
    /// Of which terminals' certificates it was said that they end; its lock is never held for long.
    reminded: Mutex<Reminders<TerminalName>>,
    /// Where it is kept which revocation lists are in force.
    list_memory: Option<ListMemory>,
    registry: Arc<Registry>,
    handshakes: Arc<Handshakes>,
    /// Outlives reloads: a sprayer is not forgotten because something else is set anew.
    sprays: Arc<SprayWatch>,
    disabled: ArcSwap<HashSet<TerminalName>>,
    addresses: Arc<AddressCounts>,
    /// Outlives reloads too.
    rations: Rations,
    turns: Arc<Turns>,
    lines: Arc<Lines>,
    places: Arc<Semaphore>,
    /// As many as there were places at the start; a reload does not change them.
    places_max: usize,
    places_to_say_full: Arc<Semaphore>,
    tasks: TaskTracker,
    draining: CancellationToken,
    next_connection: AtomicU64,
}

/// What a reload replaces, for connections accepted from then on.
struct Live {
    config: Config,
    request_rate: Rate,
    /// Of a connection and of a terminal.
    prices: (Prices, Prices),
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
            prices: Prices::of(limits),
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
            peer_timeout: server.peer_timeout,
            write_timeout: server.write_timeout,
            between,
        }
    }

    /// How long a terminal with a certificate may be without a customer.
    fn silent(&self) -> Between {
        Between::Silent(self.config.server.terminal_idle_timeout)
    }

    /// The same without one.
    fn logged_in(&self) -> Between {
        Between::LoggedInBy(self.config.server.login_timeout)
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
        let rotation = Rotation::new(trust.stamps.clone());
        let places = config.server.max_connections.min(Semaphore::MAX_PERMITS);
        let around = Arc::clone(bank.surroundings());
        let sprays = Arc::new(SprayWatch::new(config.limits.spray_tries, around));
        let live = Live::new(config, bank.surroundings());
        let rations = Rations::new();
        let lines = Arc::new(Lines::new(Arc::clone(bank.surroundings())));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let turns = Turns::new(rations.clock, cores, Arc::clone(&metrics));
        let server = Self {
            bank,
            metrics,
            trust: ArcSwap::from_pointee(trust),
            rotation: Mutex::new(rotation),
            reminded: Mutex::new(Reminders::new(limits::EXPIRING_TERMINALS_MAX)),
            list_memory: None,
            live: ArcSwap::from_pointee(live),
            registry: Arc::new(Registry::default()),
            handshakes: Arc::new(Handshakes::default()),
            sprays,
            disabled: ArcSwap::from_pointee(disabled),
            addresses: Arc::new(AddressCounts::default()),
            rations,
            turns,
            lines,
            places: Arc::new(Semaphore::new(places)),
            places_max: places,
            places_to_say_full: Arc::new(Semaphore::new(limits::FULL_HANDSHAKES_MAX)),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            next_connection: AtomicU64::new(1),
        };
        server.show_expiries();
        server
    }

    /// The same, and it keeps there which revocation lists are in force, now and after each change.
    #[must_use]
    pub fn remembering_lists(self, memory: ListMemory) -> Self {
        let server = Self {
            list_memory: Some(memory),
            ..self
        };
        server.remember_lists();
        server
    }

    fn handshake_bounds(&self, live: &Live) -> Bounds {
        Bounds::of_places(self.places_max, live.config.server.max_connections_per_ip)
    }

    /// Connections that one terminal may have.
    fn terminal_share(&self) -> usize {
        let share = self.places_max / limits::TERMINAL_CONNECTIONS_SHARE;
        share.max(limits::TERMINAL_CONNECTIONS_MIN)
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

    /// Goes down in order: every connection finishes its request, is told, and is closed.
    /// Returns whether all were closed in time.
    pub async fn drain(&self) -> bool {
        self.draining.cancel();
        self.tasks.close();
        let deadline = self.live.load().config.server.drain_timeout;
        let closed = tokio::time::timeout(deadline, self.tasks.wait()).await;
        self.lines.sum_up(true);
        closed.is_ok()
    }

    /// Terminals that connected since the start, each with its connections now and the moment of the
    /// last one.
    #[must_use]
    pub fn connected(&self) -> BTreeMap<TerminalName, (usize, Timestamp)> {
        self.registry.connected()
    }

    /// Connections that are open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.tasks.len()
    }
}
