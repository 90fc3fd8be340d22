//! The names a certificate can carry, parsed once.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

use crate::domain::TerminalName;

/// What stands before a terminal's name in the URI of its certificate.
pub const TERMINAL_URI: &str = "urn:atm:terminal:";

/// The URI that stands for a terminal's name in its certificate.
pub fn terminal_uri(name: &TerminalName) -> String {
    format!("{TERMINAL_URI}{name}")
}

/// A name under which terminals reach the server: a DNS name (kept in lower case) or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct ServerName(String);

/// A text that is neither a DNS name nor an IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a server's name is a DNS name without wildcard, or an IP address without port or brackets"
)]
pub struct InvalidServerName;

impl ServerName {
    /// The names of a server on this very machine: `localhost`, `127.0.0.1`, `::1`.
    pub fn local() -> Vec<Self> {
        ["localhost", "127.0.0.1", "::1"]
            .map(|name| Self(name.to_owned()))
            .to_vec()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as an address, where it is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }
}

impl FromStr for ServerName {
    type Err = InvalidServerName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_string()));
        }
        // rustls holds the names it connects to to the same grammar; a trailing dot is refused here
        // because RFC 5280 (4.2.1.6) leaves it out of certificates.
        let known = rustls::pki_types::DnsName::try_from(text).is_ok() && !text.ends_with('.');
        known
            .then(|| Self(text.to_ascii_lowercase()))
            .ok_or(InvalidServerName)
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
