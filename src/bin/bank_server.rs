//! The bank's server and its staff's commands: arguments in, exit code out.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use atm_bank::config::{Config, Overrides};
use atm_bank::domain::{AccountNumber, Pin};
use atm_bank::operator::{Command, HashText, OpenAccount, Report, accounts_file};
use atm_bank::service::{
    RunOptions, Source, Stop, check, exit, hash_accounts, hash_pin, one_time_pin, perform, restore,
    run,
};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// A hardened bank server for terminals (ATMs, kiosks, tills).
#[derive(Parser)]
#[command(name = "bank_server", version)]
struct Arguments {
    /// Configuration file; without it config/bank_server.toml where that stands.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Machine-readable output.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Task>,
}

#[derive(Subcommand)]
enum Task {
    /// Serve (also without a command).
    Run(RunArguments),
    /// Check the configuration and the files it names.
    Check {
        /// Only the configuration itself.
        #[arg(long)]
        config_only: bool,
    },
    /// Open accounts from a file of `account, pin, balance` lines, all or none.
    Import {
        /// The file.
        file: PathBuf,
    },
    /// Customers' accounts.
    #[command(subcommand)]
    Account(AccountTask),
    /// Who is being served; end a session.
    Sessions {
        /// End the session on this account.
        #[arg(long, value_name = "ACCOUNT")]
        end: Option<String>,
    },
    /// Terminals by name.
    #[command(subcommand)]
    Terminal(TerminalTask),
    /// An account's entries.
    Statement(StatementArguments),
    /// Audit the whole ledger.
    Verify {
        /// Also that nothing before this digest has changed.
        #[arg(long, value_name = "DIGEST")]
        head: Option<String>,
    },
    /// Withdrawals captured after their hold had expired, newest first.
    LateCaptures {
        /// How many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Copy the store to a new file, also while serving.
    Backup {
        /// The file to make.
        file: PathBuf,
    },
    /// Put a backup in the store's place, while stopped.
    Restore {
        /// The backup.
        file: PathBuf,
    },
    /// Print a shell's completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Args, Default)]
struct RunArguments {
    /// Listen here instead of where the configuration says.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Make certificates, pepper, store and demo accounts where they are missing.
    #[arg(long)]
    quick_start: bool,
}

#[derive(Subcommand)]
enum AccountTask {
    /// Open an account; its PIN is asked for.
    Add {
        /// Its number.
        account: String,
        /// What it starts with.
        #[arg(long, default_value = "0")]
        balance: String,
    },
    /// Show an account.
    Show {
        /// Its number.
        account: String,
    },
    /// List all accounts.
    List,
    /// Close an empty account.
    Close {
        /// Its number.
        account: String,
    },
    /// Let nobody log in on an account.
    Lock {
        /// Its number.
        account: String,
    },
    /// Unlock an account, and forget wrong PINs.
    Unlock {
        /// Its number.
        account: String,
    },
    /// Give a one-time PIN, shown once, valid for 24 hours.
    SetPin {
        /// Whose.
        account: String,
    },
    /// Give an account limits of its own; `default` gives it the bank's again.
    Limit {
        /// Whose.
        account: String,
        /// The most one withdrawal may be.
        #[arg(long, value_name = "AMOUNT")]
        withdrawal: Option<String>,
        /// The most a business day's withdrawals may be.
        #[arg(long, value_name = "AMOUNT")]
        daily: Option<String>,
    },
    /// Correct a balance by an entry of its own kind.
    Adjust {
        /// Whose.
        account: String,
        /// How much, signed: 5.00 or -5.00.
        #[arg(allow_hyphen_values = true)]
        amount: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Subcommand)]
enum TerminalTask {
    /// List terminals.
    List {
        /// Only this one.
        name: Option<String>,
    },
    /// Put a terminal out, and let it in no more.
    Disable {
        /// Its name.
        name: String,
    },
    /// Let a terminal in again.
    Enable {
        /// Its name.
        name: String,
    },
}

#[derive(Args)]
struct StatementArguments {
    /// Whose.
    account: String,
    /// Not before this moment (RFC 3339 or a date).
    #[arg(long, value_name = "T")]
    from: Option<String>,
    /// Before this moment.
    #[arg(long, value_name = "T")]
    to: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    // What this process makes is for its own user only.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let json = arguments.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report_stop(&Stop::new(exit::SYSTEM, error.to_string()), json),
    };
    match runtime.block_on(dispatch(arguments)) {
        Ok(code) => ExitCode::from(code),
        Err(stop) => report_stop(&stop, json),
    }
}

/// An error goes to stderr, and with `--json` to stdout as an object too.
fn report_stop(stop: &Stop, json: bool) -> ExitCode {
    let _ = writeln!(io::stderr(), "bank_server: {}", stop.reason);
    if json {
        let _ = writeln!(
            io::stdout(),
            "{}",
            json!({ "error": stop.reason, "exit_code": stop.code })
        );
    }
    ExitCode::from(stop.code)
}

async fn dispatch(arguments: Arguments) -> Result<u8, Stop> {
    let Arguments {
        config,
        json,
        command,
    } = arguments;
    let mut source = Source {
        file: config,
        overrides: Overrides::default(),
    };
    match command.unwrap_or(Task::Run(RunArguments::default())) {
        Task::Run(RunArguments {
            listen,
            quick_start,
        }) => {
            let bare = source.file.is_none() && listen.is_none() && !quick_start;
            source.overrides.listen = listen;
            run(&RunOptions {
                source,
                quick_start,
                bare,
            })
            .await
            .map(|()| 0)
        }
        Task::Check { config_only } => check_report(&source, config_only, json),
        Task::Completions { shell } => {
            let mut out = io::stdout();
            clap_complete::generate(shell, &mut Arguments::command(), "bank_server", &mut out);
            Ok(0)
        }
        task => {
            let loaded = source.load()?;
            for warning in &loaded.warnings {
                let _ = writeln!(io::stderr(), "bank_server: warning: {warning}");
            }
            staff(&loaded.config, task, json).await
        }
    }
}

async fn staff(config: &Config, task: Task, json: bool) -> Result<u8, Stop> {
    let command = match task {
        Task::Import { file } => return import(config, &file, json).await,
        Task::Account(AccountTask::List) => return list(config, json).await,
        Task::Account(AccountTask::SetPin { account }) => {
            return set_pin(config, &account, json).await;
        }
        Task::Account(task) => account_command(config, task).await?,
        Task::Statement(arguments) => return statement(config, arguments, json).await,
        Task::Restore { file } => return restored(config, &file, json),
        Task::Sessions { end: Some(account) } => Command::EndSession { account },
        Task::Sessions { end: None } => Command::Sessions,
        Task::Terminal(TerminalTask::List { name }) => return terminals(config, name, json).await,
        Task::Terminal(TerminalTask::Disable { name }) => Command::Terminal {
            terminal: name,
            disabled: true,
        },
        Task::Terminal(TerminalTask::Enable { name }) => Command::Terminal {
            terminal: name,
            disabled: false,
        },
        Task::Verify { head } => Command::Verify { head },
        Task::LateCaptures { limit } => Command::LateCaptures { limit },
        Task::Backup { file } => Command::Backup {
            file: absolute(&file)?,
        },
        Task::Run(_) | Task::Check { .. } | Task::Completions { .. } => {
            return Err(Stop::new(exit::SOFTWARE, "this command is not the staff's"));
        }
    };
    show(&perform(config, command).await?, json)
}

async fn account_command(config: &Config, task: AccountTask) -> Result<Command, Stop> {
    Ok(match task {
        AccountTask::Add { account, balance } => add(config, &account, &balance)?,
        AccountTask::Show { account } => Command::Show { account },
        AccountTask::Close { account } => Command::Close { account },
        AccountTask::Lock { account } => Command::Lock {
            account,
            locked: true,
        },
        AccountTask::Unlock { account } => Command::Lock {
            account,
            locked: false,
        },
        AccountTask::Adjust {
            account,
            amount,
            reason,
        } => Command::Adjust {
            account,
            amount,
            reason,
        },
        AccountTask::Limit {
            account,
            withdrawal,
            daily,
        } => limit(config, account, withdrawal, daily).await?,
        AccountTask::List | AccountTask::SetPin { .. } => {
            return Err(Stop::new(
                exit::SOFTWARE,
                "this command has a road of its own",
            ));
        }
    })
}

fn show(report: &Report, json: bool) -> Result<u8, Stop> {
    let failed = report.data.get("error").is_some();
    match (json, failed) {
        (true, _) => print(&report.data.to_string())?,
        (false, false) => print(&report.text)?,
        (false, true) => {
            let _ = writeln!(io::stderr(), "bank_server: {}", report.text);
        }
    }
    Ok(report.exit_code)
}

fn print(text: &str) -> Result<(), Stop> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|error| Stop::new(exit::IO, format!("cannot write to stdout: {error}")))
}

fn check_report(source: &Source, config_only: bool, json: bool) -> Result<u8, Stop> {
    let report = check(source, config_only);
    if json {
        print(&json!(report).to_string())?;
    } else {
        for warning in &report.warnings {
            print(&format!("warning: {warning}"))?;
        }
        for error in &report.errors {
            print(&format!("error: {error}"))?;
        }
        if report.errors.is_empty() {
            print("nothing keeps the server from starting")?;
        }
    }
    Ok(report.exit_code())
}

async fn import(config: &Config, file: &Path, json: bool) -> Result<u8, Stop> {
    let bytes = std::fs::read(file).map(Zeroizing::new).map_err(|error| {
        Stop::new(
            exit::NO_INPUT,
            format!("cannot read {}: {error}", file.display()),
        )
    })?;
    let lines = accounts_file::parse(&bytes, config.accounts.currency).map_err(|bad| {
        let reasons: Vec<String> = bad
            .iter()
            .map(|line| format!("{}, {line}", file.display()))
            .collect();
        Stop::new(
            exit::DATA,
            format!("{}\nnothing was imported", reasons.join("\n")),
        )
    })?;
    let weak = lines
        .iter()
        .filter(|line| line.pin.is_weak(&line.number))
        .count();
    let bar = indicatif::ProgressBar::new(u64::try_from(lines.len()).unwrap_or(u64::MAX));
    let accounts = hash_accounts(config, &lines, false, &|| bar.inc(1))?;
    bar.finish_and_clear();
    let mut report = perform(config, Command::Open { accounts }).await?;
    if let Some(data) = report.data.as_object_mut() {
        data.insert("weak_pins".to_owned(), json!(weak));
    }
    if weak > 0 && report.exit_code == 0 {
        report.text.push_str(&format!(
            "\n{weak} of the file's PINs are weak; ask their owners to change them"
        ));
    }
    show(&report, json)
}

fn add(config: &Config, account: &str, balance: &str) -> Result<Command, Stop> {
    let number = number(account)?;
    let currency = config.accounts.currency;
    let balance = currency.parse_exact(balance).ok_or_else(|| {
        Stop::new(
            exit::DATA,
            format!("a balance has {} decimals", currency.decimals()),
        )
    })?;
    let pin = ask_pin()?;
    if pin.is_weak(&number) {
        let _ = writeln!(io::stderr(), "bank_server: warning: that PIN is weak");
    }
    let hash = hash_pin(config, &pin)?;
    let account = OpenAccount {
        account: number.to_string(),
        hash,
        balance,
        demo: false,
    };
    Ok(Command::Open {
        accounts: vec![account],
    })
}

fn number(text: &str) -> Result<AccountNumber, Stop> {
    text.parse()
        .map_err(|error| Stop::new(exit::DATA, format!("{error}")))
}

/// Asked for twice at a terminal; else the first line of standard input.
fn ask_pin() -> Result<Pin, Stop> {
    let failed = |error: io::Error| Stop::new(exit::IO, format!("cannot read the PIN: {error}"));
    let text = if io::stdin().is_terminal() {
        let first = Zeroizing::new(rpassword::prompt_password("PIN: ").map_err(failed)?);
        let again = Zeroizing::new(rpassword::prompt_password("PIN again: ").map_err(failed)?);
        if first != again {
            return Err(Stop::new(exit::DATA, "the two PINs differ"));
        }
        first
    } else {
        let mut text = Zeroizing::new(String::new());
        io::stdin()
            .take(1_024)
            .read_to_string(&mut text)
            .map_err(failed)?;
        Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
    };
    Pin::parse(text.trim()).map_err(|error| Stop::new(exit::DATA, error.to_string()))
}

async fn set_pin(config: &Config, account: &str, json: bool) -> Result<u8, Stop> {
    const VALID_MS: u64 = 86_400_000;
    let number = number(account)?;
    let text = Zeroizing::new(one_time_pin(&number));
    let pin = Pin::parse(&text).map_err(|error| Stop::new(exit::SOFTWARE, error.to_string()))?;
    let hash: HashText = hash_pin(config, &pin)?;
    let command = Command::SetPin {
        account: number.to_string(),
        hash,
        valid_ms: VALID_MS,
    };
    let mut report = perform(config, command).await?;
    if report.exit_code == 0 {
        report.data = json!({ "account": number.to_string(), "one_time_pin": text.as_str(), "valid_ms": VALID_MS });
        report.text = format!(
            "one-time PIN of {number}: {}\nit is shown only now, serves for 24 hours, and only to choose another",
            text.as_str()
        );
    }
    show(&report, json)
}

/// A limit that is not named stays as it is.
async fn limit(
    config: &Config,
    account: String,
    withdrawal: Option<String>,
    daily: Option<String>,
) -> Result<Command, Stop> {
    let present = perform(
        config,
        Command::Show {
            account: account.clone(),
        },
    )
    .await?;
    if present.exit_code != 0 {
        return Err(Stop::new(present.exit_code, present.text));
    }
    let currency = config.accounts.currency;
    let chosen = |asked: Option<String>, member: &str| match asked.as_deref() {
        Some("default") => None,
        Some(_) => asked,
        None => present
            .data
            .get(member)
            .and_then(Value::as_i64)
            .map(|minor| currency.format(minor)),
    };
    Ok(Command::Limit {
        withdrawal: chosen(withdrawal, "withdrawal_limit"),
        daily: chosen(daily, "daily_withdrawal_limit"),
        account,
    })
}

/// Rows of one page of a long list.
const PAGE_ROWS: usize = 5_000;

/// Fetches page after page and hands each on; ends with the first that is not full.
async fn pages(
    config: &Config,
    member: &str,
    mut command: impl FnMut(Option<&Value>) -> Command,
    mut page: impl FnMut(&Report, bool) -> Result<(), Stop>,
) -> Result<u8, Stop> {
    let mut last: Option<Value> = None;
    loop {
        let report = perform(config, command(last.as_ref())).await?;
        if report.exit_code != 0 {
            return show(&report, false);
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

async fn list(config: &Config, json: bool) -> Result<u8, Stop> {
    let mut all = Vec::new();
    let command = |last: Option<&Value>| Command::List {
        after: member_text(last, "account"),
        limit: PAGE_ROWS,
    };
    let code = pages(config, "accounts", command, |report, first| {
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

async fn terminals(config: &Config, name: Option<String>, json: bool) -> Result<u8, Stop> {
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

async fn statement(config: &Config, arguments: StatementArguments, json: bool) -> Result<u8, Stop> {
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
    let code = pages(config, "entries", command, |report, first| {
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

fn restored(config: &Config, file: &Path, json: bool) -> Result<u8, Stop> {
    let kept = restore(config, file)?.map(|path| path.display().to_string());
    let text = match &kept {
        Some(path) => format!("restored; what stood there is kept as {path}"),
        None => "restored".to_owned(),
    };
    let data = json!({ "restored": file.display().to_string(), "kept": kept });
    show(
        &Report {
            exit_code: 0,
            data,
            text,
        },
        json,
    )
}

/// The server has a working folder of its own.
fn absolute(path: &Path) -> Result<PathBuf, Stop> {
    std::path::absolute(path)
        .map_err(|error| Stop::new(exit::IO, format!("{}: {error}", path.display())))
}
