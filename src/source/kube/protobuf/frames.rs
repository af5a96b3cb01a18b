//! Cuts a stream of bytes into frames of bounded length: each four bytes of length, the highest first, then so many
//! bytes (`LengthDelimitedFramer` of `k8s.io/apimachinery`).

use bytes::{Buf, Bytes, BytesMut};

use crate::source::kube::stream::{TooLong, release_if_empty};

/// Bytes of the length.
const HEAD: usize = 4;

/// Bytes that have arrived and are not yet a frame.
pub struct Frames {
    buffer: BytesMut,
    max: usize,
}

impl Frames {
    pub fn new(max: usize) -> Frames {
        Frames { buffer: BytesMut::new(), max }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete frame, without its length. `None`: more bytes are needed. A frame that is too long is refused
    /// by its length alone, before its bytes come.
    pub fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else {
            release_if_empty(&mut self.buffer);
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
        if length > self.max {
            return Err(TooLong);
        }
        if self.buffer.len() < HEAD + length {
            self.buffer.reserve(HEAD + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether the stream ended in the middle of a frame.
    pub fn is_cut_off(&self) -> bool {
        !self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However the bytes are cut, the frames are the same.
        #[test]
        fn frames_do_not_depend_on_chunks(
            sent in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..10),
            tail in proptest::collection::vec(0u8..1, 0..4),
            cuts in proptest::collection::vec(1usize..8, 1..60),
        ) {
            let mut bytes = Vec::new();
            for frame in &sent {
                bytes.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
                bytes.extend(frame);
            }
            bytes.extend(&tail);
            let mut frames = Frames::new(20);
            let mut found = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.into_iter().cycle() {
                let (chunk, later) = rest.split_at(cut.min(rest.len()));
                frames.push(chunk);
                while let Some(frame) = frames.next().unwrap() {
                    found.push(frame.to_vec());
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, sent);
            prop_assert_eq!(frames.is_cut_off(), !tail.is_empty());
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_by_its_head() {
        let mut frames = Frames::new(4);
        frames.push(&[0, 0, 0, 4, 1, 2, 3, 4, 0, 0, 0, 5]);
        assert_eq!(frames.next(), Ok(Some(Bytes::from_static(&[1, 2, 3, 4]))));
        assert_eq!(frames.next(), Err(TooLong));
        // Text where frames should be, as from something in between.
        let mut frames = Frames::new(16 << 20);
        frames.push(b"<html>");
        assert_eq!(frames.next(), Err(TooLong));
    }
}
