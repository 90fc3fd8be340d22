//! PINs as customers type them, and which ones are too weak to choose.

use std::fmt;

use zeroize::Zeroizing;

use super::AccountNumber;

/// A PIN: 4 to 12 digits. Wiped when dropped, never printed, never compared except as a hash.
pub struct Pin(Zeroizing<Box<[u8]>>);

/// The text is not 4 to 12 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a PIN is 4 to 12 digits")]
pub struct NotAPin;

/// PINs that people choose most and that no other rule here catches.
const COMMONEST: &str = "1212 1004 2000 6969 1122 1313 2001 1010 2580 0852 1221 1342 2112 2468 \
    1357 0007 2525 5150 3112 7474 8520 1991 1990 1989 1988 1987 1986 1985 1984 \
    123123 121212 112233 159753 147258 131313 101010 123321 147852 696969 159357 142536 \
    456456 789456 741852 11223344 12341234 12121212 87654321 147258369 123123123 1029384756";

impl Pin {
    /// The fewest digits.
    pub const DIGITS_MIN: usize = 4;
    /// The most digits.
    pub const DIGITS_MAX: usize = 12;

    /// Reads 4 to 12 ASCII digits.
    ///
    /// # Errors
    /// [`NotAPin`] for anything else.
    pub fn parse(text: &str) -> Result<Self, NotAPin> {
        let digits = (Self::DIGITS_MIN..=Self::DIGITS_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits {
            Ok(Self(Zeroizing::new(text.as_bytes().into())))
        } else {
            Err(NotAPin)
        }
    }

    /// The digits, for hashing and for the terminal's request only.
    #[must_use]
    pub fn digits(&self) -> &[u8] {
        &self.0
    }

    /// Whether `account` is a demo account and this the PIN that everybody knows.
    #[must_use]
    pub fn is_public(&self, account: &AccountNumber) -> bool {
        DEMO_ACCOUNTS.lines().any(|demo| {
            let mut columns = demo.split(',').map(str::trim);
            columns.next() == Some(account.as_str())
                && columns.next().map(str::as_bytes) == Some(self.digits())
        })
    }

    /// Whether the PIN is too easily guessed to be chosen for `account`: one repeated digit, a
    /// run up or down, the account's own digits, or one of the commonest.
    #[must_use]
    pub fn is_weak(&self, account: &AccountNumber) -> bool {
        let steps_of = |step: u8| {
            self.0.windows(2).all(|pair| match pair {
                &[a, b] => {
                    a.wrapping_sub(b'0').wrapping_add(step).rem_euclid(10) == b.wrapping_sub(b'0')
                }
                _ => false,
            })
        };
        let text = std::str::from_utf8(&self.0).unwrap_or_default();
        let own = account.digits();
        steps_of(0)
            || steps_of(1)
            || steps_of(9)
            || own.contains(text)
            || text.contains(own)
            || COMMONEST
                .split_ascii_whitespace()
                .any(|common| common == text)
    }
}

/// The demo accounts, a line each: number, PIN, balance.
pub const DEMO_ACCOUNTS: &str = include_str!("../../config/accounts.txt");

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(****)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weak(pin: &str) -> bool {
        Pin::parse(pin)
            .unwrap()
            .is_weak(&"zz-90417".parse().unwrap())
    }

    #[test]
    fn pins_are_4_to_12_ascii_digits() {
        for text in ["", "123", "1234567890123", "12 4", "12a4", "-123", "١٢٣٤"] {
            assert!(Pin::parse(text).is_err(), "{text:?}");
        }
        assert!(Pin::parse("0000").is_ok() && Pin::parse("123456789012").is_ok());
    }

    #[test]
    fn weak_pins_are_known_as_such() {
        for pin in [
            "1111", "000000", "1234", "6789", "7890", "4321", "0987", "9041", "0417", "90417",
            "7904178", "1212",
        ] {
            assert!(weak(pin), "{pin}");
        }
        for pin in ["8264", "5093", "94170", "739105", "1324"] {
            assert!(!weak(pin), "{pin}");
        }
    }

    proptest! {
        #[test]
        fn debug_never_shows_a_digit_of_the_pin(pin in "[0-9]{4,12}") {
            let shown = format!("{:?}", Pin::parse(&pin).unwrap());
            prop_assert!(!shown.bytes().any(|b| b.is_ascii_digit()));
        }
    }
}
