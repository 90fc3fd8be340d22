//! The contract that every store keeps: one suite, run on each of them.
//!
//! [`Rig`] is a bank with a clock that stands until it is moved. Each test is written once, as a
//! function of a rig, and runs on the reference model and on the embedded store.

mod access;
mod balances;
mod bounds;
mod claims;
mod clock;
mod commits;
mod covered;
mod enrolment;
mod flips;
mod holds;
mod journal;
mod ledger;
mod mending;
mod migration;
mod office;
mod orders;
mod peppers;
mod records;
mod rig;
mod schema;
mod sqlite;
mod stand_ins;
mod tampering;
mod wal;

/// Runs every test named on every store.
macro_rules! on_every_store {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::$name($crate::store::contract::rig::Rig::memory()).await; })*
        }
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name($crate::store::contract::rig::Rig::sqlite()).await; })*
        }
    };
}
use on_every_store;
