//! The logic of the full screen: keys, answers and time in; the next view and a wish out.
//!
//! Pure: no terminal, no network, no clock.

mod keys;
mod replies;

use super::view::{Errand, Purpose, Secret, View, Wish};
use crate::atm::teller::{NOT_BOOKED_YET, News, Session};
use crate::atm::words;
use crate::domain::{AccountNumber, Currency};
use crate::wire::answer::{Answer, HistoryLine};

/// Counting notes takes so long; until then the customer may cancel.
pub(crate) const COUNTING_MS: u64 = 2_500;
/// A message goes away by itself after this.
const MESSAGE_MS: u64 = 8_000;
/// A PIN or an account number that nobody goes on typing is wiped after this.
const ABANDONED_MS: u64 = 30_000;
/// A session that the bank should have ended is ended here this much later.
const LATE_END_MS: u64 = 3_000;
/// A customer who waited so long for the bank may leave.
pub(crate) const PATIENCE_MS: u64 = 5_000;
/// A warning to the attendant stands so long.
const WARNING_MS: u64 = 60_000;

/// A key that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// A character.
    Char(char),
    /// Yes, go on.
    Enter,
    /// No, back.
    Esc,
    /// To the item above.
    Up,
    /// To the item below.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// Take back the last character.
    Backspace,
    /// Ctrl-C: the attendant ends the terminal.
    Interrupt,
}

/// What happens to the terminal.
#[derive(Debug)]
pub(crate) enum Event {
    /// A key was pressed.
    Key(Key),
    /// Time passed.
    Tick,
    /// The bank answered, or cannot.
    Reply(Box<Reply>),
    /// The bank said something of its own accord.
    News(News),
    /// Text was pasted.
    Pasted,
    /// The attendant should know this at once.
    Warning(String),
    /// All cash that is out is booked.
    Settled,
}

/// What came of a wish.
#[derive(Debug)]
pub(crate) struct Reply {
    /// What was asked.
    pub errand: Errand,
    /// The bank's answer, or the sentence for the customer.
    pub outcome: Result<Answer, &'static str>,
    /// Who is logged in now.
    pub session: Option<Session>,
    /// Whether cash may go out.
    pub cash: bool,
    /// How often in a row the account's PIN was wrong here.
    pub no_matches: u32,
    /// What became of earlier requests, in sentences.
    pub recovered: Vec<String>,
}

/// The terminal's state.
#[derive(Debug)]
pub(crate) struct Machine {
    view: View,
    note: Option<String>,
    /// What the attendant should know, and until when it stands.
    warning: Option<(String, u64)>,
    session: Option<Session>,
    available: Option<i64>,
    /// The bank ends the session at this moment, if nothing is asked of it until then.
    idle_deadline_ms: Option<u64>,
    last_key_ms: u64,
    asking_to_stay: bool,
    /// Entries that were on the screen while earlier ones are asked for.
    history_before: Vec<HistoryLine>,
    now_ms: u64,
    /// What the bank answered is on the screen with the next drawing.
    shows_reply: bool,
    /// Since when the bank is being asked.
    waiting_since_ms: u64,
    gave_up: bool,
    /// No key ends it.
    kiosk: bool,
    is_over: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A terminal with nobody in front of it.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
            view: View::Welcome {
                account: String::new(),
            },
            note: None,
            warning: None,
            session: None,
            available: None,
            idle_deadline_ms: None,
            last_key_ms: 0,
            asking_to_stay: false,
            history_before: Vec::new(),
            now_ms: 0,
            shows_reply: false,
            waiting_since_ms: 0,
            gave_up: false,
            kiosk: false,
            is_over: false,
        }
    }

    /// The same for a place where anybody may press any key: none ends it.
    #[must_use]
    pub(crate) const fn for_kiosk(mut self, kiosk: bool) -> Self {
        self.kiosk = kiosk;
        self
    }

    /// Whether no key ends it.
    #[must_use]
    pub(crate) const fn is_kiosk(&self) -> bool {
        self.kiosk
    }

    /// Whether the bank takes so long that the customer may leave.
    #[must_use]
    pub(crate) const fn may_give_up(&self) -> bool {
        let waited_ms = self.now_ms.saturating_sub(self.waiting_since_ms);
        matches!(self.view, View::Waiting { .. }) && waited_ms >= PATIENCE_MS && !self.gave_up
    }

    /// Whether the customer left a bank that does not answer, since this was asked last.
    pub(crate) const fn take_given_up(&mut self) -> bool {
        std::mem::replace(&mut self.gave_up, false)
    }

    /// What is on the screen.
    #[must_use]
    pub(crate) const fn view(&self) -> &View {
        &self.view
    }

    /// A remark on what the customer did last.
    #[must_use]
    pub(crate) fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// What the attendant should know, as long as no customer is there.
    #[must_use]
    pub(crate) fn warning(&self) -> Option<&str> {
        let nobody = matches!(&self.view, View::Welcome { account } if account.is_empty());
        self.warning
            .as_ref()
            .filter(|_| nobody)
            .filter(|(_, until_ms)| self.now_ms < *until_ms)
            .map(|(text, _)| text.as_str())
    }

    /// Who is logged in.
    #[must_use]
    pub(crate) const fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// What the customer can use, in minor units, where it is known.
    #[must_use]
    pub(crate) const fn available(&self) -> Option<i64> {
        self.available
    }

    /// The present moment, milliseconds since the start.
    #[must_use]
    pub(crate) const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Milliseconds until the bank ends the session of a silent customer.
    #[must_use]
    pub(crate) fn idle_left_ms(&self) -> Option<u64> {
        self.idle_deadline_ms
            .map(|deadline_ms| deadline_ms.saturating_sub(self.now_ms))
    }

    /// Whether the attendant ended the terminal.
    #[must_use]
    pub(crate) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether a reply was drawn since this was asked last: call it after a drawing.
    pub(crate) const fn take_told(&mut self) -> bool {
        std::mem::replace(&mut self.shows_reply, false)
    }

    /// Goes one step on; what comes back is to be asked of the bank.
    pub(crate) fn handle(&mut self, event: Event, now_ms: u64) -> Option<Wish> {
        self.now_ms = now_ms;
        match event {
            Event::Key(Key::Interrupt) => {
                self.is_over |= !self.kiosk;
                None
            }
            Event::Pasted => {
                self.note = Some("Pasted text is not taken. Please type.".into());
                None
            }
            Event::Settled => {
                let settled = |(text, _): &(String, u64)| text.starts_with(NOT_BOOKED_YET);
                self.warning.take_if(|warning| settled(warning));
                None
            }
            Event::Key(key) => {
                self.last_key_ms = now_ms;
                self.on_key(key).or_else(|| self.stay_logged_in())
            }
            Event::Tick => self.on_tick(),
            Event::Reply(reply) => {
                self.shows_reply = true;
                self.on_reply(*reply)
            }
            Event::News(news) => self.on_news(&news),
            Event::Warning(text) => {
                let until_ms = now_ms.saturating_add(WARNING_MS);
                self.warning = Some((words::printable(&text), until_ms));
                None
            }
        }
    }

    fn on_tick(&mut self) -> Option<Wish> {
        match &self.view {
            View::Counting { amount, since_ms }
                if self.now_ms.saturating_sub(*since_ms) >= COUNTING_MS =>
            {
                let amount = *amount;
                return self.wait(Errand::Capture(amount), Wish::Dispense(amount));
            }
            View::Message { until_ms, .. } if self.now_ms >= *until_ms => {
                self.after_message();
                return None;
            }
            View::Welcome { account } if !account.is_empty() && self.is_abandoned() => {
                self.welcome(None);
                return None;
            }
            View::Pin { .. } if self.is_abandoned() => {
                self.welcome(None);
                return None;
            }
            View::Waiting { .. } | View::Counting { .. } => return None,
            _ => {}
        }
        let late_ms = self.now_ms.saturating_sub(LATE_END_MS);
        if self
            .idle_deadline_ms
            .is_some_and(|deadline_ms| deadline_ms <= late_ms)
        {
            return self.wait(Errand::LogOut, Wish::LogOut);
        }
        None
    }

    fn is_abandoned(&self) -> bool {
        self.now_ms.saturating_sub(self.last_key_ms) >= ABANDONED_MS
    }

    /// A customer who types is there: the bank hears of it before it ends the session. It counts
    /// what is asked of it, not keys.
    fn stay_logged_in(&mut self) -> Option<Wish> {
        let idle_timeout_ms = self.session?.idle_timeout_ms;
        let busy = matches!(self.view, View::Waiting { .. } | View::Counting { .. });
        let must_change_pin = self.session?.must_change_pin;
        if busy || must_change_pin || self.asking_to_stay {
            return None;
        }
        if self.idle_left_ms()? > idle_timeout_ms / 2 {
            return None;
        }
        self.asking_to_stay = true;
        Some(Wish::Balance(Errand::StayLoggedIn))
    }

    fn on_news(&mut self, news: &News) -> Option<Wish> {
        let text = match news {
            News::SessionEnded => "Your session has ended, to keep your account safe.",
            News::Closing(_) => "Your bank is closing for a moment. Please try again later.",
            News::Lost(_) => "The connection to your bank was lost. Please start again.",
        };
        let counting = matches!(self.view, View::Counting { .. });
        self.forget_customer();
        if counting {
            self.note = Some(text.into());
            return self.wait(Errand::Release, Wish::Release);
        }
        // What is being asked is answered in its own words.
        if !matches!(self.view, View::Waiting { .. }) {
            self.say("Logged out", text.into());
        }
        None
    }

    fn forget_customer(&mut self) {
        self.session = None;
        self.available = None;
        self.idle_deadline_ms = None;
        self.asking_to_stay = false;
        self.history_before.clear();
    }

    fn welcome(&mut self, note: Option<String>) {
        self.view = View::Welcome {
            account: String::new(),
        };
        self.note = note;
    }

    fn menu(&mut self, note: Option<String>) {
        self.view = View::Menu { selected: 0 };
        self.note = note;
    }

    fn change_pin(&mut self, note: Option<String>) {
        self.view = View::ChangePin {
            old: None,
            new: None,
            digits: Secret::new(),
        };
        self.note = note;
    }

    fn ask_amount(&mut self, purpose: Purpose) {
        self.view = View::Amount {
            purpose,
            text: String::new(),
            selected: Some(0),
        };
        self.note = None;
    }

    fn wait(&mut self, errand: Errand, wish: Wish) -> Option<Wish> {
        self.view = View::Waiting { errand };
        self.waiting_since_ms = self.now_ms;
        Some(wish)
    }

    fn say(&mut self, title: &'static str, text: String) {
        let until_ms = self.now_ms.saturating_add(MESSAGE_MS);
        self.note = None;
        self.view = View::Message {
            title,
            text,
            until_ms,
        };
    }

    /// Where the customer goes on: the menu, the PIN that must be changed, or the next customer.
    fn after_message(&mut self) {
        match self.session {
            None => self.welcome(None),
            Some(session) if session.must_change_pin => {
                self.change_pin(Some(words::ONE_TIME_PIN.into()));
            }
            Some(_) => self.menu(None),
        }
    }

    fn currency(&self) -> Option<Currency> {
        self.session.map(|session| session.currency)
    }

    fn account(&self) -> Option<AccountNumber> {
        self.session.map(|session| session.account)
    }
}

#[cfg(test)]
mod tests;
