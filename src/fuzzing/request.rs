//! Requests under both protocols, read and written.

use serde_json::Value;

use crate::wire::ID_MAX;
use crate::wire::enroll::{EnrolEnvelope, EnrolRequest, SIGNING_REQUEST_BYTES_MAX};
use crate::wire::request::{Envelope, Request};

/// The longest request there is, written without white space.
const WRITTEN_BYTES_MAX: usize = 256;

/// Reads a payload; where it is a request, of terminals that enrol too, writes it, reads that, and
/// writes it again.
///
/// # Panics
/// Where the two differ, or where something was read that JSON or the protocol does not allow.
pub fn request(bytes: &[u8]) {
    enrol_request(bytes);
    let Envelope { id, request } = Envelope::parse(bytes);
    assert!(id.is_none_or(|id| id <= ID_MAX), "an id out of range");
    let Ok(request) = request else {
        return;
    };
    let id = id.expect("a request without an id was read");
    agrees_with_json(bytes, id, &request);
    let written = encoded(&request, id);
    assert!(written.len() <= WRITTEN_BYTES_MAX, "a request grew");
    let again = Envelope::parse(&written);
    assert_eq!(again.id, Some(id));
    let again = again.request.expect("what was written is not read");
    assert_eq!(again.op(), request.op());
    assert_eq!(again.carries_pin(), request.carries_pin());
    assert_eq!(encoded(&again, id), written, "written differently");
}

/// The same payload, as one of enrolment.
fn enrol_request(bytes: &[u8]) {
    let Envelope { id: other, request } = Envelope::parse(bytes);
    let is_of_bank = request.is_ok();
    let EnrolEnvelope { id, request } = EnrolEnvelope::parse(bytes);
    assert_eq!(id, other, "an id that depends on the protocol");
    let Ok(request) = request else {
        return;
    };
    assert!(!is_of_bank, "a request of both protocols");
    let id = id.expect("a request without an id was read");
    let (EnrolRequest::Enroll { csr, .. } | EnrolRequest::Renew { csr }) = &request;
    assert!((1..=SIGNING_REQUEST_BYTES_MAX).contains(&csr.len()));
    let written = enrol_encoded(&request, id);
    let again = EnrolEnvelope::parse(&written);
    assert_eq!(again.id, Some(id));
    let again = again.request.expect("what was written is not read");
    assert_eq!(enrol_encoded(&again, id), written, "written differently");
    let read: Value = serde_json::from_slice(bytes).expect("no JSON, but a request");
    let written: Value = serde_json::from_slice(&written).expect("written as no JSON");
    let (read, written) = (members(&read), members(&written));
    assert_eq!(read.len(), written.len(), "a member was lost or made up");
    for (name, value) in read.iter().filter(|(name, _)| *name != "id") {
        assert_eq!(written.get(name), Some(value), "{name} was read as another");
    }
}

fn enrol_encoded(request: &EnrolRequest, id: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(id, &mut bytes);
    bytes
}

fn encoded(request: &Request, id: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(id, &mut bytes);
    bytes
}

/// A reader of JSON that knows nothing of the protocol sees the same members.
fn agrees_with_json(bytes: &[u8], id: u64, request: &Request) {
    let read: Value = serde_json::from_slice(bytes).expect("no JSON, but a request");
    let written: Value = serde_json::from_slice(&encoded(request, id)).expect("written as no JSON");
    let (read, written) = (members(&read), members(&written));
    for (name, value) in read {
        let same = match (name.as_str(), value) {
            // Account numbers are lower case once they are read; 0 may be written as -0.
            ("account" | "to", Value::String(text)) => {
                written.get(name) == Some(&Value::String(text.to_ascii_lowercase()))
            }
            (_, Value::Number(number)) => {
                let zero = number.as_f64() == Some(0.0);
                written.get(name) == Some(value) || zero && written.get(name) == Some(&0.into())
            }
            _ => written.get(name) == Some(value),
        };
        assert!(same, "{name} was read as another");
    }
    let defaulted = |name: &String| request.op() == "history" && name == "limit";
    let added = written.keys().filter(|name| !read.contains_key(*name));
    assert!(added.into_iter().all(defaulted), "a member was made up");
}

fn members(value: &Value) -> &serde_json::Map<String, Value> {
    value.as_object().expect("no object, but a request")
}
