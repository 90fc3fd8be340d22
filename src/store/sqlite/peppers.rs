//! Which peppers the store's hashes need.
//!
//! A row `pepper:ID` of `bank` says that hashes may have been made with it, and `retired:ID` that
//! none may be any more: a hash that was on its way when its pepper was retired is not taken.

use rusqlite::{Connection, params};

use super::sums;
use super::writer::Books;
use crate::access::pepper::PepperId;
use crate::store::state::STATUS_CLOSED;
use crate::store::{Done, PepperUse, StoreError};

impl Books<'_> {
    /// Notes that a hash made with `pepper` is about to be kept.
    pub(super) fn know_pepper(&mut self, pepper: &PepperId) -> Result<(), StoreError> {
        if self.memory.peppers.contains(pepper.as_str()) {
            return Ok(());
        }
        if self.is_retired(pepper)? {
            let reason = format!("the pepper {pepper} was retired meanwhile");
            return Err(StoreError::Unavailable(reason));
        }
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO bank (name, value) VALUES ('pepper:' || ?1, 'in use')",
            )?
            .execute([pepper.as_str()])?;
        sums::renew(self.connection, sums::BANK, format!("pepper:{pepper}"))?;
        self.memory.peppers.insert(pepper.as_str().to_owned());
        Ok(())
    }

    /// Whether no hash made with `pepper` is taken any more.
    pub(super) fn is_retired(&self, pepper: &PepperId) -> Result<bool, StoreError> {
        if self.memory.peppers.contains(pepper.as_str()) {
            return Ok(false);
        }
        let mut statement = self
            .connection
            .prepare_cached("SELECT 1 FROM bank WHERE name = 'retired:' || ?1")?;
        Ok(statement.exists([pepper.as_str()])?)
    }

    pub(super) fn retire_pepper(&mut self, pepper: &PepperId) -> Result<Done, StoreError> {
        let standing: u64 = self
            .connection
            .prepare_cached(
                "SELECT count(*) FROM credential JOIN account ON account.id = credential.account \
                 WHERE credential.pepper = ?1 AND account.status <> ?2",
            )?
            .query_row(params![pepper.as_str(), STATUS_CLOSED], |row| row.get(0))?;
        if standing > 0 {
            return Ok(Done::still_needed(pepper, standing));
        }
        // Closed accounts, whose PIN nobody will give again, and terminals.
        let moved = self.move_rows(pepper, 0, true)?;
        if matches!(moved, Done::Refused(_)) {
            return Ok(moved);
        }
        self.connection
            .prepare_cached("DELETE FROM bank WHERE name = 'pepper:' || ?1")?
            .execute([pepper.as_str()])?;
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO bank (name, value) VALUES ('retired:' || ?1, 'no more')",
            )?
            .execute([pepper.as_str()])?;
        sums::renew(self.connection, sums::BANK, format!("retired:{pepper}"))?;
        self.memory.peppers.remove(pepper.as_str());
        Ok(Done::Yes)
    }
}

/// Every pepper that is needed, with how many accounts stand on it.
pub(super) fn uses(connection: &Connection) -> Result<Done, StoreError> {
    let mut statement = connection.prepare(
        "SELECT substr(bank.name, 8) AS pepper, coalesce(standing.accounts, 0) FROM bank LEFT JOIN \
         (SELECT pepper, count(*) AS accounts FROM credential JOIN account ON account.id = credential.account \
          WHERE account.status <> ?1 GROUP BY pepper) AS standing ON standing.pepper = substr(bank.name, 8) \
         WHERE bank.name LIKE 'pepper:%' ORDER BY 1",
    )?;
    let rows = statement.query_map([STATUS_CLOSED], |row| {
        let name: String = row.get(0)?;
        let pepper = PepperId::parse(&name).ok_or(rusqlite::Error::InvalidQuery)?;
        let accounts = row.get(1)?;
        Ok(PepperUse { pepper, accounts })
    })?;
    Ok(Done::Peppers(rows.collect::<Result<Vec<_>, _>>()?))
}
