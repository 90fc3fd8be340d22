//! What is attacked: named once, resolved once, and the operator's own.

use std::net::{IpAddr, SocketAddr};

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::Error;
use crate::atm::Address;
use crate::limits;

/// A target that may be attacked. Its addresses were looked up once; nothing else is ever dialled,
/// so that a name that changes its address meanwhile leads nobody astray.
#[derive(Debug, Clone)]
pub struct Target {
    address: Address,
    resolved: Vec<SocketAddr>,
}

impl Target {
    /// Looks the name up, and refuses what is not known to be the operator's own.
    ///
    /// # Errors
    /// [`Error::NoBank`] where the name leads nowhere, [`Error::NotYours`] where any of its
    /// addresses is not loopback and `is_mine` was not said.
    pub async fn resolve(address: Address, is_mine: bool) -> Result<Self, Error> {
        let no_bank = |reason: String| Error::NoBank {
            target: address.to_string(),
            reason,
        };
        let looking = lookup_host((address.host(), address.port()));
        let resolved: Vec<SocketAddr> = match timeout(limits::ATTACK_CONNECT_TIMEOUT, looking).await
        {
            Ok(Ok(found)) => found.take(limits::ATTACK_ADDRESSES_MAX + 1).collect(),
            Ok(Err(error)) => return Err(no_bank(error.to_string())),
            Err(_) => return Err(no_bank("its name was not found in time".into())),
        };
        Self::admit(address, resolved, is_mine)
    }

    /// As [`Target::resolve`], for addresses that were looked up already.
    ///
    /// # Errors
    /// As [`Target::resolve`].
    pub fn admit(
        address: Address,
        resolved: Vec<SocketAddr>,
        is_mine: bool,
    ) -> Result<Self, Error> {
        let target = address.to_string();
        if resolved.is_empty() || resolved.len() > limits::ATTACK_ADDRESSES_MAX {
            let most = limits::ATTACK_ADDRESSES_MAX;
            return Err(Error::NoBank {
                target,
                reason: format!("its name has no address, or more than {most}"),
            });
        }
        let stranger = resolved.iter().map(SocketAddr::ip).find(is_not_loopback);
        match stranger {
            Some(address) if !is_mine => Err(Error::NotYours { target, address }),
            _ => Ok(Self { address, resolved }),
        }
    }

    /// As it was named.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Where it may be dialled.
    #[must_use]
    pub fn resolved(&self) -> &[SocketAddr] {
        &self.resolved
    }
}

/// An IPv4 address inside an IPv6 one is judged as what it is.
fn is_not_loopback(address: &IpAddr) -> bool {
    !address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(resolved: &[&str], is_mine: bool) -> Result<Target, Error> {
        let resolved = resolved.iter().map(|text| text.parse().unwrap()).collect();
        Target::admit("bank.example:8443".parse().unwrap(), resolved, is_mine)
    }

    #[test]
    fn loopback_in_all_its_forms_needs_no_word() {
        let all = [
            "127.0.0.1:1",
            "127.8.9.10:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ];
        assert_eq!(admit(&all, false).unwrap().resolved().len(), 4);
    }

    #[test]
    fn one_address_among_loopback_ones_that_is_not_is_enough_to_refuse() {
        for stranger in [
            "192.0.2.1:1",
            "[2001:db8::1]:1",
            "[::ffff:192.0.2.1]:1",
            "0.0.0.0:1",
        ] {
            for all in [[stranger, "127.0.0.1:1"], ["127.0.0.1:1", stranger]] {
                let refused = admit(&all, false).unwrap_err();
                assert!(matches!(refused, Error::NotYours { .. }), "{all:?}");
                assert_eq!(refused.exit_code(), 64);
                assert!(admit(&all, true).is_ok(), "{all:?}");
            }
        }
    }

    #[test]
    fn a_name_without_an_address_or_with_very_many_is_no_target() {
        assert!(matches!(admit(&[], true), Err(Error::NoBank { .. })));
        let many = vec!["127.0.0.1:1"; limits::ATTACK_ADDRESSES_MAX + 1];
        assert!(matches!(admit(&many, true), Err(Error::NoBank { .. })));
    }
}
