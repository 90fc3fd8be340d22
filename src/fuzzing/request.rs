//! Requests, read and written.

use serde_json::Value;

use crate::wire::ID_MAX;
use crate::wire::request::{Envelope, Request};

/// The longest request there is, written without white space.
const WRITTEN_BYTES_MAX: usize = 256;

/// Reads a payload; where it is a request, writes it, reads that, and writes it again.
///
/// # Panics
/// Where the two differ, or where something was read that JSON or the protocol does not allow.
pub fn request(bytes: &[u8]) {
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
