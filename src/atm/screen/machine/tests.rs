mod sentences;
mod typing;

use proptest::prelude::*;

use super::*;
use crate::wire::answer::Members;
use crate::wire::code::Code;

const SESSION: u64 = 60_000;

fn session(must_change_pin: bool) -> Session {
    Session {
        account: "zz-99999".parse().unwrap(),
        currency: "USD".parse().unwrap(),
        idle_timeout_ms: SESSION,
        must_change_pin,
    }
}

fn done(errand: Errand) -> Event {
    let members = Members {
        balance: Some(500),
        available: Some(500),
        ..Members::default()
    };
    reply(errand, Answer::done(Some(1), members), Some(session(false)))
}

fn refused(errand: Errand, code: Code, session: Option<Session>) -> Event {
    reply(errand, Answer::refused(Some(1), code), session)
}

fn reply(errand: Errand, answer: Answer, session: Option<Session>) -> Event {
    let cash = matches!(errand, Errand::Authorize(_)) && answer.code == Code::Done;
    let recovered = Vec::new();
    Event::Reply(Box::new(Reply {
        errand,
        outcome: Ok(answer),
        session,
        cash,
        no_matches: 0,
        recovered,
    }))
}

/// A terminal with a clock that stands still.
struct Bench {
    machine: Machine,
    now_ms: u64,
}

impl Bench {
    fn new() -> Self {
        Self {
            machine: Machine::new(),
            now_ms: 1_000,
        }
    }

    fn logged_in() -> Self {
        let mut bench = Self::new();
        bench.type_in("zz99999");
        bench.key(Key::Enter);
        bench.type_in("8264");
        let account = "zz-99999".parse().unwrap();
        assert!(matches!(bench.key(Key::Enter), Some(Wish::Login(to, _)) if to == account));
        assert!(bench.hear(done(Errand::Login(account))).is_none());
        assert!(matches!(bench.machine.view(), View::Menu { .. }));
        bench
    }

    fn key(&mut self, key: Key) -> Option<Wish> {
        self.hear(Event::Key(key))
    }

    fn hear(&mut self, event: Event) -> Option<Wish> {
        self.machine.handle(event, self.now_ms)
    }

    fn type_in(&mut self, text: &str) {
        for c in text.chars() {
            assert!(
                self.key(Key::Char(c)).is_none(),
                "{c} alone asks for nothing"
            );
        }
    }

    fn pass_ms(&mut self, duration_ms: u64) -> Option<Wish> {
        self.now_ms += duration_ms;
        self.hear(Event::Tick)
    }

    fn note(&self) -> &str {
        self.machine.note().unwrap_or_default()
    }

    fn message(&self) -> &str {
        match self.machine.view() {
            View::Message { text, .. } => text,
            other => panic!("no message: {other:?}"),
        }
    }
}

#[test]
fn cash_goes_out_only_after_the_hold_and_the_counting() {
    let mut bench = Bench::logged_in();
    bench.key(Key::Char('1'));
    bench.type_in("30.00");
    assert!(matches!(
        bench.key(Key::Enter),
        Some(Wish::Authorize(3_000))
    ));
    assert!(
        bench.pass_ms(COUNTING_MS * 2).is_none(),
        "nothing goes out before the answer"
    );
    assert!(bench.hear(done(Errand::Authorize(3_000))).is_none());
    assert!(bench.pass_ms(COUNTING_MS - 1).is_none());
    assert!(matches!(bench.pass_ms(1), Some(Wish::Dispense(3_000))));
    bench.hear(done(Errand::Capture(3_000)));
    assert_eq!(bench.message(), "30.00 USD. Your balance is 5.00 USD.");
}

#[test]
fn a_cancelled_withdrawal_frees_the_money_and_gives_no_cash() {
    let mut bench = Bench::logged_in();
    bench.key(Key::Char('1'));
    assert!(matches!(
        bench.key(Key::Enter),
        Some(Wish::Authorize(2_000))
    ));
    bench.hear(done(Errand::Authorize(2_000)));
    assert!(matches!(bench.key(Key::Esc), Some(Wish::Release)));
    assert!(
        bench.pass_ms(COUNTING_MS * 2).is_none(),
        "a cancelled withdrawal never dispenses"
    );
    bench.hear(done(Errand::Release));
    assert!(bench.message().contains("No cash was given out"));
}

#[test]
fn a_refused_or_expired_hold_gives_no_cash() {
    for code in [
        Code::InsufficientFunds,
        Code::OverLimit,
        Code::StorageUnavailable,
    ] {
        let mut bench = Bench::logged_in();
        bench.key(Key::Char('1'));
        bench.key(Key::Enter);
        bench.hear(refused(
            Errand::Authorize(2_000),
            code,
            Some(session(false)),
        ));
        assert!(matches!(bench.machine.view(), View::Menu { .. }));
        assert!(bench.note().ends_with('.'));
        assert!(bench.pass_ms(COUNTING_MS).is_none());
    }
    let mut bench = Bench::logged_in();
    bench.key(Key::Char('1'));
    bench.key(Key::Enter);
    let Event::Reply(mut reply) = done(Errand::Authorize(2_000)) else {
        panic!()
    };
    reply.cash = false;
    bench.hear(Event::Reply(reply));
    assert!(bench.message().contains("no cash was given out"));
}

#[test]
fn a_session_that_ends_while_notes_are_counted_frees_the_money() {
    let mut bench = Bench::logged_in();
    bench.key(Key::Char('1'));
    bench.key(Key::Enter);
    bench.hear(done(Errand::Authorize(2_000)));
    assert!(matches!(
        bench.hear(Event::News(News::SessionEnded)),
        Some(Wish::Release)
    ));
    bench.hear(reply(
        Errand::Release,
        Answer::done(Some(1), Members::default()),
        None,
    ));
    assert!(bench.message().contains("Your session has ended"));
    bench.key(Key::Enter);
    assert!(matches!(bench.machine.view(), View::Welcome { .. }));
}

#[test]
fn cash_that_is_out_is_never_taken_back_by_a_lost_connection() {
    let mut bench = Bench::logged_in();
    bench.key(Key::Char('1'));
    bench.key(Key::Enter);
    bench.hear(done(Errand::Authorize(2_000)));
    bench.pass_ms(COUNTING_MS);
    let outcome = Err("The connection to your bank was lost.");
    let lost = Reply {
        errand: Errand::Capture(2_000),
        outcome,
        session: None,
        cash: false,
        no_matches: 0,
        recovered: Vec::new(),
    };
    assert!(bench.hear(Event::Reply(Box::new(lost))).is_none());
    assert!(bench.message().contains("take your cash"));
}

#[test]
fn cash_that_did_not_go_out_since_it_could_not_be_written_down_is_told() {
    let mut bench = Bench::logged_in();
    bench.key(Key::Char('1'));
    bench.key(Key::Enter);
    bench.hear(done(Errand::Authorize(2_000)));
    assert!(bench.pass_ms(COUNTING_MS).is_some());
    bench.hear(done(Errand::Release));
    assert!(bench.message().contains("cannot give out cash"));
}

#[test]
fn cash_that_the_bank_does_not_book_is_told_as_what_becomes_of_it() {
    for (code, said) in [
        (Code::TooMany, "booked in a moment"),
        (Code::StorageUnavailable, "as soon as the bank is back"),
        (Code::NoHold, "your bank's staff"),
        (Code::InvalidAmount, "your bank's staff"),
    ] {
        let mut bench = Bench::logged_in();
        bench.hear(refused(Errand::Capture(2_000), code, Some(session(false))));
        assert!(bench.message().starts_with("Please take your cash."));
        assert!(bench.message().contains(said), "{code:?}");
    }
}

#[test]
fn a_transfer_and_a_deposit_ask_before_they_move_money() {
    let mut bench = Bench::logged_in();
    bench.key(Key::Char('3'));
    bench.type_in("aa00001");
    assert!(bench.key(Key::Enter).is_none());
    bench.type_in("1.50");
    assert!(bench.key(Key::Enter).is_none());
    assert!(matches!(
        bench.machine.view(),
        View::Confirm { amount: 150, .. }
    ));
    let to = "aa-00001".parse().unwrap();
    assert!(matches!(bench.key(Key::Enter), Some(Wish::Transfer(it, 150)) if it == to));

    let mut bench = Bench::logged_in();
    bench.key(Key::Char('2'));
    bench.key(Key::Down);
    bench.key(Key::Enter);
    assert!(bench.key(Key::Esc).is_none());
    assert!(bench.note().contains("Nothing was moved"));
}

#[test]
fn amounts_that_cannot_be_are_explained_and_ask_for_nothing() {
    let mut bench = Bench::logged_in();
    bench.key(Key::Char('1'));
    for text in ["5.5", "0", "..", "9999999999999999"] {
        bench.type_in(text);
        assert!(bench.key(Key::Enter).is_none(), "{text}");
        assert!(bench.note().contains("amount of USD"), "{text}");
        (0..20).for_each(|_| drop(bench.key(Key::Backspace)));
    }
}

#[test]
fn a_one_time_pin_leads_to_a_new_one_and_escape_leads_out() {
    let mut bench = Bench::new();
    bench.type_in("zz99999");
    bench.key(Key::Enter);
    bench.type_in("8264");
    bench.key(Key::Enter);
    let account = "zz-99999".parse().unwrap();
    let answer = Answer::done(Some(1), Members::default());
    bench.hear(reply(Errand::Login(account), answer, Some(session(true))));
    for pin in ["8264", "739105", "739106"] {
        bench.type_in(pin);
        assert!(bench.key(Key::Enter).is_none());
    }
    assert!(bench.note().contains("not the same"));
    for pin in ["8264", "739105"] {
        bench.type_in(pin);
        bench.key(Key::Enter);
    }
    bench.type_in("739105");
    assert!(matches!(bench.key(Key::Enter), Some(Wish::ChangePin(..))));
    bench.hear(refused(
        Errand::ChangePin,
        Code::PinRefused,
        Some(session(true)),
    ));
    assert!(bench.note().contains("easy to guess"));
    assert!(matches!(bench.key(Key::Esc), Some(Wish::LogOut)));
}

#[test]
fn a_customer_who_types_is_kept_logged_in_and_a_silent_one_is_not() {
    let mut bench = Bench::logged_in();
    bench.key(Key::Char('2'));
    assert!(bench.pass_ms(SESSION - 5_000).is_none());
    let stay = bench.key(Key::Char('5'));
    assert!(
        matches!(stay, Some(Wish::Balance(Errand::StayLoggedIn))),
        "{stay:?}"
    );
    assert!(bench.key(Key::Char('0')).is_none(), "it is asked once");
    bench.hear(done(Errand::StayLoggedIn));
    assert_eq!(bench.machine.idle_left_ms(), Some(SESSION));
    assert!(matches!(bench.machine.view(), View::Amount { text, .. } if text == "50"));

    assert!(
        bench.pass_ms(SESSION).is_none(),
        "the bank ends it, not this terminal"
    );
    assert!(matches!(bench.pass_ms(LATE_END_MS), Some(Wish::LogOut)));
}

#[test]
fn what_an_abandoned_customer_typed_is_wiped() {
    let mut bench = Bench::new();
    bench.type_in("zz99999");
    bench.key(Key::Enter);
    bench.type_in("82");
    bench.pass_ms(ABANDONED_MS);
    assert!(matches!(bench.machine.view(), View::Welcome { account } if account.is_empty()));
}

#[test]
fn news_and_refusals_lead_to_the_next_customer_in_plain_words() {
    for news in [
        News::SessionEnded,
        News::Closing(Code::GoingDown),
        News::Lost("x".into()),
    ] {
        let mut bench = Bench::logged_in();
        assert!(bench.hear(Event::News(news)).is_none());
        assert!(bench.message().ends_with('.'));
        assert!(bench.machine.session().is_none());
        bench.pass_ms(MESSAGE_MS);
        assert!(matches!(bench.machine.view(), View::Welcome { .. }));
    }
    let mut bench = Bench::logged_in();
    bench.key(Key::Char('4'));
    bench.hear(refused(Errand::Balance, Code::NotLoggedIn, None));
    assert!(bench.message().contains("session has ended"));
}

#[test]
fn what_became_of_an_earlier_request_is_read_first() {
    let mut bench = Bench::logged_in();
    let account = "zz-99999".parse().unwrap();
    let Event::Reply(mut reply) = done(Errand::Login(account)) else {
        panic!()
    };
    reply.recovered = vec!["Your last withdrawal of 50.00 USD went through.".into()];
    bench.hear(Event::Reply(reply));
    assert_eq!(
        bench.message(),
        "Your last withdrawal of 50.00 USD went through."
    );
    bench.key(Key::Enter);
    assert!(matches!(bench.machine.view(), View::Menu { .. }));
}

#[test]
fn earlier_entries_are_asked_for_behind_the_last_one() {
    use crate::wire::answer::HistoryLine;
    let page = |first: i64| {
        let line = |entry| HistoryLine {
            entry,
            at: "2026-01-01T00:00:00.000Z".into(),
            kind: "deposit".into(),
            amount: 1,
            balance: 1,
            terminal: "t".into(),
            counterparty: None,
        };
        let entries = (0..10).map(|index| line(first - index)).collect();
        let members = Members {
            entries: Some(entries),
            ..Members::default()
        };
        reply(
            Errand::History,
            Answer::done(Some(1), members),
            Some(session(false)),
        )
    };
    let mut bench = Bench::logged_in();
    assert!(matches!(
        bench.key(Key::Char('5')),
        Some(Wish::History(None))
    ));
    bench.hear(page(100));
    assert!(matches!(
        bench.key(Key::Char('m')),
        Some(Wish::History(Some(91)))
    ));
    bench.hear(page(90));
    let View::History { entries, top, .. } = bench.machine.view() else {
        panic!()
    };
    assert_eq!((entries.len(), *top), (20, 10));
}

fn any_event() -> impl Strategy<Value = Event> {
    let keys = prop_oneof![
        Just(Key::Enter),
        Just(Key::Esc),
        Just(Key::Up),
        Just(Key::Down),
        Just(Key::PageUp),
        Just(Key::PageDown),
        Just(Key::Backspace),
        "[a-z0-9.,-]".prop_map(|text| Key::Char(text.chars().next().unwrap())),
    ];
    prop_oneof![
        8 => keys.prop_map(Event::Key),
        2 => Just(()).prop_map(|()| Event::Tick),
        1 => Just(()).prop_map(|()| Event::News(News::SessionEnded)),
    ]
}

proptest! {
    /// However keys, time and answers come: cash goes out only for a hold that is open, and once.
    #[test]
    fn nothing_is_dispensed_without_an_open_hold(
        events in prop::collection::vec((any_event(), 0_u64..4_000, any::<bool>()), 1..200),
    ) {
        let mut bench = Bench::logged_in();
        let (mut open, mut waiting) = (None, None::<Wish>);
        for (event, passed_ms, answers) in events {
            if let (true, Some(wish)) = (answers, waiting.take()) {
                let errand = match &wish {
                    Wish::Login(account, _) => Errand::Login(*account),
                    Wish::Balance(errand) => *errand,
                    Wish::Authorize(minor) => { open = Some(*minor); Errand::Authorize(*minor) }
                    Wish::Dispense(minor) => Errand::Capture(*minor),
                    Wish::Release => { open = None; Errand::Release }
                    Wish::Deposit(minor) => Errand::Deposit(*minor),
                    Wish::Transfer(to, minor) => Errand::Transfer(*to, *minor),
                    Wish::History(_) => Errand::History,
                    Wish::ChangePin(..) => Errand::ChangePin,
                    Wish::LogOut => Errand::LogOut,
                };
                bench.hear(done(errand));
            }
            bench.now_ms += passed_ms;
            if let Some(wish) = bench.hear(event) {
                if let Wish::Dispense(minor) = &wish {
                    prop_assert_eq!(open.take(), Some(*minor));
                }
                waiting = Some(wish);
            }
        }
    }
}
