//! A new authority takes over, step by step as docs/OPERATIONS.md says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{change, put, read};
use crate::support::{Card, Ran, Server, Site, Terminal};

/// A terminal in the field: its own files, which staff bring it.
struct InTheField {
    folder: tempfile::TempDir,
    name: &'static str,
    account: &'static str,
    pin: &'static str,
}

impl InTheField {
    fn new(certs: &Path, (name, account, pin): (&'static str, &'static str, &'static str)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("terminals")).unwrap();
        let field = Self {
            folder,
            name,
            account,
            pin,
        };
        field.bring_authorities(&[certs]);
        field.bring_certificate(certs);
        field
    }

    /// `cat OLD/ca.pem NEW/ca.pem > ca.pem`
    fn bring_authorities(&self, from: &[&Path]) {
        let all: String = from
            .iter()
            .map(|certs| read(&certs.join("ca.pem")))
            .collect();
        fs::write(self.folder.path().join("ca.pem"), all).unwrap();
    }

    fn bring_certificate(&self, certs: &Path) {
        for ending in ["pem", "key"] {
            let file = format!("terminals/{}.{ending}", self.name);
            fs::copy(certs.join(&file), self.folder.path().join(&file)).unwrap();
        }
    }

    fn card(&self) -> Card {
        let folder = self.folder.path();
        Card::of(folder, self.name).trusting(&folder.join("ca.pem"))
    }

    /// A customer comes, pays a cent in, and goes.
    async fn serve(&self, server: &Server) {
        let mut terminal = Terminal::connect(server.address, self.card()).await;
        terminal.login(self.account, self.pin).await.expect_code(0);
        terminal.deposit(1).await.expect_code(0);
        terminal.close().await;
    }

    /// The same with the terminal's real program, which pins these authorities' keys.
    fn serve_by_program(&self, server: &Server, pins: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atm_client"));
        command
            .current_dir(self.folder.path())
            .env_remove("ATM_PIN");
        command.args(["--script", "-", "--ca", "ca.pem", "--journal", "journal"]);
        command.args(["--server", &format!("localhost:{}", server.address.port())]);
        for ending in ["cert", "key"] {
            let file = if ending == "cert" { "pem" } else { "key" };
            command.arg(format!("--{ending}"));
            command.arg(format!("terminals/{}.{file}", self.name));
        }
        for pin in pins {
            command.args(["--pin-sha256", pin]);
        }
        let script = format!(
            "login {} {}\ndeposit 0.01\nlogout\n",
            self.account, self.pin
        );
        Ran::of(command, &script).expect(0);
    }
}

/// The pin of a folder's authority, as `gen-certs show` prints it.
fn pin_of(certs: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gen-certs"));
    command.args(["show", "--json", "--out"]).arg(certs);
    let shown = Ran::of(command, "").expect(0).json();
    shown["authorities"][0]["spki_sha256"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A bank on its way from one authority to another.
struct Rollover {
    server: Server,
    certs: PathBuf,
    old: PathBuf,
    new: PathBuf,
    field: [InTheField; 2],
    /// Logged in before it all began, with a certificate that stays the old one.
    from_before: Terminal,
    /// Rounds of customers so far.
    rounds: i64,
    _site: Site,
}

impl Rollover {
    /// The bank as it was, and a new authority in a folder of its own, with certificates for the
    /// server and each terminal.
    async fn begin() -> Self {
        let site = Site::new();
        let server = site.start();
        let certs = site.path("certs");
        let (old, new) = (site.path("certs-old"), site.path("certs-new"));
        fs::create_dir(&old).unwrap();
        for file in ["ca.pem", "crl.pem"] {
            fs::copy(certs.join(file), old.join(file)).unwrap();
        }
        let mut make = Command::new(env!("CARGO_BIN_EXE_gen-certs"));
        for (name, _, _) in FIELD {
            make.args(["--terminal", name]);
        }
        make.arg("--out").arg(&new);
        Ran::of(make, "").expect(0);
        let from_before = server.customer("terminal-3", "wf-14351", "9834").await;
        Self {
            field: FIELD.map(|terminal| InTheField::new(&certs, terminal)),
            server,
            certs,
            old,
            new,
            from_before,
            rounds: 0,
            _site: site,
        }
    }

    /// A customer at each terminal, one of them with the real program, which pins these keys; and
    /// one more request by the customer from before.
    async fn serve_all(&mut self, pins: &[&str]) {
        for terminal in &self.field {
            terminal.serve(&self.server).await;
        }
        self.field[0].serve_by_program(&self.server, pins);
        self.from_before.deposit(1).await.expect_code(0);
        self.rounds += 1;
    }

    /// Puts a file in the server's place that is made of the same files of these folders.
    fn put(&self, file: &str, from: &[&Path]) {
        let parts: String = from.iter().map(|folder| read(&folder.join(file))).collect();
        put(&self.certs.join(file), parts);
    }
}

const FIELD: [(&str, &str, &str); 2] = [
    ("terminal-1", "zz-99999", "9999"),
    ("terminal-2", "ac-12345", "1324"),
];

/// The steps of docs/OPERATIONS.md, "A new CA, step by step".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_authority_takes_over_step_by_step_and_no_customer_is_refused() {
    // 1. A new authority beside the old.
    let mut bank = Rollover::begin().await;
    let (old, new) = (bank.old.clone(), bank.new.clone());
    let (old_pin, new_pin) = (pin_of(&old), pin_of(&new));
    let both_pins = [old_pin.as_str(), new_pin.as_str()];
    bank.serve_all(&[&old_pin]).await;
    // 2. The server trusts both: lists first, then authorities.
    change(&bank.server, || {
        bank.put("crl.pem", &[&old, &new]);
        bank.put("ca.pem", &[&old, &new]);
    });
    bank.serve_all(&[&old_pin]).await;
    // 3. Every terminal trusts both.
    for place in 0..2 {
        bank.field[place].bring_authorities(&[&old, &new]);
        bank.serve_all(&both_pins).await;
    }
    // 4. The server shows the new authority's certificate.
    change(&bank.server, || {
        bank.put("server.key", &[&new]);
        bank.put("server.pem", &[&new]);
    });
    bank.serve_all(&both_pins).await;
    // 5. Terminals get their new certificates, one by one.
    for place in 0..2 {
        bank.field[place].bring_certificate(&new);
        bank.serve_all(&both_pins).await;
    }
    take_the_old_one_out(bank, &new_pin).await;
}

/// 6 and 7: the server's trust ends, then the terminals'.
async fn take_the_old_one_out(mut bank: Rollover, new_pin: &str) {
    let new = bank.new.clone();
    let mut moved = Terminal::connect(bank.server.address, bank.field[0].card()).await;
    change(&bank.server, || {
        bank.put("ca.pem", &[&new]);
        bank.put("crl.pem", &[&new]);
    });
    // Who did not move is out; who did stays.
    bank.from_before.expect_end().await;
    moved.ping().await.expect_code(0);
    let left = Card::of(&bank.certs, "terminal-3").trusting(&new.join("ca.pem"));
    assert!(left.knock(bank.server.address).await.is_empty());
    for terminal in &bank.field {
        terminal.bring_authorities(&[&new]);
        terminal.serve(&bank.server).await;
        terminal.serve_by_program(&bank.server, &[new_pin]);
    }
    moved.login("zz-99999", "9999").await.expect_code(0);
    let balance = moved.balance().await.balance();
    assert_eq!(balance, 65_535 + 2 * bank.rounds + 2);
}
