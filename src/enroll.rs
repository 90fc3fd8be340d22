//! Certificates for terminals that enrol themselves: by what right, for which key, for how long;
//! and how those that are revoked come on the issuing authority's list.
//!
//! A certificate is signed first and put on record then, in the transaction that uses up its code.
//! What leaves is what that transaction says: a certificate that lost a race never leaves, and
//! nothing that left is not on record.

use std::path::Path;
use std::time::Duration;

use time::OffsetDateTime;

use crate::bank::Bank;
use crate::domain::{TerminalName, Timestamp};
use crate::pki::{IssuingAuthority, PkiError, Revoked, Serial, SigningRequest};
use crate::store::{Event, IssuedRecord, NewCertificate, Note, Recorded, StoreError, Warrant};

/// Why no certificate came out.
#[derive(Debug)]
pub enum NotIssued {
    /// The warrant is void: a code that is wrong, used or over, a certificate that is revoked or
    /// not on record, a terminal that is disabled. Which of them, nobody is told.
    Void,
    /// The terminal has many already; come again after so many milliseconds.
    TooMany(u64),
    /// The store cannot tell now.
    Storage(StoreError),
    /// A fault of ours.
    Signing(PkiError),
}

/// Who signs, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Issuing<'a> {
    /// The issuing authority.
    pub authority: &'a IssuingAuthority,
    /// How long a certificate holds.
    pub lifetime: Duration,
}

impl Issuing<'_> {
    /// The certificate, DER, that `warrant` gives to the key of `request`, which came over this
    /// connection, and where that showed a certificate, from this terminal.
    ///
    /// # Errors
    /// [`NotIssued`].
    pub async fn certificate(
        &self,
        bank: &Bank,
        warrant: Warrant,
        request: &SigningRequest,
        (connection, terminal): (u64, Option<&TerminalName>),
    ) -> Result<Vec<u8>, NotIssued> {
        let note = |event| Note::new(event, bank.surroundings().now()).outcome("refused");
        let refused = match &warrant {
            Warrant::Code(_) => note(Event::CertificateEnrolled),
            // Of the certificate that was shown; the one that was not issued has none.
            Warrant::Certificate(serial) => {
                note(Event::CertificateRenewed).detail(format!("serial {serial}"))
            }
        };
        let issued = self.issue(bank, warrant, request, connection).await;
        if let Err(NotIssued::Void) = &issued {
            let connection = Some(connection);
            bank.note_bounded(match terminal.cloned() {
                // So it counts by its terminal, and strangers with codes leave it room.
                Some(terminal) => refused.by_terminal(terminal, connection),
                None => Note {
                    connection,
                    ..refused
                },
            })
            .await;
        }
        issued
    }

    async fn issue(
        &self,
        bank: &Bank,
        warrant: Warrant,
        request: &SigningRequest,
        connection: u64,
    ) -> Result<Vec<u8>, NotIssued> {
        let key = request.key_sha256();
        let terminal = bank
            .warranted(warrant.clone(), key)
            .await
            .map_err(NotIssued::Storage)?
            .ok_or(NotIssued::Void)?;
        let now = moment(bank.surroundings().now()).map_err(NotIssued::Signing)?;
        let signed = self
            .authority
            .certify(&terminal, request, now, self.lifetime)
            .map_err(NotIssued::Signing)?;
        let certificate = NewCertificate {
            serial: signed.serial.to_string(),
            terminal: terminal.clone(),
            key,
            ends_at: Timestamp::from_unix_ms(signed.not_after.saturating_mul(1_000)),
            der: signed.der,
        };
        let serial = certificate.serial.clone();
        match bank
            .record_certificate(warrant, certificate, connection)
            .await
        {
            Ok(Recorded::Certificate(der)) => {
                tracing::info!(%terminal, serial, "certificate issued");
                Ok(der)
            }
            Ok(Recorded::Refused) => Err(NotIssued::Void),
            Ok(Recorded::TooMany(wait_ms)) => Err(NotIssued::TooMany(wait_ms)),
            Err(error) => Err(NotIssued::Storage(error)),
        }
    }
}

/// Sees to it that what is revoked by these records is on the issuing authority's list, and that the
/// list is not due soon. Tells whether it was written anew. Waits for the disk.
///
/// # Errors
/// [`PkiError`], naming the file and the mend.
pub fn publish(
    authority: &IssuingAuthority,
    list: &Path,
    records: &[IssuedRecord],
    now: Timestamp,
) -> Result<bool, PkiError> {
    let revoked = records.iter().filter_map(|record| {
        Some(Revoked {
            serial: Serial::from_hexadecimal(&record.serial)?,
            at: record.revoked_at?.unix_ms().div_euclid(1_000),
        })
    });
    authority.publish(list, &revoked.collect::<Vec<_>>(), moment(now)?)
}

fn moment(now: Timestamp) -> Result<OffsetDateTime, PkiError> {
    OffsetDateTime::from_unix_timestamp(now.unix_ms().div_euclid(1_000))
        .map_err(|_| PkiError::OutOfTime)
}
