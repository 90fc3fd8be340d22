//! What staff do about terminals: let in, put out, invite to enrol, revoke.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::Report;
use super::desk::{Desk, Performed, REFUSED, unexpected};
use crate::domain::TerminalName;
use crate::store::{Act, CodeHash, Done, IssuedRecord, Office, TerminalReport};

/// sysexits' EX_IOERR.
const IO: u8 = 74;

impl Desk {
    pub(super) async fn set_disabled(
        &self,
        office: &Office,
        terminal: &str,
        disabled: bool,
    ) -> Performed {
        let name = name(terminal)?;
        let _turn = self.terminals.lock().await;
        // Where that cannot be told, a terminal is put out all the same.
        let known = self.known_terminals(office).await;
        let known = known.map_or(true, |known| known.contains_key(name.as_str()));
        let act = Act::Terminal {
            name: name.clone(),
            disabled,
        };
        self.act(office, act).await?;
        self.floor.set_disabled(&name, disabled);
        let state = if disabled { "disabled" } else { "enabled" };
        let mut text = format!("{name} is {state}");
        if !known {
            text.push_str(
                "; the bank knows no terminal of this name: none moved cash or enrolled, and none connected since the \
                 server started. If you meant another, terminal list has the names",
            );
        }
        let data = json!({ "terminal": name.as_str(), "disabled": disabled, "known": known });
        Ok(Report::done(data, text))
    }

    pub(super) async fn list_terminals(&self, office: &Office) -> Performed {
        let known = self.known_terminals(office).await?;
        Ok(Report::terminals(known.values(), self.bank.currency()))
    }

    /// Terminals that the books know, and those that connected since the server started, by name.
    async fn known_terminals(
        &self,
        office: &Office,
    ) -> Result<BTreeMap<String, TerminalReport>, Report> {
        let Done::Terminals(booked) = self.act(office, Act::Terminals).await? else {
            return Err(unexpected());
        };
        let booked = booked.into_iter().map(|row| (row.terminal.clone(), row));
        let mut known: BTreeMap<_, _> = booked.collect();
        for (name, (connections, at)) in self.floor.connected() {
            let terminal = name.to_string();
            let row = known.entry(terminal.clone()).or_default();
            *row = TerminalReport {
                terminal,
                connections,
                connected_at: Some(at),
                ..std::mem::take(row)
            };
        }
        Ok(known)
    }

    pub(super) async fn invite(
        &self,
        office: &Office,
        terminal: &str,
        code: [u8; 32],
        valid_ms: u64,
    ) -> Performed {
        let name = name(terminal)?;
        let expires_at = self.bank.surroundings().now().plus_ms(valid_ms);
        let act = Act::Invite {
            name: name.clone(),
            code: CodeHash(code),
            expires_at,
        };
        self.act(office, act).await?;
        Ok(Report::done(
            json!({ "terminal": name.as_str(), "expires_at": expires_at.to_string() }),
            format!("{name} may enrol once, until {expires_at}"),
        ))
    }

    pub(super) async fn uninvite(&self, office: &Office, terminal: &str) -> Performed {
        let name = name(terminal)?;
        self.act(office, Act::Uninvite(name.clone())).await?;
        Ok(Report::done(
            json!({ "terminal": name.as_str(), "uninvited": true }),
            format!("the code of {name} is void"),
        ))
    }

    /// First on record, then on the list: what comes between is made good at the next start, or by
    /// revoking again.
    pub(super) async fn revoke(&self, office: &Office, terminal: &str) -> Performed {
        let name = name(terminal)?;
        let _turn = self.terminals.lock().await;
        let act = Act::RevokeCertificates(name.clone());
        let Done::Certificates(revoked) = self.act(office, act).await? else {
            return Err(unexpected());
        };
        if revoked.is_empty() {
            let reason = format!(
                "{name} has no certificate of its own enrolment that has not ended, and no code of it \
                 is open now; one that gen-certs made stays good until gen-certs revoke {name}"
            );
            return Err(Report::failed(REFUSED, reason));
        }
        let (floor, list, whose) = (Arc::clone(&self.floor), revoked.clone(), name.clone());
        let published = tokio::task::spawn_blocking(move || floor.revoke(&whose, &list)).await;
        let published = published.unwrap_or_else(|_| Err("the list's writer ended".to_owned()));
        if let Err(reason) = published {
            let reason = format!(
                "revoked in the store, but not yet in force: {reason}; mend that and revoke again"
            );
            return Err(Report::failed(IO, reason));
        }
        let line = |one: &IssuedRecord| json!({ "serial": one.serial, "ends_at": one.ends_at.to_string() });
        let serials: Vec<_> = revoked.iter().map(line).collect();
        Ok(Report::done(
            json!({ "terminal": name.as_str(), "revoked": serials }),
            format!(
                "{} certificates of {name} are revoked, and no code of it is open; a certificate of \
                 that name made with gen-certs stays good until gen-certs revoke {name}",
                revoked.len()
            ),
        ))
    }
}

fn name(text: &str) -> Result<TerminalName, Report> {
    text.parse()
        .map_err(|error| Report::failed(REFUSED, format!("{error}")))
}
