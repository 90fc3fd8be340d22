//! The detector that all connections of a server share: it waits where the rule says so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Admission, Detector, Noticed, Verdict, ms};
use crate::access::throttle::{Requester, RetryAfter};
use crate::domain::AccountNumber;
use crate::limits;
use crate::surroundings::Surroundings;

/// The detector of a server, shared by its connections. What it knows is gone with the process.
pub struct SprayWatch {
    detector: Mutex<Detector>,
    judged: Notify,
    surroundings: Arc<dyn Surroundings>,
}

impl SprayWatch {
    /// Knows nothing yet; see [`Detector::new`].
    #[must_use]
    pub fn new(spray_tries: u32, surroundings: Arc<dyn Surroundings>) -> Self {
        Self {
            detector: Mutex::new(Detector::new(spray_tries)),
            judged: Notify::new(),
            surroundings,
        }
    }

    /// See [`Detector::set_tries`].
    pub fn set_tries(&self, spray_tries: u32) {
        self.detector().set_tries(spray_tries);
        self.judged.notify_waiters();
    }

    /// See [`Detector::check`].
    ///
    /// # Errors
    /// [`RetryAfter`] where the source is slowed.
    pub fn check(&self, source: &Requester) -> Result<(), RetryAfter> {
        self.detector().check(source, self.now_ms())
    }

    /// Lets a log-in upon `number` through, once so few others of its source are open that all of
    /// them may fail before a spray is noticed.
    ///
    /// # Errors
    /// [`RetryAfter`] where the source is slowed, or was so busy that the wait became too long.
    pub async fn admit(
        &self,
        source: &Requester,
        number: AccountNumber,
    ) -> Result<OpenLogin<'_>, RetryAfter> {
        let admitted = async {
            loop {
                // Asked for before the look, so that no outcome between the two is missed.
                let mut judged = std::pin::pin!(self.judged.notified());
                judged.as_mut().enable();
                let admission = self.detector().admit(source, self.now_ms());
                match admission {
                    Admission::Go => return Ok(()),
                    Admission::Slowed(wait) => return Err(wait),
                    Admission::Wait => judged.await,
                }
            }
        };
        match tokio::time::timeout(limits::SPRAY_WAIT_MAX, admitted).await {
            Ok(admitted) => admitted?,
            Err(_) => return Err(RetryAfter(ms(limits::SPRAY_BUSY_RETRY))),
        }
        Ok(OpenLogin {
            watch: self,
            source: source.clone(),
            number,
            verdict: Some(Verdict::Unknown),
        })
    }

    fn detector(&self) -> MutexGuard<'_, Detector> {
        self.detector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        ms(self.surroundings.elapsed())
    }
}

/// A log-in that was let through; dropping it without a verdict counts as none.
pub struct OpenLogin<'a> {
    watch: &'a SprayWatch,
    source: Requester,
    number: AccountNumber,
    /// What is told where it is dropped; `None` once it was told.
    verdict: Option<Verdict>,
}

impl OpenLogin<'_> {
    /// Tells the outcome; where a spray is noticed by it.
    pub fn judge(mut self, verdict: Verdict) -> Option<Noticed> {
        self.verdict = Some(verdict);
        self.tell()
    }

    fn tell(&mut self) -> Option<Noticed> {
        let verdict = self.verdict.take()?;
        let now_ms = self.watch.now_ms();
        let noticed = self
            .watch
            .detector()
            .judge(&self.source, self.number, verdict, now_ms);
        self.watch.judged.notify_waiters();
        noticed
    }
}

impl Drop for OpenLogin<'_> {
    fn drop(&mut self) {
        let _ = self.tell();
    }
}
