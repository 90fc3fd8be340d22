//! What a key means in each view.

use super::{Key, Machine};
use crate::atm::screen::view::{Errand, Item, MENU, Purpose, Secret, View, Wish, quick_amounts};
use crate::atm::script::command::amount_wanted;
use crate::domain::{AccountNumber, Amount, Pin};

/// An account number, and an amount of 10^12 minor units with its point, fit.
const TYPED_CHARACTERS_MAX: usize = 24;
/// Stands for what was typed beyond that.
const TOO_LONG: char = '…';

impl Machine {
    pub(super) fn on_key(&mut self, key: Key) -> Option<Wish> {
        match &mut self.view {
            View::Waiting { .. } => {
                self.gave_up = key == Key::Esc && self.may_give_up();
                None
            }
            View::Message { .. } => {
                self.after_message();
                None
            }
            View::Welcome { .. } => self.on_welcome_key(key),
            View::Pin { .. } => self.on_pin_key(key),
            View::Menu { .. } => self.on_menu_key(key),
            View::Recipient { .. } => self.on_recipient_key(key),
            View::Amount { .. } => self.on_amount_key(key),
            View::Confirm { .. } => self.on_confirm_key(key),
            View::Counting { .. } => self.on_counting_key(key),
            View::History { .. } => self.on_history_key(key),
            View::ChangePin { .. } => self.on_change_pin_key(key),
        }
    }

    fn on_welcome_key(&mut self, key: Key) -> Option<Wish> {
        let View::Welcome { account } = &mut self.view else {
            return None;
        };
        match key {
            Key::Esc if account.is_empty() => self.is_over = !self.kiosk,
            Key::Esc => self.welcome(None),
            Key::Enter => match account.trim().parse() {
                Ok(account) => {
                    self.note = None;
                    self.view = View::Pin {
                        account,
                        digits: Secret::new(),
                    };
                }
                Err(_) if account.is_empty() => {}
                Err(_) => self.note = Some(NOT_AN_ACCOUNT.into()),
            },
            key => edit_account(account, key),
        }
        None
    }

    fn on_pin_key(&mut self, key: Key) -> Option<Wish> {
        let View::Pin { account, digits } = &mut self.view else {
            return None;
        };
        match key {
            Key::Esc => self.welcome(None),
            Key::Enter => {
                let account = *account;
                let Some(pin) = digits.take() else {
                    self.note = Some(NOT_A_PIN.into());
                    return None;
                };
                self.note = None;
                return self.wait(Errand::Login(account), Wish::Login(account, pin));
            }
            key => edit_secret(digits, key),
        }
        None
    }

    fn on_menu_key(&mut self, key: Key) -> Option<Wish> {
        let View::Menu { selected } = &mut self.view else {
            return None;
        };
        let last = MENU.len().saturating_sub(1);
        let chosen = match key {
            Key::Up => {
                *selected = selected.checked_sub(1).unwrap_or(last);
                None
            }
            Key::Down => {
                *selected = if *selected >= last {
                    0
                } else {
                    selected.saturating_add(1)
                };
                None
            }
            Key::Enter => Some(*selected),
            Key::Esc => Some(last),
            Key::Char(c) => c
                .to_digit(10)
                .and_then(|digit| usize::try_from(digit).ok())
                .and_then(|digit| digit.checked_sub(1)),
            _ => None,
        };
        let (item, _) = MENU.get(chosen?)?;
        self.note = None;
        self.choose(*item)
    }

    fn choose(&mut self, item: Item) -> Option<Wish> {
        match item {
            Item::Withdraw => self.ask_amount(Purpose::Withdraw),
            Item::Deposit => self.ask_amount(Purpose::Deposit),
            Item::Transfer => {
                self.view = View::Recipient {
                    account: String::new(),
                }
            }
            Item::Balance => return self.wait(Errand::Balance, Wish::Balance(Errand::Balance)),
            Item::History => {
                self.history_before.clear();
                return self.wait(Errand::History, Wish::History(None));
            }
            Item::ChangePin => self.change_pin(None),
            Item::LogOut => return self.wait(Errand::LogOut, Wish::LogOut),
        }
        None
    }

    fn on_recipient_key(&mut self, key: Key) -> Option<Wish> {
        let own = self.account();
        let View::Recipient { account } = &mut self.view else {
            return None;
        };
        match key {
            Key::Esc => self.menu(None),
            Key::Enter => match account.parse::<AccountNumber>() {
                Ok(to) if Some(to) == own => {
                    self.note = Some("That is your own account.".into());
                }
                Ok(to) => self.ask_amount(Purpose::Transfer(to)),
                Err(_) => self.note = Some(NOT_AN_ACCOUNT.into()),
            },
            key => edit_account(account, key),
        }
        None
    }

    fn on_amount_key(&mut self, key: Key) -> Option<Wish> {
        let currency = self.currency()?;
        let quick = quick_amounts(&currency);
        let View::Amount {
            purpose,
            text,
            selected,
        } = &mut self.view
        else {
            return None;
        };
        let last = quick.len().saturating_sub(1);
        match key {
            Key::Esc => self.menu(None),
            Key::Up => *selected = Some(selected.and_then(|at| at.checked_sub(1)).unwrap_or(last)),
            Key::Down => {
                *selected = Some(selected.map_or(0, |at| if at >= last { 0 } else { at + 1 }));
            }
            Key::Enter => {
                let purpose = *purpose;
                let minor = match selected {
                    Some(at) => quick.get(*at).copied(),
                    None => currency.parse_exact(text),
                };
                match minor.and_then(Amount::new) {
                    Some(amount) => return self.on_amount(purpose, amount.minor()),
                    None => self.note = Some(amount_wanted(&currency)),
                }
            }
            Key::Backspace => drop(text.pop()),
            key @ Key::Char(_) => {
                *selected = None;
                edit(text, key);
            }
            _ => {}
        }
        None
    }

    fn on_amount(&mut self, purpose: Purpose, amount: i64) -> Option<Wish> {
        self.note = None;
        if purpose == Purpose::Withdraw {
            // It can be cancelled until the notes are counted, so no question is asked before.
            return self.wait(Errand::Authorize(amount), Wish::Authorize(amount));
        }
        self.view = View::Confirm { purpose, amount };
        None
    }

    fn on_confirm_key(&mut self, key: Key) -> Option<Wish> {
        let View::Confirm { purpose, amount } = &self.view else {
            return None;
        };
        let (purpose, amount) = (*purpose, *amount);
        match key {
            Key::Esc | Key::Char('n' | 'N') => {
                self.menu(Some("Cancelled. Nothing was moved.".into()));
                None
            }
            Key::Enter | Key::Char('y' | 'Y') => match purpose {
                Purpose::Withdraw => self.wait(Errand::Authorize(amount), Wish::Authorize(amount)),
                Purpose::Deposit => self.wait(Errand::Deposit(amount), Wish::Deposit(amount)),
                Purpose::Transfer(to) => {
                    self.wait(Errand::Transfer(to, amount), Wish::Transfer(to, amount))
                }
            },
            _ => None,
        }
    }

    fn on_counting_key(&mut self, key: Key) -> Option<Wish> {
        match key {
            Key::Esc => self.wait(Errand::Release, Wish::Release),
            _ => None,
        }
    }

    fn on_history_key(&mut self, key: Key) -> Option<Wish> {
        let View::History { entries, top, more } = &mut self.view else {
            return None;
        };
        let last = entries.len().saturating_sub(1);
        match key {
            Key::Esc | Key::Enter => self.menu(None),
            Key::Up => *top = top.saturating_sub(1),
            Key::PageUp => *top = top.saturating_sub(10),
            Key::Down => *top = top.saturating_add(1).min(last),
            Key::PageDown => *top = top.saturating_add(10).min(last),
            Key::Char('m' | 'M') if *more => {
                let before = entries.last().map(|entry| entry.entry);
                self.history_before = std::mem::take(entries);
                return self.wait(Errand::History, Wish::History(before));
            }
            _ => {}
        }
        None
    }

    fn on_change_pin_key(&mut self, key: Key) -> Option<Wish> {
        let forced = self.session.is_some_and(|session| session.must_change_pin);
        let View::ChangePin { old, new, digits } = &mut self.view else {
            return None;
        };
        match key {
            Key::Esc if forced => return self.wait(Errand::LogOut, Wish::LogOut),
            Key::Esc => self.menu(Some("Your PIN was not changed.".into())),
            Key::Enter => {
                let typed = digits.take();
                return match typed {
                    None => {
                        self.note = Some(NOT_A_PIN.into());
                        None
                    }
                    Some(pin) if old.is_none() => {
                        (*old, self.note) = (Some(pin), None);
                        None
                    }
                    Some(pin) if new.is_none() => {
                        (*new, self.note) = (Some(pin), None);
                        None
                    }
                    Some(again) => self.on_new_pin_again(&again),
                };
            }
            key => edit_secret(digits, key),
        }
        None
    }

    fn on_new_pin_again(&mut self, again: &Pin) -> Option<Wish> {
        let View::ChangePin { old, new, .. } = &mut self.view else {
            return None;
        };
        let (old, new) = (old.take()?, new.take()?);
        if new.digits() != again.digits() {
            self.change_pin(Some(
                "The two new PINs were not the same. Please start again.".into(),
            ));
            return None;
        }
        self.note = None;
        self.wait(Errand::ChangePin, Wish::ChangePin(old, new))
    }
}

const NOT_AN_ACCOUNT: &str =
    "An account number is two letters, a hyphen and five digits, as in zz-99999.";
const NOT_A_PIN: &str = "A PIN is 4 to 12 digits.";

/// What is typed stands there as it was typed: what means nothing is explained at the end, and never
/// left out, which would make something else of it.
fn edit(text: &mut String, key: Key) {
    match key {
        Key::Backspace => drop(text.pop()),
        Key::Char(c) if text.chars().count() < TYPED_CHARACTERS_MAX => text.push(c),
        Key::Char(_) if !text.ends_with(TOO_LONG) => text.push(TOO_LONG),
        _ => {}
    }
}

fn edit_account(account: &mut String, key: Key) {
    // The hyphen comes by itself behind the letters.
    let is_number = matches!(key, Key::Char(c) if c != '-');
    if is_number && account.len() == 2 && account.chars().all(|c| c.is_ascii_alphabetic()) {
        account.push('-');
    }
    edit(account, key);
    account.make_ascii_lowercase();
}

fn edit_secret(digits: &mut Secret, key: Key) {
    match key {
        Key::Backspace => digits.pop(),
        Key::Char(c) => digits.push(c),
        _ => {}
    }
}
