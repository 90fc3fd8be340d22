//! Between the screen's logic and the bank: wishes in, replies out, one at a time.

use tokio::sync::mpsc;

use super::machine::Reply;
use super::view::{Errand, Wish};
use crate::atm::error::Error;
use crate::atm::journal::Order;
use crate::atm::teller::{CashOut, News, Teller, new_keyed};
use crate::domain::EntryNumber;
use crate::wire::answer::Answer;
use crate::wire::code::Code;
use crate::wire::request::{HISTORY_LIMIT_DEFAULT, Request};

/// What the screen hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The answer to a wish.
    Reply(Box<Reply>),
    /// The bank's own accord.
    News(News),
}

/// The terminal's hands: the teller, and cash that may go out.
pub(crate) struct Worker<'a> {
    teller: &'a mut Teller,
    cash: Option<CashOut>,
    /// What the operator is told when the screen is gone.
    pub reports: Vec<String>,
}

impl<'a> Worker<'a> {
    /// Hands without cash in them.
    pub(crate) fn new(teller: &'a mut Teller) -> Self {
        Self {
            teller,
            cash: None,
            reports: Vec::new(),
        }
    }

    /// Fulfils wishes until there will be no more.
    ///
    /// # Errors
    /// [`Error::NotTheBank`]; everything else is a reply.
    pub(crate) async fn run(
        &mut self,
        mut wishes: mpsc::Receiver<Wish>,
        heard: mpsc::Sender<Heard>,
    ) -> Result<(), Error> {
        loop {
            let told = tokio::select! {
                wish = wishes.recv() => match wish {
                    Some(wish) => Heard::Reply(Box::new(self.fulfil(wish).await?)),
                    None => return Ok(()),
                },
                news = self.teller.next_news() => Heard::News(news),
            };
            if heard.send(told).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Settles cash that was in the hands when the screen ended.
    pub(crate) async fn put_down(&mut self) {
        if let Some(cash) = self.cash.take()
            && let Err(error) = self.teller.settle_cash(cash).await
        {
            self.reports
                .push(format!("a hold is settled at the next start: {error}"));
        }
        self.reports.extend(self.teller.take_warnings());
    }

    /// Cash goes out only where that is written down first.
    fn or_release(&mut self, wish: Wish) -> Wish {
        if !matches!(wish, Wish::Dispense(_)) {
            return wish;
        }
        match &mut self.cash {
            Some(cash) => {
                if self.teller.dispense(cash) {
                    wish
                } else {
                    Wish::Release
                }
            }
            None => Wish::Release,
        }
    }

    async fn fulfil(&mut self, wish: Wish) -> Result<Reply, Error> {
        let wish = self.or_release(wish);
        let errand = errand(&wish);
        let outcome = match self.ask(wish).await {
            Ok(answer) => Ok(answer),
            Err(error @ Error::NotTheBank(_)) => return Err(error),
            Err(error) => {
                self.reports.push(error.to_string());
                Err(error.for_customer())
            }
        };
        if let Ok(answer) = &outcome
            && answer.code == Code::Internal
        {
            let reference = answer.members.reference.as_deref().unwrap_or("none");
            let reference = crate::atm::words::printable(reference);
            self.reports
                .push(format!("internal error at the bank, reference {reference}"));
        }
        self.reports.extend(self.teller.take_warnings());
        // Told by the reply: nobody is logged in any more.
        self.teller.take_news();
        Ok(Reply {
            errand,
            outcome,
            session: self.teller.session().copied(),
            cash: self.cash.is_some(),
            recovered: self
                .teller
                .take_recovered()
                .iter()
                .map(ToString::to_string)
                .collect(),
        })
    }

    async fn ask(&mut self, wish: Wish) -> Result<Answer, Error> {
        match wish {
            Wish::Login(account, pin) => self.teller.login(account, pin).await,
            Wish::Balance(_) => self.teller.ask(Request::Balance).await,
            Wish::Authorize(minor) => {
                let (answer, cash) = self.teller.authorize(minor).await?;
                self.cash = cash;
                Ok(answer)
            }
            Wish::Dispense(_) | Wish::Release => match self.cash.take() {
                Some(cash) => self.teller.settle_cash(cash).await,
                None => Err(Error::Lost("there is no hold".into())),
            },
            Wish::Deposit(minor) => {
                self.teller
                    .move_money(Order::Deposit(new_keyed(minor)))
                    .await
            }
            Wish::Transfer(to, minor) => {
                self.teller
                    .move_money(Order::Transfer {
                        to,
                        keyed: new_keyed(minor),
                    })
                    .await
            }
            Wish::History(before) => {
                let before = before.and_then(EntryNumber::new);
                let request = Request::History {
                    limit: HISTORY_LIMIT_DEFAULT,
                    before,
                };
                self.teller.ask(request).await
            }
            Wish::ChangePin(pin, new_pin) => {
                self.teller.ask(Request::ChangePin { pin, new_pin }).await
            }
            Wish::LogOut => self.teller.ask(Request::Logout).await,
        }
    }
}

const fn errand(wish: &Wish) -> Errand {
    match wish {
        Wish::Login(account, _) => Errand::Login(*account),
        Wish::Balance(errand) => *errand,
        Wish::Authorize(minor) => Errand::Authorize(*minor),
        Wish::Dispense(minor) => Errand::Capture(*minor),
        Wish::Release => Errand::Release,
        Wish::Deposit(minor) => Errand::Deposit(*minor),
        Wish::Transfer(to, minor) => Errand::Transfer(*to, *minor),
        Wish::History(_) => Errand::History,
        Wish::ChangePin(..) => Errand::ChangePin,
        Wish::LogOut => Errand::LogOut,
    }
}
