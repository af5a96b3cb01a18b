//! Who wants what several can want: entries of sets and addresses. It is there as long as somebody wants it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::difference::Difference;
use super::sets::Set;
use crate::kernel::ipset::{Entries, Entry, SetName, SetSpec};
use crate::net::Family;

type Item = (Family, Set, Entry);

/// Counts, and what they were when somebody last asked what changed.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: HashMap<Item, u32>,
    addresses: HashMap<IpAddr, u32>,
    /// Whether what was touched since was there.
    touched: BTreeMap<Item, bool>,
    touched_addresses: BTreeMap<IpAddr, bool>,
    /// Nobody will ask what changes now.
    quiet: bool,
}

impl Ledger {
    /// Whether changes are counted and not noted from now on.
    pub fn be_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    pub fn add_entry(&mut self, family: Family, set: Set, entry: Entry) {
        let item = (family, set, entry);
        let count = self.entries.entry(item).or_default();
        if !self.quiet {
            self.touched.entry(item).or_insert(*count > 0);
        }
        *count += 1;
    }

    pub fn remove_entry(&mut self, family: Family, set: Set, entry: Entry) {
        let item = (family, set, entry);
        let Some(count) = self.entries.get_mut(&item) else { return };
        self.touched.entry(item).or_insert(true);
        *count -= 1;
        if *count == 0 {
            self.entries.remove(&item);
        }
    }

    /// Somebody wants an address on the service device, and what host daemons are protected by.
    pub fn bind(&mut self, address: IpAddr) {
        let count = self.addresses.entry(address).or_default();
        if !self.quiet {
            self.touched_addresses.entry(address).or_insert(*count > 0);
        }
        *count += 1;
        self.add_entry(Family::of(&address), Set::IpvsIps, Entry::Ip(address));
    }

    pub fn unbind(&mut self, address: IpAddr) {
        let Some(count) = self.addresses.get_mut(&address) else { return };
        self.touched_addresses.entry(address).or_insert(true);
        *count -= 1;
        if *count == 0 {
            self.addresses.remove(&address);
        }
        self.remove_entry(Family::of(&address), Set::IpvsIps, Entry::Ip(address));
    }

    /// Adds what came and went since this, or [`Ledger::forget_changes`], was called last.
    pub fn drain_into(&mut self, difference: &mut Difference) {
        for (item @ (family, set, entry), was) in std::mem::take(&mut self.touched) {
            let is = self.entries.contains_key(&item);
            if is == was {
                continue;
            }
            let change = difference.sets.sets.entry(set.name(family)).or_default();
            let spec = set.spec(family);
            (change.before, change.after) = (Some(spec), Some(spec));
            if is {
                change.add.insert(entry, None);
            } else {
                change.remove.insert(entry);
            }
        }
        for (address, was) in std::mem::take(&mut self.touched_addresses) {
            match (was, self.addresses.contains_key(&address)) {
                (false, true) => difference.links.add.insert(address),
                (true, false) => difference.links.remove.insert(address),
                _ => false,
            };
        }
    }

    pub fn forget_changes(&mut self) {
        self.touched.clear();
        self.touched_addresses.clear();
    }

    /// All sets of these families, the empty ones too.
    pub fn sets(&self, families: &[Family]) -> BTreeMap<SetName, (SetSpec, Entries)> {
        let all = families.iter().flat_map(|family| Set::ALL.map(|set| (*family, set)));
        let mut sets: BTreeMap<(Family, Set), Entries> = all.map(|key| (key, Entries::new())).collect();
        for (family, set, entry) in self.entries.keys() {
            if let Some(entries) = sets.get_mut(&(*family, *set)) {
                entries.insert(*entry, None);
            }
        }
        sets.into_iter().map(|((family, set), entries)| (set.name(family), (set.spec(family), entries))).collect()
    }

    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.addresses.keys().copied().collect()
    }
}
