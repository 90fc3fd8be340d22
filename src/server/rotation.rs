//! Certificates, authorities and revocations change while the server serves: at a reload, by a
//! change on disk, and because their time runs out. No connection is dropped that is still admitted.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::expiry::{Expiring, Expiry, Reminders, words};
use super::tls::{TlsError, Trust};
use super::watch::{Stamp, Watch, stamps};
use super::{Live, RevokeError, Server};
use crate::config::{Config, TlsConfig};
use crate::domain::{TerminalName, Timestamp};
use crate::enroll;
use crate::limits;
use crate::store::{Event, IssuedRecord, Note};

/// What is known of the files, and what has been said of ends.
pub(super) struct Rotation {
    watch: Watch,
    own: Reminders<Expiry>,
    /// When ends were last compared with the days of warning.
    compared: Option<Duration>,
}

impl Rotation {
    pub(super) fn new(in_force: Vec<Stamp>) -> Self {
        Self {
            watch: Watch::new(in_force),
            own: Reminders::new(limits::EXPIRIES_MAX),
            compared: None,
        }
    }
}

impl Server {
    /// Takes certificates, revocations and limits anew; open connections whose certificate is no
    /// longer admitted end at once. Where a file is bad, everything stays as it was.
    ///
    /// # Errors
    /// [`TlsError`], naming the file and the mend.
    pub fn reload(&self, config: Config) -> Result<(), TlsError> {
        // Held to the end: of two loads at the same time the later one stays.
        let mut rotation = self.rotation();
        let looked_like = stamps(&config.tls);
        let loaded = self.load_trust(&config.tls);
        self.metrics.count_tls_reload(loaded.is_ok());
        let refused = loaded.as_ref().err().map(ToString::to_string);
        rotation.watch.loaded_by_hand(looked_like, refused);
        let trust = loaded?;
        self.bank.set_terms(config.terms());
        self.sprays.set_tries(config.limits.spray_tries);
        self.live
            .store(Arc::new(Live::new(config, self.bank.surroundings())));
        let expelled = self.put_in_force(trust, &mut rotation);
        tracing::info!(expelled, "reloaded certificates, revocations and limits");
        self.note_reload("done", String::new());
        Ok(())
    }

    /// Puts certificates of a terminal that enrolled itself on the issuing authority's list, ends the
    /// terminal's connections, and takes that list. Waits for the disk.
    ///
    /// # Errors
    /// Where the list cannot be written, or not everything can be read again. The list may be written
    /// then, and it is in force once all files can be read.
    pub fn revoke(
        &self,
        terminal: &TerminalName,
        revoked: &[IssuedRecord],
    ) -> Result<(), RevokeError> {
        let mut rotation = self.rotation();
        let tls = self.live.load().config.tls.clone();
        let known = self.trust.load_full();
        let (Some(enrolment), Some(files)) = (&known.enrolment, &tls.issuing) else {
            return Err(RevokeError::Off);
        };
        enroll::publish(&enrolment.issuing, &files.crl, revoked, self.now())?;
        // They go whatever becomes of the other files; who comes back before the list is in force goes
        // with it.
        let expelled = self.registry.expel(terminal);
        let trust = self.load_trust(&tls)?;
        rotation.watch.loaded_by_hand(trust.stamps.clone(), None);
        self.put_in_force(trust, &mut rotation);
        tracing::info!(%terminal, certificates = revoked.len(), expelled, "terminal revoked");
        Ok(())
    }

    /// Looks at the files and at what ends, again and again, until the server goes down.
    pub async fn keep_watching(self: &Arc<Self>) {
        loop {
            let server = Arc::clone(self);
            // Files may be slow, and verifying a large list takes its time.
            if tokio::task::spawn_blocking(move || server.look())
                .await
                .is_err()
            {
                tracing::error!("looking at the certificates failed");
            }
            tokio::select! {
                biased;
                () = self.draining.cancelled() => return,
                () = tokio::time::sleep(limits::TLS_WATCH_INTERVAL) => {}
            }
        }
    }

    /// One look: takes files that have changed, puts out whose certificate has ended, warns of ends.
    fn look(&self) {
        self.lines.sum_up(false);
        self.take_changes();
        let now_seconds = seconds(self.now());
        let expelled = self.registry.expel_ended(now_seconds);
        if expelled > 0 {
            tracing::info!(
                expelled,
                "connections whose certificate has ended were closed"
            );
        }
        self.show_expiries();
        for warning in self.due_warnings() {
            tracing::warn!("{warning}");
        }
    }

    fn take_changes(&self) {
        let mut rotation = self.rotation();
        let live = self.live.load_full();
        if !rotation.watch.look(stamps(&live.config.tls)) {
            return;
        }
        match self.load_trust(&live.config.tls) {
            Ok(trust) => {
                rotation.watch.took();
                self.metrics.count_tls_reload(true);
                let expelled = self.put_in_force(trust, &mut rotation);
                tracing::info!(expelled, "took changed certificates and revocations");
                self.note_reload("done", "changed on disk".to_owned());
            }
            Err(error) => {
                let reason = error.to_string();
                if rotation.watch.refused(&reason) {
                    self.metrics.count_tls_reload(false);
                    tracing::error!(
                        reason,
                        "changed certificates or revocations refused; the old ones stay in force"
                    );
                    self.note_reload("refused", reason);
                }
            }
        }
    }

    /// What the files say, unless a list of revocations is older than the one in force: it would let
    /// in again who was revoked since.
    fn load_trust(&self, config: &TlsConfig) -> Result<Trust, TlsError> {
        let trust = Trust::load(config, self.bank.surroundings())?;
        trust.refuse_to_go_back_behind(&self.trust.load())?;
        Ok(trust)
    }

    /// Returns how many connections were put out because they are no longer admitted.
    fn put_in_force(&self, trust: Trust, rotation: &mut Rotation) -> usize {
        for notice in &trust.notices {
            tracing::warn!("{notice}");
        }
        self.trust.store(Arc::new(trust));
        self.remember_lists();
        // What is near its end is said again after each change.
        rotation.own = Reminders::new(limits::EXPIRIES_MAX);
        rotation.compared = None;
        self.show_expiries();
        let expelled = self
            .registry
            .expel_distrusted(&self.trust.load(), self.now());
        let mut connections = 0_usize;
        for (terminal, count) in expelled {
            connections = connections.saturating_add(count);
            let revoked = Note::new(Event::TerminalRevoked, self.now()).about(terminal);
            self.bank
                .note_soon(revoked.detail(format!("connections {count}")));
        }
        connections
    }

    /// Where that fails the next start knows the lists from before, and takes these, which are newer.
    pub(super) fn remember_lists(&self) {
        let kept = self
            .list_memory
            .as_ref()
            .map(|memory| memory.keep(&self.trust.load()));
        if let Some(Err(error)) = kept {
            tracing::warn!(%error, "which revocation lists are in force could not be kept for the next start");
        }
    }

    fn note_reload(&self, outcome: &'static str, detail: String) {
        let note = Note::new(Event::Reload, self.now()).outcome(outcome);
        self.bank.note_soon(note.detail(detail));
    }

    /// What ends between two moments, in words.
    #[must_use]
    pub fn ends_between(&self, now: Timestamp, then: Timestamp) -> Vec<String> {
        let (now, then) = (seconds(now), seconds(then));
        let trust = self.trust.load();
        let ending = trust.expiries.iter();
        let ending = ending.filter(|expiry| (now..then).contains(&expiry.ends));
        ending.filter_map(|expiry| expiry.warning(then)).collect()
    }

    /// What is to be said now of ends that are near: of the server's own things, and of terminals
    /// that are in. Compared once an interval.
    fn due_warnings(&self) -> Vec<String> {
        let mut rotation = self.rotation();
        let elapsed = self.bank.surroundings().elapsed();
        let is_early =
            |compared: Duration| elapsed.saturating_sub(compared) < limits::EXPIRY_LOOK_INTERVAL;
        if rotation.compared.is_some_and(is_early) {
            return Vec::new();
        }
        rotation.compared = Some(elapsed);
        let now_seconds = seconds(self.now());
        let mut warnings = Vec::new();
        for expiry in &self.trust.load().expiries {
            if rotation
                .own
                .is_due(expiry.clone(), expiry.ends, now_seconds)
            {
                warnings.extend(expiry.warning(now_seconds));
            }
        }
        let furthest = limits::EXPIRY_WARNING_DAYS.into_iter().max().unwrap_or(0);
        let by = now_seconds.saturating_add(furthest.saturating_mul(86_400));
        let ending = self.registry.ending_by(by, limits::EXPIRING_TERMINALS_MAX);
        for (terminal, ends) in ending {
            warnings.extend(self.warning_of(&terminal, ends, now_seconds));
        }
        warnings
    }

    /// Warns where the certificate of a terminal that has just come in ends soon.
    pub(super) fn warn_of_terminal(&self, terminal: &TerminalName, ends: Option<i64>) {
        let now_seconds = seconds(self.now());
        if let Some(warning) = ends.and_then(|ends| self.warning_of(terminal, ends, now_seconds)) {
            tracing::warn!("{warning}");
        }
    }

    fn warning_of(&self, terminal: &TerminalName, ends: i64, now_seconds: i64) -> Option<String> {
        let mut reminded = self.reminded.lock().unwrap_or_else(PoisonError::into_inner);
        let due = reminded.is_due(terminal.clone(), ends, now_seconds);
        due.then(|| {
            let when = words(ends, now_seconds);
            format!(
                "the certificate of {terminal} ends {when}; mend: gen-certs terminal {terminal} --force, \
                 and bring it its files"
            )
        })
    }

    /// Brings the metrics up to the present moment.
    pub(super) fn show_expiries(&self) {
        let (trust, now_seconds) = (self.trust.load(), seconds(self.now()));
        let left = |what| {
            let ends = trust.first_end(what)?;
            Some(ends.saturating_sub(now_seconds))
        };
        self.metrics
            .certificate_seconds
            .set(left(Expiring::Certificate).unwrap_or(0));
        self.metrics
            .set_trust_seconds(left(Expiring::Authority), left(Expiring::RevocationList));
    }

    fn rotation(&self) -> MutexGuard<'_, Rotation> {
        self.rotation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.bank.surroundings().now()
    }
}

fn seconds(moment: Timestamp) -> i64 {
    moment.unix_ms().div_euclid(1_000)
}

#[cfg(test)]
mod tests;
