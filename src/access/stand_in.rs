//! Whose traits an unknown account number shows: those of a real account, drawn by keyed hash.
//!
//! A real number has a home terminal, with a budget of tries of its own, and a hash that took a
//! certain cost to make. An unknown number borrows both from a real account, its stand-in, so that
//! all unknown numbers together have homes and costs in the store's own proportion, and a single
//! one answers like a number that exists.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use zeroize::Zeroizing;

use crate::domain::AccountNumber;

/// Rows that are drawn for a number at most: a row may be closed, or no customer's. Where one row
/// in ten is an open account, one number in 10^11 finds none, and shows no home.
pub const DRAWS_MAX: u32 = 256;

/// The key of the draw: a store's own, made with it, told to nobody. Whoever knew it could tell
/// which real account an unknown number looks like.
#[derive(Clone)]
pub struct StandInKey(hmac::Key);

/// There was no randomness to make a key of.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no randomness")]
pub struct NoRandomness;

impl StandInKey {
    /// A key of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// A key as a store holds it: 64 hex digits.
    #[must_use]
    pub fn parse(hex: &str) -> Option<Self> {
        let bytes = Zeroizing::new(HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?);
        Some(Self::new(bytes.as_slice().try_into().ok()?))
    }

    /// A new key for a new store, as 64 hex digits. Its chance is always the system's: a key that
    /// a seed gives would be everybody's.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn fresh() -> Result<Zeroizing<String>, NoRandomness> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(&mut *bytes)
            .map_err(|_| NoRandomness)?;
        Ok(Zeroizing::new(HEXLOWER.encode(&*bytes)))
    }

    /// The row, of `1..=rows`, that is drawn for `number` in the draw of that index; 0 where there
    /// are no rows. Every row is drawn as often as any other, and a row that is added takes over
    /// one number in `rows`, and moves no other.
    #[must_use]
    pub fn draw(&self, number: AccountNumber, index: u32, rows: u64) -> u64 {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(number.as_str().as_bytes());
        context.update(&index.to_be_bytes());
        let tag = context.sign();
        let mut first = [0; 8];
        first.copy_from_slice(&tag.as_ref()[..8]);
        jump(u64::from_be_bytes(first), rows)
    }
}

impl fmt::Debug for StandInKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StandInKey")
    }
}

/// Jump consistent hash (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm",
/// 2014), with whole numbers alone; from 1.
fn jump(mut key: u64, rows: u64) -> u64 {
    let (mut row, mut next) = (0, 0_u64);
    while next < rows {
        row = next.saturating_add(1);
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let divisor = u128::from((key >> 33).saturating_add(1));
        let further = (u128::from(row) << 31) / divisor;
        next = u64::try_from(further).unwrap_or(u64::MAX);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(index: u32) -> AccountNumber {
        let letters = [b'a' + (index / 100_000 % 26) as u8, b'q'];
        let letters = std::str::from_utf8(&letters).unwrap();
        format!("{letters}-{:05}", index % 100_000).parse().unwrap()
    }

    #[test]
    fn a_key_is_64_digits_in_either_case_and_nothing_else() {
        let key = StandInKey::parse(&"0aB".repeat(22)[..64]).unwrap();
        let same = StandInKey::parse(&"0Ab".repeat(22)[..64]).unwrap();
        let drawn = |key: &StandInKey| key.draw(number(1), 0, u64::MAX);
        assert_eq!(drawn(&key), drawn(&same));
        assert!(StandInKey::parse(&StandInKey::fresh().unwrap()).is_some());
        for (digits, times) in [
            ("0a", 31),
            ("0a", 33),
            ("a", 63),
            ("0g", 32),
            ("+a", 32),
            ("é", 32),
        ] {
            assert!(
                StandInKey::parse(&digits.repeat(times)).is_none(),
                "{digits}"
            );
        }
    }

    #[test]
    fn every_row_is_drawn_as_often_as_any_other() {
        let key = StandInKey::new(&[7; 32]);
        for rows in [1, 2, 3, 10, 37] {
            let mut drawn = vec![0_u32; rows];
            for index in 0..20_000 {
                let row = key.draw(number(index), 0, rows as u64);
                drawn[usize::try_from(row).unwrap() - 1] += 1;
            }
            let expected = 20_000 / u32::try_from(rows).unwrap();
            // Five standard deviations of a count of about `expected`.
            let tolerance = 5.0 * f64::from(expected).sqrt();
            for count in &drawn {
                let off = f64::from(count.abs_diff(expected));
                assert!(rows == 1 || off < tolerance, "{rows} rows: {drawn:?}");
            }
        }
        assert_eq!(key.draw(number(1), 0, 0), 0);
    }

    #[test]
    fn a_new_row_takes_its_share_of_the_numbers_and_moves_no_other() {
        let key = StandInKey::new(&[8; 32]);
        let (mut moved, numbers) = (0, 20_000);
        for index in 0..numbers {
            let before = key.draw(number(index), 3, 99);
            let after = key.draw(number(index), 3, 100);
            assert!(after == before || after == 100, "from {before} to {after}");
            moved += u32::from(after == 100);
        }
        assert!((numbers / 150..numbers / 70).contains(&moved), "{moved}");
    }

    #[test]
    fn draws_differ_by_key_and_index_and_repeat_from_the_keys_text() {
        let text = StandInKey::fresh().unwrap();
        let (key, same) = (
            StandInKey::parse(&text).unwrap(),
            StandInKey::parse(&text).unwrap(),
        );
        let other = StandInKey::parse(&StandInKey::fresh().unwrap()).unwrap();
        let rows = |key: &StandInKey, draw| -> Vec<u64> {
            (0..50)
                .map(|index| key.draw(number(index), draw, 1_000_000))
                .collect()
        };
        assert_eq!(rows(&key, 0), rows(&same, 0));
        assert_ne!(rows(&key, 0), rows(&key, 1));
        assert_ne!(rows(&key, 0), rows(&other, 0));
        assert!(StandInKey::parse(&text[1..]).is_none());
        assert!(StandInKey::parse(&text.replace(|_| true, "+")).is_none());
        assert_eq!(format!("{key:?}"), "StandInKey");
    }
}
