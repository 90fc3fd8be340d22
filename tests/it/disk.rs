//! A disk that is full or fails: no money moves, no answer is wrong, and what was acknowledged is
//! there, even after the power was cut.
//!
//! The faults come from a small library between the server and the system (`disk/fault.c`), which
//! also keeps what would be left of each file after a power cut.

mod faults;
mod serving;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::Connection;
use tokio::task::JoinSet;

use crate::support::customer::{self, Customer, Progress};
use crate::support::{Monitor, Server, Site, Terminal, until_async};

/// What the disk does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Sound,
    Full,
    NotSyncing,
    NotReading,
    NotReadingOnce,
    MisreadingOnce,
    OnlyReading,
    NotWriting,
    NoMemory,
}

/// What the other customers of the site have, minor units.
const OTHERS: i64 = 1_357_064;

/// A bank whose store is on a disk that fails when it is told to.
struct Bank {
    site: Site,
    library: PathBuf,
    monitor: Monitor,
    customers: Vec<Customer>,
}

/// `None` where there is no C compiler.
fn bank(seed: u64) -> Option<Bank> {
    println!("seed {seed}");
    let monitor = Monitor::free();
    let site = Site::with(&[("metrics.listen", &monitor.setting())]);
    let library = site.path("fault.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/disk/fault.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-pthread", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    let Ok(status) = compiled else {
        println!("skipped: there is no C compiler (cc)");
        return None;
    };
    assert!(status.success(), "the faulty disk does not compile");
    let customers = customer::open_accounts(&site, seed);
    // Within a folder that a confined server may write in, and off its disk.
    fs::create_dir(site.path("certs/shadow")).unwrap();
    fs::copy(site.path("data/bank.db"), site.path("certs/shadow/bank.db")).unwrap();
    assert!(!site.path("data/bank.db-wal").exists());
    Some(Bank {
        site,
        library,
        monitor,
        customers,
    })
}

impl Bank {
    fn set(&self, disk: Disk) {
        let word = match disk {
            Disk::Sound => "ok",
            Disk::Full => "full",
            Disk::NotSyncing => "sync fails",
            Disk::NotReading => "reads fail",
            Disk::NotReadingOnce => "1 read fails",
            Disk::MisreadingOnce => "a page is read wrong",
            Disk::OnlyReading => "nothing is to be written",
            Disk::NotWriting => "writes fail",
            Disk::NoMemory => "memory is used up",
        };
        // Never seen half written.
        fs::write(self.site.path("control.new"), word).unwrap();
        fs::rename(self.site.path("control.new"), self.site.path("control")).unwrap();
    }

    fn start(&self) -> Server {
        self.set(Disk::Sound);
        Server::start(self.program(), &self.site.path("certs")).unwrap()
    }

    /// The server, upon this disk.
    fn program(&self) -> Command {
        let mut program = self.site.program();
        let folder = fs::canonicalize(self.site.path("data")).unwrap();
        program
            .env("LD_PRELOAD", &self.library)
            .env("DISK_FOLDER", folder)
            .env("DISK_CONTROL", self.site.path("control"))
            .env("DISK_SHADOW", self.site.path("certs/shadow"));
        program
    }

    /// The machine loses its power: what is left of each file is what had reached the disk.
    fn cut_power(&self, server: Server) {
        server.kill();
        for name in ["bank.db", "bank.db-wal", "bank.db-shm"] {
            let _ = fs::remove_file(self.site.path("data").join(name));
            let left = self.site.path("certs/shadow").join(name);
            if left.exists() {
                fs::copy(left, self.site.path("data").join(name)).unwrap();
            }
        }
    }

    /// All customers log in and work, each in a task of its own.
    async fn work(&mut self, server: &Server, progress: &Arc<Progress>) -> JoinSet<Customer> {
        let mut working = JoinSet::new();
        for mut customer in self.customers.drain(..) {
            let card = server.card(&customer.terminal());
            let entered = customer.enter(server.address, &card).await;
            let (mut terminal, progress) = (entered.unwrap(), Arc::clone(progress));
            working.spawn(async move {
                customer.work(&mut terminal, &progress).await;
                customer
            });
        }
        working
    }

    async fn finish(&mut self, working: JoinSet<Customer>) {
        self.customers = working.join_all().await;
        self.customers.sort_by_key(|customer| customer.number);
    }

    async fn is_ready(&self) -> bool {
        self.monitor.get("/health/ready").await.0.contains("200")
    }

    async fn shows(&self, metric: &str) -> bool {
        let (_, metrics) = self.monitor.get("/metrics").await;
        metrics.lines().any(|line| line == metric)
    }
}

fn seed() -> u64 {
    let given = std::env::var("DISK_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1)
}

/// Waits for so many more definite answers, or answers 51.
async fn more(progress: &Progress, served: usize, unknown: usize) {
    let now = || {
        let served = progress.served.load(Ordering::Relaxed);
        (served, progress.unknown.load(Ordering::Relaxed))
    };
    let before = now();
    until_async("answers", async || {
        let seen = now();
        (seen.0 >= before.0 + served && seen.1 >= before.1 + unknown).then_some(())
    })
    .await;
}

/// While the disk fails: readers are served, nobody's PIN is tried, monitoring sees it.
async fn expect_no_money_to_move(bank: &Bank, server: &Server, reader: &mut Terminal) {
    until_async("503", async || (!bank.is_ready().await).then_some(())).await;
    assert!(bank.shows("bank_storage_writable 0").await);
    reader.balance().await.expect_code(0);
    reader.history(10).await.expect_code(0);
    reader.deposit(1).await.expect_code(51);
    let mut other = server.terminal("terminal-2").await;
    other.login("ac-12345", "1324").await.expect_code(51);
    other.ping().await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_disk_is_full_or_fails_money_movement_gets_51_and_goes_on_when_it_is_sound() {
    let Some(mut bank) = bank(seed()) else { return };
    let server = bank.start();
    let progress = Arc::new(Progress::default());
    let mut reader = server.customer("terminal-1", "zz-99999", "9999").await;
    let working = bank.work(&server, &progress).await;
    for disk in [Disk::Full, Disk::NotSyncing, Disk::Full, Disk::NotSyncing] {
        more(&progress, 60, 0).await;
        assert!(bank.is_ready().await && bank.shows("bank_storage_writable 1").await);
        bank.set(disk);
        more(&progress, 0, 30).await;
        expect_no_money_to_move(&bank, &server, &mut reader).await;
        bank.set(Disk::Sound);
        until_async("ready again", async || bank.is_ready().await.then_some(())).await;
        reader.deposit(1).await.expect_code(0);
    }
    more(&progress, 60, 0).await;
    progress.stopped.store(true, Ordering::Relaxed);
    bank.finish(working).await;
    let mut customers = std::mem::take(&mut bank.customers);
    let mut survived = server.customer("terminal-2", "ac-12345", "1324").await;
    survived.balance().await.expect_code(0);
    customer::audit(&bank.site, &server, &mut customers, OTHERS + 4).await;
    let log = server.log();
    assert!(log.matches("the disk fails").count() <= 8, "said too often");
    bank.cut_power(server);
    let server = bank.start();
    customer::audit(&bank.site, &server, &mut customers, OTHERS + 4).await;
    server.stop();
    bank.site.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_after_a_failed_sync_and_a_crash_survives_a_power_cut() {
    let Some(mut bank) = bank(seed()) else { return };
    for _ in 0..3 {
        let server = bank.start();
        let progress = Arc::new(Progress::default());
        let working = bank.work(&server, &progress).await;
        more(&progress, 60, 0).await;
        bank.set(Disk::NotSyncing);
        more(&progress, 0, 10).await;
        // What the failed commits left in the journal is seen by the next process, and is not on
        // the disk.
        server.kill();
        bank.finish(working).await;
        let server = bank.start();
        let progress = Arc::new(Progress::default());
        let working = bank.work(&server, &progress).await;
        more(&progress, 60, 0).await;
        bank.cut_power(server);
        bank.finish(working).await;
    }
    let server = bank.start();
    let mut customers = std::mem::take(&mut bank.customers);
    customer::audit(&bank.site, &server, &mut customers, OTHERS).await;
    server.stop();
    bank.site.verify();
}

/// Somebody who copies the store, as Litestream does, and reads a snapshot of it for long.
fn snapshot(bank: &Bank) -> Connection {
    let reader = Connection::open(bank.site.path("data/bank.db")).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM entry")
        .unwrap();
    reader
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_reader_of_a_snapshot_the_bank_goes_on_after_a_failed_sync_starts_and_loses_nothing()
 {
    let Some(mut bank) = bank(seed()) else { return };
    let mut served = 0;
    for _ in 0..2 {
        let server = bank.start();
        let mut one = server.customer("terminal-1", "zz-99999", "9999").await;
        one.deposit(1).await.expect_code(0);
        let reader = snapshot(&bank);
        served += 1;
        for disk in [Disk::NotSyncing, Disk::Full, Disk::NotSyncing] {
            one.deposit(1).await.expect_code(0);
            served += 1;
            bank.set(disk);
            one.deposit(1).await.expect_code(51);
            assert!(!bank.is_ready().await);
            bank.set(Disk::Sound);
            one.deposit(1).await.expect_code(0);
            served += 1;
            assert!(bank.is_ready().await && bank.shows("bank_storage_writable 1").await);
        }
        bank.set(Disk::NotSyncing);
        one.deposit(1).await.expect_code(51);
        server.kill();
        let server = bank.start();
        let mut one = server.customer("terminal-1", "zz-99999", "9999").await;
        one.deposit(1).await.expect_code(0);
        served += 1;
        let progress = Arc::new(Progress::default());
        let working = bank.work(&server, &progress).await;
        more(&progress, 60, 0).await;
        assert!(!reader.is_autocommit(), "it has read all this time");
        drop(reader);
        bank.cut_power(server);
        bank.finish(working).await;
    }
    let server = bank.start();
    let mut customers = std::mem::take(&mut bank.customers);
    customer::audit(&bank.site, &server, &mut customers, OTHERS + served).await;
    server.stop();
    bank.site.verify();
}

#[tokio::test]
async fn a_bank_on_a_full_disk_does_not_start_and_says_so() {
    let Some(bank) = bank(seed()) else { return };
    drop(bank.start());
    bank.set(Disk::Full);
    let Err(ran) = Server::start(bank.program(), &bank.site.path("certs")) else {
        panic!("it started");
    };
    let ran = ran.expect(74).saying("disk I/O error");
    assert!(!ran.stderr.contains("restore a backup"), "{ran:#?}");
}
