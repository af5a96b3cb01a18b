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

use super::fragments::Fragments;
use super::owed::{Ages, Dirty};
use super::pacing::{Moment, Pacing};
use super::quarantine::{Entry, Quarantine};
use super::waits::Waits;
use crate::model::{ServicePort, ServicePortKey};
use crate::net::{Family, PerFamily};
use crate::plan::Move;

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

/// How far the newest value of a fragment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The kernel holds it.
    InForce,
    /// The kernel is asked for it, or will be.
    Owed,
    /// The fragment is in quarantine.
    Refused,
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
    again: BTreeMap<ServicePortKey, Arc<ServicePort>>,
    flight: BTreeMap<ServicePortKey, Sent>,
    /// Of what is in flight and owed.
    flight_ages: Ages,
    dirty: Dirty,
    quarantine: Quarantine,
}

impl Ledger {
    pub(super) fn new(pacing: &Pacing) -> Self {
        Ledger {
            desired: Fragments::default(),
            applied: Fragments::default(),
            counts: PerFamily::default(),
            again: BTreeMap::new(),
            flight: BTreeMap::new(),
            flight_ages: Ages::default(),
            dirty: Dirty::default(),
            quarantine: Quarantine::new(pacing),
        }
    }

    /// Takes in a new desired value.
    pub(super) fn set(&mut self, key: ServicePortKey, value: Option<Arc<ServicePort>>, now: Moment) -> Change {
        if self.desired.get(&key) == value.as_ref() {
            return Change::Nothing;
        }
        match value {
            Some(value) => self.desired.insert(value),
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
        self.dirty.restamp(now);
    }

    pub(super) fn is_dirty(&self, key: &ServicePortKey) -> bool {
        self.dirty.contains(key)
    }

    /// Nothing is to be sent.
    pub(super) fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    pub(super) fn dirty(&self) -> impl Iterator<Item = &ServicePortKey> {
        self.dirty.keys()
    }

    /// How far the newest value of a fragment has come.
    pub(super) fn progress(&self, key: &ServicePortKey) -> Progress {
        if self.dirty.contains(key) || self.flight.get(key).is_some_and(|sent| sent.since.is_some()) {
            Progress::Owed
        } else if self.quarantine.contains(key) {
            Progress::Refused
        } else {
            Progress::InForce
        }
    }

    pub(super) fn desired(&self) -> &Fragments {
        &self.desired
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
                let since = self.dirty.settle(key)?;
                self.flight_ages.add(key.family, since);
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

    /// The kernel said yes to everything in flight. Returns who left quarantine. Changes that waited are recorded, but not
    /// what was only written again.
    pub(super) fn accept(&mut self, now: Moment, waits: &mut PerFamily<Waits>) -> Vec<(ServicePortKey, Entry)> {
        let mut released = Vec::new();
        for (key, sent) in self.landed() {
            self.set_applied(&key, sent.value);
            // A newer change that waited behind a rebuild keeps its age.
            let again = self.again.remove(&key).is_some();
            if let (false, Some(since)) = (again, sent.since) {
                waits.get_mut(key.family).record(since, now);
            }
            let since = sent.since.filter(|_| again).or(sent.changed).unwrap_or(now);
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
        for (key, sent) in self.landed() {
            if let Some(since) = sent.since {
                self.dirty.owe(&key, since);
                self.refresh(&key, now);
            } else if let Some(entry) = self.reconsider(&key, now) {
                released.push((key, entry));
            }
        }
        released
    }

    /// The kernel refused the one fragment in flight: it goes into quarantine. Returns its key if it is new there.
    pub(super) fn refuse(&mut self, reason: String, now: Moment) -> Option<ServicePortKey> {
        let (key, sent) = self.landed().pop_first()?;
        self.again.remove(&key);
        self.dirty.settle(&key);
        let is_new = self.quarantine.refuse(&key, sent.value, reason, now);
        let released = self.reconsider(&key, now).is_some();
        (is_new && !released).then_some(key)
    }

    /// What the backend remembered is forgotten: everything applied is to be applied again, as it was, and is owed
    /// since `since`. Returns all that is owed.
    pub(super) fn forget(&mut self, since: Moment) -> Vec<ServicePortKey> {
        self.counts = PerFamily::default();
        for value in std::mem::take(&mut self.applied).iter() {
            self.dirty.owe(&value.key, since);
            self.again.entry(value.key.clone()).or_insert_with(|| value.clone());
        }
        let keys: Vec<_> = self.dirty.keys().cloned().collect();
        for key in keys {
            self.refresh(&key, since);
        }
        self.dirty.keys().cloned().collect()
    }

    /// How many fragments of a family are owed, and since when the oldest.
    pub(super) fn owed(&self, family: Family) -> (usize, Option<Moment>) {
        let ages = [self.dirty.ages(), &self.flight_ages];
        let count = ages.iter().map(|ages| ages.count(family)).sum();
        (count, ages.iter().filter_map(|ages| ages.oldest(family)).min())
    }

    /// How many fragments of a family are in force.
    pub(super) fn in_force(&self, family: Family) -> usize {
        *self.counts.get(family)
    }

    /// Nothing is in flight any more; returns what was.
    fn landed(&mut self) -> BTreeMap<ServicePortKey, Sent> {
        self.flight_ages = Ages::default();
        std::mem::take(&mut self.flight)
    }

    fn set_applied(&mut self, key: &ServicePortKey, value: Option<Arc<ServicePort>>) {
        let is_there = value.is_some();
        let before = match value {
            Some(value) => self.applied.insert(value),
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
            self.dirty.settle(key);
        } else if !self.dirty.contains(key) {
            self.dirty.owe(key, now);
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
