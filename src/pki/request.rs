//! What a certificate or a revocation list shall say, before it is signed.

use std::net::IpAddr;

use time::OffsetDateTime;

use super::facts::{ListNumber, Revoked, Serial};
use super::names::{ServerName, terminal_uri};
use crate::domain::TerminalName;

/// The most characters of a common name (RFC 5280, appendix A, ub-common-name).
const COMMON_NAME_MAX: usize = 64;

/// What a certificate's key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// To prove a server (serverAuth).
    Server,
    /// To prove a client (clientAuth).
    Client,
    /// Anything (anyExtendedKeyUsage). The bank issues none such; for tests.
    Any,
}

/// A name besides the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlternativeName {
    /// A DNS name.
    Dns(String),
    /// An IP address.
    Address(IpAddr),
    /// A URI.
    Uri(String),
}

/// What a certificate shall say. The fields are free, so that tests can ask for what no bank issues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The subject's common name; at most 64 characters to be well-formed.
    pub common_name: String,
    /// The subject alternative names, in order.
    pub alternative_names: Vec<AlternativeName>,
    /// Extended key usages; with none the extension is absent.
    pub usages: Vec<Usage>,
    /// From when it holds, to the second.
    pub not_before: OffsetDateTime,
    /// Until when it holds, to the second.
    pub not_after: OffsetDateTime,
    /// The serial number; `None` is a random one.
    pub serial: Option<Serial>,
}

impl CertificateRequest {
    /// A terminal's certificate.
    pub fn terminal(
        name: &TerminalName,
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Self {
        Self {
            common_name: name.to_string(),
            alternative_names: vec![AlternativeName::Uri(terminal_uri(name))],
            usages: vec![Usage::Client],
            not_before,
            not_after,
            serial: None,
        }
    }

    /// The server's certificate.
    pub fn server(
        names: &[ServerName],
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Self {
        let common_name = names
            .iter()
            .map(ServerName::as_str)
            .find(|name| name.len() <= COMMON_NAME_MAX);
        let alternative = |name: &ServerName| match name.address() {
            Some(address) => AlternativeName::Address(address),
            None => AlternativeName::Dns(name.to_string()),
        };
        Self {
            common_name: common_name.unwrap_or("bank server").to_owned(),
            alternative_names: names.iter().map(alternative).collect(),
            usages: vec![Usage::Server],
            not_before,
            not_after,
            serial: None,
        }
    }
}

/// What a revocation list shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationRequest {
    /// The list's number; greater than that of each list before it.
    pub number: ListNumber,
    /// When the list is made.
    pub this_update: OffsetDateTime,
    /// When the next is due; later than `this_update`.
    pub next_update: OffsetDateTime,
    /// The revoked certificates.
    pub revoked: Vec<Revoked>,
}
