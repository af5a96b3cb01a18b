//! The sets of IPVS mode (contract 4.4): names, types, who looks them up.

use crate::kernel::ipset::{SetName, SetSpec, SetType, TEMPORARY};
use crate::net::Family;

/// A set of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Set {
    LoopBack,
    ClusterIp,
    ExternalIp,
    ExternalIpLocal,
    LoadBalancer,
    LoadBalancerLocal,
    LoadBalancerFw,
    LoadBalancerSourceCidr,
    LoadBalancerSourceIp,
    NodePortTcp,
    NodePortLocalTcp,
    NodePortUdp,
    NodePortLocalUdp,
    NodePortSctp,
    NodePortLocalSctp,
    HealthCheckNodePort,
    /// Addresses on the service device.
    IpvsIps,
    /// Every virtual server that is ours: how they are known after a restart.
    VirtualServers,
    /// Frontends for which no endpoint is anywhere: REJECT.
    Reject,
    /// Frontends for which there are endpoints, and none that they may use: DROP.
    Drop,
    /// Frontends with the Local policy for which there are endpoints, and none on this node: DROP what comes from
    /// outside, and serve pods and the node itself.
    DropOutside,
}

impl Set {
    pub const ALL: [Set; 21] = [
        Set::LoopBack,
        Set::ClusterIp,
        Set::ExternalIp,
        Set::ExternalIpLocal,
        Set::LoadBalancer,
        Set::LoadBalancerLocal,
        Set::LoadBalancerFw,
        Set::LoadBalancerSourceCidr,
        Set::LoadBalancerSourceIp,
        Set::NodePortTcp,
        Set::NodePortLocalTcp,
        Set::NodePortUdp,
        Set::NodePortLocalUdp,
        Set::NodePortSctp,
        Set::NodePortLocalSctp,
        Set::HealthCheckNodePort,
        Set::IpvsIps,
        Set::VirtualServers,
        Set::Reject,
        Set::Drop,
        Set::DropOutside,
    ];

    /// Owner of the name, the name itself, and what the set is.
    const fn facts(self) -> (&'static str, &'static str, SetType) {
        use SetType::{BitmapPort, HashIp, HashIpPort, HashIpPortIp, HashIpPortNet};
        match self {
            Set::LoopBack => ("KUBE-", "LOOP-BACK", HashIpPortIp),
            Set::ClusterIp => ("KUBE-", "CLUSTER-IP", HashIpPort),
            Set::ExternalIp => ("KUBE-", "EXTERNAL-IP", HashIpPort),
            Set::ExternalIpLocal => ("KUBE-", "EXTERNAL-IP-LOCAL", HashIpPort),
            Set::LoadBalancer => ("KUBE-", "LOAD-BALANCER", HashIpPort),
            Set::LoadBalancerLocal => ("KUBE-", "LOAD-BALANCER-LOCAL", HashIpPort),
            Set::LoadBalancerFw => ("KUBE-", "LOAD-BALANCER-FW", HashIpPort),
            Set::LoadBalancerSourceCidr => ("KUBE-", "LOAD-BALANCER-SOURCE-CIDR", HashIpPortNet),
            Set::LoadBalancerSourceIp => ("KUBE-", "LOAD-BALANCER-SOURCE-IP", HashIpPortIp),
            Set::NodePortTcp => ("KUBE-", "NODE-PORT-TCP", BitmapPort),
            Set::NodePortLocalTcp => ("KUBE-", "NODE-PORT-LOCAL-TCP", BitmapPort),
            Set::NodePortUdp => ("KUBE-", "NODE-PORT-UDP", BitmapPort),
            Set::NodePortLocalUdp => ("KUBE-", "NODE-PORT-LOCAL-UDP", BitmapPort),
            Set::NodePortSctp => ("KUBE-", "NODE-PORT-SCTP-HASH", HashIpPort),
            Set::NodePortLocalSctp => ("KUBE-", "NODE-PORT-LOCAL-SCTP-HASH", HashIpPort),
            Set::HealthCheckNodePort => ("KUBE-", "HEALTH-CHECK-NODE-PORT", BitmapPort),
            Set::IpvsIps => ("KUBE-", "IPVS-IPS", HashIp),
            Set::VirtualServers => ("WEIR-", "VIRTUAL-SERVERS", HashIpPort),
            Set::Reject => ("WEIR-", "REJECT", HashIpPort),
            Set::Drop => ("WEIR-", "DROP", HashIpPort),
            Set::DropOutside => ("WEIR-", "DROP-OUTSIDE", HashIpPort),
        }
    }

    /// `KUBE-CLUSTER-IP`, in IPv6 `KUBE-6-CLUSTER-IP`, cut to what the kernel allows.
    pub fn name(self, family: Family) -> SetName {
        let (owner, name, _) = self.facts();
        let mut full = match family {
            Family::V4 => format!("{owner}{name}"),
            Family::V6 => format!("{owner}6-{name}"),
        };
        full.truncate(SetName::MAX);
        SetName::new(full)
    }

    /// What kube-proxy makes it (contract 4.4).
    pub fn spec(self, family: Family) -> SetSpec {
        let (_, _, set_type) = self.facts();
        SetSpec { set_type, family, comments: false }
    }

    /// The set refuses what it holds. Such an entry must be there before the frontend can be reached, and may go only
    /// when the frontend is served.
    pub fn is_guard(self) -> bool {
        matches!(self, Set::LoadBalancerFw | Set::Reject | Set::Drop | Set::DropOutside)
    }

    /// kube-proxy's sets that name virtual servers by address, protocol and port.
    pub const FRONTENDS: [Set; 4] = [Set::ClusterIp, Set::ExternalIp, Set::ExternalIpLocal, Set::LoadBalancer];
}

/// Whether a set is ours to change and destroy: kube-proxy's names, which are also weir's, and weir's own.
pub fn is_ours(name: &str) -> bool {
    name.starts_with("WEIR-")
        || name.starts_with(TEMPORARY)
        || name.starts_with("KUBE-") && Family::ALL.iter().any(|f| Set::ALL.iter().any(|s| s.name(*f).as_str() == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kube_proxys() {
        let name = |set: Set| (set.name(Family::V4).as_str().to_owned(), set.name(Family::V6).as_str().to_owned());
        let pair = |v4: &str, v6: &str| (v4.to_owned(), v6.to_owned());
        assert_eq!(name(Set::ClusterIp), pair("KUBE-CLUSTER-IP", "KUBE-6-CLUSTER-IP"));
        let cut = pair("KUBE-LOAD-BALANCER-SOURCE-CIDR", "KUBE-6-LOAD-BALANCER-SOURCE-CID");
        assert_eq!(name(Set::LoadBalancerSourceCidr), cut);
        let cut = pair("KUBE-NODE-PORT-LOCAL-SCTP-HASH", "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS");
        assert_eq!(name(Set::NodePortLocalSctp), cut);
        assert_eq!(name(Set::VirtualServers), pair("WEIR-VIRTUAL-SERVERS", "WEIR-6-VIRTUAL-SERVERS"));
    }

    #[test]
    fn no_two_sets_have_one_name() {
        let names = Family::ALL.into_iter().flat_map(|family| Set::ALL.map(|set| set.name(family)));
        let all: std::collections::BTreeSet<_> = names.collect();
        assert_eq!(all.len(), 2 * Set::ALL.len());
    }

    #[test]
    fn others_sets_are_not_ours() {
        assert!(["KUBE-CLUSTER-IP", "KUBE-6-IPVS-IPS", "WEIR-DROP", "WEIR-6-ANY"].into_iter().all(is_ours));
        assert!(!["KUBE-SOMETHING", "KUBE-", "kube-cluster-ip", "cali40s:x", "blocklist"].into_iter().any(is_ours));
    }
}
