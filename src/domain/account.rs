//! Customers' account numbers.

use std::fmt;
use std::str::FromStr;

/// A customer's account number: two letters, a hyphen, five digits; held in lower case.
///
/// `Display` shows it in full, for the customer and for the operator; [`AccountNumber::masked`] is
/// the only form that may reach a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountNumber([u8; 8]);

/// The text is not two letters, a hyphen and five digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an account number is two letters, a hyphen and five digits, as in zz-99999")]
pub struct NotAnAccountNumber;

impl AccountNumber {
    /// Length of every account number, in bytes.
    pub const BYTES: usize = 8;

    /// The number as text, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever stored, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The number with three digits hidden, as `zz-***99`, for logs.
    #[must_use]
    pub fn masked(&self) -> MaskedAccount {
        MaskedAccount(*self)
    }

    /// The five digits of the number.
    #[must_use]
    pub fn digits(&self) -> &str {
        self.as_str().get(3..).unwrap_or_default()
    }
}

impl FromStr for AccountNumber {
    type Err = NotAnAccountNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes: [u8; Self::BYTES] =
            text.as_bytes().try_into().map_err(|_| NotAnAccountNumber)?;
        let [a, b, hyphen, digits @ ..] = bytes;
        let valid = a.is_ascii_alphabetic()
            && b.is_ascii_alphabetic()
            && hyphen == b'-'
            && digits.iter().all(u8::is_ascii_digit);
        if valid {
            Ok(Self(bytes.map(|byte| byte.to_ascii_lowercase())))
        } else {
            Err(NotAnAccountNumber)
        }
    }
}

impl fmt::Display for AccountNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for AccountNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.masked(), f)
    }
}

/// An account number as logs may show it.
#[derive(Clone, Copy)]
pub struct MaskedAccount(AccountNumber);

impl fmt::Display for MaskedAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_str();
        write!(
            f,
            "{}***{}",
            text.get(..3).unwrap_or_default(),
            text.get(6..).unwrap_or_default()
        )
    }
}

impl fmt::Debug for MaskedAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_any_case_and_shown_in_lower_case() {
        let number: AccountNumber = "Zz-99999".parse().unwrap();
        assert_eq!(number.to_string(), "zz-99999");
        assert_eq!(number.digits(), "99999");
    }

    #[test]
    fn anything_but_two_letters_a_hyphen_and_five_digits_is_refused() {
        for text in [
            "",
            "zz-9999",
            "zz-999999",
            "z1-99999",
            "zz_99999",
            "zz-9999a",
            "zz-٩٩٩",
            "éz-9999",
        ] {
            assert_eq!(
                text.parse::<AccountNumber>(),
                Err(NotAnAccountNumber),
                "{text:?}"
            );
        }
    }

    #[test]
    fn debug_and_masked_never_show_the_whole_number() {
        let number: AccountNumber = "zz-12345".parse().unwrap();
        assert_eq!(number.masked().to_string(), "zz-***45");
        assert_eq!(format!("{number:?}"), "zz-***45");
    }
}
