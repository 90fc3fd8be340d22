//! A server in memory, in virtual time.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::Input;
use super::super::kitchen::{hash, peppers};
use super::super::vault::{BEGINNING_MS, TERMINALS, Vault};
use super::super::wire::Wire;
use crate::access::pin::{HashCost, PinHasher};
use crate::bank::Bank;
use crate::config::ClientAuth;
use crate::domain::{AccountNumber, TerminalName, Timestamp};
use crate::server::Server;
use crate::store::memory::MemoryStore;
use crate::store::{Act, Audit, Done, NewAccount, Office};
use crate::surroundings::{Surroundings, Virtual};
use crate::telemetry::Metrics;

/// Number, PIN, opening balance.
pub(super) const CUSTOMERS: [(&str, &str, i64); 2] =
    [("aa-10001", "8264", 102_432), ("bb-20002", "5093", 5_000)];

/// The clock of the runtime, and chance from a seed.
#[derive(Debug)]
struct Paused {
    began: Instant,
    chance: Virtual,
}

impl Surroundings for Paused {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.began.elapsed().as_millis());
        Timestamp::from_unix_ms(BEGINNING_MS.saturating_add(elapsed.unwrap_or(i64::MAX)))
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn random(&self) -> [u8; 16] {
        self.chance.random()
    }
}

/// A server, with the bank behind it.
pub(super) struct Hall {
    pub(super) server: Arc<Server>,
    pub(super) bank: Arc<Bank>,
    /// Whether terminals are asked for certificates.
    pub(super) asks: bool,
    /// One place for connections; who comes while it is taken is told so.
    pub(super) single: bool,
    /// Whether the server has been told to go down.
    pub(super) draining: bool,
    /// The largest payload before log-in, and after it.
    pub(super) frame_before_login: usize,
    pub(super) frame_after_login: usize,
}

impl Hall {
    /// A server whose settings the next byte chooses.
    pub(super) async fn open(input: &mut Input<'_>) -> Self {
        let choice = input.byte();
        let bit = |number: u8| choice >> number & 1 == 1;
        let vault = Vault::open();
        let mut config = vault.config.clone();
        let client_auth = if bit(0) {
            ClientAuth::Off
        } else {
            ClientAuth::Required
        };
        config.tls.client_auth = client_auth;
        config.server.max_connections = if bit(1) { 1 } else { 100 };
        if !bit(2) {
            config.limits.requests_per_second = 1_000_000;
            config.limits.request_burst = 1_000_000;
            config.limits.logins_per_minute_per_terminal = 1_000_000;
        }
        if bit(4) {
            config.limits.frame_before_login = 256;
            config.limits.frame_after_login = 300;
        }
        let around: Arc<dyn Surroundings> = Arc::new(Paused {
            began: Instant::now(),
            chance: Virtual::new(Timestamp::from_unix_ms(0), 7),
        });
        let (hasher, work) =
            PinHasher::without_threads(peppers(), HashCost::LEAST, Arc::clone(&around));
        tokio::spawn(work);
        let currency = config.accounts.currency;
        let store = Arc::new(MemoryStore::new(currency, around.now()));
        let bank = Bank::new(store, hasher, around, config.terms(), currency);
        let bank = Arc::new(bank);
        let disabled = bit(3).then(|| TERMINALS[1].parse::<TerminalName>().expect("a name"));
        let (single, limits) = (bit(1), config.limits.clone());
        let server = Server::new(
            Arc::clone(&bank),
            Arc::new(Metrics::default()),
            config,
            vault.trust(client_auth).clone(),
            disabled.into_iter().collect::<HashSet<_>>(),
        );
        let hall = Self {
            server: Arc::new(server),
            bank,
            asks: client_auth == ClientAuth::Required,
            single,
            draining: false,
            frame_before_login: limits.frame_before_login,
            frame_after_login: limits.frame_after_login,
        };
        hall.open_accounts().await;
        hall
    }

    async fn open_accounts(&self) {
        let account = |(number, pin, balance): (&str, &str, i64)| NewAccount {
            number: number.parse().expect("a number"),
            hash: hash(pin),
            balance,
            demo: false,
        };
        let act = Act::Open(CUSTOMERS.into_iter().map(account).collect());
        assert!(matches!(
            self.act(act).await,
            Done::Opened { opened: 2, .. }
        ));
    }

    pub(super) async fn act(&self, act: Act) -> Done {
        let done = self.bank.office(&Office::of("the fuzzer"), act).await;
        done.expect("the store")
    }

    /// A connection of somebody at the other end of `wire`.
    pub(super) fn serve(&self, wire: Wire) -> JoinHandle<Result<(), &'static str>> {
        let server = Arc::clone(&self.server);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        tokio::spawn(async move { server.serve_stream(wire, address).await })
    }

    /// What the bank's staff do. Lets terminals in and out, ends sessions, locks accounts.
    pub(super) async fn staff(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let account: AccountNumber = CUSTOMERS[usize::from(choice >> 4 & 1)]
            .0
            .parse()
            .expect("a number");
        let terminal: TerminalName = TERMINALS[usize::from(choice >> 5 & 1)]
            .parse()
            .expect("a name");
        match choice % 8 {
            0 | 1 => {
                let _ = self.bank.sessions().end(account);
            }
            2 => self.server.set_disabled(&terminal, true),
            3 => self.server.set_disabled(&terminal, false),
            4 => {
                self.act(Act::Lock(account, choice >= 128)).await;
            }
            5 => {
                self.act(Act::SetPin {
                    number: account,
                    hash: hash("1357"),
                    one_time_until: Some(self.bank.surroundings().now().plus_ms(3_600_000)),
                    accept_row: false,
                })
                .await;
            }
            6 => {
                self.bank.sweep().await.expect("the store");
            }
            _ if choice >= 128 => {
                self.draining = true;
                let server = Arc::clone(&self.server);
                tokio::spawn(async move { server.drain().await });
            }
            _ => {}
        }
    }

    /// Everybody has gone: nothing is left of them, and the books are whole.
    pub(super) async fn close(&self) {
        assert_eq!(self.server.connections(), 0, "a task is left");
        assert!(self.bank.seats().is_empty(), "an account is not free");
        assert!(self.bank.sessions().is_empty(), "a session is left");
        let Done::Audit(audit) = self.act(Act::Verify(None)).await else {
            panic!("no audit");
        };
        let Audit {
            ledger_total,
            faults,
            ..
        } = *audit;
        assert_eq!((ledger_total, faults), (0, Vec::new()), "the books");
    }
}
