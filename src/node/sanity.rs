//! Whether the configuration fits the node (contract 1.13): what is odd is a warning, what cannot work is an error.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Detection;
use crate::net::Family;

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Configuration<'a> {
    pub primary: Family,
    /// This host serves both families.
    pub dual_stack: bool,
    pub detection: Detection<'a>,
    pub cluster_cidrs: &'a [IpNet],
    /// Of the Node object.
    pub pod_cidrs: &'a [IpNet],
    /// With `primary` replaced by the node's addresses.
    pub node_port_addresses: &'a [IpNet],
    pub ipvs_exclude_cidrs: &'a [IpNet],
    /// Windows only, and looked at everywhere.
    pub winkernel_source_vip: Option<IpAddr>,
    pub healthz_bind_address: Option<IpAddr>,
    pub metrics_bind_address: Option<IpAddr>,
}

/// Something odd. The log says `Kube-proxy configuration may be incomplete or incorrect` before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kube-proxy configuration may be incomplete or incorrect: {}", self.0)
    }
}

/// Something that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kube-proxy configuration is incorrect: {}; {remedy}", all.join("; "))]
pub struct Incorrect {
    /// All that is wrong, the fatal and the odd.
    all: Vec<String>,
    remedy: String,
}

/// Whether node ports are accepted where they are meant to be.
pub fn node_ports(configuration: &Configuration<'_>) -> Option<Warning> {
    let Configuration { primary, node_port_addresses: nets, .. } = *configuration;
    let other = other(primary);
    let of_primary = nets.iter().filter(|net| Family::of_net(net) == primary).count();
    let text = if nets.is_empty() {
        "nodePortAddresses is unset; NodePort connections will be accepted on all local IPs. Consider using \
         `--nodeport-addresses primary`"
            .to_owned()
    } else if of_primary == nets.len() && looks_dual_stack(configuration) {
        format!(
            "cluster appears to be dual-stack but nodePortAddresses contains only {primary} addresses; NodePort \
             connections will be accepted on all local {other} IPs"
        )
    } else if of_primary == 0 {
        format!(
            "cluster appears to be {primary}-primary but nodePortAddresses contains only {other} addresses; NodePort \
             connections will be accepted on all local {primary} IPs"
        )
    } else {
        return None;
    };
    Some(Warning(text))
}

/// Some list is a pair of networks of both families.
fn looks_dual_stack(configuration: &Configuration<'_>) -> bool {
    let Configuration { cluster_cidrs, pod_cidrs, node_port_addresses, ipvs_exclude_cidrs, .. } = configuration;
    let lists = [cluster_cidrs, node_port_addresses, ipvs_exclude_cidrs, pod_cidrs];
    let has = |nets: &[IpNet], family| nets.iter().any(|net| Family::of_net(net) == family);
    lists.iter().any(|nets| Family::ALL.into_iter().all(|family| has(nets, family)))
}

/// Whether what belongs to one family belongs to the right one.
///
/// # Errors
/// No pod's traffic would be recognised.
pub fn families(configuration: &Configuration<'_>) -> Result<Vec<Warning>, Incorrect> {
    let Configuration { primary, dual_stack, detection, .. } = *configuration;
    let wrong = other(primary);
    let cluster = if dual_stack { format!("{primary}-primary") } else { format!("{primary}-only") };
    let (mut found, mut remedy) = (Vec::new(), None);
    if all_of(configuration.cluster_cidrs, wrong) {
        found.push(format!("cluster is {cluster} but clusterCIDRs contains only {wrong} addresses"));
        if matches!(detection, Detection::ClusterCidr(_)) && !dual_stack {
            remedy = Some(format!("add a CIDR of {primary} to clusterCIDR (--cluster-cidr)"));
        }
    }
    if all_of(configuration.pod_cidrs, wrong) {
        found.push(format!("cluster is {cluster} but node.spec.podCIDRs contains only {wrong} addresses"));
        if matches!(detection, Detection::NodeCidr(_)) {
            remedy = Some(format!("give the node a pod CIDR of {primary}, or choose another detectLocalMode"));
        }
    }
    let is_wrong = |ip: &Option<IpAddr>| ip.is_some_and(|ip| Family::of(&ip) == wrong);
    if is_wrong(&configuration.winkernel_source_vip) {
        found.push(format!("cluster is {cluster} but winkernel.sourceVip is {wrong}"));
    }
    if !dual_stack {
        if all_of(configuration.ipvs_exclude_cidrs, wrong) {
            found.push(format!("cluster is {cluster} but ipvs.excludeCIDRs contains only {wrong} addresses"));
        }
        for (field, ip) in [
            ("healthzBindAddress", configuration.healthz_bind_address),
            ("metricsBindAddress", configuration.metrics_bind_address),
        ] {
            if is_wrong(&ip.filter(|ip| !ip.is_unspecified())) {
                found.push(format!("cluster is {cluster} but {field} is {wrong}"));
            }
        }
    }
    match remedy {
        None => Ok(found.into_iter().map(Warning).collect()),
        Some(remedy) => Err(Incorrect { all: found, remedy }),
    }
}

fn other(family: Family) -> Family {
    match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    }
}

/// Something is there, and all of it is of this family.
fn all_of(nets: &[IpNet], family: Family) -> bool {
    !nets.is_empty() && nets.iter().all(|net| Family::of_net(net) == family)
}

#[cfg(test)]
#[path = "sanity_tests.rs"]
mod tests;
