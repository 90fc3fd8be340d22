//! The one-time code by which a new terminal gets its certificate.

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

/// Digits and capitals without the look-alikes I, L, O and U (Crockford's base 32): 5 bits each.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUPS: usize = 4;
const GROUP_CHARACTERS: usize = 5;
const CHARACTERS: usize = GROUPS * GROUP_CHARACTERS;

/// A one-time code: 20 characters of 5 bits, 100 random bits, too many to be guessed. Wiped when
/// dropped, never printed by `Debug`, kept by the bank only as a hash.
pub struct EnrolmentCode(Zeroizing<Box<str>>);

/// The text is not four groups of five characters of the alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a code is four groups of five digits and capitals, without I, L, O and U")]
pub struct NotACode;

impl EnrolmentCode {
    /// The code of 16 random bytes, of which it uses the last 100 bits.
    #[must_use]
    pub fn from_random(random: [u8; 16]) -> Self {
        let mut rest = u128::from_be_bytes(random);
        let mut text = Zeroizing::new(String::with_capacity(CHARACTERS + GROUPS));
        for index in 0..CHARACTERS {
            if index != 0 && index.is_multiple_of(GROUP_CHARACTERS) {
                text.push('-');
            }
            let digit = usize::try_from(rest & 31).unwrap_or(0);
            text.push(ALPHABET.get(digit).copied().map_or('0', char::from));
            rest >>= 5_u32;
        }
        Self(Zeroizing::new(text.as_str().into()))
    }

    /// Reads a code as people type it: in any case, with spaces or hyphens anywhere or nowhere,
    /// and with the look-alikes of 0 and 1.
    ///
    /// # Errors
    /// [`NotACode`] for anything else.
    pub fn from_typed(text: &str) -> Result<Self, NotACode> {
        let mut code = Zeroizing::new(String::with_capacity(CHARACTERS + GROUPS));
        let mut count = 0_usize;
        for typed in text.chars().filter(|c| !matches!(c, '-' | ' ')) {
            if count >= CHARACTERS {
                return Err(NotACode);
            }
            if count != 0 && count.is_multiple_of(GROUP_CHARACTERS) {
                code.push('-');
            }
            code.push(match typed.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            });
            count = count.saturating_add(1);
        }
        code.parse()
    }

    /// The four groups with hyphens between, for its holder's eyes and for the request only.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EnrolmentCode {
    type Err = NotACode;

    /// Reads the one form that travels.
    fn from_str(text: &str) -> Result<Self, NotACode> {
        let mut groups = 0_usize;
        for group in text.split('-') {
            let known = group.bytes().all(|byte| ALPHABET.contains(&byte));
            if group.len() != GROUP_CHARACTERS || !known {
                return Err(NotACode);
            }
            groups = groups.saturating_add(1);
        }
        if groups == GROUPS {
            Ok(Self(Zeroizing::new(text.into())))
        } else {
            Err(NotACode)
        }
    }
}

impl fmt::Debug for EnrolmentCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnrolmentCode(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_code_has_a_hundred_bits_in_four_groups_and_no_look_alikes() {
        let text = |random| EnrolmentCode::from_random(random).as_str().to_owned();
        assert_eq!(text([0; 16]), "00000-00000-00000-00000");
        assert_eq!(text([0xff; 16]), "ZZZZZ-ZZZZZ-ZZZZZ-ZZZZZ");
        for look_alike in "ILOUilo".bytes() {
            assert!(!ALPHABET.contains(&look_alike));
        }
        assert_eq!(
            format!("{:?}", EnrolmentCode::from_random([1; 16])),
            "EnrolmentCode(..)"
        );
    }

    #[test]
    fn a_code_is_read_as_it_is_typed_and_travels_in_one_form() {
        let typed = |text| EnrolmentCode::from_typed(text).map(|code| code.as_str().to_owned());
        let code = Ok("A0B11-CDEFG-HJKMN-PQRST".to_owned());
        for text in [
            "A0B11-CDEFG-HJKMN-PQRST",
            "aobil cdefg hjkmn pqrst",
            "AOBLICDEFGHJKMNPQRST",
            "-A-0-B11CDEFGHJKMN PQRS T",
        ] {
            assert_eq!(typed(text), code, "{text}");
        }
        for text in [
            "",
            "A0B11-CDEFG-HJKMN-PQRS",
            "A0B11-CDEFG-HJKMN-PQRSTV",
            "A0B11-CDEFG-HJKMN-PQRSU",
            "A0B11-CDEFG-HJKMN-PQRSé",
        ] {
            assert_eq!(typed(text), Err(NotACode), "{text}");
        }
        for text in [
            "a0B11-CDEFG-HJKMN-PQRST",
            "A0B11CDEFGHJKMNPQRST",
            "A0B11-CDEFG-HJKMN-PQRST-",
            "OOOOO-CDEFG-HJKMN-PQRST",
        ] {
            assert_eq!(
                text.parse::<EnrolmentCode>().err(),
                Some(NotACode),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_code_reads_back_and_different_bits_are_different_codes(
            random in any::<[u8; 16]>(),
            bit in 0_usize..100,
        ) {
            let code = EnrolmentCode::from_random(random);
            let read: EnrolmentCode = code.as_str().parse().unwrap();
            prop_assert_eq!(read.as_str(), code.as_str());
            let mut other = random;
            other[15 - bit / 8] ^= 1 << (bit % 8);
            let other = EnrolmentCode::from_random(other);
            prop_assert_ne!(other.as_str(), code.as_str());
        }

        #[test]
        fn reading_a_code_never_panics(text in "\\PC{0,40}") {
            let _ = (text.parse::<EnrolmentCode>(), EnrolmentCode::from_typed(&text));
        }
    }
}
