//! What of the host rules depend on, read from the system.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::SockaddrStorage;

use crate::cmd::Failure;
use crate::cmd::accounting::Accounting;
use crate::kernel::link::SERVICE_DEVICE;
use crate::net::{Family, PerFamily};

/// What of the host rules depend on.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// Addresses of all interfaces with the prefixes of the networks that they are in, sorted, each once. The device for
    /// service addresses does not count: a node port that answered there would answer on every service (contract 4.3).
    pub addresses: Vec<IpNet>,
    /// `nf_conntrack_tcp_be_liberal` was set when the process started (contract 3.3).
    pub conntrack_liberal: bool,
    /// Accounting objects that rules can name.
    pub accounting: Accounting,
}

impl HostFacts {
    /// Reads the addresses of this network namespace's interfaces and the conntrack setting.
    ///
    /// # Errors
    /// See [`interface_addresses`].
    pub fn read() -> Result<Self, Failure> {
        let liberal = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal");
        Ok(HostFacts {
            addresses: interface_addresses()?,
            conntrack_liberal: liberal.is_ok_and(|value| value.trim() != "0"),
            ..HostFacts::default()
        })
    }

    /// The addresses alone, sorted, each once.
    pub fn ips(&self) -> Vec<IpAddr> {
        let mut ips: Vec<IpAddr> = self.addresses.iter().map(IpNet::addr).collect();
        ips.sort();
        ips.dedup();
        ips
    }

    /// Addresses at which others find this node.
    pub fn local_addresses(&self) -> PerFamily<Box<[IpAddr]>> {
        let ips = self.ips();
        PerFamily::new(|family| ips.iter().copied().filter(|ip| is_node_address(ip, family)).collect())
    }
}

/// Addresses of this network namespace's interfaces, as [`HostFacts::addresses`] has them.
///
/// # Errors
/// The kernel does not tell them.
pub fn interface_addresses() -> Result<Vec<IpNet>, Failure> {
    let interfaces =
        getifaddrs().map_err(|errno| Failure::new(format!("cannot list the addresses of this host: {errno}")))?;
    let found = interfaces.filter_map(|interface| Some((address_of(&interface)?, interface.interface_name)));
    Ok(of_the_node(found))
}

/// The address of an entry, if it has one. Without a mask, it is a network of its own.
fn address_of(interface: &InterfaceAddress) -> Option<IpNet> {
    let ip = ip_of(interface.address.as_ref()?)?;
    let mask = interface.netmask.as_ref().and_then(ip_of);
    let length = mask.and_then(|mask| ipnet::ip_mask_to_prefix(mask).ok());
    IpNet::new(ip, length.unwrap_or(Family::of(&ip).bits())).ok()
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
}

/// Those that are not on the device for service addresses, with the names of their devices forgotten.
fn of_the_node(found: impl Iterator<Item = (IpNet, String)>) -> Vec<IpNet> {
    let mut addresses: Vec<IpNet> =
        found.filter(|(_, device)| device != SERVICE_DEVICE).map(|(address, _)| address).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Whether others can find a node at an address: of the family, neither loopback nor an IPv6 link-local one, which is
/// many times there (contract 4.3; scenarios L59 to L63). An IPv4 address in IPv6's clothes is one of IPv4.
fn is_node_address(ip: &IpAddr, family: Family) -> bool {
    match (ip.to_canonical(), family) {
        (IpAddr::V4(ip), Family::V4) => !ip.is_loopback(),
        (IpAddr::V6(ip), Family::V6) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        _ => false,
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
