//! Killed under load, again and again: what was acknowledged is there once, and what was not is
//! settled by repeating it under its key.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinSet;

use crate::support::customer::{self, Customer, Dice, Progress};
use crate::support::{Site, until_async};

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// One life of a server: load, then the kill in the middle of it.
async fn crash_once(site: &Site, customers: Vec<Customer>, dice: &mut Dice) -> Vec<Customer> {
    let server = site.start();
    let progress = Arc::new(Progress::default());
    let mut working = JoinSet::new();
    for mut customer in customers {
        let (card, address) = (server.card(&customer.terminal()), server.address);
        let progress = Arc::clone(&progress);
        working.spawn(async move {
            if let Some(mut terminal) = customer.enter(address, &card).await {
                customer.work(&mut terminal, &progress).await;
            }
            customer
        });
    }
    let enough = 30 + usize::try_from(dice.below(150)).unwrap();
    until_async("load", async || {
        let served = progress.served.load(Ordering::Relaxed);
        (served >= enough || working.is_empty()).then_some(())
    })
    .await;
    server.kill();
    let mut customers = working.join_all().await;
    customers.sort_by_key(|customer| customer.number);
    customers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_often_the_server_is_killed_no_acknowledged_money_is_lost_or_doubled() {
    let seed = number_of("CRASH_SEED").unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1);
    let rounds = number_of("CRASH_ROUNDS").unwrap_or(5);
    println!("CRASH_SEED={seed} CRASH_ROUNDS={rounds}");
    let site = Site::bare(&[]);
    let mut customers = customer::open_accounts(&site, seed);
    let mut dice = Dice(seed);
    for _ in 0..rounds {
        customers = crash_once(&site, customers, &mut dice).await;
    }
    let unknown = customers.iter().map(|customer| customer.unknown.len());
    let unknown: usize = unknown.sum();
    let server = site.start();
    customer::audit(&site, &server, &mut customers, 0).await;
    let survived: usize = customers.iter().map(|customer| customer.survived).sum();
    println!("{unknown} unknown after the last crash; {survived} had been done before a crash");
    server.stop();
    site.verify();
}
