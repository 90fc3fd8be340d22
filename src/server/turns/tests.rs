//! Who goes first.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;

use tokio::task::{LocalSet, yield_now};

use super::*;

const NO_END: u64 = u64::MAX;

fn turns(at_once: usize) -> Arc<Turns> {
    Turns::new(Clock::start(), at_once, Arc::default())
}

/// A ration that has used more than its part.
fn heavy(turns: &Turns) -> Arc<Ration> {
    let ration = Arc::new(Ration::default());
    for _ in 0..60 {
        ration.work.take(0, turns.part, 1_000_000_000, NO_END);
    }
    ration
}

/// Works in `pieces`, and writes its name down at each.
async fn work(
    turns: Arc<Turns>,
    ration: Arc<Ration>,
    (name, pieces): (char, usize),
    log: Rc<RefCell<String>>,
) {
    let payer = Payer::new(ration);
    let work = pin!(async {
        for _ in 0..pieces {
            log.borrow_mut().push(name);
            yield_now().await;
        }
    });
    turns.take(&payer, work).await;
}

async fn logged(who: Vec<(Arc<Ration>, char, usize)>, turns: &Arc<Turns>) -> String {
    let log = Rc::new(RefCell::new(String::new()));
    let together = LocalSet::new();
    for (ration, name, pieces) in who {
        let work = work(Arc::clone(turns), ration, (name, pieces), Rc::clone(&log));
        together.spawn_local(work);
    }
    together.await;
    log.take()
}

/// Pieces of others' work between two of `name`'s, at most.
fn longest_wait(log: &str, name: char) -> usize {
    let waits = log.split(name).map(str::len);
    waits.rev().skip(1).max().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn who_used_less_waits_for_no_crowd_of_those_who_used_more() {
    let turns = turns(2);
    tokio::time::advance(limits::LIGHTER_REMEMBERED).await;
    let (crowd, light) = (heavy(&turns), Arc::new(Ration::default()));
    let mut who = vec![(light, 'l', 50)];
    who.extend((0..1_000).map(|_| (Arc::clone(&crowd), 'h', 5)));
    let log = logged(who, &turns).await;
    assert!(longest_wait(&log, 'l') <= 4, "{}", longest_wait(&log, 'l'));
    assert_eq!(log.len(), 50 + 5_000);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_used_more_each_has_its_turn_however_many_connections_it_has() {
    let turns = turns(1);
    tokio::time::advance(limits::LIGHTER_REMEMBERED).await;
    let (crowd, single) = (heavy(&turns), heavy(&turns));
    let light = Arc::new(Ration::default());
    let mut who = vec![(light, 'l', 1), (single, 's', 50)];
    who.extend((0..1_000).map(|_| (Arc::clone(&crowd), 'h', 5)));
    let log = logged(who, &turns).await;
    assert!(longest_wait(&log, 's') <= 4, "{}", longest_wait(&log, 's'));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_where_nobody_used_less_lately() {
    let turns = turns(1);
    tokio::time::advance(limits::LIGHTER_REMEMBERED).await;
    let crowd = heavy(&turns);
    assert!(!turns.must_wait(&crowd));
    assert!(!turns.must_wait(&Ration::default()));
    assert!(turns.must_wait(&crowd));
    tokio::time::advance(limits::LIGHTER_REMEMBERED).await;
    assert!(!turns.must_wait(&crowd));
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_somebody_who_is_gone_goes_to_the_next() {
    let turns = turns(1);
    let ration = heavy(&turns);
    let first = turns.line_up(&ration).ok().unwrap();
    let gone: Vec<_> = (0..10_000).map(|_| turns.line_up(&ration)).collect();
    let next = turns.line_up(&ration).err().unwrap();
    drop(gone);
    drop(first);
    let next = next.await.unwrap();
    drop(next);
    assert!(turns.line_up(&ration).is_ok());
    assert!(turns.line().waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_used_is_forgotten_in_time() {
    let turns = turns(1);
    let ration = Ration::default();
    let began = Instant::now();
    tokio::time::advance(limits::PROCESSOR_AT_ONCE / 2).await;
    turns.used(&ration, began);
    assert!(
        !ration
            .work
            .is_over(turns.clock.ticks(Instant::now()), turns.part)
    );
    tokio::time::advance(limits::PROCESSOR_DEBT_MAX * 1_000).await;
    turns.used(&ration, began);
    assert!(
        ration
            .work
            .is_over(turns.clock.ticks(Instant::now()), turns.part)
    );
    tokio::time::advance(limits::PROCESSOR_DEBT_MAX).await;
    assert!(
        !ration
            .work
            .is_over(turns.clock.ticks(Instant::now()), turns.part)
    );
}
