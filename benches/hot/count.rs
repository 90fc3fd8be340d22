//! Goes one hot path so many times and does nothing else, for a counter of instructions around it:
//! `.ci/instructions`. Without a path it prints which there are.
//!
//! Not gungraun: its runner is two hundred crates, must be of exactly its version, and compares by
//! percent only with a run that the machine has kept, where a gate needs numbers in the tree.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::panic,
    reason = "a measurement that cannot go on stops"
)]

mod paths;

use std::hint::black_box;

use clap::Parser;

use crate::paths::{
    Counter, deposit_answer, deposit_request, encode, frame_decode, history_answer, parse, payload,
    pipelined, transfer_request,
};
use atm_bank::wire::answer::Answer;
use atm_bank::wire::request::Request;

/// Goes one hot path.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which; without it the names are printed, each with how often it is to be gone.
    #[arg(long)]
    path: Option<String>,
    /// How often, besides the rounds that warm up.
    #[arg(long, default_value_t = 1)]
    times: u64,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Rounds before those that are asked for: buffers have grown then, and statements are prepared.
const WARM_UP: u64 = 50;

/// A path, made ready to be gone once at each call.
type Round = Box<dyn FnMut()>;

struct Path {
    name: &'static str,
    /// How often it is to be gone, so that what happens now and then (a journal is folded into its
    /// file, a page of an index is split) has its share, and start-up's chance none.
    times: u64,
    ready: fn() -> Round,
}

const PATHS: [Path; 8] = [
    path("frame_decode", 4_000, decoding),
    path("parse_balance", 4_000, || parsing(&Request::Balance)),
    path("parse_deposit", 4_000, || parsing(&deposit_request())),
    path("parse_transfer", 4_000, || parsing(&transfer_request())),
    path("post_deposit", 1_000, || {
        posting(|counter| counter.deposit())
    }),
    path("post_transfer", 1_000, || {
        posting(|counter| counter.transfer())
    }),
    path("encode_deposit", 4_000, || encoding(deposit_answer())),
    path("encode_history", 4_000, || encoding(history_answer())),
];

const fn path(name: &'static str, times: u64, ready: fn() -> Round) -> Path {
    Path { name, times, ready }
}

fn decoding() -> Round {
    let bytes = pipelined();
    Box::new(move || {
        black_box(frame_decode(&bytes));
    })
}

fn parsing(request: &Request) -> Round {
    let payload = payload(request);
    Box::new(move || {
        black_box(parse(&payload));
    })
}

fn encoding(answer: Answer) -> Round {
    let mut out = Vec::new();
    Box::new(move || encode(&answer, &mut out))
}

fn posting<T: 'static>(post: fn(&mut Counter) -> T) -> Round {
    let mut counter = Counter::open();
    Box::new(move || {
        black_box(post(&mut counter));
    })
}

fn main() {
    let arguments = Arguments::parse();
    let Some(name) = arguments.path else {
        for path in &PATHS {
            println!("{} {}", path.name, path.times);
        }
        return;
    };
    let path = PATHS.iter().find(|path| path.name == name).unwrap();
    let mut round = (path.ready)();
    for _ in 0..WARM_UP {
        round();
    }
    counted_rounds(&mut round, arguments.times);
}

/// Counters are set to 0 where this begins, which they find by its name: seeding the generator of
/// random numbers costs more than all else, and never the same.
#[inline(never)]
fn counted_rounds(round: &mut Round, times: u64) {
    for _ in 0..times {
        round();
    }
}
