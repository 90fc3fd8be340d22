//! Who is taken for the bank.

use super::fake_bank::{FakeBank, Papers, agreeable};
use super::{Terminal, stderr, stdout};

const SCRIPT: &str = "login zz-99999 8264\n";

#[test]
fn a_bank_under_a_foreign_ca_gets_no_byte_of_a_request() {
    let bank = FakeBank::start(agreeable);
    let other = Papers::new(&["localhost"]);
    let mut terminal = Terminal::bare();
    terminal
        .arg("--server")
        .arg(format!("localhost:{}", bank.port));
    terminal.arg("--ca").arg(other.file("ca.pem"));
    let output = terminal.script(SCRIPT);
    assert_eq!(output.status.code(), Some(76), "{}", stderr(&output));
    assert!(stderr(&output).contains("not the right bank"));
    assert_eq!(
        bank.seen(|seen| (seen.connections, seen.application_bytes)),
        (1, 0)
    );
}

#[test]
fn a_certificate_for_another_name_is_not_the_right_bank() {
    let papers = Papers::new(&["bank.example"]);
    let bank = FakeBank::start_with(papers, &[b"atm/1"], agreeable);
    let output = Terminal::at(&bank).script(SCRIPT);
    assert_eq!(output.status.code(), Some(76), "{}", stderr(&output));
    assert_eq!(bank.seen(|seen| seen.application_bytes), 0);
}

#[test]
fn an_ip_address_must_be_in_the_certificate_too() {
    for (names, code) in [(&["localhost"][..], 76), (&["127.0.0.1"], 0)] {
        let bank = FakeBank::start_with(Papers::new(names), &[b"atm/1"], agreeable);
        let mut terminal = Terminal::bare();
        terminal
            .arg("--server")
            .arg(format!("127.0.0.1:{}", bank.port));
        terminal.arg("--ca").arg(bank.papers.file("ca.pem"));
        let output = terminal.script("ping\n");
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    }
}

#[test]
fn a_server_without_the_protocols_name_is_not_the_right_bank() {
    for protocols in [&[][..], &[&b"http/1.1"[..]]] {
        let bank = FakeBank::start_with(Papers::new(&["localhost"]), protocols, agreeable);
        let output = Terminal::at(&bank).script(SCRIPT);
        assert_eq!(output.status.code(), Some(76), "{}", stderr(&output));
        assert_eq!(bank.seen(|seen| seen.application_bytes), 0);
    }
}

#[test]
fn a_server_that_speaks_no_tls_is_not_the_right_bank() {
    use std::io::Write;
    let bank = FakeBank::start(agreeable);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let plain = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        tcp.write_all(b"220 mail.example ESMTP\r\n").unwrap();
        // Kept open until the terminal has gone.
        std::io::copy(&mut tcp, &mut std::io::sink()).ok();
    });
    let mut terminal = Terminal::bare();
    terminal.arg("--server").arg(format!("localhost:{port}"));
    terminal.arg("--ca").arg(bank.papers.file("ca.pem"));
    let output = terminal.script(SCRIPT);
    assert_eq!(output.status.code(), Some(76), "{}", stderr(&output));
    plain.join().unwrap();
}

#[test]
fn where_nobody_listens_there_is_no_bank() {
    let bank = FakeBank::start(agreeable);
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut terminal = Terminal::bare();
    terminal.arg("--server").arg(format!("127.0.0.1:{unused}"));
    terminal.arg("--ca").arg(bank.papers.file("ca.pem"));
    let output = terminal.script(SCRIPT);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    assert!(stderr(&output).contains("no bank at 127.0.0.1"));
}

#[test]
fn a_pinned_key_that_no_ca_has_ends_before_anybody_is_called() {
    let bank = FakeBank::start(agreeable);
    let output = Terminal::at(&bank)
        .arg("--pin-sha256")
        .arg("ab".repeat(32))
        .script(SCRIPT);
    assert_eq!(output.status.code(), Some(76), "{}", stderr(&output));
    assert_eq!(bank.seen(|seen| seen.connections), 0);
}

#[test]
fn of_two_cas_only_those_that_are_pinned_are_trusted() {
    use aws_lc_rs::digest;
    use x509_parser::pem::parse_x509_pem;
    let bank = FakeBank::start(agreeable);
    let other = Papers::new(&["localhost"]);
    let own = std::fs::read_to_string(bank.papers.file("ca.pem")).unwrap();
    let foreign = std::fs::read_to_string(other.file("ca.pem")).unwrap();
    let digest_of = |text: &str| {
        let (_, pem) = parse_x509_pem(text.as_bytes()).unwrap();
        let spki = digest::digest(&digest::SHA256, pem.parse_x509().unwrap().public_key().raw);
        data_encoding::HEXUPPER.encode(spki.as_ref())
    };
    let (own_pin, foreign_pin) = (digest_of(&own), digest_of(&foreign));
    for (pins, code) in [
        (vec![&own_pin], 0),
        (vec![&foreign_pin], 76),
        (vec![&foreign_pin, &own_pin], 0),
    ] {
        let mut terminal = Terminal::bare();
        let both = terminal.folder.path().join("both.pem");
        std::fs::write(&both, format!("{own}{foreign}")).unwrap();
        terminal
            .arg("--server")
            .arg(format!("localhost:{}", bank.port));
        terminal.arg("--ca").arg(&both);
        for pin in pins {
            terminal.arg("--pin-sha256").arg(pin);
        }
        let output = terminal.script("ping\n");
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    }
}

#[test]
fn a_customer_is_not_asked_for_anything_before_the_bank_has_proved_itself() {
    let papers = Papers::new(&["bank.example"]);
    let bank = FakeBank::start_with(papers, &[b"atm/1"], agreeable);
    let output = Terminal::at(&bank)
        .arg("--plain")
        .type_in("zz-99999\n8264\n");
    assert_eq!(output.status.code(), Some(76));
    let shown = stdout(&output);
    assert!(
        !shown.contains("Account") && shown.contains("out of service"),
        "{shown}"
    );
}

#[test]
fn a_private_key_that_others_may_read_is_refused_with_its_mend() {
    use std::os::unix::fs::PermissionsExt;
    let bank = FakeBank::start(agreeable);
    let key = bank.papers.file("terminal.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let journal = tempfile::tempdir().unwrap();
    let output = Terminal::with_certificate(&bank, journal.path()).script("ping\n");
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr(&output).contains("chmod 600 "),
        "{}",
        stderr(&output)
    );
    assert_eq!(bank.seen(|seen| seen.connections), 0);
}
