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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ApplyErrorKind;
    use crate::kernel::ipset::text::entry;
    use crate::net::Family;

    fn spec(set_type: SetType) -> SetSpec {
        SetSpec { set_type, family: Family::V4, comments: false }
    }

    fn name(text: &str) -> SetName {
        SetName::new(text)
    }

    fn change(set: &str, before: Option<SetSpec>, after: Option<SetSpec>, add: &[&str], remove: &[&str]) -> Changes {
        let spec = after.or(before).unwrap();
        let entry = |text: &&str| entry(spec.set_type, spec.family, text).unwrap();
        let add = add.iter().map(|text| (entry(text), None)).collect();
        let change = SetChange { before, after, add, remove: remove.iter().map(entry).collect() };
        Changes { sets: [(name(set), change)].into() }
    }

    #[test]
    fn lookups_find_entries_and_what_networks_hold() {
        let mut sets = SimSets::new();
        let net = spec(SetType::HashNet);
        let net_of_port = spec(SetType::HashIpPortNet);
        let port = spec(SetType::HashIpPort);
        sets.apply(&change("NET", None, Some(net), &["10.0.0.0/8", "192.0.2.1"], &[])).unwrap();
        sets.apply(&change("SOURCE", None, Some(net_of_port), &["10.0.0.1,tcp:80,172.16.0.0/12"], &[])).unwrap();
        sets.apply(&change("PORT", None, Some(port), &["10.0.0.1,tcp:80"], &[])).unwrap();
        for (set, set_type, text, expected) in [
            ("NET", SetType::HashIp, "10.255.0.1", Some(true)),
            ("NET", SetType::HashIp, "11.0.0.1", Some(false)),
            ("NET", SetType::HashIp, "192.0.2.1", Some(true)),
            ("NET", SetType::HashIp, "192.0.2.2", Some(false)),
            ("SOURCE", SetType::HashIpPortIp, "10.0.0.1,tcp:80,172.31.0.1", Some(true)),
            ("SOURCE", SetType::HashIpPortIp, "10.0.0.1,tcp:80,172.32.0.1", Some(false)),
            ("SOURCE", SetType::HashIpPortIp, "10.0.0.1,tcp:81,172.31.0.1", Some(false)),
            ("SOURCE", SetType::HashIpPortIp, "10.0.0.1,udp:80,172.31.0.1", Some(false)),
            ("PORT", SetType::HashIpPort, "10.0.0.1,tcp:80", Some(true)),
            ("PORT", SetType::HashIpPort, "10.0.0.1,udp:80", Some(false)),
            ("PORT", SetType::HashIp, "10.0.0.1", Some(false)),
            ("ABSENT", SetType::HashIp, "10.0.0.1", None),
        ] {
            let found = sets.contains(&name(set), &entry(set_type, Family::V4, text).unwrap());
            assert_eq!(found, expected, "{set} {text}");
        }
    }

    #[test]
    fn the_log_counts_what_changed() {
        let mut sets = SimSets::new();
        let port = spec(SetType::BitmapPort);
        sets.apply(&change("A", None, Some(port), &["80", "81"], &[])).unwrap();
        sets.apply(&change("A", Some(port), Some(port), &["81", "82"], &["80", "90"])).unwrap();
        sets.observe(&|_| true, &mut |_| ()).unwrap();
        let expected = SetsLog { applied: 2, observed: 1, created: 1, destroyed: 0, added: 3, removed: 1 };
        assert_eq!(sets.take_log(), expected);
        sets.apply(&change("A", Some(port), None, &[], &[])).unwrap();
        sets.apply(&change("A", Some(port), None, &[], &[])).unwrap();
        assert_eq!(sets.take_log(), SetsLog { applied: 2, destroyed: 1, ..SetsLog::default() });
    }

    #[test]
    fn it_fails_as_the_kernel_does_and_when_told_to() {
        let mut sets = SimSets::new();
        let (ip, port) = (spec(SetType::HashIp), spec(SetType::HashIpPort));
        sets.apply(&change("A", None, Some(ip), &["10.0.0.1"], &[])).unwrap();
        sets.set_in_use([name("A")].into());
        for (changes, kind, text) in [
            (change("A", Some(ip), None, &[], &[]), ApplyErrorKind::Refused, "something refers to it"),
            (change("A", None, Some(port), &[], &[]), ApplyErrorKind::Refused, "hash:ip of IPv4, and it must be"),
            (change("B", Some(ip), Some(ip), &[], &[]), ApplyErrorKind::Busy, "the ipset B is gone"),
        ] {
            let error = sets.apply(&changes).unwrap_err();
            assert!(error.kind == kind && error.message.contains(text), "{error}");
        }
        sets.fail_apply(Some(ApplyError { kind: ApplyErrorKind::Busy, message: "no".to_owned(), chain: None }));
        sets.fail_observe(Some(ObserveError { message: "no".to_owned() }));
        assert!(sets.apply(&change("C", None, Some(ip), &[], &[])).is_err());
        assert!(sets.observe(&|_| true, &mut |_| ()).is_err());
        assert_eq!(sets.sets().count(), 1);
        sets.fail_apply(None);
        sets.apply(&change("C", None, Some(ip), &[], &[])).unwrap();
        assert!(sets.add_entry(&name("C"), Entry::Ip("10.0.0.9".parse().unwrap())));
        assert!(sets.delete_entry(&name("A"), &Entry::Ip("10.0.0.1".parse().unwrap())));
        let taken = sets.take(&name("C")).unwrap();
        assert_eq!(taken.entries.len(), 1);
        sets.put(taken);
        assert_eq!(sets.entries(&name("C")).map(Entries::len), Some(1));
    }
}
