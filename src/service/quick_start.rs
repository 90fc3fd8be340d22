//! The quick start: everything a first server needs, made beside it, and never over anything.

use std::path::Path;

use time::OffsetDateTime;

use super::import::hash_accounts;
use super::open::{OpenBank, sqlite_path};
use super::stop::{Stop, exit};
use crate::config::Config;
use crate::domain::pin::DEMO_ACCOUNTS;
use crate::domain::printable;
use crate::durable;
use crate::operator::Command;
use crate::operator::accounts_file;
use crate::pki::{CertificateFolder, MakeRequest};

/// The demo accounts: the repository's file where it stands, else the same as it was built in.
const DEMO_FILE: &str = "config/accounts.txt";
/// The terminal that gets a certificate.
const DEMO_TERMINAL: &str = "terminal-1";

/// What a quick start has made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// At this start, in words.
    pub things: Vec<String>,
    /// Demo accounts still have their public PINs, in a bank that a quick start makes: one whose
    /// configuration was not named.
    pub demo_is_there: bool,
}

impl Made {
    /// What to tell whoever started the server; `None` for a bank that no quick start made.
    pub(super) fn words(&self, config: &Config, port: u16) -> Option<String> {
        let (mut words, mut unless) = (String::new(), "");
        if !self.things.is_empty() {
            words.push_str("quick start made:\n");
            for thing in &self.things {
                words.push_str(&format!("  {thing}\n"));
            }
        } else if self.demo_is_there {
            words.push_str("the demo accounts are here, whose PINs are public\n");
            unless = " unless it was changed";
        } else {
            return None;
        }
        words.push_str(&format!(
            "a terminal, in another window (account zz-99999, PIN 9999{unless}):\n  {}\n",
            terminal_command(config, port)
        ));
        Some(words)
    }
}

/// Whether a bare first start finds nothing and may make everything.
pub(super) fn is_untouched(config: &Config) -> Result<bool, Stop> {
    let tls = &config.tls;
    let certificates = [&tls.ca, &tls.cert, &tls.key, &tls.crl];
    let none = certificates.iter().all(|path| durable::is_absent(path));
    Ok(none && durable::is_absent(&sqlite_path(config)?))
}

/// Makes the certificates where there are none.
pub(super) fn make_certificates(config: &Config, made: &mut Made) -> Result<(), Stop> {
    let tls = &config.tls;
    if !durable::is_absent(&tls.ca) || !durable::is_absent(&tls.cert) {
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
    made.things.push(format!(
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
    let demo = Path::new(DEMO_FILE);
    let text = match durable::is_absent(demo) {
        true => DEMO_ACCOUNTS.into(),
        false => durable::read(demo).map_err(|error| {
            Stop::new(exit::NO_INPUT, format!("cannot read {DEMO_FILE}: {error}"))
        })?,
    };
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
    made.things.push(format!(
        "a pepper {}, a store {}",
        config.pin.pepper_file.display(),
        sqlite_path(config)?.display()
    ));
    made.things.push(format!(
        "{} demo accounts of {DEMO_FILE}, whose PINs are public",
        lines.len()
    ));
    Ok(())
}

/// The exact command that starts a terminal at this server, from whatever folder.
fn terminal_command(config: &Config, port: u16) -> String {
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
        beside.map_or_else(|| "atm_client".to_owned(), |path| shell_word(&path))
    };
    let mut command = format!("{program} --server localhost:{port}");
    if let Ok(folder) = std::env::current_dir() {
        command = format!("cd {} && {command}", shell_word(&folder));
    }
    let folder = &config.tls.dir;
    if folder != Path::new("certs") {
        let certificate = folder.join("terminals").join(DEMO_TERMINAL);
        command.push_str(&format!(
            " --ca {} --cert {} --key {}",
            shell_word(&config.tls.ca),
            shell_word(&certificate.with_extension("pem")),
            shell_word(&certificate.with_extension("key"))
        ));
    }
    command
}

/// A path as a shell takes it for one word; nothing in it steers a terminal.
fn shell_word(path: &Path) -> String {
    let text = printable::line(&path.display().to_string());
    let is_bare = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(is_bare) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_every_path_for_one_word() {
        for (path, word) in [
            ("/srv/bank-1", "/srv/bank-1"),
            ("/srv/my bank", "'/srv/my bank'"),
            ("/srv/anne's $HOME", r"'/srv/anne'\''s $HOME'"),
            ("/srv/a\u{1b}[2J", r"'/srv/a\u{1b}[2J'"),
        ] {
            assert_eq!(shell_word(Path::new(path)), word);
        }
    }
}
