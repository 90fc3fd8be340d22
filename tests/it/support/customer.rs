//! Customers who do all that can be done with money, under keys, and remember every answer: what
//! was acknowledged must be there once, whatever happens to the server.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{Card, Reply, Server, Site, Terminal, key};

const CUSTOMERS: usize = 6;
const OPENING: i64 = 1_000_000;
const PIN: &str = "7391";
/// A customer keeps so many finished jobs to ask for again.
const REMEMBERED: usize = 50;

/// Chance that a seed gives (SplitMix64; Steele, Lea, Flood 2014).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn amount(&mut self) -> i64 {
        i64::try_from(self.below(50_000)).unwrap() + 1
    }
}

/// A request with its key, and what it does to whose balance once it is done.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    op: &'static str,
    members: Value,
    effects: Vec<(usize, i64)>,
}

/// One customer at one terminal, through all crashes.
pub(crate) struct Customer {
    pub(crate) number: usize,
    dice: Dice,
    /// Sent, and never answered.
    pub(crate) unknown: VecDeque<Job>,
    /// Done, with the entry or hold that was answered.
    done: VecDeque<(Job, Reply)>,
    /// Open holds and their amounts.
    holds: Vec<(String, i64)>,
    /// What the acknowledged jobs did to each account.
    effects: [i64; CUSTOMERS],
    /// Jobs that were unknown and turned out done before the crash.
    pub(crate) survived: usize,
}

/// The customer's account number.
pub(crate) fn account(number: usize) -> String {
    format!("cc-{number:05}")
}

impl Customer {
    pub(crate) fn new(number: usize, seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_add(u64::try_from(number).unwrap()));
        dice.below(2);
        Self {
            number,
            dice,
            unknown: VecDeque::new(),
            done: VecDeque::new(),
            holds: Vec::new(),
            effects: [0; CUSTOMERS],
            survived: 0,
        }
    }

    fn next_job(&mut self) -> Job {
        let amount = self.dice.amount();
        let (own, key) = (self.number, key());
        let keyed = json!({ "amount": amount, "key": key });
        let job = |op, members, effects| Job {
            op,
            members,
            effects,
        };
        match self.dice.below(6) {
            0 => job("deposit", keyed, vec![(own, amount)]),
            1 => job("withdraw", keyed, vec![(own, -amount)]),
            2 => {
                let steps = 1 + usize::try_from(self.dice.below(5)).unwrap();
                let to = (own + steps) % CUSTOMERS;
                let members = json!({ "to": account(to), "amount": amount, "key": key });
                job("transfer", members, vec![(own, -amount), (to, amount)])
            }
            3 | 4 if !self.holds.is_empty() => self.settle_hold(),
            _ => job("authorize", keyed, Vec::new()),
        }
    }

    /// Captures or releases the newest hold.
    fn settle_hold(&mut self) -> Job {
        let (hold, held) = self.holds.pop().unwrap();
        if self.dice.below(3) == 0 {
            let members = json!({ "hold": hold, "key": key() });
            return Job {
                op: "release",
                members,
                effects: Vec::new(),
            };
        }
        let amount = held - held / 3;
        Job {
            op: "capture",
            members: json!({ "hold": hold, "amount": amount, "key": key() }),
            effects: vec![(self.number, -amount)],
        }
    }

    /// Sends a job; false where the answer never came.
    async fn perform(&mut self, terminal: &mut Terminal, job: Job) -> bool {
        match terminal.try_ask(job.op, job.members.clone()).await {
            Err(_) => {
                self.unknown.push_back(job);
                false
            }
            Ok(reply) => {
                match reply.code() {
                    0 => self.acknowledged(job, reply),
                    31 => {}
                    51 => self.unknown.push_front(job),
                    _ => panic!("{job:?} got {}", reply.text()),
                }
                true
            }
        }
    }

    fn acknowledged(&mut self, job: Job, reply: Reply) {
        for (number, change) in &job.effects {
            self.effects[*number] += change;
        }
        if job.op == "authorize" {
            let held = job.members["amount"].as_i64().unwrap();
            self.holds.push((reply.hold(), held));
        }
        self.survived += usize::from(reply.replayed());
        if self.done.len() == REMEMBERED {
            self.done.pop_front();
        }
        self.done.push_back((job, reply));
    }

    /// An acknowledged job asked for again is answered as it was, and moves nothing.
    async fn repeat_one(&mut self, terminal: &mut Terminal) -> bool {
        let chosen = self
            .dice
            .below(u64::try_from(self.done.len().max(1)).unwrap());
        let Some((job, first)) = self.done.get(usize::try_from(chosen).unwrap()) else {
            return true;
        };
        let Ok(again) = terminal.try_ask(job.op, job.members.clone()).await else {
            return false;
        };
        if again.code() == 51 {
            return true;
        }
        assert_eq!((again.code(), again.replayed()), (0, true), "lost: {job:?}");
        let (then, now) = (&first.answer.members, &again.answer.members);
        assert_eq!((then.entry, &then.hold), (now.entry, &now.hold), "{job:?}");
        true
    }

    /// Logs in; `None` where the connection is lost.
    pub(crate) async fn enter(&self, address: SocketAddr, card: &Card) -> Option<Terminal> {
        let mut terminal = Terminal::over(card.connect(address).await.ok()?);
        let members = json!({ "account": account(self.number), "pin": PIN });
        let reply = terminal.try_ask("login", members).await.ok()?;
        assert_eq!(reply.code(), 0, "{}", reply.text());
        Some(terminal)
    }

    /// Works until it is told to stop, what is unknown first; false where the server is gone.
    pub(crate) async fn work(&mut self, terminal: &mut Terminal, progress: &Progress) -> bool {
        while !progress.stopped.load(Ordering::Relaxed) {
            let unknown = self.unknown.pop_front();
            let job = unknown.unwrap_or_else(|| self.next_job());
            if !self.perform(terminal, job).await {
                return false;
            }
            let counted = match self.unknown.is_empty() {
                true => &progress.served,
                false => &progress.unknown,
            };
            counted.fetch_add(1, Ordering::Relaxed);
            if self.dice.below(8) == 0
                && self.unknown.is_empty()
                && !self.repeat_one(terminal).await
            {
                return false;
            }
        }
        true
    }

    /// Settles what is unknown, and every hold.
    async fn settle(&mut self, terminal: &mut Terminal) {
        while !self.unknown.is_empty() || !self.holds.is_empty() {
            let unknown = self.unknown.pop_front();
            let job = unknown.unwrap_or_else(|| self.settle_hold());
            assert!(self.perform(terminal, job).await);
        }
    }

    /// The terminal that the customer uses.
    pub(crate) fn terminal(&self) -> String {
        format!("terminal-{}", 1 + self.number % 3)
    }
}

/// How far the customers are, and whether they are to stop.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Requests with a definite answer.
    pub(crate) served: AtomicUsize,
    /// Requests that got code 51.
    pub(crate) unknown: AtomicUsize,
    pub(crate) stopped: AtomicBool,
}

/// Opens the customers' accounts.
pub(crate) fn open_accounts(site: &Site, seed: u64) -> Vec<Customer> {
    let opening = OPENING / 100;
    let line = |number| format!("{}, {PIN}, {opening}.00\n", account(number));
    let lines: String = (0..CUSTOMERS).map(line).collect();
    site.import(&lines).expect(0);
    (0..CUSTOMERS)
        .map(|number| Customer::new(number, seed))
        .collect()
}

/// Settles everything that is unknown or held; then every balance is what the definite answers
/// make it, and the ledger is whole. `others` is what the bank's other customers have.
pub(crate) async fn audit(site: &Site, server: &Server, customers: &mut [Customer], others: i64) {
    let mut expected = [OPENING; CUSTOMERS];
    let mut open = Vec::new();
    for customer in customers.iter_mut() {
        let card = server.card(&customer.terminal());
        let mut terminal = customer.enter(server.address, &card).await.unwrap();
        customer.settle(&mut terminal).await;
        for (sum, change) in expected.iter_mut().zip(customer.effects) {
            *sum += change;
        }
        open.push(terminal);
    }
    for (terminal, expected) in open.iter_mut().zip(expected) {
        let seen = terminal.balance().await.expect_code(0);
        assert_eq!(seen.balances(), (expected, expected));
    }
    let audit = site.verify();
    assert_eq!(
        audit["customers_total"],
        expected.iter().sum::<i64>() + others
    );
    assert_eq!(audit["open_holds"], 0);
}
