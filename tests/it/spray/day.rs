//! A simulated day of honest log-ins, with or without somebody who sprays PINs: on the detector
//! alone, in virtual time, from a seed. Shared by the tests and by `cargo bench --bench spray`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use atm_bank::access::spray::{Admission, Detector, Noticed, Verdict};
use atm_bank::access::throttle::{Requester, RetryAfter};
use atm_bank::domain::{AccountNumber, Timestamp};
use atm_bank::surroundings::Virtual;

pub(crate) const MINUTE_MS: u64 = 60_000;
pub(crate) const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Of 10,000 PINs typed by honest customers so many are mistyped.
const TYPOS: u64 = 300;
/// Of 10,000 customers so many have forgotten their PIN: three wrong ones, and they are gone.
const IN_TROUBLE: u64 = 5;
/// A sprayer's guess is right in so many of 10,000.
const HITS: u64 = 20;
/// A customer waits so long at most to be let through, and goes away where it is longer.
const PATIENCE_MS: u64 = 60_000;
/// How the day's log-ins are spread over its hours.
const CURVE: [u64; 24] = [
    2, 1, 1, 1, 1, 3, 8, 16, 24, 28, 30, 32, 34, 32, 30, 30, 32, 34, 30, 22, 14, 10, 6, 4,
];
/// How long a spray is watched after it was noticed.
const WATCHED_MS: u64 = 6 * HOUR_MS;

/// Somebody who tries PINs on one account after another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spray {
    /// Between two tries.
    pub(crate) pause_ms: u64,
    /// Terminals that the tries go round.
    pub(crate) terminals: usize,
    /// Logs in to an account of its own before every try.
    pub(crate) diluted: bool,
    /// Tries on each number: less than the three that lock it.
    pub(crate) tries_each: u64,
}

/// What a day is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Day {
    pub(crate) logins: usize,
    pub(crate) terminals: usize,
    pub(crate) spray_tries: u32,
    /// Of 10,000 customers who mistyped so many walk away at once.
    pub(crate) walk_away: u64,
    pub(crate) spray: Option<Spray>,
}

/// 100,000 log-ins at 100 terminals, nobody who sprays, and of those who mistype 2 % walk away.
pub(crate) const QUIET: Day = Day {
    logins: 100_000,
    terminals: 100,
    spray_tries: 50,
    walk_away: 200,
    spray: None,
};

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// Honest customers.
    pub(crate) honest: u64,
    /// Those of them who were told to wait at least once.
    pub(crate) slowed: u64,
    /// Those of them who would have had to wait longer than a minute, and went away.
    pub(crate) turned_away: u64,
    /// Alarms at one source, without a sprayer there.
    pub(crate) source_alarms: u64,
    /// Alarms of the whole bank before any spray.
    pub(crate) bank_alarms: u64,
    /// The most different numbers that were unresolved at once.
    pub(crate) unresolved_max: usize,
    /// The sprayer's tries when it was noticed; `None` where it made all its tries unnoticed.
    pub(crate) noticed_after: Option<u64>,
    /// The sprayer's tries in the hour after that, and in the sixth.
    pub(crate) tries_first_hour: u64,
    pub(crate) tries_sixth_hour: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Honest {
        customer: usize,
        terminal: usize,
        wrong: u8,
        in_trouble: bool,
        slowed: bool,
    },
    Spray {
        terminal: usize,
    },
}

struct World {
    day: Day,
    chance: Virtual,
    detector: Detector,
    terminals: Vec<Requester>,
    accounts: Vec<AccountNumber>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    tries: u64,
    /// Whose PIN the sprayer tries.
    target: usize,
    noticed_ms: Option<u64>,
    outcome: Outcome,
}

/// Plays a day; the same seed gives the same day.
pub(crate) fn play(day: Day, seed: u64) -> Outcome {
    let mut world = World::new(day, seed);
    world.fill();
    while let Some(Reverse((now_ms, _, event))) = world.events.pop() {
        match event {
            Event::Honest { .. } => world.honest(now_ms, event),
            Event::Spray { terminal } => world.spray(now_ms, terminal),
        }
        let unresolved = world.detector.unresolved();
        world.outcome.unresolved_max = world.outcome.unresolved_max.max(unresolved);
    }
    world.outcome
}

fn number(index: usize) -> AccountNumber {
    let letters = [b'a' + (index / 100_000 % 26) as u8, b'c'];
    let letters = String::from_utf8_lossy(&letters).into_owned();
    format!("{letters}-{:05}", index % 100_000).parse().unwrap()
}

impl World {
    fn new(day: Day, seed: u64) -> Self {
        let terminal = |index| Requester::Terminal(format!("t-{index}").parse().unwrap());
        Self {
            day,
            chance: Virtual::new(Timestamp::from_unix_ms(0), seed),
            detector: Detector::new(day.spray_tries),
            terminals: (0..day.terminals).map(terminal).collect(),
            accounts: (0..day.logins).map(number).collect(),
            events: BinaryHeap::new(),
            sequence: 0,
            tries: 0,
            target: 0,
            noticed_ms: None,
            outcome: Outcome::default(),
        }
    }

    fn below(&self, end: u64) -> u64 {
        self.chance.next_u64() % end.max(1)
    }

    fn of(&self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap()
    }

    fn happens(&self, of_ten_thousand: u64) -> bool {
        self.below(10_000) < of_ten_thousand
    }

    fn at(&mut self, ms: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((ms, self.sequence, event)));
    }

    fn fill(&mut self) {
        for _ in 0..self.day.logins {
            let mut part = self.below(CURVE.iter().sum());
            let hour = CURVE.iter().position(|weight| {
                let here = part < *weight;
                part = part.saturating_sub(*weight);
                here
            });
            let ms = hour.unwrap_or(0) as u64 * HOUR_MS + self.below(HOUR_MS);
            // Busy terminals and quiet ones: the lesser of two draws.
            let terminal = self.of(self.day.terminals).min(self.of(self.day.terminals));
            let event = Event::Honest {
                customer: self.of(self.day.logins),
                terminal,
                wrong: 0,
                in_trouble: self.happens(IN_TROUBLE),
                slowed: false,
            };
            self.at(ms, event);
            self.outcome.honest += 1;
        }
        if let Some(spray) = self.day.spray {
            let begins_ms = 2 * HOUR_MS + self.below(15 * HOUR_MS);
            // One after the other; each goes its own pace once it is slowed.
            for index in 0..spray.terminals {
                let terminal = (index * 7) % self.day.terminals;
                let ms = begins_ms + spray.pause_ms * index as u64;
                self.at(ms, Event::Spray { terminal });
            }
        }
    }

    fn honest(&mut self, now_ms: u64, event: Event) {
        let Event::Honest {
            customer,
            terminal,
            mut wrong,
            in_trouble,
            slowed,
        } = event
        else {
            return;
        };
        let number = self.accounts[customer];
        match self.detector.admit(&self.terminals[terminal], now_ms) {
            Admission::Go => {}
            Admission::Wait => panic!("log-ins take no time here"),
            Admission::Slowed(RetryAfter(wait_ms)) => {
                self.outcome.slowed += u64::from(!slowed);
                if wait_ms > PATIENCE_MS {
                    self.outcome.turned_away += 1;
                } else {
                    let again = Event::Honest {
                        customer,
                        terminal,
                        wrong,
                        in_trouble,
                        slowed: true,
                    };
                    self.at(now_ms + wait_ms, again);
                }
                return;
            }
        }
        let failed = in_trouble || self.happens(TYPOS);
        let verdict = match (failed, wrong) {
            (false, _) => Verdict::Right,
            (true, 0 | 1) => Verdict::Failed,
            (true, _) => Verdict::FailedAndLocked,
        };
        let noticed = self
            .detector
            .judge(&self.terminals[terminal], number, verdict, now_ms);
        self.count_alarm(noticed, now_ms, true);
        wrong += 1;
        if failed && wrong < 3 && (in_trouble || !self.happens(self.day.walk_away)) {
            let again = Event::Honest {
                customer,
                terminal,
                wrong,
                in_trouble,
                slowed,
            };
            self.at(now_ms + 4_000 + self.below(16_000), again);
        }
    }

    fn spray(&mut self, now_ms: u64, terminal: usize) {
        let Some(spray) = self.day.spray else { return };
        let source = self.terminals[terminal].clone();
        let admission = self.detector.admit(&source, now_ms);
        let next_ms = match admission {
            Admission::Slowed(RetryAfter(wait_ms)) => wait_ms,
            Admission::Go | Admission::Wait => spray.pause_ms * spray.terminals as u64,
        };
        if admission == Admission::Go {
            let own = spray.diluted && self.noticed_ms.is_none();
            self.tries += 1;
            self.count_try(now_ms);
            if self.tries.is_multiple_of(spray.tries_each.max(1)) {
                self.target = self.of(self.day.logins);
            }
            let number = self.accounts[self.target];
            let hit = self.happens(HITS);
            let verdict = if hit { Verdict::Right } else { Verdict::Failed };
            let noticed = self.detector.judge(&source, number, verdict, now_ms);
            self.count_alarm(noticed, now_ms, false);
            if own && self.detector.admit(&source, now_ms) == Admission::Go {
                let own = self.accounts[terminal];
                self.detector.judge(&source, own, Verdict::Right, now_ms);
            }
        }
        let unnoticed = self.noticed_ms.is_none();
        let over = match self.noticed_ms {
            None => self.tries >= 10 * u64::from(self.day.spray_tries.max(10)),
            Some(noticed_ms) => now_ms > noticed_ms + WATCHED_MS,
        };
        if !over && (unnoticed || now_ms < 48 * HOUR_MS) {
            self.at(now_ms + next_ms.max(1), Event::Spray { terminal });
        }
    }

    fn count_try(&mut self, now_ms: u64) {
        let Some(noticed_ms) = self.noticed_ms else {
            return;
        };
        match (now_ms - noticed_ms) / HOUR_MS {
            0 => self.outcome.tries_first_hour += 1,
            5 => self.outcome.tries_sixth_hour += 1,
            _ => {}
        }
    }

    fn count_alarm(&mut self, noticed: Option<Noticed>, now_ms: u64, by_honest: bool) {
        let Some(noticed) = noticed else { return };
        // The bank's alarm goes off by whoever fails next, and a sprayer's terminal has honest
        // customers too.
        let spraying = self.tries > 0;
        match noticed {
            Noticed::Source if by_honest && !spraying => self.outcome.source_alarms += 1,
            Noticed::Bank if !spraying => self.outcome.bank_alarms += 1,
            Noticed::Source | Noticed::Bank if self.noticed_ms.is_none() => {
                self.noticed_ms = Some(now_ms);
                self.outcome.noticed_after = Some(self.tries);
            }
            Noticed::Source | Noticed::Bank => {}
        }
    }
}
