//! Bounds and deadlines in one place: defaults of those that are configured, and most of those that
//! are fixed. Others stand where they are used.
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
    /// During a session a peer of which nothing is heard so long, though it should be, is lost.
    pub const PEER_TIMEOUT_MS: i64 = 15_000;
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
    /// Octets that a connection may send for each request that it may make, in the long run.
    pub const OCTETS_PER_REQUEST: u64 = 1_536;
    /// TLS records that a connection may send for each request that it may make, in the long run.
    pub const RECORDS_PER_REQUEST: u64 = 8;
    /// The same, at once.
    pub const RECORDS_PER_REQUEST_AT_ONCE: u64 = 20;
    /// Connections an address may open each second in the long run.
    pub const CONNECTIONS_PER_SECOND_PER_IP: i64 = 50;
    /// Connections an address may open at once.
    pub const CONNECTION_BURST_PER_IP: i64 = 200;
    /// Log-ins a terminal may try each minute.
    pub const LOGINS_PER_MINUTE_PER_TERMINAL: i64 = 60;
    /// Account numbers that a PIN spray may fail upon before it is noticed, at one source or in the
    /// whole bank.
    pub const SPRAY_TRIES: i64 = 50;
    /// Holds of an account that may be open at once.
    pub const OPEN_HOLDS_PER_ACCOUNT: i64 = 20;
    /// Holds of a terminal that may be open at once.
    pub const OPEN_HOLDS_PER_TERMINAL: i64 = 200;
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
    /// Connections for enrolment that wait for a message at once; as many with a certificate.
    pub const ENROLMENT_CONNECTIONS_MAX: i64 = 32;
    /// The same from one address.
    pub const ENROLMENT_CONNECTIONS_PER_IP_MAX: i64 = 4;
    /// How long a server's lease of a shared store lasts without renewal.
    pub const LEASE_MS: i64 = 10_000;
    /// All corrections of the wall clock that are believed within an hour, together.
    pub const JUMP_MS: i64 = 60_000;
    /// How far ahead of the last trusted moment a wall clock is believed at a start.
    pub const AHEAD_AT_START_MS: i64 = 7 * 86_400_000;
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
/// At so many peppers in the file rotation adds none.
pub const PEPPERS_MAX: usize = 64;
/// PINs checked at once, each on a thread of its own; more only wait for the machine's cores.
pub const PINS_AT_ONCE_MAX: usize = 1_024;
/// A PIN waits for its turn to be checked no longer. Whoever waits in vain has lost no try: from the
/// count of a try on nothing is given up, because a right PIN must forget it.
pub const PIN_TIMEOUT: Duration = Duration::from_secs(30);
/// A server's name, bytes.
pub const SERVER_ID_BYTES_MAX: usize = 64;
/// A Unix socket's path, bytes without the final 0 (`sun_path` of Linux has 108).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Certificates that a terminal may show: its own, an issuing authority's, and one in between. More are refused
/// before any is looked at, because the search for a way through crafted ones can take seconds.
pub const TERMINAL_CHAIN_MAX: usize = 3;
/// All of them together, bytes.
pub const TERMINAL_CHAIN_BYTES_MAX: usize = 8_192;
/// One terminal's connections may take this share of all places (a half), so that one stolen certificate
/// leaves room for the others,
pub const TERMINAL_CONNECTIONS_SHARE: usize = 2;
/// and so many in any case.
pub const TERMINAL_CONNECTIONS_MIN: usize = 64;

/// Terminals that are gone and of which it is remembered when they connected last.
pub const TERMINALS_REMEMBERED_MAX: usize = 10_000;

/// Connections that wait in the kernel to be accepted.
pub const LISTEN_BACKLOG: u32 = 4_096;
/// The pause after the system refused to accept (no file descriptors), so as not to spin.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// However often the system refuses to accept, it is said in the log once in so long.
pub const ACCEPT_WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// Connections over the maximum whose handshake is still finished to tell them that the server
/// is full; more are closed without a word.
pub const FULL_HANDSHAKES_MAX: usize = 64;
/// Of all places, and of an address's, one in so many may be in a handshake at once: peers who
/// never finish one do not take the places of those who do.
pub const HANDSHAKES_SHARE: usize = 4;
/// So many handshakes may be in progress, in all and from one address, however few places there are.
pub const HANDSHAKES_MIN: usize = 64;
/// Octets that a peer may send until its handshake is over: its greeting, twice, and the largest chain.
pub const HANDSHAKE_OCTETS_MAX: usize = 65_536;
/// Records that it may send them in.
pub const HANDSHAKE_RECORDS_MAX: usize = 1_024;
/// File descriptors kept for the store, the logs, the operator and the metrics.
pub const FILES_RESERVED: u64 = 128;
/// The first probe of TCP keep-alive comes after so much silence.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Between probes of TCP keep-alive.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Unanswered probes after which a peer is dead.
pub const KEEPALIVE_PROBES: u32 = 3;
/// During a session the first probe comes after so much silence.
pub const KEEPALIVE_SESSION_IDLE: Duration = Duration::from_secs(5);
/// So many `ping` in a row in a session are a heartbeat,
pub const HEARTBEAT_PINGS: u32 = 3;
/// where each comes so long after the one before at most.
pub const HEARTBEAT_GAP_MAX: Duration = Duration::from_secs(6);
/// How often the files of certificates, keys and revocations are looked at; a change is taken at
/// the second look that sees it.
pub const TLS_WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Looks at which a bad change is tried before it is said to be bad.
pub const TLS_WATCH_TRIES: u32 = 3;
/// A bad change is tried again, without a word, at each so many looks.
pub const TLS_WATCH_RETRY_LOOKS: u32 = 60;
/// A change of certificates is taken, and a revoked terminal is out, by then.
pub const REVOCATION_TIMEOUT: Duration = Duration::from_secs(5);
/// Days before the end of a certificate or revocation list at which it is warned of.
pub const EXPIRY_WARNING_DAYS: [i64; 3] = [30, 7, 1];
/// How often ends are compared with these days.
pub const EXPIRY_LOOK_INTERVAL: Duration = Duration::from_secs(3_600);
/// Of so many terminals it is remembered that their certificate's end was warned of.
pub const EXPIRING_TERMINALS_MAX: usize = 10_000;
/// Of so many authorities and revocation lists it is remembered that their end was warned of.
pub const EXPIRIES_MAX: usize = 1_000;

/// What the system keeps for a connection in either direction, bytes (it takes up to twice that):
/// a peer that does not read, or that we do not read from, holds no more of the machine's memory.
pub const SOCKET_BUFFER_BYTES: usize = 65_536;
/// Bytes read from a connection at once.
pub const READ_CHUNK_BYTES: usize = 4_096;
/// A terminal may send so many times what one of its connections may, over all of them.
pub const TERMINAL_BUDGETS: u64 = 8;
/// TLS is handed so many records at once,
pub const RECORDS_TOGETHER_MAX: usize = 32;
/// and a peer is read so often, before others are served.
pub const READS_TOGETHER_MAX: usize = 8;
/// A peer that is over a budget for so long on end, without a whole request, is closed.
pub const OVER_BUDGET_MAX: Duration = Duration::from_secs(10);
/// Beyond one in so many parts of a processor a terminal's work waits behind others'.
pub const PROCESSOR_PARTS: u64 = 4;
/// So much of a processor's time a terminal may use at once before that.
pub const PROCESSOR_AT_ONCE: Duration = Duration::from_millis(50);
/// However much a terminal has used, it is forgotten so long after the last of it.
pub const PROCESSOR_DEBT_MAX: Duration = Duration::from_secs(1);
/// Work waits while others were served within this time who had used less.
pub const LIGHTER_REMEMBERED: Duration = Duration::from_secs(10);
/// Answers to pipelined requests are gathered up to so many bytes before they are flushed.
pub const PENDING_FLUSH_BYTES_MAX: usize = 16_384;
/// How long a peer has to close after our `close_notify`.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The largest payload of a message of enrolment.
pub const ENROLMENT_FRAME_BYTES_MAX: usize = 4_096;
/// A connection for enrolment ends so long after its handshake, whatever it is about.
pub const ENROLMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a certificate the first message must be whole so long after the handshake.
pub const ENROLMENT_FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(3);
/// Messages that one connection for enrolment may send.
pub const ENROLMENT_MESSAGES_MAX: u32 = 2;
/// Connections for enrolment with certificates of one terminal that wait for a message.
pub const ENROLMENT_CONNECTIONS_PER_TERMINAL_MAX: usize = 2;
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
/// Orders of one connection that came together and are carried out in one call.
pub const ORDERS_TOGETHER_MAX: usize = 64;
/// Entries of each table of rates (by address, by terminal); new ones wait for idle ones to go.
pub const RATE_TABLE_ENTRIES_MAX: usize = 100_000;
/// How often idle entries of the tables of rates are dropped.
pub const RATE_TABLE_SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// `limits.spray_tries` counts so far at most: all numbers of a spray are remembered until then.
pub const SPRAY_TRIES_MAX: usize = 10_000;
/// A source's unresolved numbers are let go at the pace of `spray_tries` in so many hours (at the
/// default: 2 an hour).
pub const SPRAY_SOURCE_LEAK_HOURS: u64 = 25;
/// Those of the whole bank at the pace of `spray_tries` in so many hours (at the default: 10 an
/// hour, which is what honest customers leave behind at the busiest hour of 100,000 log-ins a day).
pub const SPRAY_BANK_LEAK_HOURS: u64 = 5;
/// A slowed source may try one log-in in this time at first; it doubles with each further failure.
pub const SPRAY_INTERVAL_FIRST: Duration = Duration::from_secs(15);
/// And in this time at last.
pub const SPRAY_INTERVAL_LAST: Duration = Duration::from_secs(900);
/// Failures that are remembered beyond those that a spray is noticed by: as many as it takes to
/// double the first interval to the last.
pub const SPRAY_DOUBLINGS_MAX: usize = 6;
/// Sources of failed log-ins remembered at once; beyond it the longest idle is forgotten, one that
/// sprays last of all.
pub const SPRAY_SOURCES_MAX: usize = 10_000;
/// Numbers remembered by all sources together; beyond it the same.
pub const SPRAY_NUMBERS_MAX: usize = 200_000;
/// A log-in waits so long at most for others of its source to be judged.
pub const SPRAY_WAIT_MAX: Duration = Duration::from_secs(30);
/// Where that was not enough, it is worth waiting a little.
pub const SPRAY_BUSY_RETRY: Duration = Duration::from_secs(1);
/// How often the wall clock is compared with the trusted one.
pub const CLOCK_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// What one terminal alone, with a new number for each log-in that it may ask for by default, makes in a
/// day.
pub const TRY_ROWS_ADVISED: u64 = 60 * 1_440;
/// How often holds, keys and tries past their time are swept from the store.
pub const STORE_SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Lines of the log that one peer can cause for nothing in such an interval; more are counted.
pub const LOG_FLOOD_LINES_PER_PEER_MAX: u32 = 30;
/// Such lines in an interval, of all peers together; more are counted.
pub const LOG_FLOOD_LINES_MAX: u32 = 600;
/// How often the audit log is told of what was only counted.
pub const AUDIT_INTERVAL_MS: u64 = 60_000;
/// Records of refusals that one terminal can cause in an interval; more are counted.
pub const AUDIT_FLOOD_RECORDS_PER_TERMINAL_MAX: u32 = 30;
/// Records of refusals in an interval, of all terminals together; more are counted.
pub const AUDIT_FLOOD_RECORDS_MAX: u32 = 600;
/// Terminals whose refusals are counted each on its own; those of others are counted together.
pub const AUDIT_SOURCES_MAX: usize = 10_000;
/// Terminals that get a record of their own about what was counted in an interval.
pub const AUDIT_SUMMARIES_MAX: usize = 100;
/// Records that wait to be written with the next round; more are counted.
pub const AUDIT_WAITING_MAX: usize = 65_536;
/// Records that a round writes in one transaction.
pub const AUDIT_ROUND_RECORDS_MAX: usize = 1_000;
/// Records of the audit log that staff may ask for at once.
pub const AUDIT_LISTED_MAX: usize = 100_000;

/// Accounts and opening entries that staff may bring into a running server at once: about half a
/// second of its writer, which customers wait for. A stopped one takes any number.
pub const OPEN_ROWS_MAX: usize = 40_000;

/// Operators served at once.
pub const OPERATOR_CONNECTIONS_MAX: usize = 8;
/// A frame between operator and server; the largest that is needed is a list of
/// [`AUDIT_LISTED_MAX`] records.
pub const OPERATOR_FRAME_BYTES_MAX: usize = 256 << 20;
/// An operator's request must be complete by then.
pub const OPERATOR_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// An operator's command over the socket must be done and answered by then: an audit of a large
/// ledger.
pub const OPERATOR_ANSWER_TIMEOUT: Duration = Duration::from_secs(3_600);

/// A service manager must take a message by then; it is told nothing more of that then.
pub const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections to the metrics' listener served at once.
pub const METRICS_CONNECTIONS_MAX: usize = 16;
/// A request for metrics must be read and answered by then.
pub const METRICS_TIMEOUT: Duration = Duration::from_secs(10);
/// Header bytes of a request for metrics.
pub const METRICS_HEADER_BYTES_MAX: usize = 8_192;

/// An attack on a deployment of one's own: how long it may take at most, unless told otherwise.
pub const ATTACK_BUDGET_DEFAULT: Duration = Duration::from_secs(60);
/// The longest budget that an attack may be given.
pub const ATTACK_BUDGET_MAX: Duration = Duration::from_secs(3_600);
/// How long an attack waits for a silent target to close, unless told otherwise.
pub const ATTACK_PATIENCE_DEFAULT: Duration = Duration::from_secs(15);
/// Connections that an attack has open at once, unless told otherwise.
pub const ATTACK_CONNECTIONS_DEFAULT: usize = 64;
/// The fewest connections with which every probe can be run.
pub const ATTACK_CONNECTIONS_MIN: usize = 16;
/// The most connections that an attack may have open at once.
pub const ATTACK_CONNECTIONS_MAX: usize = 1_000;
/// Frames and greetings that an attack sends at most.
pub const ATTACK_SENDS_MAX: usize = 20_000;
/// Addresses that a target's name may have.
pub const ATTACK_ADDRESSES_MAX: usize = 16;
/// An attack's name must be found, its connection stand, its handshake be done, within this time.
pub const ATTACK_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A target that has not answered by then does not.
pub const ATTACK_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that an attack does as code 40 asks, and comes again later.
pub const ATTACK_RETRY_MAX: Duration = Duration::from_secs(3);
/// Bytes of what a target says outside of TLS that an attack looks at.
pub const ATTACK_HEARD_BYTES_MAX: usize = 16_384;

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
// Keep-alive has time for a probe, and a heartbeat for a late beat, before a peer is lost; and that is
// before silence alone would end the session.
const _: () = assert!(KEEPALIVE_SESSION_IDLE.as_millis() < default::PEER_TIMEOUT_MS as u128);
const _: () = assert!(2 * HEARTBEAT_GAP_MAX.as_millis() <= default::PEER_TIMEOUT_MS as u128);
const _: () = assert!(default::PEER_TIMEOUT_MS < default::IDLE_TIMEOUT_MS);
// A silent peer is waited for longer than the defaults for handshakes and frames, and within the
// budget.
const _: () =
    assert!(ATTACK_PATIENCE_DEFAULT.as_millis() as i64 > 2 * default::HANDSHAKE_TIMEOUT_MS);
const _: () = assert!(ATTACK_PATIENCE_DEFAULT.as_millis() as i64 > 2 * default::FRAME_TIMEOUT_MS);
const _: () = assert!(ATTACK_PATIENCE_DEFAULT.as_secs() < ATTACK_BUDGET_DEFAULT.as_secs());
const _: () = assert!(ATTACK_CONNECTIONS_MIN <= ATTACK_CONNECTIONS_DEFAULT);
const _: () = assert!(ATTACK_CONNECTIONS_DEFAULT <= ATTACK_CONNECTIONS_MAX);
// A change is seen, seen again and loaded in time, with time to spare for the loading.
const _: () = assert!(2 * TLS_WATCH_INTERVAL.as_millis() * 2 < REVOCATION_TIMEOUT.as_millis());
// A burst of honest terminals behind one address shakes hands without displacing its own.
const _: () = assert!(
    default::CONNECTION_BURST_PER_IP <= default::CONNECTIONS_PER_IP_MAX / HANDSHAKES_SHARE as i64
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
const _: () = assert!(ENROLMENT_FIRST_MESSAGE_TIMEOUT.as_millis() < ENROLMENT_TIMEOUT.as_millis());
// One terminal alone cannot use up what all may write.
const _: () = assert!(AUDIT_FLOOD_RECORDS_PER_TERMINAL_MAX < AUDIT_FLOOD_RECORDS_MAX);
const _: () = assert!(AUDIT_SUMMARIES_MAX < AUDIT_ROUND_RECORDS_MAX);
// The longest default is one that the configuration takes.
const _: () = assert!(default::PIN_LOCK_MS <= CONFIGURED_MAX);
// The answers to the largest pipelined input are flushed in time; a read fits what may come.
const _: () = assert!(READ_CHUNK_BYTES as i64 <= default::FRAME_AFTER_LOGIN_BYTES);
// What is let go while a spray makes its tries in `SPRAY_BANK_LEAK_HOURS` hours is all of them: a
// spray is noticed by four fifths, so one that takes less than a fifth of that time is.
const _: () = assert!(SPRAY_BANK_LEAK_HOURS >= 5 && SPRAY_SOURCE_LEAK_HOURS >= 5);
// The last interval is reached, and not by far.
const _: () =
    assert!(SPRAY_INTERVAL_FIRST.as_secs() << SPRAY_DOUBLINGS_MAX >= SPRAY_INTERVAL_LAST.as_secs());
const _: () = assert!(SPRAY_TRIES_MAX + SPRAY_DOUBLINGS_MAX <= SPRAY_NUMBERS_MAX);
const _: () = assert!(default::SPRAY_TRIES <= SPRAY_TRIES_MAX as i64);
