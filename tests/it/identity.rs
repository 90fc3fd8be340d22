//! Who is let in: terminals with a good certificate, and nobody else hears one byte.

pub(crate) mod chains;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use atm_bank::pki::{AlternativeName, Authority, CertificateRequest, IssuedCertificate, Usage};
use rustix::process::Signal;
use rustls::HandshakeKind;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use self::chains::{impostor, intermediate, leaf_under};
use crate::support::terminal::{framed, request};
use crate::support::{Card, Ran, Server, Site, Terminal, card, eager, in_time, key};

/// A revoked terminal's open connections end within this time.
const REVOCATION_DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

fn own_authority(site: &Site) -> Authority {
    let certs = site.path("certs");
    Authority::load(&certs.join("ca.pem"), &certs.join("ca.key")).unwrap()
}

/// A good terminal's certificate, changed by `change`.
fn issue(authority: &Authority, change: impl FnOnce(&mut CertificateRequest)) -> IssuedCertificate {
    let now = OffsetDateTime::now_utc();
    let name = "terminal-9".parse().unwrap();
    let (from, to) = (now - Duration::HOUR, now + Duration::DAY);
    let mut request = CertificateRequest::terminal(&name, from, to);
    change(&mut request);
    authority.issue(&request).unwrap()
}

async fn is_let_in(site: &Site, server: &Server, issued: &IssuedCertificate) -> bool {
    let card = Card::issued(&site.path("certs"), issued);
    !card.knock(server.address).await.is_empty()
}

/// Certificates that no terminal may come with, and what is wrong with each.
fn bad_certificates(own: &Authority) -> Vec<(&'static str, IssuedCertificate)> {
    type Change = Box<dyn FnOnce(&mut CertificateRequest)>;
    fn names(names: Vec<AlternativeName>) -> Change {
        Box::new(|request| request.alternative_names = names)
    }
    fn usages(usages: Vec<Usage>) -> Change {
        Box::new(|request| request.usages = usages)
    }
    let now = OffsetDateTime::now_utc();
    let uri = |name: &str| AlternativeName::Uri(format!("urn:atm:terminal:{name}"));
    let dns = |name: &str| AlternativeName::Dns(name.to_owned());
    let changes: Vec<(&str, Change)> = vec![
        (
            "ended",
            Box::new(move |request| request.not_after = now - Duration::MINUTE),
        ),
        (
            "not yet valid",
            Box::new(move |request| request.not_before = now + Duration::HOUR),
        ),
        ("without usages", usages(Vec::new())),
        ("for servers", usages(vec![Usage::Server])),
        ("for anything", usages(vec![Usage::Any])),
        ("without a name", names(Vec::new())),
        ("with a DNS name only", names(vec![dns("terminal-9")])),
        (
            "with two names",
            names(vec![uri("terminal-9"), uri("terminal-8")]),
        ),
        ("with a name in capitals", names(vec![uri("Terminal")])),
        ("with too long a name", names(vec![uri(&"t".repeat(33))])),
        ("with an empty name", names(vec![uri("")])),
    ];
    let foreign = Authority::create(now, 10).unwrap();
    let mut bad = vec![("of another authority", issue(&foreign, |_| ()))];
    bad.extend(
        changes
            .into_iter()
            .map(|(which, change)| (which, issue(own, change))),
    );
    bad
}

#[tokio::test]
async fn a_bad_certificate_never_gets_an_application_byte() {
    let site = Site::new();
    let server = site.start();
    let own = own_authority(&site);
    let good = issue(&own, |_| ());
    let good_with_more = issue(&own, |request| {
        let names = &mut request.alternative_names;
        names.push(AlternativeName::Dns("till.example".to_owned()));
        names.push(AlternativeName::Uri("urn:other:thing".to_owned()));
    });
    assert!(is_let_in(&site, &server, &good).await);
    assert!(is_let_in(&site, &server, &good_with_more).await);
    for (which, certificate) in bad_certificates(&own) {
        assert!(!is_let_in(&site, &server, &certificate).await, "{which}");
    }
    assert!(is_let_in(&site, &server, &good).await);
}

/// Cards that no terminal may come with: certificates of every bad kind, and bad chains.
fn bad_cards(site: &Site) -> Vec<(&'static str, Card)> {
    let certs = site.path("certs");
    let mut cards: Vec<_> = bad_certificates(&own_authority(site))
        .into_iter()
        .map(|(which, issued)| (which, Card::issued(&certs, &issued)))
        .collect();
    cards.push(("revoked", Card::of(&certs, "terminal-3")));
    cards.push(("none at all", Card::none(&certs)));
    let server = CertificateDer::from_pem_file(certs.join("server.pem")).unwrap();
    let server_key = PrivateKeyDer::from_pem_file(certs.join("server.key")).unwrap();
    let server = Card::presenting(&certs, vec![server], server_key);
    cards.push(("the server's own", server));
    let (below, impostor) = (intermediate(site), impostor(site));
    for (which, signer, with_signer) in [
        ("under an authority of the same name", &impostor, false),
        (
            "under an authority of the same name, shown",
            &impostor,
            true,
        ),
        ("under an authority below, not shown", &below, false),
        ("under an authority below", &below, true),
    ] {
        let (leaf, key) = leaf_under(signer);
        let mut chain = vec![leaf];
        chain.extend(with_signer.then(|| signer.0.clone()));
        cards.push((which, Card::presenting(&certs, chain, key)));
    }
    let (leaf, key) = leaf_under(&impostor);
    let deep = std::iter::once(leaf).chain(std::iter::repeat_n(impostor.0.clone(), 80));
    cards.push((
        "with 80 others behind",
        Card::presenting(&certs, deep.collect(), key),
    ));
    cards
}

#[test]
fn a_deposit_right_behind_a_bad_certificate_is_never_carried_out_nor_answered() {
    let site = Site::new();
    site.gen_certs(&["revoke", "terminal-3"]).expect(0);
    let server = site.start();
    let login = json!({ "account": "zz-99999", "pin": "9999" });
    let login = request(1, "login", login).to_string();
    let frames = || {
        let deposit = json!({ "amount": 7, "key": key() });
        let deposit = request(2, "deposit", deposit).to_string();
        [framed(login.as_bytes()), framed(deposit.as_bytes())].concat()
    };
    let good = server.card("terminal-1").client();
    let heard = eager::send_at_once(server.address, good, &frames());
    assert!(heard.sent && heard.alert.is_none(), "{heard:?}");
    let said = String::from_utf8_lossy(&heard.bytes).into_owned();
    assert_eq!(said.matches("\"code\":0").count(), 2, "{said}");
    // The ledger's head alone: that it was asked for is itself on record.
    let before = site.verify()["head"].clone();
    assert!(before.is_string());
    for (which, card) in bad_cards(&site) {
        let heard = eager::send_at_once(server.address, card.client(), &frames());
        assert!(heard.sent, "{which}: {heard:?}");
        assert_eq!(heard.bytes, b"", "{which}");
        let alert = heard.alert.as_ref();
        assert!(
            alert.is_none_or(|alert| matches!(alert, rustls::Error::AlertReceived(_))),
            "{which}: {alert:?}"
        );
    }
    assert_eq!(site.verify()["head"], before);
}

#[tokio::test]
async fn of_two_lists_of_one_authority_the_newest_counts_whatever_their_order() {
    let site = Site::new();
    let crl = site.path("certs/crl.pem");
    let old = std::fs::read_to_string(&crl).unwrap();
    site.gen_certs(&["revoke", "terminal-2"]).expect(0);
    let new = std::fs::read_to_string(&crl).unwrap();
    for both in [format!("{old}{new}"), format!("{new}{old}")] {
        std::fs::write(&crl, both).unwrap();
        let server = site.start();
        assert!(!server.lets_in("terminal-2").await);
        assert!(server.lets_in("terminal-1").await);
    }
}

#[tokio::test]
async fn no_certificate_is_no_way_in_unless_the_bank_says_so() {
    let mut site = Site::new();
    let server = site.start();
    let nobody = Card::none(&site.path("certs"));
    assert!(nobody.knock(server.address).await.is_empty());
    server.stop();
    site.set("tls.client_auth", "\"off\"");
    let server = site.start();
    assert!(!nobody.knock(server.address).await.is_empty());
}

#[tokio::test]
async fn a_revoked_terminal_is_not_let_in_by_a_server_that_starts() {
    let site = Site::new();
    site.gen_certs(&["revoke", "terminal-2"]).expect(0);
    let server = site.start();
    assert!(!server.lets_in("terminal-2").await);
    assert!(server.lets_in("terminal-1").await);
}

#[tokio::test]
async fn another_protocols_name_or_none_gets_no_application_byte() {
    let site = Site::new();
    let server = site.start();
    let names: [&[&str]; 5] = [&[], &["http/1.1"], &["atm/2"], &["ATM/1"], &["enroll/1"]];
    for names in names {
        let card = server.card("terminal-1").with_alpn(names);
        assert!(card.knock(server.address).await.is_empty(), "{names:?}");
    }
    let both = server.card("terminal-1").with_alpn(&["atm/2", "atm/1"]);
    assert!(!both.knock(server.address).await.is_empty());
}

#[test]
fn older_versions_of_tls_are_refused() {
    let site = Site::new();
    let server = site.start();
    if Command::new("openssl")
        .arg("version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        println!("skipped: there is no openssl to speak old versions of TLS");
        return;
    }
    for (version, spoken) in [("-tls1_2", false), ("-tls1_1", false), ("-tls1_3", true)] {
        let mut command = Command::new("openssl");
        command
            .args(["s_client", version, "-alpn", "atm/1", "-connect"])
            .arg(server.address.to_string())
            .args(["-cert", "certs/terminals/terminal-1.pem"])
            .args(["-key", "certs/terminals/terminal-1.key"])
            .args(["-CAfile", "certs/ca.pem"])
            .current_dir(site.folder());
        let ran = Ran::of(command, "");
        let shook_hands = ran.stdout.contains("Verify return code: 0 (ok)")
            && !ran.stdout.contains("Cipher is (NONE)");
        assert_eq!(shook_hands, spoken, "{version}: {ran:#?}");
    }
}

#[tokio::test]
async fn the_keys_of_a_connection_are_agreed_upon_by_x25519mlkem768() {
    let site = Site::new();
    let server = site.start();
    let mut terminal = server.terminal("terminal-1").await;
    terminal.ping().await.expect_code(0);
    let group = terminal.tls().negotiated_key_exchange_group().unwrap();
    assert_eq!(format!("{:?}", group.name()), "X25519MLKEM768");
    assert_eq!(
        terminal.tls().protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
}

#[tokio::test]
async fn no_connection_resumes_another() {
    let site = Site::new();
    let server = site.start();
    let client = Arc::new(server.card("terminal-1").client());
    for _ in 0..3 {
        let stream = card::connect(server.address, Arc::clone(&client))
            .await
            .unwrap();
        assert_eq!(
            stream.get_ref().1.handshake_kind(),
            Some(HandshakeKind::Full)
        );
    }
}

#[tokio::test]
async fn after_a_reload_a_revoked_terminals_connections_end_in_time_and_others_stay() {
    let site = Site::new();
    let server = site.start();
    let mut busy = server.customer("terminal-2", "zz-99999", "9999").await;
    let mut quiet = server.terminal("terminal-2").await;
    let mut other = server.customer("terminal-1", "ac-12345", "1324").await;
    site.gen_certs(&["revoke", "terminal-2"]).expect(0);
    busy.balance().await.expect_code(0);
    let began = Instant::now();
    server.signal(Signal::HUP);
    busy.expect_end().await;
    quiet.expect_end().await;
    assert!(
        began.elapsed() < REVOCATION_DEADLINE,
        "{:?}",
        began.elapsed()
    );
    other.balance().await.expect_code(0);
    assert!(!server.lets_in("terminal-2").await);
    other.login("zz-99999", "9999").await.expect_code(24);
    server.customer("terminal-3", "zz-99999", "9999").await;
}

#[tokio::test]
async fn a_bad_file_at_a_reload_keeps_the_old_trust_and_the_log_says_why() {
    let site = Site::new();
    site.gen_certs(&["revoke", "terminal-3"]).expect(0);
    let server = site.start();
    let mut open = server.customer("terminal-1", "zz-99999", "9999").await;
    let crl = site.path("certs/crl.pem");
    let before = std::fs::read(&crl).unwrap();
    for (content, words) in [("not a list", "crl.pem"), ("", "crl.pem")] {
        let refused = server.log().matches("reload refused").count();
        std::fs::write(&crl, content).unwrap();
        server.signal(Signal::HUP);
        crate::support::until("the refusal", || {
            (server.log().matches("reload refused").count() > refused).then_some(())
        });
        let log = server.log();
        let line = log
            .lines()
            .rfind(|line| line.contains("reload refused"))
            .unwrap();
        assert!(line.contains(words), "{line}");
        open.balance().await.expect_code(0);
        assert!(server.lets_in("terminal-2").await);
        assert!(!server.lets_in("terminal-3").await);
    }
    std::fs::write(&crl, before).unwrap();
    server.reload();
    open.balance().await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_terminals_connections_end_at_once_and_no_new_one_gets_in() {
    let site = Site::new();
    let server = site.start();
    let mut busy = server.customer("terminal-2", "zz-99999", "9999").await;
    let mut quiet = server.terminal("terminal-2").await;
    let mut other = server.customer("terminal-1", "ac-12345", "1324").await;
    site.run(&["terminal", "disable", "terminal-2"]).expect(0);
    in_time("the connections to end", async {
        busy.expect_end().await;
        quiet.expect_end().await;
    })
    .await;
    other.balance().await.expect_code(0);
    assert!(!server.lets_in("terminal-2").await);
    // The customer goes on elsewhere.
    server.customer("terminal-3", "zz-99999", "9999").await;
    server.stop();
    let server = site.start();
    assert!(!server.lets_in("terminal-2").await);
    site.run(&["terminal", "enable", "terminal-2"]).expect(0);
    assert!(server.lets_in("terminal-2").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminals_without_a_certificate_can_be_disabled_too() {
    let mut site = Site::new();
    site.set("tls.client_auth", "\"off\"");
    let server = site.start();
    let nobody = Card::none(&site.path("certs"));
    let mut customer = Terminal::connect(server.address, nobody).await;
    customer.login("zz-99999", "9999").await.expect_code(0);
    site.run(&["terminal", "disable", "anonymous"]).expect(0);
    in_time("the connection to end", customer.expect_end()).await;
}
