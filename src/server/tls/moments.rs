//! At which moment certificates are judged: by the bank's time, and where its clock is guarded, what only
//! begins to hold by the later of the two clocks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;

use super::TlsError;
use crate::domain::Timestamp;
use crate::pki;
use crate::surroundings::Surroundings;

/// The bank's time, for rustls.
#[derive(Debug)]
pub(super) struct BankTime(pub(super) Arc<dyn Surroundings>);

impl TimeProvider for BankTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now()))
    }
}

pub(super) fn unix_time(moment: Timestamp) -> UnixTime {
    let seconds = u64::try_from(moment.unix_ms().div_euclid(1_000)).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// The moment to judge a chain at: `now`, or where the clock is guarded and a certificate begins later,
/// that beginning, if it may have come. Ends are then judged a little early: never late.
pub(super) fn judged_at<'a>(
    clock: &dyn Surroundings,
    chain: impl Iterator<Item = &'a CertificateDer<'a>>,
    now: UnixTime,
) -> UnixTime {
    let latest = unix_time(clock.latest());
    if latest <= now {
        return now;
    }
    let begins = chain.filter_map(|one| pki::validity(one).ok());
    let begins = begins.map(|(begins, _)| begins).max().unwrap_or(0);
    let begins = Timestamp::from_unix_ms(begins.saturating_mul(1_000));
    unix_time(begins).clamp(now, latest)
}

/// The last second of the first certificate, which must hold now.
pub(super) fn check_dates(
    path: &Path,
    chain: &[CertificateDer<'_>],
    clock: &dyn Surroundings,
) -> Result<i64, TlsError> {
    let seconds = |moment: Timestamp| moment.unix_ms().div_euclid(1_000);
    // The reader gives one at least.
    let own = chain.first().map_or(&[][..], |own| own);
    let validity = pki::validity(own);
    let (begins, ends) = validity.map_err(|reason| pki::damaged(path, 1, reason))?;
    let not_now = |why| TlsError::NotNow {
        path: path.to_owned(),
        why,
    };
    if ends < seconds(clock.now()) {
        return Err(not_now("has ended"));
    }
    if begins > seconds(clock.latest()) {
        return Err(not_now("is not valid yet"));
    }
    Ok(ends)
}
