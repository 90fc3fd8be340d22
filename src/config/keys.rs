//! Every key of the configuration: its table, name, default and what it takes.
//!
//! This is the only list. What is not in it is an unknown key.

use crate::access::pin::OWASP_MINIMUM;
use crate::domain::money::AMOUNT_MAX;
use crate::limits::{self, default};

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) table: &'static str,
    pub(super) key: &'static str,
}

impl Name {
    /// The environment's variable that sets it.
    pub(super) fn variable(self) -> String {
        format!("{}{}__{}", super::PREFIX, self.table, self.key).to_ascii_uppercase()
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] {}", self.table, self.key)
    }
}

/// A key that takes an integer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number {
    pub(super) name: Name,
    /// `None`: follows from other keys, or is found out at the start.
    pub(super) default: Option<i64>,
    pub(super) least: i64,
    pub(super) most: i64,
}

/// A key that takes text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) name: Name,
    /// `None`: follows from other keys, or is found out at the start.
    pub(super) default: Option<&'static str>,
    /// The only values it takes; empty where it takes many.
    pub(super) choices: &'static [&'static str],
}

/// Any key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
    Number(&'static Number),
    Text(&'static Text),
}

impl Key {
    pub(super) fn name(self) -> Name {
        match self {
            Self::Number(number) => number.name,
            Self::Text(text) => text.name,
        }
    }
}

impl Number {
    /// What it takes, in words.
    pub(super) fn takes(&self) -> String {
        let unit = match self.name.key.rsplit('_').next() {
            Some("ms") => " milliseconds",
            Some("kib") => " KiB",
            _ => "",
        };
        let default = self
            .default
            .map(|number| format!(", the default is {number}"));
        let (least, most, default) = (self.least, self.most, default.unwrap_or_default());
        format!("write an integer from {least} to {most}{unit}{default}")
    }
}

impl Text {
    /// What it takes, in words.
    pub(super) fn takes(&self) -> String {
        match self.choices {
            [] => "write text in quotes".to_owned(),
            choices => format!("write one of \"{}\"", choices.join("\", \"")),
        }
    }
}

const fn number(table: &'static str, key: &'static str, default: i64) -> Number {
    Number {
        name: Name { table, key },
        default: Some(default),
        least: 1,
        most: limits::CONFIGURED_MAX,
    }
}

const fn from(least: i64, number: Number) -> Number {
    Number { least, ..number }
}

/// A number whose default follows from other keys or from the machine.
const fn follows(number: Number) -> Number {
    Number {
        default: None,
        ..number
    }
}

const fn money(key: &'static str, default: i64) -> Number {
    Number {
        least: 0,
        most: limits::CONFIGURED_AMOUNT_MAX,
        ..number("accounts", key, default)
    }
}

const fn text(table: &'static str, key: &'static str, default: &'static str) -> Text {
    Text {
        name: Name { table, key },
        default: Some(default),
        choices: &[],
    }
}

/// Text whose default follows from other keys or from the machine.
const fn derived(table: &'static str, key: &'static str) -> Text {
    Text {
        default: None,
        ..text(table, key, "")
    }
}

const fn choice(
    table: &'static str,
    key: &'static str,
    default: &'static str,
    choices: &'static [&'static str],
) -> Text {
    Text {
        choices,
        ..text(table, key, default)
    }
}

/// Names each key and lists it, so that none can be in one place only.
macro_rules! keys {
    ($kind:ident in $list:ident { $($name:ident = $key:expr;)* }) => {
        $(pub(super) static $name: $kind = $key;)*
        /// All keys of this kind.
        pub(super) static $list: &[&$kind] = &[$(&$name),*];
    };
}

// Zero is taken only where it has a meaning of its own: `lock_ms` (until staff unlock),
// `spray_tries` (off) and the limits of withdrawals (none at all). Anywhere else it would stop
// the bank from serving, and is more likely a mistake.
keys!(Number in NUMBERS {
    MAX_CONNECTIONS = number("server", "max_connections", default::CONNECTIONS_MAX);
    MAX_CONNECTIONS_PER_IP =
        number("server", "max_connections_per_ip", default::CONNECTIONS_PER_IP_MAX);
    HANDSHAKE_TIMEOUT_MS = number("server", "handshake_timeout_ms", default::HANDSHAKE_TIMEOUT_MS);
    FRAME_TIMEOUT_MS = number("server", "frame_timeout_ms", default::FRAME_TIMEOUT_MS);
    LOGIN_TIMEOUT_MS = number("server", "login_timeout_ms", default::LOGIN_TIMEOUT_MS);
    TERMINAL_IDLE_TIMEOUT_MS =
        number("server", "terminal_idle_timeout_ms", default::TERMINAL_IDLE_TIMEOUT_MS);
    IDLE_TIMEOUT_MS = number("server", "idle_timeout_ms", default::IDLE_TIMEOUT_MS);
    SESSION_TIMEOUT_MS = number("server", "session_timeout_ms", default::SESSION_TIMEOUT_MS);
    PEER_TIMEOUT_MS = number("server", "peer_timeout_ms", default::PEER_TIMEOUT_MS);
    WRITE_TIMEOUT_MS = number("server", "write_timeout_ms", default::WRITE_TIMEOUT_MS);
    DRAIN_TIMEOUT_MS = number("server", "drain_timeout_ms", default::DRAIN_TIMEOUT_MS);
    FRAME_BEFORE_LOGIN = from(
        limits::FRAME_LIMIT_BYTES_MIN,
        number("limits", "frame_before_login", default::FRAME_BEFORE_LOGIN_BYTES),
    );
    FRAME_AFTER_LOGIN = from(
        limits::FRAME_LIMIT_BYTES_MIN,
        number("limits", "frame_after_login", default::FRAME_AFTER_LOGIN_BYTES),
    );
    REQUESTS_PER_SECOND = number("limits", "requests_per_second", default::REQUESTS_PER_SECOND);
    REQUEST_BURST = number("limits", "request_burst", default::REQUEST_BURST);
    OCTETS_PER_SECOND = follows(number("limits", "octets_per_second", 1));
    OCTET_BURST = follows(number("limits", "octet_burst", 1));
    RECORDS_PER_SECOND = follows(number("limits", "records_per_second", 1));
    RECORD_BURST = follows(number("limits", "record_burst", 1));
    CONNECTIONS_PER_SECOND_PER_IP = number(
        "limits",
        "connections_per_second_per_ip",
        default::CONNECTIONS_PER_SECOND_PER_IP,
    );
    CONNECTION_BURST_PER_IP =
        number("limits", "connection_burst_per_ip", default::CONNECTION_BURST_PER_IP);
    LOGINS_PER_MINUTE_PER_TERMINAL = number(
        "limits",
        "logins_per_minute_per_terminal",
        default::LOGINS_PER_MINUTE_PER_TERMINAL,
    );
    SPRAY_TRIES = from(0, number("limits", "spray_tries", default::SPRAY_TRIES));
    OPEN_HOLDS_PER_ACCOUNT =
        number("limits", "open_holds_per_account", default::OPEN_HOLDS_PER_ACCOUNT);
    OPEN_HOLDS_PER_TERMINAL =
        number("limits", "open_holds_per_terminal", default::OPEN_HOLDS_PER_TERMINAL);
    TRY_ROWS = number("limits", "try_rows", default::TRY_ROWS);
    MEMORY_KIB = from(
        limits::PIN_MEMORY_PER_LANE_KIB,
        number("pin", "memory_kib", default::PIN_MEMORY_KIB),
    );
    ITERATIONS = number("pin", "iterations", default::PIN_ITERATIONS);
    PARALLELISM = Number {
        most: limits::PIN_PARALLELISM_MAX,
        ..number("pin", "parallelism", default::PIN_PARALLELISM)
    };
    TRIES = number("pin", "tries", default::PIN_TRIES);
    LOCK_MS = from(0, number("pin", "lock_ms", default::PIN_LOCK_MS));
    MAX_CONCURRENT = follows(number("pin", "max_concurrent", 1));
    WITHDRAWAL_LIMIT = money("withdrawal_limit", default::WITHDRAWAL_LIMIT);
    DAILY_WITHDRAWAL_LIMIT = money("daily_withdrawal_limit", default::DAILY_WITHDRAWAL_LIMIT);
    HOLD_TIMEOUT_MS = number("accounts", "hold_timeout_ms", default::HOLD_TIMEOUT_MS);
    CERTIFICATE_MS = from(
        limits::CERTIFICATE_MS_MIN,
        number("enroll", "certificate_ms", default::CERTIFICATE_MS),
    );
    CODE_MS = number("enroll", "code_ms", default::CODE_MS);
    ENROLMENTS_PER_MINUTE_PER_IP =
        number("enroll", "attempts_per_minute_per_ip", default::ENROLMENTS_PER_MINUTE_PER_IP);
    ENROLMENTS_PER_MINUTE =
        number("enroll", "attempts_per_minute", default::ENROLMENTS_PER_MINUTE);
    ENROLMENT_CONNECTIONS =
        number("enroll", "max_connections", default::ENROLMENT_CONNECTIONS_MAX);
    ENROLMENT_CONNECTIONS_PER_IP =
        number("enroll", "max_connections_per_ip", default::ENROLMENT_CONNECTIONS_PER_IP_MAX);
    JUMP_MS = number("clock", "jump_ms", default::JUMP_MS);
    AHEAD_AT_START_MS = number("clock", "ahead_at_start_ms", default::AHEAD_AT_START_MS);
    LEASE_MS = number("store", "lease_ms", default::LEASE_MS);
});

keys!(Text in TEXTS {
    LISTEN = text("server", "listen", "127.0.0.1:8443");
    SERVER_ID = derived("server", "server_id");
    OPERATOR_SOCKET = derived("server", "operator_socket");
    TLS_DIR = text("tls", "dir", "certs");
    TLS_CA = derived("tls", "ca");
    TLS_CERT = derived("tls", "cert");
    TLS_KEY = derived("tls", "key");
    TLS_CRL = derived("tls", "crl");
    CLIENT_AUTH = choice("tls", "client_auth", "required", &["required", "off"]);
    ENROLL_ENABLED = choice("enroll", "enabled", "off", &["off", "on"]);
    ISSUING_CERT = derived("enroll", "cert");
    ISSUING_KEY = derived("enroll", "key");
    ISSUING_CRL = derived("enroll", "crl");
    PEPPER_FILE = derived("pin", "pepper_file");
    CURRENCY = text("accounts", "currency", "USD");
    STORE_URL = text("store", "url", "sqlite:data/bank.db");
    METRICS_LISTEN = text("metrics", "listen", "off");
    LOG_FORMAT = choice("log", "format", "text", &["text", "json"]);
    LOG_LEVEL = choice("log", "level", "info", &["error", "warn", "info", "debug", "trace"]);
});

/// All keys.
pub(super) fn all() -> impl Iterator<Item = Key> {
    let texts = TEXTS.iter().copied().map(Key::Text);
    texts.chain(NUMBERS.iter().copied().map(Key::Number))
}

// What is advised elsewhere is what is done here.
const _: () = assert!(default::PIN_MEMORY_KIB >= OWASP_MINIMUM.memory_kib as i64);
const _: () = assert!(default::PIN_ITERATIONS >= OWASP_MINIMUM.iterations as i64);
const _: () = assert!(default::PIN_PARALLELISM >= OWASP_MINIMUM.parallelism as i64);
// A limit above any amount that may move would say nothing.
const _: () = assert!(limits::CONFIGURED_AMOUNT_MAX == AMOUNT_MAX);
