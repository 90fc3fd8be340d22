use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;
use crate::bank::test_bank::TestBank;
use crate::domain::{
    AccountNumber, AuditRecord, ClockMark, ClockPolicy, ClockReading, Pin, RequestedAmount,
};
use crate::store::memory::MemoryStore;
use crate::store::{Act, Done, Office, Order, OrderKind, RecordsAsked};
use crate::surroundings::{Guarded, Surroundings, Virtual};

const RIGHT: &str = "8264";
const WRONG: &str = "8265";
const INTERVAL_MS: i64 = 60_000;
const NEW_YEAR: Timestamp = Timestamp::from_unix_ms(1_767_225_600_000);

struct Rig {
    bank: Arc<Bank>,
    store: Arc<MemoryStore>,
    clock: Arc<Virtual>,
}

/// Surroundings where it is not known what the time is.
#[derive(Debug)]
struct Apart(Arc<Virtual>, Guarded);

impl Apart {
    fn over(clock: Arc<Virtual>) -> Self {
        let read = || ClockReading {
            wall: NEW_YEAR,
            boot_ms: 0,
        };
        let policy = ClockPolicy {
            jump_ms: 1,
            ahead_at_start_ms: 1,
        };
        let stamps = ClockMark::of_stamps(NEW_YEAR.plus_ms(1_000_000));
        Self(clock, Guarded::over(read, "one", Some(stamps), policy))
    }
}

impl Surroundings for Apart {
    fn now(&self) -> Timestamp {
        self.1.now()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn random(&self) -> [u8; 16] {
        self.0.random()
    }

    fn guarded(&self) -> Option<&Guarded> {
        Some(&self.1)
    }
}

fn terminal(name: &str) -> TerminalName {
    name.parse().unwrap()
}

fn anne() -> AccountNumber {
    "zz-00001".parse().unwrap()
}

fn nobody() -> AccountNumber {
    "zz-99999".parse().unwrap()
}

impl Rig {
    /// A bank with one account of 5.00, of which 1.00 may be taken.
    async fn new() -> Self {
        let clock = Arc::new(Virtual::new(NEW_YEAR, 1));
        Self::over(clock.clone(), clock).await
    }

    async fn over(clock: Arc<Virtual>, around: Arc<dyn Surroundings>) -> Self {
        let tried = TestBank::new(&around);
        tried.open("zz-00001", tried.hash(RIGHT).await, 500).await;
        let TestBank { bank, store } = tried;
        Self { bank, store, clock }
    }

    async fn records(&self) -> Vec<AuditRecord> {
        let asked = RecordsAsked {
            limit: usize::MAX,
            ..RecordsAsked::default()
        };
        let office = Office::of("test");
        match self.bank.office(&office, Act::Records(asked)).await {
            Ok(Done::Records(records)) => records.into_iter().map(|(record, _)| record).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// `event outcome terminal detail` of each record but the account's opening.
    async fn told(&self) -> Vec<String> {
        let records = self.records().await;
        let words = |record: &AuditRecord| {
            let terminal = record.terminal.as_deref().unwrap_or("-");
            let words = format!(
                "{} {} {terminal} {}",
                record.event, record.outcome, record.detail
            );
            words.trim_end().to_owned()
        };
        records.iter().skip(1).map(words).collect()
    }

    async fn try_pin(&self, account: AccountNumber, pin: &str) -> bool {
        let pin = Pin::parse(pin).unwrap();
        let login = self.bank.login(&terminal("t-1"), 7, account, pin).await;
        login.is_ok()
    }

    fn refused_at(&self, name: &str) -> Note {
        let note = Note::new(Event::Throttled, self.clock.now()).outcome("refused");
        note.by_terminal(terminal(name), Some(1))
    }

    async fn flood(&self, name: &str, times: u32) {
        for _ in 0..times {
            self.bank.note_bounded(self.refused_at(name)).await;
        }
    }
}

#[tokio::test]
async fn a_wrong_pin_is_on_record_before_it_is_answered_for_every_number_alike() {
    let rig = Rig::new().await;
    let mut told = Vec::new();
    for account in [anne(), nobody()] {
        let before = rig.told().await.len();
        for _ in 0..4 {
            assert!(!rig.try_pin(account, WRONG).await);
        }
        told.push(rig.told().await.split_off(before));
    }
    let expected = [
        "login wrong_pin t-1",
        "login wrong_pin t-1",
        "last_try counted t-1",
        "login wrong_pin t-1",
        "lock done t-1",
        "login locked_out t-1",
    ];
    assert_eq!(told, [expected, expected]);
    for record in rig.records().await.iter().skip(1) {
        let numbers = (record.connection, record.actor.as_str());
        assert_eq!(numbers, (Some(7), "terminal t-1"));
    }
}

#[tokio::test]
async fn a_wrong_pin_that_cannot_be_recorded_is_not_answered_as_one() {
    let rig = Rig::new().await;
    assert!(!rig.try_pin(anne(), WRONG).await);
    // The call that counts the try is let through, the one that writes the record is not.
    rig.store.faults().pass_first.store(1, Ordering::SeqCst);
    rig.store.faults().fail_before.store(1, Ordering::SeqCst);
    let pin = Pin::parse(WRONG).unwrap();
    let login = rig.bank.login(&terminal("t-1"), 7, anne(), pin).await;
    assert!(
        matches!(login, Err(crate::bank::Failure::Storage(_))),
        "{login:?}"
    );
}

#[tokio::test]
async fn a_right_last_try_leaves_no_lock_on_record() {
    let rig = Rig::new().await;
    for _ in 0..2 {
        assert!(!rig.try_pin(anne(), WRONG).await);
    }
    assert!(rig.try_pin(anne(), RIGHT).await);
    assert_eq!(
        rig.told().await[2..],
        ["last_try counted t-1", "login done t-1"]
    );
}

#[tokio::test]
async fn a_withdrawal_over_a_limit_is_on_record() {
    let rig = Rig::new().await;
    let pin = Pin::parse(RIGHT).unwrap();
    let opened = rig.bank.login(&terminal("t-1"), 7, anne(), pin).await;
    let mut session = opened.unwrap().session;
    let key = || "0123456789abcdef".parse().unwrap();
    let over = Order {
        key: key(),
        amount: RequestedAmount(101),
        kind: OrderKind::Withdraw,
    };
    let moved = rig.bank.move_all(&mut session, vec![over]).await;
    assert!(moved[0].is_err());
    let hold = rig
        .bank
        .authorize(&mut session, RequestedAmount(102), key());
    assert!(hold.await.is_err());
    let limit = "limit_hit refused t-1 limit 100, remaining 100";
    assert_eq!(rig.told().await, ["login done t-1", limit, limit]);
}

#[tokio::test]
async fn the_end_of_a_session_is_written_with_the_next_round() {
    let rig = Rig::new().await;
    let pin = Pin::parse(RIGHT).unwrap();
    let opened = rig.bank.login(&terminal("t-1"), 7, anne(), pin).await;
    let session = opened.unwrap().session;
    rig.bank.note_session_end(&session, "log-out");
    assert_eq!(rig.told().await.len(), 1);
    rig.bank.sweep().await.unwrap();
    assert_eq!(rig.told().await[1..], ["session_end done t-1 log-out"]);
    rig.bank.sweep().await.unwrap();
    assert_eq!(rig.told().await.len(), 2);
}

#[tokio::test]
async fn what_waits_is_written_once_the_store_can_again() {
    let rig = Rig::new().await;
    for text in ["a", "b"] {
        rig.bank
            .note_soon(Note::new(Event::Reload, rig.clock.now()).detail(text));
    }
    rig.store.faults().fail_before.store(1, Ordering::SeqCst);
    assert!(rig.bank.sweep().await.is_err());
    assert!(rig.told().await.is_empty());
    rig.bank.sweep().await.unwrap();
    assert_eq!(rig.told().await, ["reload done - a", "reload done - b"]);
}

#[tokio::test]
async fn a_flood_is_written_in_full_only_so_often_and_its_rest_as_a_count() {
    let rig = Rig::new().await;
    rig.flood("t-1", 1_264).await;
    let full = usize::try_from(limits::AUDIT_FLOOD_RECORDS_PER_TERMINAL_MAX).unwrap();
    assert_eq!(rig.told().await, vec!["throttled refused t-1"; full]);
    // Another terminal is not kept from the log by it.
    rig.flood("t-2", 1).await;
    rig.bank.sweep().await.unwrap();
    assert_eq!(rig.told().await.len(), full + 1);
    rig.clock.advance_ms(INTERVAL_MS);
    rig.bank.sweep().await.unwrap();
    assert_eq!(
        rig.told().await[full + 1..],
        ["suppressed counted t-1 throttled 1234"]
    );
    rig.flood("t-1", 1).await;
    assert_eq!(rig.told().await[full + 2..], ["throttled refused t-1"]);
}

#[tokio::test]
async fn what_waited_while_staff_set_time_back_is_not_of_a_time_to_come() {
    let rig = Rig::new().await;
    rig.clock.advance_ms(90 * INTERVAL_MS);
    let note = || Note::new(Event::Reload, rig.clock.now());
    rig.bank.note_soon(note());
    let (long, bounded) = (note(), note());
    rig.clock.advance_ms(-80 * INTERVAL_MS);
    rig.bank.write_waiting(false).await.unwrap();
    // As that of a command of staff that took long.
    rig.bank.note(long).await.unwrap();
    rig.bank.note_bounded(bounded).await;
    let now = rig.clock.now();
    let records = rig.records().await;
    assert_eq!(records.len(), 4);
    assert!(records.iter().skip(1).all(|record| record.at == now));
    // What only waited is of when it came.
    rig.bank.note_soon(Note::new(Event::Reload, now));
    rig.clock.advance_ms(INTERVAL_MS);
    rig.bank.write_waiting(false).await.unwrap();
    assert_eq!(rig.records().await.last().unwrap().at, now);
}

#[tokio::test]
async fn an_interval_ends_without_a_round_too() {
    let rig = Rig::new().await;
    rig.flood("t-1", 40).await;
    rig.clock.advance_ms(INTERVAL_MS);
    rig.flood("t-1", 1).await;
    assert_eq!(rig.told().await.len(), 31);
    rig.bank.write_waiting(true).await.unwrap();
    assert_eq!(
        rig.told().await[31..],
        ["suppressed counted t-1 throttled 10"]
    );
}

#[tokio::test]
async fn a_flood_from_all_sides_writes_no_more_than_the_whole_may_and_loses_no_count() {
    let rig = Rig::new().await;
    let names: Vec<String> = (0..300).map(|index| format!("t-{index:03}")).collect();
    for name in &names {
        rig.flood(name, 10).await;
    }
    let all = usize::try_from(limits::AUDIT_FLOOD_RECORDS_MAX).unwrap();
    assert_eq!(rig.told().await.len(), all);
    rig.bank.write_waiting(true).await.unwrap();
    let summaries = rig.told().await.split_off(all);
    assert_eq!(summaries.len(), limits::AUDIT_SUMMARIES_MAX + 1);
    let counts = summaries.iter().map(|words| {
        let count = words.rsplit(' ').next().unwrap();
        count.parse::<usize>().unwrap()
    });
    assert_eq!(counts.sum::<usize>() + all, 3_000);
    let last = summaries.last().unwrap();
    assert_eq!(last, "suppressed counted - throttled 1400");
}

#[tokio::test]
async fn terminals_beyond_those_remembered_are_counted_together() {
    let rig = Rig::new().await;
    let mut desk = Desk::default();
    for index in 0..limits::AUDIT_SOURCES_MAX + 5 {
        desk.admit(&rig.refused_at(&format!("t-{index}")));
    }
    assert_eq!(desk.sources.len(), limits::AUDIT_SOURCES_MAX);
    assert_eq!(desk.others.get(&Event::Throttled), Some(&5));
}

#[tokio::test]
async fn records_that_find_no_place_to_wait_are_counted() {
    let rig = Rig::new().await;
    let end = Note::new(Event::SessionEnd, rig.clock.now()).about(terminal("t-1"));
    let mut desk = Desk::default();
    for _ in 0..limits::AUDIT_WAITING_MAX + 3 {
        desk.wait(end.clone());
    }
    assert_eq!(desk.waiting.len(), limits::AUDIT_WAITING_MAX);
    assert_eq!(desk.others.get(&Event::SessionEnd), Some(&3));
}

#[tokio::test]
async fn records_of_a_round_that_failed_stay_before_what_came_since() {
    let rig = Rig::new().await;
    let rounds = limits::AUDIT_ROUND_RECORDS_MAX + 2;
    let texts: Vec<String> = (0..rounds).map(|index| format!("{index:04}")).collect();
    for text in &texts {
        rig.bank
            .note_soon(Note::new(Event::Reload, rig.clock.now()).detail(text));
    }
    rig.store.faults().fail_before.store(1, Ordering::SeqCst);
    assert!(rig.bank.sweep().await.is_err());
    rig.bank.sweep().await.unwrap();
    let told = texts.iter().map(|text| format!("reload done - {text}"));
    assert_eq!(rig.told().await, told.collect::<Vec<_>>());
}

#[tokio::test]
async fn of_a_round_that_failed_what_finds_no_place_any_more_is_counted() {
    let rig = Rig::new().await;
    let note = |text: &str| {
        let note = Note::new(Event::SessionEnd, rig.clock.now());
        note.about(terminal("t-1")).detail(text)
    };
    let mut desk = Desk::default();
    for _ in 0..limits::AUDIT_WAITING_MAX - 2 {
        desk.wait(note("since"));
    }
    desk.wait_again(["a", "b", "c", "d", "e"].map(note).to_vec());
    assert_eq!(desk.waiting.len(), limits::AUDIT_WAITING_MAX);
    let first: Vec<&str> = desk
        .waiting
        .iter()
        .map(|note| &*note.detail)
        .take(3)
        .collect();
    assert_eq!(first, ["a", "b", "since"]);
    assert_eq!(desk.others.get(&Event::SessionEnd), Some(&3));
}

#[tokio::test]
async fn a_refusal_that_cannot_be_written_is_counted_and_changes_no_answer() {
    let rig = Rig::new().await;
    rig.store.faults().fail_before.store(1, Ordering::SeqCst);
    rig.flood("t-1", 1).await;
    assert!(rig.told().await.is_empty());
    rig.bank.write_waiting(true).await.unwrap();
    assert_eq!(rig.told().await, ["suppressed counted t-1 throttled 1"]);
}

#[tokio::test]
async fn a_balance_is_no_sign_that_the_store_answers() {
    let rig = Rig::new().await;
    let pin = Pin::parse(RIGHT).unwrap();
    let opened = rig.bank.login(&terminal("t-1"), 7, anne(), pin).await;
    let mut session = opened.unwrap().session;
    rig.clock.advance_ms(5_000);
    assert_eq!(rig.bank.balance(&mut session).await.unwrap().balance, 500);
    assert_eq!(rig.bank.store_silent_for(), Duration::from_secs(5));
    rig.bank.sweep().await.unwrap();
    assert_eq!(rig.bank.store_silent_for(), Duration::ZERO);
}

#[tokio::test]
async fn where_nothing_is_over_the_store_is_heard_from_in_each_round_all_the_same() {
    let clock = Arc::new(Virtual::new(NEW_YEAR, 1));
    let around = Arc::new(Apart::over(Arc::clone(&clock)));
    let rig = Rig::over(clock, around).await;
    assert!(!rig.bank.knows_the_time());
    let before = rig.records().await;
    rig.clock.advance_ms(5_000);
    rig.bank.sweep().await.unwrap();
    assert_eq!(rig.bank.store_silent_for(), Duration::ZERO);
    assert_eq!(rig.records().await, before);
}

#[tokio::test]
async fn a_try_that_waited_for_a_place_is_of_when_it_is_counted() {
    let rig = Rig::new().await;
    for _ in 0..2 {
        assert!(!rig.try_pin(anne(), WRONG).await);
    }
    let mut near = Vec::new();
    for _ in 0..2 {
        let place = rig.bank.hasher().place().unwrap();
        near.push(place.come_up().await.unwrap());
    }
    let waited = async {
        assert!(rig.bank.hasher().is_busy());
        rig.clock.advance_ms(5_000);
        drop(near);
    };
    let (opened, ()) = tokio::join!(rig.try_pin(anne(), WRONG), waited);
    assert!(!opened);
    let records = rig.records().await;
    let counted = records.iter().find(|record| record.event == "last_try");
    assert_eq!(counted.unwrap().at, rig.clock.now());
}
