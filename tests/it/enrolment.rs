//! Terminals that enrol themselves, by hand and from outside: who gets a certificate, who does not,
//! and what becomes of it.

mod codes;
mod cutter;
mod fake_bank;
mod gate;
mod whole_way;

use atm_bank::pki::{CertificateFacts, terminal_name};

use crate::support::{Card, Recruit, Server, Site, Terminal, Told, recruit};

/// Asks without a certificate.
async fn ask(site: &Site, server: &Server, request: &serde_json::Value) -> Told {
    recruit::ask(server.address, Card::none(&site.path("certs")), request).await
}

/// A terminal enrolled as `name`, with what it was told.
async fn enrolled(site: &Site, server: &Server, name: &str) -> (Recruit, Told) {
    let recruit = Recruit::new();
    let told = ask(site, server, &recruit.enroll(&site.invite(name))).await;
    (recruit, told.expect_code(0))
}

async fn connected(site: &Site, server: &Server, recruit: &Recruit, told: &Told) -> Terminal {
    let card = recruit.card(&site.path("certs"), told);
    Terminal::connect(server.address, card).await
}

/// Whether the chain gets an answer under `atm/1`.
async fn is_let_in(site: &Site, server: &Server, recruit: &Recruit, told: &Told) -> bool {
    let card = recruit.card(&site.path("certs"), told);
    !card.knock(server.address).await.is_empty()
}

#[tokio::test]
async fn a_terminal_that_enrols_is_let_in_under_the_codes_name_and_serves_customers() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let (recruit, told) = enrolled(&site, &server, "till-7").await;
    let mut terminal = connected(&site, &server, &recruit, &told).await;
    terminal.login("zz-99999", "9999").await.expect_code(0);
    terminal.deposit(500).await.expect_code(0);
    let history = terminal.history(1).await;
    let lines = history.answer.members.entries.as_ref().unwrap();
    assert_eq!(lines[0].terminal, "till-7");
    let own = &told.chain()[0];
    assert_eq!(terminal_name(own).unwrap().as_str(), "till-7");
}

#[tokio::test]
async fn names_asked_for_in_a_signing_request_are_ignored() {
    use base64::Engine as _;
    let site = Site::enrolling(&[]);
    let server = site.start();
    let recruit = Recruit::new();
    let mut asked = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    asked.subject_alt_names.push(rcgen::SanType::URI(
        "urn:atm:terminal:terminal-1".try_into().unwrap(),
    ));
    asked.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    asked
        .distinguished_name
        .push(rcgen::DnType::CommonName, "terminal-1");
    let mut request = recruit.enroll(&site.invite("till-7"));
    let csr = recruit.csr_with(asked);
    request["csr"] = base64::engine::general_purpose::STANDARD.encode(csr).into();
    let told = ask(&site, &server, &request).await.expect_code(0);
    let own = &told.chain()[0];
    assert_eq!(terminal_name(own).unwrap().as_str(), "till-7");
    let facts = CertificateFacts::read(own).unwrap();
    assert!(facts.only_for_clients && facts.server_names.is_empty());
    assert_eq!(facts.subject, "CN=till-7");
}

#[tokio::test]
async fn a_terminal_renews_before_its_certificate_ends_and_the_old_one_is_no_longer_needed() {
    let site = Site::enrolling(&[("enroll.certificate_ms", "6000")]);
    let server = site.start();
    let (recruit, told) = enrolled(&site, &server, "till-7").await;
    let next = Recruit::new();
    let card = recruit.card(&site.path("certs"), &told);
    let renewed = recruit::ask(server.address, card, &next.renew()).await;
    let renewed = renewed.expect_code(0);
    let (old, new) = (&told.chain()[0], &renewed.chain()[0]);
    assert_eq!(terminal_name(new).unwrap().as_str(), "till-7");
    assert_ne!(
        CertificateFacts::read(old).unwrap().spki,
        CertificateFacts::read(new).unwrap().spki
    );
    assert!(is_let_in(&site, &server, &next, &renewed).await);
    crate::support::until_async("the old certificate to end", async || {
        let over = !is_let_in(&site, &server, &recruit, &told).await;
        over.then_some(())
    })
    .await;
    // What has ended renews no more.
    let card = recruit.card(&site.path("certs"), &told);
    let mut ended = recruit::connect(server.address, card).await;
    if let Ok(stream) = &mut ended {
        let request = Recruit::new().renew().to_string();
        assert!(recruit::ask_over(stream, request.as_bytes()).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_terminal_is_out_at_once_cannot_renew_and_stays_out_after_a_restart() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let (lost, told) = enrolled(&site, &server, "till-7").await;
    let (other, other_told) = enrolled(&site, &server, "till-8").await;
    let mut busy = connected(&site, &server, &lost, &told).await;
    busy.login("zz-99999", "9999").await.expect_code(0);
    let mut quiet = connected(&site, &server, &other, &other_told).await;
    site.run(&["terminal", "revoke", "till-7"])
        .expect(0)
        .printing("made with gen-certs stays good until gen-certs revoke till-7");
    let began = std::time::Instant::now();
    busy.expect_end().await;
    assert!(
        began.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    quiet.ping().await.expect_code(0);
    let refused = async |server: &Server| {
        assert!(!is_let_in(&site, server, &lost, &told).await);
        let card = lost.card(&site.path("certs"), &told);
        let request = Recruit::new().renew().to_string();
        match recruit::connect(server.address, card).await {
            Err(_) => {}
            Ok(mut stream) => {
                let asked = recruit::ask_over(&mut stream, request.as_bytes()).await;
                assert!(asked.is_err(), "{asked:?}");
            }
        }
        assert!(is_let_in(&site, server, &other, &other_told).await);
    };
    refused(&server).await;
    server.reload();
    refused(&server).await;
    server.stop();
    let server = site.start();
    refused(&server).await;
    // A successor of the same name is somebody else.
    let (next, next_told) = enrolled(&site, &server, "till-7").await;
    assert!(is_let_in(&site, &server, &next, &next_told).await);
    let shown = site.gen_certs(&["show", "--json"]).json();
    let listed = shown["issuing_revocation_list"]["revoked"]
        .as_array()
        .unwrap();
    assert_eq!(listed.len(), 1);
}

#[tokio::test]
async fn a_terminal_is_revoked_while_no_server_runs() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let (lost, told) = enrolled(&site, &server, "till-7").await;
    server.stop();
    site.run(&["terminal", "revoke", "till-7"]).expect(0);
    site.run(&["terminal", "revoke", "till-9"])
        .expect(65)
        .saying("gen-certs revoke till-9");
    let server = site.start();
    assert!(!is_let_in(&site, &server, &lost, &told).await);
}

#[tokio::test]
async fn a_lost_list_is_made_good_from_the_store_at_the_next_start() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let (lost, told) = enrolled(&site, &server, "till-7").await;
    site.run(&["terminal", "revoke", "till-7"]).expect(0);
    server.stop();
    std::fs::remove_file(site.path("certs/issuing-crl.pem")).unwrap();
    site.start_refused().expect(78).saying("issuing-crl.pem");
    site.gen_certs(&["issuing"]).expect(0);
    let server = site.start();
    assert!(!is_let_in(&site, &server, &lost, &told).await);
}

#[tokio::test]
async fn a_disabled_terminal_neither_enrols_nor_renews() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let (recruit, told) = enrolled(&site, &server, "till-7").await;
    let code = site.invite("till-7");
    site.run(&["terminal", "disable", "till-7"]).expect(0);
    ask(&site, &server, &Recruit::new().enroll(&code))
        .await
        .expect_code(20);
    let card = recruit.card(&site.path("certs"), &told);
    let mut stream = recruit::connect(server.address, card).await.unwrap();
    let request = Recruit::new().renew().to_string();
    assert!(
        recruit::ask_over(&mut stream, request.as_bytes())
            .await
            .is_err()
    );
    site.run(&["terminal", "invite", "till-7"])
        .expect(65)
        .saying("disabled");
    site.run(&["terminal", "enable", "till-7"]).expect(0);
    ask(&site, &server, &Recruit::new().enroll(&code))
        .await
        .expect_code(0);
}

#[tokio::test]
async fn a_terminal_of_gen_certs_renews_by_gen_certs_alone() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let card = server.card("terminal-1");
    let told = recruit::ask(server.address, card, &Recruit::new().renew()).await;
    told.expect_code(20);
}
