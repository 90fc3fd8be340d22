//! What `gen-certs` promises to scripts, asked of the real program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn gen_certs(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gen-certs"));
    command
        .args(arguments)
        .arg("--out")
        .arg(folder)
        .output()
        .unwrap()
}

fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let output = gen_certs(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let text = succeed(folder, &[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap()
}

/// The exit code and what was said on stderr.
fn refusal(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = gen_certs(folder, arguments);
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn made() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &[]);
    folder
}

/// All files below a folder, by their path from it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let below = files(&path).into_iter();
            found.extend(below.map(|(file, content)| (format!("{name}/{file}"), content)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn items(report: &Value, action: &str) -> Vec<String> {
    let items = report["items"].as_array().unwrap().iter();
    let subjects = items.filter(|item| item["action"] == action);
    subjects
        .map(|item| item["subject"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_first_run_makes_all_the_files_and_a_second_changes_none() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("deep/certs");
    let first = json(&folder, &[]);
    assert_eq!(
        items(&first, "made"),
        ["authority", "revocation_list", "server", "terminal"]
    );
    let before = files(&folder);
    let names: Vec<&str> = before.keys().map(String::as_str).collect();
    let expected = "ca.key ca.pem crl.pem gen-certs.lock issued.csv revoked.csv server.key server.pem \
         terminals/terminal-1.key terminals/terminal-1.pem";
    assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
    let second = json(&folder, &[]);
    assert_eq!(items(&second, "kept").len(), 4);
    assert_eq!(files(&folder), before);
}

#[test]
fn keys_are_for_their_owner_alone_and_pkcs8() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("certs");
    succeed(&folder, &[]);
    for key in ["ca.key", "server.key", "terminals/terminal-1.key"] {
        assert_eq!(mode(&folder.join(key)), 0o600, "{key}");
        let text = fs::read_to_string(folder.join(key)).unwrap();
        assert!(text.starts_with("-----BEGIN PRIVATE KEY-----"), "{key}");
    }
    for public in [
        "ca.pem",
        "server.pem",
        "crl.pem",
        "terminals/terminal-1.pem",
    ] {
        assert_eq!(mode(&folder.join(public)), 0o644, "{public}");
    }
    for inner in [folder.clone(), folder.join("terminals")] {
        assert_eq!(mode(&inner), 0o700);
    }
}

#[test]
fn only_what_is_missing_is_made() {
    let folder = made();
    let before = files(folder.path());
    fs::remove_file(folder.path().join("server.pem")).unwrap();
    fs::remove_file(folder.path().join("server.key")).unwrap();
    let report = json(
        folder.path(),
        &["--terminal", "terminal-1", "--terminal", "till-2"],
    );
    assert_eq!(items(&report, "made"), ["server", "terminal"]);
    let after = files(folder.path());
    assert_ne!(after["server.key"], before["server.key"]);
    assert!(after.contains_key("terminals/till-2.key"));
    for kept in [
        "ca.pem",
        "ca.key",
        "crl.pem",
        "terminals/terminal-1.pem",
        "terminals/terminal-1.key",
    ] {
        assert_eq!(after[kept], before[kept], "{kept}");
    }
    assert!(
        after["issued.csv"].starts_with(&before["issued.csv"]),
        "it only grows"
    );
}

#[test]
fn force_replaces_every_certificate_and_key() {
    let folder = made();
    let before = files(folder.path());
    let report = json(folder.path(), &["--force"]);
    assert_eq!(items(&report, "replaced").len(), 4);
    for (name, content) in files(folder.path()) {
        let registers = ["gen-certs.lock", "revoked.csv"];
        assert!(
            registers.contains(&name.as_str()) || content != before[&name],
            "{name}"
        );
    }
}

#[test]
fn a_terminal_is_added_and_registered() {
    let folder = made();
    succeed(folder.path(), &["terminal", "till-9"]);
    let pem = fs::read(folder.path().join("terminals/till-9.pem")).unwrap();
    let der = pem_to_der(&pem);
    assert_eq!(
        atm_bank::pki::terminal_name(&der).unwrap().as_str(),
        "till-9"
    );
    let issued = fs::read_to_string(folder.path().join("issued.csv")).unwrap();
    let lines: Vec<&str> = issued.lines().collect();
    assert_eq!(lines[0], "serial,name,end");
    assert!(lines[1].contains(",server:localhost,") && lines[2].contains(",terminal-1,"));
    assert!(lines[3].contains(",till-9,") && lines[3].ends_with('Z'));
    let before = files(folder.path());
    succeed(folder.path(), &["terminal", "till-9"]);
    assert_eq!(files(folder.path()), before);
    succeed(folder.path(), &["terminal", "till-9", "--force"]);
    assert_ne!(
        files(folder.path())["terminals/till-9.key"],
        before["terminals/till-9.key"]
    );
}

#[test]
fn the_server_has_the_names_and_days_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--server-name",
        "bank.example",
        "--server-name",
        "192.0.2.7",
        "--days",
        "3",
        "--json",
    ];
    succeed(folder.path(), &arguments);
    let shown = json(folder.path(), &["show"]);
    assert_eq!(shown["server"]["name"], "bank.example 192.0.2.7");
    let der = pem_to_der(&fs::read(folder.path().join("server.pem")).unwrap());
    let (start, end) = atm_bank::pki::validity(&der).unwrap();
    assert_eq!(end - start, 3 * 86_400);
}

#[test]
fn revoking_lists_every_certificate_of_the_name_once() {
    let folder = made();
    succeed(folder.path(), &["terminal", "terminal-1", "--force"]);
    let before = files(folder.path());
    let report = json(folder.path(), &["revoke", "terminal-1"]);
    assert_eq!(report["revoked"].as_array().unwrap().len(), 2);
    let shown = json(folder.path(), &["show"]);
    let listed = shown["revocation_lists"][0]["revoked"].as_array().unwrap();
    let issued = String::from_utf8(before["issued.csv"].clone()).unwrap();
    let mut expected = issued.lines().filter(|line| line.contains(",terminal-1,"));
    assert!(listed.iter().all(|one| {
        expected
            .next()
            .is_some_and(|line| line.starts_with(one["serial"].as_str().unwrap()))
    }));
    assert_eq!(listed.len(), 2);
    assert_eq!(shown["terminals"][0]["standing"], "revoked");

    let list = files(folder.path())["crl.pem"].clone();
    assert!(succeed(folder.path(), &["revoke", "terminal-1"]).contains("already"));
    assert_eq!(files(folder.path())["crl.pem"], list);
}

#[test]
fn renewing_replaces_server_and_terminals_but_not_authority_or_revoked() {
    let folder = made();
    succeed(folder.path(), &["terminal", "lost"]);
    succeed(folder.path(), &["revoke", "lost"]);
    let before = files(folder.path());
    succeed(folder.path(), &["renew"]);
    let after = files(folder.path());
    for renewed in [
        "server.pem",
        "server.key",
        "terminals/terminal-1.pem",
        "crl.pem",
    ] {
        assert_ne!(after[renewed], before[renewed], "{renewed}");
    }
    for kept in [
        "ca.pem",
        "ca.key",
        "terminals/lost.pem",
        "terminals/lost.key",
        "revoked.csv",
    ] {
        assert_eq!(after[kept], before[kept], "{kept}");
    }
}

#[test]
fn show_changes_nothing_and_tells_the_pin() {
    let folder = made();
    let before = files(folder.path());
    let shown = json(folder.path(), &["show"]);
    assert_eq!(files(folder.path()), before);
    let pin = shown["authorities"][0]["spki_sha256"].as_str().unwrap();
    let hash = atm_bank::pki::spki_sha256(&pem_to_der(&before["ca.pem"])).unwrap();
    assert_eq!(pin, data_encoding::HEXLOWER.encode(&hash));
    assert_eq!(shown["server"]["standing"], "valid");
    assert_eq!(shown["revocation_lists"][0]["overdue"], false);
    assert!(succeed(folder.path(), &["show"]).contains(pin));
}

#[test]
fn wrong_usage_is_refused_with_64_and_makes_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("certs");
    let too_long = "x".repeat(33);
    let wrong: [&[&str]; 10] = [
        &["--terminal", "../escape"],
        &["--terminal", "Upper"],
        &["--terminal", &too_long],
        &["terminal", "a_b"],
        &["terminal", ""],
        &["--server-name", "*.example"],
        &["--days", "0"],
        &["--force", "renew"],
        &["--unknown"],
        &["revoke"],
    ];
    for arguments in wrong {
        assert_eq!(refusal(&folder, arguments).0, 64, "{arguments:?}");
    }
    assert!(!folder.exists());
}

#[test]
fn refusals_name_the_file_and_have_their_exit_codes() {
    let parent = tempfile::tempdir().unwrap();
    let nowhere = parent.path().join("nowhere");
    for arguments in [
        &["show"][..],
        &["renew"],
        &["revoke", "a"],
        &["terminal", "a"],
    ] {
        assert_eq!(refusal(&nowhere, arguments).0, 66, "{arguments:?}");
    }
    assert!(!nowhere.exists());

    let folder = made();
    let (code, words) = refusal(folder.path(), &["revoke", "unknown"]);
    assert!(code == 65 && words.contains("unknown"), "{code} {words}");
    fs::write(folder.path().join("server.pem"), "damage").unwrap();
    for arguments in [&[][..], &["show"], &["renew"]] {
        let (code, words) = refusal(folder.path(), arguments);
        assert!(code == 65 && words.contains("server.pem"), "{code} {words}");
    }
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(refusal(&file, &[]).0, 73);
}

#[test]
fn an_error_is_one_json_object_too() {
    let folder = made();
    let output = gen_certs(folder.path(), &["revoke", "unknown", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["exit_code"], 65);
    assert!(value["error"].as_str().unwrap().contains("unknown"));
}

#[test]
fn runs_at_the_same_time_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let path = folder.path();
            scope.spawn(move || succeed(path, &["--terminal", &format!("till-{number}")]));
        }
    });
    let shown = json(folder.path(), &["show"]);
    assert_eq!(shown["terminals"].as_array().unwrap().len(), 6);
    assert_eq!(shown["issued"], 7);
    succeed(
        folder.path(),
        &["--terminal", "till-0", "--terminal", "till-5"],
    );
}

#[test]
fn the_issuing_authority_is_made_shown_renewed_and_revoked() {
    let folder = made();
    let made = json(folder.path(), &["issuing", "--days", "30"]);
    let both = ["issuing_authority", "issuing_revocation_list"];
    assert_eq!(items(&made, "made"), both);
    let before = files(folder.path());
    for (file, expected) in [("issuing.key", 0o600), ("issuing.pem", 0o644)] {
        assert_eq!(mode(&folder.path().join(file)), expected, "{file}");
    }
    assert_eq!(mode(&folder.path().join("issuing-crl.pem")), 0o644);
    assert_eq!(items(&json(folder.path(), &["issuing"]), "kept"), both);
    assert_eq!(files(folder.path()), before);
    let shown = json(folder.path(), &["show"]);
    assert_eq!(shown["issuing"]["standing"], "valid");
    assert_eq!(shown["issuing"]["key"], true);
    assert_eq!(shown["issuing_revocation_list"]["overdue"], false);
    assert!(succeed(folder.path(), &["show"]).contains("issuing authority"));
    succeed(folder.path(), &["renew"]);
    let renewed = files(folder.path());
    assert_eq!(renewed["issuing.key"], before["issuing.key"]);
    assert_ne!(renewed["issuing.pem"], before["issuing.pem"]);
    assert_eq!(renewed["issuing-crl.pem"], before["issuing-crl.pem"]);
    succeed(folder.path(), &["issuing", "--force"]);
    assert_ne!(files(folder.path())["issuing.key"], before["issuing.key"]);
    let report = json(folder.path(), &["revoke", "authority:issuing"]);
    assert_eq!(report["revoked"].as_array().unwrap().len(), 3);
    assert_eq!(
        json(folder.path(), &["show"])["issuing"]["standing"],
        "revoked"
    );
    std::fs::remove_file(folder.path().join("ca.key")).unwrap();
    assert_eq!(refusal(folder.path(), &["issuing", "--force"]).0, 66);
}

#[test]
fn version_help_and_completions_are_printed() {
    let folder = tempfile::tempdir().unwrap();
    assert!(succeed(folder.path(), &["--version"]).starts_with("gen-certs "));
    assert!(succeed(folder.path(), &["--help"]).contains("revoke"));
    assert!(succeed(folder.path(), &["completions", "bash"]).contains("gen-certs"));
}

#[test]
fn a_strict_verifier_accepts_the_certificates_and_heeds_the_list() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: there is no openssl on the PATH");
        return;
    }
    let folder = made();
    succeed(folder.path(), &["terminal", "lost"]);
    let verify = |purpose: &str, file: &str| {
        let path = |name: &str| folder.path().join(name).into_os_string();
        let mut command = Command::new("openssl");
        command.args([
            "verify",
            "-x509_strict",
            "-crl_check",
            "-purpose",
            purpose,
            "-CAfile",
        ]);
        command
            .arg(path("ca.pem"))
            .arg("-CRLfile")
            .arg(path("crl.pem"))
            .arg(path(file));
        command.output().unwrap()
    };
    let accepted = |purpose: &str, file: &str| {
        let output = verify(purpose, file);
        assert!(output.status.success(), "{file}: {output:?}");
    };
    accepted("sslserver", "server.pem");
    accepted("sslclient", "terminals/lost.pem");
    assert!(!verify("sslserver", "terminals/lost.pem").status.success());
    succeed(folder.path(), &["revoke", "lost"]);
    let refused = verify("sslclient", "terminals/lost.pem");
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("revoked"),
        "{refused:?}"
    );
    accepted("sslclient", "terminals/terminal-1.pem");
    succeed(folder.path(), &["renew"]);
    accepted("sslserver", "server.pem");
}

fn pem_to_der(pem: &[u8]) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(pem).unwrap().to_vec()
}
