//! Node egress: to which networks pods keep their own addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::HostFacts;
use crate::cmd::Failure;
use crate::cmd::options::{DetectLocalMode, RuleOptions};
use crate::model::Egress;
use crate::net::{Family, PerFamily};
use crate::state::Node;

/// Never masqueraded: link-local and multicast addresses do not leave the link or have no reply.
const NEVER: [IpNet; 4] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
];

/// Egress needs to tell pods by their addresses: where packets leave, the interface that they came in by is not known any
/// more.
///
/// # Errors
/// One line that names what else has to be given.
pub(super) fn check(rules: &RuleOptions) -> Result<(), Failure> {
    if !rules.egress.masquerade {
        return Ok(());
    }
    let remedy = "give --cluster-cidr, or --detect-local-mode NodeCIDR";
    let mode = match rules.detect_local_mode {
        DetectLocalMode::ClusterCidr if rules.cluster_cidr.is_empty() => {
            return Err(Failure::new(format!("--masquerade-egress needs the networks of pods: {remedy}")));
        }
        DetectLocalMode::ClusterCidr | DetectLocalMode::NodeCidr => return Ok(()),
        DetectLocalMode::BridgeInterface => "BridgeInterface",
        DetectLocalMode::InterfaceNamePrefix => "InterfaceNamePrefix",
    };
    Err(Failure::new(format!(
        "--masquerade-egress needs the networks of pods, and --detect-local-mode {mode} tells pods by interfaces: {remedy}"
    )))
}

/// A worry about node egress that is no mistake: one line.
pub(super) fn doubt(rules: &RuleOptions) -> Option<&'static str> {
    let is_alone = rules.egress.masquerade
        && rules.detect_local_mode == DetectLocalMode::NodeCidr
        && rules.cluster_cidr.is_empty()
        && rules.egress.non_masquerade_cidrs().next().is_none();
    is_alone.then_some(
        "--masquerade-egress without --cluster-cidr or --non-masquerade-cidrs: pods of other nodes are not known, and see \
         this node's address instead of a pod's",
    )
}

/// What is masqueraded, if it was asked for.
pub(super) fn egress(rules: &RuleOptions, node: Option<&Node>, host: &HostFacts) -> Option<Egress> {
    if !rules.egress.masquerade {
        return None;
    }
    let pods = node.map(|node| &*node.pod_cidrs).unwrap_or_default();
    let all = rules.cluster_cidr.iter().chain(pods).copied();
    let all = all.chain(node_networks(rules, node, host)).chain(NEVER).chain(rules.egress.non_masquerade_cidrs());
    let nets = aggregated(all);
    let of = |family| nets.iter().copied().filter(|net| Family::of_net(net) == family).collect();
    Some(Egress { non_masquerade: PerFamily::new(of) })
}

/// The networks that the node's addresses are in: other nodes are there.
fn node_networks(rules: &RuleOptions, node: Option<&Node>, host: &HostFacts) -> Vec<IpNet> {
    let known = node.map(|node| &*node.ips).unwrap_or_default();
    let is_ours = |ip: &IpAddr| known.contains(ip) || rules.bind_address.as_ref() == Some(ip);
    // A prefix of no length is a point-to-point link's way to say that it has no network.
    let nets = host.addresses.iter().filter(|address| is_ours(&address.addr()) && address.prefix_len() > 0);
    nets.map(IpNet::trunc).collect()
}

/// The same addresses with as few networks as they take: sorted, none within another, and none of `/0`, which a set of
/// networks cannot hold (`ip_set_hash_net` of Linux): that is two halves.
fn aggregated(nets: impl Iterator<Item = IpNet>) -> Vec<IpNet> {
    let nets = IpNet::aggregate(&nets.collect());
    let halves = |net: IpNet| -> Vec<IpNet> {
        match net.prefix_len() {
            0 => net.subnets(1).into_iter().flatten().collect(),
            _ => vec![net],
        }
    };
    let mut nets: Vec<IpNet> = nets.into_iter().flat_map(halves).collect();
    nets.sort();
    nets
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
