//! What `verify` prints to be kept elsewhere: the ledger and the audit log in a line.

use std::fmt;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use crate::domain::entry::ChainHash;

/// A digest of all chains' heads as they stood after one entry, and where the audit log ended.
///
/// Written `ENTRY-HEX`, of the ledger alone, `ENTRY-HEX+RECORDS-HEX`, or `ENTRY-HEX+RECORDS-HEX+ROWS-HEX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// The last entry it covers; 0 for an empty ledger.
    pub entry: i64,
    /// SHA-256 over the heads in the order of the accounts' names.
    pub hash: [u8; 32],
    /// The audit log's end, where the digest covers that too.
    pub log: Option<LogHead>,
    /// Where the records of covered rows ended, where the digest covers them too.
    pub rows: Option<LogHead>,
}

/// The end of the audit log, or of the records of covered rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHead {
    /// Records; the last one's number.
    pub count: i64,
    /// The last one's hash; zeros where there is none.
    pub hash: ChainHash,
}

impl Digest {
    /// The part that is of the ledger.
    #[must_use]
    pub fn of_ledger(self) -> Self {
        Self {
            log: None,
            rows: None,
            ..self
        }
    }
}

/// The text is no digest as `verify` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a digest is an entry's number, a hyphen and 64 hex digits, and the same of the audit log and of the rows behind \
     a + each, as verify prints it"
)]
pub struct NotADigest;

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_part(f, self.entry, &self.hash)?;
        let mut parts = self.log.iter().chain(self.rows.iter());
        parts.try_for_each(|part| write!(f, "+{part}"))
    }
}

impl fmt::Display for LogHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_part(f, self.count, &self.hash)
    }
}

fn write_part(f: &mut fmt::Formatter<'_>, number: i64, hash: &[u8; 32]) -> fmt::Result {
    write!(f, "{number}-{}", HEXLOWER.encode(hash))
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let mut parts = text.split('+');
        let (entry, hash) = part(parts.next().unwrap_or_default())?;
        let mut end = || -> Result<_, NotADigest> {
            let found = parts.next().map(part).transpose()?;
            Ok(found.map(|(count, hash)| LogHead { count, hash }))
        };
        let (log, rows) = (end()?, end()?);
        if parts.next().is_some() {
            return Err(NotADigest);
        }
        Ok(Self {
            entry,
            hash,
            log,
            rows,
        })
    }
}

fn part(text: &str) -> Result<(i64, [u8; 32]), NotADigest> {
    let (number, hex) = text.split_once('-').ok_or(NotADigest)?;
    let hash = HEXLOWER_PERMISSIVE.decode(hex.as_bytes());
    let hash = hash.ok().and_then(|hash| hash.try_into().ok());
    let hash = hash.ok_or(NotADigest)?;
    let number = number
        .parse()
        .ok()
        .filter(|number| *number >= 0)
        .ok_or(NotADigest)?;
    Ok((number, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_read_as_they_were_printed_and_nothing_else_is() {
        let hex = "0a".repeat(32);
        let (two, three) = (
            format!("7-{hex}+12-{hex}"),
            format!("7-{hex}+12-{hex}+3-{hex}"),
        );
        for text in [format!("7-{hex}"), two, three] {
            let upper = text.to_uppercase().parse::<Digest>().unwrap();
            assert_eq!(upper.to_string(), text);
            assert_eq!(text.parse::<Digest>(), Ok(upper));
        }
        for text in [
            String::new(),
            hex.clone(),
            format!("-7-{hex}"),
            format!("7-{hex}+"),
            format!("7-{hex}+-1-{hex}"),
            format!("7-{hex}+12-{hex}+"),
            format!("7-{hex}+12-{hex}+12-{hex}+12-{hex}"),
            format!("7-+{}", "0a".repeat(31)),
            format!("7-{}", "+a".repeat(32)),
            format!("7-{}", "0a".repeat(33)),
            format!("7-{}a", "0a".repeat(31)),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(NotADigest), "{text}");
        }
    }
}
