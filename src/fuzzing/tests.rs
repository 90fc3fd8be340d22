//! The targets over the committed corpus and over seeded random bytes.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::domain::Timestamp;
use crate::store::rules::planted::Planted;
use crate::surroundings::Virtual;

type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
const TARGETS: [(&str, Target); 8] = [
    ("accounts_file", super::accounts_file),
    ("answers", super::answers),
    ("certificate", super::certificate),
    ("connection", super::connection),
    ("decoder", super::decoder),
    ("dialogue", super::dialogue),
    ("ledger", super::ledger),
    ("request", super::request),
];

fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = found.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn replay(name: &str, target: Target, files: &[PathBuf]) {
    assert!(!files.is_empty(), "no corpus of {name}");
    for file in files {
        let bytes = fs::read(file).unwrap();
        let run = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
        assert!(run.is_ok(), "{name} finds something in {}", file.display());
    }
}

/// `FUZZ_CORPUS` names another folder with a folder for each target, as long searches leave it.
#[test]
fn every_file_of_the_corpus_finds_nothing() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let corpus = std::env::var_os("FUZZ_CORPUS").map_or(committed, PathBuf::from);
    let folders = entries(&corpus);
    let folders: Vec<_> = folders.iter().filter_map(|path| path.file_name()).collect();
    assert_eq!(
        folders,
        TARGETS.map(|(name, _)| name),
        "targets and corpora"
    );
    std::thread::scope(|scope| {
        for (name, target) in TARGETS {
            let files = entries(&corpus.join(name));
            scope.spawn(move || replay(name, target, &files));
        }
    });
}

/// Bytes of a seed: of all kinds, or of those that texts are made of.
fn bytes_of(seed: u64, alphabet: &[u8], length_max: u64) -> Vec<u8> {
    let chance = Virtual::new(Timestamp::from_unix_ms(0), seed);
    let length = chance.next_u64() % length_max;
    let byte = |chance: &Virtual| {
        let number = chance.next_u64();
        let index = usize::try_from(number >> 16).unwrap() % alphabet.len().max(1);
        alphabet
            .get(index)
            .copied()
            .unwrap_or(number.to_be_bytes()[7])
    };
    (0..length).map(|_| byte(&chance)).collect()
}

fn at_random(name: &str, target: Target, seeds: u64, alphabet: &[u8], length_max: u64) {
    for seed in 0..seeds {
        let bytes = bytes_of(seed, alphabet, length_max);
        let run = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
        assert!(run.is_ok(), "{name} finds something with seed {seed}");
    }
}

#[test]
fn frames_are_the_same_however_the_stream_is_split() {
    at_random("decoder", super::decoder, 2_000, &[], 600);
    let mostly_short = [0, 0, 0, 1, 2, 3, 5, 8, b'{', b'}', b'"', 0xff];
    at_random("decoder", super::decoder, 2_000, &mostly_short, 600);
}

#[test]
fn a_request_that_is_read_and_written_is_the_same() {
    at_random("request", super::request, 2_000, &[], 300);
    let of_json = b"{}[]\":,\\u0123456789eE.-+ \tidoplgnbacetwkyhrsm";
    at_random("request", super::request, 2_000, of_json, 300);
}

#[test]
fn a_file_of_accounts_is_read_or_refused_without_a_word_of_its_pins() {
    at_random("accounts_file", super::accounts_file, 2_000, &[], 300);
    let of_lines = b"aZ-0123456789,,,,.#\n\n\r\t \xef\xbb\xbf";
    at_random("accounts_file", super::accounts_file, 2_000, of_lines, 300);
}

/// A nearly full account: deposits and a transfer up to the brim and over it. Not in the corpus,
/// because opening that account takes longer than all else and would slow the search.
const FULL_ACCOUNT: &[u8] = &[
    29, 0, 0, 0, 0, 4, 0, 0, 0, 8, 1, 3, 0, 0, 8, 2, 0, 23, 0, 0, 0, 0, 0, 0, 0, 0, 10, 3, 4, 0,
];

#[test]
fn terminals_get_what_the_model_of_the_protocol_predicts() {
    super::dialogue(FULL_ACCOUNT);
    at_random("dialogue", super::dialogue, 1_000, &[], 700);
}

#[test]
fn both_stores_give_the_same_answers_and_digests_whatever_is_asked() {
    at_random("ledger", super::ledger, 200, &[], 500);
}

/// What the reference model is for: every fault that is planted in the rules makes the stores differ within
/// the seeds of the test above. `cargo test planted -- --nocapture` prints the first seed of each.
#[test]
fn each_fault_that_is_planted_in_the_rules_is_caught() {
    let hunt = |fault: Planted| {
        let compared = "both_stores_give_the_same_answers_and_digests_whatever_is_asked";
        let test = format!("fuzzing::tests::{compared}");
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new(program);
        child.args([&test, "--exact", "--nocapture"]);
        let output = child.env("PLANTED_FAULT", format!("{fault:?}")).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let seed = said.rsplit_once("ledger finds something with seed ");
        let digits = |(_, rest): (&str, &str)| rest.split_whitespace().next().map(str::to_owned);
        println!(
            "{fault:?}: seed {}",
            seed.and_then(digits).unwrap_or_default()
        );
        (output.status.code(), seed.is_some())
    };
    for faults in Planted::ALL.chunks(4) {
        std::thread::scope(|scope| {
            let hunts = faults.iter().map(|fault| scope.spawn(move || hunt(*fault)));
            for (hunt, fault) in hunts.collect::<Vec<_>>().into_iter().zip(faults) {
                assert_eq!(hunt.join().unwrap(), (Some(101), true), "{fault:?}");
            }
        });
    }
}

#[test]
fn a_certificate_is_let_in_only_as_the_authority_signed_it() {
    at_random("certificate", super::certificate, 500, &[], 300);
}

#[test]
fn a_hostile_bank_neither_confuses_a_terminal_nor_commands_its_screen() {
    at_random("answers", super::answers, 2_000, &[], 400);
}

#[test]
fn connections_end_by_their_deadlines_and_leave_nothing_behind() {
    at_random("connection", super::connection, 200, &[], 300);
}
