//! What a connection may send: what follows from its rate of requests, and what contradicts it.

use super::keys::{self, Number};
use super::reader::Reader;
use crate::limits;
use crate::limits::default;

/// Octets of a header, of a type and of a tag that a record of TLS 1.3 has beside what it carries.
const RECORD_OVERHEAD: u64 = 22;
/// A terminal whose records carry less than this is slower than it could be.
const RECORD_USUAL: u64 = 1_024;
/// A frame's own header.
const FRAME_HEADER: u64 = 4;

/// Octets and records of one connection: each second in the long run, and at once.
pub(super) struct Budgets {
    pub(super) octets_per_second: u64,
    pub(super) octet_burst: u64,
    pub(super) records_per_second: u64,
    pub(super) record_burst: u64,
}

impl Reader {
    pub(super) fn budgets(&mut self) -> Budgets {
        let requests = self.natural(&keys::REQUESTS_PER_SECOND);
        let at_once = self.natural(&keys::REQUEST_BURST);
        let frame = self.natural(&keys::FRAME_AFTER_LOGIN);
        let largest = frame.max(self.natural(&keys::FRAME_BEFORE_LOGIN)) + FRAME_HEADER;
        let records = largest.div_ceil(RECORD_USUAL);
        let two_frames = (2 * (largest + records * RECORD_OVERHEAD), 2 * records);
        Budgets {
            octets_per_second: self.each_second(
                &keys::OCTETS_PER_SECOND,
                requests.saturating_mul(default::OCTETS_PER_REQUEST),
                requests.saturating_mul(limits::FRAME_LIMIT_BYTES_ADVISED.unsigned_abs()),
            ),
            octet_burst: self.at_once(
                &keys::OCTET_BURST,
                at_once.saturating_mul(frame),
                two_frames.0,
            ),
            records_per_second: self.each_second(
                &keys::RECORDS_PER_SECOND,
                requests.saturating_mul(default::RECORDS_PER_REQUEST),
                requests,
            ),
            record_burst: self.at_once(
                &keys::RECORD_BURST,
                at_once.saturating_mul(default::RECORDS_PER_REQUEST_AT_ONCE),
                two_frames.1,
            ),
        }
    }

    /// The rate, or what follows from that of requests; warned of where it has not room for `all`.
    fn each_second(&mut self, key: &Number, follows: u64, all: u64) -> u64 {
        let Some(wanted) = self.set_natural(key) else {
            return follows.min(limits::CONFIGURED_MAX.unsigned_abs());
        };
        if wanted < all {
            let text = format!(
                "{} = {wanted} is less than requests_per_second needs; {all} is enough",
                key.name
            );
            self.warn(key.name, text);
        }
        wanted
    }

    /// What may come at once, or what follows from the requests that may; never less than `least`.
    fn at_once(&mut self, key: &Number, follows: u64, least: u64) -> u64 {
        let Some(wanted) = self.set_natural(key) else {
            return follows
                .min(limits::CONFIGURED_MAX.unsigned_abs())
                .max(least);
        };
        if wanted < least {
            let text = format!(
                "{} = {wanted} is less than two frames of the largest size; {least} is used",
                key.name
            );
            self.warn(key.name, text);
        }
        wanted.max(least)
    }

    fn set_natural(&self, key: &Number) -> Option<u64> {
        self.values.set_number(key).map(i64::unsigned_abs)
    }
}
