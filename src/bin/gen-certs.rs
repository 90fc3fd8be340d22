//! Makes, renews, revokes and shows the bank's certificates.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use atm_bank::domain::{TerminalName, printable};
use atm_bank::pki::{
    Action, CertificateFolder, CertificateReport, IssueReport, ItemReport, LEAF_DAYS, MakeRequest,
    PkiError, RevokeReport, ServerName, ShowReport, Standing, Subject,
};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use serde::Serialize;
use time::OffsetDateTime;

/// Exit codes of `sysexits.h` that are not an error's of the library.
const USAGE: u8 = 64;
const INPUT_OUTPUT: u8 = 74;

const ABOUT: &str = "Makes the bank's certificates: what is missing is made, what is there is kept";

const AFTER_HELP: &str = "\
Files in DIR: ca.pem ca.key (the authority), server.pem server.key, terminals/NAME.pem
terminals/NAME.key, crl.pem (revoked certificates), issued.csv (serial, name, end; it only
grows), revoked.csv (serial, name, at). Keys are PKCS#8 with mode 0600, all are ECDSA P-256.
A new authority holds 3650 days, or --days where that is more; nothing outlives it. A revocation
list is due again after 365 days; renew and revoke make a new one.

The server never needs ca.key. Keep it elsewhere and put it into DIR for the runs that sign.

A lost terminal: gen-certs revoke NAME, give crl.pem to the server, which takes it within five
seconds, then gen-certs terminal NAME --force for its successor.

Exit codes: 0 done, 64 wrong usage, 65 damaged file or unknown name, 66 a file is not there,
70 signing failed, 73 cannot create, 74 input/output, 75 another run is at work, 78 certificates
that cannot be used.";

#[derive(Debug, Parser)]
#[command(name = "gen-certs", version, about = ABOUT, after_help = AFTER_HELP)]
struct Cli {
    /// The folder of the certificates
    #[arg(long, value_name = "DIR", global = true, default_value = "certs")]
    out: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    make: MakeArguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct MakeArguments {
    /// A DNS name or IP address of the server; may be repeated [default: localhost, 127.0.0.1, ::1]
    #[arg(long = "server-name", value_name = "NAME")]
    server_names: Vec<ServerName>,
    /// A terminal, 1 to 32 of a-z, 0-9 and -; may be repeated [default: terminal-1]
    #[arg(long = "terminal", value_name = "NAME", value_parser = own_name)]
    terminals: Vec<TerminalName>,
    /// How long certificates hold, in days [default: 825]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: Option<u32>,
    /// Replace everything: the authority, the server's certificate, those of the terminals named
    /// here and of all others that are not revoked. Every
    /// terminal then needs its new files
    #[arg(long)]
    force: bool,
}

/// A terminal's name that is its own: `anonymous` is what terminals without a certificate share.
fn own_name(text: &str) -> Result<TerminalName, String> {
    match text.parse::<TerminalName>() {
        Ok(name) if name.is_anonymous() => {
            Err("terminals without a certificate are called that".to_owned())
        }
        Ok(name) => Ok(name),
        Err(error) => Err(error.to_string()),
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the key and certificate of a terminal, where they are missing
    Terminal {
        /// The terminal, 1 to 32 of a-z, 0-9 and -
        #[arg(value_parser = own_name)]
        name: TerminalName,
        #[command(flatten)]
        term: Term,
        /// Replace them; the former certificate holds until it ends or is revoked
        #[arg(long)]
        force: bool,
    },
    /// Issue new keys and certificates for the server and all terminals that are not revoked
    ///
    /// The old certificates hold until they end. A new revocation list is made too. The server's
    /// certificate is renewed even where it was revoked.
    Renew {
        /// Give the server these names instead of those it has; may be repeated
        #[arg(long = "server-name", value_name = "NAME")]
        server_names: Vec<ServerName>,
        #[command(flatten)]
        term: Term,
    },
    /// Revoke all certificates of a name that have not ended
    Revoke {
        /// A terminal's name, or the server's as issued.csv has it, such as server:localhost
        name: String,
    },
    /// Show certificates, who is revoked, and when things end
    Show,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
struct Term {
    /// How long certificates hold, in days; at most as long as the authority
    #[arg(long, value_name = "N", default_value_t = LEAF_DAYS,
        value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

/// Why the program ends without having done its work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    #[error("standard output: {0}")]
    Json(#[from] serde_json::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Pki(error) => error.exit_code(),
            Self::Output(_) | Self::Json(_) => INPUT_OUTPUT,
        }
    }
}

fn main() -> ExitCode {
    if let Some(index) = printable::first_with_control(std::env::args_os()) {
        say(&format!(
            "gen-certs: argument {index} has a control character; write it without"
        ));
        return ExitCode::from(USAGE);
    }
    let cli = match Cli::try_parse().and_then(refuse_stray_flags) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell where even this cannot be printed.
            if error.use_stderr() {
                say(&error.render().to_string());
                return ExitCode::from(USAGE);
            }
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
    };
    let json = cli.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.exit_code();
            say(&format!("gen-certs: {failure}"));
            if json {
                let message = failure.to_string();
                let _ = print_json(&serde_json::json!({ "error": message, "exit_code": code }));
            }
            ExitCode::from(code)
        }
    }
}

/// The flags of making mean nothing before a subcommand, so they are refused there instead of ignored.
fn refuse_stray_flags(cli: Cli) -> Result<Cli, clap::Error> {
    let make = &cli.make;
    let stray = !make.server_names.is_empty()
        || !make.terminals.is_empty()
        || make.days.is_some()
        || make.force;
    if cli.command.is_none() || !stray {
        return Ok(cli);
    }
    let words =
        "--server-name, --terminal, --days and --force stand after a subcommand that knows them";
    Err(Cli::command().error(ErrorKind::ArgumentConflict, words))
}

fn run(cli: Cli) -> Result<(), Failure> {
    let folder = CertificateFolder::new(cli.out, OffsetDateTime::now_utc());
    match cli.command {
        None => print(&folder.make_missing(&make_request(cli.make))?, cli.json),
        Some(Command::Terminal { name, term, force }) => {
            print(&folder.terminal(&name, term.days, force)?, cli.json)
        }
        Some(Command::Renew { server_names, term }) => {
            print(&folder.renew(&server_names, term.days)?, cli.json)
        }
        Some(Command::Revoke { name }) => print(&folder.revoke(&name)?, cli.json),
        Some(Command::Show) => print(&folder.show()?, cli.json),
        Some(Command::Completions { shell }) => print_completions(shell),
    }
}

fn make_request(arguments: MakeArguments) -> MakeRequest {
    let MakeArguments {
        server_names,
        mut terminals,
        days,
        force,
    } = arguments;
    if terminals.is_empty() {
        terminals.extend("terminal-1".parse());
    }
    MakeRequest {
        server_names,
        terminals,
        days: days.unwrap_or(LEAF_DAYS),
        force,
    }
}

/// Words to stderr, of which none steers a terminal: not what was typed, nor a file's name.
fn say(words: &str) {
    let _ = writeln!(io::stderr(), "{}", printable::lines(words.trim_end()));
}

fn print_completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "gen-certs", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

fn print<R: Text + Serialize>(report: &R, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(report);
    }
    let mut text = Vec::new();
    report.write_text(&mut text)?;
    // Names in certificates and lists may be a stranger's.
    let text = printable::lines(&String::from_utf8_lossy(&text));
    Ok(io::stdout().write_all(text.as_bytes())?)
}

fn print_json(report: &impl Serialize) -> Result<(), Failure> {
    let text = printable::json(&serde_json::to_string(report)?);
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// A report as people read it.
trait Text {
    fn write_text(&self, out: &mut impl Write) -> io::Result<()>;
}

impl Text for IssueReport {
    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.folder.display())?;
        self.items.iter().try_for_each(|item| write_item(out, item))
    }
}

impl Text for RevokeReport {
    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        for one in &self.revoked {
            writeln!(out, "revoked {} ({})", self.name, one.serial)?;
        }
        for one in &self.already_revoked {
            writeln!(
                out,
                "{} ({}) was revoked already, at {}",
                self.name, one.serial, one.at
            )?;
        }
        if self.revoked.is_empty() && self.already_revoked.is_empty() {
            writeln!(
                out,
                "all certificates of {} have ended: nothing to revoke",
                self.name
            )?;
        }
        if !self.revoked.is_empty() {
            writeln!(
                out,
                "give crl.pem to the server: it takes it within five seconds"
            )?;
        }
        Ok(())
    }
}

impl Text for ShowReport {
    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.folder.display())?;
        for one in self
            .authorities
            .iter()
            .chain(&self.server)
            .chain(&self.terminals)
        {
            write_certificate(out, one)?;
        }
        if self.server.is_none() {
            writeln!(out, "  no server certificate")?;
        }
        if self.revocation_lists.is_empty() {
            writeln!(
                out,
                "  no revocation list: no server starts; gen-certs makes one"
            )?;
        }
        for list in &self.revocation_lists {
            let due = list.next_update.as_deref().unwrap_or("no date");
            let late = if list.overdue {
                ", OVERDUE: gen-certs renew makes a new one"
            } else {
                ""
            };
            writeln!(
                out,
                "  revoked      {}, next list due {due}{late}",
                list.revoked.len()
            )?;
            for one in &list.revoked {
                let name = one.name.as_deref().unwrap_or("?");
                writeln!(out, "    {name:<24} {} at {}", one.serial, one.at)?;
            }
        }
        writeln!(out, "  issued       {}", self.issued)
    }
}

fn write_item(out: &mut impl Write, item: &ItemReport) -> io::Result<()> {
    let action = match item.action {
        Action::Made => "made",
        Action::Replaced => "replaced",
        Action::Kept => "kept",
        Action::Skipped => "skipped",
    };
    write!(out, "  {action:<9} {}", word(item.subject))?;
    if let Some(name) = &item.name {
        write!(out, " {name}")?;
    }
    if let Some(end) = &item.end {
        let until = if item.subject == Subject::RevocationList {
            "next due"
        } else {
            "until"
        };
        write!(out, ", {until} {end}")?;
    }
    if !item.notes.is_empty() {
        write!(out, " ({})", item.notes.join("; "))?;
    }
    writeln!(out)
}

fn write_certificate(out: &mut impl Write, one: &CertificateReport) -> io::Result<()> {
    let standing = match one.standing {
        Standing::Valid => "valid",
        Standing::NotYetValid => "NOT YET VALID",
        Standing::Ended => "ENDED",
        Standing::Revoked => "REVOKED",
    };
    let key = if one.key { "" } else { ", key not here" };
    writeln!(
        out,
        "  {:<12} {}: {standing}, until {}{key}",
        word(one.subject),
        one.name,
        one.end
    )?;
    writeln!(out, "    {:<24} {}", "serial", one.serial)?;
    if one.subject == Subject::Authority {
        writeln!(
            out,
            "    {:<24} {}",
            "public key's SHA-256", one.spki_sha256
        )?;
    }
    Ok(())
}

fn word(subject: Subject) -> &'static str {
    match subject {
        Subject::Authority => "authority",
        Subject::RevocationList => "revocations",
        Subject::Server => "server",
        Subject::Terminal => "terminal",
    }
}
