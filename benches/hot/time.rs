//! How long each hot path takes here and now: `cargo bench --bench hot_time`. On a busy machine
//! the times differ by tens of percent; what is compared from change to change are instructions
//! (`.ci/instructions`).
//!
//! By divan, because it brings four small crates where criterion brings twenty.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on stops"
)]

mod paths;

use divan::Bencher;
use divan::counter::ItemsCount;

use crate::paths::{
    Counter, deposit_answer, deposit_request, encode, frame_decode, history_answer, parse, payload,
    pipelined, transfer_request,
};
use atm_bank::wire::answer::Answer;
use atm_bank::wire::request::Request;

#[divan::bench(name = "frame_decode (16 frames)")]
fn decode(bencher: Bencher<'_, '_>) {
    let bytes = pipelined();
    let frames = ItemsCount::new(frame_decode(&bytes));
    bencher.counter(frames).bench_local(|| frame_decode(&bytes));
}

#[divan::bench(name = "parse", args = ["balance", "deposit", "transfer"])]
fn parse_request(bencher: Bencher<'_, '_>, op: &str) {
    let request = match op {
        "balance" => Request::Balance,
        "deposit" => deposit_request(),
        _ => transfer_request(),
    };
    let payload = payload(&request);
    bencher.bench_local(|| parse(&payload));
}

#[divan::bench]
fn post_deposit(bencher: Bencher<'_, '_>) {
    let mut counter = Counter::open();
    bencher.bench_local(|| counter.deposit());
}

#[divan::bench]
fn post_transfer(bencher: Bencher<'_, '_>) {
    let mut counter = Counter::open();
    bencher.bench_local(|| counter.transfer());
}

#[divan::bench(sample_size = 100)]
fn encode_deposit(bencher: Bencher<'_, '_>) {
    encoding(bencher, &deposit_answer());
}

#[divan::bench(name = "encode_history (10 lines)", sample_size = 100)]
fn encode_history(bencher: Bencher<'_, '_>) {
    encoding(bencher, &history_answer());
}

fn encoding(bencher: Bencher<'_, '_>, answer: &Answer) {
    let mut out = Vec::new();
    bencher.bench_local(|| encode(answer, &mut out));
}

fn main() {
    divan::main();
}
