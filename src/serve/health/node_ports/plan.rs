//! Which sockets a health check needs, and what that changes. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::model::NodePortAddresses;
use crate::net::Family;

/// Sockets to close, then sockets to open.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub close: Vec<SocketAddr>,
    pub open: Vec<SocketAddr>,
}

/// The sockets of one service in one family. Link-local addresses of IPv6 are left out: they cannot be bound without an
/// interface, and no load balancer asks there.
pub(super) fn sockets(family: Family, port: u16, addresses: &NodePortAddresses) -> BTreeSet<SocketAddr> {
    let at = |ip| SocketAddr::new(ip, port);
    match addresses {
        NodePortAddresses::All => BTreeSet::from([at(match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        })]),
        NodePortAddresses::Only(ips) => {
            let can_be_bound = |ip: &IpAddr| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            ips.iter().filter(|ip| Family::of(ip) == family && can_be_bound(ip)).copied().map(at).collect()
        }
    }
}

/// What leads from the open sockets to the wanted ones.
pub(super) fn difference<'a>(
    open: impl Iterator<Item = &'a SocketAddr> + Clone,
    wanted: &BTreeSet<SocketAddr>,
) -> Difference {
    let close = open.clone().filter(|address| !wanted.contains(address)).copied().collect();
    let open: BTreeSet<&SocketAddr> = open.collect();
    Difference { close, open: wanted.iter().filter(|address| !open.contains(address)).copied().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(ips: &[&str]) -> NodePortAddresses {
        NodePortAddresses::Only(ips.iter().map(|ip| ip.parse().unwrap()).collect())
    }

    fn texts(sockets: impl IntoIterator<Item = SocketAddr>) -> Vec<String> {
        sockets.into_iter().map(|socket| socket.to_string()).collect()
    }

    #[test]
    fn s14_one_socket_for_an_address() {
        let all = NodePortAddresses::All;
        assert_eq!(texts(sockets(Family::V4, 9000, &all)), ["0.0.0.0:9000"]);
        assert_eq!(texts(sockets(Family::V6, 9000, &all)), ["[::]:9000"]);
        let some = only(&["127.0.0.1", "10.0.0.1", "fe80::1", "2001:db8::1"]);
        assert_eq!(texts(sockets(Family::V4, 9000, &some)), ["10.0.0.1:9000", "127.0.0.1:9000"]);
        assert_eq!(texts(sockets(Family::V6, 9000, &some)), ["[2001:db8::1]:9000"]);
        assert_eq!(sockets(Family::V4, 9000, &only(&[])), BTreeSet::new());
    }

    #[test]
    fn only_what_differs_is_touched() {
        let of = |open: &[&str], wanted: &[&str]| {
            let open = sockets(Family::V4, 1, &only(open));
            let difference = difference(open.iter(), &sockets(Family::V4, 1, &only(wanted)));
            (texts(difference.close), texts(difference.open))
        };
        let none: Vec<String> = Vec::new();
        assert_eq!(of(&["10.0.0.1"], &["10.0.0.1"]), (none.clone(), none.clone()));
        assert_eq!(
            of(&["10.0.0.1", "10.0.0.2"], &["10.0.0.2", "10.0.0.3"]),
            (vec!["10.0.0.1:1".to_owned()], vec!["10.0.0.3:1".to_owned()])
        );
        assert_eq!(of(&["10.0.0.1"], &[]), (vec!["10.0.0.1:1".to_owned()], none));
    }
}
