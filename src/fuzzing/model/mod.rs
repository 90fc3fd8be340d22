//! What the protocol says an answer must be, told a second time and in another way: plain lists,
//! no store, no proofs. It is written from the protocol's text and shares no rule with the bank.
#![expect(
    clippy::result_large_err,
    reason = "what is expected is an answer, and answers are large"
)]

mod access;
mod money;
mod staff;

use std::collections::BTreeMap;

use super::world::{Customer, MAX_TIMEOUT_MS, World};
use crate::domain::Timestamp;
use crate::server::dialogue::Then;
use crate::wire::answer::{HistoryLine, Members};
use crate::wire::code::Code;

pub(super) use staff::Act;

/// What a connection sends.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Ping,
    Login { account: String, pin: String },
    Balance,
    Keyed(Keyed),
    History { limit: u8, before: Option<i64> },
    ChangePin { pin: String, new_pin: String },
    Logout,
    Unreadable { code: Code },
}

/// A request with a key.
#[derive(Debug, Clone)]
pub(super) struct Keyed {
    pub(super) key: String,
    pub(super) what: What,
}

/// All members of a keyed request but its id and key: what makes two of them the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Deposit(i64),
    Withdraw(i64),
    Transfer(String, i64),
    Authorize(i64),
    Capture(String, i64),
    Release(String),
}

/// Whether the store fails at this request's first call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    No,
    /// Nothing happens.
    Before,
    /// It happens, and the caller is not told.
    After,
}

/// What must come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) code: Code,
    /// Without the message. The name of a hold that was never told is empty.
    pub(super) members: Members,
    pub(super) then: Then,
}

/// What a store does with a request.
enum Outcome {
    Done(Members),
    Refused(Expected),
    /// The session is over.
    Fenced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Open,
    Locked,
    Closed,
}

/// A customer's account.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) balance: i64,
    pub(super) status: Status,
    pub(super) pin: String,
    pub(super) pin_ends_ms: Option<i64>,
    pub(super) must_change_pin: bool,
    pub(super) withdrawal_limit: i64,
    pub(super) daily_limit: i64,
    pub(super) home: Option<String>,
    /// Oldest first.
    pub(super) lines: Vec<HistoryLine>,
    /// Day and amount of every withdrawal in one step.
    withdrawn: Vec<(i64, i64)>,
    /// A late capture may have overdrawn it.
    pub(super) captured_late: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HoldEnd {
    None,
    Captured(i64, String),
    Released(String),
}

#[derive(Debug)]
struct Hold {
    /// Empty until it is told.
    name: String,
    account: String,
    terminal: String,
    amount: i64,
    day: i64,
    expires_ms: i64,
    end: HoldEnd,
}

#[derive(Debug, Clone)]
struct Kept {
    what: What,
    at_ms: i64,
    members: Members,
    hold: Option<usize>,
}

/// Wrong PINs of one budget, and until when they count.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Budget {
    count: u32,
    ends_ms: i64,
}

/// Wrong PINs upon one number: those from its home, and those from all other terminals.
#[derive(Debug, Clone)]
pub(super) struct Tries {
    home: Option<String>,
    pub(super) at_home: Budget,
    pub(super) elsewhere: Budget,
}

/// One connection, from its first request to its last.
#[derive(Debug, Default)]
struct Connection {
    session: Option<Session>,
    unreadable_in_row: u32,
    mismatches: u32,
}

#[derive(Debug)]
struct Session {
    account: String,
    began_ms: i64,
    must_change_pin: bool,
    no_counterparty: u32,
}

/// The bank as the protocol has it.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) now_ms: i64,
    pub(super) accounts: BTreeMap<String, Account>,
    pub(super) tries: BTreeMap<String, Tries>,
    /// The home that the next request's number borrows if it is nobody's: the keyed draw is the
    /// store's own matter, what follows from it is not.
    pub(super) borrowed_home: Option<String>,
    pub(super) entries: i64,
    terminals: &'static [&'static str],
    connections: Vec<Connection>,
    holds: Vec<Hold>,
    keys: BTreeMap<(String, String), Kept>,
}

impl Model {
    pub(super) fn new(
        now_ms: i64,
        terminals: &'static [&'static str],
        customers: &[Customer],
    ) -> Self {
        let mut model = Self {
            now_ms,
            accounts: BTreeMap::new(),
            tries: BTreeMap::new(),
            borrowed_home: None,
            entries: 0,
            terminals,
            connections: terminals.iter().map(|_| Connection::default()).collect(),
            holds: Vec::new(),
            keys: BTreeMap::new(),
        };
        customers.iter().for_each(|customer| model.open(*customer));
        model
    }

    /// The account that is logged in on a connection.
    pub(super) fn logged_in(&self, connection: usize) -> Option<&str> {
        let session = self.connections[connection].session.as_ref();
        session.map(|session| session.account.as_str())
    }

    /// Who sits where: account and terminal, in the order of accounts.
    pub(super) fn seats(&self) -> Vec<(String, String)> {
        let seated = self.connections.iter().zip(self.terminals);
        let seat = |(connection, terminal): (&Connection, &&str)| {
            let session = connection.session.as_ref()?;
            Some((session.account.clone(), (*terminal).to_owned()))
        };
        let mut seats: Vec<_> = seated.filter_map(seat).collect();
        seats.sort();
        seats
    }

    /// Kept keys and open holds.
    pub(super) fn counts(&self) -> (usize, usize) {
        let open = self.holds.iter().filter(|hold| self.is_open(hold));
        (self.keys.len(), open.count())
    }

    /// Names of holds that are known, oldest first.
    pub(super) fn hold_names(&self) -> Vec<&str> {
        let names = self.holds.iter().map(|hold| hold.name.as_str());
        names.filter(|name| !name.is_empty()).collect()
    }

    /// A hold whose name was never told has this one.
    pub(super) fn learn_hold(&mut self, keyed: &Keyed, connection: usize, name: &str) {
        let account = self.logged_in(connection).map(str::to_owned);
        let kept = account.and_then(|account| self.keys.get(&(account, keyed.key.clone())));
        let index = kept.and_then(|kept| kept.hold);
        let hold = index.and_then(|index| self.holds.get_mut(index));
        if let Some(hold) = hold.filter(|hold| hold.name.is_empty()) {
            hold.name = name.to_owned();
        }
    }

    /// The connection is gone, and another takes its place.
    pub(super) fn reconnect(&mut self, connection: usize) {
        self.connections[connection] = Connection::default();
    }

    /// The session ends; whether there was one.
    pub(super) fn end_session(&mut self, connection: usize) -> bool {
        self.connections[connection].session.take().is_some()
    }

    /// What the connection must be told, and what becomes of the bank.
    pub(super) fn ask(&mut self, connection: usize, ask: &Ask, fault: Fault) -> Expected {
        let own = &mut self.connections[connection];
        if let Ask::Unreadable { code } = ask {
            own.unreadable_in_row += 1;
            let close = own.unreadable_in_row >= 3;
            return refused_then(*code, if close { Then::Close } else { Then::Stay });
        }
        own.unreadable_in_row = 0;
        match ask {
            Ask::Login { account, pin } => self.login(connection, account, pin, fault),
            Ask::ChangePin { pin, new_pin } => self.change_pin(connection, pin, new_pin, fault),
            Ask::Balance => self.look(connection, fault, |model, account| Members {
                currency: Some("USD".to_owned()),
                ..model.balances(account)
            }),
            Ask::History { limit, before } => self.look(connection, fault, |model, account| {
                model.history(account, *limit, *before)
            }),
            Ask::Keyed(keyed) => self.keyed(connection, keyed, fault),
            Ask::Logout if self.end_session(connection) => done(Members::default()),
            Ask::Logout => refused(Code::NotLoggedIn),
            Ask::Ping => done(Members {
                time: Some(self.time()),
                ..Members::default()
            }),
            Ask::Unreadable { .. } => done(Members::default()),
        }
    }

    /// The bank's clock, as answers tell it.
    pub(super) fn time(&self) -> String {
        Timestamp::from_unix_ms(self.now_ms).to_string()
    }

    /// 23 or 25, where only a customer with a PIN of their own is served.
    fn customer(&self, connection: usize) -> Result<String, Expected> {
        match &self.connections[connection].session {
            None => Err(refused(Code::NotLoggedIn)),
            Some(session) if session.must_change_pin => Err(refused(Code::MustChangePin)),
            Some(session) => Ok(session.account.clone()),
        }
    }

    fn look(
        &mut self,
        connection: usize,
        fault: Fault,
        look: impl FnOnce(&Self, &str) -> Members,
    ) -> Expected {
        match self.customer(connection) {
            Err(expected) => expected,
            Ok(_) if fault != Fault::No => refused(Code::StorageUnavailable),
            Ok(account) => done(look(self, &account)),
        }
    }

    fn history(&self, account: &str, limit: u8, before: Option<i64>) -> Members {
        let lines = self.account(account).lines.iter().rev();
        let older = lines.filter(|line| before.is_none_or(|before| line.entry < before));
        Members {
            entries: Some(older.take(limit.into()).cloned().collect()),
            ..Members::default()
        }
    }

    fn account(&self, number: &str) -> &Account {
        self.accounts.get(number).expect("an account of the model")
    }

    fn account_mut(&mut self, number: &str) -> &mut Account {
        let account = self.accounts.get_mut(number);
        account.expect("an account of the model")
    }

    pub(super) fn available(&self, number: &str) -> i64 {
        let own = self.holds.iter().filter(|hold| hold.account == number);
        let held: i64 = own
            .filter(|hold| self.is_open(hold))
            .map(|hold| hold.amount)
            .sum();
        self.account(number).balance - held
    }

    fn balances(&self, number: &str) -> Members {
        Members {
            balance: Some(self.account(number).balance),
            available: Some(self.available(number)),
            ..Members::default()
        }
    }

    fn is_open(&self, hold: &Hold) -> bool {
        hold.end == HoldEnd::None && self.now_ms < hold.expires_ms
    }

    fn day(&self) -> i64 {
        self.now_ms.div_euclid(86_400_000)
    }

    pub(super) fn open(&mut self, customer: Customer) {
        let terms = World::terms();
        let account = Account {
            balance: 0,
            status: Status::Open,
            pin: customer.pin.to_owned(),
            pin_ends_ms: None,
            must_change_pin: false,
            withdrawal_limit: terms.withdrawal_limit,
            daily_limit: terms.daily_withdrawal_limit,
            home: None,
            lines: Vec::new(),
            withdrawn: Vec::new(),
            captured_late: false,
        };
        self.accounts.insert(customer.number.to_owned(), account);
        let mut rest = customer.balance;
        while rest > 0 {
            let part = rest.min(1_000_000_000_000);
            self.entries += 1;
            self.write(customer.number, "opening", part, "", None);
            rest -= part;
        }
    }

    /// One side of the last entry.
    fn write(
        &mut self,
        number: &str,
        kind: &'static str,
        amount: i64,
        terminal: &str,
        counterparty: Option<String>,
    ) {
        let (entry, at) = (self.entries, Timestamp::from_unix_ms(self.now_ms));
        let account = self.account_mut(number);
        account.balance += amount;
        account.lines.push(HistoryLine {
            entry,
            at: at.to_string(),
            kind: kind.into(),
            amount,
            balance: account.balance,
            terminal: terminal.to_owned(),
            counterparty,
        });
    }

    /// For a transfer after too many to nobody.
    fn too_many(&self, session: &Session) -> Expected {
        let ends_ms = session.began_ms + i64::try_from(MAX_TIMEOUT_MS).expect("milliseconds");
        let left_ms = u64::try_from(ends_ms - self.now_ms).unwrap_or(0);
        retry_after(Code::TooMany, Some(left_ms))
    }
}

fn done(members: Members) -> Expected {
    Expected {
        code: Code::Done,
        members,
        then: Then::Stay,
    }
}

fn refused(code: Code) -> Expected {
    refused_then(code, Then::Stay)
}

fn refused_then(code: Code, then: Then) -> Expected {
    Expected {
        code,
        members: Members::default(),
        then,
    }
}

fn retry_after(code: Code, retry_after_ms: Option<u64>) -> Expected {
    let mut expected = refused(code);
    expected.members.retry_after_ms = retry_after_ms;
    expected
}
