//! Months in virtual time.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::bank::test_bank::TestBank;
use crate::config::Overrides;
use crate::pki::{CertificateFolder, MakeRequest};
use crate::surroundings::{Surroundings, Virtual};
use crate::telemetry::Metrics;

const HOUR_MS: i64 = 3_600_000;
const DAYS: i64 = 100;
const BEGINNING: i64 = 1_780_000_000;

/// A server whose certificate and whose terminal's certificate hold 100 days.
struct World {
    folder: TempDir,
    clock: Arc<Virtual>,
    server: Server,
    metrics: Arc<Metrics>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::from_unix_timestamp(BEGINNING).unwrap();
        let request = MakeRequest {
            days: u32::try_from(DAYS).unwrap(),
            terminals: vec!["terminal-1".parse().unwrap()],
            ..MakeRequest::default()
        };
        CertificateFolder::new(folder.path().to_owned(), now)
            .make_missing(&request)
            .unwrap();
        let clock = Arc::new(Virtual::new(Timestamp::from_unix_ms(BEGINNING * 1_000), 1));
        let surroundings: Arc<dyn Surroundings> = clock.clone();
        let config = config(folder.path());
        let bank = TestBank::new(&surroundings).bank;
        bank.set_terms(config.terms());
        let trust = Trust::load(&config.tls, bank.surroundings()).unwrap();
        let metrics = Arc::new(Metrics::default());
        let server = Server::new(bank, Arc::clone(&metrics), config, trust, HashSet::new());
        Self {
            folder,
            clock,
            server,
            metrics,
        }
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        let file = self.folder.path().join("terminals/terminal-1.pem");
        vec![CertificateDer::from_pem_file(file).unwrap()]
    }

    /// What is said in so many days, looked at each hour: how often, by what it is about.
    fn said_in(&self, days: i64) -> BTreeMap<&'static str, usize> {
        let mut said = BTreeMap::new();
        for _ in 0..days * 24 {
            for warning in self.server.due_warnings() {
                let about = [
                    "server's certificate",
                    "revocation list",
                    "authority",
                    "terminal-1",
                ];
                let about = about.into_iter().find(|about| warning.contains(about));
                *said.entry(about.unwrap()).or_default() += 1;
            }
            self.clock.advance_ms(HOUR_MS);
        }
        said
    }

    fn metric(&self, name: &str) -> i64 {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        // A gauge of a family without labels has its braces.
        line.unwrap()
            .trim_start_matches("{}")
            .trim()
            .parse()
            .unwrap()
    }
}

fn config(folder: &Path) -> Config {
    let set = |key: &str, value: &str| (OsString::from(key), OsString::from(value));
    let environment = [
        set("BANK__TLS__DIR", folder.to_str().unwrap()),
        set("BANK__SERVER__SERVER_ID", "test"),
    ];
    let loaded = Config::load(None, environment.into_iter(), &Overrides::default());
    loaded.unwrap().config
}

#[test]
fn over_months_each_end_is_warned_of_once_a_threshold_and_again_after_a_change() {
    let world = World::new();
    assert_eq!(world.said_in(DAYS - 31), BTreeMap::new());
    // 30, 7 and 1 days before, and when it is over.
    assert_eq!(world.said_in(40), [("server's certificate", 4)].into());
    assert_eq!(world.said_in(200), BTreeMap::new());
    assert_eq!(world.said_in(60), [("revocation list", 4)].into());
    let trust = world.server.load_trust(&renewed(&world)).unwrap();
    world
        .server
        .put_in_force(trust, &mut world.server.rotation());
    assert_eq!(world.said_in(1), BTreeMap::new());
}

/// New certificates in the place of the old ones, as of the present moment of that world.
fn renewed(world: &World) -> crate::config::TlsConfig {
    let now = OffsetDateTime::from_unix_timestamp(seconds(world.clock.now())).unwrap();
    let folder = CertificateFolder::new(world.folder.path().to_owned(), now);
    folder.renew(&[], 40).unwrap();
    config(world.folder.path()).tls
}

#[test]
fn what_is_near_its_end_is_said_again_after_a_change() {
    let world = World::new();
    assert_eq!(world.said_in(DAYS - 20)["server's certificate"], 1);
    let trust = world
        .server
        .load_trust(&config(world.folder.path()).tls)
        .unwrap();
    world
        .server
        .put_in_force(trust, &mut world.server.rotation());
    assert_eq!(world.said_in(1), [("server's certificate", 1)].into());
}

#[test]
fn a_connection_whose_certificate_ends_meanwhile_is_put_out_and_was_warned_of() {
    let world = World::new();
    let expelled = CancellationToken::new();
    let name: TerminalName = "terminal-1".parse().unwrap();
    let (chain, now) = (world.chain().into(), Timestamp::from_unix_ms(0));
    let _line = world
        .server
        .registry
        .enter(1, name, chain, expelled.clone(), 1, now);
    assert_eq!(world.said_in(DAYS - 1)["terminal-1"], 3);
    world.server.look();
    assert!(!expelled.is_cancelled());
    assert_eq!(world.said_in(1), BTreeMap::new());
    world.server.look();
    assert!(expelled.is_cancelled());
}

#[test]
fn a_terminal_that_comes_again_and_again_is_warned_of_once_a_threshold() {
    let world = World::new();
    let name: TerminalName = "terminal-1".parse().unwrap();
    let ends = crate::server::tls::chain_ends(&world.chain());
    let mut said = 0;
    for _ in 0..(DAYS + 1) * 24 {
        for _ in 0..3 {
            let warning = world
                .server
                .warning_of(&name, ends.unwrap(), seconds(world.clock.now()));
            said += usize::from(warning.is_some());
        }
        world.clock.advance_ms(HOUR_MS);
    }
    assert_eq!(said, 4);
}

#[test]
fn the_metrics_follow_the_clock() {
    let world = World::new();
    let names = [
        "bank_certificate_expiry_seconds",
        "bank_authority_expiry_seconds",
        "bank_revocation_list_expiry_seconds",
    ];
    let before = names.map(|name| world.metric(name));
    assert_eq!(before[0], DAYS * 86_400 - 3_600);
    world.clock.advance_ms(90 * 1_000);
    world.server.look();
    assert_eq!(
        names.map(|name| world.metric(name)),
        before.map(|left| left - 90)
    );
}
