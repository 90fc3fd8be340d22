//! What the server gives up for itself, and what a service manager is told.

use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use atm_bank::config::{Config, Overrides};

use crate::support::{Server, Site, WAIT, until};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/bank_server.service");

fn proc_file(server: &Server, name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{}/{name}", server.pid())).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_has_no_new_privileges_and_no_core_file_and_serves_the_same() {
    let site = Site::new();
    let server = site.start();
    // Each thread has its own flag: all were started after it was set.
    for thread in std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
    let limits = proc_file(&server, "limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = core.unwrap().split_whitespace().collect();
    assert_eq!(&words[4..6], ["0", "0"], "{limits}");
    server.wait_for_log("no core file, memory closed to other processes, no new privileges");
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    customer.deposit(5).await.expect_code(0);
    customer.close().await;
    server.stop();
}

#[test]
fn a_confined_server_is_backed_up_to_where_it_could_not_write_itself() {
    let site = Site::new();
    let server = site.start();
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("copy.db");
    site.run(&["backup", copy.to_str().unwrap()]).expect(0);
    assert!(
        std::fs::read(&copy)
            .unwrap()
            .starts_with(b"SQLite format 3")
    );
    let left: Vec<String> = std::fs::read_dir(site.path("data"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("backup"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    server.stop();
}

/// Whether this kernel has fenced the server in, so that there is anything to test.
fn is_fenced(server: &Server) -> bool {
    server.wait_for_log("confined");
    let log = server.log();
    let line = log.lines().find(|line| line.contains("confined")).unwrap();
    let (taken, _) = line.split_once("not_granted").unwrap();
    let fenced = taken.contains("writes only in its folders");
    if !fenced {
        println!("skipped: this kernel has no Landlock");
    }
    fenced
}

/// Moves a file, and leaves a link to its new place.
fn move_behind_link(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
    std::os::unix::fs::symlink(to, from).unwrap();
}

#[test]
fn a_confined_server_changes_a_pepper_file_behind_a_link() {
    let site = Site::new();
    std::fs::create_dir(site.path("secrets")).unwrap();
    move_behind_link(&site.path("certs/pepper"), &site.path("secrets/pepper"));
    let server = site.start();
    if !is_fenced(&server) {
        return;
    }
    site.run(&["pepper", "rotate"]).expect(0);
    let peppers = std::fs::read_to_string(site.path("secrets/pepper")).unwrap();
    assert_eq!(peppers.lines().count(), 2);
    let link = std::fs::symlink_metadata(site.path("certs/pepper")).unwrap();
    assert!(link.is_symlink());
    server.stop();
}

#[test]
fn a_confined_server_writes_nothing_beside_its_certificates() {
    let site = Site::bare(&[("pin.pepper_file", "\"secrets/pepper\"")]);
    std::fs::create_dir(site.path("secrets")).unwrap();
    site.import("zz-99999, 9999, 655.35\n").expect(0);
    let server = site.start();
    if !is_fenced(&server) {
        return;
    }
    site.run(&["pepper", "rotate"]).expect(0);
    // It is made to try: what its pepper file leads to lies among the certificates now.
    move_behind_link(&site.path("secrets/pepper"), &site.path("certs/pepper"));
    let before = std::fs::read(site.path("certs/pepper")).unwrap();
    site.run(&["pepper", "rotate"])
        .expect(78)
        .saying("cannot be replaced");
    assert_eq!(std::fs::read(site.path("certs/pepper")).unwrap(), before);
    assert!(!site.path("certs/pepper.new").exists());
    server.stop();
}

#[test]
fn a_service_manager_hears_of_readiness_of_life_and_of_the_end() {
    let site = Site::new();
    let path = site.path("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(WAIT)).unwrap();
    let hear = || {
        let mut bytes = [0; 512];
        let count = manager.recv(&mut bytes).expect("a message of the server");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    let mut program = site.program();
    program
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "2000000");
    let server = Server::start(program, &site.path("certs")).unwrap();
    let ready = hear();
    assert!(
        ready.starts_with("READY=1\nSTATUS=serving on 127.0.0.1:"),
        "{ready}"
    );
    for _ in 0..2 {
        assert_eq!(hear(), "WATCHDOG=1\n");
    }
    server.stop();
    // Pings may still have been on their way.
    let last = until("the end to be told", || {
        Some(hear()).filter(|word| word != "WATCHDOG=1\n")
    });
    assert_eq!(last, "STOPPING=1\n");
}

#[test]
fn a_server_whose_manager_does_not_listen_serves_all_the_same() {
    let site = Site::new();
    let mut program = site.program();
    program.env("NOTIFY_SOCKET", site.path("nobody.sock"));
    let server = Server::start(program, &site.path("certs")).unwrap();
    server.wait_for_log("the service manager was not reached");
    server.stop();
}

#[test]
fn the_unit_leaves_little_open() {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager", "--threshold=20"]);
    match analyze.arg(UNIT).output() {
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stdout);
            assert!(words.contains("Overall exposure level"), "{output:?}");
            // The threshold is in tenths: an exposure of more than 2.0 is an error.
            assert!(output.status.success(), "{words}");
        }
        Err(error) => println!("skipped: systemd-analyze cannot be run here ({error})"),
    }
}

/// What the unit's head tells to write into the configuration.
fn told_in_the_head(unit: &str) -> String {
    let lines = unit.lines().map_while(|line| line.strip_prefix('#'));
    let lines = lines.skip_while(|line| line.trim() != "[tls]");
    lines
        .take_while(|line| !line.is_empty())
        .fold(String::new(), |text, line| text + line.trim() + "\n")
}

#[test]
fn staff_find_the_units_bank_from_any_folder_by_its_configuration_alone() {
    let unit = std::fs::read_to_string(UNIT).unwrap();
    let told = told_in_the_head(&unit);
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OPERATIONS.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    for line in told.lines() {
        assert!(manual.lines().any(|found| found.trim() == line), "{line}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bank_server.toml");
    std::fs::write(&file, told).unwrap();
    let staff = Config::load(Some(&file), std::iter::empty(), &Overrides::default());
    let staff = staff.unwrap().config;

    let values = |key: &str| {
        let key = format!("{key}=");
        let lines = unit
            .lines()
            .filter_map(move |line| line.strip_prefix(&*key).map(str::to_owned));
        lines.collect::<Vec<String>>()
    };
    let given: Vec<(OsString, OsString)> = values("Environment")
        .iter()
        .map(|set| set.split_once('=').unwrap())
        .map(|(name, value)| (name.into(), value.replace("%d", "/run/credentials").into()))
        .collect();
    let served = Config::load(Some(&file), given.into_iter(), &Overrides::default());
    let served = served.unwrap().config;
    assert_eq!(staff.store.url, served.store.url);
    assert_eq!(staff.server.operator_socket, served.server.operator_socket);
    assert!(staff.server.operator_socket.is_absolute());
    assert_eq!(values("WorkingDirectory"), ["/var/lib/bank"]);
    assert!(staff.server.operator_socket.starts_with("/var/lib/bank"));
    assert_eq!(staff.tls.ca, served.tls.ca);
    assert!(staff.tls.ca.is_absolute());
    // Staff read what the unit hands to the server.
    let handed = [
        format!("pepper:{}", staff.pin.pepper_file.display()),
        format!("server.key:{}", staff.tls.key.display()),
    ];
    assert_eq!(values("LoadCredential"), handed);
    assert_eq!(served.pin.pepper_file, Path::new("/run/credentials/pepper"));
    assert_eq!(served.tls.key, Path::new("/run/credentials/server.key"));
}

#[test]
fn the_unit_gives_the_server_time_to_drain_and_asks_for_its_watchdog() {
    let unit = std::fs::read_to_string(Path::new(UNIT)).unwrap();
    let seconds = |key: &str| -> u64 {
        let value = unit.lines().find_map(|line| line.strip_prefix(key));
        value.unwrap().parse().unwrap()
    };
    let drain =
        Duration::from_millis(u64::try_from(atm_bank::limits::default::DRAIN_TIMEOUT_MS).unwrap());
    assert!(Duration::from_secs(seconds("TimeoutStopSec=")) > drain);
    // A call to the store may take 30 s before it is given up.
    assert!(seconds("WatchdogSec=") > 30);
    for line in [
        "Type=notify",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
}
