//! The steps of making and renewing: each looks at one certificate and keeps or issues it.

use rcgen::KeyPair;

use super::authority::{AUTHORITY_DAYS, Authority, TrustedAuthority, authorities};
use super::error::PkiError;
use super::files;
use super::folder::{CertificateFolder, Leaf, Pair, read_leaf};
use super::names::ServerName;
use super::register::{Register, Row};
use super::report::{Action, IssueReport, ItemReport, Subject, rfc3339};
use super::request::CertificateRequest;
use super::revocation::Revocations;
use crate::domain::TerminalName;

/// A certificate that ends within this many seconds is spoken of.
const ENDS_SOON_SECONDS: i64 = 30 * 24 * 60 * 60;

/// One run's work on a folder whose lock it holds.
#[derive(Debug)]
pub(super) struct Issuance<'a> {
    pub(super) folder: &'a CertificateFolder,
    pub(super) trusted: Vec<TrustedAuthority>,
    /// `None` where the key is not in the folder.
    pub(super) authority: Option<Authority>,
    pub(super) issued: Register,
    pub(super) revocations: Revocations,
    pub(super) items: Vec<ItemReport>,
}

impl<'a> Issuance<'a> {
    /// For a folder that has an authority.
    pub(super) fn open(folder: &'a CertificateFolder) -> Result<Self, PkiError> {
        let trusted = authorities(&folder.authority_file())?;
        let has_key = files::exists(&folder.authority_key_file())?;
        let authority = has_key
            .then(|| Authority::load(&folder.authority_file(), &folder.authority_key_file()))
            .transpose()?;
        let revocations = Revocations::read(folder, &trusted)?;
        let issued = Register::issued(&folder.issued_file())?;
        Ok(Self {
            folder,
            trusted,
            authority,
            issued,
            revocations,
            items: Vec::new(),
        })
    }

    /// As [`Issuance::open`], but makes an authority where none is there, or with `force` always.
    pub(super) fn open_or_make(
        folder: &'a CertificateFolder,
        days: u32,
        force: bool,
    ) -> Result<Self, PkiError> {
        let there = files::exists(&folder.authority_file())?;
        if there && !force {
            let mut issuance = Self::open(folder)?;
            issuance.report_authorities();
            return Ok(issuance);
        }
        if !force {
            folder.refuse_to_orphan()?;
        }
        let authority = Authority::create(folder.now(), days.max(AUTHORITY_DAYS))?;
        folder
            .authority_pair()
            .write(authority.certificate_pem(), Some(&authority.key_pem()))?;
        let mut issuance = Self {
            folder,
            trusted: vec![authority.trusted().clone()],
            authority: Some(authority),
            issued: Register::issued(&folder.issued_file())?,
            revocations: Revocations::without_lists(folder)?,
            items: Vec::new(),
        };
        issuance.report_authorities();
        if let Some(item) = issuance.items.first_mut() {
            item.action = made_or_replaced(there);
        }
        Ok(issuance)
    }

    pub(super) fn report(self) -> IssueReport {
        IssueReport {
            folder: self.folder.path().to_owned(),
            items: self.items,
        }
    }

    fn report_authorities(&mut self) {
        let now = self.folder.now().unix_timestamp();
        for authority in &self.trusted {
            let end = authority.facts.not_after;
            let note = ending(end, now, "gen-certs --force makes a new one");
            self.items.push(ItemReport {
                subject: Subject::Authority,
                name: Some(authority.facts.subject.clone()),
                action: Action::Kept,
                serial: Some(authority.facts.serial.to_string()),
                end: Some(rfc3339(end)),
                notes: Vec::from_iter(note),
            });
        }
    }

    /// The authority with its key.
    pub(super) fn signer(&self) -> Result<&Authority, PkiError> {
        self.authority.as_ref().ok_or_else(|| PkiError::Missing {
            path: self.folder.authority_key_file(),
            mend: "the authority's key is needed to sign: put it back for the time of this run",
        })
    }

    /// The authority that signs here, or where its key is away, the first.
    fn own(&self) -> Option<&TrustedAuthority> {
        self.authority
            .as_ref()
            .map(Authority::trusted)
            .or(self.trusted.first())
    }

    /// Publishes these revocations, or makes good what an earlier run did not get to publish.
    pub(super) fn revoke(&mut self, rows: Vec<Row>) -> Result<(), PkiError> {
        let published = self
            .own()
            .is_some_and(|own| self.revocations.is_published(own));
        if rows.is_empty() && published {
            return Ok(());
        }
        self.publish(rows, Action::Replaced)
    }

    /// Writes a register that was lost anew, from the certificates in the folder.
    fn restore_register(&mut self) -> Result<(), PkiError> {
        let mut rows = Vec::from_iter(self.server_row()?);
        rows.extend(self.issuing_row()?);
        for name in self.folder.terminals()? {
            rows.extend(self.terminal_row(&name)?);
        }
        self.issued.add(rows)
    }

    pub(super) fn server_row(&self) -> Result<Option<Row>, PkiError> {
        let leaf = read_leaf(&self.folder.server_file())?;
        Ok(leaf.map(|leaf| {
            let first = leaf.facts.server_names.first().map_or("", String::as_str);
            row_of(&leaf, server_row_name(first))
        }))
    }

    pub(super) fn terminal_row(&self, name: &TerminalName) -> Result<Option<Row>, PkiError> {
        let leaf = self.folder.terminal_leaf(name)?;
        Ok(leaf.map(|leaf| row_of(&leaf, name.to_string())))
    }

    /// Whether the terminal's certificate in the folder is revoked. One that cannot be read is not.
    pub(super) fn is_revoked(&self, name: &TerminalName) -> bool {
        let leaf = read_leaf(&self.folder.terminal_file(name)).ok().flatten();
        leaf.is_some_and(|leaf| self.revocations.serials().contains(&leaf.facts.serial))
    }

    pub(super) fn make_revocation_list(&mut self, force: bool) -> Result<(), PkiError> {
        let Some(own) = self.own() else { return Ok(()) };
        let list = self.revocations.list_of(own).map(|list| list.facts.clone());
        let published = self.revocations.is_published(own);
        if !force && self.revocations.may_be_lost(own) && !self.issued.rows().is_empty() {
            return Err(PkiError::RevocationsLost {
                path: self.folder.revocation_file(),
            });
        }
        if let (Some(list), true) = (list, published) {
            let now = self.folder.now().unix_timestamp();
            let note = ending(list.next_update, now, "gen-certs renew makes a new one");
            self.report_list(Action::Kept, note);
        } else {
            let there = files::exists(&self.folder.revocation_file())?;
            self.publish(Vec::new(), made_or_replaced(there))?;
        }
        if !self.issued.is_stored() {
            if force {
                self.issued.add([])?
            } else {
                self.restore_register()?
            }
        }
        Ok(())
    }

    pub(super) fn publish(&mut self, rows: Vec<Row>, action: Action) -> Result<(), PkiError> {
        let Some(authority) = &self.authority else {
            return self.signer().map(|_| ());
        };
        self.revocations.publish(self.folder, authority, rows)?;
        self.report_list(action, None);
        Ok(())
    }

    fn report_list(&mut self, action: Action, note: Option<String>) {
        let due = self
            .own()
            .and_then(|own| Some(self.revocations.list_of(own)?.facts.next_update));
        self.items.push(ItemReport {
            subject: Subject::RevocationList,
            name: None,
            action,
            serial: None,
            end: due.map(rfc3339),
            notes: Vec::from_iter(note),
        });
    }

    pub(super) fn make_server(
        &mut self,
        names: &[ServerName],
        days: u32,
        force: bool,
    ) -> Result<(), PkiError> {
        let pair = self.folder.server_pair();
        if force {
            return self.issue_server(names, days, None);
        }
        let Some(leaf) = read_leaf(&pair.certificate)? else {
            let key = pair.read_key()?;
            return self.issue_server(names, days, key);
        };
        if !pair.check(&leaf, &self.trusted, &self.folder.authority_file())? {
            return Err(PkiError::Missing {
                path: pair.key,
                mend: "restore it from a backup, or have a new pair made by gen-certs renew",
            });
        }
        let known = |name: &&ServerName| {
            leaf.facts
                .server_names
                .iter()
                .any(|one| one == name.as_str())
        };
        let unknown: Vec<&str> = names
            .iter()
            .filter(|name| !known(name))
            .map(ServerName::as_str)
            .collect();
        let lacking = (!unknown.is_empty()).then(|| {
            format!(
                "does not name {}; gen-certs renew --server-name … changes names",
                unknown.join(", ")
            )
        });
        let name = leaf.facts.server_names.join(" ");
        let standing = self.standing_note(&leaf, "gen-certs renew makes a new one");
        self.keep(Subject::Server, name, &leaf, [standing, lacking]);
        Ok(())
    }

    pub(super) fn make_terminal(
        &mut self,
        name: &TerminalName,
        days: u32,
        force: bool,
    ) -> Result<(), PkiError> {
        let pair = self.folder.terminal_pair(name);
        if force {
            return self.issue_terminal(name, days, None);
        }
        let Some(leaf) = self.folder.terminal_leaf(name)? else {
            let key = pair.read_key()?;
            return self.issue_terminal(name, days, key);
        };
        let has_key = pair.check(&leaf, &self.trusted, &self.folder.authority_file())?;
        let mend = format!("gen-certs terminal {name} --force makes a new one");
        let away = (!has_key).then(|| "its key is not in the folder".to_owned());
        let standing = self.standing_note(&leaf, &mend);
        self.keep(Subject::Terminal, name.to_string(), &leaf, [standing, away]);
        Ok(())
    }

    pub(super) fn renew_server(&mut self, names: &[ServerName], days: u32) -> Result<(), PkiError> {
        if !names.is_empty() {
            return self.issue_server(names, days, None);
        }
        let path = self.folder.server_file();
        let leaf = read_leaf(&path)?.ok_or(PkiError::Missing {
            path,
            mend: "name the server with --server-name, or run gen-certs first",
        })?;
        let present = leaf
            .facts
            .server_names
            .iter()
            .filter_map(|name| name.parse().ok());
        let present: Vec<ServerName> = present.collect();
        self.issue_server(&present, days, None)
    }

    pub(super) fn renew_terminal(
        &mut self,
        name: &TerminalName,
        days: u32,
    ) -> Result<(), PkiError> {
        let Some(leaf) = self.folder.terminal_leaf(name)? else {
            return Ok(());
        };
        if !self.is_revoked(name) {
            return self.issue_terminal(name, days, None);
        }
        let note = format!("revoked; gen-certs terminal {name} --force makes a new one");
        self.keep(
            Subject::Terminal,
            name.to_string(),
            &leaf,
            [Some(note), None],
        );
        if let Some(item) = self.items.last_mut() {
            item.action = Action::Skipped;
        }
        Ok(())
    }

    fn issue_server(
        &mut self,
        names: &[ServerName],
        days: u32,
        key: Option<KeyPair>,
    ) -> Result<(), PkiError> {
        let mut seen = std::collections::HashSet::new();
        let local = ServerName::local();
        let names = if names.is_empty() { &local } else { names };
        let names: Vec<_> = names
            .iter()
            .filter(|name| seen.insert(*name))
            .cloned()
            .collect();
        let (not_before, not_after) = self.signer()?.term(self.folder.now(), days)?;
        let request = CertificateRequest::server(&names, not_before, not_after);
        let first = names.first().map_or("", ServerName::as_str);
        let row_name = server_row_name(first);
        let shown = names
            .iter()
            .map(ServerName::as_str)
            .collect::<Vec<_>>()
            .join(" ");
        self.issue(
            Subject::Server,
            (row_name, shown),
            &self.folder.server_pair(),
            &request,
            key,
        )
    }

    fn issue_terminal(
        &mut self,
        name: &TerminalName,
        days: u32,
        key: Option<KeyPair>,
    ) -> Result<(), PkiError> {
        files::make_folder(&self.folder.terminals_folder())?;
        let (not_before, not_after) = self.signer()?.term(self.folder.now(), days)?;
        let request = CertificateRequest::terminal(name, not_before, not_after);
        let names = (name.to_string(), name.to_string());
        self.issue(
            Subject::Terminal,
            names,
            &self.folder.terminal_pair(name),
            &request,
            key,
        )
    }

    /// Signs, registers, then writes: a certificate that anyone could hold is always on record.
    fn issue(
        &mut self,
        subject: Subject,
        (row_name, shown): (String, String),
        pair: &Pair,
        request: &CertificateRequest,
        key: Option<KeyPair>,
    ) -> Result<(), PkiError> {
        let there = files::exists(&pair.certificate)?;
        let new_key = key.is_none();
        let issued = match key {
            Some(key) => self.signer()?.issue_for_key(request, key)?,
            None => self.signer()?.issue(request)?,
        };
        let end = issued.not_after().unix_timestamp();
        self.issued.add([Row {
            serial: issued.serial().clone(),
            name: row_name,
            time: end,
        }])?;
        let key_pem = new_key.then(|| issued.key_pem());
        pair.write(&issued.pem(), key_pem.as_ref().map(|pem| pem.as_str()))?;
        self.items.push(ItemReport {
            subject,
            name: Some(shown),
            action: made_or_replaced(there),
            serial: Some(issued.serial().to_string()),
            end: Some(rfc3339(end)),
            notes: Vec::new(),
        });
        Ok(())
    }

    pub(super) fn keep(
        &mut self,
        subject: Subject,
        name: String,
        leaf: &Leaf,
        notes: [Option<String>; 2],
    ) {
        self.items.push(ItemReport {
            subject,
            name: Some(name),
            action: Action::Kept,
            serial: Some(leaf.facts.serial.to_string()),
            end: Some(rfc3339(leaf.facts.not_after)),
            notes: notes.into_iter().flatten().collect(),
        });
    }

    pub(super) fn standing_note(&self, leaf: &Leaf, mend: &str) -> Option<String> {
        if self.revocations.serials().contains(&leaf.facts.serial) {
            return Some(format!("revoked; {mend}"));
        }
        ending(
            leaf.facts.not_after,
            self.folder.now().unix_timestamp(),
            mend,
        )
    }
}

pub(super) fn row_of(leaf: &Leaf, name: String) -> Row {
    Row {
        serial: leaf.facts.serial.clone(),
        name,
        time: leaf.facts.not_after,
    }
}

/// The server's name in the register.
fn server_row_name(first: &str) -> String {
    format!("server:{first}")
}

pub(super) fn made_or_replaced(there: bool) -> Action {
    if there {
        Action::Replaced
    } else {
        Action::Made
    }
}

fn ending(end: i64, now: i64, mend: &str) -> Option<String> {
    match end - now {
        ..0 => Some(format!("ended at {}; {mend}", rfc3339(end))),
        0..=ENDS_SOON_SECONDS => Some(format!("ends soon; {mend}")),
        _ => None,
    }
}
