//! The rows that an operation reads, and the changes that it makes.
//!
//! The engine loads what an operation [`Needs`], executes the operation, and saves its [`Changes`]. A rule
//! reads nothing else. If the first rows show that the operation needs more, it stops with
//! [`Stop::Missing`]. The engine then asks for the needs once more and executes the operation again from
//! the start.

use foldhash::HashMap;

use super::rules::covered::Covered;
use super::rules::planted::Planted;
use super::state::{
    AccountRow, CredentialRow, EntryRow, HoldRow, KeptAnswer, NewAnswer, OpenedAccount, ReasonRow,
    SessionFence, TerminalRow, Tries,
};
use super::{AccountReport, LogHead, StoreError};
use crate::access::lockout::TryRecord;
use crate::access::pepper::PepperId;
use crate::access::pin::PinHash;
use crate::domain::entry::ChainHash;
use crate::domain::{
    AccountNumber, AuditRecord, HoldName, IdempotencyKey, OpenHolds, Refusal, TerminalName,
    Timestamp,
};

/// One operation of the store.
pub(super) trait Operation {
    /// What the caller gets.
    type Answer;

    /// What the operation reads, judged by the rows that are loaded so far. The engine asks twice at most.
    fn needs(&self, rows: &WorkingSet) -> Needs<'_>;

    /// Decides by the loaded rows and changes them.
    ///
    /// # Errors
    /// [`Stop`]. The engine keeps the changes that a refused operation made before its refusal: holds that
    /// had expired stay expired. So a rule saves what it decides only when nothing can refuse it any more.
    fn execute(&self, rows: &mut WorkingSet) -> Result<Self::Answer, Stop>;
}

/// Why an operation has no answer.
#[derive(Debug)]
pub(super) enum Stop {
    /// The customer gets a refusal.
    Refused(Refusal),
    /// A row was not loaded. The engine drops the changes, loads more and tries once more.
    Missing,
    /// The operation cannot be done. The engine drops the changes.
    Failed(StoreError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl Stop {
    /// What is stored breaks the rules.
    pub(super) fn broken(what: &str) -> Self {
        Self::Failed(StoreError::Broken(what.to_owned()))
    }
}

/// Whether an account may be shown for a number that is nobody's.
pub(super) type MayBeShown = fn(&CredentialRow) -> bool;

/// The rows that an operation reads, beside the numbers and the log's end in [`Ends`].
#[derive(Debug, Default)]
pub(super) struct Needs<'a> {
    /// The session that holds the account with this number.
    pub(super) session: Option<AccountNumber>,
    /// The credential of this number.
    pub(super) credential: Option<AccountNumber>,
    /// The decoy of this number: the first of the accounts drawn for it that may be shown.
    pub(super) decoy: Option<(AccountNumber, MayBeShown)>,
    /// Tries upon that number.
    pub(super) tries: Option<AccountNumber>,
    /// Whether this row is as the bank wrote it last.
    pub(super) covered: Option<Covered>,
    /// Which of those peppers were retired.
    pub(super) retired: Vec<&'a PepperId>,
    /// One of the bank's own accounts.
    pub(super) named: Option<&'static str>,
    /// What staff see of that number's account.
    pub(super) report: Option<AccountNumber>,
    /// Whether a hold of that account can still be captured late at that moment.
    pub(super) late_holds: Option<(i64, Timestamp)>,
    /// The account of that row.
    pub(super) account: Option<i64>,
    /// The customer's account of that number.
    pub(super) customer: Option<AccountNumber>,
    /// The terminal, and the account of its cash.
    pub(super) terminal: Option<&'a TerminalName>,
    /// The answer that this account got to this key.
    pub(super) answer: Option<(i64, &'a IdempotencyKey)>,
    /// The hold of that name.
    pub(super) hold: Option<&'a HoldName>,
    /// The hold with this number, if it belongs to this account.
    pub(super) hold_made: Option<(i64, i64)>,
    /// The open holds of this account that end by this moment, oldest first, up to this many.
    pub(super) due: Option<(i64, Timestamp, usize)>,
    /// The number of open holds of this account, and of the terminal that asks.
    pub(super) open_holds: Option<i64>,
}

/// The result of a look-up.
#[derive(Debug, Default)]
pub(super) enum Loaded<T> {
    #[default]
    NotAsked,
    Absent,
    Row(T),
}

impl<T> Loaded<T> {
    pub(super) fn is_asked(&self) -> bool {
        !matches!(self, Self::NotAsked)
    }

    fn row(&self) -> Result<Option<&T>, Stop> {
        match self {
            Self::NotAsked => Err(Stop::Missing),
            Self::Absent => Ok(None),
            Self::Row(row) => Ok(Some(row)),
        }
    }
}

impl<T> From<Option<T>> for Loaded<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or(Self::Absent, Self::Row)
    }
}

/// Where tables and logs end. The engine loads each part when an operation first needs it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    /// The audit log's last record.
    pub(super) log: Option<LogHead>,
    /// How many numbers have tries.
    pub(super) try_rows: Option<u64>,
    /// It is on record that they nearly fill their table.
    pub(super) is_tries_told: bool,
    pub(super) numbers: Option<LastNumbers>,
}

/// The last numbers that rows were given.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastNumbers {
    pub(super) account: i64,
    pub(super) terminal: i64,
    pub(super) entry: i64,
    pub(super) hold: i64,
    pub(super) answer: i64,
}

/// Rows that stay loaded from one operation to the next. This is safe because nobody else writes.
///
/// Each operation looks up several of them. The bank chooses their keys, so nobody can pick keys that
/// collide, and a fast hash is enough.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) accounts: HashMap<i64, AccountRow>,
    /// Accounts that the engine has yet to write, in the order of their first change.
    pub(super) changed: Vec<i64>,
    pub(super) customers: HashMap<AccountNumber, i64>,
    pub(super) terminals: HashMap<TerminalName, TerminalRow>,
    pub(super) ends: Ends,
}

/// Rows that were loaded for one operation.
#[derive(Debug, Default)]
pub(super) struct ForOne {
    /// The fence of the session that has the account now.
    pub(super) session: Loaded<u64>,
    pub(super) credential: Loaded<Option<CredentialRow>>,
    pub(super) decoy: Loaded<CredentialRow>,
    pub(super) tries: Loaded<TryRecord>,
    pub(super) as_written: Loaded<bool>,
    pub(super) retired: Loaded<Vec<PepperId>>,
    pub(super) named: Loaded<i64>,
    pub(super) report: Loaded<AccountReport>,
    pub(super) late_holds: Loaded<()>,
    /// Whether the number that was looked for is a customer's; it is known then.
    pub(super) customer: Loaded<i64>,
    pub(super) terminal: Loaded<TerminalRow>,
    pub(super) answer: Loaded<KeptAnswer>,
    pub(super) hold: Loaded<HoldRow>,
    pub(super) hold_made: Loaded<HoldRow>,
    pub(super) due: Loaded<Vec<HoldRow>>,
    pub(super) open_holds: Loaded<OpenHolds>,
}

/// A change of a covered row.
#[derive(Debug)]
pub(super) enum CoveredChange {
    /// The same PIN, hashed anew where `hash` says so, at another home where `home` does.
    Kept {
        account: i64,
        hash: Option<PinHash>,
        home: Option<TerminalName>,
    },
    /// Another PIN, of the next revision.
    Pin {
        account: i64,
        hash: PinHash,
        /// When it runs out, for a one-time PIN.
        one_time_until: Option<Timestamp>,
        is_demo: bool,
    },
    Status {
        account: i64,
        status: i64,
    },
    Limits {
        account: i64,
        withdrawal: Option<i64>,
        daily: Option<i64>,
    },
    Disabled {
        terminal: i64,
        disabled: bool,
    },
    /// The row as it is.
    Accepted(Covered),
}

/// The changes of one operation, each list in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) opened: Vec<OpenedAccount>,
    pub(super) terminals: Vec<(TerminalName, TerminalRow)>,
    pub(super) accounts: Vec<AccountRow>,
    pub(super) entries: Vec<EntryRow>,
    pub(super) new_holds: Vec<HoldRow>,
    pub(super) holds: Vec<HoldRow>,
    pub(super) answers: Vec<NewAnswer>,
    /// `None`: forgotten.
    pub(super) tries: Vec<(AccountNumber, Option<Tries>)>,
    /// The engine makes a new record of each row.
    pub(super) covered: Vec<CoveredChange>,
    pub(super) reasons: Vec<ReasonRow>,
    /// Accounts whose balances the session's connection must learn, although they did not change.
    pub(super) told: Vec<AccountRow>,
    pub(super) records: Vec<(AuditRecord, ChainHash)>,
    ends: Option<Ends>,
}

impl Changes {
    fn clear(&mut self) {
        self.opened.clear();
        self.terminals.clear();
        self.accounts.clear();
        self.entries.clear();
        self.new_holds.clear();
        self.holds.clear();
        self.answers.clear();
        self.told.clear();
        self.covered.clear();
        self.reasons.clear();
        self.tries.clear();
        self.records.clear();
        self.ends = None;
    }
}

/// The loaded rows, and the changes so far.
#[derive(Debug, Default)]
pub(super) struct WorkingSet {
    pub(super) known: Known,
    pub(super) loaded: ForOne,
    pub(super) changes: Changes,
}

/// Tables whose rows the rules number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Numbered {
    Account,
    Terminal,
    Entry,
    Hold,
    Answer,
}

impl WorkingSet {
    /// Begins an operation: drops what the one before had loaded.
    pub(super) fn begin(&mut self) {
        self.loaded = ForOne::default();
        self.discard();
    }

    /// Drops the changes.
    pub(super) fn discard(&mut self) {
        self.changes.clear();
    }

    /// Drops the changes of an operation that stopped. `Ok` if the engine may try it once more.
    ///
    /// # Errors
    /// The reason why it may not.
    pub(super) fn discard_for(&mut self, stop: Stop) -> Result<(), StoreError> {
        self.discard();
        match stop {
            Stop::Missing => Ok(()),
            Stop::Failed(error) => Err(error),
            Stop::Refused(refusal) => Err(StoreError::Broken(refusal.to_string())),
        }
    }

    /// Makes the changed accounts, terminals and ends known to later operations. The engine saves the rest of
    /// `changes` now, and the accounts in `known.changed` before it commits.
    pub(super) fn settle(&mut self) {
        let (known, changes) = (&mut self.known, &mut self.changes);
        known.ends = changes.ends.unwrap_or(known.ends);
        for (name, row) in &changes.terminals {
            known.terminals.insert(name.clone(), *row);
        }
        for row in changes.accounts.drain(..) {
            // The list may name an account twice. The engine sorts that out.
            if known.changed.last() != Some(&row.id) {
                known.changed.push(row.id);
            }
            known.accounts.insert(row.id, row);
        }
    }

    pub(super) fn account(&self, id: i64) -> Result<AccountRow, Stop> {
        let changed = self.changes.accounts.iter().find(|row| row.id == id);
        let row = changed.or_else(|| self.known.accounts.get(&id));
        row.cloned().ok_or(Stop::Missing)
    }

    /// Whether the account holds money, as far as is known.
    pub(super) fn holds_money(&self, id: i64) -> bool {
        let account = self.known.accounts.get(&id);
        account.is_some_and(|account| account.held != 0)
    }

    /// The customer's account that was asked for by its number.
    pub(super) fn customer(&self) -> Result<Option<AccountRow>, Stop> {
        let id = self.loaded.customer.row()?;
        id.map(|id| self.account(*id)).transpose()
    }

    pub(super) fn terminal(&self, name: &TerminalName) -> Result<Option<TerminalRow>, Stop> {
        let mut new = self.changes.terminals.iter();
        match new.find(|(new, _)| new == name) {
            Some((_, row)) => Ok(Some(*row)),
            None => Ok(self.loaded.terminal.row()?.copied()),
        }
    }

    /// Whether the session has its account still. Only the newest fence may write.
    pub(super) fn is_present(&self, session: SessionFence) -> Result<bool, Stop> {
        let present = self.loaded.session.row()?;
        Ok(present == Some(&session.fence) || Planted::FenceSkipped.is_here())
    }

    /// What the number is let in by: `Some(None)` where it is a customer's, and that is gone or unreadable.
    pub(super) fn credential(&self) -> Result<Option<&Option<CredentialRow>>, Stop> {
        self.loaded.credential.row()
    }

    /// The account of the credential that was loaded.
    pub(super) fn credential_account(&self) -> Option<i64> {
        let credential = self.credential().ok()??.as_ref()?;
        Some(credential.account)
    }

    /// Whether the covered row that was asked for is as the bank wrote it last.
    pub(super) fn is_as_written(&self) -> Result<bool, Stop> {
        let is_right = self.loaded.as_written.row()?;
        Ok(is_right.copied().unwrap_or_default())
    }

    pub(super) fn tries(&self) -> Result<Option<&TryRecord>, Stop> {
        self.loaded.tries.row()
    }

    pub(super) fn decoy(&self) -> Result<Option<&CredentialRow>, Stop> {
        self.loaded.decoy.row()
    }

    /// Whether no hash is taken any more that was made with the pepper.
    pub(super) fn is_retired(&self, pepper: &PepperId) -> Result<bool, Stop> {
        let retired = self.loaded.retired.row()?;
        Ok(retired.is_some_and(|retired| retired.contains(pepper)))
    }

    /// The bank's own account that was asked for.
    pub(super) fn named(&self) -> Result<AccountRow, Stop> {
        self.account(*self.loaded.named.row()?.ok_or(Stop::Missing)?)
    }

    pub(super) fn report(&self) -> Result<Option<&AccountReport>, Stop> {
        self.loaded.report.row()
    }

    pub(super) fn has_late_holds(&self) -> Result<bool, Stop> {
        Ok(self.loaded.late_holds.row()?.is_some())
    }

    pub(super) fn answer(&self) -> Result<Option<&KeptAnswer>, Stop> {
        self.loaded.answer.row()
    }

    pub(super) fn hold(&self) -> Result<Option<&HoldRow>, Stop> {
        self.loaded.hold.row()
    }

    pub(super) fn hold_made(&self) -> Result<Option<&HoldRow>, Stop> {
        self.loaded.hold_made.row()
    }

    pub(super) fn open_holds(&self) -> Result<OpenHolds, Stop> {
        self.loaded.open_holds.row()?.copied().ok_or(Stop::Missing)
    }

    /// The account's holds that are due.
    pub(super) fn due(&self) -> Result<Vec<HoldRow>, Stop> {
        Ok(self.loaded.due.row()?.cloned().unwrap_or_default())
    }

    /// The ends of tables and logs, to be advanced.
    pub(super) fn ends(&mut self) -> &mut Ends {
        self.changes.ends.get_or_insert(self.known.ends)
    }

    /// The next number of a table.
    pub(super) fn next(&mut self, table: Numbered) -> Result<i64, Stop> {
        let last = self.ends().numbers.as_mut().ok_or(Stop::Missing)?;
        let number = match table {
            Numbered::Account => &mut last.account,
            Numbered::Terminal => &mut last.terminal,
            Numbered::Entry => &mut last.entry,
            Numbered::Hold => &mut last.hold,
            Numbered::Answer => &mut last.answer,
        };
        let next = number.checked_add(1);
        *number = next.ok_or_else(|| Stop::broken("numbers are used up"))?;
        Ok(*number)
    }

    pub(super) fn save(&mut self, account: &AccountRow) {
        let mut changed = self.changes.accounts.iter_mut();
        match changed.find(|row| row.id == account.id) {
            Some(row) => row.clone_from(account),
            None => self.changes.accounts.push(account.clone()),
        }
    }
}
