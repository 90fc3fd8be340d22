//! What staff are told: data with a stable form for programs, and words for people.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::Currency;
use crate::store::{AccountReport, Audit, Invitation, Line, Seat, TerminalReport};

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
            if report.locked_out {
                ", locked out by wrong PINs"
            } else {
                ""
            },
            currency.format(report.balance),
            currency.format(report.available),
            money(report.withdrawal_limit),
            money(report.daily_withdrawal_limit),
            report.tries,
            match (report.must_change_pin, report.demo) {
                (true, _) => "one-time, to be changed",
                (_, true) => "public (demo account)",
                _ => "the customer's own",
            },
            report.home_terminal.as_deref().unwrap_or("none yet"),
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
            let note = line.reason.as_deref().map(printable);
            text.push_str(&format!(
                "\n{:>8}  {:<24}  {:<15} {:>16} {:>18}  {:<16} {}",
                line.entry,
                line.at.to_string(),
                line.kind.name(line.amount),
                currency.format(line.amount),
                currency.format(line.balance),
                line.terminal,
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

    pub(super) fn terminals(terminals: &[TerminalReport], currency: Currency) -> Self {
        let mut text = format!("{:<32} {:<9} {:>18}", "terminal", "", "cash taken in");
        for terminal in terminals {
            text.push_str(&format!(
                "\n{:<32} {:<9} {:>18}",
                terminal.terminal,
                if terminal.disabled {
                    "disabled"
                } else {
                    "enabled"
                },
                currency.format(terminal.cash.saturating_neg())
            ));
        }
        Self::done(
            json!({ "terminals": terminals, "currency": currency.code() }),
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

    pub(super) fn audit(audit: &Audit, currency: Currency) -> Self {
        let mut text = format!(
            "accounts    {}\nentries     {}\nopen holds  {}\nkeys        {}\ncustomers   {} {currency}\nledger sum  {}\nhead        {}",
            audit.accounts,
            audit.entries,
            audit.open_holds,
            audit.keys,
            currency.format(audit.customers_total),
            currency.format(audit.ledger_total),
            audit.head,
        );
        for fault in &audit.faults {
            text.push_str(&format!("\nFAULT: {}", printable(fault)));
        }
        if audit.faults.is_empty() {
            text.push_str("\nthe ledger is whole");
        }
        let data = json!({
            "accounts": audit.accounts,
            "entries": audit.entries,
            "open_holds": audit.open_holds,
            "keys": audit.keys,
            "customers_total": audit.customers_total,
            "ledger_total": audit.ledger_total,
            "currency": currency.code(),
            "head": audit.head.to_string(),
            "faults": audit.faults,
        });
        Self {
            exit_code: u8::from(!audit.faults.is_empty()),
            data,
            text,
        }
    }
}

/// Text that came from outside, without anything that a terminal would obey.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
