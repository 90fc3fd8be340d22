//! Frames out of a stream.

use super::Input;
use crate::wire::frame::{self, FrameSizeError, HEADER_BYTES, Next};
use crate::wire::request::Envelope;

/// Limits that a stream is read with.
const LIMITS: [usize; 6] = [4_096, 16_384, 1, 64, 300, usize::MAX];

/// What a reader saw of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    payloads: Vec<Vec<u8>>,
    /// Bytes behind the last whole frame.
    left: usize,
    /// What the stream was cut for.
    refused: Option<FrameSizeError>,
}

/// Reads a stream of frames in pieces and as a whole and compares what comes out.
///
/// The bytes: a limit, the number of pieces of the pattern (0 to 15), the pieces' sizes, and the
/// stream. The pattern of pieces repeats until the stream ends.
///
/// # Panics
/// Where frames differ by how the stream is split, where more is claimed than the limit, or where
/// a payload written again is another frame.
pub fn decoder(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let limit = input.pick(&LIMITS);
    let pieces = input.byte() % 16;
    let pattern = input.bytes(pieces.into());
    let stream = input.rest();
    let whole = read(std::iter::once(stream), limit);
    let split = read(pieces_of(stream, pattern), limit);
    assert_eq!(whole, split, "frames differ by how the stream is split");
    let mut written = Vec::new();
    for payload in &whole.payloads {
        let again = frame::append(&mut written, limit, |out| out.extend_from_slice(payload));
        assert_eq!(again, Ok(()), "a frame that was read is not written");
        let _ = Envelope::parse(payload);
    }
    assert!(
        stream.starts_with(&written),
        "frames are written differently"
    );
    if whole.refused.is_none() {
        assert_eq!(written.len() + whole.left, stream.len(), "bytes were lost");
    }
}

/// The stream in pieces of 1 to 256 bytes.
fn pieces_of<'a>(stream: &'a [u8], pattern: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let sizes = pattern.iter().map(|size| usize::from(*size) + 1);
    let mut sizes = sizes.cycle();
    let mut rest = stream;
    std::iter::from_fn(move || {
        let size = sizes.next().unwrap_or(1).min(rest.len());
        let (piece, behind) = rest.split_at(size);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Reads as a connection does: what has come is looked at after every piece.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>, limit: usize) -> Seen {
    let (mut payloads, mut held, mut refused) = (Vec::new(), Vec::new(), None);
    // Of the frame that stands first in `held`: how long it is at least.
    let mut needed = 0;
    for piece in pieces {
        held.extend_from_slice(piece);
        if refused.is_some() {
            continue;
        }
        loop {
            match frame::next(&held, limit) {
                Ok(Next::Whole { end }) => {
                    assert!(
                        end >= needed,
                        "a frame came before what it was said to need"
                    );
                    payloads.push(take(&mut held, end, limit));
                    needed = 0;
                }
                Ok(Next::Needs { more }) => {
                    needed = needs(held.len(), more, needed, limit);
                    break;
                }
                Err(error) => {
                    assert!(error.length == 0 || error.length > limit, "{error}");
                    assert_eq!(error.limit, limit);
                    refused = Some(error);
                    break;
                }
            }
        }
    }
    Seen {
        payloads,
        left: held.len(),
        refused,
    }
}

fn take(held: &mut Vec<u8>, end: usize, limit: usize) -> Vec<u8> {
    let payload = held.get(HEADER_BYTES..end);
    let payload = payload.expect("a frame ends within what has come").to_vec();
    assert!((1..=limit).contains(&payload.len()), "beyond the limit");
    held.drain(..end);
    payload
}

fn needs(held: usize, more: usize, needed: usize, limit: usize) -> usize {
    assert!(more >= 1, "a frame that needs nothing");
    assert!(
        more <= limit.max(HEADER_BYTES),
        "more is asked for than the limit"
    );
    let length = held + more;
    assert!(length >= needed, "a frame needs less than it was said to");
    length
}
