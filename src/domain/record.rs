//! Records of the audit log, chained by hash.

use aws_lc_rs::digest;

use super::Timestamp;
use super::entry::ChainHash;

/// What happened, as the audit log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number: 1 for the first, each one more than the one before it.
    pub number: i64,
    /// When.
    pub at: Timestamp,
    /// What, as `login`.
    pub event: String,
    /// What became of it, as `done`.
    pub outcome: String,
    /// Whose account it was about; masked, as `zz-***99`, in records of older versions.
    pub account: Option<String>,
    /// At which terminal, or about which.
    pub terminal: Option<String>,
    /// The connection's number in the log.
    pub connection: Option<i64>,
    /// Who did it: `terminal NAME`, `uid N`, `server`.
    pub actor: String,
    /// What else is to be known, in words; may be empty.
    pub detail: String,
}

impl AuditRecord {
    /// SHA-256 over the hash of the record before and every field: each text behind its length,
    /// each field that may be missing behind a byte that says so, so that no two records share
    /// bytes.
    #[must_use]
    pub fn hash(&self, previous: &ChainHash) -> ChainHash {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"atm-bank/audit/1\0");
        context.update(previous);
        context.update(&self.number.to_be_bytes());
        context.update(&self.at.unix_ms().to_be_bytes());
        for text in [&self.event, &self.outcome, &self.actor, &self.detail] {
            update_text(&mut context, text);
        }
        for text in [&self.account, &self.terminal] {
            context.update(&[u8::from(text.is_some())]);
            update_text(&mut context, text.as_deref().unwrap_or_default());
        }
        context.update(&[u8::from(self.connection.is_some())]);
        context.update(&self.connection.unwrap_or(0).to_be_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }
}

fn update_text(context: &mut digest::Context, text: &str) {
    context.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
    context.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::entry::CHAIN_START;

    fn record() -> AuditRecord {
        AuditRecord {
            number: 7,
            at: Timestamp::from_unix_ms(9),
            event: "login".to_owned(),
            outcome: "done".to_owned(),
            account: Some("zz-***99".to_owned()),
            terminal: Some("t-1".to_owned()),
            connection: Some(3),
            actor: "terminal t-1".to_owned(),
            detail: String::new(),
        }
    }

    /// Made by a program of its own from what the documentation says, so that others can check it.
    #[test]
    fn the_hash_is_the_one_that_is_documented() {
        let hash = record().hash(&CHAIN_START);
        let documented = "d63d10ddd6b722815da327f0c4b07a9790d85bb3542fc1a5ee09bf42f0bdc7a6";
        assert_eq!(data_encoding::HEXLOWER.encode(&hash), documented);
    }

    type Change = fn(&mut AuditRecord);

    #[test]
    fn changing_any_field_of_a_record_changes_its_hash() {
        let changes: [Change; 15] = [
            |record| record.number = 8,
            |record| record.at = Timestamp::from_unix_ms(10),
            |record| record.event = "lock".to_owned(),
            |record| record.outcome = "in_use".to_owned(),
            |record| record.account = None,
            |record| record.account = Some("zz-***98".to_owned()),
            |record| record.terminal = None,
            |record| record.terminal = Some(String::new()),
            |record| record.connection = None,
            |record| record.connection = Some(0),
            |record| record.actor = "server".to_owned(),
            |record| record.detail = "x".to_owned(),
            // The same bytes, otherwise parted.
            |record| (record.event, record.outcome) = ("logi".to_owned(), "ndone".to_owned()),
            |record| (record.actor, record.detail) = ("terminal t-".to_owned(), "1".to_owned()),
            |record| (record.account, record.terminal) = (None, Some("zz-***99t-1".to_owned())),
        ];
        let mut hashes = vec![record().hash(&CHAIN_START), record().hash(&[1; 32])];
        for change in changes {
            let mut changed = record();
            change(&mut changed);
            hashes.push(changed.hash(&CHAIN_START));
        }
        let different: std::collections::BTreeSet<_> = hashes.iter().collect();
        assert_eq!(different.len(), hashes.len());
    }
}
