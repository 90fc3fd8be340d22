//! The auditor: believes only what was answered.

use std::collections::{BTreeMap, BTreeSet};

use crate::operator::Command;
use crate::wire::answer::Answer;
use crate::wire::code::Code;
use serde_json::json;

use super::{CUSTOMERS, Hold, Op, Outcome, Simulation, TERMINALS};

impl Simulation {
    /// What an answer tells of an order.
    pub(super) fn note(&mut self, index: usize, answer: &Answer) {
        let order = &mut self.orders[index];
        // Without a certificate a hold is its owner's alone.
        let logged_in = self.terminals[order.terminal].account == Some(order.account);
        let foreign = TERMINALS[order.terminal] == "anonymous" && !logged_in;
        let replayed = answer.members.replayed == Some(true);
        match answer.code {
            Code::Done => {
                let done = Outcome::Done(answer.members.entry);
                match order.outcome {
                    Outcome::Done(_) => assert!(replayed && order.outcome == done, "{order:?}"),
                    Outcome::Refused => assert!(!replayed, "refused, then replayed: {order:?}"),
                    Outcome::Unknown => {}
                }
                let known = matches!(order.outcome, Outcome::Done(_));
                order.outcome = done;
                if let (Some(name), false) = (&answer.members.hold, known) {
                    self.holds.push(Hold {
                        name: name.clone(),
                        terminal: order.terminal,
                        account: order.account,
                        amount: order.amount,
                    });
                }
            }
            Code::StorageUnavailable => {}
            // Nobody is logged in, or too many went astray: the order was not looked at.
            Code::NotLoggedIn | Code::TooMany => {}
            Code::InvalidAmount
            | Code::InsufficientFunds
            | Code::OverLimit
            | Code::NoCounterparty
            | Code::NoHold => match order.outcome {
                _ if foreign && answer.code == Code::NoHold => {}
                Outcome::Done(_) => panic!("done, then refused: {order:?}"),
                Outcome::Unknown | Outcome::Refused => order.outcome = Outcome::Refused,
            },
            code => panic!("{order:?} was answered {code:?}"),
        }
    }

    /// The bank's seats are those of the terminals, one for an account.
    pub(super) fn judge_seats(&self) {
        let seats = self.world.bank.seats();
        let seats = seats
            .iter()
            .map(|seat| (seat.account.to_string(), seat.terminal.to_string()));
        let seats: BTreeSet<_> = seats.collect();
        let mut told = BTreeSet::new();
        for (terminal, name) in self.terminals.iter().zip(TERMINALS) {
            let session = terminal
                .dialogue
                .session()
                .map(|session| session.account().to_string());
            let account = terminal
                .account
                .map(|account| CUSTOMERS[account].number.to_owned());
            assert_eq!(session, account, "at {name}");
            told.extend(account.map(|account| (account, name.to_owned())));
        }
        assert_eq!(seats, told, "one session for each account");
    }

    /// What was answered is what is there: every cent, every entry, once.
    pub(super) fn judge(&self) {
        let mut balances: Vec<i64> = CUSTOMERS.iter().map(|customer| customer.balance).collect();
        let mut cash: BTreeMap<&str, i64> = BTreeMap::new();
        let mut entries = BTreeSet::new();
        for order in &self.orders {
            let Outcome::Done(entry) = order.outcome else {
                continue;
            };
            let moves = !matches!(order.op, Op::Authorize | Op::Release(_));
            assert_eq!(entry.is_some(), moves, "{order:?}");
            let fresh = entry.is_none_or(|entry| entries.insert(entry));
            assert!(fresh, "one entry for two orders: {order:?}");
            let (own, amount) = (&mut balances[order.account], order.amount);
            let till = cash.entry(TERMINALS[order.terminal]).or_default();
            match order.op {
                Op::Deposit => (*own, *till) = (*own + amount, *till - amount),
                Op::Withdraw | Op::Capture(_) => (*own, *till) = (*own - amount, *till + amount),
                Op::Transfer(to) => {
                    *own -= amount;
                    balances[to] += amount;
                }
                Op::Authorize | Op::Release(_) => {}
            }
        }
        for (account, amount) in &self.adjusted {
            balances[*account] += amount;
        }
        self.judge_holds();
        let entries = i64::try_from(entries.len()).unwrap() + self.adjustments;
        self.judge_books(&balances, &cash, entries);
    }

    /// A hold is captured or released once at most.
    fn judge_holds(&self) {
        let mut settled = BTreeSet::new();
        for order in &self.orders {
            if let (Op::Capture(hold) | Op::Release(hold), Outcome::Done(_)) =
                (order.op, order.outcome)
            {
                assert!(settled.insert(hold), "settled twice: {order:?}");
            }
        }
    }

    fn judge_books(&self, balances: &[i64], cash: &BTreeMap<&str, i64>, entries: i64) {
        let audit = self.world.staff(Command::Verify { head: None });
        assert_eq!(audit.exit_code, 0, "{}", audit.text);
        let opened = CUSTOMERS
            .iter()
            .filter(|customer| customer.balance > 0)
            .count();
        let entries = entries + i64::try_from(opened).unwrap();
        assert_eq!(audit.data["entries"].as_i64(), Some(entries));
        assert_eq!(
            audit.data["customers_total"].as_i64(),
            Some(balances.iter().sum())
        );
        // Holds that nobody settled are free again after their time.
        self.world.clock.advance_ms(120_000);
        for (customer, balance) in CUSTOMERS.iter().zip(balances) {
            let account = customer.number.to_owned();
            let shown = self.world.staff(Command::Show { account });
            let told = (&shown.data["balance"], &shown.data["available"]);
            assert_eq!(
                told,
                (&json!(balance), &json!(balance)),
                "{}",
                customer.number
            );
        }
        let terminals = self.world.staff(Command::Terminals);
        for terminal in terminals.data["terminals"].as_array().unwrap() {
            let name = terminal["terminal"].as_str().unwrap();
            let expected = cash.get(name).copied().unwrap_or(0);
            assert_eq!(terminal["cash"].as_i64(), Some(expected), "cash of {name}");
        }
    }
}
