//! What the kernel holds against what is wanted → a difference: the start, the repair of drift, and `weir diff`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::claim::Claim;
use super::desired::{is_our_set, wanted_sets};
use super::difference::Difference;
use super::drain::{self, Draining, UnixSeconds};
use super::planner::Planner;
use super::sets::Set;
use crate::kernel::ipset::{self, Entries, Entry, Mismatch, ObservedSet, SetName};
use crate::kernel::ipvs::{
    ObservedVirtualServer, RealServer, RealServerChange, VirtualServer, VirtualServerChange, VirtualServerKey,
};
use crate::kernel::link::{self, Device};
use crate::model::{ServicePort, Settings};
use crate::net::{Family, Protocol};
use crate::plan::egress;

/// What the kernel holds, save for rules.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Sets that are ours by name.
    pub sets: Vec<ObservedSet>,
    pub device: Device,
    pub servers: Vec<ObservedVirtualServer>,
}

/// Something that is in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    #[error(transparent)]
    Set(Mismatch),
    #[error("the device {} is a {kind}, and must be a dummy device: rename or delete it", link::SERVICE_DEVICE)]
    Device { kind: Box<str> },
}

/// A virtual server that a service asks for is somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the virtual server {0} is there already and is not weir's: remove it (`ipvsadm -D`), or give the service another \
     address or port"
)]
pub struct Denied(pub VirtualServerKey);

/// How virtual servers of ours are told from others', without a memory.
pub struct Ownership<'a> {
    settings: &'a Settings,
    sets: BTreeMap<&'a SetName, &'a Entries>,
    addresses: Option<&'a BTreeSet<IpAddr>>,
}

impl<'a> Ownership<'a> {
    pub fn of(settings: &'a Settings, observed: &'a Observed) -> Self {
        let addresses = match &observed.device {
            Device::Dummy { addresses } => Some(addresses),
            Device::Absent | Device::Other { .. } => None,
        };
        let sets = observed.sets.iter().map(|set| (&set.name, &set.entries)).collect();
        Ownership { settings, sets, addresses }
    }

    /// Whether a virtual server is ours: it is in our record, or, left by kube-proxy, its address is on the service
    /// device, or it is in one of the sets that rules look frontends up in.
    pub fn is_ours(&self, key: &VirtualServerKey) -> bool {
        let frontend = Entry::IpPort(key.address, key.protocol, key.port);
        let family = key.family();
        self.holds(Set::VirtualServers, family, &frontend)
            || self.is_kube_proxys(key)
            || Set::FRONTENDS.iter().any(|set| self.holds(*set, family, &frontend))
            || self.is_node_port(key, &frontend)
    }

    /// Where there is no record, the device with the address was kube-proxy's. Where there is one, somebody else may have
    /// given an address of ours another port.
    fn is_kube_proxys(&self, key: &VirtualServerKey) -> bool {
        let record = self.sets.get(&Set::VirtualServers.name(key.family()));
        record.is_none_or(|entries| entries.is_empty())
            && self.addresses.is_some_and(|addresses| addresses.contains(&key.address))
    }

    fn is_node_port(&self, key: &VirtualServerKey, frontend: &Entry) -> bool {
        let (set, entry) = match key.protocol {
            Protocol::Tcp => (Set::NodePortTcp, Entry::Port(key.port)),
            Protocol::Udp => (Set::NodePortUdp, Entry::Port(key.port)),
            Protocol::Sctp => (Set::NodePortSctp, *frontend),
        };
        self.settings.local_addresses.get(key.family()).contains(&key.address) && self.holds(set, key.family(), &entry)
    }

    fn holds(&self, set: Set, family: Family, entry: &Entry) -> bool {
        self.sets.get(&set.name(family)).is_some_and(|entries| entries.contains_key(entry))
    }

    /// An administrator has told that virtual servers with this address are others' (contract 4.3).
    fn is_excluded(&self, key: &VirtualServerKey) -> bool {
        self.settings.ipvs.exclude_cidrs.iter().any(|net| net.contains(&key.address))
    }
}

/// What is in the way of a plan for these families. Nothing can be done as long as there is anything.
pub fn obstacles(observed: &Observed, families: &[Family]) -> Vec<Obstacle> {
    let sets = families.iter().flat_map(|family| Set::ALL.map(|set| (*family, set)));
    let wanted = sets.map(|(family, set)| (set.name(family), set.spec(family)));
    let egress = families.iter().map(|family| (egress::set_name(*family), egress::set_spec(*family)));
    let wanted = wanted.chain(egress).map(|(name, spec)| (name, (spec, Entries::new()))).collect();
    let mismatches = ipset::compare(&wanted, &observed.sets, &|_| false).mismatches;
    let mut found: Vec<Obstacle> = mismatches.into_iter().map(Obstacle::Set).collect();
    if let Device::Other { kind } = &observed.device {
        found.push(Obstacle::Device { kind: kind.clone() });
    }
    found
}

/// What is wanted.
#[derive(Clone, Copy)]
pub enum Goal<'a> {
    /// These service ports are served.
    Serve(&'a [Arc<ServicePort>]),
    /// Everything goes; connections are waited for.
    Retire,
}

/// The difference, without rules, and a planner that knows the model and what drains.
///
/// `known` says which virtual servers are ours beside those that can be told from the kernel alone. Virtual servers of
/// others are left alone, also where a service would have one of their kind.
pub fn compare(
    settings: &Arc<Settings>,
    families: &[Family],
    goal: Goal<'_>,
    observed: &Observed,
    known: &dyn Fn(&VirtualServerKey) -> bool,
    now: UnixSeconds,
) -> (Difference, Planner) {
    let ownership = Ownership::of(settings, observed);
    let (ours, foreign): (Vec<_>, Vec<_>) =
        observed.servers.iter().partition(|server| known(&server.key) || ownership.is_ours(&server.key));
    let foreign = foreign.iter().map(|server| server.key).collect();
    let mut planner = Planner::new(settings.clone(), families, foreign);
    let mut wanted: BTreeMap<VirtualServerKey, Claim> = BTreeMap::new();
    match goal {
        Goal::Serve(model) => planner.adopt(model, &mut |key, claim| drop(wanted.insert(key, claim))),
        Goal::Retire => planner.retire(),
    }
    let mut difference = Difference::default();
    for server in ours {
        let claim = wanted.remove(&server.key);
        if claim.is_none() && ownership.is_excluded(&server.key) {
            continue;
        }
        let is_bound = ownership.addresses.is_some_and(|addresses| addresses.contains(&server.key.address));
        let held = Held { server, is_bound };
        let (change, draining) = compare_server(held, claim.as_ref(), settings.ipvs.drain_seconds, now);
        planner.set_draining(server.key, draining);
        if !change.is_nothing() || server.unknown && claim.is_some() {
            difference.servers.servers.insert(server.key, change);
        }
    }
    for (key, claim) in wanted {
        difference.servers.servers.insert(key, added(claim));
    }
    planner.settle();
    difference.sets = ipset::compare(&wanted_sets(&planner), &observed.sets, &is_our_set).changes;
    difference.links = compare_device(&observed.device, &planner);
    (difference, planner)
}

/// A virtual server that is there.
struct Held<'a> {
    server: &'a ObservedVirtualServer,
    /// Its address is on the service device.
    is_bound: bool,
}

fn compare_server(
    Held { server: held, is_bound }: Held<'_>,
    claim: Option<&Claim>,
    grace: u32,
    now: UnixSeconds,
) -> (VirtualServerChange, Option<Draining>) {
    let mut draining = BTreeMap::new();
    let mut real_servers = BTreeMap::new();
    let mut note = |endpoint, before: Option<RealServer>, after: Option<RealServer>| {
        if before != after {
            real_servers.insert(endpoint, RealServerChange { before, after });
        }
    };
    let grace = claim.map_or(grace, |claim| claim.drain_seconds);
    let can_wait = claim.is_none_or(|claim| drain::passes_over(&claim.server.scheduler));
    let is_wanted = |endpoint| claim.and_then(|claim| claim.real_servers.get(endpoint));
    for (endpoint, real) in &held.real_servers {
        if let Some(wanted) = is_wanted(endpoint) {
            note(*endpoint, Some(real.server), Some(*wanted));
            continue;
        }
        let until = drain::fate(held.key.protocol, real, now, grace).filter(|_| can_wait);
        draining.extend(until.map(|until| (*endpoint, until)));
        note(*endpoint, Some(real.server), until.map(drain::drained));
    }
    for (endpoint, wanted) in claim.iter().flat_map(|claim| &claim.real_servers) {
        if !held.real_servers.contains_key(endpoint) {
            note(*endpoint, None, Some(*wanted));
        }
    }
    let server: Option<&VirtualServer> =
        claim.map(|claim| &claim.server).or(Some(&held.server).filter(|_| !draining.is_empty()));
    let change = VirtualServerChange { before: Some(held.server.clone()), after: server.cloned(), real_servers };
    let bind = claim.map_or(is_bound, |claim| claim.bind);
    let left = server.filter(|_| !draining.is_empty());
    (change, left.map(|server| Draining { server: server.clone(), bind, real_servers: draining }))
}

/// A virtual server that is not there.
fn added(claim: Claim) -> VirtualServerChange {
    let real_servers = claim.real_servers.into_iter();
    VirtualServerChange {
        before: None,
        after: Some(claim.server),
        real_servers: real_servers
            .map(|(e, server)| (e, RealServerChange { before: None, after: Some(server) }))
            .collect(),
    }
}

fn compare_device(device: &Device, planner: &Planner) -> link::Changes {
    let wanted = planner.ledger().addresses();
    let empty = BTreeSet::new();
    let held = match device {
        Device::Dummy { addresses } => addresses,
        Device::Absent | Device::Other { .. } => &empty,
    };
    let of_families = |ip: &&IpAddr| planner.families().contains(&Family::of(ip));
    // To remove thousands of addresses one by one takes the kernel seconds.
    let delete = matches!(device, Device::Dummy { .. }) && planner.is_retiring() && wanted.is_empty();
    let remove = held.difference(&wanted).filter(|ip| !delete && of_families(ip)).copied().collect();
    link::Changes {
        create: *device == Device::Absent && !planner.is_retiring(),
        add: wanted.difference(held).copied().collect(),
        remove,
        delete,
    }
}
