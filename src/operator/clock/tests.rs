use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::access::pepper::Peppers;
use crate::access::row_mac::Keyring;
use crate::bank::test_bank::TestBank;
use crate::domain::{ClockMark, ClockPolicy, ClockReading};
use crate::operator::{Command, NoFloor};
use crate::store::sqlite::{Cause, SqliteStore};
use crate::store::{Audit, StoreError};
use crate::surroundings::{Surroundings, System};

const NOON: i64 = 1_767_268_800_000;
const DAY: i64 = 86_400_000;
const JUMP_MS: u64 = 60_000;
/// A desk whose machine's wall clock a test sets.
struct Site {
    wall_ms: Arc<AtomicI64>,
    desk: Desk,
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        Self::begun(None)
    }

    /// As begun from what the store kept of the clock.
    fn begun(mark: Option<ClockMark>) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.unwrap();
        let wall_ms = Arc::new(AtomicI64::new(NOON));
        let wall = Arc::clone(&wall_ms);
        let read = move || ClockReading {
            wall: Timestamp::from_unix_ms(wall.load(Ordering::SeqCst)),
            boot_ms: 5_000,
        };
        let policy = ClockPolicy {
            jump_ms: JUMP_MS,
            ahead_at_start_ms: 7 * JUMP_MS,
        };
        let clock = Arc::new(Guarded::over(read, "one", mark, policy));
        let around: Arc<dyn Surroundings> = Arc::clone(&clock) as _;
        let currency = "USD".parse().unwrap();
        let keyring = Keyring::from(Arc::new(Peppers::generate(&System::default())));
        let path = folder.path().join("bank.db");
        let mark = move || Some(clock.mark());
        let now = around.now();
        let store = SqliteStore::open_with(&path, currency, now, keyring.clone(), mark, None);
        let bank = TestBank::over(store.unwrap(), keyring, &around).bank;
        Self {
            wall_ms,
            desk: Desk::new(bank, Arc::new(NoFloor)),
            folder,
        }
    }

    /// Sets the wall clock, which the bank looks at.
    fn step(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.clock().look();
    }

    fn clock(&self) -> &Guarded {
        self.desk.guarded().ok().unwrap()
    }

    async fn shown_ms(&self) -> Option<i64> {
        let shown = self.desk.perform("tester", Command::Clock).await;
        shown.data["wall_ahead_ms"].as_i64()
    }

    async fn accept(&self, wall_ahead_ms: Option<i64>) -> Report {
        let command = Command::AcceptClock { wall_ahead_ms };
        self.desk.perform("tester", command).await
    }

    async fn accepted(&self) -> Vec<AuditRecord> {
        let accepted = self.desk.accepted(&Office::of("tester")).await;
        accepted.ok().unwrap()
    }

    async fn outcomes(&self) -> Vec<String> {
        let records = self.accepted().await.into_iter();
        records.map(|record| record.outcome).collect()
    }

    async fn verify(&self) -> Audit {
        match self
            .desk
            .act(&Office::of("tester"), Act::Verify(None))
            .await
        {
            Ok(Done::Audit(audit)) => *audit,
            _ => panic!("no audit"),
        }
    }
}

#[tokio::test]
async fn the_wall_clock_is_taken_as_it_was_shown_and_never_as_it_is_by_then() {
    let site = Site::new();
    site.step(40 * DAY);
    let shown = site.shown_ms().await;
    assert_eq!(shown, Some(40 * DAY));
    let before = site.clock().state();
    site.step(1_000 * DAY);
    // What was shown is gone; and an older program does not say what was.
    for asked in [shown, None] {
        let refused = site.accept(asked).await;
        assert_eq!(refused.exit_code, 65, "{asked:?}: {}", refused.text);
        assert!(refused.text.contains("nothing was changed"));
        let state = site.clock().state();
        assert_eq!((state.trusted, state.guard), (before.trusted, before.guard));
    }
    assert!(site.accepted().await.is_empty());
    site.step(-1_000 * DAY + i64::try_from(JUMP_MS).unwrap());
    let taken = site.accept(shown).await;
    assert_eq!(taken.exit_code, 0, "{}", taken.text);
    assert_eq!(site.clock().state().ahead_ms(), 0);
    assert_eq!(site.outcomes().await, ["begun", "done"]);
    // What was shown before serves once.
    assert_eq!(site.accept(shown).await.exit_code, 65);
}

#[tokio::test]
async fn a_socket_without_the_difference_is_an_older_programs_and_is_refused_in_words() {
    let command = r#"{ "command": "accept_clock" }"#;
    let command = serde_json::from_str::<Command>(command).unwrap();
    let site = Site::new();
    let refused = site.desk.perform("tester", command).await;
    assert_eq!(refused.exit_code, 65);
    assert!(refused.text.contains("older program"), "{}", refused.text);
}

#[tokio::test]
async fn a_start_goes_on_with_what_a_crash_cut_off_after_the_clock_was_taken() {
    let site = Site::new();
    site.step(40 * DAY);
    let shown = site.shown_ms().await;
    assert_eq!(site.accept(shown).await.exit_code, 0);
    let invite = Command::Invite {
        terminal: "atm-1".to_owned(),
        code: [7; 32],
        valid_ms: 1_000,
    };
    assert_eq!(site.desk.perform("tester", invite).await.exit_code, 0);
    site.step(-40 * DAY);
    // As far as it comes before the crash.
    let shown = site.shown_ms().await.unwrap();
    let was = site.clock().accept(shown).ok().unwrap().trusted;
    let begun = Act::ClockTaken { was };
    assert!(site.desk.act(&Office::of("tester"), begun).await.is_ok());
    let audit = site.verify().await;
    let faults = audit.faults.join("\n");
    assert!(faults.contains("1 enrolment codes"), "{faults}");
    assert!(audit.noted.join("\n").contains("is not mended yet"));
    // Also where no server started since.
    let waits = async || {
        let shown = site.desk.perform("tester", Command::Clock).await;
        shown.data["mending_waits"].clone()
    };
    assert_eq!(waits().await, true);
    site.desk.resume_clock().await;
    assert_eq!(site.verify().await.faults, Vec::<String>::new());
    assert_eq!(site.outcomes().await, ["begun", "done", "begun", "done"]);
    let last = site.accepted().await.pop().unwrap();
    assert!(last.detail.starts_with(&format!("was {was}, ")));
    assert_eq!(waits().await, false);
    // There is nothing left to go on with.
    site.desk.resume_clock().await;
    assert_eq!(site.accepted().await.len(), 4);
}

#[tokio::test]
async fn where_the_time_is_not_known_mending_goes_on_once_it_is() {
    let stamps = Timestamp::from_unix_ms(NOON + 40 * DAY);
    let site = Site::begun(Some(ClockMark::of_stamps(stamps)));
    assert!(!site.clock().state().serves_money());
    let begun = Act::ClockTaken { was: stamps };
    assert!(site.desk.act(&Office::of("tester"), begun).await.is_ok());
    let mut resumed = Box::pin(site.desk.resume_clock());
    tokio::select! {
        () = &mut resumed => panic!("it did not wait"),
        () = tokio::time::sleep(Duration::from_millis(300)) => {}
    }
    assert_eq!(site.outcomes().await, ["begun"]);
    let waits = async || {
        let shown = site.desk.perform("tester", Command::Clock).await;
        let said = shown.text.contains("mending is not done");
        assert_eq!(shown.data["mending_waits"], said);
        said
    };
    assert!(waits().await);
    assert!(site.clock().accept(-40 * DAY).is_ok());
    resumed.await;
    assert!(!waits().await);
    assert_eq!(site.outcomes().await, ["begun", "done"]);
}

#[tokio::test]
async fn also_where_the_time_is_not_known_a_journal_that_is_gone_is_noticed() {
    let stamps = Timestamp::from_unix_ms(NOON + 40 * DAY);
    let site = Site::begun(Some(ClockMark::of_stamps(stamps)));
    assert!(!site.desk.bank.knows_the_time());
    site.desk.bank.sweep().await.unwrap();
    std::fs::remove_file(site.folder.path().join("bank.db-wal")).unwrap();
    let swept = site.desk.bank.sweep().await;
    let gone = matches!(swept, Err(StoreError::Disk(Cause::JournalGone, _)));
    assert!(gone, "{swept:?}");
}
