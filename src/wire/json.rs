//! A strict reading of one JSON object (RFC 8259): what serde_json lets pass and the protocol
//! does not (members twice, fractions, exponents, depth) is refused here.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest nesting of a message; the message itself is 1.
const DEPTH_MAX: usize = 4;

/// The payload is not one well-formed JSON object by the protocol's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAnObject;

/// The members of an object, each with its value as it stood in the text.
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads `payload` and checks every value in it, nested ones too.
    ///
    /// A member given twice is left to the caller: see [`Members::has_duplicates`].
    pub(crate) fn read(payload: &'a [u8]) -> Result<Self, NotAnObject> {
        let text = std::str::from_utf8(payload).map_err(|_| NotAnObject)?;
        serde_json::from_str(text).map_err(|_| NotAnObject)
    }

    /// Whether every nested value is well-formed, and no name is given twice at any depth.
    pub(crate) fn is_strict(&self) -> bool {
        !self.has_duplicates() && self.0.iter().all(|(_, value)| is_strict(value, 2))
    }

    fn has_duplicates(&self) -> bool {
        let mut rest = self.0.as_slice();
        while let Some(((name, _), tail)) = rest.split_first() {
            if tail.iter().any(|(other, _)| other == name) {
                return true;
            }
            rest = tail;
        }
        false
    }

    /// The value of the only member called `name`; `None` where there is none or more than one.
    pub(crate) fn single(&self, name: &str) -> Option<&'a RawValue> {
        let mut found = self.0.iter().filter(|(other, _)| other == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    /// Whether all names are among `allowed`.
    pub(crate) fn only(&self, allowed: &[&str]) -> bool {
        self.0
            .iter()
            .all(|(name, _)| allowed.contains(&name.as_ref()))
    }
}

/// The most members that any message may have; more are refused while reading, so that looking
/// for duplicates costs little.
const MEMBERS_MAX: usize = 64;

fn room(members: usize) -> Result<(), &'static str> {
    if members > MEMBERS_MAX {
        Err("too many members")
    } else {
        Ok(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(6);
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &RawValue>()? {
                    members.push((name, value));
                    room(members.len()).map_err(A::Error::custom)?;
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// A member's name, borrowed from the text where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

struct Items<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemsVisitor;
        impl<'de> Visitor<'de> for ItemsVisitor {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<&RawValue>()? {
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

/// Whether `value`, at nesting `depth` if it is an object or array, keeps the protocol's rules.
fn is_strict(value: &RawValue, depth: usize) -> bool {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{') if depth > DEPTH_MAX => false,
        Some(b'[') if depth > DEPTH_MAX => false,
        Some(b'{') => serde_json::from_str::<Members<'_>>(text).is_ok_and(|members| {
            let deeper = depth.saturating_add(1);
            !members.has_duplicates() && members.0.iter().all(|(_, inner)| is_strict(inner, deeper))
        }),
        Some(b'[') => serde_json::from_str::<Items<'_>>(text).is_ok_and(|items| {
            items
                .0
                .iter()
                .all(|inner| is_strict(inner, depth.saturating_add(1)))
        }),
        Some(b'"') => string(value).is_some(),
        Some(b't' | b'f' | b'n') => true,
        _ => is_integer(text),
    }
}

/// JSON has checked the grammar of numbers; what is left is to refuse fractions and exponents.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The value as an integer of 64 bits; `None` for anything else.
pub(crate) fn integer(value: &RawValue) -> Option<i64> {
    let text = value.get();
    if is_integer(text) {
        text.parse().ok()
    } else {
        None
    }
}

/// The value as a string; `None` for anything else.
pub(crate) fn string<'a>(value: &'a RawValue) -> Option<Cow<'a, str>> {
    serde_json::from_str::<Name<'a>>(value.get())
        .ok()
        .map(|name| name.0)
}
