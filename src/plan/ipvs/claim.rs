//! What one service port asks of the kernel: virtual servers with their real servers, entries of sets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::drain;
use super::sets::Set;
use crate::kernel::ipset::Entry;
use crate::kernel::ipvs::{RealServer, Scheduler, ServerFlags, VirtualServer, VirtualServerKey};
use crate::model::{EndpointFlags, ModelEndpoint, NodePortAddresses, ServicePort, Settings};
use crate::net::{Endpoint, Family, Protocol};
use crate::state::TrafficPolicy;

/// What a virtual server is for its service, in the order in which they count where one service port has several at one
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    ClusterIp,
    ExternalIp,
    LoadBalancer,
    NodePort,
}

/// One frontend of a service port: everything that is there because of it and goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub key: VirtualServerKey,
    pub role: Role,
    pub server: VirtualServer,
    pub real_servers: BTreeMap<Endpoint, RealServer>,
    /// The address is put on the service device.
    pub bind: bool,
    /// How long an endpoint that goes keeps its connections, seconds.
    pub drain_seconds: u32,
    /// Sorted.
    pub entries: Vec<(Set, Entry)>,
}

/// The frontends of a service port with their keys: what there is to claim, without the cost of endpoints.
pub fn frontends(port: &ServicePort, settings: &Settings) -> Vec<(VirtualServerKey, Role)> {
    let protocol = port.key.name.protocol;
    let at = |ip: &IpAddr, number| VirtualServerKey::new(protocol, *ip, number);
    let mut all = vec![(at(&port.cluster_ip, port.port), Role::ClusterIp)];
    all.extend(port.external_ips.iter().map(|ip| (at(ip, port.port), Role::ExternalIp)));
    all.extend(port.load_balancer_ips.iter().map(|ip| (at(ip, port.port), Role::LoadBalancer)));
    if port.node_port != 0 {
        let addresses = node_port_addresses(settings, port.family());
        all.extend(addresses.map(|ip| (at(ip, port.node_port), Role::NodePort)));
    }
    all
}

/// The addresses of this node that have virtual servers for node ports: never loopback, which IPVS cannot serve, and no
/// link-local address of IPv6 (contract 4.3).
fn node_port_addresses(settings: &Settings, family: Family) -> impl Iterator<Item = &IpAddr> {
    let chosen = match settings.node_port_addresses.get(family) {
        NodePortAddresses::All => settings.local_addresses.get(family),
        NodePortAddresses::Only(chosen) => chosen,
    };
    chosen.iter().filter(|ip| is_node_address(ip))
}

/// Whether an address of a device can be the address of a node port (scenarios L59 to L63).
pub fn is_node_address(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

/// The claim of a service port to one of its [`frontends`].
pub fn claim(port: &ServicePort, settings: &Settings, key: VirtualServerKey, role: Role) -> Claim {
    let lists = Lists::of(port, role);
    let server = virtual_server(port, settings);
    let mut real_servers = real_servers(port, lists.serves);
    if !drain::passes_over(&server.scheduler) {
        real_servers.retain(|_, real| real.weight > 0);
    }
    Claim {
        key,
        role,
        server,
        real_servers,
        bind: role != Role::NodePort && !settings.local_addresses.get(port.family()).contains(&key.address),
        drain_seconds: port.tuning.as_ref().and_then(|t| t.drain_seconds).unwrap_or(settings.ipvs.drain_seconds),
        entries: entries(port, settings, &key, role, &lists),
    }
}

/// Entries that are there whoever wins which virtual server: endpoints of this node that may be their own clients, and
/// the health check node port.
pub fn own_entries(port: &ServicePort) -> Vec<(Set, Entry)> {
    let protocol = port.key.name.protocol;
    let used = EndpointFlags::CLUSTER.with(EndpointFlags::LOCAL);
    let own_clients = port.with_any_flag(used).filter(|e| !e.flags.contains(EndpointFlags::ELSEWHERE));
    let loop_back = |e: &ModelEndpoint| Entry::IpPortIp(e.endpoint.ip, protocol, e.endpoint.port, e.endpoint.ip);
    let mut entries: Vec<_> = own_clients.map(|e| (Set::LoopBack, loop_back(e))).collect();
    if port.health_check_node_port != 0 {
        entries.push((Set::HealthCheckNodePort, Entry::Port(port.health_check_node_port)));
    }
    entries
}

/// The endpoints of a list. Those of weight 0 get no connections as long as another has more; if none has, all are alike.
fn real_servers(port: &ServicePort, list: EndpointFlags) -> BTreeMap<Endpoint, RealServer> {
    let endpoints = || port.with_any_flag(list);
    let least = u32::from(endpoints().all(|e| e.weight == 0));
    endpoints().map(|e| (e.endpoint, RealServer::active(u32::from(e.weight).max(least)))).collect()
}

/// Which endpoints serve a frontend, and who is turned away.
struct Lists {
    serves: EndpointFlags,
    policy: TrafficPolicy,
    refuses: Option<Set>,
}

impl Lists {
    /// With the Local policy, outside of which the cluster's own clients may use every endpoint, one list must do for
    /// both: the local endpoints, and only where there are none all of them, with outsiders kept away.
    fn of(port: &ServicePort, role: Role) -> Lists {
        let policy = if role == Role::ClusterIp { port.internal_policy } else { port.external_policy };
        let (has_local, has_any) = (port.local_endpoints().next().is_some(), port.cluster_endpoints().next().is_some());
        let nobody = || Some(if port.has_any_endpoint { Set::Drop } else { Set::Reject });
        let (serves, refuses) = match (policy, role) {
            (TrafficPolicy::Cluster, _) => (EndpointFlags::CLUSTER, if has_any { None } else { nobody() }),
            (TrafficPolicy::Local, _) if has_local => (EndpointFlags::LOCAL, None),
            (TrafficPolicy::Local, Role::ClusterIp) => (EndpointFlags::LOCAL, nobody()),
            (TrafficPolicy::Local, _) if has_any => (EndpointFlags::CLUSTER, Some(Set::DropOutside)),
            (TrafficPolicy::Local, _) => (EndpointFlags::CLUSTER, nobody()),
        };
        Lists { serves, policy, refuses }
    }
}

fn virtual_server(port: &ServicePort, settings: &Settings) -> VirtualServer {
    let asked = port.tuning.as_ref().and_then(|tuning| tuning.scheduler.as_ref());
    let asked = asked.filter(|name| !settings.ipvs.missing_schedulers.contains(*name));
    let name: &Arc<str> = asked.unwrap_or(&settings.ipvs.scheduler);
    let scheduler = Scheduler::new(name).unwrap_or_else(Scheduler::round_robin);
    let mut flags = ServerFlags(port.tuning.as_ref().map_or(0, |tuning| tuning.scheduler_flags));
    // kube-proxy hashes the source port too where all services use mh (contract 4.3).
    if asked.is_none() && scheduler.as_str() == "mh" && flags.0 == 0 {
        flags = flags.with(ServerFlags::SCHED_2);
    }
    // Else the kernel refuses clients whose hash leads to a real server of weight 0, such as one that drains.
    if matches!(scheduler.as_str(), "sh" | "mh") {
        flags = flags.with(ServerFlags::SCHED_1);
    }
    if port.affinity_seconds.is_some() {
        flags = flags.with(ServerFlags::PERSISTENT);
    }
    let timeout = port.affinity_seconds.unwrap_or(0);
    VirtualServer { scheduler, flags, timeout, prefix: port.family().bits() }
}

fn entries(
    port: &ServicePort,
    settings: &Settings,
    key: &VirtualServerKey,
    role: Role,
    lists: &Lists,
) -> Vec<(Set, Entry)> {
    let frontend = Entry::IpPort(key.address, key.protocol, key.port);
    let is_local = lists.policy == TrafficPolicy::Local;
    let mut entries = vec![(Set::VirtualServers, frontend)];
    match role {
        Role::ClusterIp => entries.push((Set::ClusterIp, frontend)),
        Role::ExternalIp if is_local => entries.push((Set::ExternalIpLocal, frontend)),
        Role::ExternalIp => entries.push((Set::ExternalIp, frontend)),
        Role::LoadBalancer => {
            entries.push((Set::LoadBalancer, frontend));
            if is_local {
                entries.push((Set::LoadBalancerLocal, frontend));
            }
            if port.has_any_endpoint {
                entries.extend(source_entries(port, settings, key));
            }
        }
        Role::NodePort => entries.extend(node_port_entries(key, is_local)),
    }
    entries.extend(lists.refuses.map(|set| (set, frontend)));
    entries.sort_unstable();
    entries
}

/// Who may use a VIP (contract 2.8). The service's VIPs themselves may where this node may: a node that has them as
/// addresses uses them as sources.
fn source_entries(port: &ServicePort, settings: &Settings, key: &VirtualServerKey) -> Vec<(Set, Entry)> {
    let VirtualServerKey { address, port: number, protocol } = *key;
    if port.source_ranges.is_empty() {
        return Vec::new();
    }
    let ranges = port.source_ranges.iter();
    let mut entries: Vec<_> = ranges
        .map(|range| (Set::LoadBalancerSourceCidr, Entry::IpPortNet(address, protocol, number, range.trunc())))
        .collect();
    entries.push((Set::LoadBalancerFw, Entry::IpPort(address, protocol, number)));
    let node = settings.node_ips.get(port.family()).as_ref();
    if node.is_some_and(|node| port.source_ranges.iter().any(|range| range.contains(node))) {
        let own = port.load_balancer_ips.iter();
        entries.extend(own.map(|vip| (Set::LoadBalancerSourceIp, Entry::IpPortIp(address, protocol, number, *vip))));
    }
    entries
}

fn node_port_entries(key: &VirtualServerKey, is_local: bool) -> Vec<(Set, Entry)> {
    let port = Entry::Port(key.port);
    let (all, local, entry) = match key.protocol {
        Protocol::Tcp => (Set::NodePortTcp, Set::NodePortLocalTcp, port),
        Protocol::Udp => (Set::NodePortUdp, Set::NodePortLocalUdp, port),
        Protocol::Sctp => {
            (Set::NodePortSctp, Set::NodePortLocalSctp, Entry::IpPort(key.address, key.protocol, key.port))
        }
    };
    let mut entries = vec![(all, entry)];
    if is_local {
        entries.push((local, entry));
    }
    entries
}
