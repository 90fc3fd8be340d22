//! What staff are told of terminals, and of names that the bank never met.

use serde_json::{Value, json};

use crate::support::{Site, until};

/// The terminals that are listed, by the order of their names.
fn listed(site: &Site) -> Vec<Value> {
    let list = site.run(&["terminal", "list", "--json"]).expect(0).json();
    list["terminals"].as_array().unwrap().clone()
}

fn row<'a>(list: &'a [Value], name: &str) -> &'a Value {
    let found = list.iter().find(|row| row["terminal"] == name);
    found.unwrap_or_else(|| panic!("{name} is not listed: {list:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cash_that_was_taken_in_is_positive_in_the_table_and_in_json() {
    let site = Site::new();
    let server = site.start();
    let mut customer = server.customer("terminal-1", "zz-99999", "9999").await;
    customer.deposit(1_234).await.expect_code(0);
    customer.withdraw(200).await.expect_code(0);
    let mut customer = server.customer("terminal-2", "ac-12345", "1324").await;
    customer.withdraw(300).await.expect_code(0);
    let list = listed(&site);
    for (name, taken_in, shown) in [
        ("terminal-1", 1_034, "10.34"),
        ("terminal-2", -300, "-3.00"),
    ] {
        assert_eq!(row(&list, name)["cash_taken_in"], taken_in);
        assert_eq!(row(&list, name)["cash"], -taken_in);
        let table = site.run(&["terminal", "list", name]).expect(0).stdout;
        let words: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words[..3], [name, "enabled", shown], "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_only_connected_is_listed_and_when_it_did() {
    let site = Site::new();
    let server = site.start();
    assert!(listed(&site).is_empty());
    let mut terminal = server.terminal("terminal-2").await;
    let mut again = server.terminal("terminal-2").await;
    terminal.ping().await.expect_code(0);
    again.ping().await.expect_code(0);
    let list = listed(&site);
    let row = row(&list, "terminal-2");
    let expected = json!({ "disabled": false, "cash": 0, "cash_taken_in": 0, "connections": 2 });
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(row[member], *value, "{row}");
    }
    let at = row["connected_at"].as_str().unwrap();
    let table = site.run(&["terminal", "list"]).expect(0).stdout;
    assert!(table.lines().nth(1).unwrap().contains(at), "{table}");
    terminal.close().await;
    again.close().await;
    until("the connections to end", || {
        (listed(&site)[0]["connections"] == 0).then_some(())
    });
    assert_eq!(listed(&site)[0]["connected_at"], at);
    server.stop();
    assert!(listed(&site).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_the_bank_never_met_is_disabled_and_staff_are_told_that_it_is_unknown() {
    const UNKNOWN: &str = "the bank knows no terminal of this name";
    let site = Site::new();
    site.run(&["terminal", "disable", "nosuch"])
        .expect(0)
        .printing(UNKNOWN);
    let server = site.start();
    let mut terminal = server.terminal("terminal-2").await;
    terminal.ping().await.expect_code(0);
    let disable = |name| {
        let done = site.run(&["terminal", "disable", name, "--json"]);
        done.expect(0).json()["known"].clone()
    };
    // It was stolen on its way here.
    assert_eq!(disable("terminal-3"), false);
    let mut stolen = server.terminal("terminal-3").await;
    assert!(stolen.try_receive().await.is_err());
    // Its name is known by now, as is who connected.
    for name in ["terminal-2", "terminal-3"] {
        assert_eq!(disable(name), true, "{name}");
    }
    let enabled = site.run(&["terminal", "enable", "terminal-3"]).expect(0);
    assert!(!enabled.stdout.contains(UNKNOWN), "{enabled:?}");
}
