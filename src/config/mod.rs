//! The configuration: a TOML file, over it the environment (`BANK__TABLE__KEY`), over it the
//! command line's flags. A [`Config`] holds only values that are valid.
//!
//! Everything that is wrong is reported at once, each with its place, its reason and a mend.

mod budgets;
mod build;
mod fault;
mod keys;
mod nearest;
mod paths;
mod reader;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use fault::{ConfigErrors, ConfigFault, Place};

use crate::access::lockout::LockoutPolicy;
use crate::access::pin::HashCost;
use crate::domain::{ClockPolicy, Currency, OpenHolds};
use crate::store::{KEY_KEPT_MS, Terms};

/// The file that is read where none is named and it exists.
pub const DEFAULT_FILE: &str = "config/bank_server.toml";

/// What the environment's variables begin with; a table, `__` and a key follow, in upper case.
pub const PREFIX: &str = "BANK__";

/// The bank server's configuration. Relative paths are relative to the working folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[server]`
    pub server: ServerConfig,
    /// `[tls]`
    pub tls: TlsConfig,
    /// `[enroll]`
    pub enroll: EnrollConfig,
    /// `[limits]`
    pub limits: LimitsConfig,
    /// `[pin]`
    pub pin: PinConfig,
    /// `[accounts]`
    pub accounts: AccountsConfig,
    /// `[clock]`: what is believed of the wall clock.
    pub clock: ClockPolicy,
    /// `[store]`
    pub store: StoreConfig,
    /// `[metrics]`
    pub metrics: MetricsConfig,
    /// `[log]`
    pub log: LogConfig,
}

/// Where and how long is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where terminals connect; port 0 asks the system for a free one.
    pub listen: SocketAddr,
    /// Connections at once; 1 or more.
    pub max_connections: usize,
    /// Connections at once from one address; 1 to [`Self::max_connections`].
    pub max_connections_per_ip: usize,
    /// From the accepted connection to the finished handshake.
    pub handshake_timeout: Duration,
    /// From a frame's first byte to its last.
    pub frame_timeout: Duration,
    /// A connection without a certificate must be logged in by then.
    pub login_timeout: Duration,
    /// A connection with a certificate may be silent so long between customers.
    pub terminal_idle_timeout: Duration,
    /// A customer may be silent so long.
    pub idle_timeout: Duration,
    /// A session lasts no longer.
    pub session_timeout: Duration,
    /// During a session a peer of which nothing is heard so long, though it should be, is lost.
    pub peer_timeout: Duration,
    /// A peer must accept an answer by then.
    pub write_timeout: Duration,
    /// Connections must finish by then when the server goes down.
    pub drain_timeout: Duration,
    /// This server among others of the same bank: 1 to 64 printable ASCII characters.
    pub server_id: String,
    /// Where the bank's staff connect.
    pub operator_socket: PathBuf,
}

/// Certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The bank's CA.
    pub ca: PathBuf,
    /// The server's certificate.
    pub cert: PathBuf,
    /// The server's key.
    pub key: PathBuf,
    /// The CA's revocation list.
    pub crl: PathBuf,
    /// Whether terminals need certificates.
    pub client_auth: ClientAuth,
    /// Where the above are looked for unless named singly.
    pub dir: PathBuf,
    /// The issuing authority, where terminals may enrol themselves.
    pub issuing: Option<IssuingFiles>,
}

/// The issuing authority's files, named by `[enroll]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuingFiles {
    /// Its certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Its revocation list, which the server writes.
    pub crl: PathBuf,
}

/// Terminals that enrol themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrollConfig {
    /// How long a certificate holds.
    pub certificate: Duration,
    /// How long a code serves.
    pub code_ms: u64,
    /// Messages of one address, or of one terminal that renews, each minute.
    pub attempts_per_minute_per_ip: u32,
    /// Messages with a code, of all together, each minute.
    pub attempts_per_minute: u32,
    /// Connections that wait for a message at once; as many with a certificate.
    pub max_connections: usize,
    /// The same from one address.
    pub max_connections_per_ip: usize,
}

/// Whether terminals need certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// They do.
    Required,
    /// They do not, and are `anonymous` without.
    Off,
}

/// What a peer may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Bytes of a payload before log-in.
    pub frame_before_login: usize,
    /// Bytes of a payload after log-in.
    pub frame_after_login: usize,
    /// Of a connection, in the long run.
    pub requests_per_second: u32,
    /// Of a connection, at once.
    pub request_burst: u32,
    /// Octets of a connection, TLS's own among them, in the long run.
    pub octets_per_second: u64,
    /// The same, at once; two full frames or more.
    pub octet_burst: u64,
    /// Records of TLS of a connection, in the long run.
    pub records_per_second: u64,
    /// The same, at once; two full frames or more.
    pub record_burst: u64,
    /// Of an address, in the long run.
    pub connections_per_second_per_ip: u32,
    /// Of an address, at once.
    pub connection_burst_per_ip: u32,
    /// Of a terminal; of an address where there is no client certificate.
    pub logins_per_minute_per_terminal: u32,
    /// Account numbers that a spray may fail upon before it is noticed, at a source or in the bank;
    /// 0 is off.
    pub spray_tries: u32,
    /// Rows of wrong-PIN counts beyond which numbers without a row get code 40.
    pub try_rows: u64,
    /// Holds that may be open at once.
    pub open_holds: OpenHolds,
}

/// How PINs are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinConfig {
    /// What new hashes cost.
    pub cost: HashCost,
    /// Tries and locks.
    pub lockout: LockoutPolicy,
    /// The peppers; never in the store's folder.
    pub pepper_file: PathBuf,
    /// PINs checked at once, each with its own memory and thread.
    pub max_concurrent: usize,
}

/// The bank's terms for its customers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountsConfig {
    /// The currency of all accounts.
    pub currency: Currency,
    /// The most one withdrawal or hold may be, minor units, 0 or more.
    pub withdrawal_limit: i64,
    /// The most all of a business day may be, minor units, 0 or more.
    pub daily_withdrawal_limit: i64,
    /// How long a hold stays open.
    pub hold_timeout_ms: u64,
}

/// Where the ledger is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Which store.
    pub url: StoreUrl,
    /// How long a server's lease of a shared store lasts without renewal.
    pub lease: Duration,
}

/// Which store.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// The embedded one, in this file.
    Sqlite(PathBuf),
    /// One shared by many servers. The URL may hold a password, and is never shown.
    Postgres(String),
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "Sqlite({path:?})"),
            Self::Postgres(_) => f.write_str("Postgres(..)"),
        }
    }
}

/// Where metrics are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// `None`: nowhere.
    pub listen: Option<SocketAddr>,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// The least severe that is logged.
    pub level: tracing::Level,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// What flags of the command line set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--listen`
    pub listen: Option<String>,
}

/// A configuration, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What works but is not advised, or was clamped; one line each.
    pub warnings: Vec<String>,
    /// At least one variable of the environment is the bank's.
    pub from_environment: bool,
}

impl Config {
    /// Reads `file` (none: the defaults; [`DEFAULT_FILE`] is for the caller to name),
    /// `environment` and the flags. Host names in addresses are resolved.
    ///
    /// # Errors
    /// [`ConfigErrors`] with everything that is wrong, not only the first.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (OsString, OsString)>,
        overrides: &Overrides,
    ) -> Result<Loaded, ConfigErrors> {
        let mut values = values::Values::default();
        if let Some(file) = file {
            values.take_file(file);
        }
        values.take_environment(environment);
        values.take_flags(overrides);
        build::build(values)
    }

    /// The terms that every call to the store carries.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms {
            withdrawal_limit: self.accounts.withdrawal_limit,
            daily_withdrawal_limit: self.accounts.daily_withdrawal_limit,
            hold_timeout_ms: self.accounts.hold_timeout_ms,
            lockout: self.pin.lockout,
            try_rows_max: self.limits.try_rows,
            keys_kept_ms: KEY_KEPT_MS.saturating_add(self.clock.ahead_at_start_ms),
            open_holds: self.limits.open_holds,
        }
    }
}
