//! Every bound and every deadline in one place.
//!
//! [`default`] holds what the configuration starts from; everything else here is fixed, because
//! no operator has a reason to choose it. How they relate is asserted when this compiles.
//!
//! Bounds that are part of a format live with it: of frames in `wire`, of money in `domain`.

use std::time::Duration;

/// Defaults of the configuration, as its file writes them: integers, the unit last.
pub mod default {
    /// Connections served at once.
    pub const CONNECTIONS_MAX: i64 = 50_000;
    /// Connections served at once from one address (IPv6: from one /64).
    pub const CONNECTIONS_PER_IP_MAX: i64 = 1_000;
    /// From the accepted connection to the finished handshake.
    pub const HANDSHAKE_TIMEOUT_MS: i64 = 5_000;
    /// From a frame's first byte to its last.
    pub const FRAME_TIMEOUT_MS: i64 = 5_000;
    /// A connection without a certificate must be logged in by then, and again after log-out.
    pub const LOGIN_TIMEOUT_MS: i64 = 30_000;
    /// How long a connection with a certificate may be silent between customers.
    pub const TERMINAL_IDLE_TIMEOUT_MS: i64 = 600_000;
    /// How long a customer may be silent.
    pub const IDLE_TIMEOUT_MS: i64 = 60_000;
    /// How long a session lasts at most, however busy.
    pub const SESSION_TIMEOUT_MS: i64 = 900_000;
    /// How long a peer may take to accept an answer.
    pub const WRITE_TIMEOUT_MS: i64 = 10_000;
    /// How long connections have to finish when the server goes down.
    pub const DRAIN_TIMEOUT_MS: i64 = 5_000;
    /// The largest payload before log-in.
    pub const FRAME_BEFORE_LOGIN_BYTES: i64 = 4_096;
    /// The largest payload after log-in.
    pub const FRAME_AFTER_LOGIN_BYTES: i64 = 16_384;
    /// Requests a connection may make each second in the long run.
    pub const REQUESTS_PER_SECOND: i64 = 50;
    /// Requests a connection may make at once.
    pub const REQUEST_BURST: i64 = 100;
    /// Connections an address may open each second in the long run.
    pub const CONNECTIONS_PER_SECOND_PER_IP: i64 = 50;
    /// Connections an address may open at once.
    pub const CONNECTION_BURST_PER_IP: i64 = 200;
    /// Log-ins a terminal may try each minute.
    pub const LOGINS_PER_MINUTE_PER_TERMINAL: i64 = 60;
    /// Account numbers one source may fail upon before it is taken for a PIN sprayer.
    pub const SPRAY_TRIES: i64 = 50;
    /// Rows of wrong-PIN counts beyond which numbers without a row are refused: about 100 MB.
    pub const TRY_ROWS: i64 = 1_000_000;
    /// argon2id's memory: the minimum of OWASP's Password Storage Cheat Sheet.
    pub const PIN_MEMORY_KIB: i64 = 19_456;
    /// argon2id's passes: the minimum of OWASP's Password Storage Cheat Sheet.
    pub const PIN_ITERATIONS: i64 = 2;
    /// argon2id's lanes.
    pub const PIN_PARALLELISM: i64 = 1;
    /// Wrong PINs before an account number is locked.
    pub const PIN_TRIES: i64 = 3;
    /// How long it is locked: a day.
    pub const PIN_LOCK_MS: i64 = 86_400_000;
    /// The most one withdrawal or hold may be, minor units.
    pub const WITHDRAWAL_LIMIT: i64 = 100_000;
    /// The most all withdrawals and holds of a UTC day may be, minor units.
    pub const DAILY_WITHDRAWAL_LIMIT: i64 = 200_000;
    /// How long a hold stays open.
    pub const HOLD_TIMEOUT_MS: i64 = 120_000;
    /// How long the certificate of a terminal that enrolled itself holds: a week.
    pub const CERTIFICATE_MS: i64 = 604_800_000;
    /// How long a one-time code serves: an hour.
    pub const CODE_MS: i64 = 3_600_000;
    /// Messages of enrolment that one address may send each minute.
    pub const ENROLMENTS_PER_MINUTE_PER_IP: i64 = 10;
    /// Messages of enrolment with a code that all addresses together may send each minute.
    pub const ENROLMENTS_PER_MINUTE: i64 = 100;
    /// Connections for enrolment at once.
    pub const ENROLMENT_CONNECTIONS_MAX: i64 = 32;
    /// Connections for enrolment at once from one address.
    pub const ENROLMENT_CONNECTIONS_PER_IP_MAX: i64 = 4;
    /// How long a server's lease of a shared store lasts without renewal.
    pub const LEASE_MS: i64 = 10_000;
}

/// The largest count, rate or time that the configuration takes.
pub const CONFIGURED_MAX: i64 = 1_000_000_000;
/// The largest amount of money that the configuration takes, minor units.
pub const CONFIGURED_AMOUNT_MAX: i64 = 1_000_000_000_000;
/// The smallest frame limit that the configuration takes: a short log-in fits.
pub const FRAME_LIMIT_BYTES_MIN: i64 = 64;
/// Every request fits in a frame limit of this size; less is warned of.
pub const FRAME_LIMIT_BYTES_ADVISED: i64 = 256;
/// argon2 needs so much memory for each lane (RFC 9106, section 3.1).
pub const PIN_MEMORY_PER_LANE_KIB: i64 = 8;
/// argon2's largest number of lanes (RFC 9106, section 3.1).
pub const PIN_PARALLELISM_MAX: i64 = (1 << 24) - 1;

/// A configuration file may be so large; a device or a wrong file is not read to its end.
pub const CONFIG_FILE_BYTES_MAX: u64 = 65_536;
/// Faults in the configuration that are named; a wrong file has thousands.
pub const CONFIG_FAULTS_MAX: usize = 100;
/// PINs checked at once, each on a thread of its own; more only wait for the machine's cores.
pub const PINS_AT_ONCE_MAX: usize = 1_024;
/// A server's name, bytes.
pub const SERVER_ID_BYTES_MAX: usize = 64;
/// A Unix socket's path, bytes without the final 0 (`sun_path` of Linux has 108).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Connections that wait in the kernel to be accepted.
pub const LISTEN_BACKLOG: u32 = 4_096;
/// The pause after the system refused to accept (no file descriptors), so as not to spin.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// Connections over the maximum whose handshake is still finished to tell them that the server
/// is full; more are closed without a word.
pub const FULL_HANDSHAKES_MAX: usize = 64;
/// File descriptors kept for the store, the logs, the operator and the metrics.
pub const FILES_RESERVED: u64 = 128;
/// The first probe of TCP keep-alive comes after so much silence.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Between probes of TCP keep-alive.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Unanswered probes after which a peer is dead.
pub const KEEPALIVE_PROBES: u32 = 3;
/// Bytes read from a connection at once.
pub const READ_CHUNK_BYTES: usize = 4_096;
/// Answers to pipelined requests are gathered up to so many bytes before they are flushed.
pub const PENDING_FLUSH_BYTES_MAX: usize = 16_384;
/// How long a peer has to close after our `close_notify`.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The largest payload of a message of enrolment.
pub const ENROLMENT_FRAME_BYTES_MAX: usize = 4_096;
/// A connection for enrolment ends so long after its handshake, whatever it is about.
pub const ENROLMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that one connection for enrolment may send.
pub const ENROLMENT_MESSAGES_MAX: u32 = 2;
/// A terminal's certificate holds at least so long: certificates count in seconds.
pub const CERTIFICATE_MS_MIN: i64 = 1_000;

/// Malformed messages and unknown ops in a row that close a connection.
pub const MALFORMED_IN_A_ROW_MAX: u32 = 3;
/// Wrong PINs (code 20) that close a connection.
pub const WRONG_PINS_PER_CONNECTION_MAX: u32 = 3;
/// Refusals for haste (code 40) within [`HASTE_WINDOW`] that close a connection.
pub const HASTE_ANSWERS_MAX: u32 = 1_000;
/// See [`HASTE_ANSWERS_MAX`].
pub const HASTE_WINDOW: Duration = Duration::from_secs(10);
/// Transfers to nobody (code 34) in a session, after which further ones get code 40: account
/// numbers are not to be found out by trying.
pub const NO_COUNTERPARTY_PER_SESSION_MAX: u32 = 5;
/// Entries of each table of rates (by address, by terminal); new ones wait for idle ones to go.
pub const RATE_TABLE_ENTRIES_MAX: usize = 100_000;
/// How often idle entries of the tables of rates are dropped.
pub const RATE_TABLE_SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often holds, keys and tries past their time are swept from the store.
pub const STORE_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Accounts and opening entries that staff may bring into a running server at once: about half a
/// second of its writer, which customers wait for. A stopped one takes any number.
pub const OPEN_ROWS_MAX: usize = 40_000;

/// Operators served at once.
pub const OPERATOR_CONNECTIONS_MAX: usize = 8;
/// A frame between operator and server: an import or a statement of millions of lines.
pub const OPERATOR_FRAME_BYTES_MAX: usize = 256 << 20;
/// An operator's request must be complete by then.
pub const OPERATOR_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// An operator's command over the socket must be answered by then: an audit of a large ledger.
pub const OPERATOR_ANSWER_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Connections to the metrics' listener served at once.
pub const METRICS_CONNECTIONS_MAX: usize = 16;
/// A request for metrics must be read and answered by then.
pub const METRICS_TIMEOUT: Duration = Duration::from_secs(10);
/// Header bytes of a request for metrics.
pub const METRICS_HEADER_BYTES_MAX: usize = 8_192;

// An address's share is at most the whole.
const _: () = assert!(default::CONNECTIONS_PER_IP_MAX <= default::CONNECTIONS_MAX);
// A burst is at least what one second allows.
const _: () = assert!(default::REQUESTS_PER_SECOND <= default::REQUEST_BURST);
const _: () = assert!(default::CONNECTIONS_PER_SECOND_PER_IP <= default::CONNECTION_BURST_PER_IP);
// Being logged in never takes away room for a frame.
const _: () = assert!(default::FRAME_BEFORE_LOGIN_BYTES <= default::FRAME_AFTER_LOGIN_BYTES);
const _: () = assert!(FRAME_LIMIT_BYTES_ADVISED <= default::FRAME_BEFORE_LOGIN_BYTES);
const _: () = assert!(FRAME_LIMIT_BYTES_MIN <= FRAME_LIMIT_BYTES_ADVISED);
// A frame is complete, or late, before silence would count; and that before the session ends.
const _: () = assert!(default::FRAME_TIMEOUT_MS < default::LOGIN_TIMEOUT_MS);
const _: () = assert!(default::FRAME_TIMEOUT_MS < default::IDLE_TIMEOUT_MS);
const _: () = assert!(default::IDLE_TIMEOUT_MS < default::SESSION_TIMEOUT_MS);
const _: () = assert!(default::IDLE_TIMEOUT_MS < default::TERMINAL_IDLE_TIMEOUT_MS);
// A customer who walks away while cash is counted out leaves a hold that outlives the session.
const _: () = assert!(default::IDLE_TIMEOUT_MS < default::HOLD_TIMEOUT_MS);
// A dead peer is found by keep-alive no later than two idle time-outs.
const _: () = assert!(
    KEEPALIVE_IDLE.as_secs() + KEEPALIVE_INTERVAL.as_secs() * KEEPALIVE_PROBES as u64
        <= 2 * (default::IDLE_TIMEOUT_MS as u64) / 1_000
);
// One day's limit leaves room for at least one withdrawal.
const _: () = assert!(default::WITHDRAWAL_LIMIT <= default::DAILY_WITHDRAWAL_LIMIT);
const _: () = assert!(default::DAILY_WITHDRAWAL_LIMIT <= CONFIGURED_AMOUNT_MAX);
// A connection is closed for wrong PINs no earlier than its account would be locked.
const _: () = assert!(default::PIN_TRIES <= WRONG_PINS_PER_CONNECTION_MAX as i64);
const _: () =
    assert!(PIN_MEMORY_PER_LANE_KIB * default::PIN_PARALLELISM <= default::PIN_MEMORY_KIB);
// A code is used, or over, long before the certificate it gives.
const _: () = assert!(default::CODE_MS < default::CERTIFICATE_MS);
const _: () = assert!(default::CERTIFICATE_MS <= CONFIGURED_MAX);
// An address's share of enrolment is at most the whole.
const _: () = assert!(default::ENROLMENTS_PER_MINUTE_PER_IP <= default::ENROLMENTS_PER_MINUTE);
const _: () =
    assert!(default::ENROLMENT_CONNECTIONS_PER_IP_MAX <= default::ENROLMENT_CONNECTIONS_MAX);
// The longest default is one that the configuration takes.
const _: () = assert!(default::PIN_LOCK_MS <= CONFIGURED_MAX);
// The answers to the largest pipelined input are flushed in time; a read fits what may come.
const _: () = assert!(READ_CHUNK_BYTES as i64 <= default::FRAME_AFTER_LOGIN_BYTES);
