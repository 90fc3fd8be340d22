//! What can be watched: logs and metrics.
//!
//! Logs go to stderr through a bounded queue, so that a stuck reader of the log never holds a
//! customer up. Never logged: PINs, keys, whole requests or answers; account numbers only masked.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::time::UtcTime;

use crate::config::LogFormat;
use crate::wire::code::Code;

/// Lines that may wait to be written; more are dropped and counted.
const LOG_LINES_MAX: usize = 65_536;

/// Starts logging to stderr. The log is complete once the guard is dropped.
pub fn start_log(format: LogFormat, level: tracing::Level) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_LINES_MAX)
        .lossy(true)
        .finish(std::io::stderr());
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_timer(UtcTime::rfc_3339())
        .with_ansi(false)
        .with_writer(writer);
    // Fails only where a log was started before, which then goes on.
    let _ = match format {
        LogFormat::Text => log.with_target(false).try_init_quietly(),
        LogFormat::Json => log
            .json()
            .flatten_event(true)
            .with_target(false)
            .try_init_quietly(),
    };
    guard
}

trait TryInitQuietly {
    fn try_init_quietly(self) -> bool;
}

impl<N, E, F, W> TryInitQuietly for tracing_subscriber::fmt::SubscriberBuilder<N, E, F, W>
where
    Self: Into<tracing::Dispatch>,
{
    fn try_init_quietly(self) -> bool {
        tracing::dispatcher::set_global_default(self.into()).is_ok()
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

/// Counters and gauges of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
    panics: Counter,
    /// Connections that are open now.
    pub connections: Gauge<i64, AtomicI64>,
    /// Sessions that run now.
    pub sessions: Gauge<i64, AtomicI64>,
    /// Seconds until the server's certificate ends.
    pub certificate_seconds: Gauge<i64, AtomicI64>,
    /// 1 while the store can be written, 0 while its disk fails.
    pub storage_writable: Gauge<i64, AtomicI64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("bank"),
            requests: Family::default(),
            refused: Family::default(),
            panics: Counter::default(),
            connections: Gauge::default(),
            sessions: Gauge::default(),
            certificate_seconds: Gauge::default(),
            storage_writable: Gauge::default(),
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
            "panics",
            "Connections ended by a panic",
            metrics.panics.clone(),
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
        registry.register(
            "storage_writable",
            "1 while the store can be written, 0 while its disk fails",
            metrics.storage_writable.clone(),
        );
        metrics
    }
}

impl Metrics {
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

    /// Counts a connection's task that panicked.
    pub fn count_panic(&self) {
        self.panics.inc();
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
    use super::*;

    #[test]
    fn metrics_are_shown_with_their_labels() {
        let metrics = Metrics::default();
        metrics.count_request("deposit", Code::Done);
        metrics.count_refused("handshake");
        metrics.connections.inc();
        let text = metrics.encode();
        for line in [
            r#"bank_requests_total{op="deposit",code="0"} 1"#,
            r#"bank_refused_connections_total{reason="handshake"} 1"#,
            "bank_connections 1",
        ] {
            assert!(text.contains(line), "{line} not in {text}");
        }
    }
}
