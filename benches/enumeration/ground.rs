//! A bank to be measured: accounts of two costs, some closed, or numbers that are locked.

use std::collections::BTreeMap;

use atm_bank::operator::{Command, socket};
use atm_bank::surroundings::Virtual;
use clap::ValueEnum;

use crate::support::{Server, Site};
use crate::{Arguments, shuffle};

/// The PIN of every account.
const PIN: &str = "8264";
/// The PIN of every try.
pub(crate) const WRONG_PIN: &str = "7391";
/// Account numbers with the letters `zz`.
const NUMBERS: usize = 100_000;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Phase {
    /// Hashes of both costs stand in the store.
    Mixed,
    /// All hashes have the raised cost.
    Raised,
    /// No PIN is looked at: all numbers are locked by wrong ones.
    Locked,
}

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Of an open account.
    Known,
    /// Nobody's.
    Unknown,
    /// Of a closed account.
    Closed,
}

/// A served bank, and numbers of each class.
pub(crate) struct Ground {
    pub(crate) server: Server,
    pub(crate) numbers: BTreeMap<Class, Vec<String>>,
    /// What it is, to be printed.
    pub(crate) words: String,
    _site: Site,
}

impl Ground {
    /// A bank for that phase. Which numbers are of which class is random.
    pub(crate) async fn prepare(phase: Phase, arguments: &Arguments, dice: &Virtual) -> Self {
        let mut all: Vec<String> = (0..NUMBERS).map(|n| format!("zz-{n:05}")).collect();
        shuffle(&mut all, dice);
        let classes: &[Class] = match phase {
            Phase::Mixed | Phase::Raised => &[Class::Known, Class::Unknown, Class::Closed],
            Phase::Locked => &[Class::Known, Class::Unknown],
        };
        let shares = all.chunks(arguments.numbers).map(<[String]>::to_vec);
        let numbers: BTreeMap<Class, Vec<String>> = classes.iter().copied().zip(shares).collect();
        let accounts: Vec<&String> = numbers
            .iter()
            .filter(|(class, _)| **class != Class::Unknown)
            .flat_map(|(_, numbers)| numbers)
            .collect();
        let old_percent = match phase {
            Phase::Mixed => arguments.old_percent,
            Phase::Raised | Phase::Locked => 0,
        };
        let site = site(phase, arguments, &accounts, old_percent);
        let server = site.start();
        close(&site, numbers.get(&Class::Closed)).await;
        let words = format!(
            "{} accounts, {old_percent} % at {} KiB and {} passes, the others at {} KiB and {} passes; {} numbers a class",
            accounts.len(),
            arguments.old_memory_kib,
            arguments.old_iterations,
            arguments.memory_kib,
            arguments.iterations,
            arguments.numbers,
        );
        let ground = Self {
            server,
            numbers,
            words,
            _site: site,
        };
        if phase == Phase::Locked {
            ground.lock_all().await;
        }
        ground
    }

    /// One wrong PIN for each number, which is all it has.
    async fn lock_all(&self) {
        let all: Vec<&String> = self.numbers.values().flatten().collect();
        for pair in all.chunks(crate::TRIES_PER_CONNECTION) {
            let mut terminal = self.server.terminal("terminal-2").await;
            for number in pair {
                terminal.login(number, WRONG_PIN).await.expect_code(20);
            }
            terminal.close().await;
        }
    }
}

/// A bank with these accounts, some of the old cost and the others of the raised one.
fn site(phase: Phase, arguments: &Arguments, accounts: &[&String], old_percent: usize) -> Site {
    let tries = match phase {
        Phase::Locked => "1",
        Phase::Mixed | Phase::Raised => "1000000000",
    };
    let mut site = Site::bare(&[("pin.tries", tries), ("pin.max_concurrent", "4")]);
    let lines = |of_old: bool| -> String {
        let is_old = |index: usize| index % 100 < old_percent;
        accounts
            .iter()
            .enumerate()
            .filter(|(index, _)| is_old(*index) == of_old)
            .map(|(_, number)| format!("{number}, {PIN}, 0\n"))
            .collect()
    };
    set_cost(
        &mut site,
        arguments.old_memory_kib,
        arguments.old_iterations,
    );
    import(&site, &lines(true));
    set_cost(&mut site, arguments.memory_kib, arguments.iterations);
    import(&site, &lines(false));
    site
}

fn set_cost(site: &mut Site, memory_kib: u32, iterations: u32) {
    site.set("pin.memory_kib", &memory_kib.to_string());
    site.set("pin.iterations", &iterations.to_string());
}

fn import(site: &Site, lines: &str) {
    if !lines.is_empty() {
        site.import(lines).expect(0);
    }
}

/// Closes accounts in the running server.
async fn close(site: &Site, numbers: Option<&Vec<String>>) {
    for number in numbers.into_iter().flatten() {
        let command = Command::Close {
            account: number.clone(),
        };
        let report = socket::ask(&site.path("data/operator.sock"), &command).await;
        assert_eq!(report.unwrap().unwrap().report.exit_code, 0);
    }
}
