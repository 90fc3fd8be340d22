//! What was done and what is there, for people and for machines. The names of fields and values are
//! part of what `gen-certs --json` promises; fields may be added.

use std::path::PathBuf;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::facts::ListNumber;

/// What a line of a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The bank's authority.
    Authority,
    /// The list of revoked certificates.
    RevocationList,
    /// The issuing authority, which signs terminals that enrol themselves.
    IssuingAuthority,
    /// The issuing authority's list of revoked certificates.
    IssuingRevocationList,
    /// The server's certificate and key.
    Server,
    /// A terminal's certificate and key.
    Terminal,
}

/// What was done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It was not there and is now.
    Made,
    /// It was there and there is a new one in its place.
    Replaced,
    /// It was there and is as it was.
    Kept,
    /// It is not renewed, because it is revoked.
    Skipped,
}

/// One thing that was made, replaced or kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ItemReport {
    /// What it is.
    pub subject: Subject,
    /// The terminal's name, or the server's names with a space between.
    pub name: Option<String>,
    /// What was done.
    pub action: Action,
    /// The certificate's serial number, hexadecimal.
    pub serial: Option<String>,
    /// Until when it holds, RFC 3339; for the revocation list when the next is due.
    pub end: Option<String>,
    /// What the operator should know or do about it.
    pub notes: Vec<String>,
}

/// The report of making and renewing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IssueReport {
    /// The folder.
    pub folder: PathBuf,
    /// What was looked at, in order.
    pub items: Vec<ItemReport>,
}

/// A revoked certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevokedReport {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// The name it was issued for, where that is known.
    pub name: Option<String>,
    /// When it was revoked, RFC 3339.
    pub at: String,
}

/// The revocation list as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevocationListReport {
    /// The list's number; it grows from list to list. Beyond 64 bits it is written in hexadecimal.
    pub number: Option<ListNumber>,
    /// When the list was made, RFC 3339.
    pub this_update: String,
    /// When the next is due, RFC 3339.
    pub next_update: Option<String>,
    /// Whether that moment is past.
    pub overdue: bool,
    /// The revoked certificates.
    pub revoked: Vec<RevokedReport>,
}

/// The report of revoking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevokeReport {
    /// The folder.
    pub folder: PathBuf,
    /// The name asked for.
    pub name: String,
    /// What is revoked now and was not before.
    pub revoked: Vec<RevokedReport>,
    /// What had been revoked before.
    pub already_revoked: Vec<RevokedReport>,
    /// How many certificates of the name had ended, so that there was no need to revoke them.
    pub ended: usize,
}

/// How a certificate stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// In force.
    Valid,
    /// Its time has not begun.
    NotYetValid,
    /// Its time is over.
    Ended,
    /// It is on the revocation list.
    Revoked,
}

/// A certificate in the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateReport {
    /// What it is.
    pub subject: Subject,
    /// The terminal's name, the server's names with a space between, or the authority's subject.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// The serial number, hexadecimal.
    pub serial: String,
    /// From when it holds, RFC 3339.
    pub not_before: String,
    /// Until when it holds, RFC 3339.
    pub end: String,
    /// How it stands now.
    pub standing: Standing,
    /// Whether its key lies in the folder.
    pub key: bool,
    /// SHA-256 of its public key, hexadecimal: what `atm_client --pin-sha256` takes of the authority.
    pub spki_sha256: String,
}

/// The report of what is in the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShowReport {
    /// The folder.
    pub folder: PathBuf,
    /// The authorities of `ca.pem`.
    pub authorities: Vec<CertificateReport>,
    /// The server's certificate.
    pub server: Option<CertificateReport>,
    /// The terminals' certificates, by name.
    pub terminals: Vec<CertificateReport>,
    /// The issuing authority, where terminals enrol themselves.
    pub issuing: Option<CertificateReport>,
    /// Its revocation list.
    pub issuing_revocation_list: Option<RevocationListReport>,
    /// The revocation lists of `crl.pem`, at most one an authority.
    pub revocation_lists: Vec<RevocationListReport>,
    /// How many certificates were ever issued.
    pub issued: usize,
}

/// A time as reports and registers write it: RFC 3339, UTC, whole seconds.
pub(super) fn rfc3339(unix_seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(unix_seconds).ok();
    let text = time.and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| format!("{unix_seconds} s after 1970"))
}
