//! The embedded store and the reference model: the same calls, and the same answers.

mod bank;
mod shelf;
mod step;

use self::bank::{BEGINNING, Bank, currency, terms};
use self::shelf::Shelf;
use self::step::{Money, Office, PINS, Step, Steps, TERMINALS, opening};
use super::Input;
use crate::domain::Timestamp;
use crate::store::memory::MemoryStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{Context, Terms};

/// A run is so long at most.
const STEPS_MAX: usize = 120;

/// Plays what the bytes say, one step after the other, on the embedded store and on the reference
/// model. The bytes: what two accounts begin with, and the steps.
///
/// # Panics
/// Where the two answer differently, an audit finds a fault, or the chains' heads differ, also
/// those that stood at an earlier moment; where a restart, a crash or a backup loses anything.
pub fn ledger(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let balances = [opening(&mut input), opening(&mut input)];
    let mut run = Run::new(balances);
    let mut steps = Steps::new(input);
    let mut past = None;
    for index in 0..STEPS_MAX {
        if steps.input.is_empty() {
            break;
        }
        let step = steps.next();
        run.prepare(&step);
        run.step(&step);
        run.follow(&step, index);
        if index % 16 == 15 {
            past = Some(run.model.verify(None, &run.context()).1);
        }
    }
    let context = run.context();
    let (expected, _) = run.model.verify(past, &context);
    assert_eq!(run.store.verify(past, &context).0, expected, "the audits");
}

/// A sequence on both stores.
struct Run {
    model: Bank<MemoryStore>,
    store: Bank<SqliteStore>,
    now: Timestamp,
    terminal: &'static str,
    terms: Terms,
}

impl Run {
    fn new(balances: [i64; 2]) -> Self {
        let mut shelf = Shelf::new();
        let store = shelf.fresh();
        let reopen = move |store, restart, context| shelf.again(store, restart, context);
        let forget = |store: MemoryStore, _, _| {
            store.restart();
            store
        };
        let model = MemoryStore::new(currency(), BEGINNING);
        let mut run = Self {
            model: Bank::new(model, Box::new(forget)),
            store: Bank::new(store, Box::new(reopen)),
            now: BEGINNING,
            terminal: TERMINALS[0],
            terms: terms(0),
        };
        for (who, balance) in balances.into_iter().enumerate() {
            run.step(&Step::Office(Office::Open(who, balance)));
        }
        run
    }

    fn context(&self) -> Context {
        Context {
            now: self.now,
            terminal: self.terminal.parse().expect("a terminal's name"),
            connection: None,
            address: None,
            terms: self.terms,
            busy: false,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Advance(ms) => {
                self.now = Timestamp::from_unix_ms(self.now.unix_ms().saturating_add(*ms));
            }
            Step::At(terminal) => self.terminal = terminal,
            Step::Terms(choice) => self.terms = terms(*choice),
            _ => {}
        }
        let context = self.context();
        let expected = self.model.run(step, &context);
        let found = self.store.run(step, &context);
        assert_eq!(found, expected, "(store, model) after {step:?}");
    }

    /// Steps of customers who are not logged in are mostly preceded by their log-in, and the closing of an
    /// account by its emptying.
    fn prepare(&mut self, step: &Step) {
        let who = match step {
            Step::Office(Office::Close(who)) => {
                let balance = self.model.balance(*who, &self.context());
                return self.step(&Step::Office(Office::Adjust(*who, -balance)));
            }
            Step::Money(Money::Order {
                who, stale: false, ..
            })
            | Step::ChangePin(who, ..)
            | Step::History(who, ..)
            | Step::Balance(who) => *who,
            _ => return,
        };
        self.log_in(who);
    }

    fn log_in(&mut self, who: usize) {
        if !self.model.has_claim(who) {
            self.step(&Step::LogIn(who, PINS[0]));
        }
    }

    /// A closed account is offered money by another.
    fn follow(&mut self, step: &Step, index: usize) {
        if let Step::Office(Office::Close(who)) = step {
            let other = (who + 1) % 3;
            self.step(&Step::Office(Office::Adjust(other, 10)));
            self.log_in(other);
            self.step(&Step::Money(Money::transfer(other, *who, index)));
        }
    }
}
