//! Journal entries: double by construction, chained by hash along every account.

use aws_lc_rs::digest;

use super::Timestamp;

/// A journal entry's number: positive, growing along every account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryNumber(i64);

impl EntryNumber {
    /// The number, if it is positive.
    #[must_use]
    pub fn new(number: i64) -> Option<Self> {
        (number >= 1).then_some(Self(number))
    }

    /// The number, 1 or more.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// Why money moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// The balance an account was imported or opened with.
    Opening,
    /// Cash in at a terminal.
    Deposit,
    /// Cash out at a terminal.
    Withdrawal,
    /// Cash out that was captured after its hold had expired.
    LateWithdrawal,
    /// From one customer's account to another's.
    Transfer,
    /// By the bank's staff, with a reason.
    Adjustment,
}

impl EntryKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Opening,
        Self::Deposit,
        Self::Withdrawal,
        Self::LateWithdrawal,
        Self::Transfer,
        Self::Adjustment,
    ];

    /// The number that stands for the kind in stores and in hashes. Never changes.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Opening => 1,
            Self::Deposit => 2,
            Self::Withdrawal => 3,
            Self::LateWithdrawal => 4,
            Self::Transfer => 5,
            Self::Adjustment => 6,
        }
    }

    /// The kind of that number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| i64::from(kind.number()) == number)
    }

    /// The kind as the customer's history names it; a transfer has two sides.
    #[must_use]
    pub const fn name(self, signed_amount: i64) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Deposit => "deposit",
            Self::Withdrawal => "withdrawal",
            Self::LateWithdrawal => "late_withdrawal",
            Self::Transfer if signed_amount < 0 => "transfer_out",
            Self::Transfer => "transfer_in",
            Self::Adjustment => "adjustment",
        }
    }
}

/// SHA-256 of an account's last posting; zeros where there is none yet.
pub type ChainHash = [u8; 32];

/// The chain's start, before an account's first posting.
pub const CHAIN_START: ChainHash = [0; 32];

/// One side of an entry, as it is hashed into its account's chain.
#[derive(Debug, Clone, Copy)]
pub struct ChainLink<'a> {
    /// Hash of the account's previous posting.
    pub previous: &'a ChainHash,
    /// The account's name in the ledger.
    pub account: &'a str,
    /// The other account's name in the ledger.
    pub counterparty: &'a str,
    /// The entry's number.
    pub entry: EntryNumber,
    /// When it was posted.
    pub at: Timestamp,
    /// Why.
    pub kind: EntryKind,
    /// Signed minor units: negative where money left the account.
    pub amount: i64,
    /// The account's balance after it, minor units.
    pub balance: i64,
    /// The terminal it was made at; empty where staff made it.
    pub terminal: &'a str,
}

impl ChainLink<'_> {
    /// SHA-256 over every field, each text behind its length, so that no two links share bytes.
    #[must_use]
    pub fn hash(&self) -> ChainHash {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"atm-bank/posting/1\0");
        context.update(self.previous);
        for text in [self.account, self.counterparty, self.terminal] {
            context.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(text.as_bytes());
        }
        for number in [
            self.entry.get(),
            self.at.unix_ms(),
            i64::from(self.kind.number()),
            self.amount,
            self.balance,
        ] {
            context.update(&number.to_be_bytes());
        }
        let mut hash = CHAIN_START;
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_keeps_its_number_and_reads_back() {
        for kind in EntryKind::ALL {
            assert_eq!(EntryKind::from_number(kind.number().into()), Some(kind));
        }
        assert_eq!(EntryKind::from_number(0), None);
        assert_eq!(EntryKind::from_number(7), None);
    }

    #[test]
    fn changing_any_field_of_a_posting_changes_its_hash() {
        let previous = [7; 32];
        let base = ChainLink {
            previous: &previous,
            account: "zz-99999",
            counterparty: "cash:t",
            entry: EntryNumber(3),
            at: Timestamp::from_unix_ms(9),
            kind: EntryKind::Deposit,
            amount: 5,
            balance: 10,
            terminal: "t",
        };
        let changed = [
            ChainLink {
                previous: &CHAIN_START,
                ..base
            },
            ChainLink {
                account: "zz-99998",
                ..base
            },
            ChainLink {
                counterparty: "cash:u",
                ..base
            },
            ChainLink {
                entry: EntryNumber(4),
                ..base
            },
            ChainLink {
                at: Timestamp::from_unix_ms(8),
                ..base
            },
            ChainLink {
                kind: EntryKind::Withdrawal,
                ..base
            },
            ChainLink { amount: 6, ..base },
            ChainLink {
                balance: 11,
                ..base
            },
            ChainLink {
                terminal: "u",
                ..base
            },
            ChainLink {
                account: "zz-99999c",
                counterparty: "ash:t",
                ..base
            },
        ];
        for link in changed {
            assert_ne!(link.hash(), base.hash(), "{link:?}");
        }
    }
}
