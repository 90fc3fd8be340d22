//! What a start asks of the machine, `check` asks too; what is made is whole; what is meant otherwise is
//! refused; and no signal ends what it need not.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;

use rustix::process::Signal;

use crate::support::{Ran, Site, WAIT};

/// Both must refuse, with these words; the start with this code.
#[track_caller]
fn both_refuse(site: &Site, code: i32, words: &str) {
    let check = site.run(&["check"]).expect(78);
    assert!(check.stdout.contains(words), "no {words:?} in {check:?}");
    site.start_refused().expect(code).saying(words);
}

#[test]
fn whatever_keeps_the_server_from_starting_check_says_before() {
    let mut site = Site::new();
    site.run(&["check"]).expect(0);
    site.set("accounts.currency", "\"EUR\"");
    both_refuse(&site, 78, "holds USD, and the configuration says EUR");
    site.set("accounts.currency", "\"USD\"");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    site.set("server.listen", &format!("\"{address}\""));
    both_refuse(&site, 69, "the port is in use");
    drop(taken);
    site.set("metrics.listen", &format!("\"0.0.0.0:{}\"", address.port()));
    both_refuse(&site, 69, "the port is in use");
    site.set("metrics.listen", "\"off\"");
    site.set("server.listen", "\"127.0.0.1:0\"");

    // The socket stands beside the store, where it has no place of its own.
    let long = site.path(&"s".repeat(120)).join("bank.db");
    site.set("store.url", &format!("\"sqlite:{}\"", long.display()));
    both_refuse(&site, 73, "107 octets at most");
    assert!(!long.parent().unwrap().exists());
    site.set("store.url", "\"sqlite:data/bank.db\"");
    site.set("server.operator_socket", "\"accounts.txt\"");
    both_refuse(&site, 73, "something that is no socket is there");
    site.set("server.operator_socket", "\"data/operator.sock\"");

    site.set("store.url", "\"sqlite:data/new.db\"");
    fs::write(site.path("data/new.db-wal"), "").unwrap();
    both_refuse(&site, 65, "it may hold money that was acknowledged");
    fs::remove_file(site.path("data/new.db-wal")).unwrap();
    fs::write(site.path("data/new.db"), "").unwrap();
    both_refuse(&site, 65, "is an empty file");
    site.set("store.url", "\"sqlite:data/bank.db\"");
    site.set("server.listen", "\"0.0.0.0:0\"");
    both_refuse(&site, 78, "demo accounts");
    site.set("server.listen", "\"127.0.0.1:0\"");
    site.run(&["check"]).expect(0);
    // Beside its own server a check finds nothing in its way.
    let server = site.start();
    site.set("server.listen", &format!("\"{}\"", server.address));
    site.run(&["check"]).expect(0);
    server.stop();
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(site.path("data"), fs::Permissions::from_mode(0o500)).unwrap();
        both_refuse(&site, 73, "cannot be written");
        fs::set_permissions(site.path("data"), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn a_lock_removed_by_hand_lets_no_second_server_in() {
    let mut site = Site::new();
    let server = site.start();
    site.set("server.operator_socket", "\"data/other.sock\"");
    let lock = site.path("data/bank.db-lock");
    for _ in 0..2 {
        site.start_refused()
            .expect(75)
            .saying("in use by another server");
        site.run(&["account", "list"]).expect(75);
        fs::remove_file(&lock).unwrap();
    }
    site.start_refused().expect(75);
    // Nor does another store that is put in the place of the one that is open.
    fs::copy(site.path("data/bank.db"), site.path("data/copy.db")).unwrap();
    server.stop();
    let mut site = Site::new();
    let server = site.start();
    site.set("server.operator_socket", "\"data/other.sock\"");
    fs::copy(site.path("data/bank.db"), site.path("data/copy.db")).unwrap();
    fs::rename(site.path("data/copy.db"), site.path("data/bank.db")).unwrap();
    site.start_refused().expect(75);
    server.kill();
}

#[test]
fn a_start_that_was_cut_off_while_it_made_the_pepper_is_made_good_by_the_next() {
    let site = Site::bare(&[]);
    fs::write(site.path("certs/.pepper.draft"), "p-0a 00").unwrap();
    site.start().stop();
    let pepper = fs::read_to_string(site.path("certs/pepper")).unwrap();
    assert_eq!(pepper.lines().count(), 1);
    assert!(!site.path("certs/.pepper.draft").exists());
    let mode = fs::metadata(site.path("certs/pepper"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn what_is_meant_otherwise_makes_no_file_of_that_name() {
    let mut site = Site::bare(&[]);
    for (key, value) in [
        ("store.url", "\"sqlite:bank.db?mode=ro\""),
        ("store.url", "\"sqlite:~/bank.db\""),
        ("pin.pepper_file", "\"~/pepper\""),
    ] {
        site.set(key, value);
        site.start_refused().expect(78);
        site.run(&["check"]).expect(78);
        site.set(
            key,
            if key == "store.url" {
                "\"sqlite:data/bank.db\""
            } else {
                "\"certs/pepper\""
            },
        );
    }
    assert!(!site.path("~").exists() && !site.path("bank.db?mode=ro").exists());
    for empty in ["", "# nobody\n\n"] {
        site.import(empty).expect(65).saying("holds no account");
    }
    assert!(!site.path("data").exists() && !site.path("certs/pepper").exists());
}

#[test]
fn what_is_too_much_for_a_running_server_is_refused_before_a_pin_is_hashed() {
    // A hash that takes seconds: forty thousand of them would take a day.
    let site = Site::bare(&[("pin.memory_kib", "262144"), ("pin.iterations", "4")]);
    let server = site.start();
    let lines: String = (0..40_001)
        .map(|number| format!("qa-{number:05}, 60{number:05}, 0.00\n"))
        .collect();
    site.import(&lines)
        .expect(65)
        .saying("too much for a running server");
    server.stop();
}

#[test]
fn an_account_that_exists_is_not_added_again() {
    let site = Site::new();
    let added = site
        .run_with(&["account", "add", "zz-99999", "--json"], "6017\n")
        .expect(65);
    assert_eq!(added.json()["existing"][0], "zz-99999");
    site.run_with(&["account", "add", "zz-99999"], "6017\n")
        .expect(65)
        .saying("exists");
    let text = site.run(&["terminal", "disable", "terminal-1"]).expect(0);
    assert!(text.stdout.contains("disabled"));
    let listed = site.run(&["terminal", "list", "--json"]).expect(0).json();
    assert_eq!(listed["terminals"][0]["cash_taken_in"], 0);
}

#[tokio::test]
async fn a_manager_whose_socket_has_no_file_is_told_that_the_server_is_ready() {
    let site = Site::new();
    let name = format!("atm-bank-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    manager.set_read_timeout(Some(WAIT)).unwrap();
    let mut program = site.program();
    program.env("NOTIFY_SOCKET", format!("@{name}"));
    let server = crate::support::Server::start(program, &site.path("certs"));
    let server = server.unwrap_or_else(|ran| panic!("{ran:?}"));
    let mut told = [0; 512];
    let length = manager.recv(&mut told).unwrap();
    assert!(String::from_utf8_lossy(&told[..length]).starts_with("READY=1\n"));
    server.stop();
}

#[tokio::test]
async fn signals_that_mean_nothing_end_nothing_and_a_limit_on_files_is_answered_51() {
    let site = Site::new();
    let server = site.start();
    for signal in [
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::XFSZ,
        Signal::XCPU,
        Signal::IO,
        Signal::POWER,
        Signal::STKFLT,
    ] {
        server.signal(signal);
    }
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    customer.deposit(1).await.expect_code(0);
    let limit = Command::new("prlimit")
        .args(["--fsize=4096", "--pid", &server.pid().to_string()])
        .output();
    if !limit.is_ok_and(|ran| ran.status.success()) {
        println!("skipped: there is no prlimit on the PATH");
        return;
    }
    customer.deposit(1).await.expect_code(51);
    customer.ping().await.expect_code(0);
    server.kill();
}

#[test]
fn where_no_threads_can_be_had_the_start_says_so_with_71() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can run it as a user without threads");
        return;
    }
    // A user that no other process is of, and who may have four tasks.
    let script = "ulimit -u 4; exec setpriv --reuid 64321 --regid 64321 --clear-groups \"$@\"";
    let mut command = Command::new("bash");
    command
        .args(["-c", script, "bash"])
        .arg(env!("CARGO_BIN_EXE_bank_server"));
    command.current_dir("/").args(["check", "--config-only"]);
    let ran = Ran::of(command, "");
    if ran.code == Some(127) || ran.stderr.contains("setpriv") {
        println!("skipped: {ran:?}");
        return;
    }
    ran.expect(71).saying("threads are needed");
}
