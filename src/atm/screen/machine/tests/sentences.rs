//! What customers and attendants are told: nothing false, and nothing left out.

use super::*;
use crate::atm::screen::machine::PATIENCE_MS;
use crate::atm::teller::NOT_BOOKED_YET;

const LOST: &str = "The connection to your bank was lost.";

fn failed(errand: Errand) -> Event {
    Event::Reply(Box::new(Reply {
        errand,
        outcome: Err(LOST),
        session: None,
        cash: false,
        no_matches: 0,
        recovered: Vec::new(),
    }))
}

#[test]
fn a_bank_lost_while_notes_are_counted_is_told_with_what_becomes_of_cash_and_money() {
    let mut bench = Bench::logged_in();
    bench.key(Key::Char('1'));
    bench.key(Key::Enter);
    bench.hear(done(Errand::Authorize(2_000)));
    let wish = bench.hear(Event::News(News::Lost("x".into())));
    assert!(matches!(wish, Some(Wish::Release)));
    bench.hear(failed(Errand::Release));
    for said in ["bank was lost", "No cash is given out", "nothing was taken"] {
        assert!(bench.message().contains(said), "{}", bench.message());
    }
    // And where it is lost before they are counted.
    let mut bench = Bench::logged_in();
    bench.key(Key::Char('1'));
    bench.key(Key::Enter);
    bench.hear(failed(Errand::Authorize(2_000)));
    for said in [LOST, "No cash is given out", "nothing was taken"] {
        assert!(bench.message().contains(said), "{}", bench.message());
    }
}

#[test]
fn wrong_pins_in_a_row_are_told_apart_before_the_account_is_locked() {
    let account = "zz-99999".parse().unwrap();
    let mut told = Vec::new();
    for times in 1..=3 {
        let mut bench = Bench::new();
        let Event::Reply(mut reply) = refused(Errand::Login(account), Code::NoMatch, None) else {
            panic!()
        };
        reply.no_matches = times;
        bench.hear(Event::Reply(reply));
        told.push(bench.message().to_owned());
    }
    assert!(!told[0].contains("lock"), "{told:?}");
    assert!(told[1].contains("next wrong PIN may lock"), "{told:?}");
    assert!(told[2].contains("may be locked now"), "{told:?}");
}

#[test]
fn a_one_time_pin_is_explained_before_a_new_one_is_asked_for() {
    let account = "zz-99999".parse().unwrap();
    let mut bench = Bench::new();
    let answer = Answer::done(Some(1), Members::default());
    bench.hear(reply(Errand::Login(account), answer, Some(session(true))));
    assert!(matches!(bench.machine.view(), View::ChangePin { .. }));
    assert!(bench.note().contains("given to you by the bank"));
}

#[test]
fn a_customer_may_leave_a_bank_that_does_not_answer() {
    let mut bench = Bench::logged_in();
    bench.key(Key::Char('4'));
    assert!(bench.pass_ms(PATIENCE_MS - 1).is_none());
    bench.key(Key::Esc);
    assert!(!bench.machine.take_given_up(), "it is given its time");
    bench.pass_ms(1);
    assert!(bench.machine.may_give_up());
    for key in [Key::Enter, Key::Char('x')] {
        bench.key(key);
        assert!(!bench.machine.take_given_up());
    }
    bench.key(Key::Esc);
    assert!(bench.machine.take_given_up() && !bench.machine.take_given_up());
    bench.hear(failed(Errand::Balance));
    assert!(bench.machine.session().is_none());
}

#[test]
fn no_customer_reads_what_the_attendant_is_told_nor_anybody_once_it_is_settled() {
    let warning = || Event::Warning(format!("{NOT_BOOKED_YET}: no answer"));
    let mut bench = Bench::new();
    bench.hear(warning());
    assert!(bench.machine.warning().is_some());
    bench.type_in("z");
    assert_eq!(bench.machine.warning(), None, "a customer is there");
    bench.key(Key::Backspace);
    assert!(bench.machine.warning().is_some());
    bench.hear(Event::Settled);
    assert_eq!(bench.machine.warning(), None);
    bench.hear(Event::Warning("the disk is full".into()));
    bench.hear(Event::Settled);
    assert!(bench.machine.warning().is_some(), "another matter");

    let mut bench = Bench::logged_in();
    bench.hear(warning());
    assert_eq!(bench.machine.warning(), None);
}
