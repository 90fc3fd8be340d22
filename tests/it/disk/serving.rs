//! Each fault of storage that a running server can meet: 51 for whom it keeps waiting, its row's words in the log, and
//! all goes on by itself once it is over. Damage ends the server.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use atm_bank::store::sqlite::{CAUSES, Cause};
use rusqlite::Connection;
use rustix::process::{Resource, getrlimit};

use super::faults::{BACKUP, as_nobody, by_nobody, damage};
use super::{Bank, Disk, bank, seed};
use crate::support::{Ran, Server, Terminal, until, until_async};

/// Ends a fault.
type Undo<'a> = Box<dyn FnOnce() + 'a>;

/// A bank on a disk that fails when it is told to, served by a user who may use only what is its own.
struct Served {
    bank: Bank,
    server: Server,
}

impl Served {
    fn new() -> Option<Self> {
        let bank = bank(seed())?;
        bank.set(Disk::Sound);
        let mut program = bank.program();
        program.env_remove("DISK_SHADOW");
        let program = as_nobody(&bank.site, program);
        let server = Server::start(program, &bank.site.path("certs"));
        let server = server.unwrap_or_else(|ran| panic!("{ran:#?}"));
        Some(Self { bank, server })
    }

    async fn customer(&self) -> Terminal {
        let customer = self.server.customer("terminal-1", "zz-99999", "9999");
        customer.await
    }

    /// Deposits, and waits until all that was logged before the answer is there.
    async fn deposit(&self, customer: &mut Terminal, code: u16) {
        let said = self.server.log().len();
        customer.deposit(1).await.expect_code(code);
        let words = format!("op=\"deposit\" code={code}");
        until("the answer in the log", || {
            self.server.log()[said..].contains(&words).then_some(())
        });
    }

    fn on(&self, disk: Disk) -> Undo<'_> {
        self.bank.set(disk);
        Box::new(|| self.bank.set(Disk::Sound))
    }

    /// Runs SQL upon the store past the bank.
    fn sql(&self, sql: &str) -> Connection {
        let store = Connection::open(self.bank.site.path("data/bank.db")).unwrap();
        let all = format!("PRAGMA wal_autocheckpoint = 0; PRAGMA foreign_keys = OFF; {sql}");
        store.execute_batch(&all).unwrap();
        store
    }

    /// Sets one of the server's limits, as its own user.
    fn limit(&self, name: &'static str, resource: Resource, to: u64) -> Undo<'_> {
        let pid = self.server.pid().to_string();
        let set = move |to: Option<u64>| {
            let to = to.map_or("unlimited".to_owned(), |to| to.to_string());
            let mut program = Command::new("prlimit");
            program.args(["--pid", &pid, &format!("--{name}={to}:")]);
            Ran::of(by_nobody(program), "").expect(0);
        };
        set(Some(to));
        Box::new(move || set(getrlimit(resource).maximum))
    }

    /// Moves a file away.
    fn without(&self, name: &str) -> Undo<'_> {
        let (place, elsewhere) = (self.bank.site.path(name), self.bank.site.path("elsewhere"));
        fs::rename(&place, &elsewhere).unwrap();
        Box::new(move || fs::rename(elsewhere, place).unwrap())
    }

    /// Brings about what is met where files are opened anew, as they are once the disk is in doubt.
    async fn in_doubt<'a>(
        &'a self,
        customer: &mut Terminal,
        fault: impl FnOnce() -> Undo<'a>,
    ) -> Undo<'a> {
        let said = self.server.log().len();
        self.bank.set(Disk::NotSyncing);
        customer.deposit(1).await.expect_code(51);
        // Else it would be taken for what the fault says.
        until("both lines of it in the log", || {
            let log = self.server.log().split_off(said);
            (log.matches(Cause::Syncing.row().told).count() >= 2).then_some(())
        });
        let undo = fault();
        self.bank.set(Disk::Sound);
        undo
    }

    fn closed_journal(&self) -> Undo<'_> {
        let set = |mode| {
            let journal = self.bank.site.path("data/bank.db-wal");
            fs::set_permissions(journal, Permissions::from_mode(mode)).unwrap();
        };
        set(0);
        Box::new(move || set(0o600))
    }

    /// A journal so long that the server must map more of what its users share.
    fn no_memory(&self) -> Undo<'_> {
        self.sql("INSERT INTO bank (name, value) VALUES ('filler', hex(zeroblob(9000000)))");
        self.bank.set(Disk::NoMemory);
        Box::new(|| {
            self.bank.set(Disk::Sound);
            self.sql("DELETE FROM bank WHERE name = 'filler'");
        })
    }

    /// Nonsense stands in store and journal from this octet on.
    fn written_over(&self, from: u64) -> Undo<'_> {
        for name in ["data/bank.db-wal", "data/bank.db"] {
            damage(&self.bank.site.path(name), from, None);
        }
        Box::new(|| ())
    }

    /// Brings the fault about. Each row has its way, or is met at a start alone: one without would not compile.
    async fn begin(&self, cause: Cause, customer: &mut Terminal) -> Option<Undo<'_>> {
        Some(match cause {
            Cause::Full => self.on(Disk::Full),
            Cause::Limit => self.limit("fsize", Resource::Fsize, 4_096),
            Cause::Reading => self.on(Disk::NotReading),
            Cause::Writing => self.on(Disk::NotWriting),
            Cause::Syncing => self.on(Disk::NotSyncing),
            Cause::ReadOnly => self.on(Disk::OnlyReading),
            Cause::NotPermitted => self.in_doubt(customer, || self.closed_journal()).await,
            Cause::Files => {
                let limit = || self.limit("nofile", Resource::Nofile, 1);
                self.in_doubt(customer, limit).await
            }
            Cause::Memory => self.no_memory(),
            Cause::Locked => {
                let other = self.sql("BEGIN IMMEDIATE");
                Box::new(move || drop(other))
            }
            Cause::Passing => self.on(Disk::NotReadingOnce),
            Cause::Damaged => self.written_over(4_096),
            Cause::NotAStore => self.written_over(0),
            Cause::Missing => self.without("data/bank.db"),
            Cause::JournalGone => self.without("data/bank.db-wal"),
            Cause::Unexpected => {
                let rename = |from, to| {
                    drop(self.sql(&format!(
                        "PRAGMA legacy_alter_table = ON; ALTER TABLE {from} RENAME TO {to}"
                    )));
                };
                rename("reason", "elsewhere");
                Box::new(move || rename("elsewhere", "reason"))
            }
            Cause::InUse
            | Cause::Loss
            | Cause::Apart
            | Cause::Layout
            | Cause::Newer
            | Cause::Currency
            | Cause::NoPepper
            | Cause::Orphan
            | Cause::Unfinished
            | Cause::Link => return None,
        })
    }
}

/// Asks for what meets the fault: what another connection wrote is read anew.
async fn ask(customer: &mut Terminal, cause: Cause) -> u16 {
    let reads = [Cause::Reading, Cause::Passing, Cause::Unexpected].contains(&cause);
    let answer = match reads {
        true => customer.history(10).await,
        false => customer.deposit(1).await,
    };
    answer.code()
}

/// The fault begins, is told in its row's words and no other's, is answered 51 meanwhile, and ends.
async fn expect_51_and_no_harm(served: &Served, customer: &mut Terminal, cause: Cause) {
    served.deposit(customer, 0).await;
    let begun = served.begin(cause, customer).await;
    let undo = begun.unwrap_or_else(|| panic!("{cause:?} is not brought about"));
    let said = served.server.log().len();
    // That store or journal is gone is looked at once a second.
    until_async("51", async || {
        (ask(customer, cause).await == 51).then_some(())
    })
    .await;
    let log = until("what is wrong in the log", || {
        let log = served.server.log().split_off(said);
        log.contains(cause.row().told).then_some(log)
    });
    for other in CAUSES.into_iter().filter(|row| row.cause != cause) {
        assert!(
            !log.contains(other.told),
            "{cause:?}: {other:?} is told in {log}"
        );
    }
    undo();
    until_async("0", async || {
        (ask(customer, cause).await == 0).then_some(())
    })
    .await;
    customer.deposit(1).await.expect_code(0);
}

/// The fault is told in its row's words, and the server ends.
async fn expect_the_end(cause: Cause) {
    let Some(served) = Served::new() else { return };
    let mut customer = served.customer().await;
    customer.deposit(1).await.expect_code(0);
    assert!(served.begin(cause, &mut customer).await.is_some());
    let members = serde_json::json!({ "limit": 100 });
    let _ = customer.try_ask("history", members).await;
    let ran = served.server.wait().expect(70).saying(cause.row().told);
    let names = ran.stderr.contains(BACKUP);
    assert_eq!(names, cause == Cause::Damaged, "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_that_a_running_server_can_meet_is_51_and_told_until_it_is_over_or_ends_it_with_70()
 {
    let Some(served) = Served::new() else { return };
    // By turns: of one terminal only so many lines a minute are logged.
    let other = served.server.customer("terminal-2", "ac-12345", "1324");
    let mut customers = [served.customer().await, other.await];
    for (index, row) in CAUSES.into_iter().enumerate() {
        let customer = &mut customers[index % 2];
        match row.retried {
            Some(true) => expect_51_and_no_harm(&served, customer, row.cause).await,
            Some(false) => expect_the_end(row.cause).await,
            None => assert!(served.begin(row.cause, customer).await.is_none()),
        }
    }
    let log = served.server.log();
    assert!(!log.contains(BACKUP) && !log.contains("broken"), "{log}");
    served.server.stop();
}
