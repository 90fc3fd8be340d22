//! What is no file in the place of one: nobody waits at it, and it is never taken for nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;

use super::{REFUSED, TAKEN};
use crate::support::{Ran, Site, until};

const IS_A_PIPE: &str = "it is a pipe, not a file";

fn make_pipe(path: &Path) {
    mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).unwrap();
}

#[tokio::test]
async fn a_pipe_among_the_certificates_is_refused_in_words_and_revocation_goes_on_after_it() {
    let site = Site::new();
    let server = site.start();
    let mut revoked = server.customer("terminal-1", "zz-99999", "9999").await;
    let (list, aside) = (site.path("certs/crl.pem"), site.path("aside.pem"));
    fs::rename(&list, &aside).unwrap();
    make_pipe(&list);
    server.wait_for_log(REFUSED);
    server.signal(Signal::HUP);
    server.wait_for_log("reload refused");
    assert!(server.log().contains(IS_A_PIPE));
    revoked.deposit(1).await.expect_code(0);
    fs::remove_file(&list).unwrap();
    fs::rename(&aside, &list).unwrap();
    site.gen_certs(&["revoke", "terminal-1"]).expect(0);
    revoked.expect_end().await;
    server.wait_for_log(TAKEN);
    make_pipe(&site.path("pipe"));
    fs::rename(site.path("pipe"), site.path("certs/server.key")).unwrap();
    until("the key to be refused", || {
        (server.log().matches(REFUSED).count() > 1).then_some(())
    });
    server.stop();
}

#[test]
fn a_check_and_a_start_wait_at_no_pipe_and_name_it() {
    for name in [
        "certs/crl.pem",
        "certs/server.key",
        "certs/pepper",
        "bank.toml",
        "data/bank.db",
        "data/bank.db-lock",
    ] {
        let site = Site::new();
        fs::rename(site.path(name), site.path("aside")).unwrap();
        make_pipe(&site.path(name));
        for command in ["check", "run"] {
            let ran = site.run(&[command]);
            let said = ran.stdout.clone() + &ran.stderr;
            assert_ne!(ran.code, Some(0), "{name}: {ran:?}");
            assert!(said.contains(name), "{name}: {said}");
            let says_what = said.contains(IS_A_PIPE) || name.ends_with("-lock");
            assert!(says_what, "{name}: {said}");
        }
    }
}

#[test]
fn accounts_are_read_from_a_pipe_of_the_shell_and_from_no_other() {
    let site = Site::new();
    let mut program = site.program();
    program.args(["import", "/dev/stdin"]);
    Ran::of(program, "ac-90001, 8251, 1.00\n").expect(0);
    make_pipe(&site.path("accounts.pipe"));
    let waited = site.run(&["import", "accounts.pipe"]);
    waited.expect(66).saying(IS_A_PIPE);
}

/// Puts something in the place of the configuration that is read unless another is named.
fn instead_of_the_configuration(what: &str, put: impl FnOnce(&Path)) {
    let site = Site::bare(&[]);
    let folder = site.path("config");
    fs::create_dir(&folder).unwrap();
    put(&folder.join("bank_server.toml"));
    let mut program = Command::new(site.program().get_program());
    program.current_dir(site.folder());
    program.args(["check", "--config-only"]);
    let checked = Ran::of(program, "");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let place = "config/bank_server.toml: cannot be read";
    assert_eq!(checked.code, Some(78), "{what}: {checked:?}");
    assert!(checked.stdout.contains(place), "{what}: {checked:?}");
}

#[test]
fn a_configuration_that_is_there_and_cannot_be_read_is_never_taken_for_none() {
    instead_of_the_configuration("a pipe", make_pipe);
    instead_of_the_configuration("a folder", |place| fs::create_dir(place).unwrap());
    instead_of_the_configuration("a loop", |place| {
        symlink("bank_server.toml", place).unwrap()
    });
    instead_of_the_configuration("a link astray", |place| symlink("none", place).unwrap());
    if rustix::process::geteuid().is_root() {
        println!("skipped: to root every folder is open");
        return;
    }
    instead_of_the_configuration("a closed folder", |place| {
        let closed = fs::Permissions::from_mode(0o000);
        fs::set_permissions(place.parent().unwrap(), closed).unwrap();
    });
}
