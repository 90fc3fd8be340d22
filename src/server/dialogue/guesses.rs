//! Ops that carry a PIN: each may be a guess, and what came of it is told to the watch for sprays.

use std::sync::Arc;

use super::{Dialogue, Failed};
use crate::access::spray::{Noticed, Verdict};
use crate::bank::{Failure, Opened};
use crate::domain::{AccountNumber, Pin};
use crate::store::{Event, Note};
use crate::wire::answer::Members;
use crate::wire::code::Code;

impl Dialogue {
    pub(super) async fn log_in(&self, account: AccountNumber, pin: Pin) -> Result<Opened, Failed> {
        let open = self
            .shared
            .sprays
            .admit(&self.peer.requester, account)
            .await?;
        let (terminal, connection) = (&self.peer.terminal, self.peer.connection);
        let bank = &self.shared.bank;
        let opened = bank.login(terminal, connection, account, pin).await;
        self.tell_of_spray(open.judge(verdict(&opened)));
        let mut opened = opened?;
        opened.session.asks_from(&self.peer.requester);
        Ok(opened)
    }

    pub(super) async fn change_pin(&mut self, pin: Pin, new_pin: Pin) -> Result<Members, Failed> {
        let session = self
            .session
            .as_mut()
            .ok_or(Failed::Code(Code::NotLoggedIn))?;
        let sprays = Arc::clone(&self.shared.sprays);
        let account = session.account();
        let open = sprays.admit(&self.peer.requester, account).await?;
        let changed = self.shared.bank.change_pin(session, pin, new_pin).await;
        self.tell_of_spray(open.judge(verdict(&changed)));
        changed?;
        Ok(Members::default())
    }

    /// Where a spray was just noticed, staff hear of it, without any customer's number.
    fn tell_of_spray(&self, noticed: Option<Noticed>) {
        let Some(noticed) = noticed else {
            return;
        };
        let (connection, terminal) = (self.peer.connection, &self.peer.terminal);
        tracing::warn!(connection, %terminal, "where" = noticed.name(), "spray noticed");
        self.shared.metrics.count_spray(noticed.name());
        let bank = &self.shared.bank;
        let note = Note::new(Event::SprayNoticed, bank.surroundings().now());
        let note = note.by_terminal(terminal.clone(), Some(connection));
        bank.note_soon(note.outcome("noticed").detail(noticed.name()));
    }
}

/// What a log-in says of the number that it was tried upon. A lock says nothing: no PIN may have
/// been looked at.
fn verdict<T>(outcome: &Result<T, Failure>) -> Verdict {
    match outcome {
        Ok(_) | Err(Failure::InUse | Failure::PinRefused) => Verdict::Right,
        Err(Failure::NoMatch) => Verdict::Failed,
        Err(Failure::NoMatchAndLocked) => Verdict::FailedAndLocked,
        Err(_) => Verdict::Unknown,
    }
}
