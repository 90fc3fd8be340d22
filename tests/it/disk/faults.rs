//! Every fault of storage is told by its cause: each row of the table in `store/sqlite/causes.rs` ends a start with its
//! code and its words. Nothing but damage that was looked at names a backup.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{
    FileExt as _, MetadataExt as _, PermissionsExt as _, chown, lchown, symlink,
};
use std::path::{Path, PathBuf};
use std::process::Command;

use atm_bank::store::sqlite::{CAUSES, Cause};
use rusqlite::Connection;

use super::{Bank, Disk, bank, seed};
use crate::support::{Ran, Server, Site};

/// Words that send staff for a backup.
pub(super) const BACKUP: &str = "backup";
/// A user that may use only what is its own, and its group.
const NOBODY: u32 = 65_534;
/// Runs a program as that user.
const AS_NOBODY: &str = "exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";

/// Checks that a start, or a command, ended for this cause and no other.
#[track_caller]
fn expect(ran: Ran, cause: Cause) -> Ran {
    let row = cause.row();
    let ran = ran.expect(i32::from(row.exit)).saying(row.told);
    // What it ends with: calls beside the one that ends it may have been put off.
    let (_, end) = ran.stderr.rsplit_once("bank_server: ").unwrap();
    for other in CAUSES {
        let told = end.contains(other.told);
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

/// The program within others, as `bash -c SCRIPT`, which runs it by `exec "$@"`.
fn within(program: &Command, script: &str) -> Command {
    let mut outer = Command::new("bash");
    outer.args(["-c", script, "bash"]);
    outer.arg(program.get_program()).args(program.get_args());
    if let Some(folder) = program.get_current_dir() {
        outer.current_dir(folder);
    }
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program, as a user that is not root.
pub(super) fn by_nobody(program: Command) -> Command {
    match is_root() {
        true => within(&program, AS_NOBODY),
        false => program,
    }
}

/// The same, and all of the site is that user's.
pub(super) fn as_nobody(site: &Site, program: Command) -> Command {
    if is_root() {
        let mut give = Command::new("chown");
        let given = give.args(["-R", "65534:65534"]).arg(site.folder()).status();
        assert!(given.unwrap().success());
    }
    by_nobody(program)
}

async fn expect_all_there(site: &Site, balance: i64) {
    let server = site.start();
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    let seen = customer.balance().await.expect_code(0).balances();
    assert_eq!(seen, (balance, balance));
    server.stop();
    site.verify();
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

/// What the customer has whose deposits stand in the journal.
const BALANCE: i64 = 65_535 + 20;

/// A bank that was killed: its journal is there, with answered deposits.
struct Crashed {
    bank: Bank,
}

impl Crashed {
    async fn new() -> Option<Self> {
        // Staff's socket, which a start makes before it looks at the store, is off the disk that is full.
        let mut bank = bank(seed())?;
        bank.site.set("server.operator_socket", "\"operator.sock\"");
        let server = bank.site.start();
        let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
        for _ in 0..20 {
            customer.deposit(1).await.expect_code(0);
        }
        server.kill();
        assert!(bank.site.path("data/bank.db-wal").exists());
        copy_files(&bank.site.path("data"), &bank.site.path("kept"));
        Some(Self { bank })
    }

    /// All files of the store are as the crash left them.
    fn again(&self) {
        fs::remove_dir_all(self.data("")).unwrap();
        copy_files(&self.bank.site.path("kept"), &self.data(""));
    }

    fn data(&self, name: &str) -> PathBuf {
        self.bank.site.path("data").join(name)
    }

    /// The store alone, as it was closed last in order.
    fn without_journal(&self) -> PathBuf {
        for part in ["bank.db-wal", "bank.db-shm"] {
            fs::remove_file(self.data(part)).unwrap();
        }
        self.data("bank.db")
    }

    /// A start on a disk like this.
    fn on(&self, disk: Disk) -> Ran {
        self.bank.set(disk);
        refused(self.bank.program(), &self.bank.site)
    }

    /// A start within a script.
    fn within(&self, script: &str) -> Ran {
        let site = &self.bank.site;
        refused(within(&site.program(), script), site)
    }

    /// A start beside mounts of its own; `None` where nothing can be mounted.
    fn mounted(&self, script: &str) -> Option<Ran> {
        let mounts = Command::new("unshare").args(["-m", "true"]).status();
        let can = mounts.is_ok_and(|ran| ran.success());
        let script = format!("exec unshare -m bash -c '{script} && exec \"$@\"' bash \"$@\"");
        can.then(|| self.within(&script))
    }

    /// A start after SQL was run upon the store past the bank.
    fn after_sql(&self, sql: &str) -> Ran {
        let other = Connection::open(self.data("bank.db")).unwrap();
        other.execute_batch(sql).unwrap();
        drop(other);
        self.bank.site.start_refused()
    }
}

/// Writes nonsense over the store's pages from this octet on, so many octets or all.
pub(super) fn damage(path: &Path, from: u64, octets: Option<usize>) {
    let length = fs::metadata(path).unwrap().len();
    let rest = usize::try_from(length - from).unwrap();
    let store = OpenOptions::new().write(true).open(path).unwrap();
    let nonsense = vec![0xa5; octets.unwrap_or(rest)];
    store.write_all_at(&nonsense, from).unwrap();
}

/// A start, or where the row is met by none, a command that opens the store itself, with this wrong. `None` where that
/// cannot be brought about here. Each row has its way: one without would not compile.
fn start_with(cause: Cause, crashed: &Crashed) -> Option<Ran> {
    let site = &crashed.bank.site;
    let with = |name, value| {
        let mut program = site.program();
        program.env(name, value);
        refused(program, site)
    };
    Some(match cause {
        Cause::Full => return crashed.mounted(FULL),
        Cause::Limit => crashed.within("ulimit -f 8; exec \"$@\""),
        Cause::Reading => {
            expect(crashed.on(Disk::NotReadingOnce), cause);
            crashed.on(Disk::NotReading)
        }
        Cause::Writing => crashed.on(Disk::NotWriting),
        Cause::Syncing => crashed.on(Disk::NotSyncing),
        Cause::ReadOnly => return crashed.mounted(READ_ONLY),
        Cause::NotPermitted => not_permitted(crashed),
        Cause::Files => few_files(crashed),
        Cause::Memory => crashed.on(Disk::NoMemory),
        Cause::Locked => locked(crashed),
        Cause::InUse => {
            let _server = site.start();
            site.start_refused()
        }
        Cause::Passing => crashed.on(Disk::MisreadingOnce),
        Cause::Damaged => damaged(crashed),
        Cause::Loss => {
            let middle = fs::metadata(crashed.data("bank.db-wal")).unwrap().len() / 2;
            damage(&crashed.data("bank.db-wal"), middle, Some(1));
            site.start_refused()
        }
        Cause::Apart => beside_anothers_journal(crashed),
        Cause::Layout => crashed.after_sql("CREATE VIEW planted AS SELECT 1"),
        Cause::NotAStore => {
            fs::write(crashed.without_journal(), "dear diary\n".repeat(1_000)).unwrap();
            site.start_refused()
        }
        Cause::Newer => crashed.after_sql("PRAGMA user_version = 99"),
        Cause::Currency => with("BANK__ACCOUNTS__CURRENCY", "EUR"),
        Cause::NoPepper => without_pepper(crashed),
        Cause::Missing => {
            fs::remove_file(crashed.without_journal()).unwrap();
            site.run(&["account", "list"])
        }
        // A start needs no journal.
        Cause::JournalGone => return None,
        Cause::Orphan => {
            fs::remove_file(crashed.data("bank.db")).unwrap();
            site.start_refused()
        }
        Cause::Unfinished => {
            let store = crashed.without_journal();
            fs::rename(store, crashed.data("bank.db.restoring")).unwrap();
            site.start_refused()
        }
        Cause::Link => return anothers_link(crashed),
        Cause::Unexpected => with_a_folder_for_a_file(crashed),
    })
}

/// The store on a disk that has no room left.
const FULL: &str = "mkdir room && cp -a data/. room && mount -t tmpfs -o size=8m none data && cp -a room/. data && \
                    rm -fr room data/bank.db-shm && { head -c 16M /dev/zero >data/fill 2>/dev/null; true; }";
const READ_ONLY: &str = "mount --bind data data && mount -o remount,ro,bind data";

fn locked(crashed: &Crashed) -> Ran {
    let other = Connection::open(crashed.data("bank.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    crashed.bank.site.start_refused()
}

fn beside_anothers_journal(crashed: &Crashed) -> Ran {
    let other = Site::new();
    let lines = (10_000..12_000).map(|number| format!("ap-{number}, 6017, 1.00\n"));
    other.import(&lines.collect::<String>()).expect(0);
    fs::copy(other.path("data/bank.db"), crashed.data("bank.db")).unwrap();
    crashed.bank.site.start_refused()
}

fn anothers_link(crashed: &Crashed) -> Option<Ran> {
    let store = crashed.data("bank.db");
    fs::rename(&store, crashed.data("other.db")).unwrap();
    symlink("other.db", &store).unwrap();
    is_root().then(|| {
        lchown(&store, Some(NOBODY), Some(NOBODY)).unwrap();
        crashed.bank.site.start_refused()
    })
}

fn with_a_folder_for_a_file(crashed: &Crashed) -> Ran {
    let shared = crashed.data("bank.db-shm");
    let _ = fs::remove_file(&shared);
    fs::create_dir(&shared).unwrap();
    let ran = crashed.bank.site.start_refused();
    fs::remove_dir(shared).unwrap();
    ran
}

fn not_permitted(crashed: &Crashed) -> Ran {
    let site = &crashed.bank.site;
    let program = as_nobody(site, site.program());
    let (journal, mode) = (crashed.data("bank.db-wal"), fs::Permissions::from_mode);
    fs::set_permissions(&journal, mode(0)).unwrap();
    let ran = refused(program, site);
    fs::set_permissions(&journal, mode(0o600)).unwrap();
    ran
}

fn few_files(crashed: &Crashed) -> Ran {
    let with = |limit| crashed.within(&format!("ulimit -n {limit}; exec \"$@\""));
    let told = |ran: &Ran| ran.stderr.contains(Cause::Files.row().told);
    (4..200).map(with).find(told).unwrap()
}

/// Damage that a start meets at once, and damage that it meets after it has opened the store.
fn damaged(crashed: &Crashed) -> Ran {
    let store = crashed.without_journal();
    let other = Connection::open(&store).unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'audit'";
    let page: u64 = other.query_row(root, [], |row| row.get(0)).unwrap();
    drop(other);
    damage(&store, (page - 1) * 4_096, Some(4_096));
    let ran = expect(crashed.bank.site.start_refused(), Cause::Damaged);
    assert!(
        ran.stderr.contains("the audit log cannot be written"),
        "{ran:#?}"
    );
    crashed.again();
    damage(&crashed.without_journal(), 4_096, None);
    crashed.bank.site.start_refused()
}

/// The store of a bank of the first version, which nobody opens for serving without its pepper.
fn without_pepper(crashed: &Crashed) -> Ran {
    let store = crashed.without_journal();
    fs::remove_file(&store).unwrap();
    let old = Connection::open(&store).unwrap();
    old.execute_batch(include_str!("../../../src/store/schema/1.sql"))
        .unwrap();
    old.execute_batch(
        "PRAGMA application_id = 0x41544d62; PRAGMA user_version = 1; \
         INSERT INTO bank VALUES ('currency', 'USD'), ('made_at', 'then'); \
         INSERT INTO account (number, kind, currency, head, opened_at) VALUES ('opening', 2, 'USD', zeroblob(32), 0), \
         ('adjustment', 3, 'USD', zeroblob(32), 0), ('zz-00001', 0, 'USD', zeroblob(32), 0); \
         INSERT INTO credential VALUES (3, 1, 8, 1, 1, 'p-00000000', zeroblob(16), zeroblob(32), 0, NULL, 0, 't-1')",
    )
    .unwrap();
    drop(old);
    let mut program = crashed.bank.site.program();
    program
        .env("BANK__PIN__PEPPER_FILE", "no-pepper")
        .arg("verify");
    Ran::of(program, "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_of_the_table_ends_a_start_with_its_code_and_words_and_what_is_not_of_the_store_leaves_it_whole()
 {
    let Some(crashed) = Crashed::new().await else {
        return;
    };
    let try_out = |cause| match start_with(cause, &crashed) {
        Some(ran) => drop(expect(ran, cause)),
        None => println!("skipped: {cause:?} cannot be brought about here"),
    };
    let (of_the_store, others): (Vec<_>, Vec<_>) = CAUSES
        .into_iter()
        .partition(|row| [65, 66, 78].contains(&row.exit));
    for row in others {
        try_out(row.cause);
    }
    expect_all_there(&crashed.bank.site, BALANCE).await;
    for row in of_the_store {
        crashed.again();
        try_out(row.cause);
    }
}

#[tokio::test]
async fn a_file_of_the_store_that_is_roots_is_told_with_its_owner_and_the_cure_and_is_no_damage() {
    if !is_root() {
        println!("skipped: only root gives files away");
        return;
    }
    let site = Site::with(&[("server.operator_socket", "\"operator.sock\"")]);
    site.start().kill();
    let own = |file: &str, id| chown(site.path(file), Some(id), Some(id)).unwrap();
    let program = || as_nobody(&site, site.program());
    let files = [
        "data/bank.db",
        "data/bank.db-wal",
        "data/bank.db-shm",
        "data/bank.db-lock",
        "data/bank.db-lists",
    ];
    for file in files {
        let mut check = program();
        let start = program();
        own(file, 0);
        fs::set_permissions(site.path(file), fs::Permissions::from_mode(0o600)).unwrap();
        let cure = "chown 65534:65534 ";
        let ran = expect(refused(start, &site), Cause::NotPermitted);
        let name = file.strip_prefix("data/").unwrap();
        assert!(
            ran.stderr.contains(&format!("{name} belongs to uid 0")),
            "{ran:#?}"
        );
        check.arg("check");
        let ran = Ran::of(check, "").expect(78).printing(cure);
        assert_eq!(ran.stdout.matches(cure).count(), 1, "{ran:#?}");
        assert!(!ran.stdout.contains(BACKUP), "{ran:#?}");
    }
    let (server, mut list) = (program(), program());
    Server::start(server, &site.path("certs")).unwrap().stop();
    // What root keeps there is the owner's.
    let lists = site.path("data/bank.db-lists");
    fs::remove_file(&lists).unwrap();
    site.start().stop();
    assert_eq!(fs::metadata(lists).unwrap().uid(), NOBODY);
    own("data", 0);
    list.args(["account", "list"]);
    expect(Ran::of(list, ""), Cause::NotPermitted);
}

#[test]
fn whatever_the_limit_on_open_files_is_no_store_is_taken_for_damaged() {
    let site = Site::new();
    let files = Cause::Files.row();
    let mut told = 0;
    for limit in 4..200 {
        let mut program = within(&site.program(), &format!("ulimit -n {limit}; exec \"$@\""));
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
