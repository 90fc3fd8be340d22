//! The house's rules, held against the source: who may use whom, and what no file may hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may use. `limits` holds constants only.
const MAY_USE: [(&str, &[&str]); 16] = [
    ("domain", &[]),
    ("durable", &[]),
    ("limits", &[]),
    ("surroundings", &["domain"]),
    ("access", &["domain", "durable", "surroundings", "limits"]),
    ("wire", &["domain"]),
    ("pki", &["domain", "durable"]),
    ("store", &["domain", "durable", "access"]),
    (
        "bank",
        &["store", "access", "domain", "surroundings", "limits"],
    ),
    (
        "config",
        &["domain", "durable", "access", "store", "limits"],
    ),
    ("telemetry", &["wire", "config", "domain"]),
    ("enroll", &["bank", "pki", "store", "domain"]),
    (
        "server",
        &[
            "bank",
            "enroll",
            "wire",
            "access",
            "domain",
            "durable",
            "config",
            "limits",
            "store",
            "surroundings",
            "telemetry",
            "pki",
        ],
    ),
    (
        "operator",
        &[
            "bank",
            "store",
            "domain",
            "durable",
            "access",
            "limits",
            "surroundings",
        ],
    ),
    ("atm", &["wire", "domain", "durable"]),
    (
        "attack",
        &["atm", "wire", "domain", "pki", "limits", "surroundings"],
    ),
];

/// The rooms that put all others together: the service, and what drives the whole for fuzzing.
const MAY_USE_ALL: [&str; 2] = ["service", "fuzzing"];

/// The longest file, in lines, tests in it included.
const LINES_MAX: usize = 500;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file below a folder, by its path from `src`.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let name = path.strip_prefix(source()).unwrap();
            found.insert(
                name.to_str().unwrap().to_owned(),
                fs::read_to_string(&path).unwrap(),
            );
        }
    }
    found
}

/// The top module that a file belongs to: `bank/login.rs` to `bank`, `limits.rs` to itself.
fn room(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or_default();
    first.strip_suffix(".rs").unwrap_or(first)
}

/// What is compiled for tests alone: `store/contract`, where `store/mod.rs` says
/// `#[cfg(test)] mod contract;`. Its file and its folder begin with that.
fn test_modules(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in files {
        let stem = file.strip_suffix(".rs").unwrap();
        let folder = stem.strip_suffix("/mod").unwrap_or(stem);
        let starts = ["#[cfg(test)]\nmod ", "#[cfg(test)]\npub(crate) mod "];
        for (_, after) in starts
            .iter()
            .flat_map(|start| text.match_indices(start))
            .map(|(at, path)| text.split_at(at + path.len()))
        {
            if let Some((name, _)) = after
                .split_once(';')
                .filter(|(name, _)| !name.contains('{'))
            {
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    found
}

fn is_within(file: &str, module: &str) -> bool {
    file.strip_prefix(module)
        .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// A file's code, without comments and without its tests.
fn code(text: &str) -> String {
    let before_tests = text
        .find("#[cfg(test)]\nmod tests {")
        .map_or(text, |start| &text[..start]);
    before_tests
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The top modules that code names by `crate::`, also in braces: `use crate::{bank, wire::code}`.
fn uses(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, after) in code
        .match_indices("crate::")
        .map(|(at, path)| code.split_at(at + path.len()))
    {
        match after.strip_prefix('{') {
            None => found.extend(first_name(after)),
            Some(group) => found.extend(names_of_group(group)),
        }
    }
    found
}

fn first_name(text: &str) -> Option<String> {
    let name: String = text
        .chars()
        .take_while(|letter| letter.is_ascii_lowercase() || *letter == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// The names at the top level of what follows an opening brace, up to its closing one.
fn names_of_group(group: &str) -> Vec<String> {
    let (mut depth, mut item, mut names) = (0_usize, String::new(), Vec::new());
    for letter in group.chars() {
        match letter {
            '}' if depth == 0 => break,
            ',' if depth == 0 => names.extend(first_name(std::mem::take(&mut item).trim())),
            _ => {
                depth += usize::from(letter == '{');
                depth -= usize::from(letter == '}');
                item.push(letter);
            }
        }
    }
    names.extend(first_name(item.trim()));
    names
}

#[test]
fn the_reader_of_paths_sees_plain_inline_and_braced_ones() {
    let code = "use crate::bank::{Bank, Failure};\nuse crate::{wire::{code, frame}, domain,\n store};\n\
         fn f() -> crate::pki::PkiError {}\nuse super::limits;";
    let seen: Vec<String> = uses(code).into_iter().collect();
    assert_eq!(seen, ["bank", "domain", "pki", "store", "wire"]);
    let text = "a\n// crate::b\n#[cfg(test)]\nmod tests {\nuse crate::c;";
    assert_eq!(super::house::code(text), "a");
}

#[test]
fn every_room_uses_only_the_rooms_it_may() {
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let mut wrong = Vec::new();
    let mut rooms = BTreeSet::new();
    let files = files(&source());
    let tests = test_modules(&files);
    for (file, text) in &files {
        let room = room(file);
        // The crate's map, and the programs, which see the library from outside.
        let is_outside = matches!(room, "lib" | "bin") || MAY_USE_ALL.contains(&room);
        if is_outside || tests.iter().any(|module| is_within(file, module)) {
            continue;
        }
        rooms.insert(room.to_owned());
        let Some(may) = rules.get(room) else {
            wrong.push(format!("{file}: the room {room} is not in the table"));
            continue;
        };
        for used in uses(&code(text)) {
            if used != room && !may.contains(&used.as_str()) {
                wrong.push(format!("{file} uses {used}"));
            }
        }
    }
    assert!(rooms.len() >= 10, "the source was not found: {rooms:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Where one of these names stands in the product outside of `home`; some rooms may name them.
fn named_elsewhere(names: &[&str], home: &str, free: &[&str]) -> Vec<String> {
    let files = files(&source());
    let tests = test_modules(&files);
    let mut found = Vec::new();
    for (file, text) in &files {
        let is_bound = file != home
            && !free.contains(&room(file))
            && !tests.iter().any(|module| is_within(file, module));
        let named = names
            .iter()
            .filter(|name| is_bound && code(text).contains(**name));
        found.extend(named.map(|name| format!("{file}: {name}")));
    }
    found
}

#[test]
fn pem_is_read_in_one_place() {
    let names = [
        "PemObject",
        "from_pem",
        "pem_slice_iter",
        "pem::parse",
        "-----BEGIN",
    ];
    let found = named_elsewhere(&names, "domain/pem.rs", &["fuzzing", "attack"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn files_take_their_places_in_one_module() {
    let names = ["fs::rename", "hard_link", "renameat"];
    let found = named_elsewhere(&names, "durable.rs", &[]);
    assert!(found.is_empty(), "{found:#?}");
}

/// What is to be asked of a customer's order is decided by the rules alone.
#[test]
fn no_engine_names_a_refusal() {
    let mut found = Vec::new();
    let files = files(&source());
    let engine = |file: &&String| file.starts_with("store/sqlite/");
    for file in files.keys().filter(engine) {
        let code = code(&files[file]);
        found.extend(code.contains("Refusal").then_some(file));
        assert!(!code.is_empty(), "{file}");
    }
    assert!(found.is_empty(), "{found:#?}");
    assert!(files.keys().filter(engine).count() > 20);
}

#[test]
fn programs_hold_nothing_that_only_tests_and_fuzzing_need() {
    let programs = [
        env!("CARGO_BIN_EXE_bank_server"),
        env!("CARGO_BIN_EXE_atm_client"),
        env!("CARGO_BIN_EXE_gen-certs"),
    ];
    for program in programs {
        let bytes = fs::read(program).unwrap();
        // A path stands in a symbol's name, each part behind its length.
        let holds = |path: &str| memchr::memmem::find(&bytes, path.as_bytes()).is_some();
        assert!(holds("8atm_bank"), "{program} has no symbols to look at");
        for path in ["8atm_bank7fuzzing", "8atm_bank5store6memory"] {
            assert!(!holds(path), "{program} holds {path}");
        }
    }
    let server = fs::read(programs[0]).unwrap();
    assert!(memchr::memmem::find(&server, b"8atm_bank5store6sqlite").is_some());
}

#[test]
fn rules_know_neither_statement_nor_clock_nor_task() {
    let mut found = Vec::new();
    let files = files(&source());
    let rules = files
        .iter()
        .filter(|(file, _)| file.starts_with("store/rules/"));
    for (file, text) in rules.clone() {
        for other in [
            "rusqlite",
            "tokio",
            "async",
            "Instant",
            "SystemTime",
            "store::sqlite",
        ] {
            found.extend(
                code(text)
                    .contains(other)
                    .then(|| format!("{file}: {other}")),
            );
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    assert!(rules.count() >= 8);
}

#[test]
fn telemetry_knows_no_more_of_the_wire_than_its_codes() {
    let text = fs::read_to_string(source().join("telemetry.rs")).unwrap();
    let code = code(&text);
    let others = code
        .match_indices("crate::wire::")
        .filter(|(at, path)| !code[at + path.len()..].starts_with("code::"));
    assert_eq!(others.count(), 0);
}

#[test]
fn no_file_is_longer_than_five_hundred_lines() {
    let long: Vec<String> = files(&source())
        .iter()
        .map(|(file, text)| (file, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| format!("{file}: {lines}"))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn nothing_is_left_to_do_and_no_queue_is_without_a_bound() {
    let mut found = Vec::new();
    for (file, text) in files(&source()) {
        let code = code(&text);
        for banned in ["todo!(", "unimplemented!(", "unbounded_channel", "dbg!("] {
            if code.contains(banned) {
                found.push(format!("{file}: {banned}"));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
