//! Sets in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use crate::kernel::ipset::{
    Changes, Entries, Entry, IpsetError, Mismatch, ObservedSet, SetChange, SetName, SetSpec, SetType, Sets, check,
};
use crate::kernel::{ApplyError, ObserveError};

/// What was done since the sets were made, or since the log was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetsLog {
    /// Differences that came, whether they succeeded or not.
    pub applied: usize,
    pub observed: usize,
    pub created: usize,
    pub destroyed: usize,
    /// Entries that were new, or got another comment.
    pub added: usize,
    /// Entries that were there.
    pub removed: usize,
}

/// Simulated sets, which answer as the driver of the kernel's does. To keep a hand on them while an engine owns them,
/// share them: [`Sets`] is implemented for `Arc<Mutex<SimSets>>` too.
#[derive(Clone, Debug, Default)]
pub struct SimSets {
    sets: BTreeMap<SetName, Held>,
    /// Sets that rules refer to.
    in_use: BTreeSet<SetName>,
    log: SetsLog,
    fail_apply: Option<ApplyError>,
    fail_observe: Option<ObserveError>,
}

#[derive(Clone, Debug)]
struct Held {
    /// As that of [`ObservedSet`].
    spec: Result<SetSpec, Box<str>>,
    entries: Entries,
}

impl SimSets {
    pub fn new() -> Self {
        SimSets::default()
    }

    /// What was done so far. The log begins anew.
    pub fn take_log(&mut self) -> SetsLog {
        std::mem::take(&mut self.log)
    }

    /// From now on, every change fails with this error and changes nothing; with `None` none does any more.
    pub fn fail_apply(&mut self, error: Option<ApplyError>) {
        self.fail_apply = error;
    }

    /// From now on, every look fails with this error; with `None` none does any more.
    pub fn fail_observe(&mut self, error: Option<ObserveError>) {
        self.fail_observe = error;
    }

    /// From now on, rules refer to exactly these sets: they cannot be destroyed.
    pub fn set_in_use(&mut self, sets: BTreeSet<SetName>) {
        self.in_use = sets;
    }

    /// What another program does: puts a set there, in place of any of that name.
    pub fn put(&mut self, set: ObservedSet) {
        self.sets.insert(set.name, Held { spec: set.spec, entries: set.entries });
    }

    /// What another program does: takes a set away. `None` if it is not there.
    pub fn take(&mut self, name: &SetName) -> Option<ObservedSet> {
        self.sets.remove(name).map(|held| observed(name, held))
    }

    /// What another program does: adds an entry. False if there is no such set.
    pub fn add_entry(&mut self, name: &SetName, entry: Entry) -> bool {
        self.sets.get_mut(name).map(|held| held.entries.insert(entry, None)).is_some()
    }

    /// What another program does: deletes an entry. False if it is not there.
    pub fn delete_entry(&mut self, name: &SetName, entry: &Entry) -> bool {
        self.sets.get_mut(name).is_some_and(|held| held.entries.remove(entry).is_some())
    }

    /// All sets.
    pub fn sets(&self) -> impl Iterator<Item = ObservedSet> + '_ {
        self.sets.iter().map(|(name, held)| observed(name, held.clone()))
    }

    /// What is in a set; `None` if it is not there.
    pub fn entries(&self, name: &SetName) -> Option<&Entries> {
        self.sets.get(name).map(|held| &held.entries)
    }

    /// Whether a lookup finds the entry; `None` if there is no such set. In a set of networks an address is found if a
    /// network has it: ask for [`Entry::Ip`] in `hash:net` and for [`Entry::IpPortIp`] in `hash:ip,port,net`.
    pub fn contains(&self, name: &SetName, entry: &Entry) -> Option<bool> {
        let held = self.sets.get(name)?;
        let Ok(SetSpec { set_type, .. }) = held.spec else { return Some(false) };
        let has = |entry: &Entry| held.entries.contains_key(entry);
        Some(match (set_type, *entry) {
            (SetType::HashNet, Entry::Ip(ip)) => networks(ip).any(|net| has(&Entry::Net(net))),
            (SetType::HashIpPortNet, Entry::IpPortIp(ip, protocol, port, second)) => {
                networks(second).any(|net| has(&Entry::IpPortNet(ip, protocol, port, net)))
            }
            _ => has(entry),
        })
    }

    fn write(&mut self, name: &SetName, spec: SetSpec, change: &SetChange) -> Result<(), IpsetError> {
        check(name, &spec, &change.add)?;
        let before = match (self.sets.get(name), change.before) {
            (Some(held), before) => {
                if !is_alike(&held.spec, &spec) {
                    let found = held.spec.as_ref().map_or_else(Clone::clone, describe);
                    return Err(Mismatch { set: name.clone(), wanted: spec, found }.into());
                }
                // What nobody knew of is not kept.
                if before.is_some() { held.entries.clone() } else { Entries::new() }
            }
            (None, Some(_)) => return Err(IpsetError::Gone(name.clone())),
            (None, None) => {
                self.log.created += 1;
                Entries::new()
            }
        };
        let mut entries = before;
        if !spec.comments {
            entries.values_mut().for_each(|comment| *comment = None);
        }
        for (entry, comment) in &change.add {
            self.log.added += usize::from(entries.insert(*entry, comment.clone()).as_ref() != Some(comment));
        }
        self.log.removed += change.remove.iter().filter(|entry| entries.remove(entry).is_some()).count();
        self.sets.insert(name.clone(), Held { spec: Ok(spec), entries });
        Ok(())
    }

    fn destroy(&mut self, name: &SetName) -> Result<(), IpsetError> {
        if self.in_use.contains(name) && self.sets.contains_key(name) {
            return Err(IpsetError::InUse(name.clone()));
        }
        self.log.destroyed += usize::from(self.sets.remove(name).is_some());
        Ok(())
    }
}

fn observed(name: &SetName, held: Held) -> ObservedSet {
    ObservedSet { name: name.clone(), spec: held.spec, entries: held.entries }
}

fn describe(spec: &SetSpec) -> Box<str> {
    format!("{} of {}", spec.set_type, spec.family).into()
}

/// Whether the one set can take the place of the other.
fn is_alike(held: &Result<SetSpec, Box<str>>, wanted: &SetSpec) -> bool {
    match held {
        Ok(held) => {
            held.set_type == wanted.set_type && (held.family == wanted.family || wanted.set_type == SetType::BitmapPort)
        }
        Err(text) => text.split(' ').next() == Some(wanted.set_type.as_str()),
    }
}

/// The networks that an address is in, the smallest first.
fn networks(ip: IpAddr) -> impl Iterator<Item = IpNet> {
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    (1..=bits).rev().filter_map(move |length| IpNet::new(ip, length).ok()).map(|net| net.trunc())
}

impl Sets for SimSets {
    fn observe(
        &mut self,
        wanted: &dyn Fn(&str) -> bool,
        visit: &mut dyn FnMut(ObservedSet),
    ) -> Result<(), ObserveError> {
        self.log.observed += 1;
        if let Some(error) = &self.fail_observe {
            return Err(error.clone());
        }
        self.sets().filter(|set| wanted(set.name.as_str())).for_each(visit);
        Ok(())
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        self.log.applied += 1;
        if let Some(error) = &self.fail_apply {
            return Err(error.clone());
        }
        let mut outcome = Ok(());
        for (name, change) in &changes.sets {
            if let Some(spec) = change.after {
                outcome = outcome.and(self.write(name, spec, change));
            }
        }
        for (name, _) in changes.sets.iter().filter(|(_, change)| change.after.is_none()) {
            outcome = outcome.and(self.destroy(name));
        }
        outcome.map_err(ApplyError::from)
    }
}

impl Sets for Arc<Mutex<SimSets>> {
    fn observe(
        &mut self,
        wanted: &dyn Fn(&str) -> bool,
        visit: &mut dyn FnMut(ObservedSet),
    ) -> Result<(), ObserveError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).observe(wanted, visit)
    }

    fn apply(&mut self, changes: &Changes) -> Result<(), ApplyError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).apply(changes)
    }
}
