use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, crypto::aws_lc_rs::default_provider};
use time::Duration;

use super::*;

fn made(folder: &Path) -> CertificateFolder {
    let certificates = CertificateFolder::new(folder, now());
    let terminals = vec![name("a"), name("b")];
    certificates
        .make_missing(&MakeRequest {
            terminals,
            ..MakeRequest::default()
        })
        .unwrap();
    certificates
}

/// The list that a server would read from the folder.
fn list(folder: &CertificateFolder) -> RevocationListFacts {
    let pem = fs::read(folder.revocation_file()).unwrap();
    RevocationListFacts::read(&CertificateRevocationListDer::from_pem_slice(&pem).unwrap()).unwrap()
}

fn serial_of(path: &Path) -> Serial {
    CertificateFacts::read(&CertificateDer::from_pem_file(path).unwrap())
        .unwrap()
        .serial
}

fn revoked_in(folder: &CertificateFolder) -> Vec<Serial> {
    list(folder)
        .revoked
        .into_iter()
        .map(|one| one.serial)
        .collect()
}

/// Whether the verifier the server uses lets this client in at this moment.
fn accepts(folder: &CertificateFolder, terminal: &str, seconds: i64) -> bool {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(folder.authority_file()).unwrap())
        .unwrap();
    let list = CertificateRevocationListDer::from_pem_file(folder.revocation_file()).unwrap();
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .with_crls([list])
        .build()
        .unwrap();
    let der = CertificateDer::from_pem_file(folder.terminal_file(&name(terminal))).unwrap();
    let moment = std::time::Duration::from_secs(seconds.try_into().unwrap());
    verifier
        .verify_client_cert(&der, &[], UnixTime::since_unix_epoch(moment))
        .is_ok()
}

#[test]
fn the_servers_verifier_lets_in_who_is_not_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    assert!(accepts(&certificates, "a", NOW) && accepts(&certificates, "b", NOW));
    certificates.revoke("a").unwrap();
    assert!(!accepts(&certificates, "a", NOW) && accepts(&certificates, "b", NOW));
    assert!(!accepts(&certificates, "b", NOW + 900 * 86_400), "ended");
}

#[test]
fn revoking_keeps_former_entries_and_the_lists_number_grows() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    let first = list(&certificates);
    assert!(first.revoked.is_empty());
    certificates.revoke("a").unwrap();
    let second = list(&certificates);
    let report = certificates.revoke("b").unwrap();
    let third = list(&certificates);
    assert!(first.number < second.number && second.number < third.number);
    assert_eq!(second.revoked.as_slice(), &third.revoked[..1]);
    assert_eq!((report.revoked.len(), third.revoked.len()), (1, 2));
    assert_eq!(
        third.next_update,
        NOW + i64::from(REVOCATION_LIST_DAYS) * 86_400
    );
}

#[test]
fn revoking_takes_all_of_a_name_that_have_not_ended() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    certificates.terminal(&name("c"), 1, false).unwrap();
    let later = CertificateFolder::new(folder.path(), now() + Duration::days(2));
    later.terminal(&name("c"), 10, true).unwrap();
    later.terminal(&name("c"), 10, true).unwrap();
    let report = later.revoke("c").unwrap();
    assert_eq!((report.revoked.len(), report.ended), (2, 1));
    let again = later.revoke("c").unwrap();
    assert_eq!((again.revoked.len(), again.already_revoked.len()), (0, 2));
}

#[test]
fn a_lost_list_is_made_again_with_all_revocations() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    certificates.revoke("a").unwrap();
    let revoked = revoked_in(&certificates);
    fs::remove_file(certificates.revocation_file()).unwrap();
    certificates.make_missing(&MakeRequest::default()).unwrap();
    assert_eq!(revoked_in(&certificates), revoked);
}

#[test]
fn a_lost_register_of_revocations_is_made_again_from_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    certificates.revoke("a").unwrap();
    fs::remove_file(folder.path().join("revoked.csv")).unwrap();
    certificates.revoke("b").unwrap();
    fs::remove_file(certificates.revocation_file()).unwrap();
    certificates.make_missing(&MakeRequest::default()).unwrap();
    assert_eq!(revoked_in(&certificates).len(), 2);
}

#[test]
fn an_empty_list_never_takes_the_place_of_lost_revocations() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    fs::remove_file(certificates.revocation_file()).unwrap();
    fs::remove_file(folder.path().join("revoked.csv")).unwrap();
    let refused = certificates.make_missing(&MakeRequest::default());
    assert!(matches!(refused, Err(PkiError::RevocationsLost { .. })));
}

#[test]
fn an_interrupted_revocation_is_completed_by_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    let list = fs::read(certificates.revocation_file()).unwrap();
    certificates.revoke("a").unwrap();
    fs::write(certificates.revocation_file(), list).unwrap();
    assert!(certificates.revoke("a").unwrap().revoked.is_empty());
    assert_eq!(
        revoked_in(&certificates),
        [serial_of(&certificates.terminal_file(&name("a")))]
    );
}

#[test]
fn a_terminal_can_be_revoked_though_the_register_and_other_files_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    fs::remove_file(folder.path().join("issued.csv")).unwrap();
    fs::write(certificates.terminal_file(&name("b")), "damage").unwrap();
    assert_eq!(certificates.revoke("a").unwrap().revoked.len(), 1);
    assert!(matches!(
        certificates.revoke("b"),
        Err(PkiError::UnknownName { .. })
    ));
}

#[test]
fn renewing_never_brings_a_revoked_terminal_back() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    let other = serial_of(&certificates.terminal_file(&name("b")));
    certificates.revoke("a").unwrap();
    let report = certificates.renew(&[], LEAF_DAYS).unwrap();
    let skipped: Vec<_> = report
        .items
        .iter()
        .filter(|one| one.action == Action::Skipped)
        .collect();
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].name.as_deref(), Some("a"));
    assert!(!accepts(&certificates, "a", NOW) && accepts(&certificates, "b", NOW));
    assert_ne!(serial_of(&certificates.terminal_file(&name("b"))), other);
    let refused = certificates.terminal(&name("a"), LEAF_DAYS, false);
    assert!(matches!(refused, Err(PkiError::TerminalRevoked { .. })));
    certificates.terminal(&name("a"), LEAF_DAYS, true).unwrap();
    assert!(accepts(&certificates, "a", NOW));
}

#[test]
fn renewing_keeps_the_servers_names_unless_told_others() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    let names = || {
        let der = CertificateDer::from_pem_file(certificates.server_file()).unwrap();
        CertificateFacts::read(&der).unwrap().server_names
    };
    certificates.renew(&[], LEAF_DAYS).unwrap();
    assert_eq!(names(), ["localhost", "127.0.0.1", "::1"]);
    certificates
        .renew(&["bank.example".parse().unwrap()], LEAF_DAYS)
        .unwrap();
    assert_eq!(names(), ["bank.example"]);
}

#[test]
fn a_revoked_server_gets_a_new_key_at_renewal() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    let before = fs::read(certificates.server_key_file()).unwrap();
    assert_eq!(
        certificates
            .revoke("server:localhost")
            .unwrap()
            .revoked
            .len(),
        1
    );
    certificates.renew(&[], LEAF_DAYS).unwrap();
    assert_ne!(fs::read(certificates.server_key_file()).unwrap(), before);
    assert!(!revoked_in(&certificates).contains(&serial_of(&certificates.server_file())));
}

#[test]
fn a_certificate_is_made_again_for_a_key_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    let key = fs::read(certificates.server_key_file()).unwrap();
    fs::remove_file(certificates.server_file()).unwrap();
    certificates.make_missing(&MakeRequest::default()).unwrap();
    assert_eq!(fs::read(certificates.server_key_file()).unwrap(), key);
    certificates.make_missing(&MakeRequest::default()).unwrap();
}

#[test]
fn with_nothing_to_sign_the_authoritys_key_may_be_away() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    fs::remove_file(certificates.authority_key_file()).unwrap();
    certificates.make_missing(&MakeRequest::default()).unwrap();
    let refused = certificates.terminal(&name("c"), 10, false);
    assert!(matches!(refused, Err(PkiError::Missing { .. })));
    assert!(matches!(
        certificates.revoke("a"),
        Err(PkiError::Missing { .. })
    ));
    assert!(revoked_in(&certificates).is_empty());
}

#[test]
fn files_that_do_not_fit_together_are_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (made(one.path()), made(two.path()));
    let request = MakeRequest {
        terminals: vec![name("a")],
        ..MakeRequest::default()
    };

    fs::copy(
        second.terminal_file(&name("a")),
        first.terminal_file(&name("a")),
    )
    .unwrap();
    assert!(matches!(
        first.make_missing(&request),
        Err(PkiError::Stranger { .. })
    ));
    fs::copy(
        first.terminal_file(&name("b")),
        first.terminal_file(&name("a")),
    )
    .unwrap();
    assert!(matches!(
        first.make_missing(&request),
        Err(PkiError::NotThisTerminal { .. })
    ));
    fs::copy(second.server_key_file(), first.server_key_file()).unwrap();
    assert!(matches!(
        first.make_missing(&request),
        Err(PkiError::NotAPair { .. })
    ));
    fs::copy(second.authority_key_file(), first.authority_key_file()).unwrap();
    assert!(matches!(
        first.make_missing(&request),
        Err(PkiError::NotAPair { .. })
    ));
    fs::copy(first.server_file(), first.authority_file()).unwrap();
    assert!(matches!(first.show(), Err(PkiError::NotAnAuthority { .. })));
    fs::remove_file(first.authority_file()).unwrap();
    assert!(matches!(
        first.make_missing(&request),
        Err(PkiError::Missing { .. })
    ));
}

#[test]
fn a_list_with_a_foreign_signature_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    let pem = fs::read_to_string(certificates.revocation_file()).unwrap();
    // The signature's last octets are in the line before the last.
    let line = pem.trim_end().lines().rev().nth(1).unwrap();
    let swapped: String = line
        .chars()
        .rev()
        .collect::<String>()
        .trim_start_matches('=')
        .to_owned();
    fs::write(certificates.revocation_file(), pem.replace(line, &swapped)).unwrap();
    let refused = certificates.show();
    assert!(
        matches!(
            refused,
            Err(PkiError::Damaged { .. } | PkiError::NotPem { .. })
        ),
        "{refused:?}"
    );
}

#[test]
fn lists_of_other_authorities_in_the_file_are_kept() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (made(one.path()), made(two.path()));
    second.revoke("b").unwrap();
    for (into, from) in [
        (first.authority_file(), second.authority_file()),
        (first.revocation_file(), second.revocation_file()),
    ] {
        let both = [fs::read(from).unwrap(), fs::read(&into).unwrap()].concat();
        fs::write(into, both).unwrap();
    }
    first.revoke("a").unwrap();
    let shown = first.show().unwrap();
    let counts: Vec<usize> = shown
        .revocation_lists
        .iter()
        .map(|one| one.revoked.len())
        .collect();
    assert_eq!((shown.authorities.len(), counts), (2, vec![1, 1]));
}

#[test]
fn what_another_authority_issued_is_revoked_on_its_list_alone() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (made(one.path()), made(two.path()));
    // A change of authority: the old one's folder trusts both, a terminal has moved on.
    let join = |into: &Path, from: &Path| {
        let both = [fs::read(into).unwrap(), fs::read(from).unwrap()].concat();
        fs::write(into, both).unwrap();
    };
    join(&old.authority_file(), &new.authority_file());
    for file in [name("a"), name("b")].map(|one| old.terminal_file(&one)) {
        fs::copy(
            two.path().join(file.strip_prefix(one.path()).unwrap()),
            file,
        )
        .unwrap();
    }
    fs::copy(new.server_file(), old.server_file()).unwrap();
    let before = [old.revocation_file(), one.path().join("issued.csv")];
    let read = || before.clone().map(|file| fs::read(file).unwrap());
    let untouched = read();
    for revoked in ["a", "server:localhost"] {
        let refused = old.revoke(revoked).unwrap_err();
        assert!(
            matches!(refused, PkiError::IssuedElsewhere { .. }),
            "{refused}"
        );
        assert_eq!(refused.exit_code(), 65);
        assert!(
            refused
                .to_string()
                .contains(&format!("revoke {revoked}` in the folder"))
        );
    }
    assert_eq!(read(), untouched);
    // Where its own authority has revoked it, the old one's certificates of that name are left to be.
    new.revoke("a").unwrap();
    join(&old.revocation_file(), &new.revocation_file());
    let report = old.revoke("a").unwrap();
    assert_eq!((report.revoked.len(), report.already_revoked.len()), (1, 1));
    // Or the file is moved away.
    fs::remove_file(old.terminal_file(&name("b"))).unwrap();
    assert_eq!(old.revoke("b").unwrap().revoked.len(), 1);
}

#[test]
fn a_damaged_register_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    let path = folder.path().join("issued.csv");
    let good = fs::read_to_string(&path).unwrap();
    for damage in ["xyz,a,2030-01-01T00:00:00Z", "01,a,tomorrow", "01,a"] {
        fs::write(&path, format!("{good}{damage}\n")).unwrap();
        let refused = certificates.show();
        assert!(
            matches!(refused, Err(PkiError::Register { line: 5, .. })),
            "{damage} {refused:?}"
        );
    }
    fs::write(&path, "").unwrap();
    assert!(matches!(
        certificates.show(),
        Err(PkiError::Register { line: 1, .. })
    ));
}

#[test]
fn a_forced_run_replaces_everything_and_leaves_out_who_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    certificates.revoke("a").unwrap();
    let revoked = fs::read(certificates.terminal_file(&name("a"))).unwrap();
    let authority = fs::read(certificates.authority_file()).unwrap();
    let forced = MakeRequest {
        force: true,
        ..MakeRequest::default()
    };
    certificates.make_missing(&forced).unwrap();
    assert_ne!(fs::read(certificates.authority_file()).unwrap(), authority);
    assert_eq!(
        fs::read(certificates.terminal_file(&name("a"))).unwrap(),
        revoked
    );
    assert!(accepts(&certificates, "b", NOW));
    let issued = fs::read_to_string(folder.path().join("issued.csv")).unwrap();
    assert_eq!(issued.lines().count(), 1 + 3 + 2, "it only grows");
}

#[test]
fn a_kept_server_that_lacks_a_name_asked_for_is_spoken_of() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = made(folder.path());
    let server_names = vec![
        "localhost".parse().unwrap(),
        "bank.example".parse().unwrap(),
    ];
    let asked = MakeRequest {
        server_names,
        ..MakeRequest::default()
    };
    for (request, notes) in [(asked, 1), (MakeRequest::default(), 0)] {
        let report = certificates.make_missing(&request).unwrap();
        let server = report
            .items
            .iter()
            .find(|one| one.subject == Subject::Server)
            .unwrap();
        assert_eq!((server.action, server.notes.len()), (Action::Kept, notes));
    }
}
