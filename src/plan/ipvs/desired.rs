//! Everything that is wanted, as a value.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::planner::Planner;
use super::{base, sets};
use crate::kernel::ipset::{Entries, SetName, SetSpec};
use crate::kernel::ipvs::{RealServer, VirtualServer, VirtualServerKey};
use crate::kernel::xtables::{ChainKey, ChainName, Rule};
use crate::model::{ServicePort, Settings};
use crate::net::{Endpoint, Family};
use crate::plan::egress;
use crate::plan::iptables::{self, BuiltinRule};

/// A virtual server with its real servers.
pub type Served = (VirtualServer, BTreeMap<Endpoint, RealServer>);

/// Everything that is wanted of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// All sets, the empty ones too.
    pub sets: BTreeMap<SetName, (SetSpec, Entries)>,
    pub chains: BTreeMap<ChainKey, Vec<Rule>>,
    /// Rules in chains that are not ours alone.
    pub builtin: Vec<BuiltinRule>,
    pub servers: BTreeMap<VirtualServerKey, Served>,
    /// Addresses on the service device.
    pub addresses: BTreeSet<IpAddr>,
}

impl Desired {
    /// The base and these service ports, on a kernel where nobody else has virtual servers.
    pub fn plan(settings: &Arc<Settings>, families: &[Family], model: &[Arc<ServicePort>]) -> (Desired, Planner) {
        let mut planner = Planner::new(settings.clone(), families, BTreeSet::new());
        planner.adopt(model);
        (Desired::of(&planner), planner)
    }

    /// What a planner wants.
    pub fn of(planner: &Planner) -> Desired {
        let (settings, families) = (planner.settings(), planner.families());
        Desired {
            sets: wanted_sets(planner),
            chains: chains(settings, families),
            builtin: families.iter().flat_map(|family| base::builtin_rules(settings, *family)).collect(),
            servers: planner.wanted().map(|(key, claim)| (key, (claim.server, claim.real_servers))).collect(),
            addresses: planner.ledger().addresses(),
        }
    }
}

/// All sets that are wanted, with what is in them.
pub fn wanted_sets(planner: &Planner) -> BTreeMap<SetName, (SetSpec, Entries)> {
    let mut sets = planner.ledger().sets(planner.families());
    if planner.is_retiring() {
        sets.retain(|_, (_, entries)| !entries.is_empty());
    }
    let egress = planner.families().iter().filter_map(|family| egress::set(planner.settings(), *family));
    sets.extend(egress.map(|(name, spec, entries)| (name, (spec, entries))));
    sets
}

/// The wanted rules, for a comparison with chains.
pub fn rules(settings: &Settings, families: &[Family]) -> iptables::Desired {
    let builtin = families.iter().flat_map(|family| base::builtin_rules(settings, *family)).collect();
    iptables::Desired::of(chains(settings, families), builtin, others(settings, families))
}

/// Those of these chains that are wanted, and the wanted rules in those of them that are built in.
pub fn rules_named(settings: &Settings, families: &[Family], names: &BTreeSet<ChainKey>) -> iptables::Desired {
    let mut chains = chains(settings, families);
    chains.retain(|key, _| names.contains(key));
    let builtin = families.iter().flat_map(|family| base::builtin_rules(settings, *family));
    let builtin = builtin.filter(|rule| names.contains(&rule.chain)).collect();
    iptables::Desired::of(chains, builtin, others(settings, families))
}

/// The jumps of iptables mode.
fn others(settings: &Settings, families: &[Family]) -> Vec<BuiltinRule> {
    families.iter().flat_map(|family| iptables::builtin_rules(settings, *family)).collect()
}

fn chains(settings: &Settings, families: &[Family]) -> BTreeMap<ChainKey, Vec<Rule>> {
    let mut chains = BTreeMap::new();
    for family in families {
        for (table, name, rules) in base::chains(settings, *family) {
            chains.insert(ChainKey { family: *family, table, name }, rules);
        }
    }
    chains
}

/// The chain through which packets come to services: without it nothing leads there.
pub fn entrance(family: Family) -> ChainKey {
    let (table, name) = base::ENTRANCE;
    ChainKey { family, table, name: ChainName::new(name) }
}

/// Whether a set is ours to change and destroy.
pub fn is_our_set(name: &str) -> bool {
    sets::is_ours(name)
}
