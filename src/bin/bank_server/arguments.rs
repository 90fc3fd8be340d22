//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::attack::AttackArguments;

/// A hardened bank server for terminals (ATMs, kiosks, tills).
#[derive(Parser)]
#[command(name = "bank_server", version)]
pub(crate) struct Arguments {
    /// Configuration file; without it config/bank_server.toml where that stands.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Machine-readable output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Task>,
}

#[derive(Subcommand)]
pub(crate) enum Task {
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
    /// The bank's time, the wall clock's, and why they differ.
    Clock {
        #[command(subcommand)]
        task: Option<ClockTask>,
    },
    /// The audit log: who did what, when and where.
    Audit(AuditArguments),
    /// Withdrawals captured after their hold had expired, newest first.
    LateCaptures {
        /// How many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Secrets of the bank that PINs are hashed with.
    #[command(subcommand)]
    Pepper(PepperTask),
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
    /// Attack a deployment of your own, and say what held.
    Attack(Box<AttackArguments>),
    /// Print a shell's completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Args, Default)]
pub(crate) struct RunArguments {
    /// Listen here instead of where the configuration says.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Make certificates, pepper, store and demo accounts where they are missing.
    #[arg(long)]
    pub(crate) quick_start: bool,
    /// Go on without the answered commits that are lost from the store's journal, of exactly this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) accept_loss: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum AccountTask {
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
        /// Take the account's row as it is now, though somebody changed it past the bank; shows it.
        #[arg(long)]
        accept_row: bool,
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
pub(crate) enum TerminalTask {
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
    /// Let a terminal get its certificate itself: shows a one-time code, once; an earlier one of the
    /// same name is void.
    Invite {
        /// Its name.
        name: String,
    },
    /// List who may enrol and has not yet; no codes.
    Invites,
    /// Make a terminal's code void.
    Uninvite {
        /// Its name.
        name: String,
    },
    /// Revoke the certificates of a terminal that enrolled itself, and put it out.
    Revoke {
        /// Its name.
        name: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum ClockTask {
    /// Take the wall clock's as the bank's time, after telling what would expire. Mends what is stamped
    /// in the future.
    Accept {
        /// Without asking.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum PepperTask {
    /// Show the peppers' ids, and how many accounts stand on each.
    #[command(alias = "status")]
    Show,
    /// Make a new pepper; hashes move over as customers log in.
    Rotate,
    /// Take a pepper out of the file that no account stands on.
    Retire {
        /// Its id.
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct StatementArguments {
    /// Whose.
    pub(crate) account: String,
    /// Not before this moment (RFC 3339 or a date).
    #[arg(long, value_name = "T")]
    pub(crate) from: Option<String>,
    /// Before this moment.
    #[arg(long, value_name = "T")]
    pub(crate) to: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

#[derive(Args)]
pub(crate) struct AuditArguments {
    /// Not before this moment (RFC 3339 or a date).
    #[arg(long, value_name = "T")]
    pub(crate) from: Option<String>,
    /// Before this moment.
    #[arg(long, value_name = "T")]
    pub(crate) to: Option<String>,
    /// Only records with larger numbers than this.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) after: i64,
    /// Only of this event, as `login`.
    #[arg(long)]
    pub(crate) event: Option<String>,
    /// Only of this terminal.
    #[arg(long, value_name = "NAME")]
    pub(crate) terminal: Option<String>,
    /// Only the newest so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: Option<u32>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Csv,
    Json,
}
