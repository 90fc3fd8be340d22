//! Peppers, from outside: a stolen store without one, and a new one while customers are served.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atm_bank::access::pepper::{PepperId, Peppers};
use atm_bank::access::pin::{HashCost, Kiln, PinHash};
use atm_bank::domain::Pin;
use atm_bank::surroundings::System;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::support::{ACCOUNT_PINS, Ran, Site};

/// The hashes of a store, as a thief reads them.
fn stolen(store: &Path) -> BTreeMap<String, PinHash> {
    let connection = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sql = "SELECT number, memory_kib, iterations, parallelism, pepper, salt, digest \
               FROM credential JOIN account ON account.id = credential.account";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        let hash = PinHash {
            cost: HashCost {
                memory_kib: row.get(1)?,
                iterations: row.get(2)?,
                parallelism: row.get(3)?,
            },
            pepper: PepperId::parse(&row.get::<_, String>(4)?).unwrap(),
            salt: row.get(5)?,
            digest: row.get(6)?,
        };
        Ok((row.get(0)?, hash))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// All PINs of four digits, tried on every hash by `matches`: what was found.
fn search(
    hashes: &BTreeMap<String, PinHash>,
    mut matches: impl FnMut(&Pin, &PinHash) -> bool,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (account, hash) in hashes {
        for digits in (0..10_000).map(|number| format!("{number:04}")) {
            if matches(&Pin::parse(&digits).unwrap(), hash) {
                found.insert(account.clone(), digits);
            }
        }
    }
    found
}

/// Tries with the peppers of a file, as if its lines were the bank's own.
fn with_peppers(file: &Path) -> impl FnMut(&Pin, &PinHash) -> bool {
    let peppers = Arc::new(Peppers::load(file, false).unwrap());
    let mut kiln = Kiln::new(peppers, HashCost::LEAST);
    move |pin, hash| kiln.matches(pin, hash).unwrap()
}

/// Tries by argon2id alone, as a thief would who has never heard of peppers.
fn without_pepper(pin: &Pin, hash: &PinHash) -> bool {
    let cost = hash.cost;
    let params = argon2::Params::new(cost.memory_kib, cost.iterations, cost.parallelism, Some(32));
    let argon2 = argon2::Argon2::new(
        argon2::Algorithm::Argon2id,
        argon2::Version::V0x13,
        params.unwrap(),
    );
    let mut digest = [0; 32];
    argon2
        .hash_password_into(pin.digits(), &hash.salt, &mut digest)
        .unwrap();
    digest == hash.digest
}

fn write_peppers(path: &Path, text: &str) -> PathBuf {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_owned()
}

#[test]
fn a_stolen_store_gives_up_every_pin_with_the_pepper_and_none_without() {
    let site = Site::new();
    site.run(&["backup", "stolen.db"]).expect(0);
    fs::copy(site.path("data/bank.db"), site.path("copy.db")).unwrap();
    let hashes = stolen(&site.path("stolen.db"));
    assert_eq!(hashes, stolen(&site.path("copy.db")));
    let true_pins: BTreeMap<String, String> = ACCOUNT_PINS
        .map(|(account, pin)| (account.to_owned(), pin.to_owned()))
        .into();
    assert_eq!(hashes.len(), true_pins.len());

    // The control: the search does find PINs, where the pepper lies beside the store.
    let pepper = site.path("certs/pepper");
    assert_eq!(search(&hashes, with_peppers(&pepper)), true_pins);

    assert_eq!(search(&hashes, without_pepper), BTreeMap::new());
    // A secret of the thief's own, under the name that the hashes give.
    let guess = Peppers::create(&site.path("guess"), &System::default()).unwrap();
    let line = fs::read_to_string(site.path("guess")).unwrap();
    let name = hashes.values().next().unwrap().pepper.as_str();
    let renamed = line.replace(guess.current().unwrap().as_str(), name);
    let guessed = write_peppers(&site.path("guess"), &renamed);
    assert_eq!(search(&hashes, with_peppers(&guessed)), BTreeMap::new());
}

/// What `pepper show` says: each pepper with its accounts, the current one first.
fn shown(site: &Site) -> Vec<(String, u64)> {
    let printed = site.run(&["pepper", "show", "--json"]).expect(0).json();
    let peppers = printed["peppers"].as_array().unwrap();
    let use_of = |pepper: &Value| {
        let name = pepper["pepper"].as_str().unwrap().to_owned();
        (name, pepper["accounts"].as_u64().unwrap())
    };
    let uses: Vec<_> = peppers.iter().map(use_of).collect();
    assert_eq!(peppers[0]["current"], true, "{printed}");
    assert_eq!(printed["accounts_on_current"], uses[0].1, "{printed}");
    uses
}

/// The pepper file's lines and `pepper`'s words, which must not have a secret in them.
fn assert_no_secret(site: &Site, ran: &Ran) {
    for line in fs::read_to_string(site.path("certs/pepper"))
        .unwrap()
        .lines()
    {
        let secret = line.split_whitespace().nth(1).unwrap();
        assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peppers_are_rotated_while_serving_and_hashes_move_at_the_next_log_in() {
    let site = Site::new();
    let old = shown(&site);
    assert_eq!(old[0].1, 4);
    let server = site.start();
    let mut seated = server.customer("terminal-1", "zz-99999", "9999").await;
    let rotated = site.run(&["pepper", "rotate"]).expect(0);
    assert_no_secret(&site, &rotated);
    let rotated = shown(&site);
    assert_eq!(rotated[1..], old);
    assert_eq!(rotated[0].1, 0);
    let mode = fs::metadata(site.path("certs/pepper"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o7777, 0o600);

    // The session goes on, and its customer's next log-in moves the hash.
    seated.deposit(5).await.expect_code(0);
    seated.logout().await.expect_code(0);
    assert_eq!(shown(&site)[0].1, 0);
    seated.login("zz-99999", "9999").await.expect_code(0);
    assert_eq!(shown(&site)[0].1, 1);
    // New hashes stand on it at once, from here and from a command's own process.
    seated.change_pin("9999", "730518").await.expect_code(0);
    site.run_with(&["account", "add", "aa-00001"], "739164\n")
        .expect(0);
    assert_eq!([shown(&site)[0].1, shown(&site)[1].1], [2, 3]);
    let needed = site.run(&["pepper", "retire", &old[0].0]).expect(65);
    let needed = needed.saying("3 accounts still stand on");
    assert_no_secret(&site, &needed);
    site.run(&["pepper", "retire", &rotated[0].0])
        .expect(65)
        .saying("rotate first");
    site.run(&["pepper", "retire", "p-none"]).expect(65);

    server.kill();
    let server = site.start();
    for (account, pin) in &ACCOUNT_PINS[..3] {
        server.customer("terminal-2", account, pin).await;
    }
    assert_eq!([shown(&site)[0].1, shown(&site)[1].1], [5, 0]);
    site.run(&["pepper", "retire", &old[0].0]).expect(0);
    for (event, outcomes) in [
        ("pepper_rotated", vec!["done"]),
        (
            "pepper_retired",
            vec!["refused", "refused", "refused", "done"],
        ),
    ] {
        let told = site.run(&["audit", "--event", event, "--json"]);
        let told = told.expect(0).json();
        let records = told["records"].as_array().unwrap().iter();
        let found: Vec<&Value> = records.map(|record| &record["outcome"]).collect();
        assert_eq!(found, outcomes, "{told}");
    }
    assert_eq!(shown(&site), [(rotated[0].0.clone(), 5)]);
    server
        .customer("terminal-2", "zz-99999", "730518")
        .await
        .close()
        .await;
    server.stop();
    let server = site.start();
    server.customer("terminal-2", "ac-12345", "1324").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_bank_rotates_too_and_an_older_backup_needs_the_ring() {
    let site = Site::new();
    site.run(&["backup", "before.db"]).expect(0);
    let old = shown(&site)[0].0.clone();
    site.run(&["pepper", "rotate"])
        .expect(0)
        .printing("now copy ")
        .printing("certs/pepper");
    let ring = fs::read_to_string(site.path("certs/pepper")).unwrap();
    let server = site.start();
    for (account, pin) in ACCOUNT_PINS {
        server.customer("terminal-1", account, pin).await;
    }
    server.stop();
    site.run(&["pepper", "retire", &old]).expect(0);
    site.run(&["restore", "before.db"]).expect(78).saying(&old);
    write_peppers(&site.path("certs/pepper"), &ring);
    site.run(&["restore", "before.db"])
        .expect(0)
        .printing("now run: bank_server verify");
    let server = site.start();
    server.customer("terminal-1", "zz-99999", "9999").await;
    assert_eq!(shown(&site)[0].1, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pepper_file_that_was_lost_or_changed_is_never_taken_by_a_running_server() {
    let site = Site::new();
    let server = site.start();
    let path = site.path("certs/pepper");
    let whole = fs::read_to_string(&path).unwrap();
    for text in [
        "",
        "p-other 00\n",
        &format!("p-other {}\n", "0a".repeat(32)),
    ] {
        write_peppers(&path, text);
        site.run(&["pepper", "rotate"]).expect(78);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let refused = server.log().matches("reload refused").count();
        server.signal(rustix::process::Signal::HUP);
        crate::support::until("the refusal", || {
            (server.log().matches("reload refused").count() > refused).then_some(())
        });
    }
    server.customer("terminal-1", "zz-99999", "9999").await;
    write_peppers(&path, &whole);
    site.run(&["pepper", "rotate"]).expect(0);
    // A ring that was changed by hand is taken at a reload.
    let newest = format!("p-by-hand {}\n", "0b".repeat(32));
    let text = newest + &fs::read_to_string(&path).unwrap();
    write_peppers(&path, &text);
    server.reload();
    crate::support::until("the new ring", || {
        (shown(&site)[0].0 == "p-by-hand").then_some(())
    });
    server.customer("terminal-1", "ac-12345", "1324").await;
    assert_eq!(shown(&site)[0].1, 1);
}
