//! What is different in IPVS mode. Everything else is as in iptables mode: who is refused by REJECT and who by DROP,
//! that the Local policies never leak, source ranges, and whose address is kept.
//!
//! 1. **One service for each address, protocol and port.** That is what a virtual server is. Of several services that
//!    claim it, addresses come before node ports, then the first by key has it, also if it cannot serve; within a service
//!    cluster IPs come before external IPs, and these before VIPs.
//! 2. **Service addresses are the node's own**: they are on the service device, unless another device has them. A port of
//!    theirs that no service has is refused with REJECT: the host's own ports are not reached through them. Only health
//!    check node ports answer on them as on all addresses of the node.
//! 3. For the same reason what the node sends itself is refused like any other packet: no other machine could answer.
//! 4. **Weights**: the probability of an endpoint is proportional to its weight. All of weight 0 are alike.
//! 5. **externalTrafficPolicy Local**: a virtual server has one list. As long as there are local endpoints, the node's pods
//!    and the node itself are served by these, too. Where there are none they are served by all endpoints, and only
//!    clients from outside are dropped.
//! 6. **No node ports on loopback addresses**: IPVS sends nothing that comes from a loopback address off the node. With
//!    them goes the rule that guards loopback addresses against packets from elsewhere. Likewise what is sent from a
//!    loopback address to a service address is dropped, unless all its endpoints are addresses of this node; it keeps its
//!    source then.
//! 7. **Service addresses as sources**: the kernel chooses the address that it sends to, if that is its own, as the source.
//!    That is no address to answer to, so it is masqueraded even where nobody knows who is a local pod.
//! 8. **Endpoints that reach themselves** are masqueraded if they are not on another node. Those send to a service through
//!    their own node, which knows them.

use super::{Case, Host, Outcome, Outcomes, Packet, Verdict};
use crate::model::{EndpointFlags, ModelEndpoint, NodePortAddresses, ServicePort, ServicePortKey, Settings};
use crate::net::Family;
use crate::state::TrafficPolicy;

/// What must become of the first packet of a flow, in IPVS mode.
pub fn judge<'a>(
    services: impl Iterator<Item = &'a ServicePort> + Clone,
    settings: &Settings,
    host: &Host,
    packet: &Packet,
) -> Verdict {
    let family = Family::of(&packet.destination);
    let of_family = services.filter(|service| service.family() == family);
    let on_device = of_family.clone().flat_map(addresses).filter(|ip| !host.is_local(ip));
    let node = Host { addresses: host.addresses.iter().copied().chain(on_device).collect() };
    let case = Case { settings, host: &node, packet, family };
    let virtual_server = of_family.clone().filter_map(|service| case.claim(service, host)).min_by_key(Claim::rank);
    if let Some(claim) = virtual_server {
        case.answer(&claim)
    } else if of_family.clone().any(|service| case.is_health_check(service)) {
        Verdict::Accept
    } else if node.is_local(&packet.destination) && !host.is_local(&packet.destination) {
        Verdict::Reject
    } else {
        Verdict::Untouched
    }
}

/// The addresses that a service has on every node.
fn addresses(service: &ServicePort) -> impl Iterator<Item = std::net::IpAddr> {
    let external = service.external_ips.iter().chain(&service.load_balancer_ips).copied();
    std::iter::once(service.cluster_ip).chain(external)
}

/// What a virtual server is for its service, the one that counts first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    ClusterIp,
    ExternalIp,
    LoadBalancer,
    NodePort,
}

/// A service that has the packet's destination.
struct Claim<'a> {
    role: Role,
    service: &'a ServicePort,
}

impl<'a> Claim<'a> {
    /// The lowest has the virtual server.
    fn rank(&self) -> (bool, &'a ServicePortKey) {
        (self.role == Role::NodePort, &self.service.key)
    }
}

impl Case<'_> {
    /// `own`: the host without the service device.
    fn claim<'s>(self, service: &'s ServicePort, own: &Host) -> Option<Claim<'s>> {
        let destination = &self.packet.destination;
        let has_address = || {
            if !self.is_for_service_port(service) {
                None
            } else if *destination == service.cluster_ip {
                Some(Role::ClusterIp)
            } else if service.external_ips.contains(destination) {
                Some(Role::ExternalIp)
            } else {
                service.load_balancer_ips.contains(destination).then_some(Role::LoadBalancer)
            }
        };
        let has_node_port = || {
            let here = own.is_local(destination) && !destination.is_loopback();
            let open = match self.settings.node_port_addresses.get(self.family) {
                NodePortAddresses::All => here,
                NodePortAddresses::Only(addresses) => here && addresses.contains(destination),
            };
            (open && self.is_for_node_port(service)).then_some(Role::NodePort)
        };
        has_address().or_else(has_node_port).map(|role| Claim { role, service })
    }

    /// The service that has the virtual server serves the packet, or refuses it.
    fn answer(self, claim: &Claim<'_>) -> Verdict {
        let Claim { role, service } = *claim;
        if role == Role::LoadBalancer && service.has_any_endpoint && !self.is_source_allowed(service) {
            return Verdict::Drop;
        }
        let has_local = service.local_endpoints().next().is_some();
        let policy = if role == Role::ClusterIp { service.internal_policy } else { service.external_policy };
        let list = match policy {
            TrafficPolicy::Cluster => EndpointFlags::CLUSTER,
            TrafficPolicy::Local if role != Role::ClusterIp && !has_local && self.is_from_inside() => {
                EndpointFlags::CLUSTER
            }
            TrafficPolicy::Local => EndpointFlags::LOCAL,
        };
        let endpoints: Vec<&ModelEndpoint> = service.with_any_flag(list).collect();
        if endpoints.is_empty() {
            return Self::refusal_of(service);
        }
        let from_loopback = self.packet.source.is_loopback();
        if from_loopback && endpoints.iter().any(|e| !self.host.is_local(&e.endpoint.ip)) {
            return Verdict::Drop;
        }
        let masquerade = !from_loopback && self.is_masqueraded(role, policy);
        Verdict::Serve(self.outcomes(&endpoints, masquerade))
    }

    /// In a pod on this node, or outside of pods on it.
    fn is_from_inside(self) -> bool {
        self.is_from_this_node() || self.is_from_local_pod() == Some(true) || self.host.is_local(&self.packet.source)
    }

    /// As in iptables mode, and rule 7.
    fn is_masqueraded(self, role: Role, policy: TrafficPolicy) -> bool {
        let to_itself = self.is_from_this_node() && self.packet.source == self.packet.destination;
        match (role, policy) {
            (Role::ClusterIp, _) => {
                self.settings.masquerade_all || self.is_from_local_pod() == Some(false) || to_itself
            }
            (_, TrafficPolicy::Cluster) => true,
            (_, TrafficPolicy::Local) => {
                self.is_from_local_pod() != Some(true) && self.host.is_local(&self.packet.source)
            }
        }
    }

    fn outcomes(self, endpoints: &[&ModelEndpoint], masquerade: bool) -> Outcomes {
        let total: f64 = endpoints.iter().map(|e| f64::from(e.weight)).sum();
        let probability = |e: &ModelEndpoint| {
            if total > 0.0 { f64::from(e.weight) / total } else { 1.0 / endpoints.len() as f64 }
        };
        let outcome = |e: &ModelEndpoint| {
            let to_itself = e.endpoint.ip == self.packet.source && !e.flags.contains(EndpointFlags::ELSEWHERE);
            let masqueraded = (masquerade || to_itself) && !self.stays_here(&e.endpoint.ip);
            Outcome { endpoint: e.endpoint, masqueraded }
        };
        let outcomes = endpoints.iter().map(|e| (outcome(e), probability(e)));
        outcomes.filter(|(_, probability)| *probability > 0.0).collect()
    }
}

#[cfg(test)]
#[path = "ipvs_tests.rs"]
mod tests;
