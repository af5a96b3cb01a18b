//! One cluster generator for all benchmarks: services, slices, and single changes, always the same for the same size.

use weir::net::{Family, ObjectName, Protocol};
use weir::state::{
    ClusterIp, Conditions, EndpointSlice, Fact, Kind, Node, Service, ServicePort, ServiceType, SliceEndpoint,
    SlicePort, TrafficPolicy, Update,
};

/// The node that everything is seen from.
pub const NODE: &str = "node-1";

/// How many services, and how many endpoints each.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub services: u32,
    pub endpoints: u32,
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {}", self.services, self.endpoints)
    }
}

fn name(i: u32) -> ObjectName {
    ObjectName::new(format!("ns-{}", i % 100), format!("svc-{i}"))
}

/// The address of service `i`, spread over 10.96.0.0/12 as the API server's allocator does.
pub fn cluster_ip(i: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from(0x0a60_0000 | (i.wrapping_mul(2_654_435_761) >> 12))
}

/// The address of an endpoint: `version` moves it.
pub fn endpoint_ip(i: u32, e: u32, version: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from(0x0b00_0000 + (i * 64 + e) + version * 0x0040_0000)
}

/// Service `i`.
pub fn service(i: u32) -> Service {
    let ip = cluster_ip(i).into();
    Service {
        name: name(i),
        service_type: ServiceType::ClusterIp,
        cluster_ip: ClusterIp::Ip(ip),
        cluster_ips: Box::new([Some(ip)]),
        ip_families: Box::new([Family::V4]),
        ports: Box::new([ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: 0 }]),
        external_ips: Box::default(),
        load_balancer: Box::default(),
        source_ranges: Box::default(),
        affinity_seconds: None,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        health_check_node_port: 0,
    }
}

/// The slice of service `i`, with its last endpoint at `version`.
pub fn slice(i: u32, endpoints: u32, version: u32) -> EndpointSlice {
    let name = name(i);
    EndpointSlice {
        name: ObjectName::new(name.namespace.clone(), format!("{}-abcde", name.name)),
        service: name.name,
        family: Family::V4,
        ports: Box::new([SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }]),
        endpoints: (0..endpoints)
            .map(|e| SliceEndpoint {
                ip: endpoint_ip(i, e, if e + 1 == endpoints { version } else { 0 }).into(),
                conditions: Conditions::default(),
                node: Some(format!("node-{}", (i + e) % 100).into()),
                hints: None,
            })
            .collect(),
        trigger_time: None,
    }
}

/// Everything, as a source tells it at the start.
pub fn everything(size: Size) -> Vec<Update> {
    let node = Node { name: NODE.into(), ips: Box::new([[192, 168, 0, 2].into()]), ..Node::default() };
    vec![
        Update::Replace { kind: Kind::Node, facts: vec![Fact::Node(node)] },
        Update::Replace { kind: Kind::ServiceCidr, facts: Vec::new() },
        Update::Replace { kind: Kind::Service, facts: (0..size.services).map(|i| Fact::Service(service(i))).collect() },
        Update::Replace {
            kind: Kind::EndpointSlice,
            facts: (0..size.services).map(|i| Fact::EndpointSlice(slice(i, size.endpoints, 0))).collect(),
        },
    ]
}

/// One endpoint of service `i` moves.
pub fn change(i: u32, size: Size, version: u32) -> Vec<Update> {
    vec![Update::Upsert(Fact::EndpointSlice(slice(i, size.endpoints, version)))]
}
