//! Asks staff for a PIN, which is never an argument.

use std::io::{self, IsTerminal as _, Read as _};

use atm_bank::domain::Pin;
use atm_bank::service::{Stop, exit};
use zeroize::Zeroizing;

/// Asked for twice at a terminal; else the first line of standard input.
pub(crate) fn ask_pin() -> Result<Pin, Stop> {
    if !io::stdin().is_terminal() {
        return ask_pin_once("PIN: ");
    }
    let first = prompt("PIN: ")?;
    if first != prompt("PIN again: ")? {
        return Err(Stop::new(exit::DATA, "the two PINs differ"));
    }
    parse_pin(&first)
}

/// Asked for once at a terminal; else the first line of standard input.
pub(crate) fn ask_pin_once(words: &str) -> Result<Pin, Stop> {
    if io::stdin().is_terminal() {
        return parse_pin(&prompt(words)?);
    }
    let mut text = Zeroizing::new(String::new());
    io::stdin()
        .take(1_024)
        .read_to_string(&mut text)
        .map_err(pin_unread)?;
    parse_pin(text.lines().next().unwrap_or_default())
}

fn prompt(words: &str) -> Result<Zeroizing<String>, Stop> {
    rpassword::prompt_password(words)
        .map(Zeroizing::new)
        .map_err(pin_unread)
}

fn pin_unread(error: io::Error) -> Stop {
    Stop::new(exit::IO, format!("cannot read the PIN: {error}"))
}

fn parse_pin(text: &str) -> Result<Pin, Stop> {
    Pin::parse(text.trim()).map_err(|error| Stop::new(exit::DATA, error.to_string()))
}
