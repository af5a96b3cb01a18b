//! One service port of one family, resolved: what it answers to, and which endpoints it may use on this node.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::net::{Endpoint, Family, ServicePortName};
use crate::state::{TrafficPolicy, Tuning};

/// Identity of a fragment: the family is part of the key. Ordered by family, then name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortKey {
    pub family: Family,
    pub name: ServicePortName,
}

/// What an endpoint may be used for on this node. A set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EndpointFlags(pub u8);

impl EndpointFlags {
    /// In the list of the Cluster policy (contract 2.5, step 2).
    pub const CLUSTER: EndpointFlags = EndpointFlags(1);
    /// In the list of the Local policy (contract 2.5, step 3).
    pub const LOCAL: EndpointFlags = EndpointFlags(2);
    /// On this node.
    pub const ON_NODE: EndpointFlags = EndpointFlags(4);
    /// Ready.
    pub const READY: EndpointFlags = EndpointFlags(8);
    /// Serving: ready, or terminating and still serving. Flows to it are not stale (contract 6.5).
    pub const SERVING: EndpointFlags = EndpointFlags(16);
    /// On another node, by name. Neither this nor [`EndpointFlags::ON_NODE`]: nobody knows where.
    pub const ELSEWHERE: EndpointFlags = EndpointFlags(32);

    pub const fn contains(self, other: EndpointFlags) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn with(self, other: EndpointFlags) -> EndpointFlags {
        EndpointFlags(self.0 | other.0)
    }
}

/// An endpoint of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelEndpoint {
    pub endpoint: Endpoint,
    pub flags: EndpointFlags,
    /// Its share of new connections beside the others', where a backend has weights. 0: none as long as another has more.
    pub weight: u16,
}

impl ModelEndpoint {
    /// One with the same weight as all others.
    pub const fn new(endpoint: Endpoint, flags: EndpointFlags) -> Self {
        ModelEndpoint { endpoint, flags, weight: 1 }
    }
}

/// A service port of one family, resolved for this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    pub key: ServicePortKey,
    pub cluster_ip: IpAddr,
    /// Never 0.
    pub port: u16,
    /// 0 = none.
    pub node_port: u16,
    /// Of this family, sorted, each once.
    pub external_ips: Box<[IpAddr]>,
    /// VIPs that this proxy answers to (ipMode VIP), of this family, sorted, each once.
    pub load_balancer_ips: Box<[IpAddr]>,
    /// Empty = everyone may. Of this family, sorted, each once, no `/0` among them.
    pub source_ranges: Box<[IpNet]>,
    /// Client IP affinity, seconds.
    pub affinity_seconds: Option<u32>,
    pub internal_policy: TrafficPolicy,
    /// `Local` only where it has a meaning (contract 2.3, *externalPolicyLocal*).
    pub external_policy: TrafficPolicy,
    /// 0 = none.
    pub health_check_node_port: u16,
    /// Endpoints that are used by a policy, or serving; sorted by the bytes of their text (contract 2.4), each once.
    pub endpoints: Box<[ModelEndpoint]>,
    /// Some endpoint could be used by some node (contract 2.5): decides between REJECT and DROP.
    pub has_any_endpoint: bool,
    /// What annotations ask for; `None` for nearly all services.
    pub tuning: Option<Arc<Tuning>>,
}

impl ServicePort {
    /// One that answers at a cluster IP alone, by the Cluster policy, and has no endpoints.
    pub fn new(key: ServicePortKey, cluster_ip: IpAddr, port: u16) -> Self {
        ServicePort {
            key,
            cluster_ip,
            port,
            node_port: 0,
            external_ips: Box::default(),
            load_balancer_ips: Box::default(),
            source_ranges: Box::default(),
            affinity_seconds: None,
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            health_check_node_port: 0,
            endpoints: Box::default(),
            has_any_endpoint: false,
            tuning: None,
        }
    }

    /// Endpoints of the Cluster policy, in order.
    pub fn cluster_endpoints(&self) -> impl Iterator<Item = Endpoint> + '_ {
        self.with_any_flag(EndpointFlags::CLUSTER).map(|e| e.endpoint)
    }

    /// Endpoints of the Local policy, in order.
    pub fn local_endpoints(&self) -> impl Iterator<Item = Endpoint> + '_ {
        self.with_any_flag(EndpointFlags::LOCAL).map(|e| e.endpoint)
    }

    /// Endpoints of either policy, in order: those that connections can be sent to.
    pub fn reachable_endpoints(&self) -> impl Iterator<Item = Endpoint> + '_ {
        self.with_any_flag(EndpointFlags::CLUSTER.with(EndpointFlags::LOCAL)).map(|e| e.endpoint)
    }

    /// Endpoints that have one of these flags, in order.
    pub fn with_any_flag(&self, flags: EndpointFlags) -> impl Iterator<Item = &ModelEndpoint> + '_ {
        self.endpoints.iter().filter(move |e| e.flags.0 & flags.0 != 0)
    }

    /// Has a node port, an external IP or a VIP (contract 2.3).
    pub fn externally_accessible(&self) -> bool {
        self.node_port != 0 || !self.external_ips.is_empty() || !self.load_balancer_ips.is_empty()
    }

    /// Contract 2.3, *usesClusterEndpoints*.
    pub fn uses_cluster_endpoints(&self) -> bool {
        self.internal_policy == TrafficPolicy::Cluster || self.externally_accessible()
    }

    /// Contract 2.3, *usesLocalEndpoints*.
    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_policy == TrafficPolicy::Local
            || (self.external_policy == TrafficPolicy::Local && self.externally_accessible())
    }

    /// The service can answer to its cluster IP (contract 3.4, *hasInternal*).
    pub fn has_internal_endpoints(&self) -> bool {
        self.has_any_endpoint
            && (self.internal_policy == TrafficPolicy::Cluster || self.local_endpoints().next().is_some())
    }

    /// The service can answer outside clients (contract 3.4, *hasExternal*).
    pub fn has_external_endpoints(&self) -> bool {
        self.has_any_endpoint
            && (self.external_policy == TrafficPolicy::Cluster || self.local_endpoints().next().is_some())
    }

    pub fn family(&self) -> Family {
        self.key.family
    }
}
