//! The issuing authority beside the bank: its list agrees with the store at every start, and staff can
//! revoke while no server runs.

use std::sync::Arc;

use super::stop::{Stop, exit};
use crate::bank::Bank;
use crate::config::{Config, IssuingFiles};
use crate::domain::TerminalName;
use crate::enroll;
use crate::operator::Floor;
use crate::pki::IssuingAuthority;
use crate::server::tls::{Enrolment, forbidden_mode};
use crate::store::{Act, Done, IssuedRecord, Office};
use crate::surroundings::Surroundings;

/// Puts on the list what the store knows to be revoked and the list does not have, because a command
/// was cut off or the list was made anew. Tells whether the list was written.
pub(super) async fn make_good(
    config: &Config,
    enrolment: Option<&Enrolment>,
    bank: &Bank,
) -> Result<bool, Stop> {
    let (Some(enrolment), Some(files)) = (enrolment, &config.tls.issuing) else {
        return Ok(false);
    };
    let found = bank
        .office(&Office::of("start"), Act::RevokedCertificates)
        .await;
    let records = match found {
        Ok(Done::Certificates(records)) => records,
        Ok(_) => {
            let reason = "the store answered something else than was asked";
            return Err(Stop::new(exit::SOFTWARE, reason));
        }
        Err(error) => {
            let what = "the revoked certificates cannot be read";
            return Err(Stop::by_store(what, &error));
        }
    };
    let now = bank.surroundings().now();
    Ok(enroll::publish(
        &enrolment.issuing,
        &files.crl,
        &records,
        now,
    )?)
}

/// No server runs: there is nobody to put out, but a list to be written.
pub(super) struct ClosedFloor {
    files: Option<IssuingFiles>,
    clock: Arc<dyn Surroundings>,
}

impl ClosedFloor {
    pub(super) fn of(config: &Config, bank: &Bank) -> Arc<dyn Floor> {
        Arc::new(Self {
            files: config.tls.issuing.clone(),
            clock: Arc::clone(bank.surroundings()),
        })
    }
}

impl Floor for ClosedFloor {
    fn set_disabled(&self, _: &TerminalName, _: bool) {}

    fn revoke(&self, _: &TerminalName, revoked: &[IssuedRecord]) -> Result<(), String> {
        let Some(files) = &self.files else {
            return Err(crate::server::RevokeError::Off.to_string());
        };
        let now = self.clock.now();
        IssuingAuthority::load(&files.cert, &files.key, forbidden_mode(&files.key))
            .and_then(|authority| enroll::publish(&authority, &files.crl, revoked, now))
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    fn is_open(&self) -> bool {
        false
    }

    fn serves_others_than_this_machine(&self) -> bool {
        false
    }
}
