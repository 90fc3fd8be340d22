//! Every fault of storage is told by its cause: each row of the table in `store/sqlite/causes.rs`, at a start and while
//! serving. Nothing but damage that was looked at names a backup.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use atm_bank::store::sqlite::{CAUSES, Cause};
use rusqlite::Connection;

use super::{Bank, Disk, bank, seed};
use crate::support::{Ran, Server, Site};

/// Words that send staff for a backup.
const BACKUP: &str = "backup";

/// Checks that a start, or a command, ended for this cause and no other.
#[track_caller]
fn expect(ran: Ran, cause: Cause) -> Ran {
    let row = cause.row();
    let ran = ran.expect(i32::from(row.exit)).saying(row.told);
    for other in CAUSES {
        let told = ran.stderr.contains(other.told);
        assert_eq!(told, other.cause == cause, "{other:?} is told in {ran:#?}");
    }
    let names = ran.stderr.contains(BACKUP);
    assert_eq!(names, cause == Cause::Damaged, "{ran:#?}");
    ran
}

/// Starts a server that must refuse.
fn refused(program: Command, site: &Site) -> Ran {
    match Server::start(program, &site.path("certs")) {
        Ok(_) => panic!("it started"),
        Err(ran) => ran,
    }
}

/// The program within others, as `sh -c SCRIPT`, which runs it by `exec "$@"`.
fn within(site: &Site, script: &str) -> Command {
    let inner = site.program();
    let mut outer = Command::new("bash");
    outer
        .current_dir(site.folder())
        .args(["-c", script, "bash"]);
    outer.arg(inner.get_program()).args(inner.get_args());
    outer
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: only root can do this");
    }
    root
}

/// A bank that was killed: its journal is there. Ends with a start, which finds all money.
async fn crashed(site: &Site) {
    let server = site.start();
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    customer.deposit(1).await.expect_code(0);
    server.kill();
    assert!(site.path("data/bank.db-wal").exists());
}

async fn expect_all_there(site: &Site, balance: i64) {
    let server = site.start();
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    let seen = customer.balance().await.expect_code(0).balances();
    assert_eq!(seen, (balance, balance));
    server.stop();
    site.verify();
}

#[tokio::test]
async fn each_fault_of_the_disk_keeps_a_start_off_by_its_cause_and_the_next_start_finds_all() {
    let Some(bank) = bank(seed()) else { return };
    crashed(&bank.site).await;
    for (disk, cause) in [
        (Disk::NotReading, Cause::Reading),
        (Disk::NotReadingOnce, Cause::Reading),
        (Disk::NotWriting, Cause::Writing),
        (Disk::NotSyncing, Cause::Syncing),
        (Disk::NoMemory, Cause::Memory),
    ] {
        bank.set(disk);
        expect(refused(bank.program(), &bank.site), cause);
    }
    expect_all_there(&bank.site, 65_536).await;
}

/// Waits until the server has said so, and nothing else of that kind.
fn expect_told(server: &Server, cause: Cause) {
    server.wait_for_log(cause.row().told);
    assert!(!server.log().contains(BACKUP), "{}", server.log());
}

async fn serving(bank: &Bank) -> Server {
    let server = bank.start();
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    for (disk, cause) in [
        (Disk::Full, Cause::Full),
        (Disk::NotWriting, Cause::Writing),
        (Disk::NotSyncing, Cause::Syncing),
    ] {
        bank.set(disk);
        customer.deposit(1).await.expect_code(51);
        expect_told(&server, cause);
        bank.set(Disk::Sound);
        customer.deposit(1).await.expect_code(0);
    }
    for (disk, cause) in [
        (Disk::NotReadingOnce, Cause::Passing),
        (Disk::NotReading, Cause::Reading),
    ] {
        // What another connection wrote is read anew.
        bank.set(Disk::Sound);
        customer.deposit(1).await.expect_code(0);
        bank.set(disk);
        customer.history(10).await.expect_code(51);
        expect_told(&server, cause);
    }
    bank.set(Disk::Sound);
    customer.history(10).await.expect_code(0);
    server
}

#[tokio::test]
async fn a_read_that_the_disk_fails_once_is_no_damage_and_ends_no_server_and_each_fault_is_told() {
    let Some(bank) = bank(seed()) else { return };
    let server = serving(&bank).await;
    assert!(!server.log().contains("the ledger is broken"));
    server.stop();
    bank.site.verify();
}

#[tokio::test]
async fn a_file_of_the_store_that_is_roots_is_told_with_its_owner_and_the_cure_and_is_no_damage() {
    if !is_root() {
        return;
    }
    let site = Site::new();
    crashed(&site).await;
    let id = 65_534;
    let own =
        |file: &str, id| std::os::unix::fs::chown(site.path(file), Some(id), Some(id)).unwrap();
    let files = [
        "data/bank.db",
        "data/bank.db-wal",
        "data/bank.db-shm",
        "data/bank.db-lock",
    ];
    for file in [
        "",
        "certs",
        "certs/server.key",
        "certs/pepper",
        "bank.toml",
        "data",
        "data/bank.db-lists",
    ]
    .iter()
    .chain(&files)
    {
        own(file, id);
    }
    let script = "exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
    for file in files {
        own(file, 0);
        fs::set_permissions(
            site.path(file),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        let cure = "chown 65534:65534 ";
        let ran = expect(refused(within(&site, script), &site), Cause::NotPermitted);
        let name = file.strip_prefix("data/").unwrap();
        assert!(
            ran.stderr.contains(&format!("{name} belongs to uid 0")),
            "{ran:#?}"
        );
        let mut check = within(&site, script);
        check.arg("check");
        let ran = Ran::of(check, "").expect(78).printing(cure);
        assert_eq!(ran.stdout.matches(cure).count(), 1, "{ran:#?}");
        assert!(!ran.stdout.contains(BACKUP), "{ran:#?}");
        own(file, id);
    }
    let server = Server::start(within(&site, script), &site.path("certs")).unwrap();
    server.stop();
}

#[tokio::test]
async fn a_disk_without_room_or_for_reading_alone_is_told_as_such() {
    if !is_root() {
        return;
    }
    // Staff's socket, which a start makes before it looks at the store, is elsewhere.
    let site = Site::with(&[("server.operator_socket", "\"operator.sock\"")]);
    crashed(&site).await;
    let mounts = Command::new("unshare").args(["-m", "true"]).status();
    if !mounts.is_ok_and(|ran| ran.success()) {
        println!("skipped: nothing can be mounted");
        return;
    }
    let full = "exec unshare -m bash -c 'mkdir kept && cp -a data/. kept && mount -t tmpfs -o size=8m none data \
                && cp -a kept/. data && rm -f data/bank.db-shm; head -c 16M /dev/zero >data/fill 2>/dev/null; exec \"$@\"' bash \"$@\"";
    expect(refused(within(&site, full), &site), Cause::Full);
    let read_only = "exec unshare -m bash -c 'mount --bind data data && mount -o remount,ro,bind data && exec \"$@\"' \
                     bash \"$@\"";
    expect(refused(within(&site, read_only), &site), Cause::ReadOnly);
    expect_all_there(&site, 65_536).await;
}

#[tokio::test]
async fn a_limit_on_files_and_another_programs_lock_are_told_as_such() {
    let site = Site::new();
    crashed(&site).await;
    let limit = "ulimit -f 8; exec \"$@\"";
    expect(refused(within(&site, limit), &site), Cause::Limit);
    let other = Connection::open(site.path("data/bank.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    expect(site.start_refused(), Cause::Locked);
    drop(other);
    expect_all_there(&site, 65_536).await;
}

#[test]
fn whatever_the_limit_on_open_files_is_no_store_is_taken_for_damaged() {
    let site = Site::new();
    let files = Cause::Files.row();
    let mut told = 0;
    for limit in 4..200 {
        let mut program = within(&site, &format!("ulimit -n {limit}; exec \"$@\""));
        program.args(["account", "list"]);
        let ran = Ran::of(program, "");
        if ran.code == Some(0) {
            assert!(told > 0, "no limit was in the store's way");
            return;
        }
        assert!(!ran.stderr.contains(BACKUP), "{limit}: {ran:#?}");
        assert!(!ran.stderr.contains("damaged: "), "{limit}: {ran:#?}");
        if ran.stderr.contains(files.told) {
            // 69 where the store was opened and could not be read then.
            let code = ran.code.unwrap();
            assert!([i32::from(files.exit), 69].contains(&code), "{ran:#?}");
            told += 1;
        }
    }
    panic!("it never ran");
}

/// Writes nonsense over the store's pages from this one on.
fn damage(site: &Site, from: u64) {
    let path = site.path("data/bank.db");
    let length = fs::metadata(&path).unwrap().len();
    let store = OpenOptions::new().write(true).open(path).unwrap();
    let nonsense = vec![0xa5; usize::try_from(length - from).unwrap()];
    store.write_all_at(&nonsense, from).unwrap();
}

#[tokio::test]
async fn damage_that_two_looks_find_is_told_as_such_and_ends_a_running_server_with_70() {
    let site = Site::new();
    let whole = fs::read(site.path("data/bank.db")).unwrap();
    damage(&site, 4_096);
    expect(site.start_refused(), Cause::Damaged);
    fs::write(site.path("data/bank.db"), "dear diary\n".repeat(1_000)).unwrap();
    expect(site.start_refused(), Cause::NotAStore);
    fs::write(site.path("data/bank.db"), &whole).unwrap();
    let server = site.start();
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    customer.deposit(1).await.expect_code(0);
    for name in ["data/bank.db-wal", "data/bank.db"] {
        let path = site.path(name);
        let length = fs::metadata(&path).unwrap().len();
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&vec![0xa5; usize::try_from(length - 4_096).unwrap()], 4_096)
            .unwrap();
    }
    let _ = customer.history(100).await;
    let ran = server.wait().expect(70);
    assert!(ran.stderr.contains(Cause::Damaged.row().told), "{ran:#?}");
}
