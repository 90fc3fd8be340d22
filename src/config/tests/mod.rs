//! The loader from end to end; what single keys mean is in [`meanings`].
//!
//! Nothing here looks up a host name but `localhost`.

mod meanings;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;

use proptest::prelude::*;
use tempfile::tempdir;
use tracing::Level;

use super::keys::{self, Key, Name};
use super::values::Values;
use super::*;
use crate::limits::CONFIG_FILE_BYTES_MAX;

const SHIPPED: &str = include_str!("../../../config/bank_server.toml");

const NOTHING: &[(&str, &str)] = &[];

type Outcome = Result<Loaded, ConfigErrors>;

fn load_with(
    text: &str,
    environment: &[(impl AsRef<OsStr>, impl AsRef<OsStr>)],
    listen: Option<&str>,
) -> Outcome {
    let mut values = Values::default();
    values.take_toml(text, Path::new("bank.toml"));
    let variables = environment.iter();
    values.take_environment(
        variables.map(|(name, value)| (name.as_ref().into(), value.as_ref().into())),
    );
    values.take_flags(&Overrides {
        listen: listen.map(str::to_owned),
    });
    build::build(values)
}

fn load(text: &str) -> Outcome {
    load_with(text, NOTHING, None)
}

fn config(text: &str) -> Config {
    load(text).unwrap().config
}

fn faults(text: &str) -> Vec<String> {
    let errors = load(text).unwrap_err();
    errors.to_string().lines().map(str::to_owned).collect()
}

fn defaults() -> Config {
    let loaded = Config::load(None, std::iter::empty(), &Overrides::default()).unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    assert!(!loaded.from_environment);
    loaded.config
}

/// The key's table set to `value`, in TOML.
fn set(key: Key, value: &str) -> String {
    let name = key.name();
    format!("[{}]\n{} = {value}\n", name.table, name.key)
}

#[test]
fn the_shipped_file_says_nothing_but_the_defaults() {
    let shipped = load(SHIPPED).unwrap();
    assert_eq!(shipped.config, defaults());
    assert_eq!(shipped.warnings, [""; 0]);
}

#[test]
fn the_defaults_that_the_shipped_file_shows_in_comments_are_true() {
    let shown = SHIPPED.lines().map(|line| match line.split_once("# ") {
        Some(("", rest)) if rest.contains(" = ") => rest,
        _ => line,
    });
    let mut shown = config(&shown.collect::<Vec<_>>().join("\n"));
    assert_eq!(shown.server.server_id, "bank-1");
    // These two differ from machine to machine.
    shown.server.server_id = defaults().server.server_id;
    shown.pin.max_concurrent = defaults().pin.max_concurrent;
    assert_eq!(shown, defaults());
}

#[test]
fn the_shipped_file_has_every_key_once() {
    let mut table = "";
    let mut shipped = Vec::new();
    for line in SHIPPED.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']');
        }
        if let Some((key, _)) = line.split_once(" = ") {
            shipped.push(format!("[{table}] {}", key.trim_start_matches("# ")));
        }
    }
    let known: BTreeSet<_> = keys::all().map(|key| key.name().to_string()).collect();
    assert_eq!(shipped.len(), known.len());
    assert_eq!(shipped.into_iter().collect::<BTreeSet<_>>(), known);
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = defaults();
    assert_eq!(config.server.listen, ([127, 0, 0, 1], 8443).into());
    assert_eq!(
        config.server.operator_socket,
        Path::new("data/operator.sock")
    );
    assert_eq!(config.server.idle_timeout, Duration::from_secs(60));
    assert_eq!(config.tls.crl, Path::new("certs/crl.pem"));
    assert_eq!(config.tls.client_auth, ClientAuth::Required);
    assert_eq!(config.pin.cost, crate::access::pin::OWASP_MINIMUM);
    assert_eq!(config.pin.lockout.lock_ms, 86_400_000);
    assert_eq!(config.pin.pepper_file, Path::new("certs/pepper"));
    assert_eq!(config.accounts.currency.code(), "USD");
    assert_eq!(config.store.url, StoreUrl::Sqlite("data/bank.db".into()));
    assert_eq!(config.metrics.listen, None);
    assert_eq!(config.log.level, Level::INFO);
    assert_eq!(config.terms().try_rows_max, 1_000_000);
    assert_eq!(config.terms().daily_withdrawal_limit, 200_000);
}

#[test]
fn every_number_is_taken_at_both_its_bounds_and_no_further() {
    for number in keys::NUMBERS.iter().copied() {
        let key = Key::Number(number);
        // What else the bounds of this key need.
        let beside = match number.name.key {
            "parallelism" => "memory_kib = 1000000000\n",
            _ => "",
        };
        let taken = number.least..=number.most;
        for value in [
            -1,
            0,
            1,
            number.least - 1,
            number.least,
            number.most,
            number.most + 1,
        ] {
            let outcome = load(&(set(key, &value.to_string()) + beside));
            assert_eq!(
                outcome.is_ok(),
                taken.contains(&value),
                "{} = {value}",
                number.name
            );
        }
    }
}

#[test]
fn zero_is_taken_only_where_it_has_a_meaning() {
    let zero = |number: &&keys::Number| number.least == 0;
    let names: BTreeSet<_> = keys::NUMBERS
        .iter()
        .copied()
        .filter(zero)
        .map(|number| number.name.key)
        .collect();
    let expected = [
        "daily_withdrawal_limit",
        "lock_ms",
        "spray_tries",
        "withdrawal_limit",
    ];
    assert_eq!(names, expected.into());
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file =
        "[server]\nlisten = \"127.0.0.1:1\"\nmax_connections = 7000\n[log]\nlevel = \"warn\"";
    let environment = [
        ("BANK__SERVER__LISTEN", "127.0.0.1:2"),
        ("BANK__SERVER__MAX_CONNECTIONS", "8000"),
        ("BANK__TLS__KEY", "other.key"),
        ("BANKER__SERVER__LISTEN", "not ours"),
        ("PATH", "/bin"),
    ];
    let loaded = load_with(file, &environment, Some("127.0.0.1:3")).unwrap();
    assert!(loaded.from_environment);
    assert_eq!(loaded.config.server.listen.port(), 3);
    assert_eq!(loaded.config.server.max_connections, 8_000);
    assert_eq!(loaded.config.tls.key, Path::new("other.key"));
    assert_eq!(loaded.config.log.level, Level::WARN);
    let without_flag = load_with(file, &environment, None).unwrap();
    assert_eq!(without_flag.config.server.listen.port(), 2);
}

#[test]
fn every_key_can_be_set_by_the_environment() {
    for number in keys::NUMBERS.iter().copied() {
        let value = number.default.unwrap_or(number.least).to_string();
        load_with("", &[(&number.name.variable(), &value)], None).unwrap();
        let errors = load_with("", &[(&number.name.variable(), "many")], None).unwrap_err();
        assert!(
            errors.to_string().contains(&number.name.variable()),
            "{errors}"
        );
    }
    for text in keys::TEXTS.iter().copied() {
        let value = text.default.unwrap_or("elsewhere/name");
        load_with("", &[(&text.name.variable(), value)], None).unwrap();
    }
}

#[test]
fn an_unknown_variable_of_ours_is_named_with_the_one_that_was_meant() {
    for (typed, expected) in [
        (
            "BANK__SERVER__LISTN",
            "environment BANK__SERVER__LISTN: unknown key; did you mean BANK__SERVER__LISTEN?",
        ),
        (
            "BANK__server__listen",
            "environment BANK__server__listen: unknown key; did you mean BANK__SERVER__LISTEN?",
        ),
        (
            "BANK__",
            "environment BANK__: unknown key; \
                unset it, or write BANK__TABLE__KEY, such as BANK__SERVER__LISTEN",
        ),
    ] {
        let errors = load_with("", &[(typed, "secret")], None).unwrap_err();
        assert_eq!(errors.to_string(), expected);
    }
}

#[test]
fn every_mistake_is_reported_at_once_with_its_line() {
    let text = "[server]\nmax_conections = 1\nlisten = 8443\nidle_timeout_ms = \"60s\"\n\
        write_timeout_ms = 0\nmax_connections = 1.5\n[serve]\n[pin]\ntries = 99999999999999999999\n\
        level = \"info\"\n[log]\nlevel = \"inf\"\n[accounts]\ncurrency = \"usd\"\n";
    let expected = [
        "bank.toml:2: [server] max_conections: unknown key; did you mean max_connections?",
        "bank.toml:3: [server] listen: integer, where text is wanted; write text in quotes",
        "bank.toml:4: [server] idle_timeout_ms: text, where an integer is wanted; \
            write an integer from 1 to 1000000000 milliseconds, the default is 60000",
        "bank.toml:5: [server] write_timeout_ms: 0 is out of range; \
            write an integer from 1 to 1000000000 milliseconds, the default is 10000",
        "bank.toml:6: [server] max_connections: float, where an integer is wanted; \
            write an integer from 1 to 1000000000, the default is 50000",
        "bank.toml:7: [serve]: unknown table; did you mean [server]?",
        "bank.toml:9: [pin] tries: 99999999999999999999 is out of range; \
            write an integer from 1 to 1000000000, the default is 3",
        "bank.toml:10: [pin] level: unknown key; did you mean [log] level?",
        "bank.toml:12: [log] level: \"inf\" is not known; \
            write one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"; \
            did you mean \"info\"?",
        "bank.toml:14: [accounts] currency: \"usd\" is no currency code of ISO 4217; \
            write three capitals, such as \"USD\", \"EUR\", \"GBP\" or \"JPY\"",
    ];
    assert_eq!(faults(text), expected);
}

#[test]
fn faults_of_one_file_come_in_the_order_of_its_lines() {
    let text = "[server]\nzzz = 1\naaa = 2\n[accounts]\ncurrency = \"usd\"\n[log]\nbbb = 3\n";
    let lines: Vec<_> = faults(text)
        .iter()
        .filter_map(|line| line.split(':').nth(1).map(str::to_owned))
        .collect();
    assert_eq!(lines, ["2", "3", "5", "7"]);
}

#[test]
fn what_is_not_toml_is_named_by_its_line() {
    for (text, line) in [
        ("[server]\nlisten = 127.0.0.1:8443\n", 2),
        ("[server]\n[server]\n", 2),
        ("[server]\nmax_connections = 1\nmax_connections = 2\n", 3),
        ("[server\n", 1),
        ("\n\n[log]\r\nlevel = \"info\n", 4),
    ] {
        let found = faults(text);
        let start = format!("bank.toml:{line}: not TOML: ");
        assert!(
            found.iter().any(|fault| fault.starts_with(&start)),
            "{found:?}"
        );
    }
}

#[test]
fn a_key_outside_its_table_is_told_where_it_belongs() {
    assert_eq!(
        faults("listen = \"127.0.0.1:1\""),
        ["bank.toml:1: listen: a key outside of any table; did you mean [server] listen?"]
    );
    assert_eq!(
        faults("server = 1"),
        ["bank.toml:1: server: a table is wanted, not a value; \
                write [server] on a line of its own, its keys below"]
    );
    assert_eq!(
        config("server.max_connections = 5000")
            .server
            .max_connections,
        5_000
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("bank.toml");
    let load = || Config::load(Some(&path), std::iter::empty(), &Overrides::default());
    let fault = || load().unwrap_err().faults.remove(0);
    assert!(fault().reason.starts_with("cannot be read"));
    fs::write(&path, b"[log]\nlevel = \"\xff\"\n").unwrap();
    assert_eq!(
        fault().place,
        Place::File {
            path: path.clone(),
            line: Some(2)
        }
    );
    fs::write(&path, "\n".repeat(65_537)).unwrap();
    assert!(fault().reason.starts_with("larger than"));
    fs::write(&path, SHIPPED).unwrap();
    assert_eq!(load().unwrap().config, defaults());
}

#[test]
fn a_wrong_file_does_not_fill_the_screen() {
    let text: String = (0..5_000)
        .map(|number| format!("key_{number} = 1\n"))
        .collect();
    let errors = load(&text).unwrap_err();
    assert_eq!((errors.faults.len(), errors.unnamed), (100, 4_900));
    assert!(errors.to_string().ends_with("\nand 4900 more"));
}

#[test]
fn the_largest_file_of_nonsense_is_no_configuration() {
    for nonsense in ["[", "a.", "=\n", "a=[", "\"", "\n[a]", "a\n", "[[a]]\n"] {
        let times = usize::try_from(CONFIG_FILE_BYTES_MAX).unwrap() / nonsense.len();
        assert!(load(&nonsense.repeat(times)).is_err(), "{nonsense}");
    }
}

#[test]
fn a_fault_shows_no_control_characters_of_what_was_typed() {
    let found = faults("[server]\n\"a\\u001b[2J\\nb\" = 1\nlisten = \"\\u001b:\\u0000\"").concat();
    assert!(!found.chars().any(char::is_control), "{found:?}");
}

#[test]
fn a_text_with_a_control_character_is_refused_wherever_it_comes_from() {
    for key in [
        "tls.dir",
        "pin.pepper_file",
        "store.url",
        "server.operator_socket",
    ] {
        let (table, name) = key.split_once('.').unwrap();
        for control in ["\\u001b", "\\n", "\\u009b"] {
            let found = faults(&format!("[{table}]\n{name} = \"sqlite:a{control}b\"")).concat();
            assert!(found.contains("has a control character"), "{key}: {found}");
        }
    }
}

/// Values that reach every branch, none of which is a host name to be looked up.
fn value() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "0",
        "1",
        "-1",
        "0x10",
        "1_000",
        "1.5",
        "inf",
        "true",
        "[]",
        "{}",
        "1979-05-27",
        "\"\"",
        "\"off\"",
        "\"127.0.0.1:0\"",
        "\":1\"",
        "\"\\u0000\"",
        "'sqlite:x'",
        "'sqlite:'",
        "\"",
        "😀",
        "'..'",
        "'/'",
        "'EUR'",
        "\"\"\"\n\"\"\"",
    ]);
    prop_oneof![
        fixed.prop_map(str::to_owned),
        any::<i128>().prop_map(|number| number.to_string())
    ]
}

proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in "(?s).{0,300}") {
        let _ = load(&text);
    }

    #[test]
    fn no_value_of_any_key_makes_the_loader_panic(
        lines in prop::collection::vec((0..keys::all().count(), value()), 0..6),
        environment in prop::collection::vec((0..keys::all().count(), "[0-9a-z/.-]{0,9}"), 0..3),
    ) {
        let name = |index: usize| keys::all().nth(index).unwrap().name();
        let text = lines.iter().map(|(index, value)| {
            let Name { table, key } = name(*index);
            format!("{table}.{key} = {value}\n")
        });
        let variables: Vec<_> = environment
            .iter()
            .map(|(index, value)| (name(*index).variable(), value.clone()))
            .collect();
        match load_with(&text.collect::<String>(), &variables, None) {
            Ok(Loaded { config: Config { server, .. }, .. }) => {
                prop_assert!(server.max_connections_per_ip <= server.max_connections);
            }
            Err(errors) => prop_assert!(!errors.faults.is_empty()),
        }
    }

    #[test]
    fn no_variable_makes_the_loader_panic(name in "BANK__[A-Z_]{0,30}", value in ".{0,30}") {
        let _ = load_with("", &[(&name, &value)], None);
    }
}
