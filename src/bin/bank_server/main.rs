//! The bank's server and its staff's commands: arguments in, exit code out.

mod arguments;
mod attack;
mod clock;
mod listing;
mod prompt;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use atm_bank::config::{Config, Overrides};
use atm_bank::domain::{AccountNumber, Pin, printable};
use atm_bank::operator::{Command, HashText, OpenAccount, Report, accounts_file};
use atm_bank::service::{
    Confinement, Restored, RunOptions, Source, Stop, backup, check, confine, exit, hash_accounts,
    hash_pin, invite, one_time_pin, perform, read_accounts, refuse_too_much, restore, run,
    threads_can_be_had,
};
use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};
use zeroize::Zeroizing;
use zeroizing_alloc::ZeroAlloc;

use self::arguments::{
    AccountTask, Arguments, ClockTask, PepperTask, RunArguments, Task, TerminalTask,
};
use self::attack::attack;
use self::clock::accept_clock;
use self::listing::{audit, list, statement, terminals};
use self::prompt::ask_pin;

/// Every block is wiped when it is freed: PINs pass through buffers of libraries too.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    if let Some(index) = printable::first_with_control(std::env::args_os()) {
        say(&format!(
            "bank_server: argument {index} has a control character; write it without"
        ));
        return ExitCode::from(exit::DATA);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            if error.use_stderr() {
                say(&error.render().to_string());
                return ExitCode::from(exit::USAGE);
            }
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
    };
    // What this process makes is for its own user only.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let json = arguments.json;
    // Before any other thread runs, which would not be confined.
    let confinement = match &arguments.command {
        None | Some(Task::Run(_)) => confine_server(&arguments),
        Some(_) => Confinement::default(),
    };
    if let Err(stop) = threads_can_be_had() {
        return report_stop(&stop, json);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report_stop(&Stop::new(exit::SYSTEM, error.to_string()), json),
    };
    let ended = runtime.block_on(dispatch(arguments, confinement));
    // An audit or a backup that still runs is cut off, not waited for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(stop) => report_stop(&stop, json),
    }
}

/// An error goes to stderr, and with `--json` to stdout as an object too.
fn report_stop(stop: &Stop, json: bool) -> ExitCode {
    say(&format!("bank_server: {}", stop.reason));
    if json {
        let _ = print_json(&json!({ "error": stop.reason, "exit_code": stop.code }));
    }
    ExitCode::from(stop.code)
}

/// Words to stderr. They may hold what was typed, and a file's name: none of it steers a terminal.
fn say(words: &str) {
    let _ = writeln!(io::stderr(), "{}", printable::lines(words.trim_end()));
}

/// What is wrong with the configuration is said when it is read again to serve.
fn confine_server(arguments: &Arguments) -> Confinement {
    let source = Source {
        file: arguments.config.clone(),
        overrides: Overrides::default(),
    };
    let loaded = source.load().ok();
    confine(loaded.as_ref().map(|loaded| &loaded.config))
}

async fn dispatch(arguments: Arguments, confinement: Confinement) -> Result<u8, Stop> {
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
            accept_loss,
        }) => {
            let bare = source.file.is_none() && listen.is_none() && !quick_start;
            source.overrides.listen = listen;
            run(&RunOptions {
                source,
                quick_start,
                bare,
                accept_loss,
                confinement,
            })
            .await
            .map(|()| 0)
        }
        Task::Check { config_only } => check_report(&source, config_only, json),
        // It knows the bank from outside only: no configuration is read.
        Task::Attack(arguments) => Box::pin(attack(*arguments, json)).await,
        Task::Completions { shell } => {
            // Generating into what cannot be written to would be a panic.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "bank_server", &mut script);
            write_out(&script).map(|()| 0)
        }
        task => {
            let loaded = source.load()?;
            for warning in &loaded.warnings {
                say(&format!("bank_server: warning: {warning}"));
            }
            staff(&loaded.config, task, json).await
        }
    }
}

async fn staff(config: &Config, task: Task, json: bool) -> Result<u8, Stop> {
    let command = match task {
        Task::Import { file } => return import(config, &file, json).await,
        Task::Account(AccountTask::List) => return list(config, json).await,
        Task::Account(AccountTask::SetPin {
            account,
            accept_row,
        }) => {
            return set_pin(config, &account, accept_row, json).await;
        }
        Task::Account(task) => account_command(config, task).await?,
        Task::Statement(arguments) => return statement(config, arguments, json).await,
        Task::Audit(arguments) => return audit(config, arguments, json).await,
        Task::Restore { file } => return restored(config, &file, json).await,
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
        Task::Clock { task: None } => Command::Clock,
        Task::Clock {
            task: Some(ClockTask::Accept { yes }),
        } => return accept_clock(config, yes, json).await,
        Task::LateCaptures { limit } => Command::LateCaptures { limit },
        Task::Pepper(PepperTask::Show) => Command::Peppers,
        Task::Pepper(PepperTask::Rotate) => return rotate(config, json).await,
        Task::Pepper(PepperTask::Retire { id }) => Command::RetirePepper { pepper: id },
        Task::Backup { file } => return show(&backup(config, &file).await?, json),
        Task::Run(_) | Task::Check { .. } | Task::Attack(_) | Task::Completions { .. } => {
            return Err(Stop::new(exit::SOFTWARE, "this command is not the staff's"));
        }
    };
    // Several may be left alone; one that was named was meant to be made.
    let adds = matches!(&command, Command::Open { .. });
    let mut report = perform(config, command).await?;
    if adds && report.data.get("opened") == Some(&json!(0)) {
        let reason = "the account exists; it was left alone".to_owned();
        report.exit_code = exit::DATA;
        if let Some(data) = report.data.as_object_mut() {
            data.insert("error".to_owned(), json!(reason));
            data.insert("exit_code".to_owned(), json!(report.exit_code));
        }
        report.text = reason;
    }
    show(&report, json)
}

async fn rotate(config: &Config, json: bool) -> Result<u8, Stop> {
    let mut report = perform(config, Command::RotatePepper).await?;
    if report.exit_code == 0 {
        report.text.push_str(&format!(
            "\nnow copy {} to its safe place again: without the new pepper no new hash can be checked",
            config.pin.pepper_file.display()
        ));
    }
    show(&report, json)
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
        (true, _) => print_json(&report.data)?,
        (false, false) => print(&report.text)?,
        (false, true) => say(&format!("bank_server: {}", report.text)),
    }
    Ok(report.exit_code)
}

fn print(text: &str) -> Result<(), Stop> {
    write_out(format!("{}\n", printable::lines(text)).as_bytes())
}

fn write_out(bytes: &[u8]) -> Result<(), Stop> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Stop::new(exit::IO, format!("cannot write to stdout: {error}")))
}

fn print_json(value: &Value) -> Result<(), Stop> {
    print(&printable::json(&value.to_string()))
}

fn check_report(source: &Source, config_only: bool, json: bool) -> Result<u8, Stop> {
    let report = check(source, config_only);
    if json {
        print_json(&json!(report))?;
    } else {
        for warning in &report.warnings {
            print(&format!("warning: {warning}"))?;
        }
        for error in &report.errors {
            print(&format!("error: {error}"))?;
        }
        if report.errors.is_empty() {
            print("nothing that was looked at keeps the server from starting")?;
        }
    }
    Ok(report.exit_code())
}

async fn import(config: &Config, file: &Path, json: bool) -> Result<u8, Stop> {
    let bytes = read_accounts(file)?;
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
    if lines.is_empty() {
        let reason = format!(
            "{}: it holds no account; nothing was imported",
            file.display()
        );
        return Err(Stop::new(exit::DATA, reason));
    }
    refuse_too_much(config, &lines)?;
    let weak = lines
        .iter()
        .filter(|line| line.pin.is_weak(&line.number))
        .count();
    let bar = indicatif::ProgressBar::new(u64::try_from(lines.len()).unwrap_or(u64::MAX));
    let accounts = hash_accounts(config, &lines, false, &|| bar.inc(1))?;
    bar.finish_and_clear();
    let public = accounts.iter().filter(|account| account.demo).count();
    let mut report = perform(config, Command::Open { accounts }).await?;
    if let Some(data) = report.data.as_object_mut() {
        data.insert("weak_pins".to_owned(), json!(weak));
    }
    if weak > 0 && report.exit_code == 0 {
        report.text.push_str(&format!(
            "\nweak PINs in the file: {weak}; ask their owners to change them"
        ));
    }
    if public > 0 && report.exit_code == 0 {
        report.text.push_str(&format!(
            "\n{public} of them are demo accounts, whose PINs are public: with these the bank is served on loopback only"
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
        say("bank_server: warning: that PIN is weak");
    }
    let hash = hash_pin(config, &pin, true)?;
    let account = OpenAccount {
        account: number.to_string(),
        hash,
        balance,
        demo: pin.is_public(&number),
    };
    Ok(Command::Open {
        accounts: vec![account],
    })
}

fn number(text: &str) -> Result<AccountNumber, Stop> {
    text.parse()
        .map_err(|error| Stop::new(exit::DATA, format!("{error}")))
}

async fn set_pin(config: &Config, account: &str, accept_row: bool, json: bool) -> Result<u8, Stop> {
    const VALID_MS: u64 = 86_400_000;
    let number = number(account)?;
    let text = Zeroizing::new(one_time_pin(&number));
    let pin = Pin::parse(&text).map_err(|error| Stop::new(exit::SOFTWARE, error.to_string()))?;
    // Only what opens an account begins a bank.
    let hash: HashText = hash_pin(config, &pin, false)?;
    let command = Command::SetPin {
        account: number.to_string(),
        hash,
        valid_ms: VALID_MS,
        accept_row,
    };
    let mut report = perform(config, command).await?;
    if report.exit_code == 0 {
        let row = std::mem::take(&mut report.data);
        let accepted = match accept_row {
            true => format!(
                "this row is taken for the bank's own now:\n{}\n",
                report.text
            ),
            false => String::new(),
        };
        let closed = row.get("status").is_some_and(|status| status == "closed");
        let pin = text.as_str();
        report.data =
            json!({ "account": number.to_string(), "one_time_pin": pin, "valid_ms": VALID_MS });
        report.text = format!(
            "{accepted}one-time PIN of {number}: {pin}\nit is shown only now, serves for 24 hours, and only to choose another"
        );
        if closed {
            report.data = json!({ "account": number.to_string() });
            report.text = format!("{accepted}the account is closed, and has got no PIN");
        }
        if accept_row && let Some(data) = report.data.as_object_mut() {
            data.insert("accepted_row".to_owned(), row);
        }
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

async fn restored(config: &Config, file: &Path, json: bool) -> Result<u8, Stop> {
    let Restored { kept, warning } = restore(config, file).await?;
    let kept = kept.map(|path| path.display().to_string());
    let mut text = match &kept {
        Some(path) => format!("restored; what stood there is kept as {path}"),
        None => "restored".to_owned(),
    };
    text.push_str(
        "\nnow run: bank_server verify, with --head and the full head that was kept before the backup",
    );
    text.extend(warning.iter().map(|words| format!("\nwarning: {words}")));
    let data = json!({ "restored": file.display().to_string(), "kept": kept, "warning": warning });
    show(
        &Report {
            exit_code: 0,
            data,
            text,
        },
        json,
    )
}
