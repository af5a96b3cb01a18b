//! What a service answers to beside its cluster IP, in one family (contract 2.3).

use std::net::IpAddr;

use ipnet::IpNet;

use super::Options;
use crate::net::Family;
use crate::state::{IpMode, Service, ServiceType, TrafficPolicy};

/// The part of a service that all its ports share, of one family.
pub struct Frontends {
    /// Sorted, each once; empty where external IPs are not allowed.
    pub external_ips: Box<[IpAddr]>,
    /// Sorted, each once; without those that are left to the load balancer.
    pub load_balancer_ips: Box<[IpAddr]>,
    /// Sorted, each once; empty if everyone may.
    pub source_ranges: Box<[IpNet]>,
    /// `Local` only where there is external traffic that it could mean.
    pub external_policy: TrafficPolicy,
    /// 0 = none.
    pub health_check_node_port: u16,
}

impl Frontends {
    pub fn of(service: &Service, family: Family, options: &Options) -> Frontends {
        let external_ips = if options.external_ips_allowed {
            sorted(service.external_ips.iter().copied().filter(|ip| Family::of(ip) == family))
        } else {
            Box::default()
        };
        let external_policy = external_policy(service, !external_ips.is_empty());
        let has_health_check =
            service.service_type == ServiceType::LoadBalancer && external_policy == TrafficPolicy::Local;
        Frontends {
            external_policy,
            external_ips,
            load_balancer_ips: load_balancer_ips(service, family),
            source_ranges: source_ranges(service, family),
            health_check_node_port: if has_health_check { service.health_check_node_port } else { 0 },
        }
    }
}

/// The external policy, `Cluster` where the service type has no external traffic.
fn external_policy(service: &Service, has_external_ips: bool) -> TrafficPolicy {
    match service.service_type {
        ServiceType::LoadBalancer | ServiceType::NodePort => service.external_policy,
        ServiceType::ClusterIp if has_external_ips => service.external_policy,
        ServiceType::ClusterIp | ServiceType::ExternalName => TrafficPolicy::Cluster,
    }
}

/// Whatever the type of the service: it is the status that counts.
fn load_balancer_ips(service: &Service, family: Family) -> Box<[IpAddr]> {
    let ours = service.load_balancer.iter().filter(|entry| entry.mode == IpMode::Vip);
    sorted(ours.map(|entry| entry.ip).filter(|ip| Family::of(ip) == family))
}

/// The ranges of this family. One that contains everything makes the others meaningless. Ranges of the other family
/// alone restrict nothing here.
fn source_ranges(service: &Service, family: Family) -> Box<[IpNet]> {
    let ranges = sorted(service.source_ranges.iter().copied().filter(|net| Family::of_net(net) == family));
    if ranges.iter().any(|net| net.prefix_len() == 0) { Box::default() } else { ranges }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Box<[T]> {
    let mut items: Vec<T> = items.collect();
    items.sort_unstable();
    items.dedup();
    items.into()
}
