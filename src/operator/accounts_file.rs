//! The classic accounts file: a line each of account, PIN and balance.
//!
//! ```text
//! # comment
//! ac-12345, 1324, 1024.32
//! ```
//!
//! Read as a whole or not at all. What is wrong is named by line and reason, never with a PIN.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::domain::money::{BALANCE_MAX, Opening};
use crate::domain::{AccountNumber, Currency, Pin};
use crate::limits;

/// A line that was understood.
#[derive(Debug)]
pub struct AccountLine {
    /// The account's number.
    pub number: AccountNumber,
    /// Its PIN, weak or not.
    pub pin: Pin,
    /// Its opening balance, minor units.
    pub balance: i64,
}

/// A line that was not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct BadLine {
    /// Which, from 1.
    pub line: usize,
    /// Why, without anything of its PIN.
    pub reason: String,
}

/// Bad lines that are named; more are counted.
const BAD_LINES_MAX: usize = 50;
/// The longest line, in bytes.
const LINE_BYTES_MAX: usize = 200;

/// Reads a whole file.
///
/// # Errors
/// Every line that is wrong, up to a bound.
pub fn parse(bytes: &[u8], currency: Currency) -> Result<Vec<AccountLine>, Vec<BadLine>> {
    let (mut accounts, mut bad) = (Vec::new(), Vec::new());
    let mut seen: HashMap<AccountNumber, usize> = HashMap::new();
    for (index, raw) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = index.saturating_add(1);
        let parsed = parse_line(raw, currency).and_then(|account| {
            let Some(account) = account else {
                return Ok(None);
            };
            match seen.entry(account.number) {
                Entry::Occupied(first) => {
                    Err(format!("the account stands in line {} too", first.get()))
                }
                Entry::Vacant(place) => {
                    place.insert(line);
                    Ok(Some(account))
                }
            }
        });
        match parsed {
            Ok(account) => accounts.extend(account),
            Err(reason) if bad.len() < BAD_LINES_MAX => bad.push(BadLine { line, reason }),
            Err(_) => break,
        }
    }
    if bad.is_empty() {
        Ok(accounts)
    } else {
        Err(bad)
    }
}

fn parse_line(raw: &[u8], currency: Currency) -> Result<Option<AccountLine>, String> {
    if raw.len() > LINE_BYTES_MAX {
        return Err(format!("longer than {LINE_BYTES_MAX} bytes"));
    }
    let text = std::str::from_utf8(raw).map_err(|_| "not UTF-8".to_owned())?;
    if text.starts_with('\u{feff}') {
        return Err("begins with a byte-order mark; save the file as UTF-8 without one".to_owned());
    }
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err("holds a control character".to_owned());
    }
    let text = text
        .split('#')
        .next()
        .unwrap_or_default()
        .trim_matches([' ', '\t']);
    if text.is_empty() {
        return Ok(None);
    }
    let fields: Vec<&str> = text
        .split(',')
        .map(|field| field.trim_matches([' ', '\t']))
        .collect();
    let [number, pin, balance] = fields.as_slice() else {
        return Err(format!(
            "has {} fields, not account, PIN and balance",
            fields.len()
        ));
    };
    let number = number
        .parse::<AccountNumber>()
        .map_err(|error| error.to_string())?;
    let pin = Pin::parse(pin).map_err(|error| error.to_string())?;
    let balance = currency
        .parse_exact(balance)
        .filter(|balance| *balance <= BALANCE_MAX)
        .ok_or_else(|| {
            format!(
                "the balance is not digits, or digits, a point and {} decimals, of at most {}",
                currency.decimals(),
                currency.format(BALANCE_MAX)
            )
        })?;
    Ok(Some(AccountLine {
        number,
        pin,
        balance,
    }))
}

/// Why so many accounts are not opened.
pub const TOO_MUCH: &str = "too much for a running server; stop it and import again";

/// Whether these accounts, by their balances, are too many to be opened while customers are served: all
/// or none is one transaction, and they would wait for it.
#[must_use]
pub fn is_too_much(balances: impl Iterator<Item = i64>) -> bool {
    let entries = |balance| Opening::new(balance).map_or(0, |all| all.parts().count());
    let rows = balances.map(|balance| entries(balance).saturating_add(1));
    rows.fold(0_usize, usize::saturating_add) > limits::OPEN_ROWS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd() -> Currency {
        "USD".parse().unwrap()
    }

    fn bad(text: &[u8]) -> Vec<(usize, String)> {
        parse(text, usd())
            .unwrap_err()
            .into_iter()
            .map(|bad| (bad.line, bad.reason))
            .collect()
    }

    #[test]
    fn the_demo_file_is_read_in_any_case_with_comments_and_blanks() {
        let text = b"# demo\n\n  AC-12345 ,1324,1024.32  # first\r\nzz-99999, 9999, 655\n";
        let accounts = parse(text, usd()).unwrap();
        let seen: Vec<_> = accounts
            .iter()
            .map(|a| (a.number.to_string(), a.balance))
            .collect();
        assert_eq!(
            seen,
            [
                ("ac-12345".to_owned(), 102_432),
                ("zz-99999".to_owned(), 65_500)
            ]
        );
    }

    #[test]
    fn every_bad_line_is_named_by_number_and_reason_and_never_with_its_pin() {
        let text =
            b"zz-99999, 7391, 1.00\nzz-99999, 7391, 1.00\nzz-9999, 7391, 1\nzz-11111, 739, 1\n\
            zz-11112, 7391\nzz-11113, 7391, 1, 2\nzz-11114, 7391, -1.00\nzz-11115, 7391, 1.0\n\
            zz-11116, 7391, 1e3\nzz-11117, 7391, 99999999999999999999\n\xffz-11118, 7391, 1\n\
            \xef\xbb\xbfzz-11119, 7391, 1\nzz-1112\x1b0, 7391, 1\nzz-11121, 73a91, 1.00\n";
        let bad = bad(text);
        assert_eq!(
            bad.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
            (2..=14).collect::<Vec<_>>()
        );
        assert!(
            bad.iter()
                .all(|(_, reason)| !reason.contains("7391") && !reason.contains("739")),
            "{bad:?}"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes, usd());
        }
    }
}
