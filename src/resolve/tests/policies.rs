//! Section M: which endpoints each policy uses.

use super::*;
use crate::model::{EndpointFlags, ServicePort};
use crate::state::testing::{self, Build, endpoint, service, slice};
use crate::state::{Fact, ServiceType, SliceEndpoint, TrafficPolicy, Update};

/// Traffic policies and reach of a service.
#[derive(Clone, Copy)]
struct Kind {
    internal: TrafficPolicy,
    external: TrafficPolicy,
    node_port: u16,
}

const CLUSTER: Kind = Kind { internal: TrafficPolicy::Cluster, external: TrafficPolicy::Cluster, node_port: 0 };
const INTERNAL_LOCAL: Kind = Kind { internal: TrafficPolicy::Local, ..CLUSTER };
const EXTERNAL_LOCAL: Kind = Kind { external: TrafficPolicy::Local, node_port: 3001, ..CLUSTER };
const INTERNAL_LOCAL_NODE_PORT: Kind = Kind { internal: TrafficPolicy::Local, node_port: 3001, ..CLUSTER };
const BOTH_LOCAL: Kind = Kind { internal: TrafficPolicy::Local, ..EXTERNAL_LOCAL };

/// A row of the catalogue: the last numbers of the addresses that are expected in each list.
struct Row {
    row: &'static str,
    kind: Kind,
    zone: Option<&'static str>,
    endpoints: Vec<SliceEndpoint>,
    cluster: &'static [u8],
    local: &'static [u8],
    has_any: bool,
}

fn resolve_row(row: &Row) -> Arc<ServicePort> {
    let mut service = service("ns/s", "172.30.0.1", &[("p", Protocol::Tcp, 80)]);
    service.service_type = ServiceType::LoadBalancer;
    service.internal_policy = row.kind.internal;
    service.external_policy = row.kind.external;
    service.ports[0].node_port = row.kind.node_port;
    let state = state_of(&[service], &[slice("ns/s-1", "s", &[("p", Protocol::Tcp, 80)], &row.endpoints)]);
    let node = NodeContext { name: NODE.into(), zone: row.zone.map(Into::into) };
    let name = state.service_names().next().unwrap();
    let mut ports = resolve(&state, name, &node, &Options::default());
    assert_eq!(ports.len(), 1, "{}", row.row);
    ports.remove(0)
}

fn last_bytes(endpoints: impl Iterator<Item = crate::net::Endpoint>) -> Vec<u8> {
    let last = |ip| match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    endpoints.map(|endpoint| last(endpoint.ip)).collect()
}

fn check(rows: Vec<Row>) {
    for row in rows {
        let port = resolve_row(&row);
        let lists = (last_bytes(port.cluster_endpoints()), last_bytes(port.local_endpoints()), port.has_any_endpoint);
        assert_eq!(lists, (row.cluster.to_vec(), row.local.to_vec(), row.has_any), "{}", row.row);
        let either: BTreeSet<u8> = row.cluster.iter().chain(row.local).copied().collect();
        assert_eq!(last_bytes(port.reachable_endpoints()), either.into_iter().collect::<Vec<_>>(), "{}", row.row);
    }
}

fn ep(last: u8) -> SliceEndpoint {
    endpoint(&format!("10.1.2.{last}"))
}

/// Endpoints .3 to .6, hinted for zones a, b, c and a.
fn hinted() -> [SliceEndpoint; 4] {
    [ep(3).zones(&["zone-a"]), ep(4).zones(&["zone-b"]), ep(5).zones(&["zone-c"]), ep(6).zones(&["zone-a"])]
}

/// The same with some of them changed.
fn hinted_but(change: impl Fn(usize, SliceEndpoint) -> SliceEndpoint) -> Vec<SliceEndpoint> {
    hinted().into_iter().enumerate().map(|(i, endpoint)| change(i + 3, endpoint)).collect()
}

fn hints_row(
    row: &'static str,
    kind: Kind,
    zone: Option<&'static str>,
    endpoints: Vec<SliceEndpoint>,
    cluster: &'static [u8],
    local: &'static [u8],
) -> Row {
    Row { row, kind, zone, endpoints, cluster, local, has_any: true }
}

#[test]
fn m1_to_m10_zone_hints() {
    let a = Some("zone-a");
    let local_3_4 = || hinted_but(|i, e| if i <= 4 { e.on(NODE) } else { e.on("host2") });
    let multiple = vec![
        ep(3).zones(&["zone-a", "zone-b", "zone-c"]),
        ep(4).zones(&["zone-b", "zone-c"]),
        ep(5).zones(&["zone-b", "zone-d"]),
        ep(6).zones(&["zone-c"]),
    ];
    check(vec![
        hints_row("M1", CLUSTER, a, hinted().into(), &[3, 6], &[]),
        hints_row("M2", EXTERNAL_LOCAL, a, local_3_4(), &[3, 6], &[3, 4]),
        hints_row("M3", INTERNAL_LOCAL_NODE_PORT, a, local_3_4(), &[3, 6], &[3, 4]),
        hints_row("M4", CLUSTER, None, hinted().into(), &[3, 4, 5, 6], &[]),
        hints_row("M5", CLUSTER, Some(""), hinted_but(|_, e| e.zones(&[""])), &[3, 4, 5, 6], &[]),
        hints_row("M6", CLUSTER, Some("zone-b"), vec![ep(3).zones(&["zone-a"])], &[3], &[]),
        hints_row("M7", CLUSTER, a, hinted_but(|i, e| if i == 6 { e.unready() } else { e }), &[3], &[]),
        hints_row("M8", CLUSTER, a, hinted_but(|i, e| if i % 3 == 0 { e.unready() } else { e }), &[4, 5], &[]),
        hints_row("M9", CLUSTER, a, hinted_but(|i, e| if i == 5 { ep(5) } else { e }), &[3, 4, 5, 6], &[]),
        hints_row("M10", CLUSTER, Some("zone-c"), multiple, &[3, 4, 6], &[]),
    ]);
}

/// M11 asks for the gate of node hints to be off; it is locked on (contract 1.16).
#[test]
fn m12_to_m15_node_hints() {
    let a = Some("zone-a");
    let for_nodes = |nodes: [&'static str; 4]| hinted_but(move |i, e| e.nodes(&[nodes[i - 3]]));
    let without_5 = for_nodes([NODE, "host2", "host3", "host4"])
        .into_iter()
        .map(|e| if e.ip == ep(5).ip { ep(5) } else { e })
        .collect();
    let other_zone = hinted_but(|i, e| if i == 4 || i == 5 { e.on(NODE) } else { e.on("host2") });
    check(vec![
        hints_row("M12", CLUSTER, a, for_nodes([NODE, "host2", "host3", "host4"]), &[3], &[]),
        hints_row("M13", CLUSTER, a, without_5, &[3, 4, 5, 6], &[]),
        hints_row("M14", CLUSTER, a, for_nodes(["host2", "host3", "host4", "host5"]), &[3, 6], &[]),
        hints_row("M15", EXTERNAL_LOCAL, a, other_zone, &[3, 6], &[4, 5]),
    ]);
}

#[test]
fn m16_to_m32_policies() {
    let row = |row, kind, endpoints: &[SliceEndpoint], cluster, local, has_any| Row {
        row,
        kind,
        zone: None,
        endpoints: endpoints.to_vec(),
        cluster,
        local,
        has_any,
    };
    let here = |last| ep(last).on(NODE);
    let there = |last| ep(last).on("host2");
    let mixed = [here(0), there(1)];
    let remote = [there(0), there(1)];
    let nothing = |endpoint: SliceEndpoint| endpoint.conditions(false, false, true);
    let m28 = [there(0), nothing(here(1)), here(2).terminating(), there(3).terminating()];
    check(vec![
        row("M16", INTERNAL_LOCAL, &[], &[], &[], false),
        row("M17", INTERNAL_LOCAL, &remote, &[], &[], true),
        row("M18", INTERNAL_LOCAL, &[here(0), here(1)], &[], &[0, 1], true),
        row("M19", INTERNAL_LOCAL, &mixed, &[], &[0], true),
        row("M20", CLUSTER, &[ep(0).unready(), ep(1).unready()], &[], &[], false),
        row("M21", CLUSTER, &[ep(0), ep(1).unready()], &[0], &[], true),
        row("M22", CLUSTER, &[ep(0).terminating(), ep(1).terminating()], &[0, 1], &[], true),
        row("M23", INTERNAL_LOCAL_NODE_PORT, &mixed, &[0, 1], &[0], true),
        row("M24", EXTERNAL_LOCAL, &mixed, &[0, 1], &[0], true),
        row("M25", BOTH_LOCAL, &mixed, &[0, 1], &[0], true),
        row("M26", BOTH_LOCAL, &remote, &[0, 1], &[], true),
        row("M27", BOTH_LOCAL, &[there(0).terminating(), there(1).terminating()], &[0, 1], &[], true),
        row("M28", EXTERNAL_LOCAL, &m28, &[0], &[2], true),
        row("M29", Kind { node_port: 0, ..EXTERNAL_LOCAL }, &mixed, &[0, 1], &[], true),
        row("M30", INTERNAL_LOCAL, &mixed, &[], &[0], true),
        row("M31", CLUSTER, &[], &[], &[], false),
        row("M32", CLUSTER, &[ep(0).unready()], &[], &[], false),
    ]);
}

/// Contract 2.5: what publishNotReadyAddresses makes ready counts as ready while it terminates, and terminating ones
/// are used only where nothing is ready.
#[test]
fn ready_and_terminating_counts_as_ready() {
    let endpoints =
        vec![ep(0).conditions(true, false, true), ep(1).terminating(), ep(2).conditions(false, false, true)];
    check(vec![Row { row: "T20", kind: CLUSTER, zone: None, endpoints, cluster: &[0], local: &[], has_any: true }]);
}

/// The model keeps what serves, whether or not a policy uses it here: flows to it are not stale.
#[test]
fn flags_tell_what_an_endpoint_is() {
    use crate::model::EndpointFlags as F;
    let endpoints = vec![
        ep(0).on(NODE),
        ep(1).on(NODE).terminating(),
        ep(2).terminating(),
        ep(3).unready(),
        ep(4).conditions(false, true, false),
    ];
    let row =
        Row { row: "flags", kind: EXTERNAL_LOCAL, zone: None, endpoints, cluster: &[0], local: &[0], has_any: true };
    let port = resolve_row(&row);
    let flags: Vec<_> = port.endpoints.iter().map(|e| (e.endpoint.to_string(), e.flags)).collect();
    let used = F::CLUSTER.with(F::LOCAL).with(F::ON_NODE).with(F::READY).with(F::SERVING);
    assert_eq!(
        flags,
        [
            ("10.1.2.0:80".to_owned(), used),
            ("10.1.2.1:80".to_owned(), F::ON_NODE.with(F::SERVING)),
            ("10.1.2.2:80".to_owned(), F::SERVING)
        ]
    );
}

/// On this node, on another by name, or nobody knows where; and if the API server does not know our node, nothing is said
/// to be elsewhere.
#[test]
fn where_an_endpoint_is() {
    let service = service("ns/s", "172.30.0.1", &[("p", Protocol::Tcp, 80)]);
    let endpoints = [ep(3).on(NODE), ep(4).on("host2"), ep(5)];
    let slice = slice("ns/s-1", "s", &[("p", Protocol::Tcp, 80)], &endpoints);
    let (here, elsewhere) = (EndpointFlags::ON_NODE, EndpointFlags::ELSEWHERE);
    for (node, expected) in [(Some(NODE), vec![4]), (Some("host2"), vec![]), (None, vec![])] {
        let mut state = state_of(std::slice::from_ref(&service), std::slice::from_ref(&slice));
        state.apply(node.map(|name| Update::Upsert(Fact::Node(testing::node(name, None)))).into_iter().collect());
        let port = resolve_all(&state).remove(0);
        let with = |flag| last_bytes(port.with_any_flag(flag).map(|e| e.endpoint));
        assert_eq!((with(here), with(elsewhere)), (vec![3], expected), "the API server knows {node:?}");
    }
}
