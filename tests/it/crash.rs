//! Killed under load, again and again: what was acknowledged is there once, and what was not is
//! settled by repeating it under its key.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Card, Reply, Site, Terminal, key, until_async};

const CUSTOMERS: usize = 6;
const OPENING: i64 = 1_000_000;
const PIN: &str = "7391";
/// A customer keeps so many finished jobs to ask for again.
const REMEMBERED: usize = 50;

/// Chance that a seed gives (SplitMix64; Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
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
struct Job {
    op: &'static str,
    members: Value,
    effects: Vec<(usize, i64)>,
}

/// One customer at one terminal, through all crashes.
struct Customer {
    number: usize,
    dice: Dice,
    /// Sent, and never answered.
    unknown: VecDeque<Job>,
    /// Done, with the entry or hold that was answered.
    done: VecDeque<(Job, Reply)>,
    /// Open holds and their amounts.
    holds: Vec<(String, i64)>,
    /// What the acknowledged jobs did to each account.
    effects: [i64; CUSTOMERS],
    /// Jobs that were unknown and turned out done before the crash.
    survived: usize,
}

fn account(number: usize) -> String {
    format!("cc-{number:05}")
}

impl Customer {
    fn new(number: usize, seed: u64) -> Self {
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
                    51 => self.unknown.push_back(job),
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
        assert_eq!((again.code(), again.replayed()), (0, true), "lost: {job:?}");
        let (then, now) = (&first.answer.members, &again.answer.members);
        assert_eq!((then.entry, &then.hold), (now.entry, &now.hold), "{job:?}");
        true
    }

    /// Settles what is unknown; false where the connection was lost again.
    async fn settle(&mut self, terminal: &mut Terminal) -> bool {
        for _ in 0..self.unknown.len() {
            let job = self.unknown.pop_front().unwrap();
            if !self.perform(terminal, job).await {
                return false;
            }
        }
        true
    }

    async fn enter(&self, address: std::net::SocketAddr, card: &Card) -> Option<Terminal> {
        let mut terminal = Terminal::over(card.connect(address).await.ok()?);
        let members = json!({ "account": account(self.number), "pin": PIN });
        let reply = terminal.try_ask("login", members).await.ok()?;
        assert_eq!(reply.code(), 0, "{}", reply.text());
        Some(terminal)
    }

    /// Works until the server is gone.
    async fn work(
        mut self,
        address: std::net::SocketAddr,
        card: Card,
        served: Arc<AtomicUsize>,
    ) -> Self {
        let Some(mut terminal) = self.enter(address, &card).await else {
            return self;
        };
        if !self.settle(&mut terminal).await {
            return self;
        }
        loop {
            let job = self.next_job();
            if !self.perform(&mut terminal, job).await {
                return self;
            }
            served.fetch_add(1, Ordering::Relaxed);
            if self.dice.below(8) == 0 && !self.repeat_one(&mut terminal).await {
                return self;
            }
        }
    }
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn terminal_of(customer: &Customer) -> String {
    format!("terminal-{}", 1 + customer.number % 3)
}

/// One life of a server: load, then the kill in the middle of it.
async fn crash_once(site: &Site, customers: Vec<Customer>, dice: &mut Dice) -> Vec<Customer> {
    let server = site.start();
    let served = Arc::new(AtomicUsize::new(0));
    let mut working = JoinSet::new();
    for customer in customers {
        let card = server.card(&terminal_of(&customer));
        working.spawn(customer.work(server.address, card, Arc::clone(&served)));
    }
    let enough = 30 + usize::try_from(dice.below(150)).unwrap();
    until_async("load", async || {
        (served.load(Ordering::Relaxed) >= enough || working.is_empty()).then_some(())
    })
    .await;
    server.kill();
    let mut customers = working.join_all().await;
    customers.sort_by_key(|customer| customer.number);
    customers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_often_the_server_is_killed_no_acknowledged_money_is_lost_or_doubled() {
    let seed = number_of("CRASH_SEED").unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1);
    let rounds = number_of("CRASH_ROUNDS").unwrap_or(5);
    println!("CRASH_SEED={seed} CRASH_ROUNDS={rounds}");
    let site = Site::bare(&[]);
    let lines: String = (0..CUSTOMERS)
        .map(|number| format!("{}, {PIN}, {}.00\n", account(number), OPENING / 100))
        .collect();
    site.import(&lines).expect(0);
    let mut dice = Dice(seed);
    let mut customers: Vec<Customer> = (0..CUSTOMERS).map(|n| Customer::new(n, seed)).collect();
    for _ in 0..rounds {
        customers = crash_once(&site, customers, &mut dice).await;
    }
    let unknown: usize = customers
        .iter()
        .map(|customer| customer.unknown.len())
        .sum();
    let server = site.start();
    let mut expected = [OPENING; CUSTOMERS];
    let mut open = Vec::new();
    for customer in &mut customers {
        let card = server.card(&terminal_of(customer));
        let mut terminal = customer.enter(server.address, &card).await.unwrap();
        assert!(customer.settle(&mut terminal).await);
        while !customer.holds.is_empty() {
            let job = customer.settle_hold();
            assert!(customer.perform(&mut terminal, job).await);
        }
        assert!(customer.unknown.is_empty());
        for (sum, change) in expected.iter_mut().zip(customer.effects) {
            *sum += change;
        }
        open.push(terminal);
    }
    for (terminal, expected) in open.iter_mut().zip(expected) {
        let seen = terminal.balance().await.expect_code(0);
        assert_eq!(seen.balances(), (expected, expected));
    }
    let survived: usize = customers.iter().map(|customer| customer.survived).sum();
    println!("{unknown} unknown after the last crash; {survived} had been done before a crash");
    site.run(&["verify"]).expect(0);
    server.stop();
    let audit = site.verify();
    assert_eq!(audit["customers_total"], expected.iter().sum::<i64>());
    assert_eq!(audit["open_holds"], 0);
}
