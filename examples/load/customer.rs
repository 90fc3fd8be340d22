//! One customer: asks, and holds every answer against what must come.

use std::collections::VecDeque;
use std::fmt::Write as _;

use tokio::time::Instant;
use uuid::Uuid;

use crate::Run;
use crate::arguments::Keys;
use crate::terminal::{Heard, append};
use crate::work::{Chance, Op};

/// The most that is moved at once, minor units: a customer is not out of funds before long.
const AMOUNT_MAX: usize = 100;

/// A request on its way.
#[derive(Debug)]
struct Asked {
    id: u64,
    op: Op,
    amount: i64,
    /// The account that receives, for a transfer.
    to: usize,
    due: Instant,
}

/// One logged-in customer's side of the conversation.
pub(crate) struct Customer {
    /// The place of the account among the bank's.
    pub(crate) account: usize,
    waiting: VecDeque<Asked>,
    last_id: u64,
    last_entry: i64,
    chance: Chance,
    text: String,
}

impl Customer {
    pub(crate) fn new(account: usize, seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ u64::try_from(account).unwrap().rotate_left(32));
        // Not all begin with the same op.
        let last_id = chance.next() % 1_024;
        Self {
            account,
            waiting: VecDeque::new(),
            last_id,
            last_entry: 0,
            chance,
            text: String::new(),
        }
    }

    /// Requests that wait for their answers.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Appends the next request, which was due then.
    pub(crate) fn ask(&mut self, run: &Run, due: Instant, out: &mut Vec<u8>) {
        let id = self.last_id + 1;
        let op = run.arguments.mix.turn(id);
        let amount = self.chance.below(AMOUNT_MAX) + 1;
        let to = match op {
            Op::Transfer => self.somebody_else(run.bank.accounts()),
            _ => self.account,
        };
        self.text.clear();
        let text = &mut self.text;
        write!(text, r#"{{"id":{id},"op":"{}""#, op.name()).unwrap();
        if op == Op::Transfer {
            write!(text, r#","to":"{}""#, run.bank.number(to)).unwrap();
        }
        if op.moves_money() {
            write!(text, r#","amount":{amount},"key":""#).unwrap();
            key(run.arguments.keys, &mut self.chance, text);
            text.push('"');
        }
        text.push('}');
        append(out, text.as_bytes());
        self.last_id = id;
        self.waiting.push_back(Asked {
            id,
            op,
            amount: i64::try_from(amount).unwrap(),
            to,
            due,
        });
    }

    fn somebody_else(&mut self, accounts: usize) -> usize {
        let other = self.chance.below(accounts - 1);
        other + usize::from(other >= self.account)
    }

    /// Holds an answer against the oldest request.
    pub(crate) fn hear(&mut self, run: &Run, heard: &Heard, now: Instant) {
        let Some(asked) = self.waiting.pop_front() else {
            return run
                .served()
                .fault(format!("an answer to nothing: {heard:?}"));
        };
        if heard.id != Some(asked.id) || heard.replayed {
            return run
                .served()
                .fault(format!("an answer to another request: {heard:?}"));
        }
        if heard.code != 0 {
            return run.served().refused(heard.code);
        }
        if asked.op.moves_money() {
            let entry = heard.entry.unwrap_or(0);
            if entry <= self.last_entry || heard.balance.is_none() {
                return run.served().fault(format!("no new entry: {heard:?}"));
            }
            self.last_entry = entry;
            run.books
                .moved(self.account, asked.op, asked.to, asked.amount);
        } else if asked.op == Op::Balance && heard.balance.is_none() {
            return run.served().fault(format!("no balance: {heard:?}"));
        } else if asked.op == Op::History && heard.entries.is_none() {
            return run.served().fault(format!("no history: {heard:?}"));
        }
        run.progress.count();
        if run
            .counted_from
            .get()
            .is_some_and(|from| asked.due >= *from)
        {
            run.served()
                .took(asked.op, now.saturating_duration_since(asked.due));
        }
    }
}

fn key(keys: Keys, chance: &mut Chance, text: &mut String) {
    let uuid = match keys {
        Keys::Ordered => Uuid::now_v7(),
        Keys::Random => Uuid::from_u64_pair(chance.next(), chance.next()),
    };
    let mut room = Uuid::encode_buffer();
    text.push_str(uuid.hyphenated().encode_lower(&mut room));
}
