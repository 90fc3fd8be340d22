//! Requests with a PIN that were refused for haste, as the audit log tells of them.

use super::Dialogue;
use crate::bank::Session;
use crate::domain::AccountNumber;
use crate::limits;
use crate::store::{Event, Note};
use crate::wire::request::Request;

impl Dialogue {
    /// What stands in the audit log where the request is refused for haste, and upon whose account.
    pub(super) fn asks_for_a_pin(
        &self,
        request: Option<&Request>,
    ) -> (Option<&'static str>, Option<AccountNumber>) {
        match request {
            Some(Request::Login { account, .. }) => (Some("login"), Some(*account)),
            Some(Request::ChangePin { .. }) => {
                let account = self.session.as_ref().map(Session::account);
                (Some("change_pin"), account)
            }
            _ => (None, None),
        }
    }

    pub(super) async fn note_haste(&self, asked: &str, account: Option<AccountNumber>) {
        let bank = &self.shared.bank;
        let note = Note {
            account,
            ..Note::new(Event::Throttled, bank.surroundings().now())
        };
        let (terminal, connection) = (self.peer.terminal.clone(), self.peer.connection);
        let note = note.by_terminal(terminal, Some(connection));
        bank.note_bounded(note.outcome("refused").detail(asked))
            .await;
    }
}

pub(super) fn haste_window_ms() -> u64 {
    u64::try_from(limits::HASTE_WINDOW.as_millis()).unwrap_or(u64::MAX)
}
