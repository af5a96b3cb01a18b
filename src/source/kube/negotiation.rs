//! Which encodings a kind is asked for in.
//!
//! Protobuf is asked for first and JSON taken as well, as client-go does it; the answer says which it is. A server that
//! refuses to choose, or whose protobuf cannot be read again and again, is asked for JSON alone from then on.

use super::step::Failure;
use super::stream::Encoding;
use crate::state::Kind;

/// After so many answers in a row whose protobuf could not be read, JSON is asked for. Fewer than make a watch be given
/// up for a list, so that the list is already asked for in the encoding that can be read.
const UNREADABLE: u32 = 3;

/// What one kind is asked for in.
#[derive(Debug)]
pub(super) struct Negotiation {
    kind: Kind,
    protobuf: bool,
    /// Answers in protobuf that could not be read, since the last event that could.
    unreadable: u32,
}

impl Negotiation {
    pub fn new(kind: Kind) -> Negotiation {
        Negotiation { kind, protobuf: true, unreadable: 0 }
    }

    /// The `Accept` header.
    pub fn accept(&self) -> &'static str {
        if self.protobuf { "application/vnd.kubernetes.protobuf, application/json" } else { "application/json" }
    }

    /// A request was refused. True if the same one is worth sending again at once, in JSON.
    pub fn refused(&mut self, failure: &Failure) -> bool {
        let is_encoding = matches!(failure, Failure::Refused { code: 406 | 415, .. });
        is_encoding && self.give_up(failure)
    }

    /// An answer could not be read to its end.
    pub fn failed(&mut self, encoding: Encoding, failure: &Failure) {
        // Text where frames should be begins with a length that no frame has.
        if encoding == Encoding::Protobuf && matches!(failure, Failure::Malformed(_) | Failure::TooLarge(_)) {
            self.unreadable += 1;
            if self.unreadable >= UNREADABLE {
                self.give_up(failure);
            }
        }
    }

    /// An event or page could be read.
    pub fn was_read(&mut self) {
        self.unreadable = 0;
    }

    /// True if it had not been given up before.
    fn give_up(&mut self, failure: &Failure) -> bool {
        let was_asked_for = std::mem::replace(&mut self.protobuf, false);
        if was_asked_for {
            tracing::debug!(kind = ?self.kind, reason = %failure, "API server: no protobuf; asking for JSON");
        }
        was_asked_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16) -> Failure {
        Failure::Refused { code, message: String::new() }
    }

    #[test]
    fn a_refusal_counts_once() {
        for code in [406, 415] {
            let mut negotiation = Negotiation::new(Kind::Node);
            assert_eq!(negotiation.accept(), "application/vnd.kubernetes.protobuf, application/json");
            assert!(!negotiation.refused(&refused(422)), "not for its encoding");
            assert!(negotiation.refused(&refused(code)));
            assert_eq!(negotiation.accept(), "application/json");
            assert!(!negotiation.refused(&refused(code)), "JSON is refused as well: nothing is left to try at once");
        }
    }

    #[test]
    fn protobuf_that_cannot_be_read_is_given_up() {
        let broken = Failure::Malformed(String::new());
        let mut negotiation = Negotiation::new(Kind::Node);
        for _ in 0..5 {
            negotiation.failed(Encoding::Protobuf, &broken);
            negotiation.failed(Encoding::Protobuf, &broken);
            negotiation.was_read();
        }
        negotiation.failed(Encoding::Json, &broken);
        negotiation.failed(Encoding::Protobuf, &Failure::HungUp(String::new()));
        assert!(negotiation.protobuf);
        for _ in 0..UNREADABLE {
            negotiation.failed(Encoding::Protobuf, &broken);
        }
        assert!(!negotiation.protobuf);
    }
}
