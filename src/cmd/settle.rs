//! What flags and file mean on this host: asks the system, once, and checks what belongs together. [`complete()`] is the
//! way from what was typed to what is done; `host` is what the system says; `ipvs` and `egress` are the parts of IPVS mode
//! and of node egress.

mod complete;
mod egress;
mod host;
mod ipvs;
#[cfg(test)]
mod testing;
mod typed;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

pub use complete::{Action, Completed, ConntrackOptions, Endpoints, Settled, complete};
pub use host::{HostFacts, interface_addresses};

use super::Failure;
use super::options::{DetectLocalMode, NodePortAddress, ProxyMode, RuleOptions};
use crate::model::{NodePortAddresses, Settings};
use crate::net::{Family, PerFamily};
use crate::node::{Detection, NodeAddresses, detectors};
use crate::state::Node;

/// The name of this node: what was said, or the host's name; trimmed and in lower case (contract 1.7).
///
/// # Errors
/// Neither has a letter.
fn node_name(said: &str) -> Result<Arc<str>, Failure> {
    let name = match said {
        "" => nix::unistd::gethostname()
            .map_err(|errno| Failure::new(format!("cannot read the host's name: {errno}; use --hostname-override")))?
            .to_string_lossy()
            .into_owned(),
        name if name.trim().is_empty() => {
            return Err(Failure::new(format!("empty hostname: hostnameOverride {name:?} is no name: give the node's")));
        }
        name => name.to_owned(),
    };
    let name = name.trim().to_lowercase();
    if name.is_empty() { Err(Failure::new("this host has no name: use --hostname-override")) } else { Ok(name.into()) }
}

/// What weir is stricter about than kube-proxy, which would fail later: in the kernel, or not at all.
///
/// # Errors
/// One line that names the flags and values.
fn check(rules: &RuleOptions) -> Result<(), Failure> {
    match rules.detect_local_mode {
        DetectLocalMode::ClusterCidr | DetectLocalMode::NodeCidr => {}
        DetectLocalMode::BridgeInterface => check_interface("--pod-bridge-interface", &rules.pod_bridge_interface, 15)?,
        DetectLocalMode::InterfaceNamePrefix => {
            check_interface("--pod-interface-name-prefix", &rules.pod_interface_name_prefix, 14)?;
        }
    }
    ipvs::check(rules)?;
    egress::check(rules)
}

/// What is no mistake and may still not be what was meant: a line each.
pub fn doubts(rules: &RuleOptions) -> impl Iterator<Item = &'static str> {
    let no_cidr = rules.detect_local_mode == DetectLocalMode::ClusterCidr && rules.cluster_cidr.is_empty();
    let no_cidr = no_cidr.then_some(
        "no --cluster-cidr: traffic of local pods cannot be told from other traffic; the rules that need it \
         (masquerading from outside to cluster IPs, local pods to external addresses) are left out",
    );
    no_cidr.into_iter().chain(egress::doubt(rules))
}

/// An interface's name or the beginning of one, as the kernel allows it: `IFNAMSIZ` of uapi `linux/if.h` is 16, of which
/// one is the NUL, and another one the `+` after a prefix.
fn check_interface(flag: &str, value: &Option<String>, longest: usize) -> Result<(), Failure> {
    let name = value.as_deref().unwrap_or_default();
    if name.len() > longest {
        return Err(Failure::new(format!("{flag} {name:?}: an interface has at most {longest} bytes here")));
    }
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || "/:+!\"'\\".contains(c);
    match name.chars().find(|c| is_bad(*c)) {
        Some(bad) => Err(Failure::new(format!("{flag} {name:?}: an interface's name has no {bad:?}"))),
        None => Ok(()),
    }
}

/// What can only be told once the host is known: networks of pods that no family can use (contract 1.13).
///
/// # Errors
/// All of `--cluster-cidr` is of families that this host does not serve.
pub fn check_families(rules: &RuleOptions, families: &[Family]) -> Result<(), Failure> {
    let served = |net: &IpNet| families.contains(&Family::of_net(net));
    let is_used = rules.detect_local_mode == DetectLocalMode::ClusterCidr && !rules.cluster_cidr.is_empty();
    if is_used && !rules.cluster_cidr.iter().any(served) {
        let families: Vec<&str> = families.iter().map(|family| family.as_str()).collect();
        return Err(Failure::new(format!(
            "--cluster-cidr {:?}: this host serves {} only: give a CIDR of that family",
            joined(&rules.cluster_cidr),
            families.join(" and ")
        )));
    }
    Ok(())
}

fn joined(nets: &[IpNet]) -> String {
    nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The settings that rules are planned with: from the flags, the node as the source tells it, and the host.
pub fn settings(rules: &RuleOptions, node: Option<&Node>, host: &HostFacts) -> Settings {
    let addresses = node_addresses(rules, node);
    let cidrs = node_port_cidrs(rules, &addresses);
    // IPVS has no virtual servers on loopback addresses (contract 4.3).
    let may_be_loopback = rules.iptables_localhost_nodeports && rules.proxy_mode == ProxyMode::Iptables;
    let localhost_node_ports = may_be_loopback && contains_loopback(&cidrs);
    let host_ips = host.ips();
    Settings {
        masquerade_bit: rules.iptables_masquerade_bit,
        masquerade_all: rules.masquerade_all,
        detector: detectors(detection(rules, node)),
        localhost_node_ports,
        node_port_addresses: PerFamily::new(|family| {
            let loopback_works = family == Family::V4 && localhost_node_ports;
            node_port_addresses(&cidrs, &host_ips, family, loopback_works)
        }),
        node_ips: addresses.known(),
        // Every iptables that weir drives knows it (1.8.2 and newer), and so do the kernels that those run on.
        random_fully: true,
        drop_invalid: !host.conntrack_liberal,
        nfacct_ct_invalid: host.accounting.ct_invalid,
        nfacct_localhost_node_ports: host.accounting.localhost_node_ports,
        local_addresses: host.local_addresses(),
        ipvs: ipvs::settings(&rules.ipvs),
        egress: egress::egress(rules, node, host),
    }
}

/// Whether other rules may follow from other settings, in the mode of these flags. Addresses come and go with pods on
/// some networks, and only IPVS mode reads them: elsewhere they must not lead to a compare of everything.
pub fn matters(rules: &RuleOptions, old: &Settings, new: &Settings) -> bool {
    match rules.proxy_mode {
        ProxyMode::Ipvs => old != new,
        ProxyMode::Iptables => *old != Settings { local_addresses: old.local_addresses.clone(), ..new.clone() },
    }
}

/// What tells traffic of local pods, as typed.
pub fn detection<'a>(rules: &'a RuleOptions, node: Option<&'a Node>) -> Detection<'a> {
    match rules.detect_local_mode {
        DetectLocalMode::ClusterCidr => Detection::ClusterCidr(&rules.cluster_cidr),
        DetectLocalMode::NodeCidr => Detection::NodeCidr(node.map(|node| &*node.pod_cidrs).unwrap_or_default()),
        DetectLocalMode::BridgeInterface => {
            Detection::BridgeInterface(rules.pod_bridge_interface.as_deref().unwrap_or_default())
        }
        DetectLocalMode::InterfaceNamePrefix => {
            Detection::InterfaceNamePrefix(rules.pod_interface_name_prefix.as_deref().unwrap_or_default())
        }
    }
}

/// The node's addresses, and its primary family.
pub fn node_addresses(rules: &RuleOptions, node: Option<&Node>) -> NodeAddresses {
    NodeAddresses::new(node.map(|node| &*node.ips).unwrap_or_default(), rules.bind_address)
}

/// The networks of `--nodeport-addresses`, `primary` replaced by the node's addresses (contract 1.12).
pub fn node_port_cidrs(rules: &RuleOptions, node: &NodeAddresses) -> Vec<IpNet> {
    rules
        .node_port_addresses()
        .flat_map(|address| match address {
            NodePortAddress::Net(net) => vec![net],
            NodePortAddress::Primary => node.as_networks(),
        })
        .collect()
}

/// Where health check node ports are: as node ports, but on loopback addresses as well, since no rule is needed there
/// (contract 6.2).
pub fn health_check_addresses(
    rules: &RuleOptions,
    node: Option<&Node>,
    host: &HostFacts,
) -> PerFamily<NodePortAddresses> {
    let (cidrs, ips) = (node_port_cidrs(rules, &node_addresses(rules, node)), host.ips());
    PerFamily::new(|family| node_port_addresses(&cidrs, &ips, family, true))
}

/// Contract 3.11: node ports on loopback need an IPv4 network that is loopback or contains its first address; no IPv4
/// network at all means every address.
pub fn contains_loopback(cidrs: &[IpNet]) -> bool {
    let mut v4 = cidrs.iter().filter(|net| Family::of_net(net) == Family::V4).peekable();
    let first = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 0));
    v4.peek().is_none() || v4.any(|net| net.addr().is_loopback() || net.contains(&first))
}

/// Contract 3.12: no network of the family, or one of `/0`, means every address; otherwise those of the host's
/// addresses that the networks contain. Loopback is left out where it cannot work.
pub fn node_port_addresses(
    cidrs: &[IpNet],
    addresses: &[IpAddr],
    family: Family,
    loopback_works: bool,
) -> NodePortAddresses {
    let own: Vec<&IpNet> = cidrs.iter().filter(|net| Family::of_net(net) == family).collect();
    if own.is_empty() || own.iter().any(|net| net.prefix_len() == 0) {
        return NodePortAddresses::All;
    }
    let mut selected: Vec<IpAddr> = addresses
        .iter()
        .filter(|ip| own.iter().any(|net| net.contains(*ip)))
        .filter(|ip| loopback_works || !ip.is_loopback())
        .copied()
        .collect();
    selected.sort();
    selected.dedup();
    NodePortAddresses::Only(selected.into())
}

#[cfg(test)]
#[path = "settle/tests.rs"]
mod tests;
