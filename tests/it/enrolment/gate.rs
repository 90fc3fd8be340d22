//! What enrolment may take of the server, and that it opens no other door.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{ask, enrolled};
use crate::support::card::connect_from;
use crate::support::{Card, Recruit, Site, in_time, recruit, until_async};

#[tokio::test]
async fn with_enrolment_off_its_name_is_refused_in_the_handshake() {
    let mut site = Site::enrolling(&[]);
    let server = site.start();
    let (recruit, told) = enrolled(&site, &server, "till-7").await;
    server.stop();
    site.set("enroll.enabled", "\"off\"");
    let server = site.start();
    let nobody = || Card::none(&site.path("certs"));
    let refused = recruit::connect(server.address, nobody())
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("NoApplicationProtocol"),
        "{refused}"
    );
    let card = recruit.card(&site.path("certs"), &told);
    assert!(recruit::connect(server.address, card).await.is_err());
    // And who enrolled is not let in: the issuing authority's list is not read.
    assert!(!super::is_let_in(&site, &server, &recruit, &told).await);
    site.run(&["terminal", "invite", "till-8"])
        .expect(78)
        .saying("enrolment is off");
}

#[tokio::test]
async fn with_enrolment_on_the_bank_still_wants_a_certificate() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let nobody = Card::none(&site.path("certs"));
    assert!(nobody.knock(server.address).await.is_empty());
    // Who offers both names comes to the bank, and is asked for a certificate there.
    let both = Card::none(&site.path("certs")).with_alpn(&["enroll/1", "atm/1"]);
    assert!(both.knock(server.address).await.is_empty());
    let both = server.card("terminal-1").with_alpn(&["enroll/1", "atm/1"]);
    assert!(!both.knock(server.address).await.is_empty());
    for names in [&["atm/2"][..], &["enroll/2"], &["ENROLL/1"], &[]] {
        let card = server.card("terminal-1").with_alpn(names);
        assert!(card.knock(server.address).await.is_empty(), "{names:?}");
    }
    // The bank's own messages are none here.
    for op in ["ping", "login", "balance"] {
        let request = json!({ "id": 1, "op": op });
        ask(&site, &server, &request).await.expect_code(12);
    }
    ask(&site, &server, &Recruit::new().renew())
        .await
        .expect_code(23);
}

#[tokio::test]
async fn who_tries_codes_is_told_to_wait_and_renewals_go_on() {
    let mut site = Site::enrolling(&[]);
    let server = site.start();
    let (recruit, told) = enrolled(&site, &server, "till-7").await;
    server.stop();
    site.set("enroll.attempts_per_minute_per_ip", "5");
    let server = site.start();
    let mut codes = Vec::new();
    for number in 0..10 {
        let guess = format!("00000-00000-00000-0000{number}");
        let told = ask(&site, &server, &Recruit::new().enroll(&guess)).await;
        let code = told.value["code"].as_u64().unwrap();
        if code == 40 {
            assert!(told.value["retry_after_ms"].as_u64().unwrap() > 0);
        }
        codes.push(code);
    }
    assert_eq!(&codes[..5], [20; 5]);
    // A busy machine may take long enough for a try more, not for all of them.
    let waits = codes.iter().filter(|code| **code == 40).count();
    assert!(waits >= 3, "{codes:?}");
    // Whoever has a certificate is counted by its name.
    let card = recruit.card(&site.path("certs"), &told);
    let renewed = recruit::ask(server.address, card, &Recruit::new().renew()).await;
    renewed.expect_code(0);
}

#[tokio::test]
async fn all_addresses_together_try_no_more_codes_than_is_set() {
    let mut site = Site::enrolling(&[]);
    site.set("enroll.attempts_per_minute", "3");
    let server = site.start();
    let guess = Recruit::new().enroll("00000-00000-00000-00000").to_string();
    let mut codes = Vec::new();
    for host in 2..10 {
        let nobody = Card::none(&site.path("certs"));
        let connecting = recruit::connect_from(host, server.address, nobody);
        let mut stream = connecting.await.unwrap();
        let told = recruit::ask_over(&mut stream, guess.as_bytes()).await;
        codes.push(told.unwrap().value["code"].as_u64().unwrap());
    }
    assert_eq!(&codes[..3], [20; 3]);
    assert!(codes.contains(&40), "{codes:?}");
}

#[tokio::test]
async fn a_connection_has_two_messages_and_small_frames() {
    let site = Site::enrolling(&[]);
    let server = site.start();
    let certs = site.path("certs");
    let mut stream = recruit::connect(server.address, Card::none(&certs))
        .await
        .unwrap();
    let guess = Recruit::new().enroll("00000-00000-00000-00000").to_string();
    for _ in 0..2 {
        let told = recruit::ask_over(&mut stream, guess.as_bytes())
            .await
            .unwrap();
        told.expect_code(20);
    }
    assert!(
        recruit::ask_over(&mut stream, guess.as_bytes())
            .await
            .is_err()
    );

    let mut stream = recruit::connect(server.address, Card::none(&certs))
        .await
        .unwrap();
    let told = recruit::ask_over(&mut stream, &[b' '; 4_097])
        .await
        .unwrap();
    assert_eq!(told.value["id"], serde_json::Value::Null);
    told.expect_code(11);
    let mut rest = Vec::new();
    let _ = in_time("the end", stream.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn so_many_wait_to_enrol_and_no_more_and_the_bank_is_open_meanwhile() {
    let mut site = Site::enrolling(&[]);
    site.set("enroll.max_connections_per_ip", "2");
    let server = site.start();
    let certs = site.path("certs");
    let connect = || recruit::connect(server.address, Card::none(&certs));
    let mut first = connect().await.unwrap();
    let mut second = connect().await.unwrap();
    let _third = connect().await.unwrap();
    // At once: who shows no certificate has some seconds for the first message.
    let guess = Recruit::new().enroll("00000-00000-00000-00000").to_string();
    let told = recruit::ask_over(&mut second, guess.as_bytes()).await;
    told.unwrap().expect_code(20);
    let told = recruit::hear(&mut first).await.unwrap().expect_code(41);
    assert_eq!(told.value["id"], serde_json::Value::Null);
    let mut rest = Vec::new();
    in_time("the end", first.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(rest.is_empty());
    let mut terminal = server.terminal("terminal-1").await;
    terminal.ping().await.expect_code(0);
}

/// Comes from that address, says nothing, and comes again as soon as it is put out.
async fn be_silent(
    host: u8,
    server: SocketAddr,
    client: Arc<ClientConfig>,
    came: Arc<AtomicUsize>,
) {
    loop {
        if let Ok(mut stream) = connect_from(host, server, Arc::clone(&client)).await {
            came.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_gets_its_next_certificate_whatever_silent_strangers_do() {
    let mut site = Site::enrolling(&[]);
    site.set("enroll.max_connections", "32");
    site.set("enroll.max_connections_per_ip", "4");
    let server = site.start();
    let certs = site.path("certs");
    let (recruit, told) = enrolled(&site, &server, "till-7").await;
    let stranger = Arc::new(Card::none(&certs).with_alpn(&["enroll/1"]).client());
    let came = Arc::new(AtomicUsize::new(0));
    let mut strangers = JoinSet::new();
    // One for each place of each address, and one more, so that there is no rest.
    for number in 0..40 {
        let client = Arc::clone(&stranger);
        strangers.spawn(be_silent(
            2 + number % 8,
            server.address,
            client,
            Arc::clone(&came),
        ));
    }
    let until_they_came = async |more: usize| {
        let wanted = came.load(Ordering::Relaxed) + more;
        until_async("strangers", async || {
            (came.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    };
    // From an address of its own, and from one that it shares with strangers.
    for host in [1, 2] {
        until_they_came(64).await;
        let card = recruit.card(&certs, &told).with_alpn(&["enroll/1"]);
        let renewal = async {
            let client = Arc::new(card.client());
            let mut stream = connect_from(host, server.address, client).await?;
            recruit::ask_over(&mut stream, Recruit::new().renew().to_string().as_bytes()).await
        };
        let renewed = timeout(Duration::from_secs(5), renewal).await;
        renewed.expect("a renewal").unwrap().expect_code(0);
    }
}

#[tokio::test]
async fn so_many_from_all_addresses_wait_to_enrol_at_once_and_no_more() {
    let mut site = Site::enrolling(&[]);
    site.set("enroll.max_connections", "2");
    let server = site.start();
    let certs = site.path("certs");
    let connect = |host| recruit::connect_from(host, server.address, Card::none(&certs));
    let mut first = connect(2).await.unwrap();
    let mut second = connect(3).await.unwrap();
    let _third = connect(4).await.unwrap();
    let guess = Recruit::new().enroll("00000-00000-00000-00000").to_string();
    let told = recruit::ask_over(&mut second, guess.as_bytes()).await;
    told.unwrap().expect_code(20);
    recruit::hear(&mut first).await.unwrap().expect_code(41);
}

#[test]
fn a_server_refuses_an_issuing_authority_that_is_none() {
    let site = Site::enrolling(&[]);
    let certs = |name: &str| site.path(&format!("certs/{name}"));
    let (cert, key) = (certs("issuing.pem"), certs("issuing.key"));
    let (good_cert, good_key) = (std::fs::read(&cert).unwrap(), std::fs::read(&key).unwrap());
    let put = |from: &str, to: &std::path::Path| {
        std::fs::write(to, std::fs::read(certs(from)).unwrap()).unwrap();
    };
    // The bank's own key must never lie there.
    put("ca.pem", &cert);
    put("ca.key", &key);
    site.start_refused().expect(78).saying("issuing.pem");
    site.run(&["check"]).expect(78).printing("issuing.pem");
    std::fs::write(&cert, good_cert).unwrap();
    site.start_refused().expect(78).saying("issuing.key");
    std::fs::write(&key, good_key).unwrap();
    std::fs::write(
        certs("issuing-crl.pem"),
        std::fs::read(certs("crl.pem")).unwrap(),
    )
    .unwrap();
    site.start_refused().expect(78).saying("issuing-crl.pem");
    site.run(&["check"]).expect(78).printing("issuing-crl.pem");
}
