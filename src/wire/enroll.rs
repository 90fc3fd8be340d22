//! Enrolment's own messages, under the ALPN name `enroll/1`: frames and JSON are those of `atm/1`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::answer::append_frame;
use super::code::Code;
use super::frame::FrameSizeError;
use super::request::{Reader, Unreadable, number, open, text};
use crate::domain::EnrolmentCode;

/// The most bytes of a signing request, DER.
pub const SIGNING_REQUEST_BYTES_MAX: usize = 2_048;

/// What a terminal asks for.
#[derive(Debug)]
pub enum EnrolRequest {
    /// A first certificate, by a one-time code.
    Enroll {
        /// The code.
        code: EnrolmentCode,
        /// The signing request, DER of PKCS#10, still to be looked at.
        csr: Vec<u8>,
    },
    /// The next one, by the certificate of the handshake.
    Renew {
        /// As above.
        csr: Vec<u8>,
    },
}

/// The op and its members were read, or the message is refused as a whole.
#[derive(Debug)]
pub struct EnrolEnvelope {
    /// The terminal's number for the request, where it could be read.
    pub id: Option<u64>,
    /// The request, or why there is none.
    pub request: Result<EnrolRequest, Unreadable>,
}

impl EnrolEnvelope {
    /// Reads one payload. Never fails as a whole: what is wrong stands in the envelope.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Self {
        let (id, request) = open(payload, read);
        Self { id, request }
    }
}

fn read(op: &str, reader: &Reader<'_, '_>) -> Result<EnrolRequest, Unreadable> {
    match op {
        "enroll" => {
            reader.only(&["code", "csr"])?;
            // An escaped string would be a copy of the code, to be wiped as the frame is.
            let code = match reader.string("code")? {
                Cow::Borrowed(code) => code.parse(),
                Cow::Owned(code) => Zeroizing::new(code).parse(),
            };
            Ok(EnrolRequest::Enroll {
                code: code.map_err(|_| Unreadable::Malformed)?,
                csr: signing_request(reader)?,
            })
        }
        "renew" => {
            reader.only(&["csr"])?;
            let csr = signing_request(reader)?;
            Ok(EnrolRequest::Renew { csr })
        }
        _ => Err(Unreadable::UnknownOp),
    }
}

/// Base64 of RFC 4648, section 4, with padding and nothing else in it.
fn signing_request(reader: &Reader<'_, '_>) -> Result<Vec<u8>, Unreadable> {
    let text = reader.string("csr")?;
    let der = STANDARD.decode(text.as_bytes());
    der.ok()
        .filter(|der| (1..=SIGNING_REQUEST_BYTES_MAX).contains(&der.len()))
        .ok_or(Unreadable::Malformed)
}

impl EnrolRequest {
    /// The op's name on the wire.
    #[must_use]
    pub const fn op(&self) -> &'static str {
        match self {
            Self::Enroll { .. } => "enroll",
            Self::Renew { .. } => "renew",
        }
    }

    /// Appends the request as JSON; none of its texts has a character that JSON escapes.
    pub fn encode(&self, id: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{");
        number(out, "id", id);
        text(out, "op", self.op().as_bytes());
        let (Self::Enroll { csr, .. } | Self::Renew { csr }) = self;
        if let Self::Enroll { code, .. } = self {
            text(out, "code", code.as_str().as_bytes());
        }
        text(out, "csr", STANDARD.encode(csr).as_bytes());
        out.extend_from_slice(b"}");
    }
}

/// One answer. A terminal ignores members it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolAnswer {
    /// The request's number; `None` where it could not be read, or nothing was asked.
    pub id: Option<u64>,
    /// How it ended.
    pub code: Code,
    /// English for developers, only where the code is not 0.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<Cow<'static, str>>,
    /// The terminal's certificate, then the issuing authority's: base64 of their DER.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub certificate: Option<Vec<String>>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_ms: Option<u64>,
    /// What finds an internal error in the server's log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reference: Option<String>,
}

impl EnrolAnswer {
    /// The certificates, each in DER, the terminal's first.
    #[must_use]
    pub fn done(id: Option<u64>, chain: &[&[u8]]) -> Self {
        let certificate = chain.iter().map(|der| STANDARD.encode(der)).collect();
        Self {
            message: None,
            certificate: Some(certificate),
            ..Self::refused(id, Code::Done, "")
        }
    }

    /// A refusal with these words for developers.
    #[must_use]
    pub fn refused(id: Option<u64>, code: Code, message: &'static str) -> Self {
        Self {
            id,
            code,
            message: Some(Cow::Borrowed(message)),
            certificate: None,
            retry_after_ms: None,
            reference: None,
        }
    }

    /// The certificates' DER, where there are any and all can be read.
    #[must_use]
    pub fn chain(&self) -> Option<Vec<Vec<u8>>> {
        let texts = self.certificate.as_ref()?.iter();
        texts.map(|text| STANDARD.decode(text).ok()).collect()
    }

    /// Appends the answer as a frame.
    ///
    /// # Errors
    /// [`FrameSizeError`] where it would be larger than any server's frame; two certificates are far
    /// from it.
    pub fn append_frame(&self, out: &mut Vec<u8>) -> Result<(), FrameSizeError> {
        append_frame(self, out)
    }

    /// Reads an answer, as a terminal does. `None` where it is none.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODE: &str = "A0B11-CDEFG-HJKMN-PQRST";

    fn refusal(payload: &str) -> Option<Unreadable> {
        EnrolEnvelope::parse(payload.as_bytes()).request.err()
    }

    #[test]
    fn what_is_not_exactly_a_message_of_enrolment_is_malformed() {
        use Unreadable::{Malformed, UnknownOp};
        let large = "A".repeat((SIGNING_REQUEST_BYTES_MAX + 1).div_ceil(3) * 4);
        for (payload, refused) in [
            (r#"{"id":1,"op":"renew","csr":"AAAA"}"#.to_owned(), None),
            (
                format!(r#"{{"id":1,"op":"enroll","code":"{CODE}","csr":"AAA="}}"#),
                None,
            ),
            (
                r#"{"id":1,"op":"renew","csr":"AAAA","code":"x"}"#.into(),
                Some(Malformed),
            ),
            (
                format!(r#"{{"id":1,"op":"enroll","code":"{CODE}"}}"#),
                Some(Malformed),
            ),
            (
                r#"{"id":1,"op":"enroll","code":"1","csr":"AAAA"}"#.into(),
                Some(Malformed),
            ),
            (
                r#"{"id":1,"op":"renew","csr":"AAA"}"#.into(),
                Some(Malformed),
            ),
            (
                r#"{"id":1,"op":"renew","csr":"AAB="}"#.into(),
                Some(Malformed),
            ),
            (
                r#"{"id":1,"op":"renew","csr":"AA AA"}"#.into(),
                Some(Malformed),
            ),
            (r#"{"id":1,"op":"renew","csr":""}"#.into(), Some(Malformed)),
            (
                r#"{"id":1,"op":"renew","csr":"AAAA","csr":"AAAA"}"#.into(),
                Some(Malformed),
            ),
            (r#"{"op":"renew","csr":"AAAA"}"#.into(), Some(Malformed)),
            (
                format!(r#"{{"id":1,"op":"renew","csr":"{large}"}}"#),
                Some(Malformed),
            ),
            (
                r#"{"id":1,"op":"login","account":"zz-99999","pin":"9999"}"#.into(),
                Some(UnknownOp),
            ),
            (r#"{"id":1,"op":"ping"}"#.into(), Some(UnknownOp)),
        ] {
            assert_eq!(refusal(&payload), refused, "{payload}");
        }
    }

    #[test]
    fn answers_have_no_members_they_do_not_need_and_read_back() {
        let mut out = Vec::new();
        EnrolAnswer::refused(None, Code::NoMatch, "no")
            .append_frame(&mut out)
            .unwrap();
        assert_eq!(&out[4..], br#"{"id":null,"code":20,"message":"no"}"#);
        out.clear();
        let done = EnrolAnswer::done(Some(1), &[b"abc", b"d"]);
        done.append_frame(&mut out).unwrap();
        assert_eq!(
            &out[4..],
            br#"{"id":1,"code":0,"certificate":["YWJj","ZA=="]}"#
        );
        let read = EnrolAnswer::parse(&out[4..]).unwrap();
        assert_eq!(read.chain(), Some(vec![b"abc".to_vec(), b"d".to_vec()]));
        assert_eq!(EnrolAnswer::parse(b"{}"), None);
    }

    proptest! {
        #[test]
        fn a_request_reads_back_as_it_was_written(
            random in any::<[u8; 16]>(),
            csr in prop::collection::vec(any::<u8>(), 1..400),
            id in 0..=super::super::ID_MAX,
            by_code in any::<bool>(),
        ) {
            let code = EnrolmentCode::from_random(random);
            let typed = code.as_str().to_owned();
            let request = if by_code {
                EnrolRequest::Enroll { code, csr: csr.clone() }
            } else {
                EnrolRequest::Renew { csr: csr.clone() }
            };
            let mut out = Vec::new();
            request.encode(id, &mut out);
            let read = EnrolEnvelope::parse(&out);
            prop_assert_eq!(read.id, Some(id));
            match read.request {
                Ok(EnrolRequest::Enroll { code, csr: read }) => {
                    prop_assert!(by_code && code.as_str() == typed && read == csr);
                }
                Ok(EnrolRequest::Renew { csr: read }) => prop_assert!(!by_code && read == csr),
                Err(wrong) => prop_assert!(false, "{wrong}"),
            }
        }

        #[test]
        fn reading_never_panics(payload in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (EnrolEnvelope::parse(&payload), EnrolAnswer::parse(&payload));
        }
    }
}
