//! What a customer does at the terminal in line mode, once logged in.

use super::choice::{Choice, read_yes_or_no};
use super::{Break, Console, Said};
use crate::atm::error::Error;
use crate::atm::journal::Order;
use crate::atm::script::command::amount_wanted;
use crate::atm::teller::new_keyed;
use crate::atm::words;
use crate::domain::{Amount, Currency, EntryNumber};
use crate::wire::answer::{Answer, HistoryLine};
use crate::wire::code::Code;
use crate::wire::request::{HISTORY_LIMIT_DEFAULT, Request};

impl Console<'_> {
    pub(super) async fn run_errand(&mut self, choice: Choice) -> Said<()> {
        match choice {
            Choice::Balance => self.balance().await,
            Choice::Withdraw => self.withdraw().await,
            Choice::Deposit => self.deposit().await,
            Choice::Transfer => self.transfer().await,
            Choice::History => self.history().await,
            Choice::ChangePin => self.change_pin().await,
            Choice::LogOut | Choice::Quit | Choice::Help => Ok(()),
        }
    }

    async fn balance(&mut self) -> Said<()> {
        let answer = self.teller.ask(Request::Balance).await?;
        if self.is_done(&answer)? {
            self.say_balance(&answer)?;
        }
        Ok(())
    }

    /// Money is set aside, then the cash goes out, then it is booked; whatever fails between is
    /// settled later by the journal.
    async fn withdraw(&mut self) -> Said<()> {
        let Some(amount) = self
            .ask_amount("How much would you like to take out")
            .await?
        else {
            return Ok(());
        };
        let (answer, cash) = match self.teller.authorize(amount.minor()).await {
            Err(error @ Error::NotKept) => {
                self.say(error.for_customer())?;
                self.tell(&error.to_string());
                return Ok(());
            }
            Err(error) => {
                self.say(words::NO_CASH)?;
                return Err(error.into());
            }
            Ok(authorized) => authorized,
        };
        if !self.is_done(&answer)? {
            return Ok(());
        }
        let Some(mut cash) = cash else {
            self.say("It took too long, so no cash was given out. Please try again.")?;
            return Ok(());
        };
        let shown = words::money(amount.minor(), &self.currency()?);
        self.say(&format!("Counting {shown} ..."))?;
        if !self.teller.dispense(&mut cash) {
            self.say(Error::NotKept.for_customer())?;
            // Whatever becomes of it, the money is free again, now or when the hold expires.
            if let Err(error) = self.teller.settle_cash(cash).await {
                self.tell(&format!("a hold is settled later: {error}"));
            }
            return self.still_logged_in();
        }
        self.say(&format!("Please take your cash: {shown}."))?;
        match self.teller.settle_cash(cash).await {
            Ok(answer) if answer.code == Code::Done => self.say_balance(&answer)?,
            Ok(answer) => self.say(&format!(
                "Your cash is out. {}",
                words::not_booked(Some(answer.code))
            ))?,
            Err(_) => self.say(&format!("Your cash is out. {}", words::not_booked(None)))?,
        }
        self.still_logged_in()
    }

    async fn deposit(&mut self) -> Said<()> {
        let Some(amount) = self.ask_amount("How much do you put in").await? else {
            return Ok(());
        };
        let order = Order::Deposit(new_keyed(amount.minor()));
        let answer = self.teller.move_money(order).await?;
        if self.is_done(&answer)? {
            let shown = words::money(amount.minor(), &self.currency()?);
            self.say(&format!("{shown} was added to your account."))?;
            self.say_balance(&answer)?;
        }
        Ok(())
    }

    async fn transfer(&mut self) -> Said<()> {
        let to = self.ask_account("To which account").await?;
        let Some(amount) = self.ask_amount("How much would you like to send").await? else {
            return Ok(());
        };
        let shown = words::money(amount.minor(), &self.currency()?);
        if !self
            .ask_yes_or_no(&format!("Send {shown} to {to}? yes or no"))
            .await?
        {
            self.say("Nothing was sent.")?;
            return Ok(());
        }
        let order = Order::Transfer {
            to,
            keyed: new_keyed(amount.minor()),
        };
        let answer = self.teller.move_money(order).await?;
        if self.is_done(&answer)? {
            self.say(&format!("{shown} was sent to {to}."))?;
            self.say_balance(&answer)?;
        }
        Ok(())
    }

    async fn history(&mut self) -> Said<()> {
        let currency = self.currency()?;
        let mut before = None;
        loop {
            let request = Request::History {
                limit: HISTORY_LIMIT_DEFAULT,
                before,
            };
            let answer = self.teller.ask(request).await?;
            if !self.is_done(&answer)? {
                return Ok(());
            }
            let entries = answer.members.entries.unwrap_or_default();
            if entries.is_empty() {
                self.say("There are no more entries.")?;
            }
            for entry in &entries {
                self.say(&history_line(entry, &currency))?;
            }
            before = entries
                .last()
                .and_then(|entry| EntryNumber::new(entry.entry));
            let full = entries.len() == usize::from(HISTORY_LIMIT_DEFAULT);
            if !full || !self.ask_yes_or_no("Show earlier ones? yes or no").await? {
                return Ok(());
            }
        }
    }

    pub(super) async fn change_pin(&mut self) -> Said<()> {
        let pin = self.ask_pin("Your present PIN").await?;
        let new_pin = self.ask_pin("Your new PIN").await?;
        let again = self.ask_pin("Your new PIN once more").await?;
        if new_pin.digits() != again.digits() {
            self.say("The two new PINs were not the same. Your PIN was not changed.")?;
            return self.or_out_with_one_time_pin().await;
        }
        let answer = self.teller.ask(Request::ChangePin { pin, new_pin }).await?;
        match answer.code {
            Code::Done => {
                self.say("Your PIN was changed.")?;
                self.tell_recovered()
            }
            Code::NoMatch => {
                let warning = words::wrong_pin(self.teller.no_matches());
                self.say(&format!(
                    "Your present PIN was not right. Your PIN was not changed.{warning}"
                ))?;
                self.or_out_with_one_time_pin().await
            }
            _ => {
                self.is_done(&answer)?;
                self.or_out_with_one_time_pin().await
            }
        }
    }

    /// With a PIN from the bank nothing else can be done than to change it.
    async fn or_out_with_one_time_pin(&mut self) -> Said<()> {
        if self
            .teller
            .session()
            .is_some_and(|session| session.must_change_pin)
        {
            self.log_out().await?;
            return Err(Break::NextCustomer);
        }
        self.still_logged_in()
    }

    /// An amount; `None` where the customer would rather not.
    async fn ask_amount(&mut self, question: &str) -> Said<Option<Amount>> {
        let currency = self.currency()?;
        loop {
            let typed = self
                .ask(&format!("{question} ({currency}, or cancel)"))
                .await?;
            let text = typed.trim();
            if matches!(text.to_ascii_lowercase().as_str(), "" | "cancel" | "no") {
                self.say("Cancelled.")?;
                return Ok(None);
            }
            match currency.parse_exact(text).and_then(Amount::new) {
                Some(amount) => return Ok(Some(amount)),
                None => self.say(&amount_wanted(&currency))?,
            }
        }
    }

    async fn ask_yes_or_no(&mut self, question: &str) -> Said<bool> {
        loop {
            let typed = self.ask(question).await?;
            match read_yes_or_no(&typed) {
                Some(yes) => return Ok(yes),
                None => self.say("Please type yes or no.")?,
            }
        }
    }

    /// Whether the bank did it; says why where it did not.
    fn is_done(&mut self, answer: &Answer) -> Said<bool> {
        if answer.code == Code::Done {
            return Ok(true);
        }
        let currency = self.teller.session().map(|session| session.currency);
        self.say(&words::refusal(answer, currency.as_ref()))?;
        if answer.code == Code::Internal {
            let reference = answer.members.reference.as_deref().unwrap_or("none");
            self.tell(&format!(
                "internal error, reference {}",
                words::printable(reference)
            ));
        }
        self.still_logged_in()?;
        Ok(false)
    }

    fn still_logged_in(&mut self) -> Said<()> {
        if self.teller.session().is_none() {
            self.teller.take_news();
            return Err(Break::NextCustomer);
        }
        Ok(())
    }

    fn currency(&self) -> Said<Currency> {
        self.teller
            .session()
            .map(|session| session.currency)
            .ok_or(Break::NextCustomer)
    }

    fn say_balance(&mut self, answer: &Answer) -> Said<()> {
        // A capture names balances only where its account is logged in.
        let Some(balance) = answer.members.balance else {
            return Ok(());
        };
        let currency = self.currency()?;
        let shown = words::money(balance, &currency);
        match answer
            .members
            .available
            .filter(|available| *available != balance)
        {
            None => self.say(&format!("Your balance is {shown}."))?,
            Some(available) => self.say(&format!(
                "Your balance is {shown}; you can use {}.",
                words::money(available, &currency)
            ))?,
        }
        Ok(())
    }
}

fn history_line(entry: &HistoryLine, currency: &Currency) -> String {
    let counterparty = match &entry.counterparty {
        Some(account) => format!("  {}", words::printable(account)),
        None => String::new(),
    };
    format!(
        "  {}  {:<18} {:>14}  balance {:>14}{counterparty}",
        words::moment(&entry.at),
        words::kind(&entry.kind),
        currency.format(entry.amount),
        words::money(entry.balance, currency),
    )
}
