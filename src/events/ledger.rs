//! What was recorded lately: which event is a new one, which one has happened again, and when that is written. Pure.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::object::{Series, name};
use super::{Event, Tuning};

/// One event, as the API server is to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub event: Event,
    /// Of the object.
    pub name: String,
    /// When it happened first.
    pub at: Timestamp,
    /// Only where it has happened again.
    pub series: Option<Series>,
}

/// What is remembered of an event.
#[derive(Debug)]
struct Known {
    name: String,
    first: Timestamp,
    last: Timestamp,
    /// When it was recorded last.
    heard: Duration,
    count: i32,
    /// The count that was written last, and when.
    written: i32,
    wrote: Duration,
}

impl Known {
    fn entry(&self, event: &Event) -> Entry {
        let series = (self.count > 1).then_some(Series { count: self.count, last: self.last });
        Entry { event: event.clone(), name: self.name.clone(), at: self.first, series }
    }

    fn write(&mut self, event: &Event, now: Duration) -> Entry {
        (self.written, self.wrote) = (self.count, now);
        self.entry(event)
    }
}

/// All events that may happen again soon. Moments are counted from any one on.
#[derive(Debug)]
pub(super) struct Ledger {
    known: HashMap<Event, Known>,
    most: usize,
    quiet: Duration,
    burst: f64,
    refill: Duration,
    /// New events that may be created now.
    tokens: f64,
    filled: Duration,
}

impl Ledger {
    pub(super) fn new(tuning: &Tuning) -> Self {
        Ledger {
            known: HashMap::new(),
            most: tuning.known,
            quiet: tuning.quiet,
            burst: f64::from(tuning.burst),
            refill: tuning.refill,
            tokens: f64::from(tuning.burst),
            filled: Duration::ZERO,
        }
    }

    /// Takes an event in. What is given back is to be written at once: a new one, or one that became a series. `Err`: there
    /// are too many new ones.
    pub(super) fn take(&mut self, event: Event, at: Timestamp, now: Duration) -> Result<Option<Entry>, ()> {
        if let Some(known) = self.known.get_mut(&event) {
            known.count = known.count.saturating_add(1);
            (known.last, known.heard) = (at, now);
            return Ok((known.count == 2).then(|| known.write(&event, now)));
        }
        if self.known.len() >= self.most || !self.may_create(now) {
            return Err(());
        }
        let known = Known { name: name(&event, at), first: at, last: at, heard: now, count: 1, written: 1, wrote: now };
        let entry = known.entry(&event);
        self.known.insert(event, known);
        Ok(Some(entry))
    }

    /// Series of which the count has not been written for long. What is quiet and written is forgotten: should it happen
    /// again, it is a new event.
    pub(super) fn due(&mut self, now: Duration) -> Vec<Entry> {
        let mut due = Vec::new();
        let quiet = self.quiet;
        self.known.retain(|event, known| {
            if known.count > known.written && now.saturating_sub(known.wrote) >= quiet {
                due.push(known.write(event, now));
            }
            known.count > known.written || now.saturating_sub(known.heard) < quiet
        });
        due
    }

    /// The event could not be created: should it happen again, it is a new one.
    pub(super) fn forget(&mut self, event: &Event) {
        self.known.remove(event);
    }

    fn may_create(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + passed / self.refill.as_secs_f64()).min(self.burst);
        let may = self.tokens >= 1.0;
        self.tokens -= if may { 1.0 } else { 0.0 };
        may
    }
}
