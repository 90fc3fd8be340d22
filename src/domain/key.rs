//! Names that clients and the bank give to requests and holds.

use std::fmt;
use std::str::FromStr;

/// The text is not of the allowed characters or length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("allowed are A-Z a-z 0-9 and the hyphen, 64 at most, and for a key 16 at least")]
pub struct NotAName;

const NAME_BYTES_MAX: usize = 64;

fn is_name(text: &str, bytes_min: usize) -> bool {
    (bytes_min..=NAME_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A client's idempotency key: 16 to 64 of `A-Z a-z 0-9 -`, scoped to one account.
///
/// UUID version 7 (RFC 9562) is advised: keys ordered by time are cheap to keep.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    /// The shortest key, in bytes.
    pub const BYTES_MIN: usize = 16;

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_name(text, Self::BYTES_MIN) {
            Ok(Self(text.into()))
        } else {
            Err(NotAName)
        }
    }
}

/// A hold's public name: 1 to 64 of `A-Z a-z 0-9 -`; the bank issues UUIDs of version 7.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldName(Box<str>);

impl HoldName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HoldName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_name(text, 1) {
            Ok(Self(text.into()))
        } else {
            Err(NotAName)
        }
    }
}

macro_rules! shown_as_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
shown_as_text!(IdempotencyKey);
shown_as_text!(HoldName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_16_to_64_letters_digits_and_hyphens() {
        assert!("0123456789abcde".parse::<IdempotencyKey>().is_err());
        assert!("0123456789abcdeF".parse::<IdempotencyKey>().is_ok());
        assert!("k".repeat(64).parse::<IdempotencyKey>().is_ok());
        assert!("k".repeat(65).parse::<IdempotencyKey>().is_err());
        assert!("0123456789abcde_".parse::<IdempotencyKey>().is_err());
        assert!("0123456789abcdeé".parse::<IdempotencyKey>().is_err());
    }

    #[test]
    fn holds_have_1_to_64_letters_digits_and_hyphens() {
        assert!("".parse::<HoldName>().is_err());
        assert!("h".parse::<HoldName>().is_ok());
        assert!("h".repeat(65).parse::<HoldName>().is_err());
        assert!("h h".parse::<HoldName>().is_err());
    }
}
