use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::draw;
use crate::atm::screen::machine::{Event, Key, Machine, Reply};
use crate::atm::screen::view::Errand;
use crate::atm::teller::Session;
use crate::wire::answer::{Answer, HistoryLine, Members};

/// The window's text, one line a row.
fn shown(machine: &Machine, columns: u16, rows: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(frame, machine)).unwrap();
    let cells: Vec<&str> = terminal
        .backend()
        .buffer()
        .content()
        .iter()
        .map(|cell| cell.symbol())
        .collect();
    cells
        .chunks(usize::from(columns))
        .map(|row| row.concat() + "\n")
        .collect()
}

fn press(machine: &mut Machine, keys: &str) {
    for c in keys.chars() {
        let key = if c == '\n' { Key::Enter } else { Key::Char(c) };
        machine.handle(Event::Key(key), 0);
    }
}

fn answer(machine: &mut Machine, errand: Errand, members: Members) {
    let session = Session {
        account: "zz-99999".parse().unwrap(),
        currency: "USD".parse().unwrap(),
        idle_timeout_ms: 60_000,
        must_change_pin: false,
    };
    let outcome = Ok(Answer::done(Some(1), members));
    let cash = matches!(errand, Errand::Authorize(_));
    let reply = Reply {
        errand,
        outcome,
        session: Some(session),
        cash,
        no_matches: 0,
        recovered: Vec::new(),
    };
    machine.handle(Event::Reply(Box::new(reply)), 0);
}

fn logged_in() -> Machine {
    let mut machine = Machine::new();
    press(&mut machine, "zz99999\n8264\n");
    let members = Members {
        available: Some(102_432),
        ..Members::default()
    };
    answer(
        &mut machine,
        Errand::Login("zz-99999".parse().unwrap()),
        members,
    );
    machine
}

#[test]
fn a_pin_is_seen_as_dots_only() {
    let mut machine = Machine::new();
    press(&mut machine, "zz99999\n82649");
    let shown = shown(&machine, 80, 24);
    assert!(
        shown.contains("● ● ● ● ●") && shown.contains("zz-99999"),
        "{shown}"
    );
    assert!(!shown.contains("8264"), "{shown}");
}

#[test]
fn the_menu_shows_every_item_the_account_and_the_countdown() {
    let shown = shown(&logged_in(), 80, 24);
    for said in [
        "1  Withdraw cash",
        "7  Log out",
        "zz-99999   1024.32 USD",
        "logs out in 60 seconds",
    ] {
        assert!(shown.contains(said), "{said} is missing in\n{shown}");
    }
}

#[test]
fn amounts_questions_and_counting_are_shown_with_the_currency() {
    let mut machine = logged_in();
    press(&mut machine, "1");
    assert!(shown(&machine, 80, 24).contains("20.00 USD"));
    press(&mut machine, "30.00\n");
    answer(&mut machine, Errand::Authorize(3_000), Members::default());
    let counting = shown(&machine, 80, 24);
    assert!(
        counting.contains("30.00 USD") && counting.contains("still cancel"),
        "{counting}"
    );

    let mut machine = logged_in();
    press(&mut machine, "3aa00001\n1.50\n");
    assert!(shown(&machine, 80, 24).contains("Send 1.50 USD to aa-00001?"));
}

#[test]
fn a_history_is_a_table_without_anything_that_steers_the_terminal() {
    let mut machine = logged_in();
    press(&mut machine, "5");
    let line = HistoryLine {
        entry: 9,
        at: "2026-01-31T23:59:59.999Z".into(),
        kind: "transfer_out\u{1b}[2J".into(),
        amount: -500,
        balance: 99_500,
        terminal: "t".into(),
        counterparty: Some("aa-00001".into()),
    };
    let members = Members {
        entries: Some(vec![line]),
        ..Members::default()
    };
    answer(&mut machine, Errand::History, members);
    let shown = shown(&machine, 100, 24);
    for said in ["2026-01-31 23:59", "-5.00", "995.00", "aa-00001"] {
        assert!(shown.contains(said), "{said} is missing in\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'));
}

/// The words of a window, without its frames and wrapping.
fn words(machine: &Machine, columns: u16, rows: u16) -> String {
    let shown = shown(machine, columns, rows);
    let words = shown.split(|c: char| c.is_whitespace() || "│─╭╮╰╯".contains(c));
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn a_narrow_window_cuts_neither_the_balance_nor_the_keys() {
    let mut machine = logged_in();
    let million = Members {
        balance: Some(123_456_789),
        available: Some(123_456_789),
        ..Members::default()
    };
    answer(&mut machine, Errand::StayLoggedIn, million);
    for columns in 24..=100 {
        let shown = words(&machine, columns, 24);
        assert!(shown.contains("1234567.89 USD"), "{columns}: {shown}");
        let keys = "↑ ↓ and Enter, or the number · Esc logs out";
        assert!(shown.contains(keys), "{columns}: {shown}");
    }
    press(&mut machine, "1");
    for columns in 24..=100 {
        let shown = words(&machine, columns, 24);
        let keys = "↑ ↓ for an amount, or type one · Enter goes on · Esc cancels";
        assert!(shown.contains(keys), "{columns}: {shown}");
    }
}

#[test]
fn a_narrow_window_cuts_no_history() {
    let mut machine = logged_in();
    press(&mut machine, "5");
    let line = HistoryLine {
        entry: 9,
        at: "2026-01-31T23:59:59.999Z".into(),
        kind: "late_withdrawal".into(),
        amount: -123_456_789,
        balance: 1_234_567_890_123,
        terminal: "t".into(),
        counterparty: Some("aa-00001".into()),
    };
    let members = Members {
        entries: Some(vec![line; 3]),
        ..Members::default()
    };
    answer(&mut machine, Errand::History, members);
    for columns in 36..=120 {
        let shown = words(&machine, columns, 24);
        for said in [
            "-1234567.89",
            "12345678901.23",
            "aa-00001",
            "2026-01-31 23:59",
        ] {
            assert!(
                shown.contains(said),
                "{columns}: {said} is missing in {shown}"
            );
        }
    }
}

#[test]
fn a_small_window_still_shows_what_is_asked() {
    let mut machine = Machine::new();
    assert!(shown(&machine, 34, 6).contains("account number"));
    press(&mut machine, "zz99999\n82");
    assert!(shown(&machine, 30, 6).contains("● ●"));
    let mut machine = logged_in();
    (0..6).for_each(|_| drop(machine.handle(Event::Key(Key::Down), 0)));
    assert!(
        shown(&machine, 30, 6).contains("Log out"),
        "the selected item is in the window"
    );
}

#[test]
fn a_warning_to_the_attendant_is_on_the_screen_for_a_while_in_any_window() {
    let mut machine = Machine::new();
    let text = "no cash goes out: \u{1b}[2Jno space".to_owned();
    machine.handle(Event::Warning(text), 0);
    for (columns, rows) in [(80, 24), (44, 14), (40, 10)] {
        let text = shown(&machine, columns, rows);
        assert!(text.contains("Attendant: no cash goes out"), "{text}");
        assert!(
            text.contains("Your bank") || text.contains("Welcome"),
            "{text}"
        );
    }
    machine.handle(Event::Tick, 60_000);
    assert!(!shown(&machine, 80, 24).contains("Attendant"));
}

proptest! {
    #[test]
    fn no_window_is_too_small_to_draw_in(columns in 1_u16..120, rows in 1_u16..40, keys in "[a-z0-9\n.m]{0,30}") {
        let mut machine = logged_in();
        press(&mut machine, &keys);
        shown(&machine, columns, rows);
        let mut machine = Machine::new();
        press(&mut machine, &keys);
        shown(&machine, columns, rows);
    }
}
