//! What can be watched: logs and metrics.
//!
//! Logs go to stderr through a bounded queue, so that a stuck reader of the log never holds a
//! customer up. Never logged: PINs, keys, whole requests or answers; account numbers only masked.

use std::io::{self, Write};
use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::Dispatch;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::time::UtcTime;

use crate::config::LogFormat;
use crate::domain::printable;
use crate::wire::code::Code;

/// Lines that may wait to be written; more are dropped and counted.
const LOG_LINES_MAX: usize = 65_536;

/// Starts logging to stderr. The log is complete once the guard is dropped.
pub fn start_log(format: LogFormat, level: tracing::Level) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_LINES_MAX)
        .lossy(true)
        .finish(std::io::stderr());
    // Fails only where a log was started before, which then goes on.
    let _ = tracing::dispatcher::set_global_default(log(format, level, writer));
    guard
}

/// A log of that form. What a line says may be a stranger's; nothing in it steers a terminal, and
/// an event is one line whatever it says.
fn log<W: Write + Clone + Send + Sync + 'static>(
    format: LogFormat,
    level: tracing::Level,
    writer: W,
) -> Dispatch {
    let lines = Lines { writer, format };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_timer(UtcTime::rfc_3339())
        .with_ansi(false)
        .with_target(false)
        .with_writer(move || lines.clone());
    match format {
        LogFormat::Text => log.into(),
        LogFormat::Json => log.json().flatten_event(true).into(),
    }
}

/// Writes whole lines of the log, with what steers a terminal escaped.
#[derive(Clone)]
struct Lines<W> {
    writer: W,
    format: LogFormat,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut shown = match self.format {
            LogFormat::Text => printable::line(line),
            LogFormat::Json => printable::json(line),
        };
        shown.push('\n');
        self.writer.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RequestLabels {
    op: &'static str,
    code: u16,
}

impl EncodeLabelSet for RequestLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        use prometheus_client::encoding::EncodeLabel as _;
        ("op", self.op).encode(encoder.encode_label())?;
        ("code", self.code).encode(encoder.encode_label())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BudgetLabels {
    budget: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// No label: a family of one gauge, which is not shown while there is nothing to show.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoLabels {}
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SprayLabels {
    /// A keyword of Rust, so not derived.
    place: &'static str,
}

impl EncodeLabelSet for SprayLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        use prometheus_client::encoding::EncodeLabel as _;
        ("where", self.place).encode(encoder.encode_label())
    }
}

/// Counters and gauges of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
    delayed: Family<BudgetLabels, Counter>,
    panics: Counter,
    sprays: Family<SprayLabels, Counter>,
    /// Connections that are open now.
    pub connections: Gauge<i64, AtomicI64>,
    /// Sessions that run now.
    pub sessions: Gauge<i64, AtomicI64>,
    /// Seconds until the server's certificate ends.
    pub certificate_seconds: Gauge<i64, AtomicI64>,
    authority_seconds: Family<NoLabels, Gauge<i64, AtomicI64>>,
    revocation_list_seconds: Family<NoLabels, Gauge<i64, AtomicI64>>,
    tls_reloads: Family<OutcomeLabels, Counter>,
    /// 1 while the store can be written, 0 while its disk fails.
    pub storage_writable: Gauge<i64, AtomicI64>,
    /// How large the store's journal is.
    pub store_wal_bytes: Gauge<i64, AtomicI64>,
    /// 1 while the wall clock is not believed.
    pub clock_guarded: Gauge<i64, AtomicI64>,
    /// The wall clock less the trusted one.
    pub clock_difference_seconds: Gauge<i64, AtomicI64>,
    commits: Counter,
    committed_calls: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("bank"),
            requests: Family::default(),
            refused: Family::default(),
            delayed: Family::default(),
            panics: Counter::default(),
            sprays: Family::default(),
            connections: Gauge::default(),
            sessions: Gauge::default(),
            certificate_seconds: Gauge::default(),
            authority_seconds: Family::default(),
            revocation_list_seconds: Family::default(),
            tls_reloads: Family::default(),
            storage_writable: Gauge::default(),
            store_wal_bytes: Gauge::default(),
            clock_guarded: Gauge::default(),
            clock_difference_seconds: Gauge::default(),
            commits: Counter::default(),
            committed_calls: Counter::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "requests",
            "Requests answered, by op and code",
            metrics.requests.clone(),
        );
        registry.register(
            "refused_connections",
            "Connections refused, by reason",
            metrics.refused.clone(),
        );
        registry.register(
            "reads_delayed",
            "Times that a peer was read later, by the budget that was used up",
            metrics.delayed.clone(),
        );
        registry.register(
            "panics",
            "Connections ended by a panic",
            metrics.panics.clone(),
        );
        registry.register(
            "sprays_noticed",
            "PIN sprays noticed, at one source or over the whole bank",
            metrics.sprays.clone(),
        );
        registry.register(
            "connections",
            "Connections open now",
            metrics.connections.clone(),
        );
        registry.register("sessions", "Sessions running now", metrics.sessions.clone());
        registry.register(
            "certificate_expiry_seconds",
            "Seconds until the server's certificate ends",
            metrics.certificate_seconds.clone(),
        );
        metrics.register_store();
        metrics.register_tls();
        metrics
    }
}

impl Metrics {
    fn register_store(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "storage_writable",
            "1 while the store can be written, 0 while its disk fails",
            self.storage_writable.clone(),
        );
        registry.register(
            "store_wal_bytes",
            "Octets of the journal (-wal) beside the store's file",
            self.store_wal_bytes.clone(),
        );
        registry.register(
            "clock_guarded",
            "1 while the wall clock is not believed and the bank counts time by itself",
            self.clock_guarded.clone(),
        );
        registry.register(
            "clock_difference_seconds",
            "Seconds that the wall clock is ahead of the bank's time",
            self.clock_difference_seconds.clone(),
        );
        registry.register(
            "commits",
            "Transactions that the store has committed",
            self.commits.clone(),
        );
        registry.register(
            "committed_calls",
            "Calls in those transactions: orders, tries, claims, acts of staff, sweeps",
            self.committed_calls.clone(),
        );
    }

    /// What is known of certificates and revocations.
    fn register_tls(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "authority_expiry_seconds",
            "Seconds until the first of the trusted authorities ends",
            self.authority_seconds.clone(),
        );
        registry.register(
            "revocation_list_expiry_seconds",
            "Seconds until the first of the revocation lists is overdue",
            self.revocation_list_seconds.clone(),
        );
        registry.register(
            "tls_reloads",
            "Certificates and revocations taken anew, or refused",
            self.tls_reloads.clone(),
        );
    }

    /// Counts an answer. `op` is one of the protocol's, so the number of rows is bounded.
    pub fn count_request(&self, op: &'static str, code: Code) {
        self.requests
            .get_or_create(&RequestLabels {
                op,
                code: code.number(),
            })
            .inc();
    }

    /// Counts a connection that was not let in.
    pub fn count_refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Counts a peer that is read later because it has used up its `connection`'s budget, its
    /// `terminal`'s, or its part of a `processor`.
    pub fn count_delayed(&self, budget: &'static str) {
        self.delayed.get_or_create(&BudgetLabels { budget }).inc();
    }

    /// Seconds until the first trusted authority ends and until the first revocation list is
    /// overdue; `None` where there is none, and then none is shown.
    pub fn set_trust_seconds(&self, authority: Option<i64>, revocation_list: Option<i64>) {
        for (family, seconds) in [
            (&self.authority_seconds, authority),
            (&self.revocation_list_seconds, revocation_list),
        ] {
            match seconds {
                Some(seconds) => {
                    family.get_or_create(&NoLabels {}).set(seconds);
                }
                None => family.clear(),
            }
        }
    }

    /// How often the store has committed since it was opened, and how many calls that were.
    pub fn set_committed(&self, commits: u64, calls: u64) {
        self.commits.inner().store(commits, Ordering::Relaxed);
        self.committed_calls.inner().store(calls, Ordering::Relaxed);
    }

    /// Counts certificates and revocations that were taken anew, or refused.
    pub fn count_tls_reload(&self, taken: bool) {
        let outcome = if taken { "done" } else { "refused" };
        self.tls_reloads
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    /// Counts a connection's task that panicked.
    pub fn count_panic(&self) {
        self.panics.inc();
    }

    /// Counts a spray that was noticed at one `source`, or over the whole `bank`.
    pub fn count_spray(&self, place: &'static str) {
        self.sprays.get_or_create(&SprayLabels { place }).inc();
    }

    /// All of them in the text format of OpenMetrics.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The log of one event that says `text` in its message and in fields of every kind.
    fn logged(format: LogFormat, text: &str) -> String {
        let written = Written::default();
        let log = log(format, tracing::Level::INFO, written.clone());
        tracing::dispatcher::with_default(&log, || {
            tracing::info!(reason = text, shown = %text, debugged = ?text, "said {text}");
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// ESC, CR, LF, BEL, DEL, C1, and what turns words around.
    const HOSTILE: &str =
        "a\u{1b}[2J\r\n2026 INFO forged\u{7}\u{7f}\u{85}\u{9b}31m\u{202a}\u{202e}\u{2066}\u{2069}z";

    #[test]
    fn nothing_that_is_logged_steers_a_terminal_or_begins_a_line_of_its_own() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let log = logged(format, HOSTILE);
            let line = log.strip_suffix('\n').unwrap();
            assert!(printable::is_plain(line), "{line:?}");
            assert!(line.contains("forged"), "{line:?}");
        }
        let line = logged(LogFormat::Json, HOSTILE);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["reason"], HOSTILE);
    }

    #[test]
    fn metrics_are_shown_with_their_labels() {
        let metrics = Metrics::default();
        metrics.count_request("deposit", Code::Done);
        metrics.count_refused("handshake");
        metrics.count_delayed("terminal");
        metrics.connections.inc();
        metrics.set_trust_seconds(Some(86_400), None);
        metrics.count_tls_reload(false);
        metrics.count_spray("bank");
        metrics.set_committed(3, 4_000);
        let text = metrics.encode();
        for line in [
            r#"bank_requests_total{op="deposit",code="0"} 1"#,
            r#"bank_refused_connections_total{reason="handshake"} 1"#,
            r#"bank_reads_delayed_total{budget="terminal"} 1"#,
            "bank_connections 1",
            "bank_authority_expiry_seconds{} 86400",
            r#"bank_tls_reloads_total{outcome="refused"} 1"#,
            r#"bank_sprays_noticed_total{where="bank"} 1"#,
            "bank_commits_total 3",
            "bank_committed_calls_total 4000",
        ] {
            assert!(text.contains(line), "{line} not in {text}");
        }
        assert!(!text.contains("\nbank_revocation_list_expiry_seconds"));
    }
}
