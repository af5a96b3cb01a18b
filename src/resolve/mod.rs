//! State → model: which service ports there are, what they answer to, and which endpoints each may use on this node.
//!
//! Pure: the result is a function of the facts, the node and the options. Neither the order of events nor the way in
//! which endpoints are spread over slices matters. [`resolve`] does one service; its steps are a file each:
//! `cluster_ip` (is it proxied in this family), `frontends` (addresses and policies), `endpoints` (slices become one
//! list), `topology` (hints) and `categorise` (which endpoints each traffic policy uses). [`health`] is what load
//! balancers are told.

mod categorise;
mod cluster_ip;
mod endpoints;
mod frontends;
pub mod health;
mod topology;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{self, ServicePortKey};
use crate::net::{Family, ObjectName, PerFamily, ServicePortName};
use crate::state::{self, State};
use endpoints::Merged;
use frontends::Frontends;

/// What resolving needs to know of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeContext {
    /// Compared with the `nodeName` of endpoints and with node hints.
    pub name: Arc<str>,
    /// Compared with zone hints. `None` or empty: no hint matches.
    pub zone: Option<Arc<str>>,
}

impl NodeContext {
    /// Our node by name, in the zone that the state knows.
    pub fn of(state: &State, name: Arc<str>) -> NodeContext {
        NodeContext { name, zone: state.zone().cloned() }
    }
}

/// Options that change what is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// Feature gate AllowServiceExternalIPs: without it, `spec.externalIPs` are as if they were not there.
    pub external_ips_allowed: bool,
    /// The families that are proxied.
    pub families: PerFamily<bool>,
}

impl Default for Options {
    fn default() -> Self {
        Options { external_ips_allowed: true, families: PerFamily { v4: true, v6: true } }
    }
}

/// The service ports of one service, IPv4 first, each family in the order of `spec.ports`. Empty if the service is not
/// known or not proxied.
///
/// Of two ports with the same name and protocol, which the API does not allow, the first counts.
pub fn resolve(
    state: &State,
    service: &ObjectName,
    node: &NodeContext,
    options: &Options,
) -> Vec<Arc<model::ServicePort>> {
    let Some(service) = state.service(service) else { return Vec::new() };
    let slices = state.slices(&service.name);
    let node_is_known = state.node().is_some_and(|known| known.name == node.name);
    let mut resolved = Vec::with_capacity(service.ports.len());
    for family in Family::ALL.into_iter().filter(|family| *options.families.get(*family)) {
        let Some(cluster_ip) = cluster_ip::cluster_ip(service, family) else { continue };
        let frontends = Frontends::of(service, family, options);
        for (i, port) in service.ports.iter().enumerate() {
            let taken = |earlier: &state::ServicePort| earlier.name == port.name && earlier.protocol == port.protocol;
            if !service.ports.iter().take(i).any(taken) {
                let merged = endpoints::merge(slices, family, &port.name, port.protocol, &node.name);
                let mut resolved_port = service_port(service, port, cluster_ip, &frontends);
                use_endpoints(&mut resolved_port, &merged, node, node_is_known);
                resolved.push(Arc::new(resolved_port));
            }
        }
    }
    resolved
}

/// How many distinct addresses of the service are on the node and ready, over all its ports: what a health check node
/// port reports (contract 2.4, 6.2). Endpoints that only terminate are not ready and do not count.
pub fn local_ready_count(state: &State, service: &ObjectName, family: Family, node_name: &str) -> usize {
    let slices = state.slices(service);
    let ports: BTreeSet<_> = slices
        .iter()
        .filter(|slice| slice.family == family)
        .flat_map(|slice| slice.ports.iter().map(|port| (&*port.name, port.protocol)))
        .collect();
    let mut ips: BTreeSet<IpAddr> = BTreeSet::new();
    for (name, protocol) in ports {
        let merged = endpoints::merge(slices, family, name, protocol, node_name);
        ips.extend(merged.iter().filter(|m| m.on_node && m.is_ready()).map(|m| m.endpoint.ip));
    }
    ips.len()
}

/// The service port without its endpoints.
fn service_port(
    service: &state::Service,
    port: &state::ServicePort,
    cluster_ip: IpAddr,
    frontends: &Frontends,
) -> model::ServicePort {
    let name = ServicePortName::new(service.name.clone(), port.name.clone(), port.protocol);
    let key = ServicePortKey { family: Family::of(&cluster_ip), name };
    model::ServicePort {
        node_port: port.node_port,
        external_ips: frontends.external_ips.clone(),
        load_balancer_ips: frontends.load_balancer_ips.clone(),
        source_ranges: frontends.source_ranges.clone(),
        affinity_seconds: service.affinity_seconds,
        internal_policy: service.internal_policy,
        external_policy: frontends.external_policy,
        health_check_node_port: frontends.health_check_node_port,
        tuning: service.tuning.clone(),
        ..model::ServicePort::new(key, cluster_ip, port.port)
    }
}

/// Gives a service port its endpoints.
fn use_endpoints(port: &mut model::ServicePort, merged: &[Merged<'_>], node: &NodeContext, node_is_known: bool) {
    let uses = categorise::Uses { cluster: port.uses_cluster_endpoints(), local: port.uses_local_endpoints() };
    let weights = port.tuning.as_deref().map(|tuning| &tuning.weights);
    port.endpoints = categorise::categorise(merged, uses, node, node_is_known, weights);
    port.has_any_endpoint = merged.iter().any(|m| m.is_ready() || m.is_fallback());
}

#[cfg(test)]
mod tests;
