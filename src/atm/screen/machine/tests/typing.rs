//! What is typed, pasted and pressed: nothing of it is silently taken for something else.

use super::*;
use crate::atm::screen::view::Secret;

fn typed(bench: &Bench) -> &str {
    match bench.machine.view() {
        View::Amount { text, .. } | View::Welcome { account: text } => text,
        View::Recipient { account } => account,
        other => panic!("nothing is typed: {other:?}"),
    }
}

#[test]
fn an_amount_stands_as_it_was_typed_and_is_never_another_one() {
    for text in [
        "1e3",
        "-5",
        "1,000",
        "12,34",
        "+5.00",
        "5.00x",
        "0x10",
        "５",
        " 5.00 5",
        "00000000000000000000000005.00",
        "1000000000000000000000000000",
    ] {
        let mut bench = Bench::logged_in();
        bench.key(Key::Char('1'));
        bench.type_in(text);
        let start: String = text.chars().take(24).collect();
        assert!(typed(&bench).starts_with(&start), "{text}");
        assert!(bench.key(Key::Enter).is_none(), "{text}");
        assert!(bench.note().contains("amount of USD"), "{text}");
    }
}

#[test]
fn too_long_an_account_number_is_not_a_shorter_one() {
    for text in [
        "zz-999991",
        "zz999991",
        "zz-9999 9",
        "zzz-99999",
        "zz--99999",
    ] {
        let mut bench = Bench::new();
        bench.type_in(text);
        assert!(bench.key(Key::Enter).is_none());
        assert!(bench.note().contains("account number is"), "{text}");
        assert!(matches!(bench.machine.view(), View::Welcome { .. }));
        let mut bench = Bench::logged_in();
        bench.key(Key::Char('3'));
        bench.type_in(text);
        assert!(bench.key(Key::Enter).is_none());
        assert!(matches!(bench.machine.view(), View::Recipient { .. }));
    }
}

#[test]
fn what_is_no_pin_is_tried_as_none() {
    for text in ["1234a", "12 34", "12３4", "1234567890123", "-1234"] {
        let mut bench = Bench::new();
        bench.type_in("zz99999");
        bench.key(Key::Enter);
        bench.type_in(text);
        assert!(bench.key(Key::Enter).is_none(), "{text}");
        assert!(bench.note().contains("4 to 12 digits"), "{text}");
    }
    let mut secret = Secret::new();
    (0..100).for_each(|_| secret.push('1'));
    assert!(secret.count() < 100 && secret.take().is_none());
}

#[test]
fn pasted_text_does_nothing() {
    for mut bench in [Bench::new(), Bench::logged_in()] {
        let before = format!("{:?}", bench.machine.view());
        assert!(bench.hear(Event::Pasted).is_none());
        assert_eq!(format!("{:?}", bench.machine.view()), before);
        assert!(bench.note().contains("not taken"));
    }
}

#[test]
fn at_a_kiosk_no_key_ends_the_terminal() {
    for kiosk in [true, false] {
        for key in [Key::Esc, Key::Interrupt] {
            let mut bench = Bench::new();
            bench.machine = Machine::new().for_kiosk(kiosk);
            bench.key(key);
            assert_eq!(bench.machine.is_over(), !kiosk, "{key:?}");
            let mut bench = Bench::logged_in();
            bench.machine = std::mem::take(&mut bench.machine).for_kiosk(kiosk);
            bench.key(Key::Interrupt);
            assert_eq!(bench.machine.is_over(), !kiosk);
        }
    }
}
