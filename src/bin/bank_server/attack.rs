//! `attack`: what the operator runs against their own deployment.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atm_bank::atm::{Address, TrustFiles};
use atm_bank::attack::{Block, Customer, Error, Plan, Suite, Target, probe, report};
use atm_bank::domain::{AccountNumber, Pin};
use atm_bank::limits;
use atm_bank::service::{Stop, exit};
use atm_bank::surroundings::System;
use clap::Args;
use serde_json::{Value, json};

use super::print;
use super::prompt::ask_pin_once;

/// Where the terminals' files are, as for the terminal itself.
const TERMINALS: &str = "certs/terminals";

#[derive(Args)]
pub(crate) struct AttackArguments {
    /// Where the bank is; HOST is also the name that its certificate must have.
    #[arg(value_name = "HOST:PORT", required_unless_present = "list")]
    target: Option<Address>,
    /// The target is yours: needed where any of its addresses is not loopback.
    #[arg(long)]
    this_is_mine: bool,
    /// The bank's CA certificate; whoever is not under it is left alone.
    #[arg(long, value_name = "FILE", default_value = "certs/ca.pem")]
    ca: PathBuf,
    /// A terminal's certificate [default: the first of certs/terminals].
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of the certificate.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// A certificate that the bank must refuse: revoked, or ended.
    #[arg(long, value_name = "FILE", requires = "refused_key")]
    refused_cert: Option<PathBuf>,
    /// The private key of that certificate.
    #[arg(long, value_name = "FILE", requires = "refused_cert")]
    refused_key: Option<PathBuf>,
    /// An account of yours, for what needs one; its PIN is asked for.
    #[arg(long)]
    account: Option<AccountNumber>,
    /// Also move one minor unit there and back.
    #[arg(long, requires = "account")]
    move_money: bool,
    /// The two letters of numbers that are made up to try wrong PINs on.
    #[arg(long, value_name = "LETTERS", default_value = "xq")]
    block: Block,
    /// Only this family or probe; may be given more than once.
    #[arg(long, value_name = "FAMILY|PROBE")]
    only: Vec<String>,
    /// Say what the probes are, and attack nobody.
    #[arg(long)]
    list: bool,
    /// All of it ends after so long.
    #[arg(long, value_name = "SECONDS", default_value_t = limits::ATTACK_BUDGET_DEFAULT.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=limits::ATTACK_BUDGET_MAX.as_secs()))]
    budget: u64,
    /// A silent target must have closed by then.
    #[arg(long, value_name = "SECONDS", default_value_t = limits::ATTACK_PATIENCE_DEFAULT.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=limits::ATTACK_BUDGET_MAX.as_secs()))]
    patience: u64,
    /// Connections open at once.
    #[arg(long, value_name = "N", default_value_t = limits::ATTACK_CONNECTIONS_DEFAULT,
        value_parser = connections)]
    connections: usize,
}

fn connections(text: &str) -> Result<usize, String> {
    let (least, most) = (
        limits::ATTACK_CONNECTIONS_MIN,
        limits::ATTACK_CONNECTIONS_MAX,
    );
    text.parse()
        .ok()
        .filter(|count| (least..=most).contains(count))
        .ok_or_else(|| format!("{least} to {most} are needed"))
}

fn stop(error: &Error) -> Stop {
    Stop::new(error.exit_code(), error.to_string())
}

/// Attacks and prints what came of it; the exit code is that of the worst.
pub(crate) async fn attack(arguments: AttackArguments, json: bool) -> Result<u8, Stop> {
    if arguments.list {
        let probes = probe::chosen(&arguments.only).map_err(|error| stop(&error))?;
        let described: Vec<Value> = probes.iter().map(report::described).collect();
        print(&match json {
            true => json!({ "probes": described }).to_string(),
            false => report::list(&probes),
        })?;
        return Ok(0);
    }
    let suite = prepare(arguments).await?;
    for line in suite.announcement().lines() {
        let _ = writeln!(io::stderr(), "bank_server: {line}");
    }
    let report = suite.run().await.map_err(|error| stop(&error))?;
    print(&match json {
        true => report.json().to_string(),
        false => report.table(),
    })?;
    Ok(report.exit_code())
}

/// Everything that can be refused before a byte is sent; the PIN is asked for last.
async fn prepare(arguments: AttackArguments) -> Result<Suite, Stop> {
    let address = arguments
        .target
        .ok_or_else(|| Stop::new(exit::USAGE, "name the bank to attack: HOST:PORT"))?;
    probe::chosen(&arguments.only).map_err(|error| stop(&error))?;
    let target = Target::resolve(address, arguments.this_is_mine)
        .await
        .map_err(|error| stop(&error))?;
    let files = |identity| TrustFiles {
        ca: arguments.ca.clone(),
        identity,
        pins: Vec::new(),
    };
    let own = arguments.cert.zip(arguments.key);
    let customer = match arguments.account {
        Some(account) => Some(Customer {
            account,
            pin: pin()?,
        }),
        None => None,
    };
    let plan = Plan {
        target,
        trust: files(own.or_else(|| TrustFiles::first_identity(Path::new(TERMINALS)))),
        refused: arguments
            .refused_cert
            .zip(arguments.refused_key)
            .map(|pair| files(Some(pair))),
        customer,
        block: arguments.block,
        only: arguments.only,
        moves_money: arguments.move_money,
        budget: Duration::from_secs(arguments.budget),
        patience: Duration::from_secs(arguments.patience),
        connections: arguments.connections,
    };
    Suite::new(plan, Arc::new(System::default())).map_err(|error| stop(&error))
}

/// Asked for at a terminal; else the first line of standard input.
fn pin() -> Result<Pin, Stop> {
    ask_pin_once("PIN of the account: ")
}
