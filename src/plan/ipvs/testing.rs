//! Models for tests: few names, addresses and ports, so that services get into each other's way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use crate::model::{EndpointFlags, ModelEndpoint, ServicePort, ServicePortKey, Settings};
use crate::net::{Endpoint, Family, ObjectName, PerFamily, Protocol, ServicePortName};
use crate::plan::Move;
use crate::state::{TrafficPolicy, Tuning};

/// Those of a node with two addresses.
pub fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        local_addresses: PerFamily {
            v4: [[192, 168, 0, 2], [192, 168, 99, 11]].map(IpAddr::from).into(),
            v6: Box::new(["2001:db8::1".parse().unwrap()]),
        },
        node_ips: PerFamily { v4: Some([192, 168, 0, 2].into()), v6: None },
        ..Settings::default()
    })
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    prop_oneof![Just(TrafficPolicy::Cluster), Just(TrafficPolicy::Local)]
}

pub fn service_port() -> impl Strategy<Value = ServicePort> {
    let addresses = || proptest::collection::btree_set(0u8..3, 0..3);
    let endpoints = proptest::collection::btree_map(0u8..5, (0u8..64, 0u16..3), 0..5);
    let identity = (0u8..4, prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)]);
    let rest = (policy(), policy(), any::<bool>(), proptest::option::of(1u32..100), 0u8..6);
    (identity, 0u8..3, addresses(), addresses(), endpoints, rest).prop_map(
        |((name, protocol), node_port, external, balanced, endpoints, (internal, outer, ranges, affinity, tuned))| {
            let frontend = |n: &u8| IpAddr::from([192, 168, 99, 10 + n]);
            let tuning = [("lc", Some(5)), ("dh", None), ("sh", Some(0))].map(|(name, drain_seconds)| {
                Arc::new(Tuning { scheduler: Some(name.into()), drain_seconds, ..Tuning::default() })
            });
            ServicePort {
                node_port: if node_port == 0 { 0 } else { 30_000 + u16::from(node_port) },
                external_ips: external.iter().map(frontend).collect(),
                load_balancer_ips: balanced.iter().map(frontend).collect(),
                source_ranges: if ranges { Box::new(["192.168.0.0/24".parse().unwrap()]) } else { Box::default() },
                affinity_seconds: affinity,
                internal_policy: internal,
                external_policy: outer,
                health_check_node_port: if outer == TrafficPolicy::Local { 31_000 } else { 0 },
                has_any_endpoint: !endpoints.is_empty(),
                endpoints: endpoints
                    .into_iter()
                    .map(|(n, (flags, weight))| ModelEndpoint {
                        endpoint: Endpoint::new([10, 0, 0, n].into(), 8080),
                        flags: resolved(flags),
                        weight,
                    })
                    .collect(),
                tuning: tuning.get(usize::from(tuned)).cloned(),
                ..ServicePort::new(
                    ServicePortKey {
                        family: Family::V4,
                        name: ServicePortName::new(ObjectName::new("ns", format!("s{name}")), "p", protocol),
                    },
                    [172, 30, 0, name].into(),
                    80,
                )
            }
        },
    )
}

/// Any flags that an endpoint can have: one that is used by nobody is not in the model, and whoever can be used at all is
/// in the list of the Cluster policy, or on this node.
fn resolved(bits: u8) -> EndpointFlags {
    let used = EndpointFlags::CLUSTER.with(EndpointFlags::READY).with(EndpointFlags::SERVING);
    match bits % 3 {
        0 => used.with(EndpointFlags::ELSEWHERE),
        1 => used.with(EndpointFlags::LOCAL).with(EndpointFlags::ON_NODE),
        _ => used,
    }
}

/// Sorted by key.
pub fn model() -> impl Strategy<Value = Vec<Arc<ServicePort>>> {
    proptest::collection::vec(service_port(), 0..5).prop_map(|ports| {
        let by_key: BTreeMap<_, _> = ports.into_iter().map(|port| (port.key.clone(), Arc::new(port))).collect();
        by_key.into_values().collect()
    })
}

/// The steps from one model to another.
pub fn moves(before: &[Arc<ServicePort>], after: &[Arc<ServicePort>]) -> Vec<Move> {
    let find = |model: &[Arc<ServicePort>], key: &ServicePortKey| model.iter().find(|port| port.key == *key).cloned();
    let keys: BTreeSet<&ServicePortKey> = before.iter().chain(after).map(|port| &port.key).collect();
    let moves = keys.into_iter().map(|key| Move { before: find(before, key), after: find(after, key) });
    moves.filter(|m| m.before != m.after).collect()
}

/// One TCP port on a cluster IP, with these endpoints on this node.
pub fn simple(name: u8, endpoints: &[u8]) -> Arc<ServicePort> {
    let flags = EndpointFlags::CLUSTER.with(EndpointFlags::READY).with(EndpointFlags::ON_NODE);
    let endpoint = |n: &u8| ModelEndpoint::new(Endpoint::new([10, 0, 0, *n].into(), 8080), flags);
    Arc::new(ServicePort {
        endpoints: endpoints.iter().map(endpoint).collect(),
        has_any_endpoint: !endpoints.is_empty(),
        ..ServicePort::new(
            ServicePortKey {
                family: Family::V4,
                name: ServicePortName::new(ObjectName::new("ns", format!("s{name}")), "p", Protocol::Tcp),
            },
            [172, 30, 0, name].into(),
            80,
        )
    })
}
