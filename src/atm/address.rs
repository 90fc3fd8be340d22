//! Where the bank is, and the name its certificate must carry.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::ServerName;

/// `HOST:PORT`; an IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

/// The text is not `HOST:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("HOST:PORT is needed, as in localhost:8443, 10.0.0.7:8443 or [::1]:8443")]
pub struct NotAnAddress;

impl Address {
    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The name or IP address that the bank's certificate must be made for.
    #[must_use]
    pub fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(NotAnAddress)?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        // Without brackets it would be unclear where an IPv6 address ends and the port begins.
        if bracketed.is_none() && host.contains(':') {
            return Err(NotAnAddress);
        }
        let host = bracketed.unwrap_or(host);
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port
            .parse()
            .ok()
            .filter(|port| digits && *port != 0)
            .ok_or(NotAnAddress)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| NotAnAddress)?;
        let is_ipv6 = matches!(
            name,
            ServerName::IpAddress(rustls::pki_types::IpAddr::V6(_))
        );
        if bracketed.is_some() != is_ipv6 {
            return Err(NotAnAddress);
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            name,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_addresses_with_a_port_are_read_and_shown_as_given() {
        for (text, host) in [
            ("localhost:8443", "localhost"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:8443", "::1"),
            ("bank.example:65535", "bank.example"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host(), address.to_string().as_str()), (host, text));
        }
    }

    #[test]
    fn anything_else_is_no_address() {
        for text in [
            "",
            "localhost",
            "localhost:",
            ":8443",
            "::1:8443",
            "localhost:0",
            "localhost:65536",
            "localhost:+1",
            "[localhost]:1",
            "[127.0.0.1]:1",
            "a b:1",
            "[]:1",
        ] {
            assert_eq!(text.parse::<Address>(), Err(NotAnAddress), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_an_address_never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Address>();
        }
    }
}
