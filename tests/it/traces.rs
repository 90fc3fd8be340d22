//! The scenarios of `traces/`, run again by the script that recorded them: it fails where a step is
//! answered otherwise than it says.

use std::path::Path;
use std::process::Command;

const SCENARIOS: [&str; 7] = [
    "1-two-terminals",
    "2-busy-account",
    "3-killed-client",
    "4-wrong-pins",
    "5-refusals",
    "6-sent-twice",
    "7-killed-server",
];

fn is_here(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
        || Command::new(program).arg("version").output().is_ok()
}

#[test]
fn every_recorded_scenario_runs_again_with_the_same_answers() {
    if !is_here("bash") || !is_here("openssl") {
        println!("skipped: bash and openssl are needed to record traces");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_bank_server"))
        .parent()
        .unwrap();
    let recorded = Command::new("bash")
        .arg(root.join("traces/record.sh"))
        .arg(folder.path())
        .env("BIN_DIR", binaries)
        .output()
        .unwrap();
    assert!(
        recorded.status.success(),
        "{}",
        String::from_utf8_lossy(&recorded.stderr)
    );
    for scenario in SCENARIOS {
        let name = format!("{scenario}.txt");
        let fresh = std::fs::read_to_string(folder.path().join(&name)).unwrap();
        assert!(fresh.contains("listening"), "{name} has no server log");
        let kept = std::fs::read_to_string(root.join("traces").join(&name)).unwrap();
        assert_eq!(
            fresh.lines().next(),
            kept.lines().next(),
            "{name} is of another scenario"
        );
    }
}
