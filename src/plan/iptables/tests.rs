//! The plan as a whole: any state to any state, the shape of the trees, kube-proxy's rules for what is small.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::kernel::xtables::{ChainKey, Changes, Rule, Target};
use crate::model::{EndpointFlags, LocalDetector, ModelEndpoint, ServicePort, ServicePortKey, Settings};
use crate::net::{Endpoint, Family, ObjectName, Protocol, ServicePortName};
use crate::plan::Move;
use crate::state::TrafficPolicy;

type Chains = BTreeMap<ChainKey, Vec<Rule>>;
type Model = BTreeMap<ServicePortKey, Arc<ServicePort>>;

fn settings() -> Arc<Settings> {
    let mut settings = Settings::default();
    settings.detector.v4 = LocalDetector::Cidr("10.0.0.0/8".parse().unwrap());
    Arc::new(settings)
}

const ELSEWHERE: EndpointFlags = EndpointFlags::ELSEWHERE;

/// A service port number `i` with these many endpoints.
fn port(family: Family, i: u32, address: u32, endpoints: u32) -> ServicePort {
    let ip = |base: u32, i: u32| match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(base + i)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from((0xfd00_u128 << 112) + (u128::from(base) << 40) + u128::from(i))),
    };
    let name = ServicePortName::new(ObjectName::new("ns", format!("svc{i}")), "http", Protocol::Tcp);
    let all = EndpointFlags::CLUSTER.with(EndpointFlags::READY).with(EndpointFlags::SERVING);
    let mut list: Vec<ModelEndpoint> =
        (0..endpoints).map(|e| ModelEndpoint::new(Endpoint::new(ip(0x0af4_0000, i * 64 + e), 8080), all)).collect();
    list.sort_by_key(|e| e.endpoint.to_string());
    ServicePort {
        endpoints: list.into(),
        has_any_endpoint: endpoints > 0,
        ..ServicePort::new(ServicePortKey { family, name }, ip(0x0a60_0000, address), 80)
    }
}

fn apply(chains: &mut Chains, changes: &Changes) {
    for (key, change) in &changes.chains {
        let had = chains.get(key);
        let before = change.before.as_ref();
        assert_eq!(had.is_some(), before.is_some(), "{key}: told to be there before, or not");
        if let (Some(had), Some(before)) = (had, before) {
            assert!(before.len() == had.len() && before.iter().zip(had).all(|(b, h)| b == h), "{key}: before differs");
        }
        match &change.after {
            Some(rules) => drop(chains.insert(key.clone(), rules.clone())),
            None => drop(chains.remove(key)),
        }
    }
}

fn full(settings: &Arc<Settings>, model: &Model) -> Chains {
    let ports: Vec<_> = model.values().cloned().collect();
    let (desired, _) = Desired::plan(settings, &Family::ALL, &ports);
    desired.chains().clone()
}

/// What a generated step does to one service.
#[derive(Clone, Debug)]
struct Step {
    family: bool,
    service: u32,
    shape: Option<(u32, u32, u8)>,
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    // Addresses that share long prefixes and addresses far away: leaves that split, branches that dissolve.
    let address = prop_oneof![0..120u32, (0..16u32).prop_map(|i| i << 8), (0..8u32).prop_map(|i| i << 20)];
    let endpoints = prop_oneof![8 => 0..4u32, 1 => 30..64u32];
    let shape = prop_oneof![1 => Just(None), 4 => (address, endpoints, any::<u8>()).prop_map(Some)];
    let step = (any::<bool>(), 0..160u32, shape).prop_map(|(family, service, shape)| Step { family, service, shape });
    prop::collection::vec(prop::collection::vec(step, 1..200), 1..6)
}

fn build(step: &Step) -> (ServicePortKey, Option<Arc<ServicePort>>) {
    let family = if step.family { Family::V6 } else { Family::V4 };
    let empty = port(family, step.service, 0, 0);
    let after = step.shape.map(|(address, endpoints, bits)| {
        let mut port = port(family, step.service, address, endpoints);
        if bits & 1 != 0 {
            port.node_port = 30000 + (step.service % 2700) as u16;
        }
        if bits & 2 != 0 {
            port.load_balancer_ips = Box::new([port.cluster_ip]);
            port.health_check_node_port = 31000 + step.service as u16;
        }
        if bits & 4 != 0 {
            port.external_policy = TrafficPolicy::Local;
        }
        if bits & 8 != 0 && family == Family::V4 {
            port.source_ranges = Box::new(["192.168.0.0/24".parse().unwrap()]);
        }
        if bits & 32 != 0 {
            port.internal_policy = TrafficPolicy::Local;
        }
        if bits & 64 != 0 {
            let local = EndpointFlags::LOCAL;
            port.endpoints.iter_mut().skip(1).for_each(|e| e.flags = e.flags.with(local));
        }
        if bits & 16 != 0 {
            port.affinity_seconds = Some(10800);
        }
        if bits & 128 != 0 {
            let away = |e: &&mut ModelEndpoint| !e.flags.contains(EndpointFlags::LOCAL);
            port.endpoints.iter_mut().filter(away).step_by(2).for_each(|e| e.flags = e.flags.with(ELSEWHERE));
        }
        Arc::new(port)
    });
    (empty.key, after)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the path, the changes lead from the kernel that was to exactly the full plan, and say truly what was
    /// there before. A batch that is reverted leaves no trace.
    #[test]
    fn any_state_to_any_state(batches in steps(), every in 1..40usize) {
        let settings = settings();
        let mut planner = Planner::new(settings.clone(), &Family::ALL);
        let mut model = Model::new();
        let mut chains = full(&settings, &model);
        let mut seen = BTreeSet::new();
        for batch in batches {
            let wanted: BTreeMap<_, _> = batch.iter().map(build).collect();
            let moves: Vec<Move> = wanted.iter()
                .map(|(key, after)| Move { before: model.get(key).cloned(), after: after.clone() })
                .collect();
            let first = planner.replan(&moves);
            planner.revert(&moves);
            let changes = planner.replan(&moves);
            prop_assert_eq!(&first, &changes);
            apply(&mut chains, &changes);
            for (key, after) in wanted {
                match after {
                    Some(port) => drop(model.insert(key, port)),
                    None => drop(model.remove(&key)),
                }
            }
            let expected = full(&settings, &model);
            let keys: BTreeSet<_> = chains.keys().chain(expected.keys()).chain(&seen).cloned().collect();
            for key in &keys {
                prop_assert_eq!(chains.get(key), expected.get(key), "{}", key);
            }
            // Some of them alone, with some that are not there any more.
            let names: BTreeSet<ChainKey> = keys.iter().step_by(every).cloned().collect();
            let found = named(&planner, &model, &names);
            let wanted = expected.into_iter().filter(|(key, _)| names.contains(key)).collect::<Chains>();
            prop_assert!(found == wanted, "{:?} of {:?}", found.keys(), names);
            seen = keys;
        }
    }
}

/// What the planner says about these chains alone.
fn named(planner: &Planner, model: &Model, names: &BTreeSet<ChainKey>) -> Chains {
    let ports: Vec<_> = model.values().cloned().collect();
    let desired = Desired::plan_named(planner.settings(), &planner.families(), planner, &ports, names);
    desired.chains().clone()
}

/// How deep chains nest below a chain.
fn depth(chains: &Chains, key: &ChainKey) -> usize {
    let below = chains.get(key).into_iter().flatten().filter_map(|rule| match &rule.target {
        Some(Target::Jump(to)) => Some(ChainKey { name: to.clone(), ..key.clone() }),
        _ => None,
    });
    below.map(|key| 1 + depth(chains, &key)).max().unwrap_or(0)
}

fn root(family: Family, name: &str) -> ChainKey {
    use crate::kernel::xtables::{ChainName, Table};
    ChainKey { family, table: Table::Nat, name: ChainName::new(name) }
}

/// Addresses chosen so that every nibble splits in two: the worst that a user can do to the depth.
#[test]
fn the_depth_is_bounded_whatever_the_addresses() {
    let settings = settings();
    for family in Family::ALL {
        let mut model = Model::new();
        for i in 0..16384u32 {
            let mut port = port(family, i, 0, 40);
            let spread = (0..14).fold(0u128, |bits, b| bits | u128::from(i >> b & 1) << (4 * b));
            port.cluster_ip = match family {
                Family::V4 => IpAddr::V4(Ipv4Addr::from((spread & 0xffff_ffff) as u32)),
                Family::V6 => IpAddr::V6(Ipv6Addr::from(spread << 60)),
            };
            // 14 bits do not fit in the 8 nibbles of IPv4: the rest goes to the port's nibbles.
            port.port = if family == Family::V4 { 1 + (spread >> 32) as u16 } else { 80 };
            if i >= 64 {
                port.endpoints = port.endpoints[..1].into();
            }
            model.insert(port.key.clone(), Arc::new(port));
        }
        let chains = full(&settings, &model);
        let deepest = depth(&chains, &root(family, "KUBE-SERVICES"));
        // Below a built-in chain the kernel takes 15; KUBE-SERVICES itself is one. A load balancer's way has two more
        // chains (KUBE-FW, KUBE-EXT) than the way of a cluster IP, which is what is measured here.
        assert!(deepest + 1 + 2 <= 15, "{family}: {deepest}");
    }
}

/// Services in one range: what a packet to a service and one to elsewhere meet in KUBE-SERVICES.
#[test]
fn few_rules_are_tested_at_30_000_services() {
    let settings = settings();
    let mut model = Model::new();
    for i in 0..30_000u32 {
        let port = port(Family::V4, i, (i.wrapping_mul(2_654_435_761)) >> 12, 1);
        model.insert(port.key.clone(), Arc::new(port));
    }
    let chains = full(&settings, &model);
    let rules = &chains[&root(Family::V4, "KUBE-SERVICES")];
    assert!(rules.len() <= 2, "traffic to elsewhere meets {} rules", rules.len());
    let longest =
        chains.iter().filter(|(key, _)| key.name.as_str().starts_with("KUBE-SVC-s-")).map(|(_, r)| r.len()).max();
    assert!(longest <= Some(dispatch::render::LEAF), "{longest:?}");
    let dispatch_chains = chains.keys().filter(|key| key.name.as_str().starts_with("KUBE-SVC-s-")).count();
    assert!(dispatch_chains < 6000, "{dispatch_chains}");
}

/// Rules that are ours in a table: in our chains, and in the chain shared with the kubelet.
fn count(settings: &Settings, model: &Model, table: crate::kernel::xtables::Table) -> usize {
    let ports: Vec<_> = model.values().cloned().collect();
    let (desired, _) = Desired::plan(&Arc::new(settings.clone()), &[Family::V4], &ports);
    let own: usize = desired.chains().iter().filter(|(key, _)| key.table == table).map(|(_, rules)| rules.len()).sum();
    own + desired.builtin().iter().filter(|rule| rule.chain.table == table && rule.place == Place::Tail).count()
}

/// Row J14 (and J7's meaning of "rules owned"): kube-proxy's rule counts, which ours are as long as no chain is so
/// large that it becomes a tree or groups, and less a chain with two rules for each endpoint on another node.
#[test]
fn j14_rule_counts_are_kube_proxys() {
    use crate::kernel::xtables::Table;
    let mut settings = (*settings()).clone();
    settings.nfacct_ct_invalid = true;
    settings.nfacct_localhost_node_ports = true;
    let table: [(bool, u32, u32, usize, usize); 18] = [
        (false, 0, 0, 4, 5),
        (false, 1, 0, 5, 5),
        (false, 1, 1, 4, 10),
        (false, 1, 2, 4, 13),
        (false, 1, 10, 4, 37),
        (false, 10, 0, 14, 5),
        (false, 10, 1, 4, 55),
        (false, 10, 2, 4, 85),
        (false, 10, 10, 4, 325),
        (true, 0, 0, 4, 5),
        (true, 1, 0, 8, 5),
        (true, 1, 1, 5, 18),
        (true, 1, 2, 5, 21),
        (true, 1, 10, 5, 45),
        (true, 10, 0, 44, 5),
        (true, 10, 1, 14, 135),
        (true, 10, 2, 14, 165),
        (true, 10, 10, 14, 405),
    ];
    let away = [false, true].into_iter().flat_map(|away| table.map(|row| (away, row)));
    for (away, (balancer, services, endpoints, filter, nat)) in away {
        let mut model = Model::new();
        for i in 0..services {
            let mut port = port(Family::V4, i, i, endpoints);
            if away {
                port.endpoints.iter_mut().for_each(|e| e.flags = e.flags.with(ELSEWHERE));
            }
            if balancer {
                port.node_port = 30000 + i as u16;
                port.external_ips = Box::new([Ipv4Addr::from(0xc0a8_6300 + i).into()]);
                port.load_balancer_ips = Box::new([Ipv4Addr::from(0x0102_0300 + i).into()]);
                port.source_ranges = Box::new(["203.0.113.0/25".parse().unwrap()]);
            }
            model.insert(port.key.clone(), Arc::new(port));
        }
        // Ten load balancers without endpoints have 30 refusals in one chain, which is still a leaf.
        let nat = if away { nat - (2 * services * endpoints) as usize } else { nat };
        let got = (count(&settings, &model, Table::Filter), count(&settings, &model, Table::Nat));
        assert_eq!(got, (filter, nat), "balancer {balancer}, {services} services x {endpoints}, away: {away}");
    }
}

/// A service of ten endpoints on other nodes: one chain, eleven rules, and the one that leads to it. With affinity every
/// endpoint has a chain, of one rule.
#[test]
fn endpoints_elsewhere_have_no_chains() {
    let settings = settings();
    let mut port = port(Family::V4, 1, 1, 10);
    port.endpoints.iter_mut().for_each(|e| e.flags = e.flags.with(ELSEWHERE));
    let chains = |port: &ServicePort| -> Vec<(String, usize)> {
        let model = Model::from([(port.key.clone(), Arc::new(port.clone()))]);
        let all = full(&settings, &model).into_iter().filter(|(key, _)| key.family == Family::V4);
        let own = all.filter(|(key, _)| key.name.as_str().starts_with("KUBE-S") && key.name.as_str().contains("-S"));
        own.map(|(key, rules)| (key.name.as_str()[..8].to_owned(), rules.len())).collect()
    };
    let count = |port: &ServicePort, name: &str, rules: usize| {
        chains(port).into_iter().filter(|chain| *chain == (name.to_owned(), rules)).count()
    };
    assert_eq!((count(&port, "KUBE-SVC", 11), count(&port, "KUBE-SEP", 1)), (1, 0), "{:?}", chains(&port));
    port.affinity_seconds = Some(60);
    assert_eq!((count(&port, "KUBE-SVC", 21), count(&port, "KUBE-SEP", 1)), (1, 10), "{:?}", chains(&port));
    port.affinity_seconds = None;
    port.endpoints[3].flags = EndpointFlags::CLUSTER.with(EndpointFlags::ON_NODE);
    assert_eq!((count(&port, "KUBE-SVC", 11), count(&port, "KUBE-SEP", 2)), (1, 1), "{:?}", chains(&port));
}

/// An endpoint among many changes nothing but its place: the chains that choose, and its own.
#[test]
fn an_endpoint_that_comes_to_this_node_gets_its_chain() {
    let settings = settings();
    let mut before = port(Family::V4, 1, 1, 60);
    before.endpoints.iter_mut().for_each(|e| e.flags = e.flags.with(ELSEWHERE));
    let mut after = before.clone();
    after.endpoints[7].flags = EndpointFlags::CLUSTER.with(EndpointFlags::ON_NODE);
    let mut planner = Planner::new(settings, &[Family::V4]);
    let (before, after) = (Arc::new(before), Arc::new(after));
    planner.adopt(std::slice::from_ref(&before));
    let changes = planner.replan(&[Move { before: Some(before), after: Some(after) }]);
    let names: Vec<&str> = changes.chains.keys().map(|key| &key.name.as_str()[..8]).collect();
    // One of the groups, and the endpoint. The shares of the groups are what they were.
    assert_eq!(names, ["KUBE-SEP", "KUBE-SVC"], "{changes:?}");
}

/// Rows J4 and J5: what the base depends on.
#[test]
fn j4_j5_the_base_follows_the_settings() {
    use crate::kernel::xtables::{Match, Table};
    let rules = |settings: &Settings| -> Vec<Rule> {
        let (desired, _) = Desired::plan(&Arc::new(settings.clone()), &[Family::V4], &[]);
        desired.chains().values().flatten().cloned().collect()
    };
    let drops_invalid = |settings: &Settings| {
        rules(settings).into_iter().find(|rule| rule.target == Some(Target::Drop)).map(|rule| {
            rule.matches.iter().any(|m| matches!(m, Match::Nfacct(name) if &**name == "ct_state_invalid_dropped_pkts"))
        })
    };
    let base = Settings::default();
    assert_eq!(drops_invalid(&base), Some(false), "J4: nfacct absent");
    assert_eq!(drops_invalid(&Settings { nfacct_ct_invalid: true, ..base.clone() }), Some(true), "J4: nfacct present");
    assert_eq!(drops_invalid(&Settings { drop_invalid: false, ..base.clone() }), None, "J4: be_liberal on");
    for random_fully in [false, true] {
        let settings = Settings { random_fully, ..base.clone() };
        assert!(rules(&settings).iter().any(|rule| rule.target == Some(Target::Masquerade { random_fully })), "J5");
    }
    let (desired, _) = Desired::plan(&Arc::new(Settings { localhost_node_ports: false, ..base }), &[Family::V4], &[]);
    assert!(!desired.builtin().iter().any(|rule| rule.place == Place::Tail), "E2: no KUBE-FIREWALL rule");
    assert!(desired.chains().keys().any(|key| key.table == Table::Mangle), "canary in mangle");
}

/// Row J10 and J12: only what belongs to the service is touched.
#[test]
fn j9_to_j12_a_change_touches_its_own_chains() {
    let settings = settings();
    let mut planner = Planner::new(settings, &[Family::V4]);
    let first = Arc::new(port(Family::V4, 1, 1, 2));
    let second = Arc::new(port(Family::V4, 2, 2, 0));
    planner.replan(&[
        Move { before: None, after: Some(first.clone()) },
        Move { before: None, after: Some(second.clone()) },
    ]);
    let names = |changes: &Changes| -> Vec<String> {
        changes
            .chains
            .iter()
            .map(|(key, change)| {
                let action = match (&change.before, &change.after) {
                    (None, _) => '+',
                    (_, None) => '-',
                    _ => '~',
                };
                let name = key.name.as_str();
                format!("{action}{} {}", key.table, name.get(..9).unwrap_or(name))
            })
            .collect()
    };
    let mut grown = (*second).clone();
    grown.endpoints = port(Family::V4, 2, 2, 1).endpoints;
    grown.has_any_endpoint = true;
    let grown = Arc::new(grown);
    let changes = planner.replan(&[Move { before: Some(second), after: Some(grown.clone()) }]);
    assert_eq!(names(&changes), ["~filter KUBE-SERV", "+nat KUBE-SEP-", "~nat KUBE-SERV", "+nat KUBE-SVC-"], "J11");
    let moved = Arc::new(ServicePort { endpoints: port(Family::V4, 3, 2, 1).endpoints, ..(*grown).clone() });
    let changes = planner.replan(&[Move { before: Some(grown), after: Some(moved.clone()) }]);
    let mut got = names(&changes);
    got.sort();
    assert_eq!(got, ["+nat KUBE-SEP-", "-nat KUBE-SEP-", "~nat KUBE-SVC-"], "J12");
    assert!(planner.replan(&[Move { before: Some(moved.clone()), after: Some(moved.clone()) }]).is_empty(), "J12");
    let changes = planner.replan(&[Move { before: Some(moved), after: None }]);
    let mut got = names(&changes);
    got.sort();
    assert_eq!(got, ["-nat KUBE-SEP-", "-nat KUBE-SVC-", "~nat KUBE-SERV"], "J10");
}
