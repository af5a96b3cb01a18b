//! Some connections, and what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::fate::{Fate, Seen};
use super::steps::Attempt;
use crate::lab::{self, DROP_TIMEOUT, Host, Probe, Reply};

/// What became of connections.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many each pod answered.
    pub answers: BTreeMap<String, usize>,
    /// The source addresses that pods saw.
    pub seen: BTreeSet<IpAddr>,
    /// Why others had no answer.
    failures: Vec<lab::Failure>,
    times: Vec<Duration>,
}

/// Connects as often as it is to be tried, each time from a new port.
pub fn make(attempt: &Attempt, from: &Host) -> Outcome {
    let probe = Probe::tcp(attempt.to);
    let probe = if attempt.expected == Fate::Dropped { probe.timeout(DROP_TIMEOUT) } else { probe };
    let mut outcome = Outcome::default();
    for _ in 0..attempt.times {
        let begin = Instant::now();
        let result = probe.run(from);
        outcome.add(result, begin.elapsed());
    }
    outcome
}

/// The address that a host's packets to another address have.
pub fn source(from: &Host, to: &SocketAddr) -> Option<IpAddr> {
    if to.ip().is_loopback() { Some(to.ip()) } else { from.address(crate::net::Family::of(&to.ip())) }
}

impl Outcome {
    fn add(&mut self, result: Result<Reply, lab::Failure>, elapsed: Duration) {
        match result {
            Ok(reply) => {
                *self.answers.entry(reply.server).or_default() += 1;
                self.seen.insert(reply.peer.ip());
                self.times.push(reply.elapsed);
            }
            Err(failure) => {
                self.times.push(elapsed);
                if !self.failures.contains(&failure) {
                    self.failures.push(failure);
                }
            }
        }
    }

    /// How many connections were tried.
    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// How long half of them took at most.
    pub fn median(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    /// What became of them, all together. `source` is the client's address.
    pub fn fate(&self, source: IpAddr) -> Fate {
        let seen: BTreeSet<Seen> =
            self.seen.iter().map(|ip| if *ip == source { Seen::Kept } else { Seen::Masqueraded }).collect();
        match (self.failures.as_slice(), seen.first()) {
            ([], Some(seen_by_all)) if seen.len() == 1 => {
                Fate::Answered { pods: self.answers.keys().cloned().collect(), seen: *seen_by_all }
            }
            ([lab::Failure::Refused], None) => Fate::Refused,
            ([lab::Failure::TimedOut], None) => Fate::Dropped,
            ([lab::Failure::Unreachable], None) => Fate::Unreachable,
            _ => Fate::Other(self.in_words()),
        }
    }

    fn in_words(&self) -> String {
        let answers = self.answers.iter().map(|(pod, count)| format!("{count} answered by {pod}"));
        let seen = self.seen.iter().map(|ip| format!("from {ip}"));
        let failures = self.failures.iter().map(ToString::to_string);
        answers.chain(seen).chain(failures).collect::<Vec<_>>().join(", ")
    }
}
