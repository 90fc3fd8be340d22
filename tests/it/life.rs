//! A server's life: it starts or says why not, goes down in order, and tells no secrets.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use atm_bank::pki::{Authority, CertificateRequest, ServerName};
use rustix::process::Signal;
use serde_json::json;
use time::OffsetDateTime;

use crate::support::terminal::{framed, request};
use crate::support::{Card, Ending, Ran, Server, Site, Terminal, key};

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_port_in_use_is_named_with_69() {
    let site = Site::new();
    let server = site.start();
    let mut other = Site::new();
    other.set("server.listen", &format!("\"{}\"", server.address));
    other
        .start_refused()
        .expect(69)
        .saying("in use")
        .saying(&server.address.to_string());
}

#[test]
fn a_second_server_on_the_same_store_is_refused_with_75_and_the_first_goes_on() {
    let site = Site::new();
    let server = site.start();
    site.start_refused()
        .expect(75)
        .saying("in use by another server");
    site.run(&["verify"]).expect(0);
    server.stop();
    site.start().stop();
}

#[test]
fn a_key_or_pepper_that_others_may_read_is_refused_with_78() {
    for secret in ["certs/server.key", "certs/pepper"] {
        for mode in [0o644, 0o640, 0o604, 0o660] {
            let site = Site::new();
            chmod(&site.path(secret), mode);
            let refused = site.start_refused().expect(78).saying(secret);
            assert!(refused.stderr.contains("chmod 600"), "{refused:#?}");
            chmod(&site.path(secret), 0o600);
            site.run(&["verify"]).expect(0);
        }
    }
}

#[test]
fn a_store_without_its_pepper_is_refused_with_78_and_no_new_pepper_is_made() {
    let site = Site::new();
    let pepper = site.path("certs/pepper");
    let own = fs::read(&pepper).unwrap();
    fs::remove_file(&pepper).unwrap();
    site.start_refused().expect(78).saying("no pepper file");
    assert!(!pepper.exists());
    let other = Site::new();
    fs::copy(other.path("certs/pepper"), &pepper).unwrap();
    site.start_refused().expect(78).saying("needs the pepper");
    fs::write(&pepper, own).unwrap();
    site.start();
}

#[test]
fn a_damaged_or_foreign_store_is_refused_in_words_and_left_as_it_is() {
    let site = Site::new();
    let store = site.path("data/bank.db");
    for garbage in [
        vec![0xA5; 8_192],
        b"hello".to_vec(),
        fs::read(&store).unwrap()[..700].to_vec(),
    ] {
        // The journal of before would mend it.
        for part in ["data/bank.db-wal", "data/bank.db-shm"] {
            let _ = fs::remove_file(site.path(part));
        }
        fs::write(&store, &garbage).unwrap();
        let refused = site.start_refused().saying("data/bank.db");
        assert!(
            [65, 74, 78].contains(&refused.code.unwrap()),
            "{refused:#?}"
        );
        assert_eq!(refused.stdout, "");
        assert_eq!(fs::read(&store).unwrap(), garbage);
    }
    fs::remove_file(&store).unwrap();
    let foreign = rusqlite::Connection::open(&store).unwrap();
    foreign
        .execute_batch("CREATE TABLE other (thing TEXT)")
        .unwrap();
    drop(foreign);
    site.start_refused().expect(78).saying("not a bank's store");
}

#[test]
fn an_unknown_key_or_a_wrong_value_is_refused_with_78_naming_its_line() {
    for (line, words) in [
        ("max_conections = 3", "max_conections"),
        ("max_connections = 0", "max_connections"),
        ("max_connections = \"many\"", "max_connections"),
        ("idle_timeout_ms = 1.5", "idle_timeout_ms"),
        ("listen = \"nowhere\"", "listen"),
    ] {
        let site = Site::new();
        fs::write(
            site.path("bank.toml"),
            format!("# a bank\n[server]\n\n{line}\n"),
        )
        .unwrap();
        site.start_refused()
            .expect(78)
            .saying("bank.toml:4")
            .saying(words);
        site.run(&["check", "--config-only"]).expect(78);
    }
    let site = Site::new();
    site.program().args(["--config", "nowhere.toml"]);
    let mut missing = Command::new(env!("CARGO_BIN_EXE_bank_server"));
    missing
        .args(["--config", "nowhere.toml"])
        .current_dir(site.folder());
    let refused = Ran::of(missing, "").saying("nowhere.toml");
    assert!([66, 78].contains(&refused.code.unwrap()), "{refused:#?}");
}

#[test]
fn missing_or_wrong_certificates_are_refused_with_78_and_how_to_mend_it() {
    for file in ["ca.pem", "crl.pem", "server.pem", "server.key"] {
        let site = Site::new();
        let path = site.path("certs").join(file);
        fs::remove_file(&path).unwrap();
        site.start_refused()
            .expect(78)
            .saying(file)
            .saying("gen-certs");
        fs::write(&path, "nothing of use\n").unwrap();
        chmod(&path, 0o600);
        site.start_refused().expect(78).saying(file);
    }
    let (site, other) = (Site::new(), Site::new());
    fs::copy(other.path("certs/crl.pem"), site.path("certs/crl.pem")).unwrap();
    site.start_refused().expect(78).saying("no revocation list");
    let site = Site::new();
    fs::copy(
        other.path("certs/server.key"),
        site.path("certs/server.key"),
    )
    .unwrap();
    site.start_refused().expect(78).saying("server.pem");
}

#[test]
fn a_servers_certificate_that_has_ended_or_not_begun_is_refused_with_78() {
    let site = Site::new();
    let certs = site.path("certs");
    let authority = Authority::load(&certs.join("ca.pem"), &certs.join("ca.key")).unwrap();
    let (now, hour) = (OffsetDateTime::now_utc(), time::Duration::HOUR);
    for (from, to, words) in [
        (now - hour * 3, now - hour, "has ended"),
        (now + hour, now + hour * 3, "not valid yet"),
    ] {
        let request = CertificateRequest::server(&ServerName::local(), from, to);
        let issued = authority.issue(&request).unwrap();
        fs::write(certs.join("server.pem"), issued.pem()).unwrap();
        fs::write(certs.join("server.key"), issued.key_pem().as_bytes()).unwrap();
        site.start_refused().expect(78).saying(words);
    }
}

#[test]
fn demo_accounts_are_not_served_beyond_loopback() {
    let mut site = Site::bare(&[]);
    let mut first = site.program();
    first.args(["run", "--quick-start"]);
    Server::start(first, &site.path("certs")).unwrap().stop();
    site.set("server.listen", "\"0.0.0.0:0\"");
    let refused = site.start_refused().expect(78).saying("demo accounts");
    assert!(refused.stderr.contains("loopback"), "{refused:#?}");
    for account in ["ac-12345", "wf-14351", "tn-13731", "zz-99999"] {
        site.run(&["account", "set-pin", account]).expect(0);
    }
    site.start().stop();
}

#[test]
fn demo_accounts_that_staff_import_are_not_served_beyond_loopback_either() {
    let site = Site::bare(&[("server.listen", "\"0.0.0.0:0\"")]);
    let ran = site.import("ac-12345, 1324, 1.00\naa-00001, 739164, 1.00\n");
    ran.expect(0).printing("1 of them are demo accounts");
    site.start_refused()
        .expect(78)
        .saying("are in the store (1)");
    site.run(&["account", "set-pin", "ac-12345"]).expect(0);
    site.start().stop();
}

#[test]
fn a_bank_that_was_not_there_is_made_with_a_word() {
    let site = Site::bare(&[]);
    let server = site.start();
    assert!(server.log().contains("a new and empty one was made"));
    server.stop();
    let server = site.start();
    assert!(!server.log().contains("a new and empty one was made"));
}

#[tokio::test]
async fn a_server_told_to_stop_says_52_to_all_and_exits_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let site = Site::new();
        let server = site.start();
        let mut idle = server.terminal("terminal-1").await;
        let mut customer = server.customer("terminal-2", "zz-99999", "9999").await;
        server.signal(signal);
        for terminal in [&mut idle, &mut customer] {
            let notice = terminal.receive().await.expect_code(52);
            assert_eq!(notice.answer.id, None);
            assert_eq!(terminal.expect_end().await, Ending::Clean);
        }
        let ran = server.wait().expect(0);
        assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
        assert!(!site.path("data/operator.sock").exists());
    }
}

#[tokio::test]
async fn requests_in_flight_are_answered_before_the_server_stops_or_have_no_effect() {
    let site = Site::new();
    let server = site.start();
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    let mut batch = Vec::new();
    for id in 1..=300 {
        let deposit = request(id, "deposit", json!({ "amount": 1, "key": key() }));
        batch.extend(framed(deposit.to_string().as_bytes()));
    }
    customer.send_bytes(&batch).await;
    // At least one is being served when the signal comes.
    let mut answered = 0;
    let first = customer.receive().await.expect_code(0);
    assert_eq!(first.answer.id, Some(1));
    answered += 1;
    server.signal(Signal::TERM);
    loop {
        let seen = customer.receive().await;
        if seen.code() == 52 {
            break;
        }
        answered += 1;
        assert_eq!(seen.expect_code(0).answer.id, Some(answered));
    }
    customer.expect_end().await;
    server.wait().expect(0);
    let server = site.start();
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    let balance = customer.balance().await.balance();
    assert_eq!(balance, 65_535 + i64::try_from(answered).unwrap());
}

#[tokio::test]
async fn stuck_clients_keep_no_server_from_stopping() {
    let site = Site::with(&[("server.drain_timeout_ms", "500")]);
    let server = site.start();
    let mut half = server.terminal("terminal-1").await;
    half.send_bytes(&[0, 0, 0]).await;
    let _silent = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let _idle = server.terminal("terminal-1").await;
    let began = Instant::now();
    server.stop();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

/// The program in an empty folder, with nothing set but a port that is free.
fn bare(folder: &Path) -> Command {
    fs::create_dir_all(folder.join("config")).unwrap();
    let config = "[server]\nlisten = \"127.0.0.1:0\"\n[pin]\nmemory_kib = 8\niterations = 1\n";
    fs::write(folder.join("config/bank_server.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bank_server"));
    command.current_dir(folder).env_remove("CARGO");
    command
}

async fn demo_customer(folder: &Path, server: &Server) -> Terminal {
    let card = Card::of(&folder.join("certs"), "terminal-1");
    let mut terminal = Terminal::connect(server.address, card).await;
    terminal.login("zz-99999", "9999").await.expect_code(0);
    terminal
}

#[tokio::test]
async fn a_bare_first_start_makes_all_it_needs_and_a_second_goes_on_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let server = Server::start(bare(folder.path()), &folder.path().join("certs")).unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let port = server.address.port().to_string();
    let command = format!("atm_client --server localhost:{port}");
    server.wait_for_log(&command);
    server.wait_for_log("PINs are public");
    expect_a_terminal_from_anywhere(&server);
    let mut customer = demo_customer(folder.path(), &server).await;
    assert_eq!(customer.deposit(1).await.expect_code(0).balance(), 65_536);
    for secret in [
        "certs/ca.key",
        "certs/server.key",
        "certs/pepper",
        "data/bank.db",
    ] {
        let mode = fs::metadata(folder.path().join(secret))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let authority = fs::read(folder.path().join("certs/ca.pem")).unwrap();
    let ran = server.stop();
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    let server = Server::start(bare(folder.path()), &folder.path().join("certs")).unwrap();
    expect_a_terminal_from_anywhere(&server);
    let mut customer = demo_customer(folder.path(), &server).await;
    assert_eq!(customer.balance().await.balance(), 65_536);
    assert_eq!(
        fs::read(folder.path().join("certs/ca.pem")).unwrap(),
        authority
    );
    assert!(!server.stop().stderr.contains("quick start made"));
}

/// Takes the printed command to another folder, and is served.
fn expect_a_terminal_from_anywhere(server: &Server) {
    server.wait_for_log(&format!("localhost:{}\n", server.address.port()));
    let log = server.log();
    let command = log.lines().find(|line| line.contains("atm_client"));
    let command = command.unwrap_or_else(|| panic!("no command in {log}"));
    let state = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("{command} --script -")])
        .env("XDG_STATE_HOME", state.path())
        .current_dir("/");
    let told = Ran::of(shell, "login zz-99999 9999\n").expect(0);
    assert!(told.stdout.starts_with("ok login"), "{told:#?}");
}

#[test]
fn a_first_start_that_found_its_port_taken_is_made_good_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("anne's bank");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let command = bare(&site);
    let config = site.join("config/bank_server.toml");
    let text = fs::read_to_string(&config).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fs::write(&config, text.replace("127.0.0.1:0", &address)).unwrap();
    let refused = Server::start(command, &site.join("certs"))
        .map(|_| ())
        .unwrap_err();
    refused.expect(69).saying("the port is in use");
    let server = Server::start(bare(&site), &site.join("certs")).unwrap();
    server.wait_for_log("account zz-99999, PIN 9999");
    server.wait_for_log("PINs are public");
    expect_a_terminal_from_anywhere(&server);
    server.stop();
    for account in ["ac-12345", "wf-14351", "tn-13731", "zz-99999"] {
        let mut staff = bare(&site);
        staff.args(["account", "set-pin", account]);
        Ran::of(staff, "").expect(0);
    }
    let server = Server::start(bare(&site), &site.join("certs")).unwrap();
    let log = server.stop().stderr;
    assert!(!log.contains("in another window"), "{log}");
}

#[test]
fn a_bare_start_makes_nothing_over_what_exists() {
    let folder = tempfile::tempdir().unwrap();
    let command = bare(folder.path());
    fs::create_dir(folder.path().join("certs")).unwrap();
    let mut file = fs::File::create(folder.path().join("certs/server.pem")).unwrap();
    file.write_all(b"mine").unwrap();
    let refused = match Server::start(command, folder.path()) {
        Ok(_) => panic!("it started"),
        Err(ran) => ran,
    };
    refused.expect(78);
    assert_eq!(
        fs::read(folder.path().join("certs/server.pem")).unwrap(),
        b"mine"
    );
    assert!(!folder.path().join("certs/ca.key").exists());
    assert!(!folder.path().join("data").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_holds_no_pin_no_key_and_no_whole_account_number_at_any_level() {
    const SECRETS: [&str; 8] = [
        "739105284617",
        "628401937555",
        "517390264818",
        "canary-key-0123456789",
        "zz-99999",
        "ac-12345",
        "qq-77777",
        "canary-text",
    ];
    let [pin, wrong, new_pin, canary, account, to, unknown, text] = SECRETS;
    for format in ["\"text\"", "\"json\""] {
        let site = Site::bare(&[("log.level", "\"trace\""), ("log.format", format)]);
        let lines = format!("{account}, {pin}, 655.35\n{to}, {pin}, 1.00\n");
        let imported = site.import(&lines).expect(0);
        let server = site.start();
        let mut terminal = server.terminal("terminal-1").await;
        terminal.login(account, wrong).await.expect_code(20);
        terminal.login(unknown, wrong).await.expect_code(20);
        terminal.login(account, pin).await.expect_code(0);
        let malformed = format!("{{\"id\":1,\"op\":\"deposit\",\"{text}\":\"{canary}\"}}");
        terminal.send(malformed.as_bytes()).await;
        terminal.receive().await.expect_code(10);
        terminal.keyed("deposit", 1, canary).await.expect_code(0);
        terminal.keyed("deposit", 2, canary).await.expect_code(33);
        terminal.transfer(to, 1).await.expect_code(0);
        terminal.transfer(unknown, 1).await.expect_code(34);
        terminal.change_pin(pin, new_pin).await.expect_code(0);
        terminal.history(10).await.expect_code(0);
        site.run(&["account", "lock", account]).expect(0);
        terminal.receive().await.expect_code(42);
        site.run(&["account", "adjust", account, "1.00", "--reason", text])
            .expect(0);
        terminal.close().await;
        let log = server.stop().stderr + &imported.stderr;
        assert!(
            log.contains("zz-***99"),
            "the masked number is there: {log}"
        );
        for secret in SECRETS {
            assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
        }
    }
}
