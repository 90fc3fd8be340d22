//! Hashing the PINs that staff bring: on all cores, before anything is sent anywhere.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use zeroize::Zeroizing;

use super::open::{no_store, peppers, sqlite_path};
use super::questions;
use super::stop::{Stop, exit};
use crate::access::pin::Kiln;
use crate::config::Config;
use crate::domain::{AccountNumber, Pin};
use crate::durable;
use crate::operator::accounts_file::AccountLine;
use crate::operator::{HashText, OpenAccount, TOO_MUCH, is_too_much};
use crate::surroundings::{Surroundings, System};

/// Refuses what a running server would refuse, before any PIN is hashed.
///
/// # Errors
/// [`Stop`] where a server runs that would not take so much at once.
pub fn refuse_too_much(config: &Config, lines: &[AccountLine]) -> Result<(), Stop> {
    let balances = lines.iter().map(|line| line.balance);
    match questions::is_running(config) && is_too_much(balances) {
        true => Err(Stop::new(exit::DATA, TOO_MUCH)),
        false => Ok(()),
    }
}

/// Hashes the PINs of `lines`; `done` is called once for each, from any thread. The accounts are marked
/// as demo accounts where `demo` says so, and those with the public PINs of the demo in any case.
///
/// # Errors
/// [`Stop`] where the pepper is missing or hashing fails.
pub fn hash_accounts(
    config: &Config,
    lines: &[AccountLine],
    demo: bool,
    done: &(dyn Fn() + Sync),
) -> Result<Vec<OpenAccount>, Stop> {
    let system = System::default();
    let without_store = durable::is_absent(&sqlite_path(config)?);
    let peppers = Arc::new(peppers(config, without_store, &system)?);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = lines.len().div_ceil(threads).max(1);
    let failed = AtomicBool::new(false);
    let hash_share = |share: &[AccountLine]| {
        let mut kiln = Kiln::new(Arc::clone(&peppers), config.pin.cost);
        let mut accounts = Vec::with_capacity(share.len());
        for line in share {
            if failed.load(Ordering::Relaxed) {
                break;
            }
            match kiln.hash(&line.pin, &system) {
                Ok(hash) => accounts.push(OpenAccount {
                    account: line.number.to_string(),
                    hash: HashText::from(&hash),
                    balance: line.balance,
                    demo: demo || line.pin.is_public(&line.number),
                }),
                Err(_) => failed.store(true, Ordering::Relaxed),
            }
            done();
        }
        accounts
    };
    let accounts: Vec<OpenAccount> = thread::scope(|scope| {
        let shares: Vec<_> = lines
            .chunks(share)
            .map(|share| scope.spawn(|| hash_share(share)))
            .collect();
        shares
            .into_iter()
            .flat_map(|share| share.join().unwrap_or_default())
            .collect()
    });
    if accounts.len() == lines.len() {
        Ok(accounts)
    } else {
        Err(Stop::new(exit::SOFTWARE, "a PIN could not be hashed"))
    }
}

/// Hashes one PIN. Where there is neither store nor pepper, a pepper is made if `make`.
///
/// # Errors
/// As [`hash_accounts`]; or, unless `make`, where there is neither store nor pepper.
pub fn hash_pin(config: &Config, pin: &Pin, make: bool) -> Result<HashText, Stop> {
    let system = System::default();
    let store = sqlite_path(config)?;
    let without_store = durable::is_absent(&store);
    if without_store && !make && durable::is_absent(&config.pin.pepper_file) {
        return Err(no_store(&store));
    }
    let peppers = Arc::new(peppers(config, without_store, &system)?);
    let hash = Kiln::new(peppers, config.pin.cost).hash(pin, &system);
    hash.map(|hash| HashText::from(&hash))
        .map_err(|error| Stop::new(exit::SOFTWARE, error.to_string()))
}

/// The text of a file of accounts, which may be the pipe that a shell hands over.
///
/// # Errors
/// [`Stop`] where it cannot be read.
pub fn read_accounts(file: &Path) -> Result<Zeroizing<Vec<u8>>, Stop> {
    let handed_over = ["/dev/stdin", "/dev/fd", "/proc/self/fd"];
    let text = match handed_over.iter().any(|place| file.starts_with(place)) {
        true => std::fs::read(file),
        false => durable::read(file),
    };
    text.map(Zeroizing::new).map_err(|error| {
        let reason = format!("cannot read {}: {error}", file.display());
        Stop::new(exit::NO_INPUT, reason)
    })
}

/// Digits of a one-time PIN.
const ONE_TIME_DIGITS: usize = 6;

/// A random PIN that is not weak, as text to be shown once.
#[must_use]
pub fn one_time_pin(account: &AccountNumber) -> String {
    let system = System::default();
    loop {
        // Bytes of 250 and more are thrown away, so that every digit is as likely as any other.
        let text: String = std::iter::repeat_with(|| system.random())
            .flatten()
            .filter(|byte| *byte < 250)
            .map(|byte| char::from(b'0' + byte % 10))
            .take(ONE_TIME_DIGITS)
            .collect();
        if Pin::parse(&text).is_ok_and(|pin| !pin.is_weak(account)) {
            return text;
        }
    }
}
