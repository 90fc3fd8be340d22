//! What protects, together and at size: every command of staff upon a confined server with many entries.

use std::sync::Arc;

use atm_bank::bank::Bank;
use atm_bank::config::{Config, Overrides};
use atm_bank::domain::{Pin, RequestedAmount};
use atm_bank::service::OpenBank;
use atm_bank::store::{Order, OrderKind};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{ACCOUNT_PINS, Server, Site};

/// Entries, each with its kept key; more where there is time for more.
fn entries() -> usize {
    let asked = std::env::var("SIZE_ENTRIES").ok();
    asked
        .and_then(|asked| asked.parse().ok())
        .unwrap_or(200_000)
}

/// Has one customer deposit so often.
async fn deposit(bank: Arc<Bank>, (account, pin): (&str, &str), count: usize) {
    let (terminal, pin) = ("terminal-1".parse().unwrap(), Pin::parse(pin).unwrap());
    let account = account.parse().unwrap();
    let opened = bank.login(&terminal, 1, account, pin).await.unwrap();
    let mut session = opened.session;
    for start in (0..count).step_by(256) {
        let orders = (start..count.min(start + 256)).map(|_| Order {
            key: uuid::Uuid::now_v7().to_string().parse().unwrap(),
            amount: RequestedAmount(1),
            kind: OrderKind::Deposit,
        });
        for moved in bank.move_all(&mut session, orders.collect()).await {
            moved.unwrap();
        }
    }
}

/// What docs/OPERATIONS.md says the journal keeps where nobody reads it.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// Verifies while a customer deposits without a pause; how large the journal became, and how many deposits there were.
async fn verified_beside_a_customer(site: &Site, server: &Server) -> (u64, u64) {
    let (account, pin) = ACCOUNT_PINS[0];
    let mut customer = server.customer("terminal-1", account, pin).await;
    let (over, journal) = (CancellationToken::new(), site.path("data/bank.db-wal"));
    let going_on = over.clone();
    let busy = tokio::spawn(async move {
        let (mut high, mut deposits) = (0, 0_u64);
        while !going_on.is_cancelled() {
            customer.deposit(1).await.expect_code(0);
            deposits += 1;
            high = high.max(std::fs::metadata(&journal).unwrap().len());
        }
        (high, deposits)
    });
    let began = std::time::Instant::now();
    tokio::task::block_in_place(|| site.run(&["verify"]).expect(0));
    over.cancel();
    let (high, deposits) = busy.await.unwrap();
    println!(
        "{deposits} deposits beside a verify of {:?}: a journal of {high} octets",
        began.elapsed()
    );
    (high, deposits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_staff_is_served_by_a_confined_server_with_many_entries() {
    let site = Site::new();
    let file = site.path("bank.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    // The same bank, from this process's folder.
    let here = site.path("here.toml");
    let folders = format!(
        "\n[tls]\ndir = \"{0}/certs\"\n[store]\nurl = \"sqlite:{0}/data/bank.db\"\n",
        site.folder().display()
    );
    std::fs::write(&here, text + &folders).unwrap();
    let loaded = Config::load(Some(&here), std::iter::empty(), &Overrides::default()).unwrap();
    let open = OpenBank::open(&loaded.config, false).unwrap();
    let (bank, mut working) = (open.bank(), JoinSet::new());
    drop(open);
    for customer in ACCOUNT_PINS {
        let count = entries() / ACCOUNT_PINS.len();
        working.spawn(deposit(Arc::clone(&bank), customer, count));
    }
    working.join_all().await;
    drop(bank);
    let server = site.start();
    server.wait_for_log("confined");
    let (high, deposits) = verified_beside_a_customer(&site, &server).await;
    // What they wrote is several times as much.
    assert!(
        high < JOURNAL_BYTES_MAX && high < (8 << 20) + deposits * 4_096,
        "{high}, {deposits}"
    );
    for command in [
        &["verify"][..],
        &["backup", "copy.db"],
        &["audit"],
        &["audit", "--event", "login", "--limit", "5"],
        &["statement", "zz-99999", "--from", "2020-01-01"],
        &["late-captures"],
        &["account", "list"],
        &["account", "show", "zz-99999"],
        &["account", "limit", "zz-99999", "--daily", "5.00"],
        &["account", "lock", "zz-99999"],
        &["account", "unlock", "zz-99999"],
        &["account", "adjust", "zz-99999", "1.00", "--reason", "x"],
        &["account", "set-pin", "zz-99999"],
        &["terminal", "list"],
        &["terminal", "disable", "terminal-3"],
        &["terminal", "enable", "terminal-3"],
        &["sessions"],
        &["pepper", "show"],
        &["pepper", "rotate"],
        &["check"],
    ] {
        site.run(command).expect(0);
    }
    server.stop();
}
