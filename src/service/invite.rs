//! `terminal invite`: a one-time code, made here, shown once; the bank gets only its hash.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use rustls::pki_types::CertificateDer;
use serde_json::json;

use super::stop::{Stop, exit};
use crate::config::Config;
use crate::domain::EnrolmentCode;
use crate::operator::{Command, Report};
use crate::pki::{self, CertificateFacts};
use crate::store::CodeHash;
use crate::surroundings::{Surroundings as _, System};

/// What `listen` says where it means every address of the machine, or a port that is chosen later.
const TO_BE_FILLED_IN: &str = "HOST";

/// Invites a terminal: the code with the hash of the authority's key, by which the terminal knows the
/// bank before it says the code, and the command that uses both.
///
/// # Errors
/// [`Stop`] where enrolment is off, a certificate cannot be read, or neither server nor store is there.
pub async fn invite(config: &Config, terminal: String) -> Result<Report, Stop> {
    if config.tls.issuing.is_none() {
        return Err(Stop::new(
            exit::CONFIG,
            "enrolment is off; mend: make the issuing authority (gen-certs issuing), and write \
             enabled = \"on\" under [enroll]",
        ));
    }
    let bank = BankShown::read(config)?;
    let code = EnrolmentCode::from_random(System::default().random());
    let command = Command::Invite {
        terminal,
        code: CodeHash::of(&code).0,
        valid_ms: config.enroll.code_ms,
    };
    let mut report = super::perform(config, command).await?;
    if report.exit_code != 0 {
        return Ok(report);
    }
    let BankShown { server, ca_sha256 } = bank;
    let enroll = format!(
        "atm_client enroll --server {server} --ca-sha256 {ca_sha256} --code {}",
        code.as_str()
    );
    if let Some(data) = report.data.as_object_mut() {
        data.insert("code".to_owned(), json!(code.as_str()));
        data.insert("ca_sha256".to_owned(), json!(ca_sha256));
        data.insert("server".to_owned(), json!(server));
        data.insert("enroll".to_owned(), json!(enroll));
    }
    // Writing to a string cannot fail.
    let _ = write!(
        report.text,
        "\ncode       {}\nCA SHA-256 {ca_sha256}\n\
         both are shown only now; at the new terminal, before that time is over:\n  {enroll}",
        code.as_str()
    );
    Ok(report)
}

/// Where terminals find the bank, and by what they know it.
struct BankShown {
    server: String,
    ca_sha256: String,
}

impl BankShown {
    /// The authority is the one that the server's certificate comes from: the file may hold others.
    fn read(config: &Config) -> Result<Self, Stop> {
        let unusable = |path: &std::path::Path| {
            let reason = format!("{} holds no usable certificate (PEM)", path.display());
            Stop::new(exit::CONFIG, reason)
        };
        let (cert, ca) = (&config.tls.cert, &config.tls.ca);
        let read = |path: &std::path::Path| {
            let found = pki::read_certificates(path);
            found.map_err(|error| Stop::new(exit::CONFIG, error.to_string()))
        };
        let chain = read(cert)?;
        let own = chain.first().ok_or_else(|| unusable(cert))?;
        let last = chain.last().ok_or_else(|| unusable(cert))?;
        let authorities = read(ca)?;
        let issued = |one: &&CertificateDer<'_>| pki::issued_by(last, one) == Ok(true);
        let authority = authorities
            .iter()
            .find(issued)
            .ok_or_else(|| unusable(ca))?;
        let hash = pki::spki_sha256(authority).map_err(|_| unusable(ca))?;
        let facts = CertificateFacts::read(own).map_err(|_| unusable(cert))?;
        let name = facts
            .server_names
            .first()
            .map_or(TO_BE_FILLED_IN, String::as_str);
        let name = if name.contains(':') {
            format!("[{name}]")
        } else {
            name.to_owned()
        };
        let server = match config.server.listen.port() {
            0 => format!("{name}:PORT"),
            port => format!("{name}:{port}"),
        };
        let ca_sha256 = HEXLOWER.encode(&hash);
        Ok(Self { server, ca_sha256 })
    }
}
