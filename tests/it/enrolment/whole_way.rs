//! The whole way, with the real terminal: enrol, serve, renew.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use atm_bank::pki::CertificateFacts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::cutter::Cutter;
use super::fake_bank::FakeBank;
use crate::support::{Ran, Server, Site, until};

const SCRIPT: &str = "login zz-99999 9999\ndeposit 5.00\nlogout\n";

fn atm_client(site: &Site) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atm_client"));
    command
        .current_dir(site.folder())
        .env("XDG_STATE_HOME", site.path("state"))
        .env_remove("ATM_PIN")
        .env_remove("ATM_ENROLL_CODE");
    command
}

/// Enrols at a port with a code, into the site's folder `till`.
fn enroll(site: &Site, host: &str, port: u16, code: &str, more: &[&str]) -> Ran {
    let hash = site.gen_certs(&["show", "--json"]).json();
    let hash = hash["authorities"][0]["spki_sha256"].as_str().unwrap();
    let mut command = atm_client(site);
    command
        .args(["enroll", "--out", "till", "--server"])
        .arg(format!("{host}:{port}"))
        .args(["--ca-sha256", hash, "--code", code])
        .args(more);
    Ran::of(command, "")
}

fn terminal(site: &Site, server: &Server) -> Command {
    terminal_at(site, server.address.port())
}

fn terminal_at(site: &Site, port: u16) -> Command {
    let mut command = atm_client(site);
    command
        .arg("--server")
        .arg(format!("localhost:{port}"))
        .args(["--ca", "till/ca.pem", "--cert", "till/terminals/till-7.pem"])
        .args(["--key", "till/terminals/till-7.key"]);
    command
}

fn script(site: &Site, server: &Server, lines: &str) -> Ran {
    let mut command = terminal(site, server);
    command.args(["--script", "-"]);
    Ran::of(command, lines)
}

fn facts(certificate: &Path) -> CertificateFacts {
    CertificateFacts::read(&CertificateDer::from_pem_file(certificate).unwrap()).unwrap()
}

fn serial(site: &Site) -> String {
    facts(&site.path("till/terminals/till-7.pem"))
        .serial
        .to_string()
}

fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

/// Waits until a third of the certificate's life is left.
fn until_due(site: &Site) {
    let facts = facts(&site.path("till/terminals/till-7.pem"));
    let due = facts.not_after - (facts.not_after - facts.not_before) / 3;
    until("the certificate to be due", || (now() > due).then_some(()));
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_new_terminal_enrols_with_the_printed_command_and_serves_a_customer() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let invited = site
        .run(&["terminal", "invite", "till-7", "--json"])
        .expect(0)
        .json();
    let port = server.address.port().to_string();
    let printed = invited["enroll"].as_str().unwrap().replace("PORT", &port);
    let mut command = atm_client(&site);
    command
        .args(printed.split(' ').skip(1))
        .args(["--out", "till"]);
    Ran::of(command, "")
        .expect(0)
        .printing("this terminal is till-7 now");
    let till = site.path("till");
    let lock = till.join("terminals/.till-7.pem.lock");
    let names = ["terminals/till-7.key", "terminals/till-7.pem"].map(|name| till.join(name));
    let [key, certificate] = names;
    assert_eq!(
        files(&till),
        [till.join("ca.pem"), lock, key.clone(), certificate]
    );
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        CertificateDer::from_pem_file(till.join("ca.pem")).unwrap(),
        CertificateDer::from_pem_file(site.path("certs/ca.pem")).unwrap()
    );
    script(&site, &server, SCRIPT)
        .expect(0)
        .printing("ok deposit");
    let listed = site.run(&["terminal", "list", "till-7"]).expect(0);
    assert!(listed.stdout.contains("till-7"));
    // The private key is in its file, and nowhere else.
    let pem = fs::read_to_string(&key).unwrap();
    let secret: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(secret).unwrap();
    // The scalar of a P-256 key in PKCS#8.
    let scalar = &der[36..68];
    let others = files(site.folder()).into_iter();
    for path in others.filter(|path| *path != key && path.is_file()) {
        let content = fs::read(&path).unwrap();
        assert!(
            !content.windows(32).any(|part| part == scalar),
            "{}",
            path.display()
        );
    }
}

#[test]
fn a_maze_of_certificates_is_no_bank_and_is_told_at_once() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    enroll(
        &site,
        "localhost",
        server.address.port(),
        &site.invite("till-7"),
        &[],
    )
    .expect(0);
    let (mut chain, key) =
        crate::identity::chains::maze(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    let authority = CertificateDer::from_pem_file(site.path("certs/ca.pem")).unwrap();
    // The authority's certificate, which is no secret, takes the place of some of the last.
    chain.truncate(chain.len() - 5);
    chain.push(authority);
    let bank = FakeBank::showing(chain, key, "127.0.0.1");
    let began = std::time::Instant::now();
    let code = "00000-00000-00000-00000";
    enroll(&site, "localhost", bank.port, code, &["--force"]).expect(76);
    let mut command = terminal_at(&site, bank.port);
    command.args(["--script", "-"]);
    Ran::of(command, "ping\n").expect(76);
    // All ways through it take seconds.
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_secs(3), "{took:?}");
    assert_eq!(bank.heard(), (2, Vec::new()));
}

#[test]
fn with_the_wrong_hash_nothing_is_said_and_nothing_kept() {
    let site = Site::enrolling(&[]);
    let bank = FakeBank::start(&site.path("certs"), "127.0.0.1");
    let mut command = atm_client(&site);
    command
        .args(["enroll", "--out", "till", "--server"])
        .arg(format!("localhost:{}", bank.port))
        .args([
            "--ca-sha256",
            &"00".repeat(32),
            "--code",
            "00000-00000-00000-00000",
        ]);
    Ran::of(command, "").expect(76).saying("nothing was sent");
    assert_eq!(bank.heard(), (1, Vec::new()));
    assert!(files(&site.path("till")).is_empty());
}

#[test]
fn the_right_hash_under_another_name_or_over_anothers_certificate_is_not_the_bank() {
    let site = Site::enrolling(&[]);
    let code = "00000-00000-00000-00000";
    let bank = FakeBank::start(&site.path("certs"), "127.0.0.2");
    enroll(&site, "127.0.0.2", bank.port, code, &[]).expect(76);
    assert_eq!(bank.heard(), (1, Vec::new()));
    // The authority's certificate is no secret: it is the server's own that must come from it.
    let other = Site::bare(&[]);
    fs::copy(site.path("certs/ca.pem"), other.path("certs/ca.pem")).unwrap();
    let bank = FakeBank::start(&other.path("certs"), "127.0.0.1");
    enroll(&site, "localhost", bank.port, code, &[]).expect(76);
    assert_eq!(bank.heard(), (1, Vec::new()));
    // Nor does a terminal's certificate make a server.
    let certs = other.path("certs");
    for (from, to) in [("pem", "server.pem"), ("key", "server.key")] {
        let from = site.path(&format!("certs/terminals/terminal-1.{from}"));
        fs::copy(from, certs.join(to)).unwrap();
    }
    let bank = FakeBank::start(&certs, "127.0.0.1");
    enroll(&site, "localhost", bank.port, code, &[]).expect(76);
    assert_eq!(bank.heard(), (1, Vec::new()));
}

#[test]
fn a_terminal_whose_answer_is_lost_tries_again_with_the_same_key_which_it_never_said() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let code = site.invite("till-7");
    let bank = FakeBank::start(&site.path("certs"), "127.0.0.1");
    enroll(&site, "localhost", bank.port, &code, &[]).expect(69);
    let pending = fs::read_to_string(site.path("till/terminals/.enroll.key")).unwrap();
    let (_, said) = bank.heard();
    let said: serde_json::Value = serde_json::from_slice(&said[4..]).unwrap();
    let members: Vec<&String> = said.as_object().unwrap().keys().collect();
    assert_eq!(members, ["code", "csr", "id", "op"]);
    let csr = STANDARD.decode(said["csr"].as_str().unwrap()).unwrap();
    let secret: String = pending
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let scalar = STANDARD.decode(secret).unwrap()[36..68].to_vec();
    assert!(!csr.windows(32).any(|part| part == scalar));
    enroll(&site, "localhost", server.address.port(), &code, &[]).expect(0);
    assert_eq!(
        fs::read_to_string(site.path("till/terminals/till-7.key")).unwrap(),
        pending
    );
    assert!(!site.path("till/terminals/.enroll.key").exists());
    script(&site, &server, SCRIPT).expect(0);
}

#[test]
fn files_that_are_there_are_kept_unless_forced_and_the_code_still_serves() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let port = server.address.port();
    let enroll = |code: &str, more: &[&str]| enroll(&site, "localhost", port, code, more);
    enroll(&site.invite("till-7"), &[]).expect(0);
    let first = serial(&site);
    let code = site.invite("till-7");
    enroll(&code, &[])
        .expect(73)
        .saying("till-7.pem is there already");
    assert_eq!(serial(&site), first);
    enroll(&code, &["--force"]).expect(0);
    assert_ne!(serial(&site), first);
    enroll(&code, &["--force"])
        .expect(1)
        .saying("ask the bank for a new code");
    script(&site, &server, SCRIPT).expect(0);
    // Another bank's authority is not written over.
    fs::copy(
        Site::bare(&[]).path("certs/ca.pem"),
        site.path("till/ca.pem"),
    )
    .unwrap();
    let code = site.invite("till-8");
    enroll(&code, &[]).expect(73).saying("ca.pem");
    enroll(&code, &["--force"]).expect(0).printing("till-8");
    enroll("no code", &[]).expect(64);
}

/// A terminal in line mode whose customer has not come yet.
struct Waiting {
    child: Child,
}

impl Waiting {
    fn start(site: &Site, server: &Server) -> Self {
        let mut command = terminal(site, server);
        command
            .arg("--plain")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        Self { child }
    }

    fn serve(mut self, typed: &str) -> (String, String) {
        let mut stdin = self.child.stdin.take().unwrap();
        stdin.write_all(typed.as_bytes()).unwrap();
        drop(stdin);
        let output = self.child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    }
}

const CUSTOMER: &str = "zz-99999\n9999\nbalance\nlogout\nquit\n";

#[test]
fn a_terminal_renews_while_it_waits_for_a_customer_and_serves_with_the_new_certificate() {
    let site = Site::enrolling(&[("enroll.certificate_ms", "9000")]);
    let server = site.start();
    let port = server.address.port();
    enroll(&site, "localhost", port, &site.invite("till-7"), &[]).expect(0);
    let first = serial(&site);
    for kept in ["pem", "key"] {
        let from = site.path(&format!("till/terminals/till-7.{kept}"));
        fs::copy(from, site.path(&format!("old.{kept}"))).unwrap();
    }
    let waiting = Waiting::start(&site, &server);
    until("the renewal", || (serial(&site) != first).then_some(()));
    let (said, warned) = waiting.serve(CUSTOMER);
    assert!(said.contains("Hello, zz-99999"), "{said}\n{warned}");
    assert!(!warned.contains("not renewed"), "{warned}");
    // The old one is no longer needed, and no longer good.
    let end = facts(&site.path("old.pem")).not_after;
    until("the old certificate to end", || (now() > end).then_some(()));
    let mut old = atm_client(&site);
    old.arg("--server").arg(format!("localhost:{port}"));
    old.args([
        "--ca",
        "till/ca.pem",
        "--cert",
        "old.pem",
        "--key",
        "old.key",
    ]);
    old.args(["--script", "-"]);
    Ran::of(old, "ping\n").expect(69);
    script(&site, &server, SCRIPT).expect(0);
}

#[test]
fn a_terminal_renews_at_its_start_where_that_is_due() {
    let site = Site::enrolling(&[("enroll.certificate_ms", "12000")]);
    let server = site.start();
    let port = server.address.port();
    enroll(&site, "localhost", port, &site.invite("till-7"), &[]).expect(0);
    let first = serial(&site);
    script(&site, &server, "ping\n").expect(0);
    assert_eq!(serial(&site), first);
    until_due(&site);
    script(&site, &server, "ping\n").expect(0);
    assert_ne!(serial(&site), first);
    script(&site, &server, SCRIPT).expect(0);
}

#[test]
fn a_renewal_that_fails_warns_and_the_terminal_goes_on() {
    let site = Site::enrolling(&[("enroll.certificate_ms", "12000")]);
    let server = site.start();
    let port = server.address.port();
    enroll(&site, "localhost", port, &site.invite("till-7"), &[]).expect(0);
    // What stands there cannot be written over.
    fs::create_dir(site.path("till/terminals/.till-7.pem.next")).unwrap();
    let first = serial(&site);
    until_due(&site);
    let ran = script(&site, &server, SCRIPT)
        .expect(0)
        .saying("not renewed");
    assert!(ran.stderr.contains("cannot write"), "{ran:#?}");
    assert!(ran.stdout.contains("ok deposit"));
    assert_eq!(serial(&site), first);
}

#[test]
fn however_many_answers_to_renewals_are_lost_the_next_try_gets_the_certificate() {
    let site = Site::enrolling(&[("enroll.certificate_ms", "40000")]);
    let server = site.start();
    let port = server.address.port();
    enroll(&site, "localhost", port, &site.invite("till-7"), &[]).expect(0);
    let first = serial(&site);
    let line = Cutter::before(server.address);
    let ping = || {
        let mut command = terminal_at(&site, line.port);
        command.args(["--script", "-"]);
        Ran::of(command, "ping\n").expect(0)
    };
    until_due(&site);
    for lost in 1..=20 {
        ping().saying("not renewed");
        assert_eq!(line.lost(), lost);
    }
    let pending = site.path("till/terminals/.till-7.key.renew");
    let key = fs::read_to_string(&pending).unwrap();
    assert_eq!(serial(&site), first);
    line.heal();
    let ran = ping();
    assert_eq!(ran.stderr, "");
    assert_ne!(serial(&site), first);
    let kept = fs::read_to_string(site.path("till/terminals/till-7.key")).unwrap();
    assert!(kept == key && !pending.exists());
    script(&site, &server, SCRIPT).expect(0);
    // The first and its successor, and no other.
    assert_eq!(revoked(&site), 2);
}

/// Revokes the terminal, and tells how many certificates it had on record.
fn revoked(site: &Site) -> usize {
    site.run(&["terminal", "revoke", "till-7"]).expect(0);
    let shown = site.gen_certs(&["show", "--json"]).json();
    let listed = &shown["issuing_revocation_list"]["revoked"];
    listed.as_array().unwrap().len()
}

#[test]
fn where_no_certificate_can_be_written_none_is_asked_for() {
    let site = Site::enrolling(&[("enroll.certificate_ms", "12000")]);
    let server = site.start();
    let port = server.address.port();
    enroll(&site, "localhost", port, &site.invite("till-7"), &[]).expect(0);
    let first = serial(&site);
    until_due(&site);
    // As on a full disk, files can be made and a key still fits: 512 bytes of each are written, and
    // then no more.
    let client = terminal(&site, &server);
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"])
        .arg(client.get_program())
        .args(client.get_args())
        .args(["--script", "-"])
        .current_dir(site.folder())
        .env("XDG_STATE_HOME", site.path("state"));
    let ran = Ran::of(command, "ping\n").expect(0).saying("not renewed");
    assert!(ran.stderr.contains("cannot write"), "{ran:#?}");
    assert_eq!(revoked(&site), 1);
    let left = files(&site.path("till/terminals"));
    assert!(
        left.iter()
            .all(|path| path.extension() != Some("next".as_ref()))
    );
    assert_eq!(serial(&site), first);
}

#[test]
fn a_terminal_of_gen_certs_does_not_renew_and_says_nothing() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let mut command = atm_client(&site);
    command
        .arg("--server")
        .arg(format!("localhost:{}", server.address.port()))
        .args(["--script", "-"]);
    let ran = Ran::of(command, SCRIPT).expect(0);
    assert_eq!(ran.stderr, "");
}
