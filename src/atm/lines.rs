//! Lines of text that may hold PINs: bounded, and wiped wherever they were.

use std::io::{self, Read};

use zeroize::{Zeroize, Zeroizing};

/// No command and no answer of a customer is longer.
const LINE_BYTES_MAX: usize = 1_024;
/// Stands for a line that is too long: nothing that anybody understands. Half of a line might
/// mean something else than the whole.
const TOO_LONG: &str = "\u{fffd}";

/// Reads lines without leaving copies in a shared buffer, as standard input's own reader would.
#[derive(Debug)]
pub struct Lines<R> {
    source: R,
    buffer: Zeroizing<[u8; 4_096]>,
    start: usize,
    end: usize,
}

impl<R: Read> Lines<R> {
    /// Reads from `source`.
    pub fn new(source: R) -> Self {
        Self {
            source,
            buffer: Zeroizing::new([0; 4_096]),
            start: 0,
            end: 0,
        }
    }

    /// The next line without its end; `None` at the end of all.
    ///
    /// # Errors
    /// Those of the source; text that is not UTF-8 is replaced, not refused.
    pub fn next_line(&mut self) -> io::Result<Option<Zeroizing<String>>> {
        let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
        let (mut any, mut too_long) = (false, false);
        while let Some(byte) = self.next_byte()? {
            any = true;
            if byte == b'\n' {
                break;
            }
            if line.len() < LINE_BYTES_MAX {
                line.push(byte);
            } else {
                too_long = true;
            }
        }
        if too_long {
            return Ok(Some(Zeroizing::new(TOO_LONG.to_owned())));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(any.then(|| Zeroizing::new(String::from_utf8_lossy(&line).into_owned())))
    }

    /// The next byte, and none more is taken from the source: for a terminal whose mode changes.
    ///
    /// # Errors
    /// Those of the source.
    pub fn single_byte(&mut self) -> io::Result<Option<u8>> {
        self.byte_of_at_most(1)
    }

    fn next_byte(&mut self) -> io::Result<Option<u8>> {
        self.byte_of_at_most(usize::MAX)
    }

    fn byte_of_at_most(&mut self, count: usize) -> io::Result<Option<u8>> {
        if self.start == self.end {
            self.buffer.zeroize();
            self.start = 0;
            let room = count.min(self.buffer.len());
            let room = self.buffer.get_mut(..room).unwrap_or_default();
            self.end = loop {
                match self.source.read(room) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
        }
        let byte = self
            .buffer
            .get(self.start..self.end)
            .and_then(<[u8]>::first)
            .copied();
        self.start = self.start.saturating_add(usize::from(byte.is_some()));
        Ok(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &[u8]) -> Vec<String> {
        let mut lines = Lines::new(text);
        std::iter::from_fn(|| lines.next_line().unwrap())
            .map(|line| line.to_string())
            .collect()
    }

    #[test]
    fn lines_come_out_without_their_ends_and_the_last_needs_none() {
        assert_eq!(read_all(b"a\r\n\nb c\nd"), ["a", "", "b c", "d"]);
        assert_eq!(read_all(b""), Vec::<String>::new());
    }

    #[test]
    fn a_line_without_end_means_nothing_and_the_next_one_is_whole() {
        let mut text = vec![b'x'; 100_000];
        text.extend_from_slice(b"\nnext\n");
        assert_eq!(read_all(&text), [TOO_LONG, "next"]);
    }
}
