//! A node in IPVS mode over simulated kernels.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir::kernel::ipset::{Changes as SetChanges, ObservedSet, Sets as _};
use weir::kernel::ipvs::Ipvs;
use weir::kernel::link::{Device, Links};
use weir::kernel::xtables::Xtables;
use weir::kernel::xtables::variant::Variant;
use weir::model::oracle::Mode;
use weir::model::{ServicePort, Settings};
use weir::net::Family;
use weir::plan::ipvs::{self, Difference, Goal, Observed, Planner, UnixSeconds};
use weir::sim::trace::{Ruleset, lint};
use weir::sim::{SimIpvs, SimKernel, SimLinks, SimSets};

use crate::kernel::compare;
use crate::proxy::{Proxy, moves};

/// 2023-11-14 22:13:20 UTC. Nothing here depends on when it happens.
const NOW: UnixSeconds = 1_700_000_000;

/// Kernels that hold what a model asks for.
pub struct IpvsNode {
    pub kernel: SimKernel,
    pub servers: SimIpvs,
    pub sets: SimSets,
    links: SimLinks,
    planner: Planner,
    model: Vec<Arc<ServicePort>>,
}

impl IpvsNode {
    pub fn new(variant: Variant, settings: &Arc<Settings>, model: Vec<Arc<ServicePort>>) -> Self {
        let empty = Observed { sets: Vec::new(), device: Device::Absent, servers: Vec::new() };
        let (mut difference, planner) =
            ipvs::compare(settings, &Family::ALL, Goal::Serve(&model), &empty, &|_| false, NOW);
        let mut node = IpvsNode {
            kernel: SimKernel::new(variant),
            servers: SimIpvs::new(1),
            sets: SimSets::new(),
            links: SimLinks::new(),
            planner,
            model,
        };
        difference.rules = compare(&mut node.kernel, ipvs::rules(settings, &Family::ALL));
        node.apply(&difference);
        node
    }

    /// On to another model by the smallest change, which is returned. Nothing is due by time yet.
    pub fn change(&mut self, model: Vec<Arc<ServicePort>>) -> Difference {
        let difference = self.planner.replan(&moves(&self.model, &model), NOW);
        assert!(difference.rules.is_empty(), "a change of services changes no rules: {:?}", difference.rules);
        self.apply(&difference);
        self.model = model;
        difference
    }

    /// No connection is left that anything would wait for: what drains goes. What that changes is returned.
    pub fn tend(&mut self) -> Vec<Difference> {
        let draining: Vec<_> = self.planner.draining().keys().copied().collect();
        let mut made = Vec::new();
        for key in draining {
            let observed = self.servers.server(&key).map(|server| server.real_servers);
            let difference = self.planner.tend(&key, observed.as_ref(), NOW);
            self.apply(&difference);
            made.push(difference);
        }
        made
    }

    fn apply(&mut self, difference: &Difference) {
        self.check_sets(&difference.sets);
        self.sets.apply(&difference.sets).unwrap_or_else(|error| panic!("the kernel refuses sets: {error}"));
        self.kernel.apply(&difference.rules).unwrap_or_else(|error| panic!("the kernel refuses rules: {error}"));
        self.links.apply(&difference.links).unwrap_or_else(|error| panic!("the kernel refuses addresses: {error}"));
        self.servers.apply(&difference.servers).unwrap_or_else(|error| panic!("IPVS refuses: {error}"));
    }

    /// Each change must be one: what is added is not there, what is removed is.
    fn check_sets(&self, changes: &SetChanges) {
        for (name, change) in &changes.sets {
            let held = self.sets.entries(name);
            assert_eq!(held.is_some(), change.before.is_some(), "{name}");
            let is_held = |entry: &_| held.is_some_and(|entries| entries.contains_key(entry));
            assert!(!change.add.keys().any(is_held) && change.remove.iter().all(is_held), "{name}: {change:?}");
        }
    }

    /// What the kernels hold is what is wanted, planned afresh.
    fn check(&self) {
        let (desired, _) = ipvs::Desired::plan(self.planner.settings(), &Family::ALL, &self.model);
        assert!(self.planner.draining().is_empty());
        let in_set = |ObservedSet { name, spec, entries }| (name, (spec.unwrap(), entries));
        assert_eq!(self.sets.sets().map(in_set).collect::<BTreeMap<_, _>>(), desired.sets);
        assert_eq!(self.links.device(), &Device::Dummy { addresses: desired.addresses });
        let held: BTreeMap<_, _> = self.servers.servers().into_iter().map(|server| (server.key, server)).collect();
        assert!(held.keys().eq(desired.servers.keys()));
        for (key, (server, real_servers)) in &desired.servers {
            let reals = held[key].real_servers.iter().map(|(endpoint, held)| (*endpoint, held.server));
            assert_eq!((&held[key].server, &reals.collect::<BTreeMap<_, _>>()), (server, real_servers), "{key}");
        }
    }
}

impl Proxy for IpvsNode {
    const MODE: Mode = Mode::Ipvs;

    fn start(variant: Variant, settings: &Arc<Settings>, model: Vec<Arc<ServicePort>>) -> Self {
        IpvsNode::new(variant, settings, model)
    }

    fn go_on(&mut self, model: Vec<Arc<ServicePort>>) {
        self.change(model);
        self.tend();
        self.check();
    }

    fn rules(&mut self, family: Family) -> Ruleset {
        let mut rules = Ruleset::observe(&mut self.kernel, family).unwrap();
        rules.observe_servers(&mut self.servers).unwrap();
        rules.observe_sets(&mut self.sets).unwrap();
        rules.observe_addresses(&mut self.links).unwrap();
        let findings = lint(&rules);
        assert!(findings.is_empty(), "J18 {family}: {}", findings.join("\n"));
        rules
    }
}
