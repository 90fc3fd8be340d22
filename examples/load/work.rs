//! What terminals ask: ops by weight, and chances that repeat from a seed.

use std::str::FromStr;

/// An op that load is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Deposit,
    Withdraw,
    Transfer,
    Balance,
    History,
    Ping,
}

impl Op {
    const ALL: [(&'static str, Self); 6] = [
        ("deposit", Self::Deposit),
        ("withdraw", Self::Withdraw),
        ("transfer", Self::Transfer),
        ("balance", Self::Balance),
        ("history", Self::History),
        ("ping", Self::Ping),
    ];

    /// Its name on the wire.
    pub(crate) fn name(self) -> &'static str {
        let (name, _) = Self::ALL.iter().find(|(_, op)| *op == self).unwrap();
        name
    }

    pub(crate) fn moves_money(self) -> bool {
        matches!(self, Self::Deposit | Self::Withdraw | Self::Transfer)
    }
}

/// Ops by weight, asked in turn.
#[derive(Debug, Clone)]
pub(crate) struct Mix {
    text: String,
    cycle: Vec<Op>,
}

impl Mix {
    pub(crate) fn turn(&self, turn: u64) -> Op {
        let length = u64::try_from(self.cycle.len()).unwrap();
        self.cycle[usize::try_from(turn % length).unwrap()]
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cycle = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let known = Op::ALL.iter().find(|(known, _)| *known == name);
            let (_, op) = known.ok_or_else(|| format!("{name} is no op of a mix"))?;
            let weight: usize = weight
                .parse()
                .map_err(|_| format!("{weight} is no weight"))?;
            if weight > 1_000 {
                return Err("a weight is 1000 at most".to_owned());
            }
            cycle.extend(std::iter::repeat_n(*op, weight));
        }
        if cycle.is_empty() {
            return Err("the mix is empty".to_owned());
        }
        Ok(Self {
            text: text.replace(',', " "),
            cycle,
        })
    }
}

/// Chance that repeats from a seed (SplitMix64 of Steele, Lea and Flood, 2014).
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is far below 2^64, so that the remainder favours nobody to speak of.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap();
        usize::try_from(self.next() % bound).unwrap()
    }
}
