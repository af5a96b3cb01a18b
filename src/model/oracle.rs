//! What must become of a packet, from the model alone: the specification that planned rules, simulated and real
//! kernels are judged by.
//!
//! Read [`judge`] first. It asks two questions: does a service *serve* the packet, and if none does, does one *refuse*
//! it. The facts are contract 2.7 to 2.9, 3.4 and 3.14; none of this is derived from rules. [`judge_in`] asks the same
//! for a mode; what is different in IPVS mode is the module `ipvs`.

mod ipvs;

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{LocalDetector, NodePortAddresses, ServicePort, Settings};
use crate::net::{Endpoint, Family, Protocol};
use crate::state::TrafficPolicy;

/// The first packet of a new flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: Protocol,
    /// Destination port.
    pub port: u16,
    /// The interface that it came in by; `None` if this node made it.
    pub in_interface: Option<String>,
}

/// What the verdict depends on beside model and settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Addresses of this node's interfaces; 127.0.0.0/8 and ::1 are always local and need not be here.
    pub addresses: Vec<IpAddr>,
}

impl Host {
    /// The kernel takes the address for its own (address type LOCAL).
    pub fn is_local(&self, ip: &IpAddr) -> bool {
        ip.is_loopback() || self.addresses.contains(ip)
    }
}

/// Where a packet that is served goes, and with which source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outcome {
    pub endpoint: Endpoint,
    /// The source becomes the node's address.
    pub masqueraded: bool,
}

/// What serves the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Rules alone.
    #[default]
    Iptables,
    /// IPVS, with rules around it.
    Ipvs,
}

impl Mode {
    pub const ALL: [Mode; 2] = [Mode::Iptables, Mode::Ipvs];
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// No service: the packet goes on as if there were no rules.
    Untouched,
    /// A rule lets it through on purpose (health check node port).
    Accept,
    /// ICMP port unreachable.
    Reject,
    Drop,
    /// One of these, with its probability; they add up to 1.
    Serve(BTreeMap<Outcome, f64>),
}

impl Verdict {
    /// Whether two verdicts are the same, probabilities within what the kernel's 2^-31 steps allow.
    pub fn agrees_with(&self, other: &Verdict) -> bool {
        match (self, other) {
            (Verdict::Serve(a), Verdict::Serve(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((oa, pa), (ob, pb))| oa == ob && (pa - pb).abs() < 1e-6)
            }
            _ => self == other,
        }
    }
}

/// What must become of the first packet of a flow, where services are served in this mode.
pub fn judge_in<'a>(
    mode: Mode,
    services: impl Iterator<Item = &'a ServicePort> + Clone,
    settings: &Settings,
    host: &Host,
    packet: &Packet,
) -> Verdict {
    match mode {
        Mode::Iptables => judge(services, settings, host, packet),
        Mode::Ipvs => ipvs::judge(services, settings, host, packet),
    }
}

/// What must become of the first packet of a flow, in iptables mode.
///
/// Where several service ports answer to the same address, protocol and port, addresses come before node ports, and
/// among equals the order of `services` (by key) decides. A service that can not serve the packet leaves it to the next
/// one that can; only what nobody serves is refused, by cluster IPs first, then other addresses, then node ports. Affinity
/// plays no part: this is the first packet of its client.
pub fn judge<'a>(
    services: impl Iterator<Item = &'a ServicePort> + Clone,
    settings: &Settings,
    host: &Host,
    packet: &Packet,
) -> Verdict {
    let case = Case { settings, host, packet, family: Family::of(&packet.destination) };
    let concerned = services.filter(|service| service.family() == case.family);
    let by_address = concerned.clone().find_map(|service| case.served_by_address(service));
    let served = by_address.or_else(|| concerned.clone().find_map(|service| case.served_by_node_port(service)));
    match served {
        Some(outcomes) => Verdict::Serve(outcomes),
        None => case.refusal(concerned),
    }
}

/// Where a packet may go, with the probability of each.
type Outcomes = BTreeMap<Outcome, f64>;

/// One packet at one host.
#[derive(Clone, Copy)]
struct Case<'a> {
    settings: &'a Settings,
    host: &'a Host,
    packet: &'a Packet,
    family: Family,
}

/// Which of a service's lists of endpoints.
#[derive(Clone, Copy)]
enum List {
    Cluster,
    Local,
}

/// Who serves the packet.
impl Case<'_> {
    /// The service has the destination as an address of its own: cluster IP, external IP or VIP.
    fn served_by_address(self, service: &ServicePort) -> Option<Outcomes> {
        if !self.is_for_service_port(service) {
            return None;
        }
        let destination = self.packet.destination;
        let internal = (destination == service.cluster_ip).then(|| self.served_internally(service)).flatten();
        let external_ip = || service.external_ips.contains(&destination).then(|| self.served_externally(service));
        let vip = || {
            let allowed = service.load_balancer_ips.contains(&destination) && self.is_source_allowed(service);
            allowed.then(|| self.served_externally(service))
        };
        internal.or_else(|| external_ip().flatten()).or_else(|| vip().flatten())
    }

    /// The destination is an address of this node that takes node ports, and the port is the service's.
    fn served_by_node_port(self, service: &ServicePort) -> Option<Outcomes> {
        let open = self.is_for_node_port(service) && self.takes_node_ports();
        open.then(|| self.served_externally(service)).flatten()
    }

    /// Traffic to the cluster IP. The source is kept, unless the client is not a local pod (answers from a remote
    /// endpoint would not come back through us) or all such traffic is to be masqueraded.
    fn served_internally(self, service: &ServicePort) -> Option<Outcomes> {
        let list = match service.internal_policy {
            TrafficPolicy::Cluster => List::Cluster,
            TrafficPolicy::Local => List::Local,
        };
        let masquerade = self.settings.masquerade_all || self.is_from_local_pod() == Some(false);
        self.served_from(service, list, masquerade)
    }

    /// Traffic to an external address or a node port. With the Local policy the source is kept and only local
    /// endpoints serve; but what starts on this node, in a pod or outside of one, could as well have used the cluster
    /// IP, and may use every endpoint.
    fn served_externally(self, service: &ServicePort) -> Option<Outcomes> {
        match service.external_policy {
            TrafficPolicy::Cluster => self.served_from(service, List::Cluster, true),
            TrafficPolicy::Local if self.is_from_local_pod() == Some(true) => {
                self.served_from(service, List::Cluster, false)
            }
            TrafficPolicy::Local if self.host.is_local(&self.packet.source) => {
                self.served_from(service, List::Cluster, true)
            }
            TrafficPolicy::Local => self.served_from(service, List::Local, false),
        }
    }

    /// Each endpoint of the list is as likely as any other. An endpoint that reaches itself is always masqueraded:
    /// it would take the answer for its own. What comes in for an endpoint that has an address of this node (a pod in
    /// the host's network) keeps its source: it does not leave again, and its answer comes back through us anyway.
    fn served_from(self, service: &ServicePort, list: List, masquerade: bool) -> Option<Outcomes> {
        let endpoints: Vec<Endpoint> = match list {
            List::Cluster => service.cluster_endpoints().collect(),
            List::Local => service.local_endpoints().collect(),
        };
        let probability = 1.0 / endpoints.len() as f64;
        let outcomes: Outcomes =
            endpoints.into_iter().map(|endpoint| (self.outcome(endpoint, masquerade), probability)).collect();
        (!outcomes.is_empty()).then_some(outcomes)
    }

    fn outcome(self, endpoint: Endpoint, masquerade: bool) -> Outcome {
        let masqueraded = masquerade || endpoint.ip == self.packet.source;
        Outcome { endpoint, masqueraded: masqueraded && !self.stays_here(&endpoint.ip) }
    }

    /// Comes in, and goes to an address of this node.
    fn stays_here(self, to: &IpAddr) -> bool {
        !self.is_from_this_node() && self.host.is_local(to)
    }
}

/// Who refuses a packet that nobody serves.
impl Case<'_> {
    fn refusal<'a>(self, services: impl Iterator<Item = &'a ServicePort> + Clone) -> Verdict {
        let any = |refuses: fn(Self, &ServicePort) -> bool| services.clone().any(|service| refuses(self, service));
        if self.is_martian() || any(Self::is_outside_source_ranges) {
            Verdict::Drop
        } else if any(Self::is_health_check) {
            Verdict::Accept
        } else {
            let kinds = [Self::is_refused_internally, Self::is_refused_at_address, Self::is_refused_at_node_port];
            let refusing =
                kinds.into_iter().find_map(|refuses| services.clone().find(|service| refuses(self, service)));
            refusing.map_or(Verdict::Untouched, Self::refusal_of)
        }
    }

    /// Answering node ports on loopback needs the kernel to route loopback addresses; nobody else may use that.
    fn is_martian(self) -> bool {
        self.settings.localhost_node_ports(self.family)
            && self.packet.destination.is_loopback()
            && !self.packet.source.is_loopback()
    }

    /// To a VIP that has source ranges and did not serve it. Holds wherever the packet starts.
    fn is_outside_source_ranges(self, service: &ServicePort) -> bool {
        service.has_any_endpoint
            && !service.source_ranges.is_empty()
            && self.is_for_service_port(service)
            && service.load_balancer_ips.contains(&self.packet.destination)
    }

    /// To this node's health check port of the service.
    fn is_health_check(self, service: &ServicePort) -> bool {
        service.health_check_node_port != 0
            && self.packet.protocol == Protocol::Tcp
            && self.packet.port == service.health_check_node_port
            && self.host.is_local(&self.packet.destination)
    }

    /// If others could serve it elsewhere, the packet is dropped: whoever sent it here may find out and send it there. If
    /// nobody can, the client is told at once.
    fn refusal_of(service: &ServicePort) -> Verdict {
        if service.has_any_endpoint { Verdict::Drop } else { Verdict::Reject }
    }

    /// Cluster IPs are refused to what is forwarded and to what this node sends, not to what is for this node itself.
    fn is_refused_internally(self, service: &ServicePort) -> bool {
        !service.has_internal_endpoints()
            && self.is_for_service_port(service)
            && self.packet.destination == service.cluster_ip
            && (self.is_from_this_node() || !self.host.is_local(&self.packet.destination))
    }

    fn is_refused_at_address(self, service: &ServicePort) -> bool {
        let destination = &self.packet.destination;
        let has_address = service.external_ips.contains(destination) || service.load_balancer_ips.contains(destination);
        has_address && self.is_for_service_port(service) && self.is_refused_externally(service)
    }

    fn is_refused_at_node_port(self, service: &ServicePort) -> bool {
        self.is_for_node_port(service) && self.is_refused_externally(service)
    }

    /// External addresses and node ports are refused to what is forwarded and to what is for this node, not to what
    /// this node sends elsewhere: a load balancer may still answer there.
    fn is_refused_externally(self, service: &ServicePort) -> bool {
        !service.has_external_endpoints() && (!self.is_from_this_node() || self.host.is_local(&self.packet.destination))
    }
}

/// What kind of packet it is.
impl Case<'_> {
    fn is_for_service_port(self, service: &ServicePort) -> bool {
        self.packet.protocol == service.key.name.protocol && self.packet.port == service.port
    }

    fn is_for_node_port(self, service: &ServicePort) -> bool {
        service.node_port != 0
            && self.packet.protocol == service.key.name.protocol
            && self.packet.port == service.node_port
            && self.host.is_local(&self.packet.destination)
    }

    /// Node ports answer on all addresses of this node, or on chosen ones. Loopback is never among all of them in IPv6,
    /// and in IPv4 only where it is wanted.
    fn takes_node_ports(self) -> bool {
        match self.settings.node_port_addresses.get(self.family) {
            NodePortAddresses::All => {
                !self.packet.destination.is_loopback() || self.settings.localhost_node_ports(self.family)
            }
            NodePortAddresses::Only(addresses) => addresses.contains(&self.packet.destination),
        }
    }

    /// This node made the packet, in no pod's network namespace.
    fn is_from_this_node(self) -> bool {
        self.packet.in_interface.is_none()
    }

    /// `None` if there is no way to tell. What this node made came in by no interface, so a detector that goes by
    /// interfaces takes it for traffic from elsewhere.
    fn is_from_local_pod(self) -> Option<bool> {
        let interface = self.packet.in_interface.as_deref();
        match self.settings.detector.get(self.family) {
            LocalDetector::None => None,
            LocalDetector::Cidr(net) => Some(net.contains(&self.packet.source)),
            LocalDetector::Interface(name) => Some(interface == Some(name)),
            LocalDetector::InterfacePrefix(prefix) => {
                Some(interface.is_some_and(|interface| interface.starts_with(&**prefix)))
            }
        }
    }

    /// The source ranges of the service's VIPs let the client in. The VIP itself is let in where this node is: a node
    /// that has the VIP as an address uses it as the source.
    fn is_source_allowed(self, service: &ServicePort) -> bool {
        let in_ranges = |ip: &IpAddr| service.source_ranges.iter().any(|range| range.contains(ip));
        let this_node_allowed = || self.settings.node_ips.get(self.family).as_ref().is_some_and(in_ranges);
        service.source_ranges.is_empty()
            || in_ranges(&self.packet.source)
            || (service.load_balancer_ips.contains(&self.packet.source) && this_node_allowed())
    }
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
