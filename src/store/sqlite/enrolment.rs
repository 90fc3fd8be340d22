//! Invitations and issued certificates.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::sums;
use super::writer::Books;
use crate::domain::{TerminalName, Timestamp};
use crate::store::enrolment::{
    CERTIFICATES_PER_TERMINAL_MAX, CodeHash, ENDED_KEPT_MS, INVITATIONS_MAX, Invitation,
    IssuedRecord, NewCertificate, REFETCH_MS, Recorded, Warrant,
};
use crate::store::{Act, Context, Done, SWEEP_ROWS_MAX, StoreError};

/// What a warrant leads to.
enum Standing {
    Void,
    /// A new certificate may be made for this terminal.
    Good(TerminalName),
    /// The warrant was used for this very key: this is what it gave.
    Given(TerminalName, Vec<u8>),
}

/// For whom the warrant lets a certificate be made for this key.
pub(super) fn warranted(
    connection: &Connection,
    warrant: &Warrant,
    key: &[u8; 32],
    now: Timestamp,
) -> Result<Option<TerminalName>, StoreError> {
    Ok(match standing(connection, warrant, key, now)? {
        Standing::Void => None,
        Standing::Good(terminal) | Standing::Given(terminal, _) => Some(terminal),
    })
}

fn standing(
    connection: &Connection,
    warrant: &Warrant,
    key: &[u8; 32],
    now: Timestamp,
) -> Result<Standing, StoreError> {
    let found = match warrant {
        Warrant::Code(code) => by_code(connection, code, key, now)?,
        Warrant::Certificate(serial) => by_certificate(connection, serial, key, now)?,
    };
    Ok(match found {
        Some(Standing::Good(terminal) | Standing::Given(terminal, _))
            if is_disabled(connection, &terminal)? =>
        {
            Standing::Void
        }
        found => found.unwrap_or(Standing::Void),
    })
}

fn by_code(
    connection: &Connection,
    code: &CodeHash,
    key: &[u8; 32],
    now: Timestamp,
) -> Result<Option<Standing>, StoreError> {
    let open = connection
        .prepare_cached(
            "SELECT terminal FROM invitation \
             WHERE code = ?1 AND used_at IS NULL AND expires_at > ?2",
        )?
        .query_row(params![code.0, now.unix_ms()], terminal_of)
        .optional()?;
    if let Some(terminal) = open {
        return Ok(Some(Standing::Good(terminal)));
    }
    let given = |row: &Row<'_>| Ok(Standing::Given(terminal_of(row)?, row.get(1)?));
    Ok(connection
        .prepare_cached(
            "SELECT invitation.terminal, der FROM invitation JOIN certificate USING (serial) \
             WHERE code = ?1 AND key = ?2 AND used_at > ?3 AND revoked_at IS NULL AND ends_at > ?4",
        )?
        .query_row(
            params![
                code.0,
                key,
                now.minus_ms(REFETCH_MS).unix_ms(),
                now.unix_ms()
            ],
            given,
        )
        .optional()?)
}

/// Together with what that terminal got for this key since: the newest, as long as it is good. That
/// is no shorter than the one shown, because a terminal tries until its own ends.
fn by_certificate(
    connection: &Connection,
    serial: &str,
    key: &[u8; 32],
    now: Timestamp,
) -> Result<Option<Standing>, StoreError> {
    let standing = |row: &Row<'_>| {
        let (terminal, successor): (_, Option<Vec<u8>>) = (terminal_of(row)?, row.get(1)?);
        Ok(match successor {
            Some(der) => Standing::Given(terminal, der),
            None => Standing::Good(terminal),
        })
    };
    Ok(connection
        .prepare_cached(
            "SELECT shown.terminal, \
             (SELECT later.der FROM certificate AS later \
              WHERE later.terminal = shown.terminal AND later.ends_at > ?2 AND later.key = ?3 \
              AND later.revoked_at IS NULL AND later.serial <> shown.serial \
              AND later.issued_at >= shown.issued_at \
              ORDER BY later.issued_at DESC, later.serial DESC LIMIT 1) \
             FROM certificate AS shown \
             WHERE shown.serial = ?1 AND shown.revoked_at IS NULL AND shown.ends_at > ?2",
        )?
        .query_row(params![serial, now.unix_ms(), key], standing)
        .optional()?)
}

fn terminal_of(row: &Row<'_>) -> rusqlite::Result<TerminalName> {
    let text: String = row.get(0)?;
    text.parse().map_err(|_| rusqlite::Error::InvalidQuery)
}

fn is_disabled(connection: &Connection, terminal: &TerminalName) -> Result<bool, StoreError> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM terminal WHERE name = ?1 AND disabled = 1")?
        .exists([terminal.as_str()])?)
}

impl Books<'_> {
    /// Puts a certificate on record, once for each code, and for each key that a certificate renews
    /// with.
    pub(super) fn record_certificate(
        &mut self,
        warrant: &Warrant,
        new: &NewCertificate,
        context: &Context,
    ) -> Result<Recorded, StoreError> {
        let now = context.now;
        match standing(self.connection, warrant, &new.key, now)? {
            Standing::Given(_, der) => return Ok(Recorded::Certificate(der)),
            Standing::Good(terminal) if terminal == new.terminal => {}
            Standing::Good(_) | Standing::Void => return Ok(Recorded::Refused),
        }
        self.forget_enrolments(now)?;
        if let (Warrant::Certificate(_), Some(wait_ms)) = (warrant, self.full_for(new, now)?) {
            return Ok(Recorded::TooMany(wait_ms));
        }
        self.connection
            .prepare_cached(
                "INSERT INTO certificate (serial, terminal, key, issued_at, ends_at, der) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                new.serial,
                new.terminal.as_str(),
                new.key,
                now.unix_ms(),
                new.ends_at.unix_ms(),
                new.der
            ])?;
        sums::renew(self.connection, sums::CERTIFICATE, &new.serial)?;
        if let Warrant::Code(code) = warrant {
            self.connection
                .prepare_cached("UPDATE invitation SET used_at = ?2, serial = ?3 WHERE code = ?1")?
                .execute(params![code.0, now.unix_ms(), new.serial])?;
            sums::renew(self.connection, sums::INVITATION, new.terminal.as_str())?;
        }
        self.append(&new.note(warrant, context))?;
        Ok(Recorded::Certificate(new.der.clone()))
    }

    /// How long the terminal has to wait where it has as many certificates as one may have.
    fn full_for(&self, new: &NewCertificate, now: Timestamp) -> Result<Option<u64>, StoreError> {
        let (count, first_end): (u64, Option<i64>) = self
            .connection
            .prepare_cached(
                "SELECT count(*), min(ends_at) FROM certificate \
                 WHERE terminal = ?1 AND ends_at > ?2 AND revoked_at IS NULL",
            )?
            .query_row(params![new.terminal.as_str(), now.unix_ms()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let end = first_end.filter(|_| count >= CERTIFICATES_PER_TERMINAL_MAX);
        Ok(end.map(|end| now.ms_until(Timestamp::from_unix_ms(end))))
    }

    /// Forgets codes and certificates past their time, a bounded number at once.
    fn forget_enrolments(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "DELETE FROM invitation WHERE (used_at IS NULL AND expires_at <= ?1) \
                 OR used_at <= ?2",
            )?
            .execute(params![now.unix_ms(), now.minus_ms(REFETCH_MS).unix_ms()])?;
        self.connection
            .prepare_cached(
                "DELETE FROM certificate WHERE serial IN (SELECT serial FROM certificate \
                 WHERE ends_at <= ?1 AND NOT EXISTS \
                 (SELECT 1 FROM invitation WHERE invitation.serial = certificate.serial) LIMIT ?2)",
            )?
            .execute(params![
                now.minus_ms(ENDED_KEPT_MS).unix_ms(),
                i64::try_from(SWEEP_ROWS_MAX).unwrap_or(i64::MAX)
            ])?;
        Ok(())
    }

    /// What staff do about codes and certificates.
    pub(super) fn certificate_act(
        &mut self,
        act: &Act,
        now: Timestamp,
    ) -> Result<Done, StoreError> {
        match act {
            Act::Invite {
                name,
                code,
                expires_at,
            } => self.invite(name, code, *expires_at, now),
            Act::Uninvite(name) => self.uninvite(name, now),
            Act::UninviteAll => self.uninvite_all(),
            Act::RevokeCertificates(name) => self.revoke_certificates(name, now),
            _ => Err(StoreError::Unsupported),
        }
    }

    fn invite(
        &mut self,
        terminal: &TerminalName,
        code: &CodeHash,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<Done, StoreError> {
        let refused = |why: &str| Ok(Done::Refused(why.to_owned()));
        if terminal.is_anonymous() {
            return refused("terminals without a certificate are called that");
        }
        if is_disabled(self.connection, terminal)? {
            return refused("the terminal is disabled");
        }
        self.forget_enrolments(now)?;
        let taken = self
            .connection
            .prepare_cached("SELECT 1 FROM invitation WHERE code = ?1 AND terminal <> ?2")?
            .exists(params![code.0, terminal.as_str()])?;
        if taken {
            return refused("another terminal has that code");
        }
        self.connection
            .prepare_cached("DELETE FROM invitation WHERE terminal = ?1")?
            .execute([terminal.as_str()])?;
        let open: u64 = self
            .connection
            .prepare_cached("SELECT count(*) FROM invitation WHERE used_at IS NULL")?
            .query_row([], |row| row.get(0))?;
        if open >= INVITATIONS_MAX {
            return refused("too many codes are open");
        }
        self.connection
            .prepare_cached(
                "INSERT INTO invitation (terminal, code, made_at, expires_at) \
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                terminal.as_str(),
                code.0,
                now.unix_ms(),
                expires_at.unix_ms()
            ])?;
        sums::renew(self.connection, sums::INVITATION, terminal.as_str())?;
        Ok(Done::Yes)
    }

    fn uninvite(&mut self, terminal: &TerminalName, now: Timestamp) -> Result<Done, StoreError> {
        let gone = self
            .connection
            .prepare_cached(
                "DELETE FROM invitation WHERE terminal = ?1 AND used_at IS NULL AND expires_at > ?2",
            )?
            .execute(params![terminal.as_str(), now.unix_ms()])?;
        Ok(if gone == 0 {
            Done::Refused("there is no open code for that terminal".to_owned())
        } else {
            Done::Yes
        })
    }

    fn uninvite_all(&mut self) -> Result<Done, StoreError> {
        self.connection
            .prepare_cached("DELETE FROM invitation")?
            .execute([])?;
        Ok(Done::Yes)
    }

    fn revoke_certificates(
        &mut self,
        terminal: &TerminalName,
        now: Timestamp,
    ) -> Result<Done, StoreError> {
        self.connection
            .prepare_cached("DELETE FROM invitation WHERE terminal = ?1 AND used_at IS NULL")?
            .execute([terminal.as_str()])?;
        self.connection
            .prepare_cached(
                "UPDATE certificate SET revoked_at = ?2 \
                 WHERE terminal = ?1 AND ends_at > ?2 AND revoked_at IS NULL",
            )?
            .execute(params![terminal.as_str(), now.unix_ms()])?;
        let condition = "terminal = ?2 AND ends_at > ?1";
        let revoked = records(
            self.connection,
            condition,
            params![now.unix_ms(), terminal.as_str()],
        )?;
        if let Done::Certificates(revoked) = &revoked {
            for one in revoked {
                sums::renew(self.connection, sums::CERTIFICATE, &one.serial)?;
            }
        }
        Ok(revoked)
    }
}

/// Codes that are open, by their terminals' names.
pub(super) fn invitations(connection: &Connection, now: Timestamp) -> Result<Done, StoreError> {
    let mut statement = connection.prepare(
        "SELECT terminal, made_at, expires_at FROM invitation \
         WHERE used_at IS NULL AND expires_at > ?1 ORDER BY terminal",
    )?;
    let rows = statement.query_map([now.unix_ms()], |row| {
        Ok(Invitation {
            terminal: terminal_of(row)?,
            made_at: Timestamp::from_unix_ms(row.get(1)?),
            expires_at: Timestamp::from_unix_ms(row.get(2)?),
        })
    })?;
    Ok(Done::Invitations(rows.collect::<Result<_, _>>()?))
}

/// Revoked certificates that have not ended.
pub(super) fn revoked(connection: &Connection, now: Timestamp) -> Result<Done, StoreError> {
    let condition = "revoked_at IS NOT NULL AND ends_at > ?1";
    records(connection, condition, params![now.unix_ms()])
}

fn records(
    connection: &Connection,
    condition: &str,
    parameters: impl rusqlite::Params,
) -> Result<Done, StoreError> {
    let sql = format!(
        "SELECT serial, ends_at, revoked_at FROM certificate WHERE {condition} ORDER BY serial"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(parameters, |row| {
        let revoked_at: Option<i64> = row.get(2)?;
        Ok(IssuedRecord {
            serial: row.get(0)?,
            ends_at: Timestamp::from_unix_ms(row.get(1)?),
            revoked_at: revoked_at.map(Timestamp::from_unix_ms),
        })
    })?;
    Ok(Done::Certificates(rows.collect::<Result<_, _>>()?))
}
