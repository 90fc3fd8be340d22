//! The terminal in line mode: questions and answers, one line each.

mod choice;
mod errands;
mod input;

use std::io::Write;

use zeroize::Zeroizing;

use self::choice::{Choice, MENU};
pub use self::input::Input;
use self::input::{Asked, Typed};
use super::error::Error;
use super::stop::Stop;
use super::teller::{News, Teller};
use super::words;
use crate::domain::{AccountNumber, Pin, printable};
use crate::wire::code::Code;

/// A customer who types nonsense so often in a row is taken for somebody who left.
const NONSENSE_MAX: u32 = 10;

/// The questions, and the bank that answers them.
pub struct Console<'a> {
    teller: &'a mut Teller,
    input: Input,
    stop: &'a Stop,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    /// Whether typing is echoed: where it is not, each question ends its own line.
    is_terminal: bool,
}

/// Why a conversation went no further.
#[derive(Debug)]
enum Break {
    /// The customer said goodbye, or is logged out; the next one may come.
    NextCustomer,
    /// No more input, or somebody wishes to stop.
    Leave,
    /// The terminal cannot go on.
    Failed(Error),
}

type Said<T> = Result<T, Break>;

impl From<Error> for Break {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Console<'a> {
    /// A terminal that asks on `out`, and tells the operator on `err`.
    pub fn new(
        teller: &'a mut Teller,
        input: Input,
        stop: &'a Stop,
        out: &'a mut dyn Write,
        err: &'a mut dyn Write,
        is_terminal: bool,
    ) -> Self {
        Self {
            teller,
            input,
            stop,
            out,
            err,
            is_terminal,
        }
    }

    /// Serves one customer after the other until one says `quit` or nobody types any more.
    ///
    /// # Errors
    /// There is no bank at the start, it is not the right one, or the screen is gone.
    pub async fn run(mut self) -> Result<(), Error> {
        // Who answers must have proved to be the bank before any PIN is asked for.
        self.teller.connect().await?;
        loop {
            self.tell_operator();
            match self.serve_customer().await {
                Ok(()) | Err(Break::NextCustomer) => {}
                Err(Break::Leave) => {
                    self.say("Goodbye.")?;
                    return Ok(());
                }
                Err(Break::Failed(Error::Output(error))) => return Err(Error::Output(error)),
                Err(Break::Failed(error @ (Error::NotTheBank(_) | Error::NotNow { .. }))) => {
                    return Err(error);
                }
                Err(Break::Failed(error)) => {
                    self.say(error.for_customer())?;
                    self.tell(&error.to_string());
                    // Whatever it was, the next customer begins anew.
                    self.teller.farewell().await;
                }
            }
        }
    }

    async fn serve_customer(&mut self) -> Said<()> {
        self.say("")?;
        self.say("Welcome. Type your account number, or quit.")?;
        let account = self.ask_account("Account").await?;
        let pin = self.ask_pin("PIN").await?;
        self.log_in(account, pin).await?;
        if self
            .teller
            .session()
            .is_some_and(|session| session.must_change_pin)
        {
            self.say(words::ONE_TIME_PIN)?;
            self.change_pin().await?;
        }
        self.say(MENU)?;
        loop {
            match self.ask_choice().await? {
                Choice::Help => self.say(MENU)?,
                Choice::LogOut => {
                    self.log_out().await?;
                    return Err(Break::NextCustomer);
                }
                Choice::Quit => return Err(Break::Leave),
                choice => self.run_errand(choice).await?,
            }
            self.tell_operator();
        }
    }

    async fn log_in(&mut self, account: AccountNumber, pin: Pin) -> Said<()> {
        let answer = self.teller.login(account, pin).await?;
        let Some(session) = self.teller.session().filter(|_| answer.code == Code::Done) else {
            let mut text = words::refusal(&answer, None);
            if answer.code == Code::NoMatch {
                text.push_str(words::wrong_pin(self.teller.no_matches()));
            }
            self.say(&text)?;
            return Err(Break::NextCustomer);
        };
        let currency = session.currency;
        self.say(&format!("Hello, {account}."))?;
        if let Some(available) = answer.members.available {
            self.say(&format!(
                "You can use {}.",
                words::money(available, &currency)
            ))?;
        }
        self.tell_recovered()
    }

    async fn log_out(&mut self) -> Said<()> {
        let answer = self
            .teller
            .ask(crate::wire::request::Request::Logout)
            .await?;
        self.say(match answer.code {
            Code::Done => "You are logged out. Thank you.",
            _ => "You are logged out.",
        })?;
        Ok(())
    }

    async fn ask_choice(&mut self) -> Said<Choice> {
        for _ in 0..NONSENSE_MAX {
            let typed = self.ask("What would you like to do?").await?;
            if typed.trim().is_empty() {
                continue;
            }
            match Choice::read(&typed) {
                Some(choice) => return Ok(choice),
                None => self.say("Please type a number of the menu, or its word.")?,
            }
        }
        self.log_out().await?;
        Err(Break::NextCustomer)
    }

    async fn ask_account(&mut self, question: &str) -> Said<AccountNumber> {
        loop {
            let typed = self.ask(question).await?;
            match typed.trim() {
                "" => {}
                "quit" | "exit" | "q" => return Err(Break::Leave),
                text => match text.parse() {
                    Ok(account) => return Ok(account),
                    Err(why) => self.say(&format!("This cannot be: {why}."))?,
                },
            }
        }
    }

    async fn ask_pin(&mut self, question: &str) -> Said<Pin> {
        loop {
            let typed = self.ask_secret(question).await?;
            match Pin::parse(typed.trim()) {
                Ok(pin) => return Ok(pin),
                Err(_) if matches!(typed.trim(), "" | "cancel" | "quit") => {
                    self.say("Cancelled.")?;
                    return Err(Break::NextCustomer);
                }
                Err(why) => self.say(&format!("This cannot be: {why}."))?,
            }
        }
    }

    async fn ask(&mut self, question: &str) -> Said<Zeroizing<String>> {
        self.prompt(question)?;
        let typed = self.hear(Asked::Line).await?;
        self.end_prompt(Asked::Line)?;
        Ok(typed)
    }

    async fn ask_secret(&mut self, question: &str) -> Said<Zeroizing<String>> {
        self.prompt(question)?;
        let typed = self.hear(Asked::Secret).await?;
        self.end_prompt(Asked::Secret)?;
        Ok(typed)
    }

    fn prompt(&mut self, question: &str) -> Said<()> {
        // All that came before was said.
        self.teller.told();
        self.input.forget_typed_ahead();
        let colon = if question.ends_with('?') { "" } else { ":" };
        write!(self.out, "{question}{colon} ")
            .and_then(|()| self.out.flush())
            .map_err(Error::Output)?;
        Ok(())
    }

    /// Only a terminal that echoes what is typed echoes its end too.
    fn end_prompt(&mut self, asked: Asked) -> Said<()> {
        if !self.is_terminal || asked == Asked::Secret {
            self.say("")?;
        }
        Ok(())
    }

    /// What the customer types next, or what comes between: the bank's word, or a signal.
    async fn hear(&mut self, asked: Asked) -> Said<Zeroizing<String>> {
        loop {
            let news = tokio::select! {
                biased;
                () = self.stop.wished() => return Err(Break::Leave),
                news = self.teller.next_news() => news,
                typed = self.input.read(asked) => return match typed {
                    Typed::Line(line) => Ok(line),
                    Typed::End => Err(Break::Leave),
                    Typed::Interrupt => {
                        self.stop.wish(2);
                        Err(Break::Leave)
                    }
                },
            };
            self.tell_news(&news)?;
        }
    }

    /// Tells the customer what the bank said; every piece of news means that they are logged out.
    fn tell_news(&mut self, news: &News) -> Said<()> {
        self.say("")?;
        self.say(match news {
            News::SessionEnded => {
                "Your session has ended, to keep your account safe. Please start again."
            }
            News::Closing(code) => Error::Closing(*code).for_customer(),
            News::Lost(_) => "The connection to your bank was lost. Please start again.",
        })?;
        if let News::Lost(reason) = news {
            self.tell(&format!(
                "the connection was lost: {}",
                words::printable(reason)
            ));
        }
        Err(Break::NextCustomer)
    }

    fn tell_recovered(&mut self) -> Said<()> {
        for told in self.teller.take_recovered() {
            self.say(&told.to_string())?;
        }
        self.tell_operator();
        Ok(())
    }

    fn tell_operator(&mut self) {
        for warning in self.teller.take_warnings() {
            self.tell(&format!("warning: {warning}"));
        }
    }

    /// An operator who does not listen keeps no customer from being served.
    fn tell(&mut self, line: &str) {
        let _ = writeln!(self.err, "atm_client: {}", printable::line(line));
    }

    fn say(&mut self, line: &str) -> Result<(), Error> {
        writeln!(self.out, "{}", printable::lines(line))
            .and_then(|()| self.out.flush())
            .map_err(Error::Output)
    }
}
