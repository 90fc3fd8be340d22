//! Long lists, fetched page by page: accounts, statements; and terminals.

use std::io;

use atm_bank::config::Config;
use atm_bank::operator::{Command, Report};
use atm_bank::service::{Stop, exit, perform};
use serde_json::{Value, json};

use super::{print, show};
use crate::arguments::{Format, StatementArguments};

/// Rows of one page of a long list.
const PAGE_ROWS: usize = 5_000;

/// Fetches page after page and hands each on; ends with the first that is not full.
async fn pages(
    config: &Config,
    json: bool,
    member: &str,
    mut command: impl FnMut(Option<&Value>) -> Command,
    mut page: impl FnMut(&Report, bool) -> Result<(), Stop>,
) -> Result<u8, Stop> {
    let mut last: Option<Value> = None;
    loop {
        let report = perform(config, command(last.as_ref())).await?;
        if report.exit_code != 0 {
            return show(&report, json);
        }
        let rows = report
            .data
            .get(member)
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        page(&report, last.is_none())?;
        if rows.len() < PAGE_ROWS {
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
    let code = pages(config, json, "accounts", command, |report, first| {
        if json {
            all.extend(
                report
                    .data
                    .get("accounts")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default(),
            );
            return Ok(());
        }
        table(report, first)
    });
    let code = code.await?;
    if json && code == 0 {
        print(
            &json!({ "accounts": all, "currency": config.accounts.currency.code() }).to_string(),
        )?;
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
    let code = pages(config, json, "entries", command, |report, first| {
        let rows = report
            .data
            .get("entries")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        match format {
            Format::Table => table(report, first),
            Format::Csv => print_csv(&rows, first),
            Format::Json => {
                all.extend(rows);
                Ok(())
            }
        }
    });
    let code = code.await?;
    if format == Format::Json && code == 0 {
        let currency = config.accounts.currency.code();
        print(&json!({ "account": account, "entries": all, "currency": currency }).to_string())?;
    }
    Ok(code)
}

fn print_csv(rows: &[Value], first: bool) -> Result<(), Stop> {
    const COLUMNS: [&str; 8] = [
        "entry",
        "at",
        "kind",
        "amount",
        "balance",
        "terminal",
        "counterparty",
        "reason",
    ];
    let failed =
        |error: csv::Error| Stop::new(exit::IO, format!("cannot write to stdout: {error}"));
    let mut out = csv::Writer::from_writer(io::stdout().lock());
    if first {
        out.write_record(COLUMNS).map_err(failed)?;
    }
    for row in rows {
        let fields = COLUMNS.map(|column| match row.get(column) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        });
        out.write_record(fields).map_err(failed)?;
    }
    out.flush()
        .map_err(|error| Stop::new(exit::IO, format!("cannot write to stdout: {error}")))
}
