//! The node's address of each family, and which family comes first (contract 1.11).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::net::{Family, PerFamily};

/// Logged where the primary address is a guess.
pub const HINT_LOOPBACK: &str =
    "Can't determine this node's IP, assuming loopback; if this is incorrect, please set the --bind-address flag";

/// The addresses of a node, and its primary family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAddresses {
    /// The family to serve where only one can be.
    pub primary: Family,
    ips: PerFamily<Option<IpAddr>>,
}

impl NodeAddresses {
    /// Of the addresses of the Node object (InternalIPs, then ExternalIPs), the first and the first of the other family
    /// count. A bind address that is one address replaces the node's of its family, and makes this family the primary
    /// one.
    pub fn new(node_ips: &[IpAddr], bind: Option<IpAddr>) -> Self {
        let mut ips = PerFamily::new(|family| node_ips.iter().find(|ip| Family::of(ip) == family).copied());
        let mut primary = node_ips.first().map_or(Family::V4, Family::of);
        if let Some(bind) = bind.filter(|ip| !ip.is_unspecified()) {
            primary = Family::of(&bind);
            *ips.get_mut(primary) = Some(bind);
        }
        NodeAddresses { primary, ips }
    }

    /// The addresses that are known.
    pub fn known(&self) -> PerFamily<Option<IpAddr>> {
        self.ips
    }

    /// The address of a family; loopback stands for one that is not known.
    pub fn ip(&self, family: Family) -> IpAddr {
        self.ips.get(family).unwrap_or(match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        })
    }

    /// The primary address is loopback, so [`HINT_LOOPBACK`] is to be logged.
    pub fn is_guess(&self) -> bool {
        self.ip(self.primary).is_loopback()
    }

    /// What `primary` stands for among the addresses of node ports (contract 1.12): an address of each family, as far as
    /// known. None at all means every address.
    pub fn as_networks(&self) -> Vec<IpNet> {
        let known = self.ips.iter().filter_map(|(_, ip)| *ip);
        known.filter(|ip| !ip.is_loopback()).map(IpNet::from).collect()
    }
}

/// The host cannot serve the family that comes first (contract 1.14).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no support for primary IP family \"{0}\": switch the family on in the kernel, or set --bind-address to an address \
     of the other family"
)]
pub struct NoPrimaryFamily(pub Family);

/// Whether the primary family is among those that can be served.
///
/// # Errors
/// It is not.
pub fn primary_supported(primary: Family, served: &[Family]) -> Result<(), NoPrimaryFamily> {
    if served.contains(&primary) { Ok(()) } else { Err(NoPrimaryFamily(primary)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| ip(text)).collect()
    }

    #[test]
    fn q70_to_q83_node_ips() {
        let (v4, v6, lo4, lo6) = ("192.168.1.1", "fd00:1234::1", "127.0.0.1", "::1");
        use Family::{V4, V6};
        type Row<'a> = (&'a str, &'a [&'a str], &'a str, Family, &'a str, &'a str);
        let rows: [Row<'_>; 16] = [
            ("Q70", &[], "10.20.30.40", V4, "10.20.30.40", lo6),
            ("Q71", &[], "fd00:4321::2", V6, lo4, "fd00:4321::2"),
            ("Q72", &[], "", V4, lo4, lo6),
            ("Q73", &[], "0.0.0.0", V4, lo4, lo6),
            ("Q74", &[v4], "0.0.0.0", V4, v4, lo6),
            ("Q75", &[v4], "::", V4, v4, lo6),
            ("Q76", &[v6], "0.0.0.0", V6, lo4, v6),
            ("Q77", &[v6], "::", V6, lo4, v6),
            ("Q78", &[v4, v6], "::", V4, v4, v6),
            ("Q79", &[v6, v4], "0.0.0.0", V6, v4, v6),
            ("Q80", &[v4, v6], "80.80.80.80", V4, "80.80.80.80", v6),
            ("Q81", &[v6, v4], "fd00::80", V6, v4, "fd00::80"),
            ("Q82", &[v6, v4], "80.80.80.80", V4, "80.80.80.80", v6),
            ("Q83", &[v4, v6], "fd00::80", V6, v4, "fd00::80"),
            ("the first of each", &[v6, v4, "10.0.0.9", "fd00::9"], "", V6, v4, v6),
            ("the first of each, the other one late", &[v4, "10.0.0.9", v6], "", V4, v4, v6),
        ];
        for (row, node, bind, primary, expected_v4, expected_v6) in rows {
            let found = NodeAddresses::new(&ips(node), bind.parse().ok());
            assert_eq!(found.primary, primary, "{row}");
            assert_eq!(found.ip(V4), ip(expected_v4), "{row}");
            assert_eq!(found.ip(V6), ip(expected_v6), "{row}");
            assert_eq!(found.is_guess(), found.ip(primary).is_loopback(), "{row}");
        }
    }

    /// Contract 1.12: loopback addresses are left out, and nothing left is the empty list.
    #[test]
    fn primary_as_networks() {
        let nets = |node: &[&str], bind: &str| -> Vec<String> {
            let found = NodeAddresses::new(&ips(node), bind.parse().ok());
            found.as_networks().iter().map(ToString::to_string).collect()
        };
        assert_eq!(nets(&["10.0.0.1", "fd00::1"], ""), ["10.0.0.1/32", "fd00::1/128"]);
        assert_eq!(nets(&["fd00::1", "10.0.0.1"], "10.0.0.2"), ["10.0.0.2/32", "fd00::1/128"]);
        assert_eq!(nets(&["fd00::1"], ""), ["fd00::1/128"]);
        for (node, bind) in [(&[][..], ""), (&["127.0.0.1"], ""), (&[], "127.0.0.2"), (&["::1"], "127.0.0.1")] {
            assert!(nets(node, bind).is_empty(), "{node:?} {bind}");
        }
    }

    #[test]
    fn the_primary_family_must_be_served() {
        assert_eq!(primary_supported(Family::V4, &[Family::V4]), Ok(()));
        assert_eq!(primary_supported(Family::V6, &Family::ALL), Ok(()));
        let error = primary_supported(Family::V6, &[Family::V4]).unwrap_err().to_string();
        assert!(error.starts_with("no support for primary IP family \"IPv6\""), "{error}");
    }
}
