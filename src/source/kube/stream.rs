//! How the answer of a watch is cut into events, for either encoding.

use bytes::{Bytes, BytesMut};

use super::lines::Lines;
use super::protobuf::Frames;

/// How objects are written in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    Json,
    /// The API's protobuf: a fraction of the bytes, and a fraction of the work to read them.
    Protobuf,
}

impl Encoding {
    /// The encoding that a `Content-Type` names. What names none is read as JSON, which says best what it is instead.
    pub fn of(content_type: Option<&str>) -> Encoding {
        let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case(PROTOBUF) { Encoding::Protobuf } else { Encoding::Json }
    }
}

/// Media type of the API's protobuf.
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// An event was longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Bytes of a watch that have arrived and are not yet an event.
pub(super) enum Stream {
    Json(Lines),
    Protobuf(Frames),
}

impl Stream {
    /// `max` is the longest event, in bytes.
    pub fn new(encoding: Encoding, max: usize) -> Stream {
        match encoding {
            Encoding::Json => Stream::Json(Lines::new(max)),
            Encoding::Protobuf => Stream::Protobuf(Frames::new(max)),
        }
    }

    pub fn encoding(&self) -> Encoding {
        match self {
            Stream::Json(_) => Encoding::Json,
            Stream::Protobuf(_) => Encoding::Protobuf,
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        match self {
            Stream::Json(lines) => lines.push(bytes),
            Stream::Protobuf(frames) => frames.push(bytes),
        }
    }

    /// The next complete event. `None`: more bytes are needed.
    pub fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        match self {
            Stream::Json(lines) => lines.next(),
            Stream::Protobuf(frames) => frames.next(),
        }
    }

    /// Whether the stream ended in the middle of an event.
    pub fn is_cut_off(&self) -> bool {
        match self {
            Stream::Json(lines) => lines.is_cut_off(),
            Stream::Protobuf(frames) => frames.is_cut_off(),
        }
    }
}

/// An empty buffer holds no room: a watch is quiet most of the time, and what a burst needed is not needed again soon.
pub(super) fn release_if_empty(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_decides() {
        for (content_type, encoding) in [
            (Some("application/vnd.kubernetes.protobuf;stream=watch"), Encoding::Protobuf),
            (Some("Application/Vnd.Kubernetes.Protobuf ; x=y"), Encoding::Protobuf),
            (Some("application/vnd.kubernetes.protobuffer"), Encoding::Json),
            (Some("application/json"), Encoding::Json),
            (Some(""), Encoding::Json),
            (None, Encoding::Json),
        ] {
            assert_eq!(Encoding::of(content_type), encoding, "{content_type:?}");
        }
    }
}
