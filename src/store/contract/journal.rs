//! The journal that a crash left, damaged: what was answered is never dropped without a word.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::rig::*;
use crate::store::StoreError;
use crate::store::sqlite::{Cause, OpenError, SqliteStore, beside};

/// Flips of a bit before the last transaction, and within it; more where there is time for more.
fn flips() -> usize {
    let asked = std::env::var("JOURNAL_FLIPS").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(60)
}

/// What a crash leaves: the store, its journal, and where in it the last transaction begins.
struct Crash {
    store: Vec<u8>,
    journal: Vec<u8>,
    last: usize,
}

/// A frame of the journal: its header and a page.
const FRAME: usize = 24 + 4_096;

/// A bank that crashed after [`deposits`].
async fn crash(rig: &mut Rig) -> Crash {
    rig.open(ANNE, 1_000).await;
    deposits(rig).await
}

/// Thirty deposits that were answered, each a transaction.
async fn deposits(rig: &mut Rig) -> Crash {
    let anne = rig.log_in(ANNE).await;
    let read = |suffix| fs::read(beside(&rig.path(), suffix)).unwrap();
    let mut last = 0;
    for _ in 0..30 {
        last = read("-wal").len();
        rig.deposit(&anne, 1).await.unwrap();
    }
    let (store, journal) = (read(""), read("-wal"));
    rig.shut_store();
    assert_eq!((journal.len() - 32) % FRAME, 0);
    Crash {
        store,
        journal,
        last,
    }
}

impl Crash {
    fn put(&self, path: &Path, journal: &[u8]) {
        let _ = fs::remove_file(beside(path, "-shm"));
        fs::write(path, &self.store).unwrap();
        fs::write(beside(path, "-wal"), journal).unwrap();
    }
}

fn open(rig: &Rig, accept_loss: Option<&str>) -> Result<SqliteStore, OpenError> {
    let (path, keyring) = (rig.path(), rig.keyring.clone());
    SqliteStore::open_with(&path, dollars(), NEW_YEAR, keyring, || None, accept_loss)
}

/// Numbers of a generator that repeats.
pub(super) fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % below
    }
}

#[tokio::test]
async fn a_bit_that_flips_before_the_journals_last_transaction_is_refused_and_changes_nothing() {
    let mut rig = Rig::sqlite();
    // Of a store that was made just now, and of one whose journal holds nothing but the deposits.
    let young = crash(&mut rig).await;
    rig.open_store();
    let old = deposits(&mut rig).await;
    let mut dice = dice(7);
    for round in 0..flips() {
        let crash = if round % 2 == 0 { &young } else { &old };
        let (octet, bit) = (dice(crash.last), dice(8));
        let mut journal = crash.journal.clone();
        journal[octet] ^= 1 << bit;
        crash.put(&rig.path(), &journal);
        match open(&rig, None) {
            Err(OpenError::Loss { .. }) => {}
            other => panic!("octet {octet}, bit {bit}: {other:?}"),
        }
        assert_eq!(fs::read(rig.path()).unwrap(), crash.store);
        assert_eq!(fs::read(beside(&rig.path(), "-wal")).unwrap(), journal);
    }
}

#[tokio::test]
async fn a_last_transaction_that_is_damaged_in_itself_is_a_power_cut_and_is_not_named() {
    let mut rig = Rig::sqlite();
    let crash = crash(&mut rig).await;
    let mut dice = dice(8);
    let length = crash.journal.len();
    for round in 0..flips() {
        let mut journal = crash.journal.clone();
        match round % 3 {
            0 => journal[crash.last + dice(length - crash.last)] ^= 1 << dice(8),
            1 => journal.truncate(crash.last + dice(length - crash.last)),
            // A frame of it that never reached the disk.
            _ => {
                let frames = (length - crash.last) / FRAME;
                let at = crash.last + dice(frames) * FRAME;
                journal[at..at + FRAME].fill(0);
            }
        }
        crash.put(&rig.path(), &journal);
        let store = open(&rig, None).unwrap_or_else(|error| panic!("round {round}: {error}"));
        rig.store = Some(std::sync::Arc::new(store));
        let audit = rig.verify(None).await;
        assert_eq!((audit.faults, audit.entries), (Vec::new(), 30));
        rig.shut_store();
    }
    crash.put(&rig.path(), &crash.journal);
    rig.open_store();
    assert_eq!(rig.verify(None).await.entries, 31);
}

#[tokio::test]
async fn a_loss_is_accepted_by_its_name_alone_and_its_journal_kept_and_on_record() {
    let mut rig = Rig::sqlite();
    let crash = crash(&mut rig).await;
    let mut journal = crash.journal.clone();
    let damaged = crash.last - 20 * FRAME + 1_000;
    journal[damaged] ^= 1;
    crash.put(&rig.path(), &journal);
    let Err(OpenError::Loss { entry, name, .. }) = open(&rig, None) else {
        panic!("no loss");
    };
    assert!((5..30).contains(&entry), "{entry}");
    assert!(name.starts_with(&format!("{entry}-")), "{name}");
    let other = format!("{name}0");
    assert!(matches!(
        open(&rig, Some(&other)),
        Err(OpenError::Loss { .. })
    ));
    rig.store = Some(std::sync::Arc::new(open(&rig, Some(&name)).unwrap()));
    let kept = beside(&rig.path(), &format!("-wal.lost-{name}"));
    assert_eq!(fs::read(&kept).unwrap(), journal);
    let (record, _) = rig.records().await.pop().unwrap();
    assert_eq!(record.event, "loss_accepted");
    assert!(record.detail.contains(&name), "{}", record.detail);
    let audit = rig.verify(None).await;
    assert_eq!(
        (audit.faults, audit.entries),
        (Vec::new(), u64::try_from(entry).unwrap())
    );
    rig.shut_store();
    // The flag may stay where it is: there is no loss any more.
    assert!(open(&rig, Some(&name)).is_ok());
}

#[tokio::test]
async fn a_backup_that_was_copied_over_a_store_beside_its_journal_is_refused_and_nothing_is_gone() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    rig.open(BERT, 1_000).await;
    let copy = rig.folder.as_ref().unwrap().path().join("copy.db");
    rig.act(crate::store::Act::Backup(copy.clone())).await;
    let bert = rig.log_in(BERT).await;
    for _ in 0..200 {
        rig.deposit(&bert, 1).await.unwrap();
    }
    rig.shut_store();
    rig.open_store();
    let crash = deposits(&mut rig).await;
    crash.put(&rig.path(), &crash.journal);
    fs::copy(&copy, rig.path()).unwrap();
    let refused = open(&rig, None);
    assert!(
        matches!(refused, Err(OpenError::Apart { .. })),
        "{refused:?}"
    );
    assert_eq!(fs::read(rig.path()).unwrap(), fs::read(&copy).unwrap());
    assert_eq!(
        fs::read(beside(&rig.path(), "-wal")).unwrap(),
        crash.journal
    );
    // With the old file put back all is there.
    fs::write(rig.path(), &crash.store).unwrap();
    rig.open_store();
    let audit = rig.verify(None).await;
    assert_eq!((audit.faults, audit.entries), (Vec::new(), 2 + 200 + 30));
}

/// What stands at the path does not fit the crash's journal: it is refused, nothing is changed, and with the crash's
/// own file put back nothing is gone.
async fn is_another_stores(rig: &mut Rig, crash: &Crash, other: &[u8], entries: u64) {
    crash.put(&rig.path(), &crash.journal);
    fs::write(rig.path(), other).unwrap();
    for refused in [
        open(rig, None).map(drop),
        SqliteStore::try_open(&rig.path()),
    ] {
        assert!(
            matches!(refused, Err(OpenError::Apart { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(fs::read(rig.path()).unwrap(), other);
    let journal = fs::read(beside(&rig.path(), "-wal")).unwrap();
    assert_eq!(journal, crash.journal);
    crash.put(&rig.path(), &crash.journal);
    rig.open_store();
    let audit = rig.verify(None).await;
    assert_eq!((audit.faults, audit.entries), (Vec::new(), entries));
    rig.shut_store();
}

#[tokio::test]
async fn a_journal_is_not_taken_into_a_store_of_the_same_bank_that_went_another_way() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    rig.shut_store();
    let before = fs::read(rig.path()).unwrap();
    rig.open_store();
    let anne = rig.log_in(ANNE).await;
    rig.deposit(&anne, 5).await.unwrap();
    rig.shut_store();
    let other = fs::read(rig.path()).unwrap();
    fs::write(rig.path(), &before).unwrap();
    rig.open_store();
    let crash = deposits(&mut rig).await;
    is_another_stores(&mut rig, &crash, &other, 31).await;
}

#[tokio::test]
async fn a_journal_is_not_taken_into_its_own_store_as_it_was_before_the_last_stop() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    rig.open(BERT, 1_000).await;
    rig.shut_store();
    let older = fs::read(rig.path()).unwrap();
    rig.open_store();
    let bert = rig.log_in(BERT).await;
    rig.deposit(&bert, 5).await.unwrap();
    rig.shut_store();
    rig.open_store();
    let crash = deposits(&mut rig).await;
    is_another_stores(&mut rig, &crash, &older, 33).await;
}

#[tokio::test]
async fn a_journal_is_not_taken_into_a_backup_that_was_made_while_it_was_written() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    let copy = rig.folder.as_ref().unwrap().path().join("copy.db");
    rig.act(crate::store::Act::Backup(copy.clone())).await;
    let crash = deposits(&mut rig).await;
    is_another_stores(&mut rig, &crash, &fs::read(copy).unwrap(), 31).await;
}

#[tokio::test]
async fn an_earlier_journal_is_not_taken_into_the_store_that_holds_all_of_a_later_one() {
    let mut rig = Rig::sqlite();
    let crash = crash(&mut rig).await;
    crash.put(&rig.path(), &crash.journal);
    rig.open_store();
    rig.shut_store();
    let later = fs::read(rig.path()).unwrap();
    let crash = Crash {
        journal: crash.journal[..crash.last].to_vec(),
        ..crash
    };
    is_another_stores(&mut rig, &crash, &later, 30).await;
}

#[tokio::test]
async fn a_journal_is_taken_into_its_own_store_whenever_the_crash_comes_and_whoever_reads() {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("bank.db");
    let reader = Connection::open(rig.path()).unwrap();
    let mut begun_anew = 0;
    let mut anne = rig.log_in(ANNE).await;
    for round in 0..700 {
        match round % 100 {
            30 => reader
                .execute_batch("BEGIN; SELECT count(*) FROM entry")
                .unwrap(),
            80 => reader.execute_batch("COMMIT").unwrap(),
            // Stopped beside somebody who reads, so that the journal stays.
            50 if round > 300 => {
                rig.shut_store();
                rig.open_store();
                anne = rig.log_in(ANNE).await;
            }
            _ => {}
        }
        let before = fs::read(beside(&rig.path(), "-wal")).unwrap();
        rig.deposit(&anne, 1).await.unwrap();
        let journal = fs::read(beside(&rig.path(), "-wal")).unwrap();
        begun_anew += usize::from(before.get(16..24) != journal.get(16..24));
        if round % 7 != 0 && before.get(16..24) == journal.get(16..24) {
            continue;
        }
        fs::copy(rig.path(), &copy).unwrap();
        fs::write(beside(&copy, "-wal"), journal).unwrap();
        SqliteStore::try_open(&copy).unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
    assert!(begun_anew > 1, "{begun_anew}");
}

#[tokio::test]
async fn a_page_that_rots_in_the_store_is_damage_also_beside_a_journal_of_its_own() {
    let mut rig = Rig::sqlite();
    for index in 1..=200 {
        rig.open(&format!("zz-{index:05}"), 1_000).await;
    }
    rig.shut_store();
    rig.open_store();
    let mut crash = deposits(&mut rig).await;
    crash.put(&rig.path(), &crash.journal);
    let connection = Connection::open(rig.path()).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'credential'";
    let page: usize = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    drop(connection);
    crash.store[(page - 1) * 4_096..page * 4_096].fill(7);
    crash.put(&rig.path(), &crash.journal);
    let refused = open(&rig, None).unwrap_err();
    assert_eq!(refused.cause(), Cause::Damaged, "{refused}");
    assert_eq!(fs::read(rig.path()).unwrap(), crash.store);
}

#[tokio::test]
async fn a_journal_that_is_another_name_of_a_file_is_refused_and_that_file_is_left_alone() {
    let mut rig = Rig::sqlite();
    rig.shut_store();
    let (journal, victim) = (beside(&rig.path(), "-wal"), beside(&rig.path(), "-other"));
    fs::write(&victim, "not the bank's").unwrap();
    fs::hard_link(&victim, &journal).unwrap();
    let refused = open(&rig, None);
    assert!(refused.is_err());
    assert_eq!(fs::read(&victim).unwrap(), b"not the bank's");
    fs::remove_file(&journal).unwrap();
    assert!(open(&rig, None).is_ok());
}

/// With what was opened beside it meanwhile, as by a command.
async fn gone_from_its_place(suffix: &str, cause: Cause, put_back: bool) {
    let mut rig = Rig::sqlite();
    rig.open(ANNE, 1_000).await;
    let anne = rig.log_in(ANNE).await;
    rig.deposit(&anne, 1).await.unwrap();
    let (place, elsewhere) = (beside(&rig.path(), suffix), beside(&rig.path(), "-gone"));
    fs::rename(&place, &elsewhere).unwrap();
    rig.deposit(&anne, 1).await.unwrap();
    fs::write(&place, "").unwrap();
    for words in ["it is another file", "the store holds all"] {
        let Err(StoreError::Disk(told, text)) = rig.store().look().await else {
            panic!("it is not noticed");
        };
        assert_eq!(told, cause, "{text}");
        assert!(text.contains(words) || cause == Cause::Missing, "{text}");
        assert!(!rig.store().is_writable());
        let refused = rig.try_withdraw(&anne, 1).await;
        assert!(matches!(refused, Err(StoreError::Disk(..))), "{refused:?}");
    }
    if put_back {
        fs::rename(&elsewhere, &place).unwrap();
        rig.store().look().await.unwrap();
        rig.deposit(&anne, 1).await.unwrap();
        assert_eq!(rig.verify(None).await.entries, 4);
    }
    rig.shut_store();
    rig.open_store();
    let audit = rig.verify(None).await;
    let entries = if put_back { 4 } else { 3 };
    assert_eq!((audit.faults, audit.entries), (Vec::new(), entries));
}

#[tokio::test]
async fn a_store_that_is_gone_from_its_place_takes_nothing_until_it_is_back() {
    gone_from_its_place("", Cause::Missing, true).await;
}

#[tokio::test]
async fn a_journal_that_is_gone_from_its_place_takes_nothing_until_it_is_back() {
    gone_from_its_place("-wal", Cause::JournalGone, true).await;
}

#[tokio::test]
async fn of_a_journal_that_was_removed_under_a_server_nothing_is_lost_with_the_next_start() {
    gone_from_its_place("-wal", Cause::JournalGone, false).await;
}

#[tokio::test]
async fn whatever_else_refuses_a_store_keeps_its_journal_too() {
    let mut rig = Rig::sqlite();
    let crash = crash(&mut rig).await;
    crash.put(&rig.path(), &crash.journal);
    let euros = "EUR".parse().unwrap();
    let refused = SqliteStore::open(&rig.path(), euros, NEW_YEAR, rig.keyring.clone());
    assert!(matches!(refused, Err(OpenError::OtherCurrency { .. })));
    assert_eq!(fs::read(rig.path()).unwrap(), crash.store);
    let journal = fs::read(beside(&rig.path(), "-wal")).unwrap();
    assert_eq!(journal, crash.journal);
}
