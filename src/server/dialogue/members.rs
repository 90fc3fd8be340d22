//! What the bank did, as members of an answer.

use crate::bank::Moved;
use crate::bank::hold::Settled;
use crate::store::{Balances, Line};
use crate::wire::answer::{HistoryLine, Members};

pub(super) fn balance_members(balances: Option<Balances>) -> Members {
    Members {
        balance: balances.map(|balances| balances.balance),
        available: balances.map(|balances| balances.available),
        ..Members::default()
    }
}

pub(super) fn moved_members(moved: Moved) -> Members {
    Members {
        entry: Some(moved.entry),
        replayed: moved.replayed.then_some(true),
        ..balance_members(Some(moved.balances))
    }
}

pub(super) fn settled_members(settled: Settled) -> Members {
    Members {
        entry: settled.entry,
        late: settled.late.then_some(true),
        replayed: settled.replayed.then_some(true),
        ..balance_members(settled.balances)
    }
}

pub(super) fn history_line(line: Line) -> HistoryLine {
    HistoryLine {
        entry: line.entry,
        at: line.at.to_string(),
        kind: line.kind.name(line.amount).into(),
        amount: line.amount,
        balance: line.balance,
        terminal: line.terminal,
        counterparty: line.counterparty.map(|account| account.to_string()),
    }
}
