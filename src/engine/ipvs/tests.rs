//! The backend over simulated kernels: any models, with faults, other programs, and restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use proptest::prelude::*;

use super::*;
use crate::engine::backend::{Backend, RepairMode};
use crate::engine::{IptablesBackend, SharedSettings};
use crate::kernel::ipset::ObservedSet;
use crate::kernel::ipvs::{ObservedVirtualServer, RealServer, Scheduler, ServerFlags, VirtualServer, VirtualServerKey};
use crate::kernel::link::Device;
use crate::kernel::xtables::variant::Variant;
use crate::kernel::xtables::{ObservedRule, Scope, Table, Xtables};
use crate::kernel::{ApplyErrorKind, xtables};
use crate::model::ServicePort;
use crate::net::{Endpoint, Family, Protocol};
use crate::plan::Move;
use crate::plan::ipvs::Desired;
use crate::plan::ipvs::testing::{model, moves, settings, simple};
use crate::sim::{SimIpvs, SimKernel, SimLinks, SimSets};
use crate::state::Tuning;

const NOW: u32 = 1_800_000_000;

type Servers = Arc<Mutex<SimIpvs>>;
type Ipvs = IpvsBackend<SimKernel, SimSets, SimLinks, Servers>;
type Model = Vec<Arc<ServicePort>>;

/// A node in IPVS mode whose clock stands still until it is moved.
struct Node {
    backend: Ipvs,
    servers: Servers,
    clock: Arc<AtomicU32>,
}

fn shared() -> SharedSettings {
    Arc::new(Mutex::new(settings()))
}

fn node_over(kernel: Kernel<SimKernel, SimSets, SimLinks, Servers>) -> Node {
    let clock = Arc::new(AtomicU32::new(NOW));
    let servers = kernel.servers.clone();
    let now = clock.clone();
    let hooks = IpvsHooks { clock: Box::new(move || now.load(Ordering::Relaxed)), ..IpvsHooks::default() };
    Node { backend: IpvsBackend::new(kernel, shared(), Family::ALL.into(), hooks), servers, clock }
}

fn node() -> Node {
    node_over(Kernel {
        rules: SimKernel::new(Variant::Nft),
        sets: SimSets::new(),
        links: SimLinks::new(),
        servers: Arc::new(Mutex::new(SimIpvs::new(7))),
    })
}

impl Node {
    fn repair(&mut self, model: &[Arc<ServicePort>]) -> u64 {
        self.backend.repair(model, &Scope::All, RepairMode::Repair).unwrap().total()
    }

    fn connect(&self, key: &VirtualServerKey, endpoint: &Endpoint, active: u32) {
        assert!(self.servers.lock().unwrap().set_connections(key, endpoint, active, 0, 0));
    }

    fn connect_all(&self, active: u32) {
        let all = self.servers.lock().unwrap().servers();
        for server in all {
            server.real_servers.keys().for_each(|endpoint| self.connect(&server.key, endpoint, active));
        }
    }

    /// Another process over the same kernel.
    fn restart(self) -> Node {
        let Node { mut backend, servers, .. } = self;
        let kernel = backend.kernel();
        let kernel = Kernel {
            rules: std::mem::replace(&mut kernel.rules, SimKernel::new(Variant::Nft)),
            sets: std::mem::take(&mut kernel.sets),
            links: std::mem::take(&mut kernel.links),
            servers,
        };
        node_over(kernel)
    }

    /// The kernel holds exactly what is wanted.
    fn is_what_is_wanted(&mut self, model: &[Arc<ServicePort>]) {
        let (desired, _) = Desired::plan(&settings(), &Family::ALL, model);
        let kernel = self.backend.kernel();
        let sets: BTreeMap<_, _> = kernel.sets.sets().map(|set| (set.name, (set.spec.unwrap(), set.entries))).collect();
        assert_eq!(sets, desired.sets);
        assert_eq!(*kernel.links.device(), Device::Dummy { addresses: desired.addresses });
        let held = self.servers.lock().unwrap().servers();
        let servers: BTreeMap<_, _> = held
            .into_iter()
            .map(|held| {
                let reals = held.real_servers.into_iter().map(|(endpoint, real)| (endpoint, real.server)).collect();
                (held.key, (held.server, reals))
            })
            .collect();
        assert_eq!(servers, desired.servers);
        assert_eq!(rules(&mut kernel.rules), desired.chains);
        let mut jumps = builtin_rules(&mut kernel.rules);
        for wanted in &desired.builtin {
            let found = jumps.iter().position(|(chain, rule)| (chain, rule) == (&wanted.chain, &wanted.rule));
            jumps.swap_remove(found.unwrap_or_else(|| panic!("{wanted:?} is not in {jumps:?}")));
        }
        assert_eq!(jumps, [], "each is there once");
    }
}

/// All chains that are not built in.
fn rules(kernel: &mut SimKernel) -> BTreeMap<xtables::ChainKey, Vec<xtables::Rule>> {
    chains(kernel, false).into_iter().collect()
}

/// All rules of chains that are built in.
fn builtin_rules(kernel: &mut SimKernel) -> Vec<(xtables::ChainKey, xtables::Rule)> {
    let each = |(key, rules): (xtables::ChainKey, Vec<_>)| rules.into_iter().map(move |rule| (key.clone(), rule));
    chains(kernel, true).into_iter().flat_map(each).collect()
}

fn chains(kernel: &mut SimKernel, builtin: bool) -> Vec<(xtables::ChainKey, Vec<xtables::Rule>)> {
    let mut found = Vec::new();
    for family in Family::ALL {
        for table in Table::ALL {
            let mut visit = |chain: xtables::ObservedChain| {
                if chain.builtin == builtin {
                    let rules = chain.rules.iter().map(|rule| rule.known().unwrap().clone()).collect();
                    found.push((xtables::ChainKey { family, table, name: chain.name }, rules));
                }
            };
            kernel.observe(family, table, &mut visit).unwrap();
        }
    }
    found
}

fn key(name: u8) -> VirtualServerKey {
    VirtualServerKey::new(Protocol::Tcp, [172, 30, 0, name].into(), 80)
}

fn pod(number: u8) -> Endpoint {
    Endpoint::new([10, 0, 0, number].into(), 8080)
}

fn tuned(port: &ServicePort, scheduler: &str) -> Arc<ServicePort> {
    let tuning = Tuning { scheduler: Some(scheduler.into()), ..Tuning::default() };
    Arc::new(ServicePort { tuning: Some(Arc::new(tuning)), ..port.clone() })
}

fn foreign(key: VirtualServerKey) -> ObservedVirtualServer {
    let server = VirtualServer {
        scheduler: Scheduler::new("wlc").unwrap(),
        flags: ServerFlags::default(),
        timeout: 0,
        prefix: 32,
    };
    ObservedVirtualServer { key, server, unknown: false, real_servers: BTreeMap::new() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Start, changes, some of which the kernel refuses at first, a restart, a compare.
    #[test]
    fn whatever_happens_the_kernel_comes_to_hold_what_is_wanted(
        models in proptest::collection::vec(model(), 1..4),
        refused in proptest::collection::vec((0u8..4, any::<bool>()), 0..3),
        active in 0u32..2,
        restart in any::<bool>(),
    ) {
        let mut node = node();
        node.repair(&models[0]);
        node.is_what_is_wanted(&models[0]);
        prop_assert_eq!(node.repair(&models[0]), 0);
        for (name, _) in &refused {
            node.servers.lock().unwrap().refuse_once(key(*name), Errno::ENOMEM);
        }
        for pair in models.windows(2) {
            node.connect_all(active);
            let moves = moves(&pair[0], &pair[1]);
            // Somebody tries again until it succeeds, as the engine does.
            let mut tries = 0;
            while node.backend.apply(&moves).is_err() {
                tries += 1;
                prop_assert!(tries < 10);
            }
        }
        let last = models.last().unwrap();
        node.connect_all(0);
        node.clock.store(NOW + 1, Ordering::Relaxed);
        if restart {
            node = node.restart();
            node.repair(last);
        }
        node.backend.tend().unwrap();
        for (name, _) in &refused {
            node.servers.lock().unwrap().refuse_no_more(&key(*name));
        }
        node.repair(last);
        node.backend.tend().unwrap();
        node.is_what_is_wanted(last);
        prop_assert_eq!(node.repair(last), 0);
        prop_assert!(node.backend.rest().is_none());
    }

    /// From IPVS mode to iptables mode: everything of the old one goes when its connections are over.
    #[test]
    fn iptables_mode_retires_ipvs_mode(model in model(), active in 0u32..2) {
        let mut node = node();
        node.repair(&model);
        node.connect_all(active);
        let kernel = node.backend.kernel();
        let rules_kernel = std::mem::replace(&mut kernel.rules, SimKernel::new(Variant::Nft));
        let sets = Arc::new(Mutex::new(std::mem::take(&mut kernel.sets)));
        let links = Arc::new(Mutex::new(std::mem::take(&mut kernel.links)));
        links.lock().unwrap().set_outbound_sources([[192, 0, 2, 1].into()]);
        let iptables = IptablesBackend::new(rules_kernel, shared(), Family::ALL.into());
        let servers = node.servers.clone();
        let open = move || Ok(servers.clone());
        let mut next =
            WithCompanion::new(iptables, (sets.clone(), links.clone()), open, shared(), Family::ALL.into());
        prop_assert!(next.rest().is_none(), "nothing goes before the new mode serves");
        next.repair(&model, &Scope::All, RepairMode::Repair).unwrap();
        prop_assert!(next.rest().is_some());
        next.tend().unwrap();
        // Of each address that stays, so that the node's own connections outlive it.
        let (device, sources) = { let links = links.lock().unwrap(); (links.device().clone(), links.sources().clone()) };
        if let Device::Dummy { addresses } = device {
            prop_assert!(sources.keys().eq(&addresses));
        }
        let kept: usize = node.servers.lock().unwrap().servers().iter().map(|server| server.real_servers.len()).sum();
        prop_assert!(active > 0 || kept == 0);
        node.connect_all(0);
        for _ in 0..3 {
            next.tend().unwrap();
        }
        prop_assert!(next.rest().is_none());
        prop_assert_eq!(node.servers.lock().unwrap().servers(), []);
        let device = links.lock().unwrap().device().clone();
        prop_assert_eq!(device, Device::Absent);
        prop_assert_eq!(sets.lock().unwrap().sets().count(), 0);
    }
}

#[test]
fn one_endpoint_is_one_message() {
    let mut node = node();
    let (before, after): (Model, Model) = (
        (1..200).map(|n| simple(n, &[1, 2])).collect(),
        (1..200).map(|n| simple(n, if n == 7 { &[1, 2, 3] } else { &[1, 2] })).collect(),
    );
    node.repair(&before);
    node.servers.lock().unwrap().take_messages();
    node.backend.apply(&moves(&before, &after)).unwrap();
    let (messages, keys) = node.servers.lock().unwrap().take_messages();
    assert_eq!((messages.total(), keys.into_iter().collect::<Vec<_>>()), (1, vec![key(7)]));
}

#[test]
fn a_drain_survives_a_restart_and_ends_with_its_last_connection() {
    let (both, one) = ([simple(1, &[1, 2])], [simple(1, &[1])]);
    let mut node = node();
    node.repair(&both);
    node.connect(&key(1), &pod(2), 1);
    node.backend.apply(&moves(&both, &one)).unwrap();
    assert!(node.backend.rest().is_some());
    let mut node = node.restart();
    node.clock.store(NOW + 100, Ordering::Relaxed);
    assert_eq!(node.repair(&one), 0, "all that is known of a drain is in the kernel");
    let drained = RealServer { weight: 0, upper_threshold: NOW + 900, ..RealServer::default() };
    let held = |node: &Node| node.servers.lock().unwrap().server(&key(1)).unwrap().real_servers.get(&pod(2)).copied();
    assert_eq!(held(&node).unwrap().server, drained);
    node.backend.tend().unwrap();
    assert!(held(&node).is_some(), "it has a connection");
    node.connect(&key(1), &pod(2), 0);
    node.backend.tend().unwrap();
    assert_eq!(held(&node), None);
    node.is_what_is_wanted(&one);
}

#[test]
fn the_deadline_ends_what_connections_do_not() {
    let (both, none): (Model, Model) = (vec![simple(1, &[1, 2])], vec![]);
    let mut node = node();
    node.repair(&both);
    node.connect_all(5);
    node.backend.apply(&moves(&both, &none)).unwrap();
    node.clock.store(NOW + 899, Ordering::Relaxed);
    node.backend.tend().unwrap();
    assert_eq!(node.servers.lock().unwrap().servers().len(), 1);
    node.clock.store(NOW + 900, Ordering::Relaxed);
    node.backend.tend().unwrap();
    node.is_what_is_wanted(&none);
}

#[test]
fn others_virtual_servers_are_left_alone_and_told() {
    let mut node = node();
    let others = VirtualServerKey::new(Protocol::Tcp, [203, 0, 113, 9].into(), 443);
    for key in [others, key(1)] {
        node.servers.lock().unwrap().add_foreign(foreign(key));
    }
    let model = [simple(1, &[1]), simple(2, &[2])];
    node.repair(&model);
    let server = |node: &Node, key: &VirtualServerKey| node.servers.lock().unwrap().server(key);
    assert_eq!(server(&node, &key(1)), Some(foreign(key(1))), "a service asks for it, and does not get it");
    assert_eq!(server(&node, &others), Some(foreign(others)));
    assert_eq!(server(&node, &key(2)).unwrap().real_servers.len(), 1, "everyone else is served");
    // One that comes up while weir runs.
    node.servers.lock().unwrap().add_foreign(foreign(key(3)));
    let third = [Move { before: None, after: Some(simple(3, &[1])) }];
    let error = node.backend.apply(&third).unwrap_err();
    assert_eq!(error.kind, ApplyErrorKind::Refused);
    assert!(error.message.contains("172.30.0.3:80/TCP") && error.message.contains("not weir's"), "{}", error.message);
    assert_eq!(node.backend.suspect(&error), Some(simple(3, &[]).key.clone()));
    assert_eq!(server(&node, &key(3)), Some(foreign(key(3))));
    // With another one in the same batch, neither is taken.
    node.servers.lock().unwrap().add_foreign(foreign(key(4)));
    let both: Vec<Move> = [3, 4].map(|n| Move { before: None, after: Some(simple(n, &[1])) }).into();
    for _ in 0..3 {
        node.backend.apply(&both).unwrap_err();
    }
    assert!([3, 4].into_iter().all(|n| server(&node, &key(n)) == Some(foreign(key(n)))));
    // When it is gone, the service is served.
    node.servers.lock().unwrap().remove(&key(3));
    node.backend.apply(&third).unwrap();
    assert_eq!(server(&node, &key(3)).unwrap().real_servers.len(), 1);
}

#[test]
fn a_scheduler_that_the_kernel_lacks_is_replaced_by_the_default_one() {
    let mut node = node();
    node.servers.lock().unwrap().remove_scheduler(Scheduler::new("mh").unwrap());
    let (lacking, known) = (tuned(&simple(1, &[1]), "mh"), tuned(&simple(2, &[1]), "lc"));
    node.repair(&[lacking, known]);
    let scheduler = |node: &Node, n| node.servers.lock().unwrap().server(&key(n)).unwrap().server.scheduler.to_string();
    assert_eq!((scheduler(&node, 1), scheduler(&node, 2)), ("rr".to_owned(), "lc".to_owned()));
    let later = Move { before: None, after: Some(tuned(&simple(3, &[1]), "nosuch")) };
    node.backend.apply(&[later]).unwrap();
    assert_eq!(scheduler(&node, 3), "rr");
}

#[test]
fn drift_of_every_kind_is_found_named_and_repaired() {
    let model = [simple(1, &[1, 2]), simple(2, &[2])];
    let mut node = node();
    node.repair(&model);
    {
        let mut servers = node.servers.lock().unwrap();
        servers.remove(&key(2));
        servers.remove_real_server(&key(1), &pod(2));
    }
    let kernel = node.backend.kernel();
    let cluster_ips = crate::plan::ipvs::Set::ClusterIp.name(Family::V4);
    let entry = *kernel.sets.entries(&cluster_ips).unwrap().keys().next().unwrap();
    assert!(kernel.sets.delete_entry(&cluster_ips, &entry));
    kernel.links.set_device(Device::Dummy { addresses: [[172, 30, 0, 1].into(), [10, 9, 9, 9].into()].into() });
    let repair = node.backend.repair(&model, &Scope::All, RepairMode::ReportOnly).unwrap();
    let found: Vec<_> =
        repair.differences.iter().map(|(kind, n)| format!("{} {} {n}", kind.table, kind.kind)).collect();
    assert_eq!(
        found,
        [
            "ipset entry missing 1",
            "ipvs real server missing 1",
            "ipvs virtual server missing 1",
            "link address extra 1",
            "link address missing 1"
        ]
    );
    assert_eq!(node.repair(&model), 5);
    node.is_what_is_wanted(&model);
}

/// The rules that somebody was seen to change are looked at, and nothing else.
#[test]
fn a_rule_is_repaired_alone() {
    let mut node = node();
    node.repair(&[simple(1, &[1])]);
    let chain = crate::plan::ipvs::entrance(Family::V4);
    let mut broken = xtables::Changes::default();
    let mut before = Vec::new();
    let names = [chain.name.clone()].into();
    let kernel = node.backend.kernel();
    kernel.rules.observe_chains(chain.family, chain.table, &names, &mut |chain| before = chain.rules).unwrap();
    let after: Vec<_> = before.iter().skip(1).filter_map(ObservedRule::known).cloned().collect();
    broken.chains.insert(chain.clone(), xtables::ChainChange { before: Some(before), after: Some(after) });
    kernel.rules.apply(&broken).unwrap();
    kernel.sets.take_log();
    let scope = Scope::Chains([chain].into());
    assert_eq!(node.backend.repair(&[simple(1, &[1])], &scope, RepairMode::Repair).unwrap().total(), 1);
    assert_eq!(node.backend.kernel().sets.take_log().observed, 0);
    node.is_what_is_wanted(&[simple(1, &[1])]);
}

#[test]
fn what_is_in_the_way_stops_everything_before_anything_is_changed() {
    let mut node = node();
    let name = crate::plan::ipvs::Set::ClusterIp.name(Family::V4);
    let odd = ObservedSet { name: name.clone(), spec: Err("list:set".into()), entries: BTreeMap::new() };
    node.backend.kernel().sets.put(odd);
    let error = node.backend.repair(&[simple(1, &[1])], &Scope::All, RepairMode::Repair).unwrap_err();
    assert_eq!(error.kind(), Some(ApplyErrorKind::Unavailable));
    assert!(error.to_string().contains("KUBE-CLUSTER-IP") && error.to_string().contains("ipset destroy"), "{error}");
    let kernel = node.backend.kernel();
    assert_eq!((kernel.sets.sets().count(), kernel.links.device()), (1, &Device::Absent));
    assert_eq!(rules(&mut kernel.rules), BTreeMap::new());
    assert!(kernel.sets.take(&name).is_some());
    node.repair(&[simple(1, &[1])]);
    node.is_what_is_wanted(&[simple(1, &[1])]);
}

/// The node's own connections are from an address of the node before rules lead the first one away from IPVS, whatever
/// may be known of that address.
#[test]
fn sources_are_settled_before_iptables_mode_serves() {
    let ips = |list: &[[u8; 4]]| list.iter().map(|ip| IpAddr::from(*ip)).collect::<BTreeSet<_>>();
    let (own, service) = (IpAddr::from([192, 168, 0, 2]), IpAddr::from([172, 30, 0, 1]));
    assert_eq!(settings().node_ips.v4, Some(own));
    let far = IpAddr::from([192, 168, 9, 9]);
    // (the source of what goes out, addresses of other devices) -> the source of what goes to the service
    let cases = [
        (vec![far], ips(&[[192, 168, 0, 2], [192, 168, 9, 9]]), Some(far)),
        (vec![], ips(&[[192, 168, 0, 2]]), Some(own)),
        (vec![], ips(&[[10, 0, 0, 1]]), None),
    ];
    for (outbound, others, expected) in cases {
        let links = Arc::new(Mutex::new(SimLinks::new()));
        {
            let mut links = links.lock().unwrap();
            links.set_device(Device::Dummy { addresses: [service].into() });
            links.set_other_addresses(others);
            links.set_outbound_sources(outbound);
        }
        let mut rules = SimKernel::new(Variant::Nft);
        rules.refuse_if(|_| true);
        let iptables = IptablesBackend::new(rules, shared(), Family::ALL.into());
        let open = || Ok(Arc::new(Mutex::new(SimIpvs::new(7))));
        let mut mode =
            WithCompanion::new(iptables, (SimSets::new(), links.clone()), open, shared(), Family::ALL.into());
        mode.repair(&[], &Scope::All, RepairMode::ReportOnly).unwrap();
        assert_eq!(links.lock().unwrap().sources(), &BTreeMap::new(), "who only reports changes nothing");
        mode.repair(&[], &Scope::All, RepairMode::Repair).unwrap_err();
        assert_eq!(links.lock().unwrap().sources().get(&service).copied(), expected);
        assert!(mode.rest().is_none(), "nothing goes before the new mode serves");
    }
}
