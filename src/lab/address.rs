//! Who has which address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::LabError;
use crate::net::{Family, PerFamily};

/// The network between the nodes and the outside.
pub const LAN_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 99, 0), 24);
pub const LAN_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 0), 64);
/// The pods of `node`.
pub const NODE_PODS_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 1, 0), 24);
pub const NODE_PODS_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, 0), 64);
/// The pods of `node2`.
pub const NODE2_PODS_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 2, 0), 24);
pub const NODE2_PODS_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x10, 0x244, 2, 0, 0, 0, 0), 64);

/// A network of each family.
pub(super) type Nets = PerFamily<IpNet>;

pub(super) const LAN: Nets = Nets { v4: IpNet::V4(LAN_V4), v6: IpNet::V6(LAN_V6) };
pub(super) const NODE_PODS: Nets = Nets { v4: IpNet::V4(NODE_PODS_V4), v6: IpNet::V6(NODE_PODS_V6) };
pub(super) const NODE2_PODS: Nets = Nets { v4: IpNet::V4(NODE2_PODS_V4), v6: IpNet::V6(NODE2_PODS_V6) };

/// Cluster IPs, external IPs and load balancer VIPs, as a cluster commonly has them.
pub(super) fn default_service_networks() -> Vec<IpNet> {
    let v4 = |a, b, c, d, length| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length));
    let v6 = |b, c, d, length| IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(b, c, d, 0, 0, 0, 0, 0), length));
    vec![
        v4(10, 96, 0, 0, 12),
        v4(203, 0, 113, 0, 24),
        v4(198, 51, 100, 0, 24),
        v6(0xfd00, 0x10, 0x96, 108),
        v6(0x2001, 0xdb8, 0x203, 64),
        v6(0x2001, 0xdb8, 0x51, 64),
    ]
}

/// The address with this number in each network.
///
/// The IPv6 number has the digits of the decimal IPv4 number, so that the two addresses of a host look alike:
/// `192.168.99.10` and `2001:db8:99::10`.
pub(super) fn numbered(nets: &Nets, number: u128) -> Result<PerFamily<IpAddr>, LabError> {
    Ok(PerFamily { v4: nth(nets.v4, number)?, v6: nth(nets.v6, decimal_as_hex(number))? })
}

fn nth(net: IpNet, number: u128) -> Result<IpAddr, LabError> {
    let full = || LabError::NetworkFull { net, number };
    let address = match net {
        IpNet::V4(net) => {
            let offset = u32::try_from(number).map_err(|_| full())?;
            IpAddr::V4(Ipv4Addr::from(u32::from(net.network()).checked_add(offset).ok_or_else(full)?))
        }
        IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from(u128::from(net.network()).checked_add(number).ok_or_else(full)?)),
    };
    let usable = net.contains(&address) && address != net.network() && address != net.broadcast();
    if usable { Ok(address) } else { Err(full()) }
}

fn decimal_as_hex(number: u128) -> u128 {
    if number == 0 { 0 } else { decimal_as_hex(number / 10) * 16 + number % 10 }
}

/// The network of one address.
pub(super) fn host_net(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// The address with the length of the network that it is in.
pub(super) fn with_length(address: IpAddr, net: &IpNet) -> IpNet {
    IpNet::new(address, net.prefix_len()).unwrap_or_else(|_| IpNet::from(address))
}

/// Everything, in a family.
pub(super) fn default_route(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::V4(Ipv4Net::default()),
        Family::V6 => IpNet::V6(Ipv6Net::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addresses_of_a_host_look_alike() {
        let addresses = numbered(&LAN, 10).unwrap();
        assert_eq!(addresses.v4.to_string(), "192.168.99.10");
        assert_eq!(addresses.v6.to_string(), "2001:db8:99::10");
        assert_eq!(numbered(&NODE_PODS, 123).unwrap().v6.to_string(), "fd00:10:244:1::123");
    }

    #[test]
    fn a_full_network_is_an_error() {
        assert_eq!(numbered(&NODE_PODS, 254).unwrap().v4.to_string(), "10.244.1.254");
        for number in [0, 255, 256, u128::from(u32::MAX) + 1] {
            assert!(numbered(&NODE_PODS, number).is_err(), "{number}");
        }
    }
}
