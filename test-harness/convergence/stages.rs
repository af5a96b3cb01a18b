//! Where nothing leads to services, DNS and the API server's own service come first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use weir::engine::{Backend, IptablesBackend, Repair, RepairMode};
use weir::kernel::xtables::variant::Variant;
use weir::kernel::xtables::{BuiltinChange, Scope, Table};
use weir::model::oracle::{Host, Packet, Verdict, judge};
use weir::model::{ServicePort, ServicePortKey, Settings};
use weir::net::{Family, ObjectName, ServicePortName};
use weir::sim::scenario::Fixture;
use weir::sim::trace::{lint, trace};
use weir::sim::{Faults, SimKernel};

use crate::cluster::{Case, Cluster, Random, seeds};
use crate::kernel::{self, Chains, Shared, lock};
use crate::proxy::shared;
use crate::spy::{Spy, Traffic};

const SERVICES: usize = 30;

struct Node {
    kernel: Shared,
    spy: Spy,
    settings: Arc<Settings>,
    backend: IptablesBackend<Spy>,
}

impl Node {
    /// A process that has just begun, over this kernel.
    fn start(kernel: &Shared) -> Self {
        let spy = Spy::new(kernel);
        let settings = Settings::default();
        let backend = IptablesBackend::new(spy.clone(), shared(settings.clone()), Family::ALL.to_vec());
        Node { kernel: kernel.clone(), spy, settings: Arc::new(settings), backend }
    }

    /// A repair of everything that succeeds; returns what it told and did.
    fn repair(&mut self, model: &[Arc<ServicePort>]) -> (Repair, Traffic) {
        let found = self.backend.repair(model, &Scope::All, RepairMode::ReportOnly).unwrap();
        let _ = self.spy.traffic();
        let repair = self.backend.repair(model, &Scope::All, RepairMode::Repair).unwrap();
        assert_eq!(repair, found, "in two stages or in one: the same differences");
        kernel::assert_holds(&self.kernel, &self.settings, model, "after a repair");
        let traffic = self.spy.traffic();
        assert_eq!(traffic.tables, 6, "one look at the kernel");
        let again = self.backend.repair(model, &Scope::All, RepairMode::ReportOnly).unwrap();
        assert_eq!(again.total(), 0);
        let _ = self.spy.traffic();
        (repair, traffic)
    }
}

fn empty_kernel(random: &mut Random) -> Shared {
    Arc::new(Mutex::new(SimKernel::new(*random.pick(&Variant::ALL))))
}

/// A model in which some services are those that come first.
fn model(random: &mut Random) -> Vec<Arc<ServicePort>> {
    let mut cluster = Cluster::empty(random);
    cluster.most_endpoints = 20;
    (0..SERVICES).for_each(|i| cluster.put(random, i));
    let mut names: BTreeMap<ObjectName, usize> = BTreeMap::new();
    let ports = cluster.model().into_iter().map(|port| {
        let count = names.len();
        let number = *names.entry(port.key.name.service.clone()).or_insert(count);
        Arc::new(ServicePort { key: renamed(&port.key, number), ..(*port).clone() })
    });
    let model: BTreeMap<ServicePortKey, Arc<ServicePort>> = ports.map(|port| (port.key.clone(), port)).collect();
    model.into_values().collect()
}

fn renamed(key: &ServicePortKey, number: usize) -> ServicePortKey {
    let old = &key.name;
    let name = match number {
        0 => ServicePortName::new(ObjectName::new("default", "kubernetes"), &*old.port, old.protocol),
        1 | 2 => {
            let port = format!("dns{}", if old.port.is_empty() { "" } else { "-tcp" });
            ServicePortName::new(ObjectName::new("kube-system", format!("dns-{number}")), &*port, old.protocol)
        }
        _ => return key.clone(),
    };
    ServicePortKey { name, ..key.clone() }
}

fn is_first(port: &ServicePort) -> bool {
    let name = &port.key.name;
    &*name.service.namespace == "kube-system" || &*name.service.name == "kubernetes"
}

/// What becomes of a packet to the service port's cluster IP from a pod; the rules are sound.
fn verdict(chains: &Chains, port: &ServicePort) -> (Verdict, Verdict) {
    let [v4, v6] = kernel::rules_of(chains.clone());
    let rules = if port.family() == Family::V4 { v4 } else { v6 };
    assert_eq!(lint(&rules), Vec::<String>::new());
    let (_, source) = Fixture::client("pod", port.family()).unwrap();
    let host = Host { addresses: Fixture::host_addresses() };
    let packet = Packet {
        source,
        destination: port.cluster_ip,
        protocol: port.key.name.protocol,
        port: port.port,
        in_interface: Some(Fixture::POD_INTERFACE.to_owned()),
    };
    let found = trace(&rules, &host, &packet).unwrap().verdict;
    (found, judge([port].into_iter(), &Settings::default(), &host, &packet))
}

fn assert_first_served(chains: &Chains, model: &[Arc<ServicePort>]) {
    for port in model.iter().filter(|port| is_first(port)) {
        let (found, expected) = verdict(chains, port);
        assert!(expected.agrees_with(&found), "{}: {found:?} instead of {expected:?}", port.key.name);
    }
}

#[test]
fn a_cold_start_serves_dns_and_the_api_server_first() {
    for seed in seeds(20) {
        let _case = Case(seed);
        let mut random = Random::new(seed);
        let (kernel, model) = (empty_kernel(&mut random), model(&mut random));
        let (_, traffic) = Node::start(&kernel).repair(&model);
        assert_eq!(traffic.written.len(), 2);
        assert_first_served(&traffic.after[0], &model);
        let first = traffic.written[0].chains.len();
        assert!(first < traffic.written[1].chains.len(), "{first} chains in the first stage");
        // A restart finds everything as it should be.
        let (repair, traffic) = Node::start(&kernel).repair(&model);
        assert_eq!((repair.total(), traffic.written.len()), (0, 0));
    }
}

#[test]
fn where_nobody_comes_first_a_start_is_one_change() {
    let mut random = Random::new(1);
    let kernel = empty_kernel(&mut random);
    let model: Vec<_> = model(&mut random).into_iter().filter(|port| !is_first(port)).collect();
    let (_, traffic) = Node::start(&kernel).repair(&model);
    assert_eq!(traffic.written.len(), 1);
}

/// Something that cuts all services off.
fn cut_off(kernel: &Shared, random: &mut Random) {
    match random.below(3) {
        0 => Family::ALL.iter().for_each(|family| lock(kernel).flush_table(*family, Table::Nat)),
        1 => Family::ALL.iter().for_each(|family| {
            lock(kernel).remove_chain(*family, Table::Nat, "KUBE-SERVICES");
        }),
        _ => Family::ALL.iter().for_each(|family| {
            kernel::flush(kernel, *family, Table::Nat, "PREROUTING");
        }),
    }
}

/// Whatever the kernel holds: a process that runs, or one that starts, brings DNS back first, takes nothing away in that
/// stage, and ends with what is wanted.
#[test]
fn whoever_was_cut_off_is_served_in_the_first_stage() {
    for seed in seeds(40) {
        let _case = Case(seed);
        let mut random = Random::new(seed);
        let (kernel, before, after) = (empty_kernel(&mut random), model(&mut random), model(&mut random));
        let mut node = Node::start(&kernel);
        node.repair(&before);
        cut_off(&kernel, &mut random);
        if random.chance(50) {
            node = Node::start(&kernel);
        }
        let held: BTreeSet<_> = kernel::all(&kernel).into_keys().collect();
        let (_, traffic) = node.repair(&after);
        assert_eq!(traffic.written.len(), 2);
        let first = &traffic.written[0];
        assert!(first.chains.values().all(|change| change.after.is_some()), "nothing is deleted");
        assert!(first.builtin.iter().all(|change| !matches!(change, BuiltinChange::Delete(..))));
        assert!(held.iter().all(|key| traffic.after[0].contains_key(key)));
        let counts = |port: &&Arc<ServicePort>| has_endpoints(port) && is_clear(port, &before);
        let served: Vec<_> = after.iter().filter(counts).cloned().collect();
        assert_first_served(&traffic.after[0], &served);
    }
}

/// One that has lost its endpoints may keep the old ones until the second stage.
fn has_endpoints(port: &ServicePort) -> bool {
    matches!(verdict(&Chains::new(), port).1, Verdict::Serve(_))
}

/// Until the second stage old rules of others stay: an address that was someone else's may still be.
fn is_clear(port: &ServicePort, before: &[Arc<ServicePort>]) -> bool {
    !before.iter().any(|old| old.cluster_ip == port.cluster_ip && old.key != port.key)
}

#[test]
fn an_error_of_the_first_stage_is_the_error_of_the_repair() {
    let mut random = Random::new(3);
    let (kernel, model) = (empty_kernel(&mut random), model(&mut random));
    let mut node = Node::start(&kernel);
    lock(&kernel).refuse_if(|_| true);
    assert!(node.backend.repair(&model, &Scope::All, RepairMode::Repair).is_err());
    assert_eq!(node.spy.traffic().written.len(), 1, "the second stage is not tried");
    lock(&kernel).refuse_none();
    lock(&kernel).set_faults(Faults::default());
    node.repair(&model);
}
