//! Names of terminals.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A terminal's name as its certificate carries it: 1 to 32 of `a-z 0-9 -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TerminalName(Arc<str>);

/// The text is not 1 to 32 of `a-z 0-9 -`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a terminal's name is 1 to 32 of a-z 0-9 -")]
pub struct NotATerminalName;

impl TerminalName {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 32;
    /// What a connection without a client certificate is called.
    pub const ANONYMOUS: &'static str = "anonymous";

    /// The name of a connection without a client certificate.
    #[must_use]
    pub fn anonymous() -> Self {
        Self(Self::ANONYMOUS.into())
    }

    /// Whether this is the name shared by all connections without a certificate. Certificates
    /// with this name are treated the same, so that none can act for another's holds.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.as_str() == Self::ANONYMOUS
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TerminalName {
    type Err = NotATerminalName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=Self::BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(NotATerminalName)
        }
    }
}

impl fmt::Display for TerminalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TerminalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_1_to_32_small_letters_digits_and_hyphens_are_taken() {
        for name in ["a", "terminal-1", "0", "a2345678901234567890123456789012"] {
            assert!(name.parse::<TerminalName>().is_ok(), "{name}");
        }
        for name in [
            "",
            "A",
            "a b",
            "a_b",
            "ä",
            "a23456789012345678901234567890123",
            "a\n",
        ] {
            assert_eq!(
                name.parse::<TerminalName>(),
                Err(NotATerminalName),
                "{name:?}"
            );
        }
    }
}
