//! The rules of one family, as the tracer reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Step;
use crate::kernel::ipset::{self, Entries, SetName, SetSpec};
use crate::kernel::ipvs::{Ipvs, RealServer, VirtualServer, VirtualServerKey};
use crate::kernel::link::{Device, Links};
use crate::kernel::xtables::{ChainName, ObserveError, ObservedRule, Table, Xtables};
use crate::model::oracle::Host;
use crate::net::{Endpoint, Family};

/// Sets by name.
pub type Sets = BTreeMap<SetName, (SetSpec, Entries)>;

/// Virtual servers with their real servers.
pub type Servers = BTreeMap<VirtualServerKey, (VirtualServer, BTreeMap<Endpoint, RealServer>)>;

/// All chains of one family, with the built-in chains and the jump rules in them; and, of a node in IPVS mode, the sets
/// that rules name, the virtual servers, and the addresses of the service device. Of these three, what belongs to the
/// other family may be here too and does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    family: Family,
    chains: BTreeMap<(Table, ChainName), Vec<ObservedRule>>,
    duplicates: Vec<(Table, ChainName)>,
    pub sets: Sets,
    pub servers: Servers,
    pub addresses: BTreeSet<IpAddr>,
}

/// What rules look at beside the packet.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub rules: &'a Ruleset,
    pub host: &'a Host,
}

impl<'a> Node<'a> {
    /// The kernel takes the address for its own: it is on the service device or on another one. That the service device
    /// is down makes no difference.
    pub fn is_local(self, ip: &IpAddr) -> bool {
        self.host.is_local(ip) || self.rules.addresses.contains(ip)
    }

    pub fn set(self, name: &SetName) -> Option<&'a (SetSpec, Entries)> {
        self.rules.sets.get(name)
    }
}

impl Ruleset {
    /// No chains at all.
    pub fn new(family: Family) -> Self {
        Ruleset {
            family,
            chains: BTreeMap::new(),
            duplicates: Vec::new(),
            sets: Sets::new(),
            servers: Servers::new(),
            addresses: BTreeSet::new(),
        }
    }

    /// Reads all tables of a kernel, real or simulated.
    pub fn observe(kernel: &mut dyn Xtables, family: Family) -> Result<Self, ObserveError> {
        let mut rules = Ruleset::new(family);
        for table in Table::ALL {
            kernel.observe(family, table, &mut |chain| rules.insert(table, chain.name, chain.rules))?;
        }
        Ok(rules)
    }

    /// Reads all sets of a kernel, real or simulated, except those of types that weir does not make: rules that look
    /// there cannot be followed.
    pub fn observe_sets(&mut self, kernel: &mut dyn ipset::Sets) -> Result<(), ObserveError> {
        self.sets.clear();
        kernel.observe(&|_| true, &mut |set| {
            if let Ok(spec) = set.spec {
                self.sets.insert(set.name, (spec, set.entries));
            }
        })
    }

    /// Reads the virtual servers of this family.
    pub fn observe_servers(&mut self, kernel: &mut dyn Ipvs) -> Result<(), ObserveError> {
        self.servers.clear();
        kernel.observe(self.family, &mut |found| {
            let real_servers = found.real_servers.into_iter().map(|(endpoint, real)| (endpoint, real.server)).collect();
            self.servers.insert(found.key, (found.server, real_servers));
        })
    }

    /// Reads the addresses of the service device; none if it is not there.
    pub fn observe_addresses(&mut self, kernel: &mut dyn Links) -> Result<(), ObserveError> {
        self.addresses = match kernel.observe()? {
            Device::Dummy { addresses } => addresses,
            Device::Absent | Device::Other { .. } => BTreeSet::new(),
        };
        Ok(())
    }

    /// Adds a chain with its rules. A chain that is already there is replaced, and [`lint`](super::lint()) tells.
    pub fn insert<R: Into<ObservedRule>>(
        &mut self,
        table: Table,
        chain: ChainName,
        rules: impl IntoIterator<Item = R>,
    ) {
        let rules = rules.into_iter().map(Into::into).collect();
        let key = (table, chain);
        if self.chains.insert(key.clone(), rules).is_some() {
            self.duplicates.push(key);
        }
    }

    /// Puts a rule at the end of a chain, as `-A` does; makes the chain if it is not there.
    pub fn append(&mut self, table: Table, chain: ChainName, rule: impl Into<ObservedRule>) {
        self.chains.entry((table, chain)).or_default().push(rule.into());
    }

    /// Puts a rule at the head of a chain, as `-I` does; makes the chain if it is not there.
    pub fn prepend(&mut self, table: Table, chain: ChainName, rule: impl Into<ObservedRule>) {
        self.chains.entry((table, chain)).or_default().insert(0, rule.into());
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// The rules of a chain, if it is there.
    pub fn chain(&self, table: Table, name: &ChainName) -> Option<&[ObservedRule]> {
        self.entry(table, name).map(|(_, rules)| rules)
    }

    /// The rule at a step.
    pub fn rule(&self, step: &Step) -> Option<&ObservedRule> {
        self.chain(step.table, &step.chain)?.get(step.index)
    }

    /// All chains, sorted by table and name.
    pub fn chains(&self) -> impl Iterator<Item = (Table, &ChainName, &[ObservedRule])> {
        self.chains.iter().map(|((table, name), rules)| (*table, name, rules.as_slice()))
    }

    /// Chains that were added more than once.
    pub(super) fn duplicates(&self) -> &[(Table, ChainName)] {
        &self.duplicates
    }

    /// A chain with its name as the ruleset keeps it.
    pub(super) fn entry(&self, table: Table, name: &ChainName) -> Option<(&ChainName, &[ObservedRule])> {
        self.chains.get_key_value(&(table, name.clone())).map(|((_, name), rules)| (name, rules.as_slice()))
    }
}
