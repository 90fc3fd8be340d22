//! Integration tests: the real programs, over real sockets, in folders of their own.
//!
//! Each test starts what it needs through [`support`] on a port of its own, so that all run side by
//! side. Nothing sleeps to let something happen: every wait polls, and has a deadline.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test fails by panicking, and prints what repeats it"
)]

mod acts;
mod answers;
mod attack;
mod audit;
mod bounds;
mod budgets;
mod canary;
mod certificates;
mod clock;
mod confinement;
mod crash;
mod disk;
mod enrolment;
mod enumeration;
mod escapes;
mod foreign;
mod handshakes;
mod house;
mod identity;
mod life;
mod limits;
mod lockout;
mod peppers;
mod rotation;
mod serving;
mod sessions;
mod silence;
mod size;
mod spray;
mod staff;
mod start;
mod support;
mod tampering;
mod terminal;
mod traces;
