//! Reads single values in the types that the configuration has them in.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use super::fault::{Place, shown};
use super::keys::{Name, Number, Text};
use super::values::Values;

/// What was set, with what is found wrong or doubtful while it is read.
pub(super) struct Reader {
    pub(super) values: Values,
    pub(super) warnings: Vec<String>,
}

impl Reader {
    pub(super) fn new(values: Values) -> Self {
        Self {
            values,
            warnings: Vec::new(),
        }
    }

    /// `name`'s value does not do.
    pub(super) fn fault(&mut self, name: Name, reason: impl Into<String>, mend: impl Into<String>) {
        let place = self.values.place(name);
        self.values.fault(place, name, reason, mend);
    }

    /// `name`'s value does, but is to be talked about.
    pub(super) fn warn(&mut self, name: Name, text: String) {
        self.warnings.push(match self.values.place(name) {
            Place::Default => text,
            place => format!("{place}: {text}"),
        });
    }

    pub(super) fn natural(&self, key: &Number) -> u64 {
        self.values.number(key).unsigned_abs()
    }

    pub(super) fn count(&self, key: &Number) -> usize {
        usize::try_from(self.natural(key)).unwrap_or(usize::MAX)
    }

    /// `None` where it was not set.
    pub(super) fn set_count(&self, key: &Number) -> Option<usize> {
        let set = self.values.set_number(key)?;
        usize::try_from(set).ok()
    }

    pub(super) fn rate(&self, key: &Number) -> u32 {
        u32::try_from(self.natural(key)).unwrap_or(u32::MAX)
    }

    /// Of a key in milliseconds.
    pub(super) fn time(&self, key: &Number) -> Duration {
        Duration::from_millis(self.natural(key))
    }

    pub(super) fn path(&mut self, key: &Text) -> PathBuf {
        let text = self.values.text(key).to_owned();
        if text.is_empty() || text.contains('\0') {
            let reason = format!("\"{}\" is no path", shown(&text));
            self.fault(key.name, reason, "write a path, or leave the key out");
        } else if text == "~" || text.starts_with("~/") || text.contains('$') {
            // A shell would fill these in; here a folder of that name would be made.
            let reason = format!("\"{}\": nothing fills in \"~\" or \"$\" here", shown(&text));
            self.fault(key.name, reason, "write the path in full");
        } else if text.trim() != text {
            let reason = format!("\"{}\" begins or ends with a space", shown(&text));
            self.fault(key.name, reason, "write the path without");
        }
        PathBuf::from(text)
    }

    pub(super) fn path_or(&mut self, key: &Text, derived: impl FnOnce() -> PathBuf) -> PathBuf {
        match self.values.set_text(key) {
            Some(_) => self.path(key),
            None => derived(),
        }
    }

    pub(super) fn address(&mut self, key: &Text, example: &str) -> SocketAddr {
        let text = self.values.text(key).to_owned();
        resolve(&text).unwrap_or_else(|reason| {
            let reason = format!("\"{}\" {reason}", shown(&text));
            self.fault(key.name, reason, format!("write ADDRESS:PORT, {example}"));
            (Ipv4Addr::LOCALHOST, 0).into()
        })
    }
}

/// The address as written, or of the host that is named. A host with several is taken by its
/// first of IPv4, so that `localhost` is 127.0.0.1 on every machine.
fn resolve(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err("is no address with a port".to_owned());
    }
    let found = text.to_socket_addrs();
    let found: Vec<SocketAddr> = found
        .map_err(|error| format!("cannot be resolved: {error}"))?
        .collect();
    let first_of_ipv4 = found.iter().find(|address| address.is_ipv4());
    first_of_ipv4
        .or(found.first())
        .copied()
        .ok_or_else(|| "has no address".to_owned())
}
