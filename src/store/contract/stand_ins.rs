//! Unknown numbers look like the real ones: somebody who has many terminals, tries whatever they
//! like and reads every code and every time learns of no number whether it exists.

use std::collections::BTreeMap;

use super::rig::*;
use crate::access::pepper::Peppers;
use crate::access::pin::{HashError, Kiln, PinHasher};
use crate::domain::Pin;
use crate::store::{Act, Done, NewAccount, TryCounted};
use crate::surroundings::System;

super::on_every_store! {
    what_codes_and_times_tell_of_a_home_is_the_same_of_unknown_numbers_as_of_real_ones
    a_stand_in_that_moves_shows_on_no_number_that_is_being_tried
    an_unknown_number_has_a_budget_at_its_borrowed_home_and_one_elsewhere
    unknown_closed_and_void_numbers_cost_what_the_stores_own_hashes_cost
    in_a_store_without_accounts_a_number_has_no_home_and_the_present_cost
}

const TERMINALS: [&str; 5] = ["t-1", "t-2", "t-3", "t-4", "t-5"];
/// How many real numbers have their home there, in a hundred; the others have none.
const HOMES: [(&str, u32); 4] = [("t-1", 40), ("t-2", 20), ("t-3", 10), ("t-6", 15)];

fn real(index: u32) -> String {
    format!("aa-{index:05}")
}

fn unknown(index: u32) -> String {
    format!("qq-{index:05}")
}

async fn open_bank(rig: &mut Rig, count: u32) {
    let hash = rig.hash(PIN, CHEAP);
    let account = |index| NewAccount {
        number: number(&real(index)),
        hash: hash.clone(),
        balance: 0,
        demo: false,
    };
    rig.act(Act::Open((0..count).map(account).collect())).await;
    for index in 0..count {
        let mut share = index % 100;
        for (home, weight) in HOMES {
            if share < weight {
                visit(rig, index, home).await;
                break;
            }
            share -= weight;
        }
    }
}

/// A customer is at a terminal for a while.
async fn visit(rig: &mut Rig, index: u32, terminal: &'static str) {
    rig.terminal = terminal;
    let claim = rig.log_in(&real(index)).await;
    rig.log_out(claim);
}

/// Four wrong PINs at each terminal, a second apart, then what each says at last: all that can be
/// learned of a number.
async fn probe(rig: &mut Rig, account: &str) -> String {
    let mut heard = String::new();
    for terminal in TERMINALS {
        rig.terminal = terminal;
        for _ in 0..4 {
            rig.advance(SECOND);
            heard += &answer(rig, account).await;
        }
    }
    heard + &ask_again(rig, account).await
}

async fn ask_again(rig: &mut Rig, account: &str) -> String {
    let mut heard = String::new();
    for terminal in TERMINALS {
        rig.terminal = terminal;
        heard += &answer(rig, account).await;
    }
    heard
}

async fn answer(rig: &Rig, account: &str) -> String {
    match rig.count_try(account).await {
        TryCounted::Check(ticket) if ticket.is_last() => "looked at, the last, ".to_owned(),
        TryCounted::Check(_) => "looked at, ".to_owned(),
        TryCounted::LockedOut(after) => format!("locked {after:?}, "),
        TryCounted::Forged => "forged, ".to_owned(),
        TryCounted::TableFull => "full, ".to_owned(),
    }
}

/// How often each story was heard.
async fn stories(rig: &mut Rig, accounts: impl Iterator<Item = String>) -> BTreeMap<String, u32> {
    let mut heard = BTreeMap::new();
    for account in accounts {
        *heard.entry(probe(rig, &account).await).or_insert(0) += 1;
    }
    heard
}

async fn what_codes_and_times_tell_of_a_home_is_the_same_of_unknown_numbers_as_of_real_ones(
    mut rig: Rig,
) {
    const NUMBERS: u32 = 600;
    // Each story's share may differ by so much: four standard deviations of the largest.
    const TOLERANCE: f64 = 0.08;
    rig.terms.try_rows_max = 10_000;
    open_bank(&mut rig, NUMBERS).await;
    let of_real = stories(&mut rig, (0..NUMBERS).map(real)).await;
    let of_unknown = stories(&mut rig, (0..NUMBERS).map(unknown)).await;
    // Homes at three terminals that are tried, and one or none that is not.
    assert_eq!(of_real.len(), 4, "{of_real:#?}");
    for (story, count) in &of_unknown {
        let Some(real) = of_real.get(story) else {
            panic!("only unknown numbers tell {story}");
        };
        let share = |count: u32| f64::from(count) / f64::from(NUMBERS);
        let off = (share(*count) - share(*real)).abs();
        assert!(off < TOLERANCE, "{count} unknown, {real} real: {story}");
    }
    assert_eq!(of_unknown.len(), of_real.len());
}

async fn a_stand_in_that_moves_shows_on_no_number_that_is_being_tried(mut rig: Rig) {
    rig.terms.try_rows_max = 10_000;
    open_bank(&mut rig, 20).await;
    for index in 0..40 {
        probe(&mut rig, &unknown(index)).await;
    }
    let before: Vec<String> = ask_all(&mut rig).await;
    for index in 0..20 {
        visit(&mut rig, index, "t-4").await;
    }
    rig.open(ANNE, 0).await;
    assert_eq!(ask_all(&mut rig).await, before);
}

async fn ask_all(rig: &mut Rig) -> Vec<String> {
    let mut heard = Vec::new();
    for index in 0..40 {
        heard.push(ask_again(rig, &unknown(index)).await);
    }
    heard
}

async fn an_unknown_number_has_a_budget_at_its_borrowed_home_and_one_elsewhere(mut rig: Rig) {
    rig.open(ANNE, 0).await;
    visit_as(&mut rig, ANNE, "t-1").await;
    rig.open(BERT, 0).await;
    rig.set_pin(BERT, PIN, Some(rig.context().now)).await;
    rig.open("zz-00003", 0).await;
    let closed = rig.act(Act::Close(number("zz-00003"))).await;
    assert!(matches!(closed, Done::Yes));
    // Of two open accounts one has a home; the numbers without an account, with a closed one and
    // with a PIN that has run out look like either.
    let mut with_home = 0;
    let unknown = (0..40).map(unknown);
    for account in unknown.chain([BERT.to_owned(), "zz-00003".to_owned()]) {
        let heard = probe(&mut rig, &account).await;
        let looked_at = heard.matches("looked at").count();
        assert!([3, 6].contains(&looked_at), "{heard}");
        with_home += usize::from(looked_at == 6);
    }
    assert!((8..34).contains(&with_home), "{with_home} of 42");
}

async fn visit_as(rig: &mut Rig, account: &str, terminal: &'static str) {
    rig.terminal = terminal;
    let claim = rig.log_in(account).await;
    rig.log_out(claim);
}

/// Two hashes in the store, of which one was made with a pepper that is lost: what it costs to
/// check it is an error that shows.
async fn unknown_closed_and_void_numbers_cost_what_the_stores_own_hashes_cost(rig: Rig) {
    let lost = std::sync::Arc::new(Peppers::generate(&System::default()));
    let mut kiln = Kiln::new(lost, CHEAP);
    let hash = kiln.hash(&Pin::parse(PIN).unwrap(), &System::default());
    rig.open(ANNE, 0).await;
    let old = NewAccount {
        number: number(BERT),
        hash: hash.unwrap(),
        balance: 0,
        demo: false,
    };
    rig.act(Act::Open(vec![old])).await;
    for index in 0..200 {
        rig.open(&real(index), 0).await;
        let closed = rig.act(Act::Close(number(&real(index)))).await;
        assert!(matches!(closed, Done::Yes));
    }
    let fails = failing(&rig, (0..200).map(unknown)).await;
    assert!((70..130).contains(&fails), "{fails} of 200 unknown");
    let fails = failing(&rig, (0..200).map(real)).await;
    assert!((70..130).contains(&fails), "{fails} of 200 closed");
}

async fn failing(rig: &Rig, accounts: impl Iterator<Item = String>) -> usize {
    let peppers = std::sync::Arc::clone(&rig.peppers);
    let hasher = PinHasher::start(peppers, CHEAP, 1, std::sync::Arc::new(System::default()));
    let hasher = hasher.unwrap();
    let mut fails = 0;
    for account in accounts {
        let TryCounted::Check(ticket) = rig.count_try(&account).await else {
            panic!("{account} is locked");
        };
        let place = hasher.place().unwrap();
        match place.verify(ticket, Pin::parse(PIN).unwrap()).await {
            Ok(proof) => assert!(proof.is_none()),
            Err(HashError::NoPepper(_)) => fails += 1,
            Err(error) => panic!("{error}"),
        }
    }
    fails
}

async fn in_a_store_without_accounts_a_number_has_no_home_and_the_present_cost(mut rig: Rig) {
    let heard = probe(&mut rig, NOBODY).await;
    assert_eq!(heard.matches("looked at").count(), 3, "{heard}");
    assert!(rig.try_pin(BERT, PIN).await.unwrap().is_none());
}
