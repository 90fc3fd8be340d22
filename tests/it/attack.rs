//! The attack suite: it finds nothing wrong with the real server, and finds each fault that is put
//! in front of it; and it attacks nobody who did not ask for it.

mod meddler;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use atm_bank::attack::probe;
use serde_json::Value;

use self::meddler::{Fault, Meddler};
use crate::support::{Ran, Server, Site};

/// Short deadlines, so that waiting for them is short; no limit of one address's connections.
const SETTINGS: [(&str, &str); 5] = [
    ("server.handshake_timeout_ms", "1000"),
    ("server.frame_timeout_ms", "1000"),
    ("limits.requests_per_second", "50"),
    ("limits.request_burst", "100"),
    ("limits.logins_per_minute_per_terminal", "60"),
];
/// The time of a whole run, and of a target that never closes.
const LIMITS: [&str; 2] = ["--patience=10", "--budget=60"];

/// Attacks and gives what the program said. It is waited for as any blocking work.
fn attack(site: &Site, address: SocketAddr, arguments: &[&str], pin: &str) -> Ran {
    let target = format!("localhost:{}", address.port());
    let mut all = vec!["attack", &target, "--json"];
    all.extend(arguments);
    tokio::task::block_in_place(|| site.run_with(&all, pin))
}

/// Probe by probe, the verdict.
fn verdicts(ran: &Ran) -> BTreeMap<String, String> {
    let json = ran.json();
    let text = |probe: &Value, member: &str| probe[member].as_str().unwrap().to_owned();
    let probes = json["probes"].as_array();
    let probes = probes.unwrap_or_else(|| panic!("no report: {ran:#?}"));
    probes
        .iter()
        .map(|probe| (text(probe, "probe"), text(probe, "verdict")))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_server_holds_against_every_probe() {
    let site = Site::with(&SETTINGS);
    site.gen_certs(&["revoke", "terminal-3"]).expect(0);
    let server = site.start();
    let (certificate, key) = (
        "certs/terminals/terminal-3.pem",
        "certs/terminals/terminal-3.key",
    );
    let mut arguments = vec!["--account", "zz-99999", "--move-money"];
    arguments.extend(["--refused-cert", certificate, "--refused-key", key]);
    arguments.extend(LIMITS);
    let ran = attack(&site, server.address, &arguments, "9999\n");
    for said in [
        "at most 60 s, 64 connections",
        "xq-NNNNN",
        "zz-***99 at most one wrong PIN",
    ] {
        assert!(ran.stderr.contains(said), "{said}: {ran:#?}");
    }
    let mut verdicts = verdicts(&ran);
    // On a machine that is busy with other tests a clock proves nothing.
    let clocked = verdicts.remove("enumeration/same-time").unwrap();
    assert_ne!(clocked, "skipped", "{ran:#?}");
    assert!(verdicts.len() > 50, "{ran:#?}");
    assert!(
        verdicts.values().all(|verdict| verdict == "held"),
        "{ran:#?}"
    );
    if clocked == "held" {
        assert_eq!(
            (ran.code, &ran.json()["exit_code"]),
            (Some(0), &Value::from(0))
        );
    }
    assert!(
        !ran.stderr.contains("zz-99999") && !ran.stdout.contains("zz-99999"),
        "{ran:#?}"
    );
    let customer = server.customer("terminal-2", "zz-99999", "9999").await;
    drop(customer);
    server.stop();
    let book = site
        .run(&["statement", "zz-99999", "--format", "json"])
        .expect(0)
        .json();
    let amounts: Vec<i64> = book["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["amount"].as_i64().unwrap())
        .collect();
    assert_eq!(
        amounts,
        [65_535, 1, -1],
        "only one cent moved, there and back"
    );
    site.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_account_what_needs_one_is_skipped_in_words_and_nothing_moves() {
    let site = Site::with(&SETTINGS);
    let server = site.start();
    let only = [
        "--only=money",
        "--only=sessions",
        "--only=order",
        "--only=enumeration",
    ];
    let ran = attack(&site, server.address, &only, "");
    let skipped = ran.json()["probes"].as_array().unwrap().clone();
    let without: Vec<&Value> = skipped
        .iter()
        .filter(|probe| probe["verdict"] == "skipped")
        .collect();
    assert_eq!(without.len(), 15, "{ran:#?}");
    for probe in without {
        assert!(
            probe["seen"].as_str().unwrap().contains("--account"),
            "{probe:#?}"
        );
    }
    assert_eq!(ran.code, Some(0), "two of order held");
    // Where nothing at all is tried, that is no success.
    attack(&site, server.address, &["--only=money"], "").expect(69);
    // Nor is money moved by an account alone.
    let arguments = ["--only=money", "--only=order", "--account=zz-99999"];
    let ran = attack(&site, server.address, &arguments, "9999\n").expect(0);
    assert_eq!(verdicts(&ran)["money/there-and-back"], "skipped");
    server.stop();
    let book = site
        .run(&["statement", "zz-99999", "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(book["entries"].as_array().unwrap().len(), 1, "{book:#?}");
}

/// One fault, the probes that must see it, and with which verdict.
struct Wrong {
    fault: Fault,
    probes: &'static [&'static str],
    verdict: &'static str,
}

const fn broken(fault: Fault, probes: &'static [&'static str]) -> Wrong {
    Wrong {
        fault,
        probes,
        verdict: "broken",
    }
}

const fn weak(fault: Fault, probes: &'static [&'static str]) -> Wrong {
    Wrong {
        fault,
        probes,
        verdict: "weak",
    }
}

const fn says(code: u16, instead_of: u16) -> Fault {
    Fault::Says { instead_of, code }
}

const LETS_IN: [Wrong; 8] = [
    broken(Fault::SpeaksPlain, &["tls/plain-text", "tls/garbage"]),
    broken(
        Fault::TakesAnyGreeting,
        &[
            "tls/ssl-3.0",
            "tls/tls-1.0",
            "tls/tls-1.1",
            "tls/tls-1.2",
            "tls/compression",
        ],
    ),
    broken(Fault::IgnoresAlpn, &["tls/no-alpn", "tls/wrong-alpn"]),
    broken(Fault::AsksForNoCertificate, &["tls/no-certificate"]),
    broken(
        Fault::TakesAnyCertificate,
        &["tls/self-signed", "tls/foreign-authority"],
    ),
    broken(Fault::GivesTickets, &["tls/resumption", "tls/early-data"]),
    weak(Fault::IsNotHybrid, &["tls/key-exchange"]),
    weak(Fault::EndsSoon, &["tls/certificate"]),
];

const SAYS_YES: [Wrong; 14] = [
    broken(
        says(0, 23),
        &["order/before-log-in", "order/behind-a-log-out"],
    ),
    broken(says(0, 35), &["order/unknown-hold"]),
    broken(says(0, 24), &["order/log-in-twice"]),
    broken(Fault::ChangesPinUnasked, &["order/change-pin"]),
    weak(says(0, 36), &["order/change-pin"]),
    broken(
        Fault::ForgetsKeys,
        &["order/replay", "money/there-and-back"],
    ),
    broken(says(0, 33), &["order/key-of-another"]),
    broken(says(0, 30), &["money/bad-amounts"]),
    broken(says(0, 31), &["money/overdraw"]),
    broken(says(0, 34), &["money/to-itself", "money/to-nobody"]),
    broken(
        says(0, 21),
        &["sessions/two-places", "sessions/at-one-moment"],
    ),
    broken(says(20, 22), &["guessing/lock-out"]),
    broken(
        says(10, 11),
        &["frames/empty", "frames/huge", "frames/behind-the-last"],
    ),
    broken(
        says(0, 10),
        &[
            "json/structure",
            "json/members",
            "json/numbers",
            "json/texts",
            "json/in-a-row",
        ],
    ),
];

const TALKS: [Wrong; 5] = [
    broken(Fault::Echoes, &["leaks/echo", "json/structure"]),
    broken(Fault::Chatters, &["leaks/innards"]),
    broken(Fault::TellsUnknownApart, &["enumeration/same-answer"]),
    broken(Fault::IsSlowForKnown, &["enumeration/same-time"]),
    broken(Fault::MixesUpAnswers, &["frames/many-at-once"]),
];

const KNOWS_NO_END: [Wrong; 3] = [
    broken(
        Fault::NeverCloses,
        &[
            "tls/silence",
            "tls/half-hello",
            "frames/empty",
            "frames/cut-header",
            "frames/cut-frame",
            "frames/slow",
        ],
    ),
    broken(
        Fault::Forgives,
        &["json/in-a-row", "guessing/one-connection"],
    ),
    broken(Fault::KeepsTheDead, &["sessions/cut"]),
];

const BENDS: [Wrong; 4] = [
    broken(
        Fault::Buckles,
        &["flood/half-open", "flood/connections", "flood/key-updates"],
    ),
    broken(Fault::Dies, &["flood/still-there"]),
    weak(says(0, 40), &["flood/requests"]),
    weak(says(22, 40), &["flood/log-ins"]),
];

/// What is not seen through a meddler, but with a setting or a file: tests of their own.
const OTHERS: [&str; 3] = [
    "tls/refused-certificate",
    "frames/over-limit",
    "flood/small-records",
];

#[test]
fn every_probe_has_a_server_at_which_it_does_not_hold() {
    let tables: [&[Wrong]; 5] = [&LETS_IN, &SAYS_YES, &TALKS, &KNOWS_NO_END, &BENDS];
    let mut seen: BTreeSet<String> = OTHERS.map(str::to_owned).into();
    for wrong in tables.into_iter().flatten() {
        seen.extend(wrong.probes.iter().map(ToString::to_string));
    }
    let all = probe::all().iter().map(ToString::to_string).collect();
    assert_eq!(seen, all);
}

async fn only(
    site: &Site,
    server: &Server,
    fault: Fault,
    probes: impl IntoIterator<Item = &str>,
) -> Ran {
    let meddler = Meddler::start(site, server, fault).await;
    let named: Vec<String> = probes
        .into_iter()
        .map(|probe| format!("--only={probe}"))
        .collect();
    let mut arguments: Vec<&str> = named.iter().map(String::as_str).collect();
    arguments.extend(["--account=zz-99999", "--move-money"]);
    arguments.extend(["--patience=3", "--budget=60"]);
    attack(site, meddler.address, &arguments, "9999\n")
}

/// Each fault is seen by its probes; and without it, all else being equal, the same probes hold.
async fn each_is_seen(settings: &[(&str, &str)], all: &[Wrong]) {
    let site = Site::with(settings);
    let server = site.start();
    let probes: Vec<&str> = all.iter().flat_map(|wrong| wrong.probes).copied().collect();
    let control = only(&site, &server, Fault::None, probes).await;
    let mut held = verdicts(&control);
    // On a machine that is busy with other tests a clock proves nothing.
    held.remove("enumeration/same-time");
    assert!(
        held.values().all(|verdict| verdict == "held"),
        "{control:#?}"
    );
    for wrong in all {
        let ran = only(&site, &server, wrong.fault, wrong.probes.iter().copied()).await;
        let verdicts = verdicts(&ran);
        assert_eq!(verdicts.len(), wrong.probes.len());
        for probe in wrong.probes {
            assert_eq!(
                verdicts[*probe], wrong.verdict,
                "{:?}: {ran:#?}",
                wrong.fault
            );
        }
        let code = if wrong.verdict == "broken" { 2 } else { 1 };
        assert_eq!(ran.code, Some(code), "{:?}", wrong.fault);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lets_in_whom_it_should_not_is_found_out() {
    each_is_seen(&[], &LETS_IN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_yes_where_it_should_say_no_is_found_out() {
    each_is_seen(&[], &SAYS_YES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_talks_too_much_is_found_out() {
    each_is_seen(&[], &TALKS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_knows_no_end_is_found_out() {
    each_is_seen(&SETTINGS, &KNOWS_NO_END).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_bends_under_a_flood_is_found_out() {
    each_is_seen(&SETTINGS, &BENDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_large_frames_from_strangers_is_found_out() {
    let large = [
        ("limits.frame_before_login", "20000"),
        ("limits.frame_after_login", "20000"),
        ("server.frame_timeout_ms", "300"),
    ];
    let site = Site::with(&large);
    let server = site.start();
    let ran = attack(&site, server.address, &["--only=frames/over-limit"], "").expect(1);
    assert_eq!(verdicts(&ran)["frames/over-limit"], "weak");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_reads_small_records_as_fast_as_they_come_is_found_out() {
    let probe = "flood/small-records";
    for (rate, verdict) in [("400", "held"), ("1000000", "weak")] {
        let mut settings = SETTINGS.to_vec();
        settings.extend([
            ("limits.records_per_second", rate),
            ("limits.record_burst", "2000"),
        ]);
        let site = Site::with(&settings);
        let server = site.start();
        let ran = attack(&site, server.address, &["--only", probe], "");
        assert_eq!(verdicts(&ran)[probe], verdict, "{ran:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_should_have_been_refused_is_found_to_be_let_in() {
    let site = Site::new();
    let server = site.start();
    let file = |ending: &str| format!("certs/terminals/terminal-2.{ending}");
    let (certificate, key) = (file("pem"), file("key"));
    let shown = ["--refused-cert", &certificate, "--refused-key", &key];
    let mut arguments = vec!["--only=tls/refused-certificate"];
    arguments.extend(shown);
    let ran = attack(&site, server.address, &arguments, "").expect(2);
    assert_eq!(verdicts(&ran)["tls/refused-certificate"], "broken");
}

#[test]
fn nobody_beyond_this_machine_is_attacked_without_the_word_for_it() {
    let site = Site::bare(&[]);
    // An address for documentation (RFC 5737): were anything sent, it would be for ten seconds.
    for target in ["192.0.2.1:8443", "[2001:db8::1]:8443", "0.0.0.0:8443"] {
        let ran = site.run(&["attack", target]).expect(64);
        ran.saying("--this-is-mine").saying("nothing was sent");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_word_for_it_it_is_attacked_but_only_where_it_proves_to_be_the_bank() {
    let (site, other) = (Site::new(), Site::bare(&[]));
    let server = site.start();
    // On Linux this leads to this machine, but it is no loopback address; and no certificate is
    // made for it.
    let elsewhere = format!("0.0.0.0:{}", server.address.port());
    let mine = ["attack", &elsewhere, "--this-is-mine"];
    let ran = tokio::task::block_in_place(|| site.run(&mine)).expect(76);
    ran.saying("did not prove to be your bank");
    // Nor is a bank of another CA.
    let ran = attack(&other, server.address, &[], "").expect(76);
    assert!(
        ran.stderr.contains("did not prove to be your bank"),
        "{ran:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attack_ends_when_its_time_is_over() {
    let site = Site::with(&[("server.handshake_timeout_ms", "60000")]);
    let server = site.start();
    let arguments = ["--only=tls/silence", "--budget=1"];
    let ran = attack(&site, server.address, &arguments, "").expect(69);
    let seen = ran.json()["probes"][0]["seen"].to_string();
    assert!(seen.contains("the time was over"), "{ran:#?}");
}

#[test]
fn probes_are_listed_and_wrong_words_are_refused_before_anything_is_asked() {
    let site = Site::bare(&[]);
    site.run(&["attack", "--list"])
        .expect(0)
        .printing("tls/no-alpn (medium)")
        .printing("mend:");
    let listed = site
        .run(&["attack", "--list", "--only=frames", "--json"])
        .expect(0);
    assert_eq!(listed.json()["probes"].as_array().unwrap().len(), 8);
    let target = "localhost:1";
    site.run(&["attack", target, "--only=tls/none"])
        .expect(64)
        .saying("tls/none");
    site.run(&["attack"]).expect(64);
    site.run(&["attack", target, "--pin=9999"]).expect(64);
    site.run(&["attack", target, "--connections=3"]).expect(64);
    site.run(&["attack", target, "--move-money"]).expect(64);
    site.run(&["attack", target, "--block=x1"]).expect(64);
    site.run(&["attack", target])
        .expect(69)
        .saying("no bank at");
}
