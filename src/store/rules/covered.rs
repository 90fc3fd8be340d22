//! Covered rows: rows with a MAC, which tells whether the bank wrote them.
//!
//! The MAC also covers the record's number and revision. So a hash that was moved to another account does
//! not pass, and neither does an older row.

use aws_lc_rs::digest;

use crate::access::pepper::PepperId;
use crate::access::row_mac::Keyring;
use crate::domain::entry::ChainHash;
use crate::store::{LogHead, StoreError};

/// A covered row, by its number in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::store) enum Covered {
    Account(i64),
    Terminal(i64),
}

impl Covered {
    pub(in crate::store) fn id(self) -> i64 {
        match self {
            Self::Account(id) | Self::Terminal(id) => id,
        }
    }
}

/// What the store has of a covered row.
#[derive(Debug)]
pub(in crate::store) struct CoveredRow {
    pub(in crate::store) covered: Covered,
    /// The bytes that the MAC covers. `None` if there is no such row.
    pub(in crate::store) bytes: Option<Vec<u8>>,
    pub(in crate::store) newest: Option<RowRecord>,
    /// Whether a terminal's row says that it is disabled.
    pub(in crate::store) is_disabled: bool,
}

impl CoveredRow {
    /// Whether it is as the bank wrote it last.
    pub(in crate::store) fn is_as_written(&self, keyring: &Keyring) -> bool {
        match (&self.bytes, &self.newest, self.covered) {
            (None, ..) | (Some(_), None, Covered::Account(_)) => false,
            (Some(bytes), Some(record), _) => record.is_of(keyring, bytes.clone()),
            // An order made the row with the terminal's first money. An order computes no MAC.
            (Some(_), None, Covered::Terminal(_)) => !self.is_disabled,
        }
    }
}

/// A record of a covered row.
#[derive(Debug)]
pub(in crate::store) struct RowRecord {
    pub(in crate::store) number: i64,
    pub(in crate::store) covered: Covered,
    pub(in crate::store) revision: i64,
    pub(in crate::store) pepper: String,
    pub(in crate::store) mac: Vec<u8>,
}

impl RowRecord {
    /// The next record of a row, covered with that pepper.
    ///
    /// # Errors
    /// [`StoreError`] where there is no such row, or no such pepper.
    pub(in crate::store) fn next(
        row: CoveredRow,
        last: LogHead,
        (keyring, pepper): (&Keyring, &PepperId),
    ) -> Result<Self, StoreError> {
        let gone = || StoreError::Broken("a row that is to be covered is not there".to_owned());
        let no_pepper = || StoreError::Unavailable("there is no pepper to cover a row".to_owned());
        let revision = row.newest.map_or(0, |record| record.revision);
        let (number, revision) = (last.count.saturating_add(1), revision.saturating_add(1));
        let bytes = Self::with_place(row.bytes.ok_or_else(gone)?, number, revision);
        let mac = keyring.mac(pepper, &bytes).ok_or_else(no_pepper)?;
        Ok(Self {
            number,
            covered: row.covered,
            revision,
            pepper: pepper.as_str().to_owned(),
            mac: mac.to_vec(),
        })
    }

    fn with_place(mut row: Vec<u8>, number: i64, revision: i64) -> Vec<u8> {
        row.extend(number.to_be_bytes());
        row.extend(revision.to_be_bytes());
        row
    }

    /// Whether `row` is what this record was made of.
    fn is_of(&self, keyring: &Keyring, row: Vec<u8>) -> bool {
        let row = Self::with_place(row, self.number, self.revision);
        let pepper = PepperId::parse(&self.pepper);
        pepper.is_some_and(|pepper| keyring.is_right(&pepper, &row, &self.mac))
    }

    /// SHA-256 over the hash of the record before and every field.
    pub(in crate::store) fn hash(&self, previous: &ChainHash) -> ChainHash {
        let (kind, id) = match self.covered {
            Covered::Account(id) => (0, id),
            Covered::Terminal(id) => (1, id),
        };
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"atm-bank/row-record/1\0");
        context.update(previous);
        context.update(&self.number.to_be_bytes());
        context.update(&[kind]);
        context.update(&id.to_be_bytes());
        context.update(&self.revision.to_be_bytes());
        for part in [self.pepper.as_bytes(), &self.mac] {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }
}
