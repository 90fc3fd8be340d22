//! The file that accounts are imported from.

use std::collections::BTreeSet;

use super::Input;
use crate::domain::money::BALANCE_MAX;
use crate::domain::{AccountNumber, Currency};
use crate::operator::accounts_file::{AccountLine, BadLine, parse};

/// Currencies with two decimals, none, and three.
const CURRENCIES: [&str; 3] = ["USD", "JPY", "KWD"];

type Parsed = Result<Vec<AccountLine>, Vec<BadLine>>;

/// Reads a file of accounts. The bytes: a currency, and the file.
///
/// # Panics
/// Where accounts are accepted that break the file's own rules or are not read the same once
/// written, and where a refusal is another for another PIN: then it tells something of it.
pub fn accounts_file(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let currency = input.pick(&CURRENCIES).parse().expect("a currency");
    let file = input.rest();
    let parsed = parse(file, currency);
    tells_nothing_of_a_pin(file, currency, &parsed);
    match parsed {
        Ok(accounts) => reads_the_same_once_written(&accounts, currency),
        Err(bad) => assert!(!bad.is_empty(), "refused without a reason"),
    }
}

fn reads_the_same_once_written(accounts: &[AccountLine], currency: Currency) {
    let mut file = Vec::new();
    let mut numbers = BTreeSet::<AccountNumber>::new();
    for account in accounts {
        assert!(numbers.insert(account.number), "one account twice");
        assert!((0..=BALANCE_MAX).contains(&account.balance), "out of range");
        let balance = currency.format(account.balance);
        file.extend_from_slice(format!("{},", account.number).as_bytes());
        file.extend_from_slice(account.pin.digits());
        file.extend_from_slice(format!(",{balance}\n").as_bytes());
    }
    let again = parse(&file, currency).expect("what was accepted is refused once written");
    assert_eq!(again.len(), accounts.len());
    for (one, other) in accounts.iter().zip(&again) {
        assert_eq!((one.number, one.balance), (other.number, other.balance));
        assert_eq!(one.pin.digits(), other.pin.digits());
    }
}

/// With every digit where a PIN stands changed, the file is accepted or refused in the same words.
fn tells_nothing_of_a_pin(file: &[u8], currency: Currency, parsed: &Parsed) {
    let lines = file.split(|byte| *byte == b'\n').map(with_another_pin);
    let other = lines.collect::<Vec<_>>().join(&b'\n');
    match (parsed, parse(&other, currency)) {
        (Ok(one), Ok(other)) => assert_eq!(one.len(), other.len()),
        (Err(one), Err(other)) => assert_eq!(*one, other, "a refusal depends on a PIN"),
        _ => panic!("whether a file is accepted depends on a PIN's digits"),
    }
}

/// The second of three fields may be a PIN; in a line of other fields any may.
fn with_another_pin(line: &[u8]) -> Vec<u8> {
    let end = line.iter().position(|byte| *byte == b'#');
    let (told, comment) = line.split_at(end.unwrap_or(line.len()));
    let fields = told.split(|byte| *byte == b',').count();
    let mut field = 0;
    let mut changed: Vec<u8> = Vec::with_capacity(line.len());
    for byte in told {
        field += usize::from(*byte == b',');
        let may_be_pin = fields != 3 || field == 1;
        changed.push(match byte {
            b'0'..=b'9' if may_be_pin => b'0' + (byte - b'0' + 3) % 10,
            byte => *byte,
        });
    }
    changed.extend_from_slice(comment);
    changed
}
