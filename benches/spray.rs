//! How often sprays are noticed, and honest customers troubled: prints tables of simulated days.
//! Nothing here depends on the machine; `cargo bench --bench spray [DAYS]` takes seconds.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a tool for the terminal"
)]

#[path = "../tests/it/spray/day.rs"]
mod day;

use day::{Day, Outcome, QUIET, Spray, play};

fn main() {
    let days = std::env::args().filter_map(|text| text.parse().ok()).next();
    let days: u64 = days.unwrap_or(50);
    quiet_days(days);
    sprayed_days(days);
}

fn quiet_days(days: u64) {
    println!("{days} days without a sprayer (fewer of the larger), 3 % typos, 100 terminals\n");
    println!(
        "| log-ins | walk away | spray_tries | alarms at a source | alarms of the bank | log-ins slowed | \
         unresolved at most |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let kinds = [
        (100_000, 200, 50),
        (100_000, 400, 50),
        (100_000, 600, 50),
        (100_000, 200, 25),
        (150_000, 200, 50),
        (200_000, 200, 50),
        (200_000, 200, 100),
        (1_000_000, 200, 500),
    ];
    for (logins, walk_away, spray_tries) in kinds {
        let days = days * 100_000 / logins as u64;
        let day = Day {
            logins,
            walk_away,
            spray_tries,
            ..QUIET
        };
        let all: Vec<Outcome> = (0..days.max(1)).map(|seed| play(day, seed)).collect();
        let sum = |of: fn(&Outcome) -> u64| all.iter().map(of).sum::<u64>();
        let most = all
            .iter()
            .map(|outcome| outcome.unresolved_max)
            .max()
            .unwrap_or(0);
        println!(
            "| {logins} | {} % | {spray_tries} | {} | {} | {} of {} | {most} |",
            walk_away / 100,
            sum(|outcome| outcome.source_alarms),
            sum(|outcome| outcome.bank_alarms),
            sum(|outcome| outcome.slowed),
            sum(|outcome| outcome.honest),
        );
    }
}

fn sprayed_days(days: u64) {
    println!(
        "\n{days} days of 100,000 honest log-ins with a sprayer from a random hour on, `spray_tries` 50\n"
    );
    println!(
        "| one try in | terminals | on each number | own log-ins between | missed | tries until noticed: median, most | tries in the hour after, in the sixth | honest log-ins slowed, turned away (% of the day's) |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let sprays = [
        (1_000, 1, false, 1),
        (10_000, 1, false, 1),
        (10_000, 1, true, 1),
        (60_000, 1, false, 1),
        (60_000, 1, true, 2),
        (300_000, 1, false, 1),
        (1_000, 10, false, 1),
        (10_000, 10, true, 1),
        (60_000, 10, false, 2),
        (1_000, 50, false, 1),
        (60_000, 50, false, 1),
        (1_000, 100, false, 1),
        (10_000, 100, true, 1),
        (60_000, 100, false, 1),
        (60_000, 100, false, 2),
        (120_000, 100, false, 1),
        (240_000, 100, false, 1),
        (600_000, 100, false, 1),
    ];
    for (pause_ms, terminals, diluted, tries_each) in sprays {
        let spray = Some(Spray {
            pause_ms,
            terminals,
            diluted,
            tries_each,
        });
        let day = Day { spray, ..QUIET };
        let all: Vec<Outcome> = (0..days).map(|seed| play(day, 1_000 + seed)).collect();
        println!(
            "| {} s | {terminals} | {tries_each} | {} | {} |",
            pause_ms / 1_000,
            if diluted { "yes" } else { "no" },
            row(&all)
        );
    }
}

fn row(all: &[Outcome]) -> String {
    let missed = |outcome: &&Outcome| outcome.noticed_after.is_none_or(|tries| tries >= 50);
    let missed = all.iter().filter(missed).count();
    let mut tries: Vec<u64> = all
        .iter()
        .filter_map(|outcome| outcome.noticed_after)
        .collect();
    tries.sort_unstable();
    let median = tries.get(tries.len() / 2).copied().unwrap_or(0);
    let most = tries.last().copied().unwrap_or(0);
    let never = all.len() - tries.len();
    let mean = |of: fn(&Outcome) -> u64| all.iter().map(of).sum::<u64>() as f64 / all.len() as f64;
    let share = |of: fn(&Outcome) -> u64| 100.0 * mean(of) / mean(|outcome| outcome.honest);
    format!(
        "{missed} of {}{} | {median}, {most} | {:.0}, {:.0} | {:.2}, {:.2}",
        all.len(),
        if never > 0 {
            format!(" ({never} never)")
        } else {
            String::new()
        },
        mean(|outcome| outcome.tries_first_hour),
        mean(|outcome| outcome.tries_sixth_hour),
        share(|outcome| outcome.slowed),
        share(|outcome| outcome.turned_away),
    )
}
