//! What the bank's staff may ask of a store, and what it answers them.

use std::path::PathBuf;

use super::Line;
use super::clock::{ClockEffects, MendCursor};
use super::digest::{Digest, LogHead};
use super::enrolment::{CodeHash, Invitation, IssuedRecord};
use super::notes::{Event, Note};
use crate::access::lockout::{LockoutPolicy, TryRecord};
use crate::access::pepper::PepperId;
use crate::access::pin::PinHash;
use crate::domain::entry::ChainHash;
use crate::domain::{AccountNumber, AuditRecord, TerminalName, Timestamp};

/// Proof that the caller acts for the bank's staff. Only the operator's room makes one.
#[derive(Debug)]
pub struct Office {
    actor: String,
}

impl Office {
    pub(crate) fn of(actor: impl Into<String>) -> Self {
        Self {
            actor: actor.into(),
        }
    }

    /// Who acts.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }
}

/// An account to be opened.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its number.
    pub number: AccountNumber,
    /// Its PIN's hash.
    pub hash: PinHash,
    /// What it starts with, minor units, 0 or more.
    pub balance: i64,
    /// It is a demo account, whose PIN is public.
    pub demo: bool,
}

/// What the staff may do; each is one transaction.
#[derive(Debug, Clone)]
pub enum Act {
    /// Opens accounts, all or none; those that exist are left alone and named.
    Open(Vec<NewAccount>),
    /// One account.
    Show(AccountNumber),
    /// Accounts in the order of their numbers.
    List {
        /// Only numbers behind this one.
        after: Option<AccountNumber>,
        /// How many at most.
        limit: usize,
    },
    /// Closes an empty account.
    Close(AccountNumber),
    /// Locks or unlocks an account; unlocking forgets its tries too.
    Lock(AccountNumber, bool),
    /// Gives a new PIN; with an end it serves only to choose another.
    SetPin {
        /// Whose.
        number: AccountNumber,
        /// Its hash.
        hash: PinHash,
        /// When it runs out, for a one-time PIN.
        one_time_until: Option<Timestamp>,
        /// Whatever the account's row says now is taken for the bank's own, on record.
        accept_row: bool,
    },
    /// Gives an account limits of its own, or (`None`) the bank's again.
    Limit {
        /// Whose.
        number: AccountNumber,
        /// Of one withdrawal.
        withdrawal: Option<i64>,
        /// Of a business day.
        daily: Option<i64>,
    },
    /// Corrects a balance by an entry of its own kind.
    Adjust {
        /// Whose.
        number: AccountNumber,
        /// Signed minor units.
        amount: i64,
        /// Why, in words.
        reason: String,
    },
    /// An account's entries, oldest first.
    Statement {
        /// Whose.
        number: AccountNumber,
        /// Entries with larger numbers than this.
        after: i64,
        /// Not before this moment.
        from: Option<Timestamp>,
        /// Before this moment.
        to: Option<Timestamp>,
        /// How many at most.
        limit: usize,
    },
    /// Terminals that moved cash, were disabled or enabled, or enrolled themselves.
    Terminals,
    /// Lets a terminal in, or not.
    Terminal {
        /// Its name.
        name: TerminalName,
        /// Not.
        disabled: bool,
    },
    /// Lets a terminal enrol once; an earlier code of the same name is void.
    Invite {
        /// Its name.
        name: TerminalName,
        /// The code's hash.
        code: CodeHash,
        /// Until when.
        expires_at: Timestamp,
    },
    /// Codes that are open.
    Invitations,
    /// Makes a terminal's open code void.
    Uninvite(TerminalName),
    /// Makes every code void, used or not: in a restored store, codes are open that were used since.
    UninviteAll,
    /// Revokes all certificates of a name that have not ended, of those issued to terminals that
    /// enrolled themselves.
    RevokeCertificates(TerminalName),
    /// All revoked certificates that have not ended.
    RevokedCertificates,
    /// Audits the whole ledger; with a digest of before, also what came before it.
    Verify(Option<Digest>),
    /// Copies the store to a new file.
    Backup(PathBuf),
    /// Records of the audit log, oldest first.
    Records(RecordsAsked),
    /// How many demo accounts still have their public PIN.
    DemoAccounts,
    /// Captures that came after their hold had expired, newest first.
    LateCaptures {
        /// How many at most.
        limit: usize,
    },
    /// On which peppers the accounts stand.
    Peppers,
    /// Covers rows anew that are covered with a pepper which is to go, a bounded number at once.
    MoveRows {
        /// The pepper.
        pepper: PepperId,
        /// Behind which record: 0 to begin with, then what [`Done::Count`] said, until it says 0.
        after: i64,
    },
    /// Forgets a pepper that no account stands on; no hash made with it is taken any more.
    RetirePepper(PepperId),
    /// What taking this wall clock's moment as the time would do.
    ClockEffects(Timestamp),
    /// Mends some of the rows that are stamped later than now: business days, holds, keys, tries and
    /// enrolment codes. It ends, however fast more rows come. Entries and records never change.
    MendClock(MendCursor),
    /// The wall clock was taken as it is, just now; mending begins. Entries and records that are stamped later
    /// are known of.
    ClockTaken {
        /// What the time had been.
        was: Timestamp,
    },
    /// All is mended since the wall clock was taken; those that came meanwhile are known of too.
    ClockAccepted {
        /// What the time had been.
        was: Timestamp,
    },
}

impl Act {
    /// Whether it looks at what is committed, and changes nothing.
    pub(super) fn only_reads(&self) -> bool {
        matches!(
            self,
            Self::Show(_)
                | Self::List { .. }
                | Self::Statement { .. }
                | Self::LateCaptures { .. }
                | Self::Terminals
                | Self::Invitations
                | Self::RevokedCertificates
                | Self::Records(_)
                | Self::DemoAccounts
                | Self::Peppers
                | Self::ClockEffects(_)
                | Self::Verify(_)
        )
    }

    /// The account that nobody may go on using who got in before this was done: it was locked or
    /// closed, or has another PIN.
    pub(crate) fn shuts_out(&self) -> Option<AccountNumber> {
        match self {
            Self::Lock(number, true) | Self::Close(number) | Self::SetPin { number, .. } => {
                Some(*number)
            }
            _ => None,
        }
    }
}

/// A pepper that hashes in the store were made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PepperUse {
    /// Its name.
    pub pepper: PepperId,
    /// Accounts whose PIN's hash was made with it; closed ones, whose PIN is never looked at again,
    /// do not count.
    pub accounts: u64,
}

/// Which records of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordsAsked {
    /// Only those with larger numbers than this.
    pub after: i64,
    /// Not before this moment.
    pub from: Option<Timestamp>,
    /// Before this moment.
    pub to: Option<Timestamp>,
    /// Only of this event.
    pub event: Option<String>,
    /// Only of this terminal.
    pub terminal: Option<String>,
    /// How many at most.
    pub limit: usize,
    /// The newest of them, not the oldest.
    pub newest: bool,
}

/// What came of an [`Act`].
#[derive(Debug, Clone)]
pub enum Done {
    /// It is done.
    Yes,
    /// Accounts were opened.
    Opened {
        /// How many.
        opened: usize,
        /// Numbers that stood already.
        existing: Vec<AccountNumber>,
    },
    /// One account.
    Account(Box<AccountReport>),
    /// Several.
    Accounts(Vec<AccountReport>),
    /// Entries.
    Lines(Vec<Line>),
    /// An entry was written.
    Posted {
        /// Its number.
        entry: i64,
        /// The balance after it.
        balance: i64,
    },
    /// Terminals.
    Terminals(Vec<TerminalReport>),
    /// Open codes.
    Invitations(Vec<Invitation>),
    /// Certificates, by serial number.
    Certificates(Vec<IssuedRecord>),
    /// Records of the audit log, each with its hash.
    Records(Vec<(AuditRecord, ChainHash)>),
    /// The audit.
    Audit(Box<Audit>),
    /// A number.
    Count(u64),
    /// Peppers, in the order of their names.
    Peppers(Vec<PepperUse>),
    /// What taking a moment as the time would do.
    Clock(Box<ClockEffects>),
    /// Some rows were mended; where to go on, `None` once all were seen.
    Mended(Option<MendCursor>),
    /// Entries and records up to these numbers are known of, however they are stamped.
    Acknowledged {
        /// The last entry.
        entries: i64,
        /// The last record.
        records: i64,
    },
    /// There is no such account.
    NoSuchAccount,
    /// It was refused; nothing changed. The words are for staff.
    Refused(String),
}

impl Done {
    /// So many accounts still stand on a pepper that is to go.
    pub(super) fn still_needed(pepper: &PepperId, accounts: u64) -> Self {
        Self::Refused(format!(
            "{accounts} accounts still stand on the pepper {pepper}; a hash moves at its customer's next log-in, or by \
             account set-pin"
        ))
    }

    /// An account's row is not as the bank wrote it last.
    pub(super) fn forged() -> Self {
        Self::Refused(
            "the account's row is not as the bank wrote it: the store's file was changed by hand, or put back in part; \
             mend: bank_server verify names all of them; look at the row and take it as it is: \
             account set-pin --accept-row"
                .to_owned(),
        )
    }

    /// A terminal's row is not.
    pub(super) fn forged_terminal() -> Self {
        Self::Refused(
            "the terminal's row is not as the bank wrote it: the store's file was changed by hand; mend: terminal \
             disable, which makes it whole, then terminal enable"
                .to_owned(),
        )
    }

    /// A hash was made with a pepper that was retired before it came.
    pub(super) fn retired(pepper: &PepperId) -> Self {
        Self::Refused(format!("the pepper {pepper} was retired; do it again"))
    }
}

/// An account as staff see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AccountReport {
    /// Its number.
    pub account: String,
    /// `open`, `locked` or `closed`.
    pub status: String,
    /// ISO 4217.
    pub currency: String,
    /// Minor units.
    pub balance: i64,
    /// Minor units.
    pub available: i64,
    /// Minor units, where it has its own.
    pub withdrawal_limit: Option<i64>,
    /// Minor units, where it has its own.
    pub daily_withdrawal_limit: Option<i64>,
    /// Wrong PINs that count now, of both budgets.
    pub tries: u32,
    /// Those of them from the terminal of the last good log-in.
    pub tries_at_home: u32,
    /// No PIN is looked at now: from that terminal, from all others, or from any.
    pub locked_out: bool,
    /// None from that terminal is.
    pub locked_out_at_home: bool,
    /// None from any other is.
    pub locked_out_elsewhere: bool,
    /// Its PIN is a one-time PIN.
    pub must_change_pin: bool,
    /// Its PIN is public.
    pub demo: bool,
    /// The terminal of the last good log-in.
    pub home_terminal: Option<String>,
}

impl AccountReport {
    /// What staff took for the bank's own row, for the audit log.
    pub(super) fn accepted(
        &self,
        actor: &str,
        number: AccountNumber,
        as_written: bool,
        at: Timestamp,
    ) -> Note {
        let found = if as_written { "as written" } else { "forged" };
        let own = |limit: Option<i64>| limit.map_or("the bank's".to_owned(), |own| own.to_string());
        let detail = format!(
            "found {found}: {}, withdrawal {}, daily {}, home {}",
            self.status,
            own(self.withdrawal_limit),
            own(self.daily_withdrawal_limit),
            self.home_terminal.as_deref().unwrap_or("none"),
        );
        let note = Note::new(Event::RowAccepted, at).by_staff(actor);
        note.account(number).detail(detail)
    }

    /// With what a record of tries means now.
    #[must_use]
    pub fn with_tries(
        self,
        record: Option<TryRecord>,
        policy: LockoutPolicy,
        now: Timestamp,
    ) -> Self {
        let Some(record) = record.and_then(|record| record.at(policy, now)) else {
            return self;
        };
        let at_home = record.home.is_locked(policy);
        let elsewhere = record.other.is_locked(policy);
        Self {
            tries: record.total(),
            tries_at_home: record.home.count,
            locked_out: at_home || elsewhere,
            locked_out_at_home: at_home,
            locked_out_elsewhere: elsewhere,
            ..self
        }
    }
}

/// A terminal as staff see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TerminalReport {
    /// Its name.
    pub terminal: String,
    /// It is not let in.
    pub disabled: bool,
    /// The balance of its cash account, minor units: negative is cash taken in.
    pub cash: i64,
    /// Its connections now. No store knows of any.
    pub connections: usize,
    /// When it connected last, or tried to while it was disabled; `None` where that was before the
    /// server started.
    pub connected_at: Option<Timestamp>,
}

/// What an audit of the whole ledger found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Customers' accounts.
    pub accounts: u64,
    /// Entries.
    pub entries: u64,
    /// Holds that are open.
    pub open_holds: u64,
    /// Kept keys.
    pub keys: u64,
    /// The sum of customers' balances, minor units.
    pub customers_total: i64,
    /// The sum of all balances; anything but 0 is a fault.
    pub ledger_total: i64,
    /// The chains' heads now, the ledger's alone.
    pub head: Digest,
    /// The audit log's end now.
    pub log: LogHead,
    /// What is odd but known of, in words: stamps of the future that staff acknowledged.
    pub noted: Vec<String>,
    /// Where the records of covered rows end now.
    pub rows: LogHead,
    /// Rows that could not be checked, because there was no pepper.
    pub unchecked_rows: u64,
    /// Everything that is wrong, in words; empty where nothing is.
    pub faults: Vec<String>,
}

impl Audit {
    /// The ledger's heads, the audit log's end, and that of the records of covered rows.
    #[must_use]
    pub fn full_head(&self) -> Digest {
        Digest {
            log: Some(self.log),
            rows: Some(self.rows),
            ..self.head
        }
    }
}

/// Faults that an audit names at most; the rest are counted.
pub const AUDIT_FAULTS_MAX: usize = 100;
