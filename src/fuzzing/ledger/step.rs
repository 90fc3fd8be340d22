//! What may happen to a store, read off bytes.

use crate::domain::money::{AMOUNT_MAX, BALANCE_MAX};
use crate::domain::{HoldName, IdempotencyKey, RequestedAmount};
use crate::fuzzing::Input;
use crate::store::{Order, OrderKind, Settlement, SettlementKind};

/// Customers' account numbers; the last one is opened by staff, if at all.
pub(super) const ACCOUNTS: [&str; 3] = ["zz-00001", "zz-00002", "zz-00003"];
/// One that is never opened.
const NOBODY: &str = "zz-99999";
/// Where calls come from.
pub(super) const TERMINALS: [&str; 3] = ["t-1", "t-2", "anonymous"];
/// The first is every account's first PIN.
pub(super) const PINS: [&str; 3] = ["8264", "5093", "739105"];

const SECOND_MS: i64 = 1_000;
const HOUR_MS: i64 = 3_600 * SECOND_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// How far the clock goes; it may be set back too.
const ADVANCES_MS: [i64; 16] = [
    1,
    SECOND_MS,
    30 * SECOND_MS,
    119_999,
    120_000,
    600_000,
    HOUR_MS,
    12 * HOUR_MS,
    DAY_MS,
    -1,
    -HOUR_MS,
    -13 * HOUR_MS,
    30 * DAY_MS - 1,
    30 * DAY_MS,
    31 * DAY_MS,
    31 * DAY_MS + 1,
];
const AMOUNTS: [i64; 16] = [
    1,
    10,
    20,
    30,
    400,
    500,
    5_000,
    99_999,
    100_000,
    100_001,
    0,
    -1,
    i64::MIN,
    i64::MAX,
    AMOUNT_MAX,
    AMOUNT_MAX + 1,
];
/// What accounts begin with; the rich are rare, because it takes a thousand entries to make one.
const OPENINGS: [i64; 6] = [500, 5_000, 300_000, 0, -1, BALANCE_MAX + 1];
const RICH: [i64; 2] = [BALANCE_MAX - 100, BALANCE_MAX];
const LIMITS: [Option<i64>; 5] = [None, Some(0), Some(50), Some(300), Some(-1)];
const LINES: [u8; 3] = [100, 1, 3];
/// Calls that wait together for one commit, at most.
const BURST_MAX: usize = 4;

/// One thing that happens.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Advance(i64),
    /// The terminal that calls from now on.
    At(&'static str),
    /// The terms of calls from now on.
    Terms(u8),
    LogIn(usize, &'static str),
    LogOut(usize),
    Money(Money),
    /// Calls that come at once.
    Burst(Vec<Money>),
    Balance(usize),
    History(usize, u8, Option<i64>),
    ChangePin(usize, &'static str, Option<&'static str>),
    Sweep,
    Office(Office),
    /// Everything that staff can look at.
    Look(usize),
    Verify,
    Restart(Restart),
}

/// Money is to move.
#[derive(Debug, Clone)]
pub(super) enum Money {
    Order {
        who: usize,
        /// Under a claim that has ended.
        stale: bool,
        order: Order,
    },
    Settle {
        claimed: Option<usize>,
        settlement: Settlement,
    },
}

impl Money {
    /// A little money for another account, under a key of the step's own.
    pub(super) fn transfer(who: usize, to: usize, step: usize) -> Self {
        let key = format!("key-of-the-step-{step}").parse();
        Self::Order {
            who,
            stale: false,
            order: Order {
                key: key.expect("a key"),
                amount: RequestedAmount(1),
                kind: OrderKind::Transfer(ACCOUNTS[to].parse().expect("a number")),
            },
        }
    }
}

/// What staff change.
#[derive(Debug, Clone)]
pub(super) enum Office {
    Open(usize, i64),
    Close(usize),
    Lock(usize, bool),
    SetPin(usize, &'static str, bool),
    Limit(usize, Option<i64>, Option<i64>),
    Adjust(usize, i64),
    Terminal(bool),
}

/// How the store comes to be opened again.
#[derive(Debug, Clone, Copy)]
pub(super) enum Restart {
    /// It was closed in order.
    InOrder,
    /// It was not: only what had been answered counts.
    Crash,
    /// From a backup.
    Backup,
}

/// What an account begins with.
pub(super) fn opening(input: &mut Input<'_>) -> i64 {
    match input.byte() {
        choice @ 252.. => RICH[usize::from(choice % 2)],
        choice => OPENINGS[usize::from(choice) % OPENINGS.len()],
    }
}

/// Reads steps off bytes; knows the holds' names that were given.
pub(super) struct Steps<'a> {
    pub(super) input: Input<'a>,
    holds: usize,
    past: Vec<Step>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(input: Input<'a>) -> Self {
        Self {
            input,
            holds: 0,
            past: Vec::new(),
        }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Step {
        let step = self.choose();
        self.past.push(step.clone());
        step
    }

    fn choose(&mut self) -> Step {
        let choice = self.input.byte();
        match choice % 64 {
            0..=23 => Step::Money(self.order()),
            24..=33 => Step::Money(self.settle()),
            34..=36 => Step::Burst(self.burst()),
            // Again: keys and holds are met a second time.
            37..=41 => self.again(),
            42 => Step::Balance(self.who()),
            43 => {
                let before = self.input.pick(&[None, Some(9), Some(3), Some(1)]);
                Step::History(self.who(), self.input.pick(&LINES), before)
            }
            44 => Step::ChangePin(self.who(), self.pin(), self.input.pick(&NEW_PINS)),
            45 | 46 => Step::LogIn(self.who(), self.pin()),
            47 => Step::LogOut(self.who()),
            48..=51 => Step::Advance(self.input.pick(&ADVANCES_MS)),
            52 => Step::At(self.input.pick(&TERMINALS)),
            53 => Step::Terms(self.input.byte() % 8),
            54 => Step::Sweep,
            55 => Step::Look(self.who()),
            // Rare, because it takes as long as many others.
            56 if choice < 128 => Step::Verify,
            56 => Step::Restart(self.restart()),
            _ => Step::Office(self.office()),
        }
    }

    fn again(&mut self) -> Step {
        let back = usize::from(self.input.byte());
        let length = self.past.len().max(1);
        let step = self.past.iter().rev().nth(back % length).cloned();
        step.unwrap_or(Step::Sweep)
    }

    fn burst(&mut self) -> Vec<Money> {
        let count = usize::from(self.input.byte()) % (BURST_MAX - 1) + 2;
        (0..count)
            .map(|_| match self.input.byte() % 3 {
                0 => self.settle(),
                _ => self.order(),
            })
            .collect()
    }

    fn restart(&mut self) -> Restart {
        use Restart::{Backup, Crash, InOrder};
        self.input.pick(&[InOrder, Crash, Crash, Backup])
    }

    fn who(&mut self) -> usize {
        self.input.pick(&[0, 1, 0, 2])
    }

    /// Mostly the first one.
    fn pin(&mut self) -> &'static str {
        match self.input.byte() {
            0..=191 => PINS[0],
            choice => PINS[usize::from(choice) % PINS.len()],
        }
    }

    /// One of the telling ones, or any small one.
    fn amount(&mut self) -> i64 {
        match self.input.byte() {
            choice @ 0..=159 => AMOUNTS[usize::from(choice) % AMOUNTS.len()],
            choice => i64::from(choice - 160) * 5,
        }
    }

    /// Few enough that keys meet again.
    fn key(&mut self) -> IdempotencyKey {
        let number = self.input.byte() % 24;
        let key = format!("key-0000000000-{number}").parse();
        key.expect("a key")
    }

    fn order(&mut self) -> Money {
        let choice = self.input.byte();
        let kind = match choice % 8 {
            0 | 1 => OrderKind::Deposit,
            2 | 3 => OrderKind::Withdraw,
            4 => {
                let [one, two, three] = ACCOUNTS;
                let to = self.input.pick(&[one, two, three, NOBODY]);
                OrderKind::Transfer(to.parse().expect("a number"))
            }
            _ => {
                self.holds += 1;
                OrderKind::Authorize(hold_name(self.holds))
            }
        };
        Money::Order {
            who: self.who(),
            stale: choice >= 248,
            order: Order {
                key: self.key(),
                amount: RequestedAmount(self.amount()),
                kind,
            },
        }
    }

    /// Mostly of one of the last few holds.
    fn settle(&mut self) -> Money {
        let choice = self.input.byte();
        let back = usize::from(self.input.byte() % 8);
        let kind = match choice % 4 {
            0 => SettlementKind::Release,
            _ => SettlementKind::Capture(RequestedAmount(self.amount())),
        };
        Money::Settle {
            claimed: (choice < 128).then(|| self.who()),
            settlement: Settlement {
                hold: hold_name(self.holds.saturating_sub(back)),
                key: self.key(),
                kind,
            },
        }
    }

    fn office(&mut self) -> Office {
        let who = self.who();
        match self.input.byte() % 14 {
            0 | 1 => Office::Open(who, opening(&mut self.input)),
            2 => Office::Close(who),
            3 => Office::Lock(who, true),
            4..=6 => Office::Lock(who, false),
            7 => Office::SetPin(who, self.pin(), self.input.byte() < 128),
            8 | 9 => Office::Limit(who, self.input.pick(&LIMITS), self.input.pick(&LIMITS)),
            10 | 11 => {
                let sign = self.input.pick(&[1, -1]);
                Office::Adjust(who, self.amount().wrapping_mul(sign))
            }
            // What empties an account, so that it can be closed.
            12 => Office::Adjust(who, self.input.pick(&[-500, -5_000])),
            _ => Office::Terminal(self.input.byte() < 128),
        }
    }
}

const NEW_PINS: [Option<&str>; 4] = [Some(PINS[0]), Some(PINS[1]), Some(PINS[2]), None];

fn hold_name(number: usize) -> HoldName {
    format!("h-{number}").parse().expect("a hold's name")
}
