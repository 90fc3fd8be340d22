//! What travels between terminal and bank: frames, requests, answers, codes (docs/PROTOCOL.md).
//!
//! Pure: bytes in, values out. Both the server and the terminal use it.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::wildcard_enum_match_arm
    )
)]

pub mod answer;
pub mod code;
pub mod enroll;
pub mod frame;
mod json;
pub mod request;

/// The name of this protocol in ALPN (RFC 7301).
pub const ALPN: &[u8] = b"atm/1";

/// The name of enrolment's own protocol in ALPN.
pub const ENROLL_ALPN: &[u8] = b"enroll/1";

/// The largest `id` of a request: 2^53 - 1, which every JSON reader holds exactly.
pub const ID_MAX: u64 = (1 << 53) - 1;
