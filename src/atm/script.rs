//! Scripts: commands in, one line of answer each out.

pub mod command;
pub mod report;

use std::io::{self, Read, Write};
use std::time::Duration;

use tokio::sync::mpsc;
use zeroize::Zeroizing;

use self::command::{Command, HoldReference, Money, MoneyKind, amount_usage};
use self::report::{Fate, Report};
use super::error::Error;
use super::journal::{Order, new_key};
use super::lines::Lines;
use super::stop::Stop;
use super::teller::{News, Teller};
use super::words;
use crate::domain::{Currency, HoldName, Pin, RequestedAmount, printable};
use crate::wire::code::Code;
use crate::wire::request::{Keyed, Request};

/// Until a customer has logged in, amounts are read as the bank's default currency has them.
const CURRENCY_BEFORE_LOGIN: &str = "USD";
/// Lines that may wait to be run.
const LINES_AHEAD: usize = 16;

/// How answers look, and the PIN for `login` lines that have none.
#[derive(Debug, Default)]
pub struct Manner {
    /// One JSON object a line instead of text.
    pub json: bool,
    /// What `ATM_PIN` says.
    pub pin: Option<Zeroizing<String>>,
}

/// Runs a script over one connection.
pub struct Script<'a> {
    teller: &'a mut Teller,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    stop: &'a Stop,
    manner: Manner,
    currency: Currency,
    last_hold: Option<HoldName>,
    refused: bool,
}

impl<'a> Script<'a> {
    /// A script that answers on `out`, and tells the operator on `err`.
    ///
    /// # Errors
    /// None in practice: the default currency is one.
    pub fn new(
        teller: &'a mut Teller,
        stop: &'a Stop,
        manner: Manner,
        out: &'a mut dyn Write,
        err: &'a mut dyn Write,
    ) -> Result<Self, Error> {
        let currency = CURRENCY_BEFORE_LOGIN
            .parse()
            .map_err(|error| Error::Settings(format!("{CURRENCY_BEFORE_LOGIN}: {error}")))?;
        let (last_hold, refused) = (None, false);
        Ok(Self {
            teller,
            out,
            err,
            stop,
            manner,
            currency,
            last_hold,
            refused,
        })
    }

    /// Runs all lines of `source`; a refused command does not end the script. The exit code is
    /// 0, or 1 where a command was refused, or the one of the signal that stopped it.
    ///
    /// # Errors
    /// There is no bank, it is not the right one, it cannot be reached again, or the answers
    /// cannot be written.
    pub async fn run(mut self, source: impl Read + Send + 'static) -> Result<u8, Error> {
        let mut lines = read_ahead(source)?;
        self.teller.connect().await?;
        self.tell_operator()?;
        let mut number = 0_u64;
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                () = self.stop.wished() => return Ok(self.stop.exit_code()),
                // Whoever writes the script may take long: the bank is shown that somebody is here.
                news = self.teller.next_news() => {
                    self.tell_news(&news)?;
                    continue;
                }
            };
            let Some(line) = line else {
                return Ok(u8::from(self.refused));
            };
            number = number.saturating_add(1);
            let line = line.map_err(|source| Error::NoFile {
                path: "the script".into(),
                source,
                mend: "is it a file of text?",
            })?;
            self.run_line(number, &line).await?;
        }
    }

    async fn run_line(&mut self, number: u64, line: &str) -> Result<(), Error> {
        let (name, fate) = match Command::parse(line) {
            Ok(None) => return Ok(()),
            Ok(Some(command)) => (command.name(), self.run_command(command).await),
            Err(why) => ("", Ok(Fate::NotSent(format!("line {number}: {why}")))),
        };
        match fate {
            Ok(fate) => {
                self.answer(name, &fate)?;
                self.tell_operator()
            }
            Err(error @ Error::NotKept) => {
                self.answer(name, &Fate::NotSent(error.to_string()))?;
                self.tell_operator()
            }
            Err(Error::Lost(reason)) => {
                let in_journal = command_is_keyed(name);
                self.answer(name, &Fate::Lost { reason, in_journal })?;
                self.reconnect().await
            }
            // A full bank would say the same again and again.
            Err(Error::Closing(code)) if code != Code::Full => {
                let (reason, in_journal) = (code.message().to_owned(), command_is_keyed(name));
                self.answer(name, &Fate::Lost { reason, in_journal })?;
                self.reconnect().await
            }
            Err(error) => Err(error),
        }
    }

    async fn run_command(&mut self, command: Command) -> Result<Fate, Error> {
        let request = match command {
            Command::Login { account, pin } => {
                let Some(pin) = pin.or_else(|| Pin::parse(self.manner.pin.as_deref()?).ok()) else {
                    let reason = "login: no PIN in the line, and none of 4 to 12 digits in ATM_PIN";
                    return Ok(Fate::NotSent(reason.into()));
                };
                let answer = self.teller.login(account, pin).await?;
                if let (Code::Done, Some(session)) = (answer.code, self.teller.session()) {
                    self.currency = session.currency;
                }
                return Ok(Fate::Answered(Box::new(answer)));
            }
            Command::Money(money) => return self.run_money(money).await,
            Command::Sleep(duration_ms) => {
                self.sleep(Duration::from_millis(duration_ms)).await?;
                return Ok(Fate::Waited);
            }
            Command::Ping => Request::Ping,
            Command::Balance => Request::Balance,
            Command::History(limit) => Request::History {
                limit,
                before: None,
            },
            Command::ChangePin { pin, new_pin } => Request::ChangePin { pin, new_pin },
            Command::Logout => Request::Logout,
        };
        Ok(Fate::Answered(Box::new(self.teller.ask(request).await?)))
    }

    async fn sleep(&mut self, duration: Duration) -> Result<(), Error> {
        let over = tokio::time::sleep(duration);
        tokio::pin!(over);
        loop {
            let news = tokio::select! {
                () = &mut over => return Ok(()),
                () = self.stop.wished() => return Ok(()),
                news = self.teller.next_news() => news,
            };
            self.tell_news(&news)?;
        }
    }

    async fn run_money(&mut self, money: Money) -> Result<Fate, Error> {
        let order = match self.order(money) {
            Ok(order) => order,
            Err(reason) => return Ok(Fate::NotSent(reason)),
        };
        let is_authorize = matches!(order, Order::Authorize(_));
        let answer = self.teller.move_money(order).await?;
        if is_authorize && answer.code == Code::Done {
            self.last_hold = answer
                .members
                .hold
                .as_deref()
                .and_then(|hold| hold.parse().ok());
        }
        Ok(Fate::Answered(Box::new(answer)))
    }

    fn order(&self, money: Money) -> Result<Order, String> {
        let Money { kind, amount, key } = money;
        let key = key.unwrap_or_else(new_key);
        let keyed = |key| match self
            .currency
            .parse_exact(amount.as_deref().unwrap_or_default())
        {
            Some(minor) => Ok(Keyed {
                amount: RequestedAmount(minor),
                key,
            }),
            None => Err(amount_usage(&self.currency)),
        };
        let named = |hold| match hold {
            HoldReference::Named(hold) => Ok(hold),
            HoldReference::Last => self
                .last_hold
                .clone()
                .ok_or_else(|| "no hold was authorized by this script yet".to_owned()),
        };
        Ok(match kind {
            MoneyKind::Deposit => Order::Deposit(keyed(key)?),
            MoneyKind::Withdraw => Order::Withdraw(keyed(key)?),
            MoneyKind::Transfer(to) => Order::Transfer {
                to,
                keyed: keyed(key)?,
            },
            MoneyKind::Authorize => Order::Authorize(keyed(key)?),
            MoneyKind::Capture(hold) => Order::Capture {
                hold: named(hold)?,
                keyed: keyed(key)?,
            },
            MoneyKind::Release(hold) => Order::Release {
                hold: named(hold)?,
                key,
                amount: None,
            },
        })
    }

    fn answer(&mut self, command: &str, fate: &Fate) -> Result<(), Error> {
        let done = match fate {
            Fate::Answered(answer) => answer.code == Code::Done,
            Fate::Waited => true,
            Fate::NotSent(_) | Fate::Lost { .. } => false,
        };
        self.refused |= !done;
        let recovered = self.teller.take_recovered();
        let report = Report {
            command,
            fate,
            currency: &self.currency,
            recovered: &recovered,
        };
        let line = if self.manner.json {
            report.to_json().to_string()
        } else {
            report.to_text()
        };
        // One line of answer each, whatever is in it.
        writeln!(self.out, "{}", printable::line(&line))
            .and_then(|()| self.out.flush())
            .map_err(Error::Output)?;
        recovered
            .iter()
            .try_for_each(|told| self.tell(&told.to_string()))?;
        self.teller.told();
        Ok(())
    }

    fn tell_operator(&mut self) -> Result<(), Error> {
        for warning in self.teller.take_warnings() {
            self.tell(&format!("warning: {warning}"))?;
        }
        self.teller
            .take_news()
            .iter()
            .try_for_each(|news| self.tell_news(news))
    }

    fn tell_news(&mut self, news: &News) -> Result<(), Error> {
        self.tell(&match news {
            News::SessionEnded => "the bank ended the session; log in again".to_owned(),
            News::Closing(code) => format!("the bank closes the connection: {}", code.message()),
            News::Lost(reason) => {
                format!(
                    "the connection was lost: {}; log in again",
                    words::printable(reason)
                )
            }
        })
    }

    async fn reconnect(&mut self) -> Result<(), Error> {
        // Where there is no connection again, nobody would tell of it.
        self.tell_operator()?;
        self.teller.connect().await?;
        self.tell("connected again after a loss; log in again")?;
        self.tell_operator()
    }

    fn tell(&mut self, line: &str) -> Result<(), Error> {
        let line = printable::line(line);
        writeln!(self.err, "atm_client: {line}").map_err(Error::Output)
    }
}

fn command_is_keyed(name: &str) -> bool {
    matches!(
        name,
        "deposit" | "withdraw" | "transfer" | "authorize" | "capture" | "release"
    )
}

/// A thread of its own reads the lines, because a read cannot be given up when a signal comes.
fn read_ahead(
    source: impl Read + Send + 'static,
) -> Result<mpsc::Receiver<io::Result<Zeroizing<String>>>, Error> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    let read = move || {
        let mut lines = Lines::new(source);
        while let Some(line) = lines.next_line().transpose() {
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("script".into())
        .spawn(read)
        .map_err(|error| Error::Settings(format!("no thread to read the script: {error}")))?;
    Ok(receiver)
}
