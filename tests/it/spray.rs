//! PIN spraying: noticed before 50 tries and slowed, with honest customers left alone. On the
//! detector alone in simulated days, and from outside on a server.

mod day;

use tokio::task::JoinSet;

use self::day::{Day, QUIET, Spray, play};
use crate::support::{Server, Site, Terminal};

const WRONG: &str = "7391";

#[test]
fn on_quiet_days_nobody_is_taken_for_a_sprayer_and_no_honest_log_in_is_slowed() {
    for seed in 1..=4 {
        let outcome = play(QUIET, seed);
        let alarms = outcome.source_alarms + outcome.bank_alarms;
        assert_eq!((alarms, outcome.slowed), (0, 0), "seed {seed}: {outcome:?}");
        assert!(outcome.unresolved_max < 35, "seed {seed}: {outcome:?}");
    }
}

#[test]
fn on_simulated_days_every_spray_of_a_try_a_minute_is_noticed_before_50_tries() {
    let paces = [1_000, 10_000, 60_000];
    let spreads = [
        (1, false, 1),
        (1, true, 2),
        (10, false, 2),
        (50, false, 1),
        (100, true, 1),
        (100, false, 2),
    ];
    for (index, (terminals, diluted, tries_each)) in spreads.into_iter().enumerate() {
        for pause_ms in paces {
            let spray = Spray {
                pause_ms,
                terminals,
                diluted,
                tries_each,
            };
            let seed = 100 * index as u64 + pause_ms;
            let day = Day {
                spray: Some(spray),
                ..QUIET
            };
            let outcome = play(day, seed);
            let told = format!("seed {seed}: {spray:?} {outcome:?}");
            assert!(
                outcome.noticed_after.is_some_and(|tries| tries < 50),
                "{told}"
            );
            // 15 s, doubled until it is 15 min: eight tries of each terminal, then four an hour.
            let terminals = terminals as u64;
            assert!(outcome.tries_first_hour <= 10 * terminals, "{told}");
            assert!(outcome.tries_sixth_hour <= 5 * terminals, "{told}");
            assert_eq!(outcome.bank_alarms, 0, "{told}");
        }
    }
}

fn unknown(index: usize) -> String {
    format!("qq-{index:05}")
}

/// One try over a connection of its own: the code, and how long to wait where it says so.
async fn attempt(server: &Server, name: &str, account: &str, pin: &str) -> (u16, Option<u64>) {
    let mut terminal = server.terminal(name).await;
    let reply = terminal.login(account, pin).await;
    (reply.code(), reply.answer.members.retry_after_ms)
}

#[tokio::test]
async fn a_terminal_that_sprays_is_noticed_and_slowed_and_others_are_served() {
    let mut site = Site::with(&[("limits.spray_tries", "10")]);
    let server = site.start();
    for index in 0..8 {
        let (code, _) = attempt(&server, "terminal-1", &unknown(index), WRONG).await;
        assert_eq!(code, 20, "try {index}");
    }
    server.wait_for_log("spray noticed");
    let log = server.log();
    let line = log.lines().find(|line| line.contains("spray noticed"));
    let line = line.unwrap();
    assert!(
        line.contains("WARN") && line.contains("terminal-1"),
        "{line}"
    );
    assert!(
        line.contains("where=\"source\"") && !line.contains("qq-"),
        "{line}"
    );
    // No PIN is looked at, right or wrong, and no try is counted.
    for pin in ["9999", WRONG, WRONG, WRONG] {
        let (code, wait) = attempt(&server, "terminal-1", "zz-99999", pin).await;
        assert_eq!(code, 40);
        assert!((1..=15_000).contains(&wait.unwrap()), "{wait:?}");
    }
    assert_eq!(
        attempt(&server, "terminal-2", "zz-99999", "9999").await.0,
        0
    );
    // A reload forgets nothing, unless it ends it.
    server.reload();
    assert_eq!(
        attempt(&server, "terminal-1", "zz-99999", "9999").await.0,
        40
    );
    site.set("limits.spray_tries", "0");
    server.reload();
    assert_eq!(
        attempt(&server, "terminal-1", "ac-12345", "1324").await.0,
        0
    );
    server.stop();
    let noticed = site.run(&["audit", "--json", "--event", "spray_noticed"]);
    let noticed = noticed.expect(0).json()["records"].clone();
    assert_eq!(noticed.as_array().unwrap().len(), 1, "{noticed}");
    assert_eq!(noticed[0]["terminal"], "terminal-1");
    assert_eq!(noticed[0]["detail"], "source");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_numbers_tried_at_once_from_one_terminal_forty_are_looked_at() {
    let site = Site::with(&[("limits.spray_tries", "50")]);
    let server = site.start();
    let mut tries = JoinSet::new();
    for index in 0..200 {
        let (address, card) = (server.address, server.card("terminal-2"));
        tries.spawn(async move {
            let mut terminal = Terminal::connect(address, card).await;
            terminal.login(&unknown(index), WRONG).await.code()
        });
    }
    let codes = tries.join_all().await;
    let count = |code| codes.iter().filter(|seen| **seen == code).count();
    assert_eq!((count(20), count(40)), (40, 160), "{codes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_honest_customers_log_in_at_once_at_one_terminal() {
    let site = Site::with(&[("limits.spray_tries", "5")]);
    let accounts: String = (0..100)
        .map(|index| format!("aa-{index:05}, 4862, 0\n"))
        .collect();
    site.import(&accounts).expect(0);
    let server = site.start();
    let mut customers = JoinSet::new();
    for index in 0..100 {
        let (address, card) = (server.address, server.card("terminal-2"));
        customers.spawn(async move {
            let mut terminal = Terminal::connect(address, card).await;
            let account = format!("aa-{index:05}");
            terminal.login(&account, "4862").await.code()
        });
    }
    let codes = customers.join_all().await;
    assert!(codes.iter().all(|code| *code == 0), "{codes:?}");
}
