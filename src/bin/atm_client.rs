//! The terminal: reads arguments, picks the mode, gives the exit code.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use atm_bank::atm::console::{Console, Input};
use atm_bank::atm::script::{Manner, Script};
use atm_bank::atm::{
    Address, Bank, Deadlines, Enrolment, Error, Journal, KeyDigest, Renewal, Stop, Teller,
    TrustFiles, screen,
};
use atm_bank::domain::{EnrolmentCode, printable};
use atm_bank::service;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use ratatui::crossterm::terminal::disable_raw_mode;
use tokio::sync::oneshot;
use zeroize::Zeroizing;
use zeroizing_alloc::ZeroAlloc;

/// Wrong usage, by `sysexits.h`.
const USAGE: u8 = 64;
/// A request in flight when the end is wished for may still take so long; the journal has it.
const GRACE: Duration = Duration::from_millis(400);
/// Then all is over, also where something blocks: goodbye included, within a second of the wish.
const END: Duration = Duration::from_millis(900);
/// Where a window takes nothing any more, its end is known so soon.
const LOST: Duration = Duration::from_millis(100);
/// As much as the main thread has.
const STACK_BYTES: usize = 8 * 1_024 * 1_024;
/// A thread that panicked, as Rust ends a process.
const PANICKED: u8 = 101;
/// Nothing longer is a code.
const CODE_BYTES_MAX: u64 = 256;
const TERMINALS: &str = "certs/terminals";

const ABOUT: &str = "A terminal of the bank: full screen, line by line, or from a script";

const AFTER_HELP: &str = "\
Script commands, one a line: login ACCOUNT [PIN] (else the PIN is taken from ATM_PIN), balance,
deposit AMOUNT, withdraw AMOUNT, transfer ACCOUNT AMOUNT, authorize AMOUNT, capture HOLD AMOUNT,
release HOLD (HOLD may be last), history [N], change-pin OLD NEW, logout, ping, sleep MS, # comment.
A command that moves money takes key=KEY at its end. Each gets one line of answer.

Money requests in flight are kept in the folder of --journal until their outcome is known, and
are repeated with the same key after a loss or a crash.

A certificate that came by enroll is renewed by the terminal itself, between customers, when a third
of its time is left. Its files must be writable for that.

Exit codes: 0 done, 1 a command of the script, or a code, was refused, 64 wrong usage, 66 a file is
not there, 69 no bank, 73 a file is in the way, 74 something cannot be written, 76 not the right
bank, 78 files that cannot be used; a script that a signal stops ends with 128 and its number.";

#[derive(Debug, Parser)]
#[command(name = "atm_client", version, about = ABOUT, after_help = AFTER_HELP)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    /// Where the bank is; HOST is also the name that its certificate must have
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:8443")]
    server: Address,
    /// The bank's CA certificate; nothing else is trusted
    #[arg(long, value_name = "FILE", default_value = "certs/ca.pem")]
    ca: PathBuf,
    /// This terminal's certificate [default: the first of certs/terminals]
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of the certificate
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Trust only a CA whose public key (SubjectPublicKeyInfo) has this SHA-256; may be repeated,
    /// for the old CA and the new
    #[arg(long, value_name = "HEX")]
    pin_sha256: Vec<KeyDigest>,
    /// Questions and answers line by line, also on a terminal
    #[arg(long, conflicts_with = "script")]
    plain: bool,
    /// No key ends the terminal, for a place where anybody may press any: only SIGTERM, SIGHUP and the
    /// end of its window do
    #[arg(long, conflicts_with_all = ["plain", "script"])]
    kiosk: bool,
    /// Run commands from a file, or from standard input with -
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Answer a script with one JSON object a line
    #[arg(long)]
    json: bool,
    /// The folder of money requests in flight [default: $XDG_STATE_HOME/atm_client or
    /// ~/.local/state/atm_client]
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Get this terminal's certificate by a one-time code of the bank's staff
    ///
    /// The code is said only to a bank whose authority's key has the hash given with it. The private
    /// key is made here and never leaves.
    Enroll {
        /// Where the bank is; HOST is also the name that its certificate must have
        #[arg(long, value_name = "HOST:PORT", default_value = "localhost:8443")]
        server: Address,
        /// SHA-256 of the bank's authority's public key, as it was given with the code
        #[arg(long, value_name = "HEX")]
        ca_sha256: KeyDigest,
        /// The code [default: ATM_ENROLL_CODE, else the first line of standard input]
        #[arg(long, value_name = "CODE")]
        code: Option<String>,
        /// The folder that gets ca.pem, terminals/NAME.pem and terminals/NAME.key
        #[arg(long, value_name = "DIR", default_value = "certs")]
        out: PathBuf,
        /// Replace files that are there
        #[arg(long)]
        force: bool,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// How the customer is served.
enum Mode {
    Script(Box<dyn Read + Send>),
    Plain,
    Screen { kiosk: bool },
}

/// Every block is wiped when it is freed: PINs pass through buffers of libraries too.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    // Before any other thread runs, which would not be closed.
    let closed = service::close();
    if let Some(index) = printable::first_with_control(std::env::args_os()) {
        say(&format!(
            "atm_client: argument {index} has a control character; write it without"
        ));
        return ExitCode::from(USAGE);
    }
    let cli = match Cli::try_parse() {
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
    if let Some(Command::Enroll {
        code: Some(code), ..
    }) = &cli.command
        && let Err(error) = EnrolmentCode::from_typed(code.trim())
    {
        say(&format!("atm_client: --code: {error}; is it typed right?"));
        return ExitCode::from(USAGE);
    }
    for refused in closed.refused() {
        say(&format!("atm_client: warning: not granted: {refused}"));
    }
    let for_customers = cli.script.is_none() && cli.command.is_none();
    let outcome = match cli.command {
        Some(Command::Enroll {
            server,
            ca_sha256,
            code,
            out,
            force,
        }) => typed_code(code).and_then(|code| {
            enroll(Enrolment {
                address: server,
                ca: ca_sha256,
                code,
                folder: out,
                replace: force,
                deadlines: Deadlines::default(),
            })
        }),
        Some(Command::Completions { shell }) => print_completions(shell),
        None => run(cli),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            if for_customers {
                let _ = writeln!(io::stdout(), "{}", error.for_customer());
            }
            say(&format!("atm_client: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

fn print_completions(shell: Shell) -> Result<u8, Error> {
    // Generating into what cannot be written to would be a panic.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "atm_client", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)
        .and_then(|()| out.flush())
        .map_err(Error::Output)?;
    Ok(0)
}

/// The code, not necessarily among the arguments, where others on this machine could read it.
fn typed_code(argument: Option<String>) -> Result<EnrolmentCode, Error> {
    let text = match argument.or_else(|| std::env::var("ATM_ENROLL_CODE").ok()) {
        Some(text) => Zeroizing::new(text),
        None => {
            if io::stdin().is_terminal() {
                let _ = write!(io::stderr(), "code: ");
            }
            let mut line = Zeroizing::new(String::new());
            BufReader::new(io::stdin().take(CODE_BYTES_MAX))
                .read_line(&mut line)
                .map_err(|error| Error::Settings(format!("the code cannot be read: {error}")))?;
            line
        }
    };
    if text.trim().is_empty() {
        return Err(Error::Settings(
            "no code was given; give it with --code, in ATM_ENROLL_CODE or on standard input"
                .into(),
        ));
    }
    EnrolmentCode::from_typed(text.trim())
        .map_err(|error| Error::Settings(format!("{error}; is it typed right?")))
}

fn enroll(enrolment: Enrolment) -> Result<u8, Error> {
    let server = enrolment.address.to_string();
    let enrolled = runtime()?.block_on(Box::pin(enrolment.run()))?;
    let (ca, certificate, key) = (
        enrolled.ca.display(),
        enrolled.certificate.display(),
        enrolled.key.display(),
    );
    writeln!(
        io::stdout(),
        "this terminal is {} now\n  {ca}\n  {certificate}\n  {key}\nstart it with:\n  \
         atm_client --server {server} --ca {ca} --cert {certificate} --key {key}",
        enrolled.terminal
    )
    .map_err(Error::Output)?;
    Ok(0)
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Settings(format!("the runtime does not start: {error}")))
}

/// Words to stderr, of which none steers a terminal: not what was typed, nor a file's name.
fn say(words: &str) {
    let _ = writeln!(io::stderr(), "{}", printable::lines(words.trim_end()));
}

fn run(cli: Cli) -> Result<u8, Error> {
    let mode = mode(&cli)?;
    let files = TrustFiles {
        ca: cli.ca,
        identity: match (cli.cert, cli.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => TrustFiles::first_identity(Path::new(TERMINALS)),
        },
        pins: cli.pin_sha256,
    };
    let bank = Bank {
        address: cli.server,
        trust: files.load()?,
        deadlines: Deadlines::default(),
    };
    if files.identity.is_none() {
        say(&format!(
            "atm_client: no terminal certificate in {TERMINALS}: a bank that asks for one will not serve"
        ));
    }
    let (journal, json) = (cli.journal.or_else(Journal::default_folder), cli.json);
    let work = move |stop: Stop| {
        let runtime = runtime()?;
        let renewal = Renewal::of(&bank, &files);
        let teller = Teller::new(bank, Journal::open(journal));
        let outcome = runtime.block_on(Box::pin(async {
            let teller = match renewal {
                Some(renewal) => Box::pin(teller.renewing(renewal)).await,
                None => teller,
            };
            serve(mode, json, teller, &stop).await
        }));
        // A name that is still being looked up keeps nobody waiting.
        runtime.shutdown_background();
        outcome
    };
    runtime()?.block_on(watch(work, cli.kiosk))
}

/// Does the work in a thread of its own, so that it ends in time also where it is stuck: in writing
/// to a terminal that takes nothing any more.
async fn watch(
    work: impl FnOnce(Stop) -> Result<u8, Error> + Send + 'static,
    kiosk: bool,
) -> Result<u8, Error> {
    let no_signals = |error| Error::Settings(format!("signals cannot be heard: {error}"));
    let stop = Stop::on_signals(kiosk).map_err(no_signals)?;
    stop.on_lost_terminal().map_err(no_signals)?;
    let (tell, told) = oneshot::channel();
    let stops = stop.clone();
    let begun = thread::Builder::new()
        .name("terminal".into())
        .stack_size(STACK_BYTES)
        .spawn(move || tell.send(work(stops)));
    begun.map_err(|error| Error::Settings(format!("no thread to work in: {error}")))?;
    let overdue = async {
        stop.wished().await;
        tokio::time::sleep(END).await;
    };
    tokio::select! {
        outcome = told => outcome.unwrap_or(Ok(PANICKED)),
        () = overdue => {
            // What is typed is seen again; more a terminal that is stuck does not take.
            let _ = disable_raw_mode();
            Ok(stop.exit_code())
        }
    }
}

fn mode(cli: &Cli) -> Result<Mode, Error> {
    let Some(script) = &cli.script else {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal() && !dumb;
        if cli.kiosk && !on_terminal {
            let reason =
                "--kiosk is for the full screen, and standard input and output are no terminal";
            return Err(Error::Settings(reason.into()));
        }
        return Ok(if cli.plain || !on_terminal {
            Mode::Plain
        } else {
            Mode::Screen { kiosk: cli.kiosk }
        });
    };
    if script == Path::new("-") {
        return Ok(Mode::Script(Box::new(Input::stdin_file()?)));
    }
    let no_file = |source| Error::NoFile {
        path: script.clone(),
        source,
        mend: "name a file of commands, or - for standard input",
    };
    let file = File::open(script).map_err(no_file)?;
    if file.metadata().map_err(no_file)?.is_dir() {
        return Err(no_file(io::ErrorKind::IsADirectory.into()));
    }
    Ok(Mode::Script(Box::new(file)))
}

async fn serve(mode: Mode, json: bool, mut teller: Teller, stop: &Stop) -> Result<u8, Error> {
    let given_up = async {
        stop.wished().await;
        tokio::time::sleep(GRACE).await;
    };
    let is_script = matches!(mode, Mode::Script(_));
    let outcome = tokio::select! {
        outcome = Box::pin(serve_in_mode(mode, json, &mut teller, stop)) => outcome,
        () = given_up => Ok(stop.exit_code()),
    };
    teller.farewell().await;
    // A window that is gone is the wish to stop, whoever hears of it first.
    let is_gone = matches!(outcome, Err(Error::Output(_)))
        && tokio::time::timeout(LOST, stop.wished()).await.is_ok();
    match is_gone {
        true if is_script => Ok(stop.exit_code()),
        true => Ok(0),
        false => outcome,
    }
}

async fn serve_in_mode(
    mode: Mode,
    json: bool,
    teller: &mut Teller,
    stop: &Stop,
) -> Result<u8, Error> {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    match mode {
        Mode::Script(source) => {
            let manner = Manner {
                json,
                pin: std::env::var("ATM_PIN").ok().map(Zeroizing::new),
            };
            Script::new(teller, stop, manner, &mut out, &mut err)?
                .run(source)
                .await
        }
        Mode::Plain => {
            let is_terminal = io::stdin().is_terminal();
            let input = Input::from_stdin()?;
            let console = Console::new(teller, input, stop, &mut out, &mut err, is_terminal);
            console.run().await.map(|()| 0)
        }
        Mode::Screen { kiosk } => screen::run(teller, stop, kiosk).await.map(|()| 0),
    }
}
