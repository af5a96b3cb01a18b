//! A watch that was recorded, read without a server: what benchmarks measure and fuzzers feed.

use std::sync::Arc;

use super::decode::Decoder;
use super::lines::Lines;
use super::problems::ProblemLog;
use super::resource::Resource;
use super::status::Status;
use super::step::{Input, Machine};
use super::tuning::Tuning;
use crate::state::{Kind, Update};

/// Reads the body of one streaming list with the watch that follows it, exactly as the source does.
pub struct Replay {
    machine: Machine,
    decoder: Decoder,
    lines: Lines,
}

impl Replay {
    /// A body of a kind that is still to come.
    pub fn new(kind: Kind) -> Replay {
        let tuning = Tuning::default();
        Replay {
            machine: Machine::new(kind, tuning.page),
            decoder: Decoder::new(Resource::new(kind, "node"), ProblemLog::new(Arc::new(Status::default()))),
            lines: Lines::new(tuning.line_max),
        }
    }

    /// The next bytes of the body, and the updates that they complete. An error ends the body, as it would end the watch.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Update>, String> {
        self.lines.push(bytes);
        let mut updates = Vec::new();
        while let Some(line) = self.lines.next().map_err(|_| "a line is too long".to_owned())? {
            let event = self.decoder.event(&line).map_err(|failure| failure.to_string())?;
            updates.extend(self.machine.step(Input::Event(event)).update);
        }
        Ok(updates)
    }
}
