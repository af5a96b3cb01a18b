//! The one cluster that all benchmarks use: always the same for the same size. These are the typed facts; `json` turns
//! the very same into API objects.
//!
//! | object | what |
//! |---|---|
//! | `ns-N/svc-I` | `services` of them, one TCP port 80 to 8080, `endpoints` endpoints each, in one slice |
//! | `kube-system/kube-dns` | ports `dns`, `dns-tcp` (53) and `metrics` (9153), two endpoints |
//! | `default/kubernetes` | port 443 to 6443, one endpoint |
//! | `big/big` | one TCP port, `big` endpoints in slices of 100; left out if `big` is 0 |
//! | node `node-1` | the node that everything is seen from |

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use weir::net::{Family, ObjectName, Protocol};
use weir::state::{
    ClusterIp, Conditions, EndpointSlice, Fact, Kind, Location, Node, Service, ServicePort, ServiceType, SliceEndpoint,
    SlicePort, TrafficPolicy, Update,
};

/// The node that everything is seen from.
pub const NODE: &str = "node-1";
/// Its address.
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 99, 10);
/// All cluster IPs.
pub const SERVICE_NETWORK: &str = "10.96.0.0/12";
/// All pods, so also all endpoints.
pub const POD_NETWORK: &str = "10.128.0.0/9";
/// Cluster IP of `kube-system/kube-dns`.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Cluster IP of `default/kubernetes`.
pub const KUBERNETES: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Cluster IP of `big/big`.
pub const BIG: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 50);
/// What services listen on.
pub const PORT: u16 = 80;
/// Every port that some endpoint listens on with TCP.
pub const TARGET_PORTS: [u16; 4] = [TARGET_PORT, 6443, 53, 9153];

const TARGET_PORT: u16 = 8080;
const NODES: u32 = 100;
const NAMESPACES: u32 = 100;
/// The endpoint slice controller's default.
const SLICE: u32 = 100;
/// Addresses that are set aside for each service; those from `SPARE` on are for endpoints that replace another.
const BLOCK: u32 = 64;
const SPARE: u32 = 50;

/// How many services, and how many endpoints each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub services: u32,
    /// At most 50.
    pub endpoints: u32,
    /// Endpoints of the one big service beside them; 0 = there is none.
    pub big: u32,
}

impl Size {
    pub const fn new(services: u32, endpoints: u32) -> Size {
        Size { services, endpoints, big: 0 }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {}", self.services, self.endpoints)?;
        if self.big > 0 { write!(f, " + {}", self.big) } else { Ok(()) }
    }
}

/// Names are shared, as a source shares them.
static LOCATIONS: LazyLock<Vec<Arc<Location>>> = LazyLock::new(|| {
    let on = |n| Location { node: Some(format!("node-{n}").into()), zone: None, hints: None };
    (0..NODES).map(|n| Arc::new(on(n))).collect()
});
static NAMESPACE_NAMES: LazyLock<Vec<Arc<str>>> =
    LazyLock::new(|| (0..NAMESPACES).map(|n| format!("ns-{n}").into()).collect());

/// The name of service `i`.
pub fn name(i: u32) -> ObjectName {
    ObjectName::new(NAMESPACE_NAMES[(i % NAMESPACES) as usize].clone(), format!("svc-{i}"))
}

/// The cluster IP of service `i`: no two have the same, and they are spread over the network as the API server's
/// allocator spreads them, which draws them by lot and leaves the first 256 to who asks for a certain one.
pub fn cluster_ip(i: u32) -> Ipv4Addr {
    const FREE: std::ops::Range<u32> = 256..(1 << 20) - 1;
    let mut offset = shuffled(FREE.start + i);
    while !FREE.contains(&offset) {
        offset = shuffled(offset);
    }
    Ipv4Addr::from(0x0a60_0000 | offset)
}

/// A permutation of the numbers of 20 bits without visible order: each step can be undone.
fn shuffled(number: u32) -> u32 {
    const MASK: u32 = (1 << 20) - 1;
    let mut x = (number ^ 0x6_2c15) & MASK;
    for factor in [0x9_e37b, 0x5_bd1f, 0x2_7d4d] {
        x = x.wrapping_mul(factor) & MASK;
        x ^= x >> 9;
    }
    x
}

/// The address of endpoint `e` of service `i` at a version: 0 at first, another one with each of the next 14.
pub fn endpoint_ip(i: u32, e: u32, version: u32) -> Ipv4Addr {
    let slot = if version == 0 { e } else { SPARE + (version - 1) % (BLOCK - SPARE) };
    Ipv4Addr::from(0x0a80_0000 + i * BLOCK + slot)
}

/// The address of endpoint `e` of the big service.
fn big_endpoint_ip(e: u32, version: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0ac0_0000 + e + version * 0x2000)
}

/// Service `i`.
pub fn service(i: u32) -> Service {
    cluster_ip_service(name(i), cluster_ip(i), &[("http", Protocol::Tcp, PORT)])
}

/// The slice of service `i`, with its last endpoint at `version`.
pub fn slice(i: u32, endpoints: u32, version: u32) -> EndpointSlice {
    let last = endpoints - 1;
    let addresses = (0..endpoints).map(|e| endpoint_ip(i, e, if e == last { version } else { 0 }));
    slice_of(&name(i), "abcde", &[("http", Protocol::Tcp, TARGET_PORT)], addresses)
}

/// All services.
pub fn services(size: Size) -> impl Iterator<Item = Service> {
    let dns = [("dns", Protocol::Udp, 53), ("dns-tcp", Protocol::Tcp, 53), ("metrics", Protocol::Tcp, 9153)];
    let big = (size.big > 0).then(|| cluster_ip_service(big_name(), BIG, &[("http", Protocol::Tcp, PORT)]));
    (0..size.services)
        .map(service)
        .chain([cluster_ip_service(dns_name(), DNS, &dns)])
        .chain([cluster_ip_service(kubernetes_name(), KUBERNETES, &[("https", Protocol::Tcp, 443)])])
        .chain(big)
}

/// All slices.
pub fn slices(size: Size) -> impl Iterator<Item = EndpointSlice> {
    let dns = [("dns", Protocol::Udp, 53), ("dns-tcp", Protocol::Tcp, 53), ("metrics", Protocol::Tcp, 9153)];
    let outside = |n: u8| Ipv4Addr::new(10, 193, 0, n);
    (0..size.services)
        .map(move |i| slice(i, size.endpoints, 0))
        .chain([slice_of(&dns_name(), "dns00", &dns, [outside(2), outside(3)].into_iter())])
        .chain([slice_of(&kubernetes_name(), "api00", &[("https", Protocol::Tcp, 6443)], [outside(1)].into_iter())])
        .chain((0..size.big.div_ceil(SLICE)).map(move |number| big_slice(size, number, 0)))
}

/// Slice `number` of the big service, with its last endpoint at `version`.
pub fn big_slice(size: Size, number: u32, version: u32) -> EndpointSlice {
    let range = number * SLICE..size.big.min((number + 1) * SLICE);
    let last = range.end.saturating_sub(1);
    let addresses = range.map(|e| big_endpoint_ip(e, if e == last { version } else { 0 }));
    slice_of(&big_name(), &format!("{number:05}"), &[("http", Protocol::Tcp, TARGET_PORT)], addresses)
}

/// Our node.
pub fn node() -> Node {
    Node { name: NODE.into(), ips: Box::new([NODE_ADDRESS.into()]), ..Node::default() }
}

/// Everything, as a source tells it at the start.
pub fn everything(size: Size) -> Vec<Update> {
    vec![
        Update::Replace { kind: Kind::Node, facts: vec![Fact::Node(node())] },
        Update::Replace { kind: Kind::ServiceCidr, facts: Vec::new() },
        Update::Replace { kind: Kind::Service, facts: services(size).map(Fact::Service).collect() },
        Update::Replace { kind: Kind::EndpointSlice, facts: slices(size).map(Fact::EndpointSlice).collect() },
    ]
}

/// One endpoint of service `i` is replaced.
pub fn change(i: u32, size: Size, version: u32) -> Vec<Update> {
    vec![Update::Upsert(Fact::EndpointSlice(slice(i, size.endpoints, version)))]
}

/// One endpoint of the big service is replaced.
pub fn big_change(size: Size, number: u32, version: u32) -> Vec<Update> {
    vec![Update::Upsert(Fact::EndpointSlice(big_slice(size, number, version)))]
}

fn dns_name() -> ObjectName {
    ObjectName::new("kube-system", "kube-dns")
}

fn kubernetes_name() -> ObjectName {
    ObjectName::new("default", "kubernetes")
}

fn big_name() -> ObjectName {
    ObjectName::new("big", "big")
}

fn cluster_ip_service(name: ObjectName, ip: Ipv4Addr, ports: &[(&str, Protocol, u16)]) -> Service {
    let port = |(name, protocol, port): &(&str, Protocol, u16)| ServicePort {
        name: (*name).into(),
        protocol: *protocol,
        port: *port,
        node_port: 0,
    };
    Service {
        name,
        service_type: ServiceType::ClusterIp,
        cluster_ip: ClusterIp::Ip(ip.into()),
        cluster_ips: Box::new([Some(ip.into())]),
        ip_families: Box::new([Family::V4]),
        ports: ports.iter().map(port).collect(),
        external_ips: Box::default(),
        load_balancer: Box::default(),
        source_ranges: Box::default(),
        affinity_seconds: None,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        health_check_node_port: 0,
        tuning: None,
    }
}

fn slice_of(
    service: &ObjectName,
    suffix: &str,
    ports: &[(&str, Protocol, u16)],
    addresses: impl Iterator<Item = Ipv4Addr>,
) -> EndpointSlice {
    let endpoint = |ip: Ipv4Addr| SliceEndpoint {
        ip: ip.into(),
        conditions: Conditions::default(),
        location: LOCATIONS.get((ip.to_bits() % NODES) as usize).cloned(),
    };
    EndpointSlice {
        name: ObjectName::new(service.namespace.clone(), format!("{}-{suffix}", service.name)),
        service: service.name.clone(),
        family: Family::V4,
        ports: ports
            .iter()
            .map(|(name, protocol, port)| SlicePort { name: (*name).into(), protocol: *protocol, port: *port })
            .collect(),
        endpoints: addresses.map(endpoint).collect(),
        trigger_time: None,
    }
}
