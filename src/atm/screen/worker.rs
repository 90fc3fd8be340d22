//! Between the screen's logic and the bank: wishes in, replies out, one at a time.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};

use tokio::sync::mpsc;

use super::machine::Reply;
use super::view::{Errand, Wish};
use crate::atm::error::Error;
use crate::atm::journal::Order;
use crate::atm::teller::{CashOut, News, Teller, new_keyed};
use crate::atm::words;
use crate::domain::{EntryNumber, printable};
use crate::wire::answer::Answer;
use crate::wire::code::Code;
use crate::wire::request::{HISTORY_LIMIT_DEFAULT, Request};

/// The latest reports wait so many until the window is gone.
const REPORTS_MAX: usize = 100;

/// What the screen says.
#[derive(Debug)]
pub(crate) enum Said {
    /// This is to be asked of the bank.
    Wish(Wish),
    /// The customer has seen all replies so far.
    Seen,
    /// The customer does not wait for the bank any more.
    GiveUp,
}

/// What the screen hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The answer to a wish.
    Reply(Box<Reply>),
    /// The bank's own accord.
    News(News),
    /// What the attendant should know at once.
    Warning(String),
    /// All cash that is out is booked.
    Settled,
}

/// The terminal's hands: the teller, and cash that may go out.
pub(crate) struct Worker<'a> {
    teller: &'a mut Teller,
    cash: Option<CashOut>,
    /// What the operator is told when the screen is gone; with a log beside it, at once.
    reports: VecDeque<String>,
    /// What the window is to show.
    warnings: VecDeque<String>,
    /// Whether the window was told of cash that is not booked.
    owes: bool,
    log: Option<Box<dyn Write + 'a>>,
}

impl<'a> Worker<'a> {
    /// Hands without cash in them.
    pub(crate) fn new(teller: &'a mut Teller) -> Self {
        Self {
            teller,
            cash: None,
            reports: VecDeque::new(),
            warnings: VecDeque::new(),
            owes: false,
            log: None,
        }
    }

    /// The same with reports going to stderr at once, where that is not the window itself.
    pub(crate) fn with_log_beside(mut self) -> Self {
        if !io::stderr().is_terminal() {
            self.log = Some(Box::new(io::stderr()));
        }
        self
    }

    /// Fulfils wishes until there will be no more.
    ///
    /// # Errors
    /// [`Error::NotTheBank`]; everything else is a reply.
    pub(crate) async fn run(
        &mut self,
        mut wishes: mpsc::Receiver<Said>,
        heard: mpsc::Sender<Heard>,
    ) -> Result<(), Error> {
        // What was said while a wish was being fulfilled.
        let mut ahead = VecDeque::new();
        loop {
            self.take_warnings();
            while let Some(warning) = self.warnings.pop_front() {
                if heard.send(Heard::Warning(warning)).await.is_err() {
                    return Ok(());
                }
            }
            let owed = std::mem::replace(&mut self.owes, self.teller.holds_left());
            if owed && !self.owes && heard.send(Heard::Settled).await.is_err() {
                return Ok(());
            }
            let told = tokio::select! {
                said = next(&mut ahead, &mut wishes) => match said {
                    Some(Said::Seen) => {
                        self.teller.told();
                        continue;
                    }
                    // What it was about was answered meanwhile.
                    Some(Said::GiveUp) => continue,
                    Some(Said::Wish(wish)) => {
                        let (said, ahead) = (&mut wishes, &mut ahead);
                        Heard::Reply(Box::new(self.fulfil_or_give_up(wish, said, ahead).await?))
                    }
                    None => return Ok(()),
                },
                news = self.teller.next_news() => Heard::News(news),
            };
            if heard.send(told).await.is_err() {
                return Ok(());
            }
        }
    }

    /// The reports that were told nobody yet.
    pub(crate) fn take_reports(&mut self) -> impl Iterator<Item = String> {
        std::mem::take(&mut self.reports).into_iter()
    }

    /// What the teller warns of is for the attendant's eyes too, unless there is a log for it.
    fn take_warnings(&mut self) {
        for warning in self.teller.take_warnings() {
            if self.log.is_none() {
                self.warnings.push_back(warning.clone());
            }
            self.report(format!("warning: {warning}"));
        }
    }

    fn report(&mut self, text: String) {
        if let Some(log) = &mut self.log {
            // An operator who does not listen keeps no customer from being served.
            let _ = writeln!(log, "atm_client: {}", printable::line(&text));
            return;
        }
        if self.reports.len() >= REPORTS_MAX {
            self.reports.pop_front();
        }
        self.reports.push_back(text);
    }

    /// Settles cash that was in the hands when the screen ended.
    pub(crate) async fn put_down(&mut self) {
        if let Some(cash) = self.cash.take()
            && let Err(error) = self.teller.settle_cash(cash).await
        {
            self.report(format!("a hold is settled at the next start: {error}"));
        }
        self.take_warnings();
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

    /// Fulfils a wish, unless the customer leaves first: then the connection ends at once, and the
    /// journal settles what was being asked.
    async fn fulfil_or_give_up(
        &mut self,
        wish: Wish,
        said: &mut mpsc::Receiver<Said>,
        ahead: &mut VecDeque<Said>,
    ) -> Result<Reply, Error> {
        let wish = self.or_release(wish);
        let errand = errand(&wish);
        let given_up = async {
            loop {
                match said.recv().await {
                    Some(Said::GiveUp) => return,
                    // Its turn comes. There are few: the screen waits for each but one.
                    Some(other) => ahead.push_back(other),
                    None => std::future::pending().await,
                }
            }
        };
        let fulfilled = tokio::select! {
            reply = Box::pin(self.fulfil(wish)) => Some(reply),
            () = given_up => None,
        };
        if let Some(reply) = fulfilled {
            return reply;
        }
        self.teller.hang_up();
        self.report("a customer did not wait for the bank's answer".into());
        Ok(Reply {
            errand,
            outcome: Err(words::GIVEN_UP),
            session: None,
            cash: false,
            no_matches: 0,
            recovered: Vec::new(),
        })
    }

    async fn fulfil(&mut self, wish: Wish) -> Result<Reply, Error> {
        let errand = errand(&wish);
        let outcome = match self.ask(wish).await {
            Ok(answer) => Ok(answer),
            Err(error @ (Error::NotTheBank(_) | Error::NotNow { .. })) => return Err(error),
            Err(error) => {
                self.report(error.to_string());
                Err(error.for_customer())
            }
        };
        if let Ok(answer) = &outcome
            && answer.code == Code::Internal
        {
            let reference = answer.members.reference.as_deref().unwrap_or("none");
            let reference = words::printable(reference);
            self.report(format!("internal error at the bank, reference {reference}"));
        }
        // Told by the reply: nobody is logged in any more.
        self.teller.take_news();
        Ok(Reply {
            errand,
            outcome,
            session: self.teller.session().copied(),
            cash: self.cash.is_some(),
            no_matches: self.teller.no_matches(),
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

/// What was said next.
async fn next(ahead: &mut VecDeque<Said>, said: &mut mpsc::Receiver<Said>) -> Option<Said> {
    match ahead.pop_front() {
        Some(earlier) => Some(earlier),
        None => said.recv().await,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atm::connection::Deadlines;
    use crate::atm::{Bank, Journal, TrustFiles};
    use std::cell::RefCell;
    use std::rc::Rc;

    /// A teller of a bank that is not there, without a folder for its journal.
    fn teller() -> Teller {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, authority.self_signed(&key).unwrap().pem()).unwrap();
        let files = TrustFiles {
            ca,
            identity: None,
            pins: Vec::new(),
        };
        let bank = Bank {
            address: "localhost:1".parse().unwrap(),
            trust: files.load().unwrap(),
            deadlines: Deadlines::default(),
        };
        Teller::new(bank, Journal::open(None))
    }

    #[derive(Clone, Default)]
    struct Log(Rc<RefCell<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_warning_is_shown_before_any_customer_comes_and_kept_for_later() {
        let mut teller = teller();
        let mut worker = Worker::new(&mut teller);
        let (wish, wishes) = mpsc::channel(1);
        let (hear, mut heard) = mpsc::channel(1);
        tokio::select! {
            _ = worker.run(wishes, hear) => panic!("nobody ended it"),
            told = heard.recv() => {
                assert!(matches!(told, Some(Heard::Warning(text)) if text.contains("no cash")));
            }
        }
        drop(wish);
        let reports: Vec<String> = worker.take_reports().collect();
        assert!(matches!(&reports[..], [report] if report.contains("no cash")));
    }

    #[test]
    fn with_a_log_beside_the_window_it_is_told_there_at_once() {
        let (mut teller, log) = (teller(), Log::default());
        let mut worker = Worker::new(&mut teller);
        worker.log = Some(Box::new(log.clone()));
        worker.take_warnings();
        assert!(String::from_utf8_lossy(&log.0.borrow()).contains("no cash"));
        assert!(worker.warnings.is_empty() && worker.reports.is_empty());
    }

    #[test]
    fn reports_that_nobody_reads_are_not_kept_without_end() {
        let mut teller = teller();
        let mut worker = Worker::new(&mut teller);
        (0..2 * REPORTS_MAX).for_each(|number| worker.report(number.to_string()));
        assert_eq!(worker.take_reports().count(), REPORTS_MAX);
    }
}
