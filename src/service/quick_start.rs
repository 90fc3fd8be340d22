//! The quick start: everything a first server needs, made beside it, and never over anything.

use std::path::Path;

use time::OffsetDateTime;

use super::import::hash_accounts;
use super::open::{OpenBank, sqlite_path};
use super::stop::{Stop, exit};
use crate::config::Config;
use crate::operator::Command;
use crate::operator::accounts_file::{self, AccountLine};
use crate::pki::{CertificateFolder, MakeRequest};

/// The demo accounts: the repository's file where it stands, else the same as it was built in.
const DEMO_FILE: &str = "config/accounts.txt";
const DEMO_ACCOUNTS: &str = include_str!("../../config/accounts.txt");
/// The terminal that gets a certificate.
const DEMO_TERMINAL: &str = "terminal-1";

/// What a quick start has made, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made(pub Vec<String>);

/// Whether a bare first start finds nothing and may make everything.
pub(super) fn is_untouched(config: &Config) -> Result<bool, Stop> {
    let tls = &config.tls;
    let certificates = [&tls.ca, &tls.cert, &tls.key, &tls.crl];
    Ok(!certificates.iter().any(|path| path.exists()) && !sqlite_path(config)?.exists())
}

/// Makes the certificates where there are none.
pub(super) fn make_certificates(config: &Config, made: &mut Made) -> Result<(), Stop> {
    let tls = &config.tls;
    if tls.ca.exists() || tls.cert.exists() {
        return Ok(());
    }
    let terminal = DEMO_TERMINAL
        .parse()
        .map_err(|error| Stop::new(exit::SOFTWARE, format!("{error}")))?;
    let request = MakeRequest {
        terminals: vec![terminal],
        ..MakeRequest::default()
    };
    CertificateFolder::new(&tls.dir, OffsetDateTime::now_utc()).make_missing(&request)?;
    made.0.push(format!(
        "a CA, the server's certificate and one for {DEMO_TERMINAL} in {}",
        tls.dir.display()
    ));
    Ok(())
}

/// Brings the demo accounts into a store that was made just now.
pub(super) async fn import_demo(
    config: &Config,
    open: &OpenBank,
    made: &mut Made,
) -> Result<(), Stop> {
    let text = std::fs::read(Path::new(DEMO_FILE)).unwrap_or_else(|_| DEMO_ACCOUNTS.into());
    let lines = accounts_file::parse(&text, config.accounts.currency).map_err(|bad| {
        let reasons: Vec<String> = bad
            .iter()
            .map(|line| format!("{DEMO_FILE}, {line}"))
            .collect();
        Stop::new(exit::DATA, reasons.join("\n"))
    })?;
    let accounts = hash_accounts(config, &lines, true, &|| ())?;
    let desk =
        crate::operator::Desk::new(open.bank(), std::sync::Arc::new(crate::operator::NoFloor));
    let report = desk
        .perform("quick start", Command::Open { accounts })
        .await;
    if report.exit_code != 0 {
        return Err(Stop::new(report.exit_code, report.text));
    }
    made.0.push(format!(
        "a pepper {}, a store {}",
        config.pin.pepper_file.display(),
        sqlite_path(config)?.display()
    ));
    made.0.push(format!(
        "{} demo accounts of {DEMO_FILE}, whose PINs are public",
        lines.len()
    ));
    Ok(())
}

/// Whether it is a demo account with the PIN that everybody knows.
pub(super) fn is_public(line: &AccountLine) -> bool {
    let is_its = |demo: &str| {
        let mut columns = demo.split(',').map(str::trim);
        columns.next() == Some(line.number.as_str())
            && columns.next().map(str::as_bytes) == Some(line.pin.digits())
    };
    DEMO_ACCOUNTS.lines().any(is_its)
}

/// The exact command that starts a terminal at this server.
pub(super) fn terminal_command(config: &Config, port: u16) -> String {
    let through_cargo = std::env::var_os("CARGO").is_some();
    let program = if through_cargo {
        let release = if cfg!(debug_assertions) {
            ""
        } else {
            " --release"
        };
        format!("cargo run{release} --bin atm_client --")
    } else {
        let beside = std::env::current_exe()
            .ok()
            .map(|path| path.with_file_name("atm_client"));
        beside.map_or_else(
            || "atm_client".to_owned(),
            |path| path.display().to_string(),
        )
    };
    let mut command = format!("{program} --server localhost:{port}");
    let folder = &config.tls.dir;
    if folder != Path::new("certs") {
        let certificate = folder.join("terminals").join(DEMO_TERMINAL);
        command.push_str(&format!(
            " --ca {} --cert {1}.pem --key {1}.key",
            config.tls.ca.display(),
            certificate.display()
        ));
    }
    command
}
