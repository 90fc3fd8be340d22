//! Certificates, authorities and revocations that change while customers are served.

mod pipes;
mod rollover;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use atm_bank::pki::{Authority, CertificateRequest, IssuedCertificate, ServerName};
use time::{Duration, OffsetDateTime};
use tokio::net::TcpStream;

use crate::support::card::shake_hands;
use crate::support::{Card, Monitor, Server, Site, Terminal, until};

/// A change on disk is taken, and a revoked terminal is out, by then.
const DEADLINE: std::time::Duration = atm_bank::limits::REVOCATION_TIMEOUT;
const TAKEN: &str = "took changed certificates";
const REFUSED: &str = "changed certificates or revocations refused";

/// Puts a file in its place as a whole, as `mv` does.
fn put(place: &Path, content: impl AsRef<[u8]>) {
    let draft = place.with_extension("new");
    fs::write(&draft, content).unwrap();
    fs::set_permissions(&draft, fs::metadata(place).unwrap().permissions()).unwrap();
    fs::rename(draft, place).unwrap();
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Changes files on disk, and waits until the server has taken them without being told.
#[track_caller]
fn change(server: &Server, change: impl FnOnce()) {
    let before = server.log().matches(TAKEN).count();
    change();
    until("the change to be taken", || {
        (server.log().matches(TAKEN).count() > before).then_some(())
    });
}

fn authority(site: &Site) -> Authority {
    let certs = site.path("certs");
    Authority::load(&certs.join("ca.pem"), &certs.join("ca.key")).unwrap()
}

fn issue(site: &Site, request: &CertificateRequest) -> IssuedCertificate {
    authority(site).issue(request).unwrap()
}

/// The certificate that the server shows to one who connects now.
async fn shown(server: &Server) -> Vec<u8> {
    let terminal = server.terminal("terminal-1").await;
    terminal.tls().peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_certificate_changed_on_disk_is_shown_in_time_and_open_connections_go_on() {
    let monitor = Monitor::free();
    let site = Site::with(&[("metrics.listen", &monitor.setting())]);
    let server = site.start();
    let mut open = server.customer("terminal-1", "zz-99999", "9999").await;
    let before = shown(&server).await;
    let mut began = Instant::now();
    change(&server, || {
        site.gen_certs(&["renew"]).expect(0);
        began = Instant::now();
    });
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    assert_ne!(shown(&server).await, before);
    open.deposit(1).await.expect_code(0);
    let taken = monitor
        .value("bank_tls_reloads_total{outcome=\"done\"}")
        .await;
    assert!(taken >= 1, "{taken}");
}

#[tokio::test]
async fn a_terminal_revoked_in_mid_session_is_out_in_time_by_a_change_on_disk_alone() {
    let site = Site::new();
    let server = site.start();
    let mut busy = server.customer("terminal-2", "zz-99999", "9999").await;
    let mut quiet = server.terminal("terminal-2").await;
    let mut other = server.customer("terminal-1", "ac-12345", "1324").await;
    site.gen_certs(&["revoke", "terminal-2"]).expect(0);
    let began = Instant::now();
    while busy.try_ask("balance", serde_json::json!({})).await.is_ok() {}
    quiet.expect_end().await;
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    other.balance().await.expect_code(0);
    assert!(!server.lets_in("terminal-2").await);
    server.customer("terminal-3", "zz-99999", "9999").await;
}

#[tokio::test]
async fn a_bad_change_keeps_the_old_and_is_said_once_and_the_next_good_one_is_taken() {
    let monitor = Monitor::free();
    let site = Site::with(&[("metrics.listen", &monitor.setting())]);
    let server = site.start();
    let mut open = server.customer("terminal-1", "zz-99999", "9999").await;
    let before = shown(&server).await;
    let other = Site::bare(&[]);
    let refused = "bank_tls_reloads_total{outcome=\"refused\"}";
    // A key without its certificate, a list cut short, an authority without a list.
    let key = fs::read(other.path("certs/server.key")).unwrap();
    let list = read(&site.path("certs/crl.pem"));
    let both = read(&site.path("certs/ca.pem")) + &read(&other.path("certs/ca.pem"));
    let changes: [(&str, &[u8], &str); 3] = [
        ("certs/server.key", &key, "server.pem"),
        ("certs/crl.pem", &list.as_bytes()[..200], "crl.pem"),
        ("certs/ca.pem", both.as_bytes(), "no revocation list"),
    ];
    for (count, (file, content, words)) in (1..).zip(changes) {
        let good = fs::read(site.path(file)).unwrap();
        put(&site.path(file), content);
        until("the refusal", || {
            (server.log().matches(REFUSED).count() == count).then_some(())
        });
        let log = server.log();
        let line = log.lines().rfind(|line| line.contains(REFUSED)).unwrap();
        assert!(line.contains(words), "{line}");
        open.deposit(1).await.expect_code(0);
        assert_eq!(shown(&server).await, before);
        let counted = monitor.value(refused).await;
        assert_eq!(usize::try_from(counted).unwrap(), count);
        change(&server, || put(&site.path(file), good));
        assert_eq!(server.log().matches(REFUSED).count(), count);
    }
    open.balance().await.expect_code(0);
}

#[tokio::test]
async fn an_older_list_put_back_lets_nobody_in_again() {
    let site = Site::new();
    let server = site.start();
    let file = site.path("certs/crl.pem");
    let old = read(&file);
    change(&server, || {
        site.gen_certs(&["revoke", "terminal-2"]).expect(0);
    });
    let new = read(&file);
    put(&file, old);
    until("the refusal", || {
        server.log().contains(REFUSED).then_some(())
    });
    let log = server.log();
    let line = log.lines().rfind(|line| line.contains(REFUSED)).unwrap();
    assert!(line.contains("older than the one in force"), "{line}");
    assert!(!server.lets_in("terminal-2").await);
    server.expect_service().await;
    change(&server, || put(&file, new));
    assert!(!server.lets_in("terminal-2").await);
}

#[tokio::test]
async fn a_handshake_begun_before_a_change_gets_in_by_what_holds_after_it() {
    let mut site = Site::with(&[("server.handshake_timeout_ms", "600000")]);
    let server = site.start();
    let begun = async |name: &str| {
        let tcp = TcpStream::connect(server.address).await.unwrap();
        (tcp, Arc::new(server.card(name).client()))
    };
    let (good, revoked) = (begun("terminal-1").await, begun("terminal-2").await);
    site.gen_certs(&["revoke", "terminal-2"]).expect(0);
    server.reload();
    let stream = shake_hands(good.0, good.1).await.unwrap();
    Terminal::over(stream).ping().await.expect_code(0);
    assert!(!is_served(revoked).await);
    // From no certificates to certificates.
    server.stop();
    site.set("tls.client_auth", "\"off\"");
    let server = site.start();
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let nobody = Arc::new(Card::none(&site.path("certs")).client());
    site.set("tls.client_auth", "\"required\"");
    server.reload();
    assert!(!is_served((tcp, nobody)).await);
}

/// Whether a terminal that shakes hands only now gets an answer.
async fn is_served((tcp, client): (TcpStream, Arc<rustls::ClientConfig>)) -> bool {
    let Ok(stream) = shake_hands(tcp, client).await else {
        return false;
    };
    let mut terminal = Terminal::over(stream);
    terminal
        .try_ask("ping", serde_json::json!({}))
        .await
        .is_ok()
}

/// A customer at work until `over`; every answer must be 0. Gives how often they deposited.
async fn work(over: &AtomicBool, customer: &mut Terminal) -> i64 {
    let mut count = 0;
    while !over.load(Ordering::SeqCst) {
        customer.deposit(1).await.expect_code(0);
        count += 1;
        tokio::task::yield_now().await;
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn while_everything_is_replaced_many_times_no_connection_is_dropped() {
    let site = Site::new();
    let server = site.start();
    let mut first = server.customer("terminal-1", "zz-99999", "9999").await;
    let mut second = server.customer("terminal-2", "ac-12345", "1324").await;
    let mut idle = server.terminal("terminal-3").await;
    let over = Arc::new(AtomicBool::new(false));
    let replacing = {
        let over = Arc::clone(&over);
        tokio::task::spawn_blocking(move || {
            replace_everything(&site, &server);
            over.store(true, Ordering::SeqCst);
            (site, server)
        })
    };
    let (one, two, replaced) =
        tokio::join!(work(&over, &mut first), work(&over, &mut second), replacing);
    let (site, server) = replaced.unwrap();
    assert!(one > 0 && two > 0);
    assert_eq!(first.balance().await.balance(), 65_535 + one);
    idle.ping().await.expect_code(0);
    let mut late = server.terminal("terminal-1").await;
    late.ping().await.expect_code(0);
    // Read while all four are connected: what ends by itself is logged too.
    let log = server.log();
    assert!(
        !log.contains("disconnected") && !log.contains("refused"),
        "{log}"
    );
    server.stop();
    site.verify();
}

/// Certificate, authorities and lists, again and again: most by SIGHUP, some by the change alone.
fn replace_everything(site: &Site, server: &Server) {
    let other = Site::bare(&[]);
    let (ca, crl) = (site.path("certs/ca.pem"), site.path("certs/crl.pem"));
    let own = read(&ca);
    for round in 0..12 {
        let replace = || {
            site.gen_certs(&["renew"]).expect(0);
            let list = read(&crl);
            put(&crl, list + &read(&other.path("certs/crl.pem")));
            put(&ca, own.clone() + &read(&other.path("certs/ca.pem")));
        };
        if round % 6 == 5 {
            change(server, replace);
        } else {
            replace();
            server.reload();
        }
        put(&ca, &own);
        server.reload();
    }
}

#[tokio::test]
async fn a_terminal_whose_certificate_ends_in_mid_session_is_warned_of_and_then_put_out() {
    let site = Site::new();
    let server = site.start();
    let now = OffsetDateTime::now_utc();
    let name = "terminal-9".parse().unwrap();
    let request =
        CertificateRequest::terminal(&name, now - Duration::HOUR, now + Duration::seconds(4));
    let card = Card::issued(&site.path("certs"), &issue(&site, &request));
    let mut other = server.terminal("terminal-1").await;
    let mut terminal = Terminal::connect(server.address, card).await;
    terminal.login("zz-99999", "9999").await.expect_code(0);
    server.wait_for_log("the certificate of terminal-9 ends in 0 hours");
    terminal.expect_end().await;
    assert!(OffsetDateTime::now_utc() > request.not_after);
    server.wait_for_log("connections whose certificate has ended were closed");
    other.ping().await.expect_code(0);
    assert!(!server.log().contains("the certificate of terminal-1"));
}

#[tokio::test]
async fn a_certificate_near_its_end_is_warned_of_at_the_start_and_its_metric_is_live() {
    let monitor = Monitor::free();
    let site = Site::with(&[("metrics.listen", &monitor.setting())]);
    let now = OffsetDateTime::now_utc();
    let request = CertificateRequest::server(
        &ServerName::local(),
        now - Duration::HOUR,
        now + Duration::days(6) + Duration::HOUR,
    );
    let issued = issue(&site, &request);
    put(&site.path("certs/server.pem"), issued.pem());
    put(&site.path("certs/server.key"), issued.key_pem().as_bytes());
    let server = site.start();
    server.wait_for_log("the server's certificate ends in 6 days");
    let left = monitor.value("bank_certificate_expiry_seconds").await;
    assert!(
        (6 * 86_400 - 3_600..=6 * 86_400 + 3_600).contains(&left),
        "{left}"
    );
    monitor
        .wait_for("bank_certificate_expiry_seconds", |later| later < left)
        .await;
    assert_eq!(server.log().matches("certificate ends in").count(), 1);
    for metric in ["authority", "revocation_list"] {
        let left = monitor
            .value(&format!("bank_{metric}_expiry_seconds{{}}"))
            .await;
        assert!(left > 300 * 86_400, "{metric}: {left}");
    }
    let checked = site.run(&["check", "--json"]).expect(0).json();
    assert!(checked.to_string().contains("ends in 6 days"), "{checked}");
}
