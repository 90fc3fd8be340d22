//! What an answer of the bank leads to.

use super::{Machine, Reply};
use crate::atm::error::Error;
use crate::atm::screen::view::{Errand, View, Wish};
use crate::atm::teller::Session;
use crate::atm::words;
use crate::domain::Currency;
use crate::wire::answer::{Answer, HistoryLine};
use crate::wire::code::Code;
use crate::wire::request::HISTORY_LIMIT_DEFAULT;

impl Machine {
    pub(super) fn on_reply(&mut self, reply: Reply) -> Option<Wish> {
        let Reply {
            errand,
            outcome,
            session,
            cash,
            no_matches,
            recovered,
        } = reply;
        let before = self.session;
        match session {
            None => self.forget_customer(),
            Some(session) => self.session = Some(session),
        }
        if errand == Errand::StayLoggedIn {
            self.asking_to_stay = false;
        }
        match outcome {
            Ok(answer) => {
                self.note_standing(&answer);
                self.on_answer(errand, answer, before, (cash, no_matches));
            }
            Err(sentence) => self.on_failure(errand, sentence),
        }
        if !recovered.is_empty() {
            self.add_recovered(&recovered);
        }
        None
    }

    /// Every request that is served puts the idle end off.
    fn note_standing(&mut self, answer: &Answer) {
        if answer.code != Code::Done {
            return;
        }
        if let Some(session) = &self.session {
            self.idle_deadline_ms = Some(self.now_ms.saturating_add(session.idle_timeout_ms));
            self.available = answer.members.available.or(self.available);
        }
    }

    fn on_failure(&mut self, errand: Errand, sentence: &'static str) {
        match errand {
            Errand::StayLoggedIn if !matches!(self.view, View::Waiting { .. }) => {
                self.say("Logged out", sentence.into());
            }
            Errand::StayLoggedIn => {}
            Errand::Capture(_) => self.say_not_booked(None),
            Errand::LogOut => self.welcome(None),
            Errand::Authorize(_) => self.say("Sorry", format!("{} {sentence}", words::NO_CASH)),
            Errand::Release => {
                let note = self.note.take().unwrap_or_else(|| sentence.into());
                self.say("Cancelled", format!("{note} {}", words::NO_CASH));
            }
            _ => self.say("Sorry", sentence.into()),
        }
    }

    fn on_answer(
        &mut self,
        errand: Errand,
        answer: Answer,
        before: Option<Session>,
        (cash, no_matches): (bool, u32),
    ) {
        let currency = before
            .map(|session| session.currency)
            .or_else(|| self.currency());
        if answer.code != Code::Done {
            self.on_refusal(errand, &answer, currency, no_matches);
            return;
        }
        match errand {
            Errand::StayLoggedIn => {}
            Errand::Login(_) => self.after_message(),
            Errand::Balance => {
                let text = standing(&answer, currency);
                self.say("Your balance", text);
            }
            Errand::Authorize(amount) if cash => {
                self.note = None;
                self.view = View::Counting {
                    amount,
                    since_ms: self.now_ms,
                };
            }
            Errand::Authorize(_) => {
                self.say(
                    "Sorry",
                    "It took too long, so no cash was given out.".into(),
                );
            }
            Errand::Capture(amount) => {
                let text = with_amount(amount, currency, &answer);
                self.say("Please take your cash", text);
            }
            Errand::Release => self.on_released(),
            Errand::Deposit(amount) => {
                let text = with_amount(amount, currency, &answer);
                self.say("Added to your account", text);
            }
            Errand::Transfer(to, amount) => {
                let text = with_amount(amount, currency, &answer);
                self.say("Sent", format!("To {to}: {text}"));
            }
            Errand::History => self.on_history(answer.members.entries.unwrap_or_default()),
            Errand::ChangePin => self.say("Done", "Your PIN was changed.".into()),
            Errand::LogOut => {
                self.forget_customer();
                self.say("Goodbye", "You are logged out. Thank you.".into());
            }
        }
    }

    fn on_released(&mut self) {
        if let View::Waiting {
            errand: Errand::Capture(_),
        } = self.view
        {
            // It was counted, and then could not be written down that it goes out.
            self.say("Sorry", Error::NotKept.for_customer().into());
            return;
        }
        let text = match self.note.take() {
            // The session ended while the notes were counted.
            Some(note) => format!("{note} {}", words::NO_CASH),
            None => "Cancelled. No cash was given out, and nothing was moved.".into(),
        };
        self.say("Cancelled", text);
    }

    fn on_refusal(
        &mut self,
        errand: Errand,
        answer: &Answer,
        currency: Option<Currency>,
        no_matches: u32,
    ) {
        let mut text = words::refusal(answer, currency.as_ref());
        let warning = words::wrong_pin(no_matches);
        if answer.code == Code::NoMatch {
            text.push_str(warning);
        }
        let logged_in = self.session.is_some();
        match errand {
            Errand::StayLoggedIn => {
                if !logged_in && !matches!(self.view, View::Waiting { .. }) {
                    self.say("Logged out", text);
                }
            }
            Errand::Capture(_) => self.say_not_booked(Some(answer.code)),
            Errand::Release => self.on_released(),
            Errand::LogOut => {
                self.forget_customer();
                self.welcome(None);
            }
            Errand::ChangePin if answer.code == Code::NoMatch && logged_in => {
                self.change_pin(Some(format!("Your present PIN was not right.{warning}")));
            }
            Errand::ChangePin if logged_in => self.change_pin(Some(text)),
            Errand::Authorize(_) | Errand::Deposit(_) if logged_in => self.menu(Some(text)),
            Errand::Transfer(..) | Errand::Balance | Errand::History if logged_in => {
                self.menu(Some(text));
            }
            _ => self.say("Sorry", text),
        }
    }

    fn say_not_booked(&mut self, code: Option<Code>) {
        let text = format!("Please take your cash. {}", words::not_booked(code));
        self.say("Please take your cash", text);
    }

    fn on_history(&mut self, new: Vec<HistoryLine>) {
        // Earlier entries come behind those that were on the screen.
        let more = new.len() == usize::from(HISTORY_LIMIT_DEFAULT);
        self.note = new.is_empty().then(|| "There are no more entries.".into());
        let mut entries = std::mem::take(&mut self.history_before);
        let top = entries
            .len()
            .min(entries.len().saturating_add(new.len()).saturating_sub(1));
        entries.extend(new);
        self.view = View::History { entries, top, more };
    }

    /// What became of earlier requests is the first thing that a customer should read.
    fn add_recovered(&mut self, recovered: &[String]) {
        let told = recovered.join(" ");
        let text = match &self.view {
            View::Message { text, .. } => format!("{text} {told}"),
            _ => told,
        };
        self.say("About your last visit", text);
    }
}

fn standing(answer: &Answer, currency: Option<Currency>) -> String {
    let (Some(balance), Some(currency)) = (answer.members.balance, currency) else {
        return String::new();
    };
    let shown = words::money(balance, &currency);
    match answer
        .members
        .available
        .filter(|available| *available != balance)
    {
        None => format!("Your balance is {shown}."),
        Some(available) => {
            let available = words::money(available, &currency);
            format!("Your balance is {shown}; you can use {available}.")
        }
    }
}

fn with_amount(amount: i64, currency: Option<Currency>, answer: &Answer) -> String {
    let shown = currency
        .map(|currency| words::money(amount, &currency))
        .unwrap_or_default();
    format!("{shown}. {}", standing(answer, currency))
        .trim_end()
        .to_owned()
}
