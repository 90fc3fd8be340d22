//! A journal whose disk has little room: what is done is on record, and cash goes out only where it
//! is certain that it will be.

use std::process::{Output, Stdio};

use super::fake_bank::{FakeBank, agreeable};
use super::{Terminal, stderr, stdout};

/// Has the words after the first two run with a disk of its own in a folder, of so many KiB, and shows
/// what is in it then.
const ON_A_DISK: &str = r#"mount -t tmpfs -o size="$1"k,mode=700 none "$2" || exit 99
folder="$2"; shift 2; "$@"; code=$?
echo ---; cat "$folder"/settled.*log; echo ---; ls "$folder"; exit $code"#;

const SCRIPT: &str = "login zz-99999 8264\nwithdraw 1.00 key=key-0000000000000001\nwithdraw 2.00 \
                      key=key-0000000000000002\nauthorize 5.00 key=key-0000000000000003\n\
                      capture last 5.00 key=key-0000000000000004\n";

fn on_a_disk_of(kib: u32, bank: &FakeBank) -> Output {
    let journal = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::with_certificate(bank, journal.path());
    let mut command = std::process::Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        ON_A_DISK,
        "sh",
    ]);
    command.arg(kib.to_string()).arg(journal.path());
    command.arg(terminal.command.get_program());
    command
        .args(terminal.command.get_args())
        .current_dir(terminal.folder.path());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    terminal.command = command;
    terminal.arg("--script").arg("-").type_in(SCRIPT)
}

#[test]
fn whatever_room_the_journal_s_disk_has_what_was_booked_is_on_record_and_no_cash_goes_out_else() {
    let mut booked = Vec::new();
    for kib in [4, 8, 16, 60, 64, 68, 72, 76, 80, 84, 88, 92, 128, 512] {
        let bank = FakeBank::start(agreeable);
        let output = on_a_disk_of(kib, &bank);
        if output.status.code().is_none_or(|code| code > 1) {
            println!(
                "skipped: no disk of its own is to be had: {}",
                stderr(&output)
            );
            return;
        }
        let said = stdout(&output);
        let parts: Vec<&str> = said.split("---\n").collect();
        let answers: Vec<&str> = parts[0].lines().skip(1).collect();
        let told = format!("{kib} KiB: {said}{}", stderr(&output));
        let orders = ["withdraw", "authorize", "capture"]
            .map(|op| bank.asked(op))
            .concat();
        for order in &orders {
            let key = order["key"].as_str().unwrap();
            assert!(parts[1].contains(key), "{key} is not on record, {told}");
        }
        assert!(parts[2].lines().all(|name| name == "settled.log"), "{told}");
        let done = answers
            .iter()
            .filter(|answer| answer.starts_with("ok "))
            .count();
        assert_eq!(done, orders.len(), "{told}");
        let refused = answers
            .iter()
            .any(|answer| answer.contains("no cash goes out"));
        assert_eq!(
            stderr(&output).contains("no cash goes out"),
            refused,
            "{told}"
        );
        booked.push(done);
    }
    assert_eq!((booked[0], booked.last()), (0, Some(&4)), "{booked:?}");
}
