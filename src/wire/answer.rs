//! Answers: what the bank says to a request, or of its own accord.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::code::Code;
use super::frame::{self, FrameSizeError, SERVER_PAYLOAD_BYTES_MAX};

/// One answer. Members that an op does not have are `None` and do not travel.
///
/// A terminal reading one ignores members it does not know, so that later versions may add some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The request's number; `None` for a message of the server's own accord, or where the
    /// request's could not be read.
    pub id: Option<u64>,
    /// How it ended.
    pub code: Code,
    /// The members of the op, or of the refusal.
    #[serde(flatten)]
    pub members: Members,
}

/// Every member that an answer may have besides `id` and `code`. Money is in minor units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Members {
    /// English for developers, only where the code is not 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Cow<'static, str>>,
    /// How long the session lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionTimes>,
    /// The journal entry's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<i64>,
    /// The hold's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// Milliseconds that the hold stays open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// True where a hold was captured after it had expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<bool>,
    /// The balance of all entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<i64>,
    /// The balance less open holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<i64>,
    /// ISO 4217 code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// True where nothing but a new PIN is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub must_change_pin: Option<bool>,
    /// The bank's clock: RFC 3339, UTC, milliseconds. What is no text is read as if it were not
    /// there: it spoils no answer about money.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text_or_nothing"
    )]
    pub time: Option<String>,
    /// The account's entries, newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<Vec<HistoryLine>>,
    /// The limit that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// What that limit still lets through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining: Option<i64>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What finds an internal error in the server's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// True where the key was used before and this is the first answer again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<bool>,
}

/// How long a session lasts, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTimes {
    /// A customer silent this long is logged out.
    pub idle_timeout_ms: u64,
    /// Every session ends after this long.
    pub max_timeout_ms: u64,
}

/// One entry as its account's owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// The entry's number.
    pub entry: i64,
    /// RFC 3339, UTC, milliseconds.
    pub at: String,
    /// Why money moved.
    pub kind: Cow<'static, str>,
    /// Minor units, negative where money left.
    pub amount: i64,
    /// The balance after it.
    pub balance: i64,
    /// Where it was made; empty where the bank's staff made it.
    pub terminal: String,
    /// The other customer's account, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub counterparty: Option<String>,
}

impl Answer {
    /// An answer with code 0.
    #[must_use]
    pub fn done(id: Option<u64>, members: Members) -> Self {
        Self {
            id,
            code: Code::Done,
            members,
        }
    }

    /// An answer that refuses.
    #[must_use]
    pub fn refused(id: Option<u64>, code: Code) -> Self {
        let message = Some(Cow::Borrowed(code.message()));
        Self {
            id,
            code,
            members: Members {
                message,
                ..Members::default()
            },
        }
    }

    /// A refusal that says when to try again.
    #[must_use]
    pub fn retry_after(id: Option<u64>, code: Code, retry_after_ms: Option<u64>) -> Self {
        let mut answer = Self::refused(id, code);
        answer.members.retry_after_ms = retry_after_ms;
        answer
    }

    /// Appends the answer as a frame.
    ///
    /// # Errors
    /// [`FrameSizeError`] where it would be larger than any server's frame; a history of 100
    /// lines is far from it.
    pub fn append_frame(&self, out: &mut Vec<u8>) -> Result<(), FrameSizeError> {
        append_frame(self, out)
    }

    /// Reads an answer, as a terminal does. `None` where it is none.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

fn text_or_nothing<'de, D: Deserializer<'de>>(source: D) -> Result<Option<String>, D::Error> {
    Ok(Value::deserialize(source)?.as_str().map(str::to_owned))
}

/// Appends what a server says as a frame.
pub(super) fn append_frame(
    message: &impl Serialize,
    out: &mut Vec<u8>,
) -> Result<(), FrameSizeError> {
    frame::append(out, SERVER_PAYLOAD_BYTES_MAX, |out| {
        // Writing to memory cannot fail; were it to, the frame would be empty and refused.
        let start = out.len();
        if serde_json::to_writer(&mut *out, message).is_err() {
            out.truncate(start);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_id_code_and_message_only() {
        let mut out = Vec::new();
        Answer::refused(Some(7), Code::NotLoggedIn)
            .append_frame(&mut out)
            .unwrap();
        assert_eq!(
            &out[4..],
            br#"{"id":7,"code":23,"message":"not logged in"}"#
        );
        out.clear();
        Answer::retry_after(None, Code::TooMany, Some(5))
            .append_frame(&mut out)
            .unwrap();
        assert_eq!(
            &out[4..],
            br#"{"id":null,"code":40,"message":"too many requests","retry_after_ms":5}"#
        );
    }

    #[test]
    fn answers_read_back_and_unknown_members_are_ignored() {
        let answer = Answer::parse(br#"{"id":1,"code":0,"balance":-5,"later":{"x":1}}"#).unwrap();
        assert_eq!(answer.members.balance, Some(-5));
        assert_eq!(Answer::parse(b"{}"), None);
    }

    #[test]
    fn a_time_that_is_no_text_is_none_and_spoils_nothing() {
        for (time, read) in [
            (
                r#""2026-01-31T09:30:00.000Z""#,
                Some("2026-01-31T09:30:00.000Z"),
            ),
            (r#""tomorrow""#, Some("tomorrow")),
            ("7", None),
            ("null", None),
            (r#"{"now":[1]}"#, None),
        ] {
            let text = format!(r#"{{"id":1,"code":0,"time":{time},"balance":5}}"#);
            let members = Answer::parse(text.as_bytes()).unwrap().members;
            assert_eq!((members.time.as_deref(), members.balance), (read, Some(5)));
        }
    }

    #[test]
    fn the_largest_history_fits_a_frame() {
        let line = HistoryLine {
            entry: i64::MAX,
            at: "2026-01-01T00:00:00.000Z".into(),
            kind: "late_withdrawal".into(),
            amount: i64::MIN,
            balance: i64::MIN,
            terminal: "t".repeat(32),
            counterparty: Some("zz-99999".into()),
        };
        let members = Members {
            entries: Some(vec![line; 100]),
            ..Members::default()
        };
        assert!(
            Answer::done(Some(super::super::ID_MAX), members)
                .append_frame(&mut Vec::new())
                .is_ok()
        );
    }
}
