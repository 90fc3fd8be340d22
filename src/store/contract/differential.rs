//! Random sequences of calls on both stores: every answer is the same, and both audits are clean.
//!
//! `STORE_SEED=N` begins at another seed; a failure prints the seed that repeats it.

use super::rig::*;
use crate::domain::money::{AMOUNT_MAX, BALANCE_MAX};
use crate::domain::{HoldName, Refusal, RequestedAmount};
use crate::store::{
    Act, Claim, Claimed, Digest, NewAccount, Order, OrderKind, Receipt, Settlement, SettlementKind,
    StoreError, TryCounted,
};
use crate::surroundings::Virtual;

const SEQUENCES: u64 = 200;
const STEPS: usize = 60;
const ACCOUNTS: [&str; 3] = ["zz-00001", "zz-00002", "zz-00003"];
const TERMINALS: [&str; 3] = ["t-1", "t-2", "anonymous"];
const PINS: [&str; 8] = [PIN, PIN, PIN, PIN, PIN, PIN, PIN, "5093"];

#[derive(Debug, Clone)]
enum Step {
    Advance(i64),
    LogIn(usize, &'static str),
    LogOut(usize),
    Order {
        who: usize,
        /// Under a claim that has ended.
        stale: bool,
        key: u64,
        amount: i64,
        kind: OrderKind,
    },
    Settle {
        claimed: Option<usize>,
        key: u64,
        hold: HoldName,
        kind: SettlementKind,
    },
    Balance(usize),
    History(usize, u8, Option<i64>),
    ChangePin(usize, &'static str, &'static str),
    Sweep,
    Office(Office),
}

#[derive(Debug, Clone)]
enum Office {
    Open(usize, i64),
    Look(usize),
    Close(usize),
    Lock(usize, bool),
    SetPin(usize, &'static str, bool),
    Limit(usize, Option<i64>, Option<i64>),
    Adjust(usize, i64),
    Terminal(bool),
}

/// Chance that a seed repeats.
struct Dice(Virtual, u64);

impl Dice {
    fn below(&self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    fn one_in(&self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Clone>(&self, things: &[T]) -> T {
        let index = usize::try_from(self.below(things.len() as u64)).unwrap();
        things[index].clone()
    }

    fn who(&self) -> usize {
        self.pick(&[0, 0, 0, 1, 1, 2])
    }

    fn amount(&self) -> i64 {
        match self.below(12) {
            0 => self.pick(&[0, -1, i64::MIN, i64::MAX, AMOUNT_MAX, AMOUNT_MAX + 1]),
            1 => self.pick(&[99_999, 100_000, 100_001, 200_000, 200_001]),
            2..=4 => self.pick(&[10, 20, 30]),
            _ => i64::try_from(self.below(400)).unwrap(),
        }
    }

    /// Few enough that keys meet again.
    fn key(&self) -> u64 {
        self.below(if self.one_in(3) { 6 } else { 1_000_000 })
    }

    /// Mostly one of the last few.
    fn hold(&self) -> HoldName {
        let back = self.below(if self.one_in(5) { 20 } else { 3 });
        hold_name(&format!("h-{}", self.1.saturating_sub(back)))
    }

    fn advance(&self) -> i64 {
        match self.below(20) {
            0..=9 => self.pick(&[1, SECOND, 30 * SECOND]),
            10..=14 => self.pick(&[119_999, 120_000, HOUR]),
            15 | 16 => self.pick(&[6 * HOUR, 12 * HOUR, DAY]),
            17 | 18 => self.pick(&[-1, -HOUR, -13 * HOUR]),
            _ => self.pick(&[30 * DAY - 1, 30 * DAY, 31 * DAY + 1]),
        }
    }

    fn order(&mut self) -> Step {
        let kind = match self.below(8) {
            0 | 1 => OrderKind::Deposit,
            2 | 3 => OrderKind::Withdraw,
            4 => OrderKind::Transfer(number(self.pick(&[ANNE, BERT, "zz-00003", NOBODY]))),
            _ => {
                self.1 += 1;
                OrderKind::Authorize(hold_name(&format!("h-{}", self.1)))
            }
        };
        Step::Order {
            who: self.who(),
            stale: self.one_in(30),
            key: self.key(),
            amount: self.amount(),
            kind,
        }
    }

    fn settle(&self) -> Step {
        let kind = match self.below(4) {
            0 => SettlementKind::Release,
            1 => capture(self.amount()),
            _ => capture(self.pick(&[1, 10, 20])),
        };
        Step::Settle {
            claimed: self.one_in(2).then(|| self.who()),
            key: self.key(),
            hold: self.hold(),
            kind,
        }
    }

    fn office(&self) -> Office {
        let who = self.who();
        let limit = || self.pick(&[None, Some(0), Some(50), Some(300), Some(-1)]);
        match self.below(14) {
            0 => Office::Open(
                who,
                self.pick(&[0, 500, BALANCE_MAX - 100, -1, BALANCE_MAX + 1]),
            ),
            1 => Office::Close(who),
            2 => Office::Lock(who, true),
            3..=5 => Office::Lock(who, false),
            6 => Office::SetPin(who, self.pick(&PINS), self.one_in(2)),
            7 => Office::Limit(who, limit(), limit()),
            8 | 9 => Office::Adjust(who, self.amount().wrapping_mul(self.pick(&[1, -1]))),
            10 => Office::Terminal(self.one_in(2)),
            _ => Office::Look(who),
        }
    }

    fn step(&mut self, before: &[Step]) -> Step {
        match self.below(40) {
            0..=4 => Step::Advance(self.advance()),
            5 => Step::LogIn(self.who(), self.pick(&PINS)),
            6 => Step::LogOut(self.who()),
            7..=17 => self.order(),
            18..=25 => self.settle(),
            26..=30 if !before.is_empty() => self.pick(before),
            31 => Step::Balance(self.who()),
            32 => Step::History(
                self.who(),
                self.pick(&[1, 3, 100]),
                self.pick(&[None, Some(9)]),
            ),
            33 => Step::ChangePin(self.who(), self.pick(&PINS), self.pick(&PINS)),
            34 | 35 => Step::Sweep,
            _ => Step::Office(self.office()),
        }
    }
}

/// One of the two banks, with what its customers hold.
struct Bank {
    rig: Rig,
    claims: [Option<Claim>; 3],
    stale: [Option<Claim>; 3],
}

type Answer = Result<String, StoreError>;

fn told(answer: Result<Result<Receipt, Refusal>, StoreError>) -> Answer {
    answer.map(|answer| format!("{answer:?}"))
}

impl Bank {
    async fn new(rig: Rig, balances: [i64; 3]) -> Self {
        for (account, balance) in ACCOUNTS.into_iter().zip(balances).take(2) {
            rig.open(account, balance).await;
        }
        Self {
            rig,
            claims: [const { None }; 3],
            stale: [const { None }; 3],
        }
    }

    async fn run(&mut self, step: &Step) -> String {
        match self.answer(step).await {
            Ok(answer) => answer,
            // Each store has its own words for what broke.
            Err(StoreError::Broken(_)) => "broken".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    async fn answer(&mut self, step: &Step) -> Answer {
        let (rig, context) = (&self.rig, self.rig.context());
        let nobody = || Ok("nobody".to_owned());
        match step {
            Step::Advance(ms) => {
                rig.advance(*ms);
                Ok(rig.context().now.to_string())
            }
            Step::LogIn(who, pin) => self.log_in(*who, pin).await,
            Step::LogOut(who) => {
                if let Some(claim) = self.claims[*who].take() {
                    rig.store().release(&claim);
                    self.stale[*who] = Some(claim);
                }
                Ok(rig.store().seats().len().to_string())
            }
            Step::Order { .. } | Step::Settle { .. } => self.money(step).await,
            Step::Balance(who) => match &self.claims[*who] {
                Some(claim) => Ok(format!("{:?}", rig.store().balance(claim, context).await?)),
                None => nobody(),
            },
            Step::History(who, limit, before) => match &self.claims[*who] {
                Some(claim) => Ok(format!("{:?}", rig.history(claim, *limit, *before).await)),
                None => nobody(),
            },
            Step::ChangePin(who, pin, new) => self.change_pin(*who, pin, new).await,
            Step::Sweep => Ok(format!("{:?}", rig.store().sweep(context).await?)),
            Step::Office(act) => self.office(act).await,
        }
    }

    /// Orders and settlements.
    async fn money(&self, step: &Step) -> Answer {
        let (rig, context) = (&self.rig, self.rig.context());
        match step {
            Step::Order {
                who,
                stale,
                key: text,
                amount,
                kind,
            } => {
                let claims = if *stale { &self.stale } else { &self.claims };
                let Some(claim) = &claims[*who] else {
                    return Ok("nobody".to_owned());
                };
                let order = Order {
                    key: key(&text.to_string()),
                    amount: RequestedAmount(*amount),
                    kind: kind.clone(),
                };
                told(rig.store().order(claim, order, context).await)
            }
            Step::Settle {
                claimed,
                key: text,
                hold,
                kind,
            } => {
                let claim = claimed.and_then(|who| self.claims[who].as_ref());
                let settlement = Settlement {
                    hold: hold.clone(),
                    key: key(&text.to_string()),
                    kind: *kind,
                };
                told(rig.store().settle(claim, settlement, context).await)
            }
            other => panic!("{other:?} moves no money"),
        }
    }

    async fn log_in(&mut self, who: usize, pin: &str) -> Answer {
        let proof = match self.rig.try_pin(ACCOUNTS[who], pin).await {
            Ok(Some(proof)) => proof,
            Ok(None) => return Ok("no match".to_owned()),
            Err(TryCounted::LockedOut(after)) => return Ok(format!("locked out {after:?}")),
            Err(_) => return Ok("table full".to_owned()),
        };
        Ok(match self.rig.claim_by(&proof).await {
            Claimed::Seated(seated) => {
                let told = format!("{:?} {}", seated.balances, seated.must_change_pin);
                self.claims[who] = Some(seated.claim);
                told
            }
            other => format!("{other:?}"),
        })
    }

    async fn change_pin(&mut self, who: usize, pin: &str, new: &str) -> Answer {
        let Some(claim) = &self.claims[who] else {
            return Ok("nobody".to_owned());
        };
        let Ok(Some(proof)) = self.rig.try_pin(ACCOUNTS[who], pin).await else {
            return Ok("no proof".to_owned());
        };
        let new = self.rig.hash(new, CHEAP);
        let changed = self
            .rig
            .store()
            .change_pin(claim, &proof, Some(new), self.rig.context())
            .await?;
        Ok(format!("{changed:?}"))
    }

    async fn office(&self, office: &Office) -> Answer {
        let rig = &self.rig;
        let name = |who: &usize| number(ACCOUNTS[*who]);
        let act = match office {
            Office::Open(who, balance) => Act::Open(vec![NewAccount {
                number: name(who),
                hash: rig.hash(PIN, CHEAP),
                balance: *balance,
                demo: *balance == 0,
            }]),
            Office::Close(who) => Act::Close(name(who)),
            Office::Lock(who, locked) => Act::Lock(name(who), *locked),
            Office::SetPin(who, pin, one_time) => Act::SetPin {
                number: name(who),
                hash: rig.hash(pin, CHEAP),
                one_time_until: one_time.then(|| rig.context().now.plus_ms(3_600_000)),
            },
            Office::Limit(who, withdrawal, daily) => Act::Limit {
                number: name(who),
                withdrawal: *withdrawal,
                daily: *daily,
            },
            Office::Adjust(who, amount) => Act::Adjust {
                number: name(who),
                amount: *amount,
                reason: "because".to_owned(),
            },
            Office::Terminal(disabled) => Act::Terminal {
                name: "t-2".parse().unwrap(),
                disabled: *disabled,
            },
            Office::Look(who) => return self.look(name(who)).await,
        };
        Ok(format!("{:?}", rig.try_act(act).await?))
    }

    /// Everything that staff can look at.
    async fn look(&self, who: crate::domain::AccountNumber) -> Answer {
        let statement = Act::Statement {
            number: who,
            after: 1,
            from: Some(NEW_YEAR.plus_ms(13 * 3_600_000)),
            to: None,
            limit: 7,
        };
        let list = Act::List {
            after: None,
            limit: 10,
        };
        let mut told = String::new();
        for act in [
            Act::Show(who),
            statement,
            list,
            Act::Terminals,
            Act::DemoAccounts,
            Act::LateCaptures { limit: 5 },
        ] {
            told += &format!("{:?}\n", self.rig.try_act(act).await?);
        }
        Ok(told)
    }

    async fn audit(&self, before: Option<Digest>) -> String {
        let audit = self.rig.verify(before).await;
        assert_eq!(audit.faults, Vec::<String>::new());
        format!("{audit:?}")
    }
}

/// Steps of customers who are not logged in are mostly preceded by their log-in.
fn log_in_before(step: &Step, bank: &Bank, dice: &Dice) -> Option<Step> {
    let (Step::Order { who, .. } | Step::ChangePin(who, ..) | Step::History(who, ..)) = step else {
        return None;
    };
    let missing = bank.claims[*who].is_none() && !dice.one_in(10);
    missing.then(|| Step::LogIn(*who, dice.pick(&PINS)))
}

/// A sequence on both stores, with what was asked and answered so far.
struct Pair {
    seed: u64,
    model: Bank,
    store: Bank,
    told: Vec<String>,
}

impl Pair {
    async fn run(&mut self, step: &Step, terminal: &'static str) {
        (self.model.rig.terminal, self.store.rig.terminal) = (terminal, terminal);
        let expected = self.model.run(step).await;
        let found = self.store.run(step).await;
        self.told
            .push(format!("at {terminal}: {step:?} -> {expected}"));
        assert_eq!(found, expected, "seed {}\n{}", self.seed, self.words());
    }

    fn words(&self) -> String {
        self.told.join("\n")
    }
}

async fn run_sequence(seed: u64) {
    let mut dice = Dice(Virtual::new(NEW_YEAR, seed), 0);
    let start = [500, 5_000, 300_000, BALANCE_MAX - 100];
    let balances = [dice.pick(&start), dice.pick(&start), 0];
    let mut pair = Pair {
        seed,
        model: Bank::new(Rig::memory(), balances).await,
        store: Bank::new(Rig::sqlite(), balances).await,
        told: Vec::new(),
    };
    let (mut steps, mut terminal, mut past) = (Vec::new(), TERMINALS[0], None);
    for index in 0..STEPS {
        if dice.one_in(10) {
            terminal = dice.pick(&TERMINALS);
        }
        let step = dice.step(&steps);
        if let Some(log_in) = log_in_before(&step, &pair.model, &dice) {
            pair.run(&log_in, terminal).await;
        }
        pair.run(&step, terminal).await;
        steps.push(step);
        if index == STEPS / 2 {
            past = Some(pair.model.rig.verify(None).await.head);
        }
    }
    let (expected, found) = (pair.model.audit(past).await, pair.store.audit(past).await);
    assert_eq!(found, expected, "seed {seed}\n{}", pair.words());
}

#[tokio::test]
async fn both_stores_give_the_same_answers_and_digests_whatever_is_asked() {
    let first = std::env::var("STORE_SEED").ok();
    let first: u64 = first.map_or(1, |text| text.parse().unwrap());
    for seed in first..first + SEQUENCES {
        println!("seed {seed}");
        run_sequence(seed).await;
    }
}
