//! Frames: 4 bytes of length, big endian, then that many bytes of payload.

/// Bytes of the length in front of every payload.
pub const HEADER_BYTES: usize = 4;

/// The largest payload that a server sends.
pub const SERVER_PAYLOAD_BYTES_MAX: usize = 65_536;

/// The frame's length is 0 or over the limit. Nothing of its payload was read or allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes where 1 to {limit} are allowed")]
pub struct FrameSizeError {
    /// The length that the header claims.
    pub length: usize,
    /// The largest allowed.
    pub limit: usize,
}

/// Where the next frame stands in bytes received so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A whole frame: its payload is `bytes[HEADER_BYTES..end]`, the next frame starts at `end`.
    Whole {
        /// Offset behind the frame.
        end: usize,
    },
    /// Not yet whole: at least so many more bytes are needed.
    Needs {
        /// Bytes that are missing, at least 1.
        more: usize,
    },
}

/// Looks for a frame at the start of `bytes`; `limit` is the largest payload allowed.
///
/// # Errors
/// [`FrameSizeError`] as soon as the length is known to be 0 or over `limit`.
pub fn next(bytes: &[u8], limit: usize) -> Result<Next, FrameSizeError> {
    let Some((header, payload)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(Next::Needs {
            more: HEADER_BYTES.saturating_sub(bytes.len()),
        });
    };
    let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
    if length == 0 || length > limit {
        return Err(FrameSizeError { length, limit });
    }
    match length.checked_sub(payload.len()) {
        None | Some(0) => Ok(Next::Whole {
            end: HEADER_BYTES.saturating_add(length),
        }),
        Some(more) => Ok(Next::Needs { more }),
    }
}

/// The payloads of the whole frames at the start of `bytes`, up to one that is not whole or not
/// allowed.
pub fn payloads(mut bytes: &[u8], limit: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let Ok(Next::Whole { end }) = next(bytes, limit) else {
            return None;
        };
        let (frame, rest) = bytes.split_at_checked(end)?;
        bytes = rest;
        frame.get(HEADER_BYTES..)
    })
}

/// Appends a frame to `out`, its payload written by `payload`.
///
/// # Errors
/// [`FrameSizeError`], with `out` as it was, where the payload is empty or over `limit`.
pub fn append(
    out: &mut Vec<u8>,
    limit: usize,
    payload: impl FnOnce(&mut Vec<u8>),
) -> Result<(), FrameSizeError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    payload(out);
    let length = out.len().saturating_sub(start).saturating_sub(HEADER_BYTES);
    let header = u32::try_from(length)
        .ok()
        .filter(|_| (1..=limit).contains(&length));
    match (
        header,
        out.get_mut(start..)
            .and_then(|frame| frame.first_chunk_mut::<HEADER_BYTES>()),
    ) {
        (Some(header), Some(place)) => {
            *place = header.to_be_bytes();
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(FrameSizeError { length, limit })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_of_zero_or_over_the_limit_is_refused_before_any_payload() {
        assert_eq!(
            next(&[0, 0, 0, 0], 10),
            Err(FrameSizeError {
                length: 0,
                limit: 10
            })
        );
        assert_eq!(
            next(&[0, 0, 0, 11], 10),
            Err(FrameSizeError {
                length: 11,
                limit: 10
            })
        );
        assert!(next(&[255, 255, 255, 255], 16_384).is_err());
        assert_eq!(next(&[0, 0, 0, 10], 10), Ok(Next::Needs { more: 10 }));
    }

    #[test]
    fn a_payload_over_the_limit_leaves_the_buffer_as_it_was() {
        let mut out = vec![1, 2, 3];
        assert!(append(&mut out, 4, |out| out.extend_from_slice(b"12345")).is_err());
        assert!(append(&mut out, 4, |_| ()).is_err());
        assert_eq!(out, [1, 2, 3]);
    }

    proptest! {
        #[test]
        fn frames_come_out_whole_and_in_order_however_the_bytes_are_split(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..8),
            split in 1_usize..9,
        ) {
            let mut bytes = Vec::new();
            for payload in &payloads {
                append(&mut bytes, 40, |out| out.extend_from_slice(payload)).unwrap();
            }
            let whole: Vec<&[u8]> = super::payloads(&bytes, 40).collect();
            prop_assert_eq!(&whole, &payloads);
            let part = bytes.get(..bytes.len() - 1).unwrap();
            prop_assert_eq!(super::payloads(part, 40).count(), payloads.len() - 1);
            let (mut seen, mut held, mut received) = (Vec::new(), Vec::new(), bytes.chunks(split));
            loop {
                match next(&held, 40).unwrap() {
                    Next::Whole { end } => {
                        seen.push(held[HEADER_BYTES..end].to_vec());
                        held.drain(..end);
                    }
                    Next::Needs { more } => match received.next() {
                        Some(chunk) => { prop_assert!(more >= 1); held.extend_from_slice(chunk) }
                        None => break,
                    },
                }
            }
            prop_assert!(held.is_empty());
            prop_assert_eq!(seen, payloads);
        }
    }
}
