//! Long lists, fetched page by page: accounts, statements, the audit log; and terminals.

use std::io;

use atm_bank::config::Config;
use atm_bank::domain::printable;
use atm_bank::operator::{Command, Report};
use atm_bank::service::{Stop, exit, perform};
use serde_json::{Value, json};

use super::{print, print_json, show};
use crate::arguments::{AuditArguments, Format, StatementArguments};

/// Rows of one page of a long list.
const PAGE_ROWS: usize = 5_000;

/// Fetches page after page, where there is `more` than one, and hands each on; ends with the first
/// that is not full.
async fn pages(
    config: &Config,
    json: bool,
    (member, more): (&str, bool),
    mut command: impl FnMut(Option<&Value>) -> Command,
    mut page: impl FnMut(&Report, bool) -> Result<(), Stop>,
) -> Result<u8, Stop> {
    let mut last: Option<Value> = None;
    loop {
        let report = perform(config, command(last.as_ref())).await?;
        if report.exit_code != 0 {
            return show(&report, json);
        }
        let rows = rows_of(&report, member);
        page(&report, last.is_none())?;
        if !more || rows.len() < PAGE_ROWS {
            return Ok(0);
        }
        last = rows.last().cloned();
    }
}

/// The lines of a report's table, without its head where it is not the first page.
fn table(report: &Report, first: bool) -> Result<(), Stop> {
    let rows = report.text.split_once('\n').map_or("", |(_, rows)| rows);
    match (first, rows) {
        (true, _) => print(&report.text),
        (false, "") => Ok(()),
        (false, rows) => print(rows),
    }
}

fn rows_of(report: &Report, member: &str) -> Vec<Value> {
    let rows = report.data.get(member).and_then(Value::as_array);
    rows.cloned().unwrap_or_default()
}

fn member_text(row: Option<&Value>, member: &str) -> Option<String> {
    row.and_then(|row| row.get(member))
        .and_then(Value::as_str)
        .map(str::to_owned)
}

pub(crate) async fn list(config: &Config, json: bool) -> Result<u8, Stop> {
    let mut all = Vec::new();
    let command = |last: Option<&Value>| Command::List {
        after: member_text(last, "account"),
        limit: PAGE_ROWS,
    };
    let code = pages(
        config,
        json,
        ("accounts", true),
        command,
        |report, first| {
            if json {
                all.extend(rows_of(report, "accounts"));
                return Ok(());
            }
            table(report, first)
        },
    );
    let code = code.await?;
    if json && code == 0 {
        print_json(&json!({ "accounts": all, "currency": config.accounts.currency.code() }))?;
    }
    Ok(code)
}

pub(crate) async fn terminals(
    config: &Config,
    name: Option<String>,
    json: bool,
) -> Result<u8, Stop> {
    let mut report = perform(config, Command::Terminals).await?;
    if let Some(name) = name {
        if let Some(rows) = report
            .data
            .get_mut("terminals")
            .and_then(Value::as_array_mut)
        {
            rows.retain(|row| row.get("terminal").and_then(Value::as_str) == Some(name.as_str()));
        }
        let head = report.text.lines().next().unwrap_or_default().to_owned();
        let row = report
            .text
            .lines()
            .skip(1)
            .find(|line| line.split_whitespace().next() == Some(name.as_str()));
        report.text = row.map_or(head.clone(), |row| format!("{head}\n{row}"));
    }
    show(&report, json)
}

pub(crate) async fn statement(
    config: &Config,
    arguments: StatementArguments,
    json: bool,
) -> Result<u8, Stop> {
    let StatementArguments {
        account,
        from,
        to,
        format,
    } = arguments;
    let format = if json { Format::Json } else { format };
    let mut all = Vec::new();
    let command = |last: Option<&Value>| Command::Statement {
        account: account.clone(),
        after: last
            .and_then(|row| row.get("entry"))
            .and_then(Value::as_i64)
            .unwrap_or(0),
        from: from.clone(),
        to: to.clone(),
        limit: PAGE_ROWS,
    };
    let code = pages(config, json, ("entries", true), command, |report, first| {
        let rows = rows_of(report, "entries");
        match format {
            Format::Table => table(report, first),
            Format::Csv => print_csv(&STATEMENT_COLUMNS, &rows, first),
            Format::Json => {
                all.extend(rows);
                Ok(())
            }
        }
    });
    let code = code.await?;
    if format == Format::Json && code == 0 {
        let currency = config.accounts.currency.code();
        print_json(&json!({ "account": account, "entries": all, "currency": currency }))?;
    }
    Ok(code)
}

pub(crate) async fn audit(
    config: &Config,
    arguments: AuditArguments,
    json: bool,
) -> Result<u8, Stop> {
    let format = if json { Format::Json } else { arguments.format };
    let newest = arguments
        .limit
        .and_then(|limit| usize::try_from(limit).ok());
    let mut all = Vec::new();
    let command = |last: Option<&Value>| Command::Audit {
        after: last
            .and_then(|row| row.get("number"))
            .and_then(Value::as_i64)
            .unwrap_or(arguments.after),
        from: arguments.from.clone(),
        to: arguments.to.clone(),
        event: arguments.event.clone(),
        terminal: arguments.terminal.clone(),
        limit: newest.unwrap_or(PAGE_ROWS),
        newest: newest.is_some(),
    };
    let more = newest.is_none();
    let code = pages(config, json, ("records", more), command, |report, first| {
        let rows = rows_of(report, "records");
        match format {
            Format::Table => table(report, first),
            Format::Csv => print_csv(&AUDIT_COLUMNS, &rows, first),
            Format::Json => {
                all.extend(rows);
                Ok(())
            }
        }
    });
    let code = code.await?;
    if format == Format::Json && code == 0 {
        print_json(&json!({ "records": all }))?;
    }
    Ok(code)
}

const STATEMENT_COLUMNS: [&str; 8] = [
    "entry",
    "at",
    "kind",
    "amount",
    "balance",
    "terminal",
    "counterparty",
    "reason",
];

const AUDIT_COLUMNS: [&str; 10] = [
    "number",
    "at",
    "event",
    "outcome",
    "account",
    "terminal",
    "connection",
    "actor",
    "detail",
    "hash",
];

fn print_csv(columns: &[&str], rows: &[Value], first: bool) -> Result<(), Stop> {
    let failed =
        |error: csv::Error| Stop::new(exit::IO, format!("cannot write to stdout: {error}"));
    let mut out = csv::Writer::from_writer(io::stdout().lock());
    if first {
        out.write_record(columns).map_err(failed)?;
    }
    for row in rows {
        let fields = columns.iter().map(|column| match row.get(column) {
            Some(Value::String(text)) => printable::cell(text),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        });
        out.write_record(fields).map_err(failed)?;
    }
    out.flush()
        .map_err(|error| Stop::new(exit::IO, format!("cannot write to stdout: {error}")))
}
