//! Which services are proxied, and by which address (contract 2.3).

use std::net::IpAddr;

use crate::net::Family;
use crate::state::{ClusterIp, Service, ServiceType};

/// The cluster IP of a family; `None` if the service is not proxied in it: it is headless, has no address yet, is an
/// ExternalName, or has no address of the family.
pub fn cluster_ip(service: &Service, family: Family) -> Option<IpAddr> {
    let ClusterIp::Ip(first) = service.cluster_ip else { return None };
    if service.service_type == ServiceType::ExternalName {
        return None;
    }
    let ip = if service.ip_families.is_empty() {
        // Written before services knew families: there is just the one address.
        first
    } else {
        let at = service.ip_families.iter().position(|listed| *listed == family)?;
        service.cluster_ips.get(at).copied().flatten()?
    };
    (Family::of(&ip) == family).then_some(ip)
}
