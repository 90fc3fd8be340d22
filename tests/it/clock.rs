//! Wall clocks that are wrong: nothing is forgotten, expired or stamped by them, staff see it, and
//! staff can mend what a wrong clock did.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Monitor, Server, Site, Terminal, key, until_async};

const DAY_MS: i64 = 86_400_000;

/// A site whose server's wall clock the test sets, by libfaketime.
struct Clocked {
    site: Site,
    monitor: Monitor,
    library: PathBuf,
}

impl Clocked {
    fn new(settings: &[(&str, &str)]) -> Option<Self> {
        let folders = fs::read_dir("/usr/lib").unwrap().flatten();
        let library = folders
            .map(|folder| folder.path().join("faketime/libfaketime.so.1"))
            .find(|library| library.is_file());
        let Some(library) = library else {
            println!("skipped: there is no libfaketime (Debian's package faketime)");
            return None;
        };
        let monitor = Monitor::free();
        let listen = monitor.setting();
        let mut all = vec![("metrics.listen", listen.as_str())];
        all.extend(settings);
        let clocked = Self {
            site: Site::with(&all),
            monitor,
            library,
        };
        clocked.set("+0");
        Some(clocked)
    }

    /// Sets the wall clock, for all programs of this site.
    fn set(&self, offset: &str) {
        let draft = self.site.path("wall.draft");
        fs::write(&draft, offset).unwrap();
        fs::rename(draft, self.site.path("wall")).unwrap();
    }

    fn program(&self) -> std::process::Command {
        let mut command = self.site.program();
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.site.path("wall"))
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_NO_CACHE", "1")
            .env("NO_FAKE_STAT", "1");
        command
    }

    fn start(&self) -> Server {
        Server::start(self.program(), &self.site.path("certs"))
            .unwrap_or_else(|ran| panic!("the server did not start: {ran:#?}"))
    }

    /// Waits until the server has looked at its clock and swept since.
    async fn wait_for_sweeps(&self) {
        let calls = "bank_committed_calls_total";
        let before = self.monitor.value(calls).await;
        self.monitor.wait_for(calls, |now| now >= before + 3).await;
    }
}

async fn codes_of_three_wrong_pins(server: &Server, account: &str) -> Vec<u16> {
    let mut codes = Vec::new();
    for _ in 0..4 {
        let mut terminal = server.terminal("terminal-2").await;
        codes.push(terminal.login(account, "7391").await.code());
    }
    codes
}

/// The records of an event, oldest first.
fn records(site: &Site, event: &str) -> Vec<Value> {
    let listed = site.run(&["audit", "--event", event, "--json"]).expect(0);
    listed.json()["records"].as_array().unwrap().clone()
}

fn clock(site: &Site) -> Value {
    site.run(&["clock", "--json"]).expect(0).json()
}

#[tokio::test]
async fn a_wall_clock_that_is_a_month_ahead_for_a_moment_moves_nothing_twice() {
    let Some(clocked) = Clocked::new(&[("accounts.daily_withdrawal_limit", "3000")]) else {
        return;
    };
    let server = clocked.start();
    let mut customer = server.customer("terminal-1", "wf-14351", "9834").await;
    let first = key();
    let deposited = customer.keyed("deposit", 500, &first).await.expect_code(0);
    let hold = customer.keyed("authorize", 1_000, &key()).await.hold();
    let codes = codes_of_three_wrong_pins(&server, "zz-99999").await;
    assert_eq!(codes, [20, 20, 20, 22]);
    clocked.set("+32d");
    clocked
        .monitor
        .wait_for("bank_clock_guarded", |on| on == 1)
        .await;
    clocked.wait_for_sweeps().await;
    // All that time would have done, were it believed.
    let again = customer.keyed("deposit", 500, &first).await.expect_code(0);
    assert!(again.replayed() && again.balance() == deposited.balance());
    customer.withdraw(1_000).await.expect_code(0);
    let mut elsewhere = server.terminal("terminal-2").await;
    elsewhere.login("zz-99999", "9999").await.expect_code(22);
    let (status, body) = clocked.monitor.get("/health/ready").await;
    assert!(
        status.contains("200") && body.contains("clock guarded"),
        "{body}"
    );
    let seen = clock(&clocked.site);
    assert_eq!(seen["guard"], "jumped");
    assert!(
        seen["wall_ahead_ms"].as_i64().unwrap() > 31 * DAY_MS,
        "{seen}"
    );
    assert_eq!(seen["accept"]["holds_over"], 1);
    assert!(seen["accept"]["tries_over"].as_i64() >= Some(1), "{seen}");
    clocked.set("+0");
    clocked
        .monitor
        .wait_for("bank_clock_difference_seconds", |off| off == 0)
        .await;
    clocked.wait_for_sweeps().await;
    let members = json!({ "hold": hold, "amount": 1_000, "key": key() });
    let captured = customer.ask("capture", members).await.expect_code(0);
    assert!(!captured.text().contains("late"), "{}", captured.text());
    let again = customer.keyed("deposit", 500, &first).await.expect_code(0);
    assert!(again.replayed());
    // The day has used what today used, and no more.
    customer.withdraw(1_001).await.expect_code(32);
    customer.withdraw(1_000).await.expect_code(0);
    assert_eq!(server.log().matches("the wall clock jumped").count(), 1);
    assert_eq!(records(&clocked.site, "clock_guarded").len(), 1);
    clocked.site.verify();
    server.stop();
}

#[tokio::test]
async fn a_start_in_the_same_boot_goes_on_by_the_trusted_clock() {
    let Some(clocked) = Clocked::new(&[]) else {
        return;
    };
    let server = clocked.start();
    let first = key();
    let mut customer = server.customer("terminal-1", "wf-14351", "9834").await;
    customer.keyed("deposit", 500, &first).await.expect_code(0);
    customer.close().await;
    server.kill();
    // Beyond the end of every certificate: they are judged by the bank's time.
    clocked.set("+3000d");
    let mut check = clocked.program();
    check.arg("check");
    let checked = crate::support::Ran::of(check, "").expect(0);
    assert!(
        checked.stdout.contains("warning: the wall clock jumped"),
        "{checked:#?}"
    );
    let server = clocked.start();
    server.wait_for_log("the wall clock jumped");
    let mut customer = server.customer("terminal-1", "wf-14351", "9834").await;
    let again = customer.keyed("deposit", 500, &first).await.expect_code(0);
    assert!(again.replayed());
    customer.close().await;
    let asked = clocked.site.run(&["clock", "accept"]).expect(64);
    assert!(asked.stderr.contains("--yes"), "{asked:#?}");
    let seen = clock(&clocked.site);
    assert_eq!(seen["guard"], "jumped");
    let ends = seen["ends"].to_string();
    assert!(ends.contains("the server's certificate ended"), "{seen}");
    server.stop();
    // A guard that stood still stands.
    clocked.set("+0");
    assert_eq!(clock(&clocked.site)["guard"], "jumped");
    clocked.site.verify();
}

#[tokio::test]
async fn a_wrong_clock_that_staff_accepted_is_mended_when_they_accept_the_right_one() {
    let Some(clocked) = Clocked::new(&[("accounts.daily_withdrawal_limit", "3000")]) else {
        return;
    };
    let server = clocked.start();
    // Staff err, and the time that comes is stamped on all that is done.
    clocked.set("+40d");
    clocked
        .monitor
        .wait_for("bank_clock_guarded", |on| on == 1)
        .await;
    let shown = clocked.site.run(&["clock"]).expect(0).stdout;
    let taken = clocked.site.run(&["clock", "accept", "--yes"]).expect(0);
    // What it would do is told first, without a question too.
    let effects = |text: &str| text.contains("takes the wall clock's as the time.");
    assert!(effects(&shown) && effects(&taken.stderr), "{taken:#?}");
    assert_eq!(clock(&clocked.site)["guard"], Value::Null);
    let outcomes = records(&clocked.site, "clock_accepted");
    let outcomes: Vec<&Value> = outcomes.iter().map(|record| &record["outcome"]).collect();
    assert_eq!(outcomes, ["begun", "done"]);
    let mut customer = server.customer("terminal-1", "wf-14351", "9834").await;
    let second = key();
    customer
        .keyed("withdraw", 2_000, &second)
        .await
        .expect_code(0);
    let hold = customer.keyed("authorize", 500, &key()).await.hold();
    clocked.set("+0");
    clocked
        .monitor
        .wait_for("bank_clock_guarded", |on| on == 1)
        .await;
    let effects = clock(&clocked.site)["accept"].clone();
    for what in [
        "entries_ahead",
        "records_ahead",
        "days_ahead",
        "holds_ahead",
        "keys_ahead",
    ] {
        assert!(effects[what].as_i64() >= Some(1), "{what} in {effects}");
    }
    // Trusted time is past what is stamped; only once it is set back is that of the future.
    clocked.site.verify();
    clocked.site.run(&["clock", "accept", "--yes"]).expect(0);
    let audit = clocked.site.verify();
    let noted = audit["noted"].to_string();
    assert!(
        noted.contains("entries up to") && noted.contains("records up to"),
        "{noted}"
    );
    // The account is back in today: what was withdrawn in the future is no use of today's limit, the
    // hold is.
    let again = customer
        .keyed("withdraw", 2_000, &second)
        .await
        .expect_code(0);
    assert!(again.replayed());
    customer.withdraw(2_501).await.expect_code(32);
    customer.withdraw(2_500).await.expect_code(0);
    let members = json!({ "hold": hold, "amount": 500, "key": key() });
    customer.ask("capture", members).await.expect_code(0);
    clocked.site.verify();
    server.stop();
}

/// Makes the store one that was last used in another boot of the machine, so long ago by its clock.
fn came_from_another_boot(site: &Site, ago_ms: i64) {
    let store = Connection::open(site.path("data/bank.db")).unwrap();
    let sql = "UPDATE clock SET boot = 'another', trusted = trusted - ?1";
    assert_eq!(store.execute(sql, [ago_ms]).unwrap(), 1);
}

#[tokio::test]
async fn after_a_boot_a_wall_clock_too_far_ahead_serves_no_money_until_staff_accept_it() {
    let monitor = Monitor::free();
    let site = Site::with(&[("metrics.listen", &monitor.setting())]);
    came_from_another_boot(&site, 7 * DAY_MS + 60_000);
    let server = site.start();
    let mut terminal = server.terminal("terminal-1").await;
    terminal.ping().await.expect_code(0);
    terminal.login("wf-14351", "9834").await.expect_code(51);
    let members = json!({ "hold": "none-of-ours", "amount": 5, "key": key() });
    terminal.ask("capture", members).await.expect_code(51);
    let (status, body) = monitor.get("/health/ready").await;
    assert!(
        status.contains("503") && body.contains("no money"),
        "{status} {body}"
    );
    let (status, _) = monitor.get("/health/live").await;
    assert!(status.contains("200"), "{status}");
    let seen = clock(&site);
    assert_eq!(
        (&seen["guard"], &seen["serves_money"]),
        (&json!("apart_at_start"), &json!(false))
    );
    site.run(&["clock", "accept", "--yes"]).expect(0);
    terminal.login("wf-14351", "9834").await.expect_code(0);
    let (status, _) = monitor.get("/health/ready").await;
    assert!(status.contains("200"), "{status}");
    server.stop();
    site.verify();
    // Within what is configured it is believed.
    came_from_another_boot(&site, 7 * DAY_MS - 60_000);
    assert_eq!(clock(&site)["guard"], Value::Null);
    // The first who opens the store puts that on record.
    let believed = records(&site, "clock_believed").into_iter();
    let told = believed.filter(|record| record["detail"].to_string().contains("ahead of the last"));
    assert_eq!(told.count(), 1);
}

/// Makes the store one that kept no clock, whose newest stamp is so far ahead of the wall clock.
fn kept_no_clock(site: &Site, ahead_ms: i64) {
    let store = Connection::open(site.path("data/bank.db")).unwrap();
    let sql = "UPDATE clock SET boot = '', boottime = 0, ahead = 0, guard = 0, corrections = '', \
               trusted = trusted + ?1";
    assert_eq!(store.execute(sql, [ahead_ms]).unwrap(), 1);
}

#[tokio::test]
async fn a_stamp_ahead_in_a_store_that_kept_no_clock_loses_nothing_until_staff_accept_the_wall_clock()
 {
    let monitor = Monitor::free();
    let site = Site::with(&[("metrics.listen", &monitor.setting())]);
    let server = site.start();
    let first = key();
    let mut customer = server.customer("terminal-1", "wf-14351", "9834").await;
    customer.keyed("deposit", 500, &first).await.expect_code(0);
    let hold = customer.keyed("authorize", 1_000, &key()).await.hold();
    let codes = codes_of_three_wrong_pins(&server, "zz-99999").await;
    assert_eq!(codes, [20, 20, 20, 22]);
    customer.close().await;
    server.stop();
    kept_no_clock(&site, 40 * DAY_MS);
    let server = site.start();
    let mut terminal = server.terminal("terminal-1").await;
    terminal.login("wf-14351", "9834").await.expect_code(51);
    server.wait_for_log("no money is served, and nothing is forgotten");
    let (status, _) = monitor.get("/health/ready").await;
    assert!(status.contains("503"), "{status}");
    // By the time that a terminal is told, none of its orders is too old to be repeated.
    let told = terminal.ping().await.expect_code(0).text();
    let seen = clock(&site);
    assert_eq!(seen["guard"], "apart_at_start");
    let day = |moment: &Value| moment.as_str().unwrap()[..10].to_owned();
    assert!(told.contains(&day(&seen["wall"])), "{told} in {seen}");
    assert!(
        seen["wall_ahead_ms"].as_i64().unwrap() < -39 * DAY_MS,
        "{seen}"
    );
    // A guard that stood still stands.
    server.stop();
    let checked = site.run(&["check"]).expect(0);
    assert!(
        checked.stdout.contains("no money") && checked.stdout.contains("clock accept"),
        "{checked:#?}"
    );
    let server = site.start();
    let mut terminal = server.terminal("terminal-1").await;
    terminal.login("wf-14351", "9834").await.expect_code(51);
    site.run(&["clock", "accept", "--yes"]).expect(0);
    terminal.login("wf-14351", "9834").await.expect_code(0);
    let again = terminal.keyed("deposit", 500, &first).await.expect_code(0);
    assert!(again.replayed());
    let members = json!({ "hold": hold, "amount": 1_000, "key": key() });
    let captured = terminal.ask("capture", members).await.expect_code(0);
    assert!(!captured.text().contains("late"), "{}", captured.text());
    let mut elsewhere = server.terminal("terminal-2").await;
    elsewhere.login("zz-99999", "9999").await.expect_code(22);
    server.stop();
    site.verify();
}

#[tokio::test]
async fn a_restore_says_if_the_next_start_cannot_tell_the_time() {
    let site = Site::with(&[]);
    let restored = |backup: &str| {
        site.run(&["backup", backup]).expect(0);
        site.run(&["restore", backup, "--json"]).expect(0).json()["warning"].clone()
    };
    assert_eq!(restored("right.db"), Value::Null);
    kept_no_clock(&site, 40 * DAY_MS);
    let warning = restored("ahead.db");
    let warning = warning.as_str().unwrap();
    assert!(
        warning.contains("no money") && warning.contains("clock accept"),
        "{warning}"
    );
    assert_eq!(clock(&site)["guard"], "apart_at_start");
}

#[tokio::test]
async fn after_a_boot_a_wall_clock_behind_is_served_guarded_and_time_goes_on() {
    let site = Site::with(&[]);
    came_from_another_boot(&site, -2 * DAY_MS);
    let server = site.start();
    server.wait_for_log("behind the last trusted moment");
    let mut customer = server.customer("terminal-1", "wf-14351", "9834").await;
    customer.deposit(100).await.expect_code(0);
    let entries = customer.history(1).await.expect_code(0).text();
    let seen = clock(&site);
    assert_eq!(seen["guard"], "behind_at_start");
    let day = &seen["trusted"].as_str().unwrap()[..10];
    assert!(entries.contains(day), "{day} in {entries}");
    server.stop();
    // A guard that stood still stands, though all was in the same boot.
    assert_eq!(clock(&site)["guard"], "behind_at_start");
    site.verify();
}

#[tokio::test]
async fn a_running_bank_keeps_its_clock_with_what_it_commits() {
    let site = Site::with(&[]);
    let store = || Connection::open(site.path("data/bank.db")).unwrap();
    let server = site.start();
    let stored = || -> (i64, String) {
        let sql = "SELECT boottime, boot FROM clock";
        store()
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
    };
    let (before, boot) = stored();
    assert_eq!(boot.len(), 36);
    let mut customer: Terminal = server.customer("terminal-1", "wf-14351", "9834").await;
    // Each second at most.
    until_async("the clock to be written", async || {
        customer.deposit(1).await.expect_code(0);
        (stored().0 > before).then_some(())
    })
    .await;
    server.stop();
}
