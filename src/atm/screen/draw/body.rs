//! The lines of each view.

use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::Line;

use super::{ACCENT, QUIET};
use crate::atm::screen::machine::{COUNTING_MS, Machine};
use crate::atm::screen::view::{Errand, MENU, Purpose, Secret, View, quick_amounts};
use crate::atm::words;
use crate::domain::Currency;
use crate::wire::answer::HistoryLine;

/// A history with its counterparties is so wide.
const TABLE_COLUMNS: usize = 78;
const BAR_CELLS: u64 = 30;
const SPINNER: [&str; 4] = ["|", "/", "-", "\\"];
const SPINNER_STEP_MS: u64 = 150;

/// The lines of the view, at most about `rows` of them where it is a list.
pub(super) fn lines(machine: &Machine, rows: usize, columns: u16) -> Vec<Line<'static>> {
    let currency = machine.session().map(|session| session.currency);
    match machine.view() {
        View::Welcome { account } => {
            vec![
                "Please type your account number.".into(),
                blank(),
                typed(account),
            ]
        }
        View::Pin { account, digits } => {
            vec![format!("Account {account}").into(), blank(), dots(digits)]
        }
        View::Waiting { errand } => waiting(*errand, machine.now_ms(), currency),
        View::Menu { selected } => menu(*selected, rows),
        View::Recipient { account } => {
            vec!["To which account?".into(), blank(), typed(account)]
        }
        View::Amount {
            purpose,
            text,
            selected,
        } => amount(*purpose, text, *selected, currency, rows),
        View::Confirm { purpose, amount } => confirm(*purpose, *amount, currency),
        View::Counting { amount, since_ms } => counting(
            *amount,
            machine.now_ms().saturating_sub(*since_ms),
            currency,
        ),
        View::History { entries, top, .. } => {
            let table = usize::from(columns) >= TABLE_COLUMNS;
            history(entries, *top, currency, rows, table)
        }
        View::ChangePin { old, new, digits } => {
            let one_time = machine
                .session()
                .is_some_and(|session| session.must_change_pin);
            let question = match (old, new) {
                (None, _) if one_time => "The PIN that the bank gave you",
                (None, _) => "Your present PIN",
                (Some(_), None) => "Your new PIN, 4 to 12 digits",
                (Some(_), Some(_)) => "Your new PIN once more",
            };
            vec![question.into(), blank(), dots(digits)]
        }
        View::Message { text, .. } => vec![text.clone().into()],
    }
}

fn blank() -> Line<'static> {
    Line::default()
}

fn typed(text: &str) -> Line<'static> {
    Line::from(format!("> {text}_")).style(Style::new().fg(ACCENT).add_modifier(Modifier::BOLD))
}

/// A PIN is seen as dots only.
fn dots(digits: &Secret) -> Line<'static> {
    typed(&"● ".repeat(digits.count()))
}

fn shown(minor: i64, currency: Option<Currency>) -> String {
    currency
        .map(|currency| words::money(minor, &currency))
        .unwrap_or_default()
}

fn choice(text: String, is_selected: bool) -> Line<'static> {
    if is_selected {
        Line::from(format!(" ▸ {text} ")).style(Style::new().fg(ACCENT).reversed())
    } else {
        Line::from(format!("   {text} "))
    }
}

/// The part of a list with its selected line, where not all of it fits.
fn window(lines: Vec<Line<'static>>, selected: usize, rows: usize) -> Vec<Line<'static>> {
    let rows = rows.max(1);
    let skipped = selected.saturating_add(1).saturating_sub(rows);
    lines.into_iter().skip(skipped).take(rows).collect()
}

fn menu(selected: usize, rows: usize) -> Vec<Line<'static>> {
    let items = MENU.iter().enumerate().map(|(index, (_, words))| {
        choice(
            format!("{}  {words}", index.saturating_add(1)),
            index == selected,
        )
    });
    window(items.collect(), selected, rows)
}

fn amount(
    purpose: Purpose,
    text: &str,
    selected: Option<usize>,
    currency: Option<Currency>,
    rows: usize,
) -> Vec<Line<'static>> {
    let Some(currency) = currency else {
        return Vec::new();
    };
    let question = match purpose {
        Purpose::Withdraw => "How much would you like to take out?".to_owned(),
        Purpose::Deposit => "How much do you put in?".to_owned(),
        Purpose::Transfer(to) => format!("How much would you like to send to {to}?"),
    };
    let quick = quick_amounts(&currency);
    let choices = quick
        .iter()
        .enumerate()
        .map(|(index, minor)| choice(words::money(*minor, &currency), selected == Some(index)));
    let other = match selected {
        Some(_) => Line::from(format!("> another amount, in {currency}")).style(QUIET),
        None => typed(text),
    };
    let mut lines = vec![question.into(), blank()];
    lines.extend(window(
        choices.collect(),
        selected.unwrap_or(0),
        rows.saturating_sub(4),
    ));
    lines.extend([blank(), other]);
    lines
}

fn confirm(purpose: Purpose, amount: i64, currency: Option<Currency>) -> Vec<Line<'static>> {
    let shown = shown(amount, currency);
    let question = match purpose {
        Purpose::Withdraw => format!("Take out {shown}?"),
        Purpose::Deposit => format!("Put {shown} into your account?"),
        Purpose::Transfer(to) => format!("Send {shown} to {to}?"),
    };
    vec![
        Line::from(question).bold(),
        blank(),
        "Enter: yes      Esc: no".into(),
    ]
}

fn counting(amount: i64, passed_ms: u64, currency: Option<Currency>) -> Vec<Line<'static>> {
    let cells = passed_ms.min(COUNTING_MS).saturating_mul(BAR_CELLS) / COUNTING_MS;
    let (full, empty) = (
        usize::try_from(cells).unwrap_or(0),
        usize::try_from(BAR_CELLS - cells).unwrap_or(0),
    );
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(empty));
    vec![
        Line::from(shown(amount, currency)).bold(),
        blank(),
        Line::from(bar).style(Style::new().fg(ACCENT)),
        blank(),
        "You can still cancel.".into(),
    ]
}

fn waiting(errand: Errand, now_ms: u64, currency: Option<Currency>) -> Vec<Line<'static>> {
    let text = match errand {
        Errand::Login(_) => "Checking your PIN".to_owned(),
        Errand::Authorize(amount) => format!("Preparing {}", shown(amount, currency)),
        Errand::Capture(amount) => format!("{} is in the tray", shown(amount, currency)),
        Errand::Release => "No cash is given out".to_owned(),
        Errand::LogOut => "Logging out".to_owned(),
        _ => "Asking your bank".to_owned(),
    };
    let step = usize::try_from(now_ms / SPINNER_STEP_MS).unwrap_or(0) % SPINNER.len();
    let spinner = SPINNER.get(step).copied().unwrap_or_default();
    vec![
        text.into(),
        blank(),
        Line::from(spinner).style(Style::new().fg(ACCENT)),
    ]
}

fn history(
    entries: &[HistoryLine],
    top: usize,
    currency: Option<Currency>,
    rows: usize,
    table: bool,
) -> Vec<Line<'static>> {
    let Some(currency) = currency else {
        return Vec::new();
    };
    if !table {
        let shown = entries.iter().skip(top).take((rows / 2).max(1));
        return shown.flat_map(|entry| in_two(entry, &currency)).collect();
    }
    let head = format!(
        "{:<16}  {:<18} {:>14} {:>16}",
        "when", "what", "amount", "balance"
    );
    let mut lines = vec![Line::from(head).style(QUIET)];
    lines.extend(
        entries
            .iter()
            .skip(top)
            .take(rows.saturating_sub(1))
            .map(|entry| {
                let who = entry
                    .counterparty
                    .as_deref()
                    .map(words::printable)
                    .unwrap_or_default();
                Line::from(format!(
                    "{:<16}  {:<18} {:>14} {:>16}  {who}",
                    words::moment(&entry.at),
                    words::kind(&entry.kind),
                    currency.format(entry.amount),
                    currency.format(entry.balance),
                ))
            }),
    );
    lines
}

/// An entry where a table would be cut: in two lines.
fn in_two(entry: &HistoryLine, currency: &Currency) -> [Line<'static>; 2] {
    let who = entry.counterparty.as_deref().map(words::printable);
    let (at, kind) = (words::moment(&entry.at), words::kind(&entry.kind));
    let first = format!("{at} {kind} {}", who.unwrap_or_default());
    let (amount, balance) = (
        currency.format(entry.amount),
        currency.format(entry.balance),
    );
    [
        first.trim_end().to_owned().into(),
        Line::from(format!("  {amount}, balance {balance}")).bold(),
    ]
}
