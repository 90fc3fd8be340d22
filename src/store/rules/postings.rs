//! Entries: double by construction, chained along either account.

use super::planted::Planted;
use crate::domain::entry::{CHAIN_START, ChainLink};
use crate::domain::money::Amount;
use crate::domain::policy::{Movement, count_cash};
use crate::domain::{EntryKind, EntryNumber, TerminalName, Timestamp};
use crate::store::state::{
    AccountRow, EntryRow, KIND_CASH, OpenedAccount, PostingRow, TerminalRow,
};
use crate::store::working::{Numbered, Stop, WorkingSet};
use crate::store::{Context, StoreError};

/// One posting in so many has a mark. A search in an account's history begins at a mark.
pub(in crate::store) const POSTINGS_PER_MARK: i64 = 64;

/// Why an entry is made, where and when.
pub(in crate::store) struct Occasion<'a> {
    pub(in crate::store) kind: EntryKind,
    /// `None` where staff make it.
    pub(in crate::store) terminal: Option<(TerminalRow, &'a TerminalName)>,
    pub(in crate::store) at: Timestamp,
}

/// Writes an entry: both postings, both balances, both chains.
///
/// # Errors
/// [`StoreError::Broken`] within one account, or where a balance is out of range.
pub(in crate::store) fn post(
    rows: &mut WorkingSet,
    amount: Amount,
    (debit, credit): (&mut AccountRow, &mut AccountRow),
    occasion: &Occasion<'_>,
) -> Result<EntryNumber, Stop> {
    let movement = Movement::new(occasion.kind, debit.id, credit.id, amount);
    let movement = movement.ok_or_else(|| Stop::broken("an entry within one account"))?;
    let number = EntryNumber::new(rows.next(Numbered::Entry)?);
    let number = number.ok_or_else(|| Stop::broken("an entry's number is not positive"))?;
    let minor = movement.amount().minor();
    let out_of_range = || StoreError::Broken("a balance is out of range".to_owned());
    debit.balance = debit.balance.checked_sub(minor).ok_or_else(out_of_range)?;
    credit.balance = credit.balance.checked_add(minor).ok_or_else(out_of_range)?;
    let link = |own: &AccountRow, other: &AccountRow, amount: i64| {
        let link = ChainLink {
            previous: match Planted::ChainNotLinked.is_here() {
                true => &CHAIN_START,
                false => &own.head,
            },
            account: &own.number,
            counterparty: &other.number,
            entry: number,
            at: occasion.at,
            kind: movement.kind(),
            amount,
            balance: own.balance,
            terminal: occasion.terminal.map_or("", |(_, name)| name.as_str()),
        };
        link.hash()
    };
    (debit.head, credit.head) = (link(debit, credit, -minor), link(credit, debit, minor));
    let entry = EntryRow {
        number,
        at: occasion.at,
        kind: movement.kind(),
        terminal: occasion.terminal.map(|(row, _)| row.id),
        amount: minor,
        debit: add_posting(debit, number),
        credit: add_posting(credit, number),
    };
    rows.changes.entries.push(entry);
    rows.save(debit);
    rows.save(credit);
    Ok(number)
}

/// Makes this entry the account's last posting.
fn add_posting(account: &mut AccountRow, entry: EntryNumber) -> PostingRow {
    let previous = std::mem::replace(&mut account.last_entry, entry.get());
    account.postings = account.postings.saturating_add(1);
    PostingRow {
        account: account.id,
        balance: account.balance,
        hash: account.head,
        previous,
        is_marked: account.postings % POSTINGS_PER_MARK == 0,
    }
}

/// Posts cash in or out at the context's terminal, and opens the terminal with its first money. A refusal
/// leaves all rows as they were, except the one that the caller holds and has not saved.
///
/// # Errors
/// [`crate::domain::Refusal::InvalidAmount`] where the terminal cannot count that much more.
pub(super) fn cash(
    rows: &mut WorkingSet,
    account: &mut AccountRow,
    (kind, amount): (EntryKind, Amount),
    context: &Context,
) -> Result<i64, Stop> {
    let name = &context.terminal;
    let terminal = terminal(rows, name, account, context.now)?;
    let mut cash = rows.account(terminal.cash)?;
    count_cash(cash.balance, kind, amount)?;
    let occasion = Occasion {
        kind,
        terminal: Some((terminal, name)),
        at: account.stamp(context.now),
    };
    let sides = match kind {
        EntryKind::Deposit if !Planted::PostingReversed.is_here() => (&mut cash, account),
        _ => (account, &mut cash),
    };
    Ok(post(rows, amount, sides, &occasion)?.get())
}

/// The rows of a terminal and of its cash account. Both are made with the terminal's first money, in the
/// currency of the account `like`.
pub(in crate::store) fn terminal(
    rows: &mut WorkingSet,
    name: &TerminalName,
    like: &AccountRow,
    now: Timestamp,
) -> Result<TerminalRow, Stop> {
    if let Some(row) = rows.terminal(name)? {
        return Ok(row);
    }
    let cash = open_account(rows, (KIND_CASH, &format!("cash:{name}")), like, now)?.id;
    let id = rows.next(Numbered::Terminal)?;
    let row = TerminalRow { id, cash };
    rows.changes.terminals.push((name.clone(), row));
    Ok(row)
}

/// Opens an account of this kind and name, in the currency of the account `like`.
pub(in crate::store) fn open_account(
    rows: &mut WorkingSet,
    (kind, name): (i64, &str),
    like: &AccountRow,
    now: Timestamp,
) -> Result<AccountRow, Stop> {
    let row = AccountRow {
        id: rows.next(Numbered::Account)?,
        number: name.into(),
        status: 0,
        currency: like.currency.clone(),
        balance: 0,
        held: 0,
        day: 0,
        day_used: 0,
        withdrawal_limit: None,
        daily_limit: None,
        head: CHAIN_START,
        last_entry: 0,
        postings: 0,
    };
    rows.changes.opened.push(OpenedAccount {
        kind,
        at: now,
        row: row.clone(),
    });
    rows.save(&row);
    Ok(row)
}
