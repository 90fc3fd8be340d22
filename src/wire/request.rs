//! Requests: one JSON object each, read strictly into values that cannot hold anything invalid.

use std::borrow::Cow;
use std::str::FromStr;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::ID_MAX;
use super::json::{self, Members};
use crate::domain::{AccountNumber, EntryNumber, HoldName, IdempotencyKey, Pin, RequestedAmount};

/// What a terminal asks for.
#[derive(Debug)]
pub enum Request {
    /// Are you there?
    Ping,
    /// Who I am.
    Login {
        /// The account.
        account: AccountNumber,
        /// Its PIN.
        pin: Pin,
    },
    /// What is there.
    Balance,
    /// Cash in.
    Deposit(Keyed),
    /// Cash out, at once.
    Withdraw(Keyed),
    /// Money to another customer.
    Transfer {
        /// Who receives it.
        to: AccountNumber,
        /// How much, under which key.
        keyed: Keyed,
    },
    /// Set money aside before cash goes out.
    Authorize(Keyed),
    /// The cash of a hold went out.
    Capture {
        /// The hold.
        hold: HoldName,
        /// How much went out, under which key.
        keyed: Keyed,
    },
    /// The cash of a hold did not go out.
    Release {
        /// The hold.
        hold: HoldName,
        /// The key.
        key: IdempotencyKey,
    },
    /// The account's entries, newest first.
    History {
        /// How many at most, 1 to 100.
        limit: u8,
        /// Only entries with a smaller number.
        before: Option<EntryNumber>,
    },
    /// A new PIN.
    ChangePin {
        /// The present one.
        pin: Pin,
        /// The one to be.
        new_pin: Pin,
    },
    /// Goodbye; the connection stays.
    Logout,
}

/// The members of every request that moves money in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    /// How much, still to be judged.
    pub amount: RequestedAmount,
    /// The client's idempotency key.
    pub key: IdempotencyKey,
}

/// Entries of a history where the request names no limit.
pub const HISTORY_LIMIT_DEFAULT: u8 = 10;
/// The most entries of one history.
pub const HISTORY_LIMIT_MAX: u8 = 100;

/// The op and its members were read, or the message is refused as a whole.
#[derive(Debug)]
pub struct Envelope {
    /// The client's number for the request, where it could be read.
    pub id: Option<u64>,
    /// The request, or why there is none.
    pub request: Result<Request, Unreadable>,
}

/// Why a message is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Code 10.
    #[error("malformed message")]
    Malformed,
    /// Code 12.
    #[error("unknown op")]
    UnknownOp,
}

impl Envelope {
    /// Reads one payload. Never fails as a whole: what is wrong stands in the envelope.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Self {
        let (id, request) = open(payload, read_request);
        Self { id, request }
    }
}

/// The id, where it can be read, and what `read` makes of a message that keeps the rules that hold
/// for all: by its op, and a reader of its members.
pub(super) fn open<T>(
    payload: &[u8],
    read: impl FnOnce(&str, &Reader<'_, '_>) -> Result<T, Unreadable>,
) -> (Option<u64>, Result<T, Unreadable>) {
    let Ok(members) = Members::read(payload) else {
        return (None, Err(Unreadable::Malformed));
    };
    let id = members
        .single("id")
        .and_then(json::integer)
        .and_then(|id| u64::try_from(id).ok());
    let id = id.filter(|id| *id <= ID_MAX);
    let op = members.single("op").and_then(json::string);
    let request = match (id, op) {
        (Some(_), Some(op)) if members.is_strict() => read(op.as_ref(), &Reader(&members)),
        _ => Err(Unreadable::Malformed),
    };
    (id, request)
}

fn read_request(op: &str, reader: &Reader<'_, '_>) -> Result<Request, Unreadable> {
    match op {
        "ping" => reader.only(&[]).map(|()| Request::Ping),
        "login" => {
            reader.only(&["account", "pin"])?;
            Ok(Request::Login {
                account: reader.text("account")?,
                pin: reader.pin("pin")?,
            })
        }
        "balance" => reader.only(&[]).map(|()| Request::Balance),
        "deposit" => reader.keyed(&["amount", "key"]).map(Request::Deposit),
        "withdraw" => reader.keyed(&["amount", "key"]).map(Request::Withdraw),
        "transfer" => {
            let keyed = reader.keyed(&["to", "amount", "key"])?;
            Ok(Request::Transfer {
                to: reader.text("to")?,
                keyed,
            })
        }
        "authorize" => reader.keyed(&["amount", "key"]).map(Request::Authorize),
        "capture" => {
            let keyed = reader.keyed(&["hold", "amount", "key"])?;
            Ok(Request::Capture {
                hold: reader.text("hold")?,
                keyed,
            })
        }
        "release" => {
            reader.only(&["hold", "key"])?;
            Ok(Request::Release {
                hold: reader.text("hold")?,
                key: reader.text("key")?,
            })
        }
        "history" => reader.history(),
        "change_pin" => {
            reader.only(&["pin", "new_pin"])?;
            Ok(Request::ChangePin {
                pin: reader.pin("pin")?,
                new_pin: reader.pin("new_pin")?,
            })
        }
        "logout" => reader.only(&[]).map(|()| Request::Logout),
        _ => Err(Unreadable::UnknownOp),
    }
}

/// Reads the members of one message.
pub(super) struct Reader<'m, 'a>(&'m Members<'a>);

impl<'a> Reader<'_, 'a> {
    pub(super) fn only(&self, own: &[&str]) -> Result<(), Unreadable> {
        let mut allowed = vec!["id", "op"];
        allowed.extend_from_slice(own);
        if self.0.only(&allowed) {
            Ok(())
        } else {
            Err(Unreadable::Malformed)
        }
    }

    fn value(&self, name: &str) -> Result<&'a RawValue, Unreadable> {
        self.0.single(name).ok_or(Unreadable::Malformed)
    }

    pub(super) fn string(&self, name: &str) -> Result<Cow<'a, str>, Unreadable> {
        json::string(self.value(name)?).ok_or(Unreadable::Malformed)
    }

    pub(super) fn text<T: FromStr>(&self, name: &str) -> Result<T, Unreadable> {
        self.string(name)?
            .parse()
            .map_err(|_| Unreadable::Malformed)
    }

    fn pin(&self, name: &str) -> Result<Pin, Unreadable> {
        // An escaped string is a copy of its own, which must be wiped as the frame is.
        let text = match self.string(name)? {
            Cow::Borrowed(text) => return Pin::parse(text).map_err(|_| Unreadable::Malformed),
            Cow::Owned(text) => Zeroizing::new(text),
        };
        Pin::parse(&text).map_err(|_| Unreadable::Malformed)
    }

    fn integer(&self, name: &str) -> Result<i64, Unreadable> {
        json::integer(self.value(name)?).ok_or(Unreadable::Malformed)
    }

    fn keyed(&self, own: &[&str]) -> Result<Keyed, Unreadable> {
        self.only(own)?;
        let amount = RequestedAmount(self.integer("amount")?);
        Ok(Keyed {
            amount,
            key: self.text("key")?,
        })
    }

    fn history(&self) -> Result<Request, Unreadable> {
        self.only(&["limit", "before"])?;
        let limit = match self.0.single("limit") {
            None => HISTORY_LIMIT_DEFAULT,
            Some(value) => json::integer(value)
                .and_then(|limit| u8::try_from(limit).ok())
                .filter(|limit| (1..=HISTORY_LIMIT_MAX).contains(limit))
                .ok_or(Unreadable::Malformed)?,
        };
        let before = match self.0.single("before") {
            None => None,
            Some(value) => {
                let number = json::integer(value).and_then(EntryNumber::new);
                Some(number.ok_or(Unreadable::Malformed)?)
            }
        };
        Ok(Request::History { limit, before })
    }
}

impl Request {
    /// The op's name on the wire.
    #[must_use]
    pub const fn op(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Login { .. } => "login",
            Self::Balance => "balance",
            Self::Deposit(_) => "deposit",
            Self::Withdraw(_) => "withdraw",
            Self::Transfer { .. } => "transfer",
            Self::Authorize(_) => "authorize",
            Self::Capture { .. } => "capture",
            Self::Release { .. } => "release",
            Self::History { .. } => "history",
            Self::ChangePin { .. } => "change_pin",
            Self::Logout => "logout",
        }
    }

    /// Appends the request as JSON. By their types no string in it has a character that JSON
    /// escapes, so the text is written in place and leaves no copy of a PIN behind.
    pub fn encode(&self, id: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{");
        number(out, "id", id);
        text(out, "op", self.op().as_bytes());
        match self {
            Self::Ping | Self::Balance | Self::Logout => {}
            Self::Login { account, pin } => {
                text(out, "account", account.as_str().as_bytes());
                text(out, "pin", pin.digits());
            }
            Self::Deposit(keyed) | Self::Withdraw(keyed) | Self::Authorize(keyed) => {
                keyed.encode(out);
            }
            Self::Transfer { to, keyed } => {
                text(out, "to", to.as_str().as_bytes());
                keyed.encode(out);
            }
            Self::Capture { hold, keyed } => {
                text(out, "hold", hold.as_str().as_bytes());
                keyed.encode(out);
            }
            Self::Release { hold, key } => {
                text(out, "hold", hold.as_str().as_bytes());
                text(out, "key", key.as_str().as_bytes());
            }
            Self::History { limit, before } => {
                number(out, "limit", limit);
                if let Some(before) = before {
                    number(out, "before", before.get());
                }
            }
            Self::ChangePin { pin, new_pin } => {
                text(out, "pin", pin.digits());
                text(out, "new_pin", new_pin.digits());
            }
        }
        out.extend_from_slice(b"}");
    }

    /// Whether the request carries a PIN, so that the bytes it came in must be wiped.
    #[must_use]
    pub const fn carries_pin(&self) -> bool {
        matches!(self, Self::Login { .. } | Self::ChangePin { .. })
    }
}

impl Keyed {
    fn encode(&self, out: &mut Vec<u8>) {
        number(out, "amount", self.amount.0);
        text(out, "key", self.key.as_str().as_bytes());
    }
}

fn member(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

pub(super) fn number(out: &mut Vec<u8>, name: &str, value: impl ToString) {
    member(out, name);
    out.extend_from_slice(value.to_string().as_bytes());
}

pub(super) fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    member(out, name);
    out.push(b'"');
    out.extend_from_slice(value);
    out.push(b'"');
}

#[cfg(test)]
mod tests;
