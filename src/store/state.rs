//! Rows as values. Rules decide by them, and engines load and save them.

use std::sync::Arc;

use super::rules::planted::Planted;
use super::{Balances, Fingerprint, Terms};
use crate::access::lockout::TryRecord;
use crate::access::pin::{HashTraits, PinHash, StoredPin};
use crate::access::throttle::AddressBlock;
use crate::domain::entry::ChainHash;
use crate::domain::hold::Hold;
use crate::domain::policy::Standing;
use crate::domain::{
    AccountNumber, EntryKind, EntryNumber, HoldName, IdempotencyKey, TerminalName, Timestamp,
};

/// A customer's account. The other kinds are the bank's own.
pub(super) const KIND_CUSTOMER: i64 = 0;
/// The account that counts a terminal's cash.
pub(super) const KIND_CASH: i64 = 1;
pub(super) const STATUS_LOCKED: i64 = 1;
pub(super) const STATUS_CLOSED: i64 = 2;

/// An account.
#[derive(Debug, Clone)]
pub(super) struct AccountRow {
    pub(super) id: i64,
    pub(super) number: Arc<str>,
    pub(super) status: i64,
    pub(super) currency: Arc<str>,
    pub(super) balance: i64,
    /// The sum of its open holds, minor units.
    pub(super) held: i64,
    /// The last business day that it was used on, and what was used of that day's limit.
    pub(super) day: i64,
    pub(super) day_used: i64,
    pub(super) withdrawal_limit: Option<i64>,
    pub(super) daily_limit: Option<i64>,
    /// The hash of its last posting.
    pub(super) head: ChainHash,
    /// The last entry with a posting to it, or 0.
    pub(super) last_entry: i64,
    /// How many postings it has.
    pub(super) postings: i64,
}

impl AccountRow {
    pub(super) fn balances(&self) -> Balances {
        Balances {
            balance: self.balance,
            available: self.balance.saturating_sub(self.held),
        }
    }

    /// What the rules need to know; turns the business day where a new one has begun. A clock
    /// that was set back does not bring yesterday's limits back.
    pub(super) fn standing(&mut self, terms: &Terms, now: Timestamp) -> Standing {
        if now.business_day() > self.day && !Planted::DayNotRolled.is_here() {
            self.day = now.business_day();
            self.day_used = 0;
        }
        Standing {
            balance: self.balance,
            held: self.held,
            used_today: self.day_used,
            withdrawal_limit: self.withdrawal_limit.unwrap_or(terms.withdrawal_limit),
            daily_limit: self
                .daily_limit
                .unwrap_or(terms.daily_withdrawal_limit)
                .saturating_add(i64::from(Planted::LimitOffByOne.is_here())),
        }
    }

    /// The moment that money of the present business day is stamped with: where the clock was set
    /// back over midnight, the start of the day that the account has reached.
    pub(super) fn stamp(&self, now: Timestamp) -> Timestamp {
        now.max(Timestamp::start_of_day(self.day))
    }

    /// Gives back what a hold of `day` had used of that day's limit.
    pub(super) fn free_day(&mut self, day: i64, amount: i64) {
        if day == self.day {
            self.day_used = self.day_used.saturating_sub(amount).max(0);
        }
    }

    /// Uses up some of the limit of `day`, if that is the account's present one.
    pub(super) fn use_day(&mut self, day: i64, amount: i64) {
        if day == self.day {
            self.day_used = self.day_used.saturating_add(amount);
        }
    }
}

/// The account that a session was given, and the fence that it was given under.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionFence {
    pub(super) number: AccountNumber,
    pub(super) row: i64,
    pub(super) fence: u64,
}

/// An account that is opened.
#[derive(Debug)]
pub(super) struct OpenedAccount {
    pub(super) kind: i64,
    pub(super) at: Timestamp,
    pub(super) row: AccountRow,
}

/// A terminal, and the account that counts its cash.
#[derive(Debug, Clone, Copy)]
pub(super) struct TerminalRow {
    pub(super) id: i64,
    pub(super) cash: i64,
}

/// One double entry with its two postings.
#[derive(Debug)]
pub(super) struct EntryRow {
    pub(super) number: EntryNumber,
    pub(super) at: Timestamp,
    pub(super) kind: EntryKind,
    /// `None` if staff made it.
    pub(super) terminal: Option<i64>,
    pub(super) amount: i64,
    pub(super) debit: PostingRow,
    pub(super) credit: PostingRow,
}

/// One side of an entry.
#[derive(Debug)]
pub(super) struct PostingRow {
    pub(super) account: i64,
    /// The account's balance after it.
    pub(super) balance: i64,
    pub(super) hash: ChainHash,
    /// The entry of the account's previous posting, or 0.
    pub(super) previous: i64,
    /// Whether a search in the account's history may begin here.
    pub(super) is_marked: bool,
}

/// A hold.
#[derive(Debug, Clone)]
pub(super) struct HoldRow {
    pub(super) id: i64,
    pub(super) name: HoldName,
    pub(super) account: i64,
    pub(super) hold: Hold,
    /// What was captured of it.
    pub(super) captured: i64,
    /// The entry that captured it.
    pub(super) entry: Option<i64>,
    /// The kept answer that settled it.
    pub(super) settled_by: Option<i64>,
    /// The address that asked for it, and when. Set only for a new hold of a terminal without a certificate.
    pub(super) made_from: Option<(AddressBlock, Timestamp)>,
}

/// Why staff made an entry.
#[derive(Debug)]
pub(super) struct ReasonRow {
    pub(super) entry: i64,
    pub(super) text: String,
    pub(super) actor: String,
}

/// A customer's credential, with the status of the account.
#[derive(Debug, Clone)]
pub(super) struct CredentialRow {
    pub(super) account: i64,
    pub(super) number: AccountNumber,
    pub(super) status: i64,
    pub(super) stored: StoredPin,
    pub(super) must_change: bool,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) home: Option<TerminalName>,
}

impl CredentialRow {
    pub(super) fn traits(self) -> HashTraits {
        let PinHash { cost, pepper, .. } = self.stored.hash;
        HashTraits { cost, pepper }
    }

    pub(super) fn is_open(&self) -> bool {
        self.status != STATUS_CLOSED
    }

    pub(super) fn is_void(&self, now: Timestamp) -> bool {
        !self.is_open() || self.expires_at.is_some_and(|end| end <= now)
    }
}

/// Tries upon a number.
#[derive(Debug)]
pub(super) struct Tries {
    pub(super) record: TryRecord,
    /// When they are forgotten. `None` if only staff can unlock the number.
    pub(super) expires_at: Option<Timestamp>,
}

/// An answer kept by key.
#[derive(Debug)]
pub(super) struct KeptAnswer {
    pub(super) id: i64,
    pub(super) fingerprint: Fingerprint,
    pub(super) entry: Option<i64>,
    /// The hold that it made or settled.
    pub(super) hold: Option<i64>,
    pub(super) late: bool,
    pub(super) balances: Balances,
}

/// An answer that is to be kept.
#[derive(Debug)]
pub(super) struct NewAnswer {
    pub(super) key: IdempotencyKey,
    pub(super) account: i64,
    pub(super) at: Timestamp,
    pub(super) answer: KeptAnswer,
}
