//! The facts. Field by field: contract 2.1, 2.3 and 2.4.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::net::{Family, ObjectName, Protocol};

/// `spec.type` of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServiceType {
    #[default]
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// `spec.clusterIP` of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClusterIp {
    /// `""`: not allocated (yet).
    #[default]
    Unset,
    /// `None`: headless.
    Headless,
    Ip(IpAddr),
}

/// `spec.internalTrafficPolicy` and `spec.externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TrafficPolicy {
    #[default]
    Cluster,
    Local,
}

/// `status.loadBalancer.ingress[].ipMode`; absent means `Vip`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IpMode {
    #[default]
    Vip,
    /// Traffic to the address is left to the load balancer.
    Proxy,
}

/// An entry of `status.loadBalancer.ingress` that has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoadBalancerIngress {
    pub ip: IpAddr,
    pub mode: IpMode,
}

/// One entry of `spec.ports` of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// Empty if the port has no name.
    pub name: Arc<str>,
    pub protocol: Protocol,
    /// Never 0.
    pub port: u16,
    /// 0 = none.
    pub node_port: u16,
}

/// A Service, slim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    pub name: ObjectName,
    pub service_type: ServiceType,
    pub cluster_ip: ClusterIp,
    /// `spec.clusterIPs`, `None` where an element is no address, so that indices keep matching `ip_families`.
    pub cluster_ips: Box<[Option<IpAddr>]>,
    pub ip_families: Box<[Family]>,
    pub ports: Box<[ServicePort]>,
    pub external_ips: Box<[IpAddr]>,
    pub load_balancer: Box<[LoadBalancerIngress]>,
    pub source_ranges: Box<[IpNet]>,
    /// Client IP affinity with its timeout in seconds.
    pub affinity_seconds: Option<u32>,
    pub internal_policy: TrafficPolicy,
    pub external_policy: TrafficPolicy,
    /// 0 = none.
    pub health_check_node_port: u16,
    /// What annotations ask for; `None` for nearly all services.
    pub tuning: Option<Arc<Tuning>>,
}

/// What annotations of a Service ask of backends that can choose how connections are spread. How they are written:
/// `source/wire/tuning.rs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuning {
    /// `weir.dev/scheduler` or `kube-router.io/service.scheduler`: a word of 1 to 15 bytes, which the kernel may not know.
    pub scheduler: Option<Arc<str>>,
    /// `weir.dev/scheduler-flags` or `kube-router.io/service.schedflags`: bits of `IP_VS_SVC_F_SCHED*` of uapi
    /// `linux/ip_vs.h`.
    pub scheduler_flags: u32,
    /// `weir.dev/weights`: how many connections endpoints get beside each other.
    pub weights: Weights,
    /// `weir.dev/drain-seconds`: how long an endpoint that goes keeps its connections. At most
    /// [`MAX_DRAIN_SECONDS`](Tuning::MAX_DRAIN_SECONDS); 0 cuts them at once.
    pub drain_seconds: Option<u32>,
}

impl Tuning {
    /// A year. A deadline this far away is still a number of seconds that fits anywhere.
    pub const MAX_DRAIN_SECONDS: u32 = 365 * 24 * 60 * 60;
}

/// Weights of endpoints by where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Weights {
    /// By node name; these count more than zones.
    pub nodes: BTreeMap<Arc<str>, u16>,
    pub zones: BTreeMap<Arc<str>, u16>,
}

impl Weights {
    /// What an endpoint has of which nothing is said.
    pub const DEFAULT: u16 = 1;

    /// The weight of an endpoint that is there: its node's, else its zone's, else [`Weights::DEFAULT`].
    pub fn of(&self, location: Option<&Location>) -> u16 {
        let find = |weights: &BTreeMap<Arc<str>, u16>, name: Option<&Arc<str>>| weights.get(name?).copied();
        let node = find(&self.nodes, location.and_then(|location| location.node.as_ref()));
        let zone = || find(&self.zones, location.and_then(|location| location.zone.as_ref()));
        node.or_else(zone).unwrap_or(Weights::DEFAULT)
    }
}

/// Conditions of an endpoint with the API's defaults applied (contract 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conditions {
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
}

impl Default for Conditions {
    /// What absent conditions mean: ready and serving, not terminating.
    fn default() -> Self {
        Conditions { ready: true, serving: true, terminating: false }
    }
}

/// Topology hints of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints {
    pub zones: Box<[Arc<str>]>,
    pub nodes: Box<[Arc<str>]>,
}

/// Where an endpoint is and who should use it: what many endpoints have in common, so it is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Location {
    pub node: Option<Arc<str>>,
    pub zone: Option<Arc<str>>,
    /// `None` if there are no hints of either kind.
    pub hints: Option<Arc<Hints>>,
}

/// One endpoint of a slice; its first address only. 32 bytes: there are more of these than of anything else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SliceEndpoint {
    pub ip: IpAddr,
    pub conditions: Conditions,
    /// `None` if neither node, zone nor hints are known.
    pub location: Option<Arc<Location>>,
}

impl SliceEndpoint {
    /// An endpoint with a location of its own; a source shares equal ones.
    pub fn new(ip: IpAddr, conditions: Conditions, node: Option<Arc<str>>, hints: Option<Arc<Hints>>) -> Self {
        let is_known = node.is_some() || hints.is_some();
        SliceEndpoint { ip, conditions, location: is_known.then(|| Arc::new(Location { node, zone: None, hints })) }
    }

    /// The name of its node.
    pub fn node(&self) -> Option<&str> {
        self.location.as_ref()?.node.as_deref()
    }

    /// `None` if there are no hints of either kind.
    pub fn hints(&self) -> Option<&Hints> {
        self.location.as_ref()?.hints.as_deref()
    }
}

/// One port of a slice. Ports without a name or number are dropped when the slice is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlicePort {
    /// Empty for the unnamed port.
    pub name: Arc<str>,
    pub protocol: Protocol,
    pub port: u16,
}

/// An EndpointSlice, slim. Slices that name no service never become facts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointSlice {
    pub name: ObjectName,
    /// Value of the label `kubernetes.io/service-name`; the service is in the slice's namespace.
    pub service: Arc<str>,
    pub family: Family,
    pub ports: Box<[SlicePort]>,
    pub endpoints: Box<[SliceEndpoint]>,
    /// Annotation `endpoints.kubernetes.io/last-change-trigger-time`, as Unix time in nanoseconds.
    pub trigger_time: Option<i64>,
}

impl EndpointSlice {
    /// The service that the slice belongs to.
    pub fn service_name(&self) -> ObjectName {
        ObjectName { namespace: self.name.namespace.clone(), name: self.service.clone() }
    }
}

/// A Node, slim. The source sends only our own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    pub name: Arc<str>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// InternalIPs, then ExternalIPs (contract 1.10).
    pub ips: Box<[IpAddr]>,
    pub pod_cidrs: Box<[IpNet]>,
    /// Has a deletionTimestamp or the autoscaler's taint: not eligible for load balancer traffic (contract 6.1).
    pub leaving: bool,
}

/// A ServiceCIDR, slim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceCidr {
    pub name: Arc<str>,
    pub cidrs: Box<[IpNet]>,
}

/// The kinds of objects that are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Service,
    EndpointSlice,
    Node,
    ServiceCidr,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr];

    /// The `kind` of its objects.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Node => "Node",
            Kind::ServiceCidr => "ServiceCIDR",
        }
    }
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Service(Service),
    EndpointSlice(EndpointSlice),
    Node(Node),
    ServiceCidr(ServiceCidr),
}

/// Identity of a fact. Cluster-scoped objects have an empty namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FactKey {
    pub kind: Kind,
    pub name: ObjectName,
}

impl Fact {
    pub fn key(&self) -> FactKey {
        match self {
            Fact::Service(service) => FactKey { kind: Kind::Service, name: service.name.clone() },
            Fact::EndpointSlice(slice) => FactKey { kind: Kind::EndpointSlice, name: slice.name.clone() },
            Fact::Node(node) => FactKey { kind: Kind::Node, name: ObjectName::new("", node.name.clone()) },
            Fact::ServiceCidr(cidr) => {
                FactKey { kind: Kind::ServiceCidr, name: ObjectName::new("", cidr.name.clone()) }
            }
        }
    }
}

/// What a source tells. A batch (`Vec<Update>`) is applied as one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// An object is new or changed.
    Upsert(Fact),
    /// An object is gone, or no longer selected.
    Delete(FactKey),
    /// These are all objects of the kind: the first list (which makes the kind *synced*) or a relist. What is not
    /// among them is gone. All facts are of `kind`.
    Replace { kind: Kind, facts: Vec<Fact> },
}
