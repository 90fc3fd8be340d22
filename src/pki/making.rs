//! What `gen-certs` does to a folder: make what is missing, add a terminal, renew.

use std::collections::HashSet;

use super::authority::LEAF_DAYS;
use super::error::PkiError;
use super::files;
use super::folder::CertificateFolder;
use super::issuance::Issuance;
use super::names::ServerName;
use super::report::{Action, IssueReport};
use crate::domain::TerminalName;

/// What shall be in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MakeRequest {
    /// The server's names; none stands for `localhost`, `127.0.0.1` and `::1`, and asks nothing of a
    /// certificate that is there.
    pub server_names: Vec<ServerName>,
    /// The terminals.
    pub terminals: Vec<TerminalName>,
    /// How long certificates hold, in days; a new authority holds at least that long.
    pub days: u32,
    /// Replace everything: authority, server, the terminals named here and those that are there and
    /// not revoked.
    pub force: bool,
}

impl Default for MakeRequest {
    /// A server on this machine, no terminal, [`LEAF_DAYS`], nothing replaced.
    fn default() -> Self {
        Self {
            server_names: Vec::new(),
            terminals: Vec::new(),
            days: LEAF_DAYS,
            force: false,
        }
    }
}

impl CertificateFolder {
    /// Makes what is missing: folder, authority, revocation list, server's and terminals'
    /// certificates. What is there stays as it is, byte for byte, unless `force` is set.
    ///
    /// # Errors
    /// Where a file that is there is damaged or does not fit the others, a key needed to sign is not
    /// there, or the folder cannot be written.
    pub fn make_missing(&self, request: &MakeRequest) -> Result<IssueReport, PkiError> {
        files::make_folder(self.path())?;
        let _lock = self.lock()?;
        let mut issuance = Issuance::open_or_make(self, request.days, request.force)?;
        issuance.make_revocation_list(request.force)?;
        issuance.make_server(&request.server_names, request.days, request.force)?;
        let mut names = request.terminals.clone();
        if request.force {
            names.extend(
                self.terminals()?
                    .into_iter()
                    .filter(|name| !issuance.is_revoked(name)),
            );
        }
        let mut done = HashSet::new();
        for name in names.iter().filter(|name| done.insert(*name)) {
            issuance.make_terminal(name, request.days, request.force)?;
        }
        Ok(issuance.report())
    }

    /// Makes a terminal's key and certificate. Where they are there they stay, unless `replace` is
    /// set; the certificate replaced holds on until it ends or is revoked.
    ///
    /// # Errors
    /// As [`CertificateFolder::make_missing`], and where the certificate there is revoked and not to be
    /// replaced.
    pub fn terminal(
        &self,
        name: &TerminalName,
        days: u32,
        replace: bool,
    ) -> Result<IssueReport, PkiError> {
        let _lock = self.lock()?;
        let mut issuance = Issuance::open(self)?;
        if !replace && self.terminal_leaf(name)?.is_some() && issuance.is_revoked(name) {
            let path = self.terminal_file(name);
            return Err(PkiError::TerminalRevoked {
                name: name.to_string(),
                path,
            });
        }
        issuance.make_terminal(name, days, replace)?;
        Ok(issuance.report())
    }

    /// Issues new certificates with new keys for the server and for each terminal whose certificate is
    /// not revoked, and a new revocation list. The server keeps its names unless others are given; its
    /// certificate is renewed even where it was revoked, because a stolen key is mended by a new one.
    /// The issuing authority, where it is there, gets a new certificate for the key it has.
    ///
    /// # Errors
    /// As [`CertificateFolder::make_missing`].
    pub fn renew(&self, server_names: &[ServerName], days: u32) -> Result<IssueReport, PkiError> {
        let _lock = self.lock()?;
        let mut issuance = Issuance::open(self)?;
        issuance.renew_server(server_names, days)?;
        issuance.renew_issuing(days)?;
        for name in self.terminals()? {
            issuance.renew_terminal(&name, days)?;
        }
        issuance.publish(Vec::new(), Action::Replaced)?;
        Ok(issuance.report())
    }
}
