//! Certificates, keys and lists that openssl made: they work, or are refused with the true cause.

mod workshop;

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use self::workshop::{Ca, Curve, is_here};
use crate::support::{Card, Ran, Server, Site, Terminal, until};

/// A bank whose files all come from this CA, and a terminal's certificate.
fn bank_of(ca: &Ca) -> Site {
    let site = Site::with(&[]);
    let certs = site.path("certs");
    for file in ["server.key", "issued.csv", "revoked.csv", "ca.key"] {
        fs::remove_file(certs.join(file)).unwrap();
    }
    ca.issue_server(&certs.join("server"));
    ca.issue_terminal("terminal-1", &certs.join("terminals/terminal-1"));
    fs::write(certs.join("ca.pem"), ca.certificate()).unwrap();
    fs::write(certs.join("crl.pem"), ca.list(&[])).unwrap();
    site
}

/// The terminal with what is behind its certificate.
fn card(certs: &Path, behind: &[&Ca]) -> Card {
    let file = |ending: &str| certs.join(format!("terminals/terminal-1.{ending}"));
    let mut chain = vec![CertificateDer::from_pem_file(file("pem")).unwrap()];
    let parsed = |ca: &&Ca| CertificateDer::from_pem_slice(ca.certificate().as_bytes()).unwrap();
    chain.extend(behind.iter().map(parsed));
    Card::presenting(
        certs,
        chain,
        PrivateKeyDer::from_pem_file(file("key")).unwrap(),
    )
}

async fn is_let_in(server: &Server, card: Card) -> bool {
    !card.knock(server.address).await.is_empty()
}

#[track_caller]
fn refused(site: &Site, words: &[&str]) {
    let start = site.start_refused();
    let check = site.run(&["check", "--json"]).expect(78);
    for words in words {
        assert!(
            start.stderr.contains(words),
            "no {words:?} in {}",
            start.stderr
        );
        assert!(
            check.stdout.contains(words),
            "no {words:?} in {}",
            check.stdout
        );
    }
    assert_eq!(start.code, Some(78), "{start:?}");
}

#[tokio::test]
async fn a_bank_on_p521_and_sha512_serves_and_heeds_its_lists_of_long_numbers() {
    if !is_here() {
        return;
    }
    let ca = Ca::root("root-521", Curve::P521);
    let site = bank_of(&ca);
    let certs = site.path("certs");
    let server = site.start();
    assert!(is_let_in(&server, card(&certs, &[])).await);
    server.stop();
    // 20 octets, beside the older list, with all that openssl writes about it.
    ca.revoke(&certs.join("terminals/terminal-1.pem"));
    let number = format!("7f{}", "ff".repeat(19));
    let newer = ca.list(&["-number", &number]);
    let both = newer.clone() + &fs::read_to_string(certs.join("crl.pem")).unwrap();
    fs::write(certs.join("crl.pem"), both).unwrap();
    let server = site.start();
    assert!(!is_let_in(&server, card(&certs, &[])).await);
    server.stop();
    let text = ca.openssl(&["crl", "-text"], &newer);
    assert!(text.contains("Revoked Certificates"), "{text}");
    fs::write(certs.join("crl.pem"), text).unwrap();
    let server = site.start();
    assert!(!is_let_in(&server, card(&certs, &[])).await);
    let shown = site.gen_certs(&["show", "--json"]).expect(0).json();
    let number = format!("0x{number}");
    assert_eq!(shown["revocation_lists"][0]["number"], number.as_str());
}

#[tokio::test]
async fn an_authority_in_between_has_its_list_in_the_same_file() {
    if !is_here() {
        return;
    }
    let root = Ca::root("root", Curve::P384);
    let middle = root.below("middle");
    let site = bank_of(&root);
    let certs = site.path("certs");
    middle.issue_terminal("terminal-1", &certs.join("terminals/terminal-1"));
    let put = |lists: &[String]| fs::write(certs.join("crl.pem"), lists.concat()).unwrap();
    put(&[root.list(&[])]);
    let server = site.start();
    // Nothing tells whether it is revoked.
    assert!(!is_let_in(&server, card(&certs, &[&middle])).await);
    put(&[root.list(&[]), middle.list(&[])]);
    server.reload();
    let mut open = Terminal::connect(server.address, card(&certs, &[&middle])).await;
    open.ping().await.expect_code(0);
    // Its newer list counts, in whatever order.
    let good = middle.list(&[]);
    middle.revoke(&certs.join("terminals/terminal-1.pem"));
    put(&[good, middle.list(&[]), root.list(&[])]);
    server.reload();
    open.expect_end().await;
    assert!(!is_let_in(&server, card(&certs, &[&middle])).await);
    // The root revokes it whole.
    middle.issue_terminal("terminal-1", &certs.join("terminals/terminal-1"));
    let lists = [root.list(&[]), middle.list(&[])];
    put(&lists);
    server.reload();
    assert!(is_let_in(&server, card(&certs, &[&middle])).await);
    root.revoke(&middle.file("pem"));
    put(&[root.list(&[]), middle.list(&[])]);
    server.reload();
    assert!(!is_let_in(&server, card(&certs, &[&middle])).await);
    // So it does where the server trusts the one in between by name.
    let both = root.certificate() + &middle.certificate();
    fs::write(certs.join("ca.pem"), both).unwrap();
    server.reload();
    server.wait_for_log("middle in certs/ca.pem is revoked by CN=root and not trusted");
    assert!(!is_let_in(&server, card(&certs, &[])).await);
    assert!(!is_let_in(&server, card(&certs, &[&middle])).await);
}

fn reload_or_refuse(server: &Server) {
    let looked = || server.log().matches("reload").count();
    let before = looked();
    server.signal(Signal::HUP);
    until("the reload, or its refusal", || {
        (looked() > before).then_some(())
    });
}

#[tokio::test]
async fn lists_without_numbers_go_by_their_date_and_none_older_comes_back() {
    if !is_here() {
        return;
    }
    let ca = Ca::root("root", Curve::P256);
    let site = bank_of(&ca);
    let certs = site.path("certs");
    let put = |list: &str| fs::write(certs.join("crl.pem"), list).unwrap();
    let of = |number: Option<&str>, date: &str| {
        let number = number.map_or(["-unnumbered", ""], |number| ["-number", number]);
        ca.list(&[number[0], number[1], "-crl_lastupdate", date])
    };
    let (january, march) = ("260101000000Z", "260301000000Z");
    let older = [
        of(None, january),
        of(Some("09"), january),
        of(Some("0100"), january),
    ];
    ca.revoke(&certs.join("terminals/terminal-1.pem"));
    let newer = [of(None, march), of(Some("02"), march)];
    for newer in &newer {
        put(newer);
        let mut server = site.start();
        assert!(!is_let_in(&server, card(&certs, &[])).await);
        for older in &older {
            // Alone, and beside it in either order.
            let both = [older.clone() + newer, newer.clone() + older];
            for text in both.iter().chain([older]) {
                put(text);
                reload_or_refuse(&server);
                assert!(!is_let_in(&server, card(&certs, &[])).await, "{text}");
            }
        }
        server.stop();
        // And after a restart.
        for older in &older {
            put(older);
            refused(&site, &["crl.pem", "bank.db-lists"]);
        }
        put(newer);
        server = site.start();
        assert!(!is_let_in(&server, card(&certs, &[])).await);
        server.stop();
        fs::remove_file(site.path("data/bank.db-lists")).unwrap();
    }
}

#[test]
fn lists_that_nothing_can_be_looked_up_in_are_refused_with_the_cause() {
    if !is_here() {
        return;
    }
    let ca = Ca::root("root", Curve::P256);
    let site = bank_of(&ca);
    let list = site.path("certs/crl.pem");
    fs::write(&list, ca.list(&["-v1"])).unwrap();
    refused(&site, &["crl.pem: line 1", "version 1"]);
    let shown = site.gen_certs(&["show"]).expect(65);
    assert!(shown.stderr.contains("version 1"), "{shown:?}");
    fs::write(&list, ca.list(&["-delta"])).unwrap();
    refused(&site, &["crl.pem: line 1", "delta"]);
    fs::write(&list, ca.list(&["-sha1"])).unwrap();
    refused(&site, &["crl.pem: line 1", "SHA-1"]);
    let good = ca.list(&[]);
    fs::write(&list, ca.openssl_octets(&["crl", "-outform", "DER"], &good)).unwrap();
    refused(&site, &["crl.pem: it is DER", "openssl crl -inform DER"]);
    let other = Ca::root("root", Curve::P256);
    fs::write(&list, good + &other.list(&[])).unwrap();
    refused(&site, &["crl.pem: line", "signature does not fit"]);
    fs::write(
        site.path("certs/ca.pem"),
        ca.certificate() + &other.certificate(),
    )
    .unwrap();
    refused(&site, &["ca.pem has two authorities of the name CN=root"]);
}

#[tokio::test]
async fn keys_as_openssl_writes_them_work_and_encrypted_ones_are_named() {
    if !is_here() {
        return;
    }
    let ca = Ca::root("root", Curve::P256);
    let site = bank_of(&ca);
    let (certs, key) = (site.path("certs"), site.path("certs/server.key"));
    let plain = fs::read_to_string(&key).unwrap();
    let sec1 = ca.openssl(&["ec"], &plain);
    let curve = ca.openssl(&["ecparam", "-name", "prime256v1"], "");
    assert!(sec1.contains("EC PRIVATE KEY") && curve.contains("EC PARAMETERS"));
    fs::write(&key, format!("{curve}{sec1}")).unwrap();
    let terminal = certs.join("terminals/terminal-1.key");
    fs::copy(&key, site.path("kept.key")).unwrap();
    let server = site.start();
    assert!(is_let_in(&server, card(&certs, &[])).await);
    server.stop();
    for arguments in [
        &["pkcs8", "-topk8", "-passout", "pass:x"][..],
        &["ec", "-aes128", "-passout", "pass:x"],
    ] {
        let encrypted = ca.openssl(arguments, &plain);
        fs::write(&key, &encrypted).unwrap();
        refused(
            &site,
            &[
                "server.key: line",
                "the key is encrypted",
                "openssl pkey -in",
            ],
        );
        let kept = fs::read(&terminal).unwrap();
        fs::write(&terminal, &encrypted).unwrap();
        atm(&site, "certs/ca.pem")
            .expect(78)
            .saying("the key is encrypted");
        fs::write(&terminal, kept).unwrap();
    }
}

/// The terminal's program, with a bank where nobody listens.
fn atm(site: &Site, ca: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atm_client"));
    command
        .current_dir(site.folder())
        .args(["--script", "-", "--server", "localhost:1"]);
    command.args([
        "--ca",
        ca,
        "--journal",
        "journal",
        "--cert",
        "certs/terminals/terminal-1.pem",
    ]);
    command.args(["--key", "certs/terminals/terminal-1.key"]);
    Ran::of(command, "balance\n")
}

#[test]
fn a_server_certificate_that_no_terminal_would_take_is_refused_at_the_start() {
    if !is_here() {
        return;
    }
    let ca = Ca::root("root", Curve::P256);
    let site = bank_of(&ca);
    let server = site.path("certs/server");
    let no_name = &["keyUsage=digitalSignature", "extendedKeyUsage=serverAuth"];
    ca.issue("server", no_name, &server);
    refused(
        &site,
        &["server.pem: no terminal would take it", "names no server"],
    );
    let no_server = &[
        "subjectAltName=DNS:localhost",
        "extendedKeyUsage=clientAuth",
    ];
    ca.issue("server", no_server, &server);
    refused(
        &site,
        &["server.pem: no terminal would take it", "serverAuth"],
    );
    let authority = &[
        "subjectAltName=DNS:localhost",
        "basicConstraints=critical,CA:TRUE",
    ];
    ca.issue("server", authority, &server);
    refused(&site, &["server.pem: no terminal would take it", "CA:TRUE"]);
    let good = &[
        "subjectAltName=DNS:localhost",
        "extendedKeyUsage=serverAuth",
    ];
    Ca::root("other", Curve::P256).issue("server", good, &server);
    refused(
        &site,
        &[
            "server.pem: no terminal would take it",
            "no authority in certs/ca.pem issued it",
        ],
    );
    // One that signed itself, as its own authority.
    let itself = Ca::root("localhost", Curve::P256);
    for (ending, place) in [
        ("pem", "server.pem"),
        ("pem", "ca.pem"),
        ("key", "server.key"),
    ] {
        fs::copy(itself.file(ending), site.path("certs").join(place)).unwrap();
    }
    refused(&site, &["server.pem: no terminal would take it"]);
    ca.issue("server", good, &server);
    fs::copy(site.path("certs/server.pem"), site.path("certs/ca.pem")).unwrap();
    refused(&site, &["ca.pem"]);
}

#[test]
fn whatever_is_glued_indented_quoted_or_cut_is_refused_with_its_line_by_every_program() {
    let site = Site::new();
    let read = |file: &str| fs::read_to_string(site.path(file)).unwrap();
    let older = read("certs/crl.pem");
    site.gen_certs(&["revoke", "terminal-1"]).expect(0);
    let newer = read("certs/crl.pem");
    let lines = older.lines().count();
    let each_line = |prefix: &str| -> String {
        newer
            .lines()
            .map(|line| format!("{prefix}{line}\n"))
            .collect()
    };
    for (newer, line) in [
        (format!("{}{newer}", older.trim_end()), lines),
        (older.clone() + &each_line(" "), lines + 1),
        (older.clone() + &each_line("> "), lines + 1),
        (format!("{older}\u{feff}{newer}"), lines + 1),
        (format!("\u{feff}{newer}{older}"), 1),
        (
            older.clone() + &newer.replace("X509 CRL", "x509 crl"),
            lines + 1,
        ),
        (
            older.clone() + &newer.replacen("-----BEGIN", "----BEGIN", 1),
            lines + 1,
        ),
        (older.clone() + newer.split_once('\n').unwrap().1, lines + 1),
    ] {
        fs::write(site.path("certs/crl.pem"), newer).unwrap();
        let words = format!("crl.pem: line {line}: ");
        refused(&site, &[&words]);
        let shown = site.gen_certs(&["show"]).expect(65);
        assert!(shown.stderr.contains(&words), "{shown:?}");
    }
    fs::write(site.path("certs/crl.pem"), &newer).unwrap();
    let ca = read("certs/ca.pem");
    fs::write(site.path("certs/ca.pem"), format!("{}{ca}", ca.trim_end())).unwrap();
    let words = format!("ca.pem: line {}: ", ca.lines().count());
    refused(&site, &[&words]);
    atm(&site, "certs/ca.pem").expect(78).saying(&words);
    fs::write(site.path("certs/ca.pem"), ca.clone() + &newer).unwrap();
    refused(
        &site,
        &["ca.pem: line", "X509 CRL in a file of certificates"],
    );
    fs::write(site.path("certs/ca.pem"), ca).unwrap();
    let pem = read("certs/server.pem");
    fs::write(site.path("certs/server.pem"), format!("{pem}# {pem}")).unwrap();
    refused(&site, &["server.pem: line"]);
    fs::write(site.path("certs/server.pem"), pem).unwrap();
    let key = read("certs/server.key");
    fs::write(site.path("certs/server.key"), key.clone() + &key).unwrap();
    refused(&site, &["server.key: line", "a second key"]);
    fs::write(site.path("certs/server.key"), key).unwrap();
    site.run(&["check"]).expect(0);
}

#[tokio::test]
async fn windows_line_ends_and_text_between_lists_change_nothing() {
    let site = Site::new();
    let list = site.path("certs/crl.pem");
    let older = fs::read_to_string(&list).unwrap();
    site.gen_certs(&["revoke", "terminal-2"]).expect(0);
    let newer = fs::read_to_string(&list).unwrap();
    let text = format!(
        "Bag Attributes\n    friendlyName: old\n{older}\n# the newer one -- of today\n{newer}"
    );
    fs::write(&list, text.replace('\n', "\r\n")).unwrap();
    let server = site.start();
    assert!(!server.lets_in("terminal-2").await);
    assert!(server.lets_in("terminal-1").await);
}
