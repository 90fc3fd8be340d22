//! What was looked at at the start is looked at again when it is acted upon, and what is handed over is
//! the file that was meant.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::json;

use crate::support::{Server, Site, until};

#[tokio::test]
async fn a_server_beyond_loopback_takes_no_account_with_a_public_pin_at_any_time() {
    let site = Site::bare(&[("server.listen", "\"0.0.0.0:0\"")]);
    let server = site.start();
    site.import("xx-00001, 6017, 1.00\nac-12345, 1324, 1024.32\n")
        .expect(65)
        .saying("1 of these are demo accounts");
    site.run_with(&["account", "add", "ac-12345"], "1324\n")
        .expect(65)
        .saying("demo accounts");
    let list = site.run(&["account", "list"]).expect(0).stdout;
    assert!(
        !list.contains("ac-12345") && !list.contains("xx-00001"),
        "{list}"
    );
    site.import("xx-00001, 6017, 1.00\nac-12345, 6018, 1024.32\n")
        .expect(0);
    server.stop();
    // Where it listens on loopback alone they are taken, and known for what they are.
    let mut site = Site::bare(&[]);
    let server = site.start();
    site.run_with(&["account", "add", "ac-12345"], "1324\n")
        .expect(0);
    server.stop();
    site.set("server.listen", "\"0.0.0.0:0\"");
    site.start_refused().expect(78).saying("demo accounts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_chooses_the_public_pin_of_a_demo_account() {
    let site = Site::new();
    let server = site.start();
    let mut customer = server.customer("terminal-1", "ac-12345", "1324").await;
    customer.change_pin("1324", "830517").await.expect_code(0);
    customer.change_pin("830517", "1324").await.expect_code(36);
    // It is another account's, or nobody's.
    customer.change_pin("830517", "9834").await.expect_code(0);
    let shown = site.run(&["account", "show", "ac-12345", "--json"]);
    assert_eq!(shown.expect(0).json()["demo"], false);
}

/// The copies of the store that are on their way.
fn staged(site: &Site) -> Vec<PathBuf> {
    let found = fs::read_dir(site.path("data")).unwrap();
    let paths = found.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "part"))
        .collect()
}

/// Asks the running server for a backup, as the command does, and says nothing more.
fn ask_for_backup(site: &Site, id: &str) -> UnixStream {
    let file = site.path("data").join(format!("backup-{id}.part"));
    let command = json!({ "command": "backup", "file": file, "wanted": site.path("wanted.db") });
    let payload = serde_json::to_vec(&command).unwrap();
    let mut stream = UnixStream::connect(site.path("data/operator.sock")).unwrap();
    let length = u32::try_from(payload.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).unwrap();
    stream.write_all(&payload).unwrap();
    stream
}

fn backups(server: &Server) -> usize {
    server.log().matches("command=\"backup\"").count()
}

#[tokio::test]
async fn a_backup_whose_client_dies_leaves_no_copy_and_one_that_lives_is_waited_for() {
    let site = Site::new();
    let server = site.start();
    let mut asked = ask_for_backup(&site, "0a");
    // The answer is there, and the copy, for as long as it is waited for.
    asked.read_exact(&mut [0; 4]).unwrap();
    assert_eq!(staged(&site).len(), 1);
    drop(asked);
    until("the copy to go", || staged(&site).is_empty().then_some(()));
    let before = backups(&server);
    drop(ask_for_backup(&site, "0b"));
    until("the backup", || (backups(&server) > before).then_some(()));
    until("the copy to go", || staged(&site).is_empty().then_some(()));
    site.run(&["backup", "b.db"]).expect(0);
    until("the copy to go", || staged(&site).is_empty().then_some(()));
    server.stop();
    site.run(&["restore", "b.db"]).expect(0);
    site.verify();
}

#[test]
fn only_what_really_lies_among_credentials_may_be_read_by_the_group() {
    let mut site = Site::new();
    let credentials = site.path("credentials");
    fs::create_dir(&credentials).unwrap();
    let key = site.path("certs/server.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    fs::copy(&key, credentials.join("server.key")).unwrap();
    let check = |site: &Site| {
        let mut command = site.program();
        command
            .arg("check")
            .env("CREDENTIALS_DIRECTORY", &credentials);
        crate::support::Ran::of(command, "")
    };
    site.set("tls.key", &format!("{:?}", credentials.join("server.key")));
    check(&site).expect(0);
    site.set(
        "tls.key",
        &format!("{:?}", credentials.join("../certs/server.key")),
    );
    check(&site).expect(78).printing("others may read it");
}
