//! A store that somebody wrote to past the bank: who is let in by it, and what staff are told.

use std::fs;

use crate::support::{Server, Site};

const NOT_OURS: &str = "not as the bank wrote it";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_hash_lets_nobody_in_and_is_on_record_until_staff_take_the_row_as_it_is() {
    let site = Site::new();
    // Whoever knows the PIN of ac-12345 gives the rich zz-99999 its hash.
    let hash = "UPDATE credential SET (memory_kib, iterations, parallelism, pepper, salt, digest) = \
                (SELECT memory_kib, iterations, parallelism, pepper, salt, digest FROM credential \
                JOIN account ON account.id = account WHERE number = 'ac-12345') \
                WHERE account = (SELECT id FROM account WHERE number = 'zz-99999')";
    site.tamper(|store| assert_eq!(store.execute(hash, []), Ok(1)));
    let server = site.start();
    let mut thief = server.terminal("terminal-2").await;
    let refused = thief.login("zz-99999", "1324").await.expect_code(50);
    assert!(refused.text().contains("reference"), "{}", refused.text());
    thief.balance().await.expect_code(23);
    server.wait_for_log("ALARM");
    assert!(!server.log().contains("zz-99999"));
    let told = site.run(&["audit", "--event", "forged_row", "--json"]);
    let records = &told.expect(0).json()["records"];
    assert_eq!(records[0]["account"], "zz-99999", "{records}");
    assert_eq!(records[1], serde_json::Value::Null);
    site.run(&["verify"])
        .expect(1)
        .printing("FAULT: zz-99999: its number, status, limits, PIN or home is");
    for act in [
        &["account", "lock", "zz-99999"][..],
        &["account", "unlock", "zz-99999"],
        &["account", "close", "zz-99999"],
        &["account", "limit", "zz-99999", "--daily", "1.00"],
        &["account", "set-pin", "zz-99999"],
    ] {
        site.run(act).expect(65).saying(NOT_OURS);
    }
    // All others are served as ever.
    server
        .customer("terminal-1", "ac-12345", "1324")
        .await
        .close()
        .await;
    let cured = site.run(&["account", "set-pin", "zz-99999", "--accept-row", "--json"]);
    let cured = cured.expect(0).json();
    assert_eq!(cured["accepted_row"]["balance"], 65_535, "{cured}");
    let pin = cured["one_time_pin"].as_str().unwrap();
    thief.login("zz-99999", pin).await.expect_code(0);
    let told = site.run(&["audit", "--event", "row_accepted"]).expect(0);
    told.printing("found forged: open, withdrawal the bank's");
    server.stop();
    site.run(&["verify"]).expect(0);
}

#[test]
fn a_trigger_that_was_dropped_or_planted_is_named_by_every_command_and_restored_by_none() {
    let site = Site::new();
    site.run(&["backup", "good.db"]).expect(0);
    let store = site.path("data/bank.db");
    for (sql, words) in [
        (
            "DROP TRIGGER audit_is_never_changed",
            "the trigger audit_is_never_changed on audit is missing",
        ),
        (
            "CREATE TRIGGER no_lock AFTER INSERT ON try BEGIN DELETE FROM try; END",
            "the trigger no_lock on try is not this program's",
        ),
    ] {
        let bad = site.path("bad.db");
        fs::copy(site.path("good.db"), &bad).unwrap();
        rusqlite::Connection::open(&bad)
            .and_then(|bad| bad.execute_batch(sql))
            .unwrap();
        let before = fs::read(&store).unwrap();
        site.run(&["restore", "bad.db"]).expect(65).saying(words);
        assert_eq!(fs::read(&store).unwrap(), before);
        fs::copy(&bad, &store).unwrap();
        site.start_refused().expect(65).saying(words);
        let commands = [
            &["verify"][..],
            &["backup", "copy.db"],
            &["account", "list"],
        ];
        for command in commands {
            site.run(command).expect(65).saying(words);
        }
        site.run(&["check"]).expect(78).printing(words);
        assert_eq!(fs::read(&store).unwrap(), fs::read(&bad).unwrap());
        site.run(&["restore", "good.db"]).expect(0);
    }
    // Planted while the bank is served.
    let server = site.start();
    rusqlite::Connection::open(&store)
        .and_then(|store| store.execute_batch("CREATE VIEW planted AS SELECT 1"))
        .unwrap();
    site.run(&["verify"])
        .expect(1)
        .printing("FAULT: schema: the view planted on planted is not this program's");
    site.run(&["backup", "copy.db"])
        .expect(65)
        .saying("planted");
    server.stop();
}

#[test]
fn without_the_pepper_a_verify_says_what_it_could_not_check() {
    let site = Site::new();
    let printed = site.run(&["verify"]).expect(0).stdout;
    assert!(!printed.contains("NOT CHECKED"), "{printed}");
    fs::rename(site.path("certs/pepper"), site.path("pepper")).unwrap();
    site.run(&["verify"])
        .expect(0)
        .printing("NOT CHECKED: without the pepper file nothing tells whether 4 rows");
    site.run(&["account", "lock", "zz-99999"]).expect(78);
    // Another pepper under the same name: nothing that it covers is right.
    let line = fs::read_to_string(site.path("pepper")).unwrap();
    let name = line.split(' ').next().unwrap();
    fs::write(
        site.path("certs/pepper"),
        format!("{name} {}\n", "0a".repeat(32)),
    )
    .unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(site.path("certs/pepper"), private).unwrap();
    site.run(&["verify"])
        .expect(1)
        .printing("FAULT: ac-12345: its number");
    site.run(&["account", "set-pin", "zz-99999"])
        .expect(65)
        .saying(NOT_OURS);
    site.run(&["account", "set-pin", "zz-99999", "--accept-row"])
        .expect(0);
}

/// A server that was killed after so many answered deposits, with a bit of its journal flipped before
/// the last of them; the journal as it is now.
async fn crashed(site: &Site, deposits: usize) -> Vec<u8> {
    let server = site.start();
    let mut terminal = server.customer("terminal-1", "zz-99999", "9999").await;
    for _ in 0..deposits {
        terminal.deposit(1).await.expect_code(0);
    }
    server.kill();
    let path = site.path("data/bank.db-wal");
    let mut journal = fs::read(&path).unwrap();
    let middle = journal.len() / 2;
    journal[middle] ^= 1;
    fs::write(&path, &journal).unwrap();
    journal
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answered_commits_that_are_gone_from_the_journal_refuse_the_start_until_staff_say_so() {
    let site = Site::new();
    site.run(&["backup", "good.db"]).expect(0);
    let journal = crashed(&site, 30).await;
    let refused = site.start_refused().expect(65).saying("may be lost");
    let (_, name) = refused.stderr.split_once("--accept-loss ").unwrap();
    let name = name.split_whitespace().next().unwrap().to_owned();
    let whole: i64 = name.split('-').next().unwrap().parse().unwrap();
    assert!((4..34).contains(&whole), "{name}");
    for command in [&["verify"][..], &["account", "list"], &["backup", "no.db"]] {
        site.run(command).expect(65).saying(&name);
    }
    site.run(&["check"]).expect(78).printing(&name);
    let run = |name: &str| {
        let mut program = site.program();
        program.args(["run", "--accept-loss", name]);
        Server::start(program, &site.path("certs"))
    };
    assert!(run("4-4-0011223344556677").is_err());
    assert_eq!(fs::read(site.path("data/bank.db-wal")).unwrap(), journal);
    let server = run(&name).unwrap_or_else(|ran| panic!("{ran:#?}"));
    let mut terminal = server.customer("terminal-1", "zz-99999", "9999").await;
    terminal.deposit(1).await.expect_code(0);
    server.stop();
    let kept = site.path(&format!("data/bank.db-wal.lost-{name}"));
    assert_eq!(fs::read(kept).unwrap(), journal);
    site.run(&["audit", "--event", "loss_accepted"])
        .expect(0)
        .printing(&name);
    let verified = site.verify();
    assert_eq!(verified["entries"], whole + 1, "{verified}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_goes_on_after_a_loss_and_keeps_both_files_aside() {
    let site = Site::new();
    site.run(&["backup", "good.db"]).expect(0);
    let journal = crashed(&site, 30).await;
    let restored = site.run(&["restore", "good.db", "--json"]).expect(0).json();
    let kept = restored["kept"].as_str().unwrap();
    assert_eq!(fs::read(format!("{kept}-wal")).unwrap(), journal);
    site.verify();
}
