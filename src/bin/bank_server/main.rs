//! The bank's server and its staff's commands: arguments in, exit code out.

mod arguments;
mod listing;

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use atm_bank::config::{Config, Overrides};
use atm_bank::domain::{AccountNumber, Pin};
use atm_bank::operator::{Command, HashText, OpenAccount, Report, accounts_file};
use atm_bank::service::{
    RunOptions, Source, Stop, check, exit, hash_accounts, hash_pin, invite, one_time_pin, perform,
    restore, run,
};
use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use self::arguments::{AccountTask, Arguments, RunArguments, Task, TerminalTask};
use self::listing::{list, statement, terminals};

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
    let ended = runtime.block_on(dispatch(arguments));
    // An audit or a backup that still runs is cut off, not waited for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match ended {
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
        Task::Terminal(TerminalTask::Invite { name }) => {
            return show(&invite(config, name).await?, json);
        }
        Task::Terminal(TerminalTask::Invites) => Command::Invitations,
        Task::Terminal(TerminalTask::Uninvite { name }) => Command::Uninvite { terminal: name },
        Task::Terminal(TerminalTask::Revoke { name }) => Command::RevokeTerminal { terminal: name },
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
