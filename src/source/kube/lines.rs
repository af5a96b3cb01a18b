//! Cuts a stream of bytes into lines of bounded length.

use std::io::BufRead;

use bytes::{Bytes, BytesMut};

use super::stream::{TooLong, release_if_empty};

/// Bytes that have arrived and are not yet a line.
pub(super) struct Lines {
    buffer: BytesMut,
    /// So many bytes of the buffer were searched and hold no line end.
    searched: usize,
    max: usize,
}

impl Lines {
    pub fn new(max: usize) -> Lines {
        Lines { buffer: BytesMut::new(), searched: 0, max }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete line that is not blank, without its end. `None`: more bytes are needed.
    pub fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        loop {
            let Some(end) = self.find_end() else {
                self.searched = self.buffer.len();
                release_if_empty(&mut self.buffer);
                return if self.searched > self.max { Err(TooLong) } else { Ok(None) };
            };
            self.searched = 0;
            if end > self.max {
                return Err(TooLong);
            }
            let line = self.buffer.split_to(end + 1).split_to(end).freeze();
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// Where the first line ends. What was searched in vain is not searched again.
    fn find_end(&self) -> Option<usize> {
        let mut unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        // Reading from a slice cannot fail. The library's search looks at many bytes at once.
        let skipped = unsearched.skip_until(b'\n').unwrap_or_default();
        let end = (self.searched + skipped).checked_sub(1)?;
        (self.buffer.get(end) == Some(&b'\n') && skipped > 0).then_some(end)
    }

    /// Whether the stream ended in the middle of a line.
    pub fn is_cut_off(&self) -> bool {
        !self.buffer.trim_ascii().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However the bytes are cut, the lines are the same.
        #[test]
        fn lines_do_not_depend_on_chunks(
            text in "[a-c \n]{0,60}",
            cuts in proptest::collection::vec(1usize..8, 1..60),
        ) {
            let mut lines = Lines::new(100);
            let mut found = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.into_iter().cycle() {
                let (chunk, later) = rest.split_at(cut.min(rest.len()));
                lines.push(chunk);
                while let Some(line) = lines.next().unwrap() {
                    found.push(String::from_utf8(line.to_vec()).unwrap());
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            let (complete, tail) = text.rsplit_once('\n').unwrap_or(("", &text));
            let expected: Vec<&str> = complete.split('\n').filter(|line| !line.trim().is_empty()).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(lines.is_cut_off(), !tail.trim().is_empty());
        }
    }

    #[test]
    fn long_lines_are_refused_whether_or_not_they_end() {
        for text in ["12345", "12345\n"] {
            let mut lines = Lines::new(4);
            lines.push(b"1234\n");
            assert_eq!(lines.next(), Ok(Some(Bytes::from_static(b"1234"))));
            lines.push(text.as_bytes());
            assert_eq!(lines.next(), Err(TooLong));
        }
    }
}
