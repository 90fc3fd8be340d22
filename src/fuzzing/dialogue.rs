//! Terminals at the bank, every answer compared with the model's.

use super::Input;
use super::model::{Act, Ask, Fault, Keyed, Model, Status, What};
use super::world::{Customer, World};
use super::writing::text;
use crate::operator::{Command, Report};
use crate::server::dialogue::{Dialogue, Reaction, Then};
use crate::store::Store as _;
use crate::wire::code::Code;
use std::sync::atomic::Ordering;

/// Two connections of one terminal, one of another, and one without a certificate.
const TERMINALS: [&str; 4] = ["t-1", "t-2", "t-1", "anonymous"];

const CUSTOMERS: [Customer; 4] = [
    customer("aa-10001", "8264", 102_432),
    customer("bb-20002", "5093", 5_000),
    customer("cc-30003", "739105", 0),
    customer("dd-40004", "94170", 1_000_000_000_000),
];
/// Nearly as rich as anybody can be; opened where the bytes say so, because it takes long.
const RICH: Customer = customer("rr-50005", "6173", 999_999_999_995_000);
const NUMBERS: [&str; 6] = [
    "aa-10001", "bb-20002", "cc-30003", "dd-40004", "rr-50005", "zz-99999",
];
const PINS: [&str; 8] = [
    "8264", "5093", "739105", "94170", "6173", "1111", "1234", "271828",
];
const AMOUNTS: [i64; 14] = [
    1,
    100,
    500,
    5_000,
    50_000,
    50_001,
    102_432,
    0,
    -1,
    1_000_000_000_000,
    1_000_000_000_001,
    i64::MIN,
    i64::MAX,
    20_000,
];
const STEPS_MS: [i64; 12] = [
    1,
    1_000,
    60_000,
    119_999,
    120_000,
    599_999,
    600_000,
    900_000,
    3_600_000,
    86_400_000,
    30 * 86_400_000,
    31 * 86_400_000,
];
/// Messages that are no requests: the text, the id that can be read, whether the op is unknown.
pub(super) const UNREADABLE: [(&str, Option<u64>, bool); 12] = [
    ("", None, false),
    ("{}", None, false),
    (r#"{"id":7,"op":"dance"}"#, Some(7), true),
    (r#"{"id":7,"op":"dance","x":[[{"y":1}]]}"#, Some(7), true),
    (r#"{"id":7,"op":"dance","x":[[[[1]]]]}"#, Some(7), false),
    (r#"{"id":7,"op":"ping","x":1}"#, Some(7), false),
    (r#"{"id":7,"op":"logout","op":"logout"}"#, Some(7), false),
    (r#"{"id":-1,"op":"ping"}"#, None, false),
    (r#"{"id":7,"op":"history","limit":0}"#, Some(7), false),
    (
        r#"{"id":7,"op":"login","account":"aa-10001","pin":"826"}"#,
        Some(7),
        false,
    ),
    (
        r#"{"id":7,"op":"deposit","amount":1.0,"key":"0123456789abcdef"}"#,
        Some(7),
        false,
    ),
    ("\u{feff}{\"id\":7,\"op\":\"ping\"}", None, false),
];
/// A run is so long at most: fewer refusals for haste than close a connection.
const STEPS_MAX: usize = 200;

const fn customer(number: &'static str, pin: &'static str, balance: i64) -> Customer {
    Customer {
        number,
        pin,
        balance,
    }
}

/// Plays what the bytes say, one step after the other, at a bank and at the model of it.
///
/// # Panics
/// Where an answer is another than the model's in its code, in any member, or in what follows from
/// it; where the audit finds a fault; where balances, seats, tries or keys differ.
pub fn dialogue(bytes: &[u8]) {
    let mut play = Play::new(Input::new(bytes));
    for _ in 0..STEPS_MAX {
        if play.input.is_empty() {
            break;
        }
        play.step();
    }
    play.audit();
}

struct Play<'a> {
    input: Input<'a>,
    world: World,
    model: Model,
    dialogues: Vec<Dialogue>,
    connections: u64,
    requests: u64,
}

impl<'a> Play<'a> {
    fn new(input: Input<'a>) -> Self {
        let world = World::new(7, &CUSTOMERS);
        let dialogues = TERMINALS.iter().map(|terminal| world.dialogue(terminal, 0));
        Self {
            input,
            model: Model::new(world.now_ms(), &TERMINALS, &CUSTOMERS),
            dialogues: dialogues.collect(),
            world,
            connections: 0,
            requests: 0,
        }
    }

    fn step(&mut self) {
        match self.input.byte() % 32 {
            0..=20 => self.ask(Fault::No),
            21 => self.ask(Fault::Before),
            22 => self.ask(Fault::After),
            23 => {
                let connection = self.connection();
                self.reconnect(connection);
            }
            24 | 25 => {
                let ms = self.input.pick(&STEPS_MS);
                self.world.clock.advance_ms(ms);
                self.model.now_ms += ms;
            }
            26 => {
                let swept = self.world.wait(self.world.bank.sweep());
                assert!(swept.is_ok(), "sweeping failed");
                self.model.sweep();
            }
            27 => self.time_out(),
            28 => self.end_by_staff(),
            // Rare, because a rich account takes a thousand entries, and an audit twenty requests.
            29 => match self.input.byte() {
                0 => self.open_rich(),
                192.. => self.audit(),
                _ => {}
            },
            _ => self.staff(),
        }
    }

    fn connection(&mut self) -> usize {
        usize::from(self.input.byte()) % TERMINALS.len()
    }

    fn reconnect(&mut self, connection: usize) {
        self.connections += 1;
        // The old one is dropped first: the account is free before anybody comes anew.
        let fresh = self.world.dialogue(TERMINALS[connection], self.connections);
        self.dialogues[connection] = fresh;
        self.model.reconnect(connection);
    }

    fn time_out(&mut self) {
        let connection = self.connection();
        let notice = self.dialogues[connection].end_session("time-out");
        let code = notice.map(|notice| notice.code);
        let expected = self.model.end_session(connection);
        assert_eq!(code, expected.then_some(Code::SessionEnded));
    }

    /// A request, and what follows from its answer.
    fn ask(&mut self, fault: Fault) {
        let connection = self.connection();
        let (ask, text, id) = self.choose(connection);
        self.model.borrowed_home = self.borrowed_home(connection, &ask);
        let faults = self.world.store.faults();
        faults
            .fail_before
            .store(u64::from(fault == Fault::Before), Ordering::SeqCst);
        faults
            .fail_after
            .store(u64::from(fault == Fault::After), Ordering::SeqCst);
        let answering = self.dialogues[connection].answer(text.as_bytes());
        let reaction = self.world.wait(answering);
        faults.fail_before.store(0, Ordering::SeqCst);
        faults.fail_after.store(0, Ordering::SeqCst);
        self.compare(connection, &ask, fault, id, reaction);
    }

    /// The home that the number whose PIN is tried shows if it is nobody's, or its PIN is void.
    fn borrowed_home(&self, connection: usize, ask: &Ask) -> Option<String> {
        let account = match ask {
            Ask::Login { account, .. } => account.as_str(),
            Ask::ChangePin { .. } => self.model.logged_in(connection)?,
            _ => return None,
        };
        let home = self.world.store.borrowed_home(account.parse().ok()?);
        home.map(|home| home.to_string())
    }

    fn compare(
        &mut self,
        connection: usize,
        ask: &Ask,
        fault: Fault,
        id: Option<u64>,
        reaction: Reaction,
    ) {
        let mut expected = self.model.ask(connection, ask, fault);
        let mut answer = reaction.answer;
        assert!(answer.append_frame(&mut Vec::new()).is_ok(), "too large");
        let message = answer.members.message.take();
        if expected.members.hold.as_deref() == Some("") {
            let name = answer.members.hold.clone().unwrap_or_default();
            assert!(!name.is_empty(), "a hold without a name");
            let names = self.model.hold_names();
            assert!(!names.contains(&name.as_str()), "one name for two holds");
            if let Ask::Keyed(keyed) = ask {
                self.model.learn_hold(keyed, connection, &name);
            }
            expected.members.hold = Some(name);
        }
        let told = (answer.id, answer.code, answer.members, reaction.then);
        let right = (id, expected.code, expected.members, expected.then);
        assert_eq!(told, right, "(bank, model) after {ask:?}, {fault:?}");
        assert_eq!(message.is_some(), expected.code != Code::Done);
        let served = expected.code == Code::Done && !matches!(ask, Ask::Ping);
        assert_eq!(reaction.served, served, "what puts off the time-out");
        let may_have_pin = matches!(
            ask,
            Ask::Login { .. } | Ask::ChangePin { .. } | Ask::Unreadable { .. }
        );
        assert_eq!(reaction.carried_pin, may_have_pin);
        match reaction.then {
            Then::Stay => {}
            Then::Close => self.reconnect(connection),
            Then::EndSession => {
                let notice = self.dialogues[connection].end_session("locked");
                assert!(notice.is_some() && self.model.end_session(connection));
            }
        }
        let session = self.dialogues[connection].session();
        let number = session.map(|session| session.account().to_string());
        assert_eq!(number.as_deref(), self.model.logged_in(connection));
    }

    /// A request, its text, and its id.
    fn choose(&mut self, connection: usize) -> (Ask, String, Option<u64>) {
        self.requests += 1;
        let id = self.requests;
        let choice = self.input.byte();
        let ask = match choice % 16 {
            0 | 1 => self.login(),
            2 => Ask::Ping,
            3 => Ask::Balance,
            4 => Ask::History {
                limit: self.input.pick(&[10, 1, 2, 100]),
                before: self.input.pick(&[None, Some(1), Some(3), Some(i64::MAX)]),
            },
            5 => {
                let pin = self.pin(self.model.logged_in(connection).map(str::to_owned));
                let new_pin = self.input.pick(&PINS).to_owned();
                Ask::ChangePin { pin, new_pin }
            }
            6 => Ask::Logout,
            7 => {
                let (text, id, unknown) = self.input.pick(&UNREADABLE);
                let code = if unknown {
                    Code::UnknownOp
                } else {
                    Code::Malformed
                };
                return (Ask::Unreadable { code }, text.to_owned(), id);
            }
            choice => Ask::Keyed(self.keyed(choice, connection)),
        };
        let text = text(&ask, id, choice >= 128);
        (ask, text, Some(id))
    }

    fn login(&mut self) -> Ask {
        let account = self.input.pick(&NUMBERS).to_owned();
        let pin = self.pin(Some(account.clone()));
        Ask::Login { account, pin }
    }

    /// The right PIN, or any.
    fn pin(&mut self, account: Option<String>) -> String {
        let choice = self.input.byte();
        let account = account.and_then(|account| self.model.accounts.get(&account));
        match account {
            Some(account) if choice < 160 => account.pin.clone(),
            _ => PINS[usize::from(choice) % PINS.len()].to_owned(),
        }
    }

    fn keyed(&mut self, choice: u8, connection: usize) -> Keyed {
        let key = format!("key-of-the-fuzzer-{}", self.input.byte() % 16);
        let what = match choice {
            8 => What::Deposit(self.amount(connection)),
            9 => What::Withdraw(self.amount(connection)),
            10 => What::Transfer(
                self.input.pick(&NUMBERS).to_owned(),
                self.amount(connection),
            ),
            11 | 12 => What::Authorize(self.amount(connection)),
            13 | 14 => What::Capture(self.hold(), self.amount(connection)),
            _ => What::Release(self.hold()),
        };
        Keyed { key, what }
    }

    /// One of the usual amounts, one by chance, or what is just there.
    fn amount(&mut self, connection: usize) -> i64 {
        let available = self.model.logged_in(connection);
        let available = available.map_or(0, |number| self.model.available(number));
        match self.input.byte() {
            255 => available,
            254 => available.saturating_add(1),
            choice @ 128.. => i64::from(choice) * 256 + i64::from(self.input.byte()),
            choice => AMOUNTS[usize::from(choice) % AMOUNTS.len()],
        }
    }

    /// A hold's name, the newest first; sometimes of none.
    fn hold(&mut self) -> String {
        let choice = usize::from(self.input.byte());
        let names = self.model.hold_names();
        let name = names.iter().rev().nth(choice % 8);
        name.map_or("no-such-hold", |name| *name).to_owned()
    }

    fn open_rich(&mut self) {
        let known = self.model.accounts.contains_key(RICH.number);
        let report = self.world.open(&[RICH]);
        assert_eq!(report.exit_code, 0, "{}", report.text);
        let opened = report.data["opened"].as_u64();
        assert_eq!(opened, Some(u64::from(!known)), "{}", report.text);
        if !known {
            self.model.open(RICH);
        }
    }

    fn end_by_staff(&mut self) {
        let account = self.input.pick(&NUMBERS);
        let sits = |index: &usize| self.model.logged_in(*index) == Some(account);
        let seated = (0..TERMINALS.len()).find(sits);
        let report = self.world.staff(Command::EndSession {
            account: account.to_owned(),
        });
        assert_eq!(report.exit_code == 0, seated.is_some(), "{}", report.text);
        self.end_seated(account);
    }

    /// The bank has ended the account's session, if it had one: its connection must have been told.
    fn end_seated(&mut self, account: &str) {
        let sits = |index: &usize| self.model.logged_in(*index) == Some(account);
        if let Some(connection) = (0..TERMINALS.len()).find(sits) {
            let session = self.dialogues[connection].session();
            assert!(session.is_some_and(|session| session.ended().is_cancelled()));
            let _ = self.dialogues[connection].end_session("ended by the bank");
            self.model.end_session(connection);
        }
    }

    fn staff(&mut self) {
        let account = self.input.pick(&NUMBERS);
        let act = match self.input.byte() % 8 {
            0 | 1 => Act::Lock(true),
            2 => Act::Lock(false),
            3 => Act::Close,
            4 => Act::SetPin(self.input.pick(&PINS), 3_600_000),
            5 => Act::Limit(
                self.input
                    .pick(&[None, Some(0), Some(100), Some(1_000_000)]),
                self.input
                    .pick(&[None, Some(0), Some(150), Some(1_000_000)]),
            ),
            6 => {
                let known = self.model.accounts.get(account);
                // The last money out, so that an account can be closed.
                Act::Adjust(known.map_or(0, |known| known.balance.saturating_neg()))
            }
            _ => Act::Adjust(self.input.pick(&[1, -1, 700, -700, 5_001])),
        };
        let report = self.perform(account, &act);
        let expected = self.model.act(account, &act);
        assert_eq!(report.exit_code == 0, expected, "{act:?}: {}", report.text);
        match act {
            Act::Adjust(_) if expected => {
                let entry = report.data["entry"].as_i64();
                assert_eq!(entry, Some(self.model.entries), "{}", report.text);
            }
            Act::Lock(true) | Act::Close | Act::SetPin(..) if expected => self.end_seated(account),
            _ => {}
        }
    }

    fn perform(&self, account: &str, act: &Act) -> Report {
        let account = account.to_owned();
        let currency = self.world.bank.currency();
        let money = |minor: i64| currency.format(minor);
        self.world.staff(match act {
            Act::Lock(locked) => Command::Lock {
                account,
                locked: *locked,
            },
            Act::Close => Command::Close { account },
            Act::SetPin(pin, valid_ms) => return self.world.set_pin(&account, pin, *valid_ms),
            Act::Limit(withdrawal, daily) => Command::Limit {
                account,
                withdrawal: withdrawal.map(money),
                daily: daily.map(money),
            },
            Act::Adjust(amount) => Command::Adjust {
                account,
                amount: money(*amount),
                reason: "the fuzzer's".to_owned(),
            },
        })
    }

    /// The ledger is whole, and everything that staff can see is as the model has it.
    fn audit(&mut self) {
        let audit = self.world.staff(Command::Verify { head: None });
        assert_eq!(audit.exit_code, 0, "{}", audit.text);
        let number = |name: &str| audit.data[name].as_i64();
        let accounts = &self.model.accounts;
        let total: i64 = accounts.values().map(|account| account.balance).sum();
        let (keys, open_holds) = self.model.counts();
        assert_eq!(number("ledger_total"), Some(0));
        assert_eq!(number("customers_total"), Some(total));
        assert_eq!(number("entries"), Some(self.model.entries));
        assert_eq!(number("keys"), i64::try_from(keys).ok());
        // A hold whose time is over is open until somebody looks.
        assert!(number("open_holds") >= i64::try_from(open_holds).ok());
        let seats = self.world.store.seats().into_iter();
        let seats = seats.map(|seat| (seat.account.to_string(), seat.terminal.to_string()));
        assert_eq!(seats.collect::<Vec<_>>(), self.model.seats());
        self.audit_accounts();
    }

    fn audit_accounts(&self) {
        for (number, account) in &self.model.accounts {
            let shown = self.world.staff(Command::Show {
                account: number.clone(),
            });
            let available = self.model.available(number);
            let now_ms = self.model.now_ms;
            let tries = self.model.tries.get(number).map(|tries| {
                let (home, other) = (&tries.at_home, &tries.elsewhere);
                (home.at(now_ms), other.at(now_ms))
            });
            let (at_home, elsewhere) = tries.unwrap_or_default();
            let (tries, most) = (at_home + elsewhere, at_home.max(elsewhere));
            let status = match account.status {
                Status::Open => "open",
                Status::Locked => "locked",
                Status::Closed => "closed",
            };
            let data = &shown.data;
            assert_eq!(data["balance"].as_i64(), Some(account.balance), "{number}");
            assert_eq!(data["available"].as_i64(), Some(available), "{number}");
            assert_eq!(data["tries"].as_u64(), Some(tries.into()), "{number}");
            assert_eq!(data["tries_at_home"].as_u64(), Some(at_home.into()));
            assert_eq!(data["locked_out"].as_bool(), Some(most >= super::TRIES));
            assert_eq!(data["status"].as_str(), Some(status), "{number}");
            assert_eq!(data["home_terminal"].as_str(), account.home.as_deref());
            let one_time = data["must_change_pin"].as_bool();
            assert_eq!(one_time, Some(account.must_change_pin), "{number}");
            assert!(
                available >= 0 || account.captured_late,
                "{number} overdrawn"
            );
        }
    }
}
