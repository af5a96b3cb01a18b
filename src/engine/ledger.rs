//! What is desired, what the kernel said yes to, and what is still owed.
//!
//! | map | meaning |
//! |---|---|
//! | `desired` | what resolve says |
//! | `applied` | what the kernel said yes to last |
//! | `again` | said yes to once, forgotten since, to be written again before anything newer (a rebuild) |
//! | `flight` | what the kernel is asked for right now |
//! | `dirty` | fragments whose *wanted* value is neither applied nor in flight, with the time of the oldest such change |
//! | `quarantine` | fragments that stay at what is applied although something else is desired |
//!
//! *Wanted* is `again` where there is an entry, else `applied` for a quarantined fragment, else `desired`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pacing::{Moment, Pacing};
use super::quarantine::{Entry, Quarantine};
use crate::model::{ServicePort, ServicePortKey};
use crate::net::{Family, PerFamily};
use crate::plan::Move;

/// Fragments by identity.
pub(super) type Fragments = BTreeMap<ServicePortKey, Arc<ServicePort>>;

/// What a new desired value came to.
#[derive(Debug)]
pub(super) enum Change {
    /// It was known already.
    Nothing,
    /// Something may be owed to the kernel now.
    Owed,
    /// The fragment is desired again as it is in the kernel: it is out of quarantine.
    Released(Entry),
}

/// What the kernel is asked for, and since when that is owed; `None`: an attempt to leave quarantine, owed to no one.
#[derive(Debug)]
struct Sent {
    value: Option<Arc<ServicePort>>,
    since: Option<Moment>,
    /// When something else became desired during an attempt to leave quarantine.
    changed: Option<Moment>,
}

/// The engine's books.
#[derive(Debug)]
pub(super) struct Ledger {
    desired: Fragments,
    applied: Fragments,
    counts: PerFamily<usize>,
    again: Fragments,
    flight: BTreeMap<ServicePortKey, Sent>,
    dirty: BTreeMap<ServicePortKey, Moment>,
    quarantine: Quarantine,
}

impl Ledger {
    pub(super) fn new(pacing: &Pacing) -> Self {
        Ledger {
            desired: Fragments::new(),
            applied: Fragments::new(),
            counts: PerFamily::default(),
            again: Fragments::new(),
            flight: BTreeMap::new(),
            dirty: BTreeMap::new(),
            quarantine: Quarantine::new(pacing),
        }
    }

    /// Takes in a new desired value.
    pub(super) fn set(&mut self, key: ServicePortKey, value: Option<Arc<ServicePort>>, now: Moment) -> Change {
        if self.desired.get(&key) == value.as_ref() {
            return Change::Nothing;
        }
        match value {
            Some(value) => self.desired.insert(key.clone(), value),
            None => self.desired.remove(&key),
        };
        if !self.quarantine.contains(&key) {
            self.refresh(&key, now);
            return Change::Owed;
        }
        if let Some(sent) = self.flight.get_mut(&key) {
            sent.changed.get_or_insert(now);
        }
        match self.reconsider(&key, now) {
            Some(entry) => Change::Released(entry),
            None => Change::Owed,
        }
    }

    /// Every change so far counts as made now.
    pub(super) fn restamp(&mut self, now: Moment) {
        self.dirty.values_mut().for_each(|since| *since = now);
    }

    pub(super) fn is_dirty(&self, key: &ServicePortKey) -> bool {
        self.dirty.contains_key(key)
    }

    pub(super) fn dirty(&self) -> impl Iterator<Item = &ServicePortKey> {
        self.dirty.keys()
    }

    pub(super) fn applied(&self) -> &Fragments {
        &self.applied
    }

    pub(super) fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// Sends these fragments on their way: their steps from what is applied to what is wanted.
    pub(super) fn send(&mut self, keys: &[ServicePortKey]) -> Vec<Move> {
        keys.iter()
            .filter_map(|key| {
                let since = self.dirty.remove(key)?;
                let after = self.wanted(key).cloned();
                self.flight.insert(key.clone(), Sent { value: after.clone(), since: Some(since), changed: None });
                Some(Move { before: self.applied.get(key).cloned(), after })
            })
            .collect()
    }

    /// Sends a quarantined fragment on its way to what is desired.
    pub(super) fn send_quarantined(&mut self, key: &ServicePortKey) -> Vec<Move> {
        let after = self.desired.get(key).cloned();
        self.flight.insert(key.clone(), Sent { value: after.clone(), since: None, changed: None });
        vec![Move { before: self.applied.get(key).cloned(), after }]
    }

    /// The kernel said yes to everything in flight. Returns who left quarantine.
    pub(super) fn accept(&mut self, now: Moment) -> Vec<(ServicePortKey, Entry)> {
        let mut released = Vec::new();
        for (key, sent) in std::mem::take(&mut self.flight) {
            self.set_applied(&key, sent.value);
            // A newer change that waited behind a rebuild keeps its age.
            let since = self.again.remove(&key).and(sent.since).or(sent.changed).unwrap_or(now);
            if sent.since.is_none()
                && let Some(entry) = self.quarantine.release(&key)
            {
                released.push((key.clone(), entry));
            }
            self.refresh(&key, since);
        }
        released
    }

    /// The kernel did not say yes: everything in flight is owed as before. Returns who left quarantine: who became
    /// desired as it is while it was tried.
    pub(super) fn reject(&mut self, now: Moment) -> Vec<(ServicePortKey, Entry)> {
        let mut released = Vec::new();
        for (key, sent) in std::mem::take(&mut self.flight) {
            if let Some(since) = sent.since {
                let dirty = self.dirty.entry(key.clone()).or_insert(since);
                *dirty = since.min(*dirty);
                self.refresh(&key, now);
            } else if let Some(entry) = self.reconsider(&key, now) {
                released.push((key, entry));
            }
        }
        released
    }

    /// The kernel refused the one fragment in flight: it goes into quarantine. Returns its key if it is new there.
    pub(super) fn refuse(&mut self, reason: String, now: Moment) -> Option<ServicePortKey> {
        let (key, sent) = self.flight.pop_first()?;
        self.again.remove(&key);
        self.dirty.remove(&key);
        let is_new = self.quarantine.refuse(&key, sent.value, reason, now);
        let released = self.reconsider(&key, now).is_some();
        (is_new && !released).then_some(key)
    }

    /// What the backend remembered is forgotten: everything applied is to be applied again, as it was, and is owed
    /// since `since`. Returns all that is owed.
    pub(super) fn forget(&mut self, since: Moment) -> Vec<ServicePortKey> {
        self.counts = PerFamily::default();
        for (key, value) in std::mem::take(&mut self.applied) {
            let dirty = self.dirty.entry(key.clone()).or_insert(since);
            *dirty = since.min(*dirty);
            self.again.entry(key).or_insert(value);
        }
        let keys: Vec<_> = self.dirty.keys().cloned().collect();
        for key in keys {
            self.refresh(&key, since);
        }
        self.dirty.keys().cloned().collect()
    }

    /// How many fragments of a family are owed, and since when the oldest.
    pub(super) fn owed(&self, family: Family) -> (usize, Option<Moment>) {
        let dirty = self.dirty.iter().map(|(key, since)| (key, *since));
        let flight = self.flight.iter().filter_map(|(key, sent)| Some((key, sent.since?)));
        let mut count = 0;
        let mut oldest: Option<Moment> = None;
        for (_, since) in dirty.chain(flight).filter(|(key, _)| key.family == family) {
            count += 1;
            oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
        }
        (count, oldest)
    }

    /// How many fragments of a family are in force.
    pub(super) fn in_force(&self, family: Family) -> usize {
        *self.counts.get(family)
    }

    fn set_applied(&mut self, key: &ServicePortKey, value: Option<Arc<ServicePort>>) {
        let is_there = value.is_some();
        let before = match value {
            Some(value) => self.applied.insert(key.clone(), value),
            None => self.applied.remove(key),
        };
        let count = self.counts.get_mut(key.family);
        match (before.is_some(), is_there) {
            (false, true) => *count += 1,
            (true, false) => *count -= 1,
            (false, false) | (true, true) => {}
        }
    }

    fn wanted(&self, key: &ServicePortKey) -> Option<&Arc<ServicePort>> {
        match self.again.get(key) {
            Some(value) => Some(value),
            None if self.quarantine.contains(key) => self.applied.get(key),
            None => self.desired.get(key),
        }
    }

    /// Whether the fragment is dirty may have changed.
    fn refresh(&mut self, key: &ServicePortKey, now: Moment) {
        let expected = match self.flight.get(key) {
            Some(sent) => sent.value.as_ref(),
            None => self.applied.get(key),
        };
        if self.wanted(key) == expected {
            self.dirty.remove(key);
        } else {
            self.dirty.entry(key.clone()).or_insert(now);
        }
    }

    /// A quarantined fragment may be desired as it already is, and is then released; or as it was not tried yet.
    fn reconsider(&mut self, key: &ServicePortKey, now: Moment) -> Option<Entry> {
        let desired = self.desired.get(key);
        let kept = self.again.get(key).or_else(|| self.applied.get(key));
        let retrying = self.flight.get(key).is_some_and(|sent| sent.since.is_none());
        if desired == kept && !retrying {
            let entry = self.quarantine.release(key);
            self.refresh(key, now);
            return entry;
        }
        self.quarantine.changed(key, desired, now);
        None
    }
}
