//! `clock accept`: what staff saw is what they take.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use atm_bank::config::Config;
use atm_bank::operator::Command;
use atm_bank::service::{Stop, exit, perform};
use serde_json::Value;

use super::{say, show};

/// What would expire is told first; whoever is asked must say so. How far the wall clock was ahead then
/// goes with the order, so that another time than was shown is not taken.
pub(crate) async fn accept_clock(config: &Config, yes: bool, json: bool) -> Result<u8, Stop> {
    let told = perform(config, Command::Clock).await?;
    if told.exit_code != 0 {
        return show(&told, json);
    }
    say(&told.text);
    if !yes {
        if json || !io::stdin().is_terminal() {
            let reason = "this cannot be undone; add --yes to accept the wall clock";
            return Err(Stop::new(exit::USAGE, reason));
        }
        say("Take the wall clock's time? Type yes:");
        let mut answer = String::new();
        let read = io::stdin().lock().take(64).read_line(&mut answer);
        if read.is_err() || answer.trim() != "yes" {
            return Err(Stop::new(exit::DATA, "nothing was changed"));
        }
    }
    let wall_ahead_ms = told.data.get("wall_ahead_ms").and_then(Value::as_i64);
    show(
        &perform(config, Command::AcceptClock { wall_ahead_ms }).await?,
        json,
    )
}
