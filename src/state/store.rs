//! The store of facts: one entry per service name, slices under the service that they belong to.
//!
//! Every fact is held once. Applying a batch compares each fact with the one that is held, so that a resync which
//! tells nothing new touches nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::owners::Owners;
use super::{EndpointSlice, Fact, FactKey, Kind, Node, Service, ServiceCidr, Update};
use crate::net::{Family, ObjectName};

/// What a batch touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Services whose service or endpoints may resolve differently now.
    pub services: BTreeSet<ObjectName>,
    /// Our node changed in a way that rules may depend on: every service may resolve differently.
    pub node: bool,
}

impl Touched {
    /// Nothing can resolve differently.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && !self.node
    }
}

/// When the endpoints of a service changed, as the API server's controller noted it on a slice (contract 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Trigger {
    /// Family of the slice that carried the time.
    pub family: Family,
    /// Unix time in nanoseconds.
    pub time: i64,
}

/// How many changes were told. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FactCounts {
    /// Changes of Service objects, those included that changed nothing.
    pub services: u64,
    /// Changes of `EndpointSlice` objects, those included that changed nothing.
    pub slices: u64,
    /// Changes of Service objects that resolving may see.
    pub changed_services: u64,
    /// Changes of `EndpointSlice` objects that resolving may see.
    pub changed_slices: u64,
}

/// All facts.
#[derive(Debug, Default)]
pub struct State {
    /// Boxed, because a map of large values is half empty.
    entries: BTreeMap<ObjectName, Box<Entry>>,
    slice_owners: Owners,
    node: Option<Node>,
    /// The API server has said that our node is no more, and not yet that it is back.
    node_is_gone: bool,
    service_cidrs: BTreeMap<Arc<str>, ServiceCidr>,
    synced: BTreeSet<Kind>,
    triggers: BTreeMap<ObjectName, Vec<Trigger>>,
    counts: FactCounts,
    /// Unix time in nanoseconds; changes that happened before are not ours to be measured by.
    started: i64,
}

/// What is known under one service name. Never empty: an entry without service and slices is removed.
#[derive(Debug, Default)]
struct Entry {
    service: Option<Service>,
    /// Sorted by name, so that merging does not depend on the order of events.
    slices: Vec<EndpointSlice>,
}

impl State {
    /// An empty store. Trigger times up to `started` (Unix time in nanoseconds) are not recorded.
    pub fn new(started: i64) -> State {
        State { started, ..State::default() }
    }

    /// Applies a batch as one step.
    pub fn apply(&mut self, batch: Vec<Update>) -> Touched {
        let mut touched = Touched::default();
        for update in batch {
            match update {
                Update::Upsert(fact) => self.upsert(fact, &mut touched),
                Update::Delete(key) => self.delete(&key, &mut touched),
                Update::Replace { kind, facts } => self.replace(kind, facts, &mut touched),
            }
        }
        touched
    }

    /// The first full list of the kind has arrived.
    pub fn is_synced(&self, kind: Kind) -> bool {
        self.synced.contains(&kind)
    }

    /// Rules may be written: services and slices are both complete (contract 2.2).
    pub fn ready(&self) -> bool {
        self.is_synced(Kind::Service) && self.is_synced(Kind::EndpointSlice)
    }

    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.entries.get(name)?.service.as_ref()
    }

    /// Slices that belong to the service, sorted by their names. There may be slices of a service that is not known.
    pub fn slices(&self, service: &ObjectName) -> &[EndpointSlice] {
        self.entries.get(service).map_or(&[], |entry| &entry.slices)
    }

    /// Names of all known services, sorted.
    pub fn service_names(&self) -> impl Iterator<Item = &ObjectName> {
        self.entries.iter().filter(|(_, entry)| entry.service.is_some()).map(|(name, _)| name)
    }

    /// Our node, as last seen: a deletion is ignored (contract 2.1, 6.1).
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Our node was there and was deleted. [`State::node`] still has it.
    pub fn node_is_gone(&self) -> bool {
        self.node_is_gone
    }

    /// The zone of our node. An empty label is no zone.
    pub fn zone(&self) -> Option<&Arc<str>> {
        zone_of(self.node.as_ref())
    }

    /// All service networks, sorted. A network that two objects list stays until both are gone.
    pub fn service_cidrs(&self) -> BTreeSet<IpNet> {
        self.service_cidrs.values().flat_map(|cidr| cidr.cidrs.iter().copied()).collect()
    }

    /// How many changes were told so far.
    pub fn counts(&self) -> FactCounts {
        self.counts
    }

    /// Hands out the trigger times that were recorded since the last call.
    pub fn take_trigger_times(&mut self) -> BTreeMap<ObjectName, Vec<Trigger>> {
        std::mem::take(&mut self.triggers)
    }

    fn upsert(&mut self, fact: Fact, touched: &mut Touched) {
        match fact {
            Fact::Service(service) => self.upsert_service(service, touched),
            Fact::EndpointSlice(slice) => self.upsert_slice(slice, touched),
            Fact::Node(node) => {
                touched.node |= self.node.is_none() || zone_of(Some(&node)) != self.zone();
                self.node = Some(node);
                self.node_is_gone = false;
            }
            Fact::ServiceCidr(cidr) => {
                self.service_cidrs.insert(cidr.name.clone(), cidr);
            }
        }
    }

    fn delete(&mut self, key: &FactKey, touched: &mut Touched) {
        match key.kind {
            Kind::Service => self.delete_service(&key.name, touched),
            Kind::EndpointSlice => self.delete_slice(&key.name, touched),
            // The last node that was seen stays in force.
            Kind::Node => self.node_is_gone = self.node.is_some(),
            Kind::ServiceCidr => {
                self.service_cidrs.remove(&key.name.name);
            }
        }
    }

    fn replace(&mut self, kind: Kind, facts: Vec<Fact>, touched: &mut Touched) {
        let listed: HashSet<ObjectName> = facts.iter().map(|fact| fact.key().name).collect();
        for name in self.names_of(kind) {
            if !listed.contains(&name) {
                self.delete(&FactKey { kind, name }, touched);
            }
        }
        for fact in facts {
            self.upsert(fact, touched);
        }
        self.synced.insert(kind);
    }

    fn names_of(&self, kind: Kind) -> Vec<ObjectName> {
        match kind {
            Kind::Service => self.service_names().cloned().collect(),
            Kind::EndpointSlice => self.slice_owners.slices().collect(),
            Kind::Node => self.node.iter().map(|node| ObjectName::new("", node.name.clone())).collect(),
            Kind::ServiceCidr => self.service_cidrs.keys().map(|name| ObjectName::new("", name.clone())).collect(),
        }
    }

    fn upsert_service(&mut self, mut service: Service, touched: &mut Touched) {
        self.counts.services += 1;
        let entry = self.entries.entry(service.name.clone());
        // One copy of the name, which may have come with a slice.
        service.name = entry.key().clone();
        let entry = entry.or_default();
        if entry.service.as_ref() != Some(&service) {
            self.counts.changed_services += 1;
            touched.services.insert(service.name.clone());
            entry.service = Some(service);
        }
    }

    fn delete_service(&mut self, name: &ObjectName, touched: &mut Touched) {
        self.counts.services += 1;
        let Some(entry) = self.entries.get_mut(name) else { return };
        if entry.service.take().is_some() {
            self.counts.changed_services += 1;
            touched.services.insert(name.clone());
        }
        self.drop_if_empty(name);
    }

    fn upsert_slice(&mut self, mut slice: EndpointSlice, touched: &mut Touched) {
        self.counts.slices += 1;
        let owner = self.entries.entry(slice.service_name()).key().clone();
        // One copy of the names, which the service has as well.
        slice.service = owner.name.clone();
        slice.name.namespace = owner.namespace.clone();
        let previous = self.slice_owners.insert(&slice.name, owner.name.clone());
        if let Some(previous) = previous.filter(|previous| *previous != owner.name) {
            let previous = ObjectName { namespace: owner.namespace.clone(), name: previous };
            self.take_slice_from(&previous, &slice.name, touched);
        }
        let trigger = slice.trigger_time.map(|time| Trigger { family: slice.family, time });
        let entry = self.entries.entry(owner.clone()).or_default();
        if !entry.put_slice(slice) {
            return;
        }
        self.counts.changed_slices += 1;
        if let Some(trigger) = trigger.filter(|trigger| trigger.time > self.started) {
            self.triggers.entry(owner.clone()).or_default().push(trigger);
        }
        touched.services.insert(owner);
    }

    fn delete_slice(&mut self, name: &ObjectName, touched: &mut Touched) {
        let Some(owner) = self.slice_owners.remove(name) else { return };
        self.counts.slices += 1;
        self.counts.changed_slices += 1;
        let owner = ObjectName { namespace: name.namespace.clone(), name: owner };
        self.take_slice_from(&owner, name, touched);
    }

    /// A slice leaves its service. The times recorded for the service go too: what they timed may be gone.
    fn take_slice_from(&mut self, owner: &ObjectName, slice: &ObjectName, touched: &mut Touched) {
        let Some(entry) = self.entries.get_mut(owner) else { return };
        let Ok(at) = entry.find_slice(slice) else { return };
        let gone = entry.slices.remove(at);
        touched.services.insert(owner.clone());
        if let Some(times) = self.triggers.get_mut(owner) {
            times.retain(|trigger| trigger.family != gone.family);
            if times.is_empty() {
                self.triggers.remove(owner);
            }
        }
        self.drop_if_empty(owner);
    }

    fn drop_if_empty(&mut self, name: &ObjectName) {
        if self.entries.get(name).is_some_and(|entry| entry.service.is_none() && entry.slices.is_empty()) {
            self.entries.remove(name);
        }
    }
}

impl Entry {
    fn find_slice(&self, name: &ObjectName) -> Result<usize, usize> {
        self.slices.binary_search_by(|slice| slice.name.cmp(name))
    }

    /// Adds or replaces a slice. False if nothing that resolving reads is different: a new trigger time alone is no
    /// change, because nothing will be programmed that it could time.
    fn put_slice(&mut self, slice: EndpointSlice) -> bool {
        match self.find_slice(&slice.name) {
            Ok(at) => {
                let Some(held) = self.slices.get_mut(at) else { return false };
                let different =
                    held.family != slice.family || held.ports != slice.ports || held.endpoints != slice.endpoints;
                *held = slice;
                different
            }
            Err(at) => {
                // Most services have one slice; growing by doubling would reserve room for four.
                self.slices.reserve_exact(1);
                self.slices.insert(at, slice);
                true
            }
        }
    }
}

fn zone_of(node: Option<&Node>) -> Option<&Arc<str>> {
    node?.zone.as_ref().filter(|zone| !zone.is_empty())
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
