//! What staff are told: data with a stable form for programs, and words for people.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::access::pepper::Peppers;
use crate::domain::entry::ChainHash;
use crate::domain::{AuditRecord, Currency, printable};
use crate::store::{AccountReport, Audit, Invitation, Line, PepperUse, Seat, TerminalReport};

/// The outcome of a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// sysexits: 0 where it was done.
    pub exit_code: u8,
    /// For programs.
    pub data: Value,
    /// For people.
    pub text: String,
}

impl Report {
    pub(super) fn done(data: Value, text: impl Into<String>) -> Self {
        Self {
            exit_code: 0,
            data,
            text: text.into(),
        }
    }

    /// A command that was refused or could not be carried out.
    #[must_use]
    pub fn failed(exit_code: u8, reason: impl Into<String>) -> Self {
        let text = reason.into();
        Self {
            exit_code,
            data: json!({ "error": text, "exit_code": exit_code }),
            text,
        }
    }

    pub(super) fn account(report: &AccountReport, currency: Currency) -> Self {
        let money = |minor: Option<i64>| {
            minor.map_or("the bank's".to_owned(), |minor| currency.format(minor))
        };
        let text = format!(
            "account           {}\nstatus            {}{}\nbalance           {} {currency}\navailable         {} {currency}\n\
             withdrawal limit  {}\ndaily limit       {}\nwrong PINs        {}\nPIN               {}\nhome terminal     {}",
            report.account,
            report.status,
            match (report.locked_out_at_home, report.locked_out_elsewhere) {
                (true, true) => ", locked out by wrong PINs",
                (true, false) => ", locked out by wrong PINs at its home terminal",
                // Without a home all terminals are others.
                (false, true) if report.home_terminal.is_none() => ", locked out by wrong PINs",
                (false, true) => ", locked out by wrong PINs at all but its home terminal",
                (false, false) => "",
            },
            currency.format(report.balance),
            currency.format(report.available),
            money(report.withdrawal_limit),
            money(report.daily_withdrawal_limit),
            match report.tries_at_home {
                0 => report.tries.to_string(),
                at_home => format!("{}, {at_home} of them at its home terminal", report.tries),
            },
            match (report.must_change_pin, report.demo) {
                (true, _) => "one-time, to be changed",
                (_, true) => "public (demo account)",
                _ => "the customer's own",
            },
            printable::line(report.home_terminal.as_deref().unwrap_or("none yet")),
        );
        Self::done(json!(report), text)
    }

    pub(super) fn accounts(reports: &[AccountReport], currency: Currency) -> Self {
        let mut text = format!(
            "{:<10} {:<8} {:>18} {:>18}  notes",
            "account", "status", "balance", "available"
        );
        for report in reports {
            let mut notes = Vec::new();
            notes.extend(report.locked_out.then_some("locked out"));
            notes.extend(report.must_change_pin.then_some("one-time PIN"));
            notes.extend(report.demo.then_some("demo"));
            text.push_str(&format!(
                "\n{:<10} {:<8} {:>18} {:>18}  {}",
                report.account,
                report.status,
                currency.format(report.balance),
                currency.format(report.available),
                notes.join(", ")
            ));
        }
        Self::done(
            json!({ "accounts": reports, "currency": currency.code() }),
            text,
        )
    }

    pub(super) fn lines(lines: &[Line], currency: Currency) -> Self {
        let mut text = format!(
            "{:>8}  {:<24}  {:<15} {:>16} {:>18}  {:<16} {}",
            "entry", "at", "kind", "amount", "balance", "terminal", "counterparty"
        );
        let mut entries = Vec::new();
        for line in lines {
            let counterparty = line.counterparty.map(|account| account.to_string());
            let note = line.reason.as_deref().map(printable::line);
            text.push_str(&format!(
                "\n{:>8}  {:<24}  {:<15} {:>16} {:>18}  {:<16} {}",
                line.entry,
                line.at.to_string(),
                line.kind.name(line.amount),
                currency.format(line.amount),
                currency.format(line.balance),
                printable::line(&line.terminal),
                counterparty
                    .as_deref()
                    .or(note.as_deref())
                    .unwrap_or_default()
            ));
            entries.push(json!({
                "entry": line.entry,
                "at": line.at.to_string(),
                "kind": line.kind.name(line.amount),
                "amount": line.amount,
                "balance": line.balance,
                "terminal": line.terminal,
                "counterparty": counterparty,
                "reason": line.reason,
            }));
        }
        Self::done(
            json!({ "entries": entries, "currency": currency.code() }),
            text,
        )
    }

    pub(super) fn sessions(seats: &[Seat]) -> Self {
        let mut text = format!(
            "{:<10} {:<32} {:>10}  {}",
            "account", "terminal", "connection", "since"
        );
        let mut sessions = Vec::new();
        for seat in seats {
            text.push_str(&format!(
                "\n{:<10} {:<32} {:>10}  {}",
                seat.account, seat.terminal, seat.connection, seat.since
            ));
            sessions.push(json!({
                "account": seat.account.to_string(),
                "terminal": seat.terminal.as_str(),
                "connection": seat.connection,
                "since": seat.since.to_string(),
            }));
        }
        Self::done(json!({ "sessions": sessions }), text)
    }

    pub(super) fn terminals<'t>(
        terminals: impl Iterator<Item = &'t TerminalReport>,
        currency: Currency,
    ) -> Self {
        let mut text = format!(
            "{:<32} {:<9} {:>18} {:>11}  {}",
            "terminal", "", "cash taken in", "connections", "connected at"
        );
        let mut listed = Vec::new();
        for terminal in terminals {
            let connected_at = terminal.connected_at.map(|at| at.to_string());
            text.push_str(&format!(
                "\n{:<32} {:<9} {:>18} {:>11}  {}",
                printable::line(&terminal.terminal),
                if terminal.disabled {
                    "disabled"
                } else {
                    "enabled"
                },
                currency.format(terminal.cash.saturating_neg()),
                terminal.connections,
                connected_at.as_deref().unwrap_or("-"),
            ));
            listed.push(json!({
                "terminal": terminal.terminal,
                "disabled": terminal.disabled,
                "cash": terminal.cash,
                "cash_taken_in": terminal.cash.saturating_neg(),
                "connections": terminal.connections,
                "connected_at": connected_at,
            }));
        }
        Self::done(
            json!({ "terminals": listed, "currency": currency.code() }),
            text,
        )
    }

    pub(super) fn invitations(open: &[Invitation]) -> Self {
        let mut text = format!("{:<32} {:<24}  {}", "terminal", "invited", "until");
        let mut invitations = Vec::new();
        for one in open {
            let (made, expires) = (one.made_at.to_string(), one.expires_at.to_string());
            text.push_str(&format!("\n{:<32} {made:<24}  {expires}", one.terminal));
            invitations.push(json!({
                "terminal": one.terminal.as_str(),
                "made_at": made,
                "expires_at": expires,
            }));
        }
        Self::done(json!({ "invitations": invitations }), text)
    }

    pub(super) fn records(records: &[(AuditRecord, ChainHash)]) -> Self {
        let mut text = format!(
            "{:>8}  {:<24}  {:<18} {:<15} {:<9} {:<16} {:>10}  {:<20} {}",
            "number",
            "at",
            "event",
            "outcome",
            "account",
            "terminal",
            "connection",
            "actor",
            "detail"
        );
        let mut listed = Vec::new();
        for (record, hash) in records {
            let shown = |text: &Option<String>| printable::line(text.as_deref().unwrap_or("-"));
            text.push_str(&format!(
                "\n{:>8}  {:<24}  {:<18} {:<15} {:<9} {:<16} {:>10}  {:<20} {}",
                record.number,
                record.at.to_string(),
                printable::line(&record.event),
                printable::line(&record.outcome),
                shown(&record.account),
                shown(&record.terminal),
                record
                    .connection
                    .map_or_else(|| "-".to_owned(), |number| number.to_string()),
                printable::line(&record.actor),
                printable::line(&record.detail),
            ));
            listed.push(json!({
                "number": record.number,
                "at": record.at.to_string(),
                "event": record.event,
                "outcome": record.outcome,
                "account": record.account,
                "terminal": record.terminal,
                "connection": record.connection,
                "actor": record.actor,
                "detail": record.detail,
                "hash": HEXLOWER.encode(hash),
            }));
        }
        Self::done(json!({ "records": listed }), text)
    }

    /// Every pepper of the file, and any that the store needs besides, with the accounts on it.
    pub(super) fn peppers(ring: &Peppers, uses: &[PepperUse]) -> Self {
        let beyond = uses.iter().map(|used| &used.pepper);
        let beyond = beyond.filter(|id| !ring.contains(id));
        let total = uses
            .iter()
            .fold(0_u64, |sum, used| sum.saturating_add(used.accounts));
        let mut text = format!("{:<32} {:>10}  {}", "pepper", "accounts", "");
        let (mut peppers, mut moved) = (Vec::new(), 0);
        for id in ring.ids().chain(beyond) {
            let used = uses.iter().find(|used| used.pepper == *id);
            let accounts = used.map_or(0, |used| used.accounts);
            let current = ring.current() == Some(id);
            let note = match (current, ring.contains(id), accounts) {
                (true, ..) => "current: new hashes are made with it",
                (_, false, _) => "MISSING from the pepper file",
                (_, _, 0) => "no account needs it",
                _ => "moves at the customers' next log-in",
            };
            if current {
                moved = accounts;
            }
            text.push_str(&format!("\n{:<32} {accounts:>10}  {note}", id.as_str()));
            peppers.push(json!({
                "pepper": id.as_str(),
                "current": current,
                "in_file": ring.contains(id),
                "accounts": accounts,
            }));
        }
        text.push_str(&format!(
            "\n{moved} of {total} accounts stand on the current pepper"
        ));
        let data = json!({ "peppers": peppers, "accounts": total, "accounts_on_current": moved });
        Self::done(data, text)
    }

    pub(super) fn audit(audit: &Audit, currency: Currency) -> Self {
        let mut text = format!(
            "accounts    {}\nentries     {}\nopen holds  {}\nkeys        {}\ncustomers   {} {currency}\nledger sum  {}\naudit log   {}\n\
             row log     {}\nhead        {}\nfull head   {}",
            audit.accounts,
            audit.entries,
            audit.open_holds,
            audit.keys,
            currency.format(audit.customers_total),
            currency.format(audit.ledger_total),
            audit.log.count,
            audit.rows.count,
            audit.head,
            audit.full_head(),
        );
        for fault in &audit.faults {
            text.push_str(&format!("\nFAULT: {}", printable::line(fault)));
        }
        for noted in &audit.noted {
            text.push_str(&format!("\nnoted: {}", printable::line(noted)));
        }
        if audit.faults.is_empty() {
            text.push_str("\nthe ledger is whole, and the audit log");
        }
        if audit.unchecked_rows > 0 {
            text.push_str(&format!(
                "\nNOT CHECKED: without the pepper file nothing tells whether {} rows of accounts and terminals are as \
                 the bank wrote them",
                audit.unchecked_rows
            ));
        }
        let data = json!({
            "accounts": audit.accounts,
            "entries": audit.entries,
            "open_holds": audit.open_holds,
            "keys": audit.keys,
            "customers_total": audit.customers_total,
            "ledger_total": audit.ledger_total,
            "currency": currency.code(),
            "audit_records": audit.log.count,
            "row_records": audit.rows.count,
            "unchecked_rows": audit.unchecked_rows,
            "head": audit.head.to_string(),
            "full_head": audit.full_head().to_string(),
            "noted": audit.noted,
            "faults": audit.faults,
        });
        Self {
            exit_code: u8::from(!audit.faults.is_empty()),
            data,
            text,
        }
    }
}
