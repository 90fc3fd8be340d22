//! Clients of which nothing is heard any more: which of them are lost, and how soon.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;

use crate::support::terminal::{framed, request};
use crate::support::{Card, Ending, Site, Terminal, card, until_async};

const PEER_TIMEOUT: Duration = Duration::from_millis(2_000);

/// Waits until a customer gets in whose account was taken.
async fn freed(terminal: &mut Terminal, account: &str, pin: &str) {
    until_async("the account to be free", async || {
        let seen = terminal.login(account, pin).await;
        assert!([0, 21].contains(&seen.code()), "{seen:?}");
        (seen.code() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_pinged_every_few_seconds_and_falls_silent_is_lost_and_no_other() {
    let site = Site::with(&[("server.peer_timeout_ms", "2000")]);
    let server = site.start();
    let mut quiet = server.customer("terminal-2", "ac-12345", "1324").await;
    for _ in 0..2 {
        quiet.ping().await.expect_code(0);
    }
    let mut beating = server.customer("terminal-1", "zz-99999", "9999").await;
    for _ in 0..3 {
        beating.ping().await.expect_code(0);
    }
    let silent_since = Instant::now();
    // Its system lives, and answers whatever probes of TCP there are, as a proxy's would.
    let mut next = server.terminal("terminal-3").await;
    freed(&mut next, "zz-99999", "9999").await;
    let took = silent_since.elapsed();
    assert!(took >= PEER_TIMEOUT && took < 5 * PEER_TIMEOUT, "{took:?}");
    assert_eq!(beating.expect_end().await, Ending::Clean);
    // This one was silent for longer, and two pings promise nothing.
    quiet.balance().await.expect_code(0);
}

#[tokio::test]
async fn of_a_client_that_pinged_every_octet_counts_and_the_next_session_begins_anew() {
    let site = Site::with(&[
        ("server.peer_timeout_ms", "2000"),
        ("server.frame_timeout_ms", "60000"),
    ]);
    let server = site.start();
    let mut terminal = server.customer("terminal-1", "zz-99999", "9999").await;
    for _ in 0..3 {
        terminal.ping().await.expect_code(0);
    }
    let asked = framed(request(77, "balance", json!({})).to_string().as_bytes());
    let mut pace = tokio::time::interval(PEER_TIMEOUT / 8);
    for octet in asked {
        pace.tick().await;
        terminal.send_bytes(&[octet]).await;
    }
    assert_eq!(terminal.receive().await.expect_code(0).answer.id, Some(77));
    // What it showed was of that session.
    terminal.ask("logout", json!({})).await.expect_code(0);
    terminal.login("zz-99999", "9999").await.expect_code(0);
    let mut other = server.customer("terminal-2", "ac-12345", "1324").await;
    for _ in 0..3 {
        other.ping().await.expect_code(0);
    }
    assert_eq!(other.expect_end().await, Ending::Clean);
    terminal.balance().await.expect_code(0);
}

/// A network of its own that is reached over one line, which can be cut.
struct Network {
    name: String,
    /// The bank's end of the line.
    bank: String,
}

impl Network {
    /// `None`, with a word, where there may be none.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root makes a network");
            return None;
        }
        let number = std::process::id() % 16_000;
        let (high, low) = (number / 64, number % 64 * 4);
        let network = Self {
            name: format!("bank-{number}"),
            bank: format!("10.213.{high}.{}", low + 1),
        };
        let (near, far) = (format!("near-{number}"), format!("far-{number}"));
        let name = &network.name;
        let terminal = format!("10.213.{high}.{}/30", low + 2);
        let bank = format!("{}/30", network.bank);
        let made = [
            vec!["netns", "add", name],
            vec![
                "link", "add", &near, "type", "veth", "peer", "name", &far, "netns", name,
            ],
            vec!["addr", "add", &bank, "dev", &near],
            vec!["link", "set", &near, "up"],
            vec!["-n", name, "addr", "add", &terminal, "dev", &far],
            vec!["-n", name, "link", "set", &far, "up"],
        ];
        if !made.iter().all(|arguments| ip(arguments)) {
            println!("skipped: no network can be made here");
            return None;
        }
        Some(network)
    }

    /// From now on nothing comes through, and nobody is told.
    fn cut(&self) {
        let far = self.name.replace("bank", "far");
        assert!(ip(&["-n", &self.name, "link", "set", &far, "down"]));
    }

    /// A connection from there.
    async fn connect(&self, address: SocketAddr, card: Card) -> Terminal {
        let network = File::open(format!("/run/netns/{}", self.name)).unwrap();
        // A thread may leave for another network, and its sockets stay there.
        let dialling = std::thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            std::net::TcpStream::connect(address).unwrap()
        });
        let tcp = tokio::task::spawn_blocking(|| dialling.join().unwrap());
        let tcp = tcp.await.unwrap();
        tcp.set_nonblocking(true).unwrap();
        let tcp = tokio::net::TcpStream::from_std(tcp).unwrap();
        let stream = card::shake_hands(tcp, Arc::new(card.client())).await;
        Terminal::over(stream.unwrap())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The network itself ends once its last socket has.
        ip(&["link", "del", &self.name.replace("bank", "near")]);
        ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    let done = Command::new("ip").args(arguments).status();
    done.is_ok_and(|status| status.success())
}

#[tokio::test]
async fn the_account_of_a_terminal_whose_network_is_cut_is_free_in_time() {
    let Some(network) = Network::new() else {
        return;
    };
    let listen = format!("\"{}:0\"", network.bank);
    let site = Site::bare(&[
        ("server.listen", listen.as_str()),
        ("server.peer_timeout_ms", "6000"),
    ]);
    // The usual ones are served on loopback only.
    site.import("ne-00001, 739105, 10.00\n").expect(0);
    let server = site.start();
    let mut customer = network
        .connect(server.address, server.card("terminal-1"))
        .await;
    customer.login("ne-00001", "739105").await.expect_code(0);
    let mut next = server.terminal("terminal-2").await;
    next.login("ne-00001", "739105").await.expect_code(21);
    network.cut();
    let cut = Instant::now();
    freed(&mut next, "ne-00001", "739105").await;
    // Outside of a session a peer is lost after a minute.
    let took = cut.elapsed();
    assert!((5..15).contains(&took.as_secs()), "{took:?}");
}
