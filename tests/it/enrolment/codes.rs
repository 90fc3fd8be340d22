//! One-time codes: used once, by one key, and silent about why they do not do.

use std::collections::BTreeSet;

use atm_bank::pki::CertificateFacts;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;

use super::{ask, enrolled};
use crate::support::{Card, Recruit, Site, recruit};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_that_use_a_code_at_once_one_gets_a_certificate() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let code = site.invite("till-7");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (address, request) = (server.address, Recruit::new().enroll(&code));
        let card = Card::none(&site.path("certs"));
        tasks.spawn(async move { recruit::ask(address, card, &request).await });
    }
    let told = tasks.join_all().await;
    let codes: Vec<u64> = told
        .iter()
        .map(|told| told.value["code"].as_u64().unwrap())
        .collect();
    assert_eq!(
        codes.iter().filter(|code| **code == 0).count(),
        1,
        "{codes:?}"
    );
    assert!(codes.iter().all(|code| [0, 20].contains(code)), "{codes:?}");
    let store = rusqlite::Connection::open(site.path("data/bank.db")).unwrap();
    let on_record: i64 = store
        .query_row("SELECT count(*) FROM certificate", [], |row| row.get(0))
        .unwrap();
    assert_eq!(on_record, 1);
}

#[tokio::test]
async fn a_wrong_a_used_an_expired_and_a_voided_code_are_answered_alike_byte_for_byte() {
    let mut site = Site::enrolling(&[("enroll.code_ms", "1")]);
    let server = site.start();
    let expired = site.invite("till-1");
    server.stop();
    site.set("enroll.code_ms", "3600000");
    let server = site.start();
    let voided = site.invite("till-2");
    let taken_back = site.invite("till-3");
    site.invite("till-2");
    site.run(&["terminal", "uninvite", "till-3"]).expect(0);
    let used = site.invite("till-4");
    ask(&site, &server, &Recruit::new().enroll(&used))
        .await
        .expect_code(0);
    let wrong = "00000-00000-00000-00000".to_owned();
    let mut payloads = BTreeSet::new();
    for code in [wrong, expired, voided, taken_back, used] {
        let told = ask(&site, &server, &Recruit::new().enroll(&code)).await;
        payloads.insert(told.expect_code(20).payload);
    }
    assert_eq!(payloads.len(), 1);
}

#[tokio::test]
async fn a_terminal_that_lost_the_answer_gets_the_same_again_and_another_key_nothing() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let (recruit, code) = (Recruit::new(), site.invite("till-7"));
    let first = ask(&site, &server, &recruit.enroll(&code))
        .await
        .expect_code(0);
    server.kill();
    let server = site.start();
    let again = ask(&site, &server, &recruit.enroll(&code))
        .await
        .expect_code(0);
    assert_eq!(again.payload, first.payload);
    ask(&site, &server, &Recruit::new().enroll(&code))
        .await
        .expect_code(20);
}

#[tokio::test]
async fn signing_requests_of_another_kind_forged_or_too_large_are_refused_and_cost_no_code() {
    use base64::Engine as _;
    let site = Site::enrolling(&[]);
    let server = site.start();
    let (recruit, code) = (Recruit::new(), site.invite("till-7"));
    let encode = |der: &[u8]| base64::engine::general_purpose::STANDARD.encode(der);
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let params = rcgen::CertificateParams::default();
    let other = params.serialize_request(&other).unwrap().der().to_vec();
    let mut forged = recruit.csr();
    *forged.last_mut().unwrap() ^= 1;
    let mut padded = rcgen::CertificateParams::default();
    padded.subject_alt_names = (0..40)
        .map(|n| {
            rcgen::SanType::DnsName(format!("{n}{}.example", "x".repeat(50)).try_into().unwrap())
        })
        .collect();
    let large = recruit.csr_with(padded);
    assert!(
        large.len() > 2_048 && encode(&large).len() < 4_000,
        "{}",
        large.len()
    );
    for csr in [other, forged, large, b"no DER".to_vec()] {
        let mut request = recruit.enroll(&code);
        request["csr"] = encode(&csr).into();
        ask(&site, &server, &request).await.expect_code(10);
    }
    ask(&site, &server, &recruit.enroll(&code))
        .await
        .expect_code(0);
}

#[tokio::test]
async fn a_code_that_was_used_after_a_backup_is_not_open_again_after_its_restore() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let code = site.invite("till-7");
    let backup = site.path("backup.db");
    site.run(&["backup", backup.to_str().unwrap()]).expect(0);
    ask(&site, &server, &Recruit::new().enroll(&code))
        .await
        .expect_code(0);
    server.stop();
    site.run(&["restore", backup.to_str().unwrap()]).expect(0);
    let server = site.start();
    ask(&site, &server, &Recruit::new().enroll(&code))
        .await
        .expect_code(20);
}

#[tokio::test]
async fn wrong_codes_of_strangers_keep_no_refused_renewal_off_the_record() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let guess = Recruit::new().enroll("00000-00000-00000-00000");
    for _ in 0..30 {
        ask(&site, &server, &guess).await.expect_code(20);
    }
    let card = server.card("terminal-1");
    recruit::ask(server.address, card, &Recruit::new().renew())
        .await
        .expect_code(20);
    let printed = site.run(&["audit", "--json"]).expect(0).json();
    let mut records = printed["records"].as_array().unwrap().iter();
    assert!(
        records.any(|record| record["event"] == "certificate_renewed"
            && record["outcome"] == "refused"
            && record["terminal"] == "terminal-1"),
        "{printed}"
    );
}

#[tokio::test]
async fn what_staff_and_terminals_do_about_certificates_is_on_record() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let (recruit, told) = enrolled(&site, &server, "till-7").await;
    let card = recruit.card(&site.path("certs"), &told);
    recruit::ask(server.address, card, &Recruit::new().renew())
        .await
        .expect_code(0);
    let guess = Recruit::new().enroll("00000-00000-00000-00000");
    ask(&site, &server, &guess).await.expect_code(20);
    let card = server.card("terminal-1");
    recruit::ask(server.address, card, &Recruit::new().renew())
        .await
        .expect_code(20);
    site.invite("till-8");
    site.run(&["terminal", "uninvite", "till-8"]).expect(0);
    site.run(&["terminal", "revoke", "till-7"]).expect(0);
    let printed = site.run(&["audit", "--json"]).expect(0).json();
    let records = printed["records"].as_array().unwrap();
    let told: Vec<String> = records
        .iter()
        .map(|record| {
            let word = |member: &str| record[member].as_str().unwrap_or("-").to_owned();
            ["event", "outcome", "terminal"].map(word).join(" ")
        })
        .filter(|line| line.starts_with("cert") || line.starts_with("terminal"))
        .collect();
    assert_eq!(
        told,
        [
            "certificate_invited done till-7",
            "certificate_enrolled done till-7",
            "certificate_renewed done till-7",
            "certificate_enrolled refused -",
            "certificate_renewed refused terminal-1",
            "certificate_invited done till-8",
            "certificate_uninvited done till-8",
            "terminal_revoked done till-7",
        ]
    );
    // Whose certificate was refused, its serial number says.
    let shown = CertificateDer::from_pem_file(site.path("certs/terminals/terminal-1.pem")).unwrap();
    let serial = CertificateFacts::read(&shown).unwrap().serial;
    let mut refused = records.iter().filter(|record| {
        record["event"] == "certificate_renewed" && record["outcome"] == "refused"
    });
    let refused = refused.next().unwrap();
    assert_eq!(refused["detail"], format!("serial {serial}"));
}

#[tokio::test]
async fn staff_see_who_is_invited_and_never_a_code() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let code = site.invite("till-7");
    let open = site
        .run(&["terminal", "invites", "--json"])
        .expect(0)
        .json();
    assert_eq!(open["invitations"][0]["terminal"], "till-7");
    let listed = site.run(&["terminal", "invites"]).expect(0).stdout;
    let mut rows = listed.lines();
    let column = rows.next().and_then(|head| head.find("until"));
    let row = rows.find(|row| row.starts_with("till-7 ")).unwrap();
    let until = row.find(open["invitations"][0]["expires_at"].as_str().unwrap());
    assert_eq!(column, until, "{listed}");
    let (_recruit, _told) = enrolled(&site, &server, "till-8").await;
    let open = site
        .run(&["terminal", "invites", "--json"])
        .expect(0)
        .json();
    assert_eq!(open["invitations"].as_array().unwrap().len(), 1);
    let log = server.log();
    let store = std::fs::read(site.path("data/bank.db")).unwrap();
    let journal = std::fs::read(site.path("data/bank.db-wal")).unwrap_or_default();
    for text in [
        log.as_bytes(),
        &store,
        &journal,
        open.to_string().as_bytes(),
    ] {
        let found = text.windows(code.len()).any(|part| part == code.as_bytes());
        assert!(!found);
    }
    let invited = site
        .run(&["terminal", "invite", "till-9", "--json"])
        .expect(0)
        .json();
    let shown = site.gen_certs(&["show", "--json"]).json();
    assert_eq!(invited["ca_sha256"], shown["authorities"][0]["spki_sha256"]);
    let command = invited["enroll"].as_str().unwrap();
    for part in ["code", "ca_sha256", "server"] {
        assert!(
            command.contains(invited[part].as_str().unwrap()),
            "{command}"
        );
    }
    for name in ["anonymous", "Upper", ""] {
        site.run(&["terminal", "invite", name]).expect(65);
    }
    site.run(&["terminal", "uninvite", "till-8"]).expect(65);
    let malformed = json!({ "id": 1, "op": "enroll", "code": code.to_lowercase(), "csr": "AAAA" });
    ask(&site, &server, &malformed).await.expect_code(10);
}
