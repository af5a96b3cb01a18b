//! A watch that was recorded, read without a server: what benchmarks measure and fuzzers feed.

use std::sync::Arc;

use super::decode::Decoder;
use super::problems::ProblemLog;
use super::status::Status;
use super::step::{Input, Machine};
use super::stream::{Encoding, Stream, TooLong};
use super::tuning::Tuning;
use crate::state::{Kind, Update};

/// Reads the body of one streaming list with the watch that follows it, exactly as the source does.
pub struct Replay {
    machine: Machine,
    decoder: Decoder,
    stream: Stream,
}

impl Replay {
    /// A body of a kind that is still to come.
    pub fn new(kind: Kind, encoding: Encoding) -> Replay {
        let tuning = Tuning::default();
        Replay {
            machine: Machine::new(kind, tuning.page),
            decoder: Decoder::new(kind, ProblemLog::new(Arc::new(Status::default()))),
            stream: Stream::new(encoding, tuning.line_max),
        }
    }

    /// The next bytes of the body, and the updates that they complete. An error ends the body, as it would end the watch.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Update>, String> {
        self.stream.push(bytes);
        let mut updates = Vec::new();
        while let Some(event) = self.stream.next().map_err(|TooLong| "an event is too long".to_owned())? {
            let event = self.decoder.event(self.stream.encoding(), &event).map_err(|failure| failure.to_string())?;
            updates.extend(self.machine.step(Input::Event(event)).update);
        }
        Ok(updates)
    }
}
