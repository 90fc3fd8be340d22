//! What moves money.

use super::{
    Expected, Fault, Hold, HoldEnd, Kept, Keyed, Model, Outcome, Status, What, done, refused,
};
use crate::fuzzing::world::World;
use crate::wire::answer::Members;
use crate::wire::code::Code;

const AMOUNT_MAX: i64 = 1_000_000_000_000;
const BALANCE_MAX: i64 = 1_000_000_000_000_000;
const THIRTY_DAYS_MS: i64 = 30 * 86_400_000;

impl Model {
    pub(super) fn keyed(&mut self, connection: usize, keyed: &Keyed, fault: Fault) -> Expected {
        let session = self.connections[connection].session.as_ref();
        let asked_too_often = session.filter(|session| session.no_counterparty >= 5);
        if let (What::Transfer(..), Some(session)) = (&keyed.what, asked_too_often) {
            return self.too_many(session);
        }
        let outcome = match &keyed.what {
            What::Capture(name, _) | What::Release(name) => {
                let own = self.logged_in(connection).map(str::to_owned);
                if own.is_none() && self.terminals[connection] == "anonymous" {
                    return refused(Code::NotLoggedIn);
                }
                let settle =
                    |model: &mut Self| model.settle(own.as_deref(), connection, name, keyed);
                self.in_store(fault, settle)
            }
            _ => match self.customer(connection) {
                Err(expected) => return expected,
                Ok(account) => {
                    self.in_store(fault, |model| model.order(&account, connection, keyed))
                }
            },
        };
        match outcome {
            Outcome::Done(members) => done(members),
            Outcome::Refused(expected) => {
                if expected.code == Code::NoCounterparty
                    && let Some(session) = &mut self.connections[connection].session
                {
                    session.no_counterparty += 1;
                }
                expected
            }
            Outcome::Fenced => {
                self.end_session(connection);
                refused(Code::NotLoggedIn)
            }
        }
    }

    fn in_store(&mut self, fault: Fault, work: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        if fault == Fault::Before {
            return Outcome::Refused(refused(Code::StorageUnavailable));
        }
        let outcome = work(self);
        match fault {
            Fault::After => Outcome::Refused(refused(Code::StorageUnavailable)),
            Fault::No | Fault::Before => outcome,
        }
    }

    fn order(&mut self, number: &str, connection: usize, keyed: &Keyed) -> Outcome {
        if self.account(number).status == Status::Closed {
            return Outcome::Fenced;
        }
        let key = (number.to_owned(), keyed.key.clone());
        if let Some(kept) = self.keys.get(&key) {
            return match kept.what == keyed.what {
                true => Outcome::Done(self.again(kept)),
                false => Outcome::Refused(refused(Code::KeyReused)),
            };
        }
        if let Err(expected) = self.judge(number, &keyed.what) {
            return Outcome::Refused(expected);
        }
        let terminal = self.terminals[connection];
        let (mut entry, mut hold) = (None, None);
        match &keyed.what {
            What::Deposit(amount) => entry = Some(self.cash(number, "deposit", *amount, terminal)),
            What::Withdraw(amount) => {
                entry = Some(self.cash(number, "withdrawal", -amount, terminal));
                let used = (self.day(), *amount);
                self.account_mut(number).withdrawn.push(used);
            }
            What::Transfer(to, amount) => {
                self.entries += 1;
                entry = Some(self.entries);
                let (from, other) = (Some(number.to_owned()), Some(to.clone()));
                self.write(number, "transfer_out", -amount, terminal, other);
                self.write(to, "transfer_in", *amount, terminal, from);
            }
            What::Authorize(amount) => hold = Some(self.set_aside(number, *amount, terminal)),
            What::Capture(..) | What::Release(_) => {}
        }
        let members = Members {
            entry,
            ..self.balances(number)
        };
        self.keep(key, keyed, members.clone(), hold);
        let timeout_ms = World::terms().hold_timeout_ms;
        Outcome::Done(Members {
            hold: hold.map(|_| String::new()),
            expires_in_ms: hold.map(|_| timeout_ms),
            ..members
        })
    }

    /// The lowest code that refuses.
    fn judge(&self, number: &str, what: &What) -> Result<(), Expected> {
        let own = self.account(number);
        let amount = match what {
            What::Deposit(amount) | What::Withdraw(amount) | What::Authorize(amount) => *amount,
            What::Transfer(_, amount) | What::Capture(_, amount) => *amount,
            What::Release(_) => 1,
        };
        if !(1..=AMOUNT_MAX).contains(&amount) {
            return Err(refused(Code::InvalidAmount));
        }
        if let What::Deposit(amount) = what {
            let fits = own.balance + amount <= BALANCE_MAX;
            return fits.then_some(()).ok_or(refused(Code::InvalidAmount));
        }
        if amount > self.available(number) {
            return Err(refused(Code::InsufficientFunds));
        }
        if let What::Transfer(to, amount) = what {
            let takes = self.accounts.get(to).is_some_and(|other| {
                other.status != Status::Closed && other.balance + amount <= BALANCE_MAX
            });
            let takes = takes && to != number;
            return takes.then_some(()).ok_or(refused(Code::NoCounterparty));
        }
        let left = (own.daily_limit - self.used_today(number)).max(0);
        let limits = [
            (own.withdrawal_limit, own.withdrawal_limit),
            (own.daily_limit, left),
        ];
        match limits.iter().find(|(_, remaining)| amount > *remaining) {
            None => Ok(()),
            Some((limit, remaining)) => {
                let mut expected = refused(Code::OverLimit);
                expected.members.limit = Some(*limit);
                expected.members.remaining = Some(*remaining);
                Err(expected)
            }
        }
    }

    fn used_today(&self, number: &str) -> i64 {
        let today = self.day();
        let withdrawn = self.account(number).withdrawn.iter();
        let withdrawn: i64 = withdrawn
            .filter(|(day, _)| *day == today)
            .map(|(_, amount)| amount)
            .sum();
        let holds = self.holds.iter();
        let of_today = holds.filter(|hold| hold.account == number && hold.day == today);
        let held: i64 = of_today
            .map(|hold| match &hold.end {
                HoldEnd::Captured(amount, _) => *amount,
                HoldEnd::None if self.is_open(hold) => hold.amount,
                HoldEnd::None | HoldEnd::Released(_) => 0,
            })
            .sum();
        withdrawn + held
    }

    fn cash(&mut self, number: &str, kind: &'static str, amount: i64, terminal: &str) -> i64 {
        self.entries += 1;
        self.write(number, kind, amount, terminal, None);
        self.entries
    }

    fn set_aside(&mut self, number: &str, amount: i64, terminal: &str) -> usize {
        let timeout_ms = World::terms().hold_timeout_ms;
        self.holds.push(Hold {
            name: String::new(),
            account: number.to_owned(),
            terminal: terminal.to_owned(),
            amount,
            day: self.day(),
            expires_ms: self.now_ms + i64::try_from(timeout_ms).expect("milliseconds"),
            end: HoldEnd::None,
        });
        self.holds.len() - 1
    }

    fn keep(
        &mut self,
        key: (String, String),
        keyed: &Keyed,
        members: Members,
        hold: Option<usize>,
    ) {
        let kept = Kept {
            what: keyed.what.clone(),
            at_ms: self.now_ms,
            members,
            hold,
        };
        self.keys.insert(key, kept);
    }

    /// The first answer again.
    fn again(&self, kept: &Kept) -> Members {
        let hold = kept.hold.map(|index| &self.holds[index]);
        let left_ms = |hold: &Hold| match self.is_open(hold) {
            true => u64::try_from(hold.expires_ms - self.now_ms).unwrap_or(0),
            false => 0,
        };
        Members {
            hold: hold.map(|hold| hold.name.clone()),
            expires_in_ms: hold.map(left_ms),
            replayed: Some(true),
            ..kept.members.clone()
        }
    }

    fn settle(
        &mut self,
        own: Option<&str>,
        connection: usize,
        name: &str,
        keyed: &Keyed,
    ) -> Outcome {
        let refuse = |code| Outcome::Refused(refused(code));
        let terminal = self.terminals[connection];
        let mine = |hold: &Hold| {
            let owner = own == Some(hold.account.as_str());
            hold.name == name && hold.terminal == terminal && (owner || terminal != "anonymous")
        };
        let Some(index) = self.holds.iter().position(mine) else {
            return refuse(Code::NoHold);
        };
        let hold = &self.holds[index];
        let (number, late) = (hold.account.clone(), hold.expires_ms <= self.now_ms);
        let key = (number.clone(), keyed.key.clone());
        let kept = self.keys.get(&key);
        let for_owner = |members: Members| match own == Some(number.as_str()) {
            true => members,
            false => Members {
                balance: None,
                available: None,
                ..members
            },
        };
        match &hold.end {
            HoldEnd::Captured(_, by) | HoldEnd::Released(by) => {
                return match kept.filter(|_| *by == keyed.key) {
                    None => refuse(Code::NoHold),
                    Some(kept) if kept.what == keyed.what => {
                        Outcome::Done(for_owner(self.again(kept)))
                    }
                    Some(_) => refuse(Code::KeyReused),
                };
            }
            HoldEnd::None if hold.expires_ms + THIRTY_DAYS_MS <= self.now_ms => {
                return refuse(Code::NoHold);
            }
            HoldEnd::None if kept.is_some() => return refuse(Code::KeyReused),
            HoldEnd::None => {}
        }
        let members = match &keyed.what {
            What::Capture(_, amount) if (1..=hold.amount).contains(amount) => {
                self.capture((index, &number), *amount, late, keyed, terminal)
            }
            What::Capture(..) => return refuse(Code::InvalidAmount),
            _ => {
                self.holds[index].end = HoldEnd::Released(keyed.key.clone());
                self.balances(&number)
            }
        };
        self.keep(key, keyed, members.clone(), None);
        Outcome::Done(for_owner(members))
    }

    fn capture(
        &mut self,
        (index, number): (usize, &str),
        amount: i64,
        late: bool,
        keyed: &Keyed,
        terminal: &str,
    ) -> Members {
        let kind = if late {
            "late_withdrawal"
        } else {
            "withdrawal"
        };
        self.holds[index].end = HoldEnd::Captured(amount, keyed.key.clone());
        self.account_mut(number).captured_late |= late;
        let entry = self.cash(number, kind, -amount, terminal);
        Members {
            entry: Some(entry),
            late: late.then_some(true),
            ..self.balances(number)
        }
    }
}
